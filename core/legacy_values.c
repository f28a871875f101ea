/*
 * Both forms end in the same calls: a row begins, a column has a value, the row ends. A row counts
 * when it is enabled; what is wrong in one that is not has no effect.
 */
#include "core/legacy_values.h"

#include "codec/decimal.h"
#include "codec/encode_signed.h"
#include "codec/json_text.h"

#define MAX_DEPTH 16

struct row {
    struct legacy_values values;
    bool enabled;
    const char *fault;
};

struct parser {
    struct reader in;
    struct writer scratch;
    struct row row;
    struct row found; /* the first that is enabled */
    bool has_found;
    const char *fault; /* of the text as a whole */
};

/* ---- columns ------------------------------------------------------------------------------- */

static const char *store_text(char *field, size_t size, struct bytes text)
{
    if (text.length >= size)
        return "a value is too long";
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < ' ' || text.data[i] == 0x7f)
            return "a value holds a control character";
    memcpy(field, text.data, text.length);
    field[text.length] = '\0';
    return NULL;
}

static const char *store_number(unsigned *field, struct bytes text, unsigned largest)
{
    uint64_t number;
    if (!decimal_read(text, &number) || number < 1 || number > largest)
        return "broker_port or keepalive is not a number from 1 to 65535";
    *field = (unsigned)number;
    return NULL;
}

