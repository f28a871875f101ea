/*
 * JSON strings. Payloads are nearly all ASCII: they are measured eight bytes at a time, and only
 * what is not printable ASCII is looked at by character.
 */
#include "codec/json_text.h"

#include <assert.h>

/* What follows the backslash of an ASCII character's escape; 0: it is written as it is. 'u' is
 * followed by four hex digits. */
static const uint8_t escape_of[128] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n',          'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u',          'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\', [0x7f] = 'u',
};

static bool is_surrogate(uint32_t character)
{
    return character >= 0xd800 && character <= 0xdfff;
}

/* The length of the character at the front; 0: no UTF-8. Surrogates are left to the caller. */
static size_t utf8_read(const uint8_t *at, size_t left, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = at[0];
    size_t length = lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length == 0 || length > left || lead > 0xf4)
        return 0;
    uint32_t value = length == 1 ? lead : lead & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3fu);
    }
    if (value < least[length] || value > 0x10ffff)
        return 0;
    *character = value;
    return length;
}

/* ---- out ---------------------------------------------------------------------------------- */

#define EACH(byte) (0x0101010101010101u * (byte))

/* Counts the quotes and backslashes of eight printable ASCII characters; false: not all are. No sum
 * carries into the next byte, for none of the bytes is over 0x7f where it counts. */
static bool measure_word(const uint8_t *at, size_t *escapes)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    const uint64_t top = EACH(0x80);
    uint64_t unusual = word | ~(word + EACH(0x80 - 0x20)) | (word + EACH(0x80 - 0x7f));
    if ((unusual & top) != 0)
        return false;
    uint64_t quotes = ~((word ^ EACH('"')) + EACH(0x7f)) & top;
    uint64_t backslashes = ~((word ^ EACH('\\')) + EACH(0x7f)) & top;
    *escapes += (((quotes | backslashes) >> 7) * EACH(1)) >> 56;
    return true;
}

enum json_text json_text_size(struct bytes text, size_t *size)
{
    size_t total = 0;
    size_t i = 0;
    while (i < text.length) {
        size_t escapes = 0;
        if (text.length - i >= 8 && measure_word(text.data + i, &escapes)) {
            total += 8 + escapes;
            i += 8;
            continue;
        }
        uint32_t character = 0;
        size_t length = utf8_read(text.data + i, text.length - i, &character);
        if (length == 0)
            return JSON_TEXT_NOT_UTF8;
        if (is_surrogate(character))
            return JSON_TEXT_SURROGATE;
        if (length == 1)
            total += escape_of[character] == 0 ? 1 : escape_of[character] == 'u' ? 6 : 2;
        else
            total += length == 4 ? 12 : 6;
        i += length;
    }
    *size = total;
    return JSON_TEXT_OK;
}

static uint8_t *put_unit(uint8_t *to, uint32_t unit)
{
    static const char digits[] = "0123456789abcdef";
    to[0] = '\\';
    to[1] = 'u';
    for (unsigned i = 0; i < 4; i++)
        to[2 + i] = (uint8_t)digits[unit >> (12 - 4 * i) & 15];
    return to + 6;
}

/* A character of several bytes. */
static uint8_t *put_character(uint8_t *to, uint32_t character)
{
    if (character < 0x10000)
        return put_unit(to, character);
    to = put_unit(to, 0xd800 + ((character - 0x10000) >> 10));
    return put_unit(to, 0xdc00 + (character & 0x3ff));
}

void json_text_put(struct writer *w, struct bytes text)
{
    size_t size = 0;
    if (json_text_size(text, &size) != JSON_TEXT_OK)
        w->failed = true;
    if (!writer_has(w, size))
        return;
    uint8_t *to = w->at;
    for (size_t i = 0; i < text.length;) {
        uint8_t c = text.data[i];
        if (c >= 0x80) {
            uint32_t character = 0;
            i += utf8_read(text.data + i, text.length - i, &character);
            to = put_character(to, character);
            continue;
        }
        if (escape_of[c] == 0) {
            *to++ = c;
        } else if (escape_of[c] == 'u') {
            to = put_unit(to, c);
        } else {
            *to++ = '\\';
            *to++ = escape_of[c];
        }
        i++;
    }
    assert((size_t)(to - w->at) == size);
    w->at = to;
}

