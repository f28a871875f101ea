/*
 * Routes with the encoding batch: the entries of a stream are published several at a time. (Here
 * such a publish is a bundle; a batch is memory, as in batch.h.) Entries wait in their lane, each
 * encoded by itself, until there are enough of them or the first has lingered; what is sent are
 * their bytes behind one head. So a bundle is no object of its own, and after a loss or a refusal
 * others are made of the same entries, smaller ones until the guilty entry stands alone. For order
 * the stream is one key: a key that is set apart (key_queue.h) sends its bundles one by one.
 */
#include "core/slot_private.h"

#include "codec/encode_msgpack.h"

#include <assert.h>

static uint64_t linger_ms(const struct lane *lane)
{
    return lane->route->batch.linger_ms;
}

static struct outbox *outbox_of(const struct lane *lane)
{
    return &lane->outlet->outboxes[mqtt_pool_pick(lane->outlet->pool, lane->bundling.hash)];
}

/* ---- lists of lanes ----------------------------------------------------------------------- */

static void leave_list(struct lane *lane)
{
    struct bundling *b = &lane->bundling;
    if (b->list == NULL)
        return;
    if (b->previous != NULL)
        b->previous->bundling.next = b->next;
    else
        b->list->first = b->next;
    if (b->next != NULL)
        b->next->bundling.previous = b->previous;
    else
        b->list->last = b->previous;
    b->list = NULL;
    b->next = b->previous = NULL;
}

/* Behind the lane after; NULL: at the beginning. */
static void enter_list(struct bundle_list *list, struct lane *after, struct lane *lane)
{
    struct bundling *b = &lane->bundling;
    leave_list(lane);
    b->list = list;
    b->previous = after;
    b->next = after != NULL ? after->bundling.next : list->first;
    if (b->next != NULL)
        b->next->bundling.previous = lane;
    else
        list->last = lane;
    if (after != NULL)
        after->bundling.next = lane;
    else
        list->first = lane;
}

static void set_full(struct lane *lane)
{
    struct bundle_list *full = &outbox_of(lane)->full;
    if (lane->bundling.list != full)
        enter_list(full, full->last, lane);
}

/* In the order of due times: nearly always at the end. */
static void set_lingering(struct lane *lane)
{
    struct bundling *b = &lane->bundling;
    struct bundle_list *lingering = &outbox_of(lane)->lingering;
    leave_list(lane);
    b->due_ms = net_now_ms() + linger_ms(lane);
    struct lane *after = lingering->last;
    while (after != NULL && after->bundling.due_ms > b->due_ms)
        after = after->bundling.previous;
    enter_list(lingering, after, lane);
    flow_wake_at(lane->outlet, lingering->first->bundling.due_ms);
}

/* An entry that goes another way than the others is not waited with. */
static bool stands_alone(const struct entry *entry)
{
    return entry->fault_reason != NULL || entry->suspect;
}

static bool is_full(const struct lane *lane)
{
    const struct bundling *b = &lane->bundling;
    return b->waiting.count >= b->events_max || b->bytes >= lane->route->batch.bytes ||
           stands_alone(ledger_entry(&lane->slot->ledger, b->waiting.first));
}

static void find_list(struct lane *lane)
{
    if (lane->bundling.waiting.count == 0)
        leave_list(lane);
    else if (is_full(lane) || linger_ms(lane) == 0)
        set_full(lane);
    else
        set_lingering(lane);
}

/* ---- entries that wait --------------------------------------------------------------------- */

void bundle_init(struct lane *lane, uint32_t hash)
{
    lane->bundling = (struct bundling){.waiting = entry_queue_empty(),
                                       .again = entry_queue_empty(),
                                       .events_max = lane->route->batch.events,
                                       .hash = hash};
}

void bundle_append(struct lane *lane, uint32_t index)
{
    struct bundling *b = &lane->bundling;
    const struct entry *entry = ledger_entry(&lane->slot->ledger, index);
    entry_queue_append(&b->waiting, &lane->slot->ledger, index);
    b->bytes += entry->size;
    if (b->list == NULL)
        find_list(lane);
    else if (is_full(lane) || stands_alone(entry))
        set_full(lane);
}

