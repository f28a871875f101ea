/*
 * What concerns several keys of legacy_lists: each list once, and a stream that nemogate reads and
 * knows a site and a route for. The streams join redis.streams by name, so that they are made, and
 * read at once, when the first event comes.
 */
#include <stdarg.h>
#include <string.h>

#include "codec/stream_entry.h"
#include "core/config_private.h"

static void __attribute__((format(printf, 4, 5)))
fault(struct config_reading *r, size_t index, const char *key, const char *format, ...)
{
    char text[CONFIG_FAULT_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct config_node *item = config_node_item(config_node_find(r->root, "legacy_lists"), index);
    struct config_node *node = config_node_find(item, key);
    if (node == NULL)
        node = item;
    if (node == NULL || node->faulty)
        return;
    node->faulty = true;
    config_fault_at(r->report, node->line, node->column, "legacy_lists[%zu].%s: %s", index, key,
                    text);
}

static void check_twins(struct config_reading *r, size_t index)
{
    const struct config_legacy_list *lists = r->config->legacy_lists;
    for (size_t i = 0; i < index; i++)
        if (lists[i].database == lists[index].database &&
            strcmp(lists[i].list, lists[index].list) == 0)
            fault(r, index, "list", "the same list as that of legacy_lists[%zu]; one is expected",
                  i);
}

static void check_stream(struct config_reading *r, size_t index)
{
    const struct config_legacy_list *list = &r->config->legacy_lists[index];
    const struct config_route *route = config_route_of(r->config, list->stream);
    char shown[CONFIG_SHOWN_TEXT];
    config_show(NULL, list->stream, shown);
    if (config_is_pattern(list->stream))
        fault(r, index, "stream", "%s is a pattern; the name of one stream is expected", shown);
    else if (list->database == r->config->redis.url.database &&
             strcmp(list->list, list->stream) == 0)
        fault(r, index, "stream", "%s is the list itself; another name is expected", shown);
    else if (route == NULL)
        fault(r, index, "stream", "%s has no route; a route whose streams match it is expected",
              shown);
    else if (stream_site(bytes_of(list->stream)).length == 0 && route->site[0] == '\0')
        fault(r, index, "stream",
              "%s has no site; a name with a hash tag such as nemo:{lab}:events is expected, or "
              "'site:' in its route",
              shown);
}

/* The plugins know plain TCP only, and neither a port for TLS nor a batch. */
static void check_command(struct config_reading *r)
{
    struct config_node *node = config_node_find(r->root, "legacy_config_command");
    const char *problem = NULL;
    if (r->config->legacy_config_command == NULL || r->config->legacy_config_command[0] == '\0' ||
        node == NULL || node->faulty)
        return;
    const struct config_route *route = NULL;
    if (r->config->legacy_list_count > 0)
        route = config_route_of(r->config, r->config->legacy_lists[0].stream);
    if (r->config->legacy_list_count == 0)
        problem = "there are no legacy_lists whose broker could be meant; legacy_lists is "
                  "expected, too";
    else if (route != NULL && r->config->brokers[route->broker].url.tls)
        problem = "the plugin's host and port are without TLS; an mqtt:// URL is expected in the "
                  "broker of the first list's stream, or no command";
    else if (route != NULL && route->encoding == CONFIG_ENCODING_BATCH)
        problem = "the route of the first list's stream has 'encoding: batch'; raw or signed is "
                  "expected there";
    if (problem != NULL)
        config_fault_at(r->report, node->line, node->column, "legacy_config_command: %s", problem);
}

static bool is_named(const struct config_redis *redis, const char *stream)
{
    for (size_t i = 0; i < redis->stream_count; i++)
        if (redis->streams[i] != NULL && strcmp(redis->streams[i], stream) == 0)
            return true;
    return false;
}

static void add_streams(struct config_reading *r)
{
    struct config_redis *redis = &r->config->redis;
    size_t count = redis->stream_count + r->config->legacy_list_count;
    char **streams = config_memory_get(r->memory, count * sizeof *streams);
    if (streams == NULL || redis->streams == NULL)
        return;
    memcpy(streams, redis->streams, redis->stream_count * sizeof *streams);
    redis->streams = streams;
    for (size_t i = 0; i < r->config->legacy_list_count; i++)
        if (!is_named(redis, r->config->legacy_lists[i].stream))
            redis->streams[redis->stream_count++] = r->config->legacy_lists[i].stream;
}

void config_check_legacy(struct config_reading *r)
{
    for (size_t i = 0; i < r->config->legacy_list_count; i++) {
        check_twins(r, i);
        check_stream(r, i);
    }
    check_command(r);
    if (r->config->legacy_list_count > 0)
        add_streams(r);
}
