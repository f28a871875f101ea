/* An MQTT connection against a scripted broker: every expected byte of it is written out here. */
#include "tests/unit/mqtt_conn_driver.h"

/* ---- CONNECT and CONNACK ------------------------------------------------------------------- */

Test(mqtt_conn, connect_of_5_0)
{
    struct world *world = world_new();
    world->config.username = "u";
    world->config.password = "p";
    world->config.status_topic = "st";
    start(world);
    const uint8_t expected[] = {0x10, 42,  0,   4,    'M', 'Q', 'T', 'T', 5,   0xee,
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
         "the broker refused the connection: Connection Refused, not authorized (0x05)"},
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

/* ---- skipping ------------------------------------------------------------------------------ */

Test(mqtt_conn, a_skipped_place_settles_by_itself)
{
    struct world *world = connected();
    size_t room = mqtt_conn_room(world->conn);
    mqtt_conn_skip(world->conn, 1);
    cr_assert_eq(mqtt_conn_unsettled(world->conn), 1);
    cr_assert_eq(mqtt_conn_room(world->conn), room, "the window is for QoS 1");
    mqtt_conn_flush(world->conn, false);
    cr_assert_eq(world->settled_count, 0, "never from inside a call of the owner");
    event_base_loop(world->broker.net.base, EVLOOP_ONCE);
    cr_assert_eq(world->settled_count, 1);
    cr_assert_eq(world->settled[0], 1);
    turn(world);
    cr_assert_eq(peer_count(PEER(world), MQTT_PUBLISH, NULL), 0);
    world_free(world);
}

Test(mqtt_conn, a_skipped_place_waits_for_its_turn)
{
    struct world *world = connected();
    publish(world, 1);
    mqtt_conn_skip(world->conn, 2);
    publish(world, 3);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 2);
    struct packet first = peer_publish(PEER(world), 0);
    struct packet second = peer_publish(PEER(world), 1);
    SEND(PEER(world), 0x40, 2, 0, (uint8_t)packet_id_of(&second));
    for (int i = 0; i < 10; i++)
        turn(world);
    cr_assert_eq(world->settled_count, 0);
    SEND(PEER(world), 0x40, 2, 0, (uint8_t)packet_id_of(&first));
    UNTIL(world, world->settled_count == 3);
    for (uint64_t i = 0; i < 3; i++)
        cr_assert_eq(world->settled[i], 1 + i);
    world_free(world);
}

Test(mqtt_conn, a_skipped_place_behind_qos0_waits_until_that_is_written)
{
    struct world *world = connected();
    cr_assert_eq(publish_with(world, 1, 0, false), STATUS_OK);
    mqtt_conn_skip(world->conn, 2);
    for (int i = 0; i < 3; i++)
        broker_turn(&world->broker); /* nothing is flushed */
    cr_assert_eq(world->settled_count, 0);
    UNTIL(world, world->settled_count == 2);
    cr_assert_eq(world->settled[0], 1);
    cr_assert_eq(world->settled[1], 2);
    world_free(world);
}

Test(mqtt_conn, many_skipped_places)
{
    enum { total = 20000 };
    struct world *world = connected();
    uint64_t next = 0;
    while (next < total) {
        while (next < total && mqtt_conn_room(world->conn) > 0)
            mqtt_conn_skip(world->conn, next++);
        UNTIL(world, world->settled_count == next);
    }
    for (uint64_t i = 0; i < total; i++)
        cr_assert_eq(world->settled[i], i);
    cr_assert_eq(mqtt_conn_unsettled(world->conn), 0);
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

/* ---- status, stop, close ------------------------------------------------------------------- */

Test(mqtt_conn, online_and_offline)
{
    struct world *world = world_new();
    world->config.status_topic = "st";
    start(world);
    PEER(world)->length = 0;
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
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
