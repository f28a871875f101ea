/*
 * The JSON writer.
 */
#include "core/json.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(json, members_and_elements)
{
    char *text = NULL;
    size_t length = 0;
    struct json json = {.out = open_memstream(&text, &length)};
    json_begin_object(&json, NULL);
    json_number(&json, "n", UINT64_MAX);
    json_begin_array(&json, "a");
    json_text(&json, NULL, "x");
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_null(&json, NULL);
    json_end_array(&json);
    json_begin_array(&json, "empty");
    json_end_array(&json);
    json_bool(&json, "b", false);
    json_number_if(&json, "k", false, 3);
    json_end_object(&json);
    fclose(json.out);
    cr_assert_str_eq(text, "{\"n\":18446744073709551615,\"a\":[\"x\",{},null],\"empty\":[],"
                           "\"b\":false,\"k\":null}");
    free(text);
}

static void expect(struct bytes value, const char *expected)
{
    char *text = NULL;
    size_t length = 0;
    struct json json = {.out = open_memstream(&text, &length)};
    json_bytes(&json, NULL, value);
    fclose(json.out);
    cr_expect_str_eq(text, expected);
    free(text);
}

#define BYTES(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

Test(json, texts_are_escaped)
{
    expect(BYTES(""), "\"\"");
    expect(BYTES("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
    expect(BYTES("\n\t\x01\x7f"), "\"\\n\\u0009\\u0001\\u007f\"");
    expect(BYTES("\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80"),
           "\"\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\"");
    expect(BYTES("a\xff\xc3"), "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
    expect((struct bytes){NULL, 0}, "null");
}

Test(json, what_is_text)
{
    cr_expect(json_is_text(BYTES("")));
    cr_expect(json_is_text(BYTES("\xc3\xbc")));
    cr_expect_not(json_is_text(BYTES("\xff")));
}
