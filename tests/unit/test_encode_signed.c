/* Signed envelopes: the vectors, which both verifiers of NEMO have accepted, byte for byte; what
 * Python's json.dumps writes of every kind of character; what cannot be signed; keys. */
#include "codec/encode_signed.h"
#include "codec/json_text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOM 4096

static struct bytes view(const char *data, size_t length)
{
    return (struct bytes){(const uint8_t *)data, length};
}

/* The envelope, in memory of exactly signed_size bytes and one guard byte. Owned by the caller. */
static struct bytes sign(struct bytes key, struct bytes payload)
{
    struct stream_entry_fault fault = {NULL, NULL};
    struct signer *signer = signer_new(key);
    cr_assert_not_null(signer);
    size_t size = signed_size(payload, &fault);
    cr_assert_neq(size, 0u, "%s: %s", fault.reason, fault.detail);
    uint8_t *memory = malloc(size + 1);
    cr_assert_not_null(memory);
    memory[size] = 0xee;
    struct writer w = writer_over(memory, size);
    signed_put(&w, signer, payload);
    cr_assert(writer_ok(&w));
    cr_assert_eq(writer_length(&w), size);
    cr_assert_eq(memory[size], 0xee);
    signer_free(signer);
    return (struct bytes){memory, size};
}

static void expect_signed(struct bytes key, struct bytes payload, const char *envelope)
{
    struct bytes got = sign(key, payload);
    cr_assert(bytes_equal(got, bytes_of(envelope)), "%.*s\nis not\n%s", (int)got.length,
              (const char *)got.data, envelope);
    free((void *)(uintptr_t)got.data);
}

/* ---- the vectors ------------------------------------------------------------------------- */

/* A member of the vectors' file, which is written with one member a line; without its quotes. */
static bool member(const char *line, const char *name, char *value)
{
    char start[64];
    snprintf(start, sizeof start, "  \"%s\": \"", name);
    if (strncmp(line, start, strlen(start)) != 0)
        return false;
    snprintf(value, ROOM, "%s", line + strlen(start));
    value[strcspn(value, "\n")] = '\0';
    char *end = strrchr(value, '"');
    cr_assert_not_null(end);
    *end = '\0';
    return true;
}

static struct bytes unhex(char *hex)
{
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        hex[i] = (char)strtoul(digits, NULL, 16);
    }
    return view(hex, length);
}

/* The envelope stands in the file as a JSON string of ASCII characters. */
static char *unquote(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\\')
            at++;
        *to++ = *at;
    }
    *to = '\0';
    return text;
}

Test(encode_signed, writes_the_vectors_byte_for_byte)
{
    static char line[ROOM], key[ROOM], payload[ROOM], hmac[ROOM], envelope[ROOM];
    FILE *file = fopen(TEST_DATA "/hmac_vectors.json", "r");
    cr_assert_not_null(file);
    unsigned count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        member(line, "key_utf8_hex", key);
        member(line, "payload_utf8_hex", payload);
        member(line, "hmac_sha256_hex", hmac);
        if (!member(line, "envelope_ascii", envelope))
            continue;
        unquote(envelope);
        cr_assert_not_null(strstr(envelope, hmac));
        expect_signed(unhex(key), unhex(payload), envelope);
        count++;
    }
    fclose(file);
    cr_assert_eq(count, 5u);
}

/* The three that the specification prints, literally: a changed file would not go unseen. */
Test(encode_signed, writes_the_literal_vectors)
{
    expect_signed(
        bytes_of("s3cret-key"),
        bytes_of(
            "{\"event\": \"tool_enabled\", \"tool_id\": 1, \"tool_name\": \"woollam\", \"usage_id"
            "\": 7, \"user_name\": \"Alice Doe (adoe)\", \"start_time\": \"2026-11-22T04:34:55.02"
            "0686+00:00\"}"),
        "{\"payload\": \"{\\\"event\\\": \\\"tool_enabled\\\", \\\"tool_id\\\": 1, \\\"tool_n"
        "ame\\\": \\\"woollam\\\", \\\"usage_id\\\": 7, \\\"user_name\\\": \\\"Alice Doe (ado"
        "e)\\\", \\\"start_time\\\": \\\"2026-11-22T04:34:55.020686+00:00\\\"}\", \"hmac\": "
        "\"e7106502cc7aa9e91bec56e72faa34321123dbaf22413987b5b59abf62bdf0b2\", \"algo\": \"sh"
        "a256\"}");
    expect_signed(
        bytes_of("cl\xc3\xa9-secr\xc3\xa8te-\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87"),
        bytes_of(
            "{\"event\": \"tool_disabled\", \"tool_id\": 1, \"tool_name\": \"E-Beam \\u00e9vapora"
            "teur\", \"usage_id\": 1, \"user_name\": \"Ren\\u00e9 M\\u00fcller (rm\\u00fcller)\","
            " \"end_time\": \"2026-11-22T05:04:55.007378+00:00\"}"),
        "{\"payload\": \"{\\\"event\\\": \\\"tool_disabled\\\", \\\"tool_id\\\": 1, \\\"tool_"
        "name\\\": \\\"E-Beam \\\\u00e9vaporateur\\\", \\\"usage_id\\\": 1, \\\"user_name\\\""
        ": \\\"Ren\\\\u00e9 M\\\\u00fcller (rm\\\\u00fcller)\\\", \\\"end_time\\\": \\\"2026-"
        "11-22T05:04:55.007378+00:00\\\"}\", \"hmac\": \"daea3ecbfbc1470047893ba4a3486286bd3b"
        "7df5d400b28d96ab8533f10ce28e\", \"algo\": \"sha256\"}");
    expect_signed(
        bytes_of("k"),
        bytes_of(
            "{\"u\": \"Zo\xc3\xab \xe6\x9d\x8e \xf0\x9f\x98\x80\", \"q\": \"a\\\"b\\\\c/d\"}\x09"
            "\x01\x7f\xe2\x80\xa8"),
        "{\"payload\": \"{\\\"u\\\": \\\"Zo\\u00eb \\u674e \\ud83d\\ude00\\\", \\\"q\\\": \\"
        "\"a\\\\\\\"b\\\\\\\\c/d\\\"}\\t\\u0001\\u007f\\u2028\", \"hmac\": \"493ba1d92634f581"
        "7e17e64c5f660ba8caa11578c683205d0b48723aa4b2fc32\", \"algo\": \"sha256\"}");
}

