/*
 * The life of a slot: it stands by until this instance is to have it, waits for its lease, carries
 * entries while it holds it, and drains when it is told to. Whatever goes wrong with Redis or with
 * the lease leads back to one of these states; entries themselves are the business of flow.c.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <stdlib.h>

#define TROUBLE_PERIOD_MS 30000u
/* A lease that another holds may be released at any moment: he is asked again this soon. */
#define RETRY_MS 150u
/* The longest that a read is parked in Redis (BLOCK), and as much again for a slow Redis: then a
 * former owner's read, which nobody could end, is over. */
#define UNFENCED_MS 2000u

static void set_state(struct slot *slot, enum slot_state state)
{
    static const char *const names[] = {"stopped",  "standby", "waiting",  "held",
                                        "draining", "parting", "releasing"};
    static const unsigned may_follow[] = {
        [SLOT_STOPPED] = 1u << SLOT_STANDBY,
        [SLOT_STANDBY] = 1u << SLOT_WAITING | 1u << SLOT_STOPPED,
        [SLOT_WAITING] =
            1u << SLOT_HELD | 1u << SLOT_RELEASING | 1u << SLOT_STANDBY | 1u << SLOT_STOPPED,
        [SLOT_HELD] = 1u << SLOT_WAITING | 1u << SLOT_DRAINING,
        [SLOT_DRAINING] = 1u << SLOT_PARTING | 1u << SLOT_STANDBY | 1u << SLOT_STOPPED,
        [SLOT_PARTING] = 1u << SLOT_RELEASING | 1u << SLOT_STANDBY | 1u << SLOT_STOPPED,
        [SLOT_RELEASING] = 1u << SLOT_STANDBY | 1u << SLOT_STOPPED,
    };
    assert(may_follow[slot->state] & 1u << state);
    log_event(&slot->log, LOG_DEBUG, "slot state", LOG_TEXT("from", names[slot->state]),
              LOG_TEXT("to", names[state]));
    slot->state = state;
}

/* ---- taking over, and losing it ----------------------------------------------------------- */

static bool outlet_in_use(const struct outlet *outlet)
{
    for (size_t i = 0; i < outlet->slot->lane_count; i++)
        if (outlet->slot->lanes[i]->outlet == outlet)
            return true;
    return false;
}

static void start_outlets(struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++) {
        struct outlet *outlet = &slot->outlets[i];
        if (outlet->pool == NULL || outlet->started || !outlet_in_use(outlet))
            continue;
        outlet->started = true;
        mqtt_pool_start(outlet->pool);
    }
}

/* Connections that were kept down while the lease was in doubt. */
static void reconnect_outlets(struct slot *slot, uint64_t now)
{
    if (lease_confirmed_ms(slot->lease) < slot->confirm_since_ms)
        return;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        for (size_t n = 0; slot->outlets[i].started && n < slot->outlets[i].connections; n++)
            if (now >= slot->outlets[i].outboxes[n].down_until_ms)
                mqtt_conn_start(slot->outlets[i].outboxes[n].conn);
}

/* Keeps lost connections down while the lease is in doubt. */
static void hold_outlets(struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        for (size_t n = 0; slot->outlets[i].started && n < slot->outlets[i].connections; n++)
            if (!mqtt_conn_is_ready(slot->outlets[i].outboxes[n].conn))
                mqtt_conn_close(slot->outlets[i].outboxes[n].conn);
}

static void take_over(struct slot *slot)
{
    set_state(slot, SLOT_HELD);
    log_event(&slot->log, LOG_INFO, "lease taken", LOG_TEXT("key", slot->lease_key));
    slot->lease_trouble = (struct log_limit){0};
    redis_link_start(slot->read_link);
    start_outlets(slot);
}

/* Forgets every entry: all of them are pending in Redis. */
static void clear_entries(struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        if (slot->outlets[i].pool != NULL)
            flow_close(&slot->outlets[i]);
    for (uint32_t i = 0; i < slot->ledger.touched; i++)
        if (ledger_entry(&slot->ledger, i)->state != ENTRY_FREE)
            flow_forget(slot, i);
    for (struct lane *lane = slot->owing; lane != NULL; lane = lane->next_owing) {
        lane->owed = entry_queue_empty();
        lane->acking = 0;
        lane->refused = false;
    }
}

static void stop_links(struct slot *slot)
{
    redis_link_stop(slot->read_link);
    redis_link_stop(slot->write_link);
    reading_forget(slot);
    trim_forget(slot);
    beat_forget(slot);
    slot->read_fenced = false;
    slot->write_fenced = false;
}

static void forget_all(struct slot *slot)
{
    stop_links(slot);
    clear_entries(slot);
    lease_forget(slot->lease);
    event_del(slot->lease_retry);
    if (slot->announced)
        slot->setting.on_left(slot->setting.context, slot->setting.index);
    slot->announced = false;
}

