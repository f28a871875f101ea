/*
 * XADD commands of schema v1 entries: put together from parts prepared per stream, per key and per
 * size, with what differs from entry to entry at fixed places, so that making one is a few copies
 * and a few digits.
 */
#ifndef NEMOGATE_BENCH_ENTRY_H
#define NEMOGATE_BENCH_ENTRY_H

#include "bench/draw.h"
#include "bench/event.h"

struct entry_options {
    const char *stream_names; /* see stream_name */
    uint64_t first_stream;
    uint64_t streams;
    uint64_t keys;
    uint64_t fields; /* 9: what the NEMO plugin writes; 5: topic, payload, key, id, ts */
    uint64_t qos;    /* 0 or 1, of 9 fields */
    struct size_mix mix;
};

struct entry_maker;

struct entry_maker *entry_maker_new(const struct entry_options *options);
void entry_maker_free(struct entry_maker *maker);

/* The largest command. */
size_t entry_maker_size(const struct entry_maker *maker);

/* Writes the command; returns its length. */
size_t entry_make(const struct entry_maker *maker, const struct event *event, uint8_t *into);

#define STREAM_NAMES "nemo:{bench%}:events"

/* Ends the program with status 2 unless the pattern has exactly one %. */
void stream_names_check(const char *pattern);
/* The pattern with its % replaced by the number: `nemo:{bench3}:events`. */
void stream_name(char *into, size_t size, const char *pattern, uint64_t number);

#endif
