/*
 * Redis and the brokers of the configuration in the terms of transport/: endpoints, TLS, and the
 * settings of a link or connection. What is returned borrows the configuration and the arguments.
 */
#ifndef NEMOGATE_CORE_PEERS_H
#define NEMOGATE_CORE_PEERS_H

#include "core/config.h"
#include "transport/mqtt_conn.h"
#include "transport/redis_link.h"

/* Loads the TLS files of a peer; *context (owned by the caller) stays NULL where the URL is plain.
 * false: error (IO_ERROR_TEXT bytes) says which file, and what is wrong with it. */
MUST_CHECK bool peer_open_tls(const struct config_url *url, const struct config_tls *tls,
                              struct tls_context **context, char *error);

struct endpoint peer_redis_endpoint(const struct config_redis *redis, struct tls_context *tls);
struct redis_link_config peer_redis_link(const struct config_redis *redis, struct tls_context *tls,
                                         const char *client_name);

/* With the broker's status topic as it stands in the configuration. */
struct mqtt_conn_config peer_broker_conn(const struct config_broker *broker,
                                         struct tls_context *tls, const char *client_id);

#endif
