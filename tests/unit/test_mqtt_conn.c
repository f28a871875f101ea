/* An MQTT connection against a scripted broker: every expected byte of it is written out here. */
#include "tests/unit/fake_broker.h"

#define MOST_TOKENS 80000

struct world {
    struct fake_broker broker;
    struct mqtt_conn_config config;
    struct mqtt_conn *conn;
    bool more_waiting;
    size_t ready;
    struct mqtt_limits limits;
    uint64_t *settled;
    size_t settled_count;
    size_t lost;
    struct mqtt_loss loss; /* the last one; its text is in text */
    char text[1200];
    size_t stopped;
    bool close_when_settled;
};

static void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    struct world *world = context;
    cr_assert(mqtt_conn_is_ready(conn));
    world->limits = *limits;
    world->ready++;
}

static void on_settled(void *context, struct mqtt_conn *conn, uint64_t token)
{
    struct world *world = context;
    cr_assert_lt(world->settled_count, MOST_TOKENS);
    world->settled[world->settled_count++] = token;
    if (world->close_when_settled)
        mqtt_conn_close(conn);
}

static void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    struct world *world = context;
    cr_assert_not(mqtt_conn_is_ready(conn));
    cr_assert_eq(mqtt_conn_unsettled(conn), 0);
    world->loss = *loss;
    snprintf(world->text, sizeof(world->text), "%s", loss->text);
    world->lost++;
}

static void on_stopped(void *context, struct mqtt_conn *conn)
{
    (void)conn;
    ((struct world *)context)->stopped++;
}

static const struct mqtt_conn_events world_events = {on_ready, on_settled, on_lost, on_stopped};

static struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof(*world));
    world->settled = calloc(MOST_TOKENS, sizeof(uint64_t));
    broker_open(&world->broker);
    world->config = (struct mqtt_conn_config){
        .endpoint = {.host = "127.0.0.1", .port = world->broker.port},
        .version = MQTT_5_0,
        .client_id = "unit",
        .keep_alive_s = 30,
        .connect_timeout_ms = 5000,
        .puback_timeout_ms = 20000,
        .inflight = 100,
    };
    return world;
}

static void world_free(struct world *world)
{
    mqtt_conn_free(world->conn);
    broker_close(&world->broker);
    free(world->settled);
    free(world);
}

static void turn(struct world *world)
{
    broker_turn(&world->broker);
    mqtt_conn_flush(world->conn, world->more_waiting);
}

#define UNTIL(world, condition)                                                                    \
    do {                                                                                           \
        int turns = 0;                                                                             \
        while (!(condition) && turns++ < MOST_TURNS)                                               \
            turn(world);                                                                           \
        cr_assert((condition), "%s did not come true; the last loss: %s", #condition,              \
                  (world)->text);                                                                  \
    } while (0)

#define PEER(world) (&(world)->broker.peers[(world)->broker.peer_count - 1])

static void start(struct world *world)
{
    world->conn = mqtt_conn_new(&world->broker.net, &world->config, &world_events, world, 7);
    cr_assert_not_null(world->conn);
    mqtt_conn_start(world->conn);
    UNTIL(world, world->broker.peer_count == 1 && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
}

#define CONNACK_PLAIN 0x20, 3, 0, 0, 0
#define CONNACK_3_1_1 0x20, 2, 0, 0

static struct world *connected(void)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    return world;
}

static enum status publish_with(struct world *world, uint64_t token, uint8_t qos, bool retain)
{
    uint8_t packet[200];
    struct writer w = writer_over(packet, sizeof(packet));
    size_t packet_id_offset;
    struct mqtt_publish publish = {.version = world->config.version,
                                   .qos = qos,
                                   .retain = retain,
                                   .topic = bytes_of("t/1"),
                                   .payload = bytes_of("payload")};
    mqtt_put_publish(&w, &publish, &packet_id_offset);
    cr_assert(writer_ok(&w));
    return mqtt_conn_publish(world->conn, packet, writer_length(&w), packet_id_offset, token);
}

static void publish(struct world *world, uint64_t token)
{
    cr_assert_eq(publish_with(world, token, 1, false), STATUS_OK);
}

static void publish_many(struct world *world, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        cr_assert_gt(mqtt_conn_room(world->conn), 0);
        publish(world, first + i);
    }
}

