/*
 * What a site's NEMO page shows of its gateway: the hash nemo:{site}:gateway, which ends by itself
 * where no gateway writes it any more. The lane of nemo:{site}:events writes it, and no other one:
 * a stream has one owner, so the hash has one writer, and its counts are those of that stream. One
 * script for each beat asks Redis for the counts and writes them. A change of state goes through
 * the lanes at a bounded pace, with thousands of them the period grows; nothing is done per
 * message.
 */
#include "core/slot_private.h"

#include "core/site_settings.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PERIOD_MS 10000u
#define PERIODS_TO_LIVE 6u
/* A page takes a beat that is two minutes old for the last one: with many lanes the period may
 * reach a minute, and then the wait between two beats shrinks to the least that a slot takes. */
#define PERIOD_MOST_MS 60000u
#define WAIT_MS 25u
#define WAIT_LEAST_MS 10u
/* What an idle slot has not used until it turns again. */
#define BURST_MS 500u
#define ASKED_MAX 64u
/* Of a drain, which does not wait longer for what is shown. */
#define FAREWELL_MS 250u
#define REFUSED_AGAIN_MS 60000u
#define HOUR_MS 3600000u

#define KEY_TEXT 64u /* of a site with at most 32 bytes */
#define FIELDS 8u

/* KEYS: the hash, the stream, the dead letters, what was applied of the site's settings. ARGV: the
 * group, the seconds to live, why nothing of those is used or "", and fields with their values.
 * Answers 0 where a gateway of another group writes the hash. It takes no memory to speak of, and
 * is most wanted when Redis has none left. */
static const char beat_script[] =
    "#!lua flags=allow-oom\n"
    "local writer = redis.call('HGET', KEYS[1], 'group')\n"
    "if writer and writer ~= ARGV[1] then return 0 end\n"
    "local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])\n"
    "if groups.err and not string.find(groups.err, 'no such key') then\n"
    "  return redis.error_reply(groups.err)\n"
    "end\n"
    "local pending, lag, last = '', '', ''\n"
    "for _, flat in ipairs(groups) do\n"
    "  local group = {}\n"
    "  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end\n"
    "  if group.name == ARGV[1] then\n"
    "    pending, lag = group.pending, group.lag or ''\n"
    "    last = string.match(group['last-delivered-id'], '^%d+')\n"
    "  end\n"
    "end\n"
    "local applied = redis.call('HMGET', KEYS[4], 'version', 'error')\n"
    "local version, wrong = applied[1] or '', applied[2] or ''\n"
    "if ARGV[3] ~= '' and version ~= '' then version, wrong = '', ARGV[3] end\n"
    "local time = redis.call('TIME')\n"
    "redis.call('HSET', KEYS[1], 'group', ARGV[1],\n"
    "  'beat', time[1] * 1000 + math.floor(time[2] / 1000),\n"
    "  'pending', pending, 'lag', lag, 'last_event', last,\n"
    "  'dead_letters', redis.call('XLEN', KEYS[3]),\n"
    "  'settings_version', version, 'settings_error', wrong, unpack(ARGV, 4))\n"
    "return redis.call('EXPIRE', KEYS[1], ARGV[2])\n";

#define GRANT "+eval +hget +hmget +hset +expire +time +xlen +xinfo|groups ~nemo:*:gateway*"

/* ---- pace ---------------------------------------------------------------------------------- */

/* Between two beats of a slot that has nothing new to say. */
static uint64_t wait_of(size_t lanes)
{
    uint64_t wait = PERIOD_MS / lanes;
    if (wait >= WAIT_MS)
        return wait;
    wait = PERIOD_MOST_MS / lanes;
    return wait > WAIT_MS ? WAIT_MS : wait < WAIT_LEAST_MS ? WAIT_LEAST_MS : wait;
}

static uint64_t period_of(size_t lanes)
{
    uint64_t period = wait_of(lanes) * lanes;
    return period > PERIOD_MS ? period : PERIOD_MS;
}

/* The next beats of that many lanes do not wait for their time. */
static void hurry(struct slot_beat *beat, size_t lanes)
{
    uint64_t soonest = beat->paid_ms + WAIT_LEAST_MS;
    beat->hurried = lanes < beat->lanes ? lanes : beat->lanes;
    if (beat->due_ms > soonest)
        beat->due_ms = soonest;
}

static void pay(struct slot_beat *beat, bool parting, uint64_t now_ms)
{
    if (beat->due_ms + BURST_MS < now_ms)
        beat->due_ms = now_ms - BURST_MS;
    beat->paid_ms = now_ms;
    if (beat->hurried == 0)
        beat->due_ms += wait_of(beat->lanes);
    else if (!parting)
        beat->due_ms += WAIT_LEAST_MS;
    if (beat->hurried > 0)
        beat->hurried--;
}

/* ---- lanes --------------------------------------------------------------------------------- */

