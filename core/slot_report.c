/*
 * The slot's report to the main thread, and the rare events that are noted for it. Nothing here is
 * done per message; what is counted per message stands beside what it counts.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- notes --------------------------------------------------------------------------------- */

void report_note_buried(struct slot *slot, const char *reason)
{
    size_t i = 0;
    while (i < slot->reason_count && strcmp(slot->reasons[i].reason, reason) != 0)
        i++;
    if (i == REPORT_REASONS_MAX)
        return;
    if (i == slot->reason_count)
        slot->reasons[slot->reason_count++] = (struct report_reason){.reason = reason};
    slot->reasons[i].count++;
}

void report_note_timed(struct outbox *outbox, const struct entry *entry)
{
    struct outlet_counts *counts = &outbox->outlet->counts;
    uint64_t now_us = net_now_us();
    outbox->timed = NOT_TIMED;
    if (entry->state != ENTRY_SENT)
        return;
    uint64_t redis_ms = lease_redis_time(outbox->outlet->slot->lease, now_us / 1000);
    histogram_note(&counts->puback, now_us - outbox->timed_us);
    histogram_note(&counts->delivery,
                   redis_ms > entry->id.ms ? (redis_ms - entry->id.ms) * 1000 : 0);
}

/* The broker does not let us in: CONNACK of MQTT 5.0 (3.2.2.2), or of 3.1.1 (3.2.2.3). */
static bool is_about_us(const struct mqtt_loss *loss)
{
    static const uint8_t codes[] = {4, 5, 0x86, 0x87, 0x8a, 0x8c};
    return loss->cause == MQTT_LOSS_REFUSED &&
           memchr(codes, loss->reason_code, sizeof codes) != NULL;
}

struct in_flight {
    const struct outbox *outbox;
    size_t entries;
};

/* What is published for a key that is set apart stays with the key. */
static void add_in_flight(struct key_queue *key, void *context)
{
    struct in_flight *sum = context;
    const struct ledger *ledger = &key->lane->slot->ledger;
    if (key->outbox != sum->outbox)
        return;
    if (key->state == KEY_SENT)
        sum->entries +=
            lane_bundles(key->lane) ? bundle_count(ledger, key->waiting.first, key->leader) : 1;
    else if (key->state == KEY_TRYING)
        sum->entries += sum->outbox->try_sent_ms != 0;
}

size_t report_in_flight(const struct outbox *outbox)
{
    struct in_flight sum = {.outbox = outbox, .entries = outbox->sent + outbox->bundles.count};
    key_for_outlet(outbox->outlet, add_in_flight, &sum);
    return sum.entries;
}

void report_note_loss(struct outbox *outbox, const struct mqtt_loss *loss)
{
    struct outlet_counts *counts = &outbox->outlet->counts;
    counts->cause = is_about_us(loss)                         ? REPORT_REFUSED
                    : loss->cause == MQTT_LOSS_PUBACK_TIMEOUT ? REPORT_NO_ANSWER
                                                              : REPORT_LOST;
    counts->lost_ms = net_now_ms();
    counts->republished += report_in_flight(outbox);
    outbox->timed = NOT_TIMED;
    snprintf(counts->error, sizeof counts->error, "%s", loss->text);
}

/* ---- the report ---------------------------------------------------------------------------- */

