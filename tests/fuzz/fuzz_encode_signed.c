/*
 * Signed envelopes of hostile payloads and keys. Input: one byte, the key's length, then the key
 * and the payload. What is signed must be ASCII of the size that was foretold, hold the payload,
 * and be an object that the envelope reader takes; what is refused must not be UTF-8.
 */
#include "codec/encode_signed.h"
#include "codec/json_text.h"
#include "codec/legacy_envelope.h"
#include "codec/mqtt_wire.h"
#include "tests/fuzz/fuzz_input.h"

/* UTF-8 by MQTT's own reader, which takes no U+0000: it stands in for the same length of text. */
static bool is_utf8(struct bytes text)
{
    uint8_t *copy = exact_copy(text);
    for (size_t i = 0; i < text.length; i++)
        if (copy[i] == 0)
            copy[i] = 'x';
    bool valid = mqtt_utf8_valid((struct bytes){copy, text.length});
    free(copy);
    return valid;
}

static void check_envelope(struct bytes envelope, struct bytes payload)
{
    for (size_t i = 0; i < envelope.length; i++)
        require(envelope.data[i] >= 0x20 && envelope.data[i] < 0x7f);
    struct reader in = reader_over(envelope);
    require(bytes_equal(reader_get_bytes(&in, 12), bytes_of("{\"payload\": ")));
    uint8_t *memory = malloc(envelope.length);
    require(memory != NULL);
    struct writer scratch = writer_over(memory, payload.length);
    struct json_string string;
    require(json_string_read(&in, &scratch, &string) == NULL);
    require(writer_ok(&scratch) && bytes_equal(string.text, payload));

    /* As JSON it lacks nothing but a topic. */
    struct legacy_envelope fields;
    struct stream_entry_fault fault = {NULL, NULL};
    require(legacy_envelope_read(envelope, memory, &fields, &fault) == STATUS_MALFORMED);
    require(strcmp(fault.reason, "no-topic") == 0);
    free(memory);
}

static void check_signing(const struct signer *signer, struct bytes payload)
{
    struct stream_entry_fault fault = {NULL, NULL};
    size_t size = signed_size(payload, &fault);
    require((size > 0) == is_utf8(payload));
    require((size == 0) == (fault.reason != NULL && fault.detail != NULL));
    size_t room = size > 0 ? size : 6 * payload.length + 200;
    uint8_t *memory = malloc(room);
    require(memory != NULL);
    struct writer w = writer_over(memory, room);
    signed_put(&w, signer, payload);
    require(writer_ok(&w) == (size > 0));
    require(writer_length(&w) == size);
    if (size > 0) {
        check_envelope((struct bytes){memory, size}, payload);
        struct writer narrow = writer_over(memory, size - 1);
        signed_put(&narrow, signer, payload);
        require(!writer_ok(&narrow) && writer_length(&narrow) == 0);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    size_t key_length = take_u8(&input);
    struct bytes key = take_bytes(&input, key_length);
    uint8_t *key_copy = exact_copy(key), *payload_copy = exact_copy(input);
    key.data = key_copy;
    struct signer *signer = signer_new(key);
    require((signer != NULL) == (signer_key_fault(key) == NULL));
    if (signer == NULL)
        signer = signer_new(bytes_of("k"));
    require(signer != NULL);
    check_signing(signer, (struct bytes){payload_copy, input.length});
    signer_free(signer);
    free(key_copy);
    free(payload_copy);
    return 0;
}