static void assert_lost(struct world *world, enum mqtt_loss_cause cause, uint8_t reason_code,
                        const char *text)
{
    UNTIL(world, world->lost == 1);
    cr_assert_eq(world->loss.cause, cause, "cause %d: %s", (int)world->loss.cause, world->text);
    cr_assert_eq(world->loss.reason_code, reason_code);
    cr_assert_str_eq(world->text, text);
    cr_assert_geq(world->loss.retry_ms, 50);
}

/* ---- CONNECT and CONNACK ------------------------------------------------------------------- */

Test(mqtt_conn, connect_of_5_0)
{
    struct world *world = world_new();
    world->config.username = "u";
    world->config.password = "p";
    world->config.status_topic = "st";
    start(world);
    const uint8_t expected[] = {0x10, 46,  0,   4,    'M', 'Q', 'T', 'T', 5,   0xee,
                                0,    30,  5,   0x27, 0,   1,   0,   0, /* properties */
                                0,    4,   'u', 'n',  'i', 't',         /* */
                                0,    0,   2,   's',  't', 0,   7,   'o', 'f', 'f',
                                'l',  'i', 'n', 'e',  0,   1,   'u', 0,   1,   'p'};
    cr_assert_eq(PEER(world)->length, sizeof(expected), "%zu", PEER(world)->length);
    cr_assert_arr_eq(PEER(world)->input, expected, sizeof(expected));
    world_free(world);
}

Test(mqtt_conn, connect_of_3_1_1_and_its_pubacks)
{
    struct world *world = world_new();
    world->config.version = MQTT_3_1_1;
    start(world);
    const uint8_t expected[] = {0x10, 16, 0,  4, 'M', 'Q', 'T', 'T', 4,
                                2,    0,  30, 0, 4,   'u', 'n', 'i', 't'};
    cr_assert_eq(PEER(world)->length, sizeof(expected));
    cr_assert_arr_eq(PEER(world)->input, expected, sizeof(expected));
    SEND(PEER(world), CONNACK_3_1_1);
    UNTIL(world, world->ready == 1);
    cr_assert_eq(world->limits.window, 100);
    publish_many(world, 1, 2);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 2);
    SEND(PEER(world), 0x40, 2, 0, 1, 0x40, 2, 0, 2);
    UNTIL(world, world->settled_count == 2);
    world_free(world);
}

Test(mqtt_conn, limits_are_those_of_the_connack)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), 0x20, 16, 0, 0, 13, 0x21, 0, 20, 0x27, 0, 0, 1, 0, 0x25, 0, 0x13, 0, 7);
    UNTIL(world, world->ready == 1);
    cr_assert_eq(world->limits.window, 20);
    cr_assert_eq(world->limits.maximum_packet_size, 256);
    cr_assert_not(world->limits.retain_available);
    cr_assert_eq(world->limits.keep_alive_s, 7);
    cr_assert_eq(mqtt_conn_room(world->conn), 20);
    cr_assert_str_eq(mqtt_conn_client_id(world->conn), "unit");
    cr_assert_str_eq(mqtt_conn_describe(world->conn), "");
    world_free(world);
}

Test(mqtt_conn, a_connack_in_pieces)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), 0x20);
    for (int i = 0; i < 5; i++)
        turn(world);
    SEND(PEER(world), 3, 0, 0);
    for (int i = 0; i < 5; i++)
        turn(world);
    cr_assert_eq(world->ready, 0);
    SEND(PEER(world), 0);
    UNTIL(world, world->ready == 1);
    world_free(world);
}

struct refusal {
    const char *bytes;
    size_t length;
    enum mqtt_version version;
    enum mqtt_loss_cause cause;
    uint8_t reason_code;
    const char *text;
};

#define BYTES(literal) literal, sizeof(literal) - 1

static void assert_refused(const struct refusal *refusal)
{
    struct world *world = world_new();
    world->config.version = refusal->version;
    start(world);
    peer_send(PEER(world), refusal->bytes, refusal->length);
    assert_lost(world, refusal->cause, refusal->reason_code, refusal->text);
    cr_assert_not(world->loss.was_connected);
    cr_assert_eq(world->ready, 0);
    UNTIL(world, PEER(world)->closed);
    world_free(world);
}

