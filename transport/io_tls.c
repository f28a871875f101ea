/*
 * The byte stream of TLS 1.2 and 1.3, by wolfSSL, of either side. It reads the socket ahead into a
 * buffer, so that many small records (every PUBACK is one) cost one recv(), keeps the session for
 * the next connection, and says in words why a handshake failed. Files and ciphers: tls_context.c.
 */
#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "transport/io.h"
#include "transport/tls_context.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#define READ_AHEAD ((size_t)16384)
/* The most that one record carries [RFC 8446, 5.1]. */
#define RECORD_MAX ((size_t)16384)

struct io_tls {
    struct io head;
    struct tls_context *context; /* borrowed */
    WOLFSSL *ssl;                /* owned; NULL while closed */
    WOLFSSL_SESSION *session;    /* owned; of the last good connection; NULL: none */
    int fd;
    unsigned want;
    bool open;       /* the handshake is done */
    bool failed;     /* nothing may be sent on it any more */
    bool offers_all; /* the server has taken none of the ciphers that are offered first */

    /* The socket as the library's callbacks have found it. */
    bool drained; /* the last recv() took less than it could: the next one would find nothing */
    bool end_of_stream;
    int socket_error; /* errno; 0: none */

    uint64_t certificate_end; /* of the one that the server has shown last; 0: none yet */
    char describe[96];
    size_t start; /* of what was read ahead */
    size_t end;
    uint8_t ahead[READ_AHEAD];
};

/* ---- the library's socket ------------------------------------------------------------------ */

