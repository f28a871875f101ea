/*
 * The story of an entry: taken from Redis, judged, encoded into a batch, appended to the outbox of
 * its key's connection, published in order, settled in order, and handed to acks.c, which tells
 * Redis. An outbox holds its entries until they settle; a lost connection only rewinds it. An entry
 * that can never be published waits in the same outbox for its turn, so that it is buried after
 * everything before it has settled and before anything behind it is sent.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <stdlib.h>

#define TROUBLE_PERIOD_MS 30000u

/* Compared by address: the limit may be another after the next CONNACK. */
static const char too_large[] = "packet-too-large";

/* ---- taking in ---------------------------------------------------------------------------- */

static uint32_t key_hash(struct bytes key)
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

static uint64_t life_left_ms(const struct slot *slot, const struct entry *entry, uint64_t now_ms)
{
    uint64_t now = lease_redis_time(slot->lease, now_ms);
    return entry->expires_ms > now ? entry->expires_ms - now : 0;
}

static uint32_t expiry_s(uint64_t left_ms)
{
    uint64_t seconds = left_ms / 1000 + (left_ms % 1000 > 0);
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

/* The message expiry is written when the entry is sent: until then it grows shorter. */
static void describe_expiry(const struct stream_entry *in, struct mqtt_publish *publish,
                            struct entry *entry)
{
    if (!in->has_exp)
        return;
    uint64_t life_ms = (uint64_t)in->exp_s * 1000;
    entry->expires_ms = entry->id.ms < UINT64_MAX - life_ms ? entry->id.ms + life_ms : UINT64_MAX;
    publish->has_expiry = true;
}

static void fault(struct entry *entry, const char *reason, const char *detail)
{
    entry->fault_reason = reason;
    entry->fault_detail = detail;
}

/* Lends memory for a packet; NULL: the outlet's bytes are used up. An entry of any size gets
 * through when nothing else is there. */
static uint8_t *lend(struct outlet *outlet, struct entry *entry, size_t size)
{
    outlet->entry_bytes += size / 16 - outlet->entry_bytes / 16;
    if (outlet->bytes > 0 && outlet->bytes + size > outlet->bytes_max)
        return NULL;
    uint8_t *memory = batch_lend(outlet->outboxes[entry->outbox].batches, size, &entry->batch);
    if (memory == NULL) {
        log_event(&outlet->log, LOG_ERROR,
                  "no memory for an entry; the process ends, and all that is not settled stays "
                  "pending in Redis",
                  LOG_TEXT("stream", entry->lane->name), LOG_INT("bytes", size));
        abort();
    }
    outlet->bytes += size;
    return memory;
}

static bool encode(struct lane *lane, const struct stream_entry *in, struct entry *entry)
{
    char id_text[STREAM_ID_TEXT];
    struct mqtt_publish publish;
    describe_publish(lane, in, &publish, entry->id, id_text);
    describe_expiry(in, &publish, entry);
    size_t size = mqtt_publish_size(&publish);
    if (size == 0) {
        fault(entry, "bad-topic",
              "the topic with the route's prefix, or the id, is over 65,535 bytes");
        return true;
    }
    entry->packet = lend(lane->outlet, entry, size);
    if (entry->packet == NULL)
        return false;
    entry->size = (uint32_t)size;
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

/* Judges and encodes; false: it has no room. */
static bool prepare(struct lane *lane, const struct redis_entry *in, struct entry *entry)
{
    struct stream_entry decoded;
    struct stream_entry_fault wrong;
    size_t max_payload = lane->slot->setting.config->delivery.max_payload;
    enum status status =
        stream_entry_read(in->id, in->fields, in->count, max_payload, &decoded, &wrong);
    entry->outbox = (uint16_t)mqtt_pool_pick(lane->outlet->pool, key_hash(decoded.key));
    if (status != STATUS_OK)
        fault(entry, wrong.reason, wrong.detail);
    else if (in->overflow)
        fault(entry, "bad-field", "it has more than 64 fields");
    else
        return encode(lane, &decoded, entry);
    return true;
}

bool flow_take(struct lane *lane, const struct redis_entry *in)
{
    struct slot *slot = lane->slot;
    uint32_t index = ledger_take(&slot->ledger);
    assert(index != ENTRY_NONE); /* every read reserves its room */
    struct entry *entry = ledger_entry(&slot->ledger, index);
    entry->id = in->id;
    entry->lane = lane;
    if (!in->nil && !prepare(lane, in, entry)) {
        ledger_give_back(&slot->ledger, index);
        return false;
    }
    lane->outlet->used++;
    lane->entries++;
    slot->counts.read++;
    if (in->nil) {
        take_gone(lane, index, in->id);
        return true;
    }
    struct outbox *outbox = &lane->outlet->outboxes[entry->outbox];
    entry_queue_append(&outbox->entries, &slot->ledger, index);
    if (outbox->next_to_send == ENTRY_NONE)
        outbox->next_to_send = index;
    return true;
}

static void release_packet(struct entry *entry)
{
    struct outlet *outlet = entry->lane->outlet;
    if (entry->packet == NULL)
        return;
    batch_release(outlet->outboxes[entry->outbox].batches, entry->batch, entry->size);
    outlet->bytes -= entry->size;
    entry->packet = NULL;
}

void flow_forget(struct slot *slot, uint32_t index)
{
    struct entry *entry = ledger_entry(&slot->ledger, index);
    release_packet(entry);
    entry->lane->outlet->used--;
    entry->lane->entries--;
    ledger_give_back(&slot->ledger, index);
}

static void drop_unsent(struct outbox *outbox, const struct lane *lane)
{
    struct slot *slot = outbox->outlet->slot;
    struct entry_queue all = outbox->entries;
    outbox->entries = entry_queue_empty();
    outbox->next_to_send = ENTRY_NONE;
    for (uint32_t place = 0; all.count > 0; place++) {
        uint32_t index = entry_queue_take(&all, &slot->ledger);
        if (place >= outbox->sent && ledger_entry(&slot->ledger, index)->lane == lane) {
            flow_forget(slot, index);
            continue;
        }
        entry_queue_append(&outbox->entries, &slot->ledger, index);
        if (place >= outbox->sent && outbox->next_to_send == ENTRY_NONE)
            outbox->next_to_send = index;
    }
}

void flow_drop_unsent(struct lane *lane)
{
    for (size_t i = 0; i < lane->outlet->connections; i++)
        drop_unsent(&lane->outlet->outboxes[i], lane);
}

/* ---- publishing --------------------------------------------------------------------------- */

/* The outbox's first entry can never be sent: acks.c moves it to the dead letters, and nothing
 * behind it is sent before Redis has answered. */
static void bury_first(struct outbox *outbox)
{
    struct slot *slot = outbox->outlet->slot;
    uint32_t index = entry_queue_take(&outbox->entries, &slot->ledger);
    outbox->next_to_send = outbox->entries.first;
    outbox->burying = index;
    release_packet(ledger_entry(&slot->ledger, index));
    acks_owe(slot, index);
}

static void step_over(struct outbox *outbox, struct entry *entry)
{
    entry->state = ENTRY_SENT;
    outbox->sent++;
    outbox->next_to_send = entry->next;
}

/* Publishes the entry, or, when its life is over, gives it a place in the connection's order
 * without sending anything. */
static enum status publish(struct outbox *outbox, struct entry *entry, uint64_t token,
                           uint64_t now_ms)
{
    const struct slot *slot = outbox->outlet->slot;
    if (entry->expires_ms != 0) {
        uint64_t left_ms = life_left_ms(slot, entry, now_ms);
        if (left_ms == 0) {
            mqtt_conn_skip(outbox->conn, token);
            return STATUS_OK;
        }
        if (outbox->outlet->conn_config.version == MQTT_5_0)
            mqtt_set_expiry(entry->packet, expiry_s(left_ms));
    }
    return mqtt_conn_publish(outbox->conn, entry->packet, entry->size, entry->packet_id_offset,
                             token);
}

/* Sends the entry at next_to_send; false: it cannot be sent now. */
static bool send_next(struct outbox *outbox, uint64_t now_ms)
{
    struct slot *slot = outbox->outlet->slot;
    struct entry *entry = ledger_entry(&slot->ledger, outbox->next_to_send);
    if (entry->fault_reason != NULL) {
        if (outbox->sent == 0) /* else its turn comes when everything before it has settled */
            bury_first(outbox);
        return false;
    }
    enum status status =
        publish(outbox, entry, ledger_token(&slot->ledger, outbox->next_to_send), now_ms);
    if (status == STATUS_TOO_LARGE)
        fault(entry, too_large, "the packet exceeds the broker's Maximum Packet Size");
    else if (status == STATUS_OK)
        step_over(outbox, entry);
    if (status == STATUS_OK)
        slot->counts.published++;
    return status == STATUS_OK || status == STATUS_TOO_LARGE;
}

static bool has_waiting(const struct outbox *outbox)
{
    return outbox->next_to_send != ENTRY_NONE && outbox->burying == ENTRY_NONE;
}

static void pump_outbox(struct outbox *outbox)
{
    uint64_t now_ms = net_now_ms();
    while (has_waiting(outbox) && mqtt_conn_room(outbox->conn) > 0 && send_next(outbox, now_ms))
        continue;
    mqtt_conn_flush(outbox->conn, has_waiting(outbox));
}

void flow_pump(struct outlet *outlet)
{
    if (!outlet->open)
        return;
    for (size_t i = 0; i < outlet->connections; i++)
        pump_outbox(&outlet->outboxes[i]);
}

void flow_buried(struct slot *slot, uint32_t index)
{
    const struct entry *entry = ledger_entry(&slot->ledger, index);
    struct outbox *outbox = &entry->lane->outlet->outboxes[entry->outbox];
    if (outbox->burying == index)
        outbox->burying = ENTRY_NONE;
}

void flow_close(struct outlet *outlet)
{
    mqtt_pool_close(outlet->pool);
    outlet->open = false;
    outlet->started = false;
    for (size_t i = 0; i < outlet->connections; i++) {
        struct outbox *outbox = &outlet->outboxes[i];
        outbox->entries = entry_queue_empty();
        outbox->next_to_send = ENTRY_NONE;
        outbox->sent = 0;
        outbox->burying = ENTRY_NONE;
        outbox->stopped = false;
    }
}

size_t flow_in_flight(const struct slot *slot)
{
    size_t sum = 0;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        for (size_t n = 0; slot->outlets[i].pool != NULL && n < slot->outlets[i].connections; n++)
            sum += slot->outlets[i].outboxes[n].sent;
    return sum;
}

/* ---- what the connections report ---------------------------------------------------------- */

static void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    struct outbox *outbox = context;
    struct outlet *outlet = outbox->outlet;
    outbox->lost = (struct log_limit){0};
    log_event(&outbox->log, LOG_INFO, "broker connected",
              LOG_TEXT("client_id", mqtt_conn_client_id(conn)), LOG_INT("window", limits->window),
              LOG_INT("max_packet", limits->maximum_packet_size),
              LOG_TEXT("tls", mqtt_conn_describe(conn)));
    if (!limits->retain_available)
        log_event(&outbox->log, LOG_WARNING,
                  "the broker keeps no retained messages; RETAIN is cleared in what is sent",
                  LOG_TEXT("client_id", mqtt_conn_client_id(conn)));
    /* Before the first publish of a new owner every connection stands, so that the broker has
     * thrown out all connections of a paused former owner, which had the same client identifiers.
     */
    if (!outlet->open && mqtt_pool_all_ready(outlet->pool))
        outlet->open = true;
}

static void on_settled(void *context, struct mqtt_conn *conn, uint64_t token)
{
    (void)conn;
    struct outbox *outbox = context;
    struct slot *slot = outbox->outlet->slot;
    uint32_t index = ledger_find(&slot->ledger, token);
    assert(index != ENTRY_NONE && index == outbox->entries.first && outbox->sent > 0);
    entry_queue_take(&outbox->entries, &slot->ledger);
    outbox->sent--;
    slot->counts.settled++;
    release_packet(ledger_entry(&slot->ledger, index));
    acks_owe(slot, index);
}

static void report_refusal(struct outbox *outbox, const struct mqtt_loss *loss)
{
    const struct ledger *ledger = &outbox->outlet->slot->ledger;
    uint32_t index = ledger_find(ledger, loss->token);
    char id[STREAM_ID_TEXT] = "";
    const char *stream = "";
    if (index != ENTRY_NONE) {
        stream_id_format(ledger_entry(ledger, index)->id, id);
        stream = ledger_entry(ledger, index)->lane->name;
    }
    log_event(&outbox->log, LOG_ERROR,
              "the broker refused a publish; this connection pauses, then sends it again",
              LOG_TEXT("reason", loss->text), LOG_TEXT("stream", stream), LOG_TEXT("id", id),
              LOG_INT("retry_ms", loss->retry_ms));
}

/* Everything unsettled is to be sent again, in its order. */
static void rewind_outbox(struct outbox *outbox)
{
    const struct ledger *ledger = &outbox->outlet->slot->ledger;
    for (uint32_t i = outbox->entries.first; i != ENTRY_NONE; i = ledger_entry(ledger, i)->next) {
        struct entry *entry = ledger_entry(ledger, i);
        entry->state = ENTRY_WAITING;
        if (entry->fault_reason == too_large)
            entry->fault_reason = NULL;
    }
    outbox->sent = 0;
    outbox->next_to_send = outbox->entries.first;
}

static void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    struct outbox *outbox = context;
    uint64_t held_back;
    if (loss->cause == MQTT_LOSS_PUBLISH_REFUSED)
        report_refusal(outbox, loss);
    else if (log_limit_pass(&outbox->lost, net_now_ms(), TROUBLE_PERIOD_MS, &held_back) ||
             loss->was_connected)
        log_event(&outbox->log, LOG_ERROR,
                  loss->was_connected ? "broker connection lost" : "cannot connect to the broker",
                  LOG_TEXT("reason", loss->text), LOG_INT("unsettled", outbox->sent),
                  LOG_INT("retry_ms", loss->retry_ms));
    rewind_outbox(outbox);
    /* Without a valid lease another may own the slot, and its connections with our client
     * identifiers are the ones that count: ours stay down until the lease is confirmed. */
    if (!lease_is_valid(outbox->outlet->slot->lease, net_now_ms()))
        mqtt_conn_close(conn);
}

static void on_stopped(void *context, struct mqtt_conn *conn)
{
    (void)conn;
    struct outbox *outbox = context;
    outbox->stopped = true;
}

const struct mqtt_conn_events flow_events = {on_ready, on_settled, on_lost, on_stopped};
