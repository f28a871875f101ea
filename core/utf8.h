/*
 * Walks through bytes that should be UTF-8, for messages that show or place what is not. Whether a
 * whole text is valid is mqtt_utf8_valid's question.
 */
#ifndef NEMOGATE_CORE_UTF8_H
#define NEMOGATE_CORE_UTF8_H

#include "codec/mqtt_wire.h"

/* The length of the character that the text begins with, 1 to 4; 0: it begins with none. The text
 * is not empty. */
static inline size_t utf8_first(struct bytes text)
{
    uint8_t lead = text.data[0];
    size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length == 1)
        return 1;
    return length <= text.length && mqtt_utf8_valid((struct bytes){text.data, length}) ? length : 0;
}

#endif
