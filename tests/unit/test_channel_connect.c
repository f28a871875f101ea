/*
 * From an endpoint to a connected socket: addresses, names (by a name server of the test's own, on
 * the same loop), several addresses, unix sockets, and the texts of what goes wrong.
 */
#include "channel_driver.h"

#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/time.h>
#include <sys/un.h>

#include "transport/channel_private.h"

/* ---- a name server ------------------------------------------------------------------------- */

struct name_server {
    struct evdns_server_port *port;
    uint16_t udp_port;
    uint32_t addresses[4]; /* of broker.test, in network order */
    int count;
    unsigned questions;
    bool silent;
    struct evdns_server_request *unanswered[16];
};

static void on_question(struct evdns_server_request *request, void *context)
{
    struct name_server *server = context;
    if (server->silent && server->questions < 16) {
        server->unanswered[server->questions++] = request;
        return;
    }
    server->questions++;
    bool known = false;
    for (int i = 0; i < request->nquestions; i++) {
        const struct evdns_server_question *question = request->questions[i];
        if (evutil_ascii_strcasecmp(question->name, "broker.test") != 0)
            continue;
        known = true;
        if (question->type == EVDNS_TYPE_A)
            evdns_server_request_add_a_reply(request, question->name, server->count,
                                             server->addresses, 60);
    }
    evdns_server_request_respond(request, known ? DNS_ERR_NONE : DNS_ERR_NOTEXIST);
}

static void name_server_begin(struct name_server *server, struct driver *driver)
{
    *server = (struct name_server){0};
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&name, size), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&name, &size), 0);
    server->udp_port = ntohs(name.sin_port);
    server->port = evdns_add_server_port_with_base(driver->net.base, fd, 0, on_question, server);
    cr_assert_not_null(server->port);

    struct evdns_base *dns = driver->net.dns;
    evdns_base_clear_nameservers_and_suspend(dns);
    evdns_base_search_clear(dns);
    cr_assert_eq(evdns_base_nameserver_sockaddr_add(dns, (struct sockaddr *)&name, size, 0), 0);
    evdns_base_resume(dns);
    driver->endpoint.host = "broker.test";
}

static void name_server_add(struct name_server *server, const char *address)
{
    cr_assert_eq(inet_pton(AF_INET, address, &server->addresses[server->count++]), 1);
}

static void name_server_end(struct name_server *server)
{
    if (server->silent)
        for (unsigned i = 0; i < server->questions; i++)
            evdns_server_request_drop(server->unanswered[i]);
    evdns_close_server_port(server->port);
}

/* ---- addresses ----------------------------------------------------------------------------- */

Test(endpoint, is_written_as_people_write_it)
{
    char text[ENDPOINT_TEXT];
    struct endpoint endpoint = {.host = "broker.lab", .port = 8883};
    cr_assert_str_eq(endpoint_format(&endpoint, text), "broker.lab:8883");
    endpoint.host = "fe80::1";
    cr_assert_str_eq(endpoint_format(&endpoint, text), "[fe80::1]:8883");
    endpoint = (struct endpoint){.path = "/run/redis.sock"};
    cr_assert_str_eq(endpoint_format(&endpoint, text), "/run/redis.sock");
}

Test(endpoint, text_is_cut_at_its_bound)
{
    char text[ENDPOINT_TEXT];
    char host[1000];
    memset(host, 'x', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    struct endpoint endpoint = {.host = host, .port = 1};
    cr_assert_eq(strlen(endpoint_format(&endpoint, text)), ENDPOINT_TEXT - 1);
}

static void connects_to(const char *host)
{
    struct driver driver;
    driver_begin(&driver);
    driver.endpoint.host = host;
    int listener = listen_loopback("127.0.0.1", &driver.endpoint.port, 5);
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    cr_assert_eq(driver.opened, 0);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed > 0);
    cr_assert_eq(driver.opened, 1, "%s", driver.reason);
    int peer = accept(listener, NULL, NULL);
    peer_send(peer, "hello", 5);
    DRIVE_UNTIL(&driver, driver.received_length == 5);
    close(peer);
    close(listener);
    driver_end(&driver);
}

Test(connect, to_a_numeric_address)
{
    connects_to("127.0.0.1");
}

Test(connect, to_a_name_of_the_hosts_file)
{
    connects_to("localhost");
}

Test(connect, sets_the_socket_up)
{
    struct driver driver;
    int value = 0;
    socklen_t size = sizeof value;
    driver_begin(&driver);
    int listener = listen_loopback("127.0.0.1", &driver.endpoint.port, 5);
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.opened == 1);
    int fd = driver.channel->fd;
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    cr_assert_neq(value, 0);
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    cr_assert_neq(value, 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    close(listener);
    driver_end(&driver);
}

Test(connect, says_who_refused)
{
    struct driver driver;
    char expected[128];
    driver_begin(&driver);
    driver.endpoint.port = closed_port();
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    snprintf(expected, sizeof expected, "connect to 127.0.0.1:%u: Connection refused",
             driver.endpoint.port);
    cr_assert_str_eq(driver.reason, expected);
    drive_idle(&driver);
    cr_assert_eq(driver.closed, 1);
    driver_end(&driver);
}

