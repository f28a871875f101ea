/*
 * legacy_lists and legacy_config_command: what is read, what is derived, what is refused.
 */
#include "core/config_private.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define BROKER "brokers: [{name: main, url: 'mqtt://h'}]\n"

static struct config *read_config(const char *text, char **faults)
{
    size_t size = 0;
    FILE *errors = open_memstream(faults, &size);
    struct config *config = config_parse("f.yml", text, strlen(text), false, errors);
    fclose(errors);
    return config;
}

static struct config *good(const char *text)
{
    char *faults = NULL;
    struct config *config = read_config(text, &faults);
    cr_assert_not_null(config, "%s", faults);
    free(faults);
    return config;
}

static void refused(const char *text, const char *fault)
{
    char *faults = NULL;
    struct config *config = read_config(text, &faults);
    cr_expect_null(config, "%s", text);
    cr_expect_not_null(strstr(faults, fault), "no '%s' in: %s", fault, faults);
    cr_expect_eq(strchr(faults, '\n'), strrchr(faults, '\n'), "one fault: %s", faults);
    config_free(config);
    free(faults);
}

Test(config_legacy, there_are_none_where_none_are_given)
{
    static const char *const texts[] = {BROKER, BROKER "legacy_lists:\n"};
    for (size_t i = 0; i < 2; i++) {
        struct config *config = good(texts[i]);
        cr_expect_eq(config->legacy_list_count, 0);
        cr_expect_eq(config->redis.stream_count, 1);
        cr_expect_str_eq(config->legacy_config_command, "");
        config_free(config);
    }
}

Test(config_legacy, an_item_has_defaults_and_its_stream_is_read)
{
    struct config *config = good(BROKER "legacy_lists: [{db: 2}, {list: x}, {list: y, monitor: "
                                        "false, stream: 'nemo:{b}:events'}]\n");
    cr_assert_eq(config->legacy_list_count, 3);
    cr_expect_str_eq(config->legacy_lists[0].list, "nemo_mqtt_events");
    cr_expect_eq(config->legacy_lists[0].database, 2);
    cr_expect_eq(config->legacy_lists[1].database, 1);
    cr_expect(config->legacy_lists[1].monitor);
    cr_expect_not(config->legacy_lists[2].monitor);
    cr_assert_eq(config->redis.stream_count, 3, "each stream once");
    cr_expect_str_eq(config->redis.streams[1], "nemo:{lab}:events");
    cr_expect_str_eq(config->redis.streams[2], "nemo:{b}:events");
    config_free(config);
}

Test(config_legacy, faults_stand_where_they_are)
{
    refused(BROKER "legacy_lists: [{stream: 'nemo:*:events'}]\n",
            "f.yml:2:25: legacy_lists[0].stream: 'nemo:*:events' is a pattern");
    refused(BROKER "legacy_lists: [{stream: other}]\n",
            "legacy_lists[0].stream: 'other' has no route");
    refused(BROKER "routes: [{streams: '*'}]\nlegacy_lists: [{stream: other}]\n",
            "legacy_lists[0].stream: 'other' has no site");
    refused(BROKER "legacy_lists: [{}, {db: 1}]\n",
            "legacy_lists[1].list: the same list as that of legacy_lists[0]");
    refused(BROKER "legacy_lists: [{db: 0, list: 'nemo:{a}:events', stream: 'nemo:{a}:events'}]\n",
            "is the list itself");
    refused(BROKER "legacy_lists: {list: x}\n", "a list is expected");
}

Test(config_legacy, a_command_needs_a_list_and_a_broker_that_the_plugin_could_have)
{
    refused(BROKER "legacy_config_command: 'true'\n", ":2:24: legacy_config_command: there are no");
    refused("brokers: [{name: main, url: 'mqtts://h'}]\nlegacy_lists: [{}]\n"
            "legacy_config_command: 'true'\n",
            "an mqtt:// URL is expected");
    refused(BROKER "routes: [{streams: '*', encoding: batch}]\nlegacy_lists: [{}]\n"
                   "legacy_config_command: 'true'\n",
            "raw or signed is expected there");
    config_free(good(BROKER "legacy_lists: [{}]\nlegacy_config_command: 'true'\n"));
}
