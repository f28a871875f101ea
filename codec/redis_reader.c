/*
 * RESP replies over hiredis' redisReader, with object functions of our own: values of a tree lie in
 * an arena that the next reply uses again, items of XREADGROUP go to redis_streams.c. hiredis 0.14
 * and 1.x; only RESP2, which is what Redis speaks on a link that sends no HELLO 3.
 */
#include "codec/redis_reader_private.h"

#include "codec/decimal.h"

#include <assert.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_CHUNK_SIZE ((size_t)8 << 10)
/* Arrays in arrays. hiredis 0.14 has this limit of its own; 1.x goes far deeper, and whoever walks
 * a tree recurses. */
#define MAX_DEPTH 8

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

/* Chunks never move, so nodes may point at each other. The newest comes first. */
struct redis_chunk {
    struct redis_chunk *older;
    size_t size;
    size_t used;
    alignas(max_align_t) uint8_t memory[];
};

struct node {
    struct redis_value value;
    struct node *last; /* of an array's elements so far */
};

/* hiredis takes the NULL for a lack of memory of its own; the failure tells what it was. */
void *redis_reader_no_memory(struct redis_reader *reader)
{
    reader->failure = STATUS_FAILED;
    snprintf(reader->error, sizeof reader->error, "memory is short for a reply of Redis");
    return NULL;
}

static void *fail_depth(struct redis_reader *reader)
{
    reader->failure = STATUS_MALFORMED;
    snprintf(reader->error, sizeof reader->error, "arrays are nested deeper than %d", MAX_DEPTH);
    return NULL;
}

static void *fail_size(struct redis_reader *reader)
{
    reader->failure = STATUS_MALFORMED;
    snprintf(reader->error, sizeof reader->error,
             "it has more than %zu bytes, which no command asks for", reader->max_reply);
    return NULL;
}

static void *fail_line(struct redis_reader *reader)
{
    reader->failure = STATUS_MALFORMED;
    snprintf(reader->error, sizeof reader->error, "a line of more than %zu bytes", REDIS_MAX_LINE);
    return NULL;
}

static void *fail_resp3(struct redis_reader *reader)
{
    reader->failure = STATUS_MALFORMED;
    snprintf(reader->error, sizeof reader->error,
             "a reply of RESP3, which was not asked for: only RESP2 is understood");
    return NULL;
}

/* ---- the arena ---------------------------------------------------------------------------- */

/* Forgets the last reply; of its memory the newest chunk stays. */
static void arena_reset(struct redis_reader *reader, size_t keep_size)
{
    struct redis_chunk *chunk = reader->chunks;
    if (chunk == NULL)
        return;
    struct redis_chunk *older = chunk->older;
    while (older != NULL) {
        struct redis_chunk *next = older->older;
        free(older);
        older = next;
    }
    chunk->older = NULL;
    chunk->used = 0;
    if (chunk->size > keep_size) {
        free(chunk);
        reader->chunks = NULL;
    }
}

static size_t arena_size(const struct redis_reader *reader)
{
    size_t size = 0;
    for (const struct redis_chunk *chunk = reader->chunks; chunk != NULL; chunk = chunk->older)
        size += chunk->used;
    return size;
}

/* NULL: the failure is set. */
static void *arena_take(struct redis_reader *reader, size_t size)
{
    size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (size > reader->max_reply || arena_size(reader) > reader->max_reply - size)
        return fail_size(reader);
    struct redis_chunk *chunk = reader->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t chunk_size = chunk != NULL ? 2 * chunk->size : FIRST_CHUNK_SIZE;
        if (chunk_size > REDIS_KEEP_SIZE)
            chunk_size = REDIS_KEEP_SIZE;
        if (chunk_size < size)
            chunk_size = size;
        struct redis_chunk *larger = malloc(sizeof *larger + chunk_size);
        if (larger == NULL)
            return redis_reader_no_memory(reader);
        *larger = (struct redis_chunk){.older = chunk, .size = chunk_size};
        reader->chunks = chunk = larger;
    }
    void *memory = chunk->memory + chunk->used;
    chunk->used += size;
    return memory;
}

/* ---- replies as trees --------------------------------------------------------------------- */

/* Adds a value at the task's place; text, if any, is copied. */
static void *tree_add(struct redis_reader *reader, const redisReadTask *task,
                      const struct redis_value *value)
{
    struct node *node = arena_take(reader, sizeof *node + value->text.length);
    if (node == NULL)
        return NULL;
    *node = (struct node){.value = *value};
    if (value->text.length > 0)
        memcpy(node + 1, value->text.data, value->text.length);
    node->value.text.data = (const uint8_t *)(node + 1);
    if (task->parent != NULL) {
        struct node *array = task->parent->obj;
        if (array->last == NULL)
            array->value.element = &node->value;
        else
            array->last->value.next = &node->value;
        array->last = node;
    }
    return node;
}

/* ---- hiredis' object functions ------------------------------------------------------------ */

