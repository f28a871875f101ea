/* A pool of MQTT connections: names, and which key takes which connection. */
#include "transport/mqtt_pool.h"

#include "tests/unit/fake_broker.h"

struct member {
    size_t ready;
    size_t stopped;
};

static void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    (void)conn;
    (void)limits;
    ((struct member *)context)->ready++;
}

static void on_answered(void *context, struct mqtt_conn *conn, uint64_t token, uint8_t reason_code)
{
    (void)reason_code;
    (void)context;
    (void)conn;
    (void)token;
}

static void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    (void)context;
    (void)conn;
    cr_assert_fail("lost: %s", loss->text);
}

static void on_stopped(void *context, struct mqtt_conn *conn)
{
    (void)conn;
    ((struct member *)context)->stopped++;
}

static const struct mqtt_conn_events events = {on_ready, on_answered, on_lost, on_stopped};

static struct mqtt_pool *pool_new(struct fake_broker *broker, size_t count, struct member *members,
                                  const char *status_topic)
{
    const struct mqtt_conn_config config = {
        .endpoint = {.host = "127.0.0.1", .port = broker->port},
        .version = MQTT_5_0,
        .client_id = "gw-ab12-3",
        .keep_alive_s = 30,
        .connect_timeout_ms = 5000,
        .puback_timeout_ms = 20000,
        .inflight = 10,
        .status_topic = status_topic,
    };
    void *contexts[64];
    for (size_t i = 0; i < count; i++)
        contexts[i] = &members[i];
    struct mqtt_pool *pool = mqtt_pool_new(&broker->net, &config, count, &events, contexts, 7);
    cr_assert_not_null(pool);
    return pool;
}

static void turn(struct fake_broker *broker, struct mqtt_pool *pool)
{
    broker_turn(broker);
    for (size_t i = 0; i < mqtt_pool_count(pool); i++)
        mqtt_conn_flush(mqtt_pool_connection(pool, i), false);
}

static bool has_text(const struct peer *peer, const char *text)
{
    return memmem(peer->input, peer->length, text, strlen(text)) != NULL;
}

Test(mqtt_pool, members_are_named_and_started_and_stopped_together)
{
    struct fake_broker broker;
    broker_open(&broker);
    struct member members[3] = {0};
    struct mqtt_pool *pool = pool_new(&broker, 3, members, "nemogate/{client_id}/status");
    cr_assert_eq(mqtt_pool_count(pool), 3);
    cr_assert_str_eq(mqtt_conn_client_id(mqtt_pool_connection(pool, 0)), "gw-ab12-3-0");
    cr_assert_str_eq(mqtt_conn_client_id(mqtt_pool_connection(pool, 2)), "gw-ab12-3-2");

    mqtt_pool_start(pool);
    size_t answered = 0;
    bool seen[3] = {false};
    for (int turns = 0; !mqtt_pool_all_ready(pool) && turns < MOST_TURNS; turns++) {
        turn(&broker, pool);
        if (answered == broker.peer_count ||
            peer_count(&broker.peers[answered], MQTT_CONNECT, NULL) == 0)
            continue;
        cr_assert_not(mqtt_pool_all_ready(pool));
        struct peer *peer = &broker.peers[answered++];
        for (int i = 0; i < 3; i++) {
            char topic[64];
            snprintf(topic, sizeof(topic), "nemogate/gw-ab12-3-%d/status", i);
            seen[i] = seen[i] || has_text(peer, topic);
        }
        SEND(peer, 0x20, 3, 0, 0, 0);
    }
    cr_assert(mqtt_pool_all_ready(pool));
    for (int i = 0; i < 3; i++) {
        cr_assert(seen[i], "the will of connection %d", i);
        cr_assert_eq(members[i].ready, 1, "each with its own context");
    }

    mqtt_pool_stop(pool);
    for (int turns = 0;
         turns < MOST_TURNS && (!members[0].stopped || !members[1].stopped || !members[2].stopped);
         turns++)
        turn(&broker, pool);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(members[i].stopped, 1);
    cr_assert_not(mqtt_pool_all_ready(pool));
    mqtt_pool_free(pool);
    broker_close(&broker);
}

Test(mqtt_pool, closes_without_a_word)
{
    struct fake_broker broker;
    broker_open(&broker);
    struct member members[2] = {0};
    struct mqtt_pool *pool = pool_new(&broker, 2, members, NULL);
    mqtt_pool_start(pool);
    for (int turns = 0; broker.peer_count < 2 && turns < MOST_TURNS; turns++)
        turn(&broker, pool);
    cr_assert_eq(broker.peer_count, 2);
    mqtt_pool_close(pool);
    for (int turns = 0; turns < MOST_TURNS && !(broker.peers[0].closed && broker.peers[1].closed);
         turns++)
        turn(&broker, pool);
    cr_assert(broker.peers[0].closed && broker.peers[1].closed);
    cr_assert_eq(members[0].stopped + members[1].stopped, 0);
    mqtt_pool_free(pool);
    broker_close(&broker);
}

Test(mqtt_pool, keys_are_spread_evenly_and_always_take_the_same_connection)
{
    struct fake_broker broker;
    broker_open(&broker);
    struct member members[8] = {0};
    struct mqtt_pool *pool = pool_new(&broker, 8, members, NULL);
    /* hashes that share their low bits, as those of one slot or table do */
    size_t counts[8] = {0};
    for (uint32_t i = 0; i < 8000; i++) {
        size_t picked = mqtt_pool_pick(pool, i * 64);
        cr_assert_lt(picked, 8);
        cr_assert_eq(picked, mqtt_pool_pick(pool, i * 64));
        counts[picked]++;
    }
    for (int i = 0; i < 8; i++)
        cr_assert(counts[i] > 800 && counts[i] < 1200, "connection %d got %zu", i, counts[i]);
    mqtt_pool_free(pool);

    pool = pool_new(&broker, 1, members, NULL);
    cr_assert_eq(mqtt_pool_pick(pool, 0xffffffff), 0);
    cr_assert_eq(mqtt_pool_pick(pool, 0), 0);
    mqtt_pool_free(pool);
    broker_close(&broker);
}