static void wait_for_lease(struct slot *slot)
{
    set_state(slot, SLOT_WAITING);
    redis_link_start(slot->write_link);
}

/* The end of a drain, or of waiting: for good when the process ends, else until the slot is
 * preferred, which it may be again by now. */
static void rest(struct slot *slot)
{
    uint64_t pending = slot->ledger.used;
    forget_all(slot);
    if (slot->ending) {
        set_state(slot, SLOT_STOPPED);
        slot->setting.on_stopped(slot->setting.context, slot->setting.index, pending);
        return;
    }
    set_state(slot, SLOT_STANDBY);
    if (slot->preferred)
        wait_for_lease(slot);
}

void slot_start_over(struct slot *slot)
{
    if (slot->state != SLOT_HELD)
        return;
    forget_all(slot);
    wait_for_lease(slot);
}

/* The lease has, or may have, another owner: everything in memory is his business now. */
static void lose(struct slot *slot, const char *why)
{
    log_event(&slot->log, LOG_ERROR,
              "lease lost; the slot stops at once, what it held stays pending in Redis",
              LOG_TEXT("reason", why), LOG_INT("entries", slot->ledger.used));
    if (slot->state == SLOT_HELD)
        slot_start_over(slot);
    else
        rest(slot);
}

static bool is_wanted(const struct slot *slot)
{
    return slot->preferred && !slot->ending;
}

static void give_back(struct slot *slot)
{
    set_state(slot, SLOT_RELEASING);
    lease_release(slot->lease, slot->write_link);
}

static void on_write_granted(struct slot *slot)
{
    slot->write_fenced = true;
    beat_granted(slot);
    if (slot->state != SLOT_WAITING)
        return;
    if (is_wanted(slot))
        take_over(slot);
    else
        give_back(slot);
}

static void on_read_granted(struct slot *slot, bool fenced)
{
    slot->read_fenced = true;
    slot->unfenced_until_ms = fenced ? 0 : net_now_ms() + UNFENCED_MS;
    reading_begin(slot);
}

static void tell_unfenced(struct slot *slot)
{
    if (!slot->unfenced_told)
        log_event(&slot->log, LOG_WARNING,
                  "Redis does not let this user close a former owner's links: whenever the slot "
                  "begins, it waits until their reads have ended, and one that is held up in the "
                  "network may still come late",
                  LOG_TEXT("grant", "+client|kill"), LOG_INT("wait_ms", UNFENCED_MS));
    slot->unfenced_told = true;
}

static void on_granted(void *context, enum lease_role role, struct lease_grant how)
{
    struct slot *slot = context;
    if (how.fresh && slot->state != SLOT_WAITING) {
        lose(slot, "it had run out, and another may have held it since");
        return;
    }
    if (!how.fenced)
        tell_unfenced(slot);
    redis_link_proven(role == LEASE_WRITE ? slot->write_link : slot->read_link);
    slot->link_trouble[role] = (struct log_limit){0};
    if (role == LEASE_WRITE)
        on_write_granted(slot);
    else
        on_read_granted(slot, how.fenced);
}

static void on_refused(void *context, struct bytes holder, uint64_t remaining_ms)
{
    struct slot *slot = context;
    uint64_t held_back;
    if (slot->state != SLOT_WAITING) {
        lose(slot, "another instance holds it");
        return;
    }
    if (!is_wanted(slot)) {
        rest(slot);
        return;
    }
    uint64_t retry_ms = remaining_ms < RETRY_MS ? remaining_ms + 1 : RETRY_MS;
    event_add(slot->lease_retry, &(struct timeval){.tv_usec = (suseconds_t)retry_ms * 1000});
    if (log_limit_pass(&slot->lease_trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&slot->log, LOG_INFO, "waiting for the lease", LOG_TEXT("key", slot->lease_key),
                  LOG_BYTES("holder", holder), LOG_INT("remaining_ms", remaining_ms));
}

static void on_released(void *context)
{
    struct slot *slot = context;
    if (slot->state != SLOT_RELEASING)
        return;
    if (!slot->ending)
        log_event(&slot->log, LOG_INFO, "slot handed over", LOG_TEXT("key", slot->lease_key),
                  LOG_INT("stays_pending", slot->ledger.used));
    rest(slot);
}

const struct lease_events slot_lease_events = {on_granted, on_refused, on_released};

/* ---- the Redis links ---------------------------------------------------------------------- */

static void report_down(struct slot *slot, enum lease_role role, const char *reason,
                        uint32_t retry_ms)
{
    uint64_t held_back;
    if (log_limit_pass(&slot->link_trouble[role], net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&slot->log, LOG_ERROR, "no connection to Redis",
                  LOG_TEXT("link", role == LEASE_READ ? "read" : "write"),
                  LOG_TEXT("reason", reason), LOG_INT("retry_ms", retry_ms),
                  LOG_INT("repeated", held_back));
}

static void on_read_ready(void *context)
{
    struct slot *slot = context;
    lease_take(slot->lease, LEASE_READ, slot->read_link, slot->write_link);
}

static void on_read_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct slot *slot = context;
    slot->read_fenced = false;
    report_down(slot, LEASE_READ, reason, retry_ms);
}

static void on_write_ready(void *context)
{
    struct slot *slot = context;
    if (slot->state == SLOT_RELEASING)
        lease_release(slot->lease, slot->write_link);
    else
        lease_take(slot->lease, LEASE_WRITE, slot->write_link, slot->read_link);
}

static void on_write_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct slot *slot = context;
    slot->write_fenced = false;
    acks_rewind(slot);
    report_down(slot, LEASE_WRITE, reason, retry_ms);
    if (slot->state == SLOT_WAITING && !is_wanted(slot))
        rest(slot);
}

