/*
 * The HTTP/1.1 that the admin server speaks [RFC 9110, RFC 9112]: requests with a small body,
 * answers of known length, and streams that end with their connection. It is strict and bounded:
 * connections, bytes of a request, the time that one may take, and bytes that wait for a slow
 * reader. What the paths mean is admin.c's business. On the main thread.
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
    struct bytes body;
};

struct http_server;
struct http_connection;

/* All borrowed for the server's life. */
struct http_setting {
    const struct net *net;
    const char *host; /* numeric */
    uint16_t port;
    /* Answers by http_answer or http_begin_stream, at once or later. */
    void (*on_request)(void *context, struct http_connection *connection,
                       const struct http_request *request);
    /* A connection whose request was not answered, or whose stream has not ended, is gone. */
    void (*on_gone)(void *context, struct http_connection *connection);
    void *context;
};

/* Listens. Owned by the caller. NULL: error (IO_ERROR_TEXT bytes) says why. */
struct http_server *http_server_new(const struct http_setting *setting, char *error);
/* Closes all connections, without on_gone. */
void http_server_free(struct http_server *server);

/* The whole answer; of a HEAD request only its head is sent. */
void http_answer(struct http_connection *connection, unsigned status, const char *type,
                 struct bytes body);
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
