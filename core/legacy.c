/*
 * The lists of the configuration: made, connected, told which of them this instance is to move and
 * whether their brokers are reached. What is done with a list is in legacy_move.c, what is told to
 * the plugins in legacy_monitor.c.
 */
#include "core/legacy_private.h"

#include "codec/stream_entry.h"
#include "core/peers.h"
#include "core/slot.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TROUBLE_PERIOD_MS 30000u
#define COMMAND_LINE_MAX 8192u

/* ---- the link ------------------------------------------------------------------------------ */

static void on_ready(void *context)
{
    struct legacy_list *list = context;
    list->busy = list->watching = false;
    list->monitor.asked = 0;
    legacy_tell(list);
    legacy_watch(list);
    legacy_look(list);
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct legacy_list *list = context;
    uint64_t held_back;
    if (log_limit_pass(&list->link_trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&list->log, LOG_ERROR, "no connection to Redis", LOG_TEXT("link", "legacy"),
                  LOG_TEXT("reason", reason), LOG_INT("retry_ms", retry_ms),
                  LOG_INT("repeated", held_back));
}

static const struct redis_link_events link_events = {on_ready, on_down};

/* ---- making -------------------------------------------------------------------------------- */

static bool name_things(struct legacy_list *list, const struct config_route *route)
{
    struct bytes site = stream_site(bytes_of(list->config->stream));
    if (site.length == 0)
        site = bytes_of(route->site);
    if (asprintf(&list->dead_stream, "nemo:{%.*s}:dead", (int)site.length,
                 (const char *)site.data) < 0)
        list->dead_stream = NULL;
    if (asprintf(&list->link_name, "nemogate:%s:legacy", list->legacy->setting.config->instance) <
        0)
        list->link_name = NULL;
    return list->dead_stream != NULL && list->link_name != NULL;
}

/* The first list of its database that serves the page. */
static bool serves_page(const struct legacy_list *list)
{
    for (const struct legacy_list *other = list->legacy->lists; other < list; other++)
        if (other->config->monitor && other->config->database == list->config->database)
            return false;
    return list->config->monitor;
}

static bool open_monitor(struct legacy_list *list, struct event_base *base)
{
    if (!serves_page(list))
        return true;
    list->monitor.list = list;
    list->monitor.tick = event_new(base, -1, 0, legacy_on_monitor_tick, list);
    return list->monitor.tick != NULL;
}

static bool open_list(struct legacy *legacy, struct legacy_list *list,
                      const struct config_legacy_list *config)
{
    const struct legacy_setting *setting = &legacy->setting;
    const struct config_route *route = config_route_of(setting->config, config->stream);
    list->legacy = legacy;
    list->config = config;
    list->log = log_child(setting->log, LOG_TEXT("list", config->list));
    list->slot = slot_of_stream(config->stream, setting->config->slots);
    list->broker = route->broker;
    if (!name_things(list, route))
        return false;
    list->link_config =
        peer_redis_link(&setting->config->redis, setting->redis_tls, list->link_name);
    list->link_config.database = config->database;
    list->look = event_new(setting->net->base, -1, 0, legacy_on_look, list);
    list->watch = event_new(setting->net->base, -1, 0, legacy_on_watch, list);
    list->link = redis_link_new(setting->net, &list->link_config, &link_events, NULL, list,
                                net_now_us() + list->slot);
    return list->look != NULL && list->watch != NULL && list->link != NULL &&
           open_monitor(list, setting->net->base);
}

struct legacy *legacy_new(const struct legacy_setting *setting)
{
    size_t count = setting->config->legacy_list_count;
    struct legacy *legacy = calloc(1, sizeof *legacy + count * sizeof legacy->lists[0]);
    if (legacy == NULL)
        return NULL;
    legacy->setting = *setting;
    legacy->settings = legacy_settings_new(setting->config, setting->log, setting->net->base,
                                           setting->on_change, setting->context);
    if (legacy->settings == NULL) {
        free(legacy);
        return NULL;
    }
    for (; legacy->count < count; legacy->count++)
        if (!open_list(legacy, &legacy->lists[legacy->count],
                       &setting->config->legacy_lists[legacy->count])) {
            legacy->count++;
            legacy_free(legacy);
            return NULL;
        }
    return legacy;
}

static void close_list(struct legacy_list *list)
{
    struct event *events[] = {list->look, list->watch, list->monitor.tick};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i] != NULL)
            event_free(events[i]);
    redis_link_free(list->link);
    free(list->dead_stream);
    free(list->link_name);
    free(list->memory);
}

void legacy_free(struct legacy *legacy)
{
    if (legacy == NULL)
        return;
    for (size_t i = 0; i < legacy->count; i++)
        close_list(&legacy->lists[i]);
    legacy_settings_free(legacy->settings);
    free(legacy);
}

/* ---- running ------------------------------------------------------------------------------- */

const char *legacy_fatal_name(void)
{
    static const char *const patterns[] = {"mosquitto", "redis_mqtt_bridge"};
    char line[COMMAND_LINE_MAX];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, line, sizeof line) : 0;
    if (fd >= 0)
        close(fd);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (length > 0 && memmem(line, (size_t)length, patterns[i], strlen(patterns[i])) != NULL)
            return patterns[i];
    return NULL;
}

void legacy_start(struct legacy *legacy)
{
    const char *fatal = legacy_fatal_name();
    if (fatal != NULL && legacy->count > 0)
        log_event(legacy->setting.log, LOG_WARNING,
                  "NEMO's plugins kill this process when they start a bridge of their own, by the "
                  "name of a file in its command line: use another path",
                  LOG_TEXT("pkill", fatal));
    for (size_t i = 0; i < legacy->count; i++) {
        redis_link_start(legacy->lists[i].link);
        if (legacy->lists[i].monitor.tick != NULL)
            event_add(legacy->lists[i].monitor.tick, &(struct timeval){.tv_sec = 1});
    }
}

void legacy_prefer(struct legacy *legacy, unsigned slot, bool preferred)
{
    for (size_t i = 0; i < legacy->count; i++) {
        struct legacy_list *list = &legacy->lists[i];
        if (list->slot != slot || list->preferred == preferred)
            continue;
        list->preferred = preferred;
        list->told = false;
        legacy_tell(list);
        legacy_watch(list);
        legacy_look(list);
    }
}

void legacy_broker(struct legacy *legacy, unsigned slot, size_t broker, bool reached)
{
    for (size_t i = 0; i < legacy->count; i++) {
        struct legacy_list *list = &legacy->lists[i];
        if (list->slot != slot || list->broker != broker || list->reached == reached)
            continue;
        list->reached = reached;
        legacy_tell(list);
    }
}

void legacy_leave(struct legacy *legacy)
{
    if (legacy->leaving)
        return;
    legacy->leaving = true;
    for (size_t i = 0; i < legacy->count; i++)
        legacy_tell(&legacy->lists[i]);
}