static uint32_t take_waiting(struct lane *lane)
{
    struct bundling *b = &lane->bundling;
    uint32_t index = entry_queue_take(&b->waiting, &lane->slot->ledger);
    b->bytes -= ledger_entry(&lane->slot->ledger, index)->size;
    return index;
}

void bundle_give_to_key(struct key_queue *key)
{
    struct lane *lane = key->lane;
    if (!lane_bundles(lane))
        return;
    while (lane->bundling.waiting.count > 0)
        key_append(key, take_waiting(lane));
    leave_list(lane);
}

void bundle_drop_waiting(struct lane *lane)
{
    while (lane->bundling.waiting.count > 0)
        flow_forget(lane->slot, take_waiting(lane));
    leave_list(lane);
}

static void forget_list(struct bundle_list *list)
{
    while (list->first != NULL) {
        struct lane *lane = list->first;
        leave_list(lane);
        lane->bundling.waiting = entry_queue_empty();
        lane->bundling.bytes = 0;
    }
}

void bundle_forget(struct outbox *outbox)
{
    outbox->bundles = entry_queue_empty();
    forget_list(&outbox->full);
    forget_list(&outbox->lingering);
}

/* ---- sending ------------------------------------------------------------------------------- */

/* What is left for events of the largest payload that the route and the broker allow. The head is
 * taken at its longest: the count of events is part of it. */
static size_t room_for_events(const struct outbox *outbox, const struct lane *lane)
{
    struct bytes name = lane_name(lane);
    size_t head = batch_head_size(lane->site, name, UINT32_MAX);
    size_t most = lane->route->batch.bytes;
    size_t around = BUNDLE_PACKET_EXTRA + lane->bundling.topic_length;
    if (outbox->packet_max > 0 && outbox->packet_max < most + around)
        most = outbox->packet_max > around ? outbox->packet_max - around : 0;
    return most > head ? most - head : 0;
}

uint32_t bundle_choose(const struct outbox *outbox, const struct lane *lane, uint32_t first)
{
    const struct ledger *ledger = &lane->slot->ledger;
    size_t room = room_for_events(outbox, lane);
    uint32_t leader = first, count = 1;
    const struct entry *entry = ledger_entry(ledger, first);
    size_t sum = entry->size;
    while (!stands_alone(entry) && entry->next != ENTRY_NONE && count < lane->bundling.events_max) {
        entry = ledger_entry(ledger, entry->next);
        sum += entry->size;
        if (stands_alone(entry) || sum > room)
            break;
        leader = ledger_entry(ledger, leader)->next;
        count++;
    }
    return leader;
}

/* The entries from first to leader that are sent, and the bytes of their events. Those whose life
 * is over are left out; they settle with the others. */
struct contents {
    uint32_t first;
    uint32_t leader;
    uint32_t count;
    size_t size;
    uint64_t now_ms;
};

static void measure(struct slot *slot, struct contents *contents, uint32_t order)
{
    for (uint32_t index = contents->first;; index = ledger_entry(&slot->ledger, index)->next) {
        struct entry *entry = ledger_entry(&slot->ledger, index);
        bool expired = flow_is_expired(slot, entry, contents->now_ms);
        entry->order = order;
        entry->state = expired ? ENTRY_WAITING : ENTRY_SENT;
        if (expired) {
            entry->lane->counts.expired++;
        } else {
            contents->count++;
            contents->size += entry->size;
        }
        if (index == contents->leader)
            return;
    }
}

static void write_payload(struct writer *w, const struct lane *lane,
                          const struct contents *contents)
{
    const struct ledger *ledger = &lane->slot->ledger;
    batch_put_head(w, lane->site, lane_name(lane), contents->count);
    for (uint32_t index = contents->first;; index = ledger_entry(ledger, index)->next) {
        const struct entry *entry = ledger_entry(ledger, index);
        if (entry->state == ENTRY_SENT)
            writer_put_bytes(w, (struct bytes){entry->packet, entry->size});
        if (index == contents->leader)
            return;
    }
}

