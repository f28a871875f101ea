/*
 * Histograms with fixed bounds, the text format of Prometheus, and the reference table.
 */
#include "core/metrics.h"

#include <inttypes.h>
#include <string.h>

static const struct {
    uint64_t us;
    const char *seconds;
} BOUNDS[HISTOGRAM_BOUNDS] = {
    {100, "0.0001"},  {200, "0.0002"},  {500, "0.0005"},  {1000, "0.001"},    {2000, "0.002"},
    {5000, "0.005"},  {10000, "0.01"},  {20000, "0.02"},  {50000, "0.05"},    {100000, "0.1"},
    {200000, "0.2"},  {500000, "0.5"},  {1000000, "1"},   {2000000, "2"},     {5000000, "5"},
    {10000000, "10"}, {30000000, "30"}, {60000000, "60"}, {300000000, "300"}, {3600000000, "3600"},
};

/* ---- histograms ---------------------------------------------------------------------------- */

void histogram_note(struct histogram *histogram, uint64_t us)
{
    size_t bucket = 0;
    while (bucket < HISTOGRAM_BOUNDS && us > BOUNDS[bucket].us)
        bucket++;
    histogram->count[bucket]++;
    histogram->sum_us += us;
}

void histogram_add(struct histogram *sum, const struct histogram *histogram)
{
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++)
        sum->count[i] += histogram->count[i];
    sum->sum_us += histogram->sum_us;
}

struct histogram histogram_since(const struct histogram *now, const struct histogram *before)
{
    struct histogram since;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++)
        since.count[i] = now->count[i] - before->count[i];
    since.sum_us = now->sum_us - before->sum_us;
    return since;
}

uint64_t histogram_total(const struct histogram *histogram)
{
    uint64_t total = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++)
        total += histogram->count[i];
    return total;
}

bool histogram_quantile(const struct histogram *histogram, unsigned permille, uint64_t *us)
{
    uint64_t total = histogram_total(histogram);
    uint64_t wanted = (total * permille + 999) / 1000, below = 0;
    if (total == 0)
        return false;
    size_t i = 0;
    while (i < HISTOGRAM_BOUNDS && below + histogram->count[i] < wanted)
        below += histogram->count[i++];
    *us = BOUNDS[HISTOGRAM_BOUNDS - 1].us;
    if (i == HISTOGRAM_BOUNDS)
        return true;
    uint64_t from = i > 0 ? BOUNDS[i - 1].us : 0;
    uint64_t inside = histogram->count[i] > 0 ? histogram->count[i] : 1;
    *us = from + (BOUNDS[i].us - from) * (wanted - below) / inside;
    return true;
}

/* ---- text ---------------------------------------------------------------------------------- */

void metrics_put_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s.\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_put(FILE *out, const char *name, uint64_t value)
{
    fprintf(out, "%s %" PRIu64 "\n", name, value);
}

/* In quotes; backslash, quote and line end are escaped, as the text format has it. */
void metrics_put_label_value(FILE *out, const char *value)
{
    fputc('"', out);
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            fputs("\\n", out);
        else if (*value == '"' || *value == '\\')
            fprintf(out, "\\%c", *value);
        else
            fputc(*value, out);
    }
    fputc('"', out);
}

void metrics_put_seconds(FILE *out, const char *name, uint64_t us)
{
    fprintf(out, "%s %" PRIu64 ".%06" PRIu64 "\n", name, us / 1000000, us % 1000000);
}

void metrics_put_labelled(FILE *out, const char *name, const char *label, const char *label_value,
                          uint64_t value)
{
    fprintf(out, "%s{%s=", name, label);
    metrics_put_label_value(out, label_value);
    fprintf(out, "} %" PRIu64 "\n", value);
}

static void put_labels(FILE *out, const char *label, const char *label_value, const char *le)
{
    if (label == NULL && le == NULL)
        return;
    fputc('{', out);
    if (label != NULL) {
        fprintf(out, "%s=", label);
        metrics_put_label_value(out, label_value);
    }
    if (le != NULL)
        fprintf(out, "%sle=\"%s\"", label != NULL ? "," : "", le);
    fputc('}', out);
}

void metrics_put_histogram(FILE *out, const char *name, const char *label, const char *label_value,
                           const struct histogram *histogram)
{
    uint64_t sum = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        sum += histogram->count[i];
        fprintf(out, "%s_bucket", name);
        put_labels(out, label, label_value, i < HISTOGRAM_BOUNDS ? BOUNDS[i].seconds : "+Inf");
        fprintf(out, " %" PRIu64 "\n", sum);
    }
    fprintf(out, "%s_sum", name);
    put_labels(out, label, label_value, NULL);
    fprintf(out, " %" PRIu64 ".%06" PRIu64 "\n", histogram->sum_us / 1000000,
            histogram->sum_us % 1000000);
    fprintf(out, "%s_count", name);
    put_labels(out, label, label_value, NULL);
    fprintf(out, " %" PRIu64 "\n", sum);
}

/* ---- the reference ------------------------------------------------------------------------- */

static void put_row(FILE *out, const char *name, const char *type, const char *labels,
                    const char *help)
{
    fprintf(out, "| `%s` | %s | %s | %s |\n", name, type, labels, help);
}

void metrics_write_reference(FILE *out)
{
    fputs("| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n", out);
#define METRIC_LANE(field, name, help) put_row(out, name, "counter", "site", help);
#define METRIC_SITE(field, name, type, help) put_row(out, name, #type, "site", help);
#define METRIC_BROKER(field, name, type, help) put_row(out, name, #type, "broker", help);
#define METRIC_PROCESS(field, name, type, help) put_row(out, name, #type, "", help);
#define METRIC_SECONDS(field, name, type, help) put_row(out, name, #type, "", help);
#define METRIC_CODED(field, name, labels, type, help) put_row(out, name, #type, labels, help);
#define METRIC_HISTOGRAM(field, name, labels, help) put_row(out, name, "histogram", labels, help);
#include "core/metrics.def"
    put_row(out, "nemogate_build_info", "gauge", "version", "Always 1");
}
