/*
 * What concerns several keys at once: names that must be found or be unique, sections that go
 * together, limits that depend on each other; and what is derived: passwords, the broker of a
 * route, the number of shards. A node with a fault of its own is not judged again.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/encode_signed.h"
#include "codec/stream_entry.h"
#include "core/config_private.h"

/* A section that connects to something: redis, or one of the brokers. */
struct peer {
    struct config_node *node; /* NULL: not given */
    char path[CONFIG_PATH_TEXT];
    const struct config_url *url;
    const char *tls_scheme;
    const char *password_file;
    char **password;
    struct config_tls *tls;
};

/* ---- Nodes ---------------------------------------------------------------------------- */

void config_node_fault(struct config_reading *r, struct config_node *node, const char *format, ...)
{
    char text[CONFIG_FAULT_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (node != NULL)
        node->faulty = true;
    config_fault_at(r->report, node != NULL ? node->line : 1, node != NULL ? node->column : 1, "%s",
                    text);
}

bool config_node_is_sound(const struct config_node *node)
{
    return node == NULL || !node->faulty;
}

/* ---- Peers -------------------------------------------------------------------------------- */

static void check_password(struct config_reading *r, const struct peer *peer)
{
    struct config_node *node = config_node_find(peer->node, "password_file");
    if (node == NULL || node->faulty || peer->password_file[0] == '\0' || !r->files)
        return;
    char problem[CONFIG_PROBLEM_TEXT];
    if (!config_file_read(peer->password_file, true, r->memory, peer->password, problem))
        config_node_fault(
            r, node,
            "%s.password_file: the file (its name is not shown: it might be the password itself) "
            "%s; the path of a readable file that holds the password is expected",
            peer->path, problem);
}

static void check_tls(struct config_reading *r, const struct peer *peer)
{
    struct config_node *section = config_node_find(peer->node, "tls");
    struct config_node *cert = config_node_find(section, "cert_file");
    struct config_node *key = config_node_find(section, "key_file");
    bool has_cert = peer->tls->cert_file[0] != '\0' || !config_node_is_sound(cert);
    bool has_key = peer->tls->key_file[0] != '\0' || !config_node_is_sound(key);
    if (has_cert && !has_key)
        config_node_fault(
            r, cert, "%s.tls.cert_file: a certificate needs its key; key_file is expected, too",
            peer->path);
    if (has_key && !has_cert)
        config_node_fault(
            r, key, "%s.tls.key_file: a key needs its certificate; cert_file is expected, too",
            peer->path);
    bool is_given = section != NULL && section->first != NULL;
    if (is_given && !peer->url->tls && config_node_is_sound(config_node_find(peer->node, "url")))
        config_node_fault(
            r, section,
            "%s.tls: the URL is one without TLS; %s:// is expected in %s.url, or no tls section",
            peer->path, peer->tls_scheme, peer->path);
}

static void check_peer(struct config_reading *r, const struct peer *peer)
{
    check_password(r, peer);
    check_tls(r, peer);
    if (peer->tls->server_name[0] == '\0' && peer->url->host != NULL)
        peer->tls->server_name =
            config_memory_text(r->memory, peer->url->host, strlen(peer->url->host));
}

static void check_redis(struct config_reading *r)
{
    struct config_redis *redis = &r->config->redis;
    struct peer peer = {.node = config_node_find(r->root, "redis"),
                        .path = "redis",
                        .url = &redis->url,
                        .tls_scheme = "rediss",
                        .password_file = redis->password_file,
                        .password = &redis->password,
                        .tls = &redis->tls};
    check_peer(r, &peer);
    /* AUTH takes a user only together with a password. */
    if (redis->username[0] != '\0' && redis->password_file[0] == '\0' &&
        config_node_is_sound(config_node_find(peer.node, "password_file")))
        config_node_fault(
            r, config_node_find(peer.node, "username"),
            "redis.username: a user cannot log in without a password; password_file is expected, "
            "too");
}

/* ---- Brokers ------------------------------------------------------------------------------ */

static bool same_place(const struct config_url *a, const struct config_url *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Against every broker before it: 120 comparisons at most. */
static void check_twins(struct config_reading *r, struct config_node *list, size_t index)
{
    const struct config_broker *broker = &r->config->brokers[index];
    struct config_node *node = config_node_item(list, index);
    for (size_t i = 0; i < index; i++) {
        const struct config_broker *other = &r->config->brokers[i];
        struct config_node *twin = config_node_item(list, i);
        struct config_node *name = config_node_find(node, "name");
        struct config_node *url = config_node_find(node, "url");
        struct config_node *other_name = config_node_find(twin, "name");
        struct config_node *other_url = config_node_find(twin, "url");
        if (name != NULL && other_name != NULL && !name->faulty && !other_name->faulty &&
            strcmp(broker->name, other->name) == 0)
            config_node_fault(
                r, name,
                "brokers[%zu].name: '%s' is the name of brokers[%zu], too; another name is "
                "expected",
                index, broker->name, i);
        /* The client identifiers would be the same, and the broker closes the older connection when
         * a client identifier connects again [MQTT-3.1.4-3]. */
        if (url != NULL && other_url != NULL && !url->faulty && !other_url->faulty &&
            same_place(&broker->url, &other->url) &&
            strcmp(broker->client_id_prefix, other->client_id_prefix) == 0)
            config_node_fault(
                r, url,
                "brokers[%zu].url: brokers[%zu] has the same host, port and client_id_prefix, so "
                "that each would throw the other out; another client_id_prefix is expected",
                index, i);
    }
}

static void check_brokers(struct config_reading *r)
{
    struct config_node *list = config_node_find(r->root, "brokers");
    for (size_t i = 0; i < r->config->broker_count; i++) {
        struct config_broker *broker = &r->config->brokers[i];
        struct peer peer = {.node = config_node_item(list, i),
                            .url = &broker->url,
                            .tls_scheme = "mqtts",
                            .password_file = broker->password_file,
                            .password = &broker->password,
                            .tls = &broker->tls};
        snprintf(peer.path, sizeof peer.path, "brokers[%zu]", i);
        check_peer(r, &peer);
        check_twins(r, list, i);
        struct config_node *password = config_node_find(peer.node, "password_file");
        if (broker->protocol == CONFIG_PROTOCOL_3_1_1 && broker->password_file[0] != '\0' &&
            broker->username[0] == '\0' && config_node_is_sound(password) &&
            config_node_is_sound(config_node_find(peer.node, "username")))
            config_node_fault(
                r, password,
                "brokers[%zu].password_file: MQTT 3.1.1 knows no password without a user name "
                "[MQTT-3.1.2-22]; username is expected, too",
                i);
    }
}

/* ---- Routes ------------------------------------------------------------------------------- */

static bool brokers_are_sound(const struct config_reading *r)
{
    const struct config_node *list = config_node_find(r->root, "brokers");
    bool sound = list != NULL && list->kind == CONFIG_NODE_LIST && !list->faulty;
    for (const struct config_node *item = sound ? list->first : NULL; item != NULL;
         item = item->next)
        sound = sound && !item->faulty && config_node_is_sound(config_node_find(item, "name"));
    return sound;
}

static void resolve_broker(struct config_reading *r, struct config_node *route, size_t index)
{
    const struct config *config = r->config;
    struct config_node *node = config_node_find(route, "broker");
    if (node != NULL && (node->faulty || node->kind != CONFIG_NODE_TEXT))
        return;
    char problem[CONFIG_PROBLEM_TEXT];
    const char *name = node != NULL ? config_expand(node->text, r->scratch, problem) : "";
    if (name == NULL)
        return;
    if (name[0] == '\0') {
        if (route != NULL && config->broker_count > 1)
            config_node_fault(
                r, node != NULL ? node : route,
                "routes[%zu].broker: there are %zu brokers; the name of one is expected", index,
                config->broker_count);
        return;
    }
    for (size_t i = 0; i < config->broker_count; i++) {
        if (strcmp(config->brokers[i].name, name) == 0) {
            r->config->routes[index].broker = i;
            return;
        }
    }
    char shown[CONFIG_SHOWN_TEXT];
    config_show(NULL, node->text, shown);
    config_node_fault(
        r, node, "routes[%zu].broker: %s is not the name of a broker; one such as '%s' is expected",
        index, shown, config->brokers[0].name);
}

/* Whether all that the later one can match has been taken by the earlier one. Says so only where it
 * is certain: for a name; and where the earlier pattern has no wildcard but stars and the later one
 * has neither class nor backslash, for then each star of the earlier one that takes a wildcard as
 * text also takes all that the wildcard can stand for. */
static bool takes_all_of(const char *earlier, const char *later)
{
    if (strcmp(earlier, later) == 0)
        return true;
    if (config_is_pattern(later) &&
        (strpbrk(earlier, "?[\\") != NULL || strpbrk(later, "[\\") != NULL))
        return false;
    return config_pattern_matches(earlier, later);
}

static void check_shadow(struct config_reading *r, struct config_node *list, size_t index)
{
    struct config_node *node = config_node_find(config_node_item(list, index), "streams");
    const char *streams = r->config->routes[index].streams;
    if (node == NULL || node->faulty)
        return;
    for (size_t i = 0; i < index; i++) {
        struct config_node *before = config_node_find(config_node_item(list, i), "streams");
        if (before == NULL || before->faulty ||
            !takes_all_of(r->config->routes[i].streams, streams))
            continue;
        char shown[CONFIG_SHOWN_TEXT];
        char shown_before[CONFIG_SHOWN_TEXT];
        config_show(NULL, node->text, shown);
        config_show(NULL, before->text, shown_before);
        config_node_fault(
            r, node,
            "routes[%zu].streams: %s never gets a stream, for routes[%zu] with %s takes them all "
            "first; another pattern or order is expected",
            index, shown, i, shown_before);
        return;
    }
}

/* Both verifiers of the plugins must take the key: what one of them would read in another way is
 * refused here. */
static void check_sign_key(struct config_reading *r, struct config_node *node, size_t index)
{
    struct config_route *route = &r->config->routes[index];
    struct config_node *key = config_node_find(node, "sign_key_file");
    char problem[CONFIG_PROBLEM_TEXT];
    if (!config_node_is_sound(key) || !r->files)
        return;
    if (!config_file_read(route->sign_key_file, true, r->memory, &route->sign_key, problem)) {
        config_node_fault(
            r, key,
            "routes[%zu].sign_key_file: the file (its name is not shown: it might be the key "
            "itself) %s; the path of a readable file that holds the key is expected",
            index, problem);
        return;
    }
    const char *wrong = signer_key_fault(bytes_of(route->sign_key));
    if (wrong != NULL)
        config_node_fault(r, key,
                          "routes[%zu].sign_key_file: the key in the file cannot be used: %s",
                          index, wrong);
}

static void check_encoding(struct config_reading *r, struct config_node *node, size_t index)
{
    const struct config_route *route = &r->config->routes[index];
    struct config_node *encoding = config_node_find(node, "encoding");
    struct config_node *batch = config_node_find(node, "batch");
    struct config_node *coalesce = config_node_find(node, "coalesce_retained");
    if (!config_node_is_sound(encoding))
        return;
    struct config_node *key = config_node_find(node, "sign_key_file");
    bool has_key = route->sign_key_file != NULL && route->sign_key_file[0] != '\0';
    if (route->encoding == CONFIG_ENCODING_SIGNED && has_key)
        check_sign_key(r, node, index);
    else if (route->encoding == CONFIG_ENCODING_SIGNED && config_node_is_sound(key))
        config_node_fault(
            r, encoding,
            "routes[%zu].encoding: 'signed' needs a key; sign_key_file is expected, too", index);
    else if (has_key && config_node_is_sound(key))
        config_node_fault(
            r, key, "routes[%zu].sign_key_file: only a route with 'encoding: signed' has a key",
            index);
    bool batches = route->encoding == CONFIG_ENCODING_BATCH;
    if (!batches && batch != NULL && batch->first != NULL)
        config_node_fault(r, batch,
                          "routes[%zu].batch: only a route with 'encoding: batch' has one", index);
    if (batches && route->coalesce_retained && config_node_is_sound(coalesce))
        config_node_fault(
            r, coalesce,
            "routes[%zu].coalesce_retained: 'true' does not go with 'encoding: batch', which "
            "publishes nothing retained; 'false' is expected",
            index);
}

/* {site} apart there are no braces in it; and where it is one folder it is there. */
static const char *secrets_fault(const struct config_reading *r, const char *folder)
{
    static const char word[] = "{site}";
    const char *at = folder;
    struct stat status;
    for (; (at = strpbrk(at, "{}")) != NULL; at += sizeof word - 1)
        if (strncmp(at, word, sizeof word - 1) != 0)
            return "holds a brace that is not part of {site}";
    if (!r->files || folder[0] == '\0' || strstr(folder, word) != NULL)
        return NULL;
    if (stat(folder, &status) != 0)
        return strerror(errno);
    return S_ISDIR(status.st_mode) ? NULL : "is not a folder";
}

static void check_settings(struct config_reading *r, struct config_node *node, size_t index)
{
    const struct config_route *route = &r->config->routes[index];
    struct config_node *key = config_node_find(node, "settings_secrets");
    if (key == NULL || key->faulty || !config_node_is_sound(config_node_find(node, "settings")))
        return;
    const char *wrong = secrets_fault(r, route->settings_secrets);
    if (route->settings_secrets[0] != '\0' && route->settings != CONFIG_SETTINGS_FROM_SITE)
        config_node_fault(
            r, key, "routes[%zu].settings_secrets: only a route with 'settings: from-site' has one",
            index);
    else if (wrong != NULL)
        config_node_fault(
            r, key,
            "routes[%zu].settings_secrets: %s; the path of a folder is expected, which may hold "
            "{site}",
            index, wrong);
}

static void check_routes(struct config_reading *r)
{
    struct config_node *list = config_node_find(r->root, "routes");
    bool brokers_sound = brokers_are_sound(r);
    for (size_t i = 0; i < r->config->route_count; i++) {
        if (brokers_sound)
            resolve_broker(r, config_node_item(list, i), i);
        check_shadow(r, list, i);
        check_encoding(r, config_node_item(list, i), i);
        check_settings(r, config_node_item(list, i), i);
    }
}

/* ---- Streams ------------------------------------------------------------------------------ */

static bool routes_are_sound(const struct config_reading *r)
{
    const struct config_node *list = config_node_find(r->root, "routes");
    bool sound = config_node_is_sound(list);
    for (const struct config_node *item = list != NULL ? list->first : NULL; item != NULL;
         item = item->next)
        sound = sound && !item->faulty && config_node_is_sound(config_node_find(item, "streams")) &&
                config_node_is_sound(config_node_find(item, "site"));
    return sound;
}

/* A stream that is named must have a route, and a site by its name or by that route. */
static void check_site(struct config_reading *r, struct config_node *node, size_t index)
{
    const char *stream = r->config->redis.streams[index];
    const struct config_route *route = config_route_of(r->config, stream);
    char shown[CONFIG_SHOWN_TEXT];
    config_show(NULL, node != NULL ? node->text : stream, shown);
    if (route == NULL) {
        config_node_fault(
            r, node,
            "redis.streams[%zu]: %s has no route; a route whose streams match it is expected%s",
            index, shown,
            stream_site(bytes_of(stream)).length == 0
                ? ", with 'site:', for the name has no hash tag such as nemo:{site}:events"
                : "");
    } else if (stream_site(bytes_of(stream)).length == 0 && route->site[0] == '\0') {
        config_node_fault(
            r, node,
            "redis.streams[%zu]: %s has no site: its name has no hash tag such as "
            "nemo:{site}:events, and routes[%zu], which takes it, has none; 'site:' is expected "
            "there, or in a route of its own before it",
            index, shown, (size_t)(route - r->config->routes));
    }
}

/* Whether the same text stands before the index-th, and where. */
static bool has_twin(const struct config_redis *redis, const struct config_node *list, size_t index,
                     size_t *twin)
{
    for (*twin = 0; *twin < index; ++*twin) {
        const struct config_node *node = config_node_item(list, *twin);
        if (node != NULL && !node->faulty && redis->streams[*twin] != NULL &&
            strcmp(redis->streams[*twin], redis->streams[index]) == 0)
            return true;
    }
    return false;
}

static void check_streams(struct config_reading *r)
{
    struct config_redis *redis = &r->config->redis;
    struct config_node *list = config_node_find(config_node_find(r->root, "redis"), "streams");
    bool routes_sound = routes_are_sound(r);
    for (size_t i = 0; i < redis->stream_count; i++) {
        struct config_node *node = config_node_item(list, i);
        if (redis->streams[i] == NULL || !config_node_is_sound(node))
            continue;
        size_t twin = 0;
        if (has_twin(redis, list, i, &twin))
            config_node_fault(r, node,
                              "redis.streams[%zu]: the same as redis.streams[%zu]; one is expected",
                              i, twin);
        else if (routes_sound && !config_is_pattern(redis->streams[i]))
            check_site(r, node, i);
    }
}

/* ---- Limits ------------------------------------------------------------------------------- */

/* An instance may come to own all slots, and each of them must be able to hold, for each broker, an
 * entry in flight and another one that is being read: with less, one large entry would stop it. */
static void check_budget(struct config_reading *r)
{
    const struct config *config = r->config;
    struct config_node *section = config_node_find(r->root, "delivery");
    struct config_node *slots = config_node_find(r->root, "slots");
    struct config_node *payload = config_node_find(section, "max_payload");
    struct config_node *bytes = config_node_find(section, "inflight_bytes");
    if (!config_node_is_sound(slots) || !config_node_is_sound(payload) ||
        !config_node_is_sound(bytes))
        return;
    size_t needed = 2 * config->delivery.max_payload * config->slots;
    size_t routed = config_routed_brokers(config);
    needed *= routed > 0 ? routed : 1;
    if (config->delivery.inflight_bytes >= needed)
        return;
    char given_text[32];
    char needed_text[32];
    char payload_text[32];
    config_print_size(config->delivery.inflight_bytes, given_text);
    config_print_size(needed, needed_text);
    config_print_size(config->delivery.max_payload, payload_text);
    struct config_node *place = bytes != NULL ? bytes : payload != NULL ? payload : slots;
    config_node_fault(
        r, place,
        "delivery.inflight_bytes: '%s' is too small; at least %s is expected, room for two "
        "entries of max_payload (%s) for each broker in each of %u slots",
        given_text, needed_text, payload_text, config->slots);
}

static unsigned core_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? (unsigned)count : 1;
}

void config_check(struct config_reading *r)
{
    struct config *config = r->config;
    check_redis(r);
    check_brokers(r);
    check_routes(r);
    check_streams(r);
    config_check_legacy(r);
    check_budget(r);
    config_check_admin(r);
    if (config->shards == 0)
        config->shards = core_count();
    if (config->shards > config->slots)
        config->shards = config->slots;
}
