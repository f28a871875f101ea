/*
 * A broker's part of `check --connect`: one connection that publishes nothing and has no will, what
 * the broker allows on it, and a DISCONNECT.
 */
#include "core/check_private.h"

#include "core/peers.h"

#include <stdlib.h>
#include <unistd.h>

/* A PUBLISH around the largest payload: topic, properties and header, generously. */
#define AROUND_PAYLOAD 1024u

static void say_limits(const struct check_broker *check, const struct mqtt_limits *limits)
{
    const struct config_broker *broker = check->broker;
    const char *tls = mqtt_conn_describe(check->conn);
    char packet[64] = "; MQTT 3.1.1 announces no limits", number[CHECK_NUMBER_TEXT];
    if (limits->maximum_packet_size != 0)
        snprintf(packet, sizeof packet, ", Maximum Packet Size %s bytes",
                 check_number(limits->maximum_packet_size, number));
    else if (broker->protocol == CONFIG_PROTOCOL_5)
        snprintf(packet, sizeof packet, ", Maximum Packet Size none");
    check_say(check->part, CHECK_OK, "broker %s (%s://%s): connected%s%s; window %u%s%s",
              broker->name, broker->url.tls ? "mqtts" : "mqtt", check->where,
              tls[0] != '\0' ? " with " : "", tls, limits->window,
              limits->window < broker->inflight ? " (Receive Maximum)" : "", packet);
}

static void say_warnings(const struct check_broker *check, const struct mqtt_limits *limits)
{
    const struct config_broker *broker = check->broker;
    if (broker->protocol == CONFIG_PROTOCOL_3_1_1)
        check_say(check->part, CHECK_WARNING,
                  "broker %s: MQTT 3.1.1 carries no reason codes: what the broker refuses by ACL, "
                  "quota or size is lost without a word; use protocol: 5",
                  broker->name);
    if (!limits->retain_available)
        check_say(check->part, CHECK_WARNING,
                  "broker %s: it keeps no retained messages: entries with retain are published "
                  "without it, and a client that comes later does not see them",
                  broker->name);
    if (limits->maximum_packet_size != 0 &&
        limits->maximum_packet_size < check->config->delivery.max_payload + AROUND_PAYLOAD)
        check_say(check->part, CHECK_WARNING,
                  "broker %s: its Maximum Packet Size is below delivery.max_payload (%zu bytes): "
                  "larger entries go to the dead letters",
                  broker->name, check->config->delivery.max_payload);
}

static void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    struct check_broker *check = context;
    say_limits(check, limits);
    say_warnings(check, limits);
    mqtt_conn_stop(conn);
}

static void on_answered(void *context, struct mqtt_conn *conn, uint64_t token, uint8_t reason_code)
{
    (void)context;
    (void)conn;
    (void)token;
    (void)reason_code;
}

static void fail(struct check_broker *check, const char *reason)
{
    const struct config_broker *broker = check->broker;
    check_say(check->part, CHECK_FAILED, "broker %s (%s://%s): %s", broker->name,
              broker->url.tls ? "mqtts" : "mqtt", check->where, reason);
    check_finish(check->part);
}

static void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    fail(context, loss->text);
    mqtt_conn_close(conn);
}

static void on_stopped(void *context, struct mqtt_conn *conn)
{
    (void)conn;
    const struct check_broker *check = context;
    check_finish(check->part);
}

static bool open_tls(struct check_broker *check)
{
    const struct config_broker *broker = check->broker;
    char error[IO_ERROR_TEXT];
    bool opened = peer_open_tls(&broker->url, &broker->tls, &check->tls, error);
    if (!opened)
        fail(check, error);
    return opened;
}

void check_broker_open(struct check_broker *check, const struct config *config, size_t index,
                       const struct net *net, struct check_part *part)
{
    static const struct mqtt_conn_events events = {on_ready, on_answered, on_lost, on_stopped};
    const struct config_broker *broker = &config->brokers[index];
    *check = (struct check_broker){.part = part, .config = config, .broker = broker};
    endpoint_format(&(struct endpoint){.host = broker->url.host, .port = broker->url.port},
                    check->where);
    if (!config_is_routed(config, index))
        check_say(part, CHECK_WARNING, "broker %s: no route leads to it", broker->name);
    if (!open_tls(check))
        return;
    if (asprintf(&check->client_id, "%s-check-%ld", broker->client_id_prefix, (long)getpid()) < 0)
        check->client_id = NULL;
    check->conn_config = peer_broker_conn(broker, check->tls, check->client_id);
    check->conn_config.status_topic = NULL; /* nothing is published */
    if (check->client_id != NULL)
        check->conn = mqtt_conn_new(net, &check->conn_config, &events, check, net_now_us());
    if (check->conn == NULL)
        fail(check, "memory is short");
    else
        mqtt_conn_start(check->conn);
}

void check_broker_close(struct check_broker *check)
{
    mqtt_conn_free(check->conn);
    tls_context_free(check->tls);
    free(check->client_id);
}

void check_broker_give_up(struct check_broker *check)
{
    fail(check, "not connected when the time for this check was over");
}
