/*
 * The keys that are set apart: their entries, states and lists, and parking. A key has a place here
 * only while it has entries (in memory or parked), so that there are never more than entries.
 */
#include "core/slot_private.h"

#include <assert.h>

#define PARKING_SHARE 8u

/* ---- entries ------------------------------------------------------------------------------ */

static struct ledger *ledger_of(const struct key_queue *key)
{
    return &key->lane->slot->ledger;
}

static uint32_t count_of(const struct key_queue *key)
{
    return key->again.count + key->waiting.count;
}

static void count_in(struct key_queue *key, uint32_t index)
{
    struct key_table *table = &key->outbox->outlet->keys;
    if (!key->stuck)
        return;
    table->stuck_entries++;
    table->stuck_bytes += ledger_entry(ledger_of(key), index)->size;
}

static void count_out(struct key_queue *key, uint32_t index)
{
    struct key_table *table = &key->outbox->outlet->keys;
    if (!key->stuck)
        return;
    table->stuck_entries--;
    table->stuck_bytes -= ledger_entry(ledger_of(key), index)->size;
}

static void add_to(struct key_queue *key, struct entry_queue *queue, uint32_t index)
{
    ledger_entry(ledger_of(key), index)->apart = true;
    entry_queue_append(queue, ledger_of(key), index);
    count_in(key, index);
}

void key_append(struct key_queue *key, uint32_t index)
{
    add_to(key, &key->waiting, index);
}

uint32_t key_take(struct key_queue *key)
{
    uint32_t index = entry_queue_take(&key->waiting, ledger_of(key));
    count_out(key, index);
    return index;
}

static void for_entries(struct key_queue *key, const struct entry_queue *queue,
                        void (*count)(struct key_queue *key, uint32_t index))
{
    for (uint32_t i = queue->first; i != ENTRY_NONE; i = ledger_entry(ledger_of(key), i)->next)
        count(key, i);
}

void key_set_stuck(struct key_queue *key, bool stuck)
{
    if (stuck == key->stuck)
        return;
    key->stuck = true; /* while it is counted */
    for_entries(key, &key->again, stuck ? count_in : count_out);
    for_entries(key, &key->waiting, stuck ? count_in : count_out);
    key->stuck = stuck;
}

/* Forgets the waiting entries behind the first keep of them. They stay pending in Redis. */
static void drop_waiting(struct key_queue *key, uint32_t keep)
{
    struct entry_queue all = key->waiting;
    key->waiting = entry_queue_empty();
    for (uint32_t place = 0; all.count > 0; place++) {
        uint32_t index = entry_queue_take(&all, ledger_of(key));
        count_out(key, index);
        if (place < keep)
            add_to(key, &key->waiting, index);
        else
            flow_forget(key->lane->slot, index);
    }
}

/* Takes what is not sent of the keys that leave out of the outbox, and counts what is sent. wide:
 * all keys with something in flight leave. */
static void leave_outbox(struct outbox *outbox, struct key_queue *one, bool wide)
{
    struct ledger *ledger = ledger_of(one);
    struct entry_queue all = outbox->entries;
    outbox->entries = entry_queue_empty();
    outbox->next_to_send = ENTRY_NONE;
    for (uint32_t place = 0; all.count > 0; place++) {
        uint32_t index = entry_queue_take(&all, ledger);
        const struct entry *entry = ledger_entry(ledger, index);
        struct key_queue *key = wide ? key_find(outbox->outlet, entry->lane, entry->key_hash) : one;
        if (key == NULL && place < outbox->sent)
            key = key_make(outbox, entry->lane, entry->key_hash);
        bool leaves =
            key != NULL && key->leaving && entry->key_hash == key->hash && entry->lane == key->lane;
        if (leaves && place >= outbox->sent) {
            key_append(key, index);
            continue;
        }
        if (leaves)
            key->in_flight++;
        entry_queue_append(&outbox->entries, ledger, index);
        if (place >= outbox->sent && outbox->next_to_send == ENTRY_NONE)
            outbox->next_to_send = index;
    }
    bundle_count_in_flight(outbox, one, wide);
}

