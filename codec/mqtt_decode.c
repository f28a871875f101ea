/*
 * MQTT packets from bytes: framing, and the bodies of CONNACK, PUBACK and DISCONNECT, versions 5.0
 * and 3.1.1. It takes only what a server may send to a client that never subscribes and names the
 * clause that a bad packet breaks. What a reason code means for the connection is not its business.
 */
#include <assert.h>

#include "codec/mqtt_wire.h"

static enum status refuse(struct mqtt_fault *fault, const char *clause, const char *what)
{
    *fault = (struct mqtt_fault){clause, what};
    return STATUS_MALFORMED;
}

/* STATUS_AGAIN: the input ends before the integer does. */
static enum status read_variable(struct reader *in, uint32_t *value, struct mqtt_fault *fault)
{
    uint32_t result = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t byte = reader_get_u8(in);
        if (!reader_ok(in))
            return STATUS_AGAIN;
        result |= (byte & 0x7fu) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift > 0)
                return refuse(fault, "MQTT-1.5.5-1",
                              "a variable byte integer is longer than it must be");
            *value = result;
            return STATUS_OK;
        }
    }
    return refuse(fault, "MQTT 5.0, 1.5.5", "a variable byte integer has more than four bytes");
}

/* ---- framing ------------------------------------------------------------------------------ */

/* Why a packet type is refused, by its number; no clause: it is taken [MQTT 5.0, 2.1.2]. */
static const struct mqtt_fault unexpected_types[16] = {
    [0] = {"MQTT 5.0, 2.1.2", "packet type 0 is reserved"},
    [1] = {"MQTT 5.0, 2.1.2", "a server does not send CONNECT"},
    [3] = {"MQTT 5.0, 3.3", "PUBLISH to a client that has not subscribed"},
    [5] = {"MQTT 5.0, 4.3.3", "PUBREC to a client that does not publish with QoS 2"},
    [6] = {"MQTT 5.0, 4.3.3", "PUBREL to a client that has not subscribed"},
    [7] = {"MQTT 5.0, 4.3.3", "PUBCOMP to a client that does not publish with QoS 2"},
    [8] = {"MQTT 5.0, 2.1.2", "a server does not send SUBSCRIBE"},
    [9] = {"MQTT 5.0, 3.9", "SUBACK to a client that has not subscribed"},
    [10] = {"MQTT 5.0, 2.1.2", "a server does not send UNSUBSCRIBE"},
    [11] = {"MQTT 5.0, 3.11", "UNSUBACK to a client that has not unsubscribed"},
    [12] = {"MQTT 5.0, 2.1.2", "a server does not send PINGREQ"},
    [15] = {"MQTT-4.12.0-6", "AUTH to a client that has named no authentication method"},
};

enum status mqtt_next_frame(struct bytes input, size_t maximum, struct mqtt_frame *frame,
                            struct mqtt_fault *fault)
{
    if (input.length == 0)
        return STATUS_AGAIN;
    struct reader in = reader_over(input);
    uint8_t first = reader_get_u8(&in);
    unsigned type = first >> 4;
    if (unexpected_types[type].clause) {
        *fault = unexpected_types[type];
        return STATUS_MALFORMED;
    }
    if ((first & 0x0f) != 0) /* all four types that are left have them 0 */
        return refuse(fault, "MQTT-2.1.3-1", "reserved flags of the fixed header are not 0");

    /* 3.1.1 does not forbid a Remaining Length with needless bytes. It is refused there too: what
     * sends one is not a broker, or the framing is lost. */
    uint32_t remaining;
    enum status status = read_variable(&in, &remaining, fault);
    if (status != STATUS_OK)
        return status;
    if (type == MQTT_PINGRESP && remaining != 0)
        return refuse(fault, "MQTT 5.0, 3.13.1", "PINGRESP with a body");
    size_t size = input.length - reader_left(&in) + remaining;
    if (size > maximum)
        return STATUS_TOO_LARGE;
    if (size > input.length)
        return STATUS_AGAIN;
    *frame = (struct mqtt_frame){(enum mqtt_packet_type)type, first & 0x0f,
                                 reader_get_bytes(&in, remaining), size};
    return STATUS_OK;
}

/* ---- properties of 5.0 -------------------------------------------------------------------- */

