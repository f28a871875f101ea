/*
 * How an MQTT connection begins and says goodbye: CONNECT with its will, what the CONNACK allows or
 * refuses, the retained status, DISCONNECT. Sessions are not kept: Redis remembers what is
 * undelivered, so every connection starts clean.
 */
#include "transport/mqtt_conn_private.h"

/* CONNECT without its strings takes fewer than 60 bytes, a PUBLISH without its topic and payload
 * fewer than 20. */
#define SCRATCH_BESIDE_STRINGS 128u

#define WILL_PAYLOAD "offline"

static struct bytes optional(const char *text)
{
    return text ? bytes_of(text) : (struct bytes){NULL, 0};
}

size_t mqtt_handshake_scratch_size(const struct mqtt_conn_config *config)
{
    return SCRATCH_BESIDE_STRINGS + optional(config->client_id).length +
           optional(config->username).length + optional(config->password).length +
           optional(config->status_topic).length;
}

static struct writer scratch_writer(struct mqtt_conn *conn)
{
    return writer_over(conn->scratch, conn->scratch_size);
}

/* A string of the configuration that MQTT cannot carry is the only way to fail. */
static void send_scratch(struct mqtt_conn *conn, const struct writer *w)
{
    if (writer_ok(w))
        channel_write(conn->channel, (struct bytes){w->start, writer_length(w)});
}

void mqtt_handshake_send_connect(struct mqtt_conn *conn)
{
    const struct mqtt_conn_config *config = &conn->config;
    struct mqtt_connect connect = {
        .version = config->version,
        .clean_start = true,
        .keep_alive_s = config->keep_alive_s,
        .client_id = bytes_of(config->client_id),
        .username = optional(config->username),
        .password = optional(config->password),
        .maximum_packet_size = MQTT_CONN_MAXIMUM_PACKET_SIZE,
    };
    if (config->status_topic)
        connect.will = (struct mqtt_will){.topic = bytes_of(config->status_topic),
                                          .payload = bytes_of(WILL_PAYLOAD),
                                          .qos = 1,
                                          .retain = true};
    struct writer w = scratch_writer(conn);
    mqtt_put_connect(&w, &connect);
    if (!writer_ok(&w)) {
        mqtt_conn_lose(conn, &(struct mqtt_conn_end){
                                 .cause = MQTT_LOSS_UNUSABLE,
                                 .text = "the client identifier, user name, password or status "
                                         "topic cannot be encoded in CONNECT"});
        return;
    }
    send_scratch(conn, &w);
}

void mqtt_handshake_send_status(struct mqtt_conn *conn, const char *status)
{
    if (!conn->config.status_topic)
        return;
    const struct mqtt_publish publish = {.version = conn->config.version,
                                         .retain = conn->limits.retain_available,
                                         .topic = bytes_of(conn->config.status_topic),
                                         .payload = bytes_of(status)};
    size_t size = mqtt_publish_size(&publish);
    if (conn->limits.maximum_packet_size != 0 && size > conn->limits.maximum_packet_size)
        return; /* [MQTT-3.2.2-15] */
    struct writer w = scratch_writer(conn);
    size_t packet_id_offset;
    mqtt_put_publish(&w, &publish, &packet_id_offset);
    send_scratch(conn, &w);
}

void mqtt_handshake_send_disconnect(struct mqtt_conn *conn, uint8_t reason_code)
{
    struct writer w = scratch_writer(conn);
    mqtt_put_disconnect(&w, conn->config.version, reason_code);
    send_scratch(conn, &w);
}

void mqtt_handshake_send_pingreq(struct mqtt_conn *conn)
{
    struct writer w = scratch_writer(conn);
    mqtt_put_pingreq(&w);
    send_scratch(conn, &w);
}

/* ---- CONNACK ------------------------------------------------------------------------------ */

static void refused(struct mqtt_conn *conn, const struct mqtt_connack *connack)
{
    mqtt_receive_describe(conn, "the broker refused the connection", MQTT_CONNACK,
                          connack->reason_code, connack->reason_string);
    mqtt_receive_describe_more(conn, "; it names the server", connack->server_reference);
    mqtt_conn_lose(conn, &(struct mqtt_conn_end){.cause = MQTT_LOSS_REFUSED,
                                                 .reason_code = connack->reason_code,
                                                 .text = conn->text});
}

static void become_ready(struct mqtt_conn *conn, const struct mqtt_connack *connack)
{
    uint16_t inflight = conn->config.inflight;
    conn->limits = (struct mqtt_limits){
        .window = connack->receive_maximum < inflight ? connack->receive_maximum : inflight,
        .maximum_packet_size = connack->maximum_packet_size,
        .retain_available = connack->retain_available,
        /* [MQTT-3.2.2-21] */
        .keep_alive_s = connack->has_server_keep_alive ? connack->server_keep_alive_s
                                                       : conn->config.keep_alive_s,
    };
    uint64_t now_ms = net_now_ms();
    mqtt_inflight_reset(conn->inflight, conn->limits.window);
    ack_coalescing_reset(&conn->coalescing, conn->limits.window);
    conn->proven = false;
    conn->ready_ms = now_ms;
    conn->quiet_ms = now_ms;
    conn->quiet_at = channel_written(conn->channel);
    conn->settled_at = conn->quiet_at;
    conn->flushed_at = channel_appended(conn->channel);
    conn->ping_ms = 0;
    conn->turn_ms = 0;
    mqtt_conn_set_state(conn, MQTT_CONN_READY, mqtt_conn_watch_ms(conn));
    mqtt_handshake_send_status(conn, "online");
    channel_flush(conn->channel);
    conn->events.on_ready(conn->context, conn, &conn->limits);
}

void mqtt_handshake_receive_connack(struct mqtt_conn *conn, const struct mqtt_frame *frame)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault;
    if (mqtt_read_connack(frame, conn->config.version, &connack, &fault) != STATUS_OK) {
        mqtt_receive_fault(conn, &fault, GOODBYE_MALFORMED_PACKET);
    } else if (connack.reason_code != MQTT_REASON_SUCCESS) {
        refused(conn, &connack);
    } else if (connack.session_present) {
        fault = (struct mqtt_fault){"MQTT-3.2.2-2", "Session Present, though the start was clean"};
        mqtt_receive_fault(conn, &fault, GOODBYE_PROTOCOL_ERROR);
    } else if (connack.maximum_qos == 0) {
        mqtt_conn_lose(conn, &(struct mqtt_conn_end){
                                 .cause = MQTT_LOSS_UNUSABLE,
                                 .goodbye = GOODBYE_IMPLEMENTATION_SPECIFIC,
                                 .text = "the broker allows QoS 0 only (Maximum QoS 0): nothing "
                                         "it takes would be acknowledged"});
    } else {
        become_ready(conn, &connack);
    }
}
