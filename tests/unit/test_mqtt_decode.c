/* What a server sends, byte for byte: framing, PUBACK, DISCONNECT; and what is refused. */
#include <stdlib.h>

#include "tests/unit/mqtt_packets.h"

static enum status next_frame(struct bytes input, size_t maximum, struct mqtt_fault *fault)
{
    struct mqtt_frame frame;
    return mqtt_next_frame(input, maximum, &frame, fault);
}

static void assert_malformed_frame(struct bytes input, const char *clause)
{
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(next_frame(input, SIZE_MAX, &fault), STATUS_MALFORMED);
    ASSERT_FAULT(fault, clause);
}

/* ---- framing ------------------------------------------------------------------------------ */

Test(mqtt_decode, frames_one_packet_after_the_other)
{
    struct bytes input = RAW(0x40, 2, 0x12, 0x34, 0xd0, 0, 0xe0);
    struct mqtt_frame frame;
    struct mqtt_fault fault;
    cr_assert_eq(mqtt_next_frame(input, 1000, &frame, &fault), STATUS_OK);
    cr_assert_eq(frame.type, MQTT_PUBACK);
    cr_assert_eq(frame.flags, 0);
    cr_assert_eq(frame.size, 4);
    cr_assert_eq(frame.body.data, input.data + 2);
    cr_assert_eq(frame.body.length, 2);
    input = (struct bytes){input.data + 4, input.length - 4};
    cr_assert_eq(mqtt_next_frame(input, 1000, &frame, &fault), STATUS_OK);
    cr_assert_eq(frame.type, MQTT_PINGRESP);
    cr_assert_eq(frame.size, 2);
    cr_assert_eq(frame.body.length, 0);
    input = (struct bytes){input.data + 2, input.length - 2};
    cr_assert_eq(mqtt_next_frame(input, 1000, &frame, &fault), STATUS_AGAIN);
}

Test(mqtt_decode, nothing_is_not_yet_a_packet)
{
    struct mqtt_fault fault;
    cr_assert_eq(next_frame((struct bytes){NULL, 0}, 10, &fault), STATUS_AGAIN);
}

Test(mqtt_decode, frames_around_every_step_of_the_remaining_length)
{
    static const size_t steps[] = {128, 16384, 2097152};
    for (size_t s = 0; s < 3; s++) {
        for (size_t remaining = steps[s] - 1; remaining <= steps[s]; remaining++) {
            size_t header = remaining < steps[s] ? s + 2 : s + 3;
            size_t size = header + remaining;
            uint8_t *packet = calloc(1, size);
            packet[0] = 0x20;
            for (size_t i = 1, rest = remaining; i < header; i++, rest /= 128)
                packet[i] = (uint8_t)(rest % 128 + (i + 1 < header ? 128 : 0));
            struct mqtt_frame frame = frame_of((struct bytes){packet, size});
            cr_assert_eq(frame.body.length, remaining);
            cr_assert_eq(frame.body.data, packet + header);
            struct mqtt_fault fault;
            cr_assert_eq(next_frame((struct bytes){packet, size - 1}, size, &fault), STATUS_AGAIN);
            cr_assert_eq(next_frame((struct bytes){packet, size}, size - 1, &fault),
                         STATUS_TOO_LARGE);
            /* It is known from the header: nobody has to wait for a body that will not fit. */
            cr_assert_eq(next_frame((struct bytes){packet, header}, size - 1, &fault),
                         STATUS_TOO_LARGE);
            free(packet);
        }
    }
}

Test(mqtt_decode, the_largest_remaining_length)
{
    struct mqtt_fault fault;
    struct bytes header = RAW(0x20, 0xff, 0xff, 0xff, 0x7f);
    cr_assert_eq(next_frame(header, SIZE_MAX, &fault), STATUS_AGAIN);
    cr_assert_eq(next_frame(header, 5u + MQTT_MAX_REMAINING_LENGTH, &fault), STATUS_AGAIN);
    cr_assert_eq(next_frame(header, 4u + MQTT_MAX_REMAINING_LENGTH, &fault), STATUS_TOO_LARGE);
}

Test(mqtt_decode, a_remaining_length_of_five_bytes_is_malformed)
{
    assert_malformed_frame(RAW(0x20, 0xff, 0xff, 0xff, 0xff), "MQTT 5.0, 1.5.5");
    assert_malformed_frame(RAW(0x20, 0x80, 0x80, 0x80, 0x80, 0x01), "MQTT 5.0, 1.5.5");
}

