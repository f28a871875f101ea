/*
 * What a slot reads and when. A read names lanes and reserves room for COUNT entries of each until
 * its reply, so that nothing is ever read without a place for it. Lanes whose last read was full
 * are hot: two reads of them are outstanding and none blocks. At the others the slot looks again
 * and again, all in turn; when nothing comes one read of all of them is parked in Redis, so that a
 * new entry comes at once.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT_MAX 256u
/* Of so many hot lanes that each could have less, fewer are read at a time: naming a lane for every
 * entry costs Redis and us as much again as the entry does. */
#define COUNT_MIN_HOT 4u
#define BLOCK_MS 1000u
/* Where a parked read cannot name every lane it is cut short, so that the others get their turn. */
#define BLOCK_PART_MS 50u
#define BLOCK_BESIDE_HOT_MS 5u

/* To name a stream costs Redis one or two microseconds, and twice that in a read that is parked,
 * whether there is an entry or not. All slots together may use an eighth or so of its time for
 * that: a slot that has looked at many lanes waits before it looks again, and parks a read only
 * when it has looked at all of them a few times in vain. */
#define LOOK_US_PER_LANE 10u
#define LOOK_MIN_US 2000u /* what is less is not waited for, but beside hot lanes */
#define LOOK_IN_VAIN 2u
/* So many times slower when nothing comes and not all lanes can be named. */
#define LOOK_QUIET 4u
#define LOOK_COUNT_MAX 4u

struct bytes *slot_arguments(struct slot *slot, size_t count)
{
    if (count > slot->argument_capacity) {
        struct bytes *more = realloc(slot->arguments, count * 2 * sizeof *more);
        if (more == NULL)
            return NULL;
        slot->arguments = more;
        slot->argument_capacity = count * 2;
    }
    return slot->arguments;
}

size_t reading_room(const struct outlet *outlet)
{
    size_t taken = outlet->used + outlet->reserved;
    size_t credits = taken < outlet->credits ? outlet->credits - taken : 0;
    size_t free_bytes = outlet->bytes < outlet->bytes_max ? outlet->bytes_max - outlet->bytes : 0;
    size_t fit = free_bytes / (outlet->entry_bytes + 64);
    fit = fit > outlet->reserved ? fit - outlet->reserved : 0;
    if (fit == 0 && outlet->bytes == 0 && outlet->reserved == 0)
        fit = 1; /* an entry of any size must get through */
    return fit < credits ? fit : credits;
}

/* The op is the next to be answered. */
static void await_entries(struct read_op *op)
{
    for (size_t i = 0; i < op->lane_count; i++)
        op->lanes[i]->received = 0;
}

void reading_expect(struct slot *slot, struct read_op *op, bool blocking)
{
    ASSERT_ON_SHARD(slot);
    assert(!op->busy);
    op->busy = true;
    op->blocking = blocking;
    op->position = 0;
    op->next = NULL;
    *slot->ops_last = op;
    slot->ops_last = &op->next;
    for (size_t i = 0; i < op->lane_count; i++)
        op->lanes[i]->outlet->reserved += op->per_lane;
    if (slot->ops_first == op)
        await_entries(op);
}

static void release_room(struct read_op *op)
{
    op->busy = false;
    for (size_t i = 0; i < op->lane_count; i++)
        op->lanes[i]->outlet->reserved -= op->per_lane;
}

void reading_answered(struct slot *slot, struct read_op *op)
{
    assert(slot->ops_first == op);
    slot->ops_first = op->next;
    if (slot->ops_first == NULL)
        slot->ops_last = &slot->ops_first;
    release_room(op);
    if (slot->ops_first != NULL)
        await_entries(slot->ops_first);
}

void reading_forget(struct slot *slot)
{
    for (struct read_op *op = slot->ops_first; op != NULL; op = op->next)
        release_room(op);
    slot->ops_first = NULL;
    slot->ops_last = &slot->ops_first;
    slot->waking = false;
}

