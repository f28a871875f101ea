/* Batches: the golden files that the Python reader reads too, every form of a length and a number
 * at its edges, the sizes that are promised, and what cannot be encoded. */
#include "tests/unit/batch_decode.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define TEXT(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static uint8_t letters[70000];

static struct bytes letters_of(size_t length)
{
    cr_assert_leq(length, sizeof letters);
    memset(letters, 'x', sizeof letters);
    return (struct bytes){letters, length};
}

/* An event with no more than it must have. */
static struct batch_event least(void)
{
    return (struct batch_event){.id = {1700000000000, 0},
                                .topic = bytes_of("a"),
                                .payload = bytes_of("1"),
                                .key = bytes_of("a")};
}

/* The encoded event; owned by the caller. Its size is what was promised. */
static struct bytes encode(const struct batch_event *event)
{
    size_t size = batch_event_size(event);
    cr_assert_gt(size, 0);
    uint8_t *memory = malloc(size);
    struct writer w = writer_over(memory, size);
    batch_put_event(&w, event);
    cr_assert(writer_ok(&w));
    cr_assert_eq(writer_length(&w), size);
    return (struct bytes){memory, size};
}

static void release(struct bytes owned)
{
    free((void *)(uintptr_t)owned.data);
}

/* A whole batch; owned by the caller. */
static struct bytes encode_batch(struct bytes site, struct bytes stream,
                                 const struct batch_event *events, uint32_t count)
{
    size_t size = batch_head_size(site, stream, count);
    for (uint32_t i = 0; i < count; i++)
        size += batch_event_size(&events[i]);
    uint8_t *memory = malloc(size);
    struct writer w = writer_over(memory, size);
    batch_put_head(&w, site, stream, count);
    for (uint32_t i = 0; i < count; i++)
        batch_put_event(&w, &events[i]);
    cr_assert(writer_ok(&w));
    cr_assert_eq(writer_length(&w), size);
    return (struct bytes){memory, size};
}

/* ---- golden files -------------------------------------------------------------------------- */

