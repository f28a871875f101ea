/*
 * *<count> CR LF, and for every argument $<length> CR LF <bytes> CR LF: what Redis calls the RESP
 * form of a request. It has no limits of its own; Redis has, and answers them with an error.
 */
#include "codec/redis_command.h"

#include "codec/decimal.h"

#define CRLF_SIZE 2
#define HEADER_SIZE (1 + DECIMAL_DIGITS + CRLF_SIZE)

static inline uint8_t *put_crlf(uint8_t *at)
{
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static inline uint8_t *put_header(uint8_t *at, uint8_t type, size_t number)
{
    *at++ = type;
    return put_crlf(decimal_write(at, number));
}

size_t redis_command_bound(const struct bytes *arguments, size_t count)
{
    size_t size = HEADER_SIZE;
    for (size_t i = 0; i < count; i++)
        size += HEADER_SIZE + arguments[i].length + CRLF_SIZE;
    return size;
}

size_t redis_command_write(uint8_t *memory, const struct bytes *arguments, size_t count)
{
    uint8_t *at = put_header(memory, '*', count);
    for (size_t i = 0; i < count; i++) {
        at = put_header(at, '$', arguments[i].length);
        if (arguments[i].length > 0)
            memcpy(at, arguments[i].data, arguments[i].length);
        at = put_crlf(at + arguments[i].length);
    }
    return (size_t)(at - memory);
}
