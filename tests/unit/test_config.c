/*
 * Configurations as a whole: what is read, what its defaults are, which fault is reported where.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config_private.h"

#define BROKER "brokers:\n  - {name: main, url: \"mqtt://localhost\"}\n"

/* The last parsed configuration's faults; freed by the next parse. */
static char *faults;

static struct config *parse_bytes(const char *text, size_t length)
{
    size_t size = 0;
    free(faults);
    faults = NULL;
    FILE *errors = open_memstream(&faults, &size);
    struct config *config = config_parse("f.yml", text, length, true, errors);
    fclose(errors);
    cr_assert_eq(config == NULL, size > 0, "faults without a reason, or a reason without faults");
    return config;
}

static struct config *parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

/* Loads what must be free of faults. */
static struct config *good(const char *text)
{
    struct config *config = parse(text);
    cr_assert_not_null(config, "%s", faults);
    return config;
}

/* The text must have exactly this one fault. */
static void one_fault(const char *text, const char *expected)
{
    cr_expect_null(parse(text));
    char line[2048];
    snprintf(line, sizeof line, "f.yml%s\n", expected);
    cr_expect_str_eq(faults, line, "\n%s\n%s", faults, line);
}

/* Among its faults must be this one. */
static void has_fault(const char *text, const char *part)
{
    cr_expect_null(parse(text));
    cr_expect_not_null(strstr(faults, part), "no '%s' in:\n%s", part, faults);
}

static void write_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(content, file);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(path, 0600), 0);
}

/* A directory that the test ends with, and a file in it. */
static char directory[32];
static char secret_path[64];

