/*
 * The inside of an MQTT connection, shared by the three files that make it up: mqtt_conn.c (states,
 * timers, sending), mqtt_handshake.c (CONNECT, CONNACK, status, DISCONNECT) and mqtt_receive.c
 * (what the broker sends). Nobody else includes it.
 */
#ifndef NEMOGATE_TRANSPORT_MQTT_CONN_PRIVATE_H
#define NEMOGATE_TRANSPORT_MQTT_CONN_PRIVATE_H

#include "transport/ack_coalescing.h"
#include "transport/backoff.h"
#include "transport/mqtt_conn.h"
#include "transport/mqtt_inflight.h"

#include <event2/event.h>

enum mqtt_conn_state {
    MQTT_CONN_STOPPED,
    MQTT_CONN_WAITING,          /* for the next try; its timer: the backoff */
    MQTT_CONN_CONNECTING,       /* the channel opens, and keeps the time */
    MQTT_CONN_AWAITING_CONNACK, /* its timer: what is left of the connect timeout */
    MQTT_CONN_READY,            /* its timer: the watch over PUBACK timeout and keep alive */
    MQTT_CONN_STOPPING /* DISCONNECT is on its way out; its timer looks whether it has gone */
};

/* The largest packet that is taken, announced in CONNECT: a CONNACK or PUBACK with its strings is
 * far smaller. */
#define MQTT_CONN_MAXIMUM_PACKET_SIZE 65536u

/* Reason codes of a client's DISCONNECT [MQTT 5.0, 3.14.2.1]. The broker publishes the will after
 * each of them, as the connection is not ready any more. 0 stands for no DISCONNECT at all. */
enum mqtt_goodbye {
    GOODBYE_NONE = 0,
    GOODBYE_MALFORMED_PACKET = MQTT_REASON_MALFORMED_PACKET,
    GOODBYE_PROTOCOL_ERROR = MQTT_REASON_PROTOCOL_ERROR,
    GOODBYE_IMPLEMENTATION_SPECIFIC = 0x83,
    GOODBYE_PACKET_TOO_LARGE = MQTT_REASON_PACKET_TOO_LARGE
};

struct mqtt_conn {
    struct mqtt_conn_config config;
    struct mqtt_conn_events events;
    void *context;
    enum mqtt_conn_state state;
    uint64_t generation; /* grows whenever the channel is closed: callbacks may do that */
    struct channel *channel;
    struct mqtt_inflight *inflight;
    struct backoff backoff;
    bool proven; /* the backoff has been reset on this connection */
    struct mqtt_limits limits;

    struct event *state_timer;
    uint64_t turn_ms;      /* the time of this loop turn; 0: not asked for yet */
    uint64_t opened_ms;    /* CONNECTING began */
    uint64_t ready_ms;     /* READY began */
    uint64_t quiet_ms;     /* nothing has been written since about then */
    uint64_t quiet_at;     /* channel_written when quiet_ms was set */
    uint64_t ping_ms;      /* a PINGREQ awaits its PINGRESP since then; 0: none does */
    uint64_t stop_ms;      /* STOPPING began */
    uint64_t flushed_at;   /* channel_appended at the last flush */
    struct event *settler; /* settles publishes of QoS 0 from the event loop */
    uint64_t settled_at;   /* channel_written when settler was last asked for */

    struct ack_coalescing coalescing;
    struct event *hold_timer;
    bool hold_armed; /* hold_timer runs and the low-water mark is up */

    uint8_t *scratch; /* large enough for CONNECT and every packet but a publish of the owner */
    size_t scratch_size;
    char text[1024];   /* of the loss being reported */
    char refusal[512]; /* of the last PUBACK that refused a publish */
};

/* ---- mqtt_conn.c -------------------------------------------------------------------------- */

/* The only writer of conn->state. timer_ms is the state's timer. */
void mqtt_conn_set_state(struct mqtt_conn *conn, enum mqtt_conn_state next, uint32_t timer_ms);

struct mqtt_conn_end {
    enum mqtt_loss_cause cause;
    uint8_t reason_code;
    enum mqtt_goodbye goodbye;
    const char *text;
};

/* Settles what can settle, closes, reports the loss and waits to try again. */
void mqtt_conn_lose(struct mqtt_conn *conn, const struct mqtt_conn_end *end);

/* Reports every publish that can settle. false: the connection was closed by the owner meanwhile.
 */
bool mqtt_conn_settle(struct mqtt_conn *conn);

/* The connection has shown that it works: the next backoff starts from the shortest wait. */
void mqtt_conn_prove(struct mqtt_conn *conn);

/* The interval of the watch in READY. */
uint32_t mqtt_conn_watch_ms(const struct mqtt_conn *conn);

/* ---- mqtt_handshake.c --------------------------------------------------------------------- */

/* How large conn->scratch must be for this configuration. */
size_t mqtt_handshake_scratch_size(const struct mqtt_conn_config *config);
void mqtt_handshake_send_connect(struct mqtt_conn *conn);
void mqtt_handshake_receive_connack(struct mqtt_conn *conn, const struct mqtt_frame *frame);
/* Publishes the retained status with QoS 0, outside the window; nothing without a status topic. */
void mqtt_handshake_send_status(struct mqtt_conn *conn, const char *status);
void mqtt_handshake_send_disconnect(struct mqtt_conn *conn, uint8_t reason_code);
void mqtt_handshake_send_pingreq(struct mqtt_conn *conn);

/* ---- mqtt_receive.c ----------------------------------------------------------------------- */

/* channel_events.on_data */
size_t mqtt_receive_input(void *context, struct bytes input);

/* Loses the connection to a broker that broke the protocol. */
void mqtt_receive_fault(struct mqtt_conn *conn, const struct mqtt_fault *fault,
                        enum mqtt_goodbye goodbye);

/* Writes "<what>: <name> (0x87): <reason string>" into conn->text; the reason string is the
 * broker's and is made printable. */
void mqtt_receive_describe(struct mqtt_conn *conn, const char *what, enum mqtt_packet_type type,
                           uint8_t reason_code, struct bytes reason_string);
/* Appends text and a quoted, printable value to conn->text; nothing where the value is empty. */
void mqtt_receive_describe_more(struct mqtt_conn *conn, const char *text, struct bytes value);

#endif
