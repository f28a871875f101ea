/*
 * The inside of the HTTP server, shared by admin_http.c (connections and answers) and
 * admin_http_request.c (reading a request). Nobody else includes it but its tests.
 */
#ifndef NEMOGATE_CORE_ADMIN_HTTP_PRIVATE_H
#define NEMOGATE_CORE_ADMIN_HTTP_PRIVATE_H

#include "core/admin_http.h"

#define HTTP_HEAD_MAX 8192u
#define HTTP_BODY_MAX 32768u

/* A request as it is read: the texts lie in head. */
struct http_reading {
    char head[HTTP_HEAD_MAX + 1];
    struct http_request request;
    size_t body_length;
    bool close; /* the client wants the connection to end after the answer */
    bool expects_continue;
};

enum http_outcome {
    HTTP_INCOMPLETE,
    HTTP_COMPLETE,
    HTTP_HEAD_ONLY, /* its head is there, and its body not yet */
    HTTP_BAD_REQUEST,
    HTTP_HEAD_TOO_LARGE,
    HTTP_BODY_TOO_LARGE,
    HTTP_NOT_IMPLEMENTED, /* a transfer coding */
    HTTP_WRONG_VERSION,
};

/* Reads a request from the beginning of input. HTTP_COMPLETE: *reading is set, and *used are its
 * bytes. */
MUST_CHECK enum http_outcome http_read_request(struct bytes input, struct http_reading *reading,
                                               size_t *used);

#endif
