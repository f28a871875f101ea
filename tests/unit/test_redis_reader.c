/* Replies of Redis, whole and in pieces of every size: trees, entries, and what is neither. */
#include "codec/redis_reader.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What the callbacks saw, as text. */
struct seen {
    enum redis_expect expect;
    const char *expects; /* when set, one letter per reply: v, s */
    size_t asked;
    char *text;
    size_t length, size;
};

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        abort();
    return memory;
}

static void note(struct seen *seen, const char *label, struct bytes view)
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

static enum redis_expect on_expect(void *context)
{
    struct seen *seen = context;
    size_t index = seen->asked++;
    if (seen->expects != NULL)
        return seen->expects[index] == 's' ? REDIS_EXPECT_STREAMS : REDIS_EXPECT_VALUE;
    return seen->expect;
}

static void on_stream(void *context, struct bytes name)
{
    note(context, "[", name);
    note(context, "]", bytes_of(""));
}

static void on_entry(void *context, const struct redis_entry *entry)
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

static void note_value(struct seen *seen, const struct redis_value *value)
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
static enum status drain(struct redis_reader *reader, struct seen *seen)
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
static enum status feed_pieces(struct redis_reader *reader, struct seen *seen, struct bytes input,
                               size_t first, size_t size)
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

static struct redis_reader *new_reader(struct seen *seen)
{
    struct redis_reader *reader = redis_reader_new(on_expect, &sink, seen);
    cr_assert_not_null(reader);
    return reader;
}

