/*
 * A stream of a slot, and the one way in which it begins after every start, takeover and reconnect:
 * make sure of the group, claim what other consumers hold, read the slot's own history to its end,
 * and only then ask for new entries. Each step is the reply of the one before it.
 */
#include "core/slot_private.h"

#include "codec/topic_template.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define CLAIM_PAGE "1000"
#define HISTORY_PAGE 200u
#define TROUBLE_PERIOD_MS 60000u

static void send_claim(struct lane *lane, struct bytes cursor);
static void ask_for_summary(struct lane *lane);

/* ---- making one --------------------------------------------------------------------------- */

/* Owned by the caller; NULL: memory is short. */
static uint8_t *expand(const struct lane *lane, const char *text, size_t *length)
{
    struct bytes template = bytes_of(text);
    size_t room = template.length * (lane->site.length + 1) + 1;
    uint8_t *topic = malloc(room);
    if (topic == NULL)
        return NULL;
    struct writer w = writer_over(topic, room);
    topic_template_expand(&w, template, &(struct topic_values){.site = lane->site});
    *length = writer_length(&w);
    return topic;
}

static bool expand_topics(struct lane *lane)
{
    const struct config_route *route = lane->route;
    lane->prefix = expand(lane, route->topic_prefix, &lane->prefix_length);
    lane->bundling.topic = expand(lane, route->batch.topic, &lane->bundling.topic_length);
    return lane->prefix != NULL && lane->bundling.topic != NULL;
}

static char *name_of_site(const struct lane *lane, const char *what)
{
    char *name;
    if (asprintf(&name, "nemo:{%.*s}:%s", (int)lane->site.length, (const char *)lane->site.data,
                 what) < 0)
        return NULL;
    return name;
}

struct lane *lane_new(struct slot *slot, const char *name, bool late)
{
    const struct config *config = slot->setting.config;
    const struct config_route *route = config_route_of(config, name);
    struct lane *lane = calloc(1, sizeof *lane);
    if (route == NULL || lane == NULL || !slot_open_outlet(slot, route->broker) ||
        (lane->name = strdup(name)) == NULL) {
        free(lane);
        return NULL;
    }
    lane->name_length = (uint32_t)strlen(name);
    lane->slot = slot;
    lane->turn.lane = lane;
    lane->late = late;
    lane->route = route;
    lane->outlet = &slot->outlets[route->broker];
    lane->site = stream_site(lane_name(lane));
    if (lane->site.length == 0)
        lane->site = bytes_of(route->site);
    lane->owed = entry_queue_empty();
    lane->history_page = lane;
    lane->history =
        (struct read_op){.lanes = &lane->history_page, .lane_count = 1, .history = true};
    lane->dead_stream = name_of_site(lane, "dead");
    lane->tries_key = name_of_site(lane, "tries");
    lane->applied_key = name_of_site(lane, "gateway:applied");
    bundle_init(lane, flow_key_hash(lane_name(lane)));
    if (lane->dead_stream == NULL || lane->tries_key == NULL || lane->applied_key == NULL ||
        !expand_topics(lane)) {
        lane_free(lane);
        return NULL;
    }
    return lane;
}

void lane_free(struct lane *lane)
{
    free(lane->name);
    free(lane->dead_stream);
    free(lane->tries_key);
    free(lane->applied_key);
    free(lane->suspects);
    free(lane->prefix);
    free(lane->bundling.topic);
    free(lane->alive);
    free(lane);
}

void lane_quarantine(struct lane *lane, uint64_t until_ms)
{
    struct slot *slot = lane->slot;
    lane->state = LANE_QUARANTINED;
    lane->retry_ms = until_ms;
    if (slot->quarantine_due_ms == 0 || until_ms < slot->quarantine_due_ms)
        slot->quarantine_due_ms = until_ms;
}

