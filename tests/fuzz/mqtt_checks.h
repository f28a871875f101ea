/*
 * Reads the body of a CONNACK, PUBACK or DISCONNECT, and demands of the outcome what
 * codec/mqtt_wire.h promises: for the two targets that come by it, through framing and directly.
 */
#ifndef NEMOGATE_TESTS_FUZZ_MQTT_CHECKS_H
#define NEMOGATE_TESTS_FUZZ_MQTT_CHECKS_H

#include "codec/mqtt_wire.h"
#include "tests/fuzz/fuzz_input.h"

/* A refusal names its clause; an acceptance gives texts of the packet, which are UTF-8. */
static inline void require_fault(enum status status, const struct mqtt_fault *fault)
{
    require(status == STATUS_OK || (status == STATUS_MALFORMED && fault->clause && fault->what &&
                                    fault->clause[0] && fault->what[0]));
}

static inline void require_text(struct bytes text, const struct mqtt_frame *frame)
{
    if (text.length == 0)
        return;
    require(text.data >= frame->body.data &&
            text.data + text.length <= frame->body.data + frame->body.length);
    require(mqtt_utf8_valid(text) && !memchr(text.data, 0, text.length));
}

static inline void check_connack(const struct mqtt_frame *frame, enum mqtt_version version)
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

static inline void check_puback(const struct mqtt_frame *frame, enum mqtt_version version)
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

static inline void check_disconnect(const struct mqtt_frame *frame, enum mqtt_version version)
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

static inline void check_packet(const struct mqtt_frame *frame, enum mqtt_version version)
{
    if (frame->type == MQTT_CONNACK)
        check_connack(frame, version);
    else if (frame->type == MQTT_PUBACK)
        check_puback(frame, version);
    else if (frame->type == MQTT_DISCONNECT)
        check_disconnect(frame, version);
    else
        require(frame->type == MQTT_PINGRESP && frame->body.length == 0);
}

#endif
