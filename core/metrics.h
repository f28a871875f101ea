/*
 * The metrics as such: counters, histograms, and how they are written for Prometheus (text format
 * 0.0.4). What is counted stands in core/metrics.def; who collects it, in core/admin_metrics.c.
 * Every block of counters has one writer, on whose thread it lives; others get copies.
 */
#ifndef NEMOGATE_CORE_METRICS_H
#define NEMOGATE_CORE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- histograms ---------------------------------------------------------------------------- */

/* Upper bounds from 100 us to an hour in steps of about 1, 2, 5; the last bucket has none. */
#define HISTOGRAM_BOUNDS 20u

struct histogram {
    uint64_t count[HISTOGRAM_BOUNDS + 1]; /* not cumulative */
    uint64_t sum_us;
};

void histogram_note(struct histogram *histogram, uint64_t us);
void histogram_add(struct histogram *sum, const struct histogram *histogram);
/* Those that came after before; both are of one source. */
struct histogram histogram_since(const struct histogram *now, const struct histogram *before);
uint64_t histogram_total(const struct histogram *histogram);
/* The value that so many of 1,000 do not exceed, within its bucket by proportion; false: it is
 * empty. What lies beyond the last bound counts as that. */
bool histogram_quantile(const struct histogram *histogram, unsigned permille, uint64_t *us);

/* ---- text ---------------------------------------------------------------------------------- */

/* HELP and TYPE; once, before the first sample. */
void metrics_put_head(FILE *out, const char *name, const char *type, const char *help);
/* A sample without a label; or with one. */
void metrics_put(FILE *out, const char *name, uint64_t value);
void metrics_put_seconds(FILE *out, const char *name, uint64_t us);
void metrics_put_labelled(FILE *out, const char *name, const char *label, const char *label_value,
                          uint64_t value);
/* {broker="main",code="0x87"} and the like: labels is written as it is. */
void metrics_put_label_value(FILE *out, const char *value);
/* Buckets, sum and count; label NULL: none. */
void metrics_put_histogram(FILE *out, const char *name, const char *label, const char *label_value,
                           const struct histogram *histogram);

/* The table of all metrics as Markdown. */
void metrics_write_reference(FILE *out);

#endif
