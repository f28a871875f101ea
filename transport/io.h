/*
 * A byte stream over a connected, non-blocking socket: five functions in a const table. Plain TCP
 * (and unix sockets) is one table, TLS another; tests bring a third with scripted faults.
 * An io belongs to one channel, on one thread. It never logs: error says what went wrong.
 */
#ifndef NEMOGATE_TRANSPORT_IO_H
#define NEMOGATE_TRANSPORT_IO_H

#include "codec/bytes.h"
#include "codec/status.h"

#define IO_ERROR_TEXT 256

/* What the io waits for on its socket; a set of bits. */
enum io_want { IO_WANT_READ = 1, IO_WANT_WRITE = 2 };

struct io;

struct io_ops {
    /* Begins, or goes on with, making the stream on the connected socket (TLS: the handshake).
     * STATUS_AGAIN: call it again when want() is met. The socket stays the channel's. */
    enum status (*open)(struct io *io, int fd);
    /* STATUS_OK: *got >= 1. STATUS_AGAIN: nothing there. STATUS_CLOSED: the peer has ended. */
    enum status (*read)(struct io *io, uint8_t *into, size_t size, size_t *got);
    /* STATUS_OK: *put >= 1 bytes have left for the socket. STATUS_AGAIN: none could; the next call
     * must begin with the same bytes. */
    enum status (*write)(struct io *io, struct bytes from, size_t *put);
    /* What to wait for before open, read or write is worth another try. While the stream is open
     * and idle it is IO_WANT_READ. */
    unsigned (*want)(const struct io *io);
    /* Ends the stream (TLS: close_notify, as far as it goes at once) and forgets the socket. The io
     * can be opened again on another socket: a TLS io then offers the last session. */
    void (*close)(struct io *io);
    /* Frees the io. */
    void (*free)(struct io *io);
};

/* The head of every io. */
struct io {
    const struct io_ops *ops;
    char error[IO_ERROR_TEXT]; /* of the last STATUS_FAILED, in words for people */
    bool reopen; /* open has failed, and on a new socket it will at once have another try, with an
                    offer that the peer may take */
};

/* Owned by the caller until ops->free; NULL when memory is short. */
struct io *io_tcp_new(void);

/* ---- TLS ---------------------------------------------------------------------------------- */

struct tls_settings {
    const char *ca_file;     /* PEM; NULL or "": the system's certificate store */
    const char *cert_file;   /* PEM chain of our own; NULL or "": none */
    const char *key_file;    /* PEM; goes with cert_file */
    const char *server_name; /* what the certificate must be for, and SNI; an IP address is matched
                                against the certificate's addresses and not sent as SNI */
    const char *peer_file;   /* PEM; NULL or "": none. Otherwise the server's certificate must be
                                the first one in this file, whatever its name and authority:
                                ca_file and server_name are of no use */
    const char *ca_pem;      /* authorities themselves, as text, in place of ca_file; NULL: none */
};

struct tls_context;

/* Loads the files. Borrows nothing. NULL on failure: error (IO_ERROR_TEXT bytes) then names the
 * file and what is wrong with it. One context may serve many ios of one thread. */
struct tls_context *tls_context_new(const struct tls_settings *settings, char *error);
/* The same for the side that accepts. cert_file and key_file must be given; with a ca_file every
 * client must show a certificate that one of its authorities has signed. No session is kept. */
struct tls_context *tls_context_new_server(const struct tls_settings *settings, char *error);
void tls_context_free(struct tls_context *context);

/* Frees what the TLS library keeps for the calling thread: the last call about TLS on every thread
 * that had a TLS io. */
void tls_thread_end(void);

/* The context is borrowed until the io is freed. */
struct io *io_tls_new(struct tls_context *context);

/* The negotiated version and cipher of an open TLS io ("TLSv1.3 TLS13-AES128-GCM-SHA256", with
 * " resumed" behind it where a session was resumed); "" for any other io. Valid until close. */
const char *io_tls_describe(const struct io *io);

/* A certificate with no more than this before it is about to be renewed, in s. */
#define TLS_RENEWAL_S (14u * 86400u)

/* When the certificate ends that the peer of a TLS io has shown last, accepted or not, in s since
 * epoch; 0: it has shown none, or the io is another. Outlasts close: a handshake that resumes a
 * session shows none. */
uint64_t io_tls_certificate_end(const struct io *io);
/* The same of the first certificate in a PEM file; 0: it cannot be read. */
uint64_t tls_file_certificate_end(const char *file);

#endif
