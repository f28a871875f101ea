/* Envelopes of the old plugins: those that a running NEMO pushed, JSON at its edges, and what is
 * said of each that cannot be delivered. */
#include "codec/legacy_envelope.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOM 4096

/* Memory of exactly the sizes that the header names, so that a sanitizer sees any step beyond. The
 * views of the envelope stay good until the next call. */
static struct {
    uint8_t *text, *scratch;
} memory;

static enum status read_bytes(struct bytes text, struct legacy_envelope *envelope,
                              struct stream_entry_fault *fault)
{
    free(memory.text);
    free(memory.scratch);
    memory.text = malloc(text.length);
    memory.scratch = malloc(text.length);
    if (text.length > 0)
        memcpy(memory.text, text.data, text.length);
    *fault = (struct stream_entry_fault){NULL, NULL};
    return legacy_envelope_read((struct bytes){memory.text, text.length}, memory.scratch, envelope,
                                fault);
}

static struct legacy_envelope read_good(const char *text)
{
    struct legacy_envelope envelope;
    struct stream_entry_fault fault;
    enum status status = read_bytes(bytes_of(text), &envelope, &fault);
    cr_assert_eq(status, STATUS_OK, "%s: %s: %s", text, fault.reason, fault.detail);
    return envelope;
}

static void expect_fault(const char *text, const char *reason, const char *says)
{
    struct legacy_envelope envelope;
    struct stream_entry_fault fault;
    cr_assert_eq(read_bytes(bytes_of(text), &envelope, &fault), STATUS_MALFORMED, "%s", text);
    cr_assert_str_eq(fault.reason, reason, "%s: %s: %s", text, fault.reason, fault.detail);
    cr_assert_not_null(strstr(fault.detail, says), "%s: %s", text, fault.detail);
}

static void expect_payload(const char *text, const char *payload, size_t length)
{
    struct bytes got = read_good(text).payload;
    cr_assert(bytes_equal(got, (struct bytes){(const uint8_t *)payload, length}),
              "%s: payload %.*s", text, (int)got.length, (const char *)got.data);
}

/* ---- what NEMO pushed -------------------------------------------------------------------- */

Test(legacy_envelope, reads_what_nemo_pushed)
{
    static const struct {
        const char *topic;
        uint64_t ts_ms;
    } expected[] = {
        {"nemo/tools/1/enabled", 1795322094997},  {"nemo/tools/1/disabled", 1795322095014},
        {"nemo/tools/1/disabled", 1795322095020}, {"nemo/tools/1/enabled", 1795322095022},
        {"nemo/tools/1/disabled", 1795322095025}, {"nemo/tools/1/enabled", 1795322095028},
        {"nemo/tools/1", 1795322095034},          {"nemo/areas/1", 1795322095037},
        {"nemo/area_access/1", 1795322095040},    {"nemo/reservations/1", 1795322095045},
        {"nemo/reservations/1", 1795322095048},
    };
    static char line[ROOM];
    FILE *file = fopen(TEST_DATA "/legacy_envelopes.jsonl", "r");
    cr_assert_not_null(file);
    size_t count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        cr_assert_lt(count, sizeof expected / sizeof *expected);
        struct legacy_envelope envelope = read_good(line);
        cr_assert(bytes_equal(envelope.topic, bytes_of(expected[count].topic)));
        cr_assert_eq(envelope.ts_ms, expected[count].ts_ms);
        cr_assert(envelope.has_ts);
        cr_assert_eq(envelope.qos, 1);
        cr_assert_not(envelope.retain);
        cr_assert_eq(envelope.payload.data[0], '{');
        cr_assert_eq(envelope.payload.data[envelope.payload.length - 1], '}');
        count++;
    }
    fclose(file);
    cr_assert_eq(count, sizeof expected / sizeof *expected);
}

