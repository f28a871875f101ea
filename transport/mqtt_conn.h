/*
 * One MQTT connection: CONNECT, the window, keep alive, PUBACK timeout, DISCONNECT, and connecting
 * again with backoff. It knows packets and tokens, not entries: what is unsettled when a connection
 * is lost stays with the owner, who sends it again. It reports by callback and never logs. All on
 * one thread.
 */
#ifndef NEMOGATE_TRANSPORT_MQTT_CONN_H
#define NEMOGATE_TRANSPORT_MQTT_CONN_H

#include "codec/mqtt_wire.h"
#include "transport/channel.h"

/* All borrowed for the connection's life. */
struct mqtt_conn_config {
    struct endpoint endpoint;
    enum mqtt_version version;
    const char *client_id;
    const char *username; /* NULL: none */
    const char *password; /* NULL: none */
    uint16_t keep_alive_s;
    uint32_t connect_timeout_ms; /* until the CONNACK */
    uint32_t puback_timeout_ms;
    uint16_t inflight; /* the configured window */
    const char
        *status_topic; /* retained "online", and "offline" as last will and on stop; NULL: none */
};

/* What the broker allows on this connection. */
struct mqtt_limits {
    uint16_t window;              /* min(inflight, Receive Maximum) */
    uint32_t maximum_packet_size; /* bytes; 0: no limit */
    bool retain_available;        /* where false RETAIN is cleared in what is sent */
    uint16_t keep_alive_s;
};

/* Why a connection was lost or could not be made. */
enum mqtt_loss_cause {
    MQTT_LOSS_NETWORK,        /* could not connect, TLS, reset, closed without a word */
    MQTT_LOSS_REFUSED,        /* CONNACK with a refusal: reason_code */
    MQTT_LOSS_DISCONNECTED,   /* the broker sent DISCONNECT: reason_code */
    MQTT_LOSS_PROTOCOL,       /* it broke the protocol */
    MQTT_LOSS_UNUSABLE,       /* it allows too little: QoS 0 only */
    MQTT_LOSS_PUBACK_TIMEOUT, /* accepted, never acknowledged */
    MQTT_LOSS_PING_TIMEOUT    /* no PINGRESP */
};

struct mqtt_loss {
    enum mqtt_loss_cause cause;
    uint8_t reason_code;
    const char *text;   /* in words for people; valid for the call */
    uint32_t retry_ms;  /* it tries again by itself after this */
    bool was_connected; /* the CONNACK had come */
    bool all_written;   /* everything published has left the process */
};

struct mqtt_conn;

struct mqtt_conn_events {
    /* CONNACK received; publishes may be sent. */
    void (*on_ready)(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits);
    /* The oldest publish without an answer has got it: its PUBACK with this reason code, a refusal
     * from 0x80 on; or it was of QoS 0 and has been written (0x00). In the order of publishing, one
     * call each. */
    void (*on_answered)(void *context, struct mqtt_conn *conn, uint64_t token, uint8_t reason_code);
    /* The connection is gone and has forgotten its tokens: all that was not answered must be sent
     * again. */
    void (*on_lost)(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss);
    /* mqtt_conn_stop is done: DISCONNECT has been sent. */
    void (*on_stopped)(void *context, struct mqtt_conn *conn);
};

/* Owned by the caller; NULL: memory is short. seed: any number, for the jitter. */
struct mqtt_conn *mqtt_conn_new(const struct net *net, const struct mqtt_conn_config *config,
                                const struct mqtt_conn_events *events, void *context,
                                uint64_t seed);
/* Closes without a word to the broker. Not from one of its own callbacks. */
void mqtt_conn_free(struct mqtt_conn *conn);

/* Connects, and connects again after every loss, until stopped or closed. */
void mqtt_conn_start(struct mqtt_conn *conn);
/* Sends "offline" and DISCONNECT once everything appended has been written, then closes and calls
 * on_stopped (at once where it is not connected). Bounded by 1 s. The owner sees to it that nothing
 * is in flight. */
void mqtt_conn_stop(struct mqtt_conn *conn);
/* Closes at once, without DISCONNECT and without a callback: the last will stands. Tokens are
 * forgotten. */
void mqtt_conn_close(struct mqtt_conn *conn);
bool mqtt_conn_is_ready(const struct mqtt_conn *conn);

/* How many publishes it takes now: 0 while not connected (from the moment the connection has ended,
 * before on_lost tells of it), while the window is full (or is being
 * left to drain so that acknowledgements are read in bulk), and while the output buffer is well
 * filled. */
size_t mqtt_conn_room(const struct mqtt_conn *conn);

/* Appends an encoded PUBLISH (mqtt_put_publish). There must be room. Patches its packet identifier,
 * and RETAIN where the broker has no retained messages. The bytes are copied. STATUS_TOO_LARGE: it
 * is over the broker's Maximum Packet Size; nothing was appended and the connection stays as it is.
 */
MUST_CHECK enum status mqtt_conn_publish(struct mqtt_conn *conn, uint8_t *packet, size_t size,
                                         size_t packet_id_offset, uint64_t token);

/* Takes a place in the order without sending anything: token settles, from the event loop and soon,
 * when everything before it has settled. There must be room. */
void mqtt_conn_skip(struct mqtt_conn *conn, uint64_t token);

/* Once at the end of a loop turn: writes what was appended. more_waiting: the owner has further
 * publishes that had no room, which is when acknowledgements are worth reading in bulk. */
void mqtt_conn_flush(struct mqtt_conn *conn, bool more_waiting);

/* What the broker said when it last refused a publish: the name of the reason code and, where there
 * is one, its reason string in printable form. */
const char *mqtt_conn_refusal(const struct mqtt_conn *conn);

/* Publishes that have not settled. */
size_t mqtt_conn_unsettled(const struct mqtt_conn *conn);
const char *mqtt_conn_client_id(const struct mqtt_conn *conn);
/* channel_describe, and channel_certificate_end, of the connection. */
const char *mqtt_conn_describe(const struct mqtt_conn *conn);
uint64_t mqtt_conn_certificate_end(const struct mqtt_conn *conn);

#endif
