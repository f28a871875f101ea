/*
 * Drives a channel in a test: an event loop with a limit, a recorder of the channel's callbacks,
 * and sockets to talk to.
 */
#ifndef NEMOGATE_TESTS_CHANNEL_DRIVER_H
#define NEMOGATE_TESTS_CHANNEL_DRIVER_H

#include "transport/channel.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRIVER_LIMIT_S 20

struct driver {
    struct net net;
    struct endpoint endpoint;
    struct channel *channel;
    struct event *limit;

    unsigned opened;
    unsigned closed;
    char reason[700];
    char description[128];
    uint8_t *received; /* everything that was consumed, in order */
    size_t received_length;
    size_t received_size;
    unsigned deliveries;
    size_t last_input; /* length of the last input given */

    size_t consume_at_most; /* of each input; 0: everything */
    void (*when_open)(struct driver *driver);
    void (*when_data)(struct driver *driver);
    void (*when_closed)(struct driver *driver);
};

static inline void driver_on_open(void *context)
{
    struct driver *driver = context;
    driver->opened++;
    snprintf(driver->description, sizeof driver->description, "%s",
             channel_describe(driver->channel));
    if (driver->when_open != NULL)
        driver->when_open(driver);
}

static inline size_t driver_on_data(void *context, struct bytes input)
{
    struct driver *driver = context;
    size_t take = input.length;
    if (driver->consume_at_most != 0 && take > driver->consume_at_most)
        take = driver->consume_at_most;
    if (driver->received_size < driver->received_length + take) {
        driver->received_size = (driver->received_length + take) * 2;
        driver->received = realloc(driver->received, driver->received_size);
        cr_assert_not_null(driver->received);
    }
    memcpy(driver->received + driver->received_length, input.data, take);
    driver->received_length += take;
    driver->deliveries++;
    driver->last_input = input.length;
    if (driver->when_data != NULL)
        driver->when_data(driver);
    return take;
}

static inline void driver_on_closed(void *context, const char *reason)
{
    struct driver *driver = context;
    driver->closed++;
    snprintf(driver->reason, sizeof driver->reason, "%s", reason);
    if (driver->when_closed != NULL)
        driver->when_closed(driver);
}

static inline void driver_over(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
    cr_assert_fail("the test waited for %d s", DRIVER_LIMIT_S);
}

static inline void driver_begin(struct driver *driver)
{
    *driver = (struct driver){.endpoint = {.host = "127.0.0.1"}};
    cr_assert(net_open(&driver->net));
    driver->limit = evtimer_new(driver->net.base, driver_over, NULL);
    event_add(driver->limit, &(struct timeval){DRIVER_LIMIT_S, 0});
}

/* After endpoint is set. */
static inline void driver_channel_sized(struct driver *driver, struct channel_sizes sizes)
{
    static const struct channel_events events = {driver_on_open, driver_on_data, driver_on_closed};
    driver->channel = channel_new(&driver->net, &driver->endpoint, &events, driver, sizes);
    cr_assert_not_null(driver->channel);
}

static inline void driver_channel(struct driver *driver)
{
    driver_channel_sized(driver, (struct channel_sizes){16384, 4096, 1 << 20});
}

/* Of the sanitizer, where the test is built with it: Criterion does not look at its exit code. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* Frees the TLS context too. */
static inline void driver_end(struct driver *driver)
{
    channel_free(driver->channel);
    event_free(driver->limit);
    net_close(&driver->net);
    tls_context_free(driver->endpoint.tls);
    free(driver->received);
    if (__lsan_do_recoverable_leak_check != NULL)
        cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "memory was lost");
}

/* Goes round the loop until the condition holds. */
#define DRIVE_UNTIL(driver, condition)                                                             \
    while (!(condition))                                                                           \
    event_base_loop((driver)->net.base, EVLOOP_ONCE)

/* Everything that can happen without waiting has happened. */
static inline void drive_idle(struct driver *driver)
{
    for (int i = 0; i < 20; i++)
        event_base_loop(driver->net.base, EVLOOP_NONBLOCK);
}

static inline bool driver_received(const struct driver *driver, const char *text)
{
    return driver->received_length == strlen(text) &&
           memcmp(driver->received, text, strlen(text)) == 0;
}

/* ---- sockets to talk to -------------------------------------------------------------------- */

/* A loopback listener; *port is what it got. backlog 0: the second connection gets no answer. */
static inline int listen_loopback(const char *address, uint16_t *port, int backlog)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    cr_assert_eq(inet_pton(AF_INET, address, &name.sin_addr), 1);
    cr_assert_eq(bind(fd, (struct sockaddr *)&name, size), 0);
    cr_assert_eq(listen(fd, backlog), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&name, &size), 0);
    *port = ntohs(name.sin_port);
    return fd;
}

/* A port on which nobody listens. */
static inline uint16_t closed_port(void)
{
    uint16_t port = 0;
    close(listen_loopback("127.0.0.1", &port, 1));
    return port;
}

/* Writes everything; the socket must take it. */
static inline void peer_send(int fd, const void *data, size_t length)
{
    cr_assert_eq(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

#endif