static void quarantine_for(struct lane *lane, const char *what, struct bytes reply)
{
    struct slot *slot = lane->slot;
    uint32_t interval = slot->setting.config->redis.discovery_interval_ms;
    uint64_t held_back, now = net_now_ms();
    lane_quarantine(lane, now + interval);
    reading_leave(lane);
    key_end_gathering(lane);
    if (log_limit_pass(&lane->trouble, now, TROUBLE_PERIOD_MS, &held_back))
        log_event(&slot->log, LOG_ERROR,
                  "a stream cannot be read; it is left alone and tried again",
                  LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name),
                  LOG_TEXT("command", what), LOG_BYTES("reply", reply),
                  LOG_INT("retry_ms", interval), LOG_INT("repeated", held_back));
}

static void quarantine(struct lane *lane, const char *what, const struct redis_value *reply)
{
    quarantine_for(lane, what,
                   reply->type == REDIS_ERROR ? reply->text : bytes_of("not what was expected"));
}

/* ---- history ------------------------------------------------------------------------------ */

static int compare_ids(const void *a, const void *b)
{
    return stream_id_compare(*(const struct stream_id *)a, *(const struct stream_id *)b);
}

/* Notes which entries of the lane are in the ledger now. Whatever becomes of them while the history
 * is read, a page that Redis answers may still name them: their XACK travels on the other link. */
static bool note_alive(struct lane *lane)
{
    const struct ledger *ledger = &lane->slot->ledger;
    free(lane->alive);
    lane->alive = NULL;
    lane->alive_count = 0;
    if (lane->entries == 0)
        return true;
    lane->alive = malloc(lane->entries * sizeof *lane->alive);
    if (lane->alive == NULL)
        return false;
    for (uint32_t i = 0; i < ledger->touched; i++)
        if (ledger->entries[i].state != ENTRY_FREE && ledger->entries[i].lane == lane)
            lane->alive[lane->alive_count++] = ledger->entries[i].id;
    qsort(lane->alive, lane->alive_count, sizeof *lane->alive, compare_ids);
    return true;
}

bool lane_was_alive(const struct lane *lane, struct stream_id id)
{
    return lane->alive_count > 0 &&
           bsearch(&id, lane->alive, lane->alive_count, sizeof *lane->alive, compare_ids) != NULL;
}

static void forget_alive(struct lane *lane)
{
    free(lane->alive);
    lane->alive = NULL;
    lane->alive_count = 0;
}

static void start_history(struct lane *lane, struct stream_id after)
{
    if (lane->refused) {
        lane->state = LANE_HELD;
        return;
    }
    if (!note_alive(lane)) {
        quarantine_for(lane, "its history", bytes_of("no memory"));
        return;
    }
    lane->state = LANE_HISTORY;
    lane->last = after;
    lane->slot->lanes_waiting = true;
}

/* From its first pending entry on. */
static void start_whole_history(struct lane *lane)
{
    struct stream_id first_parked;
    lane->back_wanted = false;
    lane->seen = (struct stream_id){0, 0};
    lane->backs = 0;
    lane->gathers = lane->route->coalesce_retained;
    (void)key_begin_read_back(lane, &first_parked);
    start_history(lane, (struct stream_id){0, 0});
}

static void start_read_back(struct lane *lane)
{
    struct stream_id first;
    lane->back_wanted = false;
    if (!key_begin_read_back(lane, &first))
        return;
    reading_leave(lane);
    if (stream_id_compare(lane->seen, lane->last) < 0)
        lane->seen = lane->last;
    lane->backs++;
    lane->looks_for_suspects = true;
    start_history(lane, stream_id_before(first));
    reading_wake(lane->slot);
}

void lane_read_back(struct lane *lane)
{
    lane->back_wanted = true;
    if (lane->state == LANE_LIVE)
        start_read_back(lane);
}

static void forget_suspects(struct lane *lane)
{
    free(lane->suspects);
    lane->suspects = NULL;
    lane->suspect_count = 0;
}

