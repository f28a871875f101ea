/*
 * The scripts of a lease and their replies. Each script checks the holder itself, so that what it
 * decides cannot change before it is done.
 */
#include "core/lease.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A Redis that has reached its maxmemory refuses writes that need memory. A gateway that loses its
 * leases to that could not acknowledge what would free it. */
#define ALLOW_OOM "#!lua flags=allow-oom\n"

/* With another number of slots than the group keeps nothing is given: {2, now, kept}.
 *
 * The term counts how often the holder has changed. A process whose answer was lost finds itself to
 * be the holder the next time, and only the term tells it that another was in between.
 *
 * A link recorded under another run id belonged to a server process that is gone, and its number
 * may since have been given to a stranger: it is forgotten, not killed. At most 100 links are
 * answered; the taker asks again while there are that many. */
static const char take_script[] = ALLOW_OOM
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "local slots = redis.call('HGET', KEYS[2], 'slots')\n"
    "if slots and slots ~= ARGV[7] then return {2, now, slots} end\n"
    "local held = redis.call('HMGET', KEYS[1], 'holder', 'deadline', 'term')\n"
    "local deadline = tonumber(held[2] or '0')\n"
    "if held[1] and held[1] ~= ARGV[1] and deadline > now then\n"
    "  return {0, now, deadline - now, held[1]}\n"
    "end\n"
    "local mine = held[1] == ARGV[1]\n"
    "local term = tonumber(held[3] or '0') + (mine and 0 or 1)\n"
    "redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'deadline', now + tonumber(ARGV[2]),\n"
    "  'term', term)\n"
    "redis.call('HSET', KEYS[1], 'link:' .. ARGV[3] .. ':' .. ARGV[4], ARGV[6])\n"
    "local answer = {1, now, term}\n"
    "for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do\n"
    "  local run, id = string.match(field, '^link:([^:]*):(%d+)$')\n"
    "  if run and run ~= ARGV[3] then\n"
    "    redis.call('HDEL', KEYS[1], field)\n"
    "  elseif run and id ~= ARGV[4] and id ~= ARGV[5] and #answer < 103 then\n"
    "    answer[#answer + 1] = id\n"
    "  end\n"
    "end\n"
    "return answer\n";

/* Gives back when it was sent: several may be on their way, and each extends from its own time. */
static const char renew_script[] =
    ALLOW_OOM "local t = redis.call('TIME')\n"
              "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
              "local held = redis.call('HMGET', KEYS[1], 'holder', 'deadline', 'term')\n"
              "if held[1] ~= ARGV[1] or held[3] ~= ARGV[4] then\n"
              "  return {0, now, math.max(0, tonumber(held[2] or '0') - now), held[1] or ''}\n"
              "end\n"
              "redis.call('HSET', KEYS[1], 'deadline', now + tonumber(ARGV[2]))\n"
              "return {1, now, ARGV[3]}\n";

/* The links stay on record: a read that one of them sent may still be on its way to Redis, and the
 * next owner must be able to kill it. */
static const char release_script[] =
    ALLOW_OOM "if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then\n"
              "  return redis.call('HDEL', KEYS[1], 'holder', 'deadline')\n"
              "end\n"
              "return 0\n";

/* What take_script answers first. */
enum { TAKE_REFUSED, TAKE_GRANTED, TAKE_OTHER_COUNT };

#define KILLS_MAX 100u

/* Taking the lease on one link: the script, then the kills it asked for. */
struct taking {
    struct lease *lease;
    enum lease_role role;
    struct redis_link *link;
    const struct redis_link *other;
    uint64_t sent_ms;
    int64_t term;
    int64_t kills[KILLS_MAX];
    size_t kill_count;
    size_t answered;
    bool forbidden; /* Redis does not let this user kill */
};

