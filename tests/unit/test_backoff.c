/*
 * The waits between two tries: doubling, bounded, jittered, and from the start again after success.
 */
#include "transport/backoff.h"

#include <criterion/criterion.h>

Test(backoff, each_wait_lies_in_the_upper_half_of_a_doubling_step)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct backoff backoff;
        backoff_init(&backoff, seed);
        uint32_t step = 100;
        for (int i = 0; i < 20; i++) {
            uint32_t wait = backoff_next_ms(&backoff);
            cr_assert_geq(wait, step / 2, "try %d of seed %lu", i, (unsigned long)seed);
            cr_assert_leq(wait, step, "try %d of seed %lu", i, (unsigned long)seed);
            step = step * 2 > 30000 ? 30000 : step * 2;
        }
    }
}

Test(backoff, starts_anew_after_a_reset)
{
    struct backoff backoff;
    backoff_init(&backoff, 7);
    for (int i = 0; i < 10; i++)
        (void)backoff_next_ms(&backoff);
    backoff_reset(&backoff);
    cr_assert_leq(backoff_next_ms(&backoff), 100);
    uint32_t second = backoff_next_ms(&backoff);
    cr_assert(second >= 100 && second <= 200);
}

/* Many clients of one broker that has gone must not come back together. */
Test(backoff, waits_of_different_seeds_are_spread)
{
    bool seen[10] = {false};
    int tenths = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct backoff backoff;
        backoff_init(&backoff, seed * 0x9E3779B97F4A7C15u);
        for (int i = 0; i < 8; i++)
            (void)backoff_next_ms(&backoff);
        uint32_t tenth = (backoff_next_ms(&backoff) - 12800) * 10 / 12801;
        cr_assert_lt(tenth, 10);
        tenths += !seen[tenth];
        seen[tenth] = true;
    }
    cr_assert_eq(tenths, 10);
}
