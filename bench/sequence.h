/*
 * What has come of numbered events: distinct, twice, out of order, missing, for every key on its
 * own. Exact and bounded: 4 bytes per key and a table of the numbers that are missing at present;
 * what does not fit into the table is still counted as missing, it can only not be told from a
 * duplicate should it come late (`untracked`).
 */
#ifndef NEMOGATE_BENCH_SEQUENCE_H
#define NEMOGATE_BENCH_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sequence_counts {
    uint64_t distinct;
    uint64_t duplicates;
    uint64_t reordered; /* came behind a later one of their key, and not for the second time */
    uint64_t missing;   /* numbers below the newest of their key that have not come */
    uint64_t untracked; /* of those, beyond the table */
    uint64_t newest;    /* over all keys, the newest number + 1 */
};

struct sequences;

/* gaps_allowed: numbers left out (by coalescing) are counted in missing but not remembered; one
 * that comes late is a duplicate. */
struct sequences *sequences_new(size_t keys, bool gaps_allowed);
void sequences_free(struct sequences *sequences);

/* True when it is the event's first arrival. key is below keys. */
bool sequences_add(struct sequences *sequences, size_t key, uint32_t sequence);
const struct sequence_counts *sequences_counts(const struct sequences *sequences);

#endif
