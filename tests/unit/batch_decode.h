/*
 * Decodes a batch with msgpack-c's unpacker, and says whether it holds exactly what it was made
 * from. Stricter than a reader has to be: no name is unknown, missing or there twice.
 */
#ifndef NEMOGATE_TESTS_BATCH_DECODE_H
#define NEMOGATE_TESTS_BATCH_DECODE_H

#include "codec/encode_msgpack.h"
#include "codec/mqtt_wire.h"

#include <msgpack.h>
#include <stdio.h>

/* The value of this name in the map; NULL: there is none. */
static inline const msgpack_object *batch_value(const msgpack_object *map, const char *name)
{
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (pair->key.type == MSGPACK_OBJECT_STR &&
            bytes_equal(
                (struct bytes){(const uint8_t *)pair->key.via.str.ptr, pair->key.via.str.size},
                bytes_of(name)))
            return &pair->val;
    }
    return NULL;
}

static inline bool batch_is_text(const msgpack_object *value, struct bytes text)
{
    return value != NULL && value->type == MSGPACK_OBJECT_STR &&
           bytes_equal((struct bytes){(const uint8_t *)value->via.str.ptr, value->via.str.size},
                       text);
}

static inline bool batch_is_bin(const msgpack_object *value, struct bytes data)
{
    return value != NULL && value->type == MSGPACK_OBJECT_BIN &&
           bytes_equal((struct bytes){(const uint8_t *)value->via.bin.ptr, value->via.bin.size},
                       data);
}

static inline bool batch_is_name(const msgpack_object *value, struct bytes name)
{
    return mqtt_utf8_valid(name) ? batch_is_text(value, name) : batch_is_bin(value, name);
}

static inline bool batch_is_number(const msgpack_object *value, uint64_t number)
{
    return value != NULL && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
           value->via.u64 == number;
}

static inline bool batch_is_topic(const msgpack_object *value, const struct batch_event *event)
{
    size_t before = event->topic_prefix.length;
    if (value == NULL || value->type != MSGPACK_OBJECT_STR || value->via.str.size < before)
        return false;
    struct bytes all = {(const uint8_t *)value->via.str.ptr, value->via.str.size};
    return bytes_equal((struct bytes){all.data, before}, event->topic_prefix) &&
           bytes_equal((struct bytes){all.data + before, all.length - before}, event->topic);
}

static inline bool batch_is_event(const msgpack_object *map, const struct batch_event *event)
{
    if (map->type != MSGPACK_OBJECT_MAP)
        return false;
    char sid[64];
    snprintf(sid, sizeof sid, "%llu-%llu", (unsigned long long)event->id.ms,
             (unsigned long long)event->id.seq);
    uint32_t pairs = 3;
    bool same = batch_is_text(batch_value(map, "sid"), bytes_of(sid)) &&
                batch_is_topic(batch_value(map, "topic"), event) &&
                batch_is_bin(batch_value(map, "payload"), event->payload);
    if (event->retain) {
        const msgpack_object *retain = batch_value(map, "retain");
        pairs++;
        same =
            same && retain != NULL && retain->type == MSGPACK_OBJECT_BOOLEAN && retain->via.boolean;
    }
    if (!bytes_equal(event->key, event->topic)) {
        pairs++;
        same = same && batch_is_name(batch_value(map, "key"), event->key);
    }
    if (event->event_id.length > 0) {
        pairs++;
        same = same && batch_is_text(batch_value(map, "id"), event->event_id);
    }
    if (event->type.length > 0) {
        pairs++;
        same = same && batch_is_text(batch_value(map, "type"), event->type);
    }
    if (event->has_ts) {
        pairs++;
        same = same && batch_is_number(batch_value(map, "ts"), event->ts_ms);
    }
    if (event->expires_ms > 0) {
        pairs++;
        same = same && batch_is_number(batch_value(map, "exp"), event->expires_ms);
    }
    return same && map->via.map.size == pairs;
}

/* Whether encoded is one batch of these events and nothing behind it. */
static inline bool batch_holds(struct bytes encoded, struct bytes site, struct bytes stream,
                               const struct batch_event *events, uint32_t count)
{
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t end = 0;
    bool same = msgpack_unpack_next(&unpacked, (const char *)encoded.data, encoded.length, &end) ==
                    MSGPACK_UNPACK_SUCCESS &&
                end == encoded.length && unpacked.data.type == MSGPACK_OBJECT_MAP &&
                unpacked.data.via.map.size == 4;
    if (same) {
        const msgpack_object *map = &unpacked.data;
        const msgpack_object *array = batch_value(map, "events");
        same = batch_is_number(batch_value(map, "v"), BATCH_VERSION) &&
               batch_is_text(batch_value(map, "site"), site) &&
               batch_is_name(batch_value(map, "stream"), stream) && array != NULL &&
               array->type == MSGPACK_OBJECT_ARRAY && array->via.array.size == count;
        for (uint32_t i = 0; same && i < count; i++)
            same = batch_is_event(&array->via.array.ptr[i], &events[i]);
    }
    msgpack_unpacked_destroy(&unpacked);
    return same;
}

#endif
