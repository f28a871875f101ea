/*
 * JSON strings, both ways: written as Python's json.dumps writes them (ensure_ascii), read as
 * RFC 8259 and Python's json have them, each escape decoded exactly once. Not a JSON library: the
 * values around the strings are their users' business. Pure functions, no allocation. Any thread.
 */
#ifndef NEMOGATE_CODEC_JSON_TEXT_H
#define NEMOGATE_CODEC_JSON_TEXT_H

#include "codec/bytes.h"
#include "codec/status.h"

/* What a text is as UTF-8. U+0000 is a character like any other; overlong forms and what lies over
 * U+10FFFF are not UTF-8 [RFC 3629, 3]. A surrogate (U+D800 to U+DFFF) is not either, but told
 * apart because programs write it: half of a pair, or both halves encoded one by one. */
enum json_text { JSON_TEXT_OK, JSON_TEXT_NOT_UTF8, JSON_TEXT_SURROGATE };

/* The exact size of the text as the inside of a JSON string, quotes not counted. *size is set only
 * with JSON_TEXT_OK. The text is at most SIZE_MAX / 6 bytes. */
MUST_CHECK enum json_text json_text_size(struct bytes text, size_t *size);

/* Writes the inside of the JSON string: ASCII only, \" \\ \b \f \n \r \t, and \uXXXX in lower-case
 * hex for every other control character, U+007F and all beyond it, as a surrogate pair above
 * U+FFFF;
 * '/' stays. Writes nothing and fails the writer when the text is not JSON_TEXT_OK. */
void json_text_put(struct writer *w, struct bytes text);

/* A decoded string. The text borrows from the input where it had no escapes, else from scratch. It
 * is UTF-8 unless lone_surrogate: then an escape named half of a surrogate pair, and the text is
 * fit for nothing but being skipped. */
struct json_string {
    struct bytes text;
    bool lone_surrogate;
};

/* Reads one string, from its opening quote to its closing one. NULL: *string is set. Else a static
 * text of what is wrong (no string here, no end, a control character, an escape that JSON does not
 * know, not UTF-8). The text never takes more of scratch than the string took of the input; with
 * less room than that the writer may fail. */
MUST_CHECK const char *json_string_read(struct reader *in, struct writer *scratch,
                                        struct json_string *string);

#endif
