/*
 * The HTTP/1.1 that the admin server speaks [RFC 9110, RFC 9112], over TLS where it has a
 * certificate: requests with a small body, answers of known length, and streams that end with their
 * connection. It is strict and bounded: connections, bytes of a request, the time that one may
 * take, and bytes that wait for a slow reader. What the paths mean is admin_routes.c's business. On
 * the main thread.
 *
 * libevent's own server is not used, as it cannot bound the number of connections, nor the time
 * that a request's head takes as a whole.
 */
#ifndef NEMOGATE_CORE_ADMIN_HTTP_H
#define NEMOGATE_CORE_ADMIN_HTTP_H

#include "codec/bytes.h"
#include "codec/status.h"
#include "transport/io.h"
#include "transport/net.h"

/* Views, valid for the call; NUL-terminated, "" where there is none. */
struct http_request {
    const char *method;
    const char *path;  /* as it was sent, without the query */
    const char *query; /* without the question mark */
    const char *host;
    const char *authorization;
    const char *content_type;
    const char *marker; /* X-Nemogate */
    bool accepts_gzip;
    struct bytes body;
};

struct http_server;
struct http_connection;

/* All borrowed for the server's life. */
struct http_setting {
    const struct net *net;
    const char *host; /* numeric */
    uint16_t port;
    int socket;              /* that listens there already, and becomes the server's; -1: none */
    struct tls_context *tls; /* NULL: plain */
    /* Answers by http_answer or http_begin_stream, at once or later. */
    void (*on_request)(void *context, struct http_connection *connection,
                       const struct http_request *request);
    /* A connection whose request was not answered, or whose stream has not ended, is gone. */
    void (*on_gone)(void *context, struct http_connection *connection);
    /* The TLS handshake with a client has failed; where it is from is part of the reason. */
    void (*on_refused)(void *context, const char *reason);
    void *context;
};

/* Listens. Owned by the caller. NULL: error (IO_ERROR_TEXT bytes) says why, and the socket of the
 * setting stays the caller's. */
struct http_server *http_server_new(const struct http_setting *setting, char *error);
/* Closes all connections, without on_gone. */
void http_server_free(struct http_server *server);

/* Takes no further connection: those that come wait in the listening socket, which is returned and
 * stays the server's. Streams end. */
int http_server_retire(struct http_server *server);
/* Whether a client waits for an answer, or has not been given a chance to ask for one yet. */
bool http_server_is_busy(const struct http_server *server);

/* The whole answer; of a HEAD request only its head is sent. */
void http_answer(struct http_connection *connection, unsigned status, const char *type,
                 struct bytes body);
/* The same where the body depends on what encodings the request accepts [RFC 9110, 12.5.3]: gzip or
 * as it is. */
void http_answer_encoded(struct http_connection *connection, const char *type, struct bytes body,
                         bool gzip);
/* {"error": {"code": ..., "text": ...}}; both are constants without characters to be escaped. */
void http_answer_error(struct http_connection *connection, unsigned status, const char *code,
                       const char *text);

/* The head of an answer that goes on until the connection ends. */
void http_begin_stream(struct http_connection *connection, const char *type);
/* false: the reader is too slow, and nothing was written. */
bool http_stream_write(struct http_connection *connection, struct bytes data);
void http_end_stream(struct http_connection *connection);

/* What the owner likes to keep with a connection; NULL at first. */
void http_set_owner(struct http_connection *connection, void *owner);
void *http_owner(const struct http_connection *connection);

/* Of text/percent-encoded query "a=1&b=%41": the value of a name, decoded, into value (size bytes
 * with NUL). false: it is not given, too long, or broken. */
MUST_CHECK bool http_query_value(const char *query, const char *name, char *value, size_t size);

#endif
