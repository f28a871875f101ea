/*
 * Settings of a site in the order of its stream: at an entry of type gateway.settings the lane
 * stops until the main thread has judged and applied them. Applied means that this process begins
 * anew: the entry is met again, with a version that is in use, and settles. A crash at any moment
 * leaves it pending, and so leads here again.
 */
#include "core/slot_private.h"

#include "core/site_request.h"

#include <assert.h>
#include <stdlib.h>

#define TYPE "gateway.settings"
#define TROUBLE_PERIOD_MS 60000u
/* Until the process that has the newest settings runs. */
#define RETRY_MS 1000u
/* How often it is asked whether the site has saved others. */
#define FAULT_RETRY_MS 20000u

bool lane_is_settings(const struct stream_entry *in)
{
    return in->type.length == sizeof TYPE - 1 && memcmp(in->type.data, TYPE, sizeof TYPE - 1) == 0;
}

/* Of the lane's site, as this process has them; 0: none. */
static uint64_t version_in_use(const struct lane *lane)
{
    const struct site_settings *settings = lane->route->site_settings;
    return settings != NULL ? settings->version : 0;
}

static void ask_main(struct lane *lane, enum site_request_kind kind, uint64_t version)
{
    const struct slot_setting *setting = &lane->slot->setting;
    const struct config_route *route = lane->route;
    struct site_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return; /* the lane waits until it begins again */
    request->kind = kind;
    request->slot = setting->index;
    request->token = lane->settings_token;
    request->version = version;
    request->route =
        (size_t)((route->template != NULL ? route->template : route) - setting->config->routes);
    memcpy(request->site, lane->site.data, lane->site.length);
    setting->on_settings(setting->context, request);
}

/* ---- at an entry --------------------------------------------------------------------------- */

bool lane_take_settings(struct lane *lane, uint32_t index, struct bytes payload)
{
    struct slot *slot = lane->slot;
    struct entry *entry = ledger_entry(&slot->ledger, index);
    uint64_t version;
    if (!site_order_read(payload, &version)) {
        flow_fault(entry, "bad-settings",
                   "the payload of an entry of type gateway.settings is not {\"version\":n}");
        return false;
    }
    bool from_site = lane->route->settings == CONFIG_SETTINGS_FROM_SITE;
    lane->settings_token = ledger_token(&slot->ledger, index);
    /* Each stop has all that lies behind the entry delivered once more, which makes suspects. */
    if (from_site && (version <= version_in_use(lane) || version < lane->settings_saved)) {
        flow_settle(slot, index);
        return true;
    }
    ask_main(lane, SITE_REQUEST_APPLY, version);
    reading_leave(lane);
    lane->at_settings = true;
    lane->cut = true; /* what comes behind it is read again, as history */
    lane->state = LANE_SETTINGS;
    log_event(&slot->log, LOG_DEBUG, "the lane waits for its site's settings",
              LOG_BYTES("site", lane->site), LOG_TEXT("stream", lane->name),
              LOG_INT("version", version));
    return true;
}

void lane_leave_settings(struct lane *lane)
{
    if (!lane->at_settings)
        return;
    lane->at_settings = false;
    uint32_t index = ledger_find(&lane->slot->ledger, lane->settings_token);
    if (index != ENTRY_NONE)
        flow_forget(lane->slot, index);
}

void slot_settle_settings(struct slot *slot, uint64_t token, const char *later)
{
    ASSERT_ON_SHARD(slot);
    uint32_t index = ledger_find(&slot->ledger, token);
    if (index == ENTRY_NONE)
        return;
    struct lane *lane = ledger_entry(&slot->ledger, index)->lane;
    if (!lane->at_settings || lane->settings_token != token)
        return;
    lane->at_settings = false;
    if (later != NULL && !site_version_read(bytes_of(later), &lane->settings_saved))
        lane->settings_saved = 0;
    flow_settle(slot, index);
    lane_read_again(lane);
    reading_wake(slot);
}

/* ---- at the beginning ---------------------------------------------------------------------- */

static void report_trouble(struct lane *lane, const char *message, struct bytes reason)
{
    uint64_t held_back;
    if (log_limit_pass(&lane->trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&lane->slot->log, LOG_ERROR, message, LOG_BYTES("site", lane->site),
                  LOG_TEXT("stream", lane->name), LOG_BYTES("reason", reason),
                  LOG_INT("repeated", held_back));
}

void lane_refuse_settings(struct lane *lane)
{
    report_trouble(lane, "a stream is not carried, for its site's settings cannot be used",
                   bytes_of(lane->route->site_fault));
    ask_main(lane, SITE_REQUEST_SAVED, version_in_use(lane));
    lane_quarantine(lane, net_now_ms() + FAULT_RETRY_MS);
}

/* It would be refused for ever, and the stream with it. */
static bool is_lasting(const struct redis_value *error)
{
    return redis_value_is_error(error, "NOPERM") || redis_value_is_error(error, "WRONGTYPE");
}

/* [version]; nil where none was ever applied. */
static void on_applied(void *context, const struct redis_value *reply)
{
    struct lane *lane = context;
    uint64_t applied = 0, own = version_in_use(lane);
    if (reply == NULL || lane->state != LANE_SETTINGS)
        return;
    if (reply->type == REDIS_ERROR && !is_lasting(reply)) { /* Redis is busy, or loading */
        lane_quarantine(lane, net_now_ms() + RETRY_MS);
        return;
    }
    if (reply->type == REDIS_ERROR)
        report_trouble(lane,
                       "Redis does not tell which settings of a site are applied: those of this "
                       "process stay in use",
                       reply->text);
    else if (reply->type != REDIS_ARRAY || reply->count != 1 ||
             reply->element->type != REDIS_STRING ||
             !site_version_read(reply->element->text, &applied))
        applied = 0;
    if (reply->type != REDIS_ERROR && applied > own) {
        ask_main(lane, SITE_REQUEST_NEWER, applied);
        lane_quarantine(lane, net_now_ms() + RETRY_MS);
        return;
    }
    if (reply->type != REDIS_ERROR && applied < own)
        ask_main(lane, SITE_REQUEST_OLDER, own);
    lane_ask_for_group(lane);
}

void lane_compare_settings(struct lane *lane)
{
    struct bytes arguments[] = {bytes_of("HMGET"), bytes_of(lane->applied_key),
                                bytes_of("version")};
    lane->state = LANE_SETTINGS;
    lane->settings_saved = 0;
    redis_link_command(lane->slot->read_link, arguments, 3, on_applied, lane);
}