/* True when the item is for the sink, false when it is for the tree. Asks at a reply's start; a
 * reply that is but a nil or an error is for the tree whatever was expected. */
static bool is_for_sink(struct redis_reader *reader, const redisReadTask *task, bool nil_or_error)
{
    if (task->parent == NULL) {
        arena_reset(reader, REDIS_KEEP_SIZE);
        reader->calling = true;
        reader->mode = reader->expect(reader->context);
        reader->calling = false;
        if (nil_or_error)
            reader->mode = REDIS_EXPECT_VALUE;
    }
    return reader->mode == REDIS_EXPECT_STREAMS;
}

static void *create_string(const redisReadTask *task, char *string, size_t length)
{
    struct redis_reader *reader = task->privdata;
    struct redis_value value = {.text = {(const uint8_t *)string, length}};
    if (task->type != REDIS_REPLY_STRING && length > REDIS_MAX_LINE)
        return fail_line(reader);
    switch (task->type) {
    case REDIS_REPLY_STRING:
        value.type = REDIS_STRING;
        break;
    case REDIS_REPLY_STATUS:
        value.type = REDIS_STATUS;
        break;
    case REDIS_REPLY_ERROR:
        value.type = REDIS_ERROR;
        break;
    default:
        return fail_resp3(reader);
    }
    return is_for_sink(reader, task, value.type == REDIS_ERROR)
               ? redis_streams_text(reader, task, value.text)
               : tree_add(reader, task, &value);
}

static void *create_array(const redisReadTask *task, element_count count)
{
    struct redis_reader *reader = task->privdata;
    struct redis_value value = {.type = REDIS_ARRAY, .count = (size_t)count};
    if (task->type != REDIS_REPLY_ARRAY)
        return fail_resp3(reader);
    if (reader->resp->ridx >= MAX_DEPTH)
        return fail_depth(reader);
    return is_for_sink(reader, task, false) ? redis_streams_array(reader, task, value.count)
                                            : tree_add(reader, task, &value);
}

static void *create_integer(const redisReadTask *task, long long integer)
{
    struct redis_reader *reader = task->privdata;
    struct redis_value value = {.type = REDIS_INTEGER, .integer = integer};
    return is_for_sink(reader, task, false) ? redis_streams_integer(reader, task)
                                            : tree_add(reader, task, &value);
}

static void *create_nil(const redisReadTask *task)
{
    struct redis_reader *reader = task->privdata;
    struct redis_value value = {.type = REDIS_NIL};
    return is_for_sink(reader, task, true) ? redis_streams_nil(reader, task)
                                           : tree_add(reader, task, &value);
}

#if HIREDIS_MAJOR >= 1
static void *create_double(const redisReadTask *task, double number, char *text, size_t length)
{
    (void)number;
    (void)text;
    (void)length;
    return fail_resp3(task->privdata);
}

static void *create_bool(const redisReadTask *task, int truth)
{
    (void)truth;
    return fail_resp3(task->privdata);
}
#endif

/* ---- what is not whole yet ----------------------------------------------------------------- */

/* The item that hiredis waits for the rest of; NULL: none has begun. */
static const redisReadTask *waiting_task(const redisReader *resp)
{
    if (resp->ridx < 0)
        return NULL;
#if HIREDIS_MAJOR >= 1
    return resp->task[resp->ridx];
#else
    return &resp->rstack[resp->ridx];
#endif
}

/* The digits of a bulk string's length, with CR LF behind them. false: they are not all there, or
 * are no plain number. */
static bool announced_length(const redisReader *resp, struct bytes *digits, uint64_t *length)
{
    const uint8_t *start = (const uint8_t *)resp->buf + resp->pos;
    size_t unread = resp->len - resp->pos;
    const uint8_t *stop = unread > 1 ? memchr(start, '\r', unread - 1) : NULL;
    if (stop == NULL || stop[1] != '\n')
        return false;
    *digits = (struct bytes){start, (size_t)(stop - start)};
    return decimal_read(*digits, length);
}

/* Makes hiredis believe that the text it waits for has max_text bytes: the length is overwritten
 * with that number, which has no more digits, and the bytes behind those are kept from hiredis as
 * they come. (It skips two bytes for CR LF without a look.) */
static void cut_text(struct redis_reader *reader, struct bytes digits, uint64_t length)
{
    redisReader *resp = reader->resp;
    char number[24];
    size_t number_length = (size_t)snprintf(number, sizeof number, "%zu", reader->max_text);
    size_t arrived = resp->len - resp->pos - digits.length - 2;
    if (arrived > reader->max_text + 2)
        return; /* the caller has it in memory already: take_field cuts it */
    resp->pos += digits.length - number_length;
    memcpy(resp->buf + resp->pos, number, number_length);
    reader->keep_left = reader->max_text + 2 - arrived;
    reader->pass_left = length - reader->max_text;
}