/* Property identifiers [MQTT 5.0, 2.2.2.2]; all are below 0x80, so a byte is the whole integer. */
enum {
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_ASSIGNED_CLIENT_ID = 0x12,
    PROPERTY_SERVER_KEEP_ALIVE = 0x13,
    PROPERTY_AUTHENTICATION_METHOD = 0x15,
    PROPERTY_AUTHENTICATION_DATA = 0x16,
    PROPERTY_RESPONSE_INFORMATION = 0x1a,
    PROPERTY_SERVER_REFERENCE = 0x1c,
    PROPERTY_REASON_STRING = 0x1f,
    PROPERTY_RECEIVE_MAXIMUM = 0x21,
    PROPERTY_TOPIC_ALIAS_MAXIMUM = 0x22,
    PROPERTY_MAXIMUM_QOS = 0x24,
    PROPERTY_RETAIN_AVAILABLE = 0x25,
    PROPERTY_USER = 0x26,
    PROPERTY_MAXIMUM_PACKET_SIZE = 0x27,
    PROPERTY_WILDCARD_SUBSCRIPTION = 0x28,
    PROPERTY_SUBSCRIPTION_IDENTIFIER = 0x29,
    PROPERTY_SHARED_SUBSCRIPTION = 0x2a,
    PROPERTY_COUNT = 0x2b,
};

enum property_kind {
    KIND_FORBIDDEN,    /* a server must not send it to this client */
    KIND_BIT,          /* a byte that is 0 or 1 */
    KIND_U16,          /* two bytes */
    KIND_U16_POSITIVE, /* two bytes, not 0 */
    KIND_U32,          /* four bytes */
    KIND_U32_POSITIVE, /* four bytes, not 0 */
    KIND_BINARY,       /* bytes after their length */
    KIND_STRING,       /* as binary, but UTF-8 */
    KIND_STRING_PAIR,  /* two strings; the only kind that may be repeated */
};

/* What a packet's property must be, its clause, and the texts of the ways to break it. */
struct property_rule {
    uint8_t id;
    enum property_kind kind;
    const char *clause;
    const char *twice;
    const char *cut_short;
    const char *not_allowed;
    const char *not_utf8;
};

#define RULE(id, kind, clause, name)                                                               \
    {                                                                                              \
        id, kind, clause, name " is given twice", name " is cut short", name " is not allowed",    \
            name " is not valid UTF-8"                                                             \
    }

static const struct property_rule connack_rules[] = {
    RULE(PROPERTY_SESSION_EXPIRY, KIND_U32, "MQTT 5.0, 3.2.2.3.2", "Session Expiry Interval"),
    RULE(PROPERTY_RECEIVE_MAXIMUM, KIND_U16_POSITIVE, "MQTT 5.0, 3.2.2.3.3", "Receive Maximum"),
    RULE(PROPERTY_MAXIMUM_QOS, KIND_BIT, "MQTT 5.0, 3.2.2.3.4", "Maximum QoS"),
    RULE(PROPERTY_RETAIN_AVAILABLE, KIND_BIT, "MQTT 5.0, 3.2.2.3.5", "Retain Available"),
    RULE(PROPERTY_MAXIMUM_PACKET_SIZE, KIND_U32_POSITIVE, "MQTT 5.0, 3.2.2.3.6",
         "Maximum Packet Size"),
    RULE(PROPERTY_ASSIGNED_CLIENT_ID, KIND_STRING, "MQTT 5.0, 3.2.2.3.7",
         "Assigned Client Identifier"),
    RULE(PROPERTY_TOPIC_ALIAS_MAXIMUM, KIND_U16, "MQTT 5.0, 3.2.2.3.8", "Topic Alias Maximum"),
    RULE(PROPERTY_REASON_STRING, KIND_STRING, "MQTT 5.0, 3.2.2.3.9", "Reason String"),
    RULE(PROPERTY_USER, KIND_STRING_PAIR, "MQTT 5.0, 3.2.2.3.10", "User Property"),
    RULE(PROPERTY_WILDCARD_SUBSCRIPTION, KIND_BIT, "MQTT 5.0, 3.2.2.3.11",
         "Wildcard Subscription Available"),
    RULE(PROPERTY_SUBSCRIPTION_IDENTIFIER, KIND_BIT, "MQTT 5.0, 3.2.2.3.12",
         "Subscription Identifiers Available"),
    RULE(PROPERTY_SHARED_SUBSCRIPTION, KIND_BIT, "MQTT 5.0, 3.2.2.3.13",
         "Shared Subscription Available"),
    RULE(PROPERTY_SERVER_KEEP_ALIVE, KIND_U16, "MQTT 5.0, 3.2.2.3.14", "Server Keep Alive"),
    RULE(PROPERTY_RESPONSE_INFORMATION, KIND_STRING, "MQTT 5.0, 3.2.2.3.15",
         "Response Information"),
    RULE(PROPERTY_SERVER_REFERENCE, KIND_STRING, "MQTT 5.0, 3.2.2.3.16", "Server Reference"),
    /* CONNECT never names a method, so the server must not either. */
    RULE(PROPERTY_AUTHENTICATION_METHOD, KIND_FORBIDDEN, "MQTT-4.12.0-6", "Authentication Method"),
    RULE(PROPERTY_AUTHENTICATION_DATA, KIND_BINARY, "MQTT 5.0, 3.2.2.3.18", "Authentication Data"),
};

