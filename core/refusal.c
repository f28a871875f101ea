/*
 * What is done about a PUBACK that refuses (MQTT 5.0, 3.4.2.1). An entry that the broker will never
 * take goes to the dead letters; any other refusal is for now, and the key rests and tries again.
 * Refusals count against an entry only while the broker takes other keys: when it refuses most of
 * them, it is the broker's state, and the outlet pauses.
 */
#include "core/slot_private.h"

#define TROUBLE_PERIOD_MS 30000u

/* Of fewer keys than this nothing is concluded about the broker. */
#define VERDICTS_LEAST 4u
/* So many of the last keys, and more will follow. */
#define VERDICTS_MANY 8u

/* ---- the broker's state ------------------------------------------------------------------- */

/* The last verdict on each of the last keys. */
static void note_verdict(struct verdicts *verdicts, uint32_t hash, bool refused)
{
    size_t i = 0;
    while (i < verdicts->count && verdicts->hash[i] != hash)
        i++;
    if (i == verdicts->count && i < VERDICTS) {
        verdicts->count++;
    } else if (i == verdicts->count) {
        i = verdicts->oldest;
        verdicts->oldest = (i + 1) % VERDICTS;
    }
    verdicts->hash[i] = hash;
    verdicts->refused[i] = refused;
    verdicts->over[i] = false;
}

/* The entry that was refused has gone another way. While the broker takes nothing that says as much
 * about its state as any other refusal; then it is old news. */
static void note_over(struct verdicts *verdicts, uint32_t hash)
{
    for (size_t i = 0; i < verdicts->count; i++)
        if (verdicts->hash[i] == hash)
            verdicts->over[i] = verdicts->refused[i];
}

static void forget_over(struct verdicts *verdicts)
{
    size_t kept = 0;
    for (size_t i = 0; i < verdicts->count; i++) {
        if (verdicts->over[i])
            continue;
        verdicts->hash[kept] = verdicts->hash[i];
        verdicts->refused[kept] = verdicts->refused[i];
        verdicts->over[kept++] = false;
    }
    if (kept < verdicts->count)
        verdicts->oldest = 0;
    verdicts->count = kept;
}

static size_t count_refused(const struct verdicts *verdicts)
{
    size_t refused = 0;
    for (size_t i = 0; i < verdicts->count; i++)
        refused += verdicts->refused[i];
    return refused;
}

bool refusal_is_wide(const struct outlet *outlet)
{
    return count_refused(&outlet->verdicts) >= VERDICTS_MANY;
}

static bool refuses_most(const struct verdicts *verdicts)
{
    return verdicts->count >= VERDICTS_LEAST && count_refused(verdicts) * 2 > verdicts->count;
}

void refusal_note_accepted(struct outlet *outlet, uint32_t hash)
{
    outlet->accepted++;
    if (outlet->verdicts.count == 0)
        return;
    note_verdict(&outlet->verdicts, hash, false);
    forget_over(&outlet->verdicts);
    if (count_refused(&outlet->verdicts) == 0)
        outlet->verdicts = (struct verdicts){0};
    if (outlet->paused_until_ms == 0)
        return;
    if (outlet->pause_told)
        log_event(&outlet->log, LOG_INFO, "the broker takes publishes again");
    outlet->pause_told = false;
    outlet->paused_until_ms = 0;
    backoff_reset(&outlet->pauses);
}

static void pause_outlet(struct outlet *outlet, const char *reason)
{
    uint64_t held_back, now = net_now_ms();
    if (outlet->paused_until_ms > now)
        return; /* one of those that were in flight when it began */
    uint32_t ms = backoff_next_ms(&outlet->pauses);
    outlet->paused_until_ms = now + ms;
    flow_wake_at(outlet, outlet->paused_until_ms);
    if (!log_limit_pass(&outlet->pause_trouble, now, TROUBLE_PERIOD_MS, &held_back))
        return;
    outlet->pause_told = true;
    log_event(&outlet->log, LOG_ERROR,
              "the broker refuses most of what is published: its state, not the entries, is "
              "the cause; publishing pauses and is tried again",
              LOG_TEXT("reason", reason), LOG_INT("retry_ms", ms), LOG_INT("repeated", held_back));
}

bool refusal_may_probe(const struct outbox *outbox, uint64_t now_ms)
{
    struct outlet *outlet = outbox->outlet;
    if (now_ms < outlet->paused_until_ms) {
        flow_wake_at(outlet, outlet->paused_until_ms);
        return false;
    }
    return mqtt_conn_unsettled(outbox->conn) == 0;
}

/* ---- the entry ---------------------------------------------------------------------------- */

