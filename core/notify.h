/*
 * What the service manager is told, in the protocol of sd_notify(3): that this process is up, takes
 * up another configuration, or ends; one sentence of how it is; and, as long as every shard turns,
 * that it need not be restarted (WatchdogSec=). Where the environment has no NOTIFY_SOCKET all of
 * this does nothing. Main thread.
 */
#ifndef NEMOGATE_CORE_NOTIFY_H
#define NEMOGATE_CORE_NOTIFY_H

#include "core/config.h"
#include "core/log.h"
#include "core/mailbox.h"
#include "transport/net.h"

struct notify;

/* All borrowed. */
struct notify_setting {
    const struct config *config;
    const struct log *log;
    const struct net *net;
    /* To all shards that run. */
    void (*post)(void *context, enum mail_kind kind, uint64_t count, const char *text);
    void *context;
};

/* READY=1 is sent when notify_ready says so, or Redis is away, or after five seconds: a start waits
 * neither for Redis nor for a broker. Owned by the caller; NULL: memory is short. */
struct notify *notify_new(const struct notify_setting *setting);
void notify_free(struct notify *notify); /* may be NULL */

/* What the engine has been told; every kind of message may be given. */
void notify_deliver(struct notify *notify, const struct mail *mail);
/* The control link. reason NULL: it is there and Redis has answered. */
void notify_redis(struct notify *notify, const char *reason);
/* A stream of the slot has been found, for the broker with this index. */
void notify_stream(struct notify *notify, unsigned slot, size_t broker);
/* Whether this instance is to have the slot. */
void notify_prefer(struct notify *notify, unsigned slot, bool preferred);
/* So many shards run. */
void notify_started(struct notify *notify, unsigned shards);
/* All slots that this instance is to have run. */
void notify_ready(struct notify *notify);
/* It drains: to begin anew in the same process, or for the end. */
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);

#endif
