/* UTF-8 and topic names, fast and slow paths alike, and the names of reason codes. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "codec/mqtt_wire.h"

#define TEXT(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

/* ---- UTF-8 -------------------------------------------------------------------------------- */

/* The definition, by decoding: shares nothing with the state machine under test. */
static bool is_utf8(const uint8_t *data, size_t length)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < length;) {
        size_t more = data[i] < 0x80   ? 0
                      : data[i] < 0xc0 ? 9
                      : data[i] < 0xe0 ? 1
                      : data[i] < 0xf0 ? 2
                      : data[i] < 0xf8 ? 3
                                       : 9;
        if (more == 9 || i + more >= length)
            return false;
        uint32_t point = more == 0 ? data[i] : data[i] & (0x3fu >> more);
        for (size_t k = 1; k <= more; k++) {
            if ((data[i + k] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (data[i + k] & 0x3fu);
        }
        if (point == 0 || point < least[more] || point > 0x10ffff ||
            (point >= 0xd800 && point <= 0xdfff))
            return false;
        i += more + 1;
    }
    return true;
}

static void check_utf8(const uint8_t *data, size_t length)
{
    bool valid = mqtt_utf8_valid((struct bytes){data, length});
    cr_assert_eq(valid, is_utf8(data, length), "%zu bytes %02x %02x %02x %02x", length, data[0],
                 length > 1 ? data[1] : 0, length > 2 ? data[2] : 0, length > 3 ? data[3] : 0);
}

Test(mqtt_rules, utf8_of_one_and_two_bytes_all)
{
    for (unsigned first = 0; first < 256; first++) {
        uint8_t text[2] = {(uint8_t)first, 0};
        check_utf8(text, 1);
        for (unsigned second = 0; second < 256; second++) {
            text[1] = (uint8_t)second;
            check_utf8(text, 2);
        }
    }
}

Test(mqtt_rules, utf8_of_three_bytes_at_every_edge)
{
    static const uint8_t leads[] = {0x41, 0x80, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef};
    for (size_t lead = 0; lead < sizeof leads; lead++) {
        for (unsigned rest = 0; rest < 65536; rest++)
            check_utf8((const uint8_t[]){leads[lead], (uint8_t)(rest >> 8), (uint8_t)rest}, 3);
    }
}

Test(mqtt_rules, utf8_of_four_bytes_at_every_edge)
{
    static const uint8_t leads[] = {0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xff};
    static const uint8_t last[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    for (size_t lead = 0; lead < sizeof leads; lead++) {
        for (unsigned second = 0; second < 256; second++) {
            for (size_t rest = 0; rest < 100; rest++)
                check_utf8((const uint8_t[]){leads[lead], (uint8_t)second, last[rest / 10],
                                             last[rest % 10]},
                           4);
        }
    }
}

/* Every sequence at every place of a longer text, so that words of eight bytes begin before it, in
 * it and after it. The text lies in memory of its own size. */
Test(mqtt_rules, utf8_at_every_place_of_a_longer_text)
{
    static const struct bytes pieces[] = {
        TEXT("z"),        TEXT("\0"),       TEXT("\x80"),         TEXT("\xc3\xa4"),
        TEXT("\xc3"),     TEXT("\xe2\x82"), TEXT("\xe2\x82\xac"), TEXT("\xf0\x9f\x94\xa7"),
        TEXT("\xff\xfe"), TEXT("\xc0\x80"), TEXT("\xed\xa0\x80"), TEXT("\xf4\x90\x80\x80"),
    };
    for (size_t length = 4; length <= 33; length++) {
        uint8_t *text = malloc(length);
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            for (size_t at = 0; at + pieces[p].length <= length; at++) {
                memset(text, 'a', length);
                memcpy(text + at, pieces[p].data, pieces[p].length);
                check_utf8(text, length);
            }
        }
        free(text);
    }
}

Test(mqtt_rules, utf8_of_nothing_is_valid)
{
    cr_assert(mqtt_utf8_valid((struct bytes){NULL, 0}));
    cr_assert(mqtt_utf8_valid(TEXT("")));
}

Test(mqtt_rules, utf8_keeps_a_byte_order_mark_and_control_characters)
{
    cr_assert(mqtt_utf8_valid(TEXT("\xef\xbb\xbf")));         /* [MQTT-1.5.4-3] */
    cr_assert(mqtt_utf8_valid(TEXT("\x01\x1f\x7f\xc2\x80"))); /* SHOULD NOT, so it may */
    cr_assert(mqtt_utf8_valid(TEXT("\xef\xbf\xbf")));
}

/* ---- topic names -------------------------------------------------------------------------- */

static void assert_fault(struct bytes prefix, struct bytes topic, const char *clause)
{
    const char *fault = mqtt_topic_fault(prefix, topic);
    if (!clause) {
        cr_assert_null(fault, "%s", fault);
        return;
    }
    cr_assert_not_null(fault, "wanted %s", clause);
    cr_assert_not_null(strstr(fault, clause), "wanted %s, not: %s", clause, fault);
}

static const struct bytes none = {NULL, 0};

Test(mqtt_rules, topics_one_may_publish_to)
{
    static const struct bytes topics[] = {
        TEXT("a"),
        TEXT("/"),
        TEXT("tools/17/state"),
        TEXT("$SYS/x"),
        TEXT("a//b"),
        TEXT(" "),
        TEXT("b\xc3\xbchne/17"),
        TEXT("\xf0\x9f\x94\xa7"),
        TEXT("1234567\xc3\xa4"),
    };
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        assert_fault(none, topics[i], NULL);
        assert_fault(topics[i], none, NULL);
        assert_fault(TEXT("nemo/site-1/"), topics[i], NULL);
    }
}

