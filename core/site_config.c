/*
 * A site's broker is a copy of the file's with other values. Whoever may choose where to connect to
 * must not be given the operator's login there: with an address or an authority of his own a site
 * has only the login that its own settings name.
 */
#include "core/site_config.h"

#include "codec/encode_signed.h"
#include "codec/mqtt_wire.h"
#include "codec/stream_entry.h"
#include "core/config_private.h"
#include "core/peers.h"

#include <stdarg.h>
#include <string.h>

#define USERNAME_MAX 1024u
#define REFERENCE_MAX 64u
#define SECRETS_OF_A_SITE 2u

/* A broker and a route in the making. */
struct making {
    const struct config *config;
    const struct config_route *template;
    const struct site_settings *settings;
    struct config_memory *memory;
    struct config_broker broker;
    bool own_broker; /* the broker differs from the file's */
    struct config_route route;
    char *secrets[SECRETS_OF_A_SITE]; /* paths */
    size_t secret_count;
    char *error;
};

static bool fail(struct making *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(struct making *m, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(m->error, SITE_ERROR_TEXT, format, arguments);
    va_end(arguments);
    return false;
}

static char *keep(struct making *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* NULL: memory is short, as the memory notes. */
static char *keep(struct making *m, const char *format, ...)
{
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return length < (int)sizeof text ? config_memory_text(m->memory, text, (size_t)length) : NULL;
}

static bool is_given(const struct making *m, enum site_field field)
{
    return m->settings->text[field][0] != '\0';
}

/* ---- secrets ------------------------------------------------------------------------------- */

/* [A-Za-z0-9_-][A-Za-z0-9._-]{0,63}: a name in the folder, and no way out of it. */
static bool is_reference(const char *text)
{
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strlen(text);
    if (length == 0 || length > REFERENCE_MAX || strspn(text, first) == 0)
        return false;
    for (const char *c = text; *c != '\0'; c++)
        if (*c != '.' && strchr(first, *c) == NULL)
            return false;
    return true;
}

/* The folder of the site's secrets with a name in it. */
static char *path_of(struct making *m, const char *name)
{
    static const char word[] = "{site}";
    const char *from = m->template->settings_secrets, *found;
    char folder[4096];
    struct writer w = writer_over((uint8_t *)folder, sizeof folder - 1);
    while ((found = strstr(from, word)) != NULL) {
        writer_put_bytes(&w, (struct bytes){(const uint8_t *)from, (size_t)(found - from)});
        writer_put_bytes(&w, bytes_of(m->settings->site));
        from = found + sizeof word - 1;
    }
    writer_put_bytes(&w, bytes_of(from));
    if (!writer_ok(&w))
        return NULL;
    folder[writer_length(&w)] = '\0';
    return keep(m, "%s/%s", folder, name);
}

/* The file's name is not shown: it might be the secret itself. */
static bool read_secret(struct making *m, enum site_field field, char **path, char **secret)
{
    const char *name = site_field_names[field];
    char problem[CONFIG_PROBLEM_TEXT];
    if (m->template->settings_secrets[0] == '\0')
        return fail(m,
                    "%s names a secret file, and the operator of the gateway has configured no "
                    "folder for such files (routes[].settings_secrets)",
                    name);
    if (!is_reference(m->settings->text[field]))
        return fail(m,
                    "%s is not the name of a secret file: 1 to 64 of a-z, A-Z, 0-9, dot, _ and -, "
                    "not beginning with a dot",
                    name);
    *path = path_of(m, m->settings->text[field]);
    if (*path == NULL)
        return fail(m, "the path of the gateway's folder of secret files is too long");
    m->secrets[m->secret_count++] = *path;
    if (!config_file_read(*path, true, m->memory, secret, problem))
        return fail(m,
                    "the file that %s names in the gateway's folder of secret files %s: put the "
                    "secret there, then save again",
                    name, problem);
    return true;
}

/* ---- the broker ---------------------------------------------------------------------------- */

static bool same_place(const struct config_url *a, const struct config_url *b)
{
    return a->tls == b->tls && a->port == b->port && strcmp(a->host, b->host) == 0;
}

static bool read_url(struct making *m)
{
    static const struct config_key key = {.name = "broker_url", .type = CONFIG_TYPE_MQTT_URL};
    struct config_value value = {.key = &key, .memory = m->memory};
    if (!is_given(m, SITE_BROKER_URL))
        return true;
    if (strlen(m->settings->text[SITE_BROKER_URL]) > 1024)
        return fail(m, "broker_url is longer than 1,024 bytes");
    if (!config_url_read(&value, m->settings->text[SITE_BROKER_URL], &m->broker.url))
        return fail(m, "broker_url %s; mqtts://HOST:PORT or mqtt://HOST:PORT is expected",
                    value.problem);
    return true;
}

/* As the file has it, but for what an address of one's own makes meaningless. */
static void set_tls(struct making *m, const struct config_broker *file)
{
    struct config_tls *tls = &m->broker.tls;
    char *empty = keep(m, "%s", "");
    bool moved = !same_place(&m->broker.url, &file->url);
    if (moved || is_given(m, SITE_CA))
        tls->cert_file = tls->key_file = empty;
    if (moved)
        tls->server_name = m->broker.url.host;
    if (!m->broker.url.tls || is_given(m, SITE_CA))
        tls->ca_file = empty;
    if (is_given(m, SITE_CA))
        tls->ca_pem = m->settings->text[SITE_CA];
}

/* What another protocol would read as lines must not come from a site. */
static bool has_control(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

static bool set_login(struct making *m, const struct config_broker *file)
{
    struct config_broker *broker = &m->broker;
    const char *user = m->settings->text[SITE_USERNAME];
    bool elsewhere = !same_place(&broker->url, &file->url) || is_given(m, SITE_CA);
    if (elsewhere)
        broker->username = keep(m, "%s", "");
    if (elsewhere || is_given(m, SITE_USERNAME)) {
        broker->password_file = keep(m, "%s", "");
        broker->password = NULL;
    }
    if (is_given(m, SITE_USERNAME)) {
        struct bytes text = bytes_of(user);
        if (text.length > USERNAME_MAX || !mqtt_utf8_valid(text) || has_control(user))
            return fail(m, "broker_username must be UTF-8 of at most 1,024 bytes without control "
                           "characters");
        broker->username = keep(m, "%s", user);
    }
    if (is_given(m, SITE_PASSWORD_REF) &&
        !read_secret(m, SITE_PASSWORD_REF, &broker->password_file, &broker->password))
        return false;
    if (broker->protocol == CONFIG_PROTOCOL_3_1_1 && broker->password != NULL &&
        broker->username[0] == '\0')
        return fail(m, "MQTT 3.1.1, which the gateway uses, knows no password without a user name: "
                       "broker_username is expected, too");
    return true;
}

static bool make_broker(struct making *m)
{
    const struct config_broker *file = &m->config->brokers[m->template->broker];
    m->broker = *file;
    if (!read_url(m))
        return false;
    m->own_broker = !same_place(&m->broker.url, &file->url) || is_given(m, SITE_CA) ||
                    is_given(m, SITE_USERNAME) || is_given(m, SITE_PASSWORD_REF);
    if (!m->own_broker)
        return true;
    if (is_given(m, SITE_CA) && !m->broker.url.tls)
        return fail(m, "broker_ca is of no use without TLS: an address that begins with mqtts:// "
                       "is expected, or no broker_ca");
    set_tls(m, file);
    m->broker.site = m->settings->site;
    m->broker.name = keep(m, "%s/%s", file->name, m->settings->site);
    m->broker.client_id_prefix = keep(m, "%s-%s", file->client_id_prefix, m->settings->site);
    return set_login(m, file);
}

/* ---- the route ----------------------------------------------------------------------------- */

static bool set_signing(struct making *m)
{
    struct config_route *route = &m->route;
    if (!is_given(m, SITE_SIGN_KEY_REF))
        return true;
    if (route->encoding == CONFIG_ENCODING_BATCH)
        return fail(m, "sign_key_ref: the gateway sends this site's messages in batches, which are "
                       "not signed; an empty sign_key_ref is expected");
    route->encoding = CONFIG_ENCODING_SIGNED;
    if (!read_secret(m, SITE_SIGN_KEY_REF, &route->sign_key_file, &route->sign_key))
        return false;
    const char *wrong = signer_key_fault(bytes_of(route->sign_key));
    return wrong == NULL ||
           fail(m, "the key in the file that sign_key_ref names cannot be used: %s", wrong);
}

static bool make(struct making *m)
{
    m->route = *m->template;
    m->route.template = m->template;
    m->route.site_settings = m->settings;
    if (make_broker(m) && set_signing(m) && !m->memory->failed)
        return true;
    return m->memory->failed ? fail(m, "memory is short") : false;
}

/* Certificates are judged by the TLS library. */
static bool opens_tls(struct making *m)
{
    struct tls_context *context = NULL;
    char wrong[IO_ERROR_TEXT];
    if (!peer_open_tls(&m->broker.url, &m->broker.tls, &context, wrong))
        return fail(m, "TLS cannot be used with these settings: %s", wrong);
    tls_context_free(context);
    return true;
}

bool site_config_concerns(const struct config *config, const struct config_route *route,
                          const char *site)
{
    const struct config_route *file = route->template != NULL ? route->template : route;
    for (const struct config_route *before = config->routes; before < file; before++)
        if (config_pattern_takes_all(before->streams, site))
            return false;
    return strcmp(file->site, site) == 0 || config_pattern_may_take(file->streams, site);
}

static bool judge_one(const struct config *config, const struct config_route *route,
                      const struct site_settings *settings, char *error)
{
    struct config_memory memory = {NULL, false};
    struct making m = {.config = config,
                       .template = route,
                       .settings = settings,
                       .memory = &memory,
                       .error = error};
    bool good = make(&m) && (!m.own_broker || opens_tls(&m));
    config_memory_free(&memory);
    return good;
}

bool site_config_judge(const struct config *config, const struct config_route *route,
                       const struct site_settings *settings, char *error)
{
    bool good = true;
    for (size_t i = 0; good && i < config->route_count - config->site_route_count; i++) {
        const struct config_route *other = &config->routes[i];
        if (other->settings == CONFIG_SETTINGS_FROM_SITE &&
            (other == route || site_config_concerns(config, other, settings->site)))
            good = judge_one(config, other, settings, error);
    }
    return good;
}

/* ---- into the configuration ---------------------------------------------------------------- */

static void log_site(const struct log *log, const struct making *m)
{
    const struct config_broker *broker = &m->broker;
    if (log == NULL || !site_config_concerns(m->config, m->template, m->settings->site))
        return;
    if (m->route.site_fault != NULL)
        log_event(log, LOG_ERROR,
                  "settings that a site has saved cannot be used any more; its streams are not "
                  "carried until they can",
                  LOG_TEXT("site", m->settings->site), LOG_INT("version", m->settings->version),
                  LOG_TEXT("reason", m->route.site_fault));
    else
        log_event(log, LOG_INFO, "settings that a site has saved are used",
                  LOG_TEXT("site", m->settings->site), LOG_INT("version", m->settings->version),
                  LOG_TEXT("broker", broker->name), LOG_TEXT("host", broker->url.host),
                  LOG_INT("port", broker->url.port),
                  LOG_TEXT("tls", broker->url.tls ? "yes" : "no"),
                  LOG_TEXT("login",
                           broker->password != NULL || broker->username[0] != '\0' ? "yes" : "no"),
                  LOG_TEXT("signed", m->route.encoding == CONFIG_ENCODING_SIGNED ? "yes" : "no"));
}

/* Two routes may lead to one broker of the file: then a site has one of it, too, unless its secrets
 * differ. Client identifiers must be its own at the place where it connects to. */
static size_t add_broker(struct config *config, struct making *m)
{
    struct config_broker *broker = &m->broker;
    unsigned same_name = 0;
    for (size_t i = config->broker_count - config->site_broker_count; i < config->broker_count;
         i++) {
        const struct config_broker *other = &config->brokers[i];
        if (other->site != broker->site || strcmp(other->name, broker->name) != 0)
            continue;
        if (strcmp(other->password_file, broker->password_file) == 0)
            return i;
        same_name++;
    }
    if (same_name > 0)
        broker->name = keep(m, "%s/%u", broker->name, same_name + 1);
    for (size_t i = 0; i < config->broker_count; i++) {
        const struct config_broker *other = &config->brokers[i];
        if (other->url.port == broker->url.port && strcmp(other->url.host, broker->url.host) == 0 &&
            strcmp(other->client_id_prefix, broker->client_id_prefix) == 0)
            broker->client_id_prefix =
                keep(m, "%s-%zu", broker->client_id_prefix, config->broker_count);
    }
    config->brokers[config->broker_count] = *broker;
    config->site_broker_count++;
    return config->broker_count++;
}

static void add_site(struct config *config, const struct config_route *template,
                     const struct site_settings *settings, const struct log *log)
{
    char error[SITE_ERROR_TEXT];
    struct making m = {.config = config,
                       .template = template,
                       .settings = settings,
                       .memory = config_memory_of(config),
                       .error = error};
    /* Authorities of the system or of the file are the same as they were when the file was read. */
    if (!make(&m) || (m.own_broker && m.broker.tls.ca_pem != NULL && !opens_tls(&m)))
        m.route.site_fault = keep(&m, "%s", error);
    else if (m.own_broker)
        m.route.broker = add_broker(config, &m);
    for (size_t i = 0; i < m.secret_count; i++)
        config->secret_files[config->secret_file_count++] = m.secrets[i];
    config->routes[config->route_count++] = m.route;
    config->site_route_count++;
    log_site(log, &m);
}

static size_t routes_from_site(const struct config *config, size_t end)
{
    size_t count = 0;
    for (size_t i = 0; i < end; i++)
        count += config->routes[i].settings == CONFIG_SETTINGS_FROM_SITE;
    return count;
}

/* Room for so many more; nobody has borrowed the arrays yet. */
static bool make_room(struct config *config, size_t more)
{
    struct config_memory *memory = config_memory_of(config);
    struct config_broker *brokers =
        config_memory_get(memory, (config->broker_count + more) * sizeof *brokers);
    struct config_route *routes =
        config_memory_get(memory, (config->route_count + more) * sizeof *routes);
    config->secret_files = config_memory_get(memory, more * SECRETS_OF_A_SITE * sizeof(char *));
    if (brokers == NULL || routes == NULL || config->secret_files == NULL)
        return false;
    memcpy(brokers, config->brokers, config->broker_count * sizeof *brokers);
    memcpy(routes, config->routes, config->route_count * sizeof *routes);
    config->brokers = brokers;
    config->routes = routes;
    return true;
}

bool site_config_apply(struct config *config, const struct site_set *set, const struct log *log)
{
    size_t file_routes = config->route_count, count = routes_from_site(config, file_routes);
    if (count == 0 || set == NULL || set->count == 0)
        return true;
    if (!make_room(config, count * set->count))
        return false;
    config->sites = set;
    for (size_t i = 0; i < file_routes; i++)
        for (size_t n = 0;
             config->routes[i].settings == CONFIG_SETTINGS_FROM_SITE && n < set->count; n++)
            add_site(config, &config->routes[i], set->items[n], log);
    return !config_memory_of(config)->failed;
}

const struct config_route *site_config_route(const struct config *config,
                                             const struct config_route *route, const char *stream)
{
    size_t file_routes = config->route_count - config->site_route_count, index;
    if (config->site_route_count == 0 || route->settings != CONFIG_SETTINGS_FROM_SITE)
        return route;
    struct bytes site = stream_site(bytes_of(stream));
    if (site.length == 0)
        site = bytes_of(route->site);
    if (site_set_find(config->sites, site, &index) == NULL)
        return route;
    size_t before = routes_from_site(config, (size_t)(route - config->routes));
    return &config->routes[file_routes + before * config->sites->count + index];
}

const char *site_config_fault(const struct config *config, const char *site)
{
    const char *fault = NULL;
    for (size_t i = config->route_count - config->site_route_count;
         fault == NULL && i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        if (strcmp(route->site_settings->site, site) == 0 &&
            site_config_concerns(config, route, site))
            fault = route->site_fault;
    }
    return fault;
}

const struct config_route *site_config_worse(const struct config *now, const struct config *next)
{
    for (size_t i = next->route_count - next->site_route_count; i < next->route_count; i++) {
        const struct config_route *route = &next->routes[i];
        bool was_good = false;
        for (size_t k = now->route_count - now->site_route_count; k < now->route_count; k++)
            was_good = was_good || (now->routes[k].site_fault == NULL &&
                                    strcmp(now->routes[k].streams, route->streams) == 0 &&
                                    strcmp(now->routes[k].site_settings->site,
                                           route->site_settings->site) == 0);
        if (route->site_fault != NULL && was_good &&
            site_config_concerns(next, route, route->site_settings->site))
            return route;
    }
    return NULL;
}
