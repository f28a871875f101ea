/*
 * Entries that may be poison. Redis' count of deliveries rises with every restart, and connections
 * are lost for many reasons: either makes an entry a suspect, no more. A suspect is sent alone, and
 * only tries that ended badly while nothing else was in flight count; they are kept in Redis, in
 * nemo:{site}:tries, so that they outlast a crash of this process.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <stdio.h>

/* So many lone tries, each of which ended in a crash or a lost connection, make a dead letter. */
#define TRIES_MAX 3
/* An entry that was the head of the window so many times when the connection was lost is a suspect:
 * what others were answered in between does not clear it. */
#define LOSSES_MAX 3u
/* A process that dies later than this after a publish has not died of it. */
#define CRASH_MS 1000u
/* A connection that has answered nothing yet must have stood for this long. */
#define STANDING_MS 1000u

/* Notes of entries that were settled meanwhile vanish by themselves after a week. */
static const char note_script[] = "local n = redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])\n"
                                  "if n <= 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end\n"
                                  "redis.call('EXPIRE', KEYS[1], 604800)\n"
                                  "return n\n";

/* ---- what Redis keeps --------------------------------------------------------------------- */

static void ignore_reply(void *context, const struct redis_value *reply)
{
    (void)context;
    (void)reply;
}

static void note(const struct key_queue *key, const char *by, redis_reply_fn *on_reply)
{
    struct slot *slot = key->lane->slot;
    if (!slot->write_fenced || !redis_link_is_ready(slot->write_link))
        return; /* it may be lost, and not have told of it */
    char id[STREAM_ID_TEXT], field[STREAM_ID_TEXT + 520];
    stream_id_format(ledger_entry(&slot->ledger, key->leader)->id, id);
    snprintf(field, sizeof field, "%s %.512s", id, key->lane->name);
    struct bytes arguments[] = {bytes_of("EVAL"), bytes_of(note_script),
                                bytes_of("1"),    bytes_of(key->lane->tries_key),
                                bytes_of(field),  bytes_of(by)};
    redis_link_command(slot->write_link, arguments, 6, on_reply, key->outbox);
    redis_link_flush(slot->write_link);
}

/* ---- a try -------------------------------------------------------------------------------- */

static void end_try(struct outbox *outbox)
{
    outbox->trying = NULL;
    outbox->try_sent_ms = 0;
    outbox->try_noted = false;
}

static void give_up_try(struct outbox *outbox)
{
    struct key_queue *key = outbox->trying;
    if (outbox->try_noted)
        note(key, "-1", ignore_reply);
    end_try(outbox);
    key_go_on(key);
}

static void publish_alone(struct outbox *outbox)
{
    struct key_queue *key = outbox->trying;
    uint64_t now_ms = net_now_ms();
    struct entry *entry = ledger_entry(&key->lane->slot->ledger, key->leader);
    if (flow_send(key, key->leader, now_ms) == STATUS_OK) {
        outbox->try_sent_ms = now_ms;
        flow_wake_at(outbox->outlet, now_ms + CRASH_MS);
        return;
    }
    flow_fault_too_large(entry);
    give_up_try(outbox);
}

static void condemn(struct entry *entry)
{
    flow_fault(entry, "poison",
               "sent alone three times, and each time the connection or the process ended");
}

static void on_noted(void *context, const struct redis_value *reply)
{
    struct outbox *outbox = context;
    struct slot *slot = outbox->outlet->slot;
    outbox->try_asks--;
    if (outbox->trying == NULL || outbox->try_asks > 0 || outbox->try_sent_ms != 0)
        return; /* of a try that was given up */
    if (reply == NULL || slot->state != SLOT_HELD || !lease_is_valid(slot->lease, net_now_ms()) ||
        mqtt_conn_room(outbox->conn) == 0) {
        give_up_try(outbox);
        return;
    }
    if (reply->type == REDIS_ERROR)
        outbox->try_noted = false; /* it is sent all the same: without a note it cannot count */
    if (reply->type == REDIS_INTEGER && reply->integer > TRIES_MAX) {
        struct key_queue *key = outbox->trying;
        condemn(ledger_entry(&slot->ledger, key->leader));
        end_try(outbox);
        key_go_on(key);
        return;
    }
    publish_alone(outbox);
}

