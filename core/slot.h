/*
 * A slot: the unit of ownership and parallelism. It holds a lease, two Redis links, and for each
 * broker in use a pool of MQTT connections; its streams are lanes. It lives on one shard's thread,
 * and every function here belongs to that thread.
 */
#ifndef NEMOGATE_CORE_SLOT_H
#define NEMOGATE_CORE_SLOT_H

#include "core/config.h"
#include "core/log.h"
#include "transport/net.h"

struct slot;
struct tls_context;
struct watch_sample;
struct watch_state;
struct site_request;

/* What a slot needs from its shard; all borrowed for its life. */
struct slot_setting {
    const struct config *config;
    const struct net *net;
    const struct log *log; /* the shard's */
    unsigned index;
    const char *tag;               /* of the installation, part of the client identifiers */
    const char *holder;            /* this process, in leases */
    struct tls_context *redis_tls; /* NULL: plain */
    /* What to connect to the broker with this index with; NULL: plain. false: it cannot be had, and
     * why has been logged. */
    bool (*open_tls)(void *context, size_t broker, struct tls_context **tls);
    /* It holds its lease and publishes. */
    void (*on_running)(void *context, unsigned slot);
    /* It does so no more: it has been handed over, or its lease is lost. */
    void (*on_left)(void *context, unsigned slot);
    /* slot_drain is done, and the lease released. pending entries were read, or handed to a broker
     * without its acknowledgement, and wait in Redis. */
    void (*on_stopped)(void *context, unsigned slot, uint64_t pending);
    /* From now on it has a usable connection to the broker with this index, or (reached false, as
     * at the beginning) none. */
    void (*on_broker)(void *context, unsigned slot, size_t broker, bool reached);
    /* A lane waits at an entry of type gateway.settings, or has another version of its site's
     * settings than Redis; owned by the callee. */
    void (*on_settings)(void *context, struct site_request *request);
    /* Of what has been published, while slot_watch is on; owned by the callee, to be freed. */
    void (*on_sample)(void *context, struct watch_sample *sample);
    void *context;
};

/* Owned by the caller; NULL: memory is short. */
struct slot *slot_new(const struct slot_setting *setting);
/* Not from one of its own callbacks. */
void slot_free(struct slot *slot);

/* From now on it does what slot_prefer says; until that is called it stands by. */
void slot_start(struct slot *slot);
/* Whether this instance is to have the slot, among those that live. true: it connects to Redis,
 * waits for the lease, then carries entries. false: it hands the slot over, as slot_drain does,
 * within the drain timeout, and stands by. */
void slot_prefer(struct slot *slot, bool preferred);
/* A stream whose slot this is has been found. Once for each name. late: it was not there at the
 * first look for streams, so that all of it is new, whatever redis.start says. */
void slot_add_stream(struct slot *slot, const char *name, bool late);
/* For the end of the process: stops reading, waits for what is in flight, acknowledges it,
 * disconnects, releases the lease, then calls on_stopped. */
void slot_drain(struct slot *slot);
/* What a lane has asked of on_settings for the entry with this token is done: it settles, and the
 * lane goes on; without a stop at versions before later, which may be NULL. */
void slot_settle_settings(struct slot *slot, uint64_t token, const char *later);
/* So many slots, of all instances together, have streams for the broker with this index, and share
 * its max_rate. */
void slot_share_rate(struct slot *slot, size_t broker, unsigned slots);
/* Ends a drain that takes too long: what is in flight stays pending in Redis. The lease is still
 * released if Redis answers. */
void slot_hurry(struct slot *slot);

/* Whether somebody listens: samples of what is published are handed over. */
void slot_watch(struct slot *slot, bool on);
/* The last retained values of a site that this slot has published, as far as they are kept. Owned
 * by the caller, one free() frees it; NULL: none are kept, or memory is short. */
struct watch_state *slot_state(const struct slot *slot, const char *site);

/* The end of a loop turn: publishes, acknowledges, reads. */
void slot_turn(struct slot *slot);

/* The slot of a stream: FNV-1a over the name's bytes, modulo the number of slots. The same on every
 * instance and in every version. */
unsigned slot_of_stream(const char *name, unsigned slots);

/* One for each METRIC_LANE of core/metrics.def. */
struct slot_counts {
#define METRIC_LANE(field, name, help) uint64_t field;
#include "core/metrics.def"
};
void slot_add_counts(const struct slot *slot, struct slot_counts *sum);

#endif
