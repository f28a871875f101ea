/*
 * When a load's events are due: phases of a steady rate, one behind the other. Pure: the caller
 * brings the time.
 */
#ifndef NEMOGATE_BENCH_PACE_H
#define NEMOGATE_BENCH_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct phase {
    double rate;    /* events per second; 0: as fast as possible */
    uint64_t count; /* UINT64_MAX: until the time is over */
    double seconds; /* 0: until the count is reached */
};

/* How many events of the phase are due, ns after its beginning. */
uint64_t phase_due(const struct phase *phase, uint64_t ns);
/* When, after its beginning, the event `number` (from 0) is due. */
uint64_t phase_when(const struct phase *phase, uint64_t number);
/* Whether the phase is over: all of its events are sent, or none will become due any more. */
bool phase_over(const struct phase *phase, uint64_t sent, uint64_t ns);

/* Reads COUNT/SECONDS ("300000/3") into a phase; false when the text is something else. */
bool phase_read_burst(struct phase *phase, const char *text);

#endif