/* The input gives the expected text whole, and cut in every way by one and by many cuts. */
static void assert_reads(enum redis_expect expect, const char *expects, struct bytes input,
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

static void assert_value(const char *input, const char *expected)
{
    assert_reads(REDIS_EXPECT_VALUE, NULL, bytes_of(input), expected);
}

static void assert_streams(const char *input, const char *expected)
{
    assert_reads(REDIS_EXPECT_STREAMS, NULL, bytes_of(input), expected);
}

/* Whole and byte by byte, the input ends in a malformed reply with this text in its error. */
static void assert_malformed(enum redis_expect expect, const char *input, const char *says,
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

/* ---- trees -------------------------------------------------------------------------------- */

Test(redis_reader, reads_every_type)
{
    assert_value("+OK\r\n", "+OK;");
    assert_value("-ERR no such key\r\n", "-ERR no such key;");
    assert_value(":-9223372036854775808\r\n", ":-9223372036854775808;");
    assert_value("$5\r\nhello\r\n", "$hello;");
    assert_value("$0\r\n\r\n", "$;");
    assert_value("$4\r\n\r\n\r\n\r\n", "$\r\n\r\n;");
    assert_value("$-1\r\n", "nil;");
    assert_value("*-1\r\n", "nil;");
    assert_value("*0\r\n", "*0();");
}

Test(redis_reader, reads_nested_arrays)
{
    assert_value("*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n*3\r\n$-1\r\n-ERR x\r\n*1\r\n+b\r\n",
                 "*3($a *2(:1 *0()) *3(nil -ERR x *1(+b)));");
    assert_value("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n",
                 "*1(*1(*1(*1(*1(*1(*1(:7)))))));");
}

Test(redis_reader, reads_several_replies_of_one_piece)
{
    assert_value("+OK\r\n:1\r\n*1\r\n:2\r\n+OK\r\n", "+OK;:1;*1(:2);+OK;");
}

Test(redis_reader, uses_its_memory_again)
{
    struct seen seen = {.expect = REDIS_EXPECT_VALUE};
    struct redis_reader *reader = new_reader(&seen);
    const struct redis_value *first, *second;
    struct bytes input = bytes_of("*2\r\n$3\r\nabc\r\n:1\r\n");
    cr_assert_eq(redis_reader_feed(reader, input), STATUS_OK);
    cr_assert_eq(redis_reader_next(reader, &first), STATUS_OK);
    cr_assert_eq(redis_reader_feed(reader, input), STATUS_OK);
    cr_assert_eq(redis_reader_next(reader, &second), STATUS_OK);
    cr_assert_eq(first, second);
    redis_reader_free(reader);
}

/* Writes an array of count strings, each of length bytes, after at; returns the end. */
static char *put_strings(char *at, int count, int length)
{
    at += sprintf(at, "*%d\r\n", count);
    for (int i = 0; i < count; i++)
        at += sprintf(at, "$%d\r\n%0*d\r\n", length, length, i);
    return at;
}

Test(redis_reader, a_large_tree_spans_many_chunks)
{
    static const struct {
        int count, length;
    } sizes[] = {{20000, 8}, {3, 700000}, {1, 2000000}, {5, 1}, {300, 5000}, {300, 5000}};
    char *input = allocate(4 << 20);
    struct seen seen = {.expect = REDIS_EXPECT_VALUE};
    struct redis_reader *reader = new_reader(&seen);
    for (size_t round = 0; round < COUNT(sizes); round++) {
        char *end = put_strings(input, sizes[round].count, sizes[round].length);
        struct bytes all = {(const uint8_t *)input, (size_t)(end - input)};
        const struct redis_value *reply = NULL;
        enum status status = STATUS_AGAIN;
        for (size_t at = 0; at < all.length; at += 60000) {
            size_t piece = all.length - at < 60000 ? all.length - at : 60000;
            cr_assert_eq(redis_reader_feed(reader, (struct bytes){all.data + at, piece}),
                         STATUS_OK);
            cr_assert_eq(status, STATUS_AGAIN);
            status = redis_reader_next(reader, &reply);
        }
        cr_assert_eq(status, STATUS_OK);
        cr_assert_eq(reply->count, (size_t)sizes[round].count);
        int index = 0;
        for (const struct redis_value *e = reply->element; e != NULL; e = e->next, index++) {
            cr_assert_eq(e->text.length, (size_t)sizes[round].length);
            cr_assert_eq(e->text.data[e->text.length - 1], '0' + index % 10);
        }
        cr_assert_eq(index, sizes[round].count);
    }
    redis_reader_free(reader);
    free(input);
}

Test(redis_reader, tells_errors_by_their_code)
{
    struct redis_value value = {.type = REDIS_ERROR, .text = bytes_of("NOGROUP No such key")};
    cr_assert(redis_value_is_error(&value, "NOGROUP"));
    cr_assert_not(redis_value_is_error(&value, "NOGROU"));
    cr_assert_not(redis_value_is_error(&value, "ERR"));
    value.type = REDIS_STATUS;
    cr_assert_not(redis_value_is_error(&value, "NOGROUP"));
    value = (struct redis_value){.type = REDIS_ERROR, .text = bytes_of("NOGROUP")};
    cr_assert_not(redis_value_is_error(&value, "NOGROUP"));
    value.text = bytes_of("NO");
    cr_assert_not(redis_value_is_error(&value, "NOGROUP"));
}

/* ---- replies of XREADGROUP ---------------------------------------------------------------- */

#define ENTRY(id, body) "*2\r\n$3\r\n" id "\r\n" body
#define AB "*4\r\n$1\r\na\r\n$2\r\n11\r\n$1\r\nb\r\n$2\r\n22\r\n"

Test(redis_reader, reads_entries)
{
    assert_streams("*1\r\n*2\r\n$4\r\nnemo\r\n*3\r\n" ENTRY("1-1", AB) ENTRY("1-2", AB)
                       ENTRY("1-3", "*2\r\n$0\r\n\r\n$4\r\n\r\n$9\r\n"),
                   "[nemo] 1-1:a=11,b=22 1-2:a=11,b=22 1-3:=\r\n$9*3();");
}

Test(redis_reader, an_entry_may_begin_with_empty_texts)
{
    assert_streams("*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY("1-1", "*2\r\n$0\r\n\r\n$0\r\n\r\n"),
                   "[A] 1-1:=*1();");
}

Test(redis_reader, reads_several_streams)
{
    assert_streams("*4\r\n"
                   "*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB)
                       ENTRY("1-2", AB) "*2\r\n$1\r\nB\r\n*1\r\n" ENTRY(
                           "2-1", AB) "*2\r\n$1\r\nC\r\n*0\r\n"
                                      "*2\r\n$1\r\nD\r\n*2\r\n" ENTRY("4-1", AB) ENTRY("4-2", AB),
                   "[A] 1-1:a=11,b=22 1-2:a=11,b=22[B] 2-1:a=11,b=22[C]"
                   "[D] 4-1:a=11,b=22 4-2:a=11,b=22*5();");
}

Test(redis_reader, a_deleted_entry_has_nil_for_its_fields)
{
    assert_streams("*1\r\n*2\r\n$1\r\nA\r\n*5\r\n" ENTRY("1-1", "*-1\r\n") ENTRY("1-2", AB)
                       ENTRY("1-3", "*-1\r\n") ENTRY("1-4", "*0\r\n") ENTRY("1-5", "$-1\r\n"),
                   "[A] 1-1 nil 1-2:a=11,b=22 1-3 nil 1-4 1-5 nil*5();");
}

Test(redis_reader, nil_and_errors_come_as_values)
{
    assert_streams("*-1\r\n", "nil;");
    assert_streams("$-1\r\n", "nil;");
    assert_streams("*0\r\n", "*0();");
    assert_streams("-NOGROUP No such key\r\n", "-NOGROUP No such key;");
}

Test(redis_reader, asks_once_for_each_reply)
{
    assert_reads(REDIS_EXPECT_VALUE, "vsvsssv",
                 bytes_of("*1\r\n+a\r\n"
                          "*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY(
                              "1-1", AB) "+OK\r\n"
                                         "*-1\r\n"
                                         "-ERR x\r\n"
                                         "*1\r\n*2\r\n$1\r\nB\r\n*1\r\n" ENTRY("2-1", AB) ":4\r\n"),
                 "*1(+a);[A] 1-1:a=11,b=22*1();+OK;nil;-ERR x;[B] 2-1:a=11,b=22*1();:4;");
}

Test(redis_reader, a_reply_that_looks_like_an_entry_is_not_one_more)
{
    assert_reads(REDIS_EXPECT_VALUE, "sv",
                 bytes_of("*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB) ENTRY("1-2", AB)
                              ENTRY("1-3", AB)),
                 "[A] 1-1:a=11,b=22 1-2:a=11,b=22*2();*2($1-3 *4($a $11 $b $22));");
}

/* Three entries of so many fields each, named f; the values are their numbers. */
static char *entries_of(int field_count)
{
    char *input = allocate((size_t)field_count * 60 + 1000), *at = input;
    at += sprintf(at, "*1\r\n*2\r\n$1\r\nA\r\n*3\r\n");
    for (int entry = 1; entry <= 3; entry++) {
        at += sprintf(at, "*2\r\n$3\r\n1-%d\r\n*%d\r\n", entry, 2 * field_count);
        for (int i = 0; i < field_count; i++)
            at += sprintf(at, "$1\r\nf\r\n$3\r\n%03d\r\n", i);
    }
    return input;
}

Test(redis_reader, fields_beyond_the_limit_are_left_out)
{
    for (int field_count = REDIS_MAX_FIELDS; field_count <= REDIS_MAX_FIELDS + 2; field_count++) {
        char *input = entries_of(field_count);
        struct seen expected = {0};
        note(&expected, "[A]", bytes_of(""));
        for (int entry = 1; entry <= 3; entry++) {
            char text[32];
            sprintf(text, " 1-%d", entry);
            note(&expected, text, bytes_of(""));
            for (int i = 0; i < REDIS_MAX_FIELDS; i++) {
                sprintf(text, "%sf=%03d", i == 0 ? ":" : ",", i);
                note(&expected, text, bytes_of(""));
            }
            note(&expected, field_count > REDIS_MAX_FIELDS ? " overflow" : "", bytes_of(""));
        }
        note(&expected, "*3();", bytes_of(""));
        assert_streams(input, expected.text);
        free(expected.text);
        free(input);
    }
}

/* Counts entries and checks that each payload is whole: a run of one letter that its id gives. */
static void check_payload(void *context, const struct redis_entry *entry)
{
    size_t *count = context;
    cr_assert_eq(entry->count, 3u);
    struct bytes payload = entry->fields[1].value;
    uint8_t letter = (uint8_t)('a' + entry->id.seq % 26);
    cr_assert_gt(payload.length, 0u);
    cr_assert_eq(payload.data[0], letter);
    cr_assert_eq(memcmp(payload.data, payload.data + 1, payload.length - 1), 0);
    cr_assert(bytes_equal(entry->fields[0].value, bytes_of("tools/17")));
    cr_assert(bytes_equal(entry->fields[2].value, bytes_of("tool")));
    (*count)++;
}

static void ignore_stream(void *context, struct bytes name)
{
    (void)context;
    (void)name;
}

static enum redis_expect always_streams(void *context)
{
    (void)context;
    return REDIS_EXPECT_STREAMS;
}

static const struct redis_stream_sink checking_sink = {ignore_stream, check_payload};

/* A reply of entries whose payloads are of the given lengths by turns. */
static struct bytes reply_of(int count, const int *lengths, size_t length_count)
{
    size_t size = 1000;
    for (int i = 0; i < count; i++)
        size += 120 + (size_t)lengths[(size_t)i % length_count];
    char *reply = allocate(size), *at = reply;
    at += sprintf(at, "*1\r\n*2\r\n$1\r\nA\r\n*%d\r\n", count);
    for (int i = 0; i < count; i++) {
        int length = lengths[(size_t)i % length_count];
        at += sprintf(at, "*2\r\n$6\r\n1-%04d\r\n*6\r\n$5\r\ntopic\r\n$8\r\ntools/17\r\n", i);
        at += sprintf(at, "$7\r\npayload\r\n$%d\r\n", length);
        memset(at, 'a' + i % 26, (size_t)length);
        at += length;
        at += sprintf(at, "\r\n$3\r\nkey\r\n$4\r\ntool\r\n");
    }
    return (struct bytes){(const uint8_t *)reply, (size_t)(at - reply)};
}

static void read_in_pieces(struct redis_reader *reader, struct bytes input, size_t size,
                           size_t entries)
{
    for (size_t at = 0; at < input.length; at += size) {
        size_t piece = input.length - at < size ? input.length - at : size;
        const struct redis_value *reply;
        cr_assert_eq(redis_reader_feed(reader, (struct bytes){input.data + at, piece}), STATUS_OK);
        enum status status = redis_reader_next(reader, &reply);
        if (at + piece < input.length) {
            cr_assert_eq(status, STATUS_AGAIN);
        } else {
            cr_assert_eq(status, STATUS_OK);
            cr_assert_eq(reply->count, entries);
        }
    }
}

Test(redis_reader, payloads_survive_any_cut)
{
    static const int lengths[] = {1, 300, 5000, 2, 70000, 1023, 1024, 3};
    static const size_t sizes[] = {7, 100, 1000, 1024, 4096, 4097, 65536, 1 << 24};
    struct bytes input = reply_of(64, lengths, COUNT(lengths));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t count = 0;
        struct redis_reader *reader = redis_reader_new(always_streams, &checking_sink, &count);
        read_in_pieces(reader, input, sizes[i], 64);
        cr_assert_eq(count, 64u);
        redis_reader_free(reader);
    }
    free((void *)input.data);
}