static const struct property_rule puback_rules[] = {
    RULE(PROPERTY_REASON_STRING, KIND_STRING, "MQTT 5.0, 3.4.2.2.2", "Reason String"),
    RULE(PROPERTY_USER, KIND_STRING_PAIR, "MQTT 5.0, 3.4.2.2.3", "User Property"),
};

static const struct property_rule disconnect_rules[] = {
    RULE(PROPERTY_SESSION_EXPIRY, KIND_FORBIDDEN, "MQTT-3.14.2-2",
         "Session Expiry Interval from a server"),
    RULE(PROPERTY_REASON_STRING, KIND_STRING, "MQTT 5.0, 3.14.2.2.3", "Reason String"),
    RULE(PROPERTY_USER, KIND_STRING_PAIR, "MQTT 5.0, 3.14.2.2.4", "User Property"),
    RULE(PROPERTY_SERVER_REFERENCE, KIND_STRING, "MQTT 5.0, 3.14.2.2.5", "Server Reference"),
};

/* A packet's properties by identifier. A value means something only where its bit is seen. */
struct properties {
    uint64_t seen;
    struct property_value {
        uint32_t number;
        struct bytes text;
    } values[PROPERTY_COUNT];
};

static bool is_given(const struct properties *properties, uint8_t id)
{
    return (properties->seen >> id & 1) != 0;
}

static uint32_t number_or(const struct properties *properties, uint8_t id, uint32_t absent)
{
    return is_given(properties, id) ? properties->values[id].number : absent;
}

static struct bytes text_of(const struct properties *properties, uint8_t id)
{
    return is_given(properties, id) ? properties->values[id].text : (struct bytes){NULL, 0};
}

static struct bytes read_binary(struct reader *in)
{
    return reader_get_bytes(in, reader_get_u16(in));
}

static enum status read_string(struct reader *in, const struct property_rule *rule,
                               struct bytes *text, struct mqtt_fault *fault)
{
    *text = read_binary(in);
    if (text->length == 0 || mqtt_utf8_valid(*text))
        return STATUS_OK; /* empty also where it was cut short: the caller asks the reader */
    bool has_nul = memchr(text->data, 0, text->length) != NULL;
    return refuse(fault, has_nul ? "MQTT-1.5.4-2" : "MQTT-1.5.4-1", rule->not_utf8);
}

static enum status read_value(struct reader *in, const struct property_rule *rule,
                              struct property_value *value, struct mqtt_fault *fault)
{
    enum status status = STATUS_OK;
    bool allowed = true;
    switch (rule->kind) {
    case KIND_FORBIDDEN:
        return refuse(fault, rule->clause, rule->not_allowed);
    case KIND_BIT:
        value->number = reader_get_u8(in);
        allowed = value->number <= 1;
        break;
    case KIND_U16:
    case KIND_U16_POSITIVE:
        value->number = reader_get_u16(in);
        allowed = value->number > 0 || rule->kind == KIND_U16;
        break;
    case KIND_U32:
    case KIND_U32_POSITIVE:
        value->number = reader_get_u32(in);
        allowed = value->number > 0 || rule->kind == KIND_U32;
        break;
    case KIND_BINARY:
        value->text = read_binary(in);
        break;
    case KIND_STRING_PAIR:
        status = read_string(in, rule, &value->text, fault);
        if (status != STATUS_OK)
            break;
        /* fall through */
    case KIND_STRING:
        status = read_string(in, rule, &value->text, fault);
        break;
    }
    if (status != STATUS_OK)
        return status;
    if (!reader_ok(in))
        return refuse(fault, rule->clause, rule->cut_short);
    return allowed ? STATUS_OK : refuse(fault, rule->clause, rule->not_allowed);
}

