/*
 * What every connection of a thread needs from its event loop. Owned by the shard (or main), and
 * borrowed by everything on it until the loop has ended.
 */
#ifndef NEMOGATE_TRANSPORT_NET_H
#define NEMOGATE_TRANSPORT_NET_H

#include <stdint.h>

struct event_base;
struct evdns_base;

struct net {
    struct event_base *base;
    struct evdns_base *dns;
};

/* STATUS as bool: false when memory is short. A host without a reachable resolver still gets a net:
 * numeric addresses and /etc/hosts work there. */
_Bool net_open(struct net *net);
/* After everything that borrowed it is gone. */
void net_close(struct net *net);
/* Reads /etc/resolv.conf anew: worth a try after a lookup has failed, because name servers come and
 * go with the network while the process stays. */
void net_reload_resolver(const struct net *net);

/* Milliseconds and microseconds of CLOCK_BOOTTIME: they go on while the machine sleeps, and no
 * setting of the wall clock moves them. */
uint64_t net_now_ms(void);
uint64_t net_now_us(void);

#endif
