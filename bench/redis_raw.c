/*
 * Redis for the benchmark; see redis_raw.h.
 */
#include "bench/redis_raw.h"

#include "bench/common.h"

#include <stdio.h>
#include <stdlib.h>

/* Objects that are only their type; never NULL, which hiredis takes for a lack of memory. */
static void *make_string(const redisReadTask *task, char *text, size_t length)
{
    if (task->type == REDIS_REPLY_ERROR)
        die("Redis: %.*s", (int)length, text);
    return (void *)(uintptr_t)task->type;
}

#if HIREDIS_MAJOR >= 1
static void *make_array(const redisReadTask *task, size_t elements)
#else
static void *make_array(const redisReadTask *task, int elements)
#endif
{
    (void)elements;
    return (void *)(uintptr_t)task->type;
}

static void *make_integer(const redisReadTask *task, long long value)
{
    (void)value;
    return (void *)(uintptr_t)task->type;
}

static void *make_nil(const redisReadTask *task)
{
    return (void *)(uintptr_t)task->type;
}

static void make_nothing(void *object)
{
    (void)object;
}

/* hiredis takes its table without const, but never writes to it. */
static redisReplyObjectFunctions *type_only(void)
{
    static const redisReplyObjectFunctions functions = {
        .createString = make_string,
        .createArray = make_array,
        .createInteger = make_integer,
        .createNil = make_nil,
        .freeObject = make_nothing,
    };
    return (redisReplyObjectFunctions *)(uintptr_t)&functions;
}

redisContext *redis_open(const char *host, uint64_t port)
{
    if (port == 0 || port > UINT16_MAX)
        die_of_option("port %llu: must be 1 to 65535", (unsigned long long)port);
    redisContext *redis = redisConnect(host, (int)port);
    if (redis == NULL || redis->err != 0)
        die("Redis at %s:%llu: %s", host, (unsigned long long)port,
            redis == NULL ? "out of memory" : redis->errstr);
    redis->reader->fn = type_only();
    return redis;
}

void redis_flush(redisContext *redis)
{
    int done = 0;
    while (done == 0)
        if (redisBufferWrite(redis, &done) != REDIS_OK)
            die("Redis: %s", redis->errstr);
}

void redis_skip(redisContext *redis, size_t count)
{
    void *reply = NULL;
    for (size_t i = 0; i < count; i++)
        if (redisGetReply(redis, &reply) != REDIS_OK)
            die("Redis: %s", redis->errstr);
}

redisReader *redis_reader_new(void)
{
    redisReader *reader = redisReaderCreateWithFunctions(type_only());
    if (reader == NULL)
        die("out of memory");
    return reader;
}

size_t redis_reader_skip(redisReader *reader)
{
    size_t count = 0;
    void *reply = NULL;
    while (redisReaderGetReply(reader, &reply) == REDIS_OK) {
        if (reply == NULL)
            return count;
        count++;
    }
    die("Redis: %s", reader->errstr);
}
