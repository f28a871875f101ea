/* The values that sites have saved, the set of them, and its way to the next program. */
#include "core/site_settings.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct site_settings *make(const char *site, uint64_t version, const char *url)
{
    struct bytes text[SITE_FIELDS];
    for (int i = 0; i < SITE_FIELDS; i++)
        text[i] = bytes_of("");
    text[SITE_BROKER_URL] = bytes_of(url);
    return site_settings_new(bytes_of(site), version, text);
}

Test(site_settings, order_is_strict)
{
    uint64_t version = 0;
    cr_assert(site_order_read(bytes_of("{\"version\":7}"), &version));
    cr_expect_eq(version, 7);
    cr_assert(site_order_read(bytes_of("{\"version\":9007199254740992}"), &version));
    cr_expect_eq(version, UINT64_C(1) << 53);
    static const char *const wrong[] = {"",
                                        "{}",
                                        "{\"version\":}",
                                        "{\"version\":0}",
                                        "{\"version\":-1}",
                                        "{\"version\":07}",
                                        "{\"version\": 7}",
                                        "{\"version\":7} ",
                                        " {\"version\":7}",
                                        "{\"version\":7.0}",
                                        "{\"version\":7e1}",
                                        "{\"version\":\"7\"}",
                                        "{\"version\":7,\"x\":1}",
                                        "{\"version\":9007199254740993}",
                                        "{\"version\":99999999999999999999999}",
                                        "{\"versiom\":7}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_not(site_order_read(bytes_of(wrong[i]), &version), "%s", wrong[i]);
}

Test(site_settings, values_that_cannot_be)
{
    struct bytes text[SITE_FIELDS] = {{NULL, 0}};
    char *large = malloc(SITE_TEXT_MAX + 1);
    memset(large, 'x', SITE_TEXT_MAX + 1);
    text[SITE_CA] = (struct bytes){(const uint8_t *)large, SITE_TEXT_MAX};
    struct site_settings *settings = site_settings_new(bytes_of("a"), 1, text);
    cr_assert_not_null(settings);
    cr_expect_eq(strlen(settings->text[SITE_CA]), SITE_TEXT_MAX);
    cr_expect_str_eq(settings->text[SITE_USERNAME], "");
    site_settings_free(settings);
    text[SITE_CA].length++;
    cr_expect_null(site_settings_new(bytes_of("a"), 1, text));
    text[SITE_CA] = (struct bytes){(const uint8_t *)"a\0b", 3};
    cr_expect_null(site_settings_new(bytes_of("a"), 1, text));
    text[SITE_CA].length = 1;
    cr_expect_null(site_settings_new(bytes_of("A"), 1, text));
    cr_expect_null(site_settings_new(bytes_of(""), 1, text));
    cr_expect_null(site_settings_new(bytes_of("012345678901234567890123456789012"), 1, text));
    free(large);
}

Test(site_settings, a_set_keeps_the_latest_of_each_site_in_order)
{
    struct site_set set = {NULL, 0};
    size_t index;
    cr_expect_eq(site_set_put(&set, make("b", 3, "three")), SITE_PUT_DONE);
    cr_expect_eq(site_set_put(&set, make("a", 1, "one")), SITE_PUT_DONE);
    cr_expect_eq(site_set_put(&set, make("c", 1, "one")), SITE_PUT_DONE);
    cr_expect_eq(site_set_put(&set, make("b", 2, "two")), SITE_PUT_OLD);
    cr_expect_eq(site_set_put(&set, make("b", 3, "again")), SITE_PUT_OLD);
    cr_expect_eq(site_set_put(&set, make("b", 4, "four")), SITE_PUT_DONE);
    cr_assert_eq(set.count, 3);
    cr_expect_str_eq(set.items[0]->site, "a");
    cr_expect_str_eq(set.items[2]->site, "c");
    cr_expect_str_eq(site_set_find(&set, bytes_of("b"), &index)->text[SITE_BROKER_URL], "four");
    cr_expect_eq(index, 1);
    cr_expect_null(site_set_find(&set, bytes_of("aa"), &index));
    cr_expect_eq(index, 1);
    cr_expect_null(site_set_find(NULL, bytes_of("a"), &index));
    site_set_free(&set);
}

Test(site_settings, a_set_is_bounded)
{
    struct site_set set = {NULL, 0};
    char name[SITE_NAME_TEXT];
    for (unsigned i = 0; i < SITE_SET_MAX; i++) {
        snprintf(name, sizeof name, "lab-%u", i);
        cr_assert_eq(site_set_put(&set, make(name, 1, "")), SITE_PUT_DONE);
    }
    cr_expect_eq(site_set_put(&set, make("one-more", 1, "")), SITE_PUT_FULL);
    cr_expect_eq(site_set_put(&set, make("lab-7", 2, "")), SITE_PUT_DONE);
    site_set_free(&set);
}

Test(site_settings, left_and_inherited)
{
    struct site_set set = {NULL, 0}, copy = {NULL, 0}, next = {NULL, 0};
    cr_assert_eq(site_set_put(&set, make("b", 3, "mqtt://b")), SITE_PUT_DONE);
    cr_assert_eq(site_set_put(&set, make("a", UINT64_C(1) << 53, "")), SITE_PUT_DONE);
    cr_assert(site_set_copy(&copy, &set));
    cr_expect(site_set_equal(&set, &copy));
    cr_assert(site_set_leave(&set));
    cr_assert(site_set_leave(&set)); /* the first is withdrawn */
    site_set_inherit(&next);
    cr_expect(site_set_equal(&set, &next));
    cr_expect_null(getenv("NEMOGATE_SITES"));
    site_set_free(&next);
    site_set_inherit(&next);
    cr_expect_eq(next.count, 0);
    cr_assert_eq(site_set_put(&copy, make("b", 4, "mqtt://b")), SITE_PUT_DONE);
    cr_expect_not(site_set_equal(&set, &copy));
    cr_expect_not(site_set_equal(&set, NULL));
    cr_expect(site_set_equal(NULL, &next));
    site_set_free(&set);
    site_set_free(&copy);
}

Test(site_settings, nothing_is_inherited_from_nonsense)
{
    static const char *const values[] = {"", "-1", "0", "2", "99999", "4294967299", "x"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct site_set set = {NULL, 0};
        setenv("NEMOGATE_SITES", values[i], 1);
        site_set_inherit(&set);
        cr_expect_eq(set.count, 0);
        cr_expect_null(getenv("NEMOGATE_SITES"));
    }
    char number[16];
    FILE *file = tmpfile();
    fputs("not what was left", file);
    fflush(file);
    snprintf(number, sizeof number, "%d", fileno(file));
    setenv("NEMOGATE_SITES", number, 1);
    struct site_set set = {NULL, 0};
    site_set_inherit(&set);
    cr_expect_eq(set.count, 0);
}