Test(mqtt_conn, refusals)
{
    const struct refusal refusals[] = {
        {BYTES("\x20\x03\x00\x87\x00"), MQTT_5_0, MQTT_LOSS_REFUSED, 0x87,
         "the broker refused the connection: Not authorized (0x87)"},
        {BYTES("\x20\x0b\x00\x87\x08\x1f\x00\x05"
               "no\n\x7fx"),
         MQTT_5_0, MQTT_LOSS_REFUSED, 0x87,
         "the broker refused the connection: Not authorized (0x87): no??x"},
        {BYTES("\x20\x0a\x00\x9d\x07\x1c\x00\x04"
               "b:18"),
         MQTT_5_0, MQTT_LOSS_REFUSED, 0x9d,
         "the broker refused the connection: Server moved (0x9d); it names the server \"b:18\""},
        {BYTES("\x20\x02\x00\x05"), MQTT_3_1_1, MQTT_LOSS_REFUSED, 5,
         "the broker refused the connection: Not authorized (0x05)"},
        {BYTES("\x20\x05\x00\x00\x02\x24\x00"), MQTT_5_0, MQTT_LOSS_UNUSABLE, 0,
         "the broker allows QoS 0 only (Maximum QoS 0): nothing it takes would be acknowledged"},
        {BYTES("\x20\x03\x01\x00\x00"), MQTT_5_0, MQTT_LOSS_PROTOCOL, 0,
         "the broker broke the protocol: Session Present, though the start was clean "
         "[MQTT-3.2.2-2]"},
        {BYTES("\x20\x06\x00\x00\x03\x21\x00\x00"), MQTT_5_0, MQTT_LOSS_PROTOCOL, 0,
         "the broker broke the protocol: Receive Maximum is not allowed [MQTT 5.0, 3.2.2.3.3]"},
        {BYTES("\x40\x02\x00\x01"), MQTT_5_0, MQTT_LOSS_PROTOCOL, 0,
         "the broker broke the protocol: the first packet is no CONNACK [MQTT-3.2.0-1]"},
    };
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        assert_refused(&refusals[i]);
}

Test(mqtt_conn, garbage_instead_of_a_connack)
{
    struct world *world = world_new();
    start(world);
    peer_send(PEER(world), "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    UNTIL(world, world->lost == 1);
    cr_assert_eq(world->loss.cause, MQTT_LOSS_PROTOCOL);
    struct packet disconnect;
    UNTIL(world, PEER(world)->closed);
    cr_assert_eq(peer_count(PEER(world), MQTT_DISCONNECT, &disconnect), 1);
    cr_assert_eq(disconnect.body[0], MQTT_REASON_MALFORMED_PACKET);
    world_free(world);
}

Test(mqtt_conn, no_connack_in_time)
{
    struct world *world = world_new();
    world->config.connect_timeout_ms = 50;
    start(world);
    assert_lost(world, MQTT_LOSS_NETWORK, 0, "the broker sent no CONNACK within 50 ms");
    UNTIL(world, world->broker.peer_count == 2); /* it comes again */
    world_free(world);
}

Test(mqtt_conn, closed_before_the_connack)
{
    struct world *world = world_new();
    start(world);
    peer_close(PEER(world));
    UNTIL(world, world->lost == 1);
    cr_assert_eq(world->loss.cause, MQTT_LOSS_NETWORK);
    cr_assert(strstr(world->text, ", before the CONNACK"), "%s", world->text);
    world_free(world);
}

Test(mqtt_conn, nobody_listens)
{
    struct world *world = world_new();
    close(world->broker.listener);
    world->broker.listener = -1;
    world->conn = mqtt_conn_new(&world->broker.net, &world->config, &world_events, world, 7);
    mqtt_conn_start(world->conn);
    UNTIL(world, world->lost >= 3); /* again and again */
    cr_assert_eq(world->loss.cause, MQTT_LOSS_NETWORK);
    cr_assert_geq(world->loss.retry_ms, 200, "the third wait is longer");
    world_free(world);
}

/* ---- the window ---------------------------------------------------------------------------- */

Test(mqtt_conn, the_receive_maximum_is_respected)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), 0x20, 6, 0, 0, 3, 0x21, 0, 2);
    UNTIL(world, world->ready == 1);
    cr_assert_eq(mqtt_conn_room(world->conn), 2);
    publish_many(world, 1, 2);
    cr_assert_eq(mqtt_conn_room(world->conn), 0);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 2);
    SEND(PEER(world), 0x40, 2, 0, 1);
    UNTIL(world, world->settled_count == 1);
    cr_assert_eq(mqtt_conn_room(world->conn), 1);
    publish(world, 3);
    struct packet last;
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, &last) == 3);
    cr_assert_eq(packet_id_of(&last), 3);
    world_free(world);
}