Test(redis_reader, memory_stays_flat)
{
    static const int lengths[] = {220, 180, 2000, 10};
    struct bytes input = reply_of(1000, lengths, COUNT(lengths));
    size_t count = 0;
    struct redis_reader *reader = redis_reader_new(always_streams, &checking_sink, &count);
    for (int i = 0; i < 3; i++)
        read_in_pieces(reader, input, 16000, 1000);
    size_t in_use = mallinfo2().uordblks;
    for (int i = 0; i < 97; i++)
        read_in_pieces(reader, input, 16000, 1000);
    cr_assert_eq(count, 100000u);
    cr_assert_leq(mallinfo2().uordblks, in_use + 4096);
    redis_reader_free(reader);
    free((void *)input.data);
}

static size_t memory_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

Test(redis_reader, gives_back_what_large_replies_took)
{
    static const int large = 8 << 20, small = 10;
    struct bytes large_entry = reply_of(1, &large, 1), small_entry = reply_of(1, &small, 1);
    char *text = allocate(9 << 20);
    struct bytes large_tree = {(const uint8_t *)text, 0};
    large_tree.length = (size_t)(put_strings(text, 1, 8 << 20) - text);
    struct seen seen = {.expects = "vv"};
    size_t count = 0, before = memory_in_use();

    struct redis_reader *entries = redis_reader_new(always_streams, &checking_sink, &count);
    read_in_pieces(entries, large_entry, 60000, 1);
    read_in_pieces(entries, small_entry, 60000, 1);
    cr_assert_eq(count, 2u);
    cr_assert_leq(memory_in_use(), before + (3 << 20));
    redis_reader_free(entries);
    cr_assert_leq(memory_in_use(), before + 4096);

    struct redis_reader *trees = new_reader(&seen);
    read_in_pieces(trees, large_tree, 60000, 1);
    read_in_pieces(trees, (struct bytes){(const uint8_t *)"*1\r\n:1\r\n", 8}, 100, 1);
    cr_assert_leq(memory_in_use(), before + (3 << 20));
    redis_reader_free(trees);
    cr_assert_leq(memory_in_use(), before + 4096);
    free(text);
    free((void *)large_entry.data);
    free((void *)small_entry.data);
}