static const struct property_rule *find_rule(const struct property_rule *rules, size_t count,
                                             uint8_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (rules[i].id == id)
            return &rules[i];
    }
    return NULL;
}

/* Reads the Property Length and the properties, which must end where the body does. */
static enum status read_properties(struct reader *body, const struct property_rule *rules,
                                   size_t count, struct properties *properties,
                                   struct mqtt_fault *fault)
{
    uint32_t length;
    enum status status = read_variable(body, &length, fault);
    if (status == STATUS_MALFORMED)
        return status;
    if (status == STATUS_AGAIN)
        return refuse(fault, "MQTT-2.2.2-1", "the Property Length is missing or cut short");
    if (length != reader_left(body))
        return refuse(fault, "MQTT 5.0, 2.2.2.1",
                      "the Property Length disagrees with the packet's length");
    while (reader_left(body) > 0) {
        uint8_t id = reader_get_u8(body);
        const struct property_rule *rule = find_rule(rules, count, id);
        if (!rule)
            return refuse(fault, "MQTT 5.0, 2.2.2.2", "a property that the packet cannot have");
        if (is_given(properties, id) && rule->kind != KIND_STRING_PAIR)
            return refuse(fault, rule->clause, rule->twice);
        status = read_value(body, rule, &properties->values[id], fault);
        if (status != STATUS_OK)
            return status;
        properties->seen |= UINT64_C(1) << id;
    }
    return STATUS_OK;
}

/* ---- CONNACK ------------------------------------------------------------------------------ */

static void take_connack_properties(struct mqtt_connack *connack,
                                    const struct properties *properties)
{
    connack->has_session_expiry = is_given(properties, PROPERTY_SESSION_EXPIRY);
    connack->session_expiry_s = number_or(properties, PROPERTY_SESSION_EXPIRY, 0);
    connack->receive_maximum = (uint16_t)number_or(properties, PROPERTY_RECEIVE_MAXIMUM, 65535);
    connack->maximum_qos = (uint8_t)number_or(properties, PROPERTY_MAXIMUM_QOS, 2);
    connack->retain_available = number_or(properties, PROPERTY_RETAIN_AVAILABLE, 1) == 1;
    connack->maximum_packet_size = number_or(properties, PROPERTY_MAXIMUM_PACKET_SIZE, 0);
    connack->assigned_client_id = text_of(properties, PROPERTY_ASSIGNED_CLIENT_ID);
    connack->topic_alias_maximum = (uint16_t)number_or(properties, PROPERTY_TOPIC_ALIAS_MAXIMUM, 0);
    connack->has_server_keep_alive = is_given(properties, PROPERTY_SERVER_KEEP_ALIVE);
    connack->server_keep_alive_s = (uint16_t)number_or(properties, PROPERTY_SERVER_KEEP_ALIVE, 0);
    connack->reason_string = text_of(properties, PROPERTY_REASON_STRING);
    connack->server_reference = text_of(properties, PROPERTY_SERVER_REFERENCE);
}

/* A server that knows only 3.1.1 refuses a 5.0 CONNECT in its own format, with return code 0x01 and
 * no properties [MQTT 3.1.1: MQTT-3.1.2-2]. Read as what it says, it tells the admin what is wrong;
 * read as a malformed packet it would not. */
static bool is_refusal_by_3_1_1(const struct mqtt_frame *frame, uint8_t reason_code)
{
    return frame->body.length == 2 && reason_code == 0x01;
}

