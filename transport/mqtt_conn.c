/*
 * The states and timers of an MQTT connection and its sending half. What may follow what stands in
 * one table; what the broker sends is read in mqtt_receive.c.
 */
#include "transport/mqtt_conn_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Over this much unwritten output there is no room. */
#define OUTPUT_HIGH_WATER 65536u

/* Publishes leave in pieces of up to this size, so that the broker works while the owner still
 * encodes. A piece fits in one TLS record. */
#define WRITE_SIZE 16384u

#define WATCH_LEAST_MS 25u
#define WATCH_MOST_MS 1000u

/* Connected for this long, a connection has proved itself without a PUBACK. */
#define PROVEN_MS 5000u

/* After 0x8E another client with our identifier lives: coming back at once would throw it out, and
 * it us. A broker that is over its quota gets as much time. */
#define TAKEN_OVER_WAIT_MS 5000u
/* A broker that has moved will not be back soon. */
#define MOVED_WAIT_MS 30000u

#define STOP_LOOK_MS 2u
#define STOP_MOST_MS 1000u

#define TLS_RECORD_OVERHEAD 26u /* 22 with TLS 1.3, 25 to 29 with TLS 1.2 */

#define BIT(state) (1u << (state))

static const unsigned may_follow[] = {
    [MQTT_CONN_STOPPED] = BIT(MQTT_CONN_WAITING),
    [MQTT_CONN_WAITING] = BIT(MQTT_CONN_CONNECTING) | BIT(MQTT_CONN_STOPPED),
    [MQTT_CONN_CONNECTING] =
        BIT(MQTT_CONN_AWAITING_CONNACK) | BIT(MQTT_CONN_WAITING) | BIT(MQTT_CONN_STOPPED),
    [MQTT_CONN_AWAITING_CONNACK] =
        BIT(MQTT_CONN_READY) | BIT(MQTT_CONN_WAITING) | BIT(MQTT_CONN_STOPPED),
    [MQTT_CONN_READY] = BIT(MQTT_CONN_STOPPING) | BIT(MQTT_CONN_WAITING) | BIT(MQTT_CONN_STOPPED),
    [MQTT_CONN_STOPPING] = BIT(MQTT_CONN_STOPPED),
};

static void arm(struct event *timer, uint32_t ms)
{
    struct timeval after = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};
    evtimer_add(timer, &after);
}

void mqtt_conn_set_state(struct mqtt_conn *conn, enum mqtt_conn_state next, uint32_t timer_ms)
{
    assert(may_follow[conn->state] & BIT(next));
    conn->state = next;
    switch (next) {
    case MQTT_CONN_STOPPED:
    case MQTT_CONN_CONNECTING:
        evtimer_del(conn->state_timer);
        break;
    case MQTT_CONN_WAITING:
    case MQTT_CONN_AWAITING_CONNACK:
    case MQTT_CONN_READY:
    case MQTT_CONN_STOPPING:
        arm(conn->state_timer, timer_ms);
        break;
    }
}

/* ---- coming and going ---------------------------------------------------------------------- */

static void end_hold(struct mqtt_conn *conn)
{
    if (!conn->hold_armed)
        return;
    conn->hold_armed = false;
    evtimer_del(conn->hold_timer);
    channel_set_low_water(conn->channel, 1);
}

/* Leaves nothing of the connection behind. */
static void disconnect(struct mqtt_conn *conn)
{
    conn->generation++;
    end_hold(conn);
    event_del(conn->settler);
    channel_close(conn->channel);
    mqtt_inflight_reset(conn->inflight, conn->config.inflight);
}

static void finish_stop(struct mqtt_conn *conn)
{
    disconnect(conn);
    if (conn->state != MQTT_CONN_STOPPED)
        mqtt_conn_set_state(conn, MQTT_CONN_STOPPED, 0);
    conn->events.on_stopped(conn->context, conn);
}

bool mqtt_conn_settle(struct mqtt_conn *conn)
{
    uint64_t generation = conn->generation;
    uint64_t token;
    uint8_t reason_code;
    while (
        generation == conn->generation &&
        mqtt_inflight_settle(conn->inflight, channel_written(conn->channel), &token, &reason_code))
        conn->events.on_answered(conn->context, conn, token, reason_code);
    if (generation != conn->generation)
        return false;
    if (mqtt_inflight_has_settled_qos0(conn->inflight))
        mqtt_conn_prove(conn);
    return true;
}

