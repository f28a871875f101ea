/*
 * A link of its own on a loop of its own, before the other parts of the check begin: which brokers
 * there are depends on it.
 */
#include "core/check_sites.h"

#include "core/peers.h"
#include "core/site_config.h"
#include "core/site_fetch.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_S 6

struct looking {
    struct net net;
    struct tls_context *tls;
    struct redis_link_config link_config;
    struct redis_link *link;
    struct site_fetch *fetch;
    struct event *deadline;
    struct site_set *set;
    FILE *out;
};

static void on_fetched(void *context, struct site_set *found, const char *refused)
{
    struct looking *looking = context;
    if (refused != NULL)
        fprintf(looking->out, "warning  which settings of sites are applied is not known: %s\n",
                refused);
    *looking->set = *found;
    *found = (struct site_set){NULL, 0};
    event_base_loopbreak(looking->net.base);
}

static void on_ready(void *context)
{
    struct looking *looking = context;
    site_fetch_begin(looking->fetch);
}

/* The check of Redis, which comes after, says what is wrong. */
static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)reason;
    (void)retry_ms;
    struct looking *looking = context;
    event_base_loopbreak(looking->net.base);
}

static const struct redis_link_events link_events = {on_ready, on_down};

static void on_deadline(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct looking *looking = context;
    event_base_loopbreak(looking->net.base);
}

static bool look(struct looking *looking, const struct config *config)
{
    const struct config_redis *redis = &config->redis;
    char error[IO_ERROR_TEXT];
    if (!net_open(&looking->net) || !peer_open_tls(&redis->url, &redis->tls, &looking->tls, error))
        return false;
    looking->link_config = peer_redis_link(redis, looking->tls, "nemogate:check-sites");
    looking->link = redis_link_new(&looking->net, &looking->link_config, &link_events, NULL,
                                   looking, net_now_us());
    looking->deadline = event_new(looking->net.base, -1, 0, on_deadline, looking);
    if (looking->link != NULL)
        looking->fetch = site_fetch_new(looking->link, on_fetched, looking);
    if (looking->fetch == NULL || looking->deadline == NULL ||
        event_add(looking->deadline, &(struct timeval){.tv_sec = PATIENCE_S}) != 0)
        return false;
    redis_link_start(looking->link);
    event_base_dispatch(looking->net.base);
    return true;
}

static void stop_looking(struct looking *looking)
{
    if (looking->deadline != NULL)
        event_free(looking->deadline);
    redis_link_free(looking->link);
    site_fetch_free(looking->fetch);
    net_close(&looking->net);
    tls_context_free(looking->tls);
}

/* One line for a site, whatever the number of routes. */
static bool say_site(const struct config *config, size_t index, FILE *out)
{
    const struct config_route *route = &config->routes[index];
    const struct site_settings *settings = route->site_settings;
    if (route->site_fault != NULL) {
        fprintf(out,
                "FAILED   site %s: settings %" PRIu64 ", which it has saved, cannot be used: %s\n",
                settings->site, settings->version, route->site_fault);
        return false;
    }
    fprintf(out, "ok       site %s: settings %" PRIu64 ", which it has saved, lead to broker %s\n",
            settings->site, settings->version, config->brokers[route->broker].name);
    return true;
}

bool check_sites(struct config *config, struct site_set *set, FILE *out)
{
    struct looking looking = {.set = set, .out = out};
    if (!config_has_site_settings(config))
        return true;
    bool good = look(&looking, config);
    stop_looking(&looking);
    if (!good || !site_config_apply(config, set, NULL)) {
        fputs("FAILED   memory is short, or TLS towards Redis cannot be used\n", out);
        return false;
    }
    for (size_t i = config->route_count - config->site_route_count; i < config->route_count; i++)
        if (site_config_concerns(config, &config->routes[i], config->routes[i].site_settings->site))
            good = say_site(config, i, out) && good;
    fflush(out);
    return good;
}

void check_sites_warn(const struct config *config, FILE *out)
{
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        if (route->settings == CONFIG_SETTINGS_FROM_SITE && route->settings_secrets[0] != '\0' &&
            strstr(route->settings_secrets, "{site}") == NULL && config_is_pattern(route->streams))
            fprintf(out,
                    "warning  routes[%zu].settings_secrets: all sites of %s share one folder, and "
                    "each may send a secret of another to a broker of its own; {site} in the path "
                    "gives each a folder of its own\n",
                    i, route->streams);
    }
}
