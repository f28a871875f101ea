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

/* The header of a bulk string or an array at *at: type, digits, CR LF. The number is at most the
 * count of bytes that follow. False when there is none, or in doubt; then *at is of no use. */
static inline bool scan_header(const uint8_t **at, const uint8_t *end, uint8_t type, size_t *number)
{
    const uint8_t *p = *at;
    const size_t left = (size_t)(end - p);
    if (left < 4 || *p++ != type)
        return false;
    const uint8_t *digits = p;
    size_t value = 0;
    unsigned digit;
    while (p < end && (digit = *p - (unsigned)'0') <= 9) {
        value = value * 10 + digit;
        if (value > left)
            return false;
        p++;
    }
    bool plain = p > digits && (*digits != '0' || p == digits + 1);
    if (!plain || end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return false;
    *number = value;
    *at = p + 2;
    return *number <= (size_t)(end - *at);
}

/* A whole bulk string at *at, as a view. */
static inline bool scan_text(const uint8_t **at, const uint8_t *end, struct bytes *text)
{
    size_t length;
    if (!scan_header(at, end, '$', &length) || (size_t)(end - *at) - length < 2)
        return false;
    *text = (struct bytes){*at, length};
    *at += length + 2; /* CR LF */
    return true;
}

/* Reads an entry without hiredis. Returns its end; NULL when it is not there as a whole or is in
 * any way out of the ordinary: then it is hiredis' to read, and to judge. */
static const uint8_t *scan_entry(struct redis_reader *reader, const uint8_t *at, const uint8_t *end)
{
    if ((size_t)(end - at) > reader->max_text)
        end = at + reader->max_text; /* nothing in it can be too large then */
    size_t parts, texts;
    struct bytes id;
    if (!scan_header(&at, end, '*', &parts) || parts != 2 || !scan_text(&at, end, &id) ||
        stream_id_parse(id, &reader->id) != STATUS_OK || !scan_header(&at, end, '*', &texts) ||
        texts % 2 != 0 || texts > MAX_TEXTS)
        return NULL;
    for (size_t i = 0; i < texts; i += 2) {
        struct stream_field *field = &reader->fields[i / 2];
        if (!scan_text(&at, end, &field->name) || !scan_text(&at, end, &field->value))
            return NULL;
    }
    reader->seen = texts;
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