const struct redis_link_events slot_read_events = {on_read_ready, on_read_down};
const struct redis_link_events slot_write_events = {on_write_ready, on_write_down};

/* ---- draining ----------------------------------------------------------------------------- */

static void begin_draining(struct slot *slot)
{
    set_state(slot, SLOT_DRAINING);
    reading_wake(slot);
}

/* A lease that has been asked for may be granted yet: then it is given back. */
static void stop_waiting(struct slot *slot)
{
    if (!redis_link_is_ready(slot->write_link) || redis_link_outstanding(slot->write_link) == 0)
        rest(slot);
}

void slot_drain(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    slot->ending = true;
    if (slot->state == SLOT_STANDBY)
        rest(slot);
    else if (slot->state == SLOT_WAITING)
        stop_waiting(slot);
    else if (slot->state == SLOT_HELD)
        begin_draining(slot);
}

static void hand_over(struct slot *slot)
{
    slot->drain_until_ms = net_now_ms() + slot->setting.config->delivery.drain_timeout_ms;
    log_event(&slot->log, LOG_INFO, "handing the slot over", LOG_TEXT("key", slot->lease_key),
              LOG_INT("in_flight", flow_in_flight(slot)));
    begin_draining(slot);
}

void slot_prefer(struct slot *slot, bool preferred)
{
    ASSERT_ON_SHARD(slot);
    slot->preferred = preferred;
    if (slot->ending)
        return;
    if (preferred && slot->state == SLOT_STANDBY)
        wait_for_lease(slot);
    else if (!preferred && slot->state == SLOT_WAITING)
        stop_waiting(slot);
    else if (!preferred && slot->state == SLOT_HELD)
        hand_over(slot);
}

static void release(struct slot *slot)
{
    redis_link_stop(slot->read_link);
    reading_forget(slot);
    if (slot->write_fenced)
        give_back(slot);
    else
        rest(slot);
}

void slot_hurry(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    if (slot->state == SLOT_WAITING && slot->ending)
        rest(slot);
    if (slot->state == SLOT_DRAINING)
        set_state(slot, SLOT_PARTING);
    if (slot->state == SLOT_PARTING)
        release(slot);
}

static bool has_parted(const struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        for (size_t n = 0; slot->outlets[i].started && n < slot->outlets[i].connections; n++)
            if (!slot->outlets[i].outboxes[n].stopped)
                return false;
    return true;
}

/* Each step begins when the one before it is over: reads answered and publishes acknowledged, Redis
 * told of it, brokers left, lease released. */
static void go_on_draining(struct slot *slot)
{
    bool reading = slot->ops_first != NULL && redis_link_is_ready(slot->read_link);
    if (slot->state == SLOT_DRAINING && !reading && flow_in_flight(slot) == 0 && acks_idle(slot) &&
        beat_is_told(slot)) {
        set_state(slot, SLOT_PARTING);
        for (size_t i = 0; i < slot->setting.config->broker_count; i++)
            if (slot->outlets[i].started)
                mqtt_pool_stop(slot->outlets[i].pool);
    }
    if (slot->state == SLOT_PARTING && has_parted(slot))
        release(slot);
}

static void bound_hand_over(struct slot *slot, uint64_t now)
{
    if (slot->ending || now < slot->drain_until_ms ||
        (slot->state != SLOT_DRAINING && slot->state != SLOT_PARTING))
        return;
    log_event(&slot->log, LOG_WARNING,
              "the drain timeout of a hand-over has passed; what is not acknowledged stays pending "
              "in Redis",
              LOG_INT("in_flight", flow_in_flight(slot)));
    slot_hurry(slot);
}

/* ---- turns -------------------------------------------------------------------------------- */