static bool is_the_sites(const struct lane *lane)
{
    char name[KEY_TEXT];
    if (lane->site.length == 0)
        return false;
    int length = snprintf(name, sizeof name, "nemo:{%.*s}:events", (int)lane->site.length,
                          (const char *)lane->site.data);
    return lane->name_length == (uint32_t)length && memcmp(lane->name, name, (size_t)length) == 0;
}

void beat_add(struct lane *lane)
{
    struct slot_beat *beat = &lane->slot->beat;
    if (!is_the_sites(lane))
        return;
    if (beat->next == NULL) {
        lane->beat.next = lane->beat.previous = lane;
    } else {
        lane->beat.next = beat->next;
        lane->beat.previous = beat->next->beat.previous;
        lane->beat.next->beat.previous = lane->beat.previous->beat.next = lane;
    }
    beat->next = lane;
    beat->lanes++;
    hurry(beat, beat->hurried + 1);
}

/* ---- states -------------------------------------------------------------------------------- */

static bool is_leaving(const struct slot *slot)
{
    return slot->state == SLOT_DRAINING || slot->state == SLOT_PARTING;
}

/* A connection that we close ourselves leaves no loss behind: then it is being made again. */
static enum beat_state state_of(const struct outlet *outlet)
{
    if (is_leaving(outlet->slot))
        return BEAT_DRAINING;
    if (outlet->reached && outlet->open)
        return BEAT_CONNECTED;
    bool lost = outlet->counts.lost_ms != 0 && outlet->counts.lost_ms >= outlet->beat.since_ms;
    return lost ? BEAT_DISCONNECTED : BEAT_CONNECTING;
}

static void note_states(struct slot *slot, uint64_t now_ms)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++) {
        struct outlet *outlet = &slot->outlets[i];
        enum beat_state state = outlet->started ? state_of(outlet) : BEAT_UNKNOWN;
        if (state == outlet->beat.state)
            continue;
        outlet->beat.state = state;
        outlet->beat.since_ms = state == BEAT_DISCONNECTED ? outlet->counts.lost_ms : now_ms;
        outlet->beat.shown_ms = lease_redis_time(slot->lease, outlet->beat.since_ms);
        hurry(&slot->beat, slot->beat.lanes);
        if (state == BEAT_DRAINING)
            slot->beat.farewell_ms = now_ms;
    }
}

/* ---- what a beat says ---------------------------------------------------------------------- */

struct saying {
    struct bytes words[2 * FIELDS];
    size_t count;
    char times[2][24];
    size_t time_count;
};

static void say(struct saying *saying, const char *field, const char *value)
{
    assert(saying->count + 2 <= sizeof saying->words / sizeof *saying->words);
    saying->words[saying->count++] = bytes_of(field);
    saying->words[saying->count++] = bytes_of(value);
}

/* By Redis' clock; 0: no time. */
static void say_time(struct saying *saying, const char *field, uint64_t redis_ms)
{
    char *text = saying->times[saying->time_count++];
    text[0] = '\0';
    if (redis_ms != 0)
        snprintf(text, sizeof saying->times[0], "%" PRIu64, redis_ms);
    say(saying, field, text);
}

/* What is wrong now, not what has been: a page that shows it asks for help. */
static void say_trouble(struct saying *saying, const struct lane *lane, bool all_connected)
{
    const struct outlet *outlet = lane->outlet;
    const char *words = "";
    uint64_t at_ms = 0;
    if (!all_connected && outlet->counts.lost_ms != 0 && outlet->beat.state != BEAT_DRAINING) {
        words = outlet->counts.error;
        at_ms = lease_redis_time(outlet->slot->lease, outlet->counts.lost_ms);
    } else if (outlet->paused_until_ms != 0) {
        words = "the broker refuses most of what is published: look at its access rules, quotas "
                "and disk";
    } else if (lane->route->site_fault != NULL) {
        words = "the settings of this site cannot be used, and until they can nothing is sent; "
                "perhaps a secret file is missing";
    } else if (lane->state == LANE_HELD || lane->state == LANE_QUARANTINED) {
        words = "Redis refuses what the gateway asks of the site's stream; its log says more";
    }
    say(saying, "last_error", words);
    say_time(saying, "last_error_at", at_ms);
}

static void say_broker(struct saying *saying, const struct lane *lane, char *url, size_t size)
{
    const struct outlet *outlet = lane->outlet;
    char place[ENDPOINT_TEXT];
    const char *tls = outlet->broker->url.tls ? "not connected" : "";
    size_t ready = 0;
    for (size_t i = 0; i < outlet->connections; i++) {
        if (!mqtt_conn_is_ready(outlet->outboxes[i].conn))
            continue;
        tls = mqtt_conn_describe(outlet->outboxes[i].conn);
        ready++;
    }
    snprintf(url, size, "mqtt%s://%s", outlet->broker->url.tls ? "s" : "",
             endpoint_format(&outlet->conn_config.endpoint, place));
    say(saying, "broker", url);
    say(saying, "tls", tls);
    say_trouble(saying, lane, ready == outlet->connections);
}

