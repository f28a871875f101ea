/*
 * The benchmark's events; see sample.h.
 */
#include "bench/sample.h"

#include "bench/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAMP_AT 10 /* behind {"stamp":" */
#define STAMP_WIDTH 16
#define SEQUENCE_AT 35 /* behind ","seq":" */
#define SEQUENCE_WIDTH 12

void sample_payload(uint8_t *into, size_t size, unsigned tool)
{
    char text[256];
    int length = snprintf(text, sizeof text,
                          "{\"stamp\":\"%016d\",\"seq\":\"%012d\",\"event\":\"tool_enabled\","
                          "\"tool_id\":%u,\"user\":\"Ren\xc3\xa9 M\xc3\xbcller\",\"note\":\"",
                          0, 0, tool);
    if (length < 0 || size < SAMPLE_PAYLOAD_MIN || (size_t)length + 2 > size)
        die("a payload needs at least %d bytes", SAMPLE_PAYLOAD_MIN);
    memcpy(into, text, (size_t)length);
    memset(into + length, 'x', size - (size_t)length - 2);
    memcpy(into + size - 2, "\"}", 2);
}

static void put_hex(uint8_t *into, size_t width, uint64_t value)
{
    for (size_t i = width; i > 0; i--, value >>= 4)
        into[i - 1] = (uint8_t) "0123456789abcdef"[value & 15u];
}

void sample_digits(uint8_t *into, size_t width, uint64_t value)
{
    for (size_t i = width; i > 0; i--, value /= 10)
        into[i - 1] = (uint8_t)('0' + value % 10);
}

void sample_stamp(uint8_t *payload, uint64_t stamp, uint64_t sequence)
{
    put_hex(payload + STAMP_AT, STAMP_WIDTH, stamp);
    sample_digits(payload + SEQUENCE_AT, SEQUENCE_WIDTH, sequence);
}

bool sample_read(const uint8_t *payload, size_t size, uint64_t *stamp, uint64_t *sequence)
{
    if (size < SAMPLE_PAYLOAD_MIN || memcmp(payload, "{\"stamp\":\"", STAMP_AT) != 0)
        return false;
    char text[STAMP_WIDTH + 1] = "";
    memcpy(text, payload + STAMP_AT, STAMP_WIDTH);
    *stamp = strtoull(text, NULL, 16);
    memset(text, 0, sizeof text);
    memcpy(text, payload + SEQUENCE_AT, SEQUENCE_WIDTH);
    *sequence = strtoull(text, NULL, 10);
    return true;
}

void sample_uuid(uint8_t *into, uint64_t number)
{
    memcpy(into, "7d3c1a52-0000-4000-8000-000000000000", SAMPLE_UUID);
    put_hex(into + SAMPLE_UUID - 12, 12, number);
}

void sample_topic(char *into, size_t size, unsigned tool)
{
    snprintf(into, size, "tools/%u/enabled", tool);
}

struct sample_keys {
    unsigned count;
    uint64_t state;
    double *below; /* below[i]: the chance of a key up to i; NULL: uniform */
};

struct sample_keys *sample_keys_new(unsigned count, bool zipf)
{
    if (count == 0)
        die("at least one key is needed");
    struct sample_keys *keys = must_alloc(1, sizeof *keys);
    *keys = (struct sample_keys){.count = count, .state = UINT64_C(0x9e3779b97f4a7c15)};
    if (!zipf)
        return keys;
    keys->below = must_alloc(count, sizeof *keys->below);
    double sum = 0;
    for (unsigned i = 0; i < count; i++)
        keys->below[i] = sum += 1.0 / (i + 1);
    for (unsigned i = 0; i < count; i++)
        keys->below[i] /= sum;
    return keys;
}

unsigned sample_keys_draw(struct sample_keys *keys)
{
    keys->state ^= keys->state << 13; /* xorshift64 */
    keys->state ^= keys->state >> 7;
    keys->state ^= keys->state << 17;
    if (keys->below == NULL)
        return (unsigned)((keys->state >> 32) * keys->count >> 32);
    double chance = (double)(keys->state >> 11) / 9007199254740992.0;
    unsigned low = 0;
    unsigned high = keys->count - 1;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (keys->below[middle] < chance)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void sample_keys_free(struct sample_keys *keys)
{
    free(keys->below);
    free(keys);
}
