/*
 * TLS through a channel, against openssl s_server: what is verified, what is said when it fails,
 * how sessions are resumed, and what a record costs. Files and their errors: test_tls_context.c.
 */
#define CERTS TEST_BUILD "/test_io_tls_certs"

#include "channel_driver.h"
#include "tls_peer.h"
#include "transport/channel_private.h"

#include <sys/syscall.h>

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    make_certificates();
}

#define SERVER "-cert " CERT("server.crt") " -key " CERT("server.key") " "
#define ASK "-Verify 2 -verify_return_error -CAfile " CERT("ca.crt") " "

/* ---- counting system calls ----------------------------------------------------------------- */

static unsigned recv_calls;
static unsigned send_calls;

/* In place of the C library's: io_tls.c calls these. */
ssize_t recv(int fd, void *into, size_t size, int flags)
{
    recv_calls++;
    return (ssize_t)syscall(SYS_recvfrom, fd, into, size, flags, NULL, NULL);
}

ssize_t send(int fd, const void *from, size_t size, int flags)
{
    send_calls++;
    return (ssize_t)syscall(SYS_sendto, fd, from, size, flags, NULL, 0);
}

/* ---- a channel to a server ----------------------------------------------------------------- */

static const struct tls_settings localhost = {.ca_file = CERT("ca.crt"),
                                              .server_name = "localhost"};

static void tls_begin(struct driver *driver, const struct tls_settings *settings, uint16_t port)
{
    char error[IO_ERROR_TEXT];
    driver_begin(driver);
    driver->endpoint.port = port;
    driver->endpoint.tls = tls_context_new(settings, error);
    cr_assert_not_null(driver->endpoint.tls, "%s", error);
    driver_channel(driver);
}

/* Opens, asks for a page and reads its beginning, so that tickets have come too. */
static void visit(struct driver *driver)
{
    unsigned opened = driver->opened;
    unsigned closed = driver->closed;
    driver->received_length = 0;
    channel_open(driver->channel, 10000);
    DRIVE_UNTIL(driver, driver->opened > opened || driver->closed > closed);
    cr_assert_eq(driver->closed, closed, "%s", driver->reason);
    channel_write(driver->channel, bytes_of("GET / HTTP/1.0\r\n\r\n"));
    channel_flush(driver->channel);
    DRIVE_UNTIL(driver, driver->received_length > 0 || driver->closed > closed);
    cr_assert_gt(driver->received_length, 0, "%s", driver->reason);
}

static void talks(const char *server, const struct tls_settings *settings, const char *description)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, server);
    tls_begin(&driver, settings, peer.port);
    visit(&driver);
    cr_assert_str_eq(driver.description, description);
    cr_assert_eq(memcmp(driver.received, "HTTP/1.0 200", 12), 0);
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* reason: what stands behind "TLS handshake with ...: ", or the whole text where it begins with
 * "!", because in TLS 1.3 a client knows of its own certificate's fate only after the handshake. */
