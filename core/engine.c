/*
 * Starting: control link, what the installation has agreed on, a first look for streams, shards.
 * Then it tells the slots which of them this instance is to have. Ending: the other instances are
 * told, drain, hurry after the drain timeout, stop. A second signal stops at once.
 */
#include "core/engine.h"

#include "core/admin.h"
#include "core/discovery.h"
#include "core/holder.h"
#include "core/installation.h"
#include "core/instances.h"
#include "core/legacy.h"
#include "core/notify.h"
#include "core/peers.h"
#include "core/reload.h"
#include "core/shard.h"
#include "core/signals.h"
#include "core/site_keeper.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long slots may take to give their leases back once they are hurried. */
#define HURRY_MS 1000u
/* How long a restart for a site's settings waits for what is in flight. */
#define SITE_DRAIN_MS 3000u

/* What the main thread knows of a slot. */
struct slot_view {
    bool preferred; /* it has been told that this instance is to have it */
    bool running;
};

struct engine {
    const struct config *config;
    const struct log *log;
    struct net net;
    struct mailbox *mailbox;
    struct signals *signals;
    struct event *deadline;
    struct redis_link_config link_config;
    struct tls_context *redis_tls;
    struct redis_link *link;
    struct installation *installation;
    struct instances *instances;
    struct discovery *discovery;
    struct legacy *legacy;
    struct reload *reload;
    struct site_keeper *sites;
    uint32_t drain_ms; /* how long a drain may take */
    struct admin *admin;
    struct notify *notify;
    struct log_limit link_trouble;
    char tag[INSTALLATION_TAG_TEXT];
    char *holder;
    char *link_name;
    struct shard **shards;
    unsigned shard_count; /* that run */
    struct slot_view *slots;
    bool *streams; /* broker * slots + slot: the slot has streams for the broker */
    bool ready;    /* all slots that this instance is to have run */
    unsigned slots_stopped;
    uint64_t pending;
    bool draining;
    bool restart; /* after the drain the process begins anew */
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
              LOG_INT("drain_timeout_ms", engine->drain_ms));
    post_to_all(engine, MAIL_HURRY);
    arm_deadline(engine, HURRY_MS);
}

static void drain(struct engine *engine, const char *why)
{
    engine->draining = true;
    /* Who begins anew at once, under the same name, need not be done without. */
    if (!engine->restart) {
        instances_leave(engine->instances);
        notify_stopping(engine->notify);
    }
    legacy_leave(engine->legacy);
    admin_draining(engine->admin, engine->restart);
    log_event(engine->log, LOG_INFO, "draining", LOG_TEXT("signal", why),
              LOG_INT("drain_timeout_ms", engine->drain_ms));
    post_to_all(engine, MAIL_DRAIN);
    arm_deadline(engine, engine->drain_ms);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    (void)what;
    struct engine *engine = context;
    const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";
    if (engine->restart) { /* the drain goes on, for the end */
        engine->restart = false;
        instances_leave(engine->instances);
        notify_stopping(engine->notify);
        admin_draining(engine->admin, false);
        return;
    }
    if (engine->draining || engine->shard_count == 0) {
        log_event(engine->log, LOG_WARNING, "stopping at once", LOG_TEXT("signal", name));
        finish(engine, 0);
        return;
    }
    drain(engine, name);
}

/* The configuration is borrowed by all threads: another one means another beginning. */
static void begin_anew(void *context, const char *why)
{
    struct engine *engine = context;
    if (engine->draining)
        return;
    log_event(engine->log, LOG_WARNING,
              "another configuration: this process drains, and begins anew with it",
              LOG_TEXT("instance", engine->config->instance), LOG_TEXT("why", why));
    engine->restart = true;
    notify_reloading(engine->notify);
    if (engine->shard_count > 0)
        drain(engine, "none: restart");
    else
        finish(engine, 0);
}

/* The other sites do not wait long for the broker that this one leaves, perhaps because it is dead:
 * what it has not acknowledged stays pending. */
static void on_site_change(void *context, const char *why)
{
    struct engine *engine = context;
    if (!engine->draining && engine->drain_ms > SITE_DRAIN_MS)
        engine->drain_ms = SITE_DRAIN_MS;
    begin_anew(context, why);
}

static void on_hangup(evutil_socket_t number, short what, void *context)
{
    (void)number;
    (void)what;
    struct engine *engine = context;
    if (!engine->draining)
        reload_ask(engine->reload);
}

