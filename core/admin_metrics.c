/*
 * /metrics: what the model knows, by the rows of core/metrics.def.
 */
#include "core/admin_private.h"

#include "core/reload.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Beyond so many sites the rest is one site "other". */
#define SITES_LABELLED 1000u

struct site_values {
    uint64_t *value; /* by site, and a last one for all others */
    bool *known;
};

static size_t place_of(const struct admin_site *site)
{
    return site->index < SITES_LABELLED ? site->index : SITES_LABELLED;
}

static void put_sites(FILE *out, const struct admin *admin, const char *name,
                      const struct site_values *values)
{
    size_t last = admin->site_count < SITES_LABELLED ? admin->site_count : SITES_LABELLED;
    for (size_t i = 0; i < last; i++)
        if (values->known[i])
            metrics_put_labelled(out, name, "site", admin->sites[i]->name, values->value[i]);
    if (admin->site_count > SITES_LABELLED && values->known[SITES_LABELLED])
        metrics_put_labelled(out, name, "site", "other", values->value[SITES_LABELLED]);
}

static void add_value(struct site_values *values, const struct admin_site *site, bool known,
                      uint64_t value)
{
    if (!known)
        return;
    values->value[place_of(site)] += value;
    values->known[place_of(site)] = true;
}

static void clear(struct site_values *values)
{
    memset(values->value, 0, (SITES_LABELLED + 1) * sizeof *values->value);
    memset(values->known, 0, (SITES_LABELLED + 1) * sizeof *values->known);
}