static void make_directory(void)
{
    strcpy(directory, "/tmp/nemogate-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(secret_path, sizeof secret_path, "%s/secret", directory);
}

static void remove_directory(void)
{
    unlink(secret_path);
    cr_expect_eq(rmdir(directory), 0);
}

Test(config, defaults)
{
    struct config *c = good(BROKER);
    cr_expect_gt(strlen(c->instance), 0);
    cr_expect(c->shards >= 1 && c->shards <= 4);
    cr_expect_eq(c->slots, 4);
    cr_expect_not(c->redis.url.tls);
    cr_expect_str_eq(c->redis.url.host, "127.0.0.1");
    cr_expect_eq(c->redis.url.port, 6379);
    cr_expect_str_eq(c->redis.url.path, "");
    cr_expect_eq(c->redis.url.database, 0);
    cr_expect_str_eq(c->redis.username, "");
    cr_expect_str_eq(c->redis.password_file, "");
    cr_expect_null(c->redis.password);
    cr_expect_str_eq(c->redis.tls.ca_file, "");
    cr_expect_str_eq(c->redis.tls.server_name, "127.0.0.1");
    cr_expect_str_eq(c->redis.group, "nemogate");
    cr_assert_eq(c->redis.stream_count, 1);
    cr_expect_str_eq(c->redis.streams[0], "nemo:*:events");
    cr_expect_eq(c->redis.discovery_interval_ms, 2000);
    cr_expect_eq(c->redis.start, CONFIG_START_BEGINNING);
    cr_expect_eq(c->delivery.max_payload, 256 * 1024);
    cr_expect_eq(c->delivery.inflight_bytes, 64 * 1024 * 1024);
    cr_expect_eq(c->delivery.lease_ttl_ms, 10000);
    cr_expect_eq(c->delivery.drain_timeout_ms, 20000);
    cr_expect_eq(c->log_level, CONFIG_LOG_INFO);
    cr_expect_eq(c->log_format, CONFIG_LOG_LOGFMT);
    config_free(c);
}

Test(config, defaults_of_lists)
{
    struct config *c = good(BROKER);
    cr_assert_eq(c->broker_count, 1);
    const struct config_broker *b = &c->brokers[0];
    cr_expect_str_eq(b->name, "main");
    cr_expect_str_eq(b->url.host, "localhost");
    cr_expect_eq(b->url.port, 1883);
    cr_expect_not(b->url.tls);
    cr_expect_eq(b->protocol, CONFIG_PROTOCOL_5);
    cr_expect_eq(b->connections, 1);
    cr_expect_eq(b->inflight, 1000);
    cr_expect_str_eq(b->client_id_prefix, "nemogate");
    cr_expect_null(b->password);
    cr_expect_eq(b->keepalive_ms, 30000);
    cr_expect_eq(b->connect_timeout_ms, 5000);
    cr_expect_eq(b->puback_timeout_ms, 20000);
    cr_expect_str_eq(b->status_topic, "nemogate/{client_id}/status");
    cr_expect_str_eq(b->tls.server_name, "localhost");
    cr_assert_eq(c->route_count, 1);
    cr_expect_str_eq(c->routes[0].streams, "nemo:*:events");
    cr_expect_eq(c->routes[0].broker, 0);
    cr_expect_str_eq(c->routes[0].topic_prefix, "nemo/{site}/");
    cr_expect_str_eq(c->routes[0].site, "");
    cr_expect_eq(c->routes[0].encoding, CONFIG_ENCODING_RAW);
    cr_expect(c->routes[0].user_properties);
    cr_expect_not(c->routes[0].coalesce_retained);
    cr_expect_not(c->routes[0].strict_order);
    cr_expect_eq(c->brokers[0].max_rate, 0);
    cr_expect_eq(c->delivery.max_deliveries, 10);
    cr_expect_eq(c->delivery.trim, CONFIG_TRIM_ACKED);
    config_free(c);
}

Test(config, everything_given, .init = make_directory, .fini = remove_directory)
{
    write_file(secret_path, "pass word\r\n");
    cr_assert_eq(setenv("SECRET", secret_path, 1), 0);
    struct config *c = good(
        "instance: pod-1\nshards: 3\nslots: 2\n"
        "redis:\n  url: rediss://[::1]:7000/3\n  username: gate\n  password_file: ${SECRET}\n"
        "  tls: {ca_file: \"${SECRET}\", cert_file: \"${SECRET}\", key_file: \"${SECRET}\","
        " server_name: r}\n"
        "  group: g1\n  streams: [events, 'nemo:{b}:*']\n  discovery_interval: 250ms\n"
        "  start: new\n"
        "brokers:\n- {name: a, url: 'mqtts://b.example'}\n"
        "- {name: b, url: 'mqtt://b.example:99/', protocol: 3.1.1, connections: 64, inflight: "
        "65535,"
        " client_id_prefix: p_-1, username: u, password_file: '${SECRET}', keepalive: 18h,"
        " connect_timeout: 5m, puback_timeout: 1s, status_topic: ''}\n"
        "routes:\n- {streams: events, broker: b, topic_prefix: 'x/', site: lab-1, encoding: raw,"
        " user_properties: false}\n- {streams: '*', broker: a}\n"
        "delivery: {max_payload: 1, inflight_bytes: 64GiB, lease_ttl: 10m, drain_timeout: 0s}\n"
        "log: {level: debug, format: json}\n");
    cr_expect_str_eq(c->instance, "pod-1");
    cr_expect_eq(c->shards, 2, "never more than slots");
    cr_expect(c->redis.url.tls);
    cr_expect_str_eq(c->redis.url.host, "::1");
    cr_expect_eq(c->redis.url.port, 7000);
    cr_expect_eq(c->redis.url.database, 3);
    cr_expect_str_eq(c->redis.password, "pass word");
    cr_expect_str_eq(c->redis.tls.key_file, secret_path);
    cr_expect_str_eq(c->redis.tls.server_name, "r");
    cr_expect_eq(c->redis.stream_count, 2);
    cr_expect_eq(c->redis.discovery_interval_ms, 250);
    cr_expect_eq(c->redis.start, CONFIG_START_NEW);
    cr_expect_eq(c->brokers[0].url.port, 8883);
    cr_expect_str_eq(c->brokers[0].tls.server_name, "b.example");
    const struct config_broker *b = &c->brokers[1];
    cr_expect_eq(b->url.port, 99);
    cr_expect_eq(b->protocol, CONFIG_PROTOCOL_3_1_1);
    cr_expect_eq(b->inflight, 65535);
    cr_expect_eq(b->keepalive_ms, 18 * 3600 * 1000);
    cr_expect_eq(b->connect_timeout_ms, 300000);
    cr_expect_str_eq(b->status_topic, "");
    cr_expect_str_eq(b->password, "pass word");
    cr_expect_eq(c->routes[0].broker, 1);
    cr_expect_str_eq(c->routes[0].site, "lab-1");
    cr_expect_not(c->routes[0].user_properties);
    cr_expect_eq(c->routes[1].broker, 0);
    cr_expect_eq(c->delivery.max_payload, 1);
    cr_expect_eq(c->delivery.inflight_bytes, (size_t)64 << 30);
    cr_expect_eq(c->delivery.drain_timeout_ms, 0);
    cr_expect_eq(c->log_level, CONFIG_LOG_DEBUG);
    cr_expect_eq(c->log_format, CONFIG_LOG_JSON);
    config_free(c);
}

Test(config, unix_socket)
{
    struct config *c = good("redis: {url: \"unix:///run/redis.sock?db=12\"}\n" BROKER);
    cr_expect_str_eq(c->redis.url.host, "");
    cr_expect_str_eq(c->redis.url.path, "/run/redis.sock");
    cr_expect_eq(c->redis.url.database, 12);
    config_free(c);
}

Test(config, empty_sections_are_like_none)
{
    struct config *c = good("redis:\n  username:\n  tls:\nroutes:\ndelivery:\nlog: {}\n" BROKER);
    cr_expect_eq(c->route_count, 1);
    cr_expect_eq(c->delivery.lease_ttl_ms, 10000);
    config_free(c);
}

Test(config, environment)
{
    cr_assert_eq(setenv("NEMOGATE_TEST", "two words", 1), 0);
    struct config *c = good("redis: {group: \"a$$b$c\"}\n"
                            "brokers:\n- name: main\n  url: mqtt://h\n"
                            "  username: x${NEMOGATE_TEST}y$${Z}\n");
    cr_expect_str_eq(c->redis.group, "a$b$c");
    cr_expect_str_eq(c->brokers[0].username, "xtwo wordsy${Z}");
    config_free(c);
    one_fault("instance: ${NEMOGATE_UNSET}\n" BROKER,
              ":1:11: instance: '${NEMOGATE_UNSET}' needs the environment variable NEMOGATE_UNSET, "
              "which is not set; a name like [A-Za-z0-9._-]{1,128} is expected");
    has_fault("instance: ${A\n" BROKER, ":1:11: instance: '${A' has a '${' that is not followed");
    has_fault("instance: ${1A}\n" BROKER, "has a '${' that is not followed");
}

Test(config, host_name_stands_in_for_hostname)
{
    cr_assert_eq(unsetenv("HOSTNAME"), 0);
    char host[256] = "";
    cr_assert_eq(gethostname(host, sizeof host - 1), 0);
    struct config *c = good(BROKER);
    cr_expect_str_eq(c->instance, host);
    config_free(c);
    cr_assert_eq(setenv("HOSTNAME", "not/a/name", 1), 0);
    has_fault(BROKER, "f.yml: instance: the default '${HOSTNAME}' holds a character");
}

Test(config, values_of_the_environment_are_not_shown)
{
    cr_assert_eq(setenv("NEMOGATE_TEST", "s3cret", 1), 0);
    cr_expect_null(parse("slots: ${NEMOGATE_TEST}\nredis: {url: \"${NEMOGATE_TEST}\"}\n" BROKER));
    cr_expect_null(strstr(faults, "s3cret"), "%s", faults);
    cr_expect_not_null(strstr(faults, "slots: '${NEMOGATE_TEST}' is not a number"));
}

Test(config, secrets_are_not_shown)
{
    const char *const texts[] = {
        "redis: {url: \"redis://u:s3cret@h\"}\n",
        "redis: {url: \"redis://u:s3cret\"}\n",
        "redis: {url: \"http://u:s3cret\"}\n",
        "redis: {url: \"u:s3cret\"}\n",
        "redis: {url: \"redis://h/0?p=s3cret\"}\n",
        "redis: {url: \"redis://:s3cret${Z}\"}\n",
        "redis: {password_file: s3cret}\n",
        "redis: {password_file: [s3cret]}\n",
        "redis: {password: s3cret}\n",
        "redis: {tls: {key_file: s3cret}}\n",
        "redis: \"redis://u:s3cret@h\"\n",
        "log: {level: \"redis://u:s3cret@h\"}\n",
        "\"redis://u:s3cret@h\": 1\n",
        "redis: {password_file: \"${s3cret\"}\n",
        "redis: {\"://u:s3cret@h\": 1, \"://u:s3cret@h\": 1}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s%s", texts[i], BROKER);
        cr_expect_null(parse(text), "%s", texts[i]);
        cr_expect_null(strstr(faults, "s3cret"), "%s", faults);
    }
}