/* ---- running ------------------------------------------------------------------------------ */

static void post_to_slot(struct engine *engine, enum mail_kind kind, unsigned slot, uint64_t count,
                         const char *text)
{
    shard_post(engine->shards[slot % engine->config->shards], kind, slot, count, text);
}

/* Says so whenever the last of the slots that this instance is to have runs; none are soon had. */
static void look_if_ready(struct engine *engine)
{
    unsigned slots = 0;
    bool ready = !engine->draining;
    for (unsigned i = 0; i < engine->config->slots; i++) {
        slots += engine->slots[i].preferred;
        ready = ready && (engine->slots[i].running || !engine->slots[i].preferred);
    }
    if (ready && !engine->ready) {
        log_event(engine->log, LOG_INFO, "ready", LOG_INT("slots", slots));
        notify_ready(engine->notify);
    }
    engine->ready = ready;
}

static void deliver(void *context, const struct mail *mail)
{
    struct engine *engine = context;
    notify_deliver(engine->notify, mail);
    if (mail->kind == MAIL_SLOT_RUNNING || mail->kind == MAIL_SLOT_LEFT) {
        engine->slots[mail->slot].running = mail->kind == MAIL_SLOT_RUNNING;
        look_if_ready(engine);
    } else if (mail->kind == MAIL_SLOT_STOPPED) {
        engine->pending += mail->count;
        if (++engine->slots_stopped == engine->config->slots)
            finish(engine, 0);
    } else if (mail->kind == MAIL_SETTINGS) {
        site_keeper_take(engine->sites, mail->data);
    } else if (mail->kind == MAIL_SLOT_BROKER) {
        legacy_broker(engine->legacy, mail->slot, mail->count / 2, mail->count % 2 == 1);
    } else {
        admin_deliver(engine->admin, mail);
    }
}

static void on_living_changed(void *context)
{
    struct engine *engine = context;
    unsigned slots = 0;
    for (unsigned i = 0; i < engine->config->slots; i++) {
        bool preferred = instances_prefers(engine->instances, i);
        slots += preferred;
        if (preferred != engine->slots[i].preferred)
            post_to_slot(engine, MAIL_SLOT_PREFER, i, preferred, NULL);
        legacy_prefer(engine->legacy, i, preferred);
        admin_prefer(engine->admin, i, preferred);
        notify_prefer(engine->notify, i, preferred);
        engine->slots[i].preferred = preferred;
    }
    log_event(engine->log, LOG_INFO, "instances",
              LOG_INT("living", instances_living(engine->instances)), LOG_INT("own_slots", slots));
    look_if_ready(engine);
}

static void on_other_count(void *context)
{
    struct engine *engine = context;
    installation_ask(engine->installation);
}

static const struct instances_events instances_events = {on_living_changed, on_other_count};

/* All slots that have streams for a broker share its max_rate, whoever owns them: every instance
 * finds all streams. */
static void count_stream(struct engine *engine, size_t broker, unsigned slot)
{
    bool *streams = engine->streams + broker * engine->config->slots;
    unsigned sharing = 0;
    if (streams[slot])
        return;
    streams[slot] = true;
    for (unsigned i = 0; i < engine->config->slots; i++)
        sharing += streams[i];
    for (unsigned i = 0; i < engine->config->shards; i++)
        shard_post(engine->shards[i], MAIL_RATE_SHARE, (unsigned)broker, sharing, NULL);
}

static void on_found(void *context, const char *name)
{
    struct engine *engine = context;
    unsigned slot = slot_of_stream(name, engine->config->slots);
    const struct config_route *route = config_route_of(engine->config, name);
    bool late = engine->shard_count > 0;
    post_to_slot(engine, MAIL_STREAM_FOUND, slot, late, name);
    if (route != NULL) {
        count_stream(engine, route->broker, slot);
        notify_stream(engine->notify, slot, route->broker);
    }
}

static bool start_shards(struct engine *engine)
{
    for (unsigned i = 0; i < engine->config->shards; i++) {
        if (!shard_start(engine->shards[i])) {
            log_event(engine->log, LOG_ERROR, "the system refuses a thread", LOG_INT("shard", i));
            return false;
        }
        engine->shard_count++;
    }
    return true;
}

