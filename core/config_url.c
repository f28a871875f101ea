/*
 * URLs of Redis and of brokers: where to connect to, and nothing that is a secret. Only the forms
 * that are listed in the reference; an URL that says more than is understood is refused.
 */
#include <arpa/inet.h>
#include <string.h>

#include "core/config_private.h"

#define DATABASE_MAX 65535u
#define HOST_MAX 253u
#define SOCKET_PATH_MAX 107u /* struct sockaddr_un, without its NUL */

#define DIGITS "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

struct scheme {
    const char *name;
    enum config_type type;
    bool tls;
    bool is_socket;
    uint16_t port;
};

static const struct scheme SCHEMES[] = {
    {"redis", CONFIG_TYPE_REDIS_URL, false, false, 6379},
    {"rediss", CONFIG_TYPE_REDIS_URL, true, false, 6379},
    {"unix", CONFIG_TYPE_REDIS_URL, false, true, 0},
    {"mqtt", CONFIG_TYPE_MQTT_URL, false, false, 1883},
    {"mqtts", CONFIG_TYPE_MQTT_URL, true, false, 8883},
};

static bool fail(struct config_value *value, const char *problem)
{
    snprintf(value->problem, sizeof value->problem, "%s", problem);
    return false;
}

bool config_url_is_public(const char *text)
{
    const char *scheme_end = strstr(text, "://");
    const char *at = scheme_end != NULL ? scheme_end + 3 : text;
    if (scheme_end != NULL && strspn(text, LETTERS DIGITS "+.-") != (size_t)(scheme_end - text))
        return false;
    if (*at == '[')
        at += strspn(at, "[]:.%" DIGITS LETTERS);
    else
        at += strspn(at, LETTERS DIGITS "._-");
    if (*at == ':') /* what follows must be a port: else it may be the password of a user */
        at += 1 + strspn(at + 1, DIGITS);
    if (*at != '/')
        return *at == '\0';
    at += strspn(at, LETTERS DIGITS "._-/");
    if (strncmp(at, "?db=", 4) == 0)
        at += 4 + strspn(at + 4, DIGITS);
    return *at == '\0';
}

/* Reads digits up to largest, from at up to end. */
static bool read_number(const char *at, const char *end, uint64_t largest, unsigned *number)
{
    uint64_t read = 0;
    for (const char *digit = at; digit < end; digit++) {
        if (*digit < '0' || *digit > '9')
            return false;
        read = read * 10 + (uint64_t)(*digit - '0');
        if (read > largest)
            return false;
    }
    *number = (unsigned)read;
    return at < end;
}

static bool read_host(struct config_value *value, const char *at, const char *end, char **host)
{
    size_t length = (size_t)(end - at);
    if (length > 0 && *at == '[') {
        unsigned char address[sizeof(struct in6_addr)];
        *host = config_memory_text(value->memory, at + 1, length < 2 ? 0 : length - 2);
        if (*host == NULL || end[-1] != ']' || inet_pton(AF_INET6, *host, address) != 1)
            return fail(value, "has no IPv6 address in its brackets");
        return true;
    }
    if (length == 0)
        return fail(value, "names no host");
    if (strspn(at, LETTERS DIGITS "._-") < length || length > HOST_MAX)
        return fail(value, "has a host that is neither a name nor an address");
    *host = config_memory_text(value->memory, at, length);
    return *host != NULL;
}

/* The host and the port, from at up to end. */
static bool read_authority(struct config_value *value, const char *at, const char *end,
                           struct config_url *url)
{
    const char *bracket = memchr(at, ']', (size_t)(end - at)); /* its colons are no port's */
    const char *from = bracket != NULL ? bracket : at;
    const char *colon =
        *at == '[' && bracket == NULL ? NULL : memchr(from, ':', (size_t)(end - from));
    if (colon != NULL) {
        unsigned port = 0;
        if (!read_number(colon + 1, end, UINT16_MAX, &port) || port == 0)
            return fail(value, "has a port that is not a number from 1 to 65535");
        url->port = (uint16_t)port;
    }
    return read_host(value, at, colon != NULL ? colon : end, &url->host);
}

static bool read_network(struct config_value *value, const char *at, struct config_url *url)
{
    const char *slash = strchr(at, '/');
    const char *end = slash != NULL ? slash : at + strlen(at);
    if (strpbrk(at, "?#") != NULL)
        return fail(value, "has a '?' or '#', which is not understood here");
    if (!read_authority(value, at, end, url))
        return false;
    url->path = config_memory_text(value->memory, "", 0);
    if (slash == NULL || slash[1] == '\0')
        return url->path != NULL;
    if (value->key->type == CONFIG_TYPE_MQTT_URL)
        return fail(value, "has a path, which MQTT does not know");
    if (!read_number(slash + 1, slash + strlen(slash), DATABASE_MAX, &url->database))
        return fail(value, "has a database that is not a number from 0 to 65535");
    return url->path != NULL;
}

static bool read_socket(struct config_value *value, const char *at, struct config_url *url)
{
    const char *query = strchr(at, '?');
    const char *end = query != NULL ? query : at + strlen(at);
    if (*at != '/' || end - at < 2)
        return fail(value, "names no socket by its full path, as unix:///run/redis.sock does");
    if ((size_t)(end - at) > SOCKET_PATH_MAX)
        return fail(value, "has a path of over 107 bytes, which is longer than Linux allows");
    if (query != NULL && (strncmp(query, "?db=", 4) != 0 ||
                          !read_number(query + 4, at + strlen(at), DATABASE_MAX, &url->database)))
        return fail(value, "has something else than ?db= and a number from 0 to 65535 at its end");
    url->host = config_memory_text(value->memory, "", 0);
    url->path = config_memory_text(value->memory, at, (size_t)(end - at));
    return url->host != NULL && url->path != NULL;
}

bool config_url_read(struct config_value *value, const char *text, struct config_url *url)
{
    const char *colon = strstr(text, "://");
    if (strchr(text, '@') != NULL)
        return fail(value, "holds a user or a password; they belong in username and password_file");
    if (colon == NULL)
        return fail(value, "has no scheme");
    const struct scheme *scheme = NULL;
    for (size_t i = 0; i < sizeof SCHEMES / sizeof SCHEMES[0]; i++)
        if (SCHEMES[i].type == value->key->type &&
            strlen(SCHEMES[i].name) == (size_t)(colon - text) &&
            strncmp(SCHEMES[i].name, text, (size_t)(colon - text)) == 0)
            scheme = &SCHEMES[i];
    if (scheme == NULL)
        return fail(value, "has a scheme that is not known here");
    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return fail(value, "holds a blank or a control character");
    *url = (struct config_url){.tls = scheme->tls, .port = scheme->port};
    return scheme->is_socket ? read_socket(value, colon + 3, url)
                             : read_network(value, colon + 3, url);
}
