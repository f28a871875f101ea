/*
 * The names seen so far are kept in an open hash table: a stream is told of once, and a stream
 * without a route is complained of once.
 */
#include "core/discovery.h"

#include "codec/stream_entry.h"

#include <event2/event.h>
#include <stdlib.h>

#define PAGE "1000"
/* A page costs Redis up to a millisecond, whatever it holds: where there are very many keys a pass
 * takes longer than the interval, so that looking for streams never costs more than a few
 * hundredths of its time. */
#define PAGE_MIN_MS 50u

struct discovery {
    const struct config *config;
    const struct log *log;
    struct redis_link *link;
    const struct discovery_events *events;
    void *context;
    struct event *next_page;
    size_t pattern;  /* index into config->redis.streams */
    char cursor[24]; /* of SCAN */
    bool asking;     /* a page is on its way */
    bool first_pass_done;
    unsigned pages;      /* of this pass so far */
    unsigned last_pages; /* of the pass before it */
    char **seen;         /* a power of two of places */
    size_t seen_capacity;
    size_t seen_count;
    struct log_limit trouble;
};

static void ask(struct discovery *d);

/* ---- names -------------------------------------------------------------------------------- */

static size_t place_of(char *const *table, size_t capacity, const char *name)
{
    uint32_t hash = 2166136261u;
    for (const char *c = name; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    size_t place = hash & (capacity - 1);
    while (table[place] != NULL && strcmp(table[place], name) != 0)
        place = (place + 1) & (capacity - 1);
    return place;
}

static bool grow(struct discovery *d)
{
    if (d->seen_count * 2 < d->seen_capacity)
        return true;
    size_t capacity = d->seen_capacity == 0 ? 64 : d->seen_capacity * 2;
    char **table = calloc(capacity, sizeof *table);
    if (table == NULL)
        return false;
    for (size_t i = 0; i < d->seen_capacity; i++)
        if (d->seen[i] != NULL)
            table[place_of(table, capacity, d->seen[i])] = d->seen[i];
    free(d->seen);
    d->seen = table;
    d->seen_capacity = capacity;
    return true;
}

/* true: the name is new. */
static bool remember(struct discovery *d, const char *name)
{
    if (!grow(d))
        return false;
    size_t place = place_of(d->seen, d->seen_capacity, name);
    if (d->seen[place] != NULL)
        return false;
    d->seen[place] = strdup(name);
    d->seen_count += d->seen[place] != NULL;
    return d->seen[place] != NULL;
}

static void consider(struct discovery *d, const char *name)
{
    if (!remember(d, name))
        return;
    const struct config_route *route = config_route_of(d->config, name);
    if (route == NULL)
        log_event(d->log, LOG_WARNING, "no route matches a stream; it is not read",
                  LOG_TEXT("stream", name));
    else if (stream_site(bytes_of(name)).length == 0 && route->site[0] == '\0')
        log_event(d->log, LOG_WARNING,
                  "a stream has no site: no hash tag in its name, no site: in its route; it is not "
                  "read",
                  LOG_TEXT("stream", name));
    else
        d->events->on_found(d->context, name);
}

/* ---- scanning ----------------------------------------------------------------------------- */

/* Steps over names that are no patterns; false: the pass is over. */
static bool find_pattern(struct discovery *d)
{
    while (d->pattern < d->config->redis.stream_count &&
           !config_is_pattern(d->config->redis.streams[d->pattern]))
        d->pattern++;
    return d->pattern < d->config->redis.stream_count;
}

static void end_pass(struct discovery *d)
{
    d->last_pages = d->pages;
    d->pages = 0;
    d->pattern = 0;
    if (d->first_pass_done)
        return;
    d->first_pass_done = true;
    d->events->on_first_pass(d->context);
}

static void wait_for_next_page(struct discovery *d)
{
    uint32_t ms = 0;
    if (d->first_pass_done)
        ms = d->config->redis.discovery_interval_ms / (d->last_pages > 0 ? d->last_pages : 1);
    if (d->first_pass_done && ms < PAGE_MIN_MS)
        ms = PAGE_MIN_MS;
    struct timeval delay = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};
    event_add(d->next_page, &delay);
}

