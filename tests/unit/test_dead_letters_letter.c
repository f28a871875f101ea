/*
 * A dead letter from Redis' reply: which fields are whose, packed ones, and its line in the table.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/dead_letters_private.h"

/* ---- replies ------------------------------------------------------------------------------- */

static enum redis_expect expect_value(void *context)
{
    (void)context;
    return REDIS_EXPECT_VALUE;
}

/* The reader is the reply's memory: free it after the last look. */
static struct redis_reader *read_reply(const char *resp, size_t length,
                                       const struct redis_value **reply)
{
    struct redis_reader *reader = redis_reader_new(expect_value, NULL, NULL);
    struct bytes input = {(const uint8_t *)resp, length};
    cr_assert_eq(redis_reader_feed(reader, input), STATUS_OK);
    cr_assert_eq(redis_reader_next(reader, reply), STATUS_OK);
    return reader;
}

/* An entry of these texts; the last one is NULL. */
static struct redis_reader *make_entry(const struct redis_value **reply, const char *id,
                                       const char *const *texts)
{
    char *resp = NULL;
    size_t length = 0, count = 0;
    while (texts[count] != NULL)
        count++;
    FILE *out = open_memstream(&resp, &length);
    fprintf(out, "*2\r\n$%zu\r\n%s\r\n*%zu\r\n", strlen(id), id, count);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "$%zu\r\n%s\r\n", strlen(texts[i]), texts[i]);
    fclose(out);
    struct redis_reader *reader = read_reply(resp, length, reply);
    free(resp);
    return reader;
}

static void is_text(struct bytes value, const char *expected)
{
    cr_expect(bytes_equal(value, bytes_of(expected)), "'%.*s' is not '%s'", (int)value.length,
              (const char *)value.data, expected);
}

static size_t count_fields(const struct letter *letter)
{
    struct letter_fields fields = letter_fields(letter);
    struct bytes name, value;
    size_t count = 0;
    while (letter_next_field(&fields, &name, &value))
        count++;
    return count;
}

#define HEAD                                                                                       \
    "dead_reason", "bad-topic", "dead_detail", "a wildcard", "dead_stream", "nemo:{a}:events",     \
        "dead_id", "5-1", "dead_deliveries", "2"

/* ---- letters ------------------------------------------------------------------------------- */

Test(dead_letters_letter, a_letter_of_a_gateway)
{
    static const char *const texts[] = {HEAD, "topic",         "t/#", "payload", "p",  "key",
                                        "k",  "abs",           "1",   "key",     "k2", "retain",
                                        "1",  "replayed_from", "4-4", NULL};
    const struct redis_value *reply;
    struct letter letter;
    struct letter_entry entry;
    struct redis_reader *reader = make_entry(&reply, "7-3", texts);
    cr_assert(letter_read(reply, &letter));
    cr_expect(letter.id.ms == 7 && letter.id.seq == 3);
    is_text(letter.reason, "bad-topic");
    is_text(letter.detail, "a wildcard");
    is_text(letter.stream, "nemo:{a}:events");
    is_text(letter.original, "5-1");
    is_text(letter.deliveries, "2");
    letter_entry(&letter, &entry);
    is_text(entry.topic, "t/#");
    is_text(entry.payload, "p");
    is_text(entry.key, "k2"); /* the last one counts, as for the gateway */
    is_text(entry.replayed_from, "4-4");
    cr_expect(entry.absolute && entry.retain);
    cr_expect_eq(entry.field_count, 7);
    cr_expect_eq(entry.size, strlen("topict/#payloadpkeykabs1keyk2retain1replayed_from4-4"));
    redis_reader_free(reader);
}

Test(dead_letters_letter, fields_of_the_same_names_are_the_entrys_own)
{
    static const char *const texts[] = {HEAD, "dead_reason", "mine", "dead_id", "mine", NULL};
    const struct redis_value *reply;
    struct letter letter;
    struct redis_reader *reader = make_entry(&reply, "7-3", texts);
    cr_assert(letter_read(reply, &letter));
    is_text(letter.reason, "bad-topic");
    is_text(letter.original, "5-1");
    cr_expect_eq(count_fields(&letter), 2);
    redis_reader_free(reader);
}

Test(dead_letters_letter, what_is_no_letter)
{
    static const char *const texts[] = {"topic", "t", "dead_reason", "late", NULL};
    const struct redis_value *reply;
    struct letter letter;
    struct redis_reader *reader = make_entry(&reply, "7-3", texts);
    cr_assert(letter_read(reply, &letter));
    cr_expect_null(letter.reason.data);
    cr_expect_null(letter.stream.data);
    cr_expect_eq(count_fields(&letter), 2);
    redis_reader_free(reader);
    static const char *const replies[] = {":1\r\n", "*2\r\n$1\r\nx\r\n*0\r\n",
                                          "*1\r\n$3\r\n1-1\r\n"};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        reader = read_reply(replies[i], strlen(replies[i]), &reply);
        cr_expect_not(letter_read(reply, &letter), "%zu", i);
        redis_reader_free(reader);
    }
    static const char deleted[] = "*2\r\n$3\r\n1-1\r\n*-1\r\n";
    reader = read_reply(deleted, strlen(deleted), &reply);
    cr_assert(letter_read(reply, &letter));
    cr_expect_eq(count_fields(&letter), 0);
    redis_reader_free(reader);
}

/* ---- packed fields ------------------------------------------------------------------------- */

