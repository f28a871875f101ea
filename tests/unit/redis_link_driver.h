/*
 * What the tests of the Redis link share: a link, a protocol of what it tells ("ready c=OK down "),
 * and turning the event loop until something has been told.
 */
#ifndef NEMOGATE_TESTS_REDIS_LINK_DRIVER_H
#define NEMOGATE_TESTS_REDIS_LINK_DRIVER_H

#include "transport/redis_link.h"

#include <criterion/criterion.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the link under test has told; out is a protocol of its callbacks, one word each. */
struct told {
    struct redis_link *link;
    unsigned ready;
    unsigned down;
    unsigned entries;
    unsigned replies;
    size_t last_count;
    uint32_t retry_ms;
    char reason[512];
    char out[4096];
    unsigned fail_at; /* fail from within the sink at this entry */
    unsigned stop_at; /* stop there */
};

static struct net net;
static struct told told;

static inline void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void note(const char *format, ...)
{
    size_t used = strlen(told.out);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(told.out + used, sizeof told.out - used, format, arguments);
    va_end(arguments);
}

static inline void on_ready(void *context)
{
    struct told *t = context;
    t->ready++;
    note("ready ");
}

static inline void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct told *t = context;
    t->down++;
    t->retry_ms = retry_ms;
    snprintf(t->reason, sizeof t->reason, "%s", reason);
    note("down ");
}

static inline void on_stream(void *context, struct bytes name)
{
    (void)context;
    note("[%.*s] ", (int)name.length, (const char *)name.data);
}

static inline void on_entry(void *context, const struct redis_entry *entry)
{
    struct told *t = context;
    t->entries++;
    if (t->entries <= 20)
        note("%llu:%zu ", (unsigned long long)entry->id.ms, entry->count);
    if (t->entries == t->fail_at)
        redis_link_fail(t->link, "the test says so");
    if (t->entries == t->stop_at)
        redis_link_stop(t->link);
}

static const struct redis_link_events events = {on_ready, on_down};
static const struct redis_stream_sink sink = {on_stream, on_entry};

/* context is the command's name in the protocol. */
static inline void on_reply(void *context, const struct redis_value *reply)
{
    told.replies++;
    if (reply == NULL)
        note("%s=NULL ", (const char *)context);
    else if (reply->type == REDIS_INTEGER)
        note("%s=%lld ", (const char *)context, (long long)reply->integer);
    else if (reply->type == REDIS_NIL)
        note("%s=nil ", (const char *)context);
    else if (reply->type == REDIS_ARRAY)
        note("%s=#%zu ", (const char *)context, told.last_count = reply->count);
    else
        note("%s=%.*s ", (const char *)context, (int)reply->text.length,
             (const char *)reply->text.data);
}

/* Splits words at blanks: "XADD s * f v". */
static inline size_t split(char *line, struct bytes *arguments)
{
    size_t count = 0;
    for (char *save, *word = strtok_r(line, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save))
        arguments[count++] = bytes_of(word);
    return count;
}

static inline void named(struct redis_link *link, const char *text, const char *name)
{
    char line[512];
    struct bytes arguments[32];
    snprintf(line, sizeof line, "%s", text);
    size_t count = split(line, arguments);
    redis_link_command(link, arguments, count, on_reply, (void *)name);
}

static inline void command(struct redis_link *link, const char *text)
{
    named(link, text, "c");
}

static inline void read_streams(struct redis_link *link, const char *text, uint32_t block_ms)
{
    char line[512];
    struct bytes arguments[32];
    snprintf(line, sizeof line, "%s", text);
    size_t count = split(line, arguments);
    redis_link_read(link, arguments, count, block_ms, on_reply, (void *)"r");
}

static inline void on_too_late(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    *(bool *)context = true;
}

/* Turns the loop until *value >= wanted; the test fails when that takes 10 s. */
static inline void until(const unsigned *value, unsigned wanted)
{
    bool too_late = false;
    struct event *guard = event_new(net.base, -1, 0, on_too_late, &too_late);
    event_add(guard, &(struct timeval){.tv_sec = 10});
    while (*value < wanted && !too_late)
        event_base_loop(net.base, EVLOOP_ONCE);
    event_free(guard);
    cr_assert_geq(*value, wanted, "told so far: %s (last reason: %s)", told.out, told.reason);
}

/* Turns the loop for a while, to see that nothing comes. */
static inline void turn_for(int ms)
{
    bool over = false;
    struct event *end = event_new(net.base, -1, 0, on_too_late, &over);
    event_add(end, &(struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000});
    while (!over)
        event_base_loop(net.base, EVLOOP_ONCE);
    event_free(end);
}

static inline void begin(const struct redis_link_config *config)
{
    told.link = redis_link_new(&net, config, &events, &sink, &told, 7);
    cr_assert_not_null(told.link);
    redis_link_start(told.link);
}

static inline void begin_driver(void)
{
    cr_assert(net_open(&net));
    memset(&told, 0, sizeof told);
}

/* Ends the link and forgets what it told. */
static inline void end_link(void)
{
    redis_link_free(told.link);
    memset(&told, 0, sizeof told);
}

#endif