/* ---- what is not a reply ------------------------------------------------------------------ */

Test(redis_reader, refuses_what_is_not_resp)
{
    assert_malformed(REDIS_EXPECT_VALUE, "HTTP/1.1 400\r\n", "got \"H\" as reply type byte", "");
    assert_malformed(REDIS_EXPECT_VALUE, "+OK\r\n:x\r\n", "not the protocol of Redis", "+OK;");
    assert_malformed(REDIS_EXPECT_VALUE, "$x\r\n", "not the protocol of Redis", "");
    assert_malformed(REDIS_EXPECT_VALUE, "*-2\r\n", "not the protocol of Redis", "");
    assert_malformed(REDIS_EXPECT_STREAMS, "*1\r\n?", "not the protocol of Redis", "");
}

Test(redis_reader, refuses_bottomless_nesting)
{
    char input[4 * 9 + 1];
    for (int i = 0; i < 9; i++)
        memcpy(input + 4 * i, "*1\r\n", 5);
    assert_malformed(REDIS_EXPECT_VALUE, input, "nested", "");
}

Test(redis_reader, refuses_another_shape_than_xreadgroups)
{
    static const struct {
        const char *input, *says, *before;
    } cases[] = {
        {"+OK\r\n", "a status line where an array of streams, nil or an error is due", ""},
        {":1\r\n", "an integer where an array of streams", ""},
        {"$1\r\na\r\n", "a string where an array of streams", ""},
        {"*1\r\n:1\r\n",
         "an integer where an array of a stream's name and its entries is due "
         "(stream 1 of the reply)",
         ""},
        {"*1\r\n$-1\r\n", "nil where an array of a stream's name", ""},
        {"*1\r\n-ERR x\r\n", "an error where an array of a stream's name", ""},
        {"*1\r\n*3\r\n", "an array of 3 elements where an array of a stream's name", ""},
        {"*1\r\n*1\r\n", "an array of 1 element where an array of a stream's name", ""},
        {"*1\r\n*2\r\n*0\r\n", "an array of 0 elements where a stream's name", ""},
        {"*1\r\n*2\r\n:1\r\n", "an integer where a stream's name", ""},
        {"*1\r\n*2\r\n+A\r\n", "a status line where a stream's name", ""},
        {"*1\r\n*2\r\n$1\r\nA\r\n$1\r\nB\r\n", "a string where an array of entries", "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*-1\r\n", "nil where an array of entries", "[A]"},
        {"*2\r\n*2\r\n$1\r\nA\r\n*0\r\n*2\r\n$1\r\nB\r\n*1\r\n$1\r\nx\r\n",
         "a string where an array of an entry's id and its fields is due (stream 2, entry 1 of "
         "the reply)",
         "[A][B]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*1\r\n*1\r\n", "an array of 1 element where an array of an entry",
         "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*3\r\n" ENTRY("1-1", AB) ENTRY("1-2", AB) ENTRY("1+3", AB),
         "a string where an entry's id (ms-seq) is due (stream 1, entry 3 of the reply)",
         "[A] 1-1:a=11,b=22 1-2:a=11,b=22"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*1\r\n*2\r\n:1\r\n", "an integer where an entry's id", "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*1\r\n*2\r\n*2\r\n", "2 elements where an entry's id", "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB) ENTRY("1-2", "*3\r\n"),
         "an array of 3 elements where an array of as many names as values is due (stream 1, "
         "entry 2 of the reply)",
         "[A] 1-1:a=11,b=22"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB)
             ENTRY("1-2", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n"),
         "an array of 3 elements where an array of as many", "[A] 1-1:a=11,b=22"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB) "*3\r\n$3\r\n1-2\r\n" AB,
         "an array of 3 elements where an array of an entry's id", "[A] 1-1:a=11,b=22"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB) ENTRY("1-2", "*02\r\n"),
         "not the protocol of Redis", "[A] 1-1:a=11,b=22"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY("1-1", "$1\r\nx\r\n"),
         "a string where an array of as many names as values", "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB) ENTRY("1-2", "*2\r\n$1\r\na\r\n:1\r\n"),
         "an integer where a field's name or value is due (stream 1, entry 2", "[A] 1-1:a=11,b=22"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY("1-1", "*2\r\n$1\r\na\r\n$-1\r\n"),
         "nil where a field's name or value", "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY("1-1", "*2\r\n$1\r\na\r\n*2\r\n"),
         "an array of 2 elements where a field's name or value", "[A]"},
        {"*1\r\n*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB) ENTRY("1-2", "*2\r\n$1\r\na\r\n$x1\r\n"),
         "not the protocol of Redis", "[A] 1-1:a=11,b=22"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_malformed(REDIS_EXPECT_STREAMS, cases[i].input, cases[i].says, cases[i].before);
}

