/*
 * How an entry is taken in: judged, encoded, and given its place, in its connection's outbox or in
 * the queue of a key that is set apart. How it leaves again is told in flow.c.
 */
#include "core/slot_private.h"

#include "codec/encode_msgpack.h"
#include "codec/encode_signed.h"

#include <assert.h>
#include <stdlib.h>

#define TROUBLE_PERIOD_MS 30000u

uint32_t flow_key_hash(struct bytes key)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < key.length; i++)
        hash = (hash ^ key.data[i]) * 16777619u;
    return hash ^ hash >> 15;
}

static void describe_publish(const struct lane *lane, const struct stream_entry *in,
                             struct mqtt_publish *publish, struct stream_id id, char *id_text)
{
    const struct outlet *outlet = lane->outlet;
    *publish = (struct mqtt_publish){
        .version = outlet->conn_config.version,
        .qos = in->qos,
        .retain = in->retain,
        .topic = in->topic,
        .payload = in->payload,
    };
    if (!in->absolute)
        publish->topic_prefix = (struct bytes){lane->prefix, lane->prefix_length};
    if (publish->version != MQTT_5_0 || !lane->route->user_properties)
        return;
    struct bytes stream_id = {(const uint8_t *)id_text, stream_id_format(id, id_text)};
    publish->user_properties[0] =
        (struct mqtt_user_property){bytes_of("id"), in->id.length > 0 ? in->id : stream_id};
    publish->user_properties[1] = (struct mqtt_user_property){bytes_of("stream-id"), stream_id};
    publish->user_property_count = 2;
}

static void note_expiry(const struct stream_entry *in, struct entry *entry)
{
    uint64_t life_ms = (uint64_t)in->exp_s * 1000;
    if (in->has_exp)
        entry->expires_ms =
            entry->id.ms < UINT64_MAX - life_ms ? entry->id.ms + life_ms : UINT64_MAX;
}

static void end_without_memory(const struct outlet *outlet, const char *what, size_t size)
{
    log_event(
        &outlet->log, LOG_ERROR,
        "memory is short; the process ends, and all that is not settled stays pending in Redis",
        LOG_TEXT("for", what), LOG_INT("bytes", size));
    abort();
}

uint8_t *flow_scratch(struct outlet *outlet, size_t size)
{
    if (size <= outlet->scratch_size)
        return outlet->scratch;
    uint8_t *larger = realloc(outlet->scratch, size);
    if (larger == NULL)
        end_without_memory(outlet, "a publish", size);
    outlet->scratch = larger;
    outlet->scratch_size = size;
    return larger;
}

/* Lends memory for a packet; NULL: the outlet's bytes are used up. An entry of any size gets
 * through when nothing else is there. */
static uint8_t *lend(struct outlet *outlet, struct entry *entry, size_t size)
{
    outlet->entry_bytes += size / 16 - outlet->entry_bytes / 16;
    if (outlet->bytes > 0 && outlet->bytes + size > outlet->bytes_max)
        return NULL;
    uint8_t *memory = batch_lend(outlet->outboxes[entry->outbox].batches, size, &entry->batch);
    if (memory == NULL)
        end_without_memory(outlet, entry->lane->name, size);
    outlet->bytes += size;
    return memory;
}

/* Memory for size bytes, 0: it cannot be encoded. NULL: there is no room, or none is needed. */
static uint8_t *begin_encoding(struct lane *lane, struct entry *entry, size_t size)
{
    if (size == 0) {
        flow_fault(entry, "bad-topic",
                   "the topic with the route's prefix, or the id, is over 65,535 bytes");
        return NULL;
    }
    entry->packet = lend(lane->outlet, entry, size);
    entry->size = (uint32_t)size;
    return entry->packet;
}