/* As Python, PostgreSQL, SQLite and MySQL print it. */
static const char *store_bool(bool *field, struct bytes text)
{
    static const char *const words[] = {"0", "1", "f", "t", "false", "true", "False", "True"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (bytes_equal(text, bytes_of(words[i]))) {
            *field = i % 2 == 1;
            return NULL;
        }
    return "enabled or use_hmac is neither true nor false";
}

static void take_column(struct row *row, struct bytes name, struct bytes text)
{
    struct legacy_values *v = &row->values;
    const char *fault = NULL;
    if (bytes_equal(name, bytes_of("enabled")))
        fault = store_bool(&row->enabled, text);
    else if (bytes_equal(name, bytes_of("broker_host")))
        fault = store_text(v->broker_host, sizeof v->broker_host, text);
    else if (bytes_equal(name, bytes_of("broker_port")))
        fault = store_number(&v->broker_port, text, 65535);
    else if (bytes_equal(name, bytes_of("keepalive")))
        fault = store_number(&v->keepalive, text, 65535);
    else if (bytes_equal(name, bytes_of("username")))
        fault = store_text(v->username, sizeof v->username, text);
    else if (bytes_equal(name, bytes_of("password")))
        fault = store_text(v->password, sizeof v->password, text);
    else if (bytes_equal(name, bytes_of("use_hmac")))
        fault = store_bool(&v->use_hmac, text);
    else if (bytes_equal(name, bytes_of("hmac_secret_key")))
        fault = store_text(v->hmac_secret_key, sizeof v->hmac_secret_key, text);
    if (row->fault == NULL)
        row->fault = fault;
}

static void begin_row(struct parser *p)
{
    p->row = (struct row){.values = {.broker_port = 1883, .keepalive = 60}, .enabled = true};
}

static void end_row(struct parser *p)
{
    if (!p->row.enabled || p->has_found)
        return;
    p->found = p->row;
    p->has_found = true;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct reader *in)
{
    while (in->at < in->end && is_blank(*in->at))
        in->at++;
}

static bool take(struct parser *p, char character)
{
    skip_blanks(&p->in);
    if (p->in.at == p->in.end || *p->in.at != (uint8_t)character)
        return false;
    p->in.at++;
    return true;
}

static bool fail(struct parser *p)
{
    p->fault = "neither JSON as manage.py dumpdata prints it nor lines key=value";
    return false;
}

static bool read_string(struct parser *p, struct bytes *text)
{
    struct json_string string;
    skip_blanks(&p->in);
    if (json_string_read(&p->in, &p->scratch, &string) != NULL)
        return fail(p);
    if (string.lone_surrogate)
        p->row.fault = "a value holds half of a surrogate pair";
    *text = string.lone_surrogate ? bytes_of("") : string.text;
    return true;
}

/* A number, true, false or null, as it stands there. */
static bool read_word(struct parser *p, struct bytes *text)
{
    const uint8_t *from = p->in.at;
    while (p->in.at < p->in.end && !is_blank(*p->in.at) && *p->in.at != ',' && *p->in.at != ']' &&
           *p->in.at != '}')
        p->in.at++;
    *text = (struct bytes){from, (size_t)(p->in.at - from)};
    return text->length > 0 || fail(p);
}

static bool read_value(struct parser *p, struct bytes name, bool is_column, unsigned depth);

static bool read_members(struct parser *p, bool are_columns, unsigned depth)
{
    if (take(p, '}'))
        return true;
    do {
        struct bytes name;
        if (!read_string(p, &name) || !take(p, ':'))
            return fail(p);
        bool begins = !are_columns && bytes_equal(name, bytes_of("fields"));
        if (begins)
            begin_row(p);
        if (!read_value(p, begins ? bytes_of("") : name, are_columns || begins, depth + 1))
            return false;
        if (begins)
            end_row(p);
    } while (take(p, ','));
    return take(p, '}') || fail(p);
}

static bool read_elements(struct parser *p, unsigned depth)
{
    if (take(p, ']'))
        return true;
    do {
        if (!read_value(p, bytes_of(""), false, depth + 1))
            return false;
    } while (take(p, ','));
    return take(p, ']') || fail(p);
}

static bool read_value(struct parser *p, struct bytes name, bool is_column, unsigned depth)
{
    struct bytes text;
    skip_blanks(&p->in);
    if (depth > MAX_DEPTH || p->in.at == p->in.end)
        return fail(p);
    if (take(p, '{'))
        return read_members(p, is_column && name.length == 0, depth);
    if (take(p, '['))
        return read_elements(p, depth);
    bool is_string = *p->in.at == '"';
    if (!(is_string ? read_string(p, &text) : read_word(p, &text)))
        return false;
    if (is_column && (is_string || !bytes_equal(text, bytes_of("null"))))
        take_column(&p->row, name, text);
    return true;
}

/* ---- lines --------------------------------------------------------------------------------- */

static struct bytes trim(struct bytes text)
{
    while (text.length > 0 && is_blank(text.data[0]))
        text = (struct bytes){text.data + 1, text.length - 1};
    while (text.length > 0 && is_blank(text.data[text.length - 1]))
        text.length--;
    return text;
}

static bool read_line(struct parser *p, struct bytes line)
{
    if (trim(line).length == 0)
        return true;
    const uint8_t *sign = memchr(line.data, '=', line.length);
    if (sign == NULL)
        return fail(p);
    struct bytes name = {line.data, (size_t)(sign - line.data)};
    struct bytes value = {sign + 1, line.length - name.length - 1};
    if (value.length > 0 && value.data[value.length - 1] == '\r')
        value.length--;
    if (value.length > 0)
        take_column(&p->row, trim(name), value);
    return true;
}

static bool read_lines(struct parser *p)
{
    begin_row(p);
    while (p->in.at < p->in.end) {
        const uint8_t *stop = memchr(p->in.at, '\n', reader_left(&p->in));
        struct bytes line = {p->in.at, (size_t)((stop != NULL ? stop : p->in.end) - p->in.at)};
        if (!read_line(p, line))
            return false;
        p->in.at = stop != NULL ? stop + 1 : p->in.end;
    }
    end_row(p);
    return true;
}

/* ---- all ----------------------------------------------------------------------------------- */

static const char *judge(struct legacy_values *v)
{
    if (v->broker_host[0] == '\0' || strchr(v->broker_host, ' ') != NULL)
        return "there is no broker_host";
    if (v->keepalive < 5)
        v->keepalive = 5; /* the least that nemogate has; the broker only waits longer */
    if (v->username[0] == '\0' || v->password[0] == '\0')
        v->username[0] = v->password[0] = '\0';
    if (!v->use_hmac || v->hmac_secret_key[0] == '\0') {
        v->use_hmac = false; /* the plugin signs with both of them only */
        v->hmac_secret_key[0] = '\0';
        return NULL;
    }
    return signer_key_fault(bytes_of(v->hmac_secret_key));
}

const char *legacy_values_read(struct bytes text, uint8_t *scratch, struct legacy_values *values)
{
    struct parser p = {.in = reader_over(text), .scratch = writer_over(scratch, text.length)};
    skip_blanks(&p.in);
    if (p.in.at == p.in.end)
        return "there is no output";
    bool is_json = *p.in.at == '[' || *p.in.at == '{';
    bool read = is_json ? read_value(&p, bytes_of(""), false, 0) : read_lines(&p);
    skip_blanks(&p.in);
    if (read && is_json && p.in.at < p.in.end)
        read = fail(&p);
    if (!read)
        return p.fault;
    if (!p.has_found)
        return "no configuration is enabled";
    *values = p.found.values;
    return p.found.fault != NULL ? p.found.fault : judge(values);
}