static void announce(struct slot *slot)
{
    if (slot->announced || !slot->read_fenced || slot->lanes_waiting)
        return;
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        if (slot->outlets[i].started && !slot->outlets[i].open &&
            slot->setting.config->brokers[i].site == NULL)
            return;
    slot->announced = true;
    slot->setting.on_running(slot->setting.context, slot->setting.index);
}

static void carry(struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++)
        if (slot->outlets[i].started)
            flow_pump(&slot->outlets[i]);
    acks_flush(slot);
    trim_turn(slot);
    beat_turn(slot);
    reading_refill(slot);
    announce(slot);
}

static bool is_reached(const struct outlet *outlet)
{
    for (size_t i = 0; i < outlet->connections; i++)
        if (mqtt_conn_is_ready(outlet->outboxes[i].conn))
            return true;
    return false;
}

static void report_brokers(struct slot *slot)
{
    for (size_t i = 0; i < slot->setting.config->broker_count; i++) {
        struct outlet *outlet = &slot->outlets[i];
        bool reached = outlet->started && is_reached(outlet);
        if (reached != outlet->reached)
            slot->setting.on_broker(slot->setting.context, slot->setting.index, i, reached);
        outlet->reached = reached;
    }
}

void slot_turn(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    report_brokers(slot);
    /* Past the lease's deadline another may own the slot: nothing is sent to anyone until the lease
     * has been confirmed. */
    if (!lease_is_valid(slot->lease, net_now_ms()))
        return;
    if (slot->state == SLOT_HELD) {
        carry(slot);
    } else if (slot->state == SLOT_DRAINING || slot->state == SLOT_PARTING) {
        acks_flush(slot);
        beat_turn(slot);
        go_on_draining(slot);
    }
    if (slot->write_fenced)
        redis_link_flush(slot->write_link);
    if (slot->read_fenced)
        redis_link_flush(slot->read_link);
}

void slot_on_tick(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct slot *slot = context;
    uint64_t now = net_now_ms();
    if (slot->quarantine_due_ms != 0 && now >= slot->quarantine_due_ms)
        slot->lanes_waiting = true;
    bool valid = lease_is_valid(slot->lease, now);
    if (slot->state == SLOT_HELD && valid)
        reconnect_outlets(slot, now);
    else if ((slot->state == SLOT_HELD || slot->state == SLOT_DRAINING) && !valid)
        hold_outlets(slot);
    bound_hand_over(slot, now);
    watch_tick(slot);
    if (slot->write_fenced && slot->state != SLOT_RELEASING && lease_renewal_due(slot->lease, now))
        lease_renew(slot->lease, slot->write_link);
}

void slot_on_lease_retry(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct slot *slot = context;
    if (slot->state == SLOT_WAITING && redis_link_is_ready(slot->write_link))
        lease_take(slot->lease, LEASE_WRITE, slot->write_link, slot->read_link);
}

void slot_confirm_lease(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    slot->confirm_since_ms = net_now_ms();
    if (slot->write_fenced)
        lease_renew(slot->lease, slot->write_link);
}

void slot_start(struct slot *slot)
{
    ASSERT_ON_SHARD(slot);
    set_state(slot, SLOT_STANDBY);
}

void slot_share_rate(struct slot *slot, size_t broker, unsigned slots)
{
    ASSERT_ON_SHARD(slot);
    slot->outlets[broker].rate_share = slots;
}

static bool grow_lanes(struct slot *slot)
{
    if (slot->lane_count < slot->lane_capacity)
        return true;
    size_t capacity = slot->lane_capacity == 0 ? 16 : slot->lane_capacity * 2;
    struct lane **more = realloc(slot->lanes, capacity * sizeof *more);
    if (more == NULL)
        return false;
    slot->lanes = more;
    slot->lane_capacity = capacity;
    return true;
}

void slot_add_stream(struct slot *slot, const char *name, bool late)
{
    ASSERT_ON_SHARD(slot);
    struct lane *lane = grow_lanes(slot) ? lane_new(slot, name, late) : NULL;
    if (lane == NULL) {
        log_event(&slot->log, LOG_ERROR, "no memory, or no route, for a stream",
                  LOG_TEXT("stream", name));
        return;
    }
    slot->lanes[slot->lane_count++] = lane;
    slot->lanes_waiting = true;
    beat_add(lane);
    log_event(&slot->log, LOG_INFO, "stream taken up", LOG_BYTES("site", lane->site),
              LOG_TEXT("stream", name), LOG_TEXT("broker", lane->outlet->broker->name));
    if (slot->state == SLOT_HELD) {
        start_outlets(slot);
        reading_wake(slot);
    }
}

void slot_add_counts(const struct slot *slot, struct slot_counts *sum)
{
    for (size_t i = 0; i < slot->lane_count; i++) {
#define METRIC_LANE(field, name, help) sum->field += slot->lanes[i]->counts.field;
#include "core/metrics.def"
    }
}