/* One event of a batch. */
static bool encode_event(struct lane *lane, const struct stream_entry *in, struct entry *entry)
{
    struct batch_event event = {.id = entry->id,
                                .topic = in->topic,
                                .payload = in->payload,
                                .key = in->key,
                                .event_id = in->id,
                                .type = in->type,
                                .retain = in->retain,
                                .has_ts = in->ts_ms != entry->id.ms,
                                .ts_ms = in->ts_ms,
                                .expires_ms = entry->expires_ms};
    if (!in->absolute)
        event.topic_prefix = (struct bytes){lane->prefix, lane->prefix_length};
    /* It is written before it is known how long it gets: to measure it costs more than a copy. */
    size_t most = batch_event_most(&event);
    struct writer w = writer_over(flow_scratch(lane->outlet, most), most);
    batch_put_event(&w, &event);
    size_t size = writer_ok(&w) ? writer_length(&w) : 0;
    uint8_t *memory = begin_encoding(lane, entry, size);
    if (memory == NULL)
        return entry->fault_reason != NULL;
    memcpy(memory, lane->outlet->scratch, size);
    return true;
}

/* The payload becomes its envelope, in memory until the next one. What cannot be signed is never
 * published. */
static bool sign(struct lane *lane, struct mqtt_publish *publish, struct entry *entry)
{
    const struct slot *slot = lane->slot;
    struct stream_entry_fault wrong;
    size_t size = signed_size(publish->payload, &wrong);
    if (size == 0) {
        flow_fault(entry, wrong.reason, wrong.detail);
        return false;
    }
    uint8_t *memory = flow_scratch(lane->outlet, size);
    struct writer w = writer_over(memory, size);
    signed_put(&w, slot->signers[lane->route - slot->setting.config->routes], publish->payload);
    assert(writer_ok(&w) && writer_length(&w) == size);
    publish->payload = (struct bytes){memory, size};
    return true;
}

/* false: there is no room. */
static bool encode(struct lane *lane, const struct stream_entry *in, struct entry *entry)
{
    char id_text[STREAM_ID_TEXT];
    struct mqtt_publish publish;
    note_expiry(in, entry);
    if (lane_bundles(lane))
        return encode_event(lane, in, entry);
    describe_publish(lane, in, &publish, entry->id, id_text);
    /* The message expiry is written when the entry is sent: until then it grows shorter. */
    publish.has_expiry = in->has_exp;
    if (lane->route->encoding == CONFIG_ENCODING_SIGNED && !sign(lane, &publish, entry))
        return true;
    size_t size = mqtt_publish_size(&publish);
    if (begin_encoding(lane, entry, size) == NULL)
        return entry->fault_reason != NULL;
    struct writer w = writer_over(entry->packet, size);
    size_t offset;
    mqtt_put_publish(&w, &publish, &offset);
    assert(writer_ok(&w) && writer_length(&w) == size);
    entry->packet_id_offset = (uint32_t)offset;
    return true;
}

void flow_report_gone(struct lane *lane, struct bytes id)
{
    struct slot *slot = lane->slot;
    uint64_t held_back;
    if (log_limit_pass(&slot->gone_trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&slot->log, LOG_ERROR,
                  "an entry was deleted from the stream before it was published: its event is lost",
                  LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name),
                  LOG_BYTES("id", id), LOG_INT("repeated", held_back));
}

/* Pending, but trimmed or deleted by others: there is nothing left to publish. */
static void take_gone(struct lane *lane, uint32_t index, struct stream_id id)
{
    char text[STREAM_ID_TEXT];
    size_t length = stream_id_format(id, text);
    flow_report_gone(lane, (struct bytes){(const uint8_t *)text, length});
    acks_owe(lane->slot, index);
}

/* Two keys for one retained topic: their order is not kept between them, and so the topic may not
 * end with the newest. Said once for each topic, as far as the table reaches. */