/* ---- entries as they come ----------------------------------------------------------------- */

static void on_stream(void *context, struct bytes name)
{
    struct slot *slot = context;
    struct read_op *op = slot->ops_first;
    /* Redis answers the streams in the order in which they were named, without those that are
     * empty. */
    while (op->position < op->lane_count && !bytes_equal(lane_name(op->lanes[op->position]), name))
        op->position++;
    if (op->position == op->lane_count)
        redis_link_fail(slot->read_link, "Redis answered a stream that was not asked for");
}

static void on_entry(void *context, const struct redis_entry *entry)
{
    struct slot *slot = context;
    struct read_op *op = slot->ops_first;
    if (op->position >= op->lane_count)
        return;
    struct lane *lane = op->lanes[op->position];
    if (lane->received++ == op->per_lane) {
        redis_link_fail(slot->read_link, "Redis answered more entries than were asked for");
        op->position = op->lane_count;
        return;
    }
    /* What is not taken stays pending: for the next owner once reading has ended, for the history
     * where the lane has to read it first. */
    enum lane_state reads = op->history ? LANE_HISTORY : LANE_LIVE;
    if (slot->state != SLOT_HELD || lane->state != reads || lane->cut)
        return;
    if ((op->history && lane_was_alive(lane, entry->id)) || flow_take(lane, entry)) {
        lane->last = entry->id;
        return;
    }
    lane->cut = true;
    if (!op->history)
        lane_read_again(lane);
}

const struct redis_stream_sink reading_sink = {on_stream, on_entry};

/* ---- choosing ----------------------------------------------------------------------------- */

/* Under load a lane waits until a good part of what is read ahead has been sent: many small reads
 * cost more. Room that a history waits for is left to it. */
static bool worth_reading(const struct outlet *outlet)
{
    return !outlet->wanted &&
           outlet->used + outlet->reserved <= outlet->credits - outlet->ahead * 3 / 8 &&
           outlet->bytes <= outlet->bytes_max - outlet->bytes_max / 4 && reading_room(outlet) > 0;
}

/* How many entries the next read may ask of an outlet. A read of hot lanes leaves half of the room
 * to the one behind it, and some to the lanes that are not hot. */
static size_t budget_of(const struct outlet *outlet, bool hot)
{
    size_t room = reading_room(outlet);
    if (!hot)
        return room;
    if (!worth_reading(outlet))
        return 0;
    size_t kept = room / 2 < outlet->credits / 8 ? room / 2 : outlet->credits / 8;
    return (room - kept + 1) / 2;
}

/* Sets the budgets; returns the least of those that are not 0, or 0. */
static size_t set_budgets(struct slot *slot, bool hot)
{
    size_t least = 0;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++) {
        struct outlet *outlet = &slot->outlets[i];
        outlet->budget = outlet->pool == NULL ? 0 : budget_of(outlet, hot);
        if (outlet->budget > 0 && (least == 0 || outlet->budget < least))
            least = outlet->budget;
    }
    return least;
}

static bool is_budget_left(const struct slot *slot, size_t count)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        if (slot->outlets[i].budget >= count)
            return true;
    return false;
}

/* COUNT of a read of lanes of the rotation, by the budgets that it sets. */
static unsigned count_for(struct slot *slot, const struct rotation *from, unsigned most,
                          size_t lanes)
{
    bool hot = from == &slot->hot;
    size_t budget = set_budgets(slot, hot);
    size_t least = hot && budget >= COUNT_MIN_HOT ? COUNT_MIN_HOT : 1;
    size_t share = budget / (from->count < lanes ? from->count : lanes);
    return share > most ? most : share < least ? (unsigned)least : (unsigned)share;
}

/* Chooses lanes of the rotation, most at most, as far as there is room for per_lane_max or less of
 * each; false: there is none. Those without room keep their place at its beginning. */
