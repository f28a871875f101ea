/*
 * Heartbeats and rendezvous hashing. The interval bounds how long a slot lies idle after its owner
 * has left in an orderly way; a beat is one small script.
 */
#include "core/instances.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>

#define INTERVAL_MS 250u

/* Those that expired ten minutes ago are forgotten. Answers {now, number of slots, holder, when it
 * expires, ...}. A full Redis must not make an instance look dead. */
static const char beat_script[] =
    "#!lua flags=allow-oom\n"
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 600000)\n"
    "local answer = {now, redis.call('HGET', KEYS[2], 'slots') or ''}\n"
    "for _, v in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES')) do\n"
    "  answer[#answer + 1] = v\n"
    "end\n"
    "return answer\n";

struct instances {
    struct instances_setting setting;
    const struct instances_events *events;
    void *context;
    struct event *next_beat;
    char *key;
    char *counts_key;
    char slots[16];
    bool asking;           /* a beat is without an answer */
    bool left;             /* instances_leave was called */
    struct bytes *holders; /* that live, in the order of their bytes; each text is owned */
    size_t count;
    uint64_t twin_expires_ms; /* of one with our name, when it was first seen; 0: none */
    bool twin_told;
};

/* ---- rendezvous hashing ------------------------------------------------------------------- */

/* FNV-1a over the holder's bytes, mixed with the slot by SplitMix64's finalizer. */
static uint64_t weight(unsigned slot, struct bytes holder)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < holder.length; i++)
        hash = (hash ^ holder.data[i]) * 1099511628211u;
    hash ^= (slot + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 27) * UINT64_C(0x94d049bb133111eb);
    return hash ^ hash >> 31;
}

