/*
 * A thread of the null broker with its clients. It gets orders and gives notices through pipes and
 * shares counters, nothing else.
 */
#ifndef NEMOGATE_BENCH_NULL_WORKER_H
#define NEMOGATE_BENCH_NULL_WORKER_H

#include "bench/null_client.h"

#include <pthread.h>
#include <stdatomic.h>

enum order_kind { ORDER_SERVE, ORDER_DROP, ORDER_STALL, ORDER_END };

struct order {
    enum order_kind kind;
    int fd;          /* ORDER_SERVE: moved to the worker */
    uint64_t number; /* ORDER_SERVE: of the client; ORDER_STALL: until when */
};

enum notice_kind { NOTICE_PUBLISHED, NOTICE_DROP, NOTICE_STALL };

struct notice {
    enum notice_kind kind;
    uint64_t number; /* NOTICE_PUBLISHED: the client that has published for the first time */
    uint64_t ns;
};

/* What all workers have in common. */
struct null_common {
    struct null_manners manners;
    uint64_t drop_after; /* 0: never */
    uint64_t stall_after;
    _Atomic uint64_t publishes; /* of all; counted only for the two above */
    int notices;                /* the broker's end is another */
};

/* null_counts, to be read from another thread. */
struct null_view {
    _Atomic uint64_t open;
    _Atomic uint64_t publishes;
    _Atomic uint64_t bytes;
};

struct null_worker {
    struct null_common *common;
    pthread_t thread;
    int orders[2]; /* pipe */
    int epoll;
    int timer;
    uint64_t timer_ns; /* what it is set to */
    uint64_t stalled_until;
    bool ended;
    struct null_client *clients;
    struct null_counts counts; /* its own until it has ended */
    struct null_view view;
};

void null_worker_start(struct null_worker *worker, struct null_common *common);
void null_worker_order(struct null_worker *worker, const struct order *order);
/* After ORDER_END: waits for the thread; its counts are the caller's then. */
void null_worker_join(struct null_worker *worker);

#endif