/* hiredis keeps what is not whole, however long it gets, and says nothing. */
static enum status bound_unread(struct redis_reader *reader)
{
    redisReader *resp = reader->resp;
    const redisReadTask *task = waiting_task(resp);
    struct bytes digits;
    uint64_t length;
    if (task == NULL || reader->pass_left > 0)
        return STATUS_AGAIN;
    if (task->type == REDIS_REPLY_STRING && announced_length(resp, &digits, &length)) {
        bool is_field =
            reader->mode == REDIS_EXPECT_STREAMS && resp->ridx == REDIS_STREAMS_FIELD_DEPTH;
        if (length > (is_field ? UINT32_MAX : reader->max_reply))
            fail_size(reader);
        else if (is_field && length > reader->max_text)
            cut_text(reader, digits, length);
    } else if (resp->len - resp->pos > REDIS_MAX_LINE) {
        fail_line(reader);
    }
    return reader->failure != STATUS_OK ? reader->failure : STATUS_AGAIN;
}

/* ---- the reader --------------------------------------------------------------------------- */

static redisReader *resp_new(struct redis_reader *reader)
{
    redisReader *resp = redisReaderCreateWithFunctions(&reader->functions);
    if (resp != NULL) {
        resp->privdata = reader;
        resp->maxbuf = REDIS_KEEP_SIZE;
    }
    return resp;
}

struct redis_reader *redis_reader_new(enum redis_expect (*expect)(void *context),
                                      const struct redis_stream_sink *sink, void *context)
{
    struct redis_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return NULL;
    reader->functions.createString = create_string;
    reader->functions.createArray = create_array;
    reader->functions.createInteger = create_integer;
    reader->functions.createNil = create_nil;
#if HIREDIS_MAJOR >= 1
    reader->functions.createDouble = create_double;
    reader->functions.createBool = create_bool;
#endif
    reader->max_text = REDIS_MAX_TEXT;
    reader->max_reply = REDIS_MAX_REPLY;
    reader->expect = expect;
    reader->sink = sink;
    reader->context = context;
    reader->resp = resp_new(reader);
    if (reader->resp == NULL) {
        free(reader);
        return NULL;
    }
    return reader;
}

void redis_reader_free(struct redis_reader *reader)
{
    if (reader == NULL)
        return;
    assert(!reader->calling);
    if (reader->resp != NULL)
        redisReaderFree(reader->resp);
    arena_reset(reader, 0);
    free(reader->scratch);
    free(reader);
}

enum status redis_reader_feed(struct redis_reader *reader, struct bytes input)
{
    assert(!reader->calling);
    if (reader->failure != STATUS_OK)
        return STATUS_FAILED;
    while (input.length > 0) {
        size_t length = input.length;
        bool passes = reader->pass_left > 0 && reader->keep_left == 0;
        if (passes) {
            length = length < reader->pass_left ? length : (size_t)reader->pass_left;
            reader->pass_left -= length;
        } else if (reader->pass_left > 0) {
            length = length < reader->keep_left ? length : reader->keep_left;
            reader->keep_left -= length;
        }
        if (!passes &&
            redisReaderFeed(reader->resp, (const char *)input.data, length) != REDIS_OK) {
            redis_reader_no_memory(reader);
            return STATUS_FAILED;
        }
        input = (struct bytes){input.data + length, input.length - length};
    }
    return STATUS_OK;
}

enum status redis_reader_next(struct redis_reader *reader, const struct redis_value **reply)
{
    assert(!reader->calling);
    if (reader->failure != STATUS_OK)
        return reader->failure;
    void *object = NULL;
    if (redisReaderGetReply(reader->resp, &object) == REDIS_OK) {
        *reply = object;
        return object != NULL ? STATUS_OK : bound_unread(reader);
    }
    if (reader->failure == STATUS_OK && reader->resp->err == REDIS_ERR_OOM)
        redis_reader_no_memory(reader);
    if (reader->failure == STATUS_OK) {
        reader->failure = STATUS_MALFORMED;
        snprintf(reader->error, sizeof reader->error, "not the protocol of Redis: %s",
                 reader->resp->errstr);
    }
    return reader->failure;
}

const char *redis_reader_error(const struct redis_reader *reader)
{
    return reader->error;
}

void redis_reader_reset(struct redis_reader *reader)
{
    assert(!reader->calling);
    redis_streams_forget_entry(reader);
    arena_reset(reader, REDIS_KEEP_SIZE);
    reader->keep_left = reader->pass_left = 0;
    reader->failure = STATUS_OK;
    reader->error[0] = '\0';
    if (reader->resp != NULL)
        redisReaderFree(reader->resp);
    reader->resp = resp_new(reader);
    if (reader->resp == NULL)
        redis_reader_no_memory(reader);
}

bool redis_value_is_error(const struct redis_value *value, const char *code)
{
    size_t length = strlen(code);
    return value->type == REDIS_ERROR && value->text.length > length &&
           memcmp(value->text.data, code, length) == 0 && value->text.data[length] == ' ';
}
