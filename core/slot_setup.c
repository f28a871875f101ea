/*
 * Building a slot and taking it apart: names, links, outlets, the ledger and its sizes. Nothing
 * here runs while the slot is alive.
 */
#include "core/peers.h"
#include "core/slot_private.h"

#include "codec/encode_signed.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Of each publish that may be in flight, how many entries may be unsettled: one in flight, one read
 * ahead, and one whose XACK is on its way. */
/* Beyond what may be in flight: entries that wait, so that the window never runs dry while Redis is
 * asked for more. */
#define CREDITS_AHEAD_PER_INFLIGHT 2u
#define CREDITS_AHEAD_MAX 8192u
#define CREDITS_MIN 512u
#define CREDITS_MAX 262144u
#define TICK_MIN_MS 50u
#define TICK_MAX_MS 500u

unsigned slot_of_stream(const char *name, unsigned slots)
{
    uint64_t hash = 14695981039346656037u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 1099511628211u;
    return (unsigned)((hash ^ hash >> 32) % slots);
}

static char *format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *pattern, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, pattern);
    if (vasprintf(&text, pattern, arguments) < 0)
        text = NULL;
    va_end(arguments);
    return text;
}

static uint64_t seed(const struct slot *slot, unsigned salt)
{
    return net_now_us() * 2654435761u + slot->setting.index * 1000003u + salt;
}

static bool open_links(struct slot *slot)
{
    const struct config *config = slot->setting.config;
    static const char *const roles[LEASE_ROLES] = {"read", "write"};
    for (int role = 0; role < LEASE_ROLES; role++) {
        slot->link_names[role] =
            format("nemogate:%s:slot-%u:%s", config->instance, slot->setting.index, roles[role]);
        if (slot->link_names[role] == NULL)
            return false;
        slot->link_config[role] =
            peer_redis_link(&config->redis, slot->setting.redis_tls, slot->link_names[role]);
    }
    slot->read_link = redis_link_new(slot->setting.net, &slot->link_config[LEASE_READ],
                                     &slot_read_events, &reading_sink, slot, seed(slot, 1));
    slot->write_link = redis_link_new(slot->setting.net, &slot->link_config[LEASE_WRITE],
                                      &slot_write_events, NULL, slot, seed(slot, 2));
    return slot->read_link != NULL && slot->write_link != NULL;
}

/* The most entries that one publish of a route to the broker may carry. */
static size_t events_per_publish(const struct config *config, size_t broker)
{
    size_t most = 1;
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        if (route->broker == broker && route->encoding == CONFIG_ENCODING_BATCH &&
            route->batch.events > most)
            most = route->batch.events;
    }
    return most;
}

static void set_credits(struct outlet *outlet, const struct config *config, size_t index)
{
    const struct config_broker *broker = &config->brokers[index];
    size_t window =
        (size_t)broker->connections * broker->inflight * events_per_publish(config, index);
    size_t ahead = window * CREDITS_AHEAD_PER_INFLIGHT;
    ahead = ahead < CREDITS_AHEAD_MAX ? ahead : CREDITS_AHEAD_MAX;
    size_t credits = window + ahead;
    outlet->credits = credits < CREDITS_MIN   ? CREDITS_MIN
                      : credits > CREDITS_MAX ? CREDITS_MAX
                                              : credits;
    outlet->ahead = outlet->credits > window + ahead ? outlet->credits - window : ahead;
}

/* What labs have for themselves takes half of the memory at most, however many they are. */
static size_t bytes_of_outlet(const struct config *config, bool of_site)
{
    size_t bytes = config->delivery.inflight_bytes / config->slots;
    if (config->site_broker_count > 0)
        bytes /= 2;
    size_t sharing = of_site ? config->site_broker_count : config_routed_brokers(config);
    assert(sharing > 0); /* a broker that asks is one of them */
    return bytes / sharing;
}

