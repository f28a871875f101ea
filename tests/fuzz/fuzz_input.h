/*
 * What the fuzz targets share: a demand that aborts, and the fuzzer's bytes taken piece by piece.
 * Memory that is handed to the code under test has its exact size, so that a read beyond it is seen
 * by AddressSanitizer.
 */
#ifndef NEMOGATE_TESTS_FUZZ_INPUT_H
#define NEMOGATE_TESTS_FUZZ_INPUT_H

#include "codec/bytes.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool holds)
{
    if (!holds)
        abort();
}

/* Owned by the caller. At least one byte of memory, so that it is never NULL. */
static inline uint8_t *exact_copy(struct bytes of)
{
    uint8_t *copy = malloc(of.length > 0 ? of.length : 1);
    require(copy != NULL);
    if (of.length > 0)
        memcpy(copy, of.data, of.length);
    return copy;
}

/* 0 where the input has ended. */
static inline uint8_t take_u8(struct bytes *input)
{
    if (input->length == 0)
        return 0;
    input->length--;
    return *input->data++;
}

static inline uint16_t take_u16(struct bytes *input)
{
    uint16_t high = take_u8(input);
    return (uint16_t)(high << 8 | take_u8(input));
}

static inline uint32_t take_u32(struct bytes *input)
{
    uint32_t high = take_u16(input);
    return high << 16 | take_u16(input);
}

static inline uint64_t take_u64(struct bytes *input)
{
    uint64_t high = take_u32(input);
    return high << 32 | take_u32(input);
}

/* A view of the next bytes, fewer where the input ends. */
static inline struct bytes take_bytes(struct bytes *input, size_t length)
{
    if (length > input->length)
        length = input->length;
    struct bytes taken = {input->data, length};
    input->data += length;
    input->length -= length;
    return taken;
}

#endif