Test(mqtt_conn, settles_in_order_whatever_the_order_of_pubacks)
{
    struct world *world = connected();
    publish_many(world, 11, 4);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 4);
    SEND(PEER(world), 0x40, 2, 0, 3, 0x40, 3, 0, 2, 0x10, 0x40, 4, 0, 4, 0, 0);
    for (int i = 0; i < 10; i++)
        turn(world);
    cr_assert_eq(world->settled_count, 0);
    SEND(PEER(world), 0x40, 2, 0, 1);
    UNTIL(world, world->settled_count == 4);
    for (uint64_t i = 0; i < 4; i++)
        cr_assert_eq(world->settled[i], 11 + i);
    cr_assert_eq(mqtt_conn_unsettled(world->conn), 0);
    world_free(world);
}

/* Answers every publish that has come since *at. */
static void acknowledge_all(struct peer *peer, size_t *at)
{
    uint8_t pubacks[4000];
    size_t length = 0;
    struct packet packet;
    while (length < sizeof(pubacks) && peer_packet(peer, at, &packet)) {
        if (packet.first >> 4 != MQTT_PUBLISH)
            continue;
        uint16_t id = packet_id_of(&packet);
        memcpy(pubacks + length, (uint8_t[]){0x40, 2, (uint8_t)(id >> 8), (uint8_t)id}, 4);
        length += 4;
    }
    if (length > 0)
        peer_send(peer, pubacks, length);
    if (*at == peer->length)
        *at = peer->length = 0;
}

/* Publishes total tokens as fast as there is room, with acknowledgements read in bulk. */
static void pump(struct world *world, uint64_t total)
{
    struct peer *peer = PEER(world);
    uint64_t next = 0;
    size_t at = 0;
    for (int turns = 0; world->settled_count < total && turns < MOST_TURNS; turns++) {
        while (next < total && mqtt_conn_room(world->conn) > 0)
            publish(world, next++);
        world->more_waiting = next < total;
        turn(world);
        acknowledge_all(peer, &at);
    }
    cr_assert_eq(world->settled_count, total, "%zu settled", world->settled_count);
    for (uint64_t i = 0; i < total; i++)
        cr_assert_eq(world->settled[i], i);
    cr_assert_eq(world->lost, 0);
}

Test(mqtt_conn, packet_identifiers_wrap)
{
    struct world *world = connected();
    pump(world, 70000);
    world_free(world);
}

Test(mqtt_conn, the_largest_window)
{
    struct world *world = world_new();
    world->config.inflight = 65535;
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    cr_assert_eq(mqtt_conn_room(world->conn), 65535);
    for (uint64_t i = 0; i < 65535; i++) {
        UNTIL(world, mqtt_conn_room(world->conn) > 0);
        publish(world, i);
    }
    cr_assert_eq(mqtt_conn_room(world->conn), 0);
    size_t at = 0;
    for (int turns = 0; world->settled_count < 65535 && turns < MOST_TURNS; turns++) {
        turn(world);
        acknowledge_all(PEER(world), &at);
    }
    cr_assert_eq(world->settled_count, 65535);
    cr_assert_eq(world->settled[65534], 65534);
    world_free(world);
}

Test(mqtt_conn, a_hold_ends_when_half_of_the_window_is_free)
{
    struct world *world = connected();
    world->more_waiting = true;
    publish_many(world, 0, 100);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 100);
    for (uint8_t id = 1; id <= 50; id++)
        SEND(PEER(world), 0x40, 2, 0, id);
    UNTIL(world, mqtt_conn_room(world->conn) == 50);
    world_free(world);
}