static bool open_pool(struct outlet *outlet, struct tls_context *tls, unsigned salt)
{
    outlet->conn_config = peer_broker_conn(outlet->broker, tls, outlet->client_id_prefix);
    outlet->pool =
        mqtt_pool_new(outlet->slot->setting.net, &outlet->conn_config, outlet->connections,
                      &flow_events, outlet->contexts, seed(outlet->slot, salt));
    return outlet->pool != NULL;
}

/* The turn that follows every event is all that is wanted. */
static void on_wake(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

static bool open_outlet(struct slot *slot, size_t index)
{
    struct outlet *outlet = &slot->outlets[index];
    const struct config_broker *broker = &slot->setting.config->brokers[index];
    outlet->slot = slot;
    outlet->broker = broker;
    outlet->log = log_child(&slot->log, LOG_TEXT("broker", broker->name));
    outlet->connections = broker->connections;
    set_credits(outlet, slot->setting.config, index);
    outlet->entry_bytes = 512;
    outlet->bytes_max = bytes_of_outlet(slot->setting.config, broker->site != NULL);
    outlet->client_id_prefix =
        format("%s-%s-%u", broker->client_id_prefix, slot->setting.tag, slot->setting.index);
    outlet->outboxes = calloc(outlet->connections, sizeof *outlet->outboxes);
    outlet->contexts = calloc(outlet->connections, sizeof *outlet->contexts);
    outlet->retained = calloc(RETAINED_TOPICS, sizeof *outlet->retained);
    outlet->wake = evtimer_new(slot->setting.net->base, on_wake, NULL);
    backoff_init(&outlet->pauses, seed(slot, 8 + (unsigned)index));
    if (outlet->client_id_prefix == NULL || outlet->outboxes == NULL || outlet->contexts == NULL ||
        outlet->retained == NULL || outlet->wake == NULL ||
        !key_table_open(&outlet->keys, outlet->credits))
        return false;
    for (size_t i = 0; i < outlet->connections; i++) {
        struct outbox *outbox = &outlet->outboxes[i];
        outbox->outlet = outlet;
        outbox->entries = outbox->bundles = entry_queue_empty();
        outbox->next_to_send = ENTRY_NONE;
        outbox->timed = NOT_TIMED;
        outbox->batches = batch_pool_new();
        if (outbox->batches == NULL)
            return false;
        outbox->log = log_child(&outlet->log, LOG_INT("connection", i));
        outlet->contexts[i] = outbox;
    }
    struct tls_context *tls = NULL;
    if (!slot->setting.open_tls(slot->setting.context, index, &tls) ||
        !open_pool(outlet, tls, 16 + (unsigned)index))
        return false;
    for (size_t i = 0; i < outlet->connections; i++)
        outlet->outboxes[i].conn = mqtt_pool_connection(outlet->pool, i);
    return true;
}

static bool open_outlets(struct slot *slot)
{
    const struct config *config = slot->setting.config;
    size_t credits = 0;
    slot->outlets = calloc(config->broker_count, sizeof *slot->outlets);
    if (slot->outlets == NULL)
        return false;
    for (size_t i = 0; i < config->broker_count; i++) {
        if (!config_is_routed(config, i))
            continue;
        if (config->brokers[i].site == NULL && !open_outlet(slot, i))
            return false;
        set_credits(&slot->outlets[i], config, i);
        credits += slot->outlets[i].credits;
    }
    return ledger_open(&slot->ledger, (uint32_t)credits);
}

bool slot_open_outlet(struct slot *slot, size_t index)
{
    return slot->outlets[index].pool != NULL || open_outlet(slot, index);
}

static bool open_signers(struct slot *slot)
{
    const struct config *config = slot->setting.config;
    slot->signers = calloc(config->route_count, sizeof(struct signer *));
    if (slot->signers == NULL)
        return false;
    for (size_t i = 0; i < config->route_count; i++) {
        if (config->routes[i].encoding != CONFIG_ENCODING_SIGNED)
            continue;
        slot->signers[i] = signer_new(bytes_of(config->routes[i].sign_key));
        if (slot->signers[i] == NULL)
            return false;
    }
    return true;
}

static bool open_lease(struct slot *slot)
{
    const struct config *config = slot->setting.config;
    slot->consumer = format("slot-%u", slot->setting.index);
    slot->lease_key = format("nemogate:{%s}:lease:%u", config->redis.group, slot->setting.index);
    slot->counts_key = format("nemogate:{%s}:slots", config->redis.group);
    if (slot->consumer == NULL || slot->lease_key == NULL || slot->counts_key == NULL)
        return false;
    struct lease_setting setting = {.key = slot->lease_key,
                                    .holder = slot->setting.holder,
                                    .ttl_ms = config->delivery.lease_ttl_ms,
                                    .counts_key = slot->counts_key,
                                    .slots = config->slots};
    slot->lease = lease_new(&setting, &slot_lease_events, slot);
    return slot->lease != NULL;
}

static bool open_tick(struct slot *slot)
{
    uint32_t ms = slot->setting.config->delivery.lease_ttl_ms / 10;
    ms = ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
    struct timeval period = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};
    slot->tick = event_new(slot->setting.net->base, -1, EV_PERSIST, slot_on_tick, slot);
    slot->lease_retry = event_new(slot->setting.net->base, -1, 0, slot_on_lease_retry, slot);
    slot->look = event_new(slot->setting.net->base, -1, 0, reading_on_look, slot);
    return slot->tick != NULL && slot->lease_retry != NULL && slot->look != NULL &&
           event_add(slot->tick, &period) == 0;
}

