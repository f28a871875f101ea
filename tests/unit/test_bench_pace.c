/*
 * The null broker's delayed acknowledgements and the load's pace, with a clock of the test's own.
 */
#include "bench/due_queue.h"
#include "bench/pace.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define MS UINT64_C(1000000)

static struct due_queue *queue_of(uint64_t delay_ns)
{
    struct due_queue *queue = calloc(1, sizeof *queue);
    cr_assert_not_null(queue);
    queue->delay_ns = delay_ns;
    return queue;
}

Test(bench_due_queue, each_leaves_its_delay_after_it_came)
{
    struct due_queue *queue = queue_of(5 * MS);
    struct due_mark taken = {0};
    cr_expect_eq(due_queue_next(queue), UINT64_MAX);
    due_queue_put(queue, 10 * MS, 40, 10);
    due_queue_put(queue, 12 * MS, 100, 15);
    cr_expect_eq(due_queue_next(queue), 15 * MS);
    cr_expect_not(due_queue_take(queue, 15 * MS - 1, &taken));
    cr_expect(due_queue_take(queue, 15 * MS, &taken));
    cr_expect_eq(taken.end, 40);
    cr_expect_eq(taken.acks, 10);
    cr_expect_eq(due_queue_next(queue), 17 * MS);
    cr_expect(due_queue_take(queue, 30 * MS, &taken));
    cr_expect_eq(taken.end, 100);
    cr_expect_eq(taken.acks, 15);
    cr_expect_eq(due_queue_next(queue), UINT64_MAX);
    free(queue);
}

Test(bench_due_queue, without_a_delay_all_is_due_at_once)
{
    struct due_queue *queue = queue_of(0);
    struct due_mark taken = {0};
    due_queue_put(queue, 7, 4, 1);
    due_queue_put(queue, 8, 8, 1);
    cr_expect(due_queue_take(queue, 8, &taken));
    cr_expect_eq(taken.end, 8);
    cr_expect_eq(taken.acks, 2);
    free(queue);
}

/* More than a million marks in one delay: nothing leaves early, or later than a 1000th of it. */
Test(bench_due_queue, a_dense_flow_stays_bounded_and_exact)
{
    const uint64_t delay = 50 * MS;
    const uint64_t step = 40;
    const uint64_t count = 3000000;
    struct due_queue *queue = queue_of(delay);
    struct due_mark taken = {0};
    uint64_t acks = 0;
    for (uint64_t i = 0; i < count + delay / step + 1000; i++) {
        uint64_t now = i * step;
        if (i < count)
            due_queue_put(queue, now, i + 1, 1);
        cr_assert_leq(queue->count, DUE_MARKS);
        if (!due_queue_take(queue, now, &taken))
            continue;
        uint64_t first_came = acks * step; /* event i comes at i * step and is one ack */
        acks += taken.acks;
        cr_assert_geq(now, (acks - 1) * step + delay);
        cr_assert_leq(now, first_came + delay + delay / 1000);
    }
    cr_expect_eq(acks, count);
    cr_expect_eq(queue->count, 0);
    free(queue);
}

Test(bench_pace, a_steady_rate)
{
    struct phase phase = {.rate = 2000, .count = 10};
    cr_expect_eq(phase_due(&phase, 0), 1);
    cr_expect_eq(phase_due(&phase, 499999), 1);
    cr_expect_eq(phase_due(&phase, 500000), 2);
    cr_expect_eq(phase_due(&phase, 100 * MS), 10);
    cr_expect_eq(phase_when(&phase, 0), 0);
    cr_expect_eq(phase_when(&phase, 3), 1500000);
    cr_expect_not(phase_over(&phase, 9, 100 * MS));
    cr_expect(phase_over(&phase, 10, 5 * MS));
}

/* What is due at the time of an event holds that event: no turn of the loop goes in vain. */
Test(bench_pace, when_and_due_agree)
{
    const double rates[] = {1, 3, 7, 999, 2000, 19999, 20000, 123456.7, 3e6};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct phase phase = {.rate = rates[i], .count = UINT64_MAX};
        for (uint64_t number = 0; number < 100000; number++) {
            uint64_t due = phase_due(&phase, phase_when(&phase, number));
            cr_assert_geq(due, number, "rate %g, event %llu", rates[i], (unsigned long long)number);
            cr_assert_leq(due, number + 2);
        }
    }
}

Test(bench_pace, a_time_ends_a_phase_with_its_full_count)
{
    struct phase phase = {.rate = 5000, .count = UINT64_MAX, .seconds = 2};
    cr_expect_eq(phase_due(&phase, 2000 * MS), 10000);
    cr_expect_eq(phase_due(&phase, 9000 * MS), 10000);
    cr_expect_not(phase_over(&phase, 10000, 1999 * MS));
    cr_expect_not(phase_over(&phase, 9999, 2001 * MS));
    cr_expect(phase_over(&phase, 10000, 2000 * MS));
}

Test(bench_pace, as_fast_as_possible)
{
    struct phase counted = {.count = 100};
    struct phase timed = {.count = UINT64_MAX, .seconds = 1};
    cr_expect_eq(phase_due(&counted, 0), 100);
    cr_expect(phase_over(&counted, 100, 0));
    cr_expect_not(phase_over(&timed, 1u << 30, 999 * MS));
    cr_expect(phase_over(&timed, 1, 1000 * MS));
}

Test(bench_pace, bursts_are_read)
{
    struct phase phase = {0};
    cr_expect(phase_read_burst(&phase, "300000/3"));
    cr_expect_eq(phase.count, 300000);
    cr_expect_float_eq(phase.rate, 100000, 1e-6);
    cr_expect(phase_read_burst(&phase, "600/0.5"));
    cr_expect_float_eq(phase.rate, 1200, 1e-6);
    const char *const wrong[] = {"",    "5",    "/3",   "5/",   "0/3",  "5/0",
                                 "5/x", "-5/1", "5/-1", "5/1s", "5/1/1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_not(phase_read_burst(&phase, wrong[i]), "%s", wrong[i]);
}
