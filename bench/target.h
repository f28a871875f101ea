/*
 * Where the load generator's events go: by XADD to Redis, or by publishes of QoS 1 straight to a
 * broker, which is the floor for the latency of every gateway. Events are put, then flushed in one
 * write; answers to a flush are awaited at the next one at the latest. Errors end the program.
 */
#ifndef NEMOGATE_BENCH_TARGET_H
#define NEMOGATE_BENCH_TARGET_H

#include "bench/entry.h"

struct target_options {
    const char *host;
    uint64_t port;
    bool direct;
    bool v3;             /* of direct */
    const char *ca_file; /* of direct; NULL: no TLS */
    uint64_t pipeline;   /* events per flush at most */
    struct entry_options entry;
};

struct target;

struct target *target_new(const struct target_options *options);
void target_free(struct target *target);

void target_put(struct target *target, const struct event *event);
void target_flush(struct target *target);
/* Waits for all answers. */
void target_finish(struct target *target);
/* Bytes written so far. */
uint64_t target_bytes(const struct target *target);

#endif
