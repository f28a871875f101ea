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

/* What is offered to a server that takes none of the ciphers that the context offers. */
extern const char tls_all_ciphers[];

#endif