static void finish_history(struct lane *lane)
{
    forget_alive(lane);
    forget_suspects(lane);
    key_end_read_back(lane);
    key_end_gathering(lane);
    /* Where former links could not be closed, what they had parked has run out only now, and may
     * have taken entries meanwhile. */
    if (lane->begun_ms < lane->slot->unfenced_until_ms) {
        lane_quarantine(lane, lane->slot->unfenced_until_ms);
        return;
    }
    if (lane->back_wanted) {
        lane->state = LANE_LIVE;
        start_read_back(lane);
        if (lane->state != LANE_LIVE)
            return;
    }
    lane->state = LANE_LIVE;
    reading_join(lane); /* the first read for new entries does not block */
    reading_wake(lane->slot);
    trim_note(lane, 0);
}

/* Reading back: when no key has room for more, all that was seen before is passed over, so that a
 * key which gets stuck again and again does not have everything read each time. */
static void pass_over_known(struct lane *lane)
{
    if (lane->keys_back == 0 && !lane->back_to_end && stream_id_compare(lane->last, lane->seen) < 0)
        lane->last = lane->seen;
}

static void on_history(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    struct slot *slot = lane->slot;
    size_t received = lane->received;
    reading_answered(slot, &lane->history);
    if (reply == NULL || lane->state != LANE_HISTORY)
        return;
    if (reply->type == REDIS_ERROR) {
        quarantine(lane, "XREADGROUP of its pending entries", reply);
    } else if (received == 0) {
        finish_history(lane);
    } else {
        lane->backs += lane->cut; /* some of the page will be read again */
        pass_over_known(lane);
        slot->lanes_waiting = true; /* for the next page, when there is room */
    }
}

/* [[id, consumer, idle, deliveries] ...] of the page that is about to be read, in order. What
 * reading back has added to the counts is not held against anyone. */
static void on_counts(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    int64_t most = (int64_t)(lane->slot->setting.config->delivery.max_deliveries + lane->backs);
    forget_suspects(lane);
    if (reply == NULL || reply->type != REDIS_ARRAY)
        return;
    for (const struct redis_value *v = reply->element; v != NULL; v = v->next) {
        const struct redis_value *deliveries =
            v->type == REDIS_ARRAY && v->count == 4 ? v->element->next->next->next : NULL;
        struct stream_id id;
        if (deliveries == NULL || deliveries->integer < most ||
            stream_id_parse(v->element->text, &id) != STATUS_OK)
            continue;
        if (lane->suspects == NULL)
            lane->suspects = malloc(reply->count * sizeof *lane->suspects);
        if (lane->suspects != NULL)
            lane->suspects[lane->suspect_count++] = id;
    }
}

/* Delivery counts, which the page itself does not give. */
static void ask_for_counts(struct lane *lane, const char *count)
{
    struct slot *slot = lane->slot;
    char start[STREAM_ID_TEXT];
    /* Redis before 6.2 knows no "(" before an id. */
    stream_id_format(stream_id_after(lane->last), start);
    struct bytes arguments[] = {
        bytes_of("XPENDING"),    lane_name(lane), bytes_of(slot->setting.config->redis.group),
        bytes_of(start),         bytes_of("+"),   bytes_of(count),
        bytes_of(slot->consumer)};
    redis_link_command(slot->read_link, arguments, 7, on_counts, lane);
}

bool lane_is_suspect(const struct lane *lane, struct stream_id id)
{
    return lane->state == LANE_HISTORY && lane->suspect_count > 0 &&
           bsearch(&id, lane->suspects, lane->suspect_count, sizeof *lane->suspects, compare_ids) !=
               NULL;
}

bool lane_read_history(struct lane *lane)
{
    struct slot *slot = lane->slot;
    size_t room = reading_room(lane->outlet);
    size_t page = room < HISTORY_PAGE ? room : HISTORY_PAGE;
    char count[24], after[STREAM_ID_TEXT];
    snprintf(count, sizeof count, "%zu", page);
    stream_id_format(lane->last, after);
    struct bytes *arguments = slot_arguments(slot, 9);
    if (page == 0 || arguments == NULL) {
        key_end_gathering(lane);
        return false;
    }
    if (lane->looks_for_suspects)
        ask_for_counts(lane, count);
    const char *const words[] = {"XREADGROUP",   "GROUP",    slot->setting.config->redis.group,
                                 slot->consumer, "COUNT",    count,
                                 "STREAMS",      lane->name, after};
    for (size_t i = 0; i < 9; i++)
        arguments[i] = bytes_of(words[i]);
    lane->cut = false;
    lane->history.per_lane = (unsigned)page;
    reading_expect(slot, &lane->history, false);
    redis_link_read(slot->read_link, arguments, 9, 0, on_history, lane);
    return true;
}

