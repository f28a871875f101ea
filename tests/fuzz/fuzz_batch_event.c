/*
 * Batches of arbitrary events. Input: events one behind the other, each a byte of flags, the
 * numbers that the flags ask for, and parts with their lengths before them. What is written must
 * decode to what was given, have the size that was promised, and not fit into a byte less.
 */
#include "tests/fuzz/fuzz_input.h"
#include "tests/unit/batch_decode.h"

#define MOST_EVENTS 24

enum { RETAIN = 1, TS = 2, EXP = 4, OWN_KEY = 8, ID = 16, TYPE = 32, LONG_PART = 64 };

/* Owned by the caller. Texts are made of letters, names of any bytes. */
static struct bytes take_part(struct bytes *input, bool is_long, bool text)
{
    static const size_t edges[] = {31, 32, 255, 256, 65534, 65535, 65536, 70000};
    uint8_t byte = take_u8(input);
    size_t length = is_long ? edges[byte % 8] : byte;
    struct bytes seed = take_bytes(input, length < 40 ? length : 40);
    uint8_t *memory = malloc(length > 0 ? length : 1);
    require(memory != NULL);
    memset(memory, 'x', length);
    for (size_t i = 0; i < seed.length; i++)
        memory[i] = (uint8_t)(text ? 'a' + seed.data[i] % 26 : seed.data[i]);
    return (struct bytes){memory, length};
}

static struct batch_event take_event(struct bytes *input)
{
    const struct bytes none = {NULL, 0};
    uint8_t flags = take_u8(input);
    uint8_t which = (flags & LONG_PART) != 0 ? take_u8(input) % 6 : 6;
    struct batch_event event = {
        .id = {take_u64(input), take_u64(input)},
        .retain = (flags & RETAIN) != 0,
        .has_ts = (flags & TS) != 0,
        .ts_ms = (flags & TS) != 0 ? take_u64(input) : 0,
        .expires_ms = (flags & EXP) != 0 ? take_u64(input) : 0,
        .topic_prefix = take_part(input, which == 0, true),
        .topic = take_part(input, which == 1, true),
        .payload = take_part(input, which == 2, false),
        .event_id = (flags & ID) != 0 ? take_part(input, which == 3, true) : none,
        .type = (flags & TYPE) != 0 ? take_part(input, which == 4, true) : none,
    };
    event.key = (flags & OWN_KEY) != 0 ? take_part(input, which == 5, false) : event.topic;
    return event;
}

static void free_event(struct batch_event *event)
{
    struct bytes *const parts[] = {&event->topic_prefix, &event->topic, &event->payload,
                                   &event->event_id, &event->type};
    if (event->key.data != event->topic.data)
        free((void *)(uintptr_t)event->key.data);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free((void *)(uintptr_t)parts[i]->data);
}

/* One byte of room too little: nothing is written. */
static void require_needs_all(const struct batch_event *event, size_t size)
{
    uint8_t *memory = malloc(size);
    require(memory != NULL);
    struct writer w = writer_over(memory, size - 1);
    batch_put_event(&w, event);
    require(!writer_ok(&w) && writer_length(&w) == 0);
    free(memory);
}

/* The batch of these events, all of which can be encoded. */
static void check_batch(struct bytes stream, const struct batch_event *events, uint32_t count)
{
    const struct bytes site = bytes_of("lab");
    size_t size = batch_head_size(site, stream, count);
    for (uint32_t i = 0; i < count; i++)
        size += batch_event_size(&events[i]);
    uint8_t *memory = malloc(size);
    require(memory != NULL);
    struct writer w = writer_over(memory, size);
    batch_put_head(&w, site, stream, count);
    require(writer_ok(&w) && writer_length(&w) == batch_head_size(site, stream, count));
    for (uint32_t i = 0; i < count; i++)
        batch_put_event(&w, &events[i]);
    require(writer_ok(&w) && writer_length(&w) == size);
    require(batch_holds((struct bytes){memory, size}, site, stream, events, count));
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    struct bytes stream = take_part(&input, false, false);
    struct batch_event events[MOST_EVENTS];
    uint32_t count = 0;
    while (input.length > 0 && count < MOST_EVENTS) {
        struct batch_event *event = &events[count];
        *event = take_event(&input);
        size_t event_size = batch_event_size(event);
        require((event_size > 0) == (event->topic_prefix.length + event->topic.length <= 65535));
        if (event_size > 0) {
            require_needs_all(event, event_size);
            count++;
        } else {
            require_needs_all(event, 1);
            free_event(event);
        }
    }
    check_batch(stream, events, count);
    for (uint32_t i = 0; i < count; i++)
        free_event(&events[i]);
    free((void *)(uintptr_t)stream.data);
    return 0;
}
