/*
 * What Redis lets the user do. Redis looks at the rights to a command and to its keys before it
 * looks at the arguments, so each command that nemogate needs is sent in a form that cannot do
 * anything: with an argument that is no identifier or number, or for a key or client that does not
 * exist. Whatever the answer, but for a refusal, the right is there. This works for every user,
 * which ACL DRYRUN does not.
 */
#include "core/check_private.h"

#include "codec/stream_entry.h"

#include <stdlib.h>

/* What the word "$" of a probe stands for. */
enum probe_key { KEY_ID, KEY_LEASE, KEY_STREAM, KEY_DEAD, KEY_TRIES, KEY_GATEWAY, KEY_NONE };

#define WORDS_MAX 10
#define NO_CLIENT "9223372036854775807"

struct check_probe {
    const char *command;
    const char *purpose;
    const char *grant; /* NULL: another probe looks at the command, and this one at its key */
    enum probe_key key;
    bool dispensable;
    const char *words[WORDS_MAX];
};

static const struct check_probe own_probes[] = {
    {"CLIENT KILL",
     "closes the links of former owners (without it a slot waits 2 s whenever it begins)",
     "+client|kill",
     KEY_NONE,
     true,
     {"CLIENT", "KILL", "ID", NO_CLIENT}},
    {"CLIENT UNBLOCK",
     "wakes a waiting read",
     "+client|unblock",
     KEY_NONE,
     false,
     {"CLIENT", "UNBLOCK", NO_CLIENT}},
    {"CLIENT SETNAME",
     "names its connections in CLIENT LIST",
     "+client|setname",
     KEY_NONE,
     true,
     {"CLIENT", "SETNAME", "not a name"}},
    {"TIME", "measures leases", "+time", KEY_NONE, false, {"TIME"}},
    {"GET", "reads the installation's id", "+get", KEY_ID, false, {"GET", "$"}},
    {"SET",
     "keeps the installation's id",
     "+set",
     KEY_ID,
     false,
     {"SET", "$", "-", "NX", "not-an-option"}},
    {"EVAL",
     "takes leases and writes dead letters",
     "+eval",
     KEY_LEASE,
     false,
     {"EVAL", "return 1", "1", "$"}},
    {"HGET", "reads leases", "+hget", KEY_LEASE, false, {"HGET", "$", "holder"}},
    {"HMGET", "reads leases", "+hmget", KEY_LEASE, false, {"HMGET", "$", "holder"}},
    {"HKEYS", "reads leases", "+hkeys", KEY_LEASE, false, {"HKEYS", "$"}},
    {"HSET", "writes leases", "+hset", KEY_LEASE, false, {"HSET", "$", "holder", "-", "odd"}},
    {"ZADD",
     "says that this instance lives",
     "+zadd",
     KEY_ID,
     false,
     {"ZADD", "$", "not-a-number", "-"}},
    {"ZRANGEBYSCORE",
     "sees which instances live",
     "+zrangebyscore",
     KEY_ID,
     false,
     {"ZRANGEBYSCORE", "$", "not-a-number", "0"}},
    {"ZREMRANGEBYSCORE",
     "forgets instances that are gone",
     "+zremrangebyscore",
     KEY_ID,
     false,
     {"ZREMRANGEBYSCORE", "$", "not-a-number", "0"}},
    {"ZREM",
     "tells the others that this instance ends",
     "+zrem",
     KEY_ID,
     false,
     {"ZREM", "$", "nemogate-check"}},
    {"HDEL", "releases leases", "+hdel", KEY_LEASE, false, {"HDEL", "$", "holder"}},
};

static const struct check_probe stream_probes[] = {
    {"XGROUP CREATE",
     "makes the consumer group",
     "+xgroup|create",
     KEY_STREAM,
     false,
     {"XGROUP", "CREATE", "$", "$group", "not-an-id"}},
    {"XPENDING",
     "finds what is pending",
     "+xpending",
     KEY_STREAM,
     false,
     {"XPENDING", "$", "$group"}},
    {"XAUTOCLAIM",
     "takes over what is pending",
     "+xautoclaim",
     KEY_STREAM,
     false,
     {"XAUTOCLAIM", "$", "$group", "check", "not-a-number", "0"}},
    {"XREADGROUP",
     "reads entries",
     "+xreadgroup",
     KEY_STREAM,
     false,
     {"XREADGROUP", "GROUP", "$group", "check", "COUNT", "not-a-number", "STREAMS", "$", ">"}},
    {"XACK",
     "acknowledges entries",
     "+xack",
     KEY_STREAM,
     false,
     {"XACK", "$", "$group", "not-an-id"}},
    {"XRANGE",
     "copies an entry to the dead letters",
     "+xrange",
     KEY_STREAM,
     false,
     {"XRANGE", "$", "not-an-id", "+"}},
    {"XADD", "writes dead letters", "+xadd", KEY_DEAD, false, {"XADD", "$", "not-an-id", "f", "v"}},
    {"HINCRBY",
     "counts how often an entry that may be poison was tried",
     "+hincrby",
     KEY_TRIES,
     true,
     {"HINCRBY", "$", "check", "not-a-number"}},
    {"EXPIRE",
     "lets that count end by itself",
     "+expire",
     KEY_TRIES,
     true,
     {"EXPIRE", "$", "not-a-number"}},
    {"XLEN", "counts what waits and dead letters", "+xlen", KEY_DEAD, true, {"XLEN", "$"}},
    {"HSET",
     "tells the site's NEMO page how the gateway is",
     NULL,
     KEY_GATEWAY,
     true,
     {"HSET", "$", "check", "-", "odd"}},
    {"XINFO GROUPS",
     "sees what all groups have acknowledged, and what waits",
     "+xinfo|groups",
     KEY_STREAM,
     true,
     {"XINFO", "GROUPS", "$"}},
    {"XTRIM",
     "removes what all groups have acknowledged",
     "+xtrim",
     KEY_STREAM,
     true,
     {"XTRIM", "$", "MINID", "not-an-id"}},
};

