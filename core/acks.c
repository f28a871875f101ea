/*
 * From settlement to Redis. Each lane owes the ids of its settled entries in the order of
 * settlement, and has at most one command without an answer: an XACK of many ids, or the script
 * that moves one entry to the dead letters. What fails, or whose answer is lost, is owed again, and
 * nothing later of the lane goes out before it: so the pending entries of a key stay a suffix of
 * its delivered ones.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define IDS_MAX 512u
#define RETRY_MS 1000u
#define TROUBLE_PERIOD_MS 30000u

/* Moves one pending entry to the dead-letter stream and acknowledges it, or does nothing: a script
 * and not MULTI, where a failing XADD would not stop the XACK. The entry's own fields follow those
 * of the dead letter; more of them than Lua can unpack are packed into one. */
static const char bury_script[] =
    "local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)\n"
    "if pending.err then\n"
    "  local code = string.match(pending.err, '^%S+')\n"
    "  if code == 'NOGROUP' or code == 'WRONGTYPE' then return 0 end\n"
    "  return redis.error_reply(pending.err)\n"
    "end\n"
    "if #pending == 0 then return 0 end\n"
    "local letter = {'dead_reason', ARGV[3], 'dead_detail', ARGV[4], 'dead_stream', KEYS[1],\n"
    "  'dead_id', ARGV[2], 'dead_deliveries', pending[1][4]}\n"
    "local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]\n"
    "if entry and #entry[2] <= 4000 then\n"
    "  for _, part in ipairs(entry[2]) do letter[#letter + 1] = part end\n"
    "elseif entry then\n"
    "  letter[#letter + 1] = 'dead_fields_msgpack'\n"
    "  letter[#letter + 1] = cmsgpack.pack(entry[2])\n"
    "end\n"
    "redis.call('XADD', KEYS[2], '*', unpack(letter))\n"
    "redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])\n"
    "return 1\n";

void acks_owe(struct slot *slot, uint32_t index)
{
    struct entry *entry = ledger_entry(&slot->ledger, index);
    struct lane *lane = entry->lane;
    entry->state = ENTRY_SETTLED;
    entry_queue_append(&lane->owed, &slot->ledger, index);
    if (!lane->owes) {
        lane->owes = true;
        lane->next_owing = slot->owing;
        slot->owing = lane;
    }
}

