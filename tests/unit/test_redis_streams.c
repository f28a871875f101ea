/* Replies of XREADGROUP: entries as they are read, in pieces of every size. */
#include "redis_reader_driver.h"

/* ---- replies of XREADGROUP ---------------------------------------------------------------- */

Test(redis_streams, reads_entries)
{
    assert_streams("*1\r\n*2\r\n$4\r\nnemo\r\n*3\r\n" ENTRY("1-1", AB) ENTRY("1-2", AB)
                       ENTRY("1-3", "*2\r\n$0\r\n\r\n$4\r\n\r\n$9\r\n"),
                   "[nemo] 1-1:a=11,b=22 1-2:a=11,b=22 1-3:=\r\n$9*3();");
}

Test(redis_streams, an_entry_may_begin_with_empty_texts)
{
    assert_streams("*1\r\n*2\r\n$1\r\nA\r\n*1\r\n" ENTRY("1-1", "*2\r\n$0\r\n\r\n$0\r\n\r\n"),
                   "[A] 1-1:=*1();");
}

Test(redis_streams, reads_several_streams)
{
    assert_streams("*4\r\n"
                   "*2\r\n$1\r\nA\r\n*2\r\n" ENTRY("1-1", AB)
                       ENTRY("1-2", AB) "*2\r\n$1\r\nB\r\n*1\r\n" ENTRY(
                           "2-1", AB) "*2\r\n$1\r\nC\r\n*0\r\n"
                                      "*2\r\n$1\r\nD\r\n*2\r\n" ENTRY("4-1", AB) ENTRY("4-2", AB),
                   "[A] 1-1:a=11,b=22 1-2:a=11,b=22[B] 2-1:a=11,b=22[C]"
                   "[D] 4-1:a=11,b=22 4-2:a=11,b=22*5();");
}

Test(redis_streams, a_deleted_entry_has_nil_for_its_fields)
{
    assert_streams("*1\r\n*2\r\n$1\r\nA\r\n*5\r\n" ENTRY("1-1", "*-1\r\n") ENTRY("1-2", AB)
                       ENTRY("1-3", "*-1\r\n") ENTRY("1-4", "*0\r\n") ENTRY("1-5", "$-1\r\n"),
                   "[A] 1-1 nil 1-2:a=11,b=22 1-3 nil 1-4 1-5 nil*5();");
}

Test(redis_streams, nil_and_errors_come_as_values)
{
    assert_streams("*-1\r\n", "nil;");
    assert_streams("$-1\r\n", "nil;");
    assert_streams("*0\r\n", "*0();");
    assert_streams("-NOGROUP No such key\r\n", "-NOGROUP No such key;");
}

Test(redis_streams, asks_once_for_each_reply)
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

Test(redis_streams, a_reply_that_looks_like_an_entry_is_not_one_more)
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

Test(redis_streams, fields_beyond_the_limit_are_left_out)
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

Test(redis_streams, payloads_survive_any_cut)
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

Test(redis_streams, memory_stays_flat)
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

Test(redis_streams, gives_back_what_large_replies_took)
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
