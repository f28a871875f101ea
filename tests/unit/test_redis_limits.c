/* What a server can make the reader hold: lengths without end are refused or cut, with small limits
 * in the place of the real ones where the limit itself is not the point. */
#include "tests/unit/redis_reader_driver.h"

#include "codec/redis_reader_private.h"

#include <criterion/criterion.h>

static struct seen seen;
static struct redis_reader *reader;

static void begin(enum redis_expect expect)
{
    seen = (struct seen){.expect = expect};
    note(&seen, "", bytes_of(""));
    reader = new_reader(&seen);
}

static void end(void)
{
    redis_reader_free(reader);
    free(seen.text);
}

static enum status give(const char *text)
{
    cr_assert_eq(redis_reader_feed(reader, bytes_of(text)), STATUS_OK);
    return drain(reader, &seen);
}

/* Gives so many bytes, as from a socket; STATUS_AGAIN while they are taken. */
static enum status give_many(size_t count)
{
    static char chunk[60000];
    enum status status = STATUS_AGAIN;
    memset(chunk, 'x', sizeof chunk);
    for (size_t left = count; left > 0 && status == STATUS_AGAIN;) {
        size_t length = left < sizeof chunk ? left : sizeof chunk;
        cr_assert_eq(redis_reader_feed(reader, (struct bytes){(uint8_t *)chunk, length}),
                     STATUS_OK);
        status = drain(reader, &seen);
        left -= length;
    }
    return status;
}

#define HEAD(fields) "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*" fields "\r\n"
#define NEXT_ENTRY "*2\r\n$3\r\n1-2\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"

/* A field far over the limit is cut, and its rest passed over; the entry behind it is as it was. */
Test(redis_limits, a_text_is_cut_and_its_rest_passed_over)
{
    for (size_t piece = 1; piece < 40; piece++) {
        const char *input = HEAD("4") "$1\r\nt\r\n$1\r\nu\r\n$7\r\npayload\r\n$60\r\n"
                                      "012345678901234567890123456789012345678901234567890123456789"
                                      "\r\n" NEXT_ENTRY;
        begin(REDIS_EXPECT_STREAMS);
        reader->max_text = 50;
        cr_assert_eq(feed_pieces(reader, &seen, bytes_of(input), piece, piece), STATUS_AGAIN);
        cr_assert_str_eq(seen.text,
                         "[s] 1-1:t=u,payload=01234567890123456789012345678901234567890123456789"
                         " 1-2:a=b*2();",
                         "by %zu: %s", piece, seen.text);
        end();
    }
}

static size_t cut_length;

static void measure(void *context, const struct redis_entry *entry)
{
    (void)context;
    for (size_t i = 0; i < entry->count; i++)
        if (entry->fields[i].value.length > cut_length)
            cut_length = entry->fields[i].value.length;
}

static void ignore_stream(void *context, struct bytes name)
{
    (void)context;
    (void)name;
}

/* With the real limits: 100 MB come, and no more is held than a text and a copy of it. */
Test(redis_limits, a_payload_of_100_mb_is_not_held)
{
    static const struct redis_stream_sink measuring = {ignore_stream, measure};
    seen = (struct seen){.expect = REDIS_EXPECT_STREAMS};
    reader = redis_reader_new(on_expect, &measuring, &seen);
    cr_assert_eq(give(HEAD("2") "$7\r\npayload\r\n$100000000\r\n"), STATUS_AGAIN);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(give_many(10000000), STATUS_AGAIN);
        struct mallinfo2 memory = mallinfo2();
        cr_assert_lt(memory.uordblks + memory.hblkhd, (size_t)72 << 20, "after %d: %zu", i,
                     memory.uordblks + memory.hblkhd);
    }
    cr_assert_eq(cut_length, REDIS_MAX_TEXT);
    cr_assert_eq(give("\r\n" NEXT_ENTRY), STATUS_AGAIN);
    cr_assert_str_eq(seen.text, "*2();");
    end();
}

/* Of an entry with many large texts the first fields are given, and it says so. */
Test(redis_limits, an_entry_that_is_too_large_overflows)
{
    begin(REDIS_EXPECT_STREAMS);
    reader->max_text = 20;
    reader->max_reply = 30;
    cr_assert_eq(give(HEAD("6") "$1\r\na\r\n$12\r\n012345678901\r\n$1\r\nb\r\n$12\r\n"
                                "012345678901\r\n$1\r\nc\r\n$12\r\n012345678901\r\n" NEXT_ENTRY),
                 STATUS_AGAIN);
    cr_assert_str_eq(seen.text, "[s] 1-1:a=012345678901,b=012345678901 overflow 1-2:a=b*2();", "%s",
                     seen.text);
    end();
}

static void assert_refused(enum redis_expect expect, const char *begins, size_t more,
                           const char *says)
{
    begin(expect);
    enum status status = give(begins);
    if (status == STATUS_AGAIN && more > 0)
        status = give_many(more);
    cr_assert_eq(status, STATUS_MALFORMED, "'%s'", begins);
    cr_assert_not_null(strstr(redis_reader_error(reader), says), "'%s' says '%s'", begins,
                       redis_reader_error(reader));
    end();
}

Test(redis_limits, lengths_that_no_command_asks_for_are_refused_at_once)
{
    assert_refused(REDIS_EXPECT_VALUE, "$2147483648\r\n", 0, "no command asks for");
    assert_refused(REDIS_EXPECT_VALUE, "$33554433\r\n", 0, "no command asks for");
    assert_refused(REDIS_EXPECT_VALUE, "*1\r\n$9223372036854775807\r\n", 0, "no command asks for");
    assert_refused(REDIS_EXPECT_STREAMS, "*1\r\n*2\r\n$2147483648\r\n", 0, "no command asks for");
    assert_refused(REDIS_EXPECT_STREAMS, HEAD("2") "$4294967296\r\n", 0, "no command asks for");
}

Test(redis_limits, lines_without_end_are_refused)
{
    static const char *const begins[] = {"+", "-ERR ", ":", "$", "*", "*1\r\n+", "$-"};
    for (size_t i = 0; i < COUNT(begins); i++)
        assert_refused(REDIS_EXPECT_VALUE, begins[i], 200000, "");
    assert_refused(REDIS_EXPECT_VALUE, "-ERR ", 200000, "a line of more than 65536 bytes");
}

Test(redis_limits, a_tree_without_end_is_refused)
{
    static char numbers[40000];
    for (size_t i = 0; i + 4 < sizeof numbers; i += 4)
        strcpy(numbers + i, ":1\r\n");
    begin(REDIS_EXPECT_VALUE);
    enum status status = give("*2147483647\r\n");
    for (int i = 0; i < 100 && status == STATUS_AGAIN; i++)
        status = give(numbers);
    cr_assert_eq(status, STATUS_MALFORMED);
    cr_assert_not_null(strstr(redis_reader_error(reader), "no command asks for"));
    end();
}

/* What the gateway itself asks for fits. */
Test(redis_limits, a_reply_of_16_mib_is_read)
{
    begin(REDIS_EXPECT_VALUE);
    cr_assert_eq(give("$16777216\r\n"), STATUS_AGAIN);
    cr_assert_eq(give_many(16777216), STATUS_AGAIN);
    cr_assert_eq(give("\r\n"), STATUS_AGAIN);
    cr_assert_eq(seen.length, (size_t)16777216 + 2);
    end();
}
