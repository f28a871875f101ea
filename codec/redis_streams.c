/*
 * The reply of XREADGROUP, entry by entry. hiredis walks the reply and calls for every item, which
 * finds its place by the number of arrays around it; entries that lie whole in hiredis' buffer are
 * read past hiredis, for speed. What the fields mean is stream_entry.c's business.
 */
#include "codec/redis_reader_private.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_SCRATCH_SIZE ((size_t)4 << 10)
#define MAX_TEXTS (2 * (size_t)REDIS_MAX_FIELDS)

/* Where an item stands in the reply of XREADGROUP: the number of arrays around it.
 *   [ [ name, [ [ id, [ field, value, ... ] or nil ], ... ] ], ... ]                            */
enum depth {
    DEPTH_REPLY,
    DEPTH_STREAM,
    DEPTH_STREAM_PART, /* 0: name, 1: entries */
    DEPTH_ENTRY,
    DEPTH_ENTRY_PART, /* 0: id, 1: fields */
    DEPTH_FIELD = REDIS_STREAMS_FIELD_DEPTH,
};

static const char *due_at(int depth, int index)
{
    switch ((enum depth)depth) {
    case DEPTH_REPLY:
        return "an array of streams, nil or an error";
    case DEPTH_STREAM:
        return "an array of a stream's name and its entries";
    case DEPTH_STREAM_PART:
        return index == 0 ? "a stream's name" : "an array of entries";
    case DEPTH_ENTRY:
        return "an array of an entry's id and its fields";
    case DEPTH_ENTRY_PART:
        return index == 0 ? "an entry's id (ms-seq)" : "an array of as many names as values";
    case DEPTH_FIELD:
        break;
    }
    return "a field's name or value";
}

/* The reply is not shaped as XREADGROUP's: got stands where the task's position wants another. */
static void *fail_shape(struct redis_reader *reader, const redisReadTask *task, const char *got)
{
    int depth = reader->resp->ridx;
    char where[64] = "";
    const redisReadTask *at = task;
    int entry = 0;
    for (int i = depth; i > DEPTH_STREAM; i--, at = at->parent)
        if (i == DEPTH_ENTRY)
            entry = at->idx + 1;
    if (depth >= DEPTH_ENTRY)
        snprintf(where, sizeof where, " (stream %d, entry %d of the reply)", at->idx + 1, entry);
    else if (depth >= DEPTH_STREAM)
        snprintf(where, sizeof where, " (stream %d of the reply)", at->idx + 1);
    reader->failure = STATUS_MALFORMED;
    snprintf(reader->error, sizeof reader->error, "not a reply of XREADGROUP: %s where %s is due%s",
             got, due_at(depth, task->idx), where);
    return NULL;
}

static void *fail_count(struct redis_reader *reader, const redisReadTask *task, size_t count)
{
    char got[64];
    snprintf(got, sizeof got, "an array of %zu element%s", count, count == 1 ? "" : "s");
    return fail_shape(reader, task, got);
}

static struct bytes *entry_text(struct redis_reader *reader, size_t index)
{
    struct stream_field *field = &reader->fields[index / 2];
    return index % 2 == 0 ? &field->name : &field->value;
}

void redis_streams_forget_entry(struct redis_reader *reader)
{
    reader->seen = reader->scratch_used = 0;
    reader->full = false;
    if (reader->scratch_size > REDIS_KEEP_SIZE) {
        free(reader->scratch);
        reader->scratch = NULL;
        reader->scratch_size = 0;
    }
}

/* Makes room in scratch and moves the views of what already lies there. */
static bool grow_scratch(struct redis_reader *reader, size_t size)
{
    size_t larger = reader->scratch_size > 0 ? reader->scratch_size : FIRST_SCRATCH_SIZE;
    while (larger < size)
        larger *= 2;
    uint8_t *scratch = realloc(reader->scratch, larger);
    if (scratch == NULL)
        return false;
    reader->scratch = scratch;
    reader->scratch_size = larger;
    for (size_t i = 0; i < reader->seen; i++) {
        struct bytes *text = entry_text(reader, i);
        text->data = scratch;
        scratch += text->length;
    }
    return true;
}