/* Keys of one block and of one byte more, and test case 2 of RFC 4231. */
Test(encode_signed, takes_keys_of_every_length)
{
    expect_signed(
        bytes_of("KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK"),
        bytes_of("{}"),
        "{\"payload\": \"{}\", \"hmac\": \"d00c5145bb7e405f99d0ed91bcd638bc8938639b661d0f3c68"
        "566e8090043a5d\", \"algo\": \"sha256\"}");
    expect_signed(
        bytes_of("KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK"),
        bytes_of("{}"),
        "{\"payload\": \"{}\", \"hmac\": \"839268f42a03fee9dc35dea302f2754d839ba13e63f82e078c"
        "62cbbdc39f0710\", \"algo\": \"sha256\"}");
    expect_signed(
        bytes_of("Jefe"), bytes_of("what do ya want for nothing?"),
        "{\"payload\": \"what do ya want for nothing?\", \"hmac\": \"5bdcc146bf60754e6a042426"
        "089575c75a003f089d2739839dec58b964ec3843\", \"algo\": \"sha256\"}");
}

/* ---- escapes ----------------------------------------------------------------------------- */

static void expect_text(struct bytes text, const char *escaped)
{
    uint8_t memory[256];
    size_t size = 0;
    cr_assert_eq(json_text_size(text, &size), JSON_TEXT_OK);
    cr_assert_eq(size, strlen(escaped), "%s: %zu", escaped, size);
    struct writer w = writer_over(memory, size);
    json_text_put(&w, text);
    cr_assert(writer_ok(&w));
    cr_assert(bytes_equal((struct bytes){memory, writer_length(&w)}, bytes_of(escaped)),
              "%.*s is not %s", (int)writer_length(&w), (const char *)memory, escaped);
}

Test(json_text, escapes_every_ascii_character_as_python_does)
{
    static const struct {
        char character;
        const char *escaped;
    } named[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
                 {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};
    for (int c = 0; c < 128; c++) {
        char character = (char)c, escaped[8];
        if (c < 0x20 || c == 0x7f)
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)c);
        else
            snprintf(escaped, sizeof escaped, "%c", c);
        for (size_t i = 0; i < sizeof named / sizeof *named; i++)
            if (named[i].character == character)
                snprintf(escaped, sizeof escaped, "%s", named[i].escaped);
        expect_text(view(&character, 1), escaped);

        /* And at each place of a word of eight, where it is measured in another way. */
        for (size_t at = 0; at < 9; at++) {
            char text[16] = "abcdefghi", whole[32];
            text[at] = character;
            snprintf(whole, sizeof whole, "%.*s%s%s", (int)at, text, escaped, &"abcdefghi"[at + 1]);
            expect_text(view(text, 9), whole);
        }
    }
}

Test(json_text, escapes_all_planes_in_lower_case)
{
    expect_text(bytes_of("\xc2\x80\xc3\xab"), "\\u0080\\u00eb");
    expect_text(bytes_of("\xdf\xbf\xe0\xa0\x80"), "\\u07ff\\u0800");
    expect_text(bytes_of("\xed\x9f\xbf\xee\x80\x80"), "\\ud7ff\\ue000");
    expect_text(bytes_of("\xef\xbf\xbf\xf0\x90\x80\x80"), "\\uffff\\ud800\\udc00");
    expect_text(bytes_of("\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"), "\\ud83d\\ude00\\udbff\\udfff");
    expect_text(bytes_of("0123456789\xe2\x80\xa8/0123456789"), "0123456789\\u2028/0123456789");
    expect_text((struct bytes){NULL, 0}, "");
}