Test(mqtt_decode, a_remaining_length_with_needless_bytes_is_malformed)
{
    assert_malformed_frame(RAW(0x40, 0x82, 0x00, 0, 1), "MQTT-1.5.5-1");
    assert_malformed_frame(RAW(0x40, 0x82, 0x80, 0x00, 0, 1), "MQTT-1.5.5-1");
    assert_malformed_frame(RAW(0xd0, 0x80, 0x80, 0x80, 0x00), "MQTT-1.5.5-1");
}

Test(mqtt_decode, packet_types_a_server_does_not_send_here)
{
    static const char *const clauses[16] = {
        [0] = "MQTT 5.0, 2.1.2", [1] = "MQTT 5.0, 2.1.2",  [3] = "MQTT 5.0, 3.3",
        [5] = "MQTT 5.0, 4.3.3", [6] = "MQTT 5.0, 4.3.3",  [7] = "MQTT 5.0, 4.3.3",
        [8] = "MQTT 5.0, 2.1.2", [9] = "MQTT 5.0, 3.9",    [10] = "MQTT 5.0, 2.1.2",
        [11] = "MQTT 5.0, 3.11", [12] = "MQTT 5.0, 2.1.2", [15] = "MQTT-4.12.0-6",
    };
    for (unsigned first = 0; first < 256; first++) {
        unsigned type = first >> 4;
        struct bytes input = {(const uint8_t[]){(uint8_t)first}, 1};
        struct mqtt_fault fault;
        if (clauses[type])
            assert_malformed_frame(input, clauses[type]);
        else if ((first & 15) != 0)
            assert_malformed_frame(input, "MQTT-2.1.3-1");
        else
            cr_assert_eq(next_frame(input, SIZE_MAX, &fault), STATUS_AGAIN, "type %u", type);
    }
}

Test(mqtt_decode, pingresp_with_a_body_is_malformed)
{
    assert_malformed_frame(RAW(0xd0, 1, 0), "MQTT 5.0, 3.13.1");
    assert_malformed_frame(RAW(0xd0, 0xff, 0xff, 0xff, 0x7f), "MQTT 5.0, 3.13.1");
}

/* ---- PUBACK ------------------------------------------------------------------------------- */

static enum status read_puback(struct bytes packet, enum mqtt_version version,
                               struct mqtt_puback *puback, struct mqtt_fault *fault)
{
    struct mqtt_frame frame = frame_of(packet);
    return mqtt_read_puback(&frame, version, puback, fault);
}

static void assert_puback(struct bytes packet, enum mqtt_version version, uint8_t reason_code,
                          const char *reason_string)
{
    struct mqtt_puback puback;
    struct mqtt_fault fault = {"", ""};
    memset(&puback, 0xff, sizeof puback);
    cr_assert_eq(read_puback(packet, version, &puback, &fault), STATUS_OK, "%s %s", fault.clause,
                 fault.what);
    cr_assert_eq(puback.packet_id, 0xabcd);
    cr_assert_eq(puback.reason_code, reason_code);
    ASSERT_TEXT(puback.reason_string, reason_string);
}

static void assert_puback_malformed(struct bytes packet, enum mqtt_version version,
                                    const char *clause)
{
    struct mqtt_puback puback;
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(read_puback(packet, version, &puback, &fault), STATUS_MALFORMED);
    ASSERT_FAULT(fault, clause);
}

Test(mqtt_decode, puback_of_each_length)
{
    assert_puback(RAW(0x40, 2, 0xab, 0xcd), MQTT_3_1_1, 0x00, "");
    assert_puback(RAW(0x40, 2, 0xab, 0xcd), MQTT_5_0, 0x00, "");
    assert_puback(RAW(0x40, 3, 0xab, 0xcd, 0x10), MQTT_5_0, 0x10, "");
    assert_puback(RAW(0x40, 4, 0xab, 0xcd, 0x87, 0), MQTT_5_0, 0x87, "");
    assert_puback(RAW(0x40, 9, 0xab, 0xcd, 0x97, 5, 0x1f, 0, 2, 'n', 'o'), MQTT_5_0, 0x97, "no");
    assert_puback(RAW(0x40, 19, 0xab, 0xcd, 0x80, 15, 0x26, 0, 0, 0, 0, /* two user properties */
                      0x26, 0, 0, 0, 0, 0x1f, 0, 2, 'n', 'o'),
                  MQTT_5_0, 0x80, "no");
}

Test(mqtt_decode, puback_carries_any_reason_code_as_it_came)
{
    for (unsigned code = 0; code < 256; code++)
        assert_puback(RAW(0x40, 3, 0xab, 0xcd, (uint8_t)code), MQTT_5_0, (uint8_t)code, "");
}