static bool choose(struct slot *slot, struct read_op *op, struct rotation *from,
                   unsigned per_lane_max, size_t most)
{
    op->from = from;
    op->lane_count = 0;
    if (from->count == 0)
        return false;
    op->per_lane = count_for(slot, from, per_lane_max, most);
    struct turn *turn = from->first;
    for (size_t i = from->count; i > 0 && op->lane_count < most; i--) {
        struct turn *next = turn->next;
        struct outlet *outlet = turn->lane->outlet;
        if (outlet->budget >= op->per_lane) {
            outlet->budget -= op->per_lane;
            op->lanes[op->lane_count++] = turn->lane;
            rotation_put(from, turn);
        } else if (!is_budget_left(slot, op->per_lane)) {
            break;
        }
        turn = next;
    }
    return op->lane_count > 0;
}

void reading_join(struct lane *lane)
{
    rotation_put(&lane->slot->hot, &lane->turn);
}

void reading_leave(struct lane *lane)
{
    rotation_leave(&lane->turn);
}

/* ---- asking ------------------------------------------------------------------------------- */

/* How long to wait behind a look at so many lanes. */
static uint64_t pace_us(const struct slot *slot, size_t lanes)
{
    return (uint64_t)lanes * slot->setting.config->slots * LOOK_US_PER_LANE;
}

static void begin_again(struct lane *lane)
{
    lane_leave_settings(lane);
    reading_leave(lane);
    lane->state = LANE_NEW;
    lane->slot->lanes_waiting = true;
}

/* An error of Redis names no lane, and nothing has been delivered: the guilty one is looked for by
 * reads of half as many lanes, and begins again by itself. */
static void suspect(struct slot *slot, const struct read_op *op)
{
    size_t part = op->lane_count / 2;
    if (slot->suspects.count == 0 || part < slot->suspect_part)
        slot->suspect_part = part;
    for (size_t i = 0; i < op->lane_count; i++)
        if (op->lanes[i]->state == LANE_LIVE) {
            if (op->lane_count == 1)
                begin_again(op->lanes[i]);
            else
                rotation_put(&slot->suspects, &op->lanes[i]->turn);
        }
    if (slot->suspect_part == 0)
        slot->suspect_part = 1;
}

/* A parked read that has lasted long enough before an entry came was worth its cost. */
static void note_look(struct slot *slot, const struct read_op *op, size_t entries)
{
    uint64_t now = net_now_us();
    if (entries == 0)
        slot->vain += op->lane_count;
    else if (!op->blocking ||
             now - slot->look_sent_us < LOOK_IN_VAIN * pace_us(slot, op->lane_count))
        slot->vain = 0;
    slot->looked_us = now;
    slot->looked_lanes = op->lane_count;
}

static void on_read(void *context, const struct redis_value *reply)
{
    struct slot *slot = context;
    struct read_op *op = slot->ops_first;
    bool failed = reply != NULL && reply->type == REDIS_ERROR;
    reading_answered(slot, op);
    if (reply == NULL)
        return;
    if (op->from == &slot->cold)
        note_look(slot, op, reply->type == REDIS_ARRAY ? reply->count : 0);
    if (failed) {
        suspect(slot, op);
        return;
    }
    if (op->from == &slot->suspects)
        slot->suspect_part = op->lane_count * 2;
    for (size_t i = 0; i < op->lane_count; i++) {
        struct lane *lane = op->lanes[i];
        struct rotation *to = lane->received >= op->per_lane ? &slot->hot : &slot->cold;
        if (lane->state == LANE_LIVE && lane->turn.in != to)
            rotation_put(to, &lane->turn);
    }
}

static bool grow_lanes(struct slot *slot, struct read_op *op)
{
    if (op->lane_capacity >= slot->lane_count)
        return true;
    struct lane **more = realloc(op->lanes, slot->lane_capacity * sizeof(struct lane *));
    if (more == NULL)
        return false;
    op->lanes = more;
    op->lane_capacity = slot->lane_capacity;
    return true;
}

