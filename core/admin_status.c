/*
 * /api/v1/status: the model and the judgement as JSON.
 */
#include "core/admin_private.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *const level_names[] = {"ok", "warning", "error"};

static void put_reasons(const struct admin *admin, struct json *json)
{
    json_begin_array(json, "reasons");
    for (size_t i = 0; i < admin->reason_count; i++) {
        const struct admin_reason *reason = &admin->reasons[i];
        json_begin_object(json, NULL);
        json_text(json, "code", reason->code);
        json_text(json, "level", level_names[reason->level]);
        json_number(json, "since", reason->since);
        if (reason->broker != NULL)
            json_text(json, "broker", reason->broker);
        if (reason->site != NULL)
            json_text(json, "site", reason->site);
        if (reason->slot >= 0)
            json_number(json, "slot", (uint64_t)reason->slot);
        if (reason->counted)
            json_number(json, "count", reason->count);
        if (reason->certificate != NULL) {
            json_text(json, "certificate", certificate_name(reason->certificate));
            json_number(json, "expires", reason->certificate->end * 1000);
        }
        if (reason->text[0] != '\0')
            json_text(json, "text", reason->text);
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_error(struct json *json, bool is_there, uint64_t at, const char *text)
{
    if (!is_there) {
        json_null(json, "last_error");
        return;
    }
    json_begin_object(json, "last_error");
    json_number(json, "at", at);
    json_text(json, "text", text);
    json_end_object(json);
}

/* ---- Redis and brokers --------------------------------------------------------------------- */

static void put_url(struct json *json, const struct config_url *url, const char *scheme,
                    bool with_database)
{
    char text[400], database[16] = "";
    bool v6 = strchr(url->host, ':') != NULL;
    if (with_database)
        snprintf(database, sizeof database, "/%u", url->database);
    if (url->host[0] == '\0')
        snprintf(text, sizeof text, "unix://%s?db=%u", url->path, url->database);
    else
        snprintf(text, sizeof text, "%s%s://%s%s%s:%u%s", scheme, url->tls ? "s" : "",
                 v6 ? "[" : "", url->host, v6 ? "]" : "", url->port, database);
    json_text(json, "url", text);
}

static void put_redis(const struct admin *admin, struct json *json)
{
    json_begin_object(json, "redis");
    json_bool(json, "up", admin->redis_up);
    put_url(json, &admin->config->redis.url, "redis", true);
    json_number(json, "since", admin->redis_since);
    put_error(json, admin->redis_error.at != 0, admin->redis_error.at, admin->redis_error.text);
    json_end_object(json);
}

static void put_broker(const struct admin *admin, struct json *json, size_t index)
{
    const struct admin_broker *broker = &admin->brokers[index];
    const struct config_broker *config = &admin->config->brokers[index];
    const struct admin_certificate *certificate = certificate_of_broker(admin, index);
    uint64_t p50 = 0, p99 = 0;
    bool measured = histogram_quantile(&broker->sum.puback, 500, &p50) &&
                    histogram_quantile(&broker->sum.puback, 990, &p99);
    json_begin_object(json, NULL);
    json_text(json, "name", config->name);
    put_url(json, &config->url, "mqtt", false);
    if (broker->used)
        json_bool(json, "up", broker->up);
    else
        json_null(json, "up");
    json_bool(json, "used", broker->used);
    json_number(json, "connections", broker->sum.connections);
    json_number(json, "connected", broker->sum.connected);
    json_number(json, "since", broker->since);
    json_number(json, "window", broker->sum.window);
    json_number(json, "inflight", broker->sum.inflight);
    json_text(json, "tls", broker->sum.tls);
    json_number_if(json, "certificate_expires", certificate != NULL && certificate->end > 0,
                   certificate != NULL ? certificate->end * 1000 : 0);
    put_error(json, broker->has_error, broker->error_at, broker->sum.error);
    json_number_if(json, "puback_p50_us", measured, p50);
    json_number_if(json, "puback_p99_us", measured, p99);
    json_end_object(json);
}

/* ---- slots --------------------------------------------------------------------------------- */

static const char *state_name(const struct admin_slot *slot)
{
    if (slot->held)
        return slot->running ? "held" : "beginning";
    return slot->owner[0] != '\0' ? "elsewhere" : "free";
}

static void put_slots(const struct admin *admin, struct json *json)
{
    unsigned owned = 0, without = 0;
    for (unsigned i = 0; i < admin->config->slots; i++) {
        const struct admin_slot *slot = &admin->slots[i];
        owned += slot->held;
        without += !slot->held && slot->owner[0] == '\0' && slot->ownerless_since_ms != 0;
    }
    json_begin_object(json, "slots");
    json_number(json, "count", admin->config->slots);
    json_number(json, "owned", owned);
    json_number(json, "without_owner", without);
    json_begin_array(json, "list");
    for (unsigned i = 0; i < admin->config->slots; i++) {
        const struct admin_slot *slot = &admin->slots[i];
        json_begin_object(json, NULL);
        json_number(json, "slot", i);
        json_text(json, "state", state_name(slot));
        json_text(json, "owner", slot->held ? admin->config->instance : slot->owner);
        json_number(json, "streams", slot->streams);
        json_end_object(json);
    }
    json_end_array(json);
    json_end_object(json);
}

/* ---- sites --------------------------------------------------------------------------------- */

static bool is_troubled(const struct admin_site *site)
{
    return site->dead > 0 || site->pending > 0 || site->lag > 0 || site->unreadable;
}

/* Troubled ones first, then busy ones, then by name. */
static int compare_sites(const void *left, const void *right)
{
    const struct admin_site *a = *(struct admin_site *const *)left;
    const struct admin_site *b = *(struct admin_site *const *)right;
    if (is_troubled(a) != is_troubled(b))
        return is_troubled(a) ? -1 : 1;
    uint64_t rate_a = model_rate(a), rate_b = model_rate(b);
    if (rate_a != rate_b)
        return rate_a > rate_b ? -1 : 1;
    return strcmp(a->name, b->name);
}

static void put_site(const struct admin *admin, struct json *json, const struct admin_site *site)
{
    uint64_t now = ask_redis_time(admin), rate = model_rate(site);
    char text[32];
    json_begin_object(json, NULL);
    json_text(json, "site", site->name);
    json_number(json, "streams", site->streams);
    json_number_if(json, "lag", site->lag_known, site->lag);
    json_number_if(json, "pending", site->pending_known, site->pending);
    json_number(json, "oldest_pending_s",
                site->oldest_ms > 0 && now > site->oldest_ms ? (now - site->oldest_ms) / 1000 : 0);
    json_number_if(json, "dead_letters", site->dead_known, site->dead);
    json_number_if(json, "last_event", site->last_ms > 0, site->last_ms);
    snprintf(text, sizeof text, ",\"rate\":%" PRIu64 ".%02" PRIu64, rate / 100, rate % 100);
    fputs(text, json->out);
    json_number(json, "total", site->counts.settled);
    json_end_object(json);
}

static void put_sites(const struct admin *admin, struct json *json)
{
    struct admin_site **sorted = calloc(admin->site_count + 1, sizeof *sorted);
    size_t count = 0;
    for (size_t i = 0; sorted != NULL && i < admin->site_count; i++)
        if (admin->sites[i]->streams > 0)
            sorted[count++] = admin->sites[i];
    if (sorted != NULL)
        qsort(sorted, count, sizeof(struct admin_site *), compare_sites);
    json_begin_array(json, "sites");
    for (size_t i = 0; i < count && i < ADMIN_SITES_SHOWN; i++)
        put_site(admin, json, sorted[i]);
    json_end_array(json);
    json_number(json, "sites_total", count);
    free(sorted);
}

/* ---- all of it ----------------------------------------------------------------------------- */

static void put_totals(const struct admin *admin, struct json *json)
{
    uint64_t republished = 0;
    for (size_t i = 0; i < admin->config->broker_count; i++)
        republished += admin->brokers[i].sum.republished;
    json_begin_object(json, "totals");
#define METRIC_LANE(field, name, help) json_number(json, #field, admin->totals.field);
#include "core/metrics.def"
    json_number(json, "republished", republished);
    json_end_object(json);
}

void status_write_history(const struct admin *admin, struct json *json, const char *name)
{
    json_begin_object(json, name);
    json_number(json, "step_s", 60);
    json_begin_array(json, "rate");
    for (size_t i = 0; i < HISTORY_MINUTES; i++) {
        uint64_t rate = admin->minutes[i].settled * 100 / 60;
        fprintf(json->out, "%s%" PRIu64 ".%02" PRIu64, i > 0 ? "," : "", rate / 100, rate % 100);
    }
    json_end_array(json);
    json_begin_array(json, "delivery_p50_ms");
    for (size_t i = 0; i < HISTORY_MINUTES; i++)
        json_number_if(json, NULL, admin->minutes[i].measured, admin->minutes[i].p50_us / 1000);
    json_end_array(json);
    json_begin_array(json, "delivery_p99_ms");
    for (size_t i = 0; i < HISTORY_MINUTES; i++)
        json_number_if(json, NULL, admin->minutes[i].measured, admin->minutes[i].p99_us / 1000);
    json_end_array(json);
    json_end_object(json);
}

void status_write(struct admin *admin, struct json *json, bool with_history)
{
    json_begin_object(json, NULL);
    json_text(json, "instance", admin->config->instance);
    json_text(json, "version", NEMOGATE_VERSION);
    json_number(json, "started", admin->started);
    json_number(json, "now", admin_epoch_ms());
    json_bool(json, "write", admin->config->admin.write);
    json_bool(json, "ready", judge_is_ready(admin));
    json_text(json, "overall", level_names[judge_level(admin)]);
    put_reasons(admin, json);
    put_redis(admin, json);
    json_begin_array(json, "brokers");
    for (size_t i = 0; i < admin->config->broker_count; i++)
        put_broker(admin, json, i);
    json_end_array(json);
    put_slots(admin, json);
    put_sites(admin, json);
    put_totals(admin, json);
    if (with_history)
        status_write_history(admin, json, "history");
    json_end_object(json);
}
