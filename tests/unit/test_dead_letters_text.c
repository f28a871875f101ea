/*
 * How dead letters are shown: cells, blocks, numbers, counts by reason, and JSON.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/dead_letters_private.h"

static struct bytes view(const char *data, size_t length)
{
    return (struct bytes){(const uint8_t *)data, length};
}

#define VIEW(literal) view((literal), sizeof(literal) - 1)

/* ---- cells --------------------------------------------------------------------------------- */

static void cell_is(struct bytes text, size_t columns, const char *expected, size_t used)
{
    char *cell = malloc(4 * columns + 1);
    cr_expect_eq(letters_cell(text, columns, cell), used, "%s", expected);
    cr_expect_str_eq(cell, expected);
    free(cell);
}

Test(dead_letters_text, a_cell_is_cut_to_its_columns)
{
    cell_is(VIEW(""), 5, "", 0);
    cell_is(VIEW("abcde"), 5, "abcde", 5);
    cell_is(VIEW("abcdef"), 5, "abcd~", 5);
    cell_is(VIEW("ab"), 1, "~", 1);
    cell_is(VIEW("ab"), 0, "", 0);
    cell_is(VIEW("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 3, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
            3);
    cell_is(VIEW("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80x"), 3, "\xc3\xa4\xe2\x82\xac~", 3);
}

Test(dead_letters_text, a_cell_has_nothing_that_steers_a_terminal)
{
    cell_is(VIEW("a\x1b[m"), 10, "a\\x1b[m", 7);
    cell_is(VIEW("a\x00\n\x7f"), 20, "a\\x00\\x0a\\x7f", 13);
    cell_is(VIEW("\xff\xc3"), 20, "\\xff\\xc3", 8);
    cell_is(VIEW("\xc2\x9b"), 20, "\\xc2\\x9b", 8);           /* U+009B, CSI */
    cell_is(VIEW("\xe2\x80\xae"), 20, "\\xe2\\x80\\xae", 12); /* U+202E, writes to the left */
    cell_is(VIEW("\xc2\xa0\xe2\x80\x90"), 20, "\xc2\xa0\xe2\x80\x90", 2);
    /* An escape is never cut in the middle. */
    cell_is(VIEW("ab\x1b"), 5, "ab~", 3);
    cell_is(VIEW("abcd\x1b"), 5, "abcd~", 5);
    cell_is(VIEW("a\x1b"
                 "b"),
            5, "a~", 2);
}

Test(dead_letters_text, what_is_printable)
{
    cr_expect(letters_is_printable(VIEW(""), false));
    cr_expect(letters_is_printable(VIEW("a \xc3\xa4"), false));
    cr_expect_not(letters_is_printable(VIEW("a\nb"), false));
    cr_expect(letters_is_printable(VIEW("a\n\tb"), true));
    cr_expect_not(letters_is_printable(VIEW("a\rb"), true));
    cr_expect_not(letters_is_printable(VIEW("a\xc3"), true));
}

/* ---- what goes to a file ------------------------------------------------------------------- */

static char *text_of_block(struct bytes value)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    letters_put_block(value, "  ", out);
    fclose(out);
    return text;
}