Test(mqtt_conn, a_hold_that_the_broker_does_not_fill_ends_by_itself)
{
    struct world *world = connected();
    world->more_waiting = true;
    publish_many(world, 0, 100);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 100);
    SEND(PEER(world), 0x40, 2, 0, 1, 0x40, 2, 0, 2);
    UNTIL(world, mqtt_conn_room(world->conn) == 2);
    cr_assert_eq(world->settled_count, 2);
    world_free(world);
}

Test(mqtt_conn, does_not_hold_when_nothing_waits)
{
    struct world *world = connected();
    publish_many(world, 0, 100);
    mqtt_conn_flush(world->conn, false);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 100);
    SEND(PEER(world), 0x40, 2, 0, 1);
    UNTIL(world, world->settled_count == 1);
    cr_assert_eq(mqtt_conn_room(world->conn), 1);
    world_free(world);
}

Test(mqtt_conn, no_room_while_the_output_is_not_taken)
{
    struct world *world = world_new();
    world->config.inflight = 65535;
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    /* the broker does not read: only what the sockets take leaves */
    static uint8_t packet[60000];
    struct writer w = writer_over(packet, sizeof(packet));
    size_t offset;
    static const uint8_t payload[50000];
    struct mqtt_publish large = {
        .version = MQTT_5_0, .qos = 1, .topic = bytes_of("t"), .payload = {payload, 50000}};
    mqtt_put_publish(&w, &large, &offset);
    uint64_t sent = 0;
    while (mqtt_conn_room(world->conn) > 0 && sent < 10000)
        cr_assert_eq(mqtt_conn_publish(world->conn, packet, writer_length(&w), offset, sent++),
                     STATUS_OK);
    cr_assert_lt(sent, 10000);
    cr_assert_eq(mqtt_conn_unsettled(world->conn), sent);
    world->broker.peers[0].length = 0;
    UNTIL(world, (PEER(world)->length = 0, mqtt_conn_room(world->conn) > 0));
    world_free(world);
}

/* ---- QoS 0 --------------------------------------------------------------------------------- */

Test(mqtt_conn, qos0_settles_when_written)
{
    struct world *world = connected();
    cr_assert_eq(publish_with(world, 1, 0, false), STATUS_OK);
    cr_assert_eq(publish_with(world, 2, 0, false), STATUS_OK);
    cr_assert_eq(world->settled_count, 0);
    mqtt_conn_flush(world->conn, false);
    cr_assert_eq(world->settled_count, 0, "never from inside a call of the owner");
    UNTIL(world, world->settled_count == 2);
    struct packet last;
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, &last) == 2);
    cr_assert_eq(last.first, 0x30);
    world_free(world);
}

Test(mqtt_conn, qos0_waits_for_its_turn)
{
    struct world *world = connected();
    publish(world, 1);
    cr_assert_eq(publish_with(world, 2, 0, false), STATUS_OK);
    publish(world, 3);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 3);
    for (int i = 0; i < 10; i++)
        turn(world);
    cr_assert_eq(world->settled_count, 0);
    struct packet first = peer_publish(PEER(world), 0);
    SEND(PEER(world), 0x40, 2, 0, (uint8_t)packet_id_of(&first));
    UNTIL(world, world->settled_count == 2);
    cr_assert_eq(world->settled[1], 2);
    struct packet third = peer_publish(PEER(world), 2);
    SEND(PEER(world), 0x40, 2, 0, (uint8_t)packet_id_of(&third));
    UNTIL(world, world->settled_count == 3);
    world_free(world);
}

/* ---- what the broker allows ---------------------------------------------------------------- */

Test(mqtt_conn, over_the_maximum_packet_size)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), 0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 16); /* 16 bytes; ours have 17 */
    UNTIL(world, world->ready == 1);
    cr_assert_eq(publish_with(world, 1, 1, false), STATUS_TOO_LARGE);
    cr_assert_eq(mqtt_conn_unsettled(world->conn), 0);
    cr_assert_eq(publish_with(world, 2, 0, false), STATUS_OK); /* 15 bytes */
    UNTIL(world, world->settled_count == 1);
    cr_assert(mqtt_conn_is_ready(world->conn));
    cr_assert_eq(peer_count(PEER(world), MQTT_PUBLISH, NULL), 1);
    world_free(world);
}

