/*
 * Starting: control link, the installation's tag, a first look for streams, shards. Ending: drain,
 * hurry after the drain timeout, stop. A second signal stops at once.
 */
#include "core/engine.h"

#include "core/discovery.h"
#include "core/peers.h"
#include "core/shard.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* How long slots may take to give their leases back once they are hurried. */
#define HURRY_MS 1000u

struct engine {
    const struct config *config;
    const struct log *log;
    struct net net;
    struct mailbox *mailbox;
    struct event *signals[2];
    struct event *deadline;
    struct redis_link_config link_config;
    struct tls_context *redis_tls;
    struct redis_link *link;
    struct discovery *discovery;
    struct log_limit link_trouble;
    char tag[32];
    char *tag_key;
    char *holder;
    char *link_name;
    struct shard **shards;
    unsigned shard_count; /* that run */
    unsigned slots_running;
    unsigned slots_stopped;
    uint64_t pending;
    bool draining;
    bool hurried;
    int exit_code;
};

static void finish(struct engine *engine, int exit_code)
{
    engine->exit_code = exit_code;
    event_base_loopbreak(engine->net.base);
}

/* ---- ending ------------------------------------------------------------------------------- */

static void post_to_all(struct engine *engine, enum mail_kind kind)
{
    for (unsigned i = 0; i < engine->shard_count; i++)
        shard_post(engine->shards[i], kind, 0, 0, NULL);
}

static void arm_deadline(struct engine *engine, uint32_t ms)
{
    struct timeval delay = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};
    event_add(engine->deadline, &delay);
}

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct engine *engine = context;
    if (engine->hurried) {
        finish(engine, 0);
        return;
    }
    engine->hurried = true;
    log_event(engine->log, LOG_WARNING,
              "the drain timeout has passed; what is not acknowledged stays pending in Redis",
              LOG_INT("drain_timeout_ms", engine->config->delivery.drain_timeout_ms));
    post_to_all(engine, MAIL_HURRY);
    arm_deadline(engine, HURRY_MS);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    (void)what;
    struct engine *engine = context;
    const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";
    if (engine->draining || engine->shard_count == 0) {
        log_event(engine->log, LOG_WARNING, "stopping at once", LOG_TEXT("signal", name));
        finish(engine, 0);
        return;
    }
    engine->draining = true;
    log_event(engine->log, LOG_INFO, "draining", LOG_TEXT("signal", name),
              LOG_INT("drain_timeout_ms", engine->config->delivery.drain_timeout_ms));
    post_to_all(engine, MAIL_DRAIN);
    arm_deadline(engine, engine->config->delivery.drain_timeout_ms);
}

/* ---- running ------------------------------------------------------------------------------ */

static void deliver(void *context, const struct mail *mail)
{
    struct engine *engine = context;
    if (mail->kind == MAIL_SLOT_RUNNING) {
        if (++engine->slots_running == engine->config->slots)
            log_event(engine->log, LOG_INFO, "ready", LOG_INT("slots", engine->slots_running));
    } else if (mail->kind == MAIL_SLOT_STOPPED) {
        engine->pending += mail->count;
        if (++engine->slots_stopped == engine->config->slots)
            finish(engine, 0);
    }
}

static void on_found(void *context, const char *name)
{
    struct engine *engine = context;
    unsigned slot = slot_of_stream(name, engine->config->slots);
    bool late = engine->shard_count > 0;
    shard_post(engine->shards[slot % engine->config->shards], MAIL_STREAM_FOUND, slot, late, name);
}

/* The shards start when the streams of the first look wait in their mailboxes. */
static void on_first_pass(void *context)
{
    struct engine *engine = context;
    for (unsigned i = 0; i < engine->config->shards; i++) {
        if (!shard_start(engine->shards[i])) {
            log_event(engine->log, LOG_ERROR, "the system refuses a thread", LOG_INT("shard", i));
            finish(engine, 1);
            return;
        }
        engine->shard_count++;
    }
}