static void send_read(struct slot *slot, struct read_op *op, uint32_t block_ms)
{
    char count[16], block[16];
    snprintf(count, sizeof count, "%u", op->per_lane);
    snprintf(block, sizeof block, "%u", block_ms);
    struct bytes *arguments = slot_arguments(slot, 10 + 2 * op->lane_count);
    if (arguments == NULL)
        return;
    const char *const words[] = {"XREADGROUP",   "GROUP", slot->setting.config->redis.group,
                                 slot->consumer, "COUNT", count,
                                 "BLOCK",        block};
    size_t n = 0;
    for (size_t i = 0; i < (block_ms > 0 ? 8u : 6u); i++)
        arguments[n++] = bytes_of(words[i]);
    arguments[n++] = bytes_of("STREAMS");
    for (size_t i = 0; i < op->lane_count; i++)
        arguments[n++] = lane_name(op->lanes[i]);
    for (size_t i = 0; i < op->lane_count; i++)
        arguments[n++] = bytes_of(">");
    reading_expect(slot, op, block_ms > 0);
    if (op->from == &slot->cold) {
        slot->look_sent_us = net_now_us();
        slot->looked_all = op->lane_count == slot->cold.count;
    }
    redis_link_read(slot->read_link, arguments, n, block_ms, on_read, slot);
}

/* ---- when --------------------------------------------------------------------------------- */

/* So many lanes that they are looked at a few times before a read is parked. */
static bool are_many(const struct slot *slot, size_t lanes)
{
    return pace_us(slot, lanes) > LOOK_MIN_US;
}

static bool is_quiet(const struct slot *slot)
{
    return slot->vain >= LOOK_IN_VAIN * slot->cold.count;
}

static bool all_are_cold(const struct slot *slot)
{
    return slot->hot.count + slot->suspects.count == 0;
}

/* When to look next. */
static uint64_t look_due_us(const struct slot *slot, bool beside_hot)
{
    uint64_t pace = pace_us(slot, slot->looked_lanes);
    if (beside_hot)
        return slot->looked_us + (pace > LOOK_MIN_US ? pace : LOOK_MIN_US);
    if (!are_many(slot, slot->cold.count))
        return 0;
    if (!is_quiet(slot))
        return slot->looked_us + pace;
    return slot->looked_all && all_are_cold(slot) ? 0 : slot->looked_us + LOOK_QUIET * pace;
}

static bool read_hot(struct slot *slot, struct read_op *op)
{
    if (!choose(slot, op, &slot->hot, COUNT_MAX, slot->hot.count))
        return false;
    send_read(slot, op, 0);
    return true;
}

static bool read_suspects(struct slot *slot, struct read_op *op)
{
    if (!choose(slot, op, &slot->suspects, 1, slot->suspect_part))
        return false;
    send_read(slot, op, 0);
    return true;
}

/* A look that is due while hot lanes are read: it goes before them. */
static bool look_beside_hot(struct slot *slot, struct read_op *op)
{
    if (slot->hot.count == 0 || slot->cold.count == 0 || net_now_us() < look_due_us(slot, true) ||
        !choose(slot, op, &slot->cold, LOOK_COUNT_MAX, slot->cold.count))
        return false;
    send_read(slot, op, 0);
    return true;
}

/* Some broker is connected and works through what there is: its hot lanes will soon have room. */
static bool is_moving(const struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        if (slot->outlets[i].started && !worth_reading(&slot->outlets[i]) &&
            mqtt_pool_all_ready(slot->outlets[i].pool))
            return true;
    return false;
}

static uint32_t block_ms(const struct slot *slot, const struct read_op *op)
{
    bool all = all_are_cold(slot) && op->lane_count == slot->cold.count;
    if (are_many(slot, slot->cold.count))
        return all && is_quiet(slot) ? BLOCK_MS : 0;
    /* Hot lanes can only be read when it is over. */
    return all                                      ? BLOCK_MS
           : slot->hot.count > 0 && is_moving(slot) ? BLOCK_BESIDE_HOT_MS
                                                    : BLOCK_PART_MS;
}