Test(mqtt_conn, retain_is_cleared_only_where_it_is_not_available)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), 0x20, 5, 0, 0, 2, 0x25, 0);
    UNTIL(world, world->ready == 1);
    uint8_t packet[] = {0x33, 7, 0, 1, 't', 0, 0, 0, 'x'};
    cr_assert_eq(mqtt_conn_publish(world->conn, packet, sizeof(packet), 5, 1), STATUS_OK);
    cr_assert_eq(packet[0], 0x33, "the owner may send it again elsewhere");
    struct packet got;
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, &got) == 1);
    cr_assert_eq(got.first, 0x32);
    world_free(world);

    world = connected();
    cr_assert_eq(publish_with(world, 1, 1, true), STATUS_OK);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, &got) == 1);
    cr_assert_eq(got.first, 0x33);
    world_free(world);
}

/* ---- losses -------------------------------------------------------------------------------- */

Test(mqtt_conn, a_loss_forgets_and_the_next_connection_starts_at_identifier_1)
{
    struct world *world = connected();
    publish_many(world, 1, 3);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 3);
    SEND(PEER(world), 0x40, 2, 0, 1);
    peer_close(PEER(world));
    assert_lost(world, MQTT_LOSS_NETWORK, 0, "the peer closed the connection");
    cr_assert(world->loss.was_connected);
    cr_assert_eq(world->settled_count, 1, "what was acknowledged before has settled");
    cr_assert_eq(mqtt_conn_room(world->conn), 0);
    UNTIL(world, world->broker.peer_count == 2 && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 2);
    publish(world, 2);
    struct packet got;
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, &got) == 1);
    cr_assert_eq(packet_id_of(&got), 1);
    cr_assert_eq(got.first, 0x32, "no DUP: it is a new session");
    world_free(world);
}

Test(mqtt_conn, a_refused_publish)
{
    struct world *world = connected();
    publish_many(world, 21, 4);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 4);
    SEND(PEER(world), 0x40, 2, 0, 1, 0x40, 2, 0, 3, 0x40, 9, 0, 2, 0x97, 5, 0x1f, 0, 2, 'h', 'm',
         0x40, 2, 0, 4);
    assert_lost(world, MQTT_LOSS_PUBLISH_REFUSED, 0x97,
                "the broker refused a publish: Quota exceeded (0x97): hm");
    cr_assert_eq(world->loss.token, 22);
    cr_assert_eq(world->settled_count, 1, "nothing behind the refused one");
    cr_assert_eq(world->settled[0], 21);
    UNTIL(world, PEER(world)->closed);
    struct packet disconnect;
    cr_assert_eq(peer_count(PEER(world), MQTT_DISCONNECT, &disconnect), 1);
    cr_assert_eq(disconnect.body[0], 0x04);
    world_free(world);
}

