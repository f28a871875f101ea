/* Feeds replies to a reader, whole and in pieces of every size, and writes down what comes of them.
 */
#ifndef NEMOGATE_TESTS_REDIS_READER_DRIVER_H
#define NEMOGATE_TESTS_REDIS_READER_DRIVER_H

#include "codec/redis_reader.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

/* An entry of an XREADGROUP reply, and fields for it. */
#define ENTRY(id, body) "*2\r\n$3\r\n" id "\r\n" body
#define AB "*4\r\n$1\r\na\r\n$2\r\n11\r\n$1\r\nb\r\n$2\r\n22\r\n"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What the callbacks saw, as text. */
struct seen {
    enum redis_expect expect;
    const char *expects; /* when set, one letter per reply: v, s */
    size_t asked;
    char *text;
    size_t length, size;
};

static inline void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        abort();
    return memory;
}

static inline void note(struct seen *seen, const char *label, struct bytes view)
{
    size_t need = seen->length + strlen(label) + view.length + 1;
    if (need > seen->size) {
        seen->size = 2 * need;
        seen->text = realloc(seen->text, seen->size);
        if (seen->text == NULL)
            abort();
    }
    strcpy(seen->text + seen->length, label);
    seen->length += strlen(label);
    for (size_t i = 0; i < view.length; i++)
        seen->text[seen->length++] = (char)(view.data[i] == '\0' ? '0' : view.data[i]);
    seen->text[seen->length] = '\0';
}

static inline enum redis_expect on_expect(void *context)
{
    struct seen *seen = context;
    size_t index = seen->asked++;
    if (seen->expects != NULL)
        return seen->expects[index] == 's' ? REDIS_EXPECT_STREAMS : REDIS_EXPECT_VALUE;
    return seen->expect;
}

static inline void on_stream(void *context, struct bytes name)
{
    note(context, "[", name);
    note(context, "]", bytes_of(""));
}

static inline void on_entry(void *context, const struct redis_entry *entry)
{
    char id[STREAM_ID_TEXT];
    stream_id_format(entry->id, id);
    note(context, " ", bytes_of(id));
    for (size_t i = 0; i < entry->count; i++) {
        cr_assert_not_null(entry->fields[i].name.data);
        cr_assert_not_null(entry->fields[i].value.data);
        note(context, i == 0 ? ":" : ",", entry->fields[i].name);
        note(context, "=", entry->fields[i].value);
    }
    note(context, entry->nil ? " nil" : "", bytes_of(entry->overflow ? " overflow" : ""));
}

static const struct redis_stream_sink sink = {on_stream, on_entry};

static inline void note_value(struct seen *seen, const struct redis_value *value)
{
    char number[32];
    switch (value->type) {
    case REDIS_STRING:
        note(seen, "$", value->text);
        break;
    case REDIS_STATUS:
        note(seen, "+", value->text);
        break;
    case REDIS_ERROR:
        note(seen, "-", value->text);
        break;
    case REDIS_INTEGER:
        snprintf(number, sizeof number, ":%lld", (long long)value->integer);
        note(seen, number, bytes_of(""));
        break;
    case REDIS_NIL:
        note(seen, "nil", bytes_of(""));
        break;
    case REDIS_ARRAY:
        snprintf(number, sizeof number, "*%zu(", value->count);
        note(seen, number, bytes_of(""));
        for (const struct redis_value *e = value->element; e != NULL; e = e->next) {
            note_value(seen, e);
            note(seen, e->next != NULL ? " " : "", bytes_of(""));
        }
        note(seen, ")", bytes_of(""));
        break;
    }
}

/* Reads all that was fed; every reply is noted and followed by a semicolon. */
static inline enum status drain(struct redis_reader *reader, struct seen *seen)
{
    const struct redis_value *reply;
    enum status status;
    while ((status = redis_reader_next(reader, &reply)) == STATUS_OK) {
        note_value(seen, reply);
        note(seen, ";", bytes_of(""));
    }
    return status;
}

/* Feeds input in pieces of the given size, the first of a size of its own. Each piece is fed from
 * memory of its own, so that a view into it cannot live on. */
static inline enum status feed_pieces(struct redis_reader *reader, struct seen *seen,
                                      struct bytes input, size_t first, size_t size)
{
    enum status status = STATUS_AGAIN;
    size_t piece = first;
    for (size_t at = 0; at < input.length && status == STATUS_AGAIN; piece = size) {
        if (piece > input.length - at)
            piece = input.length - at;
        uint8_t *copy = allocate(piece);
        memcpy(copy, input.data + at, piece);
        cr_assert_eq(redis_reader_feed(reader, (struct bytes){copy, piece}), STATUS_OK);
        free(copy);
        at += piece;
        status = drain(reader, seen);
    }
    return status;
}

static inline struct redis_reader *new_reader(struct seen *seen)
{
    struct redis_reader *reader = redis_reader_new(on_expect, &sink, seen);
    cr_assert_not_null(reader);
    return reader;
}

/* The input gives the expected text whole, and cut in every way by one and by many cuts. */
static inline void assert_reads(enum redis_expect expect, const char *expects, struct bytes input,
                                const char *expected)
{
    for (size_t cut = 1; cut <= input.length; cut++) {
        for (int many = 0; many < 2; many++) {
            struct seen seen = {.expect = expect, .expects = expects};
            struct redis_reader *reader = new_reader(&seen);
            enum status status =
                feed_pieces(reader, &seen, input, cut, many != 0 ? cut : input.length);
            cr_assert_eq(status, STATUS_AGAIN, "cut %zu: %s", cut, redis_reader_error(reader));
            cr_assert_str_eq(seen.text, expected, "cut %zu: %s", cut, seen.text);
            redis_reader_free(reader);
            free(seen.text);
        }
    }
}

static inline void assert_value(const char *input, const char *expected)
{
    assert_reads(REDIS_EXPECT_VALUE, NULL, bytes_of(input), expected);
}

static inline void assert_streams(const char *input, const char *expected)
{
    assert_reads(REDIS_EXPECT_STREAMS, NULL, bytes_of(input), expected);
}

/* Whole and byte by byte, the input ends in a malformed reply with this text in its error. */
static inline void assert_malformed(enum redis_expect expect, const char *input, const char *says,
                                    const char *before)
{
    for (size_t piece = 1; piece <= strlen(input); piece += strlen(input) - 1) {
        struct seen seen = {.expect = expect};
        note(&seen, "", bytes_of(""));
        struct redis_reader *reader = new_reader(&seen);
        enum status status = feed_pieces(reader, &seen, bytes_of(input), piece, piece);
        cr_assert_eq(status, STATUS_MALFORMED, "'%s' by %zu", input, piece);
        cr_assert_not_null(strstr(redis_reader_error(reader), says), "'%s' says '%s'", input,
                           redis_reader_error(reader));
        cr_assert_str_eq(seen.text, before, "'%s': %s", input, seen.text);

        const struct redis_value *reply;
        cr_assert_eq(redis_reader_feed(reader, bytes_of("+OK\r\n")), STATUS_FAILED);
        cr_assert_eq(redis_reader_next(reader, &reply), STATUS_MALFORMED);
        cr_assert_not_null(strstr(redis_reader_error(reader), says));
        redis_reader_free(reader);
        free(seen.text);
    }
}

/* Writes an array of count strings, each of length bytes, after at; returns the end. */
static inline char *put_strings(char *at, int count, int length)
{
    at += sprintf(at, "*%d\r\n", count);
    for (int i = 0; i < count; i++)
        at += sprintf(at, "$%d\r\n%0*d\r\n", length, length, i);
    return at;
}

#endif
