/*
 * Decimal numbers as they stand in Redis' protocol and in entries: digits only. No sign, no blanks,
 * no point, no overflow; strtoull forgives all of them. Every entry has several, so they are read
 * and written eight digits at a time. Not for numbers of the configuration.
 */
#ifndef NEMOGATE_CODEC_DECIMAL_H
#define NEMOGATE_CODEC_DECIMAL_H

#include "codec/bytes.h"

#include <endian.h>

/* Digits of the largest number, 18446744073709551615. */
#define DECIMAL_DIGITS 20

#define DECIMAL_EACH_BYTE(value) (0x0101010101010101u * (uint64_t)(value))

static inline uint64_t decimal_load(const uint8_t *text)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
    return le64toh(word);
}

/* A word has eight digits, the first one in its lowest byte. A digit has 3 in its upper half, and
 * still has when 6 is added; a byte over '9' has not. */
static inline bool decimal_is_word(uint64_t word)
{
    const uint64_t upper = DECIMAL_EACH_BYTE(0xf0);
    return (word & upper) == DECIMAL_EACH_BYTE('0') &&
           ((word + DECIMAL_EACH_BYTE(6)) & upper) == DECIMAL_EACH_BYTE('0');
}

static inline uint64_t decimal_word_value(uint64_t word)
{
    const uint64_t pairs = 0x000000ff000000ffu;
    word &= DECIMAL_EACH_BYTE(0x0f);
    word = word * 10 + (word >> 8); /* pairs, in every second byte */
    return ((word & pairs) * (100 + (UINT64_C(1000000) << 32)) +
            (word >> 16 & pairs) * (1 + (UINT64_C(10000) << 32))) >>
           32;
}

/* True: text is one number, and it is in *value. False: *value is untouched. */
static inline bool decimal_read(struct bytes text, uint64_t *value)
{
    if (text.length >= 8 && text.length <= 16) {
        /* The first digits with zeros before them, and the last eight. */
        uint64_t last = decimal_load(text.data + text.length - 8);
        uint64_t first = DECIMAL_EACH_BYTE('0');
        unsigned zeros = 8 * (16 - (unsigned)text.length);
        if (zeros < 64)
            first = decimal_load(text.data) << zeros | (zeros > 0 ? first >> (64 - zeros) : 0);
        if (!decimal_is_word(first) || !decimal_is_word(last))
            return false;
        *value = decimal_word_value(first) * 100000000 + decimal_word_value(last);
        return true;
    }
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

/* The digits of a number below 100,000,000 as values, the first one in the lowest byte. Divisions
 * by 100 and 10 are multiplications that are exact for so few digits. */
static inline uint64_t decimal_eight_digits(uint64_t number)
{
    uint64_t fours = number / 10000 | number % 10000 << 32;
    uint64_t hundreds = (fours * 10486 >> 20) & 0x0000007f0000007fu;
    uint64_t pairs = hundreds | (fours - hundreds * 100) << 16;
    uint64_t tens = (pairs * 103 >> 10) & 0x000f000f000f000fu;
    return tens | (pairs - tens * 10) << 8;
}

static inline uint8_t *decimal_put_word(uint8_t *at, uint64_t digits)
{
    uint64_t word = htole64(digits | DECIMAL_EACH_BYTE('0'));
    memcpy(at, &word, sizeof word);
    return at + sizeof word;
}

/* Writes value and returns its end. Up to 8 bytes are written even where there are fewer digits;
 * DECIMAL_DIGITS bytes are always enough. */
static inline uint8_t *decimal_write(uint8_t *at, uint64_t value)
{
    const uint64_t full = 100000000;
    if (value < 10) {
        *at = (uint8_t)('0' + value);
        return at + 1;
    }
    uint64_t first = value < full          ? value
                     : value < full * full ? value / full
                                           : value / full / full;
    uint64_t digits = decimal_eight_digits(first);
    unsigned leading_zeros = (unsigned)__builtin_ctzll(digits) / 8;
    decimal_put_word(at, digits >> (8 * leading_zeros));
    at += 8 - leading_zeros;
    if (value >= full * full)
        at = decimal_put_word(at, decimal_eight_digits(value / full % full));
    if (value >= full)
        at = decimal_put_word(at, decimal_eight_digits(value % full));
    return at;
}

#endif
