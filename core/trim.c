/*
 * Trimming: removes from a stream what every consumer group has acknowledged, or has passed over.
 * One script decides and removes, so that nothing can be delivered in between. A stream is looked
 * at when it begins and some time after acknowledgements, never for each of them; the scripts of
 * all slots together are so few that Redis does not notice them. It never stops the carrying.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* A stream is due after so many acknowledgements, or when the first of them is waits_ms[0] old. It
 * waits longer each time that another group leaves nothing to remove, or Redis refuses. */
#define ACKED_MAX 1000u
static const uint32_t waits_ms[TRIM_WAITS] = {2000, 4000, 8000, 15000, 30000, 60000};

/* Of all slots together, on whatever instance; a script takes Redis 20 to 50 us. What has not been
 * used is there for BURST_MS: an idle slot turns that seldom. */
#define SCRIPTS_PER_S 500u
#define BURST_MS 500u
#define AFTER_ERROR_MS 1000u

/* Entries that one script removes: a third of a millisecond, some ten with large entries. */
#define STEP "1000"

#define DAY_MS 86400000u
#define HOUR_MS 3600000u

/* Answers how many were removed, whether there is more, and, where another group than ours (ARGV 1)
 * keeps entries that ours has done with: 1, its name, how many are pending for it, and the id of
 * the oldest of them if that is from before ARGV 3, else "".
 *
 * The lowest id that is kept is the least of all groups' first pending ids or, where a group has
 * none, of what follows its last delivered one. Halves of ids may exceed what Lua's numbers hold:
 * they are compared as digits, and one that cannot be counted up stays. Without our group nothing
 * is removed: it will be made again, and carry what is left.
 *
 * MINID with ~ removes whole nodes of the stream, as many as LIMIT allows; where it has removed
 * less than half of that, less than a node is left to be removed exactly. Redis before 6.2 has no
 * MINID: there entries are deleted one by one, few at a time, for they must be read for that. */
static const char trim_script[] =
    "local function order(id)\n"
    "  local ms, seq = string.match(id, '^(%d+)-(%d+)$')\n"
    "  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq\n"
    "end\n"
    "local function after(id)\n"
    "  local ms, seq = string.match(id, '^(%d+)-(%d+)$')\n"
    "  return #seq > 15 and id or ms .. '-' .. string.format('%d', seq + 1)\n"
    "end\n"
    "local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])\n"
    "if groups.err then\n"
    "  if string.find(groups.err, '^WRONGTYPE') or string.find(groups.err, 'no such key') then\n"
    "    return {0, 0, 0}\n"
    "  end\n"
    "  return redis.error_reply(groups.err)\n"
    "end\n"
    "local own, low, holder\n"
    "for _, flat in ipairs(groups) do\n"
    "  local group = {}\n"
    "  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end\n"
    "  if group.pending > 0 then\n"
    "    group.low = redis.call('XPENDING', KEYS[1], group.name, '-', '+', 1)[1][1]\n"
    "  else\n"
    "    group.low = after(group['last-delivered-id'])\n"
    "  end\n"
    "  group.order = order(group.low)\n"
    "  if group.name == ARGV[1] then own = group end\n"
    "  if not holder or group.order < holder.order then holder = group end\n"
    "end\n"
    "if not own then return {0, 0, 0} end\n"
    "if own.order == holder.order then holder = own end\n"
    "local removed = redis.pcall('XTRIM', KEYS[1], 'MINID', '~', holder.low, 'LIMIT', ARGV[2])\n"
    "if type(removed) == 'table' then\n"
    "  if not string.find(removed.err, 'syntax error') then return removed end\n"
    "  removed = 0\n"
    "  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', holder.low, 'COUNT', 50)) do\n"
    "    if order(entry[1]) >= holder.order then break end\n"
    "    removed = removed + redis.call('XDEL', KEYS[1], entry[1])\n"
    "  end\n"
    "  if removed == 50 then return {removed, 1, 0} end\n"
    "else\n"
    "  if removed * 2 >= tonumber(ARGV[2]) then return {removed, 1, 0} end\n"
    "  removed = removed + redis.call('XTRIM', KEYS[1], 'MINID', holder.low)\n"
    "end\n"
    "if holder == own then return {removed, 0, 0} end\n"
    "local oldest = redis.call('XRANGE', KEYS[1], holder.low, '+', 'COUNT', 1)[1]\n"
    "if not oldest or order(oldest[1]) >= own.order then return {removed, 0, 0} end\n"
    "local old = order(oldest[1]) < order(ARGV[3] .. '-0')\n"
    "return {removed, 0, 1, holder.name, holder.pending, old and oldest[1] or ''}\n";

