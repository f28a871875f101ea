/* Topic templates: what is well formed, what is said of the rest, and the expansion. */
#include "codec/topic_template.h"

#include <criterion/criterion.h>

static const struct topic_values both = {{(const uint8_t *)"lab-1", 5},
                                         {(const uint8_t *)"gate-0", 6}};

static const char *fault_of(const char *template)
{
    return topic_template_fault(bytes_of(template), true, true);
}

static void expect(const char *template, const char *expanded)
{
    uint8_t memory[128];
    struct writer w = writer_over(memory, sizeof memory);
    cr_assert_null(fault_of(template), "'%s': %s", template, fault_of(template));
    topic_template_expand(&w, bytes_of(template), &both);
    cr_assert(writer_ok(&w));
    cr_assert(bytes_equal((struct bytes){memory, writer_length(&w)}, bytes_of(expanded)),
              "'%s' became '%.*s'", template, (int)writer_length(&w), (const char *)memory);
}

Test(topic_template, expands_names)
{
    expect("", "");
    expect("nemo/events", "nemo/events");
    expect("nemo/{site}/", "nemo/lab-1/");
    expect("{site}", "lab-1");
    expect("{client_id}/{site}{site}/x", "gate-0/lab-1lab-1/x");
    expect("nemogate/{client_id}/status", "nemogate/gate-0/status");
    expect("labor/\xc3\xbc/{site}", "labor/\xc3\xbc/lab-1");
}

Test(topic_template, says_what_is_wrong)
{
    static const struct {
        const char *template, *says;
    } cases[] = {
        {"nemo/{sit}/", "unknown name"},  {"nemo/{}/", "unknown name"},
        {"nemo/{Site}/", "unknown name"}, {"nemo/{ site}/", "unknown name"},
        {"{si{site}", "unknown name"},    {"{{site}}", "unknown name"},
        {"nemo/{site", "'{' without"},    {"nemo/{", "'{' without"},
        {"nemo/site}/", "'}' without"},   {"{site}}", "'}' without"},
        {"}{site}", "'}' without"},       {"nemo/+/x", "wildcard"},
        {"nemo/#", "wildcard"},           {"nemo/{site}/#", "wildcard"},
        {"nemo/\xff", "UTF-8"},           {"nemo/\xed\xa0\x80", "UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *fault = fault_of(cases[i].template);
        cr_assert_not_null(fault, "'%s'", cases[i].template);
        cr_assert_not_null(strstr(fault, cases[i].says), "'%s': %s", cases[i].template, fault);
    }
    const char *fault =
        topic_template_fault((struct bytes){(const uint8_t *)"a\0b", 3}, true, true);
    cr_assert_not_null(fault);
    cr_assert_not_null(strstr(fault, "NUL"));
    cr_assert_null(topic_template_fault((struct bytes){NULL, 0}, false, false));
}

Test(topic_template, allows_only_names_that_have_a_value)
{
    struct bytes site = bytes_of("a/{site}"), client = bytes_of("a/{client_id}");
    cr_assert_null(topic_template_fault(site, true, false));
    cr_assert_not_null(topic_template_fault(site, false, true));
    cr_assert_null(topic_template_fault(client, false, true));
    cr_assert_not_null(topic_template_fault(client, true, false));
}

Test(topic_template, a_short_writer_fails_and_is_not_overrun)
{
    uint8_t memory[8] = {0};
    struct writer w = writer_over(memory, 7);
    topic_template_expand(&w, bytes_of("abc/{site}"), &both);
    cr_assert_not(writer_ok(&w));
    cr_assert_eq(memory[7], 0);
    struct writer exact = writer_over(memory, 8);
    topic_template_expand(&exact, bytes_of("ab/{site}"), &both);
    cr_assert(writer_ok(&exact));
    cr_assert_eq(writer_length(&exact), 8u);
}
