/*
 * A histogram of durations in nanoseconds with log-linear buckets (as HdrHistogram has them): 64
 * buckets per power of two, so a percentile is right within 1.6 %. Fixed size, no allocation.
 */
#ifndef NEMOGATE_BENCH_HISTOGRAM_H
#define NEMOGATE_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *histogram, uint64_t value);
/* The value that `share` (0 to 1) of the values do not exceed: the middle of its bucket, at most
 * max; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);
double histogram_mean(const struct histogram *histogram);

#endif
