/*
 * What a TLS io needs of its context; between tls_context.c and io_tls.c only.
 */
#ifndef NEMOGATE_TRANSPORT_TLS_CONTEXT_H
#define NEMOGATE_TRANSPORT_TLS_CONTEXT_H

#include <stdbool.h>

struct WOLFSSL_CTX;

struct tls_context {
    struct WOLFSSL_CTX *library; /* owned */
    char *server_name;           /* owned */
    bool name_is_address;
    bool has_certificate; /* of the client */
};

#endif
