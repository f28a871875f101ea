/* The decisions of a hold, played through with numbers. */
#include "transport/ack_coalescing.h"

#include <criterion/criterion.h>

static struct ack_coalescing coalescing_for(size_t window)
{
    struct ack_coalescing coalescing;
    ack_coalescing_reset(&coalescing, window);
    return coalescing;
}

Test(ack_coalescing, holds_only_when_full_with_more_waiting)
{
    struct ack_coalescing c = coalescing_for(1000);
    cr_assert_not(ack_coalescing_at_flush(&c, 1000, false, 1));
    cr_assert_not(ack_coalescing_at_flush(&c, 999, true, 1));
    cr_assert_not(ack_coalescing_at_flush(&c, 0, true, 1));
    cr_assert_eq(ack_coalescing_low_water(&c, 999, 4), 1);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 1));
    cr_assert_eq(ack_coalescing_low_water(&c, 1000, 4), 2000);
    cr_assert_eq(ack_coalescing_low_water(&c, 1000, 30), 15000);
}

Test(ack_coalescing, ends_when_half_of_the_window_is_free)
{
    struct ack_coalescing c = coalescing_for(1000);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 1));
    ack_coalescing_at_input(&c, 501);
    cr_assert(c.holding);
    cr_assert(ack_coalescing_at_flush(&c, 501, true, 1), "a flush in between does not end it");
    cr_assert_eq(ack_coalescing_low_water(&c, 501, 4), 4);
    ack_coalescing_at_input(&c, 500);
    cr_assert_not(c.holding);
    cr_assert_eq(ack_coalescing_low_water(&c, 500, 4), 1);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 1), "and the next one begins at once");
}

Test(ack_coalescing, ends_as_soon_as_nothing_waits)
{
    struct ack_coalescing c = coalescing_for(1000);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 1));
    cr_assert_not(ack_coalescing_at_flush(&c, 1000, false, 1));
    cr_assert_not(c.holding);
}

Test(ack_coalescing, tiny_windows_are_never_held)
{
    for (size_t window = 1; window < 8; window++) {
        struct ack_coalescing c = coalescing_for(window);
        cr_assert_not(ack_coalescing_at_flush(&c, window, true, 1));
    }
}

Test(ack_coalescing, the_share_of_a_huge_window_is_bounded)
{
    struct ack_coalescing c = coalescing_for(65535);
    cr_assert(ack_coalescing_at_flush(&c, 65535, true, 1));
    cr_assert_eq(ack_coalescing_low_water(&c, 65535, 4), 4 * 4096);
}

Test(ack_coalescing, a_wide_hold_goes_on_while_pubacks_come_but_not_for_ever)
{
    struct ack_coalescing c = coalescing_for(1000);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 1));
    size_t unacknowledged = 1000;
    unsigned periods = 0;
    do
        unacknowledged -= 40;
    while (ack_coalescing_at_timer(&c, unacknowledged, 2) && ++periods < 100);
    cr_assert_eq(periods, 4);
    cr_assert_not(c.holding);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 2), "it was worth it: no rest");
}

Test(ack_coalescing, a_silent_period_ends_a_hold)
{
    struct ack_coalescing c = coalescing_for(1000);
    cr_assert(ack_coalescing_at_flush(&c, 1000, true, 1));
    cr_assert_not(ack_coalescing_at_timer(&c, 1000, 2));
    cr_assert_not(c.holding);
}

Test(ack_coalescing, a_narrow_hold_lasts_one_period)
{
    struct ack_coalescing c = coalescing_for(100);
    cr_assert(ack_coalescing_at_flush(&c, 100, true, 1));
    cr_assert_not(ack_coalescing_at_timer(&c, 60, 2));
    cr_assert(ack_coalescing_at_flush(&c, 100, true, 2));
    cr_assert_eq(ack_coalescing_low_water(&c, 100, 4), 25 * 4, "half of what it was");
}

/* A broker that Nagle keeps from answering: every hold ends by its timer, and the refill that
 * follows makes the next one succeed. */
Test(ack_coalescing, failures_lead_to_ever_longer_rests)
{
    struct ack_coalescing c = coalescing_for(20);
    unsigned held_ms = 0;
    for (uint64_t now = 1; now <= 10000; now++) {
        if (!ack_coalescing_at_flush(&c, 20, true, now))
            continue;
        held_ms++;
        cr_assert_not(ack_coalescing_at_timer(&c, 19, now + 1));
        if (ack_coalescing_at_flush(&c, 20, true, now + 1))
            ack_coalescing_at_input(&c, 1);
    }
    cr_assert_lt(held_ms, 30, "%u of 10000 ms were lost", held_ms);
    cr_assert_gt(held_ms, 10, "it is still being tried");
}

Test(ack_coalescing, a_broker_that_has_recovered_is_held_fully_again)
{
    struct ack_coalescing c = coalescing_for(100);
    uint64_t now = 1;
    for (; now < 100; now++)
        if (ack_coalescing_at_flush(&c, 100, true, now))
            cr_assert_not(ack_coalescing_at_timer(&c, 100, now));
    cr_assert_lt(c.share, 50);
    for (; now < 2000; now++)
        if (ack_coalescing_at_flush(&c, 100, true, now))
            ack_coalescing_at_input(&c, 0);
    cr_assert_eq(c.share, 50);
}

Test(ack_coalescing, reset_forgets_a_hold_and_its_rests)
{
    struct ack_coalescing c = coalescing_for(20);
    for (uint64_t now = 1; now < 100; now++)
        if (ack_coalescing_at_flush(&c, 20, true, now))
            cr_assert_not(ack_coalescing_at_timer(&c, 20, now));
    cr_assert_not(ack_coalescing_at_flush(&c, 20, true, 100));
    ack_coalescing_reset(&c, 20);
    cr_assert(ack_coalescing_at_flush(&c, 20, true, 100));
}
