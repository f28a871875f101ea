/*
 * The server's side of TLS for the null broker: wolfSSL, as the gateway's side, so that neither
 * side of a comparison has the faster cryptography. The handshake runs within the first reads.
 */
#ifndef NEMOGATE_BENCH_TLS_SERVER_H
#define NEMOGATE_BENCH_TLS_SERVER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tls_server;
struct tls_session;

/* PEM files. A file that cannot be read ends the program. */
struct tls_server *tls_server_new(const char *cert_file, const char *key_file);
void tls_server_free(struct tls_server *server);

/* On a connected non-blocking socket, which stays the caller's. */
struct tls_session *tls_session_new(struct tls_server *server, int fd);
void tls_session_free(struct tls_session *session);

/* As recv and send: -1 with errno EAGAIN when there is nothing, 0 at the end, -1 with EIO when the
 * session is broken. */
ssize_t tls_session_read(struct tls_session *session, void *into, size_t size);
ssize_t tls_session_write(struct tls_session *session, const void *from, size_t size);

#endif
