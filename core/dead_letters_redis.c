/*
 * Redis for a command that does one thing after the other: what is sent is waited for, on an event
 * loop of its own. The first failure is kept in words and ends the command; the link's way of
 * connecting again is not used, since what was under way would not be known.
 */
#include "core/dead_letters_private.h"

#include "core/peers.h"

#include <event2/event.h>
#include <stdarg.h>
#include <stdlib.h>

/* A page begins small and doubles while it is well below this: letters may be large. */
#define PAGE_BYTES ((size_t)1 << 20)
#define FIRST_COUNT 8u

/* ---- failures ------------------------------------------------------------------------------ */

void letters_redis_fail(struct letters_redis *redis, const char *format, ...)
{
    if (redis->failed)
        return;
    redis->failed = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(redis->error, sizeof redis->error, format, arguments);
    va_end(arguments);
}

static bool begins(struct bytes text, const char *word)
{
    return text.length >= strlen(word) && memcmp(text.data, word, strlen(word)) == 0;
}

static bool contains(struct bytes text, const char *part)
{
    return memmem(text.data, text.length, part, strlen(part)) != NULL;
}

/* "+xinfo|stream" of "XINFO STREAM". */
static void format_grant(const char *command, char *text, size_t size)
{
    size_t used = 0;
    for (const char *c = command; *c != '\0' && used < size - 1; c++)
        text[used++] = *c == ' ' ? '|' : (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    text[used] = '\0';
}

void letters_redis_explain(const struct letters_redis *redis, const char *command, const char *key,
                           struct bytes error, char *text, size_t size)
{
    const char *user = redis->config->redis.username;
    user = user[0] != '\0' ? user : "default";
    char grant[32];
    format_grant(command, grant, sizeof grant);
    if (begins(error, "NOPERM") && contains(error, " run the "))
        snprintf(text, size, "Redis %s: the user '%s' may not run %s: give it +%s", redis->where,
                 user, command, grant);
    else if (begins(error, "NOPERM"))
        snprintf(text, size, "Redis %s: the user '%s' may not touch %s with %s: give it ~%s",
                 redis->where, user, key, command, key);
    else if (contains(error, "user executing the script"))
        snprintf(text, size,
                 "Redis %s: the user '%s' may not run a command of the script for %s: give it "
                 "+xrange +xinfo|stream +time +xadd +xdel",
                 redis->where, user, key);
    else if (begins(error, "WRONGTYPE"))
        snprintf(text, size, "Redis %s: %s is not a stream", redis->where, key);
    else
        snprintf(text, size, "Redis %s: %s of %s does not work: %.*s", redis->where, command, key,
                 error.length > 300 ? 300 : (int)error.length, (const char *)error.data);
}

void letters_redis_refused(struct letters_redis *redis, const char *command, const char *key,
                           const struct redis_value *reply)
{
    if (reply == NULL)
        return; /* on_down says why */
    char text[sizeof redis->error];
    letters_redis_explain(redis, command, key,
                          reply->type == REDIS_ERROR ? reply->text : bytes_of("unexpected reply"),
                          text, sizeof text);
    letters_redis_fail(redis, "%s", text);
}

/* ---- the link ------------------------------------------------------------------------------ */

static void on_ready(void *context)
{
    struct letters_redis *redis = context;
    redis->ready = true;
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)retry_ms;
    struct letters_redis *redis = context;
    letters_redis_fail(redis, "Redis %s: %s", redis->where, reason);
}

static bool open_link(struct letters_redis *redis)
{
    static const struct redis_link_events events = {on_ready, on_down};
    const struct config_redis *settings = &redis->config->redis;
    char error[IO_ERROR_TEXT];
    if (!peer_open_tls(&settings->url, &settings->tls, &redis->tls, error)) {
        letters_redis_fail(redis, "Redis %s: %s", redis->where, error);
        return false;
    }
    if (asprintf(&redis->name, "nemogate:%s:dead-letters", redis->config->instance) < 0)
        redis->name = NULL;
    redis->link_config = peer_redis_link(settings, redis->tls, redis->name);
    if (redis->name != NULL)
        redis->link =
            redis_link_new(&redis->net, &redis->link_config, &events, NULL, redis, net_now_us());
    if (redis->link == NULL)
        letters_redis_fail(redis, "memory is short");
    return redis->link != NULL;
}

bool letters_redis_open(struct letters_redis *redis, const struct config *config)
{
    *redis = (struct letters_redis){.config = config};
    struct endpoint endpoint = peer_redis_endpoint(&config->redis, NULL);
    endpoint_format(&endpoint, redis->where);
    if (!net_open(&redis->net)) {
        letters_redis_fail(redis, "memory is short");
        return false;
    }
    if (!open_link(redis))
        return false;
    redis_link_start(redis->link);
    while (!redis->ready && !redis->failed)
        event_base_loop(redis->net.base, EVLOOP_ONCE);
    if (redis->ready && redis_link_is_cluster(redis->link))
        letters_redis_fail(redis, "Redis %s: it runs in cluster mode, which is not supported",
                           redis->where);
    return !redis->failed;
}

void letters_redis_close(struct letters_redis *redis)
{
    redis_link_free(redis->link);
    tls_context_free(redis->tls);
    free(redis->name);
    net_close(&redis->net);
}

void letters_redis_send(struct letters_redis *redis, const struct bytes *arguments, size_t count,
                        redis_reply_fn *on_reply, void *context)
{
    if (!redis->failed)
        redis_link_command(redis->link, arguments, count, on_reply, context);
}