Test(config, faults_have_place_path_value_and_expectation)
{
    one_fault("brokers:\n  - name: main\n    url: mqtt://h\n    inflight: 70000\n",
              ":4:15: brokers[0].inflight: '70000' is out of range; a number from 1 to 65535 is "
              "expected");
    one_fault(BROKER "log: {level: loud}\n", ":3:14: log.level: 'loud' is not known here; debug, "
                                             "info, warning or error is expected");
    one_fault(BROKER "delivery: {lease_ttl: 5}\n",
              ":3:23: delivery.lease_ttl: '5' has no unit; a duration from 1s to 10m is expected");
    one_fault("slots: 010\n" BROKER,
              ":1:8: slots: '010' is not a number; a number from 1 to 1024 is expected");
    one_fault("slots: 99999999999999999999999\n" BROKER,
              ":1:8: slots: '99999999999999999999999' is out of range; a number from 1 to 1024 is "
              "expected");
    one_fault("slots: -1\n" BROKER, ":1:8: slots: '-1' is out of range; a number from 1 to 1024 is "
                                    "expected");
    one_fault("slots: null\n" BROKER,
              ":1:8: slots: this is YAML's null; a value is expected (leave the key out for its "
              "default, or put the word in quotes)");
}

Test(config, all_faults_come_in_one_go_and_in_order)
{
    cr_expect_null(parse("log: {level: x}\nslots: 0\nredis: {start: old}\nbrokers: []\n"));
    const char *level = strstr(faults, ":1:14: log.level");
    const char *slots = strstr(faults, ":2:8: slots");
    const char *start = strstr(faults, ":3:16: redis.start");
    const char *brokers = strstr(faults, ":4:10: brokers: the list has no items");
    cr_assert(level != NULL && slots != NULL && start != NULL && brokers != NULL, "%s", faults);
    cr_expect(level < slots && slots < start && start < brokers);
}

