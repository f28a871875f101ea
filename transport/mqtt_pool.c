/*
 * A slot's connections to one broker. What it adds to mqtt_conn is names: each connection has its
 * own client identifier and status topic, owned here.
 */
#include "transport/mqtt_pool.h"

#include "codec/topic_template.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_CONNECTIONS 64u
#define NUMBER_TEXT 24u /* "-", digits, NUL */

struct pooled {
    struct mqtt_conn *conn;
    char *client_id;
    char *status_topic; /* NULL: none */
};

struct mqtt_pool {
    size_t count;
    struct pooled members[];
};

static char *number_client_id(const char *prefix, size_t index)
{
    size_t size = strlen(prefix) + NUMBER_TEXT;
    char *client_id = malloc(size);
    if (client_id)
        snprintf(client_id, size, "%s-%zu", prefix, index);
    return client_id;
}

/* Every {client_id} may take the place of at least one byte. */
static char *expand_status_topic(const char *template, const char *client_id)
{
    size_t size = strlen(template) * (strlen(client_id) + 1) + 1;
    char *topic = malloc(size);
    if (!topic)
        return NULL;
    struct writer w = writer_over((uint8_t *)topic, size);
    struct topic_values values = {.client_id = bytes_of(client_id)};
    topic_template_expand(&w, bytes_of(template), &values);
    writer_put_u8(&w, 0);
    assert(writer_ok(&w));
    return topic;
}

static bool add_member(struct mqtt_pool *pool, const struct net *net,
                       const struct mqtt_conn_config *config, const struct mqtt_conn_events *events,
                       void *context, uint64_t seed)
{
    struct pooled *member = &pool->members[pool->count];
    member->client_id = number_client_id(config->client_id, pool->count);
    if (!member->client_id)
        return false;
    struct mqtt_conn_config own = *config;
    own.client_id = member->client_id;
    if (config->status_topic) {
        member->status_topic = expand_status_topic(config->status_topic, member->client_id);
        if (!member->status_topic)
            return false;
        own.status_topic = member->status_topic;
    }
    member->conn = mqtt_conn_new(net, &own, events, context, seed);
    return member->conn != NULL;
}

struct mqtt_pool *mqtt_pool_new(const struct net *net, const struct mqtt_conn_config *config,
                                size_t count, const struct mqtt_conn_events *events,
                                void *const *connection_context, uint64_t seed)
{
    assert(count >= 1 && count <= MOST_CONNECTIONS);
    struct mqtt_pool *pool = calloc(1, sizeof(*pool) + count * sizeof(pool->members[0]));
    if (!pool)
        return NULL;
    for (; pool->count < count; pool->count++) {
        /* Seeds far apart, so that the members do not come back in step. */
        uint64_t own_seed = seed + (pool->count + 1) * UINT64_C(0x9e3779b97f4a7c15);
        void *context = connection_context[pool->count];
        if (!add_member(pool, net, config, events, context, own_seed)) {
            pool->count++; /* the half-made member is freed too */
            mqtt_pool_free(pool);
            return NULL;
        }
    }
    return pool;
}

void mqtt_pool_free(struct mqtt_pool *pool)
{
    if (!pool)
        return;
    for (size_t i = 0; i < pool->count; i++) {
        mqtt_conn_free(pool->members[i].conn);
        free(pool->members[i].client_id);
        free(pool->members[i].status_topic);
    }
    free(pool);
}

void mqtt_pool_start(struct mqtt_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        mqtt_conn_start(pool->members[i].conn);
}

void mqtt_pool_stop(struct mqtt_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        mqtt_conn_stop(pool->members[i].conn);
}

void mqtt_pool_close(struct mqtt_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        mqtt_conn_close(pool->members[i].conn);
}

size_t mqtt_pool_count(const struct mqtt_pool *pool)
{
    return pool->count;
}

struct mqtt_conn *mqtt_pool_connection(struct mqtt_pool *pool, size_t index)
{
    assert(index < pool->count);
    return pool->members[index].conn;
}

/* The hash is mixed once more: its owner takes it apart for other tables too, and a connection must
 * not get only the keys of one part of those [MurmurHash3's finalizer]. */
size_t mqtt_pool_pick(const struct mqtt_pool *pool, uint32_t key_hash)
{
    uint32_t h = key_hash;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    h ^= h >> 16;
    return (size_t)((uint64_t)h * pool->count >> 32);
}

bool mqtt_pool_all_ready(const struct mqtt_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        if (!mqtt_conn_is_ready(pool->members[i].conn))
            return false;
    return true;
}
