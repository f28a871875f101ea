/*
 * An MQTT connection driven by a hostile broker and a restless owner, with publishes going on.
 * Input: two bytes of settings, then steps: a byte that names one, and what it needs. Publishes are
 * answered at most once and in their order, and only after a PUBACK with their packet identifier
 * and this reason code has been sent (QoS 0: after they have been written); the window is kept;
 * what goes to the broker is MQTT; what is said of a loss is printable.
 */
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/memory_net.h"
#include "transport/mqtt_conn.h"

#define MOST_PUBLISHES 4000
#define MOST_STEPS 2000
#define MOST_SENT_BYTES 300000 /* of the broker, on one connection: more is not looked at */

static const char *const packets[] = {
    "\x20\x03\0\0\0",                                 /* CONNACK */
    "\x20\x06\0\0\x03\x21\0\x03",                     /* Receive Maximum 3 */
    "\x20\x0d\0\0\x0a\x27\0\0\0\x28\x25\0\x13\0\x02", /* 40 bytes, no RETAIN, 2 s */
    "\x20\x02\0\0",                                   /* of 3.1.1 */
    "\x20\x03\0\x87\0",                               /* not authorized */
    "\x20\x05\0\0\x02\x24\0",                         /* Maximum QoS 0 */
    "\x20\x06\0\0\x03\x21\0\0",                       /* Receive Maximum 0 */
    "\x20\x03\x01\0\0",                               /* Session Present */
    "\xd0\0",                                         /* PINGRESP */
    "\xe0\0",                                         /* DISCONNECT */
    "\xe0\x02\x8e\0",                                 /* taken over */
    "\xe0\x0a\x9d\x08\x1f\0\x05\x1b[2J\n",            /* moved, with a forged text */
    "\x40\x02\x40\0",                                 /* PUBACK for nobody */
    "\x20\xff\xff\xff\x7f",                           /* far too large */
    "\x30\x04\0\x01t!",                               /* PUBLISH */
    "\xf0\0",                                         /* AUTH */
};
static const size_t packet_sizes[] = {5, 8, 15, 4, 5, 7, 8, 5, 2, 2, 4, 12, 4, 5, 6, 2};

enum whim { WHIM_NONE, WHIM_CLOSE, WHIM_STOP, WHIM_RESTART, WHIM_PUBLISH, WHIM_SKIP, WHIMS };

struct sent {
    uint64_t token;
    uint8_t qos;
    bool skipped;
    uint16_t packet_id; /* QoS 1 */
    bool answered;      /* the broker has sent its PUBACK */
    uint8_t reason_code;
};

struct stream {
    uint8_t *data;
    size_t length;
    size_t parsed;
};

struct test {
    struct net net;
    struct mqtt_conn_config config;
    struct mqtt_conn *conn;
    struct mqtt_limits limits;
    bool ready;
    bool calling; /* the owner is in a call that must not call back */
    bool stopping;
    enum whim whim;
    struct sent sent[MOST_PUBLISHES];
    size_t first; /* the oldest without an answer to the owner */
    size_t count; /* published so far */
    unsigned generation;
    struct stream from_broker;
    struct stream to_broker;
    size_t qos0_written; /* on this connection, to the broker */
    size_t qos0_answered;
};

/* ---- what goes over the wire --------------------------------------------------------------- */

/* The next packet of a stream; false: none is whole, or what comes is no packet. */
static bool next_packet(struct stream *stream, uint8_t *first, struct bytes *body)
{
    size_t at = stream->parsed + 1, length = 0;
    for (unsigned shift = 0; shift < 28; shift += 7, at++) {
        if (at >= stream->length)
            return false;
        length |= (size_t)(stream->data[at] & 127) << shift;
        if (stream->data[at] < 128)
            break;
    }
    at++;
    if (at > stream->length || stream->length - at < length)
        return false;
    *first = stream->data[stream->parsed];
    *body = (struct bytes){stream->data + at, length};
    stream->parsed = at + length;
    return true;
}

static void append(struct stream *stream, struct bytes data)
{
    if (stream->parsed > 0 && stream->parsed == stream->length)
        stream->parsed = stream->length = 0;
    if (data.length == 0 || stream->length + data.length > MOST_SENT_BYTES)
        return;
    stream->data = realloc(stream->data, stream->length + data.length);
    require(stream->data != NULL);
    memcpy(stream->data + stream->length, data.data, data.length);
    stream->length += data.length;
}

static void forget_stream(struct stream *stream)
{
    free(stream->data);
    *stream = (struct stream){NULL, 0, 0};
}

static void note_puback(struct test *test, struct bytes body)
{
    if (body.length < 2)
        return;
    uint16_t packet_id = take_u16(&body);
    uint8_t reason_code = take_u8(&body);
    for (size_t i = test->first; i < test->count; i++) {
        struct sent *sent = &test->sent[i];
        if (sent->qos == 1 && !sent->skipped && !sent->answered && sent->packet_id == packet_id) {
            sent->answered = true;
            sent->reason_code = reason_code;
            return;
        }
    }
}