static void watch_retained(struct lane *lane, const struct stream_entry *in, uint32_t hash)
{
    struct outlet *outlet = lane->outlet;
    uint32_t topic = flow_key_hash(in->topic) ^ (uint32_t)((uintptr_t)lane >> 4);
    struct retained_topic *seen = &outlet->retained[topic & (RETAINED_TOPICS - 1)];
    if (seen->topic == topic && seen->key != hash && !seen->told) {
        log_event(&outlet->log, LOG_WARNING,
                  "retained entries of one topic have different keys: their order is not kept, and "
                  "the topic may not end with the newest",
                  LOG_TEXT("stream", lane->name), LOG_BYTES("topic", in->topic),
                  LOG_BYTES("key", in->key));
        seen->told = true;
    } else if (seen->topic != topic) {
        *seen = (struct retained_topic){topic, hash, false};
    }
}

static void judge(struct lane *lane, const struct redis_entry *in, struct stream_entry *decoded,
                  struct entry *entry)
{
    struct stream_entry_fault wrong;
    size_t max_payload = lane->slot->setting.config->delivery.max_payload;
    enum status status =
        stream_entry_read(in->id, in->fields, in->count, max_payload, decoded, &wrong);
    entry->key_hash = lane_bundles(lane) ? lane->bundling.hash : flow_key_hash(decoded->key);
    entry->outbox = (uint16_t)mqtt_pool_pick(lane->outlet->pool, entry->key_hash);
    if (status != STATUS_OK)
        flow_fault(entry, wrong.reason, wrong.detail);
    else if (in->overflow)
        flow_fault(entry, "bad-field", "it has more than 64 fields");
}

/* true: it is left where it is, pending in Redis. */
static bool is_parked(const struct lane *lane, const struct entry *entry)
{
    struct key_queue *key = key_find(lane->outlet, lane, entry->key_hash);
    return key != NULL && key_parks(key, entry->id);
}

static void give_place(struct lane *lane, struct entry *entry, uint32_t index)
{
    struct outbox *outbox = &lane->outlet->outboxes[entry->outbox];
    struct key_queue *key = key_find(lane->outlet, lane, entry->key_hash);
    bool is_new = key == NULL && lane_sends_one_by_one(lane);
    if (is_new)
        key = key_set_apart(outbox, lane, entry->key_hash);
    if (key != NULL) {
        key_append(key, index);
        if (is_new || key->state == KEY_AWAY)
            key_go_on(key);
        return;
    }
    flow_append(outbox, index);
}

static void note_taken(struct lane *lane)
{
    lane->outlet->used++;
    lane->entries++;
    lane->counts.read++;
}

bool flow_take(struct lane *lane, const struct redis_entry *in)
{
    struct slot *slot = lane->slot;
    struct stream_entry decoded;
    uint32_t index = ledger_take(&slot->ledger);
    assert(index != ENTRY_NONE); /* every read reserves its room */
    struct entry *entry = ledger_entry(&slot->ledger, index);
    entry->id = in->id;
    entry->lane = lane;
    if (in->nil) {
        note_taken(lane);
        take_gone(lane, index, in->id);
        return true;
    }
    judge(lane, in, &decoded, entry);
    if (entry->fault_reason == NULL && lane_is_settings(&decoded) &&
        lane_take_settings(lane, index, decoded.payload)) {
        note_taken(lane);
        return true;
    }
    bool parked = lane->outlet->keys.count > 0 && is_parked(lane, entry);
    bool encoded = parked || entry->fault_reason != NULL || encode(lane, &decoded, entry);
    if (parked || !encoded) {
        ledger_give_back(&slot->ledger, index);
        if (!parked)
            key_end_gathering(lane);
        return parked;
    }
    note_taken(lane);
    entry->suspect = lane_is_suspect(lane, in->id);
    if (entry->fault_reason == NULL && decoded.retain && !lane_bundles(lane) &&
        decoded.key.data != decoded.topic.data)
        watch_retained(lane, &decoded, entry->key_hash);
    entry->retained = slot->watch.table != NULL && entry->fault_reason == NULL && decoded.retain &&
                      !lane_bundles(lane);
    if (slot->watch.on && entry->fault_reason == NULL)
        watch_note(lane, &decoded, index);
    give_place(lane, entry, index);
    return true;
}
