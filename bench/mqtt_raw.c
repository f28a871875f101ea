/*
 * MQTT by hand for the benchmark; see mqtt_raw.h. It checks what a measurement needs to be honest
 * (refusals, malformed frames), not all that the specification asks of a client.
 */
#include "bench/mqtt_raw.h"

#include "bench/common.h"

#include <string.h>

#define ANSWER_TIMEOUT_MS 5000
#define RECEIVE_MAXIMUM_DEFAULT 65535u /* [MQTT 5.0, 3.2.2.3.3] */

size_t raw_frame_size(const uint8_t *at, size_t length, size_t *header)
{
    size_t remaining = 0;
    for (size_t i = 1; i <= 4; i++) {
        if (i >= length)
            return 0;
        remaining |= (size_t)(at[i] & 0x7fu) << (7 * (i - 1));
        if ((at[i] & 0x80u) == 0) {
            *header = i + 1;
            return *header + remaining;
        }
    }
    return SIZE_MAX;
}

size_t raw_frame(const uint8_t *at, size_t length, size_t *header)
{
    size_t size = raw_frame_size(at, length, header);
    return size == SIZE_MAX || size <= length ? size : 0;
}

static void put_variable(struct writer *w, size_t value)
{
    do {
        uint8_t digit = (uint8_t)(value & 0x7fu);
        value >>= 7;
        writer_put_u8(w, value > 0 ? digit | 0x80u : digit);
    } while (value > 0);
}

static size_t variable_size(size_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

static void put_text(struct writer *w, const char *text)
{
    struct bytes view = bytes_of(text);
    writer_put_u16(w, (uint16_t)view.length);
    writer_put_bytes(w, view);
}

static void put_user_property(struct writer *w, const char *name, const char *value)
{
    writer_put_u8(w, 0x26); /* [MQTT 5.0, 3.3.2.3.7] */
    put_text(w, name);
    put_text(w, value);
}

void raw_put_publish(struct writer *w, const struct raw_publish *publish)
{
    size_t properties = 0;
    if (publish->version == RAW_MQTT_5 && publish->id != NULL)
        properties = 5 + strlen("id") + strlen(publish->id) + 5 + strlen("stream-id") +
                     strlen(publish->stream_id);
    size_t remaining = 2 + strlen(publish->topic) + publish->payload.length;
    if (publish->qos > 0)
        remaining += 2;
    if (publish->version == RAW_MQTT_5)
        remaining += variable_size(properties) + properties;
    writer_put_u8(w, (uint8_t)(RAW_PUBLISH << 4 | publish->qos << 1 | (publish->retain ? 1u : 0u)));
    put_variable(w, remaining);
    put_text(w, publish->topic);
    if (publish->qos > 0)
        writer_put_u16(w, publish->packet_id);
    if (publish->version == RAW_MQTT_5) {
        put_variable(w, properties);
        if (properties > 0) {
            put_user_property(w, "id", publish->id);
            put_user_property(w, "stream-id", publish->stream_id);
        }
    }
    writer_put_bytes(w, publish->payload);
}

void raw_put_puback(struct writer *w, uint16_t packet_id)
{
    writer_put_u8(w, RAW_PUBACK << 4);
    writer_put_u8(w, 2);
    writer_put_u16(w, packet_id);
}

static size_t get_variable(struct reader *r)
{
    size_t value = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t digit = reader_get_u8(r);
        value |= (size_t)(digit & 0x7fu) << shift;
        if ((digit & 0x80u) == 0)
            return value;
    }
    r->failed = true;
    return 0;
}

bool raw_read_publish(const uint8_t *packet, size_t header, size_t size, unsigned version,
                      struct raw_message *message)
{
    struct reader r = reader_over((struct bytes){packet + header, size - header});
    message->qos = packet[0] >> 1 & 3u;
    reader_get_bytes(&r, reader_get_u16(&r));
    message->packet_id = message->qos > 0 ? reader_get_u16(&r) : 0;
    if (version == RAW_MQTT_5)
        reader_get_bytes(&r, get_variable(&r));
    message->payload = reader_get_bytes(&r, reader_left(&r));
    return reader_ok(&r) && message->qos < 3 && (message->qos == 0 || message->packet_id != 0);
}

