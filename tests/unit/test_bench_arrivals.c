/*
 * Stamps: written into payloads of every size, read back from the encodings of a route, the batch
 * as the gateway writes it. Rubbish has none.
 */
#include "bench/arrivals.h"
#include "bench/draw.h"
#include "bench/entry.h"
#include "codec/encode_msgpack.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct found {
    size_t count;
    struct stamp last;
};

static const struct stamp sample = {.ns = UINT64_C(0xfedcba9876543210),
                                    .run = 255,
                                    .stream = STAMP_STREAMS_MAX,
                                    .key = 499,
                                    .sequence = 0xffffffffu};

static void count_stamp(void *context, const struct stamp *stamp)
{
    struct found *found = context;
    found->count++;
    found->last = *stamp;
}

static void expect_sample(const struct found *found, size_t count)
{
    cr_expect_eq(found->count, count);
    cr_expect_eq(found->last.ns, sample.ns);
    cr_expect_eq(found->last.run, sample.run);
    cr_expect_eq(found->last.stream, sample.stream);
    cr_expect_eq(found->last.key, sample.key);
    cr_expect_eq(found->last.sequence, sample.sequence);
}

static size_t take(enum encoding encoding, const void *data, size_t size, struct found *found)
{
    *found = (struct found){0};
    struct arrivals *arrivals = arrivals_new(encoding, count_stamp, found);
    size_t faults = arrivals_take(arrivals, (struct bytes){data, size});
    arrivals_free(arrivals);
    return faults;
}

Test(bench_arrivals, raw_of_every_size)
{
    uint8_t payload[1024];
    struct found found;
    for (size_t size = SAMPLE_PAYLOAD_MIN; size <= sizeof payload; size++) {
        sample_payload(payload, size, size % 2 == 0);
        sample_stamp(payload, &sample);
        cr_assert_eq(payload[size - 1], '}');
        cr_assert_null(memchr(payload, 0, size));
        cr_assert_eq(take(ENCODING_RAW, payload, size, &found), 0);
        expect_sample(&found, 1);
    }
}

Test(bench_arrivals, raw_rubbish)
{
    uint8_t payload[SAMPLE_PAYLOAD_MIN];
    struct found found;
    sample_payload(payload, sizeof payload, false);
    cr_expect_eq(take(ENCODING_RAW, payload, sizeof payload, &found), 1, "no stamp yet");
    sample_stamp(payload, &sample);
    cr_expect_eq(take(ENCODING_RAW, payload, sizeof payload - 1, &found), 1);
    payload[12] = 'g';
    cr_expect_eq(take(ENCODING_RAW, payload, sizeof payload, &found), 1);
    cr_expect_eq(take(ENCODING_RAW, "", 0, &found), 1);
    cr_expect_eq(found.count, 0);
}

Test(bench_arrivals, signed_envelope)
{
    uint8_t payload[SAMPLE_PAYLOAD_MIN];
    char envelope[512] = "{\"payload\": \"";
    size_t length = strlen(envelope);
    struct found found;
    sample_payload(payload, sizeof payload, false);
    sample_stamp(payload, &sample);
    for (size_t i = 0; i < sizeof payload; i++) {
        if (payload[i] == '"')
            envelope[length++] = '\\';
        envelope[length++] = (char)payload[i];
    }
    length += (size_t)sprintf(envelope + length, "\", \"hmac\": \"00\", \"algo\": \"sha256\"}");
    cr_expect_eq(take(ENCODING_SIGNED, envelope, length, &found), 0);
    expect_sample(&found, 1);
    cr_expect_eq(take(ENCODING_SIGNED, envelope, 40, &found), 1, "the stamp is cut off");
    cr_expect_eq(take(ENCODING_SIGNED, payload, sizeof payload, &found), 1, "not signed");
}

Test(bench_arrivals, batch_as_the_gateway_writes_it)
{
    static uint8_t packed[16384];
    uint8_t payload[220];
    struct writer w = writer_over(packed, sizeof packed);
    struct found found;
    batch_put_head(&w, bytes_of("bench1"), bytes_of("nemo:{bench1}:events"), 20);
    for (uint32_t i = 0; i < 20; i++) {
        sample_payload(payload, sizeof payload, true);
        if (i != 7) /* this one has no stamp */
            sample_stamp(payload, &sample);
        struct batch_event event = {.topic = bytes_of("tools/1/enabled"),
                                    .key = bytes_of("tool/1"),
                                    .payload = {payload, sizeof payload}};
        batch_put_event(&w, &event);
    }
    cr_assert(writer_ok(&w));
    cr_expect_eq(take(ENCODING_BATCH, packed, writer_length(&w), &found), 1);
    expect_sample(&found, 19);
    cr_expect_eq(take(ENCODING_BATCH, packed, writer_length(&w) - 1, &found), 1, "cut off");
    cr_expect_eq(found.count, 0);
    cr_expect_eq(take(ENCODING_BATCH, "\x80", 1, &found), 1, "a map without events");
    cr_expect_eq(take(ENCODING_BATCH, "{}", 2, &found), 1, "no MessagePack map");
}

static struct entry_maker *maker_of(uint64_t fields)
{
    struct entry_options options = {.stream_names = STREAM_NAMES,
                                    .first_stream = 3,
                                    .streams = 2,
                                    .keys = 10,
                                    .fields = fields,
                                    .mix = size_mix_nemo()};
    return entry_maker_new(&options);
}

Test(bench_entry, a_command_is_whole_and_stamped)
{
    const uint64_t fields[] = {9, 5};
    for (size_t i = 0; i < 2; i++) {
        struct entry_maker *maker = maker_of(fields[i]);
        char *into = calloc(entry_maker_size(maker) + 1, 1);
        char words[32];
        struct event event = {.stamp = {.stream = 4, .key = 9, .sequence = 77},
                              .size = 2,
                              .non_ascii = true,
                              .retain = true,
                              .wall_ms = UINT64_C(1700000000123)};
        size_t length = entry_make(maker, &event, (uint8_t *)into);
        cr_assert_leq(length, entry_maker_size(maker));
        cr_expect_eq(strlen(into), length);
        snprintf(words, sizeof words, "*%llu\r\n", (unsigned long long)(3 + 2 * fields[i]));
        cr_expect_eq(strncmp(into, words, strlen(words)), 0);
        cr_expect_not_null(strstr(into, "$20\r\nnemo:{bench4}:events\r\n"));
        cr_expect_not_null(strstr(into, "$6\r\ntool/9\r\n"));
        cr_expect_not_null(
            strstr(into, "$1024\r\n{\"bench\":\"0000000000000000.00.00004.00009.0000004d\""));
        cr_expect_not_null(strstr(into, "$2\r\nts\r\n$13\r\n1700000000123\r\n"));
        cr_expect_eq(strstr(into, "$6\r\nretain\r\n$1\r\n1\r\n") != NULL, fields[i] == 9);
        free(into);
        entry_maker_free(maker);
    }
}
