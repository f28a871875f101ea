/*
 * What a TLS io needs of its context; between tls_context.c and io_tls.c only.
 */
#ifndef NEMOGATE_TRANSPORT_TLS_CONTEXT_H
#define NEMOGATE_TRANSPORT_TLS_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

struct WOLFSSL_CTX;
struct WOLFSSL_X509;

struct tls_context {
    struct WOLFSSL_CTX *library; /* owned */
    bool is_server;
    char *server_name; /* owned; NULL: the certificate's name is of no matter */
    bool name_is_address;
    bool has_certificate;      /* our own */
    struct WOLFSSL_X509 *peer; /* owned; the only certificate that is taken; NULL: any good one */
};

/* What is offered to a server that takes none of the ciphers that the context offers. */
extern const char tls_all_ciphers[];

/* Whether the peer may show this certificate, which may be NULL, once the library has found it good
 * and seen that the peer has its key. */
bool tls_is_peer(const struct tls_context *context, struct WOLFSSL_X509 *certificate);

/* When it ends, in s since epoch; 0: it is NULL, or has no such time. */
uint64_t tls_certificate_end(const struct WOLFSSL_X509 *certificate);

#endif
