/*
 * Envelopes of the old plugins from hostile bytes. What is read must be UTF-8 inside the memory
 * that was lent, and must come out the same when it is written as JSON and read again.
 */
#include "codec/json_text.h"
#include "codec/legacy_envelope.h"
#include "codec/mqtt_wire.h"
#include "tests/fuzz/fuzz_input.h"

static void require_utf8(struct bytes text)
{
    size_t size;
    require(json_text_size(text, &size) == JSON_TEXT_OK);
    if (text.length > 0 && memchr(text.data, '\0', text.length) == NULL)
        require(mqtt_utf8_valid(text));
}

static void require_within(struct bytes part, struct bytes whole, const uint8_t *scratch)
{
    bool in_text = part.data >= whole.data && part.data + part.length <= whole.data + whole.length;
    bool in_scratch = part.data >= scratch && part.data + part.length <= scratch + whole.length;
    require(in_text || in_scratch);
}

static void put_member(struct writer *w, const char *name, struct bytes text)
{
    writer_put_bytes(w, bytes_of(name));
    json_text_put(w, text);
    writer_put_u8(w, '"');
}

static void check_again(const struct legacy_envelope *first)
{
    size_t room = 6 * (first->topic.length + first->payload.length) + 128;
    uint8_t *memory = malloc(room), *scratch = malloc(room);
    require(memory != NULL && scratch != NULL);
    const char digit = (char)('0' + first->qos);
    struct writer w = writer_over(memory, room);
    put_member(&w, "{\"topic\": \"", first->topic);
    put_member(&w, ", \"payload\": \"", first->payload);
    writer_put_bytes(&w, bytes_of(", \"qos\": "));
    writer_put_bytes(&w, (struct bytes){(const uint8_t *)&digit, 1});
    writer_put_bytes(&w, bytes_of(first->retain ? ", \"retain\": true}" : ", \"retain\": false}"));
    require(writer_ok(&w));

    struct legacy_envelope second;
    struct stream_entry_fault fault;
    require(legacy_envelope_read((struct bytes){memory, writer_length(&w)}, scratch, &second,
                                 &fault) == STATUS_OK);
    require(bytes_equal(second.topic, first->topic));
    require(bytes_equal(second.payload, first->payload));
    require(second.qos == first->qos && second.retain == first->retain && !second.has_ts);
    free(memory);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = {data, size};
    uint8_t *copy = exact_copy(text), *scratch = exact_copy(text);
    text.data = copy;
    struct legacy_envelope envelope;
    struct stream_entry_fault fault = {NULL, NULL};
    enum status status = legacy_envelope_read(text, scratch, &envelope, &fault);
    require((status == STATUS_OK) == (fault.reason == NULL));
    if (envelope.topic.data != NULL) {
        require_utf8(envelope.topic);
        require_within(envelope.topic, text, scratch);
    }
    if (status == STATUS_OK) {
        require(envelope.qos <= 2);
        require_utf8(envelope.payload);
        require_within(envelope.payload, text, scratch);
        check_again(&envelope);
    } else {
        require(fault.detail != NULL);
    }
    free(copy);
    free(scratch);
    return 0;
}
