/*
 * One place for what slots, the main thread and `check` all need to know to connect.
 */
#include "core/peers.h"

/* Of Redis, which the configuration does not make adjustable: it is near, or it is no good. */
#define REDIS_TIMEOUT_MS 5000u

static const char *given(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

bool peer_open_tls(const struct config_url *url, const struct config_tls *tls,
                   struct tls_context **context, char *error)
{
    *context = NULL;
    if (!url->tls)
        return true;
    struct tls_settings settings = {.ca_file = tls->ca_file,
                                    .cert_file = tls->cert_file,
                                    .key_file = tls->key_file,
                                    .server_name =
                                        tls->server_name[0] != '\0' ? tls->server_name : url->host,
                                    .ca_pem = tls->ca_pem};
    *context = tls_context_new(&settings, error);
    return *context != NULL;
}

struct endpoint peer_redis_endpoint(const struct config_redis *redis, struct tls_context *tls)
{
    return (struct endpoint){.host = given(redis->url.host),
                             .port = redis->url.port,
                             .path = given(redis->url.path),
                             .tls = tls};
}

struct redis_link_config peer_redis_link(const struct config_redis *redis, struct tls_context *tls,
                                         const char *client_name)
{
    return (struct redis_link_config){
        .endpoint = peer_redis_endpoint(redis, tls),
        .username = given(redis->username),
        .password = redis->password,
        .database = redis->url.database,
        .client_name = client_name,
        .connect_timeout_ms = REDIS_TIMEOUT_MS,
        .reply_timeout_ms = REDIS_TIMEOUT_MS,
    };
}

struct mqtt_conn_config peer_broker_conn(const struct config_broker *broker,
                                         struct tls_context *tls, const char *client_id)
{
    return (struct mqtt_conn_config){
        .endpoint = {.host = given(broker->url.host), .port = broker->url.port, .tls = tls},
        .version = broker->protocol == CONFIG_PROTOCOL_5 ? MQTT_5_0 : MQTT_3_1_1,
        .client_id = client_id,
        .username = given(broker->username),
        .password = broker->password,
        .keep_alive_s = (uint16_t)(broker->keepalive_ms / 1000),
        .connect_timeout_ms = broker->connect_timeout_ms,
        .puback_timeout_ms = broker->puback_timeout_ms,
        .inflight = (uint16_t)broker->inflight,
        .status_topic = given(broker->status_topic),
    };
}