struct slot *slot_new(const struct slot_setting *setting)
{
    struct slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return NULL;
    slot->setting = *setting;
    slot->thread = pthread_self();
    slot->log = log_child(setting->log, LOG_INT("slot", setting->index));
    slot->ops_last = &slot->ops_first;
    if (!open_lease(slot) || !open_links(slot) || !open_outlets(slot) || !open_signers(slot) ||
        !open_tick(slot) || !watch_open(slot)) {
        slot_free(slot);
        return NULL;
    }
    return slot;
}

static void close_outlet(struct outlet *outlet)
{
    mqtt_pool_free(outlet->pool);
    for (size_t i = 0; outlet->outboxes != NULL && i < outlet->connections; i++)
        batch_pool_free(outlet->outboxes[i].batches);
    if (outlet->wake != NULL)
        event_free(outlet->wake);
    key_table_close(&outlet->keys);
    free(outlet->retained);
    free(outlet->scratch);
    free(outlet->outboxes);
    free(outlet->contexts);
    free(outlet->client_id_prefix);
}

void slot_free(struct slot *slot)
{
    if (slot == NULL)
        return;
    if (slot->tick != NULL)
        event_free(slot->tick);
    if (slot->lease_retry != NULL)
        event_free(slot->lease_retry);
    if (slot->look != NULL)
        event_free(slot->look);
    watch_close(slot);
    redis_link_free(slot->read_link);
    redis_link_free(slot->write_link);
    for (size_t i = 0; slot->outlets != NULL && i < slot->setting.config->broker_count; i++)
        close_outlet(&slot->outlets[i]);
    free(slot->outlets);
    for (size_t i = 0; slot->signers != NULL && i < slot->setting.config->route_count; i++)
        signer_free(slot->signers[i]);
    free(slot->signers);
    ledger_close(&slot->ledger);
    for (size_t i = 0; i < slot->lane_count; i++)
        lane_free(slot->lanes[i]);
    free(slot->lanes);
    free(slot->hot_reads[0].lanes);
    free(slot->hot_reads[1].lanes);
    free(slot->look_read.lanes);
    free(slot->arguments);
    lease_free(slot->lease);
    free(slot->lease_key);
    free(slot->counts_key);
    free(slot->consumer);
    for (int role = 0; role < LEASE_ROLES; role++)
        free(slot->link_names[role]);
    free(slot);
}