/* ---- starting again ----------------------------------------------------------------------- */

Test(redis_reader, reset_forgets_what_was_unread)
{
    const char *whole = "*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY("1-1", AB);
    for (size_t cut = 0; cut < strlen(whole); cut++) {
        struct seen seen = {.expect = REDIS_EXPECT_STREAMS};
        struct redis_reader *reader = new_reader(&seen);
        note(&seen, "", bytes_of(""));
        struct bytes part = {(const uint8_t *)whole, cut};
        cr_assert_eq(feed_pieces(reader, &seen, part, 1, 5), STATUS_AGAIN);
        redis_reader_reset(reader);
        seen.length = 0;
        cr_assert_eq(feed_pieces(reader, &seen, bytes_of(whole), 3, 4), STATUS_AGAIN);
        cr_assert_str_eq(seen.text, "[A] 1-1:a=11,b=22*1();");
        redis_reader_free(reader);
        free(seen.text);
    }
}

Test(redis_reader, reset_heals_a_failed_reader)
{
    struct seen seen = {.expect = REDIS_EXPECT_VALUE};
    struct redis_reader *reader = new_reader(&seen);
    cr_assert_eq(feed_pieces(reader, &seen, bytes_of("nonsense"), 8, 8), STATUS_MALFORMED);
    redis_reader_reset(reader);
    cr_assert_str_empty(redis_reader_error(reader));
    cr_assert_eq(feed_pieces(reader, &seen, bytes_of("+OK\r\n"), 2, 2), STATUS_AGAIN);
    cr_assert_str_eq(seen.text, "+OK;");
    redis_reader_free(reader);
    free(seen.text);
}

Test(redis_reader, an_empty_feed_changes_nothing)
{
    struct seen seen = {.expect = REDIS_EXPECT_VALUE};
    struct redis_reader *reader = new_reader(&seen);
    const struct redis_value *reply;
    cr_assert_eq(redis_reader_next(reader, &reply), STATUS_AGAIN);
    cr_assert_eq(redis_reader_feed(reader, (struct bytes){NULL, 0}), STATUS_OK);
    cr_assert_eq(redis_reader_next(reader, &reply), STATUS_AGAIN);
    cr_assert_eq(seen.asked, 0u);
    redis_reader_free(reader);
    redis_reader_free(NULL);
}