/* ---- lists --------------------------------------------------------------------------------- */

static void list_append(struct trim_list *list, struct lane *lane)
{
    assert(lane->trim.list == NULL);
    lane->trim.list = list;
    lane->trim.next = NULL;
    lane->trim.previous = list->last;
    if (list->last != NULL)
        list->last->trim.next = lane;
    else
        list->first = lane;
    list->last = lane;
}

static void list_remove(struct lane *lane)
{
    struct trim_list *list = lane->trim.list;
    struct lane *next = lane->trim.next, *previous = lane->trim.previous;
    if (previous != NULL)
        previous->trim.next = next;
    else
        list->first = next;
    if (next != NULL)
        next->trim.previous = previous;
    else
        list->last = previous;
    lane->trim.list = NULL;
}

/* ---- when ---------------------------------------------------------------------------------- */

/* Each list of waiting lanes has one length of wait, so that its first is the first to be due. */
static void wait_for_turn(struct lane *lane)
{
    struct slot_trim *trim = &lane->slot->trim;
    lane->trim.due_ms = net_now_ms() + waits_ms[lane->trim.patience];
    list_append(&trim->waiting[lane->trim.patience], lane);
}

static void wait_longer(struct lane *lane)
{
    if (lane->trim.patience < TRIM_WAITS - 1)
        lane->trim.patience++;
    wait_for_turn(lane);
}

void trim_note(struct lane *lane, uint32_t acked)
{
    struct slot_trim *trim = &lane->slot->trim;
    if (lane->slot->setting.config->delivery.trim == CONFIG_TRIM_NONE)
        return;
    lane->trim.acked += acked;
    if (trim->sent == lane)
        return; /* its answer looks at acked */
    if (lane->trim.list == NULL)
        wait_for_turn(lane);
    if (lane->trim.list == &trim->waiting[0] && lane->trim.acked >= ACKED_MAX) {
        list_remove(lane);
        list_append(&trim->full, lane);
    }
}

static struct lane *first_due(const struct slot_trim *trim, uint64_t now_ms)
{
    struct lane *due = NULL;
    if (trim->full.first != NULL)
        return trim->full.first;
    for (size_t i = 0; i < TRIM_WAITS; i++) {
        struct lane *lane = trim->waiting[i].first;
        if (lane != NULL && (due == NULL || lane->trim.due_ms < due->trim.due_ms))
            due = lane;
    }
    return due != NULL && due->trim.due_ms <= now_ms ? due : NULL;
}

static void pay(struct slot *slot)
{
    struct slot_trim *trim = &slot->trim;
    uint64_t now = net_now_ms();
    if (trim->next_ms + BURST_MS < now)
        trim->next_ms = now - BURST_MS;
    trim->next_ms += slot->setting.config->slots * 1000u / SCRIPTS_PER_S;
}

/* ---- the answer ---------------------------------------------------------------------------- */

struct outcome {
    int64_t removed;
    int64_t more;
    int64_t held; /* by another group; the rest says which */
    struct bytes group;
    int64_t pending;
    struct bytes oldest; /* empty: it is not old */
};

static bool read_outcome(const struct redis_value *reply, struct outcome *outcome)
{
    *outcome = (struct outcome){0};
    int64_t *numbers[] = {
        &outcome->removed, &outcome->more, &outcome->held, NULL, &outcome->pending, NULL};
    struct bytes *texts[] = {NULL, NULL, NULL, &outcome->group, NULL, &outcome->oldest};
    if (reply->type != REDIS_ARRAY || (reply->count != 3 && reply->count != 6))
        return false;
    const struct redis_value *value = reply->element;
    for (size_t i = 0; value != NULL; value = value->next, i++) {
        if (value->type != (numbers[i] != NULL ? REDIS_INTEGER : REDIS_STRING))
            return false;
        if (numbers[i] != NULL)
            *numbers[i] = value->integer;
        else
            *texts[i] = value->text;
    }
    return true;
}

