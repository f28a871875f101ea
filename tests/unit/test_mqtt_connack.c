/* CONNACK byte for byte: every property, its default, and every way to break its rule. */
#include <stdlib.h>

#include "tests/unit/mqtt_packets.h"

static enum status read_connack(struct bytes packet, enum mqtt_version version,
                                struct mqtt_connack *connack, struct mqtt_fault *fault)
{
    struct mqtt_frame frame = frame_of(packet);
    return mqtt_read_connack(&frame, version, connack, fault);
}

static void assert_connack_malformed(struct bytes packet, enum mqtt_version version,
                                     const char *clause)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(read_connack(packet, version, &connack, &fault), STATUS_MALFORMED);
    ASSERT_FAULT(fault, clause);
}

static void assert_defaults(const struct mqtt_connack *connack)
{
    cr_assert_not(connack->has_session_expiry);
    cr_assert_eq(connack->session_expiry_s, 0);
    cr_assert_eq(connack->receive_maximum, 65535);
    cr_assert_eq(connack->maximum_qos, 2);
    cr_assert(connack->retain_available);
    cr_assert_eq(connack->maximum_packet_size, 0);
    cr_assert_eq(connack->assigned_client_id.length, 0);
    cr_assert_eq(connack->topic_alias_maximum, 0);
    cr_assert_not(connack->has_server_keep_alive);
    cr_assert_eq(connack->server_keep_alive_s, 0);
    cr_assert_eq(connack->reason_string.length, 0);
    cr_assert_eq(connack->server_reference.length, 0);
}

Test(mqtt_connack, connack_3_1_1)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault;
    cr_assert_eq(read_connack(RAW(0x20, 2, 0, 0), MQTT_3_1_1, &connack, &fault), STATUS_OK);
    cr_assert_not(connack.session_present);
    cr_assert_eq(connack.reason_code, 0);
    assert_defaults(&connack);
    cr_assert_eq(read_connack(RAW(0x20, 2, 1, 0), MQTT_3_1_1, &connack, &fault), STATUS_OK);
    cr_assert(connack.session_present);
    cr_assert_eq(read_connack(RAW(0x20, 2, 0, 5), MQTT_3_1_1, &connack, &fault), STATUS_OK);
    cr_assert_eq(connack.reason_code, 5);
}

Test(mqtt_connack, connack_3_1_1_that_is_not_one)
{
    assert_connack_malformed(RAW(0x20, 0), MQTT_3_1_1, "MQTT 3.1.1, 3.2.1");
    assert_connack_malformed(RAW(0x20, 1, 0), MQTT_3_1_1, "MQTT 3.1.1, 3.2.1");
    assert_connack_malformed(RAW(0x20, 3, 0, 0, 0), MQTT_3_1_1, "MQTT 3.1.1, 3.2.1");
    assert_connack_malformed(RAW(0x20, 2, 2, 0), MQTT_3_1_1, "MQTT 3.1.1, 3.2.2.1");
    assert_connack_malformed(RAW(0x20, 2, 1, 5), MQTT_3_1_1, "MQTT 3.1.1: MQTT-3.2.2-4");
}

Test(mqtt_connack, connack_5_0_without_properties_has_the_defaults)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault;
    memset(&connack, 0xff, sizeof connack);
    cr_assert_eq(read_connack(RAW(0x20, 3, 0, 0, 0), MQTT_5_0, &connack, &fault), STATUS_OK);
    cr_assert_not(connack.session_present);
    cr_assert_eq(connack.reason_code, 0);
    assert_defaults(&connack);
    cr_assert_eq(read_connack(RAW(0x20, 3, 1, 0, 0), MQTT_5_0, &connack, &fault), STATUS_OK);
    cr_assert(connack.session_present);
    cr_assert_eq(read_connack(RAW(0x20, 3, 0, 0x87, 0), MQTT_5_0, &connack, &fault), STATUS_OK);
    cr_assert_eq(connack.reason_code, 0x87);
}

