/*
 * What a slot reads and when. A read names lanes and reserves room for COUNT entries of each until
 * its reply, so that nothing is ever read without a place for it. While a lane is hot (its last
 * reply was full) two reads are outstanding and none blocks; when all are cold one read of all
 * lanes is parked in Redis, so that a new entry comes at once.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT_MAX 256u
#define BLOCK_MS 1000u
/* Where a parked read cannot name every lane it is cut short, so that the others get their turn. */
#define BLOCK_PART_MS 50u
#define BLOCK_BESIDE_HOT_MS 5u
/* Every so many reads of hot lanes all lanes are read. */
#define SWEEP_EVERY 4u

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
    while (op->position < op->lane_count &&
           !bytes_equal(bytes_of(op->lanes[op->position]->name), name))
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

/* ---- asking ------------------------------------------------------------------------------- */

static void begin_again(struct read_op *op)
{
    for (size_t i = 0; i < op->lane_count; i++) {
        struct lane *lane = op->lanes[i];
        if (lane->state != LANE_LIVE)
            continue;
        lane->state = LANE_NEW;
        lane_set_hot(lane, false);
        lane->slot->lanes_waiting = true;
    }
}

static void on_read(void *context, const struct redis_value *reply)
{
    struct slot *slot = context;
    struct read_op *op = slot->ops_first;
    if (reply != NULL && reply->type != REDIS_ERROR)
        for (size_t i = 0; i < op->lane_count; i++)
            if (op->lanes[i]->state == LANE_LIVE)
                lane_set_hot(op->lanes[i], op->lanes[i]->received >= op->per_lane);
    reading_answered(slot, op);
    /* An error names no lane: each begins again by itself, and the guilty one is found by its own
     * commands while its neighbours go on. */
    if (reply != NULL && reply->type == REDIS_ERROR)
        begin_again(op);
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

enum choice { CHOOSE_HOT, CHOOSE_COLD, CHOOSE_ALL };

/* Under load a lane waits until a good part of its outlet's room is free: many small reads cost
 * more. Room that a history waits for is left to it. */
static bool worth_reading(const struct outlet *outlet)
{
    return !outlet->wanted &&
           outlet->used + outlet->reserved <= outlet->credits - outlet->credits / 4 &&
           outlet->bytes <= outlet->bytes_max - outlet->bytes_max / 4 && reading_room(outlet) > 0;
}

static bool may_read(const struct outlet *outlet, bool hot)
{
    return hot ? worth_reading(outlet) : reading_room(outlet) > 0;
}

/* The room of the outlet that has least of it, among those that may be read. */
static size_t least_room(const struct slot *slot, enum choice choice)
{
    size_t least = COUNT_MAX * slot->lane_count * 4;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++) {
        const struct outlet *outlet = &slot->outlets[i];
        if (outlet->pool == NULL || !may_read(outlet, choice == CHOOSE_HOT))
            continue;
        size_t room = reading_room(outlet);
        least = room < least ? room : least;
    }
    return least;
}

static bool is_chosen(const struct lane *lane, enum choice choice, size_t count)
{
    if (lane->state != LANE_LIVE || (lane->hot && choice == CHOOSE_COLD) ||
        (!lane->hot && choice == CHOOSE_HOT))
        return false;
    return may_read(lane->outlet, lane->hot) && reading_room(lane->outlet) >= count;
}

