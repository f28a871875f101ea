/* Entries of schema v1: defaults, every field, every fault with its word, and the key of the bad.
 */
#include "codec/stream_entry.h"

#include <criterion/criterion.h>

#define MAX_PAYLOAD 100
#define F(name, value) ((struct stream_field){bytes_of(name), bytes_of(value)})
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct stream_id at = {1753434343434, 5};

static void assert_text(struct bytes view, const char *text)
{
    cr_assert(bytes_equal(view, bytes_of(text)), "'%.*s' is not '%s'", (int)view.length,
              (const char *)view.data, text);
}

static struct stream_entry read_good(const struct stream_field *fields, size_t count)
{
    struct stream_entry entry;
    struct stream_entry_fault fault = {NULL, NULL};
    enum status status = stream_entry_read(at, fields, count, MAX_PAYLOAD, &entry, &fault);
    cr_assert_eq(status, STATUS_OK, "%s: %s", fault.reason, fault.detail);
    return entry;
}

/* A good entry with one more field. */
static enum status read_with(const char *name, struct bytes value, struct stream_entry *entry,
                             struct stream_entry_fault *fault)
{
    const struct stream_field fields[] = {
        F("topic", "a/b"), F("payload", "{}"), F("key", "k"), {bytes_of(name), value}};
    return stream_entry_read(at, fields, COUNT(fields), MAX_PAYLOAD, entry, fault);
}

static void assert_fault(const char *name, struct bytes value, const char *reason)
{
    struct stream_entry entry;
    struct stream_entry_fault fault = {NULL, NULL};
    enum status expected =
        strcmp(reason, "payload-too-large") == 0 ? STATUS_TOO_LARGE : STATUS_MALFORMED;
    cr_assert_eq(read_with(name, value, &entry, &fault), expected, "%s", name);
    cr_assert_str_eq(fault.reason, reason, "%s", name);
    cr_assert_gt(strlen(fault.detail), 4u);
    if (strcmp(name, "key") != 0)
        assert_text(entry.key, "k");
}

static struct stream_entry with(const char *name, const char *value)
{
    struct stream_entry entry;
    struct stream_entry_fault fault = {NULL, NULL};
    enum status status = read_with(name, bytes_of(value), &entry, &fault);
    cr_assert_eq(status, STATUS_OK, "%s=%s: %s", name, value, fault.detail);
    return entry;
}

Test(stream_entry, the_least_entry_has_the_defaults)
{
    const struct stream_field fields[] = {F("topic", "tools/17/state"), F("payload", "")};
    struct stream_entry entry = read_good(fields, COUNT(fields));
    assert_text(entry.topic, "tools/17/state");
    assert_text(entry.key, "tools/17/state");
    cr_assert_eq(entry.payload.length, 0u);
    cr_assert_eq(entry.id.length, 0u);
    cr_assert_eq(entry.type.length, 0u);
    cr_assert_eq(entry.qos, 1);
    cr_assert_not(entry.retain);
    cr_assert_not(entry.absolute);
    cr_assert_not(entry.has_exp);
    cr_assert_eq(entry.ts_ms, at.ms);
}

Test(stream_entry, reads_every_field_and_borrows_it)
{
    const struct stream_field fields[] = {
        F("exp", "4294967295"),
        F("ts", "18446744073709551615"),
        F("retain", "1"),
        F("qos", "0"),
        F("type", "tool.state"),
        F("id", "0190-uuid"),
        F("key", "tool/17"),
        F("payload", "{\"a\":1}"),
        F("abs", "1"),
        F("topic", "t"),
        F("v", "1"),
        F("colour", "blue"), /* unknown: ignored */
        F("paYload", "x"),
        F("", "x"),
    };
    struct stream_entry entry = read_good(fields, COUNT(fields));
    assert_text(entry.topic, "t");
    assert_text(entry.payload, "{\"a\":1}");
    assert_text(entry.key, "tool/17");
    assert_text(entry.id, "0190-uuid");
    assert_text(entry.type, "tool.state");
    cr_assert_eq(entry.payload.data, fields[7].value.data);
    cr_assert(entry.absolute && entry.retain && entry.has_exp);
    cr_assert_eq(entry.qos, 0);
    cr_assert_eq(entry.ts_ms, UINT64_MAX);
    cr_assert_eq(entry.exp_s, UINT32_MAX);
}

