/*
 * Views of bytes, and a writer and a reader with bounds. Nothing here owns memory.
 * Writers and readers fail sticky: put and get as you like, ask once at the end.
 */
#ifndef NEMOGATE_CODEC_BYTES_H
#define NEMOGATE_CODEC_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A view: borrowed memory that is valid as long as its lender says. Not NUL-terminated. */
struct bytes {
    const uint8_t *data;
    size_t length;
};

/* The view of a string literal or a NUL-terminated string that outlives it. */
static inline struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/*   start .. at  written      at .. end  free   */
struct writer {
    uint8_t *start;
    uint8_t *at;
    uint8_t *end;
    bool failed;
};

static inline struct writer writer_over(uint8_t *memory, size_t size)
{
    return (struct writer){memory, memory, memory + size, false};
}

static inline size_t writer_length(const struct writer *w)
{
    return (size_t)(w->at - w->start);
}

static inline bool writer_ok(const struct writer *w)
{
    return !w->failed;
}

static inline bool writer_has(struct writer *w, size_t size)
{
    if ((size_t)(w->end - w->at) < size)
        w->failed = true;
    return !w->failed;
}

static inline void writer_put_u8(struct writer *w, uint8_t value)
{
    if (writer_has(w, 1))
        *w->at++ = value;
}

/* Big-endian, as MQTT has it [MQTT 5.0, 1.5.2]. */
static inline void writer_put_u16(struct writer *w, uint16_t value)
{
    if (writer_has(w, 2)) {
        w->at[0] = (uint8_t)(value >> 8);
        w->at[1] = (uint8_t)value;
        w->at += 2;
    }
}

static inline void writer_put_u32(struct writer *w, uint32_t value)
{
    writer_put_u16(w, (uint16_t)(value >> 16));
    writer_put_u16(w, (uint16_t)value);
}

static inline void writer_put_bytes(struct writer *w, struct bytes value)
{
    if (value.length > 0 && writer_has(w, value.length)) {
        memcpy(w->at, value.data, value.length);
        w->at += value.length;
    }
}

/*   at .. end  not yet read   */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_over(struct bytes input)
{
    /* To add to NULL, be it 0, is undefined [C11 6.5.6]. */
    const uint8_t *end = input.length > 0 ? input.data + input.length : input.data;
    return (struct reader){input.data, end, false};
}

static inline bool reader_ok(const struct reader *r)
{
    return !r->failed;
}

static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

static inline bool reader_has(struct reader *r, size_t size)
{
    if (reader_left(r) < size)
        r->failed = true;
    return !r->failed;
}

static inline uint8_t reader_get_u8(struct reader *r)
{
    return reader_has(r, 1) ? *r->at++ : 0;
}

static inline uint16_t reader_get_u16(struct reader *r)
{
    if (!reader_has(r, 2))
        return 0;
    uint16_t value = (uint16_t)(r->at[0] << 8 | r->at[1]);
    r->at += 2;
    return value;
}

static inline uint32_t reader_get_u32(struct reader *r)
{
    uint32_t high = reader_get_u16(r);
    return high << 16 | reader_get_u16(r);
}

static inline struct bytes reader_get_bytes(struct reader *r, size_t length)
{
    if (!reader_has(r, length))
        return (struct bytes){NULL, 0};
    struct bytes view = {r->at, length};
    r->at += length;
    return view;
}

#endif
