/*
 * The stamps in a publish's payload, for the three encodings of a route. It looks for what the
 * benchmark needs; whether the rest of an envelope is right is for the tests of the encoder.
 */
#ifndef NEMOGATE_BENCH_ARRIVALS_H
#define NEMOGATE_BENCH_ARRIVALS_H

#include "bench/sample.h"
#include "codec/bytes.h"

enum encoding { ENCODING_RAW, ENCODING_SIGNED, ENCODING_BATCH };

typedef void arrival_found(void *context, const struct stamp *stamp);

/* Keeps memory between calls for the batch's parts. */
struct arrivals;

struct arrivals *arrivals_new(enum encoding encoding, arrival_found *found, void *context);
void arrivals_free(struct arrivals *arrivals);

/* Calls found for each event of the payload, in its order; returns how many events had no stamp
 * (all of a payload that cannot be read count as one). */
size_t arrivals_take(struct arrivals *arrivals, struct bytes payload);

#endif