static void has_left(struct key_queue *key, void *context)
{
    (void)context;
    if (key->leaving)
        bundle_give_to_key(key);
    key->leaving = false;
}

struct key_queue *key_set_apart(struct outbox *outbox, struct lane *lane, uint32_t hash)
{
    struct key_queue *key = key_make(outbox, lane, hash);
    if (lane_sends_one_by_one(lane)) {
        key->leaving = false; /* nothing of it ever goes through the outbox */
        return key;
    }
    /* Where many are refused all leave at once: to look through the outbox for each of them would
     * take the square of their number. */
    bool wide = refusal_is_wide(outbox->outlet);
    leave_outbox(outbox, key, wide);
    has_left(key, NULL);
    if (wide)
        key_for_outlet(outbox->outlet, has_left, NULL);
    return key;
}

/* ---- states ------------------------------------------------------------------------------- */

static void list_append(struct key_list *list, struct key_queue *key)
{
    key->next = NULL;
    if (list->first == NULL)
        list->first = key;
    else
        list->last->next = key;
    list->last = key;
}

static void list_take(struct key_list *list, struct key_queue *key)
{
    assert(list->first == key);
    list->first = key->next;
}

#define BIT(state) (1u << (state))
#define AFTER_ALL                                                                                  \
    (BIT(KEY_GATHERING) | BIT(KEY_READY) | BIT(KEY_RESTING) | BIT(KEY_BURYING) |                   \
     BIT(KEY_SUSPECT) | BIT(KEY_AWAY))

static void set_state(struct key_queue *key, enum key_state state)
{
    static const unsigned may_follow[] = {
        [KEY_GATHERING] = AFTER_ALL, [KEY_READY] = AFTER_ALL | BIT(KEY_SENT),
        [KEY_SENT] = AFTER_ALL,      [KEY_RESTING] = AFTER_ALL,
        [KEY_BURYING] = AFTER_ALL,   [KEY_SUSPECT] = BIT(KEY_TRYING),
        [KEY_TRYING] = AFTER_ALL,    [KEY_AWAY] = AFTER_ALL,
    };
    assert(may_follow[key->state] & BIT(state));
    key->state = state;
    struct outbox *outbox = key->outbox;
    switch (state) {
    case KEY_READY:
        list_append(&outbox->ready, key);
        break;
    case KEY_RESTING:
        list_append(&outbox->resting, key);
        flow_wake_at(outbox->outlet, key->due_ms);
        if (outbox->resting_due_ms == 0 || key->due_ms < outbox->resting_due_ms)
            outbox->resting_due_ms = key->due_ms;
        break;
    case KEY_SUSPECT:
        list_append(&outbox->suspects, key);
        break;
    case KEY_GATHERING:
    case KEY_SENT:
    case KEY_BURYING:
    case KEY_TRYING:
    case KEY_AWAY:
        break;
    }
}

void key_sent(struct key_queue *key, uint32_t leader)
{
    list_take(&key->outbox->ready, key);
    key->leader = leader;
    set_state(key, KEY_SENT);
}

void key_not_ready(struct key_queue *key)
{
    list_take(&key->outbox->ready, key);
    key_go_on(key);
}

void key_next_suspect(struct outbox *outbox)
{
    struct key_queue *first = outbox->suspects.first;
    list_take(&outbox->suspects, first);
    list_append(&outbox->suspects, first);
}

void key_trying(struct key_queue *key)
{
    list_take(&key->outbox->suspects, key);
    key->leader = key->waiting.first;
    set_state(key, KEY_TRYING);
}

/* The first entry can never be published: acks.c moves it to the dead letters, and nothing behind
 * it is sent before Redis has answered. */
static void bury(struct key_queue *key)
{
    uint32_t index = key_take(key);
    set_state(key, KEY_BURYING);
    flow_release_packet(ledger_entry(ledger_of(key), index));
    acks_owe(key->lane->slot, index);
}

