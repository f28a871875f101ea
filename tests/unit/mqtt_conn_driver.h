/*
 * An MQTT connection under test and what it has reported, against a fake_broker. Included by the
 * tests of mqtt_conn only.
 */
#ifndef NEMOGATE_TESTS_MQTT_CONN_DRIVER_H
#define NEMOGATE_TESTS_MQTT_CONN_DRIVER_H

#include "tests/unit/fake_broker.h"

#define MOST_TOKENS 80000

struct world {
    struct fake_broker broker;
    struct mqtt_conn_config config;
    struct mqtt_conn *conn;
    bool more_waiting;
    size_t ready;
    struct mqtt_limits limits;
    uint64_t *settled; /* answered: token by token, and with which reason code */
    uint8_t *reason_codes;
    size_t settled_count;
    size_t lost;
    struct mqtt_loss loss; /* the last one; its text is in text */
    char text[1200];
    size_t stopped;
    bool close_when_settled;
};

static inline void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    struct world *world = context;
    cr_assert(mqtt_conn_is_ready(conn));
    world->limits = *limits;
    world->ready++;
}

static inline void on_answered(void *context, struct mqtt_conn *conn, uint64_t token,
                               uint8_t reason_code)
{
    struct world *world = context;
    cr_assert_lt(world->settled_count, MOST_TOKENS);
    world->reason_codes[world->settled_count] = reason_code;
    world->settled[world->settled_count++] = token;
    if (world->close_when_settled)
        mqtt_conn_close(conn);
}

static inline void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    struct world *world = context;
    cr_assert_not(mqtt_conn_is_ready(conn));
    cr_assert_eq(mqtt_conn_unsettled(conn), 0);
    world->loss = *loss;
    snprintf(world->text, sizeof(world->text), "%s", loss->text);
    world->lost++;
}

static inline void on_stopped(void *context, struct mqtt_conn *conn)
{
    (void)conn;
    ((struct world *)context)->stopped++;
}

static const struct mqtt_conn_events world_events = {on_ready, on_answered, on_lost, on_stopped};

static inline struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof(*world));
    world->settled = calloc(MOST_TOKENS, sizeof(uint64_t));
    world->reason_codes = calloc(MOST_TOKENS, 1);
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

static inline void world_free(struct world *world)
{
    mqtt_conn_free(world->conn);
    broker_close(&world->broker);
    free(world->settled);
    free(world->reason_codes);
    free(world);
}

static inline void turn(struct world *world)
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

static inline void start(struct world *world)
{
    world->conn = mqtt_conn_new(&world->broker.net, &world->config, &world_events, world, 7);
    cr_assert_not_null(world->conn);
    mqtt_conn_start(world->conn);
    UNTIL(world, world->broker.peer_count == 1 && peer_count(PEER(world), MQTT_CONNECT, NULL) == 1);
}

#define CONNACK_PLAIN 0x20, 3, 0, 0, 0
#define CONNACK_3_1_1 0x20, 2, 0, 0

static inline struct world *connected(void)
{
    struct world *world = world_new();
    start(world);
    SEND(PEER(world), CONNACK_PLAIN);
    UNTIL(world, world->ready == 1);
    return world;
}

static inline enum status publish_with(struct world *world, uint64_t token, uint8_t qos,
                                       bool retain)
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

static inline void publish(struct world *world, uint64_t token)
{
    cr_assert_eq(publish_with(world, token, 1, false), STATUS_OK);
}

static inline void publish_many(struct world *world, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        cr_assert_gt(mqtt_conn_room(world->conn), 0);
        publish(world, first + i);
    }
}

static inline void assert_lost(struct world *world, enum mqtt_loss_cause cause, uint8_t reason_code,
                               const char *text)
{
    UNTIL(world, world->lost == 1);
    cr_assert_eq(world->loss.cause, cause, "cause %d: %s", (int)world->loss.cause, world->text);
    cr_assert_eq(world->loss.reason_code, reason_code);
    cr_assert_str_eq(world->text, text);
    cr_assert_geq(world->loss.retry_ms, 50);
}

#define BYTES(literal) literal, sizeof(literal) - 1

#endif