static void fails(const char *server, const struct tls_settings *settings, const char *reason)
{
    struct tls_peer peer;
    struct driver driver;
    char expected[512];
    tls_peer_start(&peer, server);
    tls_begin(&driver, settings, peer.port);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    snprintf(expected, sizeof expected, "TLS handshake with 127.0.0.1:%u: %s", peer.port, reason);
    cr_assert_str_eq(driver.reason, reason[0] == '!' ? reason + 1 : expected);
    cr_assert_eq(driver.opened, reason[0] == '!' ? 1 : 0);
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* ---- versions and ciphers ------------------------------------------------------------------ */

Test(tls, talks_1_3)
{
    talks(SERVER "-www", &localhost, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
}

Test(tls, talks_1_2)
{
    talks(SERVER "-www -tls1_2", &localhost, "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305");
}

Test(tls, takes_aes_where_the_server_wants_it)
{
    talks(SERVER "-www -ciphersuites TLS_AES_128_GCM_SHA256", &localhost,
          "TLSv1.3 TLS13-AES128-GCM-SHA256");
    talks(SERVER "-www -ciphersuites TLS_AES_256_GCM_SHA384", &localhost,
          "TLSv1.3 TLS13-AES256-GCM-SHA384");
    talks(SERVER "-www -tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", &localhost,
          "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384");
}

/* As Mosquitto does; OpenSSL's own order begins with AES-256. */
Test(tls, takes_chacha20_where_the_server_prefers_aes)
{
    talks(SERVER "-www -serverpref", &localhost, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
    talks(SERVER "-www -serverpref -tls1_2", &localhost, "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305");
}

Test(tls, does_not_talk_1_1)
{
    fails(SERVER "-tls1_1 -cipher ALL:@SECLEVEL=0", &localhost,
          "the server refuses: it speaks neither TLS 1.2 nor TLS 1.3 (protocol_version)");
}

Test(tls, does_not_talk_without_authenticated_encryption)
{
    fails(SERVER "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", &localhost,
          "the server refuses: it shares no cipher with us, or asks for a client certificate and "
          "none is configured (handshake_failure)");
}

/* ---- the server's certificate -------------------------------------------------------------- */

Test(certificate, is_matched_against_an_address)
{
    struct tls_settings settings = localhost;
    settings.server_name = "127.0.0.1";
    talks(SERVER "-www", &settings, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
    settings.server_name = "::1";
    talks(SERVER "-www", &settings, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
    settings.server_name = "127.0.0.2";
    fails(SERVER, &settings, "the server's certificate is not for the address '127.0.0.2'");
    settings.server_name = "::2";
    fails(SERVER, &settings, "the server's certificate is not for the address '::2'");
}

Test(certificate, of_another_name_is_refused)
{
    fails("-cert " CERT("other-name.crt") " -key " CERT("other-name.key"), &localhost,
          "the server's certificate is not for the name 'localhost'");
    fails("-tls1_2 -cert " CERT("other-name.crt") " -key " CERT("other-name.key"), &localhost,
          "the server's certificate is not for the name 'localhost'");
}

Test(certificate, of_an_unknown_authority_is_refused)
{
    struct tls_settings settings = localhost;
    settings.ca_file = CERT("other-ca.crt");
    fails(SERVER, &settings, "the server's certificate is signed by an unknown authority");
    settings.ca_file = "";
    fails(SERVER, &settings, "the server's certificate is signed by an unknown authority");
}

Test(certificate, that_has_expired_is_refused)
{
    fails("-cert " CERT("expired.crt") " -key " CERT("expired.key"), &localhost,
          "the server's certificate has expired");
}

Test(certificate, that_is_not_valid_yet_is_refused)
{
    fails("-cert " CERT("not-yet.crt") " -key " CERT("not-yet.key"), &localhost,
          "the server's certificate is not valid yet (is this machine's clock right?)");
}

static void shows(const char *server, bool accepted, uint64_t end)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, server);
    tls_begin(&driver, &localhost, peer.port);
    cr_assert_eq(channel_certificate_end(driver.channel), 0);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.closed == 1 || driver.opened == 1);
    cr_assert_eq(driver.opened, accepted);
    cr_assert_eq(channel_certificate_end(driver.channel), end);
    channel_close(driver.channel);
    cr_assert_eq(channel_certificate_end(driver.channel), end, "it outlasts the connection");
    driver_end(&driver);
    tls_peer_stop(&peer);
}

Test(certificate, says_when_it_ends)
{
    uint64_t good = tls_file_certificate_end(CERT("server.crt"));
    uint64_t expired = tls_file_certificate_end(CERT("expired.crt"));
    uint64_t now = (uint64_t)time(NULL);
    cr_assert(good > now + 29 * 86400 && good <= now + 30 * 86400);
    cr_assert(expired < now - 86000 && expired > now - 90000);
    cr_assert_eq(tls_file_certificate_end(CERT("no-such.crt")), 0);
    cr_assert_eq(tls_file_certificate_end(CERT("server.key")), 0);
    shows(SERVER, true, good);
    shows(SERVER "-tls1_2", true, good);
    shows("-cert " CERT("expired.crt") " -key " CERT("expired.key"), false, expired);
    shows("-tls1_2 -cert " CERT("expired.crt") " -key " CERT("expired.key"), false, expired);
}

/* SNI: the server has another certificate for localhost than for everybody else. */
Test(certificate, is_asked_for_by_name)
{
    talks("-www -cert " CERT("other-name.crt") " -key " CERT("other-name.key") //
          " -servername localhost -cert2 " CERT("server.crt") " -key2 " CERT("server.key"),
          &localhost, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
}

/* ---- the client's certificate -------------------------------------------------------------- */

static struct tls_settings with_certificate(const char *cert_file, const char *key_file)
{
    struct tls_settings settings = localhost;
    settings.cert_file = cert_file;
    settings.key_file = key_file;
    return settings;
}

Test(client_certificate, is_shown)
{
    const struct tls_settings settings = with_certificate(CERT("client.crt"), CERT("client.key"));
    talks(SERVER ASK "-www", &settings, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
    talks(SERVER ASK "-www -tls1_2", &settings, "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305");
}

Test(client_certificate, that_is_missing_is_told)
{
    fails(SERVER ASK, &localhost,
          "!the server refuses: it asks for a client certificate and none is configured "
          "(certificate_required)");
    fails(SERVER ASK "-tls1_2", &localhost,
          "the server refuses: it shares no cipher with us, or asks for a client certificate and "
          "none is configured (handshake_failure)");
}

Test(client_certificate, of_an_unknown_authority_is_told)
{
    const struct tls_settings settings =
        with_certificate(CERT("stranger.crt"), CERT("stranger.key"));
    fails(SERVER ASK, &settings,
          "!the server refuses: it does not know the authority that signed our client certificate "
          "(unknown_ca)");
    fails(SERVER ASK "-tls1_2", &settings,
          "the server refuses: it does not know the authority that signed our client certificate "
          "(unknown_ca)");
}

/* The alert lies in the socket, but the first thing to go wrong is a write. */
static void write_until_it_fails(struct driver *driver)
{
    char alert;
    while (syscall(SYS_recvfrom, driver->channel->fd, &alert, 1, MSG_PEEK, NULL, NULL) != 1)
        usleep(1000);
    while (!driver->channel->write_failed) {
        channel_write(driver->channel, bytes_of("x"));
        channel_flush(driver->channel);
        usleep(1000);
    }
}

Test(client_certificate, that_is_missing_is_told_also_after_a_failed_write)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER ASK);
    tls_begin(&driver, &localhost, peer.port);
    driver.when_open = write_until_it_fails;
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason,
                     "the server refuses: it asks for a client certificate and none is configured "
                     "(certificate_required)");
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* ---- no TLS at all ------------------------------------------------------------------------- */

/* A plain server that answers what it is told to and hangs up. */
static void answered_with(const char *answer, const char *reason)
{
    struct driver driver;
    char expected[512];
    uint16_t port = 0;
    int listener = listen_loopback("127.0.0.1", &port, 5);
    tls_begin(&driver, &localhost, port);
    channel_open(driver.channel, 10000);
    int peer = -1;
    char hello[4096];
    fcntl(listener, F_SETFL, O_NONBLOCK);
    while ((peer = accept(listener, NULL, NULL)) < 0)
        event_base_loop(driver.net.base, EVLOOP_NONBLOCK);
    fcntl(peer, F_SETFL, O_NONBLOCK);
    while (read(peer, hello, sizeof hello) <= 0)
        event_base_loop(driver.net.base, EVLOOP_NONBLOCK);
    if (answer == NULL) {
        const struct linger at_once = {1, 0};
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    } else if (answer[0] != '\0') {
        peer_send(peer, answer, strlen(answer));
    }
    close(peer);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    snprintf(expected, sizeof expected, "TLS handshake with 127.0.0.1:%u: %s", port, reason);
    cr_assert_str_eq(driver.reason, expected);
    close(listener);
    driver_end(&driver);
}

Test(not_tls, is_told)
{
    answered_with("-ERR unknown command\r\n",
                  "the server does not speak TLS 1.2 or 1.3 on this port");
    answered_with("HTTP/1.1 400 Bad Request\r\n\r\n",
                  "the server does not speak TLS 1.2 or 1.3 on this port");
    answered_with("", "the peer closed the connection (is it a TLS port?)");
    answered_with(NULL, "connection lost: Connection reset by peer");
}

Test(not_tls, a_silent_server_is_asked_once)
{
    struct driver driver;
    uint16_t port = 0;
    int listener = listen_loopback("127.0.0.1", &port, 5);
    tls_begin(&driver, &localhost, port);
    recv_calls = 0;
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, recv_calls > 0);
    drive_idle(&driver);
    cr_assert_eq(recv_calls, 1);
    close(listener);
    driver_end(&driver);
}

/* ---- sessions ------------------------------------------------------------------------------ */

static void resumes(const char *server, const char *first, const char *then)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, server);
    tls_begin(&driver, &localhost, peer.port);
    visit(&driver);
    cr_assert_str_eq(driver.description, first);
    for (int i = 0; i < 3; i++) {
        channel_close(driver.channel);
        visit(&driver);
        cr_assert_str_eq(driver.description, then, "visit %d", i + 2);
    }
    driver_end(&driver);
    tls_peer_stop(&peer);
}