/* Adds the next text of an entry that hiredis reads. It is copied, for hiredis moves its buffer
 * before it returns with half an entry. */
static bool add_text(struct redis_reader *reader, struct bytes text)
{
    size_t size = reader->scratch_used + text.length;
    bool fits = reader->scratch != NULL && size <= reader->scratch_size;
    if (!fits && !grow_scratch(reader, size))
        return false;
    uint8_t *copy = reader->scratch + reader->scratch_used;
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    *entry_text(reader, reader->seen++) = (struct bytes){copy, text.length};
    reader->scratch_used = size;
    return true;
}

static void *give_entry(struct redis_reader *reader, size_t text_count, bool nil)
{
    struct redis_entry entry = {
        .id = reader->id,
        .fields = reader->fields,
        .count = reader->seen / 2,
        .nil = nil,
        .overflow = text_count > reader->seen,
    };
    reader->calling = true;
    reader->sink->on_entry(reader->context, &entry);
    reader->calling = false;
    reader->summary.count++;
    redis_streams_forget_entry(reader);
    return &reader->summary;
}

/* A bulk string's or an array's header has been read: its number, which is at most the count of
 * bytes that follow, and where those begin. NULL: there is none, or it is in doubt. By value, so
 * that both stay in registers. */
struct header {
    const uint8_t *end;
    size_t number;
};

static inline bool is_crlf(const uint8_t *at)
{
    return memcmp(at, "\r\n", 2) == 0;
}

/* Any number of digits, and the end of the input may be near. */
static struct header scan_long_header(const uint8_t *at, const uint8_t *end, uint8_t type)
{
    const struct header none = {NULL, 0};
    const size_t left = (size_t)(end - at);
    if (left < 4 || *at++ != type)
        return none;
    const uint8_t *digits = at;
    size_t value = 0;
    unsigned digit;
    while (at < end && (digit = *at - (unsigned)'0') <= 9) {
        value = value * 10 + digit;
        if (value > left)
            return none;
        at++;
    }
    bool plain = at > digits && (*digits != '0' || at == digits + 1);
    if (!plain || end - at < 2 || !is_crlf(at) || value > (size_t)(end - at) - 2)
        return none;
    return (struct header){at + 2, value};
}

/* Type, digits, CR LF. Nearly all numbers have one digit or two: those are read without a loop. */
static inline struct header scan_header(const uint8_t *at, const uint8_t *end, uint8_t type)
{
    /* No number of two digits can reach beyond the end then. */
    if (end - at < 128 || at[0] != type)
        return scan_long_header(at, end, type);
    size_t first = (size_t)at[1] - '0';
    size_t second = (size_t)at[2] - '0';
    if (first <= 9 && is_crlf(at + 2))
        return (struct header){at + 4, first};
    if (first - 1 <= 8 && second <= 9 && is_crlf(at + 3))
        return (struct header){at + 5, 10 * first + second};
    return scan_long_header(at, end, type);
}

/* A whole bulk string at at, as a view. Returns its end; NULL as in struct header. */
static inline const uint8_t *scan_text(const uint8_t *at, const uint8_t *end, struct bytes *text)
{
    struct header header = scan_header(at, end, '$');
    if (header.end == NULL || (size_t)(end - header.end) - header.number < 2)
        return NULL;
    *text = (struct bytes){header.end, header.number};
    return header.end + header.number + 2; /* CR LF */
}

/* Reads an entry without hiredis. Returns its end; NULL when it is not there as a whole or is in
 * any way out of the ordinary: then it is hiredis' to read, and to judge. */
static const uint8_t *scan_entry(struct redis_reader *reader, const uint8_t *at, const uint8_t *end)
{
    if ((size_t)(end - at) > reader->max_text)
        end = at + reader->max_text; /* nothing in it can be too large then */
    struct header parts = scan_header(at, end, '*');
    struct bytes id;
    if (parts.end == NULL || parts.number != 2 || (at = scan_text(parts.end, end, &id)) == NULL ||
        stream_id_parse(id, &reader->id) != STATUS_OK)
        return NULL;
    struct header texts = scan_header(at, end, '*');
    if (texts.end == NULL || texts.number % 2 != 0 || texts.number > MAX_TEXTS)
        return NULL;
    at = texts.end;
    struct stream_field *field = reader->fields;
    for (size_t i = 0; i < texts.number; i += 2, field++)
        if ((at = scan_text(at, end, &field->name)) == NULL ||
            (at = scan_text(at, end, &field->value)) == NULL)
            return NULL;
    reader->seen = texts.number;
    return at;
}