#define OWN_COUNT (sizeof own_probes / sizeof *own_probes)
#define STREAM_COUNT (sizeof stream_probes / sizeof *stream_probes)
#define TRIM_COUNT 1u /* the last of them */

/* ---- answers ------------------------------------------------------------------------------- */

static bool contains(struct bytes text, const char *part)
{
    return memmem(text.data, text.length, part, strlen(part)) != NULL;
}

/* One complaint for each command, however many patterns of streams there are. */
static void say_no_command(struct check_redis *check, const struct check_probe *probe, bool unknown)
{
    unsigned bit = 1u << (probe - check->probes);
    if ((check->commands_refused & bit) != 0)
        return;
    check->commands_refused |= bit;
    enum check_verdict verdict = probe->dispensable ? CHECK_WARNING : CHECK_FAILED;
    if (unknown)
        check_say(check->part, verdict,
                  "Redis %s: the server does not know %s, which %s: it is too old, or the command "
                  "has been renamed",
                  check->where, probe->command, probe->purpose);
    else
        check_say(check->part, verdict,
                  "Redis %s: the user '%s' may not run %s, which %s: give it %s", check->where,
                  check_redis_user(check), probe->command, probe->purpose, probe->grant);
}

/* One complaint for each kind of key, whatever the command. */
static void say_no_key(struct check_redis *check, const struct check_probe *probe)
{
    if ((check->keys_refused & 1u << probe->key) != 0)
        return;
    check->keys_refused |= 1u << probe->key;
    if (probe->key == KEY_ID || probe->key == KEY_LEASE)
        check->keys_refused |= 1u << KEY_ID | 1u << KEY_LEASE;
    char pattern[600];
    if (probe->key == KEY_STREAM)
        snprintf(pattern, sizeof pattern, "%s", check->config->redis.streams[check->next_round]);
    else if (probe->key == KEY_DEAD)
        snprintf(pattern, sizeof pattern, "nemo:*:dead");
    else if (probe->key == KEY_TRIES)
        snprintf(pattern, sizeof pattern, "nemo:*:tries");
    else if (probe->key == KEY_GATEWAY)
        snprintf(pattern, sizeof pattern, "nemo:*:gateway*");
    else
        snprintf(pattern, sizeof pattern, "nemogate:{%s}:*", check->config->redis.group);
    check_say(check->part, probe->key == KEY_GATEWAY ? CHECK_WARNING : CHECK_FAILED,
              "Redis %s: the user '%s' may not touch the key %s with %s, which %s: give it ~%s",
              check->where, check_redis_user(check), check->keys[probe->key], probe->command,
              probe->purpose, pattern);
}

