/* Decimal numbers: what is written reads back, byte for byte as printf would write it. */
#include "codec/decimal.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

/* Numbers around every power of ten, and many that no rule made up. */
static void for_numbers(void (*look)(uint64_t number))
{
    uint64_t power = 1;
    for (unsigned digits = 1; digits <= DECIMAL_DIGITS; digits++, power *= 10)
        for (uint64_t i = 0; i < 40; i++) {
            look(power - 20 + i);
            look(power * 9 - i);
        }
    uint64_t random = 88172645463325252u;
    for (unsigned i = 0; i < 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        look(random >> i % 64);
    }
    for (uint64_t number = 0; number < 200000; number++)
        look(number);
    look(UINT64_MAX);
}

static void look_at(uint64_t number)
{
    char expected[DECIMAL_DIGITS + 1];
    uint8_t text[DECIMAL_DIGITS];
    snprintf(expected, sizeof expected, "%" PRIu64, number);
    struct bytes written = {text, (size_t)(decimal_write(text, number) - text)};
    cr_assert(bytes_equal(written, bytes_of(expected)), "%s", expected);
    uint64_t read = ~number;
    cr_assert(decimal_read(written, &read), "%s", expected);
    cr_assert_eq(read, number, "%s", expected);
}

Test(decimal, reads_what_it_writes_as_printf_does)
{
    for_numbers(look_at);
}

Test(decimal, refuses_a_wrong_byte_anywhere)
{
    for (size_t length = 1; length <= DECIMAL_DIGITS; length++)
        for (size_t at = 0; at < length; at++)
            for (unsigned byte = 0; byte < 256; byte++) {
                uint8_t text[DECIMAL_DIGITS];
                memset(text, '0', sizeof text);
                text[at] = (uint8_t)byte;
                uint64_t number = 7;
                bool good = decimal_read((struct bytes){text, length}, &number);
                bool expected = byte >= '0' && byte <= '9';
                if (length == DECIMAL_DIGITS && at == 0 && byte >= '2')
                    expected = false; /* beyond 64 bits */
                cr_assert_eq(good, expected, "byte 0x%02x at %zu of %zu", byte, at, length);
                cr_assert(good || number == 7);
            }
}

Test(decimal, takes_leading_zeros_and_no_overflow)
{
    uint64_t number = 7;
    cr_assert(decimal_read(bytes_of("000000000000000000000000000001"), &number));
    cr_assert_eq(number, 1u);
    cr_assert_not(decimal_read(bytes_of("18446744073709551616"), &number));
    cr_assert_not(decimal_read(bytes_of("99999999999999999999"), &number));
    cr_assert_not(decimal_read(bytes_of("100000000000000000000"), &number));
    cr_assert_not(decimal_read(bytes_of(""), &number));
    cr_assert_eq(number, 1u);
}

Test(decimal, reads_no_further_than_the_view)
{
    uint64_t number;
    cr_assert(decimal_read((struct bytes){(const uint8_t *)"123456789", 8}, &number));
    cr_assert_eq(number, 12345678u);
}