Test(dead_letters_text, blocks)
{
    static const struct {
        struct bytes value;
        const char *expected;
    } cases[] = {
        {{NULL, 0}, ""},
        {{(const uint8_t *)"one", 3}, "  one\n"},
        {{(const uint8_t *)"one\n\ntwo\n", 9}, "  one\n  \n  two\n"},
        {{(const uint8_t *)"a\x1b", 2},
         "  00000000  61 1b                                            |a.|\n"},
        {{(const uint8_t *)"0123456789abcdef\xff", 17},
         "  00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  |0123456789abcdef|\n"
         "  00000010  ff                                               |.|\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = text_of_block(cases[i].value);
        cr_expect_str_eq(text, cases[i].expected);
        free(text);
    }
}

/* ---- numbers ------------------------------------------------------------------------------- */

Test(dead_letters_text, numbers_and_times)
{
    char text[LETTERS_NUMBER_TEXT];
    cr_expect_str_eq(letters_format_number(0, text), "0");
    cr_expect_str_eq(letters_format_number(999, text), "999");
    cr_expect_str_eq(letters_format_number(1234567, text), "1,234,567");
    cr_expect_str_eq(letters_format_number(UINT64_MAX, text), "18,446,744,073,709,551,615");
    cr_expect_str_eq(letters_format_size(0, text), "0");
    cr_expect_str_eq(letters_format_size(9999, text), "9999");
    cr_expect_str_eq(letters_format_size(10240, text), "10K");
    cr_expect_str_eq(letters_format_size(300000, text), "293K");
    cr_expect_str_eq(letters_format_size(16u << 20, text), "16M");
    cr_expect_leq(strlen(letters_format_size(UINT64_MAX, text)), 5);
    char time[LETTERS_TIME_TEXT];
    cr_expect_str_eq(letters_format_time(1700000000123, time), "2023-11-14 22:13:20");
    cr_expect_str_eq(letters_format_time(0, time), "1970-01-01 00:00:00");
    cr_expect_not_null(strstr(letters_format_time(UINT64_MAX, time), "18446744073709551615 ms"));
}

Test(dead_letters_text, counts_by_reason)
{
    static struct letters_tally tally;
    char reason[32], *text = NULL;
    size_t length = 0;
    letters_tally_add(&tally, VIEW("bad-topic"));
    letters_tally_add(&tally, VIEW("no-topic"));
    letters_tally_add(&tally, VIEW("bad-topic"));
    letters_tally_add(&tally, view(NULL, 0));
    FILE *out = open_memstream(&text, &length);
    letters_tally_print(&tally, out);
    fclose(out);
    cr_expect_str_eq(text, "2 bad-topic, 1 no-topic, 1 without reason");
    free(text);
    for (int i = 0; i < 1000; i++) {
        snprintf(reason, sizeof reason, "reason-%d", i);
        letters_tally_add(&tally, bytes_of(reason));
    }
    cr_expect_eq(tally.sum, 1004);
    cr_expect_eq(tally.rows, LETTERS_REASONS_MAX);
    uint64_t sum = 0;
    for (size_t i = 0; i < tally.rows; i++)
        sum += tally.row[i].count;
    cr_expect_eq(sum, 1004);
    cr_expect_str_eq(tally.row[tally.rows - 1].reason, "others");
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void json_is(struct bytes value, const char *expected)
{
    char *text = NULL;
    size_t length = 0;
    struct letters_json json = {.out = open_memstream(&text, &length)};
    letters_json_begin(&json);
    letters_json_text(&json, "x", value);
    letters_json_end(&json);
    fclose(json.out);
    cr_expect_str_eq(text, expected);
    free(text);
}

Test(dead_letters_json, texts)
{
    json_is(VIEW(""), "{\"x\": \"\"}\n");
    json_is(view(NULL, 0), "{\"x\": null}\n");
    json_is(VIEW("a\"\\/b"), "{\"x\": \"a\\\"\\\\/b\"}\n");
    json_is(VIEW("\n\t\x1b\x7f"), "{\"x\": \"\\n\\u0009\\u001b\\u007f\"}\n");
    json_is(VIEW("\xc3\xa4"), "{\"x\": \"\xc3\xa4\"}\n");
}

Test(dead_letters_json, bytes_that_are_no_text)
{
    json_is(VIEW("\xff"), "{\"x_base64\": \"/w==\"}\n");
    json_is(VIEW("\xff\xfe"), "{\"x_base64\": \"//4=\"}\n");
    json_is(VIEW("\xff\xfe\xfd"), "{\"x_base64\": \"//79\"}\n");
    json_is(VIEW("a\0b"), "{\"x_base64\": \"YQBi\"}\n");
    json_is(VIEW("\xed\xa0\x80"), "{\"x_base64\": \"7aCA\"}\n"); /* a surrogate is no UTF-8 */
}

Test(dead_letters_json, members)
{
    char *text = NULL;
    size_t length = 0;
    struct letters_json json = {.out = open_memstream(&text, &length)};
    for (int i = 0; i < 2; i++) {
        letters_json_begin(&json);
        letters_json_number(&json, "a", UINT64_MAX);
        letters_json_bool(&json, "b", i == 1);
        letters_json_text(&json, "c", VIEW("d"));
        letters_json_end(&json);
    }
    fclose(json.out);
    cr_expect_str_eq(text, "{\"a\": 18446744073709551615, \"b\": false, \"c\": \"d\"}\n"
                           "{\"a\": 18446744073709551615, \"b\": true, \"c\": \"d\"}\n");
    free(text);
}