/* What is added to the backoff for what a CONNACK or a DISCONNECT has said. */
static uint32_t longer_wait_ms(const struct mqtt_conn_end *end)
{
    if (end->cause != MQTT_LOSS_DISCONNECTED && end->cause != MQTT_LOSS_REFUSED)
        return 0;
    switch (end->reason_code) {
    case MQTT_REASON_SESSION_TAKEN_OVER:
    case MQTT_REASON_MESSAGE_RATE_TOO_HIGH:
    case MQTT_REASON_QUOTA_EXCEEDED:
    case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
        return TAKEN_OVER_WAIT_MS;
    case MQTT_REASON_USE_ANOTHER_SERVER:
    case MQTT_REASON_SERVER_MOVED:
        return MOVED_WAIT_MS;
    default:
        return 0;
    }
}

void mqtt_conn_lose(struct mqtt_conn *conn, const struct mqtt_conn_end *end)
{
    if (!mqtt_conn_settle(conn))
        return;
    if (conn->state == MQTT_CONN_STOPPING) {
        finish_stop(conn);
        return;
    }
    /* In 3.1.1 a DISCONNECT has no reason code and would take the will back [MQTT-3.14.4-3]. */
    if (end->goodbye != GOODBYE_NONE && conn->config.version == MQTT_5_0) {
        mqtt_handshake_send_disconnect(conn, (uint8_t)end->goodbye);
        channel_flush(conn->channel);
    }
    struct mqtt_loss loss = {
        .cause = end->cause,
        .reason_code = end->reason_code,
        .text = end->text,
        .retry_ms = backoff_next_ms(&conn->backoff),
        .was_connected = conn->state == MQTT_CONN_READY,
        .all_written = channel_pending(conn->channel) == 0,
    };
    loss.retry_ms += longer_wait_ms(end);
    disconnect(conn);
    mqtt_conn_set_state(conn, MQTT_CONN_WAITING, loss.retry_ms);
    conn->events.on_lost(conn->context, conn, &loss);
}

void mqtt_conn_prove(struct mqtt_conn *conn)
{
    if (conn->proven)
        return;
    conn->proven = true;
    backoff_reset(&conn->backoff);
}

static void lose_to_silence(struct mqtt_conn *conn, enum mqtt_loss_cause cause, const char *packet,
                            uint32_t ms)
{
    snprintf(conn->text, sizeof(conn->text), "the broker sent no %s within %u ms", packet, ms);
    mqtt_conn_lose(conn, &(struct mqtt_conn_end){.cause = cause, .text = conn->text});
}

static void on_open(void *context)
{
    struct mqtt_conn *conn = context;
    uint64_t used_ms = net_now_ms() - conn->opened_ms;
    uint32_t timeout_ms = conn->config.connect_timeout_ms;
    uint32_t left_ms = used_ms < timeout_ms ? timeout_ms - (uint32_t)used_ms : 1;
    mqtt_conn_set_state(conn, MQTT_CONN_AWAITING_CONNACK, left_ms);
    mqtt_handshake_send_connect(conn);
    channel_flush(conn->channel);
}

static void on_closed(void *context, const char *reason)
{
    struct mqtt_conn *conn = context;
    if (conn->state == MQTT_CONN_AWAITING_CONNACK) {
        snprintf(conn->text, sizeof(conn->text), "%s, before the CONNACK", reason);
        reason = conn->text;
    }
    mqtt_conn_lose(conn, &(struct mqtt_conn_end){.cause = MQTT_LOSS_NETWORK, .text = reason});
}

/* ---- the watch in READY -------------------------------------------------------------------- */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* One coarse timer for all publishes: a timeout may be noticed this much later. */
uint32_t mqtt_conn_watch_ms(const struct mqtt_conn *conn)
{
    uint32_t ms = least(WATCH_MOST_MS, conn->config.puback_timeout_ms / 4);
    if (conn->limits.keep_alive_s > 0)
        ms = least(ms, conn->limits.keep_alive_s * 250u);
    return ms > WATCH_LEAST_MS ? ms : WATCH_LEAST_MS;
}