Test(session, is_resumed_with_1_3)
{
    resumes(SERVER "-www", "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256",
            "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256 resumed");
}

Test(session, is_resumed_with_1_2_by_ticket_and_by_id)
{
    resumes(SERVER "-www -tls1_2", "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305 resumed");
    resumes(SERVER "-www -tls1_2 -no_ticket", "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305 resumed");
}

Test(session, is_not_resumed_where_the_certificate_is_about_to_be_renewed)
{
    resumes("-www -cert " CERT("soon.crt") " -key " CERT("soon.key"),
            "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256", "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
}

Test(session, is_not_missed_where_the_server_keeps_none)
{
    resumes(SERVER "-www -num_tickets 0", "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256",
            "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
}

Test(session, that_the_server_has_forgotten_means_a_full_handshake)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER "-www");
    tls_begin(&driver, &localhost, peer.port);
    visit(&driver);
    tls_peer_stop(&peer);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    tls_peer_start(&peer, SERVER "-www");
    driver.endpoint.port = peer.port;
    visit(&driver);
    cr_assert_str_eq(driver.description, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256");
    driver_end(&driver);
    tls_peer_stop(&peer);
}

Test(session, survives_a_lost_connection)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER "-rev");
    tls_begin(&driver, &localhost, peer.port);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.opened == 1);
    channel_write(driver.channel, bytes_of("abc\n"));
    channel_flush(driver.channel);
    DRIVE_UNTIL(&driver, driver_received(&driver, "cba\n"));
    /* The socket breaks under the stream: what follows finds nobody. */
    kill(peer.pid, SIGSTOP);
    channel_write(driver.channel, bytes_of("lost\n"));
    channel_flush(driver.channel);
    cr_assert_eq(shutdown(driver.channel->fd, SHUT_RDWR), 0);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason, "the peer closed the connection");
    kill(peer.pid, SIGCONT);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.opened + driver.closed == 3);
    cr_assert_str_eq(driver.description, "TLSv1.3 TLS13-CHACHA20-POLY1305-SHA256 resumed");
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* ---- records ------------------------------------------------------------------------------- */