Test(mqtt_conn, protocol_errors)
{
    const struct {
        const char *bytes;
        size_t length;
        uint8_t goodbye;
        const char *text;
    } cases[] = {
        {BYTES("\x40\x02\x00\x05"), MQTT_REASON_PROTOCOL_ERROR,
         "the broker broke the protocol: PUBACK for a packet identifier not in flight "
         "[MQTT 5.0, 4.3.2]"},
        {BYTES("\x40\x03\x00\x05\x87"), MQTT_REASON_PROTOCOL_ERROR,
         "the broker broke the protocol: PUBACK for a packet identifier not in flight "
         "[MQTT 5.0, 4.3.2]"},
        {BYTES("\x20\x03\x00\x00\x00"), MQTT_REASON_PROTOCOL_ERROR,
         "the broker broke the protocol: a second CONNACK [MQTT-3.2.0-2]"},
        {BYTES("\x40\x01\x00"), MQTT_REASON_MALFORMED_PACKET,
         "the broker broke the protocol: PUBACK is cut short [MQTT 5.0, 3.4.2]"},
        {BYTES("\x40\xff\xff\x7f"), MQTT_REASON_PACKET_TOO_LARGE,
         "the broker broke the protocol: a packet over our Maximum Packet Size [MQTT-3.1.2-24]"},
        {BYTES("\xd0\x02\x00\x00"), MQTT_REASON_MALFORMED_PACKET,
         "the broker broke the protocol: PINGRESP with a body [MQTT 5.0, 3.13.1]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *world = connected();
        peer_send(PEER(world), cases[i].bytes, cases[i].length);
        assert_lost(world, MQTT_LOSS_PROTOCOL, 0, cases[i].text);
        cr_assert(world->loss.was_connected);
        UNTIL(world, PEER(world)->closed);
        struct packet disconnect;
        cr_assert_eq(peer_count(PEER(world), MQTT_DISCONNECT, &disconnect), 1);
        cr_assert_eq(disconnect.body[0], cases[i].goodbye);
        world_free(world);
    }
}

/* DISCONNECT of 3.1.1 would take the will back. */
Test(mqtt_conn, no_disconnect_after_an_error_with_3_1_1)
{
    struct world *world = world_new();
    world->config.version = MQTT_3_1_1;
    start(world);
    SEND(PEER(world), CONNACK_3_1_1);
    UNTIL(world, world->ready == 1);
    SEND(PEER(world), 0xe0, 0);
    assert_lost(world, MQTT_LOSS_PROTOCOL, 0,
                "the broker broke the protocol: a server does not send DISCONNECT "
                "[MQTT 3.1.1, 3.14]");
    UNTIL(world, PEER(world)->closed);
    cr_assert_eq(peer_count(PEER(world), MQTT_DISCONNECT, NULL), 0);
    world_free(world);
}

Test(mqtt_conn, the_broker_disconnects)
{
    struct world *world = connected();
    SEND(PEER(world), 0xe0, 8, 0x8b, 6, 0x1f, 0, 3, 'b', 'y', 'e');
    assert_lost(world, MQTT_LOSS_DISCONNECTED, 0x8b,
                "the broker disconnected: Server shutting down (0x8b): bye");
    cr_assert_lt(world->loss.retry_ms, 5000);
    world_free(world);

    world = connected();
    SEND(PEER(world), 0xe0, 1, 0x8e);
    assert_lost(world, MQTT_LOSS_DISCONNECTED, 0x8e,
                "the broker disconnected: Session taken over (0x8e)");
    cr_assert_geq(world->loss.retry_ms, 5000);
    world_free(world);
}

Test(mqtt_conn, no_puback_in_time)
{
    struct world *world = world_new();
    world->config.puback_timeout_ms = 100;
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    publish_many(world, 1, 2);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 2);
    SEND(PEER(world), 0x40, 2, 0, 2);
    assert_lost(world, MQTT_LOSS_PUBACK_TIMEOUT, 0, "the broker sent no PUBACK within 100 ms");
    cr_assert_eq(world->settled_count, 0);
    UNTIL(world, PEER(world)->closed);
    world_free(world);
}

/* A process that was stopped finds timeouts and their answers at once: the answers count. */
Test(mqtt_conn, a_puback_that_lies_in_the_socket_is_in_time)
{
    struct world *world = world_new();
    world->config.puback_timeout_ms = 100;
    world->more_waiting = true;
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    publish(world, 1);
    mqtt_conn_flush(world->conn, true);
    usleep(300000);
    SEND(PEER(world), 0x40, 2, 0, 1);
    UNTIL(world, world->settled_count == 1);
    cr_assert_eq(world->lost, 0);
    world_free(world);
}

Test(mqtt_conn, keep_alive)
{
    struct world *world = world_new();
    world->config.keep_alive_s = 1;
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    UNTIL(world, peer_count(PEER(world), MQTT_PINGREQ, NULL) == 1);
    SEND(PEER(world), 0xd0, 0);
    UNTIL(world, peer_count(PEER(world), MQTT_PINGREQ, NULL) == 2);
    cr_assert_eq(world->lost, 0);
    assert_lost(world, MQTT_LOSS_PING_TIMEOUT, 0, "the broker sent no PINGRESP within 1000 ms");
    world_free(world);
}

/* The backoff grows as long as no connection has proved itself. */
Test(mqtt_conn, a_broker_that_refuses_every_publish_is_met_with_growing_waits)
{
    struct world *world = world_new();
    start(world);
    for (size_t try = 1; try <= 4; try++) {
        UNTIL(world,
              world->broker.peer_count == try && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
        SEND(PEER(world), CONNACK_PLAIN);
        UNTIL(world, world->ready == try);
        publish(world, 1);
        UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 1);
        SEND(PEER(world), 0x40, 3, 0, 1, 0x97);
        UNTIL(world, world->lost == try);
    }
    cr_assert_geq(world->loss.retry_ms, 400);
    UNTIL(world, world->broker.peer_count == 5 && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 5);
    publish_many(world, 1, 2);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 2);
    SEND(PEER(world), 0x40, 2, 0, 1, 0x40, 3, 0, 2, 0x97);
    UNTIL(world, world->lost == 5);
    cr_assert_leq(world->loss.retry_ms, 100, "a PUBACK has proved the connection");
    world_free(world);
}