Test(stream_entry, every_known_name_but_one_letter_is_unknown)
{
    static const char *const names[] = {"w",   "ie",   "tt",    "kex",    "qot",    "exq",
                                        "abt", "typf", "topid", "retaim", "payloae"};
    for (size_t i = 0; i < COUNT(names); i++)
        with(names[i], "\xff+");
}

Test(stream_entry, numbers_and_flags)
{
    cr_assert_eq(with("qos", "0").qos, 0);
    cr_assert_eq(with("qos", "1").qos, 1);
    cr_assert_eq(with("qos", "2").qos, 1);
    cr_assert_not(with("retain", "0").retain);
    cr_assert(with("retain", "1").retain);
    cr_assert_not(with("abs", "0").absolute);
    cr_assert(with("abs", "1").absolute);
    cr_assert_eq(with("ts", "0").ts_ms, 0u);
    cr_assert(with("exp", "0").has_exp);
    cr_assert_eq(with("exp", "60").exp_s, 60u);
    static const struct {
        const char *name, *value;
    } bad[] = {
        {"qos", "3"},
        {"qos", "-1"},
        {"qos", ""},
        {"qos", "01"},
        {"qos", "1 "},
        {"qos", "/"},
        {"retain", "2"},
        {"retain", ""},
        {"retain", "true"},
        {"abs", "yes"},
        {"abs", ""},
        {"ts", ""},
        {"ts", "-1"},
        {"ts", "+1"},
        {"ts", " 1"},
        {"ts", "1 "},
        {"ts", "1.5"},
        {"ts", "1e3"},
        {"ts", "18446744073709551616"},
        {"exp", ""},
        {"exp", "-1"},
        {"exp", "+1"},
        {"exp", "4294967296"},
        {"exp", "0x10"},
        {"exp", "99999999999999999999"},
    };
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_fault(bad[i].name, bytes_of(bad[i].value), "bad-field");
    assert_fault("ts", (struct bytes){NULL, 0}, "bad-field");
}

