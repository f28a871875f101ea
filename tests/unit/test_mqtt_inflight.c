/* The in-flight window: identifiers, order of settling, and what happens at the wraps. */
#include "transport/mqtt_inflight.h"

#include <criterion/criterion.h>

/* Acknowledges and takes everything that can settle; returns how many. */
static size_t settle_all(struct mqtt_inflight *inflight, uint64_t written, uint64_t *last)
{
    size_t count = 0;
    uint8_t code;
    while (mqtt_inflight_settle(inflight, written, last, &code))
        count++;
    return count;
}

Test(mqtt_inflight, identifiers_begin_at_one_and_follow_the_order)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(10);
    for (uint16_t i = 1; i <= 10; i++)
        cr_assert_eq(mqtt_inflight_add(inflight, 100u + i, 5), i);
    cr_assert_eq(mqtt_inflight_room(inflight), 0);
    cr_assert_eq(mqtt_inflight_unacknowledged(inflight), 10);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, settles_in_the_order_of_publishing)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(3);
    for (uint64_t token = 1; token <= 3; token++)
        mqtt_inflight_add(inflight, token, 5);
    uint64_t token = 0;
    uint8_t code;
    cr_assert(mqtt_inflight_acknowledge(inflight, 3, 0));
    cr_assert_not(mqtt_inflight_settle(inflight, 0, &token, &code));
    cr_assert(mqtt_inflight_acknowledge(inflight, 1, 0));
    cr_assert(mqtt_inflight_settle(inflight, 0, &token, &code));
    cr_assert_eq(token, 1);
    cr_assert_not(mqtt_inflight_settle(inflight, 0, &token, &code));
    cr_assert(mqtt_inflight_acknowledge(inflight, 2, 0));
    cr_assert_eq(settle_all(inflight, 0, &token), 2);
    cr_assert_eq(token, 3);
    cr_assert_eq(mqtt_inflight_unsettled(inflight), 0);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, an_acknowledgement_is_taken_once_and_only_for_what_is_in_flight)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(5);
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 1, 0), "nothing is in flight");
    mqtt_inflight_add(inflight, 1, 5);
    mqtt_inflight_add(inflight, 2, 5);
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 0, 0));
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 3, 0));
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 65535, 0));
    cr_assert(mqtt_inflight_acknowledge(inflight, 2, 0));
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 2, 0), "twice");
    cr_assert(mqtt_inflight_acknowledge(inflight, 1, 0));
    uint64_t token;
    cr_assert_eq(settle_all(inflight, 0, &token), 2);
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 1, 0), "settled already");
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, each_reason_code_comes_with_its_publish)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(5);
    mqtt_inflight_add(inflight, 71, 5);
    mqtt_inflight_add(inflight, 72, 5);
    mqtt_inflight_add_qos0(inflight, 73, 10);
    cr_assert(mqtt_inflight_acknowledge(inflight, 2, 0x97));
    cr_assert(mqtt_inflight_acknowledge(inflight, 1, 0x10));
    const uint8_t expected[] = {0x10, 0x97, 0x00};
    for (size_t i = 0; i < 3; i++) {
        uint64_t token = 0;
        uint8_t code = 0xff;
        cr_assert(mqtt_inflight_settle(inflight, 10, &token, &code));
        cr_assert_eq(token, 71 + i);
        cr_assert_eq(code, expected[i]);
    }
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, qos0_settles_when_written_and_in_its_turn)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(4);
    mqtt_inflight_add_qos0(inflight, 1, 100);
    cr_assert_eq(mqtt_inflight_add(inflight, 2, 5), 2, "a QoS 0 publish takes an identifier too");
    mqtt_inflight_add_qos0(inflight, 3, 300);
    cr_assert_eq(mqtt_inflight_unacknowledged(inflight), 1);
    cr_assert_eq(mqtt_inflight_unsettled(inflight), 3);
    uint64_t token = 0;
    uint8_t code;
    cr_assert_not(mqtt_inflight_settle(inflight, 99, &token, &code));
    cr_assert(mqtt_inflight_settle(inflight, 100, &token, &code));
    cr_assert_eq(token, 1);
    cr_assert_not(mqtt_inflight_settle(inflight, 300, &token, &code), "2 has no PUBACK yet");
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 3, 0), "QoS 0 awaits no PUBACK");
    cr_assert(mqtt_inflight_acknowledge(inflight, 2, 0));
    cr_assert_eq(settle_all(inflight, 299, &token), 1);
    cr_assert_eq(settle_all(inflight, 300, &token), 1);
    cr_assert_eq(token, 3);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, qos0_does_not_use_up_the_window)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(2);
    for (uint64_t i = 0; i < 500; i++)
        mqtt_inflight_add_qos0(inflight, i, i);
    cr_assert_eq(mqtt_inflight_room(inflight), 2);
    mqtt_inflight_add(inflight, 500, 5);
    mqtt_inflight_add(inflight, 501, 5);
    cr_assert_eq(mqtt_inflight_room(inflight), 0);
    uint64_t token;
    cr_assert_eq(settle_all(inflight, 499, &token), 500);
    cr_assert_eq(mqtt_inflight_room(inflight), 0);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, a_place_without_bytes_settles_in_its_turn)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(2);
    uint64_t token = 0;
    uint8_t code;
    mqtt_inflight_add(inflight, 1, 5);
    mqtt_inflight_add_qos0(inflight, 2, 0);
    cr_assert_not(mqtt_inflight_settle(inflight, 100, &token, &code));
    cr_assert(mqtt_inflight_acknowledge(inflight, 1, 0));
    cr_assert_eq(settle_all(inflight, 0, &token), 2);
    cr_assert_eq(token, 2);
    cr_assert_not(mqtt_inflight_has_settled_qos0(inflight), "nothing of QoS 0 was sent");
    mqtt_inflight_add_qos0(inflight, 3, 100);
    cr_assert_not(mqtt_inflight_has_settled_qos0(inflight));
    cr_assert_eq(settle_all(inflight, 100, &token), 1);
    cr_assert(mqtt_inflight_has_settled_qos0(inflight));
    mqtt_inflight_reset(inflight, 2);
    cr_assert_not(mqtt_inflight_has_settled_qos0(inflight));
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, qos0_is_bounded_too)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(1);
    size_t added = 0;
    while (mqtt_inflight_room(inflight) > 0 && added < 100000)
        mqtt_inflight_add_qos0(inflight, added++, 1);
    cr_assert_lt(added, 100000);
    uint64_t token = 0;
    cr_assert_eq(settle_all(inflight, 1, &token), added);
    cr_assert_eq(token, added - 1);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, oldest_is_the_oldest_unacknowledged)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(5);
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 0);
    mqtt_inflight_add_qos0(inflight, 0, 1000000);
    for (uint64_t i = 1; i <= 4; i++)
        mqtt_inflight_add(inflight, i, 10 * i); /* identifiers 2 to 5 */
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 10);
    cr_assert(mqtt_inflight_acknowledge(inflight, 3, 0));
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 10);
    cr_assert(mqtt_inflight_acknowledge(inflight, 2, 0));
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 30, "over the acknowledged one behind it");
    cr_assert(mqtt_inflight_acknowledge(inflight, 4, 0));
    cr_assert(mqtt_inflight_acknowledge(inflight, 5, 0));
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 0);
    mqtt_inflight_add(inflight, 5, 77);
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 77, "while nothing has settled");
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, identifiers_wrap_over_65535_to_1)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(100);
    uint64_t token = 0;
    uint8_t code;
    uint64_t next = 0;
    for (uint32_t i = 0; i < 200000; i++) {
        uint16_t id = mqtt_inflight_add(inflight, i, 5);
        cr_assert_eq(id, i % 65535 + 1);
        if (mqtt_inflight_room(inflight) > 0)
            continue;
        /* newest first within the window */
        for (uint32_t k = 0; k < 100; k++)
            cr_assert(mqtt_inflight_acknowledge(inflight, (uint16_t)((i - k) % 65535 + 1), 0));
        while (mqtt_inflight_settle(inflight, 0, &token, &code))
            cr_assert_eq(token, next++);
    }
    cr_assert_eq(next, 200000);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, the_largest_window_uses_every_identifier_once)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(65535);
    bool *used = calloc(65536, 1);
    /* an odd start, so that both the ring and the identifiers wrap inside the window */
    uint64_t token = 0;
    uint8_t code;
    for (uint32_t i = 0; i < 40000; i++) {
        cr_assert(mqtt_inflight_acknowledge(inflight, mqtt_inflight_add(inflight, i, 5), 0));
        cr_assert(mqtt_inflight_settle(inflight, 0, &token, &code));
    }
    uint32_t count = 0;
    while (mqtt_inflight_room(inflight) > 0) {
        uint16_t id = mqtt_inflight_add(inflight, count++, 5);
        cr_assert(id != 0 && !used[id]);
        used[id] = true;
    }
    cr_assert_eq(count, 65535);
    for (uint32_t id = 65535; id > 0; id--)
        cr_assert(mqtt_inflight_acknowledge(inflight, (uint16_t)id, 0));
    cr_assert_eq(settle_all(inflight, 0, &token), 65535);
    cr_assert_eq(token, 65534);
    free(used);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, a_gap_keeps_the_room_of_the_ring)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(65535);
    uint64_t added = 0;
    mqtt_inflight_add(inflight, added++, 5); /* identifier 1 is never acknowledged */
    while (mqtt_inflight_room(inflight) > 0)
        cr_assert(mqtt_inflight_acknowledge(inflight, mqtt_inflight_add(inflight, added++, 5), 0));
    cr_assert_eq(added, 65535, "one more would share the identifier 1");
    cr_assert_eq(mqtt_inflight_unacknowledged(inflight), 1);
    mqtt_inflight_free(inflight);
}

Test(mqtt_inflight, reset_forgets_everything)
{
    struct mqtt_inflight *inflight = mqtt_inflight_new(50);
    for (uint64_t i = 0; i < 30; i++)
        mqtt_inflight_add(inflight, i, 5);
    mqtt_inflight_reset(inflight, 7);
    cr_assert_eq(mqtt_inflight_unsettled(inflight), 0);
    cr_assert_eq(mqtt_inflight_unacknowledged(inflight), 0);
    cr_assert_eq(mqtt_inflight_room(inflight), 7);
    cr_assert_eq(mqtt_inflight_oldest_ms(inflight), 0);
    cr_assert_not(mqtt_inflight_acknowledge(inflight, 1, 0));
    cr_assert_eq(mqtt_inflight_add(inflight, 1, 5), 1);
    mqtt_inflight_free(inflight);
}