static bool is_condemned(const struct outbox *outbox)
{
    const struct ledger *ledger = &outbox->outlet->slot->ledger;
    return ledger_entry(ledger, outbox->suspects.first->waiting.first)->fault_reason != NULL;
}

void poison_try(struct outbox *outbox, uint64_t now_ms)
{
    if (!outbox->answered && now_ms < outbox->ready_ms + STANDING_MS) {
        flow_wake_at(outbox->outlet, outbox->ready_ms + STANDING_MS);
        return;
    }
    /* Any of the suspects may be the one that shows whether the connection works: not always the
     * same begins. */
    for (uint64_t turns = outbox->answered ? 0 : net_now_us() % 4; turns > 0; turns--)
        key_next_suspect(outbox);
    struct key_queue *key = outbox->suspects.first;
    bool condemned = is_condemned(outbox);
    key_trying(key);
    if (condemned) {
        key_go_on(key);
        return;
    }
    outbox->trying = key;
    /* Until the connection has shown that it works, a crash proves nothing: the try is not noted.
     */
    if (!outbox->answered) {
        publish_alone(outbox);
        return;
    }
    outbox->try_noted = true;
    outbox->try_asks++;
    note(key, "1", on_noted);
}

void poison_answered(struct key_queue *key)
{
    struct outbox *outbox = key->outbox;
    assert(outbox->trying == key);
    ledger_entry(&key->lane->slot->ledger, key->leader)->suspect = false;
    note(key, "-1000", ignore_reply); /* whatever was noted before, too */
    end_try(outbox);
}

void poison_watch(struct outbox *outbox, uint64_t now_ms)
{
    if (outbox->trying == NULL || !outbox->try_noted || outbox->try_sent_ms == 0 ||
        now_ms < outbox->try_sent_ms + CRASH_MS)
        return;
    note(outbox->trying, "-1", ignore_reply);
    outbox->try_noted = false;
}

/* ---- losses ------------------------------------------------------------------------------- */

/* The broker ended it for reasons of its own. */
static bool is_administrative(const struct mqtt_loss *loss)
{
    if (loss->cause != MQTT_LOSS_DISCONNECTED)
        return false;
    switch (loss->reason_code) {
    case MQTT_REASON_SERVER_SHUTTING_DOWN:
    case MQTT_REASON_SESSION_TAKEN_OVER:
    case MQTT_REASON_MESSAGE_RATE_TOO_HIGH:
    case MQTT_REASON_QUOTA_EXCEEDED:
    case MQTT_REASON_ADMINISTRATIVE_ACTION:
    case MQTT_REASON_USE_ANOTHER_SERVER:
    case MQTT_REASON_SERVER_MOVED:
    case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
        return true;
    default:
        return false;
    }
}

/* On a connection that has answered nothing else, only an end right after the publish counts: a
 * broker that comes and goes, or stands still, is no news about the entry. */
static bool counts_as_try(const struct outbox *outbox, const struct mqtt_loss *loss)
{
    return outbox->try_sent_ms != 0 && loss->all_written && !is_administrative(loss) &&
           (outbox->answered || net_now_ms() < outbox->try_sent_ms + CRASH_MS);
}

static bool is_too_large(const struct mqtt_loss *loss)
{
    return loss->cause == MQTT_LOSS_DISCONNECTED &&
           loss->reason_code == MQTT_REASON_PACKET_TOO_LARGE;
}

