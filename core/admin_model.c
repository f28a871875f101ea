/*
 * What the main thread knows of slots, brokers, streams and sites: the last report of each, and
 * their sums.
 */
#include "core/admin_private.h"

#include "codec/stream_entry.h"

#include <search.h>
#include <stdlib.h>

/* ---- names --------------------------------------------------------------------------------- */

static int compare_streams(const void *a, const void *b)
{
    return strcmp(((const struct admin_stream *)a)->name, ((const struct admin_stream *)b)->name);
}

static int compare_sites(const void *a, const void *b)
{
    return strcmp(((const struct admin_site *)a)->name, ((const struct admin_site *)b)->name);
}

/* Makes room for one more pointer. */
static bool grow(void **array, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return true;
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    void *larger = realloc(*array, more * sizeof(void *));
    if (larger == NULL)
        return false;
    *array = larger;
    *capacity = more;
    return true;
}

static struct admin_site *site_of(struct admin *admin, struct bytes name)
{
    struct admin_site key = {.name = ""};
    snprintf(key.name, sizeof key.name, "%.*s", (int)name.length, (const char *)name.data);
    void *found = tfind(&key, &admin->sites_by_name, compare_sites);
    if (found != NULL)
        return *(struct admin_site **)found;
    struct admin_site *site = calloc(1, sizeof *site);
    if (site == NULL || !grow((void **)&admin->sites, admin->site_count, &admin->site_capacity)) {
        free(site);
        return NULL;
    }
    memcpy(site->name, key.name, sizeof site->name);
    if (tsearch(site, &admin->sites_by_name, compare_sites) == NULL) {
        free(site);
        return NULL;
    }
    site->index = admin->site_count;
    admin->sites[admin->site_count++] = site;
    return site;
}

struct admin_site *model_site_of_list(struct admin *admin, size_t list)
{
    const char *stream = admin->config->legacy_lists[list].stream;
    struct bytes site = stream_site(bytes_of(stream));
    return site_of(admin,
                   site.length > 0 ? site : bytes_of(config_route_of(admin->config, stream)->site));
}

static void free_stream(struct admin_stream *stream)
{
    if (stream == NULL)
        return;
    free(stream->name);
    free(stream->dead_key);
    free(stream);
}

static struct admin_stream *make_stream(struct admin *admin, const struct report_stream *in)
{
    struct admin_stream *stream = calloc(1, sizeof *stream);
    struct admin_site *site = site_of(admin, in->site);
    if (stream == NULL || site == NULL ||
        !grow((void **)&admin->streams, admin->stream_count, &admin->stream_capacity)) {
        free(stream);
        return NULL;
    }
    stream->admin = admin;
    stream->site = site;
    stream->name = strdup(in->name);
    if (asprintf(&stream->dead_key, "nemo:{%s}:dead", site->name) < 0)
        stream->dead_key = NULL;
    if (stream->name == NULL || stream->dead_key == NULL ||
        tsearch(stream, &admin->streams_by_name, compare_streams) == NULL) {
        free_stream(stream);
        return NULL;
    }
    admin->streams[admin->stream_count++] = stream;
    return stream;
}

static void take_stream(struct admin *admin, unsigned slot, const struct report_stream *in)
{
    struct admin_stream key = {.name = (char *)(uintptr_t)in->name};
    void *found = tfind(&key, &admin->streams_by_name, compare_streams);
    struct admin_stream *stream =
        found != NULL ? *(struct admin_stream **)found : make_stream(admin, in);
    if (stream == NULL)
        return;
    stream->slot = slot;
    stream->broker = in->broker;
    stream->counts = in->counts;
    stream->last_ms = in->last_ms;
    stream->state = in->state;
    stream->trim_blocked = in->trim_blocked;
    stream->refused_keys = in->refused_keys;
    stream->refusal = in->refusal;
}

void model_take(struct admin *admin, const struct slot_report *report)
{
    struct admin_slot *slot = &admin->slots[report->slot];
    slot->held = report->held;
    slot->running = report->running;
    slot->redis_up = report->redis_up;
    slot->streams = (unsigned)report->all_streams;
    memcpy(slot->outlets, report->outlets, report->broker_count * sizeof *report->outlets);
    memcpy(slot->reasons, report->reasons, sizeof slot->reasons);
    slot->reason_count = report->reason_count;
    for (size_t i = 0; i < report->stream_count; i++)
        take_stream(admin, report->slot, &report->streams[i]);
}

/* ---- sums ---------------------------------------------------------------------------------- */

