/*
 * Replies of Redis from hostile bytes. Input: one byte whose bits say what the replies are expected
 * to be (1: streams), then pieces, each with its length in one byte before it. The bytes are read
 * twice, in these pieces and in one, and both must give the same: entries, values, status, error.
 * With some first bytes the limits of the first reader are low enough to be met, and what the
 * second one gives is cut here as the first one should have cut it.
 */
#include "codec/redis_reader_private.h"
#include "codec/stream_entry.h"
#include "tests/fuzz/fuzz_input.h"

/* More than a piece: a text that lies in memory as a whole when its length is seen is not cut
 * before its end. */
#define LOW_TEXT 300
#define LOW_REPLY 1500

struct run {
    uint8_t expects;
    unsigned asked;
    uint64_t digest; /* of all that was given out, in order */
    bool limited;    /* its reader has the low limits */
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

/* The fields as a reader with low limits gives them: texts cut, and none behind the one with which
 * the entry gets too large. Returns how many are whole. */
static size_t cut_fields(const struct redis_entry *entry, struct stream_field *fields)
{
    size_t room = LOW_REPLY, texts = 0;
    for (; texts < 2 * entry->count; texts++) {
        const struct stream_field *from = &entry->fields[texts / 2];
        struct bytes text = texts % 2 == 0 ? from->name : from->value;
        if (text.length > LOW_TEXT)
            text.length = LOW_TEXT;
        if (text.length > room)
            break;
        room -= text.length;
        *(texts % 2 == 0 ? &fields[texts / 2].name : &fields[texts / 2].value) = text;
    }
    return texts / 2;
}

static void on_entry(void *context, const struct redis_entry *entry)
{
    struct run *run = context;
    char id[STREAM_ID_TEXT];
    struct stream_field cut[REDIS_MAX_FIELDS];
    const struct stream_field *fields = entry->fields;
    size_t count = entry->count;
    bool overflow = entry->overflow;
    if (has_low_limits(run)) {
        count = cut_fields(entry, cut);
        fields = cut;
        require(!run->limited || count == entry->count);
        overflow = overflow || count < entry->count;
    }
    digest_bytes(run, (struct bytes){(const uint8_t *)id, stream_id_format(entry->id, id)});
    digest_number(run, entry->nil + 2u * overflow);
    for (size_t i = 0; i < count; i++) {
        digest_bytes(run, fields[i].name);
        digest_bytes(run, fields[i].value);
    }
    struct stream_entry read;
    struct stream_entry_fault fault = {NULL, NULL};
    enum status status = stream_entry_read(entry->id, fields, count, 64, &read, &fault);
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
    if (run->limited) {
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
    pieces.limited = has_low_limits(&pieces);
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
    /* Before the end of a cut text an entry may have been given already, and what the limits refuse
     * the other reader takes. */
    bool comparable =
        reader->pass_left == 0 && strstr(redis_reader_error(reader), "no command asks for") == NULL;
    redis_reader_reset(reader);
    redis_reader_free(reader);

    reader = new_reader(&whole);
    enum status again = feed(reader, &whole, (struct bytes){joined, length});
    require(!comparable || (again == status && whole.digest == pieces.digest));
    redis_reader_free(reader);
    free(joined);
    return 0;
}
