/*
 * The lease of a slot: a hash in Redis with its holder, its deadline and the CLIENT IDs of the
 * links that its holders ever opened. Taking it on a link is the first command of that link; before
 * the taker may go on, every earlier link on record is closed by CLIENT KILL, so that no read
 * parked by a former owner can swallow entries; where Redis forbids that, the taker is told. The
 * record outlives its deadline, so that links can still be killed. Leases give liveness; the kills,
 * and MQTT's client identifiers, give safety. All on the slot's thread. Calls back, never logs.
 */
#ifndef NEMOGATE_CORE_LEASE_H
#define NEMOGATE_CORE_LEASE_H

#include "transport/redis_link.h"

enum lease_role { LEASE_READ, LEASE_WRITE };
#define LEASE_ROLES 2

struct lease_grant {
    bool fresh;  /* it was not ours just before: another may have owned the slot since */
    bool fenced; /* no earlier link can read or write any more */
};

struct lease_events {
    /* The lease is ours and all earlier links are closed; or, where how.fenced is false, they may
     * live, because Redis does not let this user close them. */
    void (*on_granted)(void *context, enum lease_role role, struct lease_grant how);
    /* Another holds it (holder is a view) for remaining_ms more at the least. */
    void (*on_refused)(void *context, struct bytes holder, uint64_t remaining_ms);
    /* lease_release is done. */
    void (*on_released)(void *context);
};

struct lease;

/* All borrowed for the lease's life. */
struct lease_setting {
    const char *key;
    const char *holder;
    uint32_t ttl_ms;
    /* Where the group keeps its number of slots, and what this process takes it to be: with another
     * number a stream would have two owners, so no lease is given. */
    const char *counts_key;
    unsigned slots;
};

/* context is borrowed. Owned by the caller; NULL: memory is short. */
struct lease *lease_new(const struct lease_setting *setting, const struct lease_events *events,
                        void *context);
void lease_free(struct lease *lease);

/* Takes or confirms the lease on a link that has just become ready, records the link, and fences.
 * other is the slot's link of the other role, which must not be killed. An error reply fails the
 * link. */
void lease_take(struct lease *lease, enum lease_role role, struct redis_link *link,
                const struct redis_link *other);
/* Extends it; refused when it is not ours any more. */
void lease_renew(struct lease *lease, struct redis_link *link);
/* Gives it up if it is ours. The record of the links stays. */
void lease_release(struct lease *lease, struct redis_link *link);

/* The lease was granted and its deadline lies ahead: the slot may do I/O. */
bool lease_is_valid(const struct lease *lease, uint64_t now_ms);
/* Time to renew: a third of the ttl has passed since the last request. */
bool lease_renewal_due(const struct lease *lease, uint64_t now_ms);
/* When the last request that was granted was sent; 0: none was. */
uint64_t lease_confirmed_ms(const struct lease *lease);
/* It is not ours any more. */
void lease_forget(struct lease *lease);

/* Redis' clock (milliseconds since epoch) at net_now_ms() == now_ms, as last heard. */
uint64_t lease_redis_time(const struct lease *lease, uint64_t now_ms);

#endif
