/*
 * The event loop of a thread and its resolver. evdns asks the name servers of /etc/resolv.conf
 * without blocking the loop; /etc/hosts is read once, here.
 */
#include "transport/net.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <stddef.h>
#include <time.h>

#define RESOLV_CONF "/etc/resolv.conf"

_Bool net_open(struct net *net)
{
    net->base = event_base_new();
    /* Without this flag the resolver's sockets alone would keep the loop from ending. */
    net->dns =
        net->base == NULL ? NULL : evdns_base_new(net->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (net->dns == NULL) {
        net_close(net);
        return 0;
    }
    /* A missing or empty file leaves no name server, which a lookup then says. The default, one at
     * 127.0.0.1, would make every lookup wait for its timeout. */
    (void)evdns_base_resolv_conf_parse(
        net->dns, DNS_OPTIONS_ALL | DNS_OPTION_NAMESERVERS_NO_DEFAULT, RESOLV_CONF);
    return 1;
}

void net_close(struct net *net)
{
    if (net->dns != NULL) {
        /* A cancelled lookup is told so by a later turn of the loop, and frees its memory then. */
        (void)event_base_loop(net->base, EVLOOP_NONBLOCK);
        evdns_base_free(net->dns, 0);
    }
    if (net->base != NULL)
        event_base_free(net->base);
    net->dns = NULL;
    net->base = NULL;
}

void net_reload_resolver(const struct net *net)
{
    (void)evdns_base_clear_nameservers_and_suspend(net->dns);
    evdns_base_search_clear(net->dns);
    (void)evdns_base_resolv_conf_parse(net->dns,
                                       DNS_OPTION_SEARCH | DNS_OPTION_NAMESERVERS |
                                           DNS_OPTION_MISC | DNS_OPTION_NAMESERVERS_NO_DEFAULT,
                                       RESOLV_CONF);
    (void)evdns_base_resume(net->dns);
}

uint64_t net_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t net_now_ms(void)
{
    return net_now_us() / 1000;
}