struct lease {
    struct lease_setting setting;
    const struct lease_events *events;
    void *context;
    bool held;
    int64_t term; /* of the record, when the lease was last granted */
    bool fresh; /* taken from another, or for the first time, and not yet granted with that word */
    uint64_t valid_until_ms;
    uint64_t asked_ms;     /* when the last take or renewal was sent */
    uint64_t confirmed_ms; /* when the last one that was granted was sent */
    int64_t redis_offset_ms;
    struct taking taking[LEASE_ROLES];
};

struct lease *lease_new(const struct lease_setting *setting, const struct lease_events *events,
                        void *context)
{
    struct lease *lease = calloc(1, sizeof *lease);
    if (lease == NULL)
        return NULL;
    lease->setting = *setting;
    lease->events = events;
    lease->context = context;
    for (int role = 0; role < LEASE_ROLES; role++) {
        lease->taking[role].lease = lease;
        lease->taking[role].role = (enum lease_role)role;
    }
    return lease;
}

void lease_free(struct lease *lease)
{
    free(lease);
}

static int64_t integer_at(const struct redis_value *array, size_t index)
{
    const struct redis_value *value = array->element;
    while (value != NULL && index-- > 0)
        value = value->next;
    return value != NULL && value->type == REDIS_INTEGER ? value->integer : 0;
}

static struct bytes text_at(const struct redis_value *array, size_t index)
{
    const struct redis_value *value = array->element;
    while (value != NULL && index-- > 0)
        value = value->next;
    return value != NULL && value->type == REDIS_STRING ? value->text : bytes_of("");
}

/* A number that Redis gives as text; 0: none. */
static int64_t number_at(const struct redis_value *array, size_t index)
{
    char text[24];
    struct bytes value = text_at(array, index);
    snprintf(text, sizeof text, "%.*s", (int)value.length, (const char *)value.data);
    return strtoll(text, NULL, 10);
}

/* Fails the link when the reply is not the array that the scripts give; what says which command. */
static bool reply_usable(struct redis_link *link, const struct redis_value *reply, const char *what)
{
    if (reply->type == REDIS_ARRAY && reply->count >= 2)
        return true;
    char reason[256];
    if (reply->type == REDIS_ERROR)
        snprintf(reason, sizeof reason, "Redis refused %s: %.*s", what, (int)reply->text.length,
                 (const char *)reply->text.data);
    else
        snprintf(reason, sizeof reason, "Redis answered %s in a way that was not expected", what);
    redis_link_fail(link, reason);
    return false;
}

static void note_time(struct lease *lease, const struct redis_value *reply)
{
    /* Without a sign: a time that makes no sense must not overflow. */
    lease->redis_offset_ms = (int64_t)((uint64_t)integer_at(reply, 1) - net_now_ms());
}

static void extend(struct lease *lease, uint64_t sent_ms)
{
    /* Counted from before the request was sent, and less a tenth for clocks that run apart: the
     * owner stops before Redis lets another in. */
    lease->held = true;
    if (sent_ms > lease->confirmed_ms)
        lease->confirmed_ms = sent_ms;
    lease->valid_until_ms = sent_ms + lease->setting.ttl_ms - lease->setting.ttl_ms / 10;
}

static void refuse(struct lease *lease, const struct redis_value *reply)
{
    lease->held = false;
    lease->events->on_refused(lease->context, text_at(reply, 3), (uint64_t)integer_at(reply, 2));
}

static void ignore_reply(void *context, const struct redis_value *reply)
{
    (void)context;
    (void)reply;
}

/* Strikes the first count of the answered links off the record. */
static void strike_off(struct taking *taking, size_t count)
{
    char fields[KILLS_MAX][96];
    struct bytes arguments[KILLS_MAX + 2] = {bytes_of("HDEL"),
                                             bytes_of(taking->lease->setting.key)};
    for (size_t i = 0; i < count; i++) {
        snprintf(fields[i], sizeof fields[i], "link:%s:%" PRId64, redis_link_run_id(taking->link),
                 taking->kills[i]);
        arguments[i + 2] = bytes_of(fields[i]);
    }
    redis_link_command(taking->link, arguments, count + 2, ignore_reply, NULL);
}