static void report_refusal(struct lane *lane, const struct redis_value *reply)
{
    struct slot *slot = lane->slot;
    uint64_t held_back;
    if (!log_limit_pass(&slot->trim.trouble, net_now_ms(), HOUR_MS, &held_back))
        return;
    struct bytes text = reply->type == REDIS_ERROR ? reply->text : bytes_of("unexpected reply");
    log_event(&slot->log, LOG_WARNING,
              "Redis refused to trim a stream: it keeps what has been acknowledged, and is tried "
              "again; or set delivery.trim: none",
              LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name),
              LOG_BYTES("reply", text),
              LOG_TEXT("grant", "+eval +xinfo|groups +xpending +xrange +xtrim"),
              LOG_INT("repeated", held_back));
}

static void report_holder(struct lane *lane, const struct outcome *outcome)
{
    uint64_t held_back;
    struct stream_id oldest;
    if (outcome->oldest.length == 0 || stream_id_parse(outcome->oldest, &oldest) != STATUS_OK ||
        !log_limit_pass(&lane->trim.held, net_now_ms(), HOUR_MS, &held_back))
        return;
    uint64_t now = lease_redis_time(lane->slot->lease, net_now_ms());
    log_event(&lane->slot->log, LOG_WARNING,
              "a consumer group has not acknowledged an entry for more than a day, so that the "
              "stream cannot be trimmed: let it read on, or remove it with XGROUP DESTROY",
              LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name),
              LOG_BYTES("group", outcome->group), LOG_BYTES("id", outcome->oldest),
              LOG_INT("pending", outcome->pending),
              LOG_INT("age_hours", (now - oldest.ms) / HOUR_MS));
}

static void on_trimmed(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    struct slot_trim *trim = &lane->slot->trim;
    struct outcome outcome;
    if (reply == NULL) {
        trim_forget(lane->slot);
        return;
    }
    trim->sent = NULL;
    if (!read_outcome(reply, &outcome)) {
        report_refusal(lane, reply);
        trim->next_ms = net_now_ms() + AFTER_ERROR_MS;
        wait_longer(lane);
        return;
    }
    if (outcome.more != 0) {
        list_append(&trim->full, lane); /* unpaid: what it removes is no look in vain */
        return;
    }
    pay(lane->slot);
    if (outcome.held != 0)
        report_holder(lane, &outcome);
    if (outcome.held != 0 && outcome.removed == 0) {
        wait_longer(lane);
        return;
    }
    lane->trim.patience = 0;
    if (outcome.held != 0 || lane->trim.acked > 0)
        trim_note(lane, 0);
}

/* ---- asking -------------------------------------------------------------------------------- */

static void send_trim(struct lane *lane)
{
    struct slot *slot = lane->slot;
    uint64_t now = lease_redis_time(slot->lease, net_now_ms());
    char day_ago[24];
    snprintf(day_ago, sizeof day_ago, "%" PRIu64, now > DAY_MS ? now - DAY_MS : 0);
    struct bytes arguments[] = {bytes_of("EVAL"),
                                bytes_of(trim_script),
                                bytes_of("1"),
                                lane_name(lane),
                                bytes_of(slot->setting.config->redis.group),
                                bytes_of(STEP),
                                bytes_of(day_ago)};
    slot->trim.sent = lane;
    lane->trim.acked = 0;
    redis_link_command(slot->write_link, arguments, sizeof arguments / sizeof *arguments,
                       on_trimmed, lane);
}

void trim_turn(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    struct slot_trim *trim = &slot->trim;
    if (!slot->write_fenced || trim->sent != NULL)
        return;
    uint64_t now_ms = net_now_ms();
    struct lane *lane = first_due(trim, now_ms);
    if (lane == NULL || now_ms < trim->next_ms)
        return;
    list_remove(lane);
    send_trim(lane);
}

void trim_forget(struct slot *slot)
{
    struct lane *lane = slot->trim.sent;
    slot->trim.sent = NULL;
    if (lane != NULL)
        list_append(&slot->trim.full, lane);
}
