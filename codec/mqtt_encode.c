/*
 * MQTT packets to bytes: CONNECT, PUBLISH, PINGREQ, DISCONNECT, versions 5.0 and 3.1.1.
 * A packet is measured before it is written, so that its Remaining Length can come first. Topics
 * and texts are not judged here (mqtt_rules.c does that); only what has no encoding is refused.
 */
#include "codec/mqtt_wire.h"

#include <assert.h>

/* Property identifiers [MQTT 5.0, 2.2.2.2]. */
enum {
    PROPERTY_MESSAGE_EXPIRY = 0x02,
    PROPERTY_CONTENT_TYPE = 0x03,
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_RECEIVE_MAXIMUM = 0x21,
    PROPERTY_USER = 0x26,
    PROPERTY_MAXIMUM_PACKET_SIZE = 0x27,
};

/* Bytes: the length before a string, a packet identifier, and whole numeric properties. */
enum { LENGTH_OF_STRING = 2, LENGTH_OF_PACKET_ID = 2, LENGTH_OF_U16 = 3, LENGTH_OF_U32 = 5 };

static inline uint8_t first_byte(enum mqtt_packet_type type, unsigned flags)
{
    return (uint8_t)((unsigned)type << 4 | flags);
}

/* ---- straight writes: the caller has made sure of the room --------------------------------- */

