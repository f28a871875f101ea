/*
 * What only Redis knows: how much of each stream its group has not been given (XINFO GROUPS), what
 * is pending (XPENDING), how many dead letters there are (XLEN), who holds the other slots' leases.
 * Some streams per turn, and only when Redis has answered the turn before: ten thousand streams
 * are asked for over some minutes, a few of them over and over.
 */
#include "core/admin_private.h"

#include "codec/decimal.h"
#include "codec/stream_id.h"

#include <inttypes.h>
#include <stdio.h>

#define STREAMS_PER_TURN 4u
#define TIME_MS 5000u

uint64_t ask_redis_time(const struct admin *admin)
{
    return admin->redis_ahead_ms != 0 ? admin->redis_ahead_ms + net_now_ms() : admin_epoch_ms();
}

/* false: it is no answer. */
static bool is_answer(struct admin *admin, const struct redis_value *reply, const char *grant)
{
    uint64_t held_back;
    admin->asking--;
    if (reply == NULL)
        return false;
    if (reply->type != REDIS_ERROR)
        return true;
    if (redis_value_is_error(reply, "NOPERM") &&
        log_limit_pass(&admin->forbidden, net_now_ms(), 3600000, &held_back))
        log_event(admin->setting.log, LOG_WARNING,
                  "Redis does not let this user ask what the monitor shows: it stays unknown there",
                  LOG_TEXT("grant", grant), LOG_BYTES("reply", reply->text));
    return false;
}

/* ---- streams ------------------------------------------------------------------------------- */

static const struct redis_value *value_of(const struct redis_value *map, const char *name)
{
    for (const struct redis_value *v = map->element; v != NULL && v->next != NULL;
         v = v->next->next)
        if (v->type == REDIS_STRING && bytes_equal(v->text, bytes_of(name)))
            return v->next;
    return NULL;
}

static void on_groups(void *context, const struct redis_value *reply)
{
    struct admin_stream *stream = context;
    struct bytes group = bytes_of(stream->admin->config->redis.group);
    bool is_array = is_answer(stream->admin, reply, "+xinfo|groups") && reply->type == REDIS_ARRAY;
    if (reply == NULL)
        return;
    /* Of a stream or a group that is not there any more nothing is known, and nothing waits. */
    stream->lag_known = stream->pending_known = false;
    stream->lag = stream->pending = 0;
    if (!is_array)
        return;
    for (const struct redis_value *map = reply->element; map != NULL; map = map->next) {
        const struct redis_value *name = map->type == REDIS_ARRAY ? value_of(map, "name") : NULL;
        if (name == NULL || !bytes_equal(name->text, group))
            continue;
        const struct redis_value *lag = value_of(map, "lag"), *pending = value_of(map, "pending");
        stream->lag_known = lag != NULL && lag->type == REDIS_INTEGER && lag->integer >= 0;
        stream->lag = stream->lag_known ? (uint64_t)lag->integer : 0;
        stream->pending_known = pending != NULL && pending->type == REDIS_INTEGER;
        stream->pending = stream->pending_known ? (uint64_t)pending->integer : 0;
    }
}

/* [[id, consumer, idle, deliveries]] */
static void on_oldest(void *context, const struct redis_value *reply)
{
    struct admin_stream *stream = context;
    struct stream_id id;
    bool is_array = is_answer(stream->admin, reply, "+xpending") && reply->type == REDIS_ARRAY;
    if (reply == NULL)
        return;
    stream->oldest_ms = 0;
    if (!is_array)
        return;
    const struct redis_value *first = reply->element;
    if (first != NULL && first->type == REDIS_ARRAY && first->element != NULL &&
        first->element->type == REDIS_STRING &&
        stream_id_parse(first->element->text, &id) == STATUS_OK)
        stream->oldest_ms = id.ms;
}

static void on_dead(void *context, const struct redis_value *reply)
{
    struct admin_stream *stream = context;
    if (!is_answer(stream->admin, reply, "+xlen") || reply->type != REDIS_INTEGER)
        return;
    stream->site->dead_known = true;
    stream->site->dead = (uint64_t)reply->integer;
}

static void ask(struct admin *admin, const struct bytes *arguments, size_t count,
                redis_reply_fn *on_reply, void *context)
{
    admin->asking++;
    redis_link_command(admin->setting.link, arguments, count, on_reply, context);
}

