/*
 * The MQTT connections of one slot to one broker: made together, named together, and chosen by the
 * hash of an entry's key, so that a key always takes the same connection. All on one thread.
 */
#ifndef NEMOGATE_TRANSPORT_MQTT_POOL_H
#define NEMOGATE_TRANSPORT_MQTT_POOL_H

#include "transport/mqtt_conn.h"

struct mqtt_pool;

/* Makes count (1 to 64) connections like config, with the client identifiers
 * "<client_id_prefix>-<n>", n from 0, where config->client_id is that prefix. config->status_topic
 * may hold {client_id}. connection_context[i] is the context of connection i's callbacks. Borrows
 * what config borrows. Owned; NULL: memory is short. */
struct mqtt_pool *mqtt_pool_new(const struct net *net, const struct mqtt_conn_config *config,
                                size_t count, const struct mqtt_conn_events *events,
                                void *const *connection_context, uint64_t seed);
void mqtt_pool_free(struct mqtt_pool *pool);

void mqtt_pool_start(struct mqtt_pool *pool);
void mqtt_pool_stop(struct mqtt_pool *pool);
void mqtt_pool_close(struct mqtt_pool *pool);

size_t mqtt_pool_count(const struct mqtt_pool *pool);
struct mqtt_conn *mqtt_pool_connection(struct mqtt_pool *pool, size_t index);
/* The index of the connection for a key with this hash. */
size_t mqtt_pool_pick(const struct mqtt_pool *pool, uint32_t key_hash);
bool mqtt_pool_all_ready(const struct mqtt_pool *pool);

#endif
