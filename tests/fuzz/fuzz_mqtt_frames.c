/*
 * A server's bytes, framed and read as both versions: nothing may be read outside the input, and
 * what is taken must keep what codec/mqtt_wire.h promises of it. Each packet is read again from
 * memory of its own size, because a read beyond it would otherwise end in the next packet unseen.
 */
#include <stdlib.h>

#include "codec/mqtt_wire.h"

#define MAXIMUM_PACKET_SIZE 4096

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* A refusal names its clause; an acceptance gives texts of the packet, which are UTF-8. */
static void require_fault(enum status status, const struct mqtt_fault *fault)
{
    require(status == STATUS_OK || (status == STATUS_MALFORMED && fault->clause && fault->what &&
                                    fault->clause[0] && fault->what[0]));
}

static void require_text(struct bytes text, const struct mqtt_frame *frame)
{
    if (text.length == 0)
        return;
    require(text.data >= frame->body.data &&
            text.data + text.length <= frame->body.data + frame->body.length);
    require(mqtt_utf8_valid(text) && !memchr(text.data, 0, text.length));
}

static void read_connack(const struct mqtt_frame *frame, enum mqtt_version version)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault = {NULL, NULL};
    enum status status = mqtt_read_connack(frame, version, &connack, &fault);
    require_fault(status, &fault);
    if (status != STATUS_OK)
        return;
    require(connack.receive_maximum > 0 && connack.maximum_qos <= 2);
    require(!connack.session_present || connack.reason_code == 0);
    require(connack.has_session_expiry || connack.session_expiry_s == 0);
    require(connack.has_server_keep_alive || connack.server_keep_alive_s == 0);
    require_text(connack.assigned_client_id, frame);
    require_text(connack.reason_string, frame);
    require_text(connack.server_reference, frame);
    require(mqtt_reason_name(frame->type, version, connack.reason_code) != NULL);
}

static void read_puback(const struct mqtt_frame *frame, enum mqtt_version version)
{
    struct mqtt_puback puback;
    struct mqtt_fault fault = {NULL, NULL};
    enum status status = mqtt_read_puback(frame, version, &puback, &fault);
    require_fault(status, &fault);
    if (status != STATUS_OK)
        return;
    require(puback.packet_id > 0);
    require(version == MQTT_5_0 || puback.reason_code == 0);
    require_text(puback.reason_string, frame);
    require(mqtt_reason_name(frame->type, version, puback.reason_code) != NULL);
}

static void read_disconnect(const struct mqtt_frame *frame, enum mqtt_version version)
{
    struct mqtt_disconnect disconnect;
    struct mqtt_fault fault = {NULL, NULL};
    enum status status = mqtt_read_disconnect(frame, version, &disconnect, &fault);
    require_fault(status, &fault);
    require(version == MQTT_5_0 || status == STATUS_MALFORMED);
    if (status != STATUS_OK)
        return;
    require_text(disconnect.reason_string, frame);
    require_text(disconnect.server_reference, frame);
    require(mqtt_reason_name(frame->type, version, disconnect.reason_code) != NULL);
}

static void read_packet(struct bytes packet)
{
    struct mqtt_frame frame;
    struct mqtt_fault fault;
    require(mqtt_next_frame(packet, packet.length, &frame, &fault) == STATUS_OK);
    require(frame.size == packet.length && frame.flags == 0);
    require(frame.body.data + frame.body.length == packet.data + packet.length);
    static const enum mqtt_version versions[] = {MQTT_3_1_1, MQTT_5_0};
    for (size_t v = 0; v < 2; v++) {
        if (frame.type == MQTT_CONNACK)
            read_connack(&frame, versions[v]);
        else if (frame.type == MQTT_PUBACK)
            read_puback(&frame, versions[v]);
        else if (frame.type == MQTT_DISCONNECT)
            read_disconnect(&frame, versions[v]);
        else
            require(frame.type == MQTT_PINGRESP && frame.body.length == 0);
    }
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
        uint8_t *copy = malloc(frame.size);
        require(copy != NULL);
        memcpy(copy, input.data, frame.size);
        struct bytes packet = {copy, frame.size};
        require_again(packet);
        read_packet(packet);
        free(copy);
        input = (struct bytes){input.data + frame.size, input.length - frame.size};
    }
    return 0;
}