static enum status send_contents(struct outbox *outbox, const struct lane *lane,
                                 const struct contents *contents)
{
    struct outlet *outlet = outbox->outlet;
    const struct bundling *b = &lane->bundling;
    size_t head = batch_head_size(lane->site, lane_name(lane), contents->count);
    struct mqtt_publish publish = {.version = outlet->conn_config.version,
                                   .qos = 1,
                                   .topic = {b->topic, b->topic_length},
                                   .payload = {NULL, head + contents->size},
                                   .content_type = bytes_of(BATCH_CONTENT_TYPE)};
    size_t size = mqtt_publish_size(&publish);
    if (size == 0)
        return STATUS_TOO_LARGE;
    uint8_t *scratch = flow_scratch(outlet, size);
    struct writer w = writer_over(scratch, size);
    size_t offset;
    mqtt_put_publish(&w, &publish, &offset);
    write_payload(&w, lane, contents);
    assert(writer_ok(&w) && writer_length(&w) == size);
    return mqtt_conn_publish(outbox->conn, scratch, size, offset,
                             ledger_token(&lane->slot->ledger, contents->leader));
}

enum status bundle_publish(struct outbox *outbox, struct lane *lane, uint32_t first,
                           uint32_t leader, uint64_t now_ms)
{
    struct slot *slot = lane->slot;
    struct contents contents = {.first = first, .leader = leader, .now_ms = now_ms};
    measure(slot, &contents, ++outbox->order);
    if (contents.count == 0) {
        mqtt_conn_skip(outbox->conn, ledger_token(&slot->ledger, leader));
        return STATUS_OK;
    }
    enum status status = send_contents(outbox, lane, &contents);
    if (status != STATUS_OK)
        return status;
    /* What was the last of them may have expired, and the answer finds its way by the last. */
    ledger_entry(&slot->ledger, leader)->state = ENTRY_SENT;
    lane->counts.published++;
    outbox_time(outbox, ledger_token(&slot->ledger, leader));
    rate_note(outbox->outlet);
    return STATUS_OK;
}

/* Too large for the broker, bad, or a suspect: what is said of a key's first entry holds for a
 * stream's. */
static void set_apart(struct outbox *outbox, struct lane *lane)
{
    struct key_queue *key = key_set_apart(outbox, lane, lane->bundling.hash);
    key_set_stuck(key, true);
    key_go_on(key);
}

void bundle_send(struct outbox *outbox, uint64_t now_ms)
{
    struct lane *lane = outbox->full.first;
    struct bundling *b = &lane->bundling;
    uint32_t first = b->waiting.first;
    if (stands_alone(ledger_entry(&lane->slot->ledger, first))) {
        set_apart(outbox, lane);
        return;
    }
    uint32_t leader = bundle_choose(outbox, lane, first);
    if (bundle_publish(outbox, lane, first, leader, now_ms) != STATUS_OK) {
        assert(first == leader);
        flow_fault_too_large(ledger_entry(&lane->slot->ledger, first));
        set_apart(outbox, lane);
        return;
    }
    uint32_t index;
    do {
        index = take_waiting(lane);
        entry_queue_append(&outbox->bundles, &lane->slot->ledger, index);
    } while (index != leader);
    leave_list(lane);
    find_list(lane);
}

void bundle_wake(struct outbox *outbox, uint64_t now_ms)
{
    struct lane *lane;
    while ((lane = outbox->lingering.first) != NULL && lane->bundling.due_ms <= now_ms)
        set_full(lane);
    if (lane != NULL)
        flow_wake_at(outbox->outlet, lane->bundling.due_ms);
}

/* ---- answers ------------------------------------------------------------------------------- */

void bundle_halve(struct lane *lane, uint32_t count)
{
    lane->bundling.events_max = count > 1 ? count / 2 : 1;
}

void bundle_grow(struct lane *lane)
{
    struct bundling *b = &lane->bundling;
    uint32_t larger = b->events_max + b->events_max / 4 + 1;
    uint32_t most = lane->route->batch.events;
    b->events_max = larger < most ? larger : most;
}