/* s_server -rev sends each line back reversed, as a record of its own: like PUBACKs. */
Test(records, small_ones_share_a_system_call)
{
    enum { lines = 400 };
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER "-rev");
    tls_begin(&driver, &localhost, peer.port);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.opened == 1);
    channel_write(driver.channel, bytes_of("tickets come before this\n"));
    channel_flush(driver.channel);
    DRIVE_UNTIL(&driver, driver.received_length == 25);
    driver.received_length = 0;
    driver.deliveries = 0;
    send_calls = 0;
    for (int i = 0; i < lines; i++)
        channel_write(driver.channel, bytes_of("abc\n"));
    channel_flush(driver.channel);
    cr_assert_eq(channel_pending(driver.channel), 0);
    cr_assert_eq(send_calls, 1);
    /* All answers lie in the socket before the first is read. */
    int socket = driver.channel->fd;
    char all[lines * 26];
    while (syscall(SYS_recvfrom, socket, all, sizeof all, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) <
           (long)sizeof all)
        usleep(1000);
    recv_calls = 0;
    DRIVE_UNTIL(&driver, driver.received_length == lines * 4);
    cr_assert_eq(recv_calls, 1, "%u for %d records", recv_calls, lines);
    cr_assert_eq(memcmp(driver.received, "cba\ncba\n", 8), 0);
    cr_assert_eq(driver.deliveries, 1);
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* A write that has to wait for the socket is taken up with the same bytes and more behind them. */
Test(records, a_blocked_write_goes_on_where_it_was)
{
    enum { size = 1 << 20, line = 64 };
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER "-rev");
    tls_begin(&driver, &localhost, peer.port);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.opened == 1);
    int small = 8192;
    setsockopt(driver.channel->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    kill(peer.pid, SIGSTOP);
    char text[line + 1];
    bool blocked = false;
    for (unsigned i = 0; i < size / line; i++) {
        snprintf(text, sizeof text, "%063u\n", i);
        channel_write(driver.channel, bytes_of(text));
        if (i % 50 == 0)
            channel_flush(driver.channel);
        blocked = blocked || channel_pending(driver.channel) > 100 * line;
    }
    channel_flush(driver.channel);
    cr_assert(blocked);
    kill(peer.pid, SIGCONT);
    DRIVE_UNTIL(&driver, driver.received_length == size || driver.closed == 1);
    cr_assert_eq(driver.received_length, size, "%s", driver.reason);
    for (unsigned i = 0; i < size / line; i++) {
        char number[line];
        for (unsigned k = 0; k < line - 1; k++)
            number[k] = (char)driver.received[i * line + line - 2 - k];
        number[line - 1] = '\0';
        cr_assert_eq(strtoul(number, NULL, 10), i);
    }
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* ---- ending -------------------------------------------------------------------------------- */

Test(ending, by_the_server_is_told)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER "-www");
    tls_begin(&driver, &localhost, peer.port);
    visit(&driver);
    DRIVE_UNTIL(&driver, driver.closed == 1);
    cr_assert_str_eq(driver.reason, "the peer closed the connection");
    driver_end(&driver);
    tls_peer_stop(&peer);
}

/* s_server tells on its output when close_notify has come. */
Test(ending, by_us_is_said_to_the_server)
{
    struct tls_peer peer;
    struct driver driver;
    tls_peer_start(&peer, SERVER "-msg");
    tls_begin(&driver, &localhost, peer.port);
    channel_open(driver.channel, 10000);
    DRIVE_UNTIL(&driver, driver.opened == 1);
    channel_close(driver.channel);
    char line[256];
    bool told = false;
    while (!told && fgets(line, sizeof line, peer.output) != NULL)
        told = strstr(line, "close_notify") != NULL && line[0] == '<';
    cr_assert(told);
    driver_end(&driver);
    tls_peer_stop(&peer);
}