static bool share_is_used(const struct outlet *outlet)
{
    return outlet->keys.stuck_entries >= outlet->credits / PARKING_SHARE ||
           outlet->keys.stuck_bytes >= outlet->bytes_max / PARKING_SHARE;
}

/* What lies before the first parked entry stays in memory. Where the key was being read back, the
 * rest of that is for another time. */
static void park_from(struct key_queue *key, struct stream_id first)
{
    key->lane->keys_back -= key->reading_back;
    key->reading_back = false;
    key->parked = true;
    key->first_parked = first;
}

static size_t excess_of(size_t stuck, size_t all)
{
    return stuck > all / PARKING_SHARE ? stuck - all / PARKING_SHARE : 0;
}

/* It had more in memory when it got stuck, or another has got stuck meanwhile. */
static void park_excess(struct key_queue *key)
{
    const struct outlet *outlet = key->outbox->outlet;
    const struct ledger *ledger = ledger_of(key);
    size_t entries = excess_of(outlet->keys.stuck_entries, outlet->credits);
    size_t bytes = excess_of(outlet->keys.stuck_bytes, outlet->bytes_max);
    if (!key->stuck || key->waiting.count <= 1 || (entries == 0 && bytes == 0))
        return;
    size_t all = 0;
    for (uint32_t i = key->waiting.first; i != ENTRY_NONE; i = ledger_entry(ledger, i)->next)
        all += ledger_entry(ledger, i)->size;
    uint32_t next = key->waiting.first, keep = 0;
    size_t kept = 0;
    do {
        kept += ledger_entry(ledger, next)->size;
        keep++;
        next = ledger_entry(ledger, next)->next;
    } while (next != ENTRY_NONE && keep + entries < key->waiting.count &&
             kept + ledger_entry(ledger, next)->size + bytes <= all);
    if (next == ENTRY_NONE)
        return;
    park_from(key, ledger_entry(ledger, next)->id);
    drop_waiting(key, keep);
}

static void go_on_without_entries(struct key_queue *key)
{
    if (key->parked) {
        set_state(key, KEY_AWAY);
        lane_read_back(key->lane);
        return;
    }
    key_set_stuck(key, false);
    key_end(key);
}

/* It had left the outbox beside others and was not refused: what waits goes back there. */
static void take_common_way(struct key_queue *key)
{
    while (key->waiting.count > 0) {
        uint32_t index = key_take(key);
        ledger_entry(ledger_of(key), index)->apart = false;
        flow_append(key->outbox, index);
    }
    key_end(key);
}

void key_go_on(struct key_queue *key)
{
    if (key->in_flight > 0) {
        set_state(key, KEY_GATHERING);
        return;
    }
    entry_queue_join(&key->again, &key->waiting, ledger_of(key));
    key->waiting = key->again;
    key->again = entry_queue_empty();
    if (key->waiting.count == 0) {
        go_on_without_entries(key);
        return;
    }
    if (!key->stuck && !lane_sends_one_by_one(key->lane)) {
        take_common_way(key);
        return;
    }
    const struct entry *first = ledger_entry(ledger_of(key), key->waiting.first);
    if (first->suspect)
        key_set_stuck(key, true);
    park_excess(key);
    if (key->lane->gathers)
        set_state(key, KEY_GATHERING);
    else if (first->fault_reason != NULL)
        bury(key);
    else if (key->due_ms > net_now_ms())
        set_state(key, KEY_RESTING);
    else
        set_state(key, first->suspect ? KEY_SUSPECT : KEY_READY);
}

void key_keep(struct key_queue *key, uint32_t index)
{
    struct stream_id id = ledger_entry(ledger_of(key), index)->id;
    /* The first of them stays: it is the one that was refused. */
    if (!key->parked && key->stuck && key->again.count > 0 && share_is_used(key->outbox->outlet)) {
        /* What waits is newer than this one: it goes too. */
        park_from(key, id);
        drop_waiting(key, 0);
    }
    if (key->parked && stream_id_compare(id, key->first_parked) >= 0)
        flow_forget(key->lane->slot, index);
    else
        add_to(key, &key->again, index);
}