static const struct discovery_events discovery_events = {on_found, on_first_pass};

static void make_tag(struct engine *engine);
static void ask_for_tag(struct engine *engine);

static bool make_shards(struct engine *engine)
{
    engine->shards = calloc(engine->config->shards, sizeof(struct shard *));
    for (unsigned i = 0; engine->shards != NULL && i < engine->config->shards; i++) {
        char error[IO_ERROR_TEXT];
        struct shard_setting setting = {engine->config, engine->log,    i,
                                        engine->tag,    engine->holder, engine->mailbox};
        engine->shards[i] = shard_new(&setting, error);
        if (engine->shards[i] == NULL) {
            log_event(engine->log, LOG_ERROR, "cannot start", LOG_TEXT("reason", error));
            return false;
        }
    }
    return engine->shards != NULL;
}

static void fail_over_tag(struct engine *engine, const struct redis_value *reply)
{
    char reason[256];
    struct bytes text =
        reply->type == REDIS_ERROR ? reply->text : bytes_of("not what was expected");
    snprintf(reason, sizeof reason, "Redis cannot keep the installation's id: %.*s",
             (int)text.length, (const char *)text.data);
    redis_link_fail(engine->link, reason);
}

static void start_with_tag(struct engine *engine, struct bytes tag)
{
    redis_link_proven(engine->link);
    engine->link_trouble = (struct log_limit){0};
    if (engine->tag[0] == '\0') {
        memcpy(engine->tag, tag.data, tag.length);
        if (!make_shards(engine)) {
            finish(engine, 1);
            return;
        }
    }
    discovery_go_on(engine->discovery);
}

static void on_tag(void *context, const struct redis_value *reply)
{
    struct engine *engine = context;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_NIL)
        make_tag(engine);
    else if (reply->type == REDIS_STRING && reply->text.length > 0 &&
             reply->text.length < sizeof engine->tag)
        start_with_tag(engine, reply->text);
    else
        fail_over_tag(engine, reply);
}

static void on_tag_set(void *context, const struct redis_value *reply)
{
    struct engine *engine = context;
    if (reply != NULL && reply->type == REDIS_ERROR)
        fail_over_tag(engine, reply);
    else if (reply != NULL)
        ask_for_tag(engine);
}

/* NX: of several instances that start for the first time together one decides. */
static void make_tag(struct engine *engine)
{
    uint32_t random;
    char fresh[16];
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = (uint32_t)net_now_us();
    snprintf(fresh, sizeof fresh, "%08" PRIx32, random);
    struct bytes set[] = {bytes_of("SET"), bytes_of(engine->tag_key), bytes_of(fresh),
                          bytes_of("NX")};
    redis_link_command(engine->link, set, 4, on_tag_set, engine);
    redis_link_flush(engine->link);
}

static void ask_for_tag(struct engine *engine)
{
    struct bytes get[] = {bytes_of("GET"), bytes_of(engine->tag_key)};
    redis_link_command(engine->link, get, 2, on_tag, engine);
    redis_link_flush(engine->link);
}

static void on_ready(void *context)
{
    struct engine *engine = context;
    if (redis_link_is_cluster(engine->link)) {
        log_event(engine->log, LOG_ERROR,
                  "Redis runs in cluster mode, which is not supported: use a standalone server or "
                  "Sentinel",
                  LOG_TEXT("redis", engine->config->redis.url.host));
        finish(engine, 1);
        return;
    }
    ask_for_tag(engine);
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct engine *engine = context;
    uint64_t held_back;
    if (log_limit_pass(&engine->link_trouble, net_now_ms(), 30000, &held_back))
        log_event(engine->log, LOG_ERROR, "no connection to Redis", LOG_TEXT("link", "control"),
                  LOG_TEXT("reason", reason), LOG_INT("retry_ms", retry_ms),
                  LOG_INT("repeated", held_back));
}

