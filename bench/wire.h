/*
 * A connection to an MQTT broker for the benchmark's clients: a plain socket, or TLS by the
 * gateway's own io (so that both sides of a comparison pay for the same cryptography).
 * Errors and a closed connection end the program.
 */
#ifndef NEMOGATE_BENCH_WIRE_H
#define NEMOGATE_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct tls_context;

struct wire {
    int fd;
    struct io *io; /* NULL: plain */
    struct tls_context *tls;
    uint8_t in[1 << 20]; /* holds the largest packet; only what is used is ever touched */
    size_t used;         /* bytes of `in` that wait to be taken */
};

/* ca_file NULL: plain TCP. Connected, and with TLS verified, when it returns; non-blocking. */
void wire_open(struct wire *wire, const char *host, uint64_t port, const char *ca_file);
void wire_close(struct wire *wire);

/* Bytes that went out; 0 when none could. */
size_t wire_write(struct wire *wire, const uint8_t *from, size_t size);
/* Writes all of it, waiting where it must. */
void wire_write_all(struct wire *wire, const uint8_t *from, size_t size);
/* Reads what there is behind `used`; false when there was nothing. */
bool wire_read(struct wire *wire);
/* Drops the first bytes of `in`. */
void wire_take(struct wire *wire, size_t size);
/* Waits up to timeout_ms for input and reads it; true when some came. */
bool wire_wait(struct wire *wire, int timeout_ms);
/* True when a read may find bytes that the socket does not announce (TLS decrypts by record). */
bool wire_reads_ahead(const struct wire *wire);

#endif
