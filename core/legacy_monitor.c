/*
 * What the plugins' own bridge did beside carrying events: two status keys tell their monitor page
 * whether the broker is reached; what their configuration page writes to the control lists is taken
 * off. And the watch for such a bridge that still runs: what it takes from the list this process
 * never sees. All key names exist in two spellings, by the plugin's version; both are served.
 */
#include "core/legacy_private.h"

#include "codec/decimal.h"

#include <event2/event.h>
#include <stdio.h>

#define STATUS_TTL "90"
#define STATUS_PERIOD_MS 30000u
#define TICK_S 1
#define WATCH_S 30
/* Where somebody has been seen he is looked for more often, and gone when he was not seen for the
 * whole of the period: between two events he may do something else than wait. */
#define RIVAL_WATCH_S 10
#define RIVAL_IDLE_S 10u
#define TROUBLE_PERIOD_MS 30000u
#define RIVAL_PERIOD_MS 60000u

static const char *const status_keys[] = {"nemo_mqtt_bridge_status", "NEMO_mqtt_bridge_status"};
static const char *const control_lists[] = {"nemo_mqtt_bridge_control", "NEMO_mqtt_bridge_control"};

/* ---- the status keys ----------------------------------------------------------------------- */

static void report_trouble(struct legacy_list *list, const char *message, struct bytes text)
{
    uint64_t held_back;
    if (log_limit_pass(&list->monitor.trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&list->log, LOG_WARNING, message, LOG_BYTES("reply", text),
                  LOG_INT("repeated", held_back));
}

static void on_told(void *context, const struct redis_value *reply)
{
    struct legacy_list *list = context;
    if (reply != NULL && reply->type == REDIS_ERROR)
        report_trouble(list,
                       "Redis refuses a status key: the plugin's monitor page shows \"Unknown\"",
                       reply->text);
}

static void send_status(struct legacy_list *list, bool connected)
{
    for (size_t i = 0; i < sizeof status_keys / sizeof *status_keys; i++) {
        struct bytes arguments[] = {bytes_of("SETEX"), bytes_of(status_keys[i]),
                                    bytes_of(STATUS_TTL),
                                    bytes_of(connected ? "connected" : "disconnected")};
        redis_link_command(list->link, arguments, 4, on_told, list);
    }
    list->monitor.next_status_ms = net_now_ms() + STATUS_PERIOD_MS;
    redis_link_flush(list->link);
}

void legacy_tell(struct legacy_list *list)
{
    if (list->monitor.list == NULL || !list->preferred || !redis_link_is_ready(list->link))
        return;
    send_status(list, list->reached && !list->legacy->leaving);
}

/* ---- the control lists --------------------------------------------------------------------- */

static void take_next(struct legacy_list *list, const char *key);

static void on_control(struct legacy_list *list, const char *key, const struct redis_value *reply)
{
    list->monitor.asked--;
    if (reply == NULL || reply->type == REDIS_NIL)
        return;
    if (reply->type != REDIS_STRING) {
        report_trouble(list, "Redis refuses a control list of the plugin", reply->text);
        return;
    }
    if (bytes_equal(reply->text, bytes_of("reload_config")))
        list->monitor.reload = true;
    else
        log_event(&list->log, LOG_INFO, "an unknown word in a control list of the plugin",
                  LOG_TEXT("key", key), LOG_BYTES("word", reply->text));
    take_next(list, key);
}

static void on_control_lower(void *context, const struct redis_value *reply)
{
    on_control(context, control_lists[0], reply);
}

static void on_control_upper(void *context, const struct redis_value *reply)
{
    on_control(context, control_lists[1], reply);
}

static void take_next(struct legacy_list *list, const char *key)
{
    struct bytes arguments[] = {bytes_of("LPOP"), bytes_of(key)};
    list->monitor.asked++;
    redis_link_command(list->link, arguments, 2,
                       key == control_lists[0] ? on_control_lower : on_control_upper, list);
    redis_link_flush(list->link);
}

void legacy_on_monitor_tick(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct legacy_list *list = context;
    event_add(list->monitor.tick, &(struct timeval){.tv_sec = TICK_S});
    if (!list->preferred || list->legacy->leaving || !redis_link_is_ready(list->link))
        return;
    if (net_now_ms() >= list->monitor.next_status_ms)
        legacy_tell(list);
    if (list->monitor.asked > 0)
        return;
    /* Of several saves in a row the last counts: the lists are empty now. */
    if (list->monitor.reload)
        legacy_settings_look(list->legacy->settings);
    list->monitor.reload = false;
    for (size_t i = 0; i < sizeof control_lists / sizeof *control_lists; i++)
        take_next(list, control_lists[i]);
}

/* ---- rivals -------------------------------------------------------------------------------- */

/* The value of " name=value" in a line of CLIENT LIST; empty where there is none. */
static struct bytes value_of(struct bytes line, const char *name)
{
    char wanted[16];
    size_t length = (size_t)snprintf(wanted, sizeof wanted, " %s=", name);
    const uint8_t *found = memmem(line.data, line.length, wanted, length);
    if (found == NULL)
        return (struct bytes){NULL, 0};
    const uint8_t *from = found + length, *to = from;
    while (to < line.data + line.length && *to != ' ')
        to++;
    return (struct bytes){from, (size_t)(to - from)};
}

/* Of a connection that is left open after its last BLPOP nobody takes anything. */
static bool is_waiting(struct bytes line)
{
    struct bytes flags = value_of(line, "flags"); /* b: in a blocking command */
    uint64_t idle_s;
    return (flags.length > 0 && memchr(flags.data, 'b', flags.length) != NULL) ||
           (decimal_read(value_of(line, "idle"), &idle_s) && idle_s <= RIVAL_IDLE_S);
}

static bool is_rival(unsigned number, struct bytes line)
{
    char database[16];
    snprintf(database, sizeof database, "%u", number);
    struct bytes command = value_of(line, "cmd");
    return bytes_equal(value_of(line, "db"), bytes_of(database)) &&
           (bytes_equal(command, bytes_of("blpop")) || bytes_equal(command, bytes_of("brpop"))) &&
           is_waiting(line);
}

struct bytes legacy_find_rival(unsigned database, struct bytes clients)
{
    const uint8_t *at = clients.data, *end = clients.data + clients.length;
    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        struct bytes line = {at, (size_t)((stop != NULL ? stop : end) - at)};
        if (is_rival(database, line))
            return value_of(line, "addr");
        at = stop != NULL ? stop + 1 : end;
    }
    return (struct bytes){NULL, 0};
}

