/*
 * MQTT control packets from the client's side, versions 5.0 and 3.1.1: pure functions over memory
 * that the caller lends. No I/O, no state between calls, no allocation. Any thread.
 */
#ifndef NEMOGATE_CODEC_MQTT_WIRE_H
#define NEMOGATE_CODEC_MQTT_WIRE_H

#include "codec/bytes.h"
#include "codec/status.h"

enum mqtt_version { MQTT_3_1_1 = 4, MQTT_5_0 = 5 }; /* the protocol level byte */

/* Control packet types [MQTT 5.0, 2.1.2]. */
enum mqtt_packet_type {
    MQTT_CONNECT = 1,
    MQTT_CONNACK = 2,
    MQTT_PUBLISH = 3,
    MQTT_PUBACK = 4,
    MQTT_PINGREQ = 12,
    MQTT_PINGRESP = 13,
    MQTT_DISCONNECT = 14,
};

/* Reason codes that the gateway names itself; any other value is carried as it came. */
enum mqtt_reason {
    MQTT_REASON_SUCCESS = 0x00,
    MQTT_REASON_NO_MATCHING_SUBSCRIBERS = 0x10,
    MQTT_REASON_UNSPECIFIED_ERROR = 0x80,
    MQTT_REASON_MALFORMED_PACKET = 0x81,
    MQTT_REASON_PROTOCOL_ERROR = 0x82,
    MQTT_REASON_NOT_AUTHORIZED = 0x87,
    MQTT_REASON_SERVER_SHUTTING_DOWN = 0x8b,
    MQTT_REASON_SESSION_TAKEN_OVER = 0x8e,
    MQTT_REASON_TOPIC_NAME_INVALID = 0x90,
    MQTT_REASON_PACKET_TOO_LARGE = 0x95,
    MQTT_REASON_MESSAGE_RATE_TOO_HIGH = 0x96,
    MQTT_REASON_QUOTA_EXCEEDED = 0x97,
    MQTT_REASON_ADMINISTRATIVE_ACTION = 0x98,
    MQTT_REASON_PAYLOAD_FORMAT_INVALID = 0x99,
    MQTT_REASON_USE_ANOTHER_SERVER = 0x9c,
    MQTT_REASON_SERVER_MOVED = 0x9d,
    MQTT_REASON_CONNECTION_RATE_EXCEEDED = 0x9f,
};

#define MQTT_MAX_REMAINING_LENGTH 268435455u /* [MQTT 5.0, 1.5.5] */
#define MQTT_MAX_STRING 65535u

/* ---- out ---------------------------------------------------------------------------------- */

struct mqtt_will {
    struct bytes topic; /* empty: no will */
    struct bytes payload;
    uint8_t qos;
    bool retain;
};

/* All views are borrowed for the call. */
struct mqtt_connect {
    enum mqtt_version version;
    bool clean_start;
    uint16_t keep_alive_s;
    struct bytes client_id;
    struct bytes username; /* data NULL: none */
    struct bytes password; /* data NULL: none */
    struct mqtt_will will;
    uint32_t session_expiry_s;    /* 5.0: sent when not 0 */
    uint16_t receive_maximum;     /* 5.0: sent when not 0 */
    uint32_t maximum_packet_size; /* 5.0: sent when not 0 */
};

void mqtt_put_connect(struct writer *w, const struct mqtt_connect *connect);

#define MQTT_MAX_USER_PROPERTIES 2

struct mqtt_user_property {
    struct bytes name;
    struct bytes value;
};

/* The topic is given in two parts that are written one after the other (a route's prefix and the
 * entry's topic), so that no caller has to join them first. */
struct mqtt_publish {
    enum mqtt_version version;
    uint8_t qos; /* 0 or 1 */
    bool retain;
    struct bytes topic_prefix; /* may be empty */
    struct bytes topic;
    struct bytes payload;
    /* MQTT 5.0 only, ignored for 3.1.1 */
    bool has_expiry;
    uint32_t expiry_s;
    struct bytes content_type; /* empty: none */
    size_t user_property_count;
    struct mqtt_user_property user_properties[MQTT_MAX_USER_PROPERTIES];
};

/* The exact size of the packet in bytes; 0 when it cannot be encoded (topic over 65,535 bytes,
 * a property string over 65,535 bytes, remaining length over MQTT_MAX_REMAINING_LENGTH). */
size_t mqtt_publish_size(const struct mqtt_publish *publish);

/* Writes the packet with packet identifier 0. Where the payload has a length and no data the caller
 * writes it behind, and there must be room for it. With QoS 1 *packet_id_offset is where its two
 * bytes lie, counted from the packet's first byte; with QoS 0 it is 0. */
void mqtt_put_publish(struct writer *w, const struct mqtt_publish *publish,
                      size_t *packet_id_offset);

/* Patches the packet identifier (1 to 65535) of an encoded PUBLISH. */
static inline void mqtt_set_packet_id(uint8_t *packet, size_t packet_id_offset, uint16_t packet_id)
{
    packet[packet_id_offset] = (uint8_t)(packet_id >> 8);
    packet[packet_id_offset + 1] = (uint8_t)packet_id;
}

/* Clears or sets RETAIN of an encoded PUBLISH [MQTT 5.0, 3.3.1.3]. */
static inline void mqtt_set_retain(uint8_t *packet, bool retain)
{
    packet[0] = (uint8_t)((packet[0] & ~1u) | (retain ? 1u : 0u));
}