void lane_read_again(struct lane *lane)
{
    /* All that was taken lies before lane->last: none of it is named again. */
    forget_alive(lane);
    reading_leave(lane);
    lane->backs++;
    lane->state = LANE_HISTORY;
    lane->slot->lanes_waiting = true;
}

void lane_hold(struct lane *lane)
{
    bool reads = lane->state == LANE_LIVE || lane->state == LANE_HISTORY || lane->at_settings;
    lane->refused = true;
    flow_drop_unsent(lane);
    lane_leave_settings(lane);
    if (!reads)
        return; /* it is beginning, and is held before its history */
    reading_leave(lane);
    lane->state = LANE_HELD;
}

void lane_go_on(struct lane *lane)
{
    if (!lane->refused)
        return;
    lane->refused = false;
    if (lane->state != LANE_HELD)
        return;
    lane->state = LANE_NEW;
    lane->slot->lanes_waiting = true;
}

/* ---- group and claim ---------------------------------------------------------------------- */

static void on_claim(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    if (reply == NULL)
        return;
    if (reply->type != REDIS_ARRAY || reply->count < 2 || reply->element->type != REDIS_STRING) {
        quarantine(lane, "XAUTOCLAIM", reply);
        return;
    }
    struct bytes cursor = reply->element->text;
    const struct redis_value *deleted = reply->element->next->next;
    if (deleted != NULL &&
        deleted->type == REDIS_ARRAY) /* Redis 7: struck off by the claim itself */
        for (const struct redis_value *id = deleted->element; id != NULL; id = id->next)
            flow_report_gone(lane, id->text);
    if (bytes_equal(cursor, bytes_of("0-0")))
        start_whole_history(lane);
    else
        send_claim(lane, cursor);
}

/* What XAUTOCLAIM does, for a Redis that does not have it. The next page begins with the last of
 * this one. */
static const char claim_script[] =
    "local rows = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4])\n"
    "for _, row in ipairs(rows) do\n"
    "  if row[2] ~= ARGV[2] then\n"
    "    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, row[1], 'JUSTID')\n"
    "  end\n"
    "end\n"
    "return {#rows < tonumber(ARGV[4]) and '0-0' or rows[#rows][1], {}}\n";

static void send_old_claim(struct lane *lane, struct bytes cursor)
{
    struct slot *slot = lane->slot;
    struct bytes arguments[] = {bytes_of("EVAL"),
                                bytes_of(claim_script),
                                bytes_of("1"),
                                lane_name(lane),
                                bytes_of(slot->setting.config->redis.group),
                                bytes_of(slot->consumer),
                                cursor,
                                bytes_of(CLAIM_PAGE)};
    redis_link_command(slot->read_link, arguments, 8, on_claim, lane);
}

/* Claims whatever is pending for anybody, without raising delivery counts (JUSTID), from the cursor
 * on. Only one instance owns the slot, so whoever else holds entries is a former owner or a
 * consumer of another slot count. */
static void send_claim(struct lane *lane, struct bytes cursor)
{
    struct slot *slot = lane->slot;
    if (redis_link_is_before(slot->read_link, 6, 2)) {
        send_old_claim(lane, cursor);
        return;
    }
    struct bytes arguments[] = {
        bytes_of("XAUTOCLAIM"),   lane_name(lane),      bytes_of(slot->setting.config->redis.group),
        bytes_of(slot->consumer), bytes_of("0"),        cursor,
        bytes_of("COUNT"),        bytes_of(CLAIM_PAGE), bytes_of("JUSTID")};
    redis_link_command(slot->read_link, arguments, 9, on_claim, lane);
}

