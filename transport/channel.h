/*
 * A channel: one connection of an event loop. It resolves the name, tries the addresses in turn,
 * makes the stream (TCP, unix, TLS), and holds an input and an output buffer. It knows no protocol,
 * has no policy of trying again, and never logs: it reports by callback. All on one thread.
 */
#ifndef NEMOGATE_TRANSPORT_CHANNEL_H
#define NEMOGATE_TRANSPORT_CHANNEL_H

#include "codec/bytes.h"
#include "codec/status.h"
#include "transport/io.h"
#include "transport/net.h"

/* Where to connect to. All borrowed for the channel's life. */
struct endpoint {
    const char *host; /* name or numeric address; NULL for a unix socket */
    uint16_t port;
    const char *path;        /* unix socket; else NULL */
    struct tls_context *tls; /* NULL: plain */
};

#define ENDPOINT_TEXT 300

/* "host:port", "[v6]:port" or the socket's path, for messages. Writes at most ENDPOINT_TEXT bytes
 * with NUL and returns text. */
const char *endpoint_format(const struct endpoint *endpoint, char *text);

struct channel;

struct channel_events {
    /* The stream is open (TLS: the handshake is done). */
    void (*on_open)(void *context);
    /* Input: all that has come and was not consumed yet. Returns how many bytes were consumed; the
     * rest is given again, with more behind it. May call channel_write and _close. */
    size_t (*on_data)(void *context, struct bytes input);
    /* The channel has ended by itself: could not open, timed out, peer closed, an error. reason is
     * in words for people and valid for the call. The channel is closed and may be opened again. */
    void (*on_closed)(void *context, const char *reason);
};

struct channel_sizes {
    size_t input;      /* bytes of the input buffer; on_data must make progress when it is full */
    size_t output;     /* bytes of the output buffer at start; it grows when a packet needs it */
    size_t output_max; /* over this the channel ends with an error */
};

/* Borrows net, endpoint and context for its life. Owned by the caller. NULL: memory is short. */
struct channel *channel_new(const struct net *net, const struct endpoint *endpoint,
                            const struct channel_events *events, void *context,
                            struct channel_sizes sizes);
/* Not from one of its own callbacks. */
void channel_free(struct channel *channel);

/* Starts to connect; what comes of it is told by on_open or on_closed, never before this returns.
 * The channel must be closed. timeout_ms bounds resolving, connecting and the handshake together;
 * it begins again where a TLS server takes none of the ciphers that are offered first. */
void channel_open(struct channel *channel, uint32_t timeout_ms);
/* The same over a socket (non-blocking) that has been accepted, which becomes the channel's. */
void channel_accept(struct channel *channel, int fd, uint32_t timeout_ms);
/* The same with an io of the caller's choice, which becomes the channel's, too. For tests. */
void channel_open_socket(struct channel *channel, int fd, struct io *io, uint32_t timeout_ms);
/* Closes at once, without on_closed. Harmless when it is closed. */
void channel_close(struct channel *channel);
bool channel_is_open(const struct channel *channel);

/* Appends to the output buffer; nothing is sent before channel_flush. Where the buffer may not grow
 * further the channel ends at the next flush. */
void channel_write(struct channel *channel, struct bytes output);
/* The same without a copy: lends room for size bytes at the end of the output buffer, to be filled
 * and handed over by channel_commit (so many of them) before any other call. NULL: nothing more is
 * sent, for the channel is closed or will end at the next flush. */
uint8_t *channel_reserve(struct channel *channel, size_t size);
void channel_commit(struct channel *channel, size_t length);
/* Writes as much as the socket takes; the rest goes by itself when the socket is writable. May end
 * the channel: on_closed is then called from the event loop, not from here. */
void channel_flush(struct channel *channel);
/* Bytes in the output buffer. */
size_t channel_pending(const struct channel *channel);
/* Bytes that have left the process since the channel was opened, and bytes ever appended. */
uint64_t channel_written(const struct channel *channel);
uint64_t channel_appended(const struct channel *channel);

/* Asks the kernel to wake the loop only when this many bytes have come (SO_RCVLOWAT); 1 is normal.
 * Cheap when nothing changes. */
void channel_set_low_water(struct channel *channel, int bytes);
/* Reads now what lies in the socket, whatever the low-water mark. From the event loop, not from a
 * callback of the channel. */
void channel_poll(struct channel *channel);

/* io_tls_describe of the open stream; "" when plain. */
const char *channel_describe(const struct channel *channel);
/* io_tls_certificate_end of the stream that is open, or was. */
uint64_t channel_certificate_end(const struct channel *channel);

#endif
