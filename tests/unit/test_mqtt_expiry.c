/* The Message Expiry Interval of an encoded PUBLISH is found wherever its lengths put it. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "codec/mqtt_wire.h"

static uint8_t letters[MQTT_MAX_STRING];

static struct bytes letters_of(size_t length)
{
    return (struct bytes){letters, length};
}

static uint8_t *encode(struct mqtt_publish *publish, uint32_t expiry_s, size_t *size)
{
    publish->expiry_s = expiry_s;
    *size = mqtt_publish_size(publish);
    uint8_t *memory = malloc(*size);
    struct writer w = writer_over(memory, *size);
    size_t packet_id_offset;
    mqtt_put_publish(&w, publish, &packet_id_offset);
    cr_assert(writer_ok(&w));
    return memory;
}

/* Patched it is byte for byte what encoding it with that interval gives. */
static void check(struct mqtt_publish *publish)
{
    static const uint32_t intervals[] = {0, 1, 0x01020304, 0xfffefdfc};
    size_t size;
    uint8_t *patched = encode(publish, 0x55aa55aa, &size);
    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        uint8_t *expected = encode(publish, intervals[i], &size);
        mqtt_set_expiry(patched, intervals[i]);
        cr_assert_eq(memcmp(patched, expected, size), 0, "topic %zu, content type %zu, QoS %d",
                     publish->topic.length, publish->content_type.length, publish->qos);
        free(expected);
    }
    free(patched);
}

Test(mqtt_expiry, is_patched_over_a_grid_of_sizes)
{
    /* Property Length 127 and 128: a content type of 119 and 120; 16,383 and 16,384: of 16,375 and
     * 16,376. The topics and payloads take the Remaining Length over each of its steps. */
    static const size_t topics[] = {1, 2, 0x80, 0x8000, 0x8080, 255, 256, 16384, MQTT_MAX_STRING};
    static const size_t types[] = {0, 1, 119, 120, 128, 16375, 16376, MQTT_MAX_STRING};
    static const size_t payloads[] = {0, 100, 65000};
    memset(letters, 0xff, sizeof letters); /* looks like a length that goes on */
    for (uint8_t qos = 0; qos < 2; qos++) {
        for (size_t t = 0; t < sizeof topics / sizeof *topics; t++) {
            for (size_t c = 0; c < sizeof types / sizeof *types; c++) {
                for (size_t p = 0; p < sizeof payloads / sizeof *payloads; p++) {
                    struct mqtt_publish publish = {.version = MQTT_5_0,
                                                   .qos = qos,
                                                   .retain = p == 1,
                                                   .topic_prefix = letters_of(t % 2),
                                                   .topic = letters_of(topics[t] - t % 2),
                                                   .payload = letters_of(payloads[p]),
                                                   .has_expiry = true,
                                                   .content_type = letters_of(types[c]),
                                                   .user_property_count = c % 3};
                    check(&publish);
                }
            }
        }
    }
}

Test(mqtt_expiry, is_patched_in_the_largest_packet)
{
    size_t length = MQTT_MAX_REMAINING_LENGTH - (2 + 1 + 2 + 1 + 5);
    uint8_t *payload = calloc(1, length);
    struct mqtt_publish publish = {.version = MQTT_5_0,
                                   .qos = 1,
                                   .topic = bytes_of("t"),
                                   .payload = {payload, length},
                                   .has_expiry = true};
    size_t size;
    uint8_t *packet = encode(&publish, 7, &size);
    mqtt_set_expiry(packet, 0x01020304);
    const uint8_t head[] = {0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, 't', 0, 0, 5, 2, 1, 2, 3, 4, 0};
    cr_assert_arr_eq(packet, head, sizeof head);
    free(packet);
    free(payload);
}