/* ---- status, stop, close ------------------------------------------------------------------- */

Test(mqtt_conn, online_and_offline)
{
    struct world *world = world_new();
    world->config.status_topic = "st";
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    PEER(world)->length = 0;
    const uint8_t online[] = {0x31, 11, 0, 2, 's', 't', 0, 'o', 'n', 'l', 'i', 'n', 'e'};
    UNTIL(world, PEER(world)->length == sizeof(online));
    cr_assert_arr_eq(PEER(world)->input, online, sizeof(online));
    cr_assert_eq(mqtt_conn_unsettled(world->conn), 0);

    PEER(world)->length = 0;
    mqtt_conn_stop(world->conn);
    cr_assert_eq(world->stopped, 0);
    cr_assert_eq(mqtt_conn_room(world->conn), 0);
    UNTIL(world, world->stopped == 1 && PEER(world)->closed);
    const uint8_t offline[] = {0x31, 12,  0,   2,   's', 't', 0,    'o',
                               'f',  'f', 'l', 'i', 'n', 'e', 0xe0, 0};
    cr_assert_eq(PEER(world)->length, sizeof(offline), "%zu", PEER(world)->length);
    cr_assert_arr_eq(PEER(world)->input, offline, sizeof(offline));
    cr_assert_eq(world->lost, 0);

    mqtt_conn_start(world->conn);
    UNTIL(world, world->broker.peer_count == 2);
    world_free(world);
}

Test(mqtt_conn, stop_sends_first_what_was_appended)
{
    struct world *world = connected();
    publish(world, 1);
    mqtt_conn_stop(world->conn);
    UNTIL(world, world->stopped == 1 && PEER(world)->closed);
    cr_assert_eq(peer_count(PEER(world), MQTT_PUBLISH, NULL), 1);
    cr_assert_eq(peer_count(PEER(world), MQTT_DISCONNECT, NULL), 1);
    world_free(world);
}

Test(mqtt_conn, stop_is_immediate_where_it_is_not_connected)
{
    struct world *world = world_new();
    start(world);
    mqtt_conn_stop(world->conn);
    cr_assert_eq(world->stopped, 1);
    UNTIL(world, PEER(world)->closed);
    mqtt_conn_stop(world->conn);
    cr_assert_eq(world->stopped, 2);
    world_free(world);
}

Test(mqtt_conn, a_connection_that_breaks_while_stopping_is_stopped)
{
    struct world *world = connected();
    mqtt_conn_stop(world->conn);
    peer_close(PEER(world));
    UNTIL(world, world->stopped == 1);
    for (int i = 0; i < 20; i++)
        turn(world);
    cr_assert_eq(world->lost, 0);
    cr_assert_eq(world->stopped, 1);
    world_free(world);
}

Test(mqtt_conn, close_is_silent_and_without_disconnect)
{
    struct world *world = connected();
    publish(world, 1);
    mqtt_conn_close(world->conn);
    mqtt_conn_close(world->conn);
    cr_assert_eq(mqtt_conn_unsettled(world->conn), 0);
    UNTIL(world, PEER(world)->closed);
    cr_assert_eq(peer_count(PEER(world), MQTT_DISCONNECT, NULL), 0);
    cr_assert_eq(world->lost + world->stopped + world->settled_count, 0);
    world_free(world);
}

Test(mqtt_conn, the_owner_may_close_while_publishes_settle)
{
    struct world *world = connected();
    world->close_when_settled = true;
    publish_many(world, 1, 3);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 3);
    SEND(PEER(world), 0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 3, 0, 3, 0x97);
    UNTIL(world, PEER(world)->closed);
    cr_assert_eq(world->settled_count, 1);
    cr_assert_eq(world->lost, 0);
    mqtt_conn_start(world->conn);
    UNTIL(world, world->broker.peer_count == 2 && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
    world_free(world);
}