/* XPENDING's summary: total, first, last, [[consumer, count] ...]. */
static bool others_hold(const struct lane *lane, const struct redis_value *summary)
{
    const struct redis_value *consumers = summary->element;
    for (int i = 0; i < 3 && consumers != NULL; i++)
        consumers = consumers->next;
    if (consumers == NULL || consumers->type != REDIS_ARRAY)
        return false;
    for (const struct redis_value *c = consumers->element; c != NULL; c = c->next)
        if (c->type == REDIS_ARRAY && c->count > 0 &&
            !bytes_equal(c->element->text, bytes_of(lane->slot->consumer)))
            return true;
    return false;
}

/* Streams that the configuration names exist for it from the start; found ones exist already, and
 * MKSTREAM would bring a deleted one back. */
static bool is_named(const struct lane *lane)
{
    const struct config_redis *redis = &lane->slot->setting.config->redis;
    for (size_t i = 0; i < redis->stream_count; i++)
        if (strcmp(redis->streams[i], lane->name) == 0)
            return true;
    return false;
}

static void on_group(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    struct slot *slot = lane->slot;
    if (reply == NULL)
        return;
    bool made = reply->type == REDIS_STATUS;
    if (!made && !redis_value_is_error(reply, "BUSYGROUP")) {
        quarantine(lane, "XGROUP CREATE", reply);
        return;
    }
    if (made && lane->had_group) {
        log_event(&slot->log, LOG_ERROR,
                  "the consumer group was gone and has been made again from the stream's "
                  "beginning: entries that were published may be published again",
                  LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name));
        /* What is in memory was delivered by the group that is gone: its acknowledgements would
         * strike off what the new one delivers again. */
        slot_start_over(slot);
        return;
    }
    if (made)
        log_event(&slot->log, LOG_INFO, "consumer group made", LOG_BYTES("site", lane->site),
                  LOG_TEXT("stream", lane->name));
    ask_for_summary(lane);
}

static void make_group(struct lane *lane)
{
    const struct config_redis *redis = &lane->slot->setting.config->redis;
    bool from_start = lane->had_group || lane->late || redis->start == CONFIG_START_BEGINNING;
    struct bytes arguments[] = {bytes_of("XGROUP"),
                                bytes_of("CREATE"),
                                lane_name(lane),
                                bytes_of(redis->group),
                                bytes_of(from_start ? "0" : "$"),
                                bytes_of("MKSTREAM")};
    lane->state = LANE_GROUP;
    redis_link_command(lane->slot->read_link, arguments, is_named(lane) ? 6 : 5, on_group, lane);
}

static void on_summary(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    if (reply == NULL)
        return;
    if (redis_value_is_error(reply, "NOGROUP")) {
        make_group(lane);
        return;
    }
    if (reply->type != REDIS_ARRAY) {
        quarantine(lane, "XPENDING", reply);
        return;
    }
    lane->had_group = true;
    lane->looks_for_suspects = reply->element != NULL && reply->element->integer > 0;
    if (others_hold(lane, reply))
        send_claim(lane, bytes_of("0-0"));
    else
        start_whole_history(lane);
}

/* Tells whether the group exists, and whether other consumers hold entries of it. */
static void ask_for_summary(struct lane *lane)
{
    struct slot *slot = lane->slot;
    struct bytes arguments[] = {bytes_of("XPENDING"), lane_name(lane),
                                bytes_of(slot->setting.config->redis.group)};
    lane->state = LANE_CLAIM;
    redis_link_command(slot->read_link, arguments, 3, on_summary, lane);
}

void lane_begin(struct lane *lane)
{
    lane->begun_ms = net_now_ms();
    if (lane->route->site_fault != NULL)
        lane_refuse_settings(lane);
    else if (lane->route->settings == CONFIG_SETTINGS_FROM_SITE)
        lane_compare_settings(lane);
    else
        ask_for_summary(lane);
}

void lane_ask_for_group(struct lane *lane)
{
    ask_for_summary(lane);
}
