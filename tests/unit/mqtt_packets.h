/*
 * What the tests of MQTT packets share: raw packets as literals, and their framing.
 */
#ifndef NEMOGATE_TESTS_UNIT_MQTT_PACKETS_H
#define NEMOGATE_TESTS_UNIT_MQTT_PACKETS_H

#include <criterion/criterion.h>

#include "codec/mqtt_wire.h"

#define RAW(...)                                                                                   \
    ((struct bytes){(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})})

#define ASSERT_TEXT(view, text)                                                                    \
    cr_assert(bytes_equal(view, bytes_of(text)), "'%.*s'", (int)(view).length,                     \
              (const char *)(view).data)

#define ASSERT_FAULT(fault, wanted_clause)                                                         \
    do {                                                                                           \
        cr_assert_str_eq((fault).clause, wanted_clause);                                           \
        cr_assert_gt(strlen((fault).what), 5);                                                     \
    } while (0)

static inline struct mqtt_frame frame_of(struct bytes packet)
{
    struct mqtt_frame frame;
    struct mqtt_fault fault = {"", ""};
    cr_assert_eq(mqtt_next_frame(packet, packet.length, &frame, &fault), STATUS_OK, "%s %s",
                 fault.clause, fault.what);
    cr_assert_eq(frame.size, packet.length);
    return frame;
}

#endif
