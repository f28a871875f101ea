/*
 * Decimal numbers as they stand in Redis' replies and in entries: digits only. No sign, no blanks,
 * no point, no overflow; strtoull forgives all of them. Not for numbers of the configuration.
 */
#ifndef NEMOGATE_CODEC_DECIMAL_H
#define NEMOGATE_CODEC_DECIMAL_H

#include "codec/bytes.h"

/* True: text is one number, and it is in *value. False: *value is untouched. */
static inline bool decimal_read(struct bytes text, uint64_t *value)
{
    const size_t safe = 19; /* so many digits cannot overflow */
    uint64_t number = 0;
    for (size_t i = 0; i < text.length; i++) {
        unsigned digit = text.data[i] - (unsigned)'0';
        if (digit > 9)
            return false;
        if (i < safe)
            number = number * 10 + digit;
        else if (__builtin_mul_overflow(number, 10u, &number) ||
                 __builtin_add_overflow(number, digit, &number))
            return false;
    }
    if (text.length == 0)
        return false;
    *value = number;
    return true;
}

#endif
