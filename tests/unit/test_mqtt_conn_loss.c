/* How an MQTT connection is lost: refusals, silence, broken protocol, and what comes after. */
#include "tests/unit/mqtt_conn_driver.h"

Test(mqtt_conn_loss, a_loss_forgets_and_the_next_connection_starts_at_identifier_1)
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

Test(mqtt_conn_loss, a_refused_publish_is_answered_in_its_turn)
{
    struct world *world = connected();
    publish_many(world, 21, 4);
    UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 4);
    SEND(PEER(world), 0x40, 2, 0, 1, 0x40, 2, 0, 3, 0x40, 10, 0, 2, 0x97, 6, 0x1f, 0, 3, 'h', '\n',
         'm', 0x40, 2, 0, 4);
    UNTIL(world, world->settled_count == 4);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(world->settled[i], 21 + i);
        cr_assert_eq(world->reason_codes[i], i == 1 ? 0x97 : 0);
    }
    cr_assert_str_eq(mqtt_conn_refusal(world->conn),
                     "the broker refused a publish: Quota exceeded (0x97): h?m");
    cr_assert_eq(world->lost, 0);
    cr_assert_eq(mqtt_conn_room(world->conn), world->limits.window);
    world_free(world);
}

Test(mqtt_conn_loss, protocol_errors)
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
Test(mqtt_conn_loss, no_disconnect_after_an_error_with_3_1_1)
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

Test(mqtt_conn_loss, the_broker_disconnects)
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

Test(mqtt_conn_loss, no_puback_in_time)
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
Test(mqtt_conn_loss, a_puback_that_lies_in_the_socket_is_in_time)
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

Test(mqtt_conn_loss, keep_alive)
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

static void connect_again(struct world *world, size_t try)
{
    UNTIL(world,
          world->broker.peer_count == try && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == try);
}

/* The backoff grows as long as no connection has proved itself. */
Test(mqtt_conn_loss, a_broker_that_answers_no_publish_is_met_with_growing_waits)
{
    struct world *world = world_new();
    start(world);
    for (size_t try = 1; try <= 5; try++) {
        connect_again(world, try);
        publish(world, 1);
        UNTIL(world, peer_count(PEER(world), MQTT_PUBLISH, NULL) == 1);
        if (try == 5) /* a refusal is an answer, too */
            SEND(PEER(world), 0x40, 3, 0, 1, 0x97);
        UNTIL(world, try < 5 || world->settled_count == 1);
        peer_close(PEER(world));
        UNTIL(world, world->lost == try);
        if (try == 4)
            cr_assert_geq(world->loss.retry_ms, 400);
    }
    cr_assert_leq(world->loss.retry_ms, 100, "a PUBACK has proved the connection");
    world_free(world);
}

Test(mqtt_conn_loss, what_a_disconnect_says_decides_how_long_to_stay_away)
{
    const struct {
        uint8_t reason_code;
        uint32_t least_ms;
        uint32_t most_ms;
    } cases[] = {
        {0x8b, 0, 100},       /* Server shutting down */
        {0x8e, 5000, 5100},   /* Session taken over */
        {0x96, 5000, 5100},   /* Message rate too high */
        {0x97, 5000, 5100},   /* Quota exceeded */
        {0x9c, 30000, 30100}, /* Use another server */
        {0x9d, 30000, 30100}, /* Server moved */
        {0x9f, 5000, 5100},   /* Connection rate exceeded */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *world = connected();
        SEND(PEER(world), 0xe0, 2, cases[i].reason_code, 0);
        UNTIL(world, world->lost == 1);
        cr_assert_eq(world->loss.reason_code, cases[i].reason_code);
        cr_assert_geq(world->loss.retry_ms, cases[i].least_ms);
        cr_assert_leq(world->loss.retry_ms, cases[i].most_ms);
        world_free(world);
    }
}

/* The end of the connection has been read; it is reported in the next turn of the loop. */
Test(mqtt_conn_loss, what_is_published_to_an_ended_connection_does_not_settle)
{
    struct world *world = connected();
    cr_assert_eq(publish_with(world, 1, 0, false), STATUS_OK);
    UNTIL(world, world->settled_count == 1);
    peer_close(PEER(world));
    for (int i = 0; i < 100 && mqtt_conn_room(world->conn) > 0; i++)
        event_base_loop(world->broker.net.base, EVLOOP_ONCE);
    cr_assert_eq(mqtt_conn_room(world->conn), 0);
    cr_assert_eq(world->lost, 0);
    /* An owner that asked for room before the end came publishes all the same. */
    cr_assert_eq(publish_with(world, 2, 0, false), STATUS_OK);
    cr_assert_eq(publish_with(world, 3, 0, false), STATUS_OK);
    mqtt_conn_flush(world->conn, false);
    UNTIL(world, world->lost == 1);
    cr_assert_eq(world->settled_count, 1);
    world_free(world);
}

Test(mqtt_conn_loss, qos0_that_could_not_be_written_does_not_settle)
{
    struct world *world = connected();
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    cr_assert_eq(setsockopt(PEER(world)->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    peer_close(PEER(world));
    cr_assert_eq(publish_with(world, 1, 0, false), STATUS_OK);
    mqtt_conn_flush(world->conn, false);
    cr_assert_eq(publish_with(world, 2, 0, false), STATUS_OK);
    UNTIL(world, world->lost == 1);
    cr_assert_eq(world->settled_count, 0);
    world_free(world);
}

Test(mqtt_conn_loss, a_settled_publish_of_qos0_proves_the_connection_and_a_skipped_place_does_not)
{
    struct world *world = world_new();
    start(world);
    for (size_t try = 1; try <= 5; try++) {
        UNTIL(world,
              world->broker.peer_count == try && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
        SEND(PEER(world), CONNACK_PLAIN);
        UNTIL(world, world->ready == try);
        if (try < 5)
            mqtt_conn_skip(world->conn, try);
        else
            cr_assert_eq(publish_with(world, try, 0, false), STATUS_OK);
        UNTIL(world, world->settled_count == try);
        peer_close(PEER(world));
        UNTIL(world, world->lost == try);
        if (try == 4)
            cr_assert_geq(world->loss.retry_ms, 400);
    }
    cr_assert_leq(world->loss.retry_ms, 100);
    world_free(world);
}
