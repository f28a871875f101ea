/*
 * The configuration: read once, checked as a whole, then frozen and borrowed by everyone. Every key
 * stands in core/config_keys.def, from which the parser, the checks, the reference, the sample and
 * the README's table come. A key that has no effect is unknown here.
 */
#ifndef NEMOGATE_CORE_CONFIG_H
#define NEMOGATE_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Strings are NUL-terminated, owned by the configuration, never NULL unless said. */

struct config_url {
    bool tls;
    char *host; /* "" for a unix socket */
    uint16_t port;
    char *path;        /* unix socket; else "" */
    unsigned database; /* redis only */
};

struct config_tls { /* "" where a file or name is not given */
    char *ca_file;
    char *cert_file;
    char *key_file;
    char *server_name;  /* the URL's host where it is not given */
    const char *ca_pem; /* certificates themselves, in place of ca_file; NULL: none */
};

enum config_start { CONFIG_START_BEGINNING, CONFIG_START_NEW };

struct config_redis {
    struct config_url url;
    char *username;
    char *password_file;
    char *password; /* read from password_file, the line end cut; NULL: none */
    struct config_tls tls;
    char *group;
    char **streams; /* names, or patterns when they hold one of * ? [ */
    size_t stream_count;
    uint32_t discovery_interval_ms;
    enum config_start start;
};

enum config_protocol { CONFIG_PROTOCOL_5, CONFIG_PROTOCOL_3_1_1 };

struct config_broker {
    char *name;
    struct config_url url;
    enum config_protocol protocol;
    unsigned connections; /* per slot */
    unsigned inflight;
    char *client_id_prefix;
    char *username;
    char *password_file;
    char *password; /* NULL: none */
    struct config_tls tls;
    uint32_t keepalive_ms;
    uint32_t connect_timeout_ms;
    uint32_t puback_timeout_ms;
    unsigned max_rate;  /* publishes per second; 0: no limit */
    char *status_topic; /* "": none */
    const char *site;   /* it comes from this site's settings; NULL: from the file */
};

enum config_settings { CONFIG_SETTINGS_OWN, CONFIG_SETTINGS_FROM_SITE };

enum config_encoding { CONFIG_ENCODING_RAW, CONFIG_ENCODING_SIGNED, CONFIG_ENCODING_BATCH };

struct config_batch {
    unsigned events;
    size_t bytes;
    uint32_t linger_ms;
    char *topic; /* may hold {site} */
};

struct config_route {
    char *streams; /* name or pattern */
    size_t broker; /* index into config.brokers */
    char *topic_prefix;
    char *site; /* for streams without a hash tag; "" */
    enum config_encoding encoding;
    char *sign_key_file;  /* CONFIG_ENCODING_SIGNED; else "" */
    char *sign_key;       /* read from it, the line end cut; NULL: none */
    bool user_properties; /* `id` and `stream-id` with MQTT 5 */
    bool coalesce_retained;
    bool strict_order;
    struct config_batch batch; /* CONFIG_ENCODING_BATCH */
    enum config_settings settings;
    char *settings_secrets; /* folder, may hold {site}; "" */
    /* Of a route that was made for a site's settings (core/site_config.h), else NULL. */
    const struct site_settings *site_settings;
    const struct config_route *template; /* the route of the file that it was made from */
    const char *site_fault;              /* why it cannot be used now; NULL: it can */
};

struct config_legacy_list {
    char *list;
    unsigned database;
    char *stream;
    bool monitor; /* the plugins' monitor page is served in this database */
};

enum config_trim { CONFIG_TRIM_ACKED, CONFIG_TRIM_NONE };

struct config_delivery {
    size_t max_payload;    /* bytes */
    size_t inflight_bytes; /* bytes, of the whole instance */
    uint32_t lease_ttl_ms;
    uint32_t drain_timeout_ms;
    unsigned max_deliveries;
    enum config_trim trim;
};

struct config_admin {
    char *listen; /* "": off */
    char *host;   /* numeric, of listen */
    uint16_t port;
    bool loopback;
    char *token_file;
    char *token;           /* read from it, the line end cut; NULL: none */
    struct config_tls tls; /* its own certificate; "" plain HTTP. ca_file: of its clients */
    bool write;
    uint32_t stall_timeout_ms;
};

enum config_log_level { CONFIG_LOG_DEBUG, CONFIG_LOG_INFO, CONFIG_LOG_WARNING, CONFIG_LOG_ERROR };
enum config_log_format { CONFIG_LOG_LOGFMT, CONFIG_LOG_JSON };

struct site_set;
struct site_settings;

struct config {
    char *instance;  /* [A-Za-z0-9._-]{1,128} */
    unsigned shards; /* already resolved: never 0, never more than slots */
    unsigned slots;
    struct config_redis redis;
    struct config_broker *brokers;
    size_t broker_count;
    struct config_route *routes;
    size_t route_count;
    /* What sites have saved for themselves, and how many brokers and routes, the last ones, were
     * made for it; secret_files are those that it names. */
    const struct site_set *sites; /* borrowed; NULL: none */
    size_t site_broker_count;
    size_t site_route_count;
    char **secret_files;
    size_t secret_file_count;
    struct config_legacy_list *legacy_lists; /* NULL where there are none */
    size_t legacy_list_count;
    char *legacy_config_command; /* "": none */
    struct config_delivery delivery;
    struct config_admin admin;
    enum config_log_level log_level;
    enum config_log_format log_format;
};

/* Reads and checks the file. Every fault is written to errors as a line "file:line:column: ...",
 * with the offending value and what would be right; secrets are never written. Returns owned, or
 * NULL when there was a fault. Touches nothing but the files it names. */
struct config *config_load(const char *file, FILE *errors);
void config_free(struct config *config);

/* True when the name matches the pattern as Redis' SCAN MATCH does (* ? [a-z] \x); braces are
 * literal. */
bool config_pattern_matches(const char *pattern, const char *name);
/* Whether it may match a name whose hash tag is the site, and whether it matches all names that
 * begin with nemo:{SITE}: as those of a NEMO do. */
bool config_pattern_may_take(const char *pattern, const char *site);
bool config_pattern_takes_all(const char *pattern, const char *site);
/* True when the text holds one of the characters that make a pattern. */
bool config_is_pattern(const char *text);
/* The first route whose streams match, or the one that was made of it for the stream's site; NULL:
 * none. */
const struct config_route *config_route_of(const struct config *config, const char *stream);
/* The first route of the file whose streams match, whatever sites have saved; NULL: none. */
const struct config_route *config_file_route_of(const struct config *config, const char *stream);

/* Whether a route leads to the broker with this index; and how many brokers one leads to. */
bool config_is_routed(const struct config *config, size_t broker);
/* Of those of the file. */
size_t config_routed_brokers(const struct config *config);
/* Whether sites may have settings of their own on one of the routes. */
bool config_has_site_settings(const struct config *config);

/* The reference of all keys as Markdown, and a commented sample that config_load accepts. */
void config_write_reference(FILE *out);
void config_write_sample(FILE *out);

#endif