static void report_rival(struct legacy_list *list, struct bytes address)
{
    uint64_t held_back;
    if (log_limit_pass(&list->rival_trouble, net_now_ms(), RIVAL_PERIOD_MS, &held_back))
        log_event(&list->log, LOG_ERROR,
                  "another program takes events out of the plugin's list, and this one never sees "
                  "them: stop the Python bridge; where NEMO starts it, make a directory of its "
                  "lock file (mkdir /tmp/nemo_mqtt_bridge.lock, or NEMO_mqtt_bridge.lock) and "
                  "restart NEMO",
                  LOG_INT("db", list->config->database),
                  LOG_BYTES("client",
                            address.length > 0 ? address : bytes_of("not known: it was not seen")),
                  LOG_INT("repeated", held_back));
}

static void set_rival(struct legacy_list *list, bool there)
{
    struct legacy *legacy = list->legacy;
    if (there)
        list->rival_seen_ms = net_now_ms();
    if (list->rival == there)
        return;
    list->rival = there;
    legacy->setting.on_rival(legacy->setting.context, (size_t)(list - legacy->lists), there);
}

static void on_clients(void *context, const struct redis_value *reply)
{
    struct legacy_list *list = context;
    list->watching = false;
    if (reply == NULL)
        return;
    struct bytes rival = {NULL, 0};
    if (reply->type == REDIS_STRING) /* else the user may not run CLIENT LIST */
        rival = legacy_find_rival(list->config->database, reply->text);
    if (rival.length > 0 || list->conflicts >= LEGACY_CONFLICTS_MAX) {
        report_rival(list, rival);
        set_rival(list, true);
        event_add(list->watch, &(struct timeval){.tv_sec = RIVAL_WATCH_S});
    } else if (net_now_ms() - list->rival_seen_ms >= WATCH_S * 1000) {
        set_rival(list, false);
    }
    list->conflicts = 0;
}

void legacy_watch(struct legacy_list *list)
{
    event_add(list->watch, &(struct timeval){.tv_sec = list->rival ? RIVAL_WATCH_S : WATCH_S});
    if (!list->preferred)
        set_rival(list, false); /* another instance sees to the list, and tells of it */
    if (!list->preferred || list->legacy->leaving || list->watching ||
        !redis_link_is_ready(list->link))
        return;
    struct bytes arguments[] = {bytes_of("CLIENT"), bytes_of("LIST")};
    list->watching = true;
    redis_link_command(list->link, arguments, 2, on_clients, list);
    redis_link_flush(list->link);
}

void legacy_on_watch(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    legacy_watch(context);
}
