/*
 * Patterns, case by case as Redis 7.0 answers them.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "core/config.h"

static const struct {
    const char *pattern;
    const char *name;
    bool matches;
} CASES[] = {
    {"*", "a", true},
    {"**", "abc", true},
    {"a*", "a", true},
    {"a*b*c", "aXbYbZc", true},
    {"a*b*c", "aXbYbZ", false},
    {"*ab", "aab", true},
    {"*aab", "aaaab", true},
    {"a?c", "abc", true},
    {"a?c", "ac", false},
    {"?", "", false},
    {"", "", true},
    {"", "a", false},
    {"a", "", false},
    {"nemo:*:events", "nemo:{lab}:events", true},
    {"nemo:*:events", "nemo:{lab}:dead", false},
    {"nemo:{lab}:events", "nemo:{lab}:events", true},
    {"nemo:{lab}:events", "nemo:lab:events", false},
    {"[abc]", "b", true},
    {"[abc]", "d", false},
    {"[^abc]", "d", true},
    {"[^abc]", "a", false},
    {"[a-c]x", "bx", true},
    {"[c-a]x", "bx", true},
    {"[a-c]", "-", false},
    {"[\\]]", "]", true},
    {"[\\^a]", "^", true},
    {"[]a]", "a]", false},
    {"[]", "a", false},
    {"[^]", "a", true},
    {"[abc", "b", true},
    {"[^", "x", true},
    {"[", "[", false},
    {"[a-]", "b", false},
    {"[a-]", "^", true},
    {"\\*", "*", true},
    {"\\*", "a", false},
    {"\\a", "a", true},
    {"a\\", "a\\", true},
    {"*\\?", "ab?", true},
    {"*[0-9]", "abc7", true},
    {"*[0-9]x", "1x2x", true},
};

Test(config_pattern, cases)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        cr_expect_eq(config_pattern_matches(CASES[i].pattern, CASES[i].name), CASES[i].matches,
                     "'%s' and '%s'", CASES[i].pattern, CASES[i].name);
}

/* With a try per place and star this would take longer than the universe has had. */
Test(config_pattern, many_stars_end, .timeout = 20)
{
    char pattern[512] = "";
    char name[512];
    for (int i = 0; i < 100; i++)
        strcat(pattern, "*a");
    strcat(pattern, "*b");
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    cr_expect_not(config_pattern_matches(pattern, name));
    name[sizeof name - 2] = 'b';
    cr_expect(config_pattern_matches(pattern, name));
}

Test(config_pattern, what_makes_a_pattern)
{
    cr_expect(config_is_pattern("a*"));
    cr_expect(config_is_pattern("a?"));
    cr_expect(config_is_pattern("[a]"));
    cr_expect_not(config_is_pattern("nemo:{a}:events"));
    cr_expect_not(config_is_pattern(""));
}

Test(config_pattern, whose_streams_it_may_take)
{
    const char *const may[] = {
        "*",   "nemo:*:events",  "nemo:{*}:events", "nemo:{a}:*", "nemo:{?}:x",      "nemo:[{]a}:x",
        "?a}", "nemo:\\{a\\}:x", "{[a-c]}*",        "{a*",        "nemo:{a}:events", "x{a}{b}"};
    const char *const may_not[] = {"",         "nemo:{b}:*", "nemo:events", "nemo:{aa}:x", "{a",
                                   "{b*}:{a}", "x{b}{a}",    "{[^a]}*",     "nemo:{A}:*"};
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        cr_expect(config_pattern_may_take(may[i], "a"), "%s", may[i]);
    for (size_t i = 0; i < sizeof may_not / sizeof *may_not; i++)
        cr_expect_not(config_pattern_may_take(may_not[i], "a"), "%s", may_not[i]);
}

Test(config_pattern, what_takes_all_of_a_site)
{
    const char *const all[] = {"*", "nemo:*", "nemo:{a}:*", "nemo:{a*", "nemo:{?}:*"};
    const char *const some[] = {"nemo:*:events", "nemo:{b}:*", "nemo:{a}:", "nemo:{a}:e*", ""};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cr_expect(config_pattern_takes_all(all[i], "a"), "%s", all[i]);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        cr_expect_not(config_pattern_takes_all(some[i], "a"), "%s", some[i]);
}

Test(config_pattern, first_route_wins)
{
    struct config_route routes[] = {{.streams = (char *)"nemo:{a}:*"},
                                    {.streams = (char *)"nemo:*:events"}};
    struct config config = {.routes = routes, .route_count = 2};
    cr_expect_eq(config_route_of(&config, "nemo:{a}:events"), &routes[0]);
    cr_expect_eq(config_route_of(&config, "nemo:{b}:events"), &routes[1]);
    cr_expect_null(config_route_of(&config, "nemo:{b}:dead"));
}