static void grant(struct taking *taking, bool fenced)
{
    struct lease *lease = taking->lease;
    struct lease_grant how = {.fresh = lease->fresh, .fenced = fenced};
    lease->fresh = false;
    lease->term = taking->term;
    extend(lease, taking->sent_ms);
    lease->events->on_granted(lease->context, taking->role, how);
}

/* Redis does not let this user close links. They stay on record for a later owner with more rights,
 * but not without end: a full answer loses its first half, which are the oldest. */
static void grant_unfenced(struct taking *taking)
{
    if (taking->kill_count == KILLS_MAX)
        strike_off(taking, KILLS_MAX / 2);
    grant(taking, false);
}

static void on_kill(void *context, const struct redis_value *reply)
{
    struct taking *taking = context;
    if (reply == NULL)
        return;
    if (redis_value_is_error(reply, "NOPERM")) {
        taking->forbidden = true;
    } else if (reply->type == REDIS_ERROR) {
        char reason[320];
        snprintf(reason, sizeof reason,
                 "Redis refused CLIENT KILL, which fences former owners: %.*s",
                 (int)reply->text.length, (const char *)reply->text.data);
        redis_link_fail(taking->link, reason);
        return;
    }
    if (++taking->answered < taking->kill_count)
        return;
    if (taking->forbidden) {
        grant_unfenced(taking);
        return;
    }
    strike_off(taking, taking->kill_count);
    if (taking->kill_count == KILLS_MAX)
        lease_take(taking->lease, taking->role, taking->link, taking->other);
    else
        grant(taking, true);
}

static void send_kills(struct taking *taking, const struct redis_value *reply)
{
    size_t position = 0;
    for (const struct redis_value *v = reply->element; v != NULL; v = v->next, position++) {
        char id[24];
        if (position < 3 || v->type != REDIS_STRING || taking->kill_count == KILLS_MAX)
            continue;
        snprintf(id, sizeof id, "%.*s", (int)v->text.length, (const char *)v->text.data);
        taking->kills[taking->kill_count++] = strtoll(id, NULL, 10);
        struct bytes arguments[] = {bytes_of("CLIENT"), bytes_of("KILL"), bytes_of("ID"),
                                    bytes_of(id)};
        redis_link_command(taking->link, arguments, 4, on_kill, taking);
    }
    redis_link_flush(taking->link);
}

/* The group's number of slots was changed while this process was away. */
static void fail_over_count(struct taking *taking, struct bytes kept)
{
    struct lease *lease = taking->lease;
    char reason[320];
    snprintf(reason, sizeof reason,
             "%s keeps slots = %.*s and this instance is configured for %u: no lease is given",
             lease->setting.counts_key, (int)kept.length, (const char *)kept.data,
             lease->setting.slots);
    lease->held = false;
    redis_link_fail(taking->link, reason);
}

static void on_take(void *context, const struct redis_value *reply)
{
    struct taking *taking = context;
    struct lease *lease = taking->lease;
    if (reply == NULL || !reply_usable(taking->link, reply, "the lease script"))
        return;
    note_time(lease, reply);
    if (integer_at(reply, 0) == TAKE_REFUSED) {
        refuse(lease, reply);
        return;
    }
    if (integer_at(reply, 0) == TAKE_OTHER_COUNT) {
        fail_over_count(taking, text_at(reply, 2));
        return;
    }
    /* Kept until it is told: a link lost in the middle of the kills takes again and then finds the
     * record to be its own. Nor is the lease good for anything until then: what this process holds
     * in memory may be old. */
    taking->term = integer_at(reply, 2);
    lease->fresh = lease->fresh || taking->term != lease->term || !lease->held;
    if (lease->fresh)
        lease->held = false;
    taking->kill_count = 0;
    taking->answered = 0;
    taking->forbidden = false;
    send_kills(taking, reply);
    if (taking->kill_count == 0)
        grant(taking, true);
}

