/*
 * The story of an entry, after intake.c has given it a place in the outbox of its key's connection:
 * it is published in order, answered in order, and, when the broker has taken it, handed to acks.c,
 * which tells Redis. An outbox holds its entries until they are answered; a lost connection only
 * rewinds it. A key that cannot take this common way, because the broker refuses an entry of it or
 * because one goes to the dead letters, leaves the outbox for a queue of its own (key_queue.h), so
 * that the other keys go on.
 */
#include "core/slot_private.h"

#include <assert.h>

#define TROUBLE_PERIOD_MS 30000u

/* Compared by address: the limit may be another after the next CONNACK. */
static const char too_large[] = "packet-too-large";

void flow_fault(struct entry *entry, const char *reason, const char *detail)
{
    entry->fault_reason = reason;
    entry->fault_detail = detail;
}

void flow_fault_too_large(struct entry *entry)
{
    flow_fault(entry, too_large, "the packet exceeds the broker's Maximum Packet Size");
}

/* ---- leaving ------------------------------------------------------------------------------ */

void flow_release_packet(struct entry *entry)
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
    flow_release_packet(entry);
    entry->lane->outlet->used--;
    entry->lane->entries--;
    ledger_give_back(&slot->ledger, index);
}

void flow_settle(struct slot *slot, uint32_t index)
{
    struct entry *entry = ledger_entry(&slot->ledger, index);
    entry->lane->counts.settled++;
    if (slot->watch.on || entry->retained)
        watch_settled(slot, index);
    flow_release_packet(entry);
    acks_owe(slot, index);
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
    if (lane_bundles(lane))
        bundle_drop_waiting(lane);
    key_drop_unsent(lane);
}

void flow_append(struct outbox *outbox, uint32_t index)
{
    struct slot *slot = outbox->outlet->slot;
    struct lane *lane = ledger_entry(&slot->ledger, index)->lane;
    if (lane_bundles(lane)) {
        bundle_append(lane, index);
        return;
    }
    entry_queue_append(&outbox->entries, &slot->ledger, index);
    if (outbox->next_to_send == ENTRY_NONE)
        outbox->next_to_send = index;
}

/* ---- publishing --------------------------------------------------------------------------- */

static uint64_t life_left_ms(const struct slot *slot, const struct entry *entry, uint64_t now_ms)
{
    uint64_t now = lease_redis_time(slot->lease, now_ms);
    return entry->expires_ms > now ? entry->expires_ms - now : 0;
}

bool flow_is_expired(const struct slot *slot, const struct entry *entry, uint64_t now_ms)
{
    return entry->expires_ms != 0 && life_left_ms(slot, entry, now_ms) == 0;
}