void key_wake(struct outbox *outbox, uint64_t now_ms)
{
    if (outbox->resting_due_ms == 0)
        return;
    if (now_ms < outbox->resting_due_ms) {
        flow_wake_at(outbox->outlet, outbox->resting_due_ms);
        return;
    }
    struct key_queue *key = outbox->resting.first, *next;
    outbox->resting = (struct key_list){NULL, NULL};
    outbox->resting_due_ms = 0;
    for (; key != NULL; key = next) {
        next = key->next;
        key_go_on(key); /* to rest again, where its time has not come */
    }
}

static void begin_again(struct key_queue *key, void *context)
{
    if (key->outbox != context)
        return;
    bool was_sent = key->state == KEY_SENT || key->state == KEY_TRYING;
    if (was_sent || (key->state == KEY_GATHERING && key->in_flight == 0))
        key_go_on(key);
}

void key_rewind(struct outbox *outbox)
{
    /* What was in flight goes first: so ever fewer are in flight with one that ends connections. */
    struct key_list others = outbox->ready;
    outbox->ready = (struct key_list){NULL, NULL};
    key_for_outlet(outbox->outlet, begin_again, outbox);
    if (others.first == NULL)
        return;
    if (outbox->ready.first == NULL)
        outbox->ready.first = others.first;
    else
        outbox->ready.last->next = others.first;
    outbox->ready.last = others.last;
}

static void end_gathering(struct key_queue *key, void *context)
{
    (void)context;
    if (key->state == KEY_GATHERING && key->in_flight == 0)
        key_go_on(key);
}

void key_end_gathering(struct lane *lane)
{
    if (!lane->gathers)
        return;
    lane->gathers = false;
    key_for_lane(lane, end_gathering, NULL);
}

/* ---- parking ------------------------------------------------------------------------------ */

bool key_parks(struct key_queue *key, struct stream_id id)
{
    bool full = key->stuck && count_of(key) > 0 && share_is_used(key->outbox->outlet);
    if (!full && (!key->parked || key->reading_back))
        return false;
    if (!key->parked || key->reading_back)
        park_from(key, id);
    return true;
}

static void drop_unsent(struct key_queue *key, void *context)
{
    (void)context;
    key->parked = false;
    key->reading_back = false;
    uint32_t keep = 0;
    if (key->in_flight == 0 && key->waiting.count > 0) {
        /* The first one stays, with its place in a list; and all that its publish settles. */
        keep = 1;
        for (uint32_t i = key->waiting.first; key->state == KEY_SENT && i != key->leader;
             i = ledger_entry(ledger_of(key), i)->next)
            keep++;
    }
    drop_waiting(key, keep);
}

void key_drop_unsent(struct lane *lane)
{
    key_for_lane(lane, drop_unsent, NULL);
}

static void mark_read_back(struct key_queue *key, void *context)
{
    struct stream_id *first = context;
    struct lane *lane = key->lane;
    key->reading_back = key->parked && key->state == KEY_AWAY;
    if (!key->reading_back)
        return;
    if (stream_id_compare(key->first_parked, *first) < 0)
        *first = key->first_parked;
    if (key->smooth)
        key_set_stuck(key, false);
    if (key->smooth && !lane_sends_one_by_one(lane)) {
        lane->back_to_end = true;
        key_end(key);
        return;
    }
    key->smooth = true;
    lane->keys_back++;
}

bool key_begin_read_back(struct lane *lane, struct stream_id *first)
{
    const struct stream_id none = {UINT64_MAX, UINT64_MAX};
    *first = none;
    lane->keys_back = 0;
    lane->back_to_end = false;
    key_for_lane(lane, mark_read_back, first);
    return stream_id_compare(*first, none) != 0;
}

static void unmark_read_back(struct key_queue *key, void *context)
{
    (void)context;
    if (key->reading_back)
        key->parked = false;
    key->reading_back = false;
    if (key->state == KEY_AWAY && !key->parked)
        key_go_on(key);
}

void key_end_read_back(struct lane *lane)
{
    lane->keys_back = 0;
    key_for_lane(lane, unmark_read_back, NULL);
}