/* The shards start when the streams of the first look wait in their mailboxes. */
static void on_first_pass(void *context)
{
    struct engine *engine = context;
    sigset_t before = signals_mask(SIG_BLOCK); /* they are for this thread alone */
    bool started = start_shards(engine);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) {
        finish(engine, 1);
        return;
    }
    admin_started(engine->admin, engine->shard_count);
    notify_started(engine->notify, engine->shard_count);
    /* What was agreed on may have been changed since it was asked for; from its first beat on this
     * instance is one that lives, while which it cannot be. */
    instances_beat(engine->instances);
    installation_ask(engine->installation);
}

static const struct discovery_events discovery_events = {on_found, on_first_pass};

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

/* Only now is it certain which brokers there are. */
static void on_current(void *context)
{
    struct engine *engine = context;
    if (make_shards(engine))
        discovery_go_on(engine->discovery);
    else
        finish(engine, 1);
}

static void on_settle(void *context, unsigned slot, uint64_t token, const char *later)
{
    post_to_slot(context, MAIL_SETTLE, slot, token, later);
}

static void on_agreed(void *context, const char *tag)
{
    struct engine *engine = context;
    redis_link_proven(engine->link);
    engine->link_trouble = (struct log_limit){0};
    admin_redis(engine->admin, NULL);
    notify_redis(engine->notify, NULL);
    if (engine->shards != NULL)
        discovery_go_on(engine->discovery);
    else
        snprintf(engine->tag, sizeof engine->tag, "%s", tag);
    site_keeper_go_on(engine->sites); /* at first it leads to on_current */
}

static void on_mismatch(void *context)
{
    struct engine *engine = context;
    instances_leave(engine->instances);
    finish(engine, 2);
}

static const struct installation_events installation_events = {on_agreed, on_mismatch};

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
    if (engine->draining) {
        instances_leave(engine->instances);
        return;
    }
    if (engine->shard_count > 0)
        instances_beat(engine->instances);
    installation_ask(engine->installation);
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct engine *engine = context;
    uint64_t held_back;
    admin_redis(engine->admin, reason);
    notify_redis(engine->notify, reason);
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
    engine->holder = holder_name(engine->config->instance);
    return engine->holder != NULL &&
           asprintf(&engine->link_name, "nemogate:%s:control", engine->config->instance) > 0;
}

static void on_page_changed(void *context)
{
    begin_anew(context, "the plugin's configuration page has other values");
}

static bool open_reload(struct engine *engine, struct reload_state *state)
{
    struct reload_setting setting = {.config = engine->config,
                                     .state = state,
                                     .log = engine->log,
                                     .net = &engine->net,
                                     .on_change = begin_anew,
                                     .context = engine};
    engine->reload = reload_new(&setting);
    return engine->reload != NULL;
}

static void on_rival(void *context, size_t list, bool there)
{
    struct engine *engine = context;
    admin_rival(engine->admin, list, there);
}

static bool open_legacy(struct engine *engine)
{
    struct legacy_setting setting = {.config = engine->config,
                                     .log = engine->log,
                                     .net = &engine->net,
                                     .redis_tls = engine->redis_tls,
                                     .on_change = on_page_changed,
                                     .on_rival = on_rival,
                                     .context = engine};
    engine->legacy = legacy_new(&setting);
    return engine->legacy != NULL;
}

static void post_for_others(void *context, enum mail_kind kind, uint64_t count, const char *text)
{
    struct engine *engine = context;
    for (unsigned i = 0; i < engine->shard_count; i++)
        shard_post(engine->shards[i], kind, 0, count, text);
}

static bool open_admin(struct engine *engine)
{
    struct admin_setting setting = {.config = engine->config,
                                    .log = engine->log,
                                    .net = &engine->net,
                                    .link = engine->link,
                                    .reload = engine->reload,
                                    .mailbox = engine->mailbox,
                                    .post = post_for_others,
                                    .context = engine};
    engine->admin = admin_new(&setting);
    return engine->admin != NULL;
}

static bool open_notify(struct engine *engine)
{
    struct notify_setting setting = {engine->config, engine->log, &engine->net, post_for_others,
                                     engine};
    engine->notify = notify_new(&setting);
    return engine->notify != NULL;
}