/* What was said on the connection before this one says nothing of it. */
static void notice_connection(struct test *test)
{
    if (test->generation == memory_peer_generation())
        return;
    test->generation = memory_peer_generation();
    test->qos0_written = test->qos0_answered = 0;
    forget_stream(&test->from_broker);
    forget_stream(&test->to_broker);
}

/* What the broker sends is noted before the connection gets it. */
static void send(struct test *test, struct bytes data)
{
    notice_connection(test);
    uint8_t first;
    struct bytes body;
    append(&test->from_broker, data);
    while (next_packet(&test->from_broker, &first, &body))
        if (first == 0x40)
            note_puback(test, body);
    memory_peer_send(data);
}

static void check_output(struct test *test)
{
    uint8_t first;
    struct bytes body;
    notice_connection(test);
    append(&test->to_broker, memory_peer_take());
    while (next_packet(&test->to_broker, &first, &body)) {
        bool is_connect = first == 0x10;
        bool is_publish = first >> 4 == 3 && (first & 0x0e) <= 2 && body.length > 2;
        if (is_publish && (first & 6) == 0 && body.data[1] == 1) /* the status has a longer topic */
            test->qos0_written++;
        bool is_ping = first == 0xc0 && body.length == 0;
        bool is_disconnect = first == 0xe0 && body.length <= 1;
        require(is_connect || is_publish || is_ping || is_disconnect);
        require(!is_publish || (first & 1) == 0 || test->limits.retain_available);
    }
}

/* ---- the owner ----------------------------------------------------------------------------- */

static size_t unanswered(const struct test *test)
{
    size_t count = 0;
    for (size_t i = test->first; i < test->count; i++)
        count += test->sent[i].qos == 1 && !test->sent[i].skipped && !test->sent[i].answered;
    return count;
}

static void forget_sent(struct test *test)
{
    test->first = test->count;
    test->ready = false;
    require(mqtt_conn_unsettled(test->conn) == 0);
}

static void publish(struct test *test, uint8_t how)
{
    if (test->count == MOST_PUBLISHES || test->stopping || mqtt_conn_room(test->conn) == 0)
        return;
    require(test->ready && unanswered(test) < test->limits.window);
    struct sent sent = {.token = test->count * 3, .qos = how & 1, .skipped = (how & 6) == 6};
    if (sent.skipped) {
        mqtt_conn_skip(test->conn, sent.token);
        test->sent[test->count++] = sent;
        return;
    }
    static const uint8_t payload[64] = {0};
    const struct mqtt_publish publish = {.version = test->config.version,
                                         .qos = sent.qos,
                                         .retain = (how & 8) != 0,
                                         .topic = bytes_of("t"),
                                         .payload = {payload, how}};
    size_t size = mqtt_publish_size(&publish), offset;
    uint8_t *packet = malloc(size);
    require(packet != NULL);
    struct writer w = writer_over(packet, size);
    mqtt_put_publish(&w, &publish, &offset);
    enum status status = mqtt_conn_publish(test->conn, packet, size, offset, sent.token);
    uint32_t limit = test->limits.maximum_packet_size;
    require(status == (limit != 0 && size > limit ? STATUS_TOO_LARGE : STATUS_OK));
    if (sent.qos == 1)
        sent.packet_id = (uint16_t)(packet[offset] << 8 | packet[offset + 1]);
    require(sent.qos == 0 || status != STATUS_OK || sent.packet_id != 0);
    if (status == STATUS_OK)
        test->sent[test->count++] = sent;
    free(packet);
}

static void stop(struct test *test)
{
    test->stopping = mqtt_conn_is_ready(test->conn);
    mqtt_conn_stop(test->conn);
}

static void follow_whim(struct test *test)
{
    enum whim whim = test->whim;
    test->whim = WHIM_NONE;
    switch (whim) {
    case WHIM_CLOSE:
    case WHIM_RESTART:
        mqtt_conn_close(test->conn);
        forget_sent(test);
        test->stopping = false;
        if (whim == WHIM_RESTART)
            mqtt_conn_start(test->conn);
        break;
    case WHIM_STOP:
        stop(test);
        break;
    case WHIM_PUBLISH:
        publish(test, 1);
        break;
    case WHIM_SKIP:
        publish(test, 6);
        break;
    case WHIM_NONE:
    case WHIMS:
        break;
    }
}

static void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    struct test *test = context;
    require(!test->calling && !test->ready && mqtt_conn_is_ready(conn));
    require(limits->window > 0 && limits->window <= test->config.inflight);
    require(test->first == test->count && mqtt_conn_unsettled(conn) == 0);
    test->limits = *limits;
    test->ready = true;
    follow_whim(test);
}