static uint32_t expiry_s(uint64_t left_ms)
{
    uint64_t seconds = left_ms / 1000 + (left_ms % 1000 > 0);
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

/* Publishes the entry, or, when its life is over, gives it a place in the connection's order
 * without sending anything. */
static enum status publish(struct outbox *outbox, uint32_t index, uint64_t now_ms)
{
    struct slot *slot = outbox->outlet->slot;
    struct entry *entry = ledger_entry(&slot->ledger, index);
    uint64_t token = ledger_token(&slot->ledger, index);
    entry->order = ++outbox->order;
    if (entry->expires_ms != 0) {
        uint64_t left_ms = life_left_ms(slot, entry, now_ms);
        if (left_ms == 0) {
            mqtt_conn_skip(outbox->conn, token);
            entry->state = ENTRY_WAITING;
            entry->lane->counts.expired++;
            return STATUS_OK;
        }
        if (outbox->outlet->conn_config.version == MQTT_5_0)
            mqtt_set_expiry(entry->packet, expiry_s(left_ms));
    }
    enum status status =
        mqtt_conn_publish(outbox->conn, entry->packet, entry->size, entry->packet_id_offset, token);
    if (status == STATUS_OK) {
        entry->state = ENTRY_SENT;
        entry->lane->counts.published++;
        if (entry->packet_id_offset != 0) /* QoS 0 has no PUBACK */
            outbox_time(outbox, token);
        rate_note(outbox->outlet);
    }
    return status;
}

enum status flow_send(struct key_queue *key, uint32_t leader, uint64_t now_ms)
{
    return lane_bundles(key->lane)
               ? bundle_publish(key->outbox, key->lane, key->waiting.first, leader, now_ms)
               : publish(key->outbox, leader, now_ms);
}

/* Sends the entry at next_to_send, or sets its key apart where it cannot go this way. */
static void send_next(struct outbox *outbox, uint64_t now_ms)
{
    struct slot *slot = outbox->outlet->slot;
    uint32_t index = outbox->next_to_send;
    struct entry *entry = ledger_entry(&slot->ledger, index);
    if (entry->fault_reason == NULL && !entry->suspect) {
        enum status status = publish(outbox, index, now_ms);
        if (status == STATUS_OK) {
            outbox->sent++;
            outbox->next_to_send = entry->next;
            return;
        }
        flow_fault_too_large(entry);
    }
    struct key_queue *key = key_set_apart(outbox, entry->lane, entry->key_hash);
    key_set_stuck(key, true);
    key_go_on(key);
}

static bool may_coalesce(const struct entry *entry)
{
    return entry->packet != NULL && (entry->packet[0] & 1u) != 0 && entry->fault_reason == NULL &&
           !entry->suspect && entry->expires_ms == 0 && entry->packet_id_offset != 0;
}

/* The entry that is answered for the first of the queue and all up to itself: of several retained
 * entries of one topic the newest, or the last of a bundle. */
static uint32_t choose_leader(const struct key_queue *key)
{
    const struct ledger *ledger = &key->lane->slot->ledger;
    uint32_t leader = key->waiting.first;
    const struct entry *entry = ledger_entry(ledger, leader);
    if (lane_bundles(key->lane))
        return bundle_choose(key->outbox, key->lane, leader);
    if (!key->lane->route->coalesce_retained || !may_coalesce(entry))
        return leader;
    struct bytes topic = mqtt_publish_topic(entry->packet);
    for (uint32_t next = entry->next; next != ENTRY_NONE; next = entry->next) {
        entry = ledger_entry(ledger, next);
        if (!may_coalesce(entry) || !bytes_equal(topic, mqtt_publish_topic(entry->packet)))
            break;
        leader = next;
    }
    return leader;
}

static void send_key(struct outbox *outbox, uint64_t now_ms)
{
    struct key_queue *key = outbox->ready.first;
    uint32_t leader = choose_leader(key);
    if (flow_send(key, leader, now_ms) == STATUS_OK) {
        key_sent(key, leader);
        return;
    }
    flow_fault_too_large(ledger_entry(&outbox->outlet->slot->ledger, leader));
    key_not_ready(key);
}

/* What is sent next comes from each of these by turns, where there is something: none has to wait
 * until another has nothing left. */
enum source { FROM_OUTBOX, FROM_KEYS, FROM_BUNDLES, SOURCES };

static bool has_source(const struct outbox *outbox, enum source source)
{
    switch (source) {
    case FROM_OUTBOX:
        return outbox->next_to_send != ENTRY_NONE;
    case FROM_KEYS:
        return outbox->ready.first != NULL;
    case FROM_BUNDLES:
        return outbox->full.first != NULL;
    case SOURCES:
        break;
    }
    return false;
}

static bool has_waiting(const struct outbox *outbox)
{
    return has_source(outbox, FROM_OUTBOX) || has_source(outbox, FROM_KEYS) ||
           has_source(outbox, FROM_BUNDLES);
}

/* Something must wait. */
static void send_one(struct outbox *outbox, uint64_t now_ms)
{
    do
        outbox->source = (outbox->source + 1) % SOURCES;
    while (!has_source(outbox, outbox->source));
    if (outbox->source == FROM_OUTBOX)
        send_next(outbox, now_ms);
    else if (outbox->source == FROM_KEYS)
        send_key(outbox, now_ms);
    else
        bundle_send(outbox, now_ms);
}

/* An entry that is to be sent alone has its turn when the connection has shown that it works, or
 * when there is nothing else to show it with. Until it is answered nothing else is sent. */
static bool is_kept_for_suspect(struct outbox *outbox, uint64_t now_ms)
{
    if (outbox->trying != NULL)
        return true;
    if (outbox->suspects.first == NULL || !outbox->outlet->slot->write_fenced ||
        (!outbox->answered && has_waiting(outbox)))
        return false;
    if (mqtt_conn_unsettled(outbox->conn) == 0)
        poison_try(outbox, now_ms);
    return true;
}

static bool may_send(struct outbox *outbox, uint64_t now_ms)
{
    struct outlet *outlet = outbox->outlet;
    if (outlet->paused_until_ms != 0 && !refusal_may_probe(outbox, now_ms))
        return false;
    /* After a connection was lost with publishes in flight the next one begins with one of them,
     * and each answer allows one more: so the one that may be the cause comes to be the head. */
    if (outbox->allowed > 0 && mqtt_conn_unsettled(outbox->conn) >= outbox->allowed)
        return false;
    return !is_kept_for_suspect(outbox, now_ms) && has_waiting(outbox) &&
           rate_allows(outlet, now_ms);
}

static void pump_outbox(struct outbox *outbox, uint64_t now_ms)
{
    key_wake(outbox, now_ms);
    bundle_wake(outbox, now_ms);
    poison_watch(outbox, now_ms);
    size_t room = mqtt_conn_room(outbox->conn);
    for (; room > 0 && may_send(outbox, now_ms); room = mqtt_conn_room(outbox->conn))
        send_one(outbox, now_ms);
    mqtt_conn_flush(outbox->conn, room == 0 && has_waiting(outbox));
}

void flow_pump(struct outlet *outlet)
{
    if (!outlet->open)
        return;
    uint64_t now_ms = net_now_ms();
    for (size_t i = 0; i < outlet->connections; i++)
        pump_outbox(&outlet->outboxes[i], now_ms);
}

void flow_buried(struct slot *slot, uint32_t index)
{
    const struct entry *entry = ledger_entry(&slot->ledger, index);
    struct key_queue *key = key_find(entry->lane->outlet, entry->lane, entry->key_hash);
    if (key == NULL || key->state != KEY_BURYING)
        return;
    refusal_over(key);
    key_go_on(key);
}

void flow_close(struct outlet *outlet)
{
    mqtt_pool_close(outlet->pool);
    outlet->open = false;
    outlet->started = false;
    outlet->paused_until_ms = 0;
    outlet->verdicts = (struct verdicts){0};
    key_forget_all(outlet);
    for (size_t i = 0; i < outlet->connections; i++) {
        struct outbox *outbox = &outlet->outboxes[i];
        outbox->entries = entry_queue_empty();
        outbox->next_to_send = ENTRY_NONE;
        outbox->sent = 0;
        outbox->timed = NOT_TIMED;
        bundle_forget(outbox);
        outbox->ready = outbox->resting = outbox->suspects = (struct key_list){NULL, NULL};
        outbox->resting_due_ms = 0;
        outbox->trying = NULL;
        outbox->try_asks = 0;
        outbox->stopped = false;
    }
}

size_t flow_in_flight(const struct slot *slot)
{
    size_t sum = 0;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        for (size_t n = 0; slot->outlets[i].pool != NULL && n < slot->outlets[i].connections; n++)
            sum += mqtt_conn_unsettled(slot->outlets[i].outboxes[n].conn);
    return sum;
}

/* The loop turns at this time at the latest, and with it the outlet. */
void flow_wake_at(struct outlet *outlet, uint64_t at_ms)
{
    uint64_t now_ms = net_now_ms();
    if (outlet->wake_ms > now_ms && outlet->wake_ms <= at_ms)
        return;
    outlet->wake_ms = at_ms;
    uint64_t ms = at_ms > now_ms ? at_ms - now_ms : 0;
    struct timeval delay = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};
    evtimer_add(outlet->wake, &delay);
}

