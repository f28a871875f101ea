/*
 * The events that the benchmark sends: one shape for the direct clients and for the stream, so that
 * all put the same bytes on the wire. A payload is JSON that begins with a stamp of fixed width,
 * which is patched in place, so that no text is formatted on a measured path.
 */
#ifndef NEMOGATE_BENCH_SAMPLE_H
#define NEMOGATE_BENCH_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLE_UUID 36
#define SAMPLE_PAYLOAD_MIN 64
#define SAMPLE_TOPIC_PREFIX "nemo/" /* what the route of the gateway adds */

/* What a payload says of its event. */
struct stamp {
    uint64_t ns; /* clock_ns when it was sent */
    uint32_t run;
    uint32_t stream;
    uint32_t key;
    uint32_t sequence; /* of the events of this stream and key: 0, 1, 2 */
};

#define STAMP_STREAMS_MAX 0xfffffu
#define STAMP_KEYS_MAX 0xfffffu
#define STAMP_RUNS_MAX 0xffu
#define STAMP_LENGTH 40 /* ns.run.stream.key.sequence in hex: 16 2 5 5 8 digits */

/* Exactly size bytes of JSON, no NUL; size is at least SAMPLE_PAYLOAD_MIN. non_ascii: with a name
 * in letters beyond ASCII, where there is room (128 bytes and more). */
void sample_payload(uint8_t *into, size_t size, bool non_ascii);
/* The stamp of a payload made by sample_payload. */
void sample_stamp(uint8_t *payload, const struct stamp *stamp);
/* False when the payload does not begin with a stamp. */
bool sample_read(const uint8_t *payload, size_t size, struct stamp *stamp);
/* A stamp's STAMP_LENGTH characters. */
bool sample_read_stamp(const uint8_t *text, struct stamp *stamp);

/* SAMPLE_UUID characters, no NUL, distinct for distinct numbers. */
void sample_uuid(uint8_t *into, uint64_t number);
void sample_digits(uint8_t *into, size_t width, uint64_t value);
/* "tools/17/enabled" */
void sample_topic(char *into, size_t size, uint64_t tool);

#endif