/* ---- the script ---------------------------------------------------------------------------- */

static void report_refusal(struct lane *lane, const struct redis_value *reply)
{
    struct slot *slot = lane->slot;
    uint64_t held_back;
    if (!log_limit_pass(&slot->beat.refusals, net_now_ms(), HOUR_MS, &held_back))
        return;
    struct bytes text = reply->type == REDIS_ERROR ? reply->text : bytes_of("unexpected reply");
    log_event(&slot->log, LOG_WARNING,
              "Redis refused what a site's NEMO page shows of its gateway; events are carried all "
              "the same, and it is tried again",
              LOG_BYTES("site", lane->site), LOG_BYTES("reply", text), LOG_TEXT("grant", GRANT),
              LOG_INT("repeated", held_back));
}

static void report_other(struct lane *lane)
{
    struct slot *slot = lane->slot;
    uint64_t held_back;
    if (log_limit_pass(&slot->beat.others, net_now_ms(), HOUR_MS, &held_back))
        log_event(&slot->log, LOG_INFO,
                  "a gateway of another group carries this site, too; its NEMO page shows that one",
                  LOG_BYTES("site", lane->site), LOG_INT("repeated", held_back));
}

static void on_beat(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    lane->slot->beat.asked--;
    if (reply == NULL)
        return;
    lane->beat.refused_ms = 0;
    if (reply->type != REDIS_INTEGER) {
        lane->beat.refused_ms = net_now_ms();
        report_refusal(lane, reply);
    } else if (reply->integer == 0) {
        report_other(lane);
    }
}

static void send_beat(struct lane *lane)
{
    static const char *const states[] = {"connecting", "connecting", "connected", "disconnected",
                                         "draining"};
    struct slot *slot = lane->slot;
    const struct config *config = slot->setting.config;
    struct saying saying = {.count = 0};
    char key[KEY_TEXT], applied[KEY_TEXT + 8], seconds[24], url[ENDPOINT_TEXT + 8];
    snprintf(key, sizeof key, "nemo:{%.*s}:gateway", (int)lane->site.length,
             (const char *)lane->site.data);
    snprintf(applied, sizeof applied, "%s:applied", key);
    snprintf(seconds, sizeof seconds, "%" PRIu64,
             PERIODS_TO_LIVE * period_of(slot->beat.lanes) / 1000);
    say(&saying, "version", NEMOGATE_VERSION);
    say(&saying, "instance", config->instance);
    say(&saying, "state", states[lane->outlet->beat.state]);
    say_time(&saying, "since", lane->outlet->beat.shown_ms);
    say_broker(&saying, lane, url, sizeof url);
    bool from_site = lane->route->settings == CONFIG_SETTINGS_FROM_SITE;
    struct bytes arguments[10 + 2 * FIELDS] = {
        bytes_of("EVAL"),  redis_link_script(slot->write_link, beat_script),
        bytes_of("4"),     bytes_of(key),
        lane_name(lane),   bytes_of(lane->dead_stream),
        bytes_of(applied), bytes_of(config->redis.group),
        bytes_of(seconds), bytes_of(from_site ? "" : SITE_NOT_ALLOWED)};
    memcpy(&arguments[10], saying.words, saying.count * sizeof *saying.words);
    slot->beat.asked++;
    redis_link_command(slot->write_link, arguments, 10 + saying.count, on_beat, lane);
}

/* ---- turns --------------------------------------------------------------------------------- */

/* Redis has refused it on this link a short while ago. */
static bool is_resting(const struct lane *lane, uint64_t now_ms)
{
    const struct slot_beat *beat = &lane->slot->beat;
    uint64_t refused_ms = lane->beat.refused_ms;
    return refused_ms != 0 && refused_ms >= beat->granted_ms &&
           now_ms < refused_ms + REFUSED_AGAIN_MS;
}

void beat_turn(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    struct slot_beat *beat = &slot->beat;
    if (beat->lanes == 0)
        return;
    uint64_t now_ms = net_now_ms();
    note_states(slot, now_ms);
    while (slot->write_fenced && beat->asked < ASKED_MAX && now_ms >= beat->due_ms) {
        struct lane *lane = beat->next;
        beat->next = lane->beat.next;
        pay(beat, is_leaving(slot), now_ms);
        if (!is_resting(lane, now_ms))
            send_beat(lane);
    }
}

void beat_granted(struct slot *slot)
{
    slot->beat.granted_ms = net_now_ms();
    hurry(&slot->beat, slot->beat.lanes);
}

bool beat_is_told(const struct slot *slot)
{
    const struct slot_beat *beat = &slot->beat;
    return (beat->hurried == 0 && beat->asked == 0) || !slot->write_fenced ||
           net_now_ms() >= beat->farewell_ms + FAREWELL_MS;
}

void beat_forget(struct slot *slot)
{
    slot->beat.asked = 0;
}