Test(legacy_envelope, decodes_exactly_once)
{
    static const char payload[] = "{\"event\": \"tool_enabled\", \"user_name\": \"Ren\\u00e9\"}";
    expect_payload("{\"topic\": \"t\", \"payload\": \"{\\\"event\\\": \\\"tool_enabled\\\", "
                   "\\\"user_name\\\": \\\"Ren\\\\u00e9\\\"}\"}",
                   payload, sizeof payload - 1);
    cr_assert_not_null(strstr(payload, "\\u00e9"), "the six characters, not the letter");
}

/* ---- strings ----------------------------------------------------------------------------- */

Test(legacy_envelope, decodes_all_escapes)
{
    expect_payload("{\"topic\":\"t\",\"payload\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
                   "\"\\/\b\f\n\r\t", 8);
    expect_payload("{\"topic\":\"t\",\"payload\":\"\\u0000a\\u007f\\u0080\\u07ff\\u0800\"}",
                   "\0a\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80", 10);
    expect_payload("{\"topic\":\"t\",\"payload\":\"\\uD83D\\ude00x\\udbff\\udfff\"}",
                   "\xf0\x9f\x98\x80x\xf4\x8f\xbf\xbf", 9);
    expect_payload("{\"topic\":\"t\",\"payload\":\"\xc3\xab\xf0\x9f\x98\x80\x7f\"}",
                   "\xc3\xab\xf0\x9f\x98\x80\x7f", 7);
    expect_payload("{\"topic\":\"t\",\"payload\":\"\"}", "", 0);
    struct legacy_envelope envelope =
        read_good("{\"\\u0074opic\":\"\\u0061\\/b\",\"pay\\u006coad\":\"p\"}");
    cr_assert(bytes_equal(envelope.topic, bytes_of("a/b")));
}

Test(legacy_envelope, lone_surrogates_are_told_apart)
{
    static const char *const halves[] = {
        "\\ud800",    "\\udfff",        "\\ud800x", "\\udc00\\ud800",       "\\ud800\\ud800",
        "\\ud83d\\n", "\\ud83d\\u0041", "x\\udbff", "\\ud83d\\ud83d\\ude00"};
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"topic\":\"t\",\"payload\":\"%s\"}", halves[i]);
        expect_fault(text, "lone-surrogate", "payload");
        snprintf(text, sizeof text, "{\"topic\":\"%s\",\"payload\":\"p\"}", halves[i]);
        expect_fault(text, "lone-surrogate", "topic");
        snprintf(text, sizeof text,
                 "{\"x\":\"%s\",\"%s\":1,\"payload\":\"%s\",\"topic\":\"t\",\"payload\":\"p\"}",
                 halves[i], halves[i], halves[i]);
        expect_payload(text, "p", 1); /* half a pair where nobody looks is nobody's business */
    }
    expect_fault("{\"topic\":\"t\",\"payload\":\"\xed\xa0\x80\"}", "bad-envelope", "UTF-8");
}

Test(legacy_envelope, refuses_bad_strings)
{
    static const struct {
        const char *payload, *says;
    } cases[] = {
        {"\"a\nb\"", "control"},   {"\"\x1f\"", "control"},   {"\"\\x41\"", "escape"},
        {"\"\\U0041\"", "escape"}, {"\"\\u12\"", "hex"},      {"\"\\u12g4\"", "hex"},
        {"\"\\u+123\"", "hex"},    {"\"\\u12", "hex"},        {"\"abc", "end"},
        {"\"abc\\", "end"},        {"\"abc\\\"}", "end"},     {"\"\xff\"", "UTF-8"},
        {"\"\xc0\xaf\"", "UTF-8"}, {"\"\xe2\x82\"", "UTF-8"}, {"\"\xf4\x90\x80\x80\"", "UTF-8"},
        {"\"\xc3", "UTF-8"},       {"'p'", "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"topic\":\"t\",\"payload\":%s}", cases[i].payload);
        if (cases[i].says[0] == 'e' && cases[i].says[1] == 'n')
            text[strlen(text) - 1] = '\0';
        expect_fault(text, "bad-envelope", cases[i].says);
    }
}

/* ---- structure --------------------------------------------------------------------------- */