/* ---- refusals ---------------------------------------------------------------------------- */

static void expect_refused(struct bytes payload, const char *reason)
{
    uint8_t memory[512];
    struct stream_entry_fault fault = {NULL, NULL};
    cr_assert_eq(signed_size(payload, &fault), 0u);
    cr_assert_str_eq(fault.reason, reason);
    cr_assert_not_null(fault.detail);

    struct signer *signer = signer_new(bytes_of("k"));
    struct writer w = writer_over(memory, sizeof memory);
    signed_put(&w, signer, payload);
    cr_assert_not(writer_ok(&w));
    cr_assert_eq(writer_length(&w), 0u, "nothing unsigned may be left in the writer");
    signer_free(signer);
}

Test(encode_signed, refuses_what_python_could_not_sign)
{
    static const struct {
        const char *payload, *reason;
    } cases[] = {
        {"\xed\xa0\x80", "lone-surrogate"},
        {"0123456789\xed\xbf\xbf", "lone-surrogate"},
        {"\xed\xa0\xbd\xed\xb8\x80", "lone-surrogate"}, /* a pair, each half by itself */
        {"\x80", "not-utf8"},
        {"\xc0\x80", "not-utf8"},
        {"\xc1\xbf", "not-utf8"},
        {"\xe0\x9f\xbf", "not-utf8"},
        {"\xf0\x8f\xbf\xbf", "not-utf8"},
        {"\xf4\x90\x80\x80", "not-utf8"},
        {"\xf5\x80\x80\x80", "not-utf8"},
        {"\xff", "not-utf8"},
        {"0123456789\xc3", "not-utf8"},
        {"\xe2\x80", "not-utf8"},
        {"\xf0\x9f\x98", "not-utf8"},
        {"\xc3x", "not-utf8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(bytes_of(cases[i].payload), cases[i].reason);
    /* Judged by its length alone: it is not read. */
    struct stream_entry_fault fault = {NULL, NULL};
    cr_assert_eq(signed_size((struct bytes){(const uint8_t *)"", 268435456}, &fault), 0u);
    cr_assert_str_eq(fault.reason, "payload-too-large");
}

Test(encode_signed, a_short_writer_fails_and_keeps_nothing)
{
    struct bytes payload = bytes_of("{\"a\": \"\xc3\xbc\"}");
    struct signer *signer = signer_new(bytes_of("k"));
    struct stream_entry_fault fault;
    size_t size = signed_size(payload, &fault);
    for (size_t room = 0; room < size; room++) {
        uint8_t memory[256];
        memset(memory, 0xee, sizeof memory);
        struct writer w = writer_over(memory, room);
        signed_put(&w, signer, payload);
        cr_assert_not(writer_ok(&w));
        cr_assert_eq(writer_length(&w), 0u);
        cr_assert_eq(memory[room], 0xee);
    }
    signer_free(signer);
}

/* One signer signs many messages, each from the key's own state. */
Test(encode_signed, a_signer_is_not_changed_by_signing)
{
    uint8_t first[256], again[256];
    struct signer *signer = signer_new(bytes_of("k"));
    struct writer one = writer_over(first, sizeof first), two = writer_over(again, sizeof again);
    signed_put(&one, signer, bytes_of("payload"));
    struct writer between = writer_over(again, sizeof again);
    signed_put(&between, signer, bytes_of("another one"));
    signed_put(&two, signer, bytes_of("payload"));
    cr_assert(bytes_equal((struct bytes){first, writer_length(&one)},
                          (struct bytes){again, writer_length(&two)}));
    signer_free(signer);
    signer_free(NULL);
}

/* ---- keys -------------------------------------------------------------------------------- */

Test(encode_signed, refuses_keys_that_the_verifiers_read_differently)
{
    static const struct {
        const char *key, *says;
    } cases[] = {
        {"", "empty"},
        {" key", "begins"},
        {"key ", "ends"},
        {"\tkey", "begins"},
        {"key\n", "line end"},
        {"key\r", "ends"},
        {"\nkey", "begins"},
        {" ", "begins"},
        {"\x1ckey", "begins"},
        {"key\x1f", "ends"},
        {"\xc2\xa0key", "begins"},
        {"key\xc2\x85", "ends"},
        {"key\xe3\x80\x80", "ends"},
        {"\xe2\x80\xafkey", "begins"},
        {"k\xff", "UTF-8"},
        {"\xed\xa0\x80", "UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *fault = signer_key_fault(bytes_of(cases[i].key));
        cr_assert_not_null(fault, "key %zu", i);
        cr_assert_not_null(strstr(fault, cases[i].says), "key %zu: %s", i, fault);
        cr_assert_null(signer_new(bytes_of(cases[i].key)));
    }
    static const char *const good[] = {
        "k", "two words", "a\tb", "cl\xc3\xa9", "\xe2\x80\x8b", "\xe2\x82\xac", "x\xc2\xa1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert_null(signer_key_fault(bytes_of(good[i])), "key %zu", i);
}
