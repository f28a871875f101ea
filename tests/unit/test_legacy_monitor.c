/*
 * Finding the Python bridge among the clients of a Redis.
 */
#include "core/legacy_private.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define CLIENT                                                                                     \
    "id=%d addr=127.0.0.1:%d laddr=127.0.0.1:6379 fd=8 name= age=900 idle=%d flags=%s db=%d "      \
    "sub=0 "                                                                                       \
    "psub=0 ssub=0 multi=-1 qbuf=0 events=r cmd=%s user=default resp=2\n"

static bool is_found(int idle, const char *flags, int database, const char *command)
{
    char text[1024];
    int length = snprintf(text, sizeof text, CLIENT CLIENT, 7, 50007, 0, "N", 1, "client|list", 8,
                          50008, idle, flags, database, command);
    struct bytes found =
        legacy_find_rival(1, (struct bytes){(const uint8_t *)text, (size_t)length});
    cr_expect(found.length == 0 || bytes_equal(found, bytes_of("127.0.0.1:50008")));
    return found.length > 0;
}

Test(legacy_monitor, finds_who_waits_for_elements_of_a_list)
{
    cr_expect(is_found(0, "b", 1, "blpop"));
    cr_expect(is_found(5000, "b", 1, "brpop"), "it may wait for ever");
    cr_expect(is_found(1, "N", 1, "blpop"), "between two waits");
}

Test(legacy_monitor, finds_nobody_else)
{
    cr_expect_not(is_found(0, "b", 0, "blpop"), "another database");
    cr_expect_not(is_found(0, "b", 11, "blpop"));
    cr_expect_not(is_found(0, "b", 1, "xreadgroup"));
    cr_expect_not(is_found(0, "N", 1, "lpush"));
    cr_expect_not(is_found(60, "N", 1, "blpop"), "it has left its connection open");
    cr_expect_eq(legacy_find_rival(1, bytes_of("")).length, 0);
    cr_expect_eq(legacy_find_rival(1, bytes_of("db=1 cmd=blpop")).length, 0);
}