static uint32_t ping_timeout_ms(const struct mqtt_conn *conn)
{
    return least(conn->limits.keep_alive_s * 1000u, conn->config.puback_timeout_ms);
}

static bool puback_overdue(const struct mqtt_conn *conn, uint64_t now_ms)
{
    return mqtt_inflight_unacknowledged(conn->inflight) > 0 &&
           now_ms >= mqtt_inflight_oldest_ms(conn->inflight) + conn->config.puback_timeout_ms;
}

static bool ping_overdue(const struct mqtt_conn *conn, uint64_t now_ms)
{
    return conn->ping_ms != 0 && now_ms >= conn->ping_ms + ping_timeout_ms(conn);
}

/* [MQTT-3.1.2-20]: a packet must be sent within every keep alive interval. quiet_ms lags behind by
 * up to one interval of the watch, and so does this look at it. */
static void keep_alive(struct mqtt_conn *conn, uint64_t now_ms)
{
    uint64_t written = channel_written(conn->channel);
    if (written != conn->quiet_at) {
        conn->quiet_at = written;
        conn->quiet_ms = now_ms;
    }
    if (conn->limits.keep_alive_s == 0 || conn->ping_ms != 0)
        return;
    if (now_ms + 2 * mqtt_conn_watch_ms(conn) < conn->quiet_ms + conn->limits.keep_alive_s * 1000u)
        return;
    conn->ping_ms = now_ms;
    mqtt_handshake_send_pingreq(conn);
    channel_flush(conn->channel);
}

static void watch(struct mqtt_conn *conn)
{
    uint64_t now_ms = net_now_ms();
    arm(conn->state_timer, mqtt_conn_watch_ms(conn));
    if (now_ms - conn->ready_ms >= PROVEN_MS)
        mqtt_conn_prove(conn);
    if (!mqtt_conn_settle(conn))
        return;
    /* What is missing may lie in the socket: this process may have been stopped for a while. */
    uint64_t generation = conn->generation;
    if (puback_overdue(conn, now_ms) || ping_overdue(conn, now_ms))
        channel_poll(conn->channel);
    if (generation != conn->generation || conn->state != MQTT_CONN_READY)
        return;
    if (puback_overdue(conn, now_ms))
        lose_to_silence(conn, MQTT_LOSS_PUBACK_TIMEOUT, "PUBACK", conn->config.puback_timeout_ms);
    else if (ping_overdue(conn, now_ms))
        lose_to_silence(conn, MQTT_LOSS_PING_TIMEOUT, "PINGRESP", ping_timeout_ms(conn));
    else
        keep_alive(conn, now_ms);
}

static void on_state_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct mqtt_conn *conn = context;
    switch (conn->state) {
    case MQTT_CONN_STOPPED:
    case MQTT_CONN_CONNECTING:
        break;
    case MQTT_CONN_WAITING:
        conn->opened_ms = net_now_ms();
        mqtt_conn_set_state(conn, MQTT_CONN_CONNECTING, 0);
        channel_open(conn->channel, conn->config.connect_timeout_ms);
        break;
    case MQTT_CONN_AWAITING_CONNACK:
        lose_to_silence(conn, MQTT_LOSS_NETWORK, "CONNACK", conn->config.connect_timeout_ms);
        break;
    case MQTT_CONN_READY:
        watch(conn);
        break;
    case MQTT_CONN_STOPPING:
        if (channel_pending(conn->channel) == 0 || net_now_ms() - conn->stop_ms >= STOP_MOST_MS)
            finish_stop(conn);
        else
            arm(conn->state_timer, STOP_LOOK_MS);
        break;
    }
}

/* ---- sending ------------------------------------------------------------------------------- */

size_t mqtt_conn_room(const struct mqtt_conn *conn)
{
    /* A channel that has ended drops what is written to it; the state follows a loop turn later. */
    if (conn->state != MQTT_CONN_READY || !channel_is_open(conn->channel) ||
        conn->coalescing.holding || channel_pending(conn->channel) > OUTPUT_HIGH_WATER)
        return 0;
    return mqtt_inflight_room(conn->inflight);
}

