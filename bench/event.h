/*
 * One event of the load generator, drawn and not yet written in any form.
 */
#ifndef NEMOGATE_BENCH_EVENT_H
#define NEMOGATE_BENCH_EVENT_H

#include "bench/sample.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
    struct stamp stamp; /* key and stream are here */
    size_t size;        /* which of the mix's sizes */
    bool non_ascii;
    bool retain;
    uint64_t number;  /* for the id */
    uint64_t wall_ms; /* for ts */
};

#endif
