/*
 * Stream ids: any text is parsed as a plain reading of "digits-digits" says, any id survives being
 * written and read, and the order of ids is that of their numbers.
 */
#include "codec/stream_id.h"
#include "tests/fuzz/fuzz_input.h"

/* A number of 64 bits in digits only, with leading zeros allowed. */
static bool read_number(struct bytes text, uint64_t *value)
{
    if (text.length == 0)
        return false;
    __uint128_t number = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        number = number * 10 + (unsigned)(text.data[i] - '0');
        if (number > UINT64_MAX)
            return false;
    }
    *value = (uint64_t)number;
    return true;
}

static bool read_plainly(struct bytes text, struct stream_id *id)
{
    size_t hyphen = 0;
    while (hyphen < text.length && text.data[hyphen] != '-')
        hyphen++;
    if (hyphen == text.length)
        return false;
    struct bytes ms = {text.data, hyphen};
    struct bytes seq = {text.data + hyphen + 1, text.length - hyphen - 1};
    return read_number(ms, &id->ms) && read_number(seq, &id->seq);
}

static void check_format(struct stream_id id)
{
    char *text = malloc(STREAM_ID_TEXT);
    require(text != NULL);
    size_t length = stream_id_format(id, text);
    require(length == strlen(text) && length < STREAM_ID_TEXT);
    struct stream_id back;
    require(stream_id_parse(bytes_of(text), &back) == STATUS_OK);
    require(stream_id_compare(id, back) == 0 && id.ms == back.ms && id.seq == back.seq);
    free(text);
}

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

static void check_order(struct stream_id a, struct stream_id b)
{
    __uint128_t x = (__uint128_t)a.ms << 64 | a.seq;
    __uint128_t y = (__uint128_t)b.ms << 64 | b.seq;
    require(sign(stream_id_compare(a, b)) == (x > y) - (x < y));
    require(sign(stream_id_compare(b, a)) == (x < y) - (x > y));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = exact_copy((struct bytes){data, size});
    struct stream_id parsed = {7, 9}, expected;
    enum status status = stream_id_parse((struct bytes){copy, size}, &parsed);
    if (read_plainly((struct bytes){data, size}, &expected))
        require(status == STATUS_OK && stream_id_compare(parsed, expected) == 0);
    else
        require(status == STATUS_MALFORMED && parsed.ms == 7 && parsed.seq == 9);
    free(copy);

    struct bytes input = {data, size};
    struct stream_id a = {take_u64(&input), take_u64(&input)};
    struct stream_id b = {take_u64(&input), take_u64(&input)};
    check_format(a);
    check_format(parsed);
    check_order(a, b);
    check_order(a, parsed);
    check_order(a, (struct stream_id){a.ms, b.seq});
    return 0;
}
