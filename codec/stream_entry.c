/*
 * Entries of schema v1. All fields are gathered first and judged after, so that a bad entry still
 * has its key and is dead-lettered at its place in the key's order. The payload stays opaque.
 */
#include "codec/stream_entry.h"

#include "codec/decimal.h"
#include "codec/mqtt_wire.h"

#define MAX_KEY 65535u

/* The fields that the schema knows, as they came. data is NULL where a field was not given. */
struct given {
    struct bytes v, topic, absolute, payload, key, id, type, qos, retain, ts, exp;
};

static bool is(struct bytes name, const char *word)
{
    return memcmp(name.data, word, name.length) == 0;
}

/* Where the field of this name is gathered; NULL: not a field of the schema. */
static struct bytes *place_of(struct given *given, struct bytes name)
{
    switch (name.length) {
    case 1:
        return is(name, "v") ? &given->v : NULL;
    case 2:
        return is(name, "id") ? &given->id : is(name, "ts") ? &given->ts : NULL;
    case 3:
        return is(name, "key")   ? &given->key
               : is(name, "qos") ? &given->qos
               : is(name, "exp") ? &given->exp
               : is(name, "abs") ? &given->absolute
                                 : NULL;
    case 4:
        return is(name, "type") ? &given->type : NULL;
    case 5:
        return is(name, "topic") ? &given->topic : NULL;
    case 6:
        return is(name, "retain") ? &given->retain : NULL;
    case 7:
        return is(name, "payload") ? &given->payload : NULL;
    default:
        return NULL;
    }
}

static void gather(const struct stream_field *fields, size_t count, struct given *given)
{
    *given = (struct given){0};
    for (size_t i = 0; i < count; i++) {
        struct bytes *place = place_of(given, fields[i].name);
        if (place == NULL)
            continue;
        *place = fields[i].value;
        if (place->data == NULL)
            *place = bytes_of(""); /* given, though empty */
    }
}

/* A field whose value is one digit from '0' to highest; *digit keeps its value when the field was
 * not given. */
static bool read_digit(struct bytes value, uint8_t highest, uint8_t *digit)
{
    if (value.data == NULL)
        return true;
    if (value.length != 1 || value.data[0] < '0' || value.data[0] > '0' + highest)
        return false;
    *digit = (uint8_t)(value.data[0] - '0');
    return true;
}

/* id and type leave the process as MQTT strings and as labels: neither takes any other bytes. */
static bool is_text(struct bytes value)
{
    return value.length <= MQTT_MAX_STRING && mqtt_utf8_valid(value);
}

/* Reads flags, numbers and texts. NULL, or what is wrong. */
static const char *read_fields(const struct given *given, struct stream_entry *entry)
{
    uint8_t absolute = 0;
    uint8_t qos = 1;
    uint8_t retain = 0;
    if (given->key.length > MAX_KEY)
        return "key is longer than 65,535 bytes";
    if (!read_digit(given->absolute, 1, &absolute))
        return "abs is neither 0 nor 1";
    if (!read_digit(given->qos, 2, &qos))
        return "qos is none of 0, 1, 2";
    if (!read_digit(given->retain, 1, &retain))
        return "retain is neither 0 nor 1";
    if (given->ts.data != NULL && !decimal_read(given->ts, &entry->ts_ms))
        return "ts is not a number of milliseconds since the epoch";
    uint64_t exp = 0;
    if (given->exp.data != NULL && (!decimal_read(given->exp, &exp) || exp > UINT32_MAX))
        return "exp is not a number of seconds from 0 to 4294967295";
    if (given->id.length > 0 && !is_text(given->id))
        return "id is not UTF-8 of at most 65,535 bytes";
    if (given->type.length > 0 && !is_text(given->type))
        return "type is not UTF-8 of at most 65,535 bytes";
    if (given->payload.data == NULL)
        return "no payload field";
    entry->absolute = absolute == 1;
    entry->qos = qos == 0 ? 0 : 1;
    entry->retain = retain == 1;
    entry->has_exp = given->exp.data != NULL;
    entry->exp_s = (uint32_t)exp;
    return NULL;
}

static enum status judge(const struct given *given, size_t max_payload, struct stream_entry *entry,
                         struct stream_entry_fault *fault)
{
    if (given->v.data != NULL && !bytes_equal(given->v, bytes_of("1"))) {
        *fault = (struct stream_entry_fault){"unknown-version", "v is not 1"};
        return STATUS_MALFORMED;
    }
    if (given->topic.data == NULL) {
        *fault = (struct stream_entry_fault){"no-topic", "no topic field"};
        return STATUS_MALFORMED;
    }
    const char *detail = mqtt_topic_fault((struct bytes){NULL, 0}, given->topic);
    if (detail != NULL) {
        *fault = (struct stream_entry_fault){"bad-topic", detail};
        return STATUS_MALFORMED;
    }
    detail = read_fields(given, entry);
    if (detail != NULL) {
        *fault = (struct stream_entry_fault){"bad-field", detail};
        return STATUS_MALFORMED;
    }
    if (given->payload.length > max_payload) {
        *fault = (struct stream_entry_fault){"payload-too-large", "payload exceeds max_payload"};
        return STATUS_TOO_LARGE;
    }
    return STATUS_OK;
}

enum status stream_entry_read(struct stream_id id, const struct stream_field *fields, size_t count,
                              size_t max_payload, struct stream_entry *entry,
                              struct stream_entry_fault *fault)
{
    struct given given;
    gather(fields, count, &given);
    *entry = (struct stream_entry){
        .topic = given.topic,
        .payload = given.payload,
        .key = given.key.length > 0 ? given.key : given.topic,
        .id = given.id,
        .type = given.type,
        .qos = 1,
        .ts_ms = id.ms,
    };
    return judge(&given, max_payload, entry, fault);
}

bool site_id_valid(struct bytes site)
{
    if (site.length < 1 || site.length > 32)
        return false;
    for (size_t i = 0; i < site.length; i++) {
        uint8_t c = site.data[i];
        bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alphanumeric && (c != '-' || i == 0))
            return false;
    }
    return true;
}

/* Redis' rule: the text between the first '{' and the first '}' after it. */
struct bytes stream_site(struct bytes stream_name)
{
    const struct bytes none = {NULL, 0};
    if (stream_name.length == 0)
        return none;
    const uint8_t *end = stream_name.data + stream_name.length;
    const uint8_t *open = memchr(stream_name.data, '{', stream_name.length);
    const uint8_t *close = open != NULL ? memchr(open, '}', (size_t)(end - open)) : NULL;
    if (close == NULL)
        return none;
    struct bytes tag = {open + 1, (size_t)(close - open - 1)};
    return site_id_valid(tag) ? tag : none;
}