/* ---- in ----------------------------------------------------------------------------------- */

/* The four hex digits behind \u. */
static bool read_unit(const uint8_t *at, size_t left, uint32_t *unit)
{
    if (left < 4)
        return false;
    *unit = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t c = at[i];
        uint32_t letter = (c | 0x20u) - 'a';
        uint32_t digit = c - '0' <= 9 ? c - '0' : letter <= 5 ? letter + 10 : 16;
        if (digit > 15)
            return false;
        *unit = *unit << 4 | digit;
    }
    return true;
}

static void put_utf8(struct writer *w, uint32_t character)
{
    if (character < 0x80) {
        writer_put_u8(w, (uint8_t)character);
        return;
    }
    unsigned more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    writer_put_u8(w, (uint8_t)((0xff00u >> (more + 1)) | character >> (6 * more)));
    while (more-- > 0)
        writer_put_u8(w, (uint8_t)(0x80u | (character >> (6 * more) & 0x3fu)));
}

/* A \u escape, of which the reader stands behind the 'u'. A high surrogate takes the low one that
 * follows with it; any other half stays alone. */
static const char *read_u_escape(struct reader *in, struct writer *scratch,
                                 struct json_string *string)
{
    uint32_t character;
    if (!read_unit(in->at, reader_left(in), &character))
        return "a \\u without four hex digits";
    in->at += 4;
    uint32_t low;
    if (character >= 0xd800 && character < 0xdc00 && reader_left(in) >= 6 && in->at[0] == '\\' &&
        in->at[1] == 'u' && read_unit(in->at + 2, 4, &low) && low >= 0xdc00 && low <= 0xdfff) {
        in->at += 6;
        character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
    }
    string->lone_surrogate = string->lone_surrogate || is_surrogate(character);
    put_utf8(scratch, character);
    return NULL;
}

static const char *read_escape(struct reader *in, struct writer *scratch,
                               struct json_string *string)
{
    static const char known[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    in->at++;
    if (reader_left(in) == 0)
        return "a string does not end";
    uint8_t c = *in->at++;
    if (c == 'u')
        return read_u_escape(in, scratch, string);
    const char *found = memchr(known, c, sizeof known - 1);
    if (found == NULL)
        return "an escape that JSON does not know";
    writer_put_u8(scratch, (uint8_t)meant[found - known]);
    return NULL;
}

/* Takes characters up to the next quote or escape. */
static const char *read_run(struct reader *in, struct bytes *run)
{
    const uint8_t *start = in->at;
    while (in->at < in->end && *in->at != '"' && *in->at != '\\') {
        uint32_t character = 0;
        size_t length = utf8_read(in->at, reader_left(in), &character);
        if (length == 0 || is_surrogate(character))
            return "not UTF-8";
        if (character < 0x20)
            return "a control character in a string";
        in->at += length;
    }
    if (in->at == in->end)
        return "a string does not end";
    *run = (struct bytes){start, (size_t)(in->at - start)};
    return NULL;
}

const char *json_string_read(struct reader *in, struct writer *scratch, struct json_string *string)
{
    const uint8_t *start = scratch->at;
    *string = (struct json_string){0};
    if (reader_left(in) == 0 || *in->at != '"')
        return "no string where one must stand";
    in->at++;
    struct bytes run;
    const char *fault = read_run(in, &run);
    if (fault == NULL && *in->at == '"') {
        in->at++;
        string->text = run;
        return NULL;
    }
    while (fault == NULL) {
        writer_put_bytes(scratch, run);
        if (*in->at == '"')
            break;
        fault = read_escape(in, scratch, string);
        if (fault == NULL)
            fault = read_run(in, &run);
    }
    if (fault != NULL)
        return fault;
    in->at++;
    string->text = (struct bytes){start, (size_t)(scratch->at - start)};
    return NULL;
}
