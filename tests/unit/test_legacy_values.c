/*
 * What manage.py dumpdata and databases print, and what else may come from a command.
 */
#include "core/legacy_values.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static const char *read_text(const char *text, struct legacy_values *values)
{
    size_t length = strlen(text);
    uint8_t *exact = malloc(length + 1);
    uint8_t *scratch = malloc(length + 1);
    memcpy(exact, text, length);
    memset(values, 0x55, sizeof *values);
    const char *fault = legacy_values_read((struct bytes){exact, length}, scratch, values);
    free(exact);
    free(scratch);
    return fault;
}

#define DUMP(fields)                                                                               \
    "[{\"model\": \"nemo_mqtt.mqttconfiguration\", \"pk\": 1, \"fields\": {" fields "}}]\n"

Test(legacy_values, dumpdata_as_django_prints_it)
{
    struct legacy_values v;
    cr_assert_null(read_text(
        DUMP("\"name\": \"Default\", \"enabled\": true, \"broker_host\": \"mqtt.lab\", "
             "\"broker_port\": 1886, \"keepalive\": 61, \"client_id\": \"x\", \"username\": "
             "\"n\\u00e9mo\", \"password\": \"p \\\"w\", \"use_hmac\": true, \"hmac_secret_key\": "
             "\"k3y\", \"hmac_algorithm\": \"sha256\", \"qos_level\": 1, \"created_at\": "
             "\"2026-01-01T00:00:00Z\", \"log_messages\": false"),
        &v));
    cr_expect_str_eq(v.broker_host, "mqtt.lab");
    cr_expect_eq(v.broker_port, 1886);
    cr_expect_eq(v.keepalive, 61);
    cr_expect_str_eq(v.username, "n\xc3\xa9mo");
    cr_expect_str_eq(v.password, "p \"w");
    cr_expect(v.use_hmac);
    cr_expect_str_eq(v.hmac_secret_key, "k3y");
}

Test(legacy_values, lines_as_databases_print_them)
{
    struct legacy_values v;
    cr_assert_null(read_text("broker_host=10.0.0.5\r\nbroker_port=1883\nusername=u\npassword=a=b \n"
                             "use_hmac=f\nhmac_secret_key=\n\nother=x\n",
                             &v));
    cr_expect_str_eq(v.broker_host, "10.0.0.5");
    cr_expect_eq(v.keepalive, 60);
    cr_expect_str_eq(v.password, "a=b ");
    cr_expect_not(v.use_hmac);
}

Test(legacy_values, what_is_null_has_the_default)
{
    struct legacy_values v;
    cr_assert_null(read_text(DUMP("\"broker_host\": \"h\", \"username\": null, \"password\": "
                                  "\"lonely\", \"hmac_secret_key\": null, \"use_hmac\": true"),
                             &v));
    cr_expect_eq(v.broker_port, 1883);
    cr_expect_str_eq(v.username, "");
    cr_expect_str_eq(v.password, "", "a password without a user is not used, as in the plugin");
    cr_expect_not(v.use_hmac);
}

Test(legacy_values, first_enabled_row_counts)
{
    struct legacy_values v;
    const char *rows = "[{\"fields\": {\"enabled\": false, \"broker_port\": \"bad\"}},"
                       "{\"fields\": {\"enabled\": true, \"broker_host\": \"two\"}},"
                       "{\"fields\": {\"enabled\": true, \"broker_host\": \"three\"}}]";
    cr_assert_null(read_text(rows, &v));
    cr_expect_str_eq(v.broker_host, "two");
    cr_expect_str_eq(read_text(DUMP("\"enabled\": false, \"broker_host\": \"x\""), &v),
                     "no configuration is enabled");
    cr_expect_str_eq(read_text("[]", &v), "no configuration is enabled");
}

Test(legacy_values, bad_output_is_refused_and_never_repeated)
{
    static const char *const bad[] = {
        "",
        "  \n",
        "Traceback (most recent call last):\n  File \"manage.py\"\n",
        "[{\"fields\": {\"broker_host\": \"x\"}}",
        "[{\"fields\": {\"broker_host\": \"x\"}}] trailing",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
        "{\"fields\" 1}",
        "{",
        "[",
        "[\"",
        DUMP("\"broker_host\": \"\""),
        DUMP("\"broker_host\": \"a b\""),
        DUMP("\"broker_host\": \"a\\nb\""),
        DUMP("\"broker_host\": \"h\", \"broker_port\": 0"),
        DUMP("\"broker_host\": \"h\", \"broker_port\": 65536"),
        DUMP("\"broker_host\": \"h\", \"broker_port\": -1"),
        DUMP("\"broker_host\": \"h\", \"use_hmac\": \"perhaps\""),
        DUMP("\"broker_host\": \"h\", \"use_hmac\": true, \"hmac_secret_key\": \" s3cret\""),
        DUMP("\"broker_host\": \"h\", \"use_hmac\": true, \"hmac_secret_key\": \"s3cret\\ud800\""),
        "broker_host=h\nbroker_port=s3cret\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct legacy_values v;
        const char *fault = read_text(bad[i], &v);
        cr_assert_not_null(fault, "%s", bad[i]);
        cr_expect_null(strstr(fault, "s3cret"));
    }
}

Test(legacy_values, every_prefix_of_a_dump_is_judged_within_its_bytes)
{
    const char *dump = DUMP("\"enabled\": true, \"broker_host\": \"h\\u00e9\", \"broker_port\": 1, "
                            "\"x\": [1, {\"y\": null}]");
    struct legacy_values v;
    char part[256];
    cr_assert_null(read_text(dump, &v));
    for (size_t length = 0; length + 2 < strlen(dump); length++) {
        snprintf(part, sizeof part, "%.*s", (int)length, dump);
        cr_expect_not_null(read_text(part, &v), "%s", part);
    }
}

Test(legacy_values, too_long_values_are_refused)
{
    struct legacy_values v;
    static char text[4096];
    int head = snprintf(text, sizeof text, "broker_host=");
    memset(text + head, 'h', LEGACY_TEXT_MAX);
    cr_expect_str_eq(read_text(text, &v), "a value is too long");
    text[head + (int)LEGACY_TEXT_MAX - 1] = '\0';
    cr_expect_null(read_text(text, &v));
}
