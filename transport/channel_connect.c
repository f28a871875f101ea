/*
 * The way of a channel from its endpoint to a connected socket: the name's addresses, each tried in
 * turn with its share of the time. What is opened over the socket is not known here.
 */
#include "transport/channel_private.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

const char *endpoint_format(const struct endpoint *endpoint, char *text)
{
    if (endpoint->host == NULL)
        snprintf(text, ENDPOINT_TEXT, "%s", endpoint->path);
    else if (strchr(endpoint->host, ':') != NULL)
        snprintf(text, ENDPOINT_TEXT, "[%s]:%u", endpoint->host, endpoint->port);
    else
        snprintf(text, ENDPOINT_TEXT, "%s:%u", endpoint->host, endpoint->port);
    return text;
}

void channel_connect_forget(struct channel *channel)
{
    if (channel->lookup != NULL) {
        /* on_lookup is still called, with EVUTIL_EAI_CANCEL, and frees it. */
        channel->lookup->channel = NULL;
        channel->lookup = NULL;
        if (channel->request != NULL)
            evdns_getaddrinfo_cancel(channel->request);
    }
    channel->request = NULL;
    if (channel->addresses != NULL)
        evutil_freeaddrinfo(channel->addresses);
    channel->addresses = NULL;
    channel->address = NULL;
}

/* The address being tried, where it says more than the endpoint's own text does: " (10.0.0.1)". */
static const char *address_text(const struct channel *channel, char *text, size_t size)
{
    char host[64];
    text[0] = '\0';
    if (channel->address != NULL &&
        getnameinfo(channel->address->ai_addr, (socklen_t)channel->address->ai_addrlen, host,
                    sizeof host, NULL, 0, NI_NUMERICHOST) == 0 &&
        strcmp(host, channel->endpoint->host) != 0)
        snprintf(text, size, " (%s)", host);
    return text;
}

/* Keeps the reason of a failed address. Having no route to the last one must not hide what the
 * others have answered. */
static void note_failure(struct channel *channel, int error)
{
    bool no_route = error == ENETUNREACH || error == EHOSTUNREACH || error == EADDRNOTAVAIL ||
                    error == EAFNOSUPPORT;
    if (no_route && channel->reason[0] != '\0')
        return;
    char endpoint[ENDPOINT_TEXT];
    char address[80];
    snprintf(channel->reason, sizeof channel->reason, "connect to %s%s: %s",
             endpoint_format(channel->endpoint, endpoint),
             address_text(channel, address, sizeof address), strerror(error));
}

/* Starts to connect to one address. 0, or the errno of a failure. */
static int try_address(struct channel *channel, const struct sockaddr *address, socklen_t length)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if (address->sa_family != AF_UNIX) {
        const int on = 1;
        /* Both are tuning: a connection without them is still a connection. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    if (connect(fd, address, length) != 0 && errno != EINPROGRESS) {
        int error = errno;
        (void)close(fd);
        return error;
    }
    channel_use_socket(channel, fd);
    channel_watch(channel, IO_WANT_WRITE);
    return 0;
}

/* The share of the time that is left for the address being tried. */
static uint64_t share_ms(const struct channel *channel)
{
    uint64_t count = 1;
    for (const struct evutil_addrinfo *a = channel->address->ai_next; a != NULL; a = a->ai_next)
        count++;
    uint64_t now = net_now_ms();
    uint64_t left = channel->deadline_ms > now ? channel->deadline_ms - now : 1;
    return left / count + 1;
}

/* Tries channel->address and those behind it until one is under way. */
static void try_addresses(struct channel *channel)
{
    for (; channel->address != NULL; channel->address = channel->address->ai_next) {
        int error = try_address(channel, channel->address->ai_addr,
                                (socklen_t)channel->address->ai_addrlen);
        if (error == 0) {
            channel_set_deadline(channel, share_ms(channel));
            return;
        }
        note_failure(channel, error);
    }
    channel_end_noted(channel);
}

static void drop_socket(struct channel *channel)
{
    channel_watch(channel, 0);
    (void)close(channel->fd);
    channel->fd = -1;
}

void channel_connect_answered(struct channel *channel)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    if (error == 0) {
        channel_connect_forget(channel);
        channel_connected(channel);
        return;
    }
    note_failure(channel, error);
    drop_socket(channel);
    if (channel->address != NULL)
        channel->address = channel->address->ai_next;
    try_addresses(channel);
}