static void describe_outlet(const struct outlet *outlet, struct report_outlet *out)
{
    const struct outlet_counts *counts = &outlet->counts;
    if (outlet->pool == NULL)
        return;
    out->used = outlet->started;
    out->connections = outlet->started ? (unsigned)outlet->connections : 0;
    for (size_t i = 0; i < outlet->connections; i++) {
        const struct outbox *outbox = &outlet->outboxes[i];
        uint64_t end = mqtt_conn_certificate_end(outbox->conn);
        if (end != 0 && (out->certificate_end == 0 || end < out->certificate_end))
            out->certificate_end = end;
        out->inflight += mqtt_conn_unsettled(outbox->conn);
        if (!mqtt_conn_is_ready(outbox->conn))
            continue;
        out->connected++;
        out->window += outbox->window;
        snprintf(out->tls, sizeof out->tls, "%s", mqtt_conn_describe(outbox->conn));
    }
    out->bytes = outlet->bytes;
    out->unsettled = outlet->used;
    out->reconnects = counts->reconnects;
    out->republished = counts->republished;
    out->taken = outlet->accepted;
    memcpy(out->answers, counts->answers, sizeof out->answers);
    out->answers[0] = outlet->accepted;
    for (size_t code = 1; code < MQTT_REASON_UNSPECIFIED_ERROR; code++)
        out->answers[0] -= counts->answers[code];
    out->puback = counts->puback;
    out->delivery = counts->delivery;
    out->cause = counts->cause;
    out->lost_ms = counts->lost_ms;
    memcpy(out->error, counts->error, sizeof out->error);
}

static enum report_stream_state state_of(const struct lane *lane)
{
    return lane->state == LANE_QUARANTINED ? REPORT_STREAM_QUARANTINED
           : lane->state == LANE_HELD      ? REPORT_STREAM_HELD
                                           : REPORT_STREAM_FINE;
}

static bool is_trim_blocked(const struct lane *lane)
{
    return lane->trim.patience == TRIM_WAITS - 1;
}

/* Differs whenever something to be reported does: counts only grow, and keys that are refused, or
 * are not any more, are counted by them. */
static uint64_t mark_of(const struct lane *lane)
{
    uint64_t mark = 1;
#define METRIC_LANE(field, name, help) mark += lane->counts.field;
#include "core/metrics.def"
    return mark << 4 | (uint64_t)state_of(lane) << 2 | (uint64_t)is_trim_blocked(lane) << 1 |
           (lane->refused_keys > 0);
}

static void describe_lane(struct lane *lane, struct report_stream *out)
{
    const struct slot *slot = lane->slot;
    lane->reported = mark_of(lane);
    *out = (struct report_stream){.name = lane->name,
                                  .site = lane->site,
                                  .broker = (size_t)(lane->outlet - slot->outlets),
                                  .counts = lane->counts,
                                  .last_ms = lane->last.ms,
                                  .state = state_of(lane),
                                  .trim_blocked = is_trim_blocked(lane),
                                  .refused_keys = lane->refused_keys,
                                  .refusal = lane->refusal};
}

struct slot_report *slot_report_new(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    size_t brokers = slot->setting.config->broker_count, changed = 0;
    for (size_t i = 0; i < slot->lane_count; i++)
        changed += slot->lanes[i]->reported != mark_of(slot->lanes[i]);
    struct slot_report *report = calloc(1, sizeof *report + brokers * sizeof *report->outlets +
                                               changed * sizeof *report->streams);
    if (report == NULL)
        return NULL;
    report->outlets = (struct report_outlet *)(report + 1);
    report->streams = (struct report_stream *)(report->outlets + brokers);
    report->slot = slot->setting.index;
    report->held =
        slot->state == SLOT_HELD || slot->state == SLOT_DRAINING || slot->state == SLOT_PARTING;
    report->running = slot->announced;
    report->redis_up = slot->state != SLOT_HELD || (redis_link_is_ready(slot->read_link) &&
                                                    redis_link_is_ready(slot->write_link));
    report->broker_count = brokers;
    for (size_t i = 0; i < brokers; i++)
        describe_outlet(&slot->outlets[i], &report->outlets[i]);
    report->all_streams = slot->lane_count;
    for (size_t i = 0; i < slot->lane_count; i++)
        if (slot->lanes[i]->reported != mark_of(slot->lanes[i]))
            describe_lane(slot->lanes[i], &report->streams[report->stream_count++]);
    memcpy(report->reasons, slot->reasons, sizeof report->reasons);
    report->reason_count = slot->reason_count;
    return report;
}