static int compare(struct bytes a, struct bytes b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

size_t instances_choose(unsigned slot, const struct bytes *holders, size_t count)
{
    size_t best = 0;
    uint64_t heaviest = weight(slot, holders[0]);
    for (size_t i = 1; i < count; i++) {
        uint64_t other = weight(slot, holders[i]);
        if (other < heaviest || (other == heaviest && compare(holders[i], holders[best]) > 0))
            continue;
        best = i;
        heaviest = other;
    }
    return best;
}

size_t instances_living(const struct instances *instances)
{
    return instances->count;
}

bool instances_prefers(const struct instances *instances, unsigned slot)
{
    if (instances->count == 0)
        return false;
    size_t chosen = instances_choose(slot, instances->holders, instances->count);
    return bytes_equal(instances->holders[chosen], bytes_of(instances->setting.holder));
}

/* ---- who lives ---------------------------------------------------------------------------- */

static int compare_holders(const void *a, const void *b)
{
    return compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

static void forget(struct bytes *holders, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free((void *)(uintptr_t)holders[i].data);
    free(holders);
}

/* The holders of the answer behind its first two elements, each followed by its expiry. */
static const struct redis_value *first_holder(const struct redis_value *reply)
{
    return reply->element->next->next;
}

static const struct redis_value *next_holder(const struct redis_value *holder)
{
    return holder->next != NULL ? holder->next->next : NULL;
}

static bool is_same(const struct instances *instances, const struct redis_value *reply)
{
    size_t count = 0;
    for (const struct redis_value *v = first_holder(reply); v != NULL; v = next_holder(v)) {
        if (instances->count == 0 || bsearch(&v->text, instances->holders, instances->count,
                                             sizeof v->text, compare_holders) == NULL)
            return false;
        count++;
    }
    return count == instances->count;
}

/* false: memory is short. */
static bool take_holders(struct instances *instances, const struct redis_value *reply)
{
    size_t count = 0;
    struct bytes *holders = calloc(reply->count / 2, sizeof *holders);
    for (const struct redis_value *v = first_holder(reply); v != NULL && holders != NULL;
         v = next_holder(v)) {
        uint8_t *copy = malloc(v->text.length + 1);
        if (copy == NULL) {
            forget(holders, count);
            return false;
        }
        memcpy(copy, v->text.data, v->text.length);
        holders[count++] = (struct bytes){copy, v->text.length};
    }
    if (holders == NULL)
        return false;
    qsort(holders, count, sizeof *holders, compare_holders);
    forget(instances->holders, instances->count);
    instances->holders = holders;
    instances->count = count;
    return true;
}

/* ---- two with one name -------------------------------------------------------------------- */

static bool is_twin(const struct instances *instances, struct bytes holder)
{
    const char *name = instances->setting.config->instance;
    size_t length = strlen(name);
    return holder.length > length && memcmp(holder.data, name, length) == 0 &&
           holder.data[length] == '/' && !bytes_equal(holder, bytes_of(instances->setting.holder));
}

static uint64_t expiry_of(const struct redis_value *holder)
{
    char text[32] = "";
    if (holder->next != NULL && holder->next->type == REDIS_STRING)
        snprintf(text, sizeof text, "%.*s", (int)holder->next->text.length,
                 (const char *)holder->next->text.data);
    return strtoull(text, NULL, 10);
}

/* What this process was before it was killed is there for a while too, but it does not beat. */
static void look_for_twin(struct instances *instances, const struct redis_value *reply)
{
    uint64_t expires_ms = 0;
    struct bytes twin = {NULL, 0};
    for (const struct redis_value *v = first_holder(reply); v != NULL; v = next_holder(v))
        if (is_twin(instances, v->text) && expiry_of(v) > expires_ms) {
            expires_ms = expiry_of(v);
            twin = v->text;
        }
    if (instances->twin_expires_ms == 0 || expires_ms == 0) {
        instances->twin_expires_ms = expires_ms;
        return;
    }
    if (expires_ms <= instances->twin_expires_ms || instances->twin_told)
        return;
    instances->twin_told = true;
    log_event(instances->setting.log, LOG_WARNING,
              "another running process has the same instance name: they share the slots, but the "
              "log and the leases do not tell them apart well; give each a name of its own",
              LOG_TEXT("instance", instances->setting.config->instance),
              LOG_TEXT("holder", instances->setting.holder), LOG_BYTES("other", twin));
}

/* ---- beats -------------------------------------------------------------------------------- */

static void fail(struct instances *instances, const struct redis_value *reply)
{
    char reason[256];
    struct bytes text =
        reply->type == REDIS_ERROR ? reply->text : bytes_of("not what was expected");
    snprintf(reason, sizeof reason, "Redis refused the heartbeat: %.*s", (int)text.length,
             (const char *)text.data);
    redis_link_fail(instances->setting.link, reason);
}

static bool is_usable(const struct redis_value *reply)
{
    if (reply->type != REDIS_ARRAY || reply->count < 4 || reply->count % 2 != 0 ||
        reply->element->next->type != REDIS_STRING)
        return false;
    for (const struct redis_value *v = first_holder(reply); v != NULL; v = v->next)
        if (v->type != REDIS_STRING)
            return false;
    return true;
}

static void on_beat(void *context, const struct redis_value *reply)
{
    struct instances *instances = context;
    instances->asking = false;
    if (instances->left || reply == NULL)
        return; /* instances_beat comes when the link is back */
    if (!is_usable(reply)) {
        fail(instances, reply);
        return;
    }
    event_add(instances->next_beat, &(struct timeval){.tv_usec = INTERVAL_MS * 1000});
    if (!bytes_equal(reply->element->next->text, bytes_of(instances->slots))) {
        instances->events->on_other_count(instances->context);
        return;
    }
    look_for_twin(instances, reply);
    if (!is_same(instances, reply) && take_holders(instances, reply))
        instances->events->on_change(instances->context);
}

void instances_beat(struct instances *instances)
{
    if (instances->asking || instances->left || !redis_link_is_ready(instances->setting.link))
        return;
    char ttl[16];
    snprintf(ttl, sizeof ttl, "%" PRIu32, instances->setting.config->delivery.lease_ttl_ms);
    struct bytes arguments[] = {bytes_of("EVAL"),
                                redis_link_script(instances->setting.link, beat_script),
                                bytes_of("2"),
                                bytes_of(instances->key),
                                bytes_of(instances->counts_key),
                                bytes_of(instances->setting.holder),
                                bytes_of(ttl)};
    instances->asking = true;
    redis_link_command(instances->setting.link, arguments, 7, on_beat, instances);
    redis_link_flush(instances->setting.link);
}

static void on_next_beat(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    instances_beat(context);
}

static void ignore_reply(void *context, const struct redis_value *reply)
{
    (void)context;
    (void)reply;
}

void instances_leave(struct instances *instances)
{
    instances->left = true;
    event_del(instances->next_beat);
    if (!redis_link_is_ready(instances->setting.link))
        return;
    struct bytes arguments[] = {bytes_of("ZREM"), bytes_of(instances->key),
                                bytes_of(instances->setting.holder)};
    redis_link_command(instances->setting.link, arguments, 3, ignore_reply, NULL);
    redis_link_flush(instances->setting.link);
}

/* ---- making and ending -------------------------------------------------------------------- */

struct instances *instances_new(const struct instances_setting *setting,
                                const struct instances_events *events, void *context)
{
    struct instances *instances = calloc(1, sizeof *instances);
    const char *group = setting->config->redis.group;
    if (instances == NULL)
        return NULL;
    instances->setting = *setting;
    instances->events = events;
    instances->context = context;
    snprintf(instances->slots, sizeof instances->slots, "%u", setting->config->slots);
    if (asprintf(&instances->key, "nemogate:{%s}:instances", group) < 0)
        instances->key = NULL;
    if (asprintf(&instances->counts_key, "nemogate:{%s}:slots", group) < 0)
        instances->counts_key = NULL;
    instances->next_beat = event_new(setting->net->base, -1, 0, on_next_beat, instances);
    if (instances->key == NULL || instances->counts_key == NULL || instances->next_beat == NULL) {
        instances_free(instances);
        return NULL;
    }
    return instances;
}

void instances_free(struct instances *instances)
{
    if (instances == NULL)
        return;
    if (instances->next_beat != NULL)
        event_free(instances->next_beat);
    forget(instances->holders, instances->count);
    free(instances->key);
    free(instances->counts_key);
    free(instances);
}
