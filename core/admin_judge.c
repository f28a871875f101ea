/*
 * Is all well, and if not, why? Each reason has a code, which the page has words for, and the time
 * since when it holds. Readiness and the status sentence come from the same reasons.
 */
#include "core/admin_private.h"

#include "codec/mqtt_wire.h"
#include "core/reload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A shard that has not turned for so long though it was poked is dead. */
#define DEAD_MS 10000u
/* A hand-over takes a moment. */
#define OWNERLESS_MS 2000u
#define LAG_MATTERS 1000u
/* What a process that begins anew may take until it carries events again. */
#define BEGINNING_MS 10000u

/* ---- gathering ----------------------------------------------------------------------------- */

struct judgement {
    struct admin *admin;
    struct admin_reason reason[REASONS_MAX];
    size_t count;
};

static bool is_same(const struct admin_reason *a, const struct admin_reason *b)
{
    return strcmp(a->code, b->code) == 0 && a->broker == b->broker && a->site == b->site &&
           a->slot == b->slot && a->certificate == b->certificate;
}

/* Where the reason stood before, its time stands. */
static struct admin_reason *add(struct judgement *judgement, struct admin_reason reason)
{
    const struct admin *admin = judgement->admin;
    struct admin_reason *place = &judgement->reason[judgement->count];
    if (judgement->count == REASONS_MAX - 1)
        return place; /* the last one is room for what is not shown */
    for (size_t i = 0; i < admin->reason_count; i++)
        if (is_same(&admin->reasons[i], &reason))
            reason.since = admin->reasons[i].since;
    if (reason.since == 0)
        reason.since = admin_epoch_ms();
    *place = reason;
    judgement->count++;
    return place;
}

static void say(struct admin_reason *reason, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct admin_reason *reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
}

/* ---- Redis and brokers --------------------------------------------------------------------- */

static void judge_redis(struct judgement *j)
{
    const struct admin *admin = j->admin;
    bool links = true;
    for (unsigned i = 0; i < admin->config->slots; i++)
        links = links && (!admin->slots[i].held || admin->slots[i].redis_up);
    if (admin->redis_up && links)
        return;
    struct admin_reason *reason =
        add(j, (struct admin_reason){
                   .code = "redis-down", .level = ADMIN_ERROR, .unready = true, .slot = -1});
    say(reason, "%s",
        admin->redis_error.at != 0 ? admin->redis_error.text : "there is no connection yet");
}

static uint64_t stalled_for(const struct admin *admin, uint64_t moved_ms)
{
    uint64_t ms = net_now_ms() - moved_ms;
    return ms >= admin->config->admin.stall_timeout_ms ? ms : 0;
}

static void judge_broker(struct judgement *j, size_t index)
{
    const struct admin *admin = j->admin;
    const struct admin_broker *broker = &admin->brokers[index];
    /* That of a site may be wrong or away for ever, which is no other site's business. */
    bool of_site = admin->config->brokers[index].site != NULL;
    struct admin_reason reason = {.level = of_site ? ADMIN_WARNING : ADMIN_ERROR,
                                  .unready = !of_site,
                                  .broker = admin->config->brokers[index].name,
                                  .slot = -1};
    uint64_t stalled = stalled_for(admin, broker->moved_ms);
    if (!broker->used)
        return;
    if (broker->no_answer || (broker->up && stalled > 0))
        reason.code = "broker-stalled";
    else if (!broker->up)
        reason.code = broker->sum.cause == REPORT_REFUSED ? "broker-refused" : "broker-down";
    else
        return;
    reason.since = broker->up ? 0 : broker->since;
    struct admin_reason *added = add(j, reason);
    if (broker->sum.error[0] != '\0' && (!broker->up || broker->no_answer))
        say(added, "%s", broker->sum.error);
    else if (broker->up)
        say(added, "%zu publishes are without an answer, the last came %llu s ago",
            broker->sum.inflight, (unsigned long long)stalled / 1000);
    else
        say(added, "there is no connection yet");
}

/* ---- certificates -------------------------------------------------------------------------- */

static bool is_peer_down(const struct admin *admin, const struct admin_certificate *certificate)
{
    switch (certificate->of) {
    case CERTIFICATE_BROKER:
    case CERTIFICATE_BROKER_CLIENT:
        return !admin->brokers[certificate->broker].up;
    case CERTIFICATE_REDIS:
    case CERTIFICATE_REDIS_CLIENT:
        return !admin->redis_up;
    case CERTIFICATE_ADMIN:
        break;
    }
    return false;
}

static bool is_of_site(const struct admin *admin, const struct admin_certificate *certificate)
{
    return certificate_broker_name(admin, certificate) != NULL &&
           admin->config->brokers[certificate->broker].site != NULL;
}

/* One that has ended is the cause where its peer cannot be reached: being older, it stands before
 * what follows from it. */
