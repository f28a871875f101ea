/*
 * Redis stream ids as text. Redis writes them as two decimal numbers of 64 bits; the special ids of
 * commands ("$", ">", "-", "+", "123-*") are not ids of entries and are refused.
 */
#include "codec/stream_id.h"

#include "codec/decimal.h"

enum status stream_id_parse(struct bytes text, struct stream_id *id)
{
    const uint8_t *hyphen = text.length > 0 ? memchr(text.data, '-', text.length) : NULL;
    if (hyphen == NULL)
        return STATUS_MALFORMED;
    size_t before = (size_t)(hyphen - text.data);
    struct bytes ms = {text.data, before};
    struct bytes seq = {hyphen + 1, text.length - before - 1};
    struct stream_id parsed;
    if (!decimal_read(ms, &parsed.ms) || !decimal_read(seq, &parsed.seq))
        return STATUS_MALFORMED;
    *id = parsed;
    return STATUS_OK;
}

size_t stream_id_format(struct stream_id id, char *text)
{
    uint8_t *at = decimal_write((uint8_t *)text, id.ms);
    *at++ = '-';
    at = decimal_write(at, id.seq);
    *at = '\0';
    return (size_t)(at - (uint8_t *)text);
}
