/* Commands to Redis: the same bytes as hiredis formats. */
#include "codec/redis_command.h"

#include <criterion/criterion.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

static void compare(const struct bytes *arguments, size_t count)
{
    const char *texts[64];
    size_t lengths[64];
    for (size_t i = 0; i < count; i++) {
        texts[i] = arguments[i].length > 0 ? (const char *)arguments[i].data : "";
        lengths[i] = arguments[i].length;
    }
    char *expected = NULL;
    int length = redisFormatCommandArgv(&expected, (int)count, texts, lengths);
    size_t bound = redis_command_bound(arguments, count);
    uint8_t *memory = malloc(bound);
    size_t written = redis_command_write(memory, arguments, count);
    cr_assert_leq(written, bound);
    cr_assert_eq(written, (size_t)length);
    cr_assert_arr_eq(memory, expected, written);
    free(memory);
    redisFreeCommand(expected);
}

Test(redis_command, is_what_hiredis_formats)
{
    const struct bytes words[] = {bytes_of("XACK"), bytes_of("nemo:{lab}:events"),
                                  bytes_of("nemogate"), bytes_of("1753434343434-17")};
    for (size_t count = 1; count <= 4; count++)
        compare(words, count);
}

Test(redis_command, has_arguments_of_any_length_and_content)
{
    static uint8_t memory[70000];
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)(i * 31);
    const size_t lengths[] = {0, 1, 9, 10, 99, 100, 999, 1000, 65535, 70000};
    struct bytes words[64];
    size_t count = sizeof lengths / sizeof *lengths;
    for (size_t i = 0; i < count; i++)
        words[i] = (struct bytes){memory, lengths[i]};
    compare(words, count);
    for (size_t i = 0; i < 64; i++)
        words[i] = (struct bytes){memory, i};
    compare(words, 64);
    const struct bytes nothing = {NULL, 0};
    compare(&nothing, 1);
}