Test(mqtt_connack, connack_5_0_that_is_not_one)
{
    assert_connack_malformed(RAW(0x20, 0), MQTT_5_0, "MQTT 5.0, 3.2.2");
    assert_connack_malformed(RAW(0x20, 1, 0), MQTT_5_0, "MQTT 5.0, 3.2.2");
    assert_connack_malformed(RAW(0x20, 2, 0, 0), MQTT_5_0, "MQTT-2.2.2-1");
    assert_connack_malformed(RAW(0x20, 2, 0, 5), MQTT_5_0, "MQTT-2.2.2-1");
    assert_connack_malformed(RAW(0x20, 3, 0x80, 0, 0), MQTT_5_0, "MQTT-3.2.2-1");
    assert_connack_malformed(RAW(0x20, 3, 1, 0x87, 0), MQTT_5_0, "MQTT-3.2.2-6");
    assert_connack_malformed(RAW(0x20, 3, 0, 0, 1), MQTT_5_0, "MQTT 5.0, 2.2.2.1");
    assert_connack_malformed(RAW(0x20, 4, 0, 0, 0, 0), MQTT_5_0, "MQTT 5.0, 2.2.2.1");
    assert_connack_malformed(RAW(0x20, 4, 0, 0, 0x80, 0), MQTT_5_0, "MQTT-1.5.5-1");
    assert_connack_malformed(RAW(0x20, 3, 0, 0, 0x80), MQTT_5_0, "MQTT-2.2.2-1");
    assert_connack_malformed(RAW(0x20, 6, 0, 0, 0xff, 0xff, 0xff, 0xff), MQTT_5_0,
                             "MQTT 5.0, 1.5.5");
}

Test(mqtt_connack, refusal_by_a_server_that_knows_only_3_1_1)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault;
    cr_assert_eq(read_connack(RAW(0x20, 2, 0, 1), MQTT_5_0, &connack, &fault), STATUS_OK);
    cr_assert_eq(connack.reason_code, 1);
    assert_defaults(&connack);
    /* In any other form it is a 5.0 packet, and has to be a whole one. */
    assert_connack_malformed(RAW(0x20, 3, 0, 1, 1), MQTT_5_0, "MQTT 5.0, 2.2.2.1");
    assert_connack_malformed(RAW(0x20, 2, 1, 1), MQTT_5_0, "MQTT-3.2.2-6");
}

static const uint8_t full_connack[] = {
    0x20, 99,   0x01, 0x00, 96,                                  /* 3 bytes and 96 of properties */
    0x11, 0x00, 0x01, 0x51, 0x80,                                /* session expiry 86400 */
    0x21, 0x00, 0x14,                                            /* Receive Maximum 20 */
    0x24, 0x01,                                                  /* Maximum QoS 1 */
    0x25, 0x00,                                                  /* no retained messages */
    0x27, 0x00, 0x10, 0x00, 0x01,                                /* 1048577 bytes */
    0x12, 0x00, 0x04, 'a',  'u',  't',  'o',                     /* client identifier */
    0x22, 0x00, 0x0a,                                            /* Topic Alias Maximum 10 */
    0x1f, 0x00, 0x03, 'w',  'h',  'y',                           /* Reason String */
    0x26, 0x00, 0x01, 'k',  0x00, 0x02, 'v', '1',                /* User Property */
    0x26, 0x00, 0x01, 'k',  0x00, 0x00,                          /* the same name again */
    0x28, 0x01, 0x29, 0x00, 0x2a, 0x01,                          /* about subscriptions */
    0x13, 0x00, 0x3c,                                            /* Server Keep Alive 60 */
    0x1a, 0x00, 0x05, 'r',  'e',  's',  'p', '/',                /* Response Information */
    0x1c, 0x00, 0x08, 'o',  't',  'h',  'e', 'r', '.', 'e', 'x', /* Server Reference */
    0x16, 0x00, 0x03, 0xff, 0x00, 0xfe,                          /* Authentication Data */
    0x26, 0x00, 0x05, 't',  'o',  'o',  'l', 's', 0,   5,   0xe2, 0x82, 0xac, '1', '7',
};

Test(mqtt_connack, connack_5_0_with_every_property)
{
    struct bytes packet = {full_connack, sizeof full_connack};
    struct mqtt_connack connack;
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(read_connack(packet, MQTT_5_0, &connack, &fault), STATUS_OK, "%s %s", fault.clause,
                 fault.what);
    cr_assert(connack.session_present);
    cr_assert_eq(connack.reason_code, 0);
    cr_assert(connack.has_session_expiry);
    cr_assert_eq(connack.session_expiry_s, 86400);
    cr_assert_eq(connack.receive_maximum, 20);
    cr_assert_eq(connack.maximum_qos, 1);
    cr_assert_not(connack.retain_available);
    cr_assert_eq(connack.maximum_packet_size, 1048577);
    ASSERT_TEXT(connack.assigned_client_id, "auto");
    cr_assert_eq(connack.topic_alias_maximum, 10);
    cr_assert(connack.has_server_keep_alive);
    cr_assert_eq(connack.server_keep_alive_s, 60);
    ASSERT_TEXT(connack.reason_string, "why");
    ASSERT_TEXT(connack.server_reference, "other.ex");
}