Test(config, faults_beyond_a_hundred_are_counted)
{
    char text[8192] = BROKER "redis:\n";
    for (int i = 0; i < 103; i++) {
        char line[32];
        snprintf(line, sizeof line, "  zzz%d: 1\n", i);
        strcat(text, line);
    }
    cr_expect_null(parse(text));
    cr_expect_not_null(strstr(faults, "\nf.yml: 3 more faults are not shown\n"), "%s", faults);
    size_t lines = 0;
    for (const char *at = faults; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    cr_expect_eq(lines, 101);
}

Test(config, unknown_keys_get_a_suggestion)
{
    one_fault(BROKER "slot: 4\n", ":3:1: slot: this key is not known; did you mean 'slots'?");
    one_fault("redis: {password: x}\n" BROKER,
              ":1:9: redis.password: this key is not known; did you mean 'password_file'?");
    one_fault("inflight: 5\n" BROKER,
              ":1:1: inflight: this key is not known; did you mean 'brokers[].inflight'?");
    one_fault("ca_file: 5\n" BROKER,
              ":1:1: ca_file: this key is not known; did you mean 'redis.tls.ca_file'?");
    one_fault("broker: 5\n" BROKER, ":1:1: broker: this key is not known; did you mean 'brokers'?");
    one_fault("frobnicate: 5\n" BROKER,
              ":1:1: frobnicate: this key is not known; nemogate config-doc lists all");
}

Test(config, keys_without_effect_are_unknown)
{
    const char *const keys[] = {"listen", "sites", "settings"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, BROKER "%s: 1\nredis: {%s: 1}\ndelivery: {%s: 1}\n", keys[i],
                 keys[i], keys[i]);
        char first[64];
        char last[64];
        snprintf(first, sizeof first, ":3:1: %s: this key is not known", keys[i]);
        snprintf(last, sizeof last, ":5:12: delivery.%s: this key is not known", keys[i]);
        has_fault(text, first);
        has_fault(text, last);
    }
}

