/*
 * The rules of MQTT for texts and topic names, and the specification's names of reason codes.
 * Topics are judged once per message and are nearly always ASCII, so that is read in words of
 * eight bytes; anything else goes through a small state machine, byte by byte.
 */
#include "codec/mqtt_wire.h"

#define EACH_BYTE(value) (0x0101010101010101u * (uint64_t)(value))

/* ---- eight bytes at a time ---------------------------------------------------------------- */

static inline uint64_t load_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Not 0 when a byte of the word is 0 or over 0x7f. Subtracting 1 from every byte sets the top bit
 * of a byte that was 0; a borrow comes only out of such a byte, so it can never hide one. */
static inline uint64_t not_plain(uint64_t word)
{
    return (word | (word - EACH_BYTE(1))) & EACH_BYTE(0x80);
}

/* As not_plain, and also for a wildcard: '#' (0x23) and '+' (0x2b) differ in bit 3 alone. */
static inline uint64_t not_plain_topic(uint64_t word)
{
    uint64_t wildcard = (word | EACH_BYTE(0x08)) ^ EACH_BYTE('+');
    return (word | (word - EACH_BYTE(1)) | (wildcard - EACH_BYTE(1))) & EACH_BYTE(0x80);
}

static inline bool is_plain_topic_byte(uint8_t byte)
{
    return byte != 0 && byte < 0x80 && byte != '+' && byte != '#';
}

/* True when the part is ASCII without U+0000 and wildcards. */
static bool is_plain_topic(struct bytes part)
{
    const uint8_t *data = part.data;
    size_t length = part.length;
    if (length >= 8) {
        uint64_t bad = 0;
        for (size_t i = 0; i + 8 <= length; i += 8)
            bad |= not_plain_topic(load_word(data + i));
        /* The rest as the last word, which may overlap the one before it. */
        return (bad | not_plain_topic(load_word(data + length - 8))) == 0;
    }
    for (size_t i = 0; i < length; i++) {
        if (!is_plain_topic_byte(data[i]))
            return false;
    }
    return true;
}

/* ---- UTF-8 -------------------------------------------------------------------------------- */

/* Where a text stands between two bytes: how many continuation bytes the character still needs, and
 * what the next of them may be (RFC 3629, section 4: this is what keeps out overlong forms,
 * surrogates and anything over U+10FFFF). */
struct utf8 {
    unsigned needed;
    uint8_t low;
    uint8_t high;
};

static bool utf8_lead(struct utf8 *state, uint8_t byte)
{
    *state = (struct utf8){0, 0x80, 0xbf};
    if (byte < 0x80)
        return byte != 0; /* [MQTT-1.5.4-2] */
    if (byte < 0xc2 || byte > 0xf4)
        return false;
    state->needed = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    if (byte == 0xe0)
        state->low = 0xa0;
    else if (byte == 0xed)
        state->high = 0x9f; /* no surrogates [MQTT-1.5.4-1] */
    else if (byte == 0xf0)
        state->low = 0x90;
    else if (byte == 0xf4)
        state->high = 0x8f;
    return true;
}

static bool utf8_feed(struct utf8 *state, struct bytes part)
{
    size_t i = 0;
    while (i < part.length) {
        if (state->needed == 0) {
            if (part.length - i >= 8 && !not_plain(load_word(part.data + i))) {
                i += 8;
                continue;
            }
            if (!utf8_lead(state, part.data[i]))
                return false;
        } else {
            if (part.data[i] < state->low || part.data[i] > state->high)
                return false;
            *state = (struct utf8){state->needed - 1, 0x80, 0xbf};
        }
        i++;
    }
    return true;
}

/* True when the text is ASCII without U+0000; texts of less than eight bytes are not looked at. */
static bool is_plain(struct bytes text)
{
    if (text.length < 8)
        return false;
    uint64_t bad = not_plain(load_word(text.data + text.length - 8));
    for (size_t i = 0; i + 8 < text.length; i += 8)
        bad |= not_plain(load_word(text.data + i));
    return bad == 0;
}

bool mqtt_utf8_valid(struct bytes text)
{
    if (is_plain(text))
        return true;
    struct utf8 state = {0};
    return utf8_feed(&state, text) && state.needed == 0;
}

/* ---- topic names -------------------------------------------------------------------------- */

static bool contains(struct bytes part, int byte)
{
    return part.length > 0 && memchr(part.data, byte, part.length);
}