/* ---- what the connections report ---------------------------------------------------------- */

static void on_ready(void *context, struct mqtt_conn *conn, const struct mqtt_limits *limits)
{
    struct outbox *outbox = context;
    struct outlet *outlet = outbox->outlet;
    outbox->lost = (struct log_limit){0};
    outbox->answered = false;
    outlet->counts.reconnects += outbox->ready_ms != 0;
    outbox->window = limits->window;
    outbox->ready_ms = net_now_ms();
    outbox->packet_max = limits->maximum_packet_size;
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

/* The broker has taken what was published for the key: its leader and all before it settle. */
static void settle_key(struct key_queue *key)
{
    struct slot *slot = key->lane->slot;
    bool bundles = lane_bundles(key->lane);
    uint32_t index;
    do {
        index = key_take(key);
        key->lane->counts.coalesced += index != key->leader && !bundles;
        flow_settle(slot, index);
    } while (index != key->leader);
    if (bundles)
        bundle_grow(key->lane);
    refusal_over(key);
    key_go_on(key);
}

/* The first of the outbox has been answered. */
static void answer_first(struct outbox *outbox, uint32_t index, uint8_t reason_code)
{
    struct slot *slot = outbox->outlet->slot;
    struct entry *entry = ledger_entry(&slot->ledger, index);
    assert(index == outbox->entries.first && outbox->sent > 0);
    entry_queue_take(&outbox->entries, &slot->ledger);
    outbox->sent--;
    bool refused = reason_code >= MQTT_REASON_UNSPECIFIED_ERROR;
    struct key_queue *key = key_find(outbox->outlet, entry->lane, entry->key_hash);
    if (key == NULL && refused)
        key = key_set_apart(outbox, entry->lane, entry->key_hash);
    else if (key != NULL)
        key->in_flight--;
    if (key == NULL || (!refused && key->again.count == 0)) {
        flow_settle(slot, index);
    } else if (key->again.count == 0) {
        key_keep(key, index);
        key->leader = index;
        refusal_judge(key, reason_code, 1);
        return;
    } else {
        /* An earlier entry of the key was refused: accepted or not, this one is sent again, behind
         * it. */
        key_keep(key, index);
    }
    if (key != NULL && key->in_flight == 0)
        key_go_on(key);
}

/* Else it was of QoS 0, or had expired: that says nothing about the broker. */
static bool is_by_broker(const struct entry *entry)
{
    return entry->state == ENTRY_SENT &&
           (entry->packet_id_offset != 0 || lane_bundles(entry->lane));
}

/* What was published for a key that is set apart has been answered. */
static void answer_key(struct key_queue *key, uint8_t reason_code)
{
    if (key->state == KEY_TRYING)
        poison_answered(key);
    if (reason_code < MQTT_REASON_UNSPECIFIED_ERROR) {
        settle_key(key);
        return;
    }
    uint32_t count = 1;
    if (lane_bundles(key->lane)) {
        count = bundle_count(&key->lane->slot->ledger, key->waiting.first, key->leader);
        key->leader = key->waiting.first;
    }
    refusal_judge(key, reason_code, count);
}

static void on_answered(void *context, struct mqtt_conn *conn, uint64_t token, uint8_t reason_code)
{
    (void)conn;
    struct outbox *outbox = context;
    struct outlet *outlet = outbox->outlet;
    uint32_t index = ledger_find(&outlet->slot->ledger, token);
    assert(index != ENTRY_NONE);
    struct entry *entry = ledger_entry(&outlet->slot->ledger, index);
    if (token == outbox->timed)
        report_note_timed(outbox, entry);
    if (is_by_broker(entry)) {
        if (reason_code != MQTT_REASON_SUCCESS)
            outlet->counts.answers[reason_code]++;
        outbox->answered = true;
        entry->losses = 0;
        if (reason_code < MQTT_REASON_UNSPECIFIED_ERROR)
            refusal_note_accepted(outlet, entry->key_hash);
    }
    if (outbox->allowed > 0 && ++outbox->allowed > outbox->outlet->conn_config.inflight)
        outbox->allowed = 0;
    if (entry->apart) {
        struct key_queue *key = key_find(outlet, entry->lane, entry->key_hash);
        assert(key != NULL && key->leader == index);
        answer_key(key, reason_code);
    } else if (lane_bundles(entry->lane)) {
        bundle_answered(outbox, index, reason_code);
    } else {
        answer_first(outbox, index, reason_code);
    }
}

/* Everything without an answer is to be sent again, in its order. What was sent before its key was
 * set apart goes to its key. */
static void rewind_outbox(struct outbox *outbox)
{
    struct outlet *outlet = outbox->outlet;
    struct ledger *ledger = &outlet->slot->ledger;
    struct entry_queue all = outbox->entries;
    outbox->entries = entry_queue_empty();
    for (uint32_t place = 0; all.count > 0; place++) {
        uint32_t index = entry_queue_take(&all, ledger);
        struct entry *entry = ledger_entry(ledger, index);
        struct key_queue *key =
            place < outbox->sent ? key_find(outlet, entry->lane, entry->key_hash) : NULL;
        entry->state = ENTRY_WAITING;
        if (entry->fault_reason == too_large)
            entry->fault_reason = NULL;
        if (key != NULL) {
            key->in_flight--;
            key_keep(key, index);
        } else {
            entry_queue_append(&outbox->entries, ledger, index);
        }
    }
    outbox->sent = 0;
    outbox->next_to_send = outbox->entries.first;
    bundle_rewind(outbox);
    key_rewind(outbox);
}

static void report_loss(struct outbox *outbox, const struct mqtt_loss *loss)
{
    uint64_t held_back;
    if (loss->was_connected ||
        log_limit_pass(&outbox->lost, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&outbox->log, LOG_ERROR,
                  loss->was_connected ? "broker connection lost" : "cannot connect to the broker",
                  LOG_TEXT("reason", loss->text), LOG_INT("unsettled", report_in_flight(outbox)),
                  LOG_INT("retry_ms", loss->retry_ms));
}

static void on_lost(void *context, struct mqtt_conn *conn, const struct mqtt_loss *loss)
{
    struct outbox *outbox = context;
    struct slot *slot = outbox->outlet->slot;
    report_loss(outbox, loss);
    report_note_loss(outbox, loss);
    poison_note_loss(outbox, loss);
    rewind_outbox(outbox);
    /* Another client has our client identifier: either an owner who has taken the slot over, and
     * then the lease says so, or a copy of this installation. */
    if (loss->cause == MQTT_LOSS_DISCONNECTED &&
        loss->reason_code == MQTT_REASON_SESSION_TAKEN_OVER) {
        outbox->down_until_ms = net_now_ms() + loss->retry_ms;
        mqtt_conn_close(conn);
        slot_confirm_lease(slot);
    }
    /* Without a valid lease another may own the slot, and its connections with our client
     * identifiers are the ones that count: ours stay down until the lease is confirmed. */
    if (!lease_is_valid(slot->lease, net_now_ms()))
        mqtt_conn_close(conn);
}

static void on_stopped(void *context, struct mqtt_conn *conn)
{
    (void)conn;
    struct outbox *outbox = context;
    outbox->stopped = true;
}

const struct mqtt_conn_events flow_events = {on_ready, on_answered, on_lost, on_stopped};