static void add_outlet(struct report_outlet *sum, const struct report_outlet *outlet)
{
    sum->inflight += outlet->inflight;
    sum->window += outlet->window;
    sum->bytes += outlet->bytes;
    sum->unsettled += outlet->unsettled;
    sum->connections += outlet->connections;
    sum->connected += outlet->connected;
    sum->reconnects += outlet->reconnects;
    sum->republished += outlet->republished;
    for (size_t i = 0; i < 256; i++)
        sum->answers[i] += outlet->answers[i];
    histogram_add(&sum->puback, &outlet->puback);
    histogram_add(&sum->delivery, &outlet->delivery);
    if (outlet->used && outlet->certificate_end != 0 &&
        (sum->certificate_end == 0 || outlet->certificate_end < sum->certificate_end))
        sum->certificate_end = outlet->certificate_end;
    if (outlet->tls[0] != '\0')
        memcpy(sum->tls, outlet->tls, sizeof sum->tls);
    if (outlet->lost_ms > sum->lost_ms) {
        sum->lost_ms = outlet->lost_ms;
        sum->cause = outlet->cause;
        memcpy(sum->error, outlet->error, sizeof sum->error);
    }
}

static void follow_broker(struct admin_broker *broker, uint64_t now)
{
    uint64_t mark = 0;
    for (size_t i = 0; i < 256; i++)
        mark += broker->sum.answers[i];
    if (mark != broker->mark || broker->sum.inflight == 0) {
        broker->mark = mark;
        broker->moved_ms = now;
    }
    if (broker->sum.lost_ms > 0) {
        broker->has_error = true;
        broker->error_at = admin_epoch_ms() - (now - broker->sum.lost_ms);
    }
}

static void sum_broker(struct admin *admin, size_t index, uint64_t now)
{
    struct admin_broker *broker = &admin->brokers[index];
    uint64_t mark = broker->mark;
    bool used = false, up = true;
    broker->sum = (struct report_outlet){.used = false};
    for (unsigned i = 0; i < admin->config->slots; i++) {
        const struct report_outlet *outlet = &admin->slots[i].outlets[index];
        used = used || outlet->used;
        up = up && (!outlet->used || outlet->connected == outlet->connections);
        add_outlet(&broker->sum, outlet);
    }
    up = up && used;
    if (up != broker->up || used != broker->used || broker->since == 0)
        broker->since = admin_epoch_ms();
    broker->used = used;
    broker->up = up;
    bool newly_lost = broker->sum.cause == REPORT_NO_ANSWER && broker->sum.lost_ms > 0;
    follow_broker(broker, now);
    broker->no_answer =
        newly_lost && (broker->no_answer ? mark == broker->mark : now - broker->sum.lost_ms < 5000);
}

static void add_counts(struct slot_counts *sum, const struct slot_counts *counts)
{
#define METRIC_LANE(field, name, help) sum->field += counts->field;
#include "core/metrics.def"
}

static void clear_site(struct admin_site *site)
{
    site->counts = (struct slot_counts){0};
    site->streams = 0;
    site->lag_known = site->pending_known = true;
    site->lag = site->pending = site->oldest_ms = site->last_ms = 0;
    site->unreadable = site->trim_blocked = false;
    site->refused_keys_known = true;
    site->refused_keys = 0;
}

static void add_stream(struct admin *admin, const struct admin_stream *stream)
{
    struct admin_site *site = stream->site;
    add_counts(&site->counts, &stream->counts);
    add_counts(&admin->totals, &stream->counts);
    if (stream->last_ms > site->last_ms)
        site->last_ms = stream->last_ms;
    if (!admin->slots[stream->slot].held)
        return;
    site->streams++;
    site->lag_known = site->lag_known && stream->lag_known;
    site->pending_known = site->pending_known && stream->pending_known;
    site->lag += stream->lag;
    site->pending += stream->pending;
    if (stream->oldest_ms > 0 && (site->oldest_ms == 0 || stream->oldest_ms < site->oldest_ms))
        site->oldest_ms = stream->oldest_ms;
    site->unreadable = site->unreadable || stream->state != REPORT_STREAM_FINE;
    site->trim_blocked = site->trim_blocked || stream->trim_blocked;
    site->refused_keys += stream->refused_keys;
    if (stream->refused_keys > 0) {
        site->refusing = stream->broker;
        site->refusal = stream->refusal;
    }
}

/* Whether something is to be settled, but for what goes to the brokers that sites have chosen:
 * those may be away for ever. */
