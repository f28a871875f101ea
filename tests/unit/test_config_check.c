/*
 * What is judged over several keys at once.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_private.h"

#define BROKER "brokers:\n  - {name: main, url: \"mqtt://localhost\"}\n"
#define TWO_BROKERS BROKER "  - {name: other, url: \"mqtt://elsewhere\"}\n"

static char *parse(const char *text, struct config **config)
{
    char *faults = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&faults, &size);
    *config = config_parse("f", text, strlen(text), false, errors);
    fclose(errors);
    return faults;
}

/* NULL: the text must be good. */
static void expect(const char *text, const char *part)
{
    struct config *config = NULL;
    char *faults = parse(text, &config);
    if (part == NULL)
        cr_expect_not_null(config, "%s", faults);
    else
        cr_expect(config == NULL && strstr(faults, part) != NULL, "no '%s' in:\n%s", part, faults);
    config_free(config);
    free(faults);
}

/* The one fault and no other that follows from it. */
static void expect_only(const char *text, const char *part)
{
    struct config *config = NULL;
    char *faults = parse(text, &config);
    const char *end = strchr(faults, '\n');
    cr_expect(end != NULL && end[1] == '\0' && strstr(faults, part) != NULL,
              "not only '%s' in:\n%s", part, faults);
    config_free(config);
    free(faults);
}

Test(config_check, certificate_and_key_go_together)
{
    expect("redis: {url: \"rediss://h\", tls: {cert_file: /c}}\n" BROKER,
           ":1:45: redis.tls.cert_file: a certificate needs its key; key_file is expected, too");
    expect("brokers:\n- {name: a, url: \"mqtts://h\", tls: {key_file: /c}}\n",
           "brokers[0].tls.key_file: a key needs its certificate; cert_file is expected, too");
    expect("redis: {url: \"rediss://h\", tls: {cert_file: /c, key_file: /k}}\n" BROKER, NULL);
}

Test(config_check, tls_of_the_admin_server)
{
    expect(BROKER "admin: {tls: {cert_file: /c}}\n",
           ":3:26: admin.tls.cert_file: a certificate needs its key; key_file is expected, too");
    expect(BROKER "admin: {tls: {key_file: /k}}\n",
           ":3:25: admin.tls.key_file: a key needs its certificate; cert_file is expected, too");
    expect(BROKER "admin: {tls: {ca_file: /a}}\n",
           ":3:24: admin.tls.ca_file: clients show certificates to a server with TLS only; "
           "cert_file and key_file are expected, too");
    expect(BROKER "admin: {tls: {cert_file: /c, key_file: /k, ca_file: /a}}\n", NULL);
    expect(BROKER "admin: {tls: {cert_file: /c, key_file: /k, server_name: h}}\n", "server_name");
}

Test(config_check, tls_needs_an_url_with_tls)
{
    expect("redis: {tls: {server_name: h}}\n" BROKER,
           ":1:14: redis.tls: the URL is one without TLS; rediss:// is expected in redis.url");
    expect("redis: {url: \"unix:///s\", tls: {server_name: h}}\n" BROKER, "redis.tls: the URL");
    expect("brokers:\n- {name: a, url: \"mqtt://h\", tls: {ca_file: /c}}\n",
           "brokers[0].tls: the URL is one without TLS; mqtts:// is expected in brokers[0].url");
    expect("brokers:\n- {name: a, url: \"mqtts://h\", tls: {ca_file: /c}}\n", NULL);
    expect_only("brokers:\n- {name: a, url: \"http://h\", tls: {ca_file: /c}}\n", "brokers[0].url");
}

Test(config_check, users_and_passwords)
{
    expect("redis: {username: u}\n" BROKER,
           ":1:19: redis.username: a user cannot log in without a password");
    expect("redis: {username: u, password_file: /p}\n" BROKER, NULL);
    expect("brokers:\n- {name: a, url: \"mqtt://h\", protocol: 3.1.1, password_file: /p}\n",
           "brokers[0].password_file: MQTT 3.1.1 knows no password without a user name");
    expect("brokers:\n- {name: a, url: \"mqtt://h\", password_file: /p}\n", NULL);
}

Test(config_check, brokers_differ)
{
    expect("brokers:\n- {name: a, url: \"mqtt://h\"}\n- {name: a, url: \"mqtt://i\"}\n",
           ":3:10: brokers[1].name: 'a' is the name of brokers[0], too");
    expect("brokers:\n- {name: a, url: \"mqtt://h\"}\n- {name: b, url: \"mqtt://h:1883\"}\n",
           ":3:18: brokers[1].url: brokers[0] has the same host, port and client_id_prefix");
    expect("brokers:\n- {name: a, url: \"mqtt://h\"}\n"
           "- {name: b, url: \"mqtt://h\", client_id_prefix: c}\n"
           "routes:\n- {streams: \"*\", broker: a}\n",
           NULL);
}

Test(config_check, routes_name_their_broker)
{
    expect(BROKER "routes:\n- {streams: a*, broker: x}\n",
           ":4:25: routes[0].broker: 'x' is not the name of a broker; one such as 'main' is");
    expect(TWO_BROKERS "routes:\n- {streams: a*}\n",
           ":5:3: routes[0].broker: there are 2 brokers; the name of one is expected");
    expect(TWO_BROKERS, NULL);
    expect(BROKER "routes:\n- {streams: a*, broker: \"\"}\n", NULL);
    expect_only(
        "brokers:\n- {name: \"a b\", url: \"mqtt://h\"}\nroutes:\n- {streams: a*, broker: x}\n",
        "brokers[0].name");
    expect_only("routes:\n- {streams: a*, broker: x}\n", "brokers: the list is missing");
}

