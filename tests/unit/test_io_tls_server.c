/*
 * The side of TLS that accepts: our server and our client talk over a pair of sockets, on one
 * thread. What other clients make of the server: tests/integration/test_admin_tls.py.
 */
#define CERTS TEST_BUILD "/test_io_tls_server_certs"

#include "channel_driver.h"
#include "tls_peer.h"

#include <fcntl.h>

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    make_certificates();
}

static const struct tls_settings server_setting = {.cert_file = CERT("server.crt"),
                                                   .key_file = CERT("server.key")};
static const struct tls_settings client_setting = {.ca_file = CERT("ca.crt"),
                                                   .server_name = "localhost"};

struct pair {
    struct driver server, client;
};

/* client NULL: a plain socket, whose number is returned; else -1. */
static int pair_begin(struct pair *pair, const struct tls_settings *server,
                      const struct tls_settings *client)
{
    char error[IO_ERROR_TEXT] = "";
    int sockets[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets), 0);
    driver_begin(&pair->server);
    driver_begin(&pair->client);
    pair->server.endpoint.tls = tls_context_new_server(server, error);
    cr_assert_not_null(pair->server.endpoint.tls, "%s", error);
    if (client != NULL) {
        pair->client.endpoint.tls = tls_context_new(client, error);
        cr_assert_not_null(pair->client.endpoint.tls, "%s", error);
    }
    driver_channel(&pair->server);
    driver_channel(&pair->client);
    channel_open_socket(pair->server.channel, sockets[0], io_tls_new(pair->server.endpoint.tls),
                        10000);
    if (client == NULL)
        return sockets[1];
    channel_open_socket(pair->client.channel, sockets[1], io_tls_new(pair->client.endpoint.tls),
                        10000);
    return -1;
}

static void pair_end(struct pair *pair)
{
    driver_end(&pair->client);
    driver_end(&pair->server);
}

#define PAIR_UNTIL(pair, condition)                                                                \
    while (!(condition)) {                                                                         \
        event_base_loop((pair)->server.net.base, EVLOOP_NONBLOCK);                                 \
        event_base_loop((pair)->client.net.base, EVLOOP_NONBLOCK);                                 \
    }

static void say(struct driver *driver, const char *text)
{
    channel_write(driver->channel, bytes_of(text));
    channel_flush(driver->channel);
}

