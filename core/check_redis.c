/*
 * Redis' part of `check --connect`: the link, and what kind of server is behind it. What is in it
 * and what the user may do there are the business of check_streams.c and check_rights.c.
 */
#include "core/check_private.h"

#include "core/peers.h"

#include <stdlib.h>
#include <unistd.h>

#define OLDEST_MAJOR 7

const char *check_redis_user(const struct check_redis *check)
{
    const char *username = check->config->redis.username;
    return username[0] != '\0' ? username : "default";
}

static void fail(struct check_redis *check, const char *reason)
{
    check_say(check->part, CHECK_FAILED, "Redis %s: %s", check->where, reason);
    check_redis_end(check);
}

void check_redis_end(struct check_redis *check)
{
    if (check->link != NULL)
        redis_link_stop(check->link);
    check_finish(check->part);
}

void check_redis_give_up(struct check_redis *check)
{
    char reason[128];
    snprintf(reason, sizeof reason, "the time for this check was over while %s", check->doing);
    fail(check, reason);
}

/* ---- the server ---------------------------------------------------------------------------- */

/* The value of "name:value" in INFO's lines, cut to size; "" where there is none. */
static void info_value(struct bytes info, const char *name, char *value, size_t size)
{
    char wanted[64];
    size_t length = (size_t)snprintf(wanted, sizeof wanted, "\n%s:", name);
    const uint8_t *found = memmem(info.data, info.length, wanted, length);
    size_t count = 0;
    if (found != NULL)
        for (const uint8_t *c = found + length;
             c < info.data + info.length && *c != '\r' && count < size - 1; c++)
            value[count++] = (char)*c;
    value[count] = '\0';
}

static void judge_server(struct check_redis *check, struct bytes info)
{
    char version[32], mode[32], reason[160];
    info_value(info, "redis_version", version, sizeof version);
    info_value(info, "redis_mode", mode, sizeof mode);
    if (mode[0] != '\0' && strcmp(mode, "standalone") != 0) {
        snprintf(reason, sizeof reason,
                 "it runs in %s mode, which is not supported: use a standalone server%s", mode,
                 strcmp(mode, "cluster") == 0 ? " or one with Sentinel" : "");
        fail(check, reason);
        return;
    }
    check_say(check->part, CHECK_OK, "Redis %s: connected (standalone, Redis %s)", check->where,
              version);
    if (strtol(version, NULL, 10) < OLDEST_MAJOR)
        check_say(check->part, CHECK_WARNING,
                  "Redis %s: version %s is older than 7.0, which nemogate is made and tested for",
                  check->where, version);
    check_streams_find(check);
}

static void on_info(void *context, const struct redis_value *reply)
{
    struct check_redis *check = context;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_STRING) {
        judge_server(check, reply->text);
        return;
    }
    check_say(check->part, CHECK_OK, "Redis %s: connected", check->where);
    check_say(
        check->part, CHECK_WARNING,
        "Redis %s: the user '%s' may not run INFO, so that nemogate sees neither cluster mode "
        "nor a restart of Redis: give it +info",
        check->where, check_redis_user(check));
    check_streams_find(check);
}

static void on_ready(void *context)
{
    struct check_redis *check = context;
    struct bytes arguments[] = {bytes_of("INFO"), bytes_of("server")};
    redis_link_command(check->link, arguments, 2, on_info, check);
    redis_link_flush(check->link);
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)retry_ms;
    fail(context, reason);
}

/* ---- coming and going ---------------------------------------------------------------------- */

static bool open_tls(struct check_redis *check)
{
    const struct config_redis *redis = &check->config->redis;
    char error[IO_ERROR_TEXT];
    bool opened = peer_open_tls(&redis->url, &redis->tls, &check->tls, error);
    if (!opened)
        fail(check, error);
    return opened;
}

void check_redis_open(struct check_redis *check, const struct net *net, struct check_part *part)
{
    static const struct redis_link_events events = {on_ready, on_down};
    const struct config_redis *redis = &check->config->redis;
    check->part = part;
    check->doing = "connecting";
    struct endpoint endpoint = peer_redis_endpoint(redis, NULL);
    endpoint_format(&endpoint, check->where);
    if (!open_tls(check))
        return;
    if (asprintf(&check->link_name, "nemogate:%s:check", check->config->instance) < 0)
        check->link_name = NULL;
    check->link_config = peer_redis_link(redis, check->tls, check->link_name);
    if (check->link_name != NULL)
        check->link = redis_link_new(net, &check->link_config, &events, NULL, check, net_now_us());
    if (check->link == NULL)
        fail(check, "memory is short");
    else
        redis_link_start(check->link);
}

void check_redis_close(struct check_redis *check)
{
    redis_link_free(check->link);
    tls_context_free(check->tls);
    free(check->link_name);
    for (size_t i = 0; i < check->stream_count; i++)
        free(check->streams[i].name);
    free(check->streams);
    for (size_t i = 0; i < sizeof check->keys / sizeof *check->keys; i++)
        free(check->keys[i]);
}