static void ask_stream(struct admin *admin, struct admin_stream *stream)
{
    struct bytes name = bytes_of(stream->name), group = bytes_of(admin->config->redis.group);
    struct bytes groups[] = {bytes_of("XINFO"), bytes_of("GROUPS"), name};
    struct bytes oldest[] = {bytes_of("XPENDING"), name,          group,
                             bytes_of("-"),        bytes_of("+"), bytes_of("1")};
    struct bytes dead[] = {bytes_of("XLEN"), bytes_of(stream->dead_key)};
    ask(admin, groups, 3, on_groups, stream);
    ask(admin, oldest, 6, on_oldest, stream);
    ask(admin, dead, 2, on_dead, stream);
}

static void ask_streams(struct admin *admin)
{
    size_t asked = 0;
    for (size_t i = 0; i < admin->stream_count && asked < STREAMS_PER_TURN && i < 256; i++) {
        struct admin_stream *stream = admin->streams[admin->next_stream++ % admin->stream_count];
        if (!admin->slots[stream->slot].held)
            continue;
        ask_stream(admin, stream);
        asked++;
    }
}

/* ---- leases -------------------------------------------------------------------------------- */

static void on_lease(void *context, const struct redis_value *reply)
{
    struct admin *admin = context;
    struct admin_slot *slot = &admin->slots[admin->next_slot];
    uint64_t deadline = 0, now = net_now_ms();
    admin->next_slot = (admin->next_slot + 1) % admin->config->slots;
    if (!is_answer(admin, reply, "+hmget") || reply->type != REDIS_ARRAY || reply->count != 2)
        return;
    const struct redis_value *holder = reply->element, *until = holder->next;
    bool held = holder->type == REDIS_STRING && until->type == REDIS_STRING &&
                decimal_read(until->text, &deadline) && deadline > ask_redis_time(admin);
    slot->owner[0] = '\0';
    if (held) {
        size_t length = holder->text.length; /* "instance/nonce" */
        const uint8_t *slash = memrchr(holder->text.data, '/', length);
        snprintf(slot->owner, sizeof slot->owner, "%.*s",
                 (int)(slash != NULL ? (size_t)(slash - holder->text.data) : length),
                 (const char *)holder->text.data);
        slot->ownerless_since_ms = 0;
    } else if (slot->ownerless_since_ms == 0) {
        slot->ownerless_since_ms = now;
    }
}

/* The next slot that is not held here. */
static void ask_lease(struct admin *admin)
{
    unsigned slots = admin->config->slots;
    char key[160];
    for (unsigned i = 0; i < slots && admin->slots[admin->next_slot].held; i++) {
        admin->slots[admin->next_slot].ownerless_since_ms = 0;
        admin->next_slot = (admin->next_slot + 1) % slots;
    }
    if (admin->slots[admin->next_slot].held)
        return;
    snprintf(key, sizeof key, "nemogate:{%s}:lease:%u", admin->config->redis.group,
             admin->next_slot);
    struct bytes arguments[] = {bytes_of("HMGET"), bytes_of(key), bytes_of("holder"),
                                bytes_of("deadline")};
    ask(admin, arguments, 4, on_lease, admin);
}

/* ---- the clock ----------------------------------------------------------------------------- */

static void on_time(void *context, const struct redis_value *reply)
{
    struct admin *admin = context;
    uint64_t seconds, micros;
    if (!is_answer(admin, reply, "+time") || reply->type != REDIS_ARRAY || reply->count != 2)
        return;
    if (decimal_read(reply->element->text, &seconds) &&
        decimal_read(reply->element->next->text, &micros))
        admin->redis_ahead_ms = seconds * 1000 + micros / 1000 - net_now_ms();
}

void ask_turn(struct admin *admin)
{
    uint64_t now = net_now_ms();
    if (!admin->redis_up || admin->draining || admin->asking > 0 || admin->shards == 0 ||
        !redis_link_is_ready(admin->setting.link))
        return;
    if (now >= admin->next_time_ms) {
        struct bytes time = bytes_of("TIME");
        admin->next_time_ms = now + TIME_MS;
        ask(admin, &time, 1, on_time, admin);
    }
    ask_streams(admin);
    ask_lease(admin);
    redis_link_flush(admin->setting.link);
}