void lease_take(struct lease *lease, enum lease_role role, struct redis_link *link,
                const struct redis_link *other)
{
    struct taking *taking = &lease->taking[role];
    taking->link = link;
    taking->other = other;
    taking->sent_ms = net_now_ms();
    lease->asked_ms = taking->sent_ms;
    char ttl[16], own_id[24], other_id[24], slots[16];
    snprintf(slots, sizeof slots, "%u", lease->setting.slots);
    snprintf(ttl, sizeof ttl, "%" PRIu32, lease->setting.ttl_ms);
    snprintf(own_id, sizeof own_id, "%" PRId64, redis_link_client_id(link));
    snprintf(other_id, sizeof other_id, "%" PRId64,
             redis_link_is_ready(other) ? redis_link_client_id(other) : (int64_t)0);
    struct bytes arguments[] = {bytes_of("EVAL"),
                                redis_link_script(link, take_script),
                                bytes_of("2"),
                                bytes_of(lease->setting.key),
                                bytes_of(lease->setting.counts_key),
                                bytes_of(lease->setting.holder),
                                bytes_of(ttl),
                                bytes_of(redis_link_run_id(link)),
                                bytes_of(own_id),
                                bytes_of(other_id),
                                bytes_of(role == LEASE_READ ? "read" : "write"),
                                bytes_of(slots)};
    redis_link_command(link, arguments, sizeof arguments / sizeof *arguments, on_take, taking);
    redis_link_flush(link);
}

static void on_renew(void *context, const struct redis_value *reply)
{
    struct taking *taking = context;
    struct lease *lease = taking->lease;
    if (reply == NULL || !reply_usable(taking->link, reply, "the renewal of a lease"))
        return;
    note_time(lease, reply);
    if (integer_at(reply, 0) == 0)
        refuse(lease, reply);
    else
        extend(lease, (uint64_t)number_at(reply, 2));
}

void lease_renew(struct lease *lease, struct redis_link *link)
{
    lease->asked_ms = net_now_ms();
    char ttl[16], sent[24], term[24];
    snprintf(ttl, sizeof ttl, "%" PRIu32, lease->setting.ttl_ms);
    snprintf(sent, sizeof sent, "%" PRIu64, lease->asked_ms);
    snprintf(term, sizeof term, "%" PRId64, lease->term);
    struct bytes arguments[] = {bytes_of("EVAL"),
                                redis_link_script(link, renew_script),
                                bytes_of("1"),
                                bytes_of(lease->setting.key),
                                bytes_of(lease->setting.holder),
                                bytes_of(ttl),
                                bytes_of(sent),
                                bytes_of(term)};
    redis_link_command(link, arguments, 8, on_renew, &lease->taking[LEASE_WRITE]);
    redis_link_flush(link);
}

static void on_release(void *context, const struct redis_value *reply)
{
    (void)reply;
    struct lease *lease = context;
    lease->events->on_released(lease->context);
}

void lease_release(struct lease *lease, struct redis_link *link)
{
    struct bytes arguments[] = {bytes_of("EVAL"), redis_link_script(link, release_script),
                                bytes_of("1"), bytes_of(lease->setting.key),
                                bytes_of(lease->setting.holder)};
    lease->held = false;
    redis_link_command(link, arguments, 5, on_release, lease);
    redis_link_flush(link);
}

bool lease_is_valid(const struct lease *lease, uint64_t now_ms)
{
    return lease->held && now_ms < lease->valid_until_ms;
}

bool lease_renewal_due(const struct lease *lease, uint64_t now_ms)
{
    return now_ms >= lease->asked_ms + lease->setting.ttl_ms / 3;
}

uint64_t lease_confirmed_ms(const struct lease *lease)
{
    return lease->confirmed_ms;
}

void lease_forget(struct lease *lease)
{
    lease->held = false;
}

uint64_t lease_redis_time(const struct lease *lease, uint64_t now_ms)
{
    return now_ms + (uint64_t)lease->redis_offset_ms;
}