/* Chooses the lanes of a read, from the rotation on; false when none has room. */
static bool choose_lanes(struct slot *slot, struct read_op *op, enum choice choice)
{
    size_t candidates = choice == CHOOSE_HOT ? slot->hot_lanes : slot->lane_count;
    size_t share = least_room(slot, choice) / (candidates * (slot->hot_lanes > 0 ? 2 : 1) + 1);
    size_t first = slot->rotation, last = first;
    op->per_lane = share > COUNT_MAX ? COUNT_MAX : share < 1 ? 1 : (unsigned)share;
    op->lane_count = 0;
    for (size_t i = 0; i < slot->lane_count; i++) {
        struct lane *lane = slot->lanes[(first + i) % slot->lane_count];
        if (!is_chosen(lane, choice, op->per_lane))
            continue;
        lane->outlet->reserved += op->per_lane; /* for the lanes chosen after it */
        op->lanes[op->lane_count++] = lane;
        last = first + i;
    }
    for (size_t i = 0; i < op->lane_count; i++)
        op->lanes[i]->outlet->reserved -= op->per_lane;
    /* The next read begins behind the last lane that found room in this one. */
    slot->rotation = (last + 1) % slot->lane_count;
    return op->lane_count > 0;
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
        arguments[n++] = bytes_of(op->lanes[i]->name);
    for (size_t i = 0; i < op->lane_count; i++)
        arguments[n++] = bytes_of(">");
    reading_expect(slot, op, block_ms > 0);
    redis_link_read(slot->read_link, arguments, n, block_ms, on_read, slot);
}

/* Reads the hot lanes that have room, and every few times all lanes beside them. */
static bool read_hot(struct slot *slot, struct read_op *op)
{
    if (slot->hot_lanes == 0 || !choose_lanes(slot, op, CHOOSE_HOT))
        return false;
    if (++slot->hot_turns % SWEEP_EVERY == 0 && !choose_lanes(slot, op, CHOOSE_ALL))
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

/* Parks a read of the cold lanes that have room. While hot lanes wait for room it is a short one:
 * they can only be read when it is over. */
static bool park_read(struct slot *slot, struct read_op *op)
{
    if (!choose_lanes(slot, op, CHOOSE_COLD))
        return false;
    send_read(slot, op,
              op->lane_count == slot->lane_count       ? BLOCK_MS
              : slot->hot_lanes > 0 && is_moving(slot) ? BLOCK_BESIDE_HOT_MS
                                                       : BLOCK_PART_MS);
    return true;
}

static bool read_more(struct slot *slot)
{
    struct read_op *op = !slot->reads[0].busy ? &slot->reads[0] : &slot->reads[1];
    const struct read_op *other = op == &slot->reads[0] ? &slot->reads[1] : &slot->reads[0];
    if (op->busy || (other->busy && other->blocking) || slot->lane_count == 0 ||
        !grow_lanes(slot, op))
        return false;
    return read_hot(slot, op) || (!other->busy && park_read(slot, op));
}

/* Lanes that are to begin, to go on with their history, or to be tried again. */
static void serve_waiting(struct slot *slot)
{
    uint64_t now = net_now_ms();
    slot->lanes_waiting = false;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        slot->outlets[i].wanted = false;
    for (size_t i = 0; i < slot->lane_count; i++) {
        struct lane *lane = slot->lanes[i];
        if (lane->state == LANE_QUARANTINED && now >= lane->retry_ms)
            lane->state = LANE_NEW;
        if (lane->state == LANE_NEW) {
            lane_begin(lane);
        } else if (lane->state == LANE_HISTORY && !lane->history.busy && !lane_read_history(lane)) {
            lane->outlet->wanted = true;
            slot->lanes_waiting = true;
        }
    }
}

void reading_begin(struct slot *slot)
{
    for (size_t i = 0; i < slot->lane_count; i++) {
        slot->lanes[i]->state = LANE_NEW;
        slot->lanes[i]->cut = false;
        lane_set_hot(slot->lanes[i], false);
    }
    slot->lanes_waiting = true;
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

static void on_woken(void *context, const struct redis_value *reply)
{
    (void)reply;
    struct slot *slot = context;
    slot->waking = false;
}

void reading_wake(struct slot *slot)
{
    bool parked = (slot->reads[0].busy && slot->reads[0].blocking) ||
                  (slot->reads[1].busy && slot->reads[1].blocking);
    if (!parked || slot->waking || !redis_link_is_ready(slot->write_link))
        return;
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)redis_link_client_id(slot->read_link));
    struct bytes arguments[] = {bytes_of("CLIENT"), bytes_of("UNBLOCK"), bytes_of(id)};
    slot->waking = true;
    redis_link_command(slot->write_link, arguments, 3, on_woken, slot);
    redis_link_flush(slot->write_link);
}