Test(mqtt_rules, an_empty_topic_is_refused)
{
    assert_fault(none, none, "[MQTT-4.7.3-1]");
    assert_fault(TEXT(""), TEXT(""), "[MQTT-4.7.3-1]");
}

Test(mqtt_rules, a_topic_of_65535_bytes_is_the_longest)
{
    uint8_t *text = malloc(65536);
    memset(text, 'x', 65536);
    assert_fault(none, (struct bytes){text, 65535}, NULL);
    assert_fault(none, (struct bytes){text, 65536}, "[MQTT-4.7.3-3]");
    assert_fault((struct bytes){text, 65536}, none, "[MQTT-4.7.3-3]");
    assert_fault((struct bytes){text, 65000}, (struct bytes){text, 535}, NULL);
    assert_fault((struct bytes){text, 65000}, (struct bytes){text, 536}, "[MQTT-4.7.3-3]");
    assert_fault((struct bytes){text, 1}, (struct bytes){text, SIZE_MAX}, "[MQTT-4.7.3-3]");
    free(text);
}

/* Each bad byte at each place of each length, as the topic, the prefix, and cut in two. */
static void check_everywhere(uint8_t byte, const char *clause)
{
    for (size_t length = 1; length <= 26; length++) {
        uint8_t *text = malloc(length);
        for (size_t at = 0; at < length; at++) {
            memset(text, 'a', length);
            text[at] = byte;
            struct bytes whole = {text, length};
            assert_fault(none, whole, clause);
            assert_fault(whole, none, clause);
            size_t cut = length / 2;
            assert_fault((struct bytes){text, cut}, (struct bytes){text + cut, length - cut},
                         clause);
        }
        free(text);
    }
}

Test(mqtt_rules, a_bad_byte_is_found_at_every_place)
{
    check_everywhere('+', "[MQTT-3.3.2-2]");
    check_everywhere('#', "[MQTT-3.3.2-2]");
    check_everywhere(0, "[MQTT-4.7.3-2]");
    check_everywhere(0x80, "[MQTT-1.5.4-1]");
    check_everywhere(0xc3, "[MQTT-1.5.4-1]");
    check_everywhere(0xff, "[MQTT-1.5.4-1]");
}

Test(mqtt_rules, every_other_ascii_byte_is_allowed)
{
    for (unsigned byte = 1; byte < 128; byte++) {
        if (byte != '+' && byte != '#')
            check_everywhere((uint8_t)byte, NULL);
    }
}

