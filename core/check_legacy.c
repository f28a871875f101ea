/*
 * A list of legacy_lists in `check --connect`: is there a list, how much will be sent, may the user
 * do what moving needs, and does another program take from it. Commands that would change something
 * are sent with an argument that is no number or identifier, as in check_rights.c.
 */
#include "core/check_private.h"

#include "core/legacy_private.h"
#include "core/peers.h"

#include <stdlib.h>

#define BAD "not-a-number"

/* Whose key a probe touches; the words "$" of a probe stand for it. */
enum probe_of { OF_LIST, OF_STREAM, OF_MONITOR, OF_ALL };

static const struct probe {
    enum probe_of of;
    const char *command;
    const char *key; /* OF_MONITOR */
    const char *words[6];
} probes[] = {
    {OF_LIST, "EVAL", NULL, {"EVAL", "return 1", "1", "$"}},
    {OF_LIST, "LRANGE", NULL, {"LRANGE", "$", BAD, "0"}},
    {OF_LIST, "LTRIM", NULL, {"LTRIM", "$", BAD, "0"}},
    {OF_STREAM, "XADD", NULL, {"XADD", "$", "not-an-id", "f", "v"}},
    {OF_ALL, "SELECT", NULL, {"SELECT", BAD}},
    {OF_MONITOR, "SETEX", "nemo_mqtt_bridge_status", {"SETEX", "$", BAD, "x"}},
    {OF_MONITOR, "SETEX", "NEMO_mqtt_bridge_status", {"SETEX", "$", BAD, "x"}},
    {OF_MONITOR, "LPOP", "nemo_mqtt_bridge_control", {"LPOP", "$", BAD}},
    {OF_MONITOR, "LPOP", "NEMO_mqtt_bridge_control", {"LPOP", "$", BAD}},
};

#define PROBE_COUNT (sizeof probes / sizeof *probes)

static const char *key_of(const struct check_legacy *check, const struct probe *probe)
{
    switch (probe->of) {
    case OF_LIST:
        return check->list->list;
    case OF_STREAM:
        return check->list->stream;
    case OF_MONITOR:
        return probe->key;
    case OF_ALL:
        break;
    }
    return "";
}

static void end(struct check_legacy *check)
{
    if (check->link != NULL)
        redis_link_stop(check->link);
    check_finish(check->part);
}

static void answered(struct check_legacy *check)
{
    if (--check->asked == 0)
        end(check);
}

static void on_probed(void *context, const struct redis_value *reply)
{
    struct check_legacy *check = context;
    const struct probe *probe = &probes[check->probed++];
    while (probe->of == OF_MONITOR && !check->list->monitor)
        probe = &probes[check->probed++];
    if (reply == NULL)
        return;
    if (redis_value_is_error(reply, "NOPERM"))
        check_say(check->part, probe->of == OF_MONITOR ? CHECK_WARNING : CHECK_FAILED,
                  "%s: the user may not run %s %s%s: give it +%s%s%s", check->where, probe->command,
                  key_of(check, probe),
                  probe->of == OF_MONITOR ? ", for the plugin's monitor page" : "", probe->words[0],
                  probe->of == OF_ALL ? "" : " ~", key_of(check, probe));
    answered(check);
}

static void on_type(void *context, const struct redis_value *reply)
{
    struct check_legacy *check = context;
    if (reply == NULL)
        return;
    bool is_known = reply->type == REDIS_STATUS && !bytes_equal(reply->text, bytes_of("none")) &&
                    !bytes_equal(reply->text, bytes_of("list"));
    if (is_known)
        check_say(check->part, CHECK_FAILED, "%s: the key is no list but a %.*s", check->where,
                  (int)reply->text.length, (const char *)reply->text.data);
    answered(check);
}

static void on_length(void *context, const struct redis_value *reply)
{
    struct check_legacy *check = context;
    char count[CHECK_NUMBER_TEXT];
    if (reply == NULL)
        return;
    if (reply->type == REDIS_INTEGER)
        check_say(check->part, CHECK_OK, "%s: a start will move %s %s into %s", check->where,
                  check_number((uint64_t)reply->integer, count),
                  reply->integer == 1 ? "event" : "events", check->list->stream);
    answered(check);
}

static void on_clients(void *context, const struct redis_value *reply)
{
    struct check_legacy *check = context;
    struct bytes rival = {NULL, 0};
    if (reply == NULL)
        return;
    if (reply->type == REDIS_STRING)
        rival = legacy_find_rival(check->list->database, reply->text);
    else
        check_say(check->part, CHECK_WARNING,
                  "%s: the user may not run CLIENT LIST, so that a Python bridge that still runs "
                  "is not seen: give it +client|list",
                  check->where);
    if (rival.length > 0)
        check_say(check->part, CHECK_FAILED,
                  "%s: another program, %.*s, takes events out of this database's lists: stop the "
                  "Python bridge, and make a directory of its lock file "
                  "(mkdir /tmp/nemo_mqtt_bridge.lock)",
                  check->where, (int)rival.length, (const char *)rival.data);
    answered(check);
}

static void ask(struct check_legacy *check, const char *const *words, const char *key,
                redis_reply_fn *on_reply)
{
    struct bytes arguments[6];
    size_t count = 0;
    for (; count < 6 && words[count] != NULL; count++)
        arguments[count] = bytes_of(strcmp(words[count], "$") == 0 ? key : words[count]);
    check->asked++;
    redis_link_command(check->link, arguments, count, on_reply, check);
}

static void on_ready(void *context)
{
    static const char *const type[6] = {"TYPE", "$"}, *const length[6] = {"LLEN", "$"},
                             *const clients[6] = {"CLIENT", "LIST"};
    struct check_legacy *check = context;
    check->probed = 0;
    ask(check, type, check->list->list, on_type);
    ask(check, length, check->list->list, on_length);
    ask(check, clients, "", on_clients);
    for (size_t i = 0; i < PROBE_COUNT; i++)
        if (probes[i].of != OF_MONITOR || check->list->monitor)
            ask(check, probes[i].words, key_of(check, &probes[i]), on_probed);
    redis_link_flush(check->link);
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)retry_ms;
    struct check_legacy *check = context;
    check_say(check->part, CHECK_FAILED, "%s: %s", check->where, reason);
    end(check);
}

void check_legacy_give_up(struct check_legacy *check)
{
    on_down(check, "the time for this check was over", 0);
}

void check_legacy_open(struct check_legacy *check, const struct config *config, size_t index,
                       const struct net *net, struct check_part *part)
{
    static const struct redis_link_events events = {on_ready, on_down};
    char error[IO_ERROR_TEXT] = "memory is short";
    check->part = part;
    check->list = &config->legacy_lists[index];
    snprintf(check->where, sizeof check->where, "list %s in db %u", check->list->list,
             check->list->database);
    if (peer_open_tls(&config->redis.url, &config->redis.tls, &check->tls, error)) {
        check->link_config = peer_redis_link(&config->redis, check->tls, "nemogate:check-legacy");
        check->link_config.database = check->list->database;
        check->link = redis_link_new(net, &check->link_config, &events, NULL, check, net_now_us());
    }
    if (check->link == NULL)
        on_down(check, error, 0);
    else
        redis_link_start(check->link);
}

void check_legacy_close(struct check_legacy *check)
{
    redis_link_free(check->link);
    tls_context_free(check->tls);
}
