/*
 * A version is applied when nemo:{site}:gateway:applied has it: from then on every instance uses
 * it, and none before. Versions only rise, in Redis and here: what Redis has lost is written back.
 */
#include "core/site_keeper.h"

#include "core/reload.h"
#include "core/site_config.h"
#include "core/site_fetch.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Changes of several sites are gathered for so long, and restarts are so far apart. */
#define GATHER_MS 1000u
#define APART_MS 5000u
/* How often Redis is asked whether another instance has applied something. */
#define LOOK_MS 30000u
#define TROUBLE_PERIOD_MS 60000u

/* KEYS: applied. ARGV: the version, then fields and values. Answers the version that is there
 * afterwards: never a lower one than before. */
static const char apply_script[] =
    "local kept = tonumber(redis.call('HGET', KEYS[1], 'version') or '') or 0\n"
    "if kept >= tonumber(ARGV[1]) then return string.format('%.0f', kept) end\n"
    "redis.call('HSET', KEYS[1], 'version', ARGV[1], 'error', '', 'error_at', '',\n"
    "  'error_version', '', unpack(ARGV, 2))\n"
    "return ARGV[1]\n";

/* ARGV: the error, when, of which version. An empty one clears that of this version only. */
static const char error_script[] =
    "if ARGV[1] == '' and redis.call('HGET', KEYS[1], 'error_version') ~= ARGV[3] then\n"
    "  return 0\n"
    "end\n"
    "redis.call('HSET', KEYS[1], 'error', ARGV[1], 'error_at', ARGV[2], 'error_version', ARGV[3])\n"
    "return 1\n";

enum pending_state {
    PENDING_NEW,   /* nothing has been asked of Redis yet, or its answer was lost */
    PENDING_ASKED, /* a command is without an answer */
    PENDING_WAITS, /* for the restart */
};

/* A lane that waits at an entry. */
struct pending {
    struct pending *next;
    struct site_keeper *keeper;
    enum pending_state state;
    struct site_request request;
    struct site_settings *settings; /* that are being applied */
    char key[80];                   /* nemo:{site}:gateway:settings or :applied */
};

struct site_keeper {
    struct site_keeper_setting setting;
    struct site_fetch *fetch;
    struct event *look;
    struct event *restart;
    struct site_set known; /* what is applied, as far as is known */
    struct pending *pending;
    uint64_t started_ms;
    bool current; /* on_current has been called */
    bool restarting;
    struct log_limit trouble;
    struct log_limit unsound;
    struct log_limit full;
    struct log_limit unleft;
    struct log_limit refusals; /* of those that are looked at again and again */
};

