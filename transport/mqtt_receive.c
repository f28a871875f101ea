/*
 * What the broker sends on an MQTT connection: PUBACKs, PINGRESP, DISCONNECT, and everything that
 * it must not send. All PUBACKs of one read are taken first and settled together.
 */
#include "transport/mqtt_conn_private.h"

#include <stdio.h>

/* ---- texts -------------------------------------------------------------------------------- */

/* Appends text of the broker. What is not printable ASCII becomes '?': it goes into logs. */
static void append_printable(struct mqtt_conn *conn, struct bytes text)
{
    size_t at = strlen(conn->text);
    for (size_t i = 0; i < text.length && at < sizeof(conn->text) - 1; i++) {
        uint8_t c = text.data[i];
        conn->text[at++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    conn->text[at] = '\0';
}

void mqtt_receive_describe(struct mqtt_conn *conn, const char *what, enum mqtt_packet_type type,
                           uint8_t reason_code, struct bytes reason_string)
{
    snprintf(conn->text, sizeof(conn->text), "%s: %s (0x%02x)", what,
             mqtt_reason_name(type, conn->config.version, reason_code), reason_code);
    if (reason_string.length == 0)
        return;
    append_printable(conn, bytes_of(": "));
    append_printable(conn, reason_string);
}

void mqtt_receive_describe_more(struct mqtt_conn *conn, const char *text, struct bytes value)
{
    if (value.length == 0)
        return;
    append_printable(conn, bytes_of(text));
    append_printable(conn, bytes_of(" \""));
    append_printable(conn, value);
    append_printable(conn, bytes_of("\""));
}

void mqtt_receive_fault(struct mqtt_conn *conn, const struct mqtt_fault *fault,
                        enum mqtt_goodbye goodbye)
{
    snprintf(conn->text, sizeof(conn->text), "the broker broke the protocol: %s [%s]", fault->what,
             fault->clause);
    mqtt_conn_lose(conn, &(struct mqtt_conn_end){
                             .cause = MQTT_LOSS_PROTOCOL, .goodbye = goodbye, .text = conn->text});
}

/* ---- packets ------------------------------------------------------------------------------- */

/* The reason string is the broker's: it is kept in printable form, for the log. */
static void note_refusal(struct mqtt_conn *conn, const struct mqtt_puback *puback)
{
    mqtt_receive_describe(conn, "the broker refused a publish", MQTT_PUBACK, puback->reason_code,
                          puback->reason_string);
    snprintf(conn->refusal, sizeof(conn->refusal), "%.*s", (int)sizeof(conn->refusal) - 1,
             conn->text);
}

static void receive_puback(struct mqtt_conn *conn, const struct mqtt_frame *frame)
{
    static const struct mqtt_fault unknown = {"MQTT 5.0, 4.3.2",
                                              "PUBACK for a packet identifier not in flight"};
    struct mqtt_puback puback;
    struct mqtt_fault fault;
    if (mqtt_read_puback(frame, conn->config.version, &puback, &fault) != STATUS_OK) {
        mqtt_receive_fault(conn, &fault, GOODBYE_MALFORMED_PACKET);
    } else if (mqtt_inflight_acknowledge(conn->inflight, puback.packet_id, puback.reason_code)) {
        mqtt_conn_prove(conn);
        if (puback.reason_code >= 0x80)
            note_refusal(conn, &puback);
    } else {
        mqtt_receive_fault(conn, &unknown, GOODBYE_PROTOCOL_ERROR);
    }
}

static void receive_disconnect(struct mqtt_conn *conn, const struct mqtt_frame *frame)
{
    struct mqtt_disconnect disconnect;
    struct mqtt_fault fault;
    if (mqtt_read_disconnect(frame, conn->config.version, &disconnect, &fault) != STATUS_OK) {
        mqtt_receive_fault(conn, &fault, GOODBYE_MALFORMED_PACKET);
        return;
    }
    mqtt_receive_describe(conn, "the broker disconnected", MQTT_DISCONNECT, disconnect.reason_code,
                          disconnect.reason_string);
    mqtt_receive_describe_more(conn, "; it names the server", disconnect.server_reference);
    mqtt_conn_lose(conn, &(struct mqtt_conn_end){.cause = MQTT_LOSS_DISCONNECTED,
                                                 .reason_code = disconnect.reason_code,
                                                 .text = conn->text});
}

/* The frame is of a type that a broker sends to a client that only publishes. */
static void receive_when_connected(struct mqtt_conn *conn, const struct mqtt_frame *frame)
{
    static const struct mqtt_fault second_connack = {"MQTT-3.2.0-2", "a second CONNACK"};
    if (frame->type == MQTT_PUBACK)
        receive_puback(conn, frame);
    else if (frame->type == MQTT_PINGRESP)
        conn->ping_ms = 0;
    else if (frame->type == MQTT_DISCONNECT)
        receive_disconnect(conn, frame);
    else
        mqtt_receive_fault(conn, &second_connack, GOODBYE_PROTOCOL_ERROR);
}

static void receive_frame(struct mqtt_conn *conn, const struct mqtt_frame *frame)
{
    static const struct mqtt_fault no_connack = {"MQTT-3.2.0-1", "the first packet is no CONNACK"};
    if (conn->state != MQTT_CONN_AWAITING_CONNACK)
        receive_when_connected(conn, frame);
    else if (frame->type == MQTT_CONNACK)
        mqtt_handshake_receive_connack(conn, frame);
    else
        mqtt_receive_fault(conn, &no_connack, GOODBYE_PROTOCOL_ERROR);
}

static void receive_too_large(struct mqtt_conn *conn)
{
    static const struct mqtt_fault too_large = {"MQTT-3.1.2-24",
                                                "a packet over our Maximum Packet Size"};
    mqtt_receive_fault(conn, &too_large, GOODBYE_PACKET_TOO_LARGE);
}

/* A PUBACK of four bytes, as nearly all are, for a publish in flight: what receive_frame would do
 * with it. false: nothing was done. */
static bool receive_plain_puback(struct mqtt_conn *conn, struct bytes input)
{
    uint16_t packet_id;
    if (conn->state == MQTT_CONN_AWAITING_CONNACK || !mqtt_is_plain_puback(input, &packet_id) ||
        !mqtt_inflight_acknowledge(conn->inflight, packet_id, MQTT_REASON_SUCCESS))
        return false;
    mqtt_conn_prove(conn);
    return true;
}

/* What was acknowledged before a packet that ends the connection settles in mqtt_conn_lose. */
size_t mqtt_receive_input(void *context, struct bytes input)
{
    struct mqtt_conn *conn = context;
    uint64_t generation = conn->generation;
    size_t used = 0;
    while (generation == conn->generation && used < input.length) {
        struct mqtt_frame frame;
        struct mqtt_fault fault;
        struct bytes rest = {input.data + used, input.length - used};
        if (receive_plain_puback(conn, rest)) {
            used += MQTT_PLAIN_PUBACK_SIZE;
            continue;
        }
        enum status status = mqtt_next_frame(rest, MQTT_CONN_MAXIMUM_PACKET_SIZE, &frame, &fault);
        if (status == STATUS_AGAIN)
            break;
        if (status == STATUS_OK) {
            used += frame.size;
            receive_frame(conn, &frame);
        } else if (status == STATUS_TOO_LARGE) {
            receive_too_large(conn);
        } else {
            mqtt_receive_fault(conn, &fault, GOODBYE_MALFORMED_PACKET);
        }
    }
    if (generation != conn->generation)
        return used;
    ack_coalescing_at_input(&conn->coalescing, mqtt_inflight_unacknowledged(conn->inflight));
    mqtt_conn_settle(conn);
    return used;
}
