/*
 * Finding streams: the names of the configuration at once, its patterns by SCAN over and over, one
 * page at a time, spread over the discovery interval, or over more where there are very many keys.
 * Once per instance, on the main thread, on a link that somebody else owns.
 */
#ifndef NEMOGATE_CORE_DISCOVERY_H
#define NEMOGATE_CORE_DISCOVERY_H

#include "core/config.h"
#include "core/log.h"
#include "transport/redis_link.h"

struct discovery;

struct discovery_events {
    /* A stream that has a route and a site; once for each name. */
    void (*on_found)(void *context, const char *name);
    /* Every pattern has been scanned once. */
    void (*on_first_pass)(void *context);
};

/* Borrows all of its arguments. Owned by the caller; NULL: memory is short. */
struct discovery *discovery_new(const struct config *config, const struct log *log,
                                const struct net *net, struct redis_link *link,
                                const struct discovery_events *events, void *context);
void discovery_free(struct discovery *discovery);

/* The link has become ready: scanning begins, or goes on. */
void discovery_go_on(struct discovery *discovery);

#endif