uint32_t bundle_count(const struct ledger *ledger, uint32_t first, uint32_t leader)
{
    uint32_t count = 1;
    for (uint32_t index = first; index != leader; index = ledger_entry(ledger, index)->next)
        count++;
    return count;
}

uint32_t bundle_published_with(const struct ledger *ledger, uint32_t first)
{
    const struct entry *entry = ledger_entry(ledger, first);
    const struct entry *head = entry;
    uint32_t count = 1;
    for (; entry->next != ENTRY_NONE; count++) {
        entry = ledger_entry(ledger, entry->next);
        if (entry->lane != head->lane || entry->order != head->order)
            break;
    }
    return count;
}

static void keep_all(struct key_queue *key, struct entry_queue *answered)
{
    while (answered->count > 0)
        key_keep(key, entry_queue_take(answered, &key->lane->slot->ledger));
}

void bundle_answered(struct outbox *outbox, uint32_t leader, uint8_t reason_code)
{
    struct slot *slot = outbox->outlet->slot;
    struct lane *lane = ledger_entry(&slot->ledger, leader)->lane;
    bool refused = reason_code >= MQTT_REASON_UNSPECIFIED_ERROR;
    struct entry_queue answered = entry_queue_empty();
    uint32_t index;
    do {
        index = entry_queue_take(&outbox->bundles, &slot->ledger);
        entry_queue_append(&answered, &slot->ledger, index);
    } while (index != leader);
    uint32_t count = answered.count, first = answered.first;

    struct key_queue *key = key_find(outbox->outlet, lane, lane->bundling.hash);
    if (key == NULL && refused)
        key = key_set_apart(outbox, lane, lane->bundling.hash);
    else if (key != NULL)
        key->in_flight -= count;
    if (key == NULL || (!refused && key->again.count == 0)) {
        while (answered.count > 0)
            flow_settle(slot, entry_queue_take(&answered, &slot->ledger));
        bundle_grow(lane);
    } else if (key->again.count == 0) {
        keep_all(key, &answered);
        key->leader = first;
        refusal_judge(key, reason_code, count);
        return;
    } else {
        keep_all(key, &answered);
    }
    if (key != NULL && key->in_flight == 0)
        key_go_on(key);
}

void bundle_count_in_flight(struct outbox *outbox, struct key_queue *one, bool wide)
{
    const struct ledger *ledger = &outbox->outlet->slot->ledger;
    for (uint32_t i = outbox->bundles.first; i != ENTRY_NONE; i = ledger_entry(ledger, i)->next) {
        const struct entry *entry = ledger_entry(ledger, i);
        struct key_queue *key = wide ? key_find(outbox->outlet, entry->lane, entry->key_hash) : one;
        if (key == NULL)
            key = key_make(outbox, entry->lane, entry->key_hash);
        if (key->leaving && entry->lane == key->lane)
            key->in_flight++;
    }
}

void bundle_rewind(struct outbox *outbox)
{
    struct outlet *outlet = outbox->outlet;
    struct ledger *ledger = &outlet->slot->ledger;
    while (outbox->bundles.count > 0) {
        uint32_t index = entry_queue_take(&outbox->bundles, ledger);
        struct entry *entry = ledger_entry(ledger, index);
        struct lane *lane = entry->lane;
        struct key_queue *key = key_find(outlet, lane, entry->key_hash);
        entry->state = ENTRY_WAITING;
        if (key != NULL) {
            key->in_flight--;
            key_keep(key, index);
        } else {
            entry_queue_append(&lane->bundling.again, ledger, index);
            lane->bundling.bytes += entry->size;
            set_full(lane);
        }
    }
    for (struct lane *lane = outbox->full.first; lane != NULL; lane = lane->bundling.next) {
        struct bundling *b = &lane->bundling;
        entry_queue_join(&b->again, &b->waiting, ledger);
        b->waiting = b->again;
        b->again = entry_queue_empty();
    }
}