static void judge_certificate(struct judgement *j, const struct admin_certificate *certificate)
{
    const struct admin *admin = j->admin;
    uint64_t now = admin_epoch_ms() / 1000, end = certificate->end;
    const char *broker = certificate_broker_name(admin, certificate);
    if (end == 0 || end > now + TLS_RENEWAL_S ||
        (broker != NULL && !admin->brokers[certificate->broker].used))
        return;
    bool over = end <= now;
    struct admin_reason reason = {.code = "certificate-expires",
                                  .level = over ? ADMIN_ERROR : ADMIN_WARNING,
                                  .unready = over && !is_of_site(admin, certificate) &&
                                             is_peer_down(admin, certificate),
                                  .since = (over ? end : end - TLS_RENEWAL_S) * 1000,
                                  .broker = broker,
                                  .slot = -1,
                                  .certificate = certificate};
    time_t time = (time_t)end;
    struct tm utc;
    char date[64] = "";
    if (gmtime_r(&time, &utc) != NULL)
        (void)strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &utc);
    say(add(j, reason), "%s %s %s", certificate_words(certificate), over ? "ended" : "ends", date);
}

static void judge_certificates(struct judgement *j)
{
    for (size_t i = 0; i < j->admin->certificate_count && j->count < REASONS_MAX / 2; i++)
        judge_certificate(j, &j->admin->certificates[i]);
}

/* ---- slots --------------------------------------------------------------------------------- */

static bool is_ownerless(const struct admin *admin, const struct admin_slot *slot)
{
    uint64_t grace = admin->config->delivery.lease_ttl_ms + OWNERLESS_MS;
    return !slot->held && slot->ownerless_since_ms != 0 &&
           net_now_ms() - slot->ownerless_since_ms > grace;
}

static void judge_slots(struct judgement *j)
{
    struct admin *admin = j->admin;
    unsigned missing = 0, preferred = 0;
    for (unsigned i = 0; i < admin->config->slots; i++) {
        const struct admin_slot *slot = &admin->slots[i];
        preferred += slot->preferred;
        missing += slot->preferred && !slot->running;
        if (is_ownerless(admin, slot) && j->count < REASONS_MAX / 2)
            say(add(j, (struct admin_reason){.code = "slot-without-owner",
                                             .level = ADMIN_ERROR,
                                             .slot = (int)i}),
                "no instance holds the lease of slot %u", i);
    }
    if (missing > 0 && admin->redis_up)
        say(add(j, (struct admin_reason){.code = "slots-not-running",
                                         .level = ADMIN_WARNING,
                                         .unready = true,
                                         .slot = -1,
                                         .counted = true,
                                         .count = missing}),
            "%u of %u slots of this instance do not run yet", missing, preferred);
}

static void judge_process(struct judgement *j)
{
    const struct admin *admin = j->admin;
    struct admin_reason reason = {.level = ADMIN_WARNING, .unready = true, .slot = -1};
    if (admin->draining) {
        reason.code = "draining";
        say(add(j, reason), "the instance is being stopped");
    } else if (admin->shards == 0 && admin->redis_up) {
        reason.code = "starting";
        say(add(j, reason), "the first look for streams is not over");
    }
    if (reload_has_failed(admin->setting.reload)) {
        reason.code = "reload-failed";
        reason.unready = false;
        say(add(j, reason), "the changed configuration cannot be used; the log says why");
        reason.unready = true;
    }
    if (judge_dead_shard(admin) >= 0) {
        reason.code = "shard-dead";
        reason.level = ADMIN_ERROR;
        say(add(j, reason), "shard %d does not turn", judge_dead_shard(admin));
    }
}

/* Nothing is told to Redis though there is something, and nothing else explains it. */
static void judge_progress(struct judgement *j)
{
    uint64_t stalled = stalled_for(j->admin, j->admin->moved_ms);
    for (size_t i = 0; i < j->count; i++)
        if (j->reason[i].unready)
            return;
    if (stalled == 0)
        return;
    say(add(j,
            (struct admin_reason){
                .code = "stalled", .level = ADMIN_ERROR, .unready = true, .slot = -1}),
        "entries are pending, and none has been settled for %llu s",
        (unsigned long long)stalled / 1000);
}

/* ---- sites --------------------------------------------------------------------------------- */

/* For now: what is refused for good is a dead letter. */
static void judge_refused(struct judgement *j, const struct admin_site *site)
{
    say(add(j, (struct admin_reason){.code = "entries-refused",
                                     .level = ADMIN_WARNING,
                                     .broker = j->admin->config->brokers[site->refusing].name,
                                     .site = site->name,
                                     .slot = -1,
                                     .counted = true,
                                     .count = site->refused_keys}),
        "the broker's last answer to them: %s",
        mqtt_reason_name(MQTT_PUBACK, MQTT_5_0, site->refusal));
}

