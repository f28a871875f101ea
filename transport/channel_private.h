/*
 * What the parts of a channel share: channel.c (states, reading, writing) and channel_connect.c
 * (from the endpoint's name to a connected socket). Nobody else includes this.
 */
#ifndef NEMOGATE_TRANSPORT_CHANNEL_PRIVATE_H
#define NEMOGATE_TRANSPORT_CHANNEL_PRIVATE_H

#include "transport/channel.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>

#define CHANNEL_REASON_TEXT 640

enum channel_state {
    CHANNEL_CLOSED,
    CHANNEL_STARTING,   /* channel_open was called; the event loop has not come by yet */
    CHANNEL_RESOLVING,  /* waiting for the addresses of the name */
    CHANNEL_CONNECTING, /* waiting for one address to answer */
    CHANNEL_HANDSHAKE,  /* the socket is connected, the io opens */
    CHANNEL_OPEN,
    CHANNEL_ENDED, /* closed by itself; on_closed is due at the next turn of the loop */
};

/*   memory .. start  consumed      start .. end  data      end .. memory + size  free   */
struct channel_buffer {
    uint8_t *memory;
    size_t size;
    size_t start;
    size_t end;
};

/* A question to the resolver. It outlives the channel where the answer comes too late. */
struct channel_lookup {
    struct channel *channel; /* NULL: nobody waits for the answer any more */
};

struct channel {
    const struct net *net;           /* borrowed, as are the next three */
    const struct endpoint *endpoint; /* */
    const struct channel_events *events;
    void *context;
    struct channel_sizes sizes;
    struct io *io; /* owned */

    enum channel_state state;
    uint64_t generation; /* one more whenever a connection ends: callers of callbacks compare */
    int fd;              /* -1: none */
    struct event *readable;
    struct event *writable;
    struct event *turn;     /* a timer of zero: see channel_schedule_turn */
    struct event *deadline; /* of what the state waits for */
    unsigned watched;       /* enum io_want: the socket events that are added */
    unsigned read_want;     /* what the last read that gave STATUS_AGAIN waits for */
    unsigned write_want;    /* the same of the last write */
    int low_water;          /* SO_RCVLOWAT of the socket */

    struct channel_buffer input;
    struct channel_buffer output;
    size_t output_peak;         /* most room taken in the output buffer since it was empty */
    const char *output_failure; /* sticky: why an append was dropped; NULL: none was */
    bool write_failed;          /* with this reason; what the peer has sent before is still read */
    uint64_t written;
    uint64_t appended;

    uint32_t timeout_ms;
    uint64_t deadline_ms; /* of the whole opening, by net_now_ms */
    struct channel_lookup *lookup;
    struct evdns_getaddrinfo_request *request; /* NULL when it was answered at once */
    struct evutil_addrinfo *addresses;         /* owned while connecting */
    const struct evutil_addrinfo *address;     /* the one being tried */

    char reason[CHANNEL_REASON_TEXT];
};

/* ---- channel.c ---------------------------------------------------------------------------- */

void channel_set_state(struct channel *channel, enum channel_state state);
/* Waits for what the open stream needs. */
void channel_watch_open(struct channel *channel);
/* Adds and removes the socket events so that exactly these (enum io_want) are waited for. */
void channel_watch(struct channel *channel, unsigned want);
/* The channel gets a turn once the loop has gone round. */
void channel_schedule_turn(struct channel *channel);
void channel_set_deadline(struct channel *channel, uint64_t ms);
/* Closes the connection; on_closed with this reason follows at the next turn of the loop. */
__attribute__((format(printf, 2, 3))) void channel_end(struct channel *channel, const char *format,
                                                       ...);
/* The same with what stands in channel->reason. */
void channel_end_noted(struct channel *channel);
/* Takes a socket (non-blocking), not connected yet perhaps, as the channel's. */
void channel_use_socket(struct channel *channel, int fd);
/* The socket is connected: open the io. */
void channel_connected(struct channel *channel);

/* ---- channel_connect.c -------------------------------------------------------------------- */

/* From CHANNEL_STARTING. */
void channel_connect(struct channel *channel);
/* In CHANNEL_CONNECTING: the socket has become writable. */
void channel_connect_answered(struct channel *channel);
/* In CHANNEL_RESOLVING and CHANNEL_CONNECTING: the deadline has passed. */
void channel_connect_timeout(struct channel *channel);
/* Forgets the lookup and the addresses. */
void channel_connect_forget(struct channel *channel);

#endif