Test(mqtt_decode, puback_with_a_property_length_of_two_bytes)
{
    uint8_t packet[256] = {0x40, 0x89, 0x01, 0xab, 0xcd, 0x83, 0x84, 0x01, 0x1f, 0, 129};
    memset(packet + 11, 'x', 129); /* 137 = 2 + 1 + 2 + 132, 132 = 3 + 129 */
    struct mqtt_puback puback;
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(read_puback((struct bytes){packet, 140}, MQTT_5_0, &puback, &fault), STATUS_OK,
                 "%s %s", fault.clause, fault.what);
    cr_assert_eq(puback.reason_string.length, 129);
    cr_assert_eq(puback.reason_string.data, packet + 11);
}

Test(mqtt_decode, puback_that_is_not_one)
{
    static const enum mqtt_version versions[] = {MQTT_3_1_1, MQTT_5_0};
    static const char *const too_short[] = {"MQTT 3.1.1, 3.4.1", "MQTT 5.0, 3.4.2"};
    static const char *const no_id[] = {"MQTT 3.1.1: MQTT-2.3.1-6", "MQTT-2.2.1-5"};
    for (size_t v = 0; v < 2; v++) {
        assert_puback_malformed(RAW(0x40, 0), versions[v], too_short[v]);
        assert_puback_malformed(RAW(0x40, 1, 7), versions[v], too_short[v]);
        assert_puback_malformed(RAW(0x40, 2, 0, 0), versions[v], no_id[v]);
    }
    assert_puback_malformed(RAW(0x40, 3, 0, 1, 0), MQTT_3_1_1, "MQTT 3.1.1, 3.4.1");
    assert_puback_malformed(RAW(0x40, 4, 0, 1, 0, 1), MQTT_5_0, "MQTT 5.0, 2.2.2.1");
    assert_puback_malformed(RAW(0x40, 5, 0, 1, 0, 0, 0), MQTT_5_0, "MQTT 5.0, 2.2.2.1");
    assert_puback_malformed(RAW(0x40, 7, 0, 1, 0, 3, 0x21, 0, 1), MQTT_5_0, "MQTT 5.0, 2.2.2.2");
    assert_puback_malformed(RAW(0x40, 10, 0, 1, 0, 6, 0x1f, 0, 0, 0x1f, 0, 0), MQTT_5_0,
                            "MQTT 5.0, 3.4.2.2.2");
    assert_puback_malformed(RAW(0x40, 8, 0, 1, 0, 4, 0x26, 0, 0, 0), MQTT_5_0,
                            "MQTT 5.0, 3.4.2.2.3");
    assert_puback_malformed(RAW(0x40, 8, 0, 1, 0, 4, 0x1f, 0, 1, 0xff), MQTT_5_0, "MQTT-1.5.4-1");
}

/* ---- DISCONNECT --------------------------------------------------------------------------- */

static enum status read_disconnect(struct bytes packet, enum mqtt_version version,
                                   struct mqtt_disconnect *disconnect, struct mqtt_fault *fault)
{
    struct mqtt_frame frame = frame_of(packet);
    return mqtt_read_disconnect(&frame, version, disconnect, fault);
}

static void assert_disconnect(struct bytes packet, uint8_t reason_code, const char *reason_string,
                              const char *server_reference)
{
    struct mqtt_disconnect disconnect;
    struct mqtt_fault fault = {"", ""};
    memset(&disconnect, 0xff, sizeof disconnect);
    cr_assert_eq(read_disconnect(packet, MQTT_5_0, &disconnect, &fault), STATUS_OK, "%s %s",
                 fault.clause, fault.what);
    cr_assert_eq(disconnect.reason_code, reason_code);
    ASSERT_TEXT(disconnect.reason_string, reason_string);
    ASSERT_TEXT(disconnect.server_reference, server_reference);
}

static void assert_disconnect_malformed(struct bytes packet, enum mqtt_version version,
                                        const char *clause)
{
    struct mqtt_disconnect disconnect;
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(read_disconnect(packet, version, &disconnect, &fault), STATUS_MALFORMED);
    ASSERT_FAULT(fault, clause);
}

Test(mqtt_decode, disconnect_of_each_length)
{
    assert_disconnect(RAW(0xe0, 0), 0x00, "", "");
    assert_disconnect(RAW(0xe0, 1, 0x8e), 0x8e, "", "");
    assert_disconnect(RAW(0xe0, 2, 0x8b, 0), 0x8b, "", "");
    assert_disconnect(RAW(0xe0, 15, 0x9d, 13, 0x1c, 0, 1, 'b', 0x26, 0, 0, 0, 0, 0x1f, 0, 1, 'r'),
                      0x9d, "r", "b");
}