static void report_trouble(struct lane *lane, const char *message, const struct redis_value *reply)
{
    uint64_t held_back;
    if (!log_limit_pass(&lane->trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        return;
    struct bytes text = reply->type == REDIS_ERROR ? reply->text : bytes_of("unexpected reply");
    log_event(&lane->slot->log, LOG_ERROR, message, LOG_BYTES("site", lane->site),
              LOG_TEXT("stream", lane->name), LOG_BYTES("reply", text),
              LOG_INT("repeated", held_back));
}

/* What was sent stays owed and is sent again later. Until then the lane is not read, and what it
 * has waiting in memory is given back: others need the room. */
static void keep_owed(struct lane *lane, const char *message, const struct redis_value *reply)
{
    lane->acking = 0;
    lane->ack_retry_ms = net_now_ms() + RETRY_MS;
    report_trouble(lane, message, reply);
    lane_hold(lane);
}

/* The entries of the answered command leave the ledger. */
static void forget_acked(struct lane *lane)
{
    struct slot *slot = lane->slot;
    trim_note(lane, lane->acking);
    lane->counts.acked += lane->acking;
    for (; lane->acking > 0; lane->acking--) {
        flow_forget(slot, entry_queue_take(&lane->owed, &slot->ledger));
    }
}

static void on_xack(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    if (reply == NULL)
        return; /* acks_rewind has seen to it, or will */
    if (redis_value_is_error(reply, "WRONGTYPE")) {
        report_trouble(lane, "a stream was replaced by another type: nothing of it is pending",
                       reply);
    } else if (reply->type != REDIS_INTEGER) {
        keep_owed(lane, "Redis refused XACK; it stays owed and is sent again", reply);
        return;
    }
    forget_acked(lane);
    lane_go_on(lane);
}

static void on_buried(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    struct slot *slot = lane->slot;
    if (reply == NULL)
        return;
    if (reply->type != REDIS_INTEGER) {
        keep_owed(lane, "Redis refused the dead letter; the entry waits and is tried again", reply);
        return;
    }
    lane->counts.dead_letters += (uint64_t)reply->integer;
    if (reply->integer > 0)
        report_note_buried(slot, ledger_entry(&slot->ledger, lane->owed.first)->fault_reason);
    flow_buried(slot, lane->owed.first);
    forget_acked(lane);
    lane_go_on(lane);
}

static void report_burial(struct lane *lane, const struct entry *entry, const char *id)
{
    uint64_t held_back;
    if (!log_limit_pass(&lane->slot->dead_trouble, net_now_ms(), 1000, &held_back))
        return;
    log_event(&lane->slot->log, LOG_WARNING, "entry goes to the dead-letter stream",
              LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name), LOG_TEXT("id", id),
              LOG_TEXT("reason", entry->fault_reason), LOG_TEXT("detail", entry->fault_detail),
              LOG_TEXT("dead_letters", lane->dead_stream), LOG_INT("repeated", held_back));
}

static void send_burial(struct lane *lane)
{
    struct slot *slot = lane->slot;
    const struct entry *entry = ledger_entry(&slot->ledger, lane->owed.first);
    char id[STREAM_ID_TEXT];
    stream_id_format(entry->id, id);
    report_burial(lane, entry, id);
    struct bytes arguments[] = {bytes_of("EVAL"),
                                bytes_of(bury_script),
                                bytes_of("2"),
                                lane_name(lane),
                                bytes_of(lane->dead_stream),
                                bytes_of(slot->setting.config->redis.group),
                                bytes_of(id),
                                bytes_of(entry->fault_reason),
                                bytes_of(entry->fault_detail)};
    lane->acking = 1;
    redis_link_command(slot->write_link, arguments, sizeof arguments / sizeof *arguments, on_buried,
                       lane);
}

static void send_xack(struct lane *lane)
{
    struct slot *slot = lane->slot;
    char ids[IDS_MAX][STREAM_ID_TEXT];
    struct bytes arguments[IDS_MAX + 3];
    arguments[0] = bytes_of("XACK");
    arguments[1] = lane_name(lane);
    arguments[2] = bytes_of(slot->setting.config->redis.group);
    uint32_t count = 0;
    for (uint32_t index = lane->owed.first; index != ENTRY_NONE && count < IDS_MAX; count++) {
        const struct entry *entry = ledger_entry(&slot->ledger, index);
        if (entry->fault_reason != NULL)
            break;
        size_t length = stream_id_format(entry->id, ids[count]);
        arguments[count + 3] = (struct bytes){(const uint8_t *)ids[count], length};
        index = entry->next;
    }
    lane->acking = count;
    redis_link_command(slot->write_link, arguments, count + 3, on_xack, lane);
}

void acks_flush(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    if (!slot->write_fenced)
        return;
    struct lane **link = &slot->owing;
    while (*link != NULL) {
        struct lane *lane = *link;
        if (lane->owed.count == 0) {
            lane->owes = false;
            *link = lane->next_owing;
            continue;
        }
        if (lane->acking == 0 && (lane->ack_retry_ms == 0 || net_now_ms() >= lane->ack_retry_ms)) {
            lane->ack_retry_ms = 0;
            if (ledger_entry(&slot->ledger, lane->owed.first)->fault_reason != NULL)
                send_burial(lane);
            else
                send_xack(lane);
        }
        link = &lane->next_owing;
    }
}

void acks_rewind(struct slot *slot)
{
    for (struct lane *lane = slot->owing; lane != NULL; lane = lane->next_owing)
        lane->acking = 0;
}

bool acks_idle(const struct slot *slot)
{
    for (const struct lane *lane = slot->owing; lane != NULL; lane = lane->next_owing)
        if (lane->owed.count > 0)
            return false;
    return true;
}