static const char *unusual_topic_fault(struct bytes prefix, struct bytes topic)
{
    if (contains(prefix, '+') || contains(topic, '+') || contains(prefix, '#') ||
        contains(topic, '#'))
        return "the topic has a wildcard, + or # [MQTT-3.3.2-2]";
    if (contains(prefix, 0) || contains(topic, 0))
        return "the topic contains U+0000 [MQTT-4.7.3-2]";
    /* A character may begin in the prefix and end in the topic: the parts are judged joined. */
    struct utf8 state = {0};
    if (!utf8_feed(&state, prefix) || !utf8_feed(&state, topic) || state.needed != 0)
        return "the topic is not valid UTF-8 [MQTT-1.5.4-1]";
    return NULL;
}

const char *mqtt_topic_fault(struct bytes prefix, struct bytes topic)
{
    if (prefix.length == 0 && topic.length == 0)
        return "the topic is empty [MQTT-4.7.3-1]";
    if (prefix.length > MQTT_MAX_STRING || topic.length > MQTT_MAX_STRING - prefix.length)
        return "the topic is longer than 65,535 bytes [MQTT-4.7.3-3]";
    if (is_plain_topic(prefix) && is_plain_topic(topic))
        return NULL;
    return unusual_topic_fault(prefix, topic);
}

/* ---- reason codes ------------------------------------------------------------------------- */

struct reason {
    uint8_t code;
    const char *name;
};

/* [MQTT 5.0, 2.4]; a code has the same name in every packet, but for 0x00. */
static const struct reason reasons[] = {
    {0x00, "Success"},
    {0x04, "Disconnect with Will Message"},
    {0x10, "No matching subscribers"},
    {0x11, "No subscription existed"},
    {0x18, "Continue authentication"},
    {0x19, "Re-authenticate"},
    {0x80, "Unspecified error"},
    {0x81, "Malformed Packet"},
    {0x82, "Protocol Error"},
    {0x83, "Implementation specific error"},
    {0x84, "Unsupported Protocol Version"},
    {0x85, "Client Identifier not valid"},
    {0x86, "Bad User Name or Password"},
    {0x87, "Not authorized"},
    {0x88, "Server unavailable"},
    {0x89, "Server busy"},
    {0x8a, "Banned"},
    {0x8b, "Server shutting down"},
    {0x8c, "Bad authentication method"},
    {0x8d, "Keep Alive timeout"},
    {0x8e, "Session taken over"},
    {0x8f, "Topic Filter invalid"},
    {0x90, "Topic Name invalid"},
    {0x91, "Packet Identifier in use"},
    {0x92, "Packet Identifier not found"},
    {0x93, "Receive Maximum exceeded"},
    {0x94, "Topic Alias invalid"},
    {0x95, "Packet too large"},
    {0x96, "Message rate too high"},
    {0x97, "Quota exceeded"},
    {0x98, "Administrative action"},
    {0x99, "Payload format invalid"},
    {0x9a, "Retain not supported"},
    {0x9b, "QoS not supported"},
    {0x9c, "Use another server"},
    {0x9d, "Server moved"},
    {0x9e, "Shared Subscriptions not supported"},
    {0x9f, "Connection rate exceeded"},
    {0xa0, "Maximum connect time"},
    {0xa1, "Subscription Identifiers not supported"},
    {0xa2, "Wildcard Subscriptions not supported"},
};

/* CONNACK return codes [MQTT 3.1.1, 3.2.2.3]. */
static const struct reason return_codes[] = {
    {0x00, "Connection Accepted"},
    {0x01, "Connection Refused, unacceptable protocol version"},
    {0x02, "Connection Refused, identifier rejected"},
    {0x03, "Connection Refused, Server unavailable"},
    {0x04, "Connection Refused, bad user name or password"},
    {0x05, "Connection Refused, not authorized"},
};

static const char *find_name(const struct reason *table, size_t count, uint8_t code)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].code == code)
            return table[i].name;
    }
    return "unknown reason code";
}

const char *mqtt_reason_name(enum mqtt_packet_type type, enum mqtt_version version,
                             uint8_t reason_code)
{
    if (type == MQTT_DISCONNECT && reason_code == MQTT_REASON_SUCCESS)
        return "Normal disconnection";
    /* A server that knows only 3.1.1 answers a 5.0 CONNECT with return code 0x01, which no 5.0
     * packet has [MQTT 3.1.1: MQTT-3.1.2-2]. */
    bool by_old_server = reason_code == 0x01;
    if (type == MQTT_CONNACK && (version == MQTT_3_1_1 || by_old_server))
        return find_name(return_codes, sizeof return_codes / sizeof *return_codes, reason_code);
    return find_name(reasons, sizeof reasons / sizeof *reasons, reason_code);
}
