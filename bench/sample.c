/*
 * The benchmark's events; see sample.h.
 */
#include "bench/sample.h"

#include "bench/common.h"

#include <stdio.h>
#include <string.h>

#define HEAD "{\"bench\":\""
#define STAMP_AT (sizeof HEAD - 1)
#define ASCII_NAME "Rene Mueller, Halle 3, Sued"
#define NON_ASCII_NAME "Ren\xc3\xa9 M\xc3\xbcller, \xe5\x8c\x97 \xc3\x9c"

/* The widths of a stamp's fields and the points between them. */
enum { NS_WIDTH = 16, RUN_WIDTH = 2, STREAM_WIDTH = 5, KEY_WIDTH = 5, SEQUENCE_WIDTH = 8 };
enum {
    RUN_AT = NS_WIDTH + 1,
    STREAM_AT = RUN_AT + RUN_WIDTH + 1,
    KEY_AT = STREAM_AT + STREAM_WIDTH + 1,
    SEQUENCE_AT = KEY_AT + KEY_WIDTH + 1,
};
_Static_assert(SEQUENCE_AT + SEQUENCE_WIDTH == STAMP_LENGTH, "the stamp's fields");

static void put_hex(uint8_t *into, size_t width, uint64_t value)
{
    for (size_t i = width; i > 0; i--, value >>= 4)
        into[i - 1] = (uint8_t) "0123456789abcdef"[value & 15u];
}

/* A digit that is none puts a bit into *wrong. */
static uint64_t get_hex(const uint8_t *from, size_t width, unsigned *wrong)
{
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++) {
        unsigned c = from[i];
        unsigned digit = c - '0' <= 9 ? c - '0' : c - 'a' <= 5 ? c - 'a' + 10 : 16;
        *wrong |= digit & 16u;
        value = value << 4 | (digit & 15u);
    }
    return value;
}

void sample_payload(uint8_t *into, size_t size, bool non_ascii)
{
    static const char person[] = "\"event\":\"tool_enabled\",\"tool_id\":17,\"user\":\"";
    const char *name = non_ascii ? NON_ASCII_NAME : ASCII_NAME;
    char text[256];
    size_t room = size < sizeof text ? size : sizeof text;
    int length = size < 160 ? snprintf(text, room, HEAD "%0*d\",\"x\":\"", STAMP_LENGTH, 0)
                            : snprintf(text, room, HEAD "%0*d\",%s%s\",\"note\":\"", STAMP_LENGTH,
                                       0, person, name);
    if (length < 0 || size < SAMPLE_PAYLOAD_MIN || (size_t)length + 2 > size)
        die("a payload needs at least %d bytes", SAMPLE_PAYLOAD_MIN);
    memcpy(into, text, (size_t)length);
    memset(into + length, 'x', size - (size_t)length - 2);
    memcpy(into + size - 2, "\"}", 2);
}

void sample_digits(uint8_t *into, size_t width, uint64_t value)
{
    for (size_t i = width; i > 0; i--, value /= 10)
        into[i - 1] = (uint8_t)('0' + value % 10);
}

void sample_stamp(uint8_t *payload, const struct stamp *stamp)
{
    uint8_t *text = payload + STAMP_AT;
    put_hex(text, NS_WIDTH, stamp->ns);
    put_hex(text + RUN_AT, RUN_WIDTH, stamp->run);
    put_hex(text + STREAM_AT, STREAM_WIDTH, stamp->stream);
    put_hex(text + KEY_AT, KEY_WIDTH, stamp->key);
    put_hex(text + SEQUENCE_AT, SEQUENCE_WIDTH, stamp->sequence);
    text[RUN_AT - 1] = text[STREAM_AT - 1] = text[KEY_AT - 1] = text[SEQUENCE_AT - 1] = '.';
}

bool sample_read_stamp(const uint8_t *text, struct stamp *stamp)
{
    unsigned wrong = 0;
    stamp->ns = get_hex(text, NS_WIDTH, &wrong);
    stamp->run = (uint32_t)get_hex(text + RUN_AT, RUN_WIDTH, &wrong);
    stamp->stream = (uint32_t)get_hex(text + STREAM_AT, STREAM_WIDTH, &wrong);
    stamp->key = (uint32_t)get_hex(text + KEY_AT, KEY_WIDTH, &wrong);
    stamp->sequence = (uint32_t)get_hex(text + SEQUENCE_AT, SEQUENCE_WIDTH, &wrong);
    return wrong == 0 && text[RUN_AT - 1] == '.' && text[STREAM_AT - 1] == '.' &&
           text[KEY_AT - 1] == '.' && text[SEQUENCE_AT - 1] == '.';
}

bool sample_read(const uint8_t *payload, size_t size, struct stamp *stamp)
{
    return size >= SAMPLE_PAYLOAD_MIN && memcmp(payload, HEAD, STAMP_AT) == 0 &&
           sample_read_stamp(payload + STAMP_AT, stamp);
}

void sample_uuid(uint8_t *into, uint64_t number)
{
    memcpy(into, "7d3c1a52-0000-4000-8000-000000000000", SAMPLE_UUID);
    put_hex(into + SAMPLE_UUID - 12, 12, number);
}

void sample_topic(char *into, size_t size, uint64_t tool)
{
    snprintf(into, size, "tools/%llu/enabled", (unsigned long long)tool);
}
