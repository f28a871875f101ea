/*
 * Stamps out of payloads; see arrivals.h.
 *   raw     the stamp begins the payload
 *   signed  {"payload": "{\"bench\":\"...": a JSON string, whose escapes do not touch the stamp
 *   batch   MessagePack {"v":1, "events":[{"payload":bin, ...}, ...], ...}
 */
#include "bench/arrivals.h"

#include "bench/common.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#define ESCAPED_HEAD "{\\\"bench\\\":\\\""

struct arrivals {
    enum encoding encoding;
    arrival_found *found;
    void *context;
    msgpack_zone zone;
};

struct arrivals *arrivals_new(enum encoding encoding, arrival_found *found, void *context)
{
    struct arrivals *arrivals = must_alloc(1, sizeof *arrivals);
    *arrivals = (struct arrivals){.encoding = encoding, .found = found, .context = context};
    if (!msgpack_zone_init(&arrivals->zone, MSGPACK_ZONE_CHUNK_SIZE))
        die("out of memory");
    return arrivals;
}

void arrivals_free(struct arrivals *arrivals)
{
    msgpack_zone_destroy(&arrivals->zone);
    free(arrivals);
}

static size_t take_raw(struct arrivals *arrivals, struct bytes payload)
{
    struct stamp stamp;
    if (!sample_read(payload.data, payload.length, &stamp))
        return 1;
    arrivals->found(arrivals->context, &stamp);
    return 0;
}

static size_t take_signed(struct arrivals *arrivals, struct bytes payload)
{
    struct stamp stamp;
    const size_t head = sizeof ESCAPED_HEAD - 1;
    const uint8_t *end = payload.data + payload.length;
    const uint8_t *at = memmem(payload.data, payload.length, ESCAPED_HEAD, head);
    if (at == NULL || (size_t)(end - at) < head + STAMP_LENGTH ||
        !sample_read_stamp(at + head, &stamp))
        return 1;
    arrivals->found(arrivals->context, &stamp);
    return 0;
}

/* The member of a map; NULL when there is none or the object is no map. */
static const msgpack_object *member(const msgpack_object *object, const char *name)
{
    size_t length = strlen(name);
    if (object->type != MSGPACK_OBJECT_MAP)
        return NULL;
    for (uint32_t i = 0; i < object->via.map.size; i++) {
        const msgpack_object_kv *pair = &object->via.map.ptr[i];
        if (pair->key.type == MSGPACK_OBJECT_STR && pair->key.via.str.size == length &&
            memcmp(pair->key.via.str.ptr, name, length) == 0)
            return &pair->val;
    }
    return NULL;
}

static size_t take_event(struct arrivals *arrivals, const msgpack_object *event)
{
    const msgpack_object *payload = member(event, "payload");
    if (payload == NULL || payload->type != MSGPACK_OBJECT_BIN)
        return 1;
    const msgpack_object_bin *bin = &payload->via.bin;
    return take_raw(arrivals, (struct bytes){(const uint8_t *)bin->ptr, bin->size});
}

static size_t take_batch(struct arrivals *arrivals, struct bytes payload)
{
    msgpack_object batch;
    size_t at = 0;
    size_t faults = 0;
    msgpack_zone_clear(&arrivals->zone);
    if (msgpack_unpack((const char *)payload.data, payload.length, &at, &arrivals->zone, &batch) !=
        MSGPACK_UNPACK_SUCCESS)
        return 1;
    const msgpack_object *version = member(&batch, "v");
    const msgpack_object *events = member(&batch, "events");
    if (version == NULL || version->type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        version->via.u64 != 1 || events == NULL || events->type != MSGPACK_OBJECT_ARRAY)
        return 1;
    for (uint32_t i = 0; i < events->via.array.size; i++)
        faults += take_event(arrivals, &events->via.array.ptr[i]);
    return faults;
}

size_t arrivals_take(struct arrivals *arrivals, struct bytes payload)
{
    switch (arrivals->encoding) {
    case ENCODING_RAW:
        return take_raw(arrivals, payload);
    case ENCODING_SIGNED:
        return take_signed(arrivals, payload);
    case ENCODING_BATCH:
        return take_batch(arrivals, payload);
    }
    return 1;
}
