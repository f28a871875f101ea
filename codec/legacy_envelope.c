/*
 * Envelopes of the old plugins. Not read with a JSON library, because the one that is strict,
 * jansson, refuses the whole text for what Python's json takes and the plugin's own bridge
 * published (a number beyond 64 bits, NaN, or half a surrogate pair in a member nobody reads),
 * cannot tell a lone surrogate from bad syntax but by its message, and allocates for every value.
 * As in stream_entry.c all members are gathered first and judged after.
 */
#include "codec/legacy_envelope.h"

#include "codec/json_text.h"

#define MAX_DEPTH 64

/* KIND_OTHER is every value that no known member may have. */
enum kind { KIND_ABSENT, KIND_STRING, KIND_NUMBER, KIND_TRUE, KIND_FALSE, KIND_OTHER };

struct value {
    enum kind kind;
    struct bytes text; /* of a string: decoded; of a number: as it stands in the input */
    bool lone_surrogate;
};

struct parser {
    struct reader in;
    struct writer scratch;
    struct value topic, payload, qos, retain, timestamp;
};

/* ---- JSON --------------------------------------------------------------------------------- */

static void skip_blanks(struct reader *in)
{
    while (in->at < in->end &&
           (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r'))
        in->at++;
}

/* Takes this character, and blanks in front of it, if it comes next. */
static bool take(struct reader *in, char character)
{
    skip_blanks(in);
    if (in->at == in->end || *in->at != (uint8_t)character)
        return false;
    in->at++;
    return true;
}

static size_t skip_digits(struct reader *in)
{
    const uint8_t *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9')
        in->at++;
    return (size_t)(in->at - start);
}

/* [RFC 8259, 6]. A digit behind a leading zero is left, and then no comma. */
static const char *read_number(struct reader *in, struct value *value)
{
    const char *fault = "a value that JSON does not know";
    const uint8_t *start = in->at;
    if (*in->at == '-')
        in->at++;
    if (in->at < in->end && *in->at == '0')
        in->at++;
    else if (skip_digits(in) == 0)
        return fault;
    if (in->at < in->end && *in->at == '.') {
        in->at++;
        if (skip_digits(in) == 0)
            return fault;
    }
    if (in->at < in->end && (*in->at == 'e' || *in->at == 'E')) {
        in->at++;
        if (in->at < in->end && (*in->at == '+' || *in->at == '-'))
            in->at++;
        if (skip_digits(in) == 0)
            return fault;
    }
    *value = (struct value){.kind = KIND_NUMBER, .text = {start, (size_t)(in->at - start)}};
    return NULL;
}

static bool read_literal(struct reader *in, struct value *value)
{
    static const struct {
        const char *word;
        enum kind kind;
    } literals[] = {
        {"true", KIND_TRUE}, {"false", KIND_FALSE},    {"null", KIND_OTHER},
        {"NaN", KIND_OTHER}, {"Infinity", KIND_OTHER}, {"-Infinity", KIND_OTHER},
    };
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        struct bytes word = bytes_of(literals[i].word);
        if (word.length <= reader_left(in) && memcmp(in->at, word.data, word.length) == 0) {
            in->at += word.length;
            *value = (struct value){.kind = literals[i].kind};
            return true;
        }
    }
    return false;
}

static struct value *place_of(struct parser *p, struct bytes name)
{
    const struct {
        const char *name;
        struct value *place;
    } members[] = {{"topic", &p->topic},
                   {"payload", &p->payload},
                   {"qos", &p->qos},
                   {"retain", &p->retain},
                   {"timestamp", &p->timestamp}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (bytes_equal(name, bytes_of(members[i].name)))
            return members[i].place;
    return NULL;
}

static const char *read_value(struct parser *p, unsigned depth, struct value *value);

/* A member of an object, or an element of an array. Only members of the envelope itself (depth 1)
 * are kept, and only they keep their part of scratch. */
static const char *read_part(struct parser *p, unsigned depth, bool is_member)
{
    uint8_t *mark = p->scratch.at;
    struct value *place = NULL;
    if (is_member) {
        struct json_string name;
        skip_blanks(&p->in);
        const char *fault = json_string_read(&p->in, &p->scratch, &name);
        if (fault != NULL)
            return fault;
        if (!take(&p->in, ':'))
            return "no colon behind a member's name";
        if (depth == 1)
            place = place_of(p, name.text);
        p->scratch.at = mark;
    }
    struct value value;
    const char *fault = read_value(p, depth, &value);
    if (place != NULL)
        *place = value;
    else
        p->scratch.at = mark;
    return fault;
}

/* An object or an array whose opening bracket comes next. */
static const char *read_parts(struct parser *p, unsigned depth)
{
    if (depth == MAX_DEPTH)
        return "nested deeper than 64 levels";
    bool is_object = *p->in.at == '{';
    char close = is_object ? '}' : ']';
    p->in.at++;
    if (take(&p->in, close))
        return NULL;
    do {
        const char *fault = read_part(p, depth + 1, is_object);
        if (fault != NULL)
            return fault;
    } while (take(&p->in, ','));
    return take(&p->in, close) ? NULL : "no comma and no closing bracket behind a value";
}

static const char *read_value(struct parser *p, unsigned depth, struct value *value)
{
    *value = (struct value){.kind = KIND_OTHER};
    skip_blanks(&p->in);
    if (reader_left(&p->in) == 0)
        return "the text ends too early";
    if (*p->in.at == '{' || *p->in.at == '[')
        return read_parts(p, depth);
    if (*p->in.at == '"') {
        struct json_string string;
        const char *fault = json_string_read(&p->in, &p->scratch, &string);
        *value = (struct value){KIND_STRING, string.text, string.lone_surrogate};
        return fault;
    }
    return read_literal(&p->in, value) ? NULL : read_number(&p->in, value);
}

/* ---- the envelope ------------------------------------------------------------------------- */

/* Seconds as JSON writes them, in milliseconds. Done in decimal: a double would round, and strtod
 * reads what the locale says. False: negative, or more than 64 bits hold. */
static bool read_ms(struct bytes number, uint64_t *ms)
{
    const int64_t far = 1000000000000; /* no text has so many digits to outweigh it */
    struct reader in = reader_over(number);
    if (*in.at == '-')
        return false;
    struct bytes whole = {in.at, skip_digits(&in)};
    struct bytes fraction = {NULL, 0};
    if (in.at < in.end && *in.at == '.') {
        in.at++;
        fraction = (struct bytes){in.at, skip_digits(&in)};
    }
    int64_t exponent = 0;
    bool negative = in.at + 1 < in.end && in.at[1] == '-';
    for (; in.at < in.end; in.at++)
        if (*in.at >= '0' && *in.at <= '9' && exponent < far)
            exponent = exponent * 10 + (*in.at - '0');

    /* So many digits, from the first on, stand left of the point when seconds become ms. */
    int64_t keep = (int64_t)whole.length + 3 + (negative ? -exponent : exponent);
    int64_t count = (int64_t)(whole.length + fraction.length);
    uint64_t result = 0;
    for (int64_t i = 0; i < keep && (i < count || result > 0); i++) {
        size_t at = (size_t)i;
        unsigned digit = i >= count          ? 0
                         : at < whole.length ? whole.data[at] - (unsigned)'0'
                                             : fraction.data[at - whole.length] - (unsigned)'0';
        if (__builtin_mul_overflow(result, 10u, &result) ||
            __builtin_add_overflow(result, digit, &result))
            return false;
    }
    *ms = result;
    return true;
}

static enum status refuse(struct stream_entry_fault *fault, const char *reason, const char *detail)
{
    *fault = (struct stream_entry_fault){reason, detail};
    return STATUS_MALFORMED;
}

static enum status judge(const struct parser *p, struct legacy_envelope *envelope,
                         struct stream_entry_fault *fault)
{
    if (p->topic.kind == KIND_ABSENT)
        return refuse(fault, "no-topic", "no member topic");
    if (p->topic.kind != KIND_STRING)
        return refuse(fault, "bad-topic", "topic is not a string");
    if (p->topic.lone_surrogate)
        return refuse(fault, "lone-surrogate", "topic holds half of a surrogate pair");
    envelope->topic = p->topic.text;
    if (p->payload.kind == KIND_ABSENT)
        return refuse(fault, "bad-field", "no member payload");
    if (p->payload.kind != KIND_STRING)
        return refuse(fault, "bad-field", "payload is not a string");
    if (p->payload.lone_surrogate)
        return refuse(fault, "lone-surrogate", "payload holds half of a surrogate pair");
    envelope->payload = p->payload.text;
    if (p->qos.kind != KIND_ABSENT) {
        if (p->qos.kind != KIND_NUMBER || p->qos.text.length != 1 || p->qos.text.data[0] > '2')
            return refuse(fault, "bad-field", "qos is none of 0, 1, 2");
        envelope->qos = (uint8_t)(p->qos.text.data[0] - '0');
    }
    if (p->retain.kind != KIND_ABSENT && p->retain.kind != KIND_TRUE &&
        p->retain.kind != KIND_FALSE)
        return refuse(fault, "bad-field", "retain is neither true nor false");
    envelope->retain = p->retain.kind == KIND_TRUE;
    if (p->timestamp.kind == KIND_NUMBER)
        envelope->has_ts = read_ms(p->timestamp.text, &envelope->ts_ms);
    return STATUS_OK;
}

enum status legacy_envelope_read(struct bytes text, uint8_t *scratch,
                                 struct legacy_envelope *envelope, struct stream_entry_fault *fault)
{
    *envelope = (struct legacy_envelope){.qos = 1};
    if (text.length == 0)
        return refuse(fault, "bad-envelope", "no JSON object");
    struct parser p = {.in = reader_over(text), .scratch = writer_over(scratch, text.length)};
    skip_blanks(&p.in);
    if (reader_left(&p.in) == 0 || *p.in.at != '{')
        return refuse(fault, "bad-envelope", "no JSON object");
    const char *detail = read_parts(&p, 0);
    if (detail != NULL)
        return refuse(fault, "bad-envelope", detail);
    skip_blanks(&p.in);
    if (reader_left(&p.in) > 0)
        return refuse(fault, "bad-envelope", "something follows the JSON object");
    return judge(&p, envelope, fault);
}