static void write_out(struct mqtt_conn *conn)
{
    conn->flushed_at = channel_appended(conn->channel);
    channel_flush(conn->channel);
}

/* RETAIN is cleared for this sending only: the next connection may have retained messages. */
static void write_without_retain(struct mqtt_conn *conn, uint8_t *packet, size_t size)
{
    uint8_t first = packet[0];
    mqtt_set_retain(packet, false);
    channel_write(conn->channel, (struct bytes){packet, size});
    packet[0] = first;
}

enum status mqtt_conn_publish(struct mqtt_conn *conn, uint8_t *packet, size_t size,
                              size_t packet_id_offset, uint64_t token)
{
    assert(conn->state == MQTT_CONN_READY && mqtt_inflight_room(conn->inflight) > 0);
    /* [MQTT-3.2.2-15] */
    if (conn->limits.maximum_packet_size != 0 && size > conn->limits.maximum_packet_size)
        return STATUS_TOO_LARGE;
    if (channel_appended(conn->channel) - conn->flushed_at + size > WRITE_SIZE)
        write_out(conn);
    uint64_t written_end = channel_appended(conn->channel) + size;
    if (packet_id_offset != 0) {
        if (conn->turn_ms == 0)
            conn->turn_ms = net_now_ms();
        uint16_t packet_id = mqtt_inflight_add(conn->inflight, token, conn->turn_ms);
        mqtt_set_packet_id(packet, packet_id_offset, packet_id);
    }
    if (conn->limits.retain_available)
        channel_write(conn->channel, (struct bytes){packet, size});
    else
        write_without_retain(conn, packet, size); /* [MQTT-3.2.2-14] */
    /* Not channel_appended: where the channel has dropped the bytes they never count as written. */
    if (packet_id_offset == 0)
        mqtt_inflight_add_qos0(conn->inflight, token, written_end);
    return STATUS_OK;
}

void mqtt_conn_skip(struct mqtt_conn *conn, uint64_t token)
{
    assert(conn->state == MQTT_CONN_READY && mqtt_inflight_room(conn->inflight) > 0);
    mqtt_inflight_add_qos0(conn->inflight, token, 0);
    event_active(conn->settler, EV_TIMEOUT, 0);
}

static void set_low_water(struct mqtt_conn *conn)
{
    size_t puback_size =
        MQTT_PLAIN_PUBACK_SIZE + (conn->config.endpoint.tls ? TLS_RECORD_OVERHEAD : 0);
    channel_set_low_water(conn->channel,
                          ack_coalescing_low_water(&conn->coalescing,
                                                   mqtt_inflight_unacknowledged(conn->inflight),
                                                   puback_size));
}

static void update_hold(struct mqtt_conn *conn, bool more_waiting)
{
    bool held = conn->coalescing.holding;
    bool holds =
        ack_coalescing_at_flush(&conn->coalescing, mqtt_inflight_unacknowledged(conn->inflight),
                                more_waiting, conn->turn_ms != 0 ? conn->turn_ms : net_now_ms());
    if (!holds) {
        end_hold(conn);
    } else if (!held) {
        conn->hold_armed = true;
        arm(conn->hold_timer, ACK_COALESCING_PERIOD_MS);
        set_low_water(conn);
    }
}

static void on_hold_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct mqtt_conn *conn = context;
    uint64_t generation = conn->generation;
    channel_poll(conn->channel);
    if (generation != conn->generation || !conn->hold_armed)
        return;
    if (ack_coalescing_at_timer(&conn->coalescing, mqtt_inflight_unacknowledged(conn->inflight),
                                net_now_ms())) {
        arm(conn->hold_timer, ACK_COALESCING_PERIOD_MS);
        set_low_water(conn);
    } else {
        end_hold(conn);
    }
}

static void on_settler(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    mqtt_conn_settle(context);
}

