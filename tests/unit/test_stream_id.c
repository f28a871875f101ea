/* Stream ids: what Redis writes reads back as it was; anything else is refused. */
#include "codec/stream_id.h"

#include <criterion/criterion.h>

static enum status parse(const char *text, struct stream_id *id)
{
    return stream_id_parse(bytes_of(text), id);
}

Test(stream_id, reads_both_numbers)
{
    struct stream_id id;
    cr_assert_eq(parse("1753434343434-17", &id), STATUS_OK);
    cr_assert_eq(id.ms, 1753434343434u);
    cr_assert_eq(id.seq, 17u);
    cr_assert_eq(parse("0-0", &id), STATUS_OK);
    cr_assert_eq(id.ms, 0u);
    cr_assert_eq(id.seq, 0u);
    cr_assert_eq(parse("18446744073709551615-18446744073709551615", &id), STATUS_OK);
    cr_assert_eq(id.ms, UINT64_MAX);
    cr_assert_eq(id.seq, UINT64_MAX);
}

Test(stream_id, refuses_everything_else_and_leaves_the_id_alone)
{
    static const char *const bad[] = {
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "+1-1",
        "1-+1",
        "1--1",
        "1 -1",
        "1- 1",
        " 1-1",
        "1-1 ",
        "1-a",
        "0x1-1",
        "1.5-1",
        "$",
        ">",
        "1-*",
        "18446744073709551616-0",
        "0-18446744073709551616",
        "99999999999999999999-0",
        "184467440737095516150-0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct stream_id id = {7, 8};
        cr_assert_eq(parse(bad[i], &id), STATUS_MALFORMED, "'%s'", bad[i]);
        cr_assert(id.ms == 7 && id.seq == 8, "'%s'", bad[i]);
    }
    struct stream_id id;
    cr_assert_eq(stream_id_parse((struct bytes){NULL, 0}, &id), STATUS_MALFORMED);
    cr_assert_eq(stream_id_parse((struct bytes){(const uint8_t *)"1-1\0", 4}, &id),
                 STATUS_MALFORMED);
}

Test(stream_id, reads_no_further_than_the_view)
{
    struct stream_id id;
    cr_assert_eq(stream_id_parse((struct bytes){(const uint8_t *)"12-3456", 4}, &id), STATUS_OK);
    cr_assert_eq(id.seq, 3u);
}

Test(stream_id, formats_what_it_reads)
{
    static const char *const texts[] = {"0-0", "1-10", "1753434343434-0",
                                        "18446744073709551615-18446744073709551615"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct stream_id id;
        char text[STREAM_ID_TEXT];
        cr_assert_eq(parse(texts[i], &id), STATUS_OK);
        cr_assert_eq(stream_id_format(id, text), strlen(texts[i]));
        cr_assert_str_eq(text, texts[i]);
    }
}

Test(stream_id, orders_by_time_then_sequence)
{
    const struct stream_id a = {1, 9}, b = {2, 0}, c = {2, 1}, max = {UINT64_MAX, UINT64_MAX};
    cr_assert_lt(stream_id_compare(a, b), 0);
    cr_assert_gt(stream_id_compare(b, a), 0);
    cr_assert_lt(stream_id_compare(b, c), 0);
    cr_assert_gt(stream_id_compare(c, b), 0);
    cr_assert_eq(stream_id_compare(c, c), 0);
    cr_assert_gt(stream_id_compare(max, a), 0);
}

Test(stream_id, next_of_an_id)
{
    struct stream_id next = stream_id_after((struct stream_id){7, 3});
    cr_expect(next.ms == 7 && next.seq == 4);
    next = stream_id_after((struct stream_id){7, UINT64_MAX});
    cr_expect(next.ms == 8 && next.seq == 0);
}