bool letters_redis_wait(struct letters_redis *redis)
{
    if (!redis->failed)
        redis_link_flush(redis->link);
    while (!redis->failed && redis_link_outstanding(redis->link) > 0)
        event_base_loop(redis->net.base, EVLOOP_ONCE);
    return !redis->failed;
}

/* ---- pages --------------------------------------------------------------------------------- */

static size_t size_of(const struct redis_value *value)
{
    size_t size = value->text.length;
    for (const struct redis_value *v = value->element; v != NULL; v = v->next)
        size += size_of(v);
    return size;
}

struct stream_id letters_id_after(struct stream_id id)
{
    if (id.seq < UINT64_MAX)
        return (struct stream_id){id.ms, id.seq + 1};
    return (struct stream_id){id.ms + 1, 0};
}

static struct stream_id before(struct stream_id id)
{
    if (id.seq > 0)
        return (struct stream_id){id.ms, id.seq - 1};
    return (struct stream_id){id.ms - 1, UINT64_MAX};
}

static void step(struct letters_pager *pager, struct stream_id last)
{
    struct stream_id end = pager->newest_first ? LETTERS_FIRST_ID : LETTERS_LAST_ID;
    if (stream_id_compare(last, end) == 0 || stream_id_compare(last, pager->until) == 0)
        pager->done = true;
    else
        pager->next = pager->newest_first ? before(last) : letters_id_after(last);
}

static void adapt(struct letters_pager *pager, const struct redis_value *entries)
{
    size_t each = size_of(entries) / entries->count + 1;
    size_t fitting = PAGE_BYTES / each;
    if (fitting > 2 * (size_t)pager->count)
        fitting = 2 * (size_t)pager->count;
    if (fitting > LETTERS_PAGE_MAX)
        fitting = LETTERS_PAGE_MAX;
    pager->count = fitting > 0 ? (unsigned)fitting : 1;
}

static void on_page(void *context, const struct redis_value *reply)
{
    struct letters_pager *pager = context;
    const char *command = pager->newest_first ? "XREVRANGE" : "XRANGE";
    if (reply == NULL || reply->type != REDIS_ARRAY) {
        letters_redis_refused(pager->redis, command, pager->key, reply);
        return;
    }
    if (reply->count < pager->count)
        pager->done = true;
    if (reply->count == 0)
        return;
    pager->on_page(pager->context, reply);
    const struct redis_value *last = reply->element;
    while (last->next != NULL)
        last = last->next;
    struct stream_id id;
    if (last->type != REDIS_ARRAY || last->element == NULL ||
        stream_id_parse(last->element->text, &id) != STATUS_OK) {
        letters_redis_fail(pager->redis, "Redis %s: the answer to %s of %s has no ids",
                           pager->redis->where, command, pager->key);
        return;
    }
    step(pager, id);
    adapt(pager, reply);
}

bool letters_pager_next(struct letters_pager *pager)
{
    if (pager->done || pager->redis->failed)
        return false;
    if (pager->count == 0)
        pager->count = FIRST_COUNT;
    char from[STREAM_ID_TEXT], until[STREAM_ID_TEXT], count[16];
    stream_id_format(pager->next, from);
    stream_id_format(pager->until, until);
    snprintf(count, sizeof count, "%u", pager->count);
    struct bytes arguments[] = {bytes_of(pager->newest_first ? "XREVRANGE" : "XRANGE"),
                                bytes_of(pager->key),
                                bytes_of(from),
                                bytes_of(until),
                                bytes_of("COUNT"),
                                bytes_of(count)};
    letters_redis_send(pager->redis, arguments, sizeof arguments / sizeof *arguments, on_page,
                       pager);
    return letters_redis_wait(pager->redis);
}

/* ---- XINFO STREAM -------------------------------------------------------------------------- */

struct info_request {
    struct letters_redis *redis;
    const char *key;
    struct letters_stream_info *info;
};

static void take_id(const struct redis_value *value, struct stream_id *id)
{
    if (value->type != REDIS_STRING || stream_id_parse(value->text, id) != STATUS_OK)
        *id = LETTERS_FIRST_ID;
}

static void take_info(const struct redis_value *reply, struct letters_stream_info *info)
{
    info->exists = true;
    for (const struct redis_value *v = reply->element; v != NULL && v->next != NULL;
         v = v->next->next) {
        const struct redis_value *value = v->next;
        if (bytes_equal(v->text, bytes_of("length")))
            info->length = (uint64_t)value->integer;
        else if (bytes_equal(v->text, bytes_of("entries-added")))
            info->added = (uint64_t)value->integer;
        else if (bytes_equal(v->text, bytes_of("recorded-first-entry-id")))
            take_id(value, &info->first);
        else if (bytes_equal(v->text, bytes_of("last-generated-id")))
            take_id(value, &info->last);
        else if (bytes_equal(v->text, bytes_of("max-deleted-entry-id")))
            take_id(value, &info->max_deleted);
    }
}

static void on_info(void *context, const struct redis_value *reply)
{
    struct info_request *request = context;
    if (reply != NULL && reply->type == REDIS_ARRAY)
        take_info(reply, request->info);
    else if (reply == NULL || reply->type != REDIS_ERROR || !contains(reply->text, "no such key"))
        letters_redis_refused(request->redis, "XINFO STREAM", request->key, reply);
}

bool letters_stream_info(struct letters_redis *redis, const char *key,
                         struct letters_stream_info *info)
{
    *info = (struct letters_stream_info){0};
    struct info_request request = {redis, key, info};
    struct bytes arguments[] = {bytes_of("XINFO"), bytes_of("STREAM"), bytes_of(key)};
    letters_redis_send(redis, arguments, 3, on_info, &request);
    return letters_redis_wait(redis);
}