void mqtt_conn_flush(struct mqtt_conn *conn, bool more_waiting)
{
    if (conn->state == MQTT_CONN_READY) {
        write_out(conn);
        update_hold(conn, more_waiting);
        /* Publishes of QoS 0 may have been written, by this flush or since the last one. They
         * settle from the event loop: an owner that is called back from its own flush would have
         * to flush again. */
        uint64_t written = channel_written(conn->channel);
        if (written != conn->settled_at && mqtt_inflight_unsettled(conn->inflight) >
                                               mqtt_inflight_unacknowledged(conn->inflight)) {
            conn->settled_at = written;
            event_active(conn->settler, EV_TIMEOUT, 0);
        }
    }
    conn->turn_ms = 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

struct mqtt_conn *mqtt_conn_new(const struct net *net, const struct mqtt_conn_config *config,
                                const struct mqtt_conn_events *events, void *context, uint64_t seed)
{
    static const struct channel_events channel_events = {on_open, mqtt_receive_input, on_closed};
    struct mqtt_conn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        return NULL;
    conn->config = *config;
    if (config->status_topic && config->status_topic[0] == '\0')
        conn->config.status_topic = NULL;
    conn->events = *events;
    conn->context = context;
    backoff_init(&conn->backoff, seed);
    struct channel_sizes sizes = {
        .input = MQTT_CONN_MAXIMUM_PACKET_SIZE,
        .output = OUTPUT_HIGH_WATER,
        /* Room is what bounds the output: one packet may go over the high water. */
        .output_max = 2 * OUTPUT_HIGH_WATER + MQTT_MAX_REMAINING_LENGTH,
    };
    conn->scratch_size = mqtt_handshake_scratch_size(config);
    conn->scratch = malloc(conn->scratch_size);
    conn->inflight = mqtt_inflight_new(config->inflight);
    conn->channel = channel_new(net, &conn->config.endpoint, &channel_events, conn, sizes);
    conn->state_timer = evtimer_new(net->base, on_state_timer, conn);
    conn->hold_timer = evtimer_new(net->base, on_hold_timer, conn);
    conn->settler = evtimer_new(net->base, on_settler, conn);
    if (!conn->scratch || !conn->inflight || !conn->channel || !conn->state_timer ||
        !conn->hold_timer || !conn->settler) {
        mqtt_conn_free(conn);
        return NULL;
    }
    return conn;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

void mqtt_conn_free(struct mqtt_conn *conn)
{
    if (!conn)
        return;
    free_event(conn->state_timer);
    free_event(conn->hold_timer);
    free_event(conn->settler);
    if (conn->channel)
        channel_free(conn->channel);
    mqtt_inflight_free(conn->inflight);
    free(conn->scratch);
    free(conn);
}

/* By way of WAITING, so that the channel is never opened from one of its own callbacks. */
void mqtt_conn_start(struct mqtt_conn *conn)
{
    if (conn->state == MQTT_CONN_STOPPED)
        mqtt_conn_set_state(conn, MQTT_CONN_WAITING, 0);
}

void mqtt_conn_stop(struct mqtt_conn *conn)
{
    if (conn->state == MQTT_CONN_STOPPING)
        return;
    if (conn->state != MQTT_CONN_READY) {
        finish_stop(conn);
        return;
    }
    end_hold(conn);
    mqtt_handshake_send_status(conn, "offline");
    mqtt_handshake_send_disconnect(conn, MQTT_REASON_SUCCESS);
    channel_flush(conn->channel);
    conn->stop_ms = net_now_ms();
    mqtt_conn_set_state(conn, MQTT_CONN_STOPPING, 0);
}

void mqtt_conn_close(struct mqtt_conn *conn)
{
    disconnect(conn);
    if (conn->state != MQTT_CONN_STOPPED)
        mqtt_conn_set_state(conn, MQTT_CONN_STOPPED, 0);
}

bool mqtt_conn_is_ready(const struct mqtt_conn *conn)
{
    return conn->state == MQTT_CONN_READY;
}

size_t mqtt_conn_unsettled(const struct mqtt_conn *conn)
{
    return mqtt_inflight_unsettled(conn->inflight);
}

const char *mqtt_conn_refusal(const struct mqtt_conn *conn)
{
    return conn->refusal;
}

const char *mqtt_conn_client_id(const struct mqtt_conn *conn)
{
    return conn->config.client_id;
}

const char *mqtt_conn_describe(const struct mqtt_conn *conn)
{
    return channel_describe(conn->channel);
}

uint64_t mqtt_conn_certificate_end(const struct mqtt_conn *conn)
{
    return channel_certificate_end(conn->channel);
}