/* Nothing is outstanding, and no hot lane has room: looks at the others, or parks a read of them.
 */
static bool rest(struct slot *slot, struct read_op *op)
{
    if (slot->cold.count == 0)
        return false;
    uint64_t now = net_now_us(), due = look_due_us(slot, false);
    if (now < due) {
        struct timeval wait = {(time_t)((due - now) / 1000000),
                               (suseconds_t)((due - now) % 1000000)};
        if (!event_pending(slot->look, EV_TIMEOUT, NULL))
            event_add(slot->look, &wait);
        return false;
    }
    if (!choose(slot, op, &slot->cold, COUNT_MAX, slot->cold.count))
        return false;
    send_read(slot, op, block_ms(slot, op));
    return true;
}

static bool read_more(struct slot *slot)
{
    struct read_op *look = &slot->look_read;
    if (look->busy && look->blocking)
        return false;
    if (!look->busy && grow_lanes(slot, look) &&
        (read_suspects(slot, look) || look_beside_hot(slot, look)))
        return true;
    struct read_op *hot = slot->hot_reads[0].busy ? &slot->hot_reads[1] : &slot->hot_reads[0];
    if (!hot->busy && grow_lanes(slot, hot) && read_hot(slot, hot))
        return true;
    bool idle = !look->busy && !slot->hot_reads[0].busy && !slot->hot_reads[1].busy;
    return idle && rest(slot, look);
}

/* Lanes that are to begin, to go on with their history, or to be tried again. */
static void serve_waiting(struct slot *slot)
{
    uint64_t now = net_now_ms();
    bool begun = false;
    slot->lanes_waiting = false;
    slot->quarantine_due_ms = 0;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        slot->outlets[i].wanted = false;
    for (size_t i = 0; i < slot->lane_count; i++) {
        struct lane *lane = slot->lanes[i];
        if (lane->state == LANE_QUARANTINED && now >= lane->retry_ms)
            lane->state = LANE_NEW;
        else if (lane->state == LANE_QUARANTINED)
            lane_quarantine(lane, lane->retry_ms);
        if (lane->state == LANE_NEW) {
            lane_begin(lane);
            begun = true;
        } else if (lane->state == LANE_HISTORY && !lane->history.busy && !lane_read_history(lane)) {
            lane->outlet->wanted = true;
            slot->lanes_waiting = true;
        }
    }
    if (begun)
        reading_wake(slot); /* their commands wait behind it */
}

void reading_begin(struct slot *slot)
{
    for (size_t i = 0; i < slot->lane_count; i++) {
        begin_again(slot->lanes[i]);
        slot->lanes[i]->cut = false;
    }
    slot->lanes_waiting = true;
    slot->vain = 0;
}

void reading_refill(struct slot *slot)
{
    if (!slot->read_fenced)
        return;
    if (slot->lanes_waiting)
        serve_waiting(slot);
    while (read_more(slot))
        continue;
}

/* The end of the turn reads. */
void reading_on_look(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

static void on_woken(void *context, const struct redis_value *reply)
{
    (void)reply;
    struct slot *slot = context;
    slot->waking = false;
}

void reading_wake(struct slot *slot)
{
    bool parked = slot->look_read.busy && slot->look_read.blocking;
    if (!parked || slot->waking || !redis_link_is_ready(slot->write_link))
        return;
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)redis_link_client_id(slot->read_link));
    struct bytes arguments[] = {bytes_of("CLIENT"), bytes_of("UNBLOCK"), bytes_of(id)};
    slot->waking = true;
    redis_link_command(slot->write_link, arguments, 3, on_woken, slot);
    redis_link_flush(slot->write_link);
}