static void talks(const struct tls_settings *server, const struct tls_settings *client)
{
    struct pair pair;
    (void)pair_begin(&pair, server, client);
    PAIR_UNTIL(&pair, (pair.server.opened == 1 && pair.client.opened == 1) ||
                          pair.server.closed == 1 || pair.client.closed == 1);
    cr_assert_eq(pair.server.opened, 1, "%s; %s", pair.server.reason, pair.client.reason);
    cr_assert_str_eq(pair.server.description, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
    say(&pair.client, "question");
    PAIR_UNTIL(&pair, driver_received(&pair.server, "question") || pair.server.closed == 1);
    say(&pair.server, "answer");
    PAIR_UNTIL(&pair, driver_received(&pair.client, "answer") || pair.client.closed == 1);
    cr_assert(driver_received(&pair.client, "answer"), "%s", pair.client.reason);
    channel_close(pair.server.channel);
    PAIR_UNTIL(&pair, pair.client.closed == 1);
    cr_assert_str_eq(pair.client.reason, "the peer closed the connection");
    pair_end(&pair);
}

/* NULL: what this side says is not looked at. */
static void fails(const struct tls_settings *server, const struct tls_settings *client,
                  const char *server_says, const char *client_says)
{
    static const char handshake[] = "TLS handshake with 127.0.0.1:0: ";
    struct pair pair;
    (void)pair_begin(&pair, server, client);
    PAIR_UNTIL(&pair, pair.server.closed == 1 && pair.client.closed == 1);
    cr_assert_eq(strncmp(pair.server.reason, handshake, strlen(handshake)), 0, "%s",
                 pair.server.reason);
    if (server_says != NULL)
        cr_assert_str_eq(pair.server.reason + strlen(handshake), server_says);
    if (client_says != NULL)
        cr_assert_not_null(strstr(pair.client.reason, client_says), "%s", pair.client.reason);
    pair_end(&pair);
}

/* ---- without certificates of clients ------------------------------------------------------- */

Test(server, talks)
{
    talks(&server_setting, &client_setting);
}

Test(server, remembers_no_session)
{
    struct pair pair;
    (void)pair_begin(&pair, &server_setting, &client_setting);
    for (unsigned turn = 1; turn <= 3; turn++) {
        PAIR_UNTIL(&pair, pair.client.opened == turn && pair.server.opened == turn);
        cr_assert_str_eq(pair.client.description, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
        say(&pair.server, "x");
        PAIR_UNTIL(&pair, pair.client.received_length == turn);
        channel_close(pair.client.channel);
        PAIR_UNTIL(&pair, pair.server.closed == turn);
        int sockets[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets),
                     0);
        channel_open_socket(pair.server.channel, sockets[0], io_tls_new(pair.server.endpoint.tls),
                            10000);
        channel_open_socket(pair.client.channel, sockets[1], io_tls_new(pair.client.endpoint.tls),
                            10000);
    }
    pair_end(&pair);
}

Test(server, is_told_that_it_is_not_trusted)
{
    struct tls_settings client = client_setting;
    client.ca_file = CERT("other-ca.crt");
    fails(&server_setting, &client,
          "the client refuses: it does not know the authority that signed our certificate "
          "(unknown_ca)",
          "the server's certificate is signed by an unknown authority");
}

Test(server, says_that_a_client_speaks_no_tls)
{
    static const char *const said[] = {"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                       "\r\n\r\n\r\n\r\n", "PING\r\n"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct pair pair;
        int fd = pair_begin(&pair, &server_setting, NULL);
        peer_send(fd, said[i], strlen(said[i]));
        PAIR_UNTIL(&pair, pair.server.closed == 1);
        cr_assert_str_eq(pair.server.reason,
                         "TLS handshake with 127.0.0.1:0: the client does not speak TLS 1.2 or 1.3 "
                         "on this port");
        close(fd);
        pair_end(&pair);
    }
}

Test(server, is_left_during_the_handshake)
{
    struct pair pair;
    int fd = pair_begin(&pair, &server_setting, NULL);
    close(fd);
    PAIR_UNTIL(&pair, pair.server.closed == 1);
    cr_assert_str_eq(pair.server.reason,
                     "TLS handshake with 127.0.0.1:0: the peer closed the connection");
    pair_end(&pair);
}

/* ---- with certificates of clients ---------------------------------------------------------- */

static struct tls_settings asking(void)
{
    struct tls_settings settings = server_setting;
    settings.ca_file = CERT("ca.crt");
    return settings;
}

static struct tls_settings client_with(const char *cert_file, const char *key_file)
{
    struct tls_settings settings = client_setting;
    settings.cert_file = cert_file;
    settings.key_file = key_file;
    return settings;
}

Test(client_certificate, is_taken)
{
    struct tls_settings server = asking();
    struct tls_settings client = client_with(CERT("client.crt"), CERT("client.key"));
    talks(&server, &client);
}

Test(client_certificate, is_missing)
{
    struct tls_settings server = asking();
    fails(&server, &client_setting, "the client shows no certificate", "the server refuses");
}

Test(client_certificate, is_of_another_authority)
{
    struct tls_settings server = asking();
    struct tls_settings client = client_with(CERT("stranger.crt"), CERT("stranger.key"));
    fails(&server, &client, "the client's certificate is signed by an unknown authority",
          "the server refuses");
}

Test(client_certificate, is_one_of_a_server)
{
    struct tls_settings server = asking();
    struct tls_settings client = client_with(CERT("server.crt"), CERT("server.key"));
    fails(&server, &client, "the client's certificate is not meant for that", "the server refuses");
}

/* ---- a client that knows the server's certificate ------------------------------------------ */

Test(known_certificate, needs_neither_name_nor_authority)
{
    static const char *const names[] = {"server", "other-name"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char cert_file[300], key_file[300];
        snprintf(cert_file, sizeof cert_file, CERT("%s.crt"), names[i]);
        snprintf(key_file, sizeof key_file, CERT("%s.key"), names[i]);
        struct tls_settings server = {.cert_file = cert_file, .key_file = key_file};
        struct tls_settings client = {.peer_file = cert_file};
        talks(&server, &client);
    }
}

Test(known_certificate, has_expired)
{
    char error[IO_ERROR_TEXT] = "";
    struct tls_settings client = {.peer_file = CERT("expired.crt")};
    cr_assert_null(tls_context_new(&client, error));
    cr_assert_str_eq(error, "certificate file " CERT("expired.crt") ": has expired");
}

Test(known_certificate, is_another_one)
{
    struct tls_settings client = {.peer_file = CERT("other-name.crt")};
    fails(&server_setting, &client, NULL,
          "the server's certificate is signed by an unknown authority");
}

/* An authority is no certificate of a server, though it has signed the one that is shown. */
Test(known_certificate, is_that_of_the_authority)
{
    struct tls_settings client = {.peer_file = CERT("ca.crt")};
    fails(&server_setting, &client, NULL,
          "the server's certificate is signed by an unknown authority");
}

/* ---- files --------------------------------------------------------------------------------- */

/* Whether it is good enough is for its clients to say: without it nothing would be told of. */
Test(server, takes_a_certificate_that_has_expired)
{
    char error[IO_ERROR_TEXT] = "";
    struct tls_settings settings = {.cert_file = CERT("expired.crt"),
                                    .key_file = CERT("expired.key")};
    struct tls_context *context = tls_context_new_server(&settings, error);
    cr_assert_not_null(context, "%s", error);
    tls_context_free(context);
}

Test(server, needs_a_certificate)
{
    char error[IO_ERROR_TEXT] = "";
    struct tls_settings settings = {.ca_file = CERT("ca.crt")};
    cr_assert_null(tls_context_new_server(&settings, error));
    cr_assert_str_eq(error, "TLS: a server needs a certificate file");
    settings = server_setting;
    settings.key_file = CERT("client.key");
    cr_assert_null(tls_context_new_server(&settings, error));
    cr_assert_str_eq(error,
                     "key file " CERT("client.key") " does not belong to certificate file " //
                     CERT("server.crt"));
    settings = server_setting;
    settings.ca_file = CERT("server.key");
    cr_assert_null(tls_context_new_server(&settings, error));
    cr_assert_str_eq(error, "CA file " CERT("server.key") ": holds no certificate in PEM");
    settings = (struct tls_settings){.peer_file = CERT("server.key")};
    cr_assert_null(tls_context_new(&settings, error));
    cr_assert_str_eq(error, "certificate file " CERT("server.key") ": holds no certificate in PEM");
}