void channel_connect_timeout(struct channel *channel)
{
    char text[ENDPOINT_TEXT];
    if (channel->state == CHANNEL_RESOLVING) {
        net_reload_resolver(channel->net);
        channel_end(channel, "timed out after %u ms while resolving '%s'", channel->timeout_ms,
                    channel->endpoint->host);
    } else if (channel->address != NULL && channel->address->ai_next != NULL) {
        note_failure(channel, ETIMEDOUT);
        drop_socket(channel);
        channel->address = channel->address->ai_next;
        try_addresses(channel);
    } else {
        channel_end(channel, "timed out after %u ms while connecting to %s", channel->timeout_ms,
                    endpoint_format(channel->endpoint, text));
    }
}

static void on_lookup(int error, struct evutil_addrinfo *addresses, void *argument)
{
    struct channel_lookup *lookup = argument;
    struct channel *channel = lookup->channel;
    free(lookup);
    if (channel == NULL) {
        if (addresses != NULL)
            evutil_freeaddrinfo(addresses);
        return;
    }
    channel->lookup = NULL;
    channel->request = NULL;
    if (error != 0) {
        net_reload_resolver(channel->net);
        channel_end(channel, "name '%s' could not be resolved: %s", channel->endpoint->host,
                    error == EVUTIL_EAI_NONAME ? "there is no such name"
                                               : evutil_gai_strerror(error));
        return;
    }
    channel->addresses = addresses;
    channel->address = addresses;
    channel_set_state(channel, CHANNEL_CONNECTING);
    try_addresses(channel);
}

static void resolve(struct channel *channel)
{
    struct channel_lookup *lookup = malloc(sizeof *lookup);
    if (lookup == NULL) {
        channel_end(channel, "out of memory");
        return;
    }
    lookup->channel = channel;
    channel->lookup = lookup;
    channel_set_state(channel, CHANNEL_RESOLVING);
    channel_set_deadline(channel, channel->timeout_ms);
    if (evdns_base_count_nameservers(channel->net->dns) == 0)
        net_reload_resolver(channel->net);

    char port[8];
    snprintf(port, sizeof port, "%u", channel->endpoint->port);
    const struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC,
                                          .ai_socktype = SOCK_STREAM,
                                          .ai_protocol = IPPROTO_TCP,
                                          .ai_flags = EVUTIL_AI_NUMERICSERV};
    struct evdns_getaddrinfo_request *request = evdns_getaddrinfo(
        channel->net->dns, channel->endpoint->host, port, &hints, on_lookup, lookup);
    /* Numeric addresses and /etc/hosts are answered before the call returns. */
    if (request == NULL || channel->state != CHANNEL_RESOLVING)
        return;
    channel->request = request;
    if (evdns_base_count_nameservers(channel->net->dns) == 0)
        channel_end(channel, "name '%s' could not be resolved: no name server is configured",
                    channel->endpoint->host);
}

static void connect_unix(struct channel *channel)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = channel->endpoint->path;
    int error = ENAMETOOLONG;
    channel_set_state(channel, CHANNEL_CONNECTING);
    channel_set_deadline(channel, channel->timeout_ms);
    if (strlen(path) < sizeof address.sun_path) {
        memcpy(address.sun_path, path, strlen(path));
        error = try_address(channel, (const struct sockaddr *)&address, sizeof address);
    }
    if (error != 0)
        channel_end(channel, "connect to %s: %s", path, strerror(error));
}

void channel_connect(struct channel *channel)
{
    channel->reason[0] = '\0';
    channel->deadline_ms = net_now_ms() + channel->timeout_ms;
    if (channel->endpoint->host == NULL)
        connect_unix(channel);
    else
        resolve(channel);
}
