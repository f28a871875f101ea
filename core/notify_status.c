/*
 * The sentence that `systemctl status` shows. Made from what the main thread knows anyway; the
 * admin server, which may be off, knows more.
 */
#include "core/notify_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAMES_SHOWN 3u

struct sentence {
    char *text;
    size_t length;
};

static void say(struct sentence *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct sentence *s, const char *format, ...)
{
    size_t room = NOTIFY_STATUS_TEXT - s->length;
    va_list arguments;
    va_start(arguments, format);
    int added = vsnprintf(s->text + s->length, room, format, arguments);
    va_end(arguments);
    s->length += added < 0 ? 0 : (size_t)added < room ? (size_t)added : room - 1;
}

/* ---- brokers ------------------------------------------------------------------------------- */

/* Those that the slots of this instance have streams for. A slot runs when it has reached them. */
static bool is_used(const struct notify *notify, size_t broker, bool *reached)
{
    const struct notify_way *ways = notify->ways + broker * notify->config->slots;
    bool used = false;
    *reached = true;
    for (unsigned i = 0; i < notify->config->slots; i++) {
        if (!notify->slots[i].preferred || !ways[i].used)
            continue;
        used = true;
        *reached = *reached && ways[i].reached;
    }
    return used;
}

static unsigned count_brokers(const struct notify *notify, bool reached)
{
    unsigned count = 0;
    bool is_reached;
    for (size_t i = 0; i < notify->config->broker_count; i++)
        count += is_used(notify, i, &is_reached) && is_reached == reached;
    return count;
}

/* "broker main", "brokers a, b, c and 4 more" */
static void name_brokers(struct sentence *s, const struct notify *notify, bool reached)
{
    unsigned all = count_brokers(notify, reached), named = 0;
    bool is_reached;
    say(s, "%s ", all == 1 ? "broker" : "brokers");
    for (size_t i = 0; i < notify->config->broker_count && named < NAMES_SHOWN; i++)
        if (is_used(notify, i, &is_reached) && is_reached == reached)
            say(s, "%s%s", named++ > 0 ? ", " : "", notify->config->brokers[i].name);
    if (all > named)
        say(s, " and %u more", all - named);
}

static void say_brokers(struct sentence *s, const struct notify *notify)
{
    if (count_brokers(notify, false) > 0) {
        say(s, "; no connection to ");
        name_brokers(s, notify, false);
    }
    if (count_brokers(notify, true) > 0) {
        say(s, "; ");
        name_brokers(s, notify, true);
        say(s, " connected");
    }
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void say_count(struct sentence *s, unsigned count, const char *what)
{
    say(s, "%u %s%s", count, what, count == 1 ? "" : "s");
}

static void say_slots(struct sentence *s, const struct notify *notify)
{
    unsigned own = 0, running = 0, streams = 0;
    for (unsigned i = 0; i < notify->config->slots; i++) {
        const struct notify_slot *slot = &notify->slots[i];
        own += slot->preferred;
        running += slot->preferred && slot->running;
        streams += slot->preferred ? slot->streams : 0;
    }
    if (running < own)
        say(s, "%u of ", running);
    say_count(s, own, "slot");
    say(s, running < own ? " run, " : ", ");
    say_count(s, streams, "stream");
    say_brokers(s, notify);
}

/* The reason may say where, too. */
static void say_redis(struct sentence *s, const struct notify *notify, const char *what)
{
    const struct config_url *url = &notify->config->redis.url;
    const char *reason = notify->redis_reason;
    char where[NOTIFY_REASON_TEXT];
    if (url->host[0] == '\0')
        snprintf(where, sizeof where, "%s", url->path);
    else
        snprintf(where, sizeof where, strchr(url->host, ':') != NULL ? "[%s]:%u" : "%s:%u",
                 url->host, url->port);
    const char *repeated = strstr(reason, where);
    if (repeated != NULL && strncmp(repeated + strlen(where), ": ", 2) == 0)
        reason = repeated + strlen(where) + 2;
    say(s, "%s Redis %s%s%s", what, where, reason[0] != '\0' ? ": " : "", reason);
}

static void say_running(struct sentence *s, const struct notify *notify)
{
    for (unsigned i = 0; notify->stuck && i < notify->shards; i++)
        if (notify->waits[i])
            say(s, "shard %u does not turn; ", i);
    if (notify->redis_up && notify->shards == 0) {
        say_redis(s, notify, "looking for streams at");
    } else if (notify->shards == 0) {
        say_redis(s, notify, "waiting for");
    } else if (!notify->redis_up) {
        say_redis(s, notify, "no connection to");
        say_brokers(s, notify);
    } else {
        say_slots(s, notify);
    }
}

void notify_write_status(const struct notify *notify, char *text)
{
    struct sentence s = {.text = text};
    text[0] = '\0';
    switch (notify->phase) {
    case NOTIFY_RUNS:
        say_running(&s, notify);
        break;
    case NOTIFY_RELOADS:
        say(&s, "taking up another configuration");
        break;
    case NOTIFY_STOPS:
        say(&s, "stopping: what is in flight is waited for, at most %u s",
            (notify->config->delivery.drain_timeout_ms + 999) / 1000);
        break;
    }
    for (char *at = text; *at != '\0'; at++) /* a line end would begin another variable */
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
}