/* WOLFSSL_CBIO_ERR_*, or 0 when there is something in the buffer now. */
static int read_ahead(struct io_tls *tls)
{
    if (tls->drained) {
        tls->drained = false;
        return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    ssize_t result;
    do {
        result = recv(tls->fd, tls->ahead, sizeof tls->ahead, 0);
    } while (result < 0 && errno == EINTR);
    if (result > 0) {
        tls->start = 0;
        tls->end = (size_t)result;
        tls->drained = tls->end < sizeof tls->ahead;
        return 0;
    }
    if (result < 0 && errno == EAGAIN)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    if (result < 0)
        tls->socket_error = errno;
    else
        tls->end_of_stream = true;
    return WOLFSSL_CBIO_ERR_CONN_CLOSE;
}

static int on_receive(WOLFSSL *ssl, char *into, int size, void *argument)
{
    (void)ssl;
    struct io_tls *tls = argument;
    if (tls->start == tls->end) {
        int error = read_ahead(tls);
        if (error != 0)
            return error;
    }
    size_t length = tls->end - tls->start;
    if (length > (size_t)size)
        length = (size_t)size;
    memcpy(into, tls->ahead + tls->start, length);
    tls->start += length;
    return (int)length;
}

static int on_send(WOLFSSL *ssl, char *from, int size, void *argument)
{
    (void)ssl;
    struct io_tls *tls = argument;
    ssize_t result;
    do {
        result = send(tls->fd, from, (size_t)size, MSG_NOSIGNAL);
    } while (result < 0 && errno == EINTR);
    if (result >= 0)
        return (int)result;
    if (errno == EAGAIN)
        return WOLFSSL_CBIO_ERR_WANT_WRITE;
    /* Kept from the library, which would read nothing after it: an alert may be waiting. */
    tls->socket_error = errno;
    tls->drained = false;
    return WOLFSSL_CBIO_ERR_WANT_WRITE;
}

/* ---- words for people ---------------------------------------------------------------------- */

/* What an alert of the server means [RFC 8446, 6.2]. */
static const char *alert_text(int alert, bool has_certificate)
{
    switch (alert) {
    case certificate_required:
        return "it asks for a client certificate and none is configured (certificate_required)";
    case handshake_failure:
        return has_certificate
                   ? "it shares no cipher with us or does not take our certificate "
                     "(handshake_failure)"
                   : "it shares no cipher with us, or asks for a client certificate and none is "
                     "configured (handshake_failure)";
    case bad_certificate:
        return has_certificate ? "it does not take our client certificate (bad_certificate)"
                               : "it asks for a client certificate (bad_certificate)";
    case unsupported_certificate:
        return "it cannot use our client certificate (unsupported_certificate)";
    case certificate_revoked:
        return "our client certificate is revoked (certificate_revoked)";
    case certificate_expired:
        return "our client certificate has expired (certificate_expired)";
    case certificate_unknown:
        return "it does not accept our client certificate (certificate_unknown)";
    case unknown_ca:
        return "it does not know the authority that signed our client certificate (unknown_ca)";
    case access_denied:
        return "our client certificate is valid and not allowed in (access_denied)";
    case protocol_version:
        return "it speaks neither TLS 1.2 nor TLS 1.3 (protocol_version)";
    case insufficient_security:
        return "it asks for other ciphers (insufficient_security)";
    case unrecognized_name:
        return "it does not know the name we asked for (unrecognized_name)";
    case decrypt_error:
        return "it could not verify our signature (decrypt_error)";
    case internal_error:
        return "it has an internal error (internal_error)";
    default:
        return NULL;
    }
}

/* The same of a client, which says little more than that it does not trust us. */
static const char *client_alert_text(int alert)
{
    switch (alert) {
    case bad_certificate:
    case unsupported_certificate:
    case certificate_expired:
    case certificate_unknown:
        return "it does not accept our certificate";
    case unknown_ca:
        return "it does not know the authority that signed our certificate (unknown_ca)";
    case protocol_version:
        return "it speaks neither TLS 1.2 nor TLS 1.3 (protocol_version)";
    default:
        return NULL;
    }
}

/* What was wrong with the peer, by the library's error; to follow "the server" or "the client".
 * NULL: ask the library. */
static const char *local_text(int code)
{
    switch (code) {
    case ASN_NO_SIGNER_E:
        return "'s certificate is signed by an unknown authority";
    case ASN_SELF_SIGNED_E:
        return "'s certificate is signed by itself, and by no known authority";
    case ASN_AFTER_DATE_E:
        return "'s certificate has expired";
    case ASN_BEFORE_DATE_E:
        return "'s certificate is not valid yet (is this machine's clock right?)";
    case ASN_SIG_CONFIRM_E:
    case VERIFY_CERT_ERROR:
        return "'s certificate has a wrong signature";
    case EXTKEYUSE_AUTH_E:
        return "'s certificate is not meant for that";
    case NO_PEER_CERT:
        return " shows no certificate";
    case MATCH_SUITE_ERROR:
        return " shares no cipher with us";
    case UNKNOWN_RECORD_TYPE:
    case LENGTH_ERROR:
    case PARSE_ERROR:
    case VERSION_ERROR:
        return " does not speak TLS 1.2 or 1.3 on this port";
    default:
        return NULL;
    }
}

static enum status fail(struct io_tls *tls, const char *text)
{
    tls->failed = true;
    snprintf(tls->head.error, sizeof tls->head.error, "%s", text);
    return STATUS_FAILED;
}

static bool is_memory(int code)
{
    return code == MEMORY_ERROR || code == MEMORY_E;
}

/* false: the peer has sent no fatal alert. */
static bool explain_alert(struct io_tls *tls, const char *peer)
{
    char *error = tls->head.error;
    const struct tls_context *context = tls->context;
    WOLFSSL_ALERT_HISTORY alerts;
    if (wolfSSL_get_alert_history(tls->ssl, &alerts) != WOLFSSL_SUCCESS ||
        alerts.last_rx.level != alert_fatal)
        return false;
    const char *text = context->is_server
                           ? client_alert_text(alerts.last_rx.code)
                           : alert_text(alerts.last_rx.code, context->has_certificate);
    if (text != NULL)
        snprintf(error, IO_ERROR_TEXT, "the %s refuses: %s", peer, text);
    else
        snprintf(error, IO_ERROR_TEXT, "the %s refuses: alert %d", peer, alerts.last_rx.code);
    return true;
}

static enum status explain(struct io_tls *tls, int code)
{
    char *error = tls->head.error;
    const char *peer = tls->context->is_server ? "client" : "server";
    tls->failed = true;
    if (code == DOMAIN_NAME_MISMATCH || code == IPADDR_MISMATCH) {
        snprintf(error, IO_ERROR_TEXT, "the server's certificate is not for %s '%s'",
                 tls->context->name_is_address ? "the address" : "the name",
                 tls->context->server_name);
        return STATUS_FAILED;
    }
    if (is_memory(code))
        return fail(tls, "out of memory");
    if (local_text(code) != NULL) {
        snprintf(error, IO_ERROR_TEXT, "the %s%s", peer, local_text(code));
        return STATUS_FAILED;
    }
    if (explain_alert(tls, peer))
        return STATUS_FAILED;
    if (tls->socket_error != 0) {
        snprintf(error, IO_ERROR_TEXT, "connection lost: %s", strerror(tls->socket_error));
        return STATUS_FAILED;
    }
    /* Without close_notify too: MQTT and Redis know by themselves when a message is cut short. */
    if (tls->end_of_stream && tls->open)
        return STATUS_CLOSED;
    if (tls->end_of_stream)
        return fail(tls, tls->context->is_server
                             ? "the peer closed the connection"
                             : "the peer closed the connection (is it a TLS port?)");
    snprintf(error, IO_ERROR_TEXT, "%s (%d)", wolfSSL_ERR_reason_error_string((unsigned long)code),
             code);
    return STATUS_FAILED;
}

/* ---- the five functions -------------------------------------------------------------------- */

/* What a call that did not succeed means; false: the stream is broken, for the reason *code. */
static bool must_wait(struct io_tls *tls, int result, int *code)
{
    *code = wolfSSL_get_error(tls->ssl, result);
    /* The library queues its errors per thread, and would go on to the end of memory. */
    wolfSSL_ERR_clear_error();
    tls->want = *code == WOLFSSL_ERROR_WANT_WRITE ? IO_WANT_WRITE : IO_WANT_READ;
    return *code == WOLFSSL_ERROR_WANT_WRITE || *code == WOLFSSL_ERROR_WANT_READ;
}

/* An IPv6 address is written in full and in capitals: the library compares texts, and this is how
 * it writes down the addresses of a certificate. */
static bool match_address(struct io_tls *tls, const char *name)
{
    uint8_t v6[16];
    char text[INET6_ADDRSTRLEN];
    if (inet_pton(AF_INET6, name, v6) == 1) {
        for (size_t i = 0; i < 8; i++)
            snprintf(text + 5 * i, sizeof text - 5 * i, "%02X%02X:", v6[2 * i], v6[2 * i + 1]);
        text[39] = '\0';
        name = text;
    }
    return wolfSSL_X509_VERIFY_PARAM_set1_ip_asc(wolfSSL_get0_param(tls->ssl), name) ==
           WOLFSSL_SUCCESS;
}

static bool set_server_name(struct io_tls *tls)
{
    const char *name = tls->context->server_name;
    if (name == NULL)
        return true;
    /* Literal addresses are not permitted in SNI [RFC 6066, 3]. */
    if (tls->context->name_is_address)
        return match_address(tls, name);
    return wolfSSL_check_domain_name(tls->ssl, name) == WOLFSSL_SUCCESS &&
           wolfSSL_UseSNI(tls->ssl, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)strlen(name)) ==
               WOLFSSL_SUCCESS;
}

