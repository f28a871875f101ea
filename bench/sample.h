/*
 * The events that the benchmark sends: one shape for the direct clients and for the stream, so that
 * both put the same bytes on the wire. A payload begins with two fixed-width fields that are
 * patched in place, so that no text is formatted on a measured path.
 */
#ifndef NEMOGATE_BENCH_SAMPLE_H
#define NEMOGATE_BENCH_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLE_UUID 36
#define SAMPLE_PAYLOAD_MIN 128
#define SAMPLE_TOPIC_PREFIX "nemo/" /* what the route of the gateway adds */

/* Exactly size bytes of JSON, no NUL; size is at least SAMPLE_PAYLOAD_MIN. */
void sample_payload(uint8_t *into, size_t size, unsigned tool);
/* The two fields of a payload made by sample_payload. */
void sample_stamp(uint8_t *payload, uint64_t stamp, uint64_t sequence);
bool sample_read(const uint8_t *payload, size_t size, uint64_t *stamp, uint64_t *sequence);

/* SAMPLE_UUID characters, no NUL, distinct for distinct numbers. */
void sample_uuid(uint8_t *into, uint64_t number);
void sample_digits(uint8_t *into, size_t width, uint64_t value);
/* "tools/17/enabled" */
void sample_topic(char *into, size_t size, unsigned tool);

/* Draws keys, uniformly or by Zipf's law with exponent 1. */
struct sample_keys;
struct sample_keys *sample_keys_new(unsigned count, bool zipf);
unsigned sample_keys_draw(struct sample_keys *keys);
void sample_keys_free(struct sample_keys *keys);

#endif