Test(config, wrong_kinds)
{
    one_fault("slots: [1]\n" BROKER, ":1:8: slots: a list stands here; a single value is expected");
    one_fault("slots: {a: 1}\n" BROKER,
              ":1:8: slots: a section stands here; a single value is expected");
    one_fault("redis: [1]\n" BROKER,
              ":1:8: redis: a list stands here; keys with values are expected below it");
    one_fault("redis: x\n" BROKER,
              ":1:8: redis: a single value stands here; keys with values are expected below it");
    one_fault("brokers: {name: a}\n",
              ":1:10: brokers: a list is expected; its items begin with '- '");
    one_fault("brokers: [a]\n",
              ":1:11: brokers[0]: a list item with keys is expected, such as '- name: x'");
    one_fault("redis: {streams: a}\n" BROKER,
              ":1:18: redis.streams: a list is expected, such as [\"nemo:*:events\"]");
    one_fault("redis: {streams: [[a]]}\n" BROKER,
              ":1:19: redis.streams[0]: a list stands here; a single value is expected");
    one_fault("- a\n", ":1:1: the file does not begin with a key; keys such as 'brokers:' are "
                       "expected");
}

Test(config, required_keys)
{
    one_fault("slots: 4\n", ":1:1: brokers: the list is missing; 1 to 16 items are expected");
    one_fault("slots: 4\nbrokers:\n",
              ":2:1: brokers: the list is missing; 1 to 16 items are expected");
    one_fault("brokers:\n  - name: a\n", ":2:5: brokers[0].url: the key is missing; it has no "
                                         "default (for instance: mqtt://127.0.0.1:1883)");
    one_fault(BROKER "routes:\n- site: a\n", ":4:3: routes[0].streams: the key is missing; it has "
                                             "no default (for instance: nemo:*:events)");
    one_fault("# nothing\n", ": the configuration holds no keys; at least a broker is expected "
                             "(nemogate config-sample shows one)");
}

Test(config, yaml_that_is_refused)
{
    has_fault("slots: &a 4\n" BROKER, ":1:8: YAML anchors");
    has_fault("slots: *a\n" BROKER, ":1:8: YAML aliases");
    has_fault("slots: !!int 4\n" BROKER, ":1:8: YAML tags");
    has_fault(BROKER "---\nslots: 4\n", ":3:1: a second YAML document begins here");
    has_fault("slots: 4\nslots: 5\n" BROKER,
              ":2:1: the key 'slots' stands here for the second time, after line 1");
    has_fault("slots: 4\n  x: [\n", ": this is not valid YAML: ");
    has_fault("slots: \"\\0\"\n" BROKER, ":1:8: the text holds a NUL character");
    has_fault("? [a]\n: 1\n", ":1:3: a list or section stands where a key is expected");
    has_fault("redis:\n\turl: x\n", "a tab in the indentation");
    has_fault("a: [[[[[[[[[x]]]]]]]]]\n", ":1:11: this is nested more deeply than any key is");
    has_fault("slots: 4\x01\n" BROKER, ":1:9: this is not valid YAML: control characters");
}

Test(config, bytes_that_are_no_text)
{
    cr_expect_null(parse_bytes("slots: 4\nab\0c\n", 14));
    cr_expect_str_eq(faults,
                     "f.yml:2:3: a NUL byte stands here; a text file in UTF-8 is expected\n");
    has_fault("slots: 4\n# \xc3\xa9\xc3\xa9 \xc3\n", "f.yml:2:6: the text is not UTF-8 here");
    has_fault("# \xed\xa0\x80\n", "f.yml:1:3: the text is not UTF-8 here");
    has_fault("\xff\xfe", "f.yml:1:1: the text is not UTF-8 here");
    struct config *c = good("\xef\xbb\xbf" BROKER "# \xf0\x9f\x98\x80\n");
    config_free(c);
}

Test(config, too_many_children)
{
    char *text = malloc(64 * 1024);
    strcpy(text, "redis: {streams: [");
    size_t length = strlen(text);
    for (int i = 0; i < 600; i++)
        length += (size_t)sprintf(text + length, "\"a%d*\",", i);
    strcpy(text + length, "]}\n" BROKER);
    has_fault(text, "more than 512 values stand here");
    strcpy(strstr(text, "\"a300*\""), "]}\n" BROKER);
    has_fault(text, ":1:18: redis.streams: the list is too long; 1 to 256 names");
    free(text);
    char brokers[2048] = "brokers:\n";
    for (int i = 0; i < 17; i++) {
        char one[64];
        snprintf(one, sizeof one, "- {name: b%d, url: \"mqtt://h%d\"}\n", i, i);
        strcat(brokers, one);
    }
    has_fault(brokers, ":18:3: brokers: the list has too many items; 1 to 16 items are expected");
}

