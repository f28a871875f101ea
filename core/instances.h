/*
 * Who lives, and who is to have which slot. Each instance says every so often that it is there (a
 * heartbeat: a member of a sorted set, whose score is when it expires by Redis' clock), and is told
 * of the others. Of those that live, the one with the highest weight for a slot is to have it: so
 * all come to the same result, and one that comes or goes moves no slots but its own. This says
 * what is to be; who owns a slot is decided by its lease. On the main thread, on its control link.
 */
#ifndef NEMOGATE_CORE_INSTANCES_H
#define NEMOGATE_CORE_INSTANCES_H

#include "core/config.h"
#include "core/log.h"
#include "transport/redis_link.h"

struct instances;

struct instances_events {
    /* Redis has told who lives: for the first time, and whenever that is no more the same. */
    void (*on_change)(void *context);
    /* Redis keeps another number of slots than the configuration has, or none. */
    void (*on_other_count)(void *context);
};

/* All borrowed. */
struct instances_setting {
    const struct config *config;
    const struct log *log;
    const struct net *net;
    struct redis_link *link;
    const char *holder; /* of this process: "instance/nonce" */
};

/* Owned by the caller; NULL: memory is short. */
struct instances *instances_new(const struct instances_setting *setting,
                                const struct instances_events *events, void *context);
void instances_free(struct instances *instances);

/* The link is ready, and this process able to run slots: it is one of the living from now on, until
 * instances_leave. While the link is down what was heard last stands. */
void instances_beat(struct instances *instances);
/* Tells the others to do without it. Again where the link was not ready. */
void instances_leave(struct instances *instances);

size_t instances_living(const struct instances *instances);
/* Whether this process is to have the slot; false before it has heard of anybody. */
bool instances_prefers(const struct instances *instances, unsigned slot);

/* The index of the holder that is to have the slot. The same in every version; count is not 0. */
size_t instances_choose(unsigned slot, const struct bytes *holders, size_t count);

#endif