/* Its key waits to send it alone: it is not on its way to the broker, nor has it arrived. */
static bool waits_to_be_tried(const struct outlet *outlet, uint32_t index)
{
    const struct entry *entry = ledger_entry(&outlet->slot->ledger, index);
    const struct key_queue *key = key_find(outlet, entry->lane, entry->key_hash);
    return key != NULL && key->state == KEY_SUSPECT && key->waiting.first == index;
}

/* A try that was not noted before it began has been noted after it ended badly. */
static void on_counted(void *context, const struct redis_value *reply)
{
    struct outbox *outbox = context;
    const struct ledger *ledger = &outbox->outlet->slot->ledger;
    uint32_t index = ledger_find(ledger, outbox->lost_try);
    if (index != ENTRY_NONE && reply != NULL && reply->type == REDIS_INTEGER &&
        reply->integer >= TRIES_MAX && waits_to_be_tried(outbox->outlet, index))
        condemn(ledger_entry(ledger, index));
}

static void note_lost_try(struct outbox *outbox, const struct mqtt_loss *loss)
{
    struct key_queue *key = outbox->trying;
    if (is_too_large(loss) && outbox->try_sent_ms != 0)
        flow_fault_too_large(ledger_entry(&key->lane->slot->ledger, key->leader));
    bool counts = counts_as_try(outbox, loss);
    outbox->lost_try = ledger_token(&key->lane->slot->ledger, key->leader);
    if (counts && !outbox->try_noted)
        note(key, "1", on_counted);
    else if (!counts && outbox->try_noted)
        note(key, "-1", ignore_reply);
    end_try(outbox);
}

struct search {
    const struct outbox *outbox;
    struct entry *largest;
    struct entry *first; /* to be published */
};

static void consider(struct search *search, struct entry *entry)
{
    if (search->first == NULL || (int32_t)(entry->order - search->first->order) < 0)
        search->first = entry;
    if (search->largest == NULL || entry->size > search->largest->size)
        search->largest = entry;
}

static void consider_key(struct key_queue *key, void *context)
{
    struct search *search = context;
    uint32_t index = lane_bundles(key->lane) ? key->waiting.first : key->leader;
    if (key->outbox == search->outbox && key->state == KEY_SENT)
        consider(search, ledger_entry(&key->lane->slot->ledger, index));
}

/* What was in flight, and the head of it. */
static struct search search_in_flight(struct outbox *outbox)
{
    struct search search = {.outbox = outbox};
    const struct ledger *ledger = &outbox->outlet->slot->ledger;
    uint32_t index = outbox->entries.first;
    for (uint32_t place = 0; place < outbox->sent; place++) {
        struct entry *entry = ledger_entry(ledger, index);
        consider(&search, entry);
        index = entry->next;
    }
    for (index = outbox->bundles.first; index != ENTRY_NONE;) {
        struct entry *entry = ledger_entry(ledger, index);
        consider(&search, entry);
        index = entry->next;
    }
    key_for_outlet(outbox->outlet, consider_key, &search);
    return search;
}

/* Several that were published together are published in smaller parts before one is suspected. */
static void suspect(struct entry *entry)
{
    const struct ledger *ledger = &entry->lane->slot->ledger;
    uint32_t count = 1;
    if (lane_bundles(entry->lane))
        count = bundle_published_with(ledger, (uint32_t)(entry - ledger->entries));
    if (count > 1)
        bundle_halve(entry->lane, count);
    else
        entry->suspect = true;
}

void poison_note_loss(struct outbox *outbox, const struct mqtt_loss *loss)
{
    if (outbox->trying != NULL) {
        note_lost_try(outbox, loss);
        return;
    }
    if (!loss->was_connected || is_administrative(loss))
        return;
    struct search search = search_in_flight(outbox);
    if (search.first == NULL)
        return;
    /* The broker has not said which one was too large: the largest, if any. */
    if (is_too_large(loss))
        suspect(search.largest);
    outbox->allowed = 1;
    if (++search.first->losses >= LOSSES_MAX)
        suspect(search.first);
}