static const struct redis_link_events link_events = {on_ready, on_down};

/* ---- making and ending -------------------------------------------------------------------- */

static bool open_link(struct engine *engine)
{
    const struct config_redis *redis = &engine->config->redis;
    char error[IO_ERROR_TEXT];
    if (!peer_open_tls(&redis->url, &redis->tls, &engine->redis_tls, error)) {
        log_event(engine->log, LOG_ERROR, "cannot start", LOG_TEXT("reason", error));
        return false;
    }
    engine->link_config = peer_redis_link(redis, engine->redis_tls, engine->link_name);
    engine->link = redis_link_new(&engine->net, &engine->link_config, &link_events, NULL, engine,
                                  net_now_us());
    return engine->link != NULL;
}

static bool name_things(struct engine *engine)
{
    uint64_t nonce;
    if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce)
        nonce = net_now_us();
    return asprintf(&engine->tag_key, "nemogate:{%s}:id", engine->config->redis.group) > 0 &&
           asprintf(&engine->holder, "%s/%016" PRIx64, engine->config->instance, nonce) > 0 &&
           asprintf(&engine->link_name, "nemogate:%s:control", engine->config->instance) > 0;
}

static bool open_engine(struct engine *engine)
{
    if (!name_things(engine) || !net_open(&engine->net) || !open_link(engine))
        return false;
    engine->mailbox = mailbox_new(engine->net.base, deliver, engine);
    engine->discovery = discovery_new(engine->config, engine->log, &engine->net, engine->link,
                                      &discovery_events, engine);
    engine->deadline = event_new(engine->net.base, -1, 0, on_deadline, engine);
    static const int numbers[2] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        engine->signals[i] = evsignal_new(engine->net.base, numbers[i], on_signal, engine);
        if (engine->signals[i] == NULL || event_add(engine->signals[i], NULL) != 0)
            return false;
    }
    return engine->mailbox != NULL && engine->discovery != NULL && engine->deadline != NULL;
}

static void join_shards(struct engine *engine, struct slot_counts *counts)
{
    for (unsigned i = 0; engine->shards != NULL && i < engine->config->shards; i++) {
        if (engine->shards[i] == NULL)
            continue;
        shard_post(engine->shards[i], MAIL_STOP, 0, 0, NULL);
        shard_join(engine->shards[i], counts);
    }
    free(engine->shards);
}

static void close_engine(struct engine *engine)
{
    for (int i = 0; i < 2; i++)
        if (engine->signals[i] != NULL)
            event_free(engine->signals[i]);
    if (engine->deadline != NULL)
        event_free(engine->deadline);
    discovery_free(engine->discovery);
    redis_link_free(engine->link);
    mailbox_free(engine->mailbox);
    net_close(&engine->net);
    tls_context_free(engine->redis_tls);
    tls_thread_end();
    free(engine->tag_key);
    free(engine->holder);
    free(engine->link_name);
}

int engine_run(const struct config *config, const struct log *log)
{
    struct engine engine = {.config = config, .log = log, .exit_code = 1};
    struct slot_counts counts = {0};
    signal(SIGPIPE, SIG_IGN);
    if (open_engine(&engine)) {
        log_event(log, LOG_INFO, "starting", LOG_TEXT("version", NEMOGATE_VERSION),
                  LOG_TEXT("instance", config->instance), LOG_INT("shards", config->shards),
                  LOG_INT("slots", config->slots));
        redis_link_start(engine.link);
        event_base_dispatch(engine.net.base);
        join_shards(&engine, &counts);
        log_event(log, LOG_INFO, "stopped", LOG_INT("read", counts.read),
                  LOG_INT("published", counts.published), LOG_INT("settled", counts.settled),
                  LOG_INT("acked", counts.acked), LOG_INT("dead_letters", counts.dead_letters),
                  LOG_INT("stays_pending", engine.pending));
    }
    close_engine(&engine);
    return engine.exit_code;
}