static void take_page(struct discovery *d, const struct redis_value *reply)
{
    struct bytes cursor = reply->element->text;
    size_t length = cursor.length < sizeof d->cursor ? cursor.length : sizeof d->cursor - 1;
    memcpy(d->cursor, cursor.data, length);
    d->cursor[length] = '\0';
    d->pages++;
    for (const struct redis_value *v = reply->element->next->element; v != NULL; v = v->next) {
        if (v->type != REDIS_STRING || memchr(v->text.data, '\0', v->text.length) != NULL)
            continue;
        char *name = strndup((const char *)v->text.data, v->text.length);
        if (name != NULL)
            consider(d, name);
        free(name);
    }
    if (strcmp(d->cursor, "0") != 0)
        return;
    d->pattern++;
    if (!find_pattern(d))
        end_pass(d);
}

static void on_page(void *context, const struct redis_value *reply)
{
    struct discovery *d = context;
    d->asking = false;
    if (reply == NULL)
        return; /* discovery_go_on comes when the link is back */
    if (reply->type == REDIS_ARRAY && reply->count == 2 && reply->element->type == REDIS_STRING &&
        reply->element->next->type == REDIS_ARRAY) {
        take_page(d, reply);
    } else {
        uint64_t held_back;
        struct bytes text = reply->type == REDIS_ERROR ? reply->text : bytes_of("unexpected reply");
        if (log_limit_pass(&d->trouble, net_now_ms(), 30000, &held_back))
            log_event(d->log, LOG_ERROR, "Redis refuses SCAN; streams cannot be found by pattern",
                      LOG_BYTES("reply", text));
        memcpy(d->cursor, "0", 2); /* one that Redis does not take must not be given to it again */
        d->pattern++;
        if (!find_pattern(d))
            end_pass(d);
    }
    wait_for_next_page(d);
}

static void ask(struct discovery *d)
{
    if (d->asking || !redis_link_is_ready(d->link) || !find_pattern(d))
        return;
    struct bytes arguments[] = {bytes_of("SCAN"),  bytes_of(d->cursor),
                                bytes_of("MATCH"), bytes_of(d->config->redis.streams[d->pattern]),
                                bytes_of("COUNT"), bytes_of(PAGE),
                                bytes_of("TYPE"),  bytes_of("stream")};
    d->asking = true;
    redis_link_command(d->link, arguments, sizeof arguments / sizeof *arguments, on_page, d);
    redis_link_flush(d->link);
}

static void on_next_page(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    ask(context);
}

void discovery_go_on(struct discovery *d)
{
    for (size_t i = 0; i < d->config->redis.stream_count; i++)
        if (!config_is_pattern(d->config->redis.streams[i]))
            consider(d, d->config->redis.streams[i]);
    if (find_pattern(d))
        ask(d);
    else
        end_pass(d);
}

struct discovery *discovery_new(const struct config *config, const struct log *log,
                                const struct net *net, struct redis_link *link,
                                const struct discovery_events *events, void *context)
{
    struct discovery *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    *d = (struct discovery){.config = config,
                            .log = log,
                            .link = link,
                            .events = events,
                            .context = context,
                            .cursor = "0"};
    d->next_page = event_new(net->base, -1, 0, on_next_page, d);
    if (d->next_page == NULL) {
        free(d);
        return NULL;
    }
    return d;
}

void discovery_free(struct discovery *d)
{
    if (d == NULL)
        return;
    event_free(d->next_page);
    for (size_t i = 0; i < d->seen_capacity; i++)
        free(d->seen[i]);
    free(d->seen);
    free(d);
}