/* A listener whose queue is full: the kernel answers no further SYN, as a firewall would. */
static int black_hole(const char *address, uint16_t *port, int fill[4])
{
    int listener = listen_loopback(address, port, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(*port)};
    inet_pton(AF_INET, address, &name.sin_addr);
    for (int i = 0; i < 4; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fill[i], (struct sockaddr *)&name, sizeof name);
    }
    return listener;
}

static void close_black_hole(int listener, const int fill[4])
{
    for (int i = 0; i < 4; i++)
        close(fill[i]);
    close(listener);
}

Test(connect, gives_up_after_its_time)
{
    struct driver driver;
    char expected[128];
    int fill[4];
    driver_begin(&driver);
    int listener = black_hole("127.0.0.1", &driver.endpoint.port, fill);
    driver_channel(&driver);
    channel_open(driver.channel, 50);
    DRIVE_UNTIL(&driver, driver.closed + driver.opened > 0);
    snprintf(expected, sizeof expected, "timed out after 50 ms while connecting to 127.0.0.1:%u",
             driver.endpoint.port);
    cr_assert_str_eq(driver.reason, expected);
    close_black_hole(listener, fill);
    driver_end(&driver);
}

Test(connect, may_be_given_up_by_the_owner_at_any_stage)
{
    struct driver driver;
    int fill[4];
    driver_begin(&driver);
    int listener = black_hole("127.0.0.1", &driver.endpoint.port, fill);
    driver_channel(&driver);
    for (int turns = 0; turns < 4; turns++) {
        channel_open(driver.channel, 5000);
        for (int i = 0; i < turns; i++)
            event_base_loop(driver.net.base, EVLOOP_NONBLOCK);
        channel_close(driver.channel);
        drive_idle(&driver);
    }
    cr_assert_eq(driver.opened, 0);
    cr_assert_eq(driver.closed, 0);
    close_black_hole(listener, fill);
    driver_end(&driver);
}

/* ---- names --------------------------------------------------------------------------------- */

Test(names, are_asked_of_the_name_server)
{
    struct driver driver;
    struct name_server names;
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    name_server_add(&names, "127.0.0.1");
    int listener = listen_loopback("127.0.0.1", &driver.endpoint.port, 5);
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed > 0);
    cr_assert_eq(driver.opened, 1, "%s", driver.reason);
    cr_assert_gt(names.questions, 0);
    close(listener);
    name_server_end(&names);
    driver_end(&driver);
}

Test(names, each_address_is_tried)
{
    struct driver driver;
    struct name_server names;
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    name_server_add(&names, "127.0.0.2");
    name_server_add(&names, "127.0.0.3");
    name_server_add(&names, "127.0.0.1");
    int listener = listen_loopback("127.0.0.1", &driver.endpoint.port, 5);
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed > 0);
    cr_assert_eq(driver.opened, 1, "%s", driver.reason);
    close(listener);
    name_server_end(&names);
    driver_end(&driver);
}

Test(names, the_last_refusal_is_told_with_its_address)
{
    struct driver driver;
    struct name_server names;
    char expected[128];
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    name_server_add(&names, "127.0.0.2");
    name_server_add(&names, "127.0.0.3");
    driver.endpoint.port = closed_port();
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed > 0);
    snprintf(expected, sizeof expected, "connect to broker.test:%u (127.0.0.3): Connection refused",
             driver.endpoint.port);
    cr_assert_str_eq(driver.reason, expected);
    name_server_end(&names);
    driver_end(&driver);
}

Test(names, an_address_without_an_answer_leaves_time_for_the_next)
{
    struct driver driver;
    struct name_server names;
    int fill[4];
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    name_server_add(&names, "127.0.0.2");
    name_server_add(&names, "127.0.0.1");
    int listener = listen_loopback("127.0.0.1", &driver.endpoint.port, 5);
    int hole = black_hole("127.0.0.2", &driver.endpoint.port, fill);
    driver_channel(&driver);
    channel_open(driver.channel, 1000);
    DRIVE_UNTIL(&driver, driver.channel->state == CHANNEL_CONNECTING);
    struct timeval deadline;
    struct timeval now;
    cr_assert(event_pending(driver.channel->deadline, EV_TIMEOUT, &deadline));
    gettimeofday(&now, NULL);
    long share_ms = (deadline.tv_sec - now.tv_sec) * 1000 + (deadline.tv_usec - now.tv_usec) / 1000;
    cr_assert_leq(share_ms, 510, "half of the time, not %ld ms", share_ms);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed > 0);
    cr_assert_eq(driver.opened, 1, "%s", driver.reason);
    close_black_hole(hole, fill);
    close(listener);
    name_server_end(&names);
    driver_end(&driver);
}

Test(names, an_unknown_one_is_told)
{
    struct driver driver;
    struct name_server names;
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    driver.endpoint.host = "nowhere.test";
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason,
                     "name 'nowhere.test' could not be resolved: there is no such name");
    name_server_end(&names);
    driver_end(&driver);
}

