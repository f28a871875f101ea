/*
 * One client of the null broker: takes its packets, makes the acknowledgements and sends them when
 * they are due. Belongs to one worker.
 */
#ifndef NEMOGATE_BENCH_NULL_CLIENT_H
#define NEMOGATE_BENCH_NULL_CLIENT_H

#include "bench/due_queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_server;
struct tls_session;

/* How the broker behaves towards every client. */
struct null_manners {
    uint64_t receive_maximum;
    uint64_t max_packet; /* 0: not announced */
    uint64_t delay_ns;
    unsigned refuse_code; /* 0: refuses nothing */
    uint64_t refuse_every;
    struct tls_server *tls; /* NULL: plain */
};

/* What a worker has seen so far. */
struct null_counts {
    uint64_t open; /* connections now */
    uint64_t publishes;
    uint64_t qos0;
    uint64_t bytes;
    uint64_t malformed;
    uint64_t over_window; /* publishes beyond the Receive Maximum */
    uint64_t over_size;   /* packets beyond the Maximum Packet Size */
    uint64_t refused;
    uint64_t max_unacknowledged;
    uint64_t first_ns;
    uint64_t last_ns;
};

/*   out, as positions in the stream: base .. sent  gone, sent .. released  may leave,
 *   released .. written  waits to be due   */
struct null_client {
    struct null_client *next; /* of the worker's */
    struct null_client *previous;
    const struct null_manners *manners;
    struct null_counts *counts; /* the worker's */
    int fd;
    struct tls_session *tls;
    uint64_t number; /* in the order of accepting, from 1 */
    unsigned version;
    bool published;
    bool waits_to_write;
    uint8_t *in;
    size_t in_used;
    uint8_t *out;
    uint64_t base;
    uint64_t sent;
    uint64_t released;
    uint64_t written;
    uint64_t unacknowledged;
    struct due_queue due;
};

struct null_client *null_client_new(int fd, uint64_t number, const struct null_manners *manners,
                                    struct null_counts *counts);
void null_client_free(struct null_client *client);

/* Reads once and answers; false when the connection is over. */
bool null_client_read(struct null_client *client);
/* Lets go what is due and writes it as far as the socket takes it; false when the connection is
 * over. */
bool null_client_write(struct null_client *client);

#endif