/* A CONNACK whose properties are the given bytes, once or twice. */
struct made_connack {
    uint8_t bytes[100];
    size_t length;
};

static struct made_connack make_connack(struct bytes property, size_t times)
{
    struct made_connack made = {.bytes = {0x20, (uint8_t)(3 + property.length * times), 0, 0,
                                          (uint8_t)(property.length * times)},
                                .length = 5};
    for (size_t i = 0; i < times; i++) {
        memcpy(made.bytes + made.length, property.data, property.length);
        made.length += property.length;
    }
    return made;
}

static enum status read_made(const struct made_connack *made, struct mqtt_connack *connack,
                             struct mqtt_fault *fault)
{
    return read_connack((struct bytes){made->bytes, made->length}, MQTT_5_0, connack, fault);
}

struct property_case {
    struct bytes property;
    const char *clause;
};

#define PROPERTY(clause, ...)                                                                      \
    {                                                                                              \
        {(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})}, clause           \
    }

static const struct property_case single_properties[] = {
    PROPERTY("MQTT 5.0, 3.2.2.3.2", 0x11, 0, 0, 0, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.3", 0x21, 0, 1),
    PROPERTY("MQTT 5.0, 3.2.2.3.4", 0x24, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.5", 0x25, 1),
    PROPERTY("MQTT 5.0, 3.2.2.3.6", 0x27, 0, 0, 0, 1),
    PROPERTY("MQTT 5.0, 3.2.2.3.7", 0x12, 0, 1, 'x'),
    PROPERTY("MQTT 5.0, 3.2.2.3.8", 0x22, 0, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.9", 0x1f, 0, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.11", 0x28, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.12", 0x29, 1),
    PROPERTY("MQTT 5.0, 3.2.2.3.13", 0x2a, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.14", 0x13, 0, 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.15", 0x1a, 0, 1, 'x'),
    PROPERTY("MQTT 5.0, 3.2.2.3.16", 0x1c, 0, 1, 'x'),
    PROPERTY("MQTT 5.0, 3.2.2.3.18", 0x16, 0, 1, 0x80),
};

Test(mqtt_connack, connack_property_given_twice_is_malformed)
{
    for (size_t i = 0; i < sizeof single_properties / sizeof *single_properties; i++) {
        const struct property_case *it = &single_properties[i];
        struct mqtt_connack connack;
        struct mqtt_fault fault = {"", ""};
        struct made_connack once = make_connack(it->property, 1);
        cr_assert_eq(read_made(&once, &connack, &fault), STATUS_OK, "0x%02x", it->property.data[0]);
        struct made_connack twice = make_connack(it->property, 2);
        cr_assert_eq(read_made(&twice, &connack, &fault), STATUS_MALFORMED);
        ASSERT_FAULT(fault, it->clause);
        cr_assert_not_null(strstr(fault.what, "twice"));
    }
}

Test(mqtt_connack, connack_property_that_is_cut_short_is_malformed)
{
    for (size_t i = 0; i < sizeof single_properties / sizeof *single_properties; i++) {
        const struct property_case *it = &single_properties[i];
        for (size_t length = 1; length < it->property.length; length++) {
            struct mqtt_connack connack;
            struct mqtt_fault fault = {"", ""};
            struct made_connack made = make_connack((struct bytes){it->property.data, length}, 1);
            cr_assert_eq(read_made(&made, &connack, &fault), STATUS_MALFORMED);
            ASSERT_FAULT(fault, it->clause);
            cr_assert_not_null(strstr(fault.what, "cut short"), "%s", fault.what);
        }
    }
}

static const struct property_case bad_properties[] = {
    PROPERTY("MQTT 5.0, 3.2.2.3.3", 0x21, 0, 0),            /* Receive Maximum 0 */
    PROPERTY("MQTT 5.0, 3.2.2.3.4", 0x24, 2),               /* Maximum QoS is 0 or 1, or absent */
    PROPERTY("MQTT 5.0, 3.2.2.3.5", 0x25, 2),               /* not a boolean */
    PROPERTY("MQTT 5.0, 3.2.2.3.6", 0x27, 0, 0, 0, 0),      /* Maximum Packet Size 0 */
    PROPERTY("MQTT 5.0, 3.2.2.3.11", 0x28, 0xff),           /* not a boolean */
    PROPERTY("MQTT 5.0, 3.2.2.3.12", 0x29, 2),              /* not a boolean */
    PROPERTY("MQTT 5.0, 3.2.2.3.13", 0x2a, 0x81),           /* not a boolean */
    PROPERTY("MQTT-4.12.0-6", 0x15, 0, 1, 'x'),             /* a method the client has not named */
    PROPERTY("MQTT-4.12.0-6", 0x15),                        /* the same, cut short */
    PROPERTY("MQTT-1.5.4-1", 0x1f, 0, 1, 0x80),             /* Reason String, not UTF-8 */
    PROPERTY("MQTT-1.5.4-2", 0x1f, 0, 3, 'a', 0, 'b'),      /* Reason String, U+0000 */
    PROPERTY("MQTT-1.5.4-1", 0x1f, 0, 3, 0xed, 0xa0, 0x80), /* a surrogate */
    PROPERTY("MQTT-1.5.4-1", 0x12, 0, 1, 0xff),             /* Assigned Client Identifier */
    PROPERTY("MQTT-1.5.4-1", 0x1a, 0, 1, 0xff),             /* Response Information */
    PROPERTY("MQTT-1.5.4-1", 0x1c, 0, 1, 0xff),             /* Server Reference */
    PROPERTY("MQTT-1.5.4-1", 0x26, 0, 1, 0xff, 0, 0),       /* the name of a User Property */
    PROPERTY("MQTT-1.5.4-1", 0x26, 0, 0, 0, 1, 0xff),       /* its value */
    PROPERTY("MQTT 5.0, 3.2.2.3.10", 0x26),                 /* cut short in all its parts */
    PROPERTY("MQTT 5.0, 3.2.2.3.10", 0x26, 0),              /* */
    PROPERTY("MQTT 5.0, 3.2.2.3.10", 0x26, 0, 1),           /* */
    PROPERTY("MQTT 5.0, 3.2.2.3.10", 0x26, 0, 1, 'k'),      /* */
    PROPERTY("MQTT 5.0, 3.2.2.3.10", 0x26, 0, 1, 'k', 0),
    PROPERTY("MQTT 5.0, 3.2.2.3.10", 0x26, 0, 1, 'k', 0, 1),
};

Test(mqtt_connack, connack_property_that_is_not_allowed_is_malformed)
{
    for (size_t i = 0; i < sizeof bad_properties / sizeof *bad_properties; i++) {
        struct mqtt_connack connack;
        struct mqtt_fault fault = {"", ""};
        struct made_connack made = make_connack(bad_properties[i].property, 1);
        cr_assert_eq(read_made(&made, &connack, &fault), STATUS_MALFORMED, "case %zu", i);
        ASSERT_FAULT(fault, bad_properties[i].clause);
    }
}

Test(mqtt_connack, connack_with_a_property_of_another_packet_is_malformed)
{
    static const char allowed[] = "\x11\x12\x13\x15\x16\x1a\x1c\x1f\x21\x22\x24\x25\x26\x27\x28"
                                  "\x29\x2a";
    for (unsigned id = 0; id < 256; id++) {
        if (id > 0 && strchr(allowed, (int)id))
            continue;
        struct mqtt_connack connack;
        struct mqtt_fault fault = {"", ""};
        uint8_t property[8] = {(uint8_t)id};
        struct made_connack made = make_connack((struct bytes){property, sizeof property}, 1);
        cr_assert_eq(read_made(&made, &connack, &fault), STATUS_MALFORMED, "0x%02x", id);
        ASSERT_FAULT(fault, "MQTT 5.0, 2.2.2.2");
    }
}

/* Cut at every byte, with lengths that agree: a cut between two properties makes a whole packet. */
Test(mqtt_connack, properties_that_end_early_are_malformed)
{
    size_t taken = 0;
    for (size_t length = 5; length < sizeof full_connack; length++) {
        uint8_t *input = malloc(length);
        memcpy(input, full_connack, length);
        input[1] = (uint8_t)(length - 2);
        input[4] = (uint8_t)(length - 5);
        struct mqtt_frame frame = frame_of((struct bytes){input, length});
        struct mqtt_connack connack;
        struct mqtt_fault fault;
        enum status status = mqtt_read_connack(&frame, MQTT_5_0, &connack, &fault);
        cr_assert(status == STATUS_OK || status == STATUS_MALFORMED);
        taken += status == STATUS_OK;
        free(input);
    }
    cr_assert_eq(taken, 18); /* before each of the 18 properties */
}
