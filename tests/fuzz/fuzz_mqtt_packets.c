/*
 * The bodies of CONNACK, PUBACK and DISCONNECT, each reached directly for both versions. Input: a
 * byte that chooses (bits 0 and 1: the packet, 2: the version, 3: whether what follows the fixed
 * fields is given its right Property Length, so that every change reaches the properties), then
 * the body.
 */
#include "tests/fuzz/mqtt_checks.h"

static const struct {
    enum mqtt_packet_type type;
    size_t fixed; /* bytes before the Property Length */
} packets[4] = {{MQTT_CONNACK, 2}, {MQTT_PUBACK, 3}, {MQTT_DISCONNECT, 1}, {MQTT_CONNACK, 2}};

static size_t put_variable(uint8_t *at, size_t value)
{
    size_t length = 0;
    do {
        at[length] = (uint8_t)(value % 128 + (value >= 128 ? 128 : 0));
        length++;
        value /= 128;
    } while (value > 0);
    return length;
}

/* The fixed fields, the Property Length of the rest, the rest. Owned by the caller. */
static uint8_t *with_property_length(struct bytes body, size_t fixed, size_t *length)
{
    struct bytes first = take_bytes(&body, fixed);
    uint8_t digits[5];
    size_t digit_count = put_variable(digits, body.length);
    *length = first.length + digit_count + body.length;
    uint8_t *memory = malloc(*length);
    require(memory != NULL);
    memcpy(memory, first.data, first.length);
    memcpy(memory + first.length, digits, digit_count);
    memcpy(memory + first.length + digit_count, body.data, body.length);
    return memory;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    uint8_t choice = take_u8(&input);
    enum mqtt_packet_type type = packets[choice & 3].type;
    size_t length = input.length;
    uint8_t *body = (choice & 8) != 0
                        ? with_property_length(input, packets[choice & 3].fixed, &length)
                        : exact_copy(input);
    struct mqtt_frame frame = {.type = type, .body = {body, length}, .size = length + 2};
    check_packet(&frame, (choice & 4) != 0 ? MQTT_3_1_1 : MQTT_5_0);
    free(body);
    return 0;
}