static void packed_is(const char *packed, size_t fields, const char *topic)
{
    const char *texts[] = {HEAD, "dead_fields_msgpack", packed, NULL};
    const struct redis_value *reply;
    struct letter letter;
    struct letter_entry entry;
    struct redis_reader *reader = make_entry(&reply, "7-3", texts);
    cr_assert(letter_read(reply, &letter));
    cr_expect_eq(count_fields(&letter), fields, "%s", topic);
    letter_entry(&letter, &entry);
    if (topic == NULL)
        cr_expect_null(entry.topic.data);
    else
        is_text(entry.topic, topic);
    redis_reader_free(reader);
}

Test(dead_letters_letter, packed_fields)
{
    packed_is("\x92\xa5topic\xa1t", 1, "t");
    packed_is("\x92\xd9\x05topic\xa1t", 1, "t");
    packed_is("\x94\xa1x\xa0\xa5topic\xa2tt", 2, "tt");
    packed_is("\xdd\xff\xff\xff\xff\xa1x", 1, NULL); /* cut off: not packed, one field of its own */
    packed_is("\x91\xa5topic", 1, NULL);             /* a name without a value */
    packed_is("\x92\xa5topic\xa1tx", 1, NULL);       /* something follows */
    packed_is("\x92\xa5topic\xc3", 1, NULL);         /* true is no string */
    packed_is("\x90", 0, NULL);
    packed_is("", 1, NULL);
}

/* A long one, as the scripting engine writes it: lengths of 16 and 32 bits, with NULs in them. */
Test(dead_letters_letter, packed_fields_of_all_lengths)
{
    static char resp[140000];
    size_t length = 0;
    static const size_t sizes[] = {31, 32, 255, 256, 65535, 65536};
    static char packed[135000];
    char *at = packed;
    *at++ = (char)0xdc;
    *at++ = 0;
    *at++ = 12;
    for (size_t i = 0; i < 6; i++) {
        at = stpcpy(at, "\xa1n");
        if (sizes[i] < 32)
            *at++ = (char)(0xa0 | sizes[i]);
        else if (sizes[i] < 256)
            at = mempcpy(at, (char[]){(char)0xd9, (char)sizes[i]}, 2);
        else if (sizes[i] < 65536)
            at = mempcpy(at, (char[]){(char)0xda, (char)(sizes[i] >> 8), (char)sizes[i]}, 3);
        else
            at = mempcpy(at, (char[]){(char)0xdb, 0, 1, 0, 0}, 5);
        memset(at, 'v', sizes[i]);
        at += sizes[i];
    }
    length = (size_t)snprintf(resp, sizeof resp,
                              "*2\r\n$3\r\n1-1\r\n*2\r\n$19\r\ndead_fields_msgpack\r\n$%zu\r\n",
                              (size_t)(at - packed));
    char *end = mempcpy(resp + length, packed, (size_t)(at - packed));
    end = stpcpy(end, "\r\n");
    const struct redis_value *reply;
    struct letter letter;
    struct redis_reader *reader = read_reply(resp, (size_t)(end - resp), &reply);
    cr_assert(letter_read(reply, &letter));
    struct letter_fields fields = letter_fields(&letter);
    struct bytes name, value;
    for (size_t i = 0; i < 6; i++) {
        cr_assert(letter_next_field(&fields, &name, &value));
        is_text(name, "n");
        cr_expect_eq(value.length, sizes[i]);
    }
    cr_expect_not(letter_next_field(&fields, &name, &value));
    redis_reader_free(reader);
}

/* ---- the table ----------------------------------------------------------------------------- */

static char *table_of(const struct letters_table *table, const struct letters_row *row)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    letters_table_head(table, out);
    letters_table_row(table, row, out);
    fclose(out);
    return text;
}

static void table_is(const char *const *texts, size_t columns, const char *expected)
{
    const struct redis_value *reply;
    struct letter letter;
    struct letters_row row;
    struct letters_table table = {0};
    struct redis_reader *reader = make_entry(&reply, "1700000000000-0", texts);
    cr_assert(letter_read(reply, &letter));
    letters_row_fill(&row, "a", &letter);
    letters_table_measure(&table, &row);
    cr_expect(letters_table_fit(&table, columns));
    cr_expect_not(letters_table_fit(&table, columns));
    char *text = table_of(&table, &row);
    cr_expect_str_eq(text, expected);
    free(text);
    redis_reader_free(reader);
}

Test(dead_letters_table, widths)
{
    static const char *const texts[] = {HEAD,  "topic",   "tools/17/a/long/state",
                                        "key", "tool/17", NULL};
    table_is(texts, 120,
             "SITE  ID               WHEN (UTC)   REASON     STREAM  ORIGINAL ID  "
             "TOPIC                  KEY      SIZE\n"
             "a     1700000000000-0  11-14 22:13  bad-topic  events  5-1          "
             "tools/17/a/long/state  tool/17    36\n");
    table_is(texts, 100,
             "SITE  ID               WHEN (UTC)   REASON     STREAM  ORIGINAL ID  "
             "TOPIC              KEY      SIZE\n"
             "a     1700000000000-0  11-14 22:13  bad-topic  events  5-1          "
             "tools/17/a/long/~  tool/17    36\n");
    table_is(texts, 80,
             "SITE  ID               WHEN (UTC)   REASON     STREAM  TOPIC                SIZE\n"
             "a     1700000000000-0  11-14 22:13  bad-topic  events  tools/17/a/long/st~    36\n");
    table_is(texts, 45,
             "SITE  ID               REASON     TOPIC\n"
             "a     1700000000000-0  bad-topic  tools/17/a~\n");
}

Test(dead_letters_table, what_is_missing)
{
    static const char *const texts[] = {"payload", "", NULL};
    table_is(texts, 81,
             "SITE  ID               WHEN (UTC)   REASON  STREAM  ORIGINAL ID  TOPIC  KEY  SIZE\n"
             "a     1700000000000-0  11-14 22:13  -       -       -            -      -       7\n");
}