static bool refuses_writes(const struct redis_value *reply)
{
    static const char *const codes[] = {"READONLY",   "MISCONF",    "OOM",
                                        "MASTERDOWN", "NOREPLICAS", "LOADING"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (redis_value_is_error(reply, codes[i]))
            return true;
    return false;
}

/* Redis before 6.2 does not have it; a script does its work there. */
static bool is_replaced(const struct check_redis *check, const struct check_probe *probe)
{
    return strcmp(probe->command, "XAUTOCLAIM") == 0 && redis_link_is_before(check->link, 6, 2);
}

static void judge(struct check_redis *check, const struct check_probe *probe,
                  const struct redis_value *reply)
{
    if (reply->type != REDIS_ERROR || is_replaced(check, probe))
        return;
    bool refused = redis_value_is_error(reply, "NOPERM");
    bool unknown =
        contains(reply->text, "nknown command") || contains(reply->text, "nknown subcommand");
    if (refused && probe->key != KEY_NONE && !contains(reply->text, " run the ")) {
        say_no_key(check, probe);
    } else if (refused || unknown) {
        if (probe->grant != NULL)
            say_no_command(check, probe, unknown);
    } else if (refuses_writes(reply)) {
        if (!check->write_refused)
            check_say(check->part, CHECK_FAILED, "Redis %s refuses to be written to: %.*s",
                      check->where, (int)reply->text.length, (const char *)reply->text.data);
        check->write_refused = true;
    } else {
        return;
    }
    if (!probe->dispensable)
        check->refusals++;
}

/* ---- rounds -------------------------------------------------------------------------------- */

static void next_round(struct check_redis *check);

static void on_answer(void *context, const struct redis_value *reply)
{
    struct check_redis *check = context;
    if (reply == NULL)
        return;
    judge(check, &check->probes[check->probe_answers++], reply);
    if (check->probe_answers < check->probe_count)
        return;
    if (check->probes == stream_probes)
        check->next_round++;
    else
        check->commands_refused = 0;
    next_round(check);
}

static void send_probe(struct check_redis *check, const struct check_probe *probe)
{
    struct bytes arguments[WORDS_MAX];
    size_t count = 0;
    for (; count < WORDS_MAX && probe->words[count] != NULL; count++) {
        const char *word = probe->words[count];
        if (strcmp(word, "$") == 0)
            word = check->keys[probe->key];
        else if (strcmp(word, "$group") == 0)
            word = check->config->redis.group;
        arguments[count] = bytes_of(word);
    }
    redis_link_command(check->link, arguments, count, on_answer, check);
}

static void send_round(struct check_redis *check, const struct check_probe *probes, size_t count)
{
    check->probes = probes;
    check->probe_count = count;
    check->probe_answers = 0;
    for (size_t i = 0; i < count; i++)
        send_probe(check, &probes[i]);
    redis_link_flush(check->link);
}

/* A name that the pattern matches; NULL: none was found. Owned by the caller. */
static char *make_name(const char *pattern)
{
    const char *wild = strchr(pattern, '{') != NULL ? "nemogate-check" : "{nemogate-check}";
    char *name = malloc(strlen(pattern) + strlen(wild) + 1);
    if (name == NULL)
        return NULL;
    char *at = name;
    for (const char *c = pattern; *c != '\0'; c++) {
        if (*c == '*') {
            at = stpcpy(at, wild);
            wild = "";
        } else {
            *at++ = *c == '?' ? 'x' : *c;
        }
    }
    *at = '\0';
    if (config_pattern_matches(pattern, name))
        return name;
    free(name);
    return NULL;
}

static char *name_for(const struct check_redis *check, const char *pattern)
{
    for (size_t i = 0; i < check->stream_count; i++)
        if (config_pattern_matches(pattern, check->streams[i].name))
            return strdup(check->streams[i].name);
    return make_name(pattern);
}

/* Owned by the caller; NULL: memory is short. */
static char *name_of_site(struct bytes site, const char *what)
{
    char *name;
    if (asprintf(&name, "nemo:{%.*s}:%s", (int)site.length, (const char *)site.data, what) < 0)
        return NULL;
    return name;
}

static bool set_stream_keys(struct check_redis *check)
{
    const char *pattern = check->config->redis.streams[check->next_round];
    for (int key = KEY_STREAM; key < KEY_NONE; key++) {
        free(check->keys[key]);
        check->keys[key] = NULL;
    }
    check->keys[KEY_STREAM] = name_for(check, pattern);
    if (check->keys[KEY_STREAM] == NULL)
        return false;
    struct bytes site = stream_site(bytes_of(check->keys[KEY_STREAM]));
    const struct config_route *route = config_route_of(check->config, check->keys[KEY_STREAM]);
    if (site.length == 0 && route != NULL)
        site = bytes_of(route->site);
    check->keys[KEY_DEAD] = name_of_site(site, "dead");
    check->keys[KEY_TRIES] = name_of_site(site, "tries");
    check->keys[KEY_GATEWAY] =
        name_of_site(site, config_has_site_settings(check->config) ? "gateway:applied" : "gateway");
    check->keys_refused &= ~(1u << KEY_STREAM);
    return check->keys[KEY_DEAD] != NULL && check->keys[KEY_TRIES] != NULL &&
           check->keys[KEY_GATEWAY] != NULL;
}

static void end_rights(struct check_redis *check)
{
    if (check->refusals == 0)
        check_say(check->part, CHECK_OK, "Redis %s: the user '%s' may do all that nemogate does",
                  check->where, check_redis_user(check));
    check_streams_count(check);
}

static void next_round(struct check_redis *check)
{
    bool trims = check->config->delivery.trim != CONFIG_TRIM_NONE;
    for (; check->next_round < check->config->redis.stream_count; check->next_round++)
        if (set_stream_keys(check)) {
            send_round(check, stream_probes, trims ? STREAM_COUNT : STREAM_COUNT - TRIM_COUNT);
            return;
        }
    end_rights(check);
}

void check_rights(struct check_redis *check)
{
    const char *group = check->config->redis.group;
    check->doing = "looking at the user's rights";
    if (asprintf(&check->keys[KEY_ID], "nemogate:{%s}:id", group) < 0)
        check->keys[KEY_ID] = NULL;
    if (asprintf(&check->keys[KEY_LEASE], "nemogate:{%s}:lease:check", group) < 0)
        check->keys[KEY_LEASE] = NULL;
    if (check->keys[KEY_ID] == NULL || check->keys[KEY_LEASE] == NULL) {
        check_say(check->part, CHECK_FAILED, "memory is short");
        check_redis_end(check);
    } else {
        send_round(check, own_probes, OWN_COUNT);
    }
}