enum status mqtt_read_connack(const struct mqtt_frame *frame, enum mqtt_version version,
                              struct mqtt_connack *connack, struct mqtt_fault *fault)
{
    assert(frame->type == MQTT_CONNACK);
    bool is_5_0 = version == MQTT_5_0;
    struct reader body = reader_over(frame->body);
    uint8_t flags = reader_get_u8(&body);
    uint8_t reason_code = reader_get_u8(&body);
    if (!reader_ok(&body))
        return refuse(fault, is_5_0 ? "MQTT 5.0, 3.2.2" : "MQTT 3.1.1, 3.2.1",
                      "CONNACK is cut short");
    if (flags > 1)
        return refuse(fault, is_5_0 ? "MQTT-3.2.2-1" : "MQTT 3.1.1, 3.2.2.1",
                      "reserved bits of the acknowledge flags are not 0");
    if (flags == 1 && reason_code != 0)
        return refuse(fault, is_5_0 ? "MQTT-3.2.2-6" : "MQTT 3.1.1: MQTT-3.2.2-4",
                      "Session Present with a refusal");
    if (!is_5_0 && reader_left(&body) > 0)
        return refuse(fault, "MQTT 3.1.1, 3.2.1", "CONNACK is longer than two bytes");

    struct properties properties;
    properties.seen = 0;
    if (is_5_0 && !is_refusal_by_3_1_1(frame, reason_code)) {
        enum status status = read_properties(
            &body, connack_rules, sizeof connack_rules / sizeof *connack_rules, &properties, fault);
        if (status != STATUS_OK)
            return status;
    }
    *connack = (struct mqtt_connack){.session_present = flags == 1, .reason_code = reason_code};
    take_connack_properties(connack, &properties);
    return STATUS_OK;
}

/* ---- PUBACK ------------------------------------------------------------------------------- */

enum status mqtt_read_puback(const struct mqtt_frame *frame, enum mqtt_version version,
                             struct mqtt_puback *puback, struct mqtt_fault *fault)
{
    assert(frame->type == MQTT_PUBACK);
    struct reader body = reader_over(frame->body);
    uint16_t packet_id = reader_get_u16(&body);
    if (!reader_ok(&body))
        return refuse(fault, version == MQTT_5_0 ? "MQTT 5.0, 3.4.2" : "MQTT 3.1.1, 3.4.1",
                      "PUBACK is cut short");
    if (packet_id == 0)
        return refuse(fault, version == MQTT_5_0 ? "MQTT-2.2.1-5" : "MQTT 3.1.1: MQTT-2.3.1-6",
                      "PUBACK with packet identifier 0");
    if (version != MQTT_5_0 && reader_left(&body) > 0)
        return refuse(fault, "MQTT 3.1.1, 3.4.1", "PUBACK is longer than two bytes");

    /* Two bytes alone mean 0x00 [MQTT 5.0, 3.4.2.1]; three have no Property Length [3.4.2.2.1]. */
    uint8_t reason_code = reader_left(&body) > 0 ? reader_get_u8(&body) : MQTT_REASON_SUCCESS;
    struct properties properties;
    properties.seen = 0;
    if (reader_left(&body) > 0) {
        enum status status = read_properties(
            &body, puback_rules, sizeof puback_rules / sizeof *puback_rules, &properties, fault);
        if (status != STATUS_OK)
            return status;
    }
    *puback =
        (struct mqtt_puback){packet_id, reason_code, text_of(&properties, PROPERTY_REASON_STRING)};
    return STATUS_OK;
}

/* ---- DISCONNECT --------------------------------------------------------------------------- */

enum status mqtt_read_disconnect(const struct mqtt_frame *frame, enum mqtt_version version,
                                 struct mqtt_disconnect *disconnect, struct mqtt_fault *fault)
{
    assert(frame->type == MQTT_DISCONNECT);
    if (version != MQTT_5_0)
        return refuse(fault, "MQTT 3.1.1, 3.14", "a server does not send DISCONNECT");

    /* No bytes mean 0x00 [MQTT 5.0, 3.14.2.1]; one has no Property Length [3.14.2.2.1]. */
    struct reader body = reader_over(frame->body);
    uint8_t reason_code = reader_left(&body) > 0 ? reader_get_u8(&body) : MQTT_REASON_SUCCESS;
    struct properties properties;
    properties.seen = 0;
    if (reader_left(&body) > 0) {
        enum status status =
            read_properties(&body, disconnect_rules,
                            sizeof disconnect_rules / sizeof *disconnect_rules, &properties, fault);
        if (status != STATUS_OK)
            return status;
    }
    *disconnect =
        (struct mqtt_disconnect){reason_code, text_of(&properties, PROPERTY_REASON_STRING),
                                 text_of(&properties, PROPERTY_SERVER_REFERENCE)};
    return STATUS_OK;
}
