/*
 * The reference and the sample: every key of the table is in both, and what the sample says can be
 * loaded, as it is and with each of its comments made a key.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_private.h"

static char *text_of(void (*write)(FILE *out))
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    write(out);
    fclose(out);
    return text;
}

static void load(const char *text, const char *what)
{
    char *faults = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&faults, &size);
    struct config *config = config_parse("sample", text, strlen(text), true, errors);
    fclose(errors);
    cr_expect_not_null(config, "%s: %s", what, faults);
    config_free(config);
    free(faults);
}

Test(config_doc, reference_has_every_key_once)
{
    char *text = text_of(config_write_reference);
    size_t count = 0;
    const struct config_key *keys = config_keys(&count);
    size_t rows = 0;
    for (const char *at = text; (at = strstr(at, "\n| `")) != NULL; at++)
        rows++;
    cr_expect_eq(rows, count + 3, "three lists have rows of their own");
    for (size_t i = 0; i < count; i++) {
        char path[CONFIG_PATH_TEXT];
        char row[CONFIG_PATH_TEXT + 8];
        config_table_path(keys[i].section, keys[i].name, path);
        snprintf(row, sizeof row, "\n| `%s` | ", path);
        cr_expect_not_null(strstr(text, row), "%s", path);
    }
    free(text);
}

Test(config_doc, reference_rows)
{
    char *text = text_of(config_write_reference);
    cr_expect_eq(strncmp(text, "| Key | Type | Default | Range | Meaning |\n| --- |", 50), 0);
    static const char *const rows[] = {
        "\n| `shards` | number | `0` | 0 to 256 | ",
        "\n| `redis.streams` | list of patterns | `[\"nemo:*:events\"]` | 1 to 512 bytes | ",
        "\n| `brokers` | list | required | 1 to 16 items | ",
        "\n| `legacy_lists` | list | none | 0 to 64 items | ",
        "\n| `legacy_lists[].stream` | text | `nemo:{lab}:events` | 1 to 512 bytes | ",
        "\n| `brokers[].keepalive` | duration | `30s` | 5s to 18h | ",
        "\n| `brokers[].tls.ca_file` | file | empty | a readable file | ",
        "\n| `brokers[].protocol` | choice | `5` | 5 or 3.1.1 | ",
        "\n| `delivery.inflight_bytes` | size | `64MiB` | 1MiB to 64GiB | ",
        "\n| `delivery.drain_timeout` | duration | `20s` | 0s to 10m | ",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_not_null(strstr(text, rows[i]), "%s", rows[i]);
    free(text);
}

/* Every row has five cells: a bar in a text would make a sixth. */
Test(config_doc, reference_is_a_table)
{
    char *text = text_of(config_write_reference);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        size_t bars = 0;
        for (const char *at = line; *at != '\0'; at++)
            bars += *at == '|' ? 1 : 0;
        cr_expect_eq(bars, 6, "%s", line);
    }
    free(text);
}

Test(config_doc, defaults_are_within_their_bounds)
{
    size_t count = 0;
    const struct config_key *keys = config_keys(&count);
    struct config_memory memory = {NULL, false};
    for (size_t i = 0; i < count; i++) {
        struct config_value value = {.key = &keys[i], .memory = &memory, .files = true};
        union {
            char *text;
            struct config_url url;
            uint64_t number;
        } field;
        const char *text = config_expand(keys[i].fallback, &memory, value.problem);
        cr_assert_not_null(text);
        cr_expect(config_value_read(&value, text, &field), "%s: %s", keys[i].name, value.problem);
    }
    config_memory_free(&memory);
}

Test(config_doc, sample_can_be_loaded)
{
    char *text = text_of(config_write_sample);
    load(text, "as it is");
    free(text);
}

/* A key that is commented out: '#' in the first column, and not the single blank of a remark. */
static bool is_commented_key(const char *line)
{
    return line[0] == '#' && line[1] != '\n' && (line[1] != ' ' || line[2] == ' ');
}

/* Takes the '#' of one commented key away, or of all; false: there are not so many. */
static bool uncomment(const char *sample, size_t wanted, char *out)
{
    size_t seen = 0;
    while (*sample != '\0') {
        size_t length = strcspn(sample, "\n") + 1;
        bool taken = is_commented_key(sample) && (seen++ == wanted || wanted == SIZE_MAX);
        memcpy(out, sample + (taken ? 1 : 0), length - (taken ? 1 : 0));
        out += length - (taken ? 1 : 0);
        sample += length;
    }
    *out = '\0';
    return seen > wanted;
}

static void replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    char *rest = strdup(at + strlen(from));
    strcpy(at, to);
    strcat(at, rest);
    free(rest);
}

/* One at a time, and then all. The keys of TLS need URLs with TLS and the line above them, as those
 * of a batch and of a list that may be empty do. */
Test(config_doc, every_commented_key_of_the_sample_is_good)
{
    char *sample = text_of(config_write_sample);
    char *secure = calloc(1, strlen(sample) + 64);
    char *text = calloc(1, strlen(sample) + 64);
    strcpy(secure, sample);
    replace(secure, "#  url: redis://", "  url: rediss://");
    replace(secure, "url: mqtt://", "url: mqtts://");
    replace(secure, "#  tls:", "  tls:"); /* of redis, and of admin */
    replace(secure, "#  tls:", "  tls:");
    replace(secure, "#    tls:", "    tls:");
    replace(secure, "#    encoding: raw", "    encoding: batch");
    replace(secure, "#    batch:", "    batch:");
    replace(secure, "#  - list:", "  - list:");
    size_t wanted = 0;
    for (; uncomment(secure, wanted, text); wanted++)
        load(text, text);
    size_t count = 0;
    (void)config_keys(&count);
    cr_expect_eq(wanted, count - 6, "but the three required keys, and three taken before");
    uncomment(secure, SIZE_MAX, text);
    cr_expect_not_null(strstr(text, "\n      server_name:\n"));
    load(text, text);
    free(text);
    free(secure);
    free(sample);
}

Test(config_doc, sample_has_every_key)
{
    char *text = text_of(config_write_sample);
    size_t count = 0;
    const struct config_key *keys = config_keys(&count);
    const char *at = text;
    for (size_t i = 0; i < count; i++) {
        /* In the table's order, so that none stands for another of the same name. */
        char plain[64];
        char first[64];
        char column[64];
        snprintf(plain, sizeof plain, " %s:", keys[i].name);
        snprintf(first, sizeof first, "- %s:", keys[i].name);
        snprintf(column, sizeof column, "#%s:", keys[i].name);
        const char *found = strstr(at, plain);
        found = found != NULL ? found : strstr(at, first);
        const char *other = strstr(at, column);
        at = found == NULL || (other != NULL && other < found) ? other : found;
        cr_assert_not_null(at, "%s", keys[i].name);
    }
    free(text);
}