static bool open_sites(struct engine *engine, const char *file)
{
    struct site_keeper_setting setting = {.config = engine->config,
                                          .file = file,
                                          .log = engine->log,
                                          .net = &engine->net,
                                          .link = engine->link,
                                          .on_current = on_current,
                                          .on_change = on_site_change,
                                          .on_settle = on_settle,
                                          .context = engine};
    engine->sites = site_keeper_new(&setting);
    return engine->sites != NULL;
}

static bool open_engine(struct engine *engine, struct reload_state *state)
{
    if (!name_things(engine) || !net_open(&engine->net) || !open_notify(engine) ||
        !open_link(engine) || !open_legacy(engine) || !open_reload(engine, state) ||
        !open_sites(engine, state->file))
        return false;
    engine->mailbox = mailbox_new(engine->net.base, deliver, engine);
    if (engine->mailbox == NULL || !open_admin(engine))
        return false;
    engine->discovery = discovery_new(engine->config, engine->log, &engine->net, engine->link,
                                      &discovery_events, engine);
    struct instances_setting setting = {engine->config, engine->log, &engine->net, engine->link,
                                        engine->holder};
    engine->instances = instances_new(&setting, &instances_events, engine);
    engine->installation =
        installation_new(engine->config, engine->log, engine->link, &installation_events, engine);
    engine->slots = calloc(engine->config->slots, sizeof *engine->slots);
    engine->streams =
        calloc(engine->config->broker_count * engine->config->slots, sizeof *engine->streams);
    engine->deadline = event_new(engine->net.base, -1, 0, on_deadline, engine);
    engine->signals = signals_new(engine->net.base, on_signal, on_hangup, engine);
    return engine->mailbox != NULL && engine->discovery != NULL && engine->instances != NULL &&
           engine->installation != NULL && engine->slots != NULL && engine->streams != NULL &&
           engine->deadline != NULL && engine->signals != NULL;
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
    notify_free(engine->notify);
    admin_free(engine->admin); /* its thread would have signals that nobody handles any more */
    signals_free(engine->signals);
    if (engine->deadline != NULL)
        event_free(engine->deadline);
    instances_free(engine->instances);
    installation_free(engine->installation);
    discovery_free(engine->discovery);
    legacy_free(engine->legacy);
    reload_free(engine->reload);
    site_keeper_free(engine->sites);
    redis_link_free(engine->link);
    mailbox_free(engine->mailbox);
    net_close(&engine->net);
    tls_context_free(engine->redis_tls);
    tls_thread_end();
    free(engine->slots);
    free(engine->streams);
    free(engine->holder);
    free(engine->link_name);
}

int engine_run(const struct config *config, struct reload_state *state, const struct log *log)
{
    struct engine engine = {.config = config,
                            .log = log,
                            .drain_ms = config->delivery.drain_timeout_ms,
                            .exit_code = 1};
    struct slot_counts counts = {0};
    if (open_engine(&engine, state)) {
        log_event(log, LOG_INFO, "starting", LOG_TEXT("version", NEMOGATE_VERSION),
                  LOG_TEXT("instance", config->instance), LOG_INT("shards", config->shards),
                  LOG_INT("slots", config->slots));
        redis_link_start(engine.link);
        legacy_start(engine.legacy);
        event_base_dispatch(engine.net.base);
        if (engine.restart) {
            admin_hand_over(engine.admin);
            (void)signals_mask(SIG_BLOCK);
            event_base_loop(engine.net.base, EVLOOP_NONBLOCK); /* those that have come already */
        }
        join_shards(&engine, &counts);
        log_event(log, LOG_INFO, "stopped", LOG_INT("read", counts.read),
                  LOG_INT("published", counts.published), LOG_INT("settled", counts.settled),
                  LOG_INT("acked", counts.acked), LOG_INT("dead_letters", counts.dead_letters),
                  LOG_INT("refused", counts.refused), LOG_INT("coalesced", counts.coalesced),
                  LOG_INT("expired", counts.expired), LOG_INT("stays_pending", engine.pending));
    }
    bool restart = engine.restart && engine.exit_code == 0;
    if (restart)
        (void)site_keeper_leave(engine.sites);
    if (restart && engine.holder != NULL && !holder_hand_on(engine.holder))
        log_event(log, LOG_WARNING, "memory is short: the others will take this for a new instance",
                  LOG_TEXT("instance", config->instance));
    close_engine(&engine);
    return restart ? ENGINE_RESTART : engine.exit_code;
}
