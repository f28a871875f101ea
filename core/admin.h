/*
 * The admin server: metrics, health, the monitor page and its interface, on the main thread. It
 * asks the shards for reports and Redis for what only Redis knows, both at a bounded rate; what it
 * shows is at most some seconds old. Nothing of it is in the way of an entry.
 */
#ifndef NEMOGATE_CORE_ADMIN_H
#define NEMOGATE_CORE_ADMIN_H

#include "codec/status.h"
#include "core/config.h"
#include "core/log.h"
#include "core/mailbox.h"
#include "transport/net.h"
#include "transport/redis_link.h"

struct admin;
struct reload;

/* All borrowed. */
struct admin_setting {
    const struct config *config;
    const struct log *log;
    const struct net *net;
    struct redis_link *link;
    const struct reload *reload;
    struct mailbox *mailbox; /* of the main thread */
    /* To all shards that run. */
    void (*post)(void *context, enum mail_kind kind, uint64_t count, const char *text);
    void *context;
};

/* Listens, or tries again until it can; on the socket that a process before it has left, if there
 * is one. Owned by the caller; NULL: memory is short. Where admin.listen is empty it does nothing.
 */
struct admin *admin_new(const struct admin_setting *setting);
void admin_free(struct admin *admin);

/* What the engine has been told; every kind of message may be given. */
void admin_deliver(struct admin *admin, const struct mail *mail);
/* The shards run, and so many; the process is being ended, or drains to begin anew: what has been
 * true so far is then told until its end. */
void admin_started(struct admin *admin, unsigned shards);
void admin_draining(struct admin *admin, bool begins_anew);
/* Before the end of a process that begins anew: answers those who have been let in, for which the
 * event loop is run a moment, and leaves the listening socket with all others to the next. */
void admin_hand_over(struct admin *admin);
/* The control link. reason NULL: it is there and Redis has answered. */
void admin_redis(struct admin *admin, const char *reason);
/* Whether this instance is to have the slot. */
void admin_prefer(struct admin *admin, unsigned slot, bool preferred);
/* Somebody else takes events out of a list of the configuration, or does so no more. */
void admin_rival(struct admin *admin, size_t list, bool there);

#endif