/* hiredis takes 25 ns or more for each item, and an entry of five fields has 13 of them. So, when
 * it has read an entry to its last text, the whole entries that follow in its buffer are read here,
 * as views, and hiredis is told that it has read them: its position in the buffer and its index in
 * the array of entries are moved on. What it will add for the text at hand comes on top of that. */
static void run_ahead(struct redis_reader *reader, const redisReadTask *last_text,
                      const uint8_t *start)
{
    redisReader *resp = reader->resp;
    redisReadTask *entry = last_text->parent->parent;
    const uint8_t *end = (const uint8_t *)resp->buf + resp->len;
    const uint8_t *at = start;
    while (entry->idx + 1 < entry->parent->elements) {
        const uint8_t *next = scan_entry(reader, at, end);
        if (next == NULL)
            break;
        give_entry(reader, reader->seen, false);
        entry->idx++;
        at = next;
    }
    resp->pos += (size_t)(at - start);
}

static void *take_field(struct redis_reader *reader, const redisReadTask *task, struct bytes text)
{
    size_t count = (size_t)task->parent->elements;
    struct bytes kept = text;
    if (kept.length > reader->max_text)
        kept.length = reader->max_text;
    reader->full = reader->full || reader->seen == MAX_TEXTS ||
                   kept.length > reader->max_reply - reader->scratch_used;
    if (!reader->full && !add_text(reader, kept))
        return redis_reader_no_memory(reader);
    if ((size_t)task->idx + 1 == count) {
        give_entry(reader, count, false);
        run_ahead(reader, task, text.data + text.length + 2); /* CR LF */
    }
    return &reader->summary;
}

void *redis_streams_text(struct redis_reader *reader, const redisReadTask *task, struct bytes text)
{
    int depth = reader->resp->ridx;
    if (task->type != REDIS_REPLY_STRING)
        return fail_shape(reader, task,
                          task->type == REDIS_REPLY_ERROR ? "an error" : "a status line");
    if (depth == DEPTH_FIELD)
        return take_field(reader, task, text);
    if (depth == DEPTH_ENTRY_PART && task->idx == 0 &&
        stream_id_parse(text, &reader->id) == STATUS_OK)
        return &reader->summary;
    if (depth == DEPTH_STREAM_PART && task->idx == 0) {
        reader->calling = true;
        reader->sink->on_stream(reader->context, text);
        reader->calling = false;
        return &reader->summary;
    }
    return fail_shape(reader, task, "a string");
}

void *redis_streams_array(struct redis_reader *reader, const redisReadTask *task, size_t count)
{
    switch ((enum depth)reader->resp->ridx) {
    case DEPTH_REPLY:
        redis_streams_forget_entry(reader);
        reader->summary = (struct redis_value){.type = REDIS_ARRAY};
        return &reader->summary;
    case DEPTH_STREAM:
    case DEPTH_ENTRY:
        return count == 2 ? &reader->summary : fail_count(reader, task, count);
    case DEPTH_STREAM_PART:
        return task->idx == 1 ? &reader->summary : fail_count(reader, task, count);
    case DEPTH_ENTRY_PART:
        if (task->idx != 1 || count % 2 != 0)
            return fail_count(reader, task, count);
        return count > 0 ? &reader->summary : give_entry(reader, 0, false);
    case DEPTH_FIELD:
        break;
    }
    return fail_count(reader, task, count);
}

void *redis_streams_integer(struct redis_reader *reader, const redisReadTask *task)
{
    return fail_shape(reader, task, "an integer");
}

/* Redis gives nil for the fields of an entry that is pending but no longer in the stream. */
void *redis_streams_nil(struct redis_reader *reader, const redisReadTask *task)
{
    if (reader->resp->ridx == DEPTH_ENTRY_PART && task->idx == 1)
        return give_entry(reader, 0, true);
    return fail_shape(reader, task, "nil");
}