static void judge_site(struct judgement *j, const struct admin_site *site)
{
    struct admin_reason reason = {.level = ADMIN_WARNING, .site = site->name, .slot = -1};
    if (site->streams == 0)
        return;
    if (site->unreadable) {
        reason.code = "stream-unreadable";
        say(add(j, reason), "Redis refuses a stream of the site, or what is owed to it");
    }
    if (site->refused_keys > 0)
        judge_refused(j, site);
    if (site->dead_known && site->dead > 0) {
        reason.code = "dead-letters";
        reason.counted = true;
        reason.count = site->dead;
        add(j, reason);
    }
    if (site->lag_known && site->lag >= LAG_MATTERS && site->lag > site->lag_minute[0] &&
        site->lag_minute[0] > site->lag_minute[1] && site->lag_minute[1] > 0) {
        reason.code = "lag-growing";
        reason.counted = true;
        reason.count = site->lag;
        add(j, reason);
    }
    reason.counted = false;
    reason.count = 0;
    if (site->trim_blocked) {
        reason.code = "trim-blocked";
        say(add(j, reason),
            "another consumer group, or Redis, keeps the stream from being trimmed");
    }
}

/* Events of a site that this process never sees. */
static void judge_rivals(struct judgement *j)
{
    const struct config *config = j->admin->config;
    for (size_t i = 0; i < config->legacy_list_count && j->count < REASONS_MAX / 2; i++)
        if (j->admin->rivals[i] != NULL)
            say(add(j, (struct admin_reason){.code = "legacy-bridge-eats",
                                             .level = ADMIN_ERROR,
                                             .site = j->admin->rivals[i]->name,
                                             .slot = -1}),
                "another program takes events out of the list %s in db %u",
                config->legacy_lists[i].list, config->legacy_lists[i].database);
}

static void judge_sites(struct judgement *j)
{
    const struct admin *admin = j->admin;
    unsigned owned = 0;
    for (size_t i = 0; i < admin->site_count && j->count < REASONS_MAX / 2; i++)
        judge_site(j, admin->sites[i]);
    for (unsigned i = 0; i < admin->config->slots; i++)
        owned += admin->slots[i].preferred && admin->slots[i].running;
    if (admin->stream_count == 0 && owned == admin->config->slots)
        add(j, (struct admin_reason){.code = "no-streams", .level = ADMIN_WARNING, .slot = -1});
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* A warning of what is to come. */
static bool is_ahead(const struct admin_reason *reason)
{
    return reason->certificate != NULL && reason->level == ADMIN_WARNING;
}

/* Errors first, and what makes unready before what does not, and what is before what is to come. */
static int compare_reasons(const void *left, const void *right)
{
    const struct admin_reason *a = left, *b = right;
    if (a->level != b->level)
        return a->level > b->level ? -1 : 1;
    if (a->unready != b->unready)
        return a->unready ? -1 : 1;
    if (is_ahead(a) != is_ahead(b))
        return is_ahead(b) ? -1 : 1;
    return a->since < b->since ? -1 : a->since > b->since;
}

void judge(struct admin *admin)
{
    struct judgement j = {.admin = admin};
    if (admin->begins_anew) /* that its slots stop is as it should be */
        return;
    judge_redis(&j);
    for (size_t i = 0; i < admin->config->broker_count; i++)
        judge_broker(&j, i);
    judge_certificates(&j);
    judge_process(&j);
    judge_slots(&j);
    judge_progress(&j);
    judge_rivals(&j);
    judge_sites(&j);
    qsort(j.reason, j.count, sizeof j.reason[0], compare_reasons);
    memcpy(admin->reasons, j.reason, j.count * sizeof j.reason[0]);
    admin->reason_count = j.count;
}

/* A process that begins anew stays what it was until it has had time to connect. */
static bool is_still_ready(const struct admin *admin)
{
    return admin->was_ready && net_now_ms() - admin->begun_ms < BEGINNING_MS;
}

bool judge_is_ready(const struct admin *admin)
{
    if (is_still_ready(admin) && !admin->draining)
        return true;
    for (size_t i = 0; i < admin->reason_count; i++)
        if (admin->reasons[i].unready)
            return false;
    return true;
}

enum admin_level judge_level(const struct admin *admin)
{
    enum admin_level level = ADMIN_OK;
    for (size_t i = 0; i < admin->reason_count; i++)
        if (admin->reasons[i].level > level)
            level = admin->reasons[i].level;
    return level;
}

int judge_dead_shard(const struct admin *admin)
{
    uint64_t now = net_now_ms();
    for (unsigned i = 0; i < admin->shards; i++)
        if (admin->asked_ms[i] != 0 && now - admin->asked_ms[i] > DEAD_MS)
            return (int)i;
    return -1;
}