Test(mqtt_decode, disconnect_that_is_not_one)
{
    assert_disconnect_malformed(RAW(0xe0, 0), MQTT_3_1_1, "MQTT 3.1.1, 3.14");
    assert_disconnect_malformed(RAW(0xe0, 2, 0, 1), MQTT_5_0, "MQTT 5.0, 2.2.2.1");
    assert_disconnect_malformed(RAW(0xe0, 7, 0, 5, 0x11, 0, 0, 0, 1), MQTT_5_0, "MQTT-3.14.2-2");
    assert_disconnect_malformed(RAW(0xe0, 5, 0, 3, 0x13, 0, 1), MQTT_5_0, "MQTT 5.0, 2.2.2.2");
    assert_disconnect_malformed(RAW(0xe0, 8, 0, 6, 0x1f, 0, 0, 0x1f, 0, 0), MQTT_5_0,
                                "MQTT 5.0, 3.14.2.2.3");
    assert_disconnect_malformed(RAW(0xe0, 6, 0, 4, 0x26, 0, 0, 0), MQTT_5_0,
                                "MQTT 5.0, 3.14.2.2.4");
    assert_disconnect_malformed(RAW(0xe0, 8, 0, 6, 0x1c, 0, 0, 0x1c, 0, 0), MQTT_5_0,
                                "MQTT 5.0, 3.14.2.2.5");
}

/* ---- cut short at every byte -------------------------------------------------------------- */

static const struct bytes whole_packets[] = {
    {(const uint8_t[]){0x20, 9, 0, 0, 6, 0x21, 0, 9, 0x13, 0, 60}, 11},
    {(const uint8_t[]){0x20, 2, 0, 0}, 4},
    {(const uint8_t[]){0x40, 2, 0, 1}, 4},
    {(const uint8_t[]){0x40, 9, 0, 1, 0x97, 5, 0x1f, 0, 2, 'n', 'o'}, 11},
    {(const uint8_t[]){0xd0, 0}, 2},
    {(const uint8_t[]){0xe0, 10, 0x9d, 8, 0x1c, 0, 1, 'b', 0x1f, 0, 1, 'r'}, 12},
};

static enum status read_any(const struct mqtt_frame *frame, enum mqtt_version version)
{
    struct mqtt_fault fault;
    struct mqtt_connack connack;
    struct mqtt_puback puback;
    struct mqtt_disconnect disconnect;
    switch ((int)frame->type) {
    case MQTT_CONNACK:
        return mqtt_read_connack(frame, version, &connack, &fault);
    case MQTT_PUBACK:
        return mqtt_read_puback(frame, version, &puback, &fault);
    case MQTT_DISCONNECT:
        return mqtt_read_disconnect(frame, version, &disconnect, &fault);
    default:
        return STATUS_OK;
    }
}

/* The input lies in memory of its own size, so that a sanitizer sees a read beyond it. */
Test(mqtt_decode, input_that_ends_early_is_waited_for)
{
    for (size_t p = 0; p < sizeof whole_packets / sizeof *whole_packets; p++) {
        for (size_t length = 0; length < whole_packets[p].length; length++) {
            uint8_t *input = malloc(length + (length == 0));
            memcpy(input, whole_packets[p].data, length);
            struct mqtt_fault fault;
            cr_assert_eq(next_frame((struct bytes){input, length}, SIZE_MAX, &fault), STATUS_AGAIN);
            free(input);
        }
    }
}

/* The same with a Remaining Length that says so: then it is the packet that is wrong, unless it
 * happens to end where a shorter form of it does. */
Test(mqtt_decode, packet_that_ends_early_is_malformed)
{
    size_t taken = 0;
    for (size_t p = 0; p < sizeof whole_packets / sizeof *whole_packets; p++) {
        for (size_t length = 2; length < whole_packets[p].length; length++) {
            uint8_t *input = malloc(length);
            memcpy(input, whole_packets[p].data, length);
            input[1] = (uint8_t)(length - 2);
            struct mqtt_frame frame = frame_of((struct bytes){input, length});
            enum status status = read_any(&frame, MQTT_5_0);
            cr_assert(status == STATUS_OK || status == STATUS_MALFORMED);
            taken += status == STATUS_OK;
            free(input);
        }
    }
    cr_assert_eq(taken, 4); /* PUBACK of two and three bytes, DISCONNECT of none and one */
}