static uint64_t epoch_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void report(struct site_keeper *keeper, const char *message, const char *site,
                   struct bytes reason)
{
    uint64_t held_back;
    if (log_limit_pass(&keeper->trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(keeper->setting.log, LOG_ERROR, message, LOG_TEXT("site", site),
                  LOG_BYTES("reply", reason), LOG_TEXT("grant", "~nemo:*:gateway*"),
                  LOG_INT("repeated", held_back));
}

static void arm(struct event *event, uint64_t ms)
{
    struct timeval delay = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};
    event_add(event, &delay);
}

/* ---- the restart --------------------------------------------------------------------------- */

static void ask_for_restart(struct site_keeper *keeper)
{
    if (keeper->restarting)
        return;
    keeper->restarting = true;
    uint64_t past = net_now_ms() - keeper->started_ms;
    arm(keeper->restart, past + GATHER_MS < APART_MS ? APART_MS - past : GATHER_MS);
}

/* Another program can only take over with a configuration that may follow the present one. */
static bool is_sound(struct site_keeper *keeper)
{
    uint64_t held_back;
    char *text = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&text, &length);
    struct config *config =
        errors != NULL ? reload_load(keeper->setting.config, keeper->setting.file, errors) : NULL;
    bool sound = config != NULL;
    config_free(config);
    if (errors != NULL)
        fclose(errors);
    if (!sound && log_limit_pass(&keeper->unsound, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(keeper->setting.log, LOG_ERROR,
                  "settings of a site wait until the configuration file is sound again: this "
                  "process cannot begin anew with them",
                  LOG_TEXT("file", keeper->setting.file),
                  LOG_TEXT("reason", text != NULL ? text : ""));
    free(text);
    return sound;
}

bool site_keeper_leave(struct site_keeper *keeper)
{
    uint64_t held_back;
    if (site_set_leave(&keeper->known))
        return true;
    if (log_limit_pass(&keeper->unleft, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(keeper->setting.log, LOG_ERROR,
                  "the system refuses memory in which settings of sites pass to the next program",
                  LOG_INT("sites", keeper->known.count));
    return false;
}

/* Without what is left to it the next program would only begin anew in its turn. */
static bool may_restart(struct site_keeper *keeper)
{
    return is_sound(keeper) && site_keeper_leave(keeper);
}

static void on_restart(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct site_keeper *keeper = context;
    if (may_restart(keeper))
        keeper->setting.on_change(keeper->setting.context, "a site has saved other settings");
    else
        arm(keeper->restart, APART_MS);
}

/* ---- writing ------------------------------------------------------------------------------- */

static void applied_key(const char *site, char key[80])
{
    snprintf(key, 80, "nemo:{%s}:gateway:applied", site);
}

static void send_applied(struct site_keeper *keeper, const struct site_settings *settings,
                         redis_reply_fn *on_reply, void *context)
{
    char key[80], version[24];
    struct bytes words[5 + 2 * SITE_FIELDS] = {bytes_of("EVAL"), bytes_of(apply_script),
                                               bytes_of("1")};
    applied_key(settings->site, key);
    snprintf(version, sizeof version, "%" PRIu64, settings->version);
    words[3] = bytes_of(key);
    words[4] = bytes_of(version);
    for (size_t i = 0; i < SITE_FIELDS; i++) {
        words[5 + 2 * i] = bytes_of(site_field_names[i]);
        words[6 + 2 * i] = bytes_of(settings->text[i]);
    }
    redis_link_command(keeper->setting.link, words, sizeof words / sizeof *words, on_reply,
                       context);
    redis_link_flush(keeper->setting.link);
}

static void send_error(struct site_keeper *keeper, const char *site, uint64_t of_version,
                       const char *error, redis_reply_fn *on_reply, void *context)
{
    char key[80], version[24], at[24];
    applied_key(site, key);
    snprintf(version, sizeof version, "%" PRIu64, of_version);
    snprintf(at, sizeof at, "%" PRIu64, epoch_ms());
    struct bytes words[] = {bytes_of("EVAL"), bytes_of(error_script),
                            bytes_of("1"),    bytes_of(key),
                            bytes_of(error),  bytes_of(error[0] != '\0' ? at : ""),
                            bytes_of(version)};
    redis_link_command(keeper->setting.link, words, sizeof words / sizeof *words, on_reply,
                       context);
    redis_link_flush(keeper->setting.link);
}

/* ---- a lane that waits --------------------------------------------------------------------- */

static void free_pending(struct pending *pending)
{
    site_settings_free(pending->settings);
    free(pending);
}

static void settle_for(struct pending *pending, const char *later)
{
    struct site_keeper *keeper = pending->keeper;
    struct pending **link = &keeper->pending;
    while (*link != pending)
        link = &(*link)->next;
    *link = pending->next;
    if (pending->request.kind == SITE_REQUEST_APPLY)
        keeper->setting.on_settle(keeper->setting.context, pending->request.slot,
                                  pending->request.token, later);
    free_pending(pending);
}

static void settle(struct pending *pending)
{
    settle_for(pending, NULL);
}

/* NULL: the link is down, and all is asked again when it is back. */
static bool is_lost(struct pending *pending, const struct redis_value *reply)
{
    if (reply != NULL)
        return false;
    pending->state = PENDING_NEW;
    site_settings_free(pending->settings);
    pending->settings = NULL;
    return true;
}

static void on_error_kept(void *context, const struct redis_value *reply)
{
    struct pending *pending = context;
    if (is_lost(pending, reply))
        return;
    if (reply->type == REDIS_ERROR)
        report(pending->keeper, "Redis does not take why settings of a site are refused",
               pending->request.site, reply->text);
    settle(pending);
}

static void refuse(struct pending *pending, const char *error)
{
    struct site_keeper *keeper = pending->keeper;
    uint64_t held_back;
    if (pending->request.kind == SITE_REQUEST_APPLY ||
        log_limit_pass(&keeper->refusals, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(keeper->setting.log, LOG_ERROR,
                  "settings that a site has saved are refused; those before them stay in use",
                  LOG_TEXT("site", pending->request.site),
                  LOG_INT("version", pending->request.version), LOG_TEXT("reason", error));
    send_error(keeper, pending->request.site, pending->request.version, error, on_error_kept,
               pending);
}

static void on_applied_kept(void *context, const struct redis_value *reply)
{
    struct pending *pending = context;
    struct site_keeper *keeper = pending->keeper;
    if (is_lost(pending, reply))
        return;
    if (reply->type != REDIS_STRING) {
        report(keeper,
               "Redis refuses that settings of a site are applied: those before them stay in "
               "use, and the site must save them again",
               pending->request.site,
               reply->type == REDIS_ERROR ? reply->text : bytes_of("not what was expected"));
        settle(pending);
        return;
    }
    log_event(keeper->setting.log, LOG_INFO, "settings that a site has saved are applied",
              LOG_TEXT("site", pending->request.site),
              LOG_INT("version", pending->settings->version));
    (void)site_set_put(&keeper->known, pending->settings);
    pending->settings = NULL;
    pending->state = PENDING_WAITS;
    ask_for_restart(keeper);
}

/* As they are when the lane comes to the entry: what was saved since counts at its own entry. A
 * stream that is not carried is not read up to that. */
static void judge(struct pending *pending, struct site_settings *settings, uint64_t version)
{
    struct site_keeper *keeper = pending->keeper;
    const struct config *config = keeper->setting.config;
    char error[SITE_ERROR_TEXT];
    size_t index;
    bool is_saved = pending->request.kind == SITE_REQUEST_SAVED;
    bool is_later = version > pending->request.version;
    if (is_saved && is_later)
        pending->request.version = version;
    if (is_saved != is_later) {
        char later[24];
        snprintf(later, sizeof later, "%" PRIu64, version);
        site_settings_free(settings);
        settle_for(pending, later);
        return;
    }
    if (settings == NULL) {
        refuse(pending, version == 0 ? "they are not in Redis any more: save them again"
                                     : "a value in Redis is too long, or is no text");
        return;
    }
    pending->settings = settings;
    settings->version = pending->request.version;
    if (site_set_find(&keeper->known, bytes_of(settings->site), &index) == NULL &&
        keeper->known.count == SITE_SET_MAX)
        refuse(pending, "the gateway carries settings of 256 sites at most, and has as many");
    else if (!site_config_judge(config, &config->routes[pending->request.route], settings, error))
        refuse(pending, error);
    else
        send_applied(keeper, settings, on_applied_kept, pending);
}

static void on_settings(void *context, const struct redis_value *reply)
{
    struct pending *pending = context;
    uint64_t version;
    if (is_lost(pending, reply))
        return;
    if (reply->type == REDIS_ERROR) {
        report(pending->keeper,
               "Redis does not give the settings that a site has saved: those in "
               "use stay, and the site must save them again",
               pending->request.site, reply->text);
        settle(pending);
        return;
    }
    struct site_settings *settings =
        site_hash_read(reply, bytes_of(pending->request.site), &version);
    judge(pending, settings, version);
}

/* What the lane wants is applied already. */
static bool is_known(const struct site_settings *known, const struct site_request *request)
{
    uint64_t least = request->version + (request->kind == SITE_REQUEST_SAVED);
    return known != NULL && known->version >= least;
}

static void ask(struct pending *pending)
{
    struct site_keeper *keeper = pending->keeper;
    const struct site_request *request = &pending->request;
    size_t index;
    const struct site_settings *known =
        site_set_find(&keeper->known, bytes_of(request->site), &index);
    pending->state = PENDING_ASKED;
    if (keeper->setting.config->routes[request->route].settings != CONFIG_SETTINGS_FROM_SITE) {
        refuse(pending, SITE_NOT_ALLOWED);
    } else if (is_known(known, request)) {
        pending->state = PENDING_WAITS;
        ask_for_restart(keeper);
    } else {
        struct bytes words[SITE_HMGET_WORDS];
        snprintf(pending->key, sizeof pending->key, "nemo:{%s}:gateway:settings", request->site);
        site_hmget_words(pending->key, words);
        redis_link_command(keeper->setting.link, words, SITE_HMGET_WORDS, on_settings, pending);
        redis_link_flush(keeper->setting.link);
    }
}

/* ---- what is applied ----------------------------------------------------------------------- */

static void on_written(void *context, const struct redis_value *reply)
{
    struct site_keeper *keeper = context;
    if (reply != NULL && reply->type == REDIS_ERROR)
        report(keeper, "Redis does not take what is applied of a site's settings", "", reply->text);
}

/* Redis has lost them, or has what another gateway applied before it. */
static void write_back(struct site_keeper *keeper, const struct site_settings *settings)
{
    log_event(keeper->setting.log, LOG_WARNING,
              "Redis has lost which settings of a site are applied: they are written back",
              LOG_TEXT("site", settings->site), LOG_INT("version", settings->version));
    send_applied(keeper, settings, on_written, keeper);
}

/* What has become of settings since they were applied: a secret may be gone, or there again. */
static void write_faults(struct site_keeper *keeper)
{
    const struct config *config = keeper->setting.config;
    for (size_t i = 0; config->sites != NULL && i < config->sites->count; i++) {
        const struct site_settings *settings = config->sites->items[i];
        const char *fault = site_config_fault(config, settings->site);
        send_error(keeper, settings->site, settings->version, fault != NULL ? fault : "",
                   on_written, keeper);
    }
}

static void merge(struct site_keeper *keeper, struct site_set *found)
{
    size_t index;
    uint64_t held_back;
    for (size_t i = 0; i < keeper->known.count; i++) {
        const struct site_settings *known = keeper->known.items[i];
        const struct site_settings *kept = site_set_find(found, bytes_of(known->site), &index);
        if (kept == NULL || kept->version < known->version)
            write_back(keeper, known);
    }
    for (size_t i = 0; i < found->count; i++) {
        struct site_settings *settings = found->items[i];
        found->items[i] = NULL;
        (void)site_set_put(&keeper->known, settings);
    }
    if (found->count == SITE_SET_MAX &&
        log_limit_pass(&keeper->full, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(keeper->setting.log, LOG_WARNING,
                  "as many sites have settings of their own as one gateway carries; the streams of "
                  "further ones are not carried",
                  LOG_INT("sites", found->count));
    found->count = 0;
}

static void on_fetched(void *context, struct site_set *found, const char *refused)
{
    struct site_keeper *keeper = context;
    const struct site_keeper_setting *setting = &keeper->setting;
    if (refused != NULL)
        report(keeper, "Redis does not tell which settings of sites are applied", "",
               bytes_of(refused));
    if (refused == NULL)
        merge(keeper, found);
    bool same = site_set_equal(&keeper->known, setting->config->sites);
    arm(keeper->look, LOOK_MS);
    if (keeper->current) {
        if (!same)
            ask_for_restart(keeper);
    } else if (!same && may_restart(keeper)) {
        setting->on_change(setting->context, "sites have settings that this process has not");
    } else {
        keeper->current = true;
        write_faults(keeper);
        setting->on_current(setting->context);
    }
}

static void on_look(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct site_keeper *keeper = context;
    arm(keeper->look, LOOK_MS); /* the answer may never come */
    if (redis_link_is_ready(keeper->setting.link))
        site_fetch_begin(keeper->fetch);
}

/* ---- the door ------------------------------------------------------------------------------ */

void site_keeper_go_on(struct site_keeper *keeper)
{
    if (!keeper->current && config_has_site_settings(keeper->setting.config)) {
        site_fetch_begin(keeper->fetch);
        return;
    }
    if (!keeper->current) {
        keeper->current = true;
        keeper->setting.on_current(keeper->setting.context);
    }
    for (struct pending *pending = keeper->pending, *next; pending != NULL; pending = next) {
        next = pending->next;
        if (pending->state == PENDING_NEW)
            ask(pending);
    }
}

static void add_pending(struct site_keeper *keeper, const struct site_request *request)
{
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL)
        return; /* the lane waits until it begins again */
    *pending = (struct pending){.next = keeper->pending, .keeper = keeper, .request = *request};
    keeper->pending = pending;
    if (redis_link_is_ready(keeper->setting.link))
        ask(pending);
}

void site_keeper_take(struct site_keeper *keeper, const struct site_request *request)
{
    size_t index;
    const struct site_settings *known =
        site_set_find(&keeper->known, bytes_of(request->site), &index);
    switch (request->kind) {
    case SITE_REQUEST_APPLY:
    case SITE_REQUEST_SAVED:
        add_pending(keeper, request);
        break;
    case SITE_REQUEST_NEWER:
        if (known != NULL && known->version >= request->version)
            ask_for_restart(keeper);
        else if (redis_link_is_ready(keeper->setting.link))
            site_fetch_begin(keeper->fetch);
        break;
    case SITE_REQUEST_OLDER:
        if (known != NULL && redis_link_is_ready(keeper->setting.link))
            write_back(keeper, known);
        break;
    }
}

struct site_keeper *site_keeper_new(const struct site_keeper_setting *setting)
{
    struct site_keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL)
        return NULL;
    keeper->setting = *setting;
    keeper->started_ms = net_now_ms();
    keeper->fetch = site_fetch_new(setting->link, on_fetched, keeper);
    keeper->look = event_new(setting->net->base, -1, 0, on_look, keeper);
    keeper->restart = event_new(setting->net->base, -1, 0, on_restart, keeper);
    if (keeper->fetch != NULL && keeper->look != NULL && keeper->restart != NULL &&
        site_set_copy(&keeper->known, setting->config->sites))
        return keeper;
    site_keeper_free(keeper);
    return NULL;
}

void site_keeper_free(struct site_keeper *keeper)
{
    if (keeper == NULL)
        return;
    for (struct pending *pending = keeper->pending, *next; pending != NULL; pending = next) {
        next = pending->next;
        free_pending(pending);
    }
    site_fetch_free(keeper->fetch);
    if (keeper->look != NULL)
        event_free(keeper->look);
    if (keeper->restart != NULL)
        event_free(keeper->restart);
    site_set_free(&keeper->known);
    free(keeper);
}
