/*
 * Replies of Redis from hostile bytes. Input: one byte whose bits say what the replies are expected
 * to be (1: streams), then pieces, each with its length in one byte before it. The bytes are read
 * twice, in these pieces and in one, and both must give the same: entries, values, status, error.
 * With some first bytes the reader's limits are low enough to be met; "in one" then means in pieces
 * of another size, as a text is only cut where it does not lie in memory as a whole already.
 */
#include "codec/redis_reader_private.h"
#include "codec/stream_entry.h"
#include "tests/fuzz/fuzz_input.h"

#define LOW_TEXT 300 /* more than a piece */
#define LOW_REPLY 1500
#define LARGE_PIECE 230

struct run {
    uint8_t expects;
    unsigned asked;
    uint64_t digest; /* of all that was given out, in order */
};

static bool has_low_limits(const struct run *run)
{
    return run->expects >> 6 == 2;
}

static void digest_number(struct run *run, uint64_t number)
{
    run->digest = (run->digest ^ number) * 0x100000001b3u;
}

static void digest_bytes(struct run *run, struct bytes view)
{
    digest_number(run, view.length);
    for (size_t i = 0; i < view.length; i++)
        digest_number(run, view.data[i]);
}

static enum redis_expect on_expect(void *context)
{
    struct run *run = context;
    unsigned bit = run->asked++ % 8;
    return (run->expects >> bit & 1) != 0 ? REDIS_EXPECT_STREAMS : REDIS_EXPECT_VALUE;
}

static void on_stream(void *context, struct bytes name)
{
    digest_bytes(context, name);
    digest_bytes(context, stream_site(name));
}

static void on_entry(void *context, const struct redis_entry *entry)
{
    struct run *run = context;
    char id[STREAM_ID_TEXT];
    size_t size = 0;
    digest_bytes(run, (struct bytes){(const uint8_t *)id, stream_id_format(entry->id, id)});
    digest_number(run, entry->nil + 2u * entry->overflow);
    for (size_t i = 0; i < entry->count; i++) {
        digest_bytes(run, entry->fields[i].name);
        digest_bytes(run, entry->fields[i].value);
        size += entry->fields[i].name.length + entry->fields[i].value.length;
    }
    if (has_low_limits(run) && size > LOW_REPLY)
        abort();
    struct stream_entry read;
    struct stream_entry_fault fault = {NULL, NULL};
    enum status status =
        stream_entry_read(entry->id, entry->fields, entry->count, 64, &read, &fault);
    digest_number(run, status);
    digest_bytes(run, read.key);
    if (status == STATUS_OK) {
        digest_bytes(run, read.topic);
        digest_bytes(run, read.payload);
        digest_bytes(run, read.id);
        digest_bytes(run, read.type);
        if (read.qos > 1 || read.topic.length == 0 || read.payload.length > 64)
            abort();
    } else {
        digest_bytes(run, bytes_of(fault.reason));
        digest_bytes(run, bytes_of(fault.detail));
    }
}

static const struct redis_stream_sink sink = {on_stream, on_entry};

/* The nesting of RESP is bounded by hiredis. */
static void digest_value(struct run *run, const struct redis_value *value)
{
    digest_number(run, value->type);
    digest_number(run, (uint64_t)value->integer);
    digest_number(run, value->count);
    digest_bytes(run, value->text);
    for (const struct redis_value *e = value->element; e != NULL; e = e->next)
        digest_value(run, e);
}

static enum status feed(struct redis_reader *reader, struct run *run, struct bytes piece)
{
    if (redis_reader_feed(reader, piece) != STATUS_OK)
        abort();
    const struct redis_value *reply;
    enum status status;
    while ((status = redis_reader_next(reader, &reply)) == STATUS_OK)
        digest_value(run, reply);
    if (status == STATUS_MALFORMED)
        digest_bytes(run, bytes_of(redis_reader_error(reader)));
    return status;
}

static struct redis_reader *new_reader(struct run *run)
{
    struct redis_reader *reader = redis_reader_new(on_expect, &sink, run);
    if (reader == NULL)
        abort();
    if (has_low_limits(run)) {
        reader->max_text = LOW_TEXT;
        reader->max_reply = LOW_REPLY;
    }
    return reader;
}

/* Takes the next piece off the front of rest. */
static struct bytes next_piece(struct bytes *rest)
{
    size_t length = rest->data[0];
    if (length > rest->length - 1)
        length = rest->length - 1;
    struct bytes piece = {rest->data + 1, length};
    *rest = (struct bytes){piece.data + length, rest->length - 1 - length};
    return piece;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct run pieces = {.expects = data[0]}, whole = {.expects = data[0]};
    struct redis_reader *reader = new_reader(&pieces);
    uint8_t *joined = malloc(size);
    if (joined == NULL)
        abort();
    size_t length = 0;
    enum status status = STATUS_AGAIN;
    for (struct bytes rest = {data + 1, size - 1}; rest.length > 0;) {
        struct bytes piece = next_piece(&rest);
        memcpy(joined + length, piece.data, piece.length);
        length += piece.length;
        if (status == STATUS_AGAIN)
            status = feed(reader, &pieces, piece);
    }
    redis_reader_reset(reader);
    redis_reader_free(reader);

    reader = new_reader(&whole);
    struct bytes all = {joined, length};
    enum status again = STATUS_AGAIN;
    while (again == STATUS_AGAIN && all.length > 0)
        again =
            feed(reader, &whole, take_bytes(&all, has_low_limits(&whole) ? LARGE_PIECE : length));
    if (again != status || whole.digest != pieces.digest)
        abort();
    redis_reader_free(reader);
    free(joined);
    return 0;
}
