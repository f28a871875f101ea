/* Replies of Redis as trees, and what is no reply at all. */
#include "redis_reader_driver.h"

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