static void expect_file(const char *name, struct bytes stream, const struct batch_event *events,
                        uint32_t count)
{
    char path[4096];
    static uint8_t golden[65536];
    snprintf(path, sizeof path, "%s/batches/%s.msgpack", TEST_DATA, name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    size_t length = fread(golden, 1, sizeof golden, file);
    fclose(file);
    struct bytes batch = encode_batch(bytes_of("lab"), stream, events, count);
    cr_assert(bytes_equal(batch, (struct bytes){golden, length}), "%s", name);
    cr_assert(batch_holds(batch, bytes_of("lab"), stream, events, count));
    release(batch);
}

Test(encode_msgpack, no_events)
{
    expect_file("empty", bytes_of("nemo:{lab}:events"), NULL, 0);
}

Test(encode_msgpack, an_event_with_the_least)
{
    struct batch_event event = {.id = {1700000000000, 0},
                                .topic = bytes_of("tools/17/event"),
                                .payload = bytes_of("{}"),
                                .key = bytes_of("tools/17/event")};
    expect_file("least", bytes_of("nemo:{lab}:events"), &event, 1);
}

Test(encode_msgpack, events_with_everything)
{
    const struct batch_event events[] = {
        {.id = {1700000000000, 0},
         .topic_prefix = bytes_of("nemo/lab/"),
         .topic = bytes_of("tools/17/state"),
         .payload = bytes_of("{\"tool_name\":\"Ofen\",\"user\":\"Ren\xc3\xa9 M\xc3\xbcller\"}"),
         .key = bytes_of("tool/17"),
         .event_id = bytes_of("0198c0de-0000-7000-8000-0123456789ab"),
         .type = bytes_of("tool.state"),
         .retain = true,
         .has_ts = true,
         .ts_ms = 1699999999987,
         .expires_ms = 1700000060000},
        {.id = {1700000000000, 1},
         .topic_prefix = bytes_of("nemo/lab/"),
         .topic = bytes_of("r\xc3\xa4ume/\xe6\x9d\xb1/state"),
         .payload = {NULL, 0},
         .key = bytes_of("tool/\xc3\xbc"),
         .retain = true,
         .has_ts = true,
         .ts_ms = 0},
    };
    expect_file("full", bytes_of("nemo:{lab}:events"), events, 2);
}

Test(encode_msgpack, bytes_that_are_no_text)
{
    const struct batch_event events[] = {
        {.id = {18446744073709551615u, 18446744073709551615u},
         .topic = bytes_of("a"),
         .payload = TEXT("\x00\xff\xc1\x80"),
         .key = TEXT("tool/\xff")},
        {.id = {0, 1}, .topic = bytes_of("b"), .payload = TEXT("\n"), .key = TEXT("a\0b")},
    };
    expect_file("bytes", TEXT("nemo:{lab}:\xfe"), events, 2);
}

Test(encode_msgpack, sixteen_events)
{
    struct batch_event events[16];
    for (uint64_t i = 0; i < 16; i++) {
        events[i] = least();
        events[i].id.seq = i;
    }
    expect_file("sixteen", bytes_of("s"), events, 16);
}

/* ---- the forms of lengths and numbers ------------------------------------------------------ */

/* The bytes that stand behind the label in the only place where it is. */
static const uint8_t *behind(struct bytes encoded, const char *label)
{
    size_t length = strlen(label);
    for (size_t i = 0; i + 1 + length < encoded.length; i++)
        if (encoded.data[i] == (0xa0 | length) && memcmp(encoded.data + i + 1, label, length) == 0)
            return encoded.data + i + 1 + length;
    cr_assert_fail("no %s", label);
    return NULL;
}

static void expect_form(const struct batch_event *event, const char *label, struct bytes form)
{
    struct bytes encoded = encode(event);
    const uint8_t *at = behind(encoded, label);
    cr_assert_leq(at + form.length, encoded.data + encoded.length);
    cr_assert_arr_eq(at, form.data, form.length, "%s", label);
    release(encoded);
    struct bytes batch = encode_batch(bytes_of("lab"), bytes_of("s"), event, 1);
    cr_assert(batch_holds(batch, bytes_of("lab"), bytes_of("s"), event, 1), "%s", label);
    release(batch);
}

static const struct {
    size_t length;
    struct bytes str, bin;
} lengths[] = {
    {1, TEXT("\xa1"), TEXT("\xc4\x01")},
    {31, TEXT("\xbf"), TEXT("\xc4\x1f")},
    {32, TEXT("\xd9\x20"), TEXT("\xc4\x20")},
    {255, TEXT("\xd9\xff"), TEXT("\xc4\xff")},
    {256, TEXT("\xda\x01\x00"), TEXT("\xc5\x01\x00")},
    {65535, TEXT("\xda\xff\xff"), TEXT("\xc5\xff\xff")},
    {65536, TEXT("\xdb\x00\x01\x00\x00"), TEXT("\xc6\x00\x01\x00\x00")},
};

#define LENGTHS (sizeof lengths / sizeof *lengths)

Test(encode_msgpack, texts_at_the_edges_of_their_forms)
{
    for (size_t i = 0; i < LENGTHS; i++) {
        struct batch_event event = least();
        event.event_id = letters_of(lengths[i].length);
        expect_form(&event, "id", lengths[i].str);
        event = least();
        event.type = letters_of(lengths[i].length);
        expect_form(&event, "type", lengths[i].str);
        event = least();
        event.key = letters_of(lengths[i].length);
        expect_form(&event, "key", lengths[i].str);
    }
}

Test(encode_msgpack, topics_at_the_edges_of_their_forms)
{
    for (size_t i = 0; i < LENGTHS && lengths[i].length <= 65535; i++) {
        struct batch_event event = least();
        event.topic = letters_of(lengths[i].length);
        expect_form(&event, "topic", lengths[i].str);
        event.topic_prefix = letters_of(lengths[i].length / 2);
        event.topic = letters_of(lengths[i].length - lengths[i].length / 2);
        expect_form(&event, "topic", lengths[i].str);
    }
}

Test(encode_msgpack, bytes_at_the_edges_of_their_forms)
{
    struct batch_event event = least();
    event.payload = (struct bytes){NULL, 0};
    expect_form(&event, "payload", TEXT("\xc4\x00"));
    for (size_t i = 0; i < LENGTHS; i++) {
        event = least();
        event.payload = letters_of(lengths[i].length);
        expect_form(&event, "payload", lengths[i].bin);
        event = least();
        event.key = letters_of(lengths[i].length);
        letters[lengths[i].length - 1] = 0xff;
        expect_form(&event, "key", lengths[i].bin);
    }
}

/* UTF-8 as MQTT has it: what is not, is bin. */
Test(encode_msgpack, keys_are_text_where_they_are_utf_8)
{
    static const struct {
        struct bytes key, form;
    } keys[] = {
        {TEXT(""), TEXT("\xa0")},
        {TEXT(" ~"), TEXT("\xa2 ~")},
        {TEXT("\x1f"), TEXT("\xa1\x1f")},
        {TEXT("\x7f"), TEXT("\xa1\x7f")},
        {TEXT("\xc3\xbc"), TEXT("\xa2\xc3\xbc")},
        {TEXT("tool\xf0\x9f\x94\xa7"), TEXT("\xa8tool\xf0\x9f\x94\xa7")},
        {TEXT("\0"), TEXT("\xc4\x01\0")},
        {TEXT("\xc3"), TEXT("\xc4\x01\xc3")},
        {TEXT("\xc0\x80"), TEXT("\xc4\x02\xc0\x80")},
        {TEXT("\xed\xa0\x80"), TEXT("\xc4\x03\xed\xa0\x80")},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct batch_event event = least();
        event.key = keys[i].key;
        expect_form(&event, "key", keys[i].form);
    }
}

Test(encode_msgpack, numbers_at_the_edges_of_their_forms)
{
    static const struct {
        uint64_t number;
        struct bytes form;
    } numbers[] = {
        {1, TEXT("\x01")},
        {127, TEXT("\x7f")},
        {128, TEXT("\xcc\x80")},
        {255, TEXT("\xcc\xff")},
        {256, TEXT("\xcd\x01\x00")},
        {65535, TEXT("\xcd\xff\xff")},
        {65536, TEXT("\xce\x00\x01\x00\x00")},
        {UINT32_MAX, TEXT("\xce\xff\xff\xff\xff")},
        {UINT32_MAX + UINT64_C(1), TEXT("\xcf\x00\x00\x00\x01\x00\x00\x00\x00")},
        {UINT64_MAX, TEXT("\xcf\xff\xff\xff\xff\xff\xff\xff\xff")},
    };
    struct batch_event event = least();
    event.has_ts = true;
    expect_form(&event, "ts", TEXT("\x00"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        event = least();
        event.has_ts = true;
        event.ts_ms = numbers[i].number;
        expect_form(&event, "ts", numbers[i].form);
        event = least();
        event.expires_ms = numbers[i].number;
        expect_form(&event, "exp", numbers[i].form);
    }
}

Test(encode_msgpack, stream_ids_of_every_length)
{
    uint64_t power = 1;
    for (int digits = 1; digits <= 20; digits++, power *= 10) {
        const uint64_t values[] = {power, power - 1, power + 1};
        for (size_t i = 0; i < 3; i++) {
            struct batch_event event = least();
            event.id = (struct stream_id){values[i], values[2 - i]};
            struct bytes batch = encode_batch(bytes_of("lab"), bytes_of("s"), &event, 1);
            cr_assert(batch_holds(batch, bytes_of("lab"), bytes_of("s"), &event, 1));
            release(batch);
        }
    }
}

Test(encode_msgpack, heads_at_the_edges_of_their_forms)
{
    static const struct {
        uint32_t count;
        struct bytes form;
    } counts[] = {
        {0, TEXT("\x90")},
        {15, TEXT("\x9f")},
        {16, TEXT("\xdc\x00\x10")},
        {65535, TEXT("\xdc\xff\xff")},
        {65536, TEXT("\xdd\x00\x01\x00\x00")},
        {UINT32_MAX, TEXT("\xdd\xff\xff\xff\xff")},
    };
    const struct bytes start = TEXT("\x84\xa1v\x01\xa4site\xa3lab\xa6stream\xa1s\xa6"
                                    "events");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint8_t memory[64];
        struct writer w = writer_over(memory, sizeof memory);
        batch_put_head(&w, bytes_of("lab"), bytes_of("s"), counts[i].count);
        cr_assert(writer_ok(&w));
        size_t length = start.length + counts[i].form.length;
        cr_assert_eq(writer_length(&w), length);
        cr_assert_eq(batch_head_size(bytes_of("lab"), bytes_of("s"), counts[i].count), length);
        cr_assert_arr_eq(memory, start.data, start.length);
        cr_assert_arr_eq(memory + start.length, counts[i].form.data, counts[i].form.length);
    }
}

/* ---- what cannot be written ---------------------------------------------------------------- */

static void expect_refused(const struct batch_event *event)
{
    uint8_t memory[8] = {0};
    struct writer w = writer_over(memory, sizeof memory);
    batch_put_event(&w, event);
    cr_assert(!writer_ok(&w));
    cr_assert_eq(writer_length(&w), 0);
    cr_assert_eq(batch_event_size(event), 0);
}

Test(encode_msgpack, refuses_what_has_no_form)
{
    const struct bytes huge = {letters, (size_t)UINT32_MAX + 1}; /* nobody looks into it */
    struct batch_event event = least();
    event.topic = event.key = letters_of(65536);
    expect_refused(&event);
    event.topic = event.key = letters_of(65535);
    event.topic_prefix = bytes_of("n");
    expect_refused(&event);
    event.topic_prefix = letters_of(65536);
    event.topic = (struct bytes){NULL, 0};
    expect_refused(&event);
    event.topic_prefix = event.topic = huge;
    expect_refused(&event);
    struct bytes *const parts[] = {&event.payload, &event.key, &event.event_id, &event.type};
    for (size_t i = 0; i < 4; i++) {
        event = least();
        *parts[i] = huge;
        expect_refused(&event);
    }
    uint8_t byte;
    struct writer w = writer_over(&byte, 1);
    batch_put_head(&w, huge, bytes_of("s"), 1);
    cr_assert(!writer_ok(&w));
    cr_assert_eq(batch_head_size(huge, bytes_of("s"), 1), 0);
    cr_assert_eq(batch_head_size(bytes_of("lab"), huge, 1), 0);
}

/* One byte too few, at whichever place: the writer has failed, keeps what it had, and stays so. */
Test(encode_msgpack, writes_all_or_nothing)
{
    struct batch_event event = least();
    event.key = event.type = event.event_id = bytes_of("other");
    event.retain = event.has_ts = true;
    event.expires_ms = 5;
    const size_t size = batch_event_size(&event);
    const size_t head = batch_head_size(bytes_of("lab"), bytes_of("s"), 1);
    uint8_t memory[256];
    cr_assert_leq(head + size, sizeof memory);
    for (size_t room = 0; room < head + size; room++) {
        struct writer w = writer_over(memory, room);
        batch_put_head(&w, bytes_of("lab"), bytes_of("s"), 1);
        cr_assert_eq(writer_ok(&w), room >= head);
        cr_assert_eq(writer_length(&w), room >= head ? head : 0);
        batch_put_event(&w, &event);
        cr_assert(!writer_ok(&w));
        cr_assert_eq(writer_length(&w), room >= head ? head : 0);
    }
    struct writer w = writer_over(memory, sizeof memory);
    w.failed = true;
    batch_put_event(&w, &event);
    batch_put_head(&w, bytes_of("lab"), bytes_of("s"), 1);
    cr_assert(!writer_ok(&w));
    cr_assert_eq(writer_length(&w), 0);
}

/* ---- any batch ----------------------------------------------------------------------------- */

/* Mostly short, sometimes over an edge; letters, or any bytes. */
static struct bytes random_bytes(uint8_t *memory, size_t room, bool letters_only)
{
    size_t length = (size_t)(rand() % 8 == 0 ? rand() % 300 : rand() % 40);
    if (length > room)
        length = room;
    for (size_t i = 0; i < length; i++)
        memory[i] = (uint8_t)(letters_only ? 'a' + rand() % 26 : rand());
    return (struct bytes){memory, length};
}

static struct batch_event random_event(uint8_t memory[6][300])
{
    struct batch_event event = {
        .id = {(uint64_t)rand() << (rand() % 33), (uint64_t)rand() >> (rand() % 31)},
        .topic_prefix = random_bytes(memory[0], 300, true),
        .topic = random_bytes(memory[1], 300, true),
        .payload = random_bytes(memory[2], 300, false),
        .key = random_bytes(memory[3], 300, rand() % 2),
        .event_id = random_bytes(memory[4], 300, true),
        .type = random_bytes(memory[5], 300, true),
        .retain = rand() % 2,
        .has_ts = rand() % 2,
        .ts_ms = (uint64_t)rand() << (rand() % 33),
        .expires_ms = rand() % 2 ? 0 : (uint64_t)rand() << (rand() % 33),
    };
    if (rand() % 3 == 0)
        event.key = event.topic;
    return event;
}

Test(encode_msgpack, any_batch_decodes_to_its_events)
{
    static uint8_t memory[20][6][300];
    srand(4);
    for (int round = 0; round < 500; round++) {
        struct batch_event events[20];
        uint32_t count = (uint32_t)(rand() % 21);
        for (uint32_t i = 0; i < count; i++)
            events[i] = random_event(memory[i]);
        struct bytes batch = encode_batch(bytes_of("lab"), bytes_of("s"), events, count);
        cr_assert(batch_holds(batch, bytes_of("lab"), bytes_of("s"), events, count));
        release(batch);
    }
}

/* Another head before some of the same bytes is a batch of those events. */
Test(encode_msgpack, a_batch_can_be_halved)
{
    struct batch_event events[40];
    for (uint64_t i = 0; i < 40; i++) {
        events[i] = least();
        events[i].id.seq = i * 7;
    }
    const struct bytes site = bytes_of("lab"), stream = bytes_of("s");
    struct bytes whole = encode_batch(site, stream, events, 40);
    size_t end = batch_head_size(site, stream, 40), middle = end;
    for (size_t i = 0; i < 20; i++)
        middle += batch_event_size(&events[i]);
    uint8_t half[2048];
    struct writer w = writer_over(half, sizeof half);
    batch_put_head(&w, site, stream, 20);
    writer_put_bytes(&w, (struct bytes){whole.data + middle, whole.length - middle});
    cr_assert(writer_ok(&w));
    cr_assert(batch_holds((struct bytes){half, writer_length(&w)}, site, stream, events + 20, 20));
    release(whole);
}