Test(legacy_envelope, blanks_and_unknown_members_are_passed_over)
{
    expect_payload(
        " \t\r\n{ \"a\" : [ ] , \"b\" : { } ,\"c\":[1,-2.5e+3,{\"payload\":\"no\"},null],"
        "\"topic\"\n:\"t\",\"d\":{\"topic\":1,\"x\":[[\"\\n\"]]},"
        "\"big\":123456789012345678901234567890,\"huge\":1e999,\"n\":NaN,"
        "\"i\":-Infinity,\"j\":Infinity,\"payload\" : \"p\" } \n",
        "p", 1);
}

Test(legacy_envelope, the_last_of_a_member_counts)
{
    struct legacy_envelope envelope =
        read_good("{\"topic\":\"first\\n\",\"payload\":7,\"qos\":9,\"retain\":true,\"timestamp\":1,"
                  "\"payload\":\"\\\"second\\\"\",\"topic\":\"la\\/st\",\"qos\":2,\"retain\":false,"
                  "\"timestamp\":null,\"payload\":\"\\\"third\\\"\"}");
    cr_assert(bytes_equal(envelope.topic, bytes_of("la/st")));
    cr_assert(bytes_equal(envelope.payload, bytes_of("\"third\"")));
    cr_assert_eq(envelope.qos, 2);
    cr_assert_not(envelope.retain);
    cr_assert_not(envelope.has_ts);
}

Test(legacy_envelope, nesting_is_bounded)
{
    char text[512];
    for (int depth = 60; depth <= 66; depth++) { /* with the envelope itself one more */
        char *at = text + sprintf(text, "{\"topic\":\"t\",\"x\":");
        for (int i = 0; i < depth; i++)
            *at++ = '[';
        for (int i = 0; i < depth; i++)
            *at++ = ']';
        sprintf(at, ",\"payload\":\"p\"}");
        if (depth < 64)
            expect_payload(text, "p", 1);
        else
            expect_fault(text, "bad-envelope", "64");
    }
}