/* Waits until a whole packet of the type lies at the start of the input. */
static size_t await_packet(struct wire *wire, enum raw_type type, size_t *header)
{
    uint64_t until = clock_ns() + ANSWER_TIMEOUT_MS * UINT64_C(1000000);
    size_t size = 0;
    while ((size = raw_frame(wire->in, wire->used, header)) == 0 && clock_ns() < until)
        if (!wire_read(wire))
            wire_wait(wire, ANSWER_TIMEOUT_MS);
    if (size == 0 || size == SIZE_MAX)
        die("the broker gave no answer to the request");
    if (wire->in[0] >> 4 != type)
        die("the broker answered with packet type %d instead of %d", wire->in[0] >> 4, type);
    return size;
}

/* Properties have no common length: each is passed over by its identifier [MQTT 5.0, 2.2.2.2]. */
static uint16_t find_receive_maximum(struct reader *r)
{
    uint16_t found = RECEIVE_MAXIMUM_DEFAULT;
    size_t length = get_variable(r);
    const uint8_t *end = r->at + (length < reader_left(r) ? length : reader_left(r));
    while (reader_ok(r) && r->at < end) {
        uint8_t id = reader_get_u8(r);
        if (id == 0x21)
            found = reader_get_u16(r);
        else if (id == 0x13 || id == 0x22)
            reader_get_bytes(r, 2);
        else if (id == 0x11 || id == 0x27)
            reader_get_bytes(r, 4);
        else if (id == 0x24 || id == 0x25 || id == 0x28 || id == 0x29 || id == 0x2a)
            reader_get_bytes(r, 1);
        else
            reader_get_bytes(r, reader_get_u16(r));
        if (id == 0x26) /* a user property is two strings */
            reader_get_bytes(r, reader_get_u16(r));
    }
    if (!reader_ok(r))
        die("the broker sent a malformed CONNACK");
    return found;
}

uint16_t raw_handshake(struct wire *wire, unsigned version, const char *client_id)
{
    uint8_t packet[256];
    struct writer w = writer_over(packet, sizeof packet);
    size_t properties = version == RAW_MQTT_5 ? 1 : 0;
    writer_put_u8(&w, RAW_CONNECT << 4);
    put_variable(&w, 10 + properties + 2 + strlen(client_id));
    put_text(&w, "MQTT");
    writer_put_u8(&w, (uint8_t)version);
    writer_put_u8(&w, 0x02); /* Clean Start */
    writer_put_u16(&w, 0);   /* no keep alive [MQTT 5.0, 3.1.2.10] */
    if (version == RAW_MQTT_5)
        writer_put_u8(&w, 0);
    put_text(&w, client_id);
    if (!writer_ok(&w))
        die("client id too long");
    wire_write_all(wire, packet, writer_length(&w));

    size_t header = 0;
    size_t size = await_packet(wire, RAW_CONNACK, &header);
    struct reader r = reader_over((struct bytes){wire->in + header, size - header});
    reader_get_u8(&r);
    uint8_t reason = reader_get_u8(&r);
    if (!reader_ok(&r) || reason != 0)
        die("the broker refused the connection with code 0x%02x", reason);
    uint16_t maximum = RECEIVE_MAXIMUM_DEFAULT;
    if (version == RAW_MQTT_5)
        maximum = find_receive_maximum(&r);
    wire_take(wire, size);
    return maximum;
}

void raw_subscribe(struct wire *wire, unsigned version, const char *filter, unsigned qos)
{
    uint8_t packet[256];
    struct writer w = writer_over(packet, sizeof packet);
    writer_put_u8(&w, RAW_SUBSCRIBE << 4 | 2); /* [MQTT-3.8.1-1] */
    put_variable(&w, 2 + (version == RAW_MQTT_5 ? 1u : 0u) + 2 + strlen(filter) + 1);
    writer_put_u16(&w, 1);
    if (version == RAW_MQTT_5)
        writer_put_u8(&w, 0);
    put_text(&w, filter);
    writer_put_u8(&w, (uint8_t)qos);
    if (!writer_ok(&w))
        die("topic filter too long");
    wire_write_all(wire, packet, writer_length(&w));
    size_t header = 0;
    size_t size = await_packet(wire, RAW_SUBACK, &header);
    if (wire->in[size - 1] > 2)
        die("the broker refused the subscription with code 0x%02x", wire->in[size - 1]);
    wire_take(wire, size);
}