Test(config_check, routes_behind_one_that_takes_all)
{
#define TWO(a, b) BROKER "routes:\n- {streams: \"" a "\"}\n- {streams: \"" b "\"}\n"
    expect(TWO("a*", "a*"), ":5:13: routes[1].streams: 'a*' never gets a stream, for routes[0]");
    expect(TWO("a[bc]", "a[bc]"), "never gets a stream");
    expect(TWO("nemo:*:events", "nemo:{a}:events"), "never gets a stream");
    expect(TWO("*", "nemo:*:events"), "never gets a stream");
    expect(TWO("a*c", "a?b*c"), "never gets a stream");
    expect(TWO("a[b]c", "abc"), "never gets a stream");
    expect(TWO("nemo:{a}:events", "nemo:*:events"), NULL);
    expect(TWO("a?", "a*"), NULL);
    expect(TWO("?", "[ab]"), NULL);
    expect(TWO("*a*", "[ab]"), NULL);
    expect(TWO("a?", "a[?]"), NULL);
#undef TWO
}

Test(config_check, named_streams_have_a_route_and_a_site)
{
    expect("redis: {streams: [events]}\n" BROKER,
           ":1:19: redis.streams[0]: 'events' has no route; a route whose streams match it is "
           "expected, with 'site:', for the name has no hash tag");
    expect("redis: {streams: [events]}\n" BROKER "routes:\n- {streams: e*}\n",
           ":1:19: redis.streams[0]: 'events' has no site: its name has no hash tag such as "
           "nemo:{site}:events, and routes[0], which takes it, has none");
    expect("redis: {streams: [events]}\n" BROKER "routes:\n- {streams: e*, site: a}\n", NULL);
    expect("redis: {streams: [\"nemo:{a}:events\"]}\n" BROKER, NULL);
    expect("redis: {streams: [\"lab:{a}:events\"]}\n" BROKER, "has no route; ");
    expect("redis: {streams: [\"nemo:{A}:events\"]}\n" BROKER, "has no site: ");
    expect("redis: {streams: [\"events*\"]}\n" BROKER, NULL);
    expect("redis: {streams: [\"a*\", \"a*\"]}\n" BROKER,
           ":1:25: redis.streams[1]: the same as redis.streams[0]; one is expected");
    expect_only("redis: {streams: [events]}\n" BROKER "routes:\n- {streams: e*, site: A}\n",
                "routes[0].site");
    expect_only("redis: {streams: [\"[a\", \"nemo:*:events\"]}\n" BROKER, "redis.streams[0]");
    expect_only("redis: {streams: [\"\", \"nemo:*:events\"]}\n" BROKER,
                "redis.streams[0]: '' is empty");
    expect_only("redis: {streams: [{}, \"nemo:*:events\"]}\n" BROKER, "redis.streams[0]");
    expect("redis: {streams: ['a\\b']}\n" BROKER,
           "holds a backslash, which means something in a pattern only");
}

Test(config_check, bytes_in_flight_hold_two_entries_per_slot)
{
    expect("slots: 4\n" BROKER "delivery: {max_payload: 1MiB, inflight_bytes: 8MiB}\n", NULL);
    expect("slots: 4\n" BROKER "delivery: {max_payload: 1MiB, inflight_bytes: 8388607}\n",
           ":4:47: delivery.inflight_bytes: '8388607B' is too small; at least 8MiB is expected, "
           "room for two entries of max_payload (1MiB) for each broker in each of 4 slots");
    expect("slots: 1024\n" BROKER,
           ":1:8: delivery.inflight_bytes: '64MiB' is too small; at least 512MiB is expected");
    expect_only("slots: 0\n" BROKER "delivery: {max_payload: 16MiB}\n", "slots: '0'");
}

Test(config_check, urls)
{
    static const char *const redis[][2] = {
        {"redis://h", NULL},
        {"redis://h/", NULL},
        {"redis://h:1/65535", NULL},
        {"rediss://[2001:db8::1]/1", NULL},
        {"redis://h/65536", "database"},
        {"redis://h/x", "database"},
        {"redis://h:0", "port"},
        {"redis://h:65536", "port"},
        {"redis://h:", "port"},
        {"redis://", "names no host"},
        {"redis:///1", "names no host"},
        {"redis://[::1", "no IPv6 address"},
        {"redis://[]", "no IPv6 address"},
        {"redis://[::1]x", "no IPv6 address"},
        {"redis://a b", "a blank"},
        {"redis://a,b", "neither a name nor an address"},
        {"redis://u@h", "username and password_file"},
        {"redis://h?db=1", "not understood"},
        {"unix://s", "full path"},
        {"unix:///", "full path"},
        {"unix:///s?db=x", "?db="},
        {"mqtt://h", "scheme"},
        {"h:6379", "no scheme"},
        {"", "is empty"},
    };
    for (size_t i = 0; i < sizeof redis / sizeof redis[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "redis: {url: \"%s\"}\n" BROKER, redis[i][0]);
        expect(text, redis[i][1]);
    }
    expect("brokers:\n- {name: a, url: \"mqtt://h/path\"}\n", "which MQTT does not know");
    expect("brokers:\n- {name: a, url: \"mqtts://u:p@h\"}\n", "username and password_file");
}