/* The topic of an encoded PUBLISH, as a view. */
struct bytes mqtt_publish_topic(const uint8_t *packet);

/* Patches the Message Expiry Interval of an MQTT 5.0 PUBLISH that was encoded with has_expiry
 * [MQTT 5.0, 3.3.2.3.3]. */
void mqtt_set_expiry(uint8_t *packet, uint32_t seconds);

void mqtt_put_pingreq(struct writer *w);

/* 3.1.1 has no reason code: there it is left out [MQTT 3.1.1, 3.14]. */
void mqtt_put_disconnect(struct writer *w, enum mqtt_version version, uint8_t reason_code);

/* ---- in ----------------------------------------------------------------------------------- */

/* One framed packet. The body is a view into the input. */
struct mqtt_frame {
    enum mqtt_packet_type type;
    uint8_t flags; /* the low four bits of the first byte */
    struct bytes body;
    size_t size; /* of the whole packet, fixed header included */
};

/* What broke, for the log: the clause of the specification and a few words. Static strings. */
struct mqtt_fault {
    const char *clause; /* "MQTT-2.1.3-1", or "MQTT 5.0, 3.2.2.3.3" where there is no number */
    const char *what;
};

/* Frames the packet at the start of input. STATUS_OK: *frame is set. STATUS_AGAIN: input ends
 * before the packet does. STATUS_TOO_LARGE: the packet would exceed maximum (bytes; fixed header
 * included) and cannot be taken. STATUS_MALFORMED: *fault is set; the connection must be closed.
 * A packet type that a server never sends to a client that does not subscribe, and reserved flags
 * that are not as they must be, are malformed. */
MUST_CHECK enum status mqtt_next_frame(struct bytes input, size_t maximum, struct mqtt_frame *frame,
                                       struct mqtt_fault *fault);

/* CONNACK with every property that binds a publishing client. Absent properties have the default
 * that the specification gives them. Views point into the frame. */
struct mqtt_connack {
    bool session_present;
    uint8_t reason_code; /* 3.1.1: the return code */
    bool has_session_expiry;
    uint32_t session_expiry_s;
    uint16_t receive_maximum;     /* default 65535; 3.1.1: 65535 */
    uint8_t maximum_qos;          /* default 2 */
    bool retain_available;        /* default true */
    uint32_t maximum_packet_size; /* 0: no limit */
    struct bytes assigned_client_id;
    uint16_t topic_alias_maximum;
    bool has_server_keep_alive;
    uint16_t server_keep_alive_s;
    struct bytes reason_string;
    struct bytes server_reference;
};

MUST_CHECK enum status mqtt_read_connack(const struct mqtt_frame *frame, enum mqtt_version version,
                                         struct mqtt_connack *connack, struct mqtt_fault *fault);

struct mqtt_puback {
    uint16_t packet_id;
    uint8_t reason_code; /* 0x00 where the packet carries none */
    struct bytes reason_string;
};

MUST_CHECK enum status mqtt_read_puback(const struct mqtt_frame *frame, enum mqtt_version version,
                                        struct mqtt_puback *puback, struct mqtt_fault *fault);

/* A PUBACK without a reason code: 0x00 is left out [MQTT 5.0, 3.4.2.1], and 3.1.1 has none. */
#define MQTT_PLAIN_PUBACK_SIZE 4u

/* True: the input begins with such a PUBACK, which mqtt_next_frame and mqtt_read_puback would read
 * as this packet identifier. 0 is not one. */
static inline bool mqtt_is_plain_puback(struct bytes input, uint16_t *packet_id)
{
    if (input.length < MQTT_PLAIN_PUBACK_SIZE || input.data[0] != MQTT_PUBACK << 4 ||
        input.data[1] != 2)
        return false;
    *packet_id = (uint16_t)(input.data[2] << 8 | input.data[3]);
    return *packet_id != 0;
}

struct mqtt_disconnect {
    uint8_t reason_code;
    struct bytes reason_string;
    struct bytes server_reference;
};

/* Only with 5.0 may a server send DISCONNECT; in 3.1.1 it is malformed [MQTT 3.1.1, 3.14]. */
MUST_CHECK enum status mqtt_read_disconnect(const struct mqtt_frame *frame,
                                            enum mqtt_version version,
                                            struct mqtt_disconnect *disconnect,
                                            struct mqtt_fault *fault);

/* The specification's name of a reason code ("Not authorized"), for the packet it came in: CONNACK,
 * PUBACK or DISCONNECT; with 3.1.1 the name of a CONNACK return code. Never NULL. Static. */
const char *mqtt_reason_name(enum mqtt_packet_type type, enum mqtt_version version,
                             uint8_t reason_code);

/* ---- rules for topics and text ------------------------------------------------------------ */

/* A valid UTF-8 string as MQTT wants it: well-formed, no U+0000, no surrogates
 * [MQTT-1.5.4-1, MQTT-1.5.4-2]. */
bool mqtt_utf8_valid(struct bytes text);

/* NULL when the two parts, joined, are a topic name one may publish to; else a static text of what
 * is wrong, with its clause: empty, over 65,535 bytes, a wildcard, U+0000, not UTF-8
 * [MQTT-3.3.2-2, MQTT-4.7.3-1..3]. */
const char *mqtt_topic_fault(struct bytes prefix, struct bytes topic);

#endif
