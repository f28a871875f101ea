/*
 * The drop-in for the Redis plugins of NEMO: what they push into their lists is moved into streams,
 * from where it goes the way of every entry; their monitor page is told whether the broker is
 * reached; what they write for their own bridge is taken off its control lists. Nothing here
 * publishes. On the main thread, with a link of its own to Redis for each list.
 */
#ifndef NEMOGATE_CORE_LEGACY_H
#define NEMOGATE_CORE_LEGACY_H

#include "core/config.h"
#include "core/log.h"
#include "transport/net.h"

struct legacy;
struct tls_context;

/* All borrowed. */
struct legacy_setting {
    const struct config *config;
    const struct log *log;
    const struct net *net;
    struct tls_context *redis_tls; /* NULL: plain */
    /* The plugin's configuration page has other values now than those in use: the process is to
     * begin anew. */
    void (*on_change)(void *context);
    /* Somebody else takes events out of the list with this index, or does so no more. */
    void (*on_rival)(void *context, size_t list, bool there);
    void *context;
};

/* Owned by the caller; NULL: memory is short. */
struct legacy *legacy_new(const struct legacy_setting *setting);
void legacy_free(struct legacy *legacy);

/* Connects. Nothing is moved until legacy_prefer. */
void legacy_start(struct legacy *legacy);
/* Whether this instance is to have the slot: then it moves the lists of the slot's streams. For a
 * moment two instances may do so; the script that moves allows for that. */
void legacy_prefer(struct legacy *legacy, unsigned slot, bool preferred);
/* The slot has, or has no more, a usable connection to the broker with this index. */
void legacy_broker(struct legacy *legacy, unsigned slot, size_t broker, bool reached);
/* The process ends: nothing is moved any more, and the monitor page is told. */
void legacy_leave(struct legacy *legacy);

/* What of this process' command line would let the plugins kill it when they start their own
 * bridge, by pkill -f; NULL: nothing. Static text. */
const char *legacy_fatal_name(void);

#endif
