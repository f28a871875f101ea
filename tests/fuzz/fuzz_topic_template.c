/*
 * Topic templates from hostile bytes. Input: one byte whose two low bits say which names are
 * allowed, then the template. A template without fault must expand to text without fault.
 */
#include "codec/mqtt_wire.h"
#include "codec/topic_template.h"
#include "tests/fuzz/fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct bytes template = {data + 1, size - 1};
    bool site_allowed = (data[0] & 1) != 0;
    bool client_id_allowed = (data[0] & 2) != 0;
    if (topic_template_fault(template, site_allowed, client_id_allowed) != NULL)
        return 0;

    /* A name's value is shorter than the name in its braces, so the text only shrinks. */
    struct topic_values values = {0};
    if (site_allowed)
        values.site = bytes_of("lab");
    if (client_id_allowed)
        values.client_id = bytes_of("gate-1");
    uint8_t *memory = malloc(size);
    if (memory == NULL)
        abort();
    struct writer w = writer_over(memory, template.length);
    topic_template_expand(&w, template, &values);
    struct bytes text = {memory, writer_length(&w)};
    if (!writer_ok(&w))
        abort();
    if (text.length > 0 && text.length <= MQTT_MAX_STRING &&
        mqtt_topic_fault((struct bytes){NULL, 0}, text) != NULL)
        abort();
    if (text.length > 0 && memchr(text.data, '{', text.length) != NULL)
        abort();
    free(memory);
    return 0;
}