Test(config, files_of_passwords, .init = make_directory, .fini = remove_directory)
{
    char text[256];
    snprintf(text, sizeof text, "redis: {password_file: %s}\n" BROKER, secret_path);
    has_fault(text, ":1:24: redis.password_file: the file (its name is not shown: it might be the "
                    "password itself) cannot be read: No such file or directory; ");
    write_file(secret_path, "");
    has_fault(text, " is empty; ");
    write_file(secret_path, "\r\n");
    has_fault(text, " cannot be used: it holds nothing but a line end; ");
    write_file(secret_path, "x");
    cr_assert_eq(chmod(secret_path, 0606), 0);
    has_fault(text, " may be written by everyone");
    cr_assert_eq(chmod(secret_path, 0644), 0);
    struct config *c = good(text);
    cr_expect_str_eq(c->redis.password, "x");
    config_free(c);
    write_file(secret_path, "two\nlines\n\n");
    c = good(text);
    cr_expect_str_eq(c->redis.password, "two\nlines\n", "only the last line end is cut");
    config_free(c);
    cr_assert_eq(unlink(secret_path), 0);
    cr_assert_eq(mkfifo(secret_path, 0600), 0);
    has_fault(text, " is not a regular file; ");
    has_fault("redis: {password_file: /tmp}\n" BROKER, " is a directory; ");
    has_fault("redis: {url: \"rediss://h\", tls: {ca_file: /tmp}}\n" BROKER,
              "redis.tls.ca_file: '/tmp' is a directory; a readable file is expected");
}

Test(config, long_password, .init = make_directory, .fini = remove_directory)
{
    char text[256];
    snprintf(text, sizeof text, "redis: {password_file: %s}\n" BROKER, secret_path);
    char *password = calloc(1, 65539);
    memset(password, 'x', 65535);
    strcpy(password + 65535, "\r\n");
    write_file(secret_path, password);
    struct config *c = good(text);
    cr_expect_eq(strlen(c->redis.password), 65535);
    config_free(c);
    strcpy(password + 65535, "x\n");
    write_file(secret_path, password);
    has_fault(text, " cannot be used: it holds more than 65535 bytes; ");
    free(password);
}

/* What config_load says about a path. */
static void load_fault(const char *path, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&text, &size);
    cr_expect_null(config_load(path, errors));
    fclose(errors);
    cr_expect_not_null(strstr(text, expected), "no '%s' in: %s", expected, text);
    free(text);
}

Test(config, files_of_configurations, .init = make_directory, .fini = remove_directory)
{
    load_fault("/nonexistent.yml", "/nonexistent.yml: the configuration cannot be read: No such "
                                   "file or directory\n");
    load_fault("/tmp", "/tmp: the configuration cannot be read: it is a directory\n");
    write_file(secret_path, "");
    load_fault(secret_path, ": the configuration cannot be read: it is empty\n");
    write_file(secret_path, "slots: x\n");
    load_fault(secret_path, "/secret:1:8: slots: 'x' is not a number");
    cr_assert_eq(truncate(secret_path, 1024 * 1024 + 1), 0);
    load_fault(secret_path, ": the configuration cannot be read: it is larger than 1 MiB\n");
    cr_assert_eq(truncate(secret_path, 1024 * 1024), 0);
    load_fault(secret_path, "a NUL byte stands here");
    write_file(secret_path, BROKER);
    struct config *c = config_load(secret_path, stderr);
    cr_assert_not_null(c);
    config_free(c);
    config_free(NULL);
}

Test(config, memory_without_files)
{
    const char *text = "redis: {password_file: /nonexistent}\n" BROKER;
    struct config *c = config_parse("m", text, strlen(text), false, stderr);
    cr_assert_not_null(c);
    cr_expect_null(c->redis.password);
    config_free(c);
}