/* The word in the dead letter. */
static const char *word_of(uint8_t reason_code)
{
    switch (reason_code) {
    case MQTT_REASON_NOT_AUTHORIZED:
        return "not-authorized";
    case MQTT_REASON_TOPIC_NAME_INVALID:
        return "topic-name-invalid";
    case MQTT_REASON_PAYLOAD_FORMAT_INVALID:
        return "payload-format-invalid";
    case MQTT_REASON_PACKET_TOO_LARGE:
        return "packet-too-large";
    default:
        return "refused";
    }
}

/* The code speaks of the entry, not of a moment. The topic of a batch is none of its entries'. */
static bool is_about_entry(const struct lane *lane, uint8_t reason_code)
{
    return (reason_code == MQTT_REASON_TOPIC_NAME_INVALID && !lane_bundles(lane)) ||
           reason_code == MQTT_REASON_PAYLOAD_FORMAT_INVALID ||
           reason_code == MQTT_REASON_PACKET_TOO_LARGE;
}

static void report(struct key_queue *key, const struct entry *entry, uint32_t retry_ms)
{
    struct outbox *outbox = key->outbox;
    uint64_t held_back;
    if (!log_limit_pass(&outbox->refusal_trouble, net_now_ms(), TROUBLE_PERIOD_MS / 10, &held_back))
        return;
    char id[STREAM_ID_TEXT];
    stream_id_format(entry->id, id);
    log_event(&outbox->log, LOG_WARNING,
              retry_ms > 0 ? "the broker refused a publish; its key waits and is tried again"
                           : "the broker refused a publish for good",
              LOG_TEXT("reason", mqtt_conn_refusal(outbox->conn)),
              LOG_BYTES("site", key->lane->site), LOG_TEXT("stream", key->lane->name),
              LOG_TEXT("id", id), LOG_INT("retry_ms", retry_ms), LOG_INT("repeated", held_back));
}

/* Whether the refusal of the key's leader is the last one. others: the broker took other keys since
 * the refusal before this one. */
static bool is_final(struct key_queue *key, uint8_t reason_code, bool others)
{
    if (is_about_entry(key->lane, reason_code))
        return true;
    if (!key->refused || !others)
        return false;
    key->refusals++;
    return reason_code == MQTT_REASON_NOT_AUTHORIZED ||
           key->refusals >= key->lane->slot->setting.config->delivery.max_deliveries;
}

/* What stands for a key among the verdicts. A stream that goes in batches is one key; there each
 * entry that is refused alone stands for itself, so that a broker which refuses all of a stream is
 * seen before all of it has gone to the dead letters. */
static uint32_t verdict_of(const struct key_queue *key, const struct entry *entry, uint32_t count)
{
    uint32_t of_entry = (uint32_t)(entry->id.ms * 31 + entry->id.seq) * 2654435761u;
    return lane_bundles(key->lane) && count == 1 ? key->hash ^ of_entry : key->hash;
}

void refusal_judge(struct key_queue *key, uint8_t reason_code, uint32_t count)
{
    struct outlet *outlet = key->outbox->outlet;
    struct slot *slot = outlet->slot;
    struct entry *entry = ledger_entry(&slot->ledger, key->leader);
    key->lane->counts.refused++;
    key->verdict = verdict_of(key, entry, count);
    note_verdict(&outlet->verdicts, key->verdict, true);
    key_set_stuck(key, true);
    bool others = outlet->accepted != key->accepted_then;
    bool most = refuses_most(&outlet->verdicts);
    /* A code that speaks of the entry is believed, of however many, once the broker has taken
     * others between two refusals. */
    bool believed = !most || (is_about_entry(key->lane, reason_code) && key->refused && others);
    if (most)
        pause_outlet(outlet, mqtt_conn_refusal(key->outbox->conn));
    bool final = believed && is_final(key, reason_code, others);
    /* Of several that were published together any may be the one. */
    if (final && count > 1)
        bundle_halve(key->lane, count);
    else if (final)
        flow_fault(entry, word_of(reason_code),
                   mqtt_reason_name(MQTT_PUBACK, MQTT_5_0, reason_code));
    key->lane->refused_keys += !key->refused;
    key->lane->refusal = reason_code;
    key->refused = true;
    key->smooth = false;
    key->accepted_then = outlet->accepted;
    uint32_t rest_ms = final ? 0 : backoff_next_ms(&key->backoff);
    key->due_ms = rest_ms > 0 ? net_now_ms() + rest_ms : 0;
    report(key, entry, rest_ms);
    key_go_on(key);
}

void refusal_over(struct key_queue *key)
{
    if (key->refused)
        note_over(&key->outbox->outlet->verdicts, key->verdict);
    key->lane->refused_keys -= key->refused;
    key->refused = false;
    key->refusals = 0;
    key->due_ms = 0;
    backoff_reset(&key->backoff);
}
