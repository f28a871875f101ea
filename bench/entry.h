/*
 * XADD commands of schema v1 entries: prepared per key, with the fields that differ from entry to
 * entry at fixed places, so that making one is two copies and a few digits.
 */
#ifndef NEMOGATE_BENCH_ENTRY_H
#define NEMOGATE_BENCH_ENTRY_H

#include <stddef.h>
#include <stdint.h>

struct entry_maker;

/* Streams nemo:{bench1}:events to nemo:{benchN}:events. */
struct entry_maker *entry_maker_new(size_t streams, size_t keys, size_t payload);
void entry_maker_free(struct entry_maker *maker);

/* The largest command. */
size_t entry_maker_size(const struct entry_maker *maker);

struct entry_of {
    size_t stream;
    size_t key;
    uint64_t number;  /* for the id and the payload's sequence */
    uint64_t stamp;   /* for the payload */
    uint64_t wall_ms; /* for ts */
};

/* Writes the command; returns its length. */
size_t entry_make(const struct entry_maker *maker, const struct entry_of *entry, uint8_t *into);

#endif
