/*
 * Percentiles of the log-linear histogram against sorted values.
 */
#include "bench/draw.h"
#include "bench/histogram.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define COUNT 100000

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

Test(bench_histogram, small_values_are_exact)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    for (uint64_t i = 1; i <= 100; i++)
        histogram_add(histogram, i);
    cr_expect_eq(histogram_percentile(histogram, 0.5), 50);
    cr_expect_eq(histogram_percentile(histogram, 0.99), 99);
    cr_expect_eq(histogram_percentile(histogram, 1), 100);
    cr_expect_eq(histogram_percentile(histogram, 0), 1);
    cr_expect_float_eq(histogram_mean(histogram), 50.5, 1e-9);
    free(histogram);
}

Test(bench_histogram, empty_and_cleared)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    cr_expect_eq(histogram_percentile(histogram, 0.5), 0);
    histogram_add(histogram, 12345);
    histogram_clear(histogram);
    cr_expect_eq(histogram_percentile(histogram, 0.99), 0);
    cr_expect_eq(histogram->max, 0);
    free(histogram);
}

Test(bench_histogram, percentiles_are_within_two_percent_over_nine_decades)
{
    const double shares[] = {0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999};
    struct histogram *histogram = calloc(1, sizeof *histogram);
    uint64_t *values = calloc(COUNT, sizeof *values);
    struct draw draw = draw_seeded(7);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = draw_bits(&draw) >> (34 + draw_bits(&draw) % 29);
        histogram_add(histogram, values[i]);
    }
    qsort(values, COUNT, sizeof *values, compare);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double exact = (double)values[(size_t)(shares[i] * COUNT) - 1];
        double found = (double)histogram_percentile(histogram, shares[i]);
        cr_expect_float_eq(found, exact, exact * 0.02 + 1e-9, "share %g: %g instead of %g",
                           shares[i], found, exact);
    }
    cr_expect_eq(histogram->max, values[COUNT - 1]);
    cr_expect_eq(histogram_percentile(histogram, 1), histogram->max);
    free(values);
    free(histogram);
}

Test(bench_histogram, takes_the_largest_number)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    histogram_add(histogram, UINT64_MAX);
    histogram_add(histogram, 0);
    cr_expect_eq(histogram->max, UINT64_MAX);
    cr_expect_geq(histogram_percentile(histogram, 1), UINT64_MAX / 100 * 99);
    free(histogram);
}