/* Neighbours that borrow from each other in the words of eight bytes. */
Test(mqtt_rules, every_pair_of_ascii_bytes_is_judged_right)
{
    for (unsigned pair = 0; pair < 128 * 128; pair++) {
        uint8_t text[8] = "aaaaaaaa";
        text[3] = (uint8_t)(pair / 128);
        text[4] = (uint8_t)(pair % 128);
        bool bad = text[3] == 0 || text[4] == 0 || memchr(text, '+', 8) || memchr(text, '#', 8);
        cr_assert_eq(mqtt_topic_fault(none, (struct bytes){text, 8}) != NULL, bad, "%02x %02x",
                     text[3], text[4]);
        bool valid = text[3] != 0 && text[4] != 0;
        cr_assert_eq(mqtt_utf8_valid((struct bytes){text, 8}), valid);
    }
}

Test(mqtt_rules, a_character_may_lie_across_prefix_and_topic)
{
    assert_fault(TEXT("b\xc3"), TEXT("\xbchne"), NULL);
    assert_fault(TEXT("\xf0\x9f"), TEXT("\x94\xa7/longer-than-a-word"), NULL);
    assert_fault(TEXT("b\xc3"), TEXT("hne"), "[MQTT-1.5.4-1]");
    assert_fault(TEXT("b\xc3"), none, "[MQTT-1.5.4-1]");
    assert_fault(TEXT("\xed"), TEXT("\xa0\x80"), "[MQTT-1.5.4-1]"); /* a surrogate */
}

/* ---- reason codes ------------------------------------------------------------------------- */

Test(mqtt_rules, names_of_reason_codes)
{
    static const struct {
        enum mqtt_packet_type type;
        enum mqtt_version version;
        uint8_t code;
        const char *name;
    } cases[] = {
        {MQTT_CONNACK, MQTT_5_0, 0x00, "Success"},
        {MQTT_CONNACK, MQTT_5_0, 0x86, "Bad User Name or Password"},
        {MQTT_CONNACK, MQTT_5_0, 0x01, "Connection Refused, unacceptable protocol version"},
        {MQTT_CONNACK, MQTT_3_1_1, 0x00, "Connection Accepted"},
        {MQTT_CONNACK, MQTT_3_1_1, 0x05, "Connection Refused, not authorized"},
        {MQTT_CONNACK, MQTT_3_1_1, 0x06, "unknown reason code"},
        {MQTT_PUBACK, MQTT_5_0, 0x00, "Success"},
        {MQTT_PUBACK, MQTT_3_1_1, 0x00, "Success"},
        {MQTT_PUBACK, MQTT_5_0, 0x10, "No matching subscribers"},
        {MQTT_PUBACK, MQTT_5_0, 0x87, "Not authorized"},
        {MQTT_PUBACK, MQTT_5_0, 0x97, "Quota exceeded"},
        {MQTT_PUBACK, MQTT_5_0, 0x01, "unknown reason code"},
        {MQTT_DISCONNECT, MQTT_5_0, 0x00, "Normal disconnection"},
        {MQTT_DISCONNECT, MQTT_5_0, 0x8e, "Session taken over"},
        {MQTT_DISCONNECT, MQTT_5_0, 0xa2, "Wildcard Subscriptions not supported"},
        {MQTT_DISCONNECT, MQTT_5_0, 0xa3, "unknown reason code"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(mqtt_reason_name(cases[i].type, cases[i].version, cases[i].code),
                         cases[i].name);
}

Test(mqtt_rules, every_code_has_a_name)
{
    size_t known = 0;
    for (unsigned code = 0; code < 256; code++) {
        const char *name = mqtt_reason_name(MQTT_PUBACK, MQTT_5_0, (uint8_t)code);
        cr_assert_not_null(name);
        if (strcmp(name, "unknown reason code") != 0)
            known++;
    }
    cr_assert_eq(known, 41); /* table 2-6 without Granted QoS 1 and 2, which only SUBACK has */
}