Test(stream_entry, only_version_1_is_known)
{
    with("v", "1");
    static const char *const bad[] = {"", "0", "2", "01", "1 ", "1.0"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_fault("v", bytes_of(bad[i]), "unknown-version");
}

Test(stream_entry, topics)
{
    static uint8_t longest[65536];
    memset(longest, 'x', sizeof longest);
    struct stream_entry entry;
    struct stream_entry_fault fault;
    cr_assert_eq(read_with("topic", (struct bytes){longest, 65535}, &entry, &fault), STATUS_OK);
    cr_assert_eq(entry.topic.length, 65535u);
    assert_fault("topic", (struct bytes){longest, 65536}, "bad-topic");
    assert_fault("topic", bytes_of(""), "bad-topic");
    assert_fault("topic", bytes_of("a/+/b"), "bad-topic");
    assert_fault("topic", bytes_of("a/#"), "bad-topic");
    assert_fault("topic", bytes_of("a\xff"), "bad-topic");
    assert_fault("topic", (struct bytes){(const uint8_t *)"a\0b", 3}, "bad-topic");
}

Test(stream_entry, payload_limit_counts_bytes)
{
    static uint8_t payload[MAX_PAYLOAD + 1];
    struct stream_entry entry;
    struct stream_entry_fault fault;
    cr_assert_eq(read_with("payload", (struct bytes){payload, MAX_PAYLOAD}, &entry, &fault),
                 STATUS_OK);
    assert_fault("payload", (struct bytes){payload, MAX_PAYLOAD + 1}, "payload-too-large");
}

Test(stream_entry, keys_are_any_bytes)
{
    static uint8_t longest[65536];
    memset(longest, 0xff, sizeof longest);
    struct stream_entry entry;
    struct stream_entry_fault fault;
    cr_assert_eq(read_with("key", (struct bytes){longest, 65535}, &entry, &fault), STATUS_OK);
    cr_assert_eq(entry.key.length, 65535u);
    assert_fault("key", (struct bytes){longest, 65536}, "bad-field");
    cr_assert_eq(read_with("key", (struct bytes){(const uint8_t *)"\0\n", 2}, &entry, &fault),
                 STATUS_OK);
    cr_assert_eq(entry.key.length, 2u);
    assert_text(with("key", "").key, "a/b");
}

Test(stream_entry, id_and_type_are_text)
{
    static uint8_t longest[65536];
    memset(longest, 'x', sizeof longest);
    assert_fault("id", bytes_of("\xc3"), "bad-field");
    assert_fault("id", (struct bytes){longest, sizeof longest}, "bad-field");
    assert_fault("type", bytes_of("\xc3"), "bad-field");
    cr_assert_eq(with("id", "").id.length, 0u);
    cr_assert_eq(with("type", "").type.length, 0u);
}

Test(stream_entry, of_a_field_given_twice_the_last_counts)
{
    const struct stream_field fields[] = {F("topic", "+"),   F("payload", "1"), F("qos", "9"),
                                          F("payload", "2"), F("topic", "b"),   F("qos", "0")};
    struct stream_entry entry = read_good(fields, COUNT(fields));
    assert_text(entry.topic, "b");
    assert_text(entry.payload, "2");
    cr_assert_eq(entry.qos, 0);
}

Test(stream_entry, required_fields)
{
    struct stream_entry entry;
    struct stream_entry_fault fault;
    cr_assert_eq(stream_entry_read(at, NULL, 0, MAX_PAYLOAD, &entry, &fault), STATUS_MALFORMED);
    cr_assert_str_eq(fault.reason, "no-topic");
    cr_assert_eq(entry.key.length, 0u);
    const struct stream_field no_payload[] = {F("topic", "a")};
    cr_assert_eq(stream_entry_read(at, no_payload, 1, MAX_PAYLOAD, &entry, &fault),
                 STATUS_MALFORMED);
    cr_assert_str_eq(fault.reason, "bad-field");
    cr_assert_not_null(strstr(fault.detail, "payload"));
    assert_text(entry.key, "a");
}

Test(stream_entry, a_bad_entry_keeps_its_key)
{
    struct stream_entry entry;
    struct stream_entry_fault fault;
    const struct stream_field key_last[] = {F("v", "9"), F("topic", "#"), F("qos", "x"),
                                            F("key", "tool/17")};
    cr_assert_eq(stream_entry_read(at, key_last, COUNT(key_last), MAX_PAYLOAD, &entry, &fault),
                 STATUS_MALFORMED);
    assert_text(entry.key, "tool/17");
    const struct stream_field no_topic[] = {F("payload", "x"), F("key", "tool/17")};
    cr_assert_eq(stream_entry_read(at, no_topic, COUNT(no_topic), MAX_PAYLOAD, &entry, &fault),
                 STATUS_MALFORMED);
    cr_assert_str_eq(fault.reason, "no-topic");
    assert_text(entry.key, "tool/17");
    const struct stream_field by_topic[] = {F("retain", "x"), F("topic", "a/+")};
    cr_assert_eq(stream_entry_read(at, by_topic, COUNT(by_topic), MAX_PAYLOAD, &entry, &fault),
                 STATUS_MALFORMED);
    assert_text(entry.key, "a/+");
}

Test(stream_entry, site_ids)
{
    static const char *const good[] = {"a", "0", "lab-1", "a--",
                                       "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {
        "", "-a", "A", "a_b", "a.b", "a b", "l\xc3\xa4", "abcdefghijklmnopqrstuvwxyz0123456"};
    for (size_t i = 0; i < COUNT(good); i++)
        cr_assert(site_id_valid(bytes_of(good[i])), "'%s'", good[i]);
    for (size_t i = 0; i < COUNT(bad); i++)
        cr_assert_not(site_id_valid(bytes_of(bad[i])), "'%s'", bad[i]);
}

Test(stream_entry, the_site_is_the_hash_tag)
{
    static const struct {
        const char *name, *site;
    } cases[] = {
        {"nemo:{lab-1}:events", "lab-1"},
        {"{a}", "a"},
        {"x{a}y{b}", "a"},
        {"x}{a}", "a"},
        {"nemo:events", ""},
        {"", ""},
        {"nemo:{}:{a}", ""},
        {"nemo:{a", ""},
        {"nemo:a}", ""},
        {"{{a}}", ""},
        {"{Lab}", ""},
        {"{a b}", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_text(stream_site(bytes_of(cases[i].name)), cases[i].site);
    cr_assert_eq(stream_site((struct bytes){NULL, 0}).length, 0u);
}