static void on_answered(void *context, struct mqtt_conn *conn, uint64_t token, uint8_t reason_code)
{
    struct test *test = context;
    (void)conn;
    require(!test->calling && test->first < test->count);
    const struct sent *sent = &test->sent[test->first];
    require(sent->token == token);
    if (sent->qos == 1 && !sent->skipped)
        require(sent->answered && sent->reason_code == reason_code);
    else
        require(reason_code == 0);
    check_output(test);
    if (sent->qos == 0 && !sent->skipped)
        require(++test->qos0_answered <= test->qos0_written);
    test->first++;
    follow_whim(test);
}

static void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    struct test *test = context;
    require(!test->calling && !mqtt_conn_is_ready(conn) && loss->was_connected == test->ready);
    require(loss->retry_ms >= 50 && loss->text[0] != '\0');
    for (const char *c = loss->text; *c != '\0'; c++)
        require(*c >= ' ' && *c < 0x7f);
    forget_sent(test);
    follow_whim(test);
}

static void on_stopped(void *context, struct mqtt_conn *conn)
{
    struct test *test = context;
    require(!mqtt_conn_is_ready(conn));
    test->stopping = false;
    forget_sent(test);
    if (test->whim == WHIM_RESTART)
        mqtt_conn_start(conn);
}

/* ---- the steps ----------------------------------------------------------------------------- */

/* A PUBACK for one of the publishes that wait for theirs. */
static void acknowledge(struct test *test, struct bytes *input)
{
    uint8_t which = take_u8(input), reason_code = take_u8(input);
    size_t waiting = unanswered(test);
    if (waiting == 0)
        return;
    size_t skip = which % waiting;
    for (size_t i = test->first; i < test->count; i++) {
        const struct sent *sent = &test->sent[i];
        if (sent->qos != 1 || sent->skipped || sent->answered || skip-- > 0)
            continue;
        bool is_5_0 = test->config.version == MQTT_5_0;
        const uint8_t puback[] = {0x40, is_5_0 ? 3 : 2, (uint8_t)(sent->packet_id >> 8),
                                  (uint8_t)sent->packet_id, reason_code};
        send(test, (struct bytes){puback, is_5_0 ? 5 : 4});
        return;
    }
}

static void call_owner(struct test *test, uint8_t how)
{
    test->calling = how != 31; /* a stop may report at once */
    if (how < 26) {
        for (int i = 0; i <= how >> 4; i++)
            publish(test, how);
    } else if (how < 28) {
        mqtt_conn_flush(test->conn, how == 27);
    } else if (how < 30) {
        mqtt_conn_start(test->conn);
    } else if (how == 30) {
        mqtt_conn_close(test->conn);
        forget_sent(test);
        test->stopping = false;
    } else {
        stop(test);
    }
    test->calling = false;
}

static void step(struct test *test, struct bytes *input)
{
    uint8_t what = take_u8(input);
    uint8_t how = what >> 3;
    switch (what & 7) {
    case 0:
        send(test, take_bytes(input, 1u + how));
        break;
    case 1:
        send(test, (struct bytes){(const uint8_t *)packets[how % 16], packet_sizes[how % 16]});
        break;
    case 2:
        acknowledge(test, input);
        break;
    case 3:
        call_owner(test, how);
        break;
    case 4:
        memory_net_run((uint64_t)how * how * 16);
        break;
    case 5:
        test->whim = (enum whim)(how % WHIMS);
        break;
    case 6:
        test->calling = true;
        mqtt_conn_flush(test->conn, (how & 1) != 0);
        test->calling = false;
        memory_net_run(how);
        break;
    case 7:
        if (how == 0)
            memory_peer_close();
        else if (how < 16)
            memory_net_accept(how % 2 == 0);
        else
            memory_net_throttle(how - 16u);
        break;
    }
    check_output(test);
}

static void run(struct test *test, struct bytes *input)
{
    static const struct mqtt_conn_events events = {on_ready, on_answered, on_lost, on_stopped};
    test->net = memory_net_open();
    test->conn = mqtt_conn_new(&test->net, &test->config, &events, test, 5);
    require(test->conn != NULL);
    mqtt_conn_start(test->conn);
    memory_net_run(0);
    for (int steps = 0; input->length > 0 && steps < MOST_STEPS; steps++)
        step(test, input);
    mqtt_conn_free(test->conn);
    forget_stream(&test->from_broker);
    forget_stream(&test->to_broker);
    memory_net_close(&test->net);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    uint8_t settings = take_u8(&input);
    struct test *test = calloc(1, sizeof *test);
    require(test != NULL);
    test->config = (struct mqtt_conn_config){
        .endpoint = {.host = "memory", .port = 1},
        .version = (settings & 1) != 0 ? MQTT_3_1_1 : MQTT_5_0,
        .client_id = "fuzz",
        .username = (settings & 2) != 0 ? "user" : NULL,
        .password = (settings & 2) != 0 ? "secret" : NULL,
        .keep_alive_s = (settings & 4) != 0 ? 5 : 30,
        .connect_timeout_ms = 1000,
        .puback_timeout_ms = 3000,
        .inflight = (uint16_t)(1 + take_u8(&input)),
        .status_topic = (settings & 8) != 0 ? "status" : NULL,
    };
    run(test, &input);
    free(test);
    return 0;
}