Test(legacy_envelope, refuses_what_is_not_one_json_object)
{
    static const char *const texts[] = {
        "",
        " ",
        "null",
        "[]",
        "\"x\"",
        "\xef\xbb\xbf{}",
        "{",
        "{}x",
        "{}{}",
        "{\"topic\"}",
        "{\"topic\":}",
        "{\"topic\":\"t\",}",
        "{,}",
        "{topic:\"t\"}",
        "{\"topic\":\"t\" \"payload\":\"p\"}",
        "{\"x\":[1,]}",
        "{\"x\":[1}",
        "{\"x\":[}",
        "{\"x\":01}",
        "{\"x\":+1}",
        "{\"x\":1.}",
        "{\"x\":.5}",
        "{\"x\":1e}",
        "{\"x\":1e+}",
        "{\"x\":-}",
        "{\"x\":0x1}",
        "{\"x\":nul}",
        "{\"x\":True}",
        "{\"x\":nan}",
        "{\"x\":-NaN}",
        "{\"x\":1",
        "{\"x\":tru",
        "{\"x\":",
        "{\"x\"",
        "{\"topic\":\"t\",\"payload\":\"p\"}\f",
        "{/**/}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_fault(texts[i], "bad-envelope", "");
    struct legacy_envelope envelope;
    struct stream_entry_fault fault;
    struct bytes with_nul = {(const uint8_t *)"{\"topic\":\"t\",\"payload\":\"p\"}\0", 28};
    cr_assert_eq(read_bytes(with_nul, &envelope, &fault), STATUS_MALFORMED);
}

/* ---- members ----------------------------------------------------------------------------- */

Test(legacy_envelope, judges_its_members)
{
    expect_fault("{}", "no-topic", "topic");
    expect_fault("{\"payload\":\"p\"}", "no-topic", "topic");
    expect_fault("{\"topic\":null,\"payload\":\"p\"}", "bad-topic", "string");
    expect_fault("{\"topic\":5,\"payload\":\"p\"}", "bad-topic", "string");
    expect_fault("{\"topic\":\"t\"}", "bad-field", "payload");
    expect_fault("{\"topic\":\"t\",\"payload\":{\"a\":1}}", "bad-field", "payload");
    expect_fault("{\"topic\":\"t\",\"payload\":null}", "bad-field", "payload");
    expect_fault("{\"topic\":\"t\",\"payload\":12}", "bad-field", "payload");
    static const char *const no_qos[] = {"3", "-1", "1.0", "1e0", "true", "null", "\"1\"", "10"};
    static const char *const no_retain[] = {"0", "1", "null", "\"true\"", "[]"};
    char text[128];
    for (size_t i = 0; i < sizeof no_qos / sizeof *no_qos; i++) {
        snprintf(text, sizeof text, "{\"topic\":\"t\",\"payload\":\"p\",\"qos\":%s}", no_qos[i]);
        expect_fault(text, "bad-field", "qos");
    }
    for (size_t i = 0; i < sizeof no_retain / sizeof *no_retain; i++) {
        snprintf(text, sizeof text, "{\"topic\":\"t\",\"payload\":\"p\",\"retain\":%s}",
                 no_retain[i]);
        expect_fault(text, "bad-field", "retain");
    }
}

Test(legacy_envelope, has_the_plugins_defaults)
{
    struct legacy_envelope envelope = read_good("{\"topic\":\"t\",\"payload\":\"p\"}");
    cr_assert_eq(envelope.qos, 1);
    cr_assert_not(envelope.retain);
    cr_assert_not(envelope.has_ts);
    envelope = read_good("{\"topic\":\"t\",\"payload\":\"p\",\"qos\":0,\"retain\":true}");
    cr_assert_eq(envelope.qos, 0);
    cr_assert(envelope.retain);
}

Test(legacy_envelope, a_fault_still_has_its_topic)
{
    struct legacy_envelope envelope;
    struct stream_entry_fault fault;
    cr_assert_eq(read_bytes(bytes_of("{\"topic\":\"a/b\",\"payload\":1}"), &envelope, &fault),
                 STATUS_MALFORMED);
    cr_assert(bytes_equal(envelope.topic, bytes_of("a/b")));
}

Test(legacy_envelope, timestamps_become_milliseconds)
{
    static const struct {
        const char *seconds;
        uint64_t ms;
    } good[] = {
        {"1795322094.99776", 1795322094997},
        {"1795322095.0229137", 1795322095022},
        {"1795322095", 1795322095000},
        {"1795322095.0", 1795322095000},
        {"1e9", 1000000000000},
        {"1E+9", 1000000000000},
        {"1.795322095e9", 1795322095000},
        {"1795322095123e-3", 1795322095123},
        {"1795322095999.9e-3", 1795322095999},
        {"0", 0},
        {"0.0009", 0},
        {"0.001", 1},
        {"1e-4", 0},
        {"1e-999999999999999999999", 0},
        {"0e999999999999999999999", 0},
        {"0.00000000000000000000000000000000000001795322095e47", 1795322095000},
        {"18446744073709551.615", UINT64_MAX},
    };
    static const char *const bad[] = {"-1",
                                      "-0.5",
                                      "1e17",
                                      "1e999999999999999999999",
                                      "18446744073709551.616",
                                      "NaN",
                                      "Infinity",
                                      "null",
                                      "false",
                                      "\"1795322095\"",
                                      "[1]",
                                      "123456789012345678901234567890"};
    char text[256];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "{\"topic\":\"t\",\"payload\":\"p\",\"timestamp\":%s}",
                 good[i].seconds);
        struct legacy_envelope envelope = read_good(text);
        cr_assert(envelope.has_ts, "%s", text);
        cr_assert_eq(envelope.ts_ms, good[i].ms, "%s: %llu", text,
                     (unsigned long long)envelope.ts_ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "{\"topic\":\"t\",\"payload\":\"p\",\"timestamp\":%s}", bad[i]);
        cr_assert_not(read_good(text).has_ts, "%s", text);
    }
}
