/*
 * The status as a table for people, which `nemogate status` prints: made here, where all is known.
 */
#include "core/admin_private.h"

#include <inttypes.h>

#define SITES_IN_TEXT 100u

/* "45 s", "12 min", "3 h", "9 d" */
static const char *ago(uint64_t ms, char text[24])
{
    uint64_t s = ms / 1000;
    if (s < 120)
        snprintf(text, 24, "%" PRIu64 " s", s);
    else if (s < 7200)
        snprintf(text, 24, "%" PRIu64 " min", s / 60);
    else if (s < 172800)
        snprintf(text, 24, "%" PRIu64 " h", s / 3600);
    else
        snprintf(text, 24, "%" PRIu64 " d", s / 86400);
    return text;
}

static uint64_t since(uint64_t epoch_ms)
{
    uint64_t now = admin_epoch_ms();
    return now > epoch_ms ? now - epoch_ms : 0;
}

static const char *number_or_mark(bool known, uint64_t number, char text[24])
{
    if (known)
        snprintf(text, 24, "%" PRIu64, number);
    else
        snprintf(text, 24, "?");
    return text;
}

static void put_printable(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, out);
}

static void put_head(const struct admin *admin, FILE *out)
{
    static const char *const words[] = {"all is well", "there are warnings", "there are errors"};
    char age[24];
    fprintf(out, "%s, version %s, up for %s: %s%s\n", admin->config->instance, NEMOGATE_VERSION,
            ago(net_now_ms() - admin->begun_ms, age), words[judge_level(admin)],
            judge_is_ready(admin) ? "" : "; not ready");
    for (size_t i = 0; i < admin->reason_count; i++) {
        const struct admin_reason *reason = &admin->reasons[i];
        fprintf(out, "  %-7s %s", reason->level == ADMIN_ERROR ? "error" : "warning", reason->code);
        if (reason->broker != NULL)
            fprintf(out, " (broker %s)", reason->broker);
        if (reason->site != NULL)
            fprintf(out, " (site %s)", reason->site);
        if (reason->slot >= 0)
            fprintf(out, " (slot %d)", reason->slot);
        if (reason->counted)
            fprintf(out, ": %" PRIu64, reason->count);
        fprintf(out, ", for %s", ago(since(reason->since), age));
        fputs(reason->text[0] != '\0' ? ": " : "", out);
        put_printable(out, reason->text);
        fputc('\n', out);
    }
}

static void put_brokers(const struct admin *admin, FILE *out)
{
    fprintf(out, "\n%-16s %-8s %11s %9s %8s %10s %10s\n", "BROKER", "STATE", "CONNECTED",
            "IN FLIGHT", "WINDOW", "PUBACK p50", "p99");
    for (size_t i = 0; i < admin->config->broker_count; i++) {
        const struct admin_broker *broker = &admin->brokers[i];
        uint64_t p50 = 0, p99 = 0;
        char connected[32], first[24] = "-", second[24] = "-";
        if (histogram_quantile(&broker->sum.puback, 500, &p50) &&
            histogram_quantile(&broker->sum.puback, 990, &p99)) {
            snprintf(first, sizeof first, "%.1f ms", (double)p50 / 1000);
            snprintf(second, sizeof second, "%.1f ms", (double)p99 / 1000);
        }
        snprintf(connected, sizeof connected, "%u of %u", broker->sum.connected,
                 broker->sum.connections);
        fprintf(out, "%-16s %-8s %11s %9zu %8zu %10s %10s\n", admin->config->brokers[i].name,
                !broker->used ? "unused"
                : broker->up  ? "up"
                              : "down",
                connected, broker->sum.inflight, broker->sum.window, first, second);
    }
}

static void put_slots(const struct admin *admin, FILE *out)
{
    unsigned held = 0;
    for (unsigned i = 0; i < admin->config->slots; i++)
        held += admin->slots[i].held;
    fprintf(out, "\nRedis is %s; %u of %u slots are held here", admin->redis_up ? "up" : "down",
            held, admin->config->slots);
    for (unsigned i = 0; i < admin->config->slots; i++)
        if (!admin->slots[i].held && admin->slots[i].ownerless_since_ms != 0)
            fprintf(out, ", slot %u has no owner", i);
    fputc('\n', out);
}

static void put_sites(const struct admin *admin, FILE *out)
{
    size_t shown = 0;
    fprintf(out, "\n%-32s %7s %9s %9s %9s %12s %10s\n", "SITE", "STREAMS", "LAG", "PENDING", "DEAD",
            "SETTLED", "LAST EVENT");
    for (size_t i = 0; i < admin->site_count && shown < SITES_IN_TEXT; i++) {
        const struct admin_site *site = admin->sites[i];
        uint64_t now = ask_redis_time(admin);
        char lag[24], pending[24], dead[24], last[24] = "-";
        if (site->streams == 0)
            continue;
        if (site->last_ms > 0)
            ago(now > site->last_ms ? now - site->last_ms : 0, last);
        fprintf(out, "%-32s %7u %9s %9s %9s %12" PRIu64 " %10s\n", site->name, site->streams,
                number_or_mark(site->lag_known, site->lag, lag),
                number_or_mark(site->pending_known, site->pending, pending),
                number_or_mark(site->dead_known, site->dead, dead), site->counts.settled, last);
        shown++;
    }
    if (admin->site_count > SITES_IN_TEXT)
        fprintf(out, "and others, %zu sites in all\n", admin->site_count);
}

void status_write_text(struct admin *admin, FILE *out)
{
    put_head(admin, out);
    put_brokers(admin, out);
    put_slots(admin, out);
    put_sites(admin, out);
}