static void put_all_sites(struct admin *admin, FILE *out)
{
    struct site_values values = {calloc(SITES_LABELLED + 1, sizeof *values.value),
                                 calloc(SITES_LABELLED + 1, sizeof *values.known)};
    if (values.value != NULL && values.known != NULL) {
#define METRIC_LANE(field, name, help)                                                             \
    metrics_put_head(out, name, "counter", help);                                                  \
    clear(&values);                                                                                \
    for (size_t i = 0; i < admin->site_count; i++)                                                 \
        add_value(&values, admin->sites[i], true, admin->sites[i]->counts.field);                  \
    put_sites(out, admin, name, &values);
#define METRIC_SITE(field, name, type, help)                                                       \
    metrics_put_head(out, name, #type, help);                                                      \
    clear(&values);                                                                                \
    for (size_t i = 0; i < admin->site_count; i++)                                                 \
        add_value(&values, admin->sites[i],                                                        \
                  admin->sites[i]->streams > 0 && admin->sites[i]->field##_known,                  \
                  admin->sites[i]->field);                                                         \
    put_sites(out, admin, name, &values);
#include "core/metrics.def"
    }
    free(values.value);
    free(values.known);
}

/* ---- brokers ------------------------------------------------------------------------------- */

/* The sum's fields, and whether it is up, under one name. */
struct broker_values {
    uint64_t up, connections, connected, inflight, window, bytes, reconnects, republished;
};

static struct broker_values values_of(const struct admin_broker *broker)
{
    const struct report_outlet *sum = &broker->sum;
    return (struct broker_values){broker->up,  sum->connections, sum->connected,  sum->inflight,
                                  sum->window, sum->bytes,       sum->reconnects, sum->republished};
}

static const char *broker_name(const struct admin *admin, size_t index)
{
    return admin->config->brokers[index].name;
}

static void put_brokers(const struct admin *admin, FILE *out)
{
    const struct config *config = admin->config;
#define METRIC_BROKER(field, name, type, help)                                                     \
    metrics_put_head(out, name, #type, help);                                                      \
    for (size_t i = 0; i < config->broker_count; i++)                                              \
        if (admin->brokers[i].used)                                                                \
            metrics_put_labelled(out, name, "broker", broker_name(admin, i),                       \
                                 values_of(&admin->brokers[i]).field);
#include "core/metrics.def"
}

static void put_codes(const struct admin *admin, const char *name, FILE *out)
{
    for (size_t i = 0; i < admin->config->broker_count; i++) {
        for (unsigned code = 0; code < 256; code++) {
            uint64_t count = admin->brokers[i].sum.answers[code];
            if (count == 0 && code != 0)
                continue;
            fprintf(out, "%s{broker=", name);
            metrics_put_label_value(out, admin->config->brokers[i].name);
            fprintf(out, ",code=\"0x%02x\"} %" PRIu64 "\n", code, count);
        }
    }
}

static void put_histograms(const struct admin *admin, FILE *out)
{
    const struct config *config = admin->config;
    size_t field_loop = 1;
#define field_puback config->broker_count
#define field_delivery config->broker_count
#define histogram_of_puback(i) (&admin->brokers[i].sum.puback)
#define histogram_of_delivery(i) (&admin->brokers[i].sum.delivery)
#define histogram_of_loop(i) (&admin->loop)
#define METRIC_HISTOGRAM(field, name, labels, help)                                                \
    metrics_put_head(out, name, "histogram", help);                                                \
    for (size_t i = 0; i < field_##field; i++)                                                     \
        metrics_put_histogram(out, name, (labels)[0] != '\0' ? "broker" : NULL,                    \
                              broker_name(admin, i), histogram_of_##field(i));
#include "core/metrics.def"
}

static void put_certificates(const struct admin *admin, const char *name, FILE *out)
{
    for (size_t i = 0; i < admin->certificate_count; i++) {
        const struct admin_certificate *certificate = &admin->certificates[i];
        if (certificate->end == 0)
            continue;
        const char *broker = certificate_broker_name(admin, certificate);
        fprintf(out, "%s{of=\"%s\",broker=", name, certificate_name(certificate));
        metrics_put_label_value(out, broker != NULL ? broker : "");
        fprintf(out, "} %" PRIu64 "\n", certificate->end);
    }
}

/* ---- the process --------------------------------------------------------------------------- */

/* By reason, over all slots; the reasons are few constants. */
static void put_reasons(const struct admin *admin, const char *name, FILE *out)
{
    struct report_reason sum[REPORT_REASONS_MAX];
    size_t count = 0;
    for (unsigned slot = 0; slot < admin->config->slots; slot++) {
        for (size_t i = 0; i < admin->slots[slot].reason_count; i++) {
            const struct report_reason *reason = &admin->slots[slot].reasons[i];
            size_t at = 0;
            while (at < count && strcmp(sum[at].reason, reason->reason) != 0)
                at++;
            if (at == REPORT_REASONS_MAX)
                continue;
            if (at == count)
                sum[count++] = (struct report_reason){.reason = reason->reason};
            sum[at].count += reason->count;
        }
    }
    for (size_t i = 0; i < count; i++)
        metrics_put_labelled(out, name, "reason", sum[i].reason, sum[i].count);
}

/* What is not well, by code and level. */
static void put_problems(const struct admin *admin, const char *name, FILE *out)
{
    static const char *const levels[] = {
        [ADMIN_OK] = "ok", [ADMIN_WARNING] = "warning", [ADMIN_ERROR] = "error"};
    bool told[REASONS_MAX] = {false};
    for (size_t i = 0; i < admin->reason_count; i++) {
        const struct admin_reason *reason = &admin->reasons[i];
        uint64_t count = 0;
        if (told[i])
            continue;
        for (size_t j = i; j < admin->reason_count; j++) {
            if (admin->reasons[j].level != reason->level ||
                strcmp(admin->reasons[j].code, reason->code) != 0)
                continue;
            told[j] = true;
            count++;
        }
        fprintf(out, "%s{code=", name);
        metrics_put_label_value(out, reason->code);
        fprintf(out, ",level=\"%s\"} %" PRIu64 "\n", levels[reason->level], count);
    }
}

#define NOT_KNOWN UINT64_MAX

struct process_values {
    uint64_t redis_up, slots_owned, oldest_pending_s, ready, reload_failed, legacy_rivals,
        feed_listeners, feed_dropped, resident, cpu_us, started_us;
};

/* proc(5), /proc/[pid]/statm: the second number, in pages. */
static uint64_t resident_bytes(void)
{
    uint64_t resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return NOT_KNOWN;
    int found = fscanf(file, "%*u %" SCNu64, &resident);
    fclose(file);
    return found == 1 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : NOT_KNOWN;
}

static uint64_t microseconds(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return NOT_KNOWN;
    return microseconds(&usage.ru_utime) + microseconds(&usage.ru_stime);
}

static struct process_values process_values(const struct admin *admin)
{
    struct process_values values = {.redis_up = admin->redis_up,
                                    .ready = judge_is_ready(admin),
                                    .reload_failed = reload_has_failed(admin->setting.reload),
                                    .feed_listeners = admin->listener_count,
                                    .feed_dropped = admin->feed_dropped,
                                    .resident = resident_bytes(),
                                    .cpu_us = cpu_us(),
                                    .started_us = admin->started * 1000};
    uint64_t oldest = 0, now = ask_redis_time(admin);
    for (unsigned i = 0; i < admin->config->slots; i++)
        values.slots_owned += admin->slots[i].held;
    for (size_t i = 0; i < admin->config->legacy_list_count; i++)
        values.legacy_rivals += admin->rivals[i] != NULL;
    for (size_t i = 0; i < admin->site_count; i++) {
        uint64_t ms = admin->sites[i]->oldest_ms;
        if (ms > 0 && (oldest == 0 || ms < oldest))
            oldest = ms;
    }
    values.oldest_pending_s = oldest > 0 && now > oldest ? (now - oldest) / 1000 : 0;
    return values;
}

void admin_metrics_write(struct admin *admin, FILE *out)
{
    struct process_values values = process_values(admin);
    put_all_sites(admin, out);
    put_brokers(admin, out);
#define METRIC_PROCESS(field, name, type, help)                                                    \
    metrics_put_head(out, name, #type, help);                                                      \
    if (values.field != NOT_KNOWN)                                                                 \
        metrics_put(out, name, values.field);
#define METRIC_SECONDS(field, name, type, help)                                                    \
    metrics_put_head(out, name, #type, help);                                                      \
    if (values.field != NOT_KNOWN)                                                                 \
        metrics_put_seconds(out, name, values.field);
#define METRIC_CODED(field, name, labels, type, help)                                              \
    metrics_put_head(out, name, #type, help);                                                      \
    put_##field(admin, name, out);
#include "core/metrics.def"
    put_histograms(admin, out);
    metrics_put_head(out, "nemogate_build_info", "gauge", "Always 1");
    metrics_put_labelled(out, "nemogate_build_info", "version", NEMOGATE_VERSION, 1);
}
