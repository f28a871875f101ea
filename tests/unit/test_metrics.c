/*
 * Histograms and the text format of Prometheus.
 */
#include "core/metrics.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static char *written(void (*write)(FILE *out))
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    write(out);
    fclose(out);
    return text;
}

Test(metrics, a_histogram_counts_up_to_and_including_its_bounds)
{
    struct histogram h = {.sum_us = 0};
    histogram_note(&h, 0);
    histogram_note(&h, 100);
    histogram_note(&h, 101);
    histogram_note(&h, UINT64_C(3600000001));
    cr_assert_eq(h.count[0], 2);
    cr_assert_eq(h.count[1], 1);
    cr_assert_eq(h.count[HISTOGRAM_BOUNDS], 1);
    cr_assert_eq(histogram_total(&h), 4);
    cr_assert_eq(h.sum_us, UINT64_C(3600000202));
}

Test(metrics, quantiles_lie_within_their_bucket)
{
    struct histogram h = {.sum_us = 0};
    uint64_t us = 7;
    cr_assert_not(histogram_quantile(&h, 500, &us));
    for (int i = 0; i < 99; i++)
        histogram_note(&h, 1500);
    histogram_note(&h, 40000);
    cr_assert(histogram_quantile(&h, 500, &us));
    cr_assert(us > 1000 && us <= 2000);
    cr_assert(histogram_quantile(&h, 990, &us));
    cr_assert_eq(us, 2000);
    cr_assert(histogram_quantile(&h, 1000, &us));
    cr_assert_eq(us, 50000);
    histogram_note(&h, UINT64_MAX / 2);
    cr_assert(histogram_quantile(&h, 1000, &us));
    cr_assert_eq(us, UINT64_C(3600000000));
}

Test(metrics, sums_and_differences)
{
    struct histogram a = {.sum_us = 0}, b = {.sum_us = 0};
    histogram_note(&a, 150);
    b = a;
    histogram_note(&b, 150);
    histogram_note(&b, 7000);
    struct histogram since = histogram_since(&b, &a);
    cr_assert_eq(histogram_total(&since), 2);
    cr_assert_eq(since.sum_us, 7150);
    histogram_add(&since, &a);
    cr_assert_eq(histogram_total(&since), 3);
}

static void write_labels(FILE *out)
{
    metrics_put_head(out, "x_total", "counter", "Things");
    metrics_put_labelled(out, "x_total", "site", "a\"b\\c\nd", 7);
    metrics_put(out, "y", 18446744073709551615u);
    metrics_put_seconds(out, "z", 1000500);
}

Test(metrics, labels_are_escaped)
{
    char *text = written(write_labels);
    cr_assert_str_eq(text,
                     "# HELP x_total Things.\n# TYPE x_total counter\n"
                     "x_total{site=\"a\\\"b\\\\c\\nd\"} 7\ny 18446744073709551615\nz 1.000500\n");
    free(text);
}

static void write_histogram(FILE *out)
{
    struct histogram h = {.sum_us = 0};
    histogram_note(&h, 150);
    histogram_note(&h, UINT64_C(4000000000));
    metrics_put_histogram(out, "t_seconds", "broker", "main", &h);
}

Test(metrics, buckets_are_cumulative)
{
    char *text = written(write_histogram);
    cr_assert(strstr(text, "t_seconds_bucket{broker=\"main\",le=\"0.0001\"} 0\n") != NULL);
    cr_assert(strstr(text, "t_seconds_bucket{broker=\"main\",le=\"0.0002\"} 1\n") != NULL);
    cr_assert(strstr(text, "t_seconds_bucket{broker=\"main\",le=\"3600\"} 1\n") != NULL);
    cr_assert(strstr(text, "t_seconds_bucket{broker=\"main\",le=\"+Inf\"} 2\n") != NULL);
    cr_assert(strstr(text, "t_seconds_sum{broker=\"main\"} 4000.000150\n") != NULL);
    cr_assert(strstr(text, "t_seconds_count{broker=\"main\"} 2\n") != NULL);
    free(text);
}

Test(metrics, the_reference_has_every_metric)
{
    char *text = written(metrics_write_reference);
#define HAS(name) cr_assert(strstr(text, "| `" name "` |") != NULL, "%s", name);
#define METRIC_LANE(field, name, help) HAS(name)
#define METRIC_SITE(field, name, type, help) HAS(name)
#define METRIC_BROKER(field, name, type, help) HAS(name)
#define METRIC_PROCESS(field, name, type, help) HAS(name)
#define METRIC_SECONDS(field, name, type, help) HAS(name)
#define METRIC_CODED(field, name, labels, type, help) HAS(name)
#define METRIC_HISTOGRAM(field, name, labels, help) HAS(name)
#include "core/metrics.def"
    free(text);
}
