/*
 * The numbers behind a hold. What can go wrong is that the broker runs out of work while its
 * PUBACKs wait: it is slow; or its TCP does not send the next ones before our kernel acknowledges
 * the last (Nagle), which our kernel puts off while we write nothing. A wide window has more work
 * in it than the broker does in a period, so there a hold may last a few of them, as long as
 * PUBACKs come in numbers. With a narrow one a hold that its timer had to end has cost throughput.
 * After a failure the next hold waits for half as many; when that is next to nothing, holds are
 * tried ever more rarely.
 */
#include "transport/ack_coalescing.h"

/* More in one go gains nothing, and would make the broker wait for work. */
#define MOST_SHARE 4096u
#define LEAST_SHARE 4u

/* From here on a window is wide: at 200,000 publishes a second it lasts for more than two periods.
 */
#define WIDE_WINDOW 512u

/* So many PUBACKs in one go are worth a wake-up. */
#define WORTH_WAKING 16u

/* A window over a long line must be refilled while its first half is still under way. */
#define MOST_PERIODS 5u

#define FIRST_REST_MS 4u
#define LAST_REST_MS 1000u

void ack_coalescing_reset(struct ack_coalescing *coalescing, size_t window)
{
    size_t most = window / 2 < MOST_SHARE ? window / 2 : MOST_SHARE;
    *coalescing = (struct ack_coalescing){
        .window = window, .most = most, .share = most, .rest_ms = FIRST_REST_MS};
}

bool ack_coalescing_at_flush(struct ack_coalescing *coalescing, size_t unacknowledged,
                             bool more_waiting, uint64_t now_ms)
{
    if (!more_waiting) {
        coalescing->holding = false;
        return false;
    }
    bool full = unacknowledged >= coalescing->window;
    if (coalescing->holding || !full || coalescing->most < LEAST_SHARE ||
        now_ms < coalescing->rest_until_ms)
        return coalescing->holding;
    coalescing->holding = true;
    coalescing->periods = 0;
    coalescing->began = unacknowledged;
    coalescing->seen = unacknowledged;
    coalescing->goal = unacknowledged - coalescing->share;
    return true;
}

static bool is_wide(const struct ack_coalescing *coalescing)
{
    return coalescing->window >= WIDE_WINDOW;
}

/* A narrow window that a failed hold has stalled is refilled in one go, and the next hold succeeds
 * of that alone: there a success must count for less than a failure. */
static void succeed(struct ack_coalescing *coalescing)
{
    if (is_wide(coalescing))
        coalescing->share = coalescing->most;
    else if (coalescing->share < coalescing->most)
        coalescing->share++;
    if (coalescing->share >= 2 * LEAST_SHARE || coalescing->share == coalescing->most)
        coalescing->rest_ms = FIRST_REST_MS;
}

static void fail(struct ack_coalescing *coalescing, uint64_t now_ms)
{
    coalescing->share /= 2;
    if (coalescing->share >= LEAST_SHARE)
        return;
    coalescing->share = LEAST_SHARE;
    coalescing->rest_until_ms = now_ms + coalescing->rest_ms;
    coalescing->rest_ms *= 2;
    if (coalescing->rest_ms > LAST_REST_MS)
        coalescing->rest_ms = LAST_REST_MS;
}

void ack_coalescing_at_input(struct ack_coalescing *coalescing, size_t unacknowledged)
{
    if (!coalescing->holding || unacknowledged > coalescing->goal)
        return;
    coalescing->holding = false;
    succeed(coalescing);
}

bool ack_coalescing_at_timer(struct ack_coalescing *coalescing, size_t unacknowledged,
                             uint64_t now_ms)
{
    if (!coalescing->holding)
        return false;
    size_t in_period = coalescing->seen - unacknowledged;
    size_t in_hold = coalescing->began - unacknowledged;
    coalescing->seen = unacknowledged;
    if (is_wide(coalescing) && in_period >= WORTH_WAKING && ++coalescing->periods < MOST_PERIODS)
        return true;
    coalescing->holding = false;
    if (is_wide(coalescing) && in_hold >= WORTH_WAKING)
        succeed(coalescing);
    else
        fail(coalescing, now_ms);
    return false;
}

int ack_coalescing_low_water(const struct ack_coalescing *coalescing, size_t unacknowledged,
                             size_t puback_size)
{
    if (!coalescing->holding || unacknowledged <= coalescing->goal)
        return 1;
    return (int)((unacknowledged - coalescing->goal) * puback_size);
}