static bool is_pending(const struct admin *admin)
{
    const struct config_broker *brokers = admin->config->brokers;
    bool pending = false;
    for (size_t i = 0; i < admin->config->broker_count; i++)
        pending = pending || (brokers[i].site == NULL && admin->brokers[i].sum.unsettled > 0);
    for (size_t i = 0; i < admin->stream_count && !pending; i++) {
        const struct admin_stream *stream = admin->streams[i];
        pending = stream->pending > 0 && admin->slots[stream->slot].held &&
                  brokers[stream->broker].site == NULL &&
                  config_route_of(admin->config, stream->name)->site_fault == NULL;
    }
    return pending;
}

void model_sum(struct admin *admin)
{
    uint64_t now = net_now_ms();
    admin->totals = (struct slot_counts){0};
    for (size_t i = 0; i < admin->site_count; i++)
        clear_site(admin->sites[i]);
    for (size_t i = 0; i < admin->stream_count; i++)
        add_stream(admin, admin->streams[i]);
    admin->delivery = (struct histogram){.sum_us = 0};
    admin->unsettled = 0;
    for (size_t i = 0; i < admin->config->broker_count; i++) {
        sum_broker(admin, i, now);
        histogram_add(&admin->delivery, &admin->brokers[i].sum.delivery);
        admin->unsettled += admin->brokers[i].sum.unsettled;
    }
    certificates_take(admin);
    bool pending = is_pending(admin);
    if (admin->totals.acked != admin->moved_mark || !pending) {
        admin->moved_mark = admin->totals.acked;
        admin->moved_ms = now;
    }
}

/* ---- rates and history --------------------------------------------------------------------- */

void model_mark_rates(struct admin *admin)
{
    for (size_t i = 0; i < admin->site_count; i++) {
        struct admin_site *site = admin->sites[i];
        memmove(&site->mark[1], &site->mark[0], sizeof site->mark - sizeof site->mark[0]);
        site->mark[0] = site->counts.settled;
        site->marks += site->marks < RATE_MARKS;
    }
}

uint64_t model_rate(const struct admin_site *site)
{
    if (site->marks == 0)
        return 0;
    uint64_t settled = site->counts.settled - site->mark[site->marks - 1];
    return settled * 100 * 1000 / (site->marks * (uint64_t)RATE_MARK_MS);
}

void model_end_minute(struct admin *admin)
{
    struct histogram delivery = histogram_since(&admin->delivery, &admin->minute_delivery);
    struct admin_minute minute = {.settled = admin->totals.settled - admin->minute_settled};
    minute.measured = histogram_quantile(&delivery, 500, &minute.p50_us) &&
                      histogram_quantile(&delivery, 990, &minute.p99_us);
    memmove(&admin->minutes[0], &admin->minutes[1], sizeof admin->minutes - sizeof minute);
    admin->minutes[HISTORY_MINUTES - 1] = minute;
    admin->minute_settled = admin->totals.settled;
    admin->minute_delivery = admin->delivery;
    for (size_t i = 0; i < admin->site_count; i++) {
        admin->sites[i]->lag_minute[1] = admin->sites[i]->lag_minute[0];
        admin->sites[i]->lag_minute[0] = admin->sites[i]->lag;
    }
}

/* ---- making and ending --------------------------------------------------------------------- */

bool model_open(struct admin *admin)
{
    const struct config *config = admin->config;
    admin->slots = calloc(config->slots, sizeof *admin->slots);
    admin->brokers = calloc(config->broker_count, sizeof *admin->brokers);
    admin->answered = calloc(config->shards, sizeof *admin->answered);
    admin->asked_ms = calloc(config->shards, sizeof *admin->asked_ms);
    admin->rivals = calloc(config->legacy_list_count + 1, sizeof(struct admin_site *));
    if (admin->rivals == NULL || !certificates_open(admin) || admin->slots == NULL ||
        admin->brokers == NULL || admin->answered == NULL || admin->asked_ms == NULL)
        return false;
    for (unsigned i = 0; i < config->slots; i++) {
        admin->slots[i].outlets = calloc(config->broker_count, sizeof(struct report_outlet));
        if (admin->slots[i].outlets == NULL)
            return false;
    }
    return true;
}

static void keep(void *node)
{
    (void)node;
}

void model_close(struct admin *admin)
{
    for (unsigned i = 0; admin->slots != NULL && i < admin->config->slots; i++)
        free(admin->slots[i].outlets);
    tdestroy(admin->streams_by_name, keep);
    tdestroy(admin->sites_by_name, keep);
    for (size_t i = 0; i < admin->stream_count; i++)
        free_stream(admin->streams[i]);
    for (size_t i = 0; i < admin->site_count; i++)
        free(admin->sites[i]);
    free(admin->slots);
    free(admin->brokers);
    free(admin->answered);
    free(admin->asked_ms);
    free(admin->rivals);
    certificates_close(admin);
    free(admin->streams);
    free(admin->sites);
}