Test(names, a_silent_name_server_is_told)
{
    struct driver driver;
    struct name_server names;
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    names.silent = true;
    driver_channel(&driver);
    channel_open(driver.channel, 50);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason, "timed out after 50 ms while resolving 'broker.test'");
    name_server_end(&names);
    driver_end(&driver);
}

/* The answer comes when nobody waits for it: nothing is called, and nothing leaks. */
Test(names, a_lookup_may_be_given_up)
{
    struct driver driver;
    struct name_server names;
    driver_begin(&driver);
    name_server_begin(&names, &driver);
    names.silent = true;
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, names.questions > 0);
    cr_assert_eq(driver.channel->state, CHANNEL_RESOLVING);
    channel_close(driver.channel);
    cr_assert_eq(driver.closed, 0);
    name_server_end(&names);
    driver_end(&driver);
    cr_assert_eq(driver.closed, 0);
}

/* ---- unix sockets -------------------------------------------------------------------------- */

Test(unix_socket, is_connected_to)
{
    struct driver driver;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    driver_begin(&driver);
    snprintf(name.sun_path, sizeof name.sun_path, "/tmp/test_channel_%d.sock", (int)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&name, sizeof name), 0);
    cr_assert_eq(listen(listener, 5), 0);
    driver.endpoint = (struct endpoint){.path = name.sun_path};
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed > 0);
    cr_assert_eq(driver.opened, 1, "%s", driver.reason);
    close(listener);
    unlink(name.sun_path);
    driver_end(&driver);
}

static void unix_path_fails(const char *path, const char *expected)
{
    struct driver driver;
    driver_begin(&driver);
    driver.endpoint = (struct endpoint){.path = path};
    driver_channel(&driver);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason, expected);
    driver_end(&driver);
}

Test(unix_socket, that_is_missing_is_named)
{
    unix_path_fails("/nowhere/redis.sock",
                    "connect to /nowhere/redis.sock: No such file or directory");
}

Test(unix_socket, with_too_long_a_path_is_refused)
{
    char path[201] = "";
    char expected[300];
    memset(path, 'x', sizeof path - 1);
    snprintf(expected, sizeof expected, "connect to %s: File name too long", path);
    unix_path_fails(path, expected);
}

/* ---- real sockets, once open --------------------------------------------------------------- */

static int open_tcp(struct driver *driver)
{
    int listener = listen_loopback("127.0.0.1", &driver->endpoint.port, 5);
    driver_channel(driver);
    channel_open(driver->channel, 5000);
    DRIVE_UNTIL(driver, driver->opened == 1);
    int peer = accept(listener, NULL, NULL);
    close(listener);
    return peer;
}

Test(tcp, a_reset_is_told)
{
    struct driver driver;
    driver_begin(&driver);
    int peer = open_tcp(&driver);
    const struct linger at_once = {1, 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(peer);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason, "read: Connection reset by peer");
    driver_end(&driver);
}

/* It closes without having read all: that is a reset, and our next write finds it. */
Test(tcp, the_last_words_before_a_reset_are_read)
{
    struct driver driver;
    driver_begin(&driver);
    int peer = open_tcp(&driver);
    drive_idle(&driver);
    channel_write(driver.channel, bytes_of("never read"));
    channel_flush(driver.channel);
    peer_send(peer, "why I go", 8);
    close(peer);
    while (!driver.channel->write_failed) {
        channel_write(driver.channel, bytes_of("x"));
        channel_flush(driver.channel);
    }
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert(driver_received(&driver, "why I go"));
    driver_end(&driver);
}

Test(tcp, the_low_water_mark_holds_back_the_loop_and_not_a_poll)
{
    struct driver driver;
    driver_begin(&driver);
    int peer = open_tcp(&driver);
    drive_idle(&driver);
    channel_set_low_water(driver.channel, 100);
    peer_send(peer, "0123456789", 10);
    drive_idle(&driver);
    cr_assert_eq(driver.received_length, 0);
    channel_poll(driver.channel);
    cr_assert(driver_received(&driver, "0123456789"));
    char text[100] = "";
    peer_send(peer, text, sizeof text);
    DRIVE_UNTIL(&driver, driver.received_length == 110);
    peer_send(peer, "x", 1);
    drive_idle(&driver);
    channel_set_low_water(driver.channel, 1);
    DRIVE_UNTIL(&driver, driver.received_length == 111);
    channel_set_low_water(driver.channel, 100);
    close(peer);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    driver_end(&driver);
}

Test(tcp, a_new_connection_has_no_low_water_mark)
{
    struct driver driver;
    driver_begin(&driver);
    int peer = open_tcp(&driver);
    channel_set_low_water(driver.channel, 100);
    channel_close(driver.channel);
    close(peer);
    int listener = listen_loopback("127.0.0.1", &driver.endpoint.port, 5);
    channel_open(driver.channel, 5000);
    DRIVE_UNTIL(&driver, driver.opened == 2);
    peer = accept(listener, NULL, NULL);
    peer_send(peer, "x", 1);
    DRIVE_UNTIL(&driver, driver.received_length == 1);
    close(peer);
    close(listener);
    driver_end(&driver);
}
