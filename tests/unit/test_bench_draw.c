/*
 * What the load generator draws: Zipf's law over keys, the NEMO mix of sizes, both repeatable by
 * their seed. The bounds are six standard deviations; with a fixed seed a test cannot flicker.
 */
#include "bench/draw.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define DRAWS 1000000

static void expect_share(uint64_t seen, double share, const char *what, size_t which)
{
    double sigma = sqrt(DRAWS * share * (1 - share));
    cr_expect_float_eq((double)seen, DRAWS * share, 6 * sigma + 1,
                       "%s %zu: %llu of %d, expected %.0f", what, which, (unsigned long long)seen,
                       DRAWS, DRAWS * share);
}

static void expect_law(size_t keys, double exponent)
{
    struct key_law *law = key_law_new(keys, exponent);
    struct draw draw = draw_seeded(1);
    uint64_t *seen = calloc(keys, sizeof *seen);
    double sum = 0;
    for (size_t i = 0; i < keys; i++)
        sum += pow((double)(i + 1), -exponent);
    for (size_t i = 0; i < DRAWS; i++) {
        size_t key = key_law_draw(law, &draw);
        cr_assert_lt(key, keys);
        seen[key]++;
    }
    for (size_t i = 0; i < keys; i++)
        expect_share(seen[i], pow((double)(i + 1), -exponent) / sum, "key", i);
    free(seen);
    key_law_free(law);
}

Test(bench_draw, keys_are_uniform_without_an_exponent)
{
    expect_law(500, 0);
}

Test(bench_draw, keys_follow_zipf)
{
    expect_law(500, 1);
    expect_law(500, 0.8);
    expect_law(3, 2);
}

Test(bench_draw, one_key_is_always_it)
{
    struct draw draw = draw_seeded(3);
    struct key_law *law = key_law_new(1, 1);
    for (size_t i = 0; i < 1000; i++)
        cr_assert_eq(key_law_draw(law, &draw), 0);
    key_law_free(law);
}

Test(bench_draw, nemo_mix)
{
    struct size_mix mix = size_mix_nemo();
    const double shares[] = {0.70, 0.20, 0.09, 0.01};
    const size_t sizes[] = {200, 300, 1024, 16384};
    uint64_t seen[4] = {0};
    uint64_t non_ascii = 0;
    struct draw draw = draw_seeded(5);
    for (size_t i = 0; i < DRAWS; i++) {
        seen[size_mix_draw(&mix, &draw)]++;
        non_ascii += draw_percent(&draw, mix.non_ascii_percent);
    }
    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(mix.size[i], sizes[i]);
        expect_share(seen[i], shares[i], "size", i);
    }
    expect_share(non_ascii, 0.30, "non-ASCII", 0);
}

Test(bench_draw, percents_at_the_ends)
{
    struct draw draw = draw_seeded(0);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_not(draw_percent(&draw, 0));
        cr_assert(draw_percent(&draw, 100));
    }
}

Test(bench_draw, a_seed_repeats_and_another_differs)
{
    struct draw one = draw_seeded(9);
    struct draw same = draw_seeded(9);
    struct draw other = draw_seeded(10);
    size_t equal = 0;
    for (size_t i = 0; i < 1000; i++) {
        uint64_t bits = draw_bits(&one);
        cr_assert_eq(bits, draw_bits(&same));
        equal += bits == draw_bits(&other);
    }
    cr_expect_eq(equal, 0);
}
