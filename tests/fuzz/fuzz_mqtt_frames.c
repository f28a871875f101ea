/*
 * A server's bytes, framed and read as both versions: nothing may be read outside the input, and
 * what is taken must keep what codec/mqtt_wire.h promises of it. Each packet is read again from
 * memory of its own size, because a read beyond it would otherwise end in the next packet unseen.
 */
#include "tests/fuzz/mqtt_checks.h"

#define MAXIMUM_PACKET_SIZE 4096

static void read_packet(struct bytes packet)
{
    struct mqtt_frame frame;
    struct mqtt_fault fault;
    require(mqtt_next_frame(packet, packet.length, &frame, &fault) == STATUS_OK);
    require(frame.size == packet.length && frame.flags == 0);
    require(frame.body.data + frame.body.length == packet.data + packet.length);
    check_packet(&frame, MQTT_3_1_1);
    check_packet(&frame, MQTT_5_0);
}

/* Any part of a packet is waited for, never taken and never refused. */
static void require_again(struct bytes packet)
{
    size_t step = 1 + packet.length / 16;
    for (size_t length = 0; length < packet.length; length += step) {
        struct mqtt_frame frame;
        struct mqtt_fault fault;
        struct bytes part = {packet.data, length};
        require(mqtt_next_frame(part, packet.length, &frame, &fault) == STATUS_AGAIN);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    while (input.length > 0) {
        struct mqtt_frame frame;
        struct mqtt_fault fault = {NULL, NULL};
        enum status status = mqtt_next_frame(input, MAXIMUM_PACKET_SIZE, &frame, &fault);
        if (status != STATUS_OK) {
            require(status == STATUS_AGAIN || status == STATUS_TOO_LARGE ||
                    status == STATUS_MALFORMED);
            require(status != STATUS_MALFORMED || (fault.clause && fault.what));
            return 0;
        }
        require(frame.size <= input.length && frame.size <= MAXIMUM_PACKET_SIZE);
        uint8_t *copy = exact_copy((struct bytes){input.data, frame.size});
        struct bytes packet = {copy, frame.size};
        require_again(packet);
        read_packet(packet);
        free(copy);
        input = (struct bytes){input.data + frame.size, input.length - frame.size};
    }
    return 0;
}