static bool begin(struct io_tls *tls, int fd)
{
    tls->fd = fd;
    tls->want = IO_WANT_READ;
    tls->open = false;
    tls->failed = false;
    tls->drained = false;
    tls->end_of_stream = false;
    tls->socket_error = 0;
    tls->head.reopen = false;
    tls->start = tls->end = 0;
    tls->ssl = wolfSSL_new(tls->context->library);
    if (tls->ssl == NULL || !set_server_name(tls) ||
        (tls->offers_all && wolfSSL_set_cipher_list(tls->ssl, tls_all_ciphers) != WOLFSSL_SUCCESS))
        return false;
    wolfSSL_SSLSetIORecv(tls->ssl, on_receive);
    wolfSSL_SSLSetIOSend(tls->ssl, on_send);
    wolfSSL_SetIOReadCtx(tls->ssl, tls);
    wolfSSL_SetIOWriteCtx(tls->ssl, tls);
    if (tls->session != NULL)
        (void)wolfSSL_set_session(tls->ssl, tls->session); /* refused: a full handshake */
    return true;
}

static void drop_session(struct io_tls *tls)
{
    if (tls->session != NULL)
        wolfSSL_SESSION_free(tls->session);
    tls->session = NULL;
}

/* The alerts of a server that shares no cipher, which may mean other things as well. */
static bool wants_other_ciphers(const struct io_tls *tls)
{
    WOLFSSL_ALERT_HISTORY alerts;
    return wolfSSL_get_alert_history(tls->ssl, &alerts) == WOLFSSL_SUCCESS &&
           alerts.last_rx.level == alert_fatal &&
           (alerts.last_rx.code == handshake_failure ||
            alerts.last_rx.code == insufficient_security);
}

/* Of a handshake that has ended, well or not. false: the certificate is not the expected one. */
static bool note_certificate(struct io_tls *tls)
{
    WOLFSSL_X509 *certificate = wolfSSL_get_peer_certificate(tls->ssl);
    uint64_t end = tls_certificate_end(certificate);
    if (end != 0)
        tls->certificate_end = end;
    bool expected = tls_is_peer(tls->context, certificate);
    wolfSSL_X509_free(certificate);
    return expected;
}