static inline size_t variable_size(size_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

static inline uint8_t *write_variable(uint8_t *at, size_t value)
{
    while (value >= 128) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static inline uint8_t *write_u16(uint8_t *at, size_t value)
{
    *at++ = (uint8_t)(value >> 8);
    *at++ = (uint8_t)value;
    return at;
}

static inline uint8_t *write_u32(uint8_t *at, uint32_t value)
{
    return write_u16(write_u16(at, value >> 16), value);
}

static inline uint8_t *write_bytes(uint8_t *at, struct bytes value)
{
    if (value.length > 0)
        memcpy(at, value.data, value.length);
    return at + value.length;
}

static inline uint8_t *write_string(uint8_t *at, struct bytes value)
{
    return write_bytes(write_u16(at, value.length), value);
}

/* ---- CONNECT ------------------------------------------------------------------------------ */

enum {
    CONNECT_CLEAN_START = 0x02,
    CONNECT_WILL = 0x04,
    CONNECT_WILL_QOS_SHIFT = 3,
    CONNECT_WILL_RETAIN = 0x20,
    CONNECT_PASSWORD = 0x40,
    CONNECT_USERNAME = 0x80,
};

static bool has_will(const struct mqtt_connect *connect)
{
    return connect->will.topic.length > 0;
}

static unsigned connect_flags(const struct mqtt_connect *connect)
{
    unsigned flags = 0;
    if (connect->clean_start)
        flags |= CONNECT_CLEAN_START;
    if (has_will(connect)) {
        flags |= CONNECT_WILL | (unsigned)connect->will.qos << CONNECT_WILL_QOS_SHIFT;
        if (connect->will.retain)
            flags |= CONNECT_WILL_RETAIN;
    }
    if (connect->username.data)
        flags |= CONNECT_USERNAME;
    if (connect->password.data)
        flags |= CONNECT_PASSWORD;
    return flags;
}

static size_t connect_properties_size(const struct mqtt_connect *connect)
{
    size_t size = 0;
    if (connect->session_expiry_s)
        size += LENGTH_OF_U32;
    if (connect->receive_maximum)
        size += LENGTH_OF_U16;
    if (connect->maximum_packet_size)
        size += LENGTH_OF_U32;
    return size;
}

static size_t connect_remaining_length(const struct mqtt_connect *connect)
{
    size_t size = 10; /* protocol name, level, flags, keep alive */
    size += LENGTH_OF_STRING + connect->client_id.length;
    if (has_will(connect))
        size += 2 * LENGTH_OF_STRING + connect->will.topic.length + connect->will.payload.length;
    if (connect->username.data)
        size += LENGTH_OF_STRING + connect->username.length;
    if (connect->password.data)
        size += LENGTH_OF_STRING + connect->password.length;
    if (connect->version == MQTT_5_0) /* two lengths of properties, each of one byte */
        size += 1 + connect_properties_size(connect) + (has_will(connect) ? 1u : 0u);
    return size;
}

static bool connect_encodable(const struct mqtt_connect *connect)
{
    if (connect->client_id.length > MQTT_MAX_STRING || connect->username.length > MQTT_MAX_STRING ||
        connect->password.length > MQTT_MAX_STRING)
        return false;
    if (connect->will.topic.length > MQTT_MAX_STRING ||
        connect->will.payload.length > MQTT_MAX_STRING || connect->will.qos > 2)
        return false;
    /* Only 5.0 knows a password without a user name [MQTT 3.1.1: MQTT-3.1.2-22]. */
    return connect->version == MQTT_5_0 || !connect->password.data || connect->username.data;
}

static void put_string(struct writer *w, struct bytes value)
{
    writer_put_u16(w, (uint16_t)value.length);
    writer_put_bytes(w, value);
}

static void put_connect_properties(struct writer *w, const struct mqtt_connect *connect)
{
    writer_put_u8(w, (uint8_t)connect_properties_size(connect));
    if (connect->session_expiry_s) {
        writer_put_u8(w, PROPERTY_SESSION_EXPIRY);
        writer_put_u32(w, connect->session_expiry_s);
    }
    if (connect->receive_maximum) {
        writer_put_u8(w, PROPERTY_RECEIVE_MAXIMUM);
        writer_put_u16(w, connect->receive_maximum);
    }
    if (connect->maximum_packet_size) {
        writer_put_u8(w, PROPERTY_MAXIMUM_PACKET_SIZE);
        writer_put_u32(w, connect->maximum_packet_size);
    }
}

void mqtt_put_connect(struct writer *w, const struct mqtt_connect *connect)
{
    if (!connect_encodable(connect)) {
        w->failed = true;
        return;
    }
    uint8_t header[5];
    header[0] = first_byte(MQTT_CONNECT, 0);
    uint8_t *header_end = write_variable(header + 1, connect_remaining_length(connect));
    writer_put_bytes(w, (struct bytes){header, (size_t)(header_end - header)});
    put_string(w, bytes_of("MQTT"));
    writer_put_u8(w, (uint8_t)connect->version);
    writer_put_u8(w, (uint8_t)connect_flags(connect));
    writer_put_u16(w, connect->keep_alive_s);
    if (connect->version == MQTT_5_0)
        put_connect_properties(w, connect);

    /* The payload's order is fixed [MQTT-3.1.3-1]. */
    put_string(w, connect->client_id);
    if (has_will(connect)) {
        if (connect->version == MQTT_5_0)
            writer_put_u8(w, 0); /* no will properties [MQTT 5.0, 3.1.3.2.1] */
        put_string(w, connect->will.topic);
        put_string(w, connect->will.payload);
    }
    if (connect->username.data)
        put_string(w, connect->username);
    if (connect->password.data)
        put_string(w, connect->password);
}

/* ---- PUBLISH: the hot path ---------------------------------------------------------------- */

struct publish_lengths {
    size_t properties; /* the Property Length; 5.0 only */
    size_t remaining;  /* the Remaining Length */
};

/* MQTT_MAX_STRING has all of its bits set: what has none beyond them is not longer. */
static bool measure_properties(const struct mqtt_publish *publish, size_t *length)
{
    if (publish->user_property_count > MQTT_MAX_USER_PROPERTIES)
        return false;
    size_t any = publish->content_type.length;
    size_t sum = publish->has_expiry ? LENGTH_OF_U32 : 0;
    if (publish->content_type.length > 0)
        sum += 1 + LENGTH_OF_STRING + publish->content_type.length;
    for (size_t i = 0; i < publish->user_property_count; i++) {
        const struct mqtt_user_property *user = &publish->user_properties[i];
        any |= user->name.length | user->value.length;
        sum += 1 + 2 * LENGTH_OF_STRING + user->name.length + user->value.length;
    }
    *length = sum;
    return any <= MQTT_MAX_STRING;
}

/* False when the packet has no encoding. Each length is bounded before it is added to others, so
 * that no sum can wrap. */
static bool measure_publish(const struct mqtt_publish *publish, struct publish_lengths *lengths)
{
    if (publish->topic_prefix.length > MQTT_MAX_STRING ||
        publish->topic.length > MQTT_MAX_STRING - publish->topic_prefix.length ||
        publish->payload.length > MQTT_MAX_REMAINING_LENGTH || publish->qos > 1)
        return false;
    size_t remaining = LENGTH_OF_STRING + publish->topic_prefix.length + publish->topic.length +
                       publish->payload.length;
    if (publish->qos > 0)
        remaining += LENGTH_OF_PACKET_ID;
    lengths->properties = 0;
    if (publish->version == MQTT_5_0) {
        if (!measure_properties(publish, &lengths->properties))
            return false;
        remaining += variable_size(lengths->properties) + lengths->properties;
    }
    lengths->remaining = remaining;
    return remaining <= MQTT_MAX_REMAINING_LENGTH;
}

static size_t packet_size(size_t remaining_length)
{
    return 1 + variable_size(remaining_length) + remaining_length;
}

size_t mqtt_publish_size(const struct mqtt_publish *publish)
{
    struct publish_lengths lengths;
    return measure_publish(publish, &lengths) ? packet_size(lengths.remaining) : 0;
}

static uint8_t *write_publish_properties(uint8_t *at, const struct mqtt_publish *publish,
                                         size_t length)
{
    at = write_variable(at, length);
    if (publish->has_expiry) { /* the first property: mqtt_set_expiry looks for it there */
        *at++ = PROPERTY_MESSAGE_EXPIRY;
        at = write_u32(at, publish->expiry_s);
    }
    if (publish->content_type.length > 0) {
        *at++ = PROPERTY_CONTENT_TYPE;
        at = write_string(at, publish->content_type);
    }
    for (size_t i = 0; i < publish->user_property_count; i++) {
        *at++ = PROPERTY_USER;
        at = write_string(at, publish->user_properties[i].name);
        at = write_string(at, publish->user_properties[i].value);
    }
    return at;
}

void mqtt_put_publish(struct writer *w, const struct mqtt_publish *publish,
                      size_t *packet_id_offset)
{
    *packet_id_offset = 0;
    struct publish_lengths lengths;
    if (!measure_publish(publish, &lengths)) {
        w->failed = true;
        return;
    }
    if (!writer_has(w, packet_size(lengths.remaining)))
        return;
    /* DUP stays 0: sessions are not kept, so what is sent again after a lost connection is the
     * first delivery of its session [MQTT-3.3.1-1]. */
    uint8_t *at = w->at;
    *at++ = first_byte(MQTT_PUBLISH, (unsigned)publish->qos << 1 | (publish->retain ? 1u : 0u));
    at = write_variable(at, lengths.remaining);
    at = write_u16(at, publish->topic_prefix.length + publish->topic.length);
    at = write_bytes(at, publish->topic_prefix);
    at = write_bytes(at, publish->topic);
    if (publish->qos > 0) {
        *packet_id_offset = (size_t)(at - w->at);
        at = write_u16(at, 0);
    }
    if (publish->version == MQTT_5_0)
        at = write_publish_properties(at, publish, lengths.properties);
    w->at = publish->payload.data != NULL ? write_bytes(at, publish->payload) : at;
}

static uint8_t *skip_variable(uint8_t *at)
{
    while (*at >= 128)
        at++;
    return at + 1;
}

struct bytes mqtt_publish_topic(const uint8_t *packet)
{
    const uint8_t *at = packet + 1;
    while (*at++ & 0x80) /* the Remaining Length */
        continue;
    return (struct bytes){at + LENGTH_OF_STRING, (size_t)at[0] << 8 | at[1]};
}

void mqtt_set_expiry(uint8_t *packet, uint32_t seconds)
{
    unsigned qos = packet[0] >> 1 & 3u;
    uint8_t *at = skip_variable(packet + 1); /* the Remaining Length */
    size_t topic_length = (size_t)at[0] << 8 | at[1];
    at += LENGTH_OF_STRING + topic_length;
    if (qos > 0)
        at += LENGTH_OF_PACKET_ID;
    at = skip_variable(at); /* the Property Length */
    assert(*at == PROPERTY_MESSAGE_EXPIRY);
    write_u32(at + 1, seconds);
}

/* ---- PINGREQ, DISCONNECT ------------------------------------------------------------------ */

void mqtt_put_pingreq(struct writer *w)
{
    writer_put_u16(w, (uint16_t)(first_byte(MQTT_PINGREQ, 0) << 8));
}

void mqtt_put_disconnect(struct writer *w, enum mqtt_version version, uint8_t reason_code)
{
    /* Without a reason code it means 0x00, normal disconnection [MQTT 5.0, 3.14.2.1]. */
    bool with_reason = version == MQTT_5_0 && reason_code != MQTT_REASON_SUCCESS;
    const uint8_t packet[3] = {first_byte(MQTT_DISCONNECT, 0), with_reason ? 1 : 0, reason_code};
    writer_put_bytes(w, (struct bytes){packet, with_reason ? 3 : 2});
}
