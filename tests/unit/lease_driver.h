/*
 * Processes that want one lease, each with its two links, against a real redis-server. Included by
 * test_lease.c only.
 */
#ifndef NEMOGATE_TESTS_LEASE_DRIVER_H
#define NEMOGATE_TESTS_LEASE_DRIVER_H

#include "core/lease.h"

#include "real_redis.h"
#include "redis_link_driver.h"

#include <inttypes.h>

#define KEY "nemogate:{g}:lease:0"
#define COUNTS "nemogate:{g}:slots"
#define TTL_MS 60000u

static struct real_redis redis;

struct party;

struct party_link {
    struct party *party;
    enum lease_role role;
    struct redis_link *link;
    unsigned ready;
    unsigned down;
    char reason[400];
};

/* A process that wants the lease, with its two links. */
struct party {
    struct lease *lease;
    struct party_link links[LEASE_ROLES];
    unsigned granted;
    unsigned fresh;
    unsigned unfenced;
    unsigned refused;
    unsigned released;
    char holder[64];
    uint64_t remaining_ms;
};

/* ---- a party ------------------------------------------------------------------------------ */

static inline void on_link_ready(void *context)
{
    struct party_link *link = context;
    link->ready++;
}

static inline void on_link_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)retry_ms;
    struct party_link *link = context;
    link->down++;
    snprintf(link->reason, sizeof link->reason, "%s", reason);
    redis_link_stop(link->link);
}

static inline void on_granted(void *context, enum lease_role role, struct lease_grant how)
{
    struct party *party = context;
    party->granted++;
    party->fresh += how.fresh;
    party->unfenced += !how.fenced;
    redis_link_flush(party->links[role].link);
}

static inline void on_refused(void *context, struct bytes holder, uint64_t remaining_ms)
{
    struct party *party = context;
    party->refused++;
    party->remaining_ms = remaining_ms;
    snprintf(party->holder, sizeof party->holder, "%.*s", (int)holder.length,
             (const char *)holder.data);
}

static inline void on_released(void *context)
{
    ((struct party *)context)->released++;
}

static inline void party_connect(struct party *party, enum lease_role role, const char *user)
{
    static const struct redis_link_events link_events = {on_link_ready, on_link_down};
    struct party_link *link = &party->links[role];
    struct redis_link_config config = {.endpoint = {.path = redis.socket},
                                       .username = user,
                                       .password = user != NULL ? "word" : NULL,
                                       .connect_timeout_ms = 5000,
                                       .reply_timeout_ms = 5000};
    link->party = party;
    link->role = role;
    link->link = redis_link_new(&net, &config, &link_events, NULL, link, 1);
    cr_assert_not_null(link->link);
    redis_link_start(link->link);
    until(&link->ready, 1);
}

static inline void party_open(struct party *party, const char *name)
{
    static const struct lease_events lease_events = {on_granted, on_refused, on_released};
    *party = (struct party){0};
    struct lease_setting setting = {
        .key = KEY, .holder = name, .ttl_ms = TTL_MS, .counts_key = COUNTS, .slots = 4};
    party->lease = lease_new(&setting, &lease_events, party);
    cr_assert_not_null(party->lease);
    party_connect(party, LEASE_WRITE, NULL);
    party_connect(party, LEASE_READ, NULL);
}

static inline void party_close(struct party *party)
{
    for (int role = 0; role < LEASE_ROLES; role++)
        redis_link_free(party->links[role].link);
    lease_free(party->lease);
}

static inline void ask(struct party *party, enum lease_role role)
{
    lease_take(party->lease, role, party->links[role].link, party->links[!role].link);
}

static inline void take(struct party *party, enum lease_role role)
{
    unsigned granted = party->granted;
    ask(party, role);
    until(&party->granted, granted + 1);
}

static inline bool is_valid(const struct party *party)
{
    return lease_is_valid(party->lease, net_now_ms());
}

static inline int64_t id_of(const struct party *party, enum lease_role role)
{
    return redis_link_client_id(party->links[role].link);
}

#endif