static enum status tls_open(struct io *io, int fd)
{
    struct io_tls *tls = (struct io_tls *)io;
    if (tls->ssl == NULL && !begin(tls, fd))
        return fail(tls, "out of memory");
    int result = tls->context->is_server ? wolfSSL_accept(tls->ssl) : wolfSSL_connect(tls->ssl);
    if (result == WOLFSSL_SUCCESS) {
        tls->open = true;
        tls->want = IO_WANT_READ;
        if (!note_certificate(tls))
            return fail(tls, "the server's certificate is not the expected one");
        snprintf(tls->describe, sizeof tls->describe, "%s %s%s", wolfSSL_get_version(tls->ssl),
                 wolfSSL_get_cipher_name(tls->ssl),
                 wolfSSL_session_reused(tls->ssl) ? " resumed" : "");
        return STATUS_OK;
    }
    int code;
    if (must_wait(tls, result, &code) && tls->socket_error == 0)
        return STATUS_AGAIN;
    (void)note_certificate(tls);
    /* A session that the server cannot digest must not spoil the next try as well. */
    drop_session(tls);
    tls->offers_all = !tls->context->is_server && !tls->offers_all && wants_other_ciphers(tls);
    tls->head.reopen = tls->offers_all;
    return explain(tls, code);
}

static enum status tls_read(struct io *io, uint8_t *into, size_t size, size_t *got)
{
    struct io_tls *tls = (struct io_tls *)io;
    int result = wolfSSL_read(tls->ssl, into, size > RECORD_MAX ? (int)RECORD_MAX : (int)size);
    if (result > 0) {
        *got = (size_t)result;
        return STATUS_OK;
    }
    int code;
    if (must_wait(tls, result, &code))
        return STATUS_AGAIN;
    if (code == WOLFSSL_ERROR_ZERO_RETURN)
        return STATUS_CLOSED;
    return explain(tls, code);
}

static enum status tls_write(struct io *io, struct bytes from, size_t *put)
{
    struct io_tls *tls = (struct io_tls *)io;
    /* One record for each call, so that *put is what has really left: given more, the library says
     * nothing of the records that were sent before the one that has to wait. */
    int size = from.length > RECORD_MAX ? (int)RECORD_MAX : (int)from.length;
    int result = wolfSSL_write(tls->ssl, from.data, size);
    if (result > 0) {
        *put = (size_t)result;
        return STATUS_OK;
    }
    int code;
    if (must_wait(tls, result, &code) && tls->socket_error == 0)
        return STATUS_AGAIN;
    return explain(tls, code);
}

static unsigned tls_want(const struct io *io)
{
    return ((const struct io_tls *)io)->want;
}

/* Keeps what the next handshake can be shortened with. With TLS 1.3 that is the ticket, which has
 * come with what was read after the handshake [RFC 8446, 4.6.1]. A server whose certificate is
 * about to be renewed is to show it in full. */
static void keep_session(struct io_tls *tls)
{
    uint64_t now = (uint64_t)time(NULL);
    if (tls->certificate_end != 0 && tls->certificate_end < now + TLS_RENEWAL_S) {
        drop_session(tls);
        return;
    }
    WOLFSSL_SESSION *session = wolfSSL_get1_session(tls->ssl);
    if (session == NULL)
        return;
    drop_session(tls);
    tls->session = session;
}

static void tls_close(struct io *io)
{
    struct io_tls *tls = (struct io_tls *)io;
    if (tls->ssl == NULL)
        return;
    /* A lost connection is no reason against its session: it is when resuming matters most. */
    if (tls->open && !tls->context->is_server &&
        (!tls->failed || tls->socket_error != 0 || tls->end_of_stream))
        keep_session(tls);
    if (tls->open && !tls->failed)
        (void)wolfSSL_shutdown(tls->ssl);
    wolfSSL_free(tls->ssl);
    wolfSSL_ERR_clear_error();
    tls->ssl = NULL;
    tls->fd = -1;
    tls->open = false;
    tls->describe[0] = '\0';
}

static void tls_free(struct io *io)
{
    struct io_tls *tls = (struct io_tls *)io;
    tls_close(io);
    drop_session(tls);
    free(tls);
}

static const struct io_ops tls_ops = {
    .open = tls_open,
    .read = tls_read,
    .write = tls_write,
    .want = tls_want,
    .close = tls_close,
    .free = tls_free,
};

struct io *io_tls_new(struct tls_context *context)
{
    struct io_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return NULL;
    tls->head.ops = &tls_ops;
    tls->context = context;
    tls->fd = -1;
    return &tls->head;
}

const char *io_tls_describe(const struct io *io)
{
    return io->ops == &tls_ops ? ((const struct io_tls *)io)->describe : "";
}

uint64_t io_tls_certificate_end(const struct io *io)
{
    return io->ops == &tls_ops ? ((const struct io_tls *)io)->certificate_end : 0;
}
