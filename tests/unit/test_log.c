/*
 * Lines of the log as they leave the process, read from the other end of a pipe.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes.h"
#include "core/log.h"

static int ends[2];
static char line[8192];

static void open_pipe(void)
{
    cr_assert_eq(pipe(ends), 0);
}

static void close_pipe(void)
{
    close(ends[0]);
    close(ends[1]);
}

TestSuite(log, .init = open_pipe, .fini = close_pipe);

/* What one write has put into the pipe, without its time stamp, which is checked. */
static const char *read_line(enum log_format format)
{
    struct pollfd waiting = {.fd = ends[0], .events = POLLIN};
    cr_assert_eq(poll(&waiting, 1, 0), 1, "nothing was written");
    ssize_t got = read(ends[0], line, sizeof line - 1);
    cr_assert_gt(got, 0);
    line[got] = '\0';
    cr_assert_eq(strchr(line, '\n'), line + got - 1, "one line, with its end: %s", line);
    line[got - 1] = '\0';
    const char *time =
        format == LOG_JSON
            ? "^\\{\"ts\":\"2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-"
              "9]\\.[0-9]{3}Z\","
            : "^ts=2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-"
              "9]{3}Z ";
    regex_t expression;
    regmatch_t match;
    cr_assert_eq(regcomp(&expression, time, REG_EXTENDED), 0);
    cr_assert_eq(regexec(&expression, line, 1, &match, 0), 0, "%s", line);
    regfree(&expression);
    return line + match.rm_eo;
}

static bool is_silent(void)
{
    struct log mark = log_root(ends[1], LOG_DEBUG, LOG_LOGFMT);
    log_emit(&mark, LOG_INFO, "mark", NULL, 0);
    return strcmp(read_line(LOG_LOGFMT), "level=info msg=\"mark\"") == 0;
}

Test(log, logfmt)
{
    struct log log = log_root(ends[1], LOG_DEBUG, LOG_LOGFMT);
    log_event(&log, LOG_INFO, "broker connected", LOG_TEXT("broker", "main"), LOG_INT("n", -3),
              LOG_TEXT("said", "a b"), LOG_TEXT("empty", ""), LOG_TEXT("none", NULL));
    cr_expect_str_eq(read_line(LOG_LOGFMT),
                     "level=info msg=\"broker connected\" broker=main n=-3 said=\"a b\" empty=\"\" "
                     "none=\"\"");
}

Test(log, json)
{
    struct log log = log_root(ends[1], LOG_DEBUG, LOG_JSON);
    log_event(&log, LOG_ERROR, "broker connected", LOG_TEXT("broker", "main"), LOG_INT("n", -3),
              LOG_TEXT("empty", ""));
    cr_expect_str_eq(read_line(LOG_JSON), "\"level\":\"error\",\"msg\":\"broker connected\","
                                          "\"broker\":\"main\",\"n\":-3,\"empty\":\"\"}");
}

Test(log, numbers)
{
    struct log log = log_root(ends[1], LOG_DEBUG, LOG_LOGFMT);
    struct log_field most = {"most", LOG_TYPE_UNSIGNED, NULL, 0, -1};
    log_event(&log, LOG_INFO, "m", LOG_INT("least", INT64_MIN), most);
    cr_expect_str_eq(read_line(LOG_LOGFMT),
                     "level=info msg=\"m\" least=-9223372036854775808 most=18446744073709551615");
}

Test(log, children_bear_the_fields_of_their_parents)
{
    struct log root = log_root(ends[1], LOG_DEBUG, LOG_LOGFMT);
    struct log shard = log_child(&root, LOG_INT("shard", 1));
    struct log slot = log_child(&shard, LOG_INT("slot", 3));
    log_event(&slot, LOG_WARNING, "m", LOG_TEXT("a", "b"));
    cr_expect_str_eq(read_line(LOG_LOGFMT), "level=warning msg=\"m\" shard=1 slot=3 a=b");
    log_emit(&shard, LOG_DEBUG, "m", NULL, 0);
    cr_expect_str_eq(read_line(LOG_LOGFMT), "level=debug msg=\"m\" shard=1");
}

Test(log, levels_below_the_root_s_are_silent)
{
    struct log root = log_root(ends[1], LOG_WARNING, LOG_LOGFMT);
    struct log child = log_child(&root, LOG_INT("shard", 1));
    log_emit(&child, LOG_INFO, "m", NULL, 0);
    cr_expect(is_silent());
    log_emit(&child, LOG_WARNING, "m", NULL, 0);
    cr_expect_str_eq(read_line(LOG_LOGFMT), "level=warning msg=\"m\" shard=1");
    root.level = LOG_INFO;
    log_emit(&child, LOG_INFO, "m", NULL, 0);
    cr_expect_str_eq(read_line(LOG_LOGFMT), "level=info msg=\"m\" shard=1",
                     "the level is the root's at the time of writing");
}

/* One value, as it is written in both formats. */
static void value(const char *bytes, size_t length, const char *logfmt, const char *json)
{
    struct bytes view = {(const uint8_t *)bytes, length};
    struct log log = log_root(ends[1], LOG_DEBUG, LOG_LOGFMT);
    log_event(&log, LOG_INFO, "m", LOG_BYTES("v", view));
    cr_expect_str_eq(read_line(LOG_LOGFMT) + strlen("level=info msg=\"m\" v="), logfmt);
    log.format = LOG_JSON;
    log_event(&log, LOG_INFO, "m", LOG_BYTES("v", view));
    char expected[256];
    snprintf(expected, sizeof expected, "%s}", json);
    cr_expect_str_eq(read_line(LOG_JSON) + strlen("\"level\":\"info\",\"msg\":\"m\",\"v\":"),
                     expected);
}

Test(log, values_are_quoted_and_escaped)
{
#define VALUE(bytes, logfmt, json) value(bytes, sizeof(bytes) - 1, logfmt, json)
    VALUE("plain/1.2:3", "plain/1.2:3", "\"plain/1.2:3\"");
    VALUE("a=b", "\"a=b\"", "\"a=b\"");
    VALUE("a\"b\\", "\"a\\\"b\\\\\"", "\"a\\\"b\\\\\"");
    VALUE("a\nb\tc\r", "\"a\\nb\\tc\\r\"", "\"a\\nb\\tc\\r\"");
    VALUE("\0\x1b[1m\x7f", "\"\\x00\\x1b[1m\\x7f\"", "\"\\u0000\\u001b[1m\\u007f\"");
    VALUE("\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\"",
          "\"\xc3\xa9\xf0\x9f\x98\x80\"");
    VALUE("\xc3(\xff", "\"\\xc3(\\xff\"", "\"\\\\xc3(\\\\xff\"");
    VALUE("\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\"\\\\xed\\\\xa0\\\\x80\"");
    VALUE("\xc2\x9b", "\"\\xc2\\x9b\"", "\"\\u009b\"");
    VALUE("\xc3", "\"\\xc3\"", "\"\\\\xc3\"");
#undef VALUE
    value(NULL, 0, "\"\"", "\"\"");
}

Test(log, long_lines_are_cut_and_stay_well_formed)
{
    char *text = malloc(6001);
    memset(text, '\n', 6000); /* two bytes each as written: the cut must not fall between them */
    text[6000] = '\0';
    for (size_t skip = 0; skip < 4; skip++) {
        const char *prefix = &"abc"[3 - skip];
        struct log log = log_root(ends[1], LOG_DEBUG, LOG_JSON);
        log_event(&log, LOG_INFO, "m", LOG_TEXT("p", prefix), LOG_TEXT("v", text), LOG_INT("n", 1));
        const char *rest = read_line(LOG_JSON);
        size_t length = strlen(line) + 1;
        cr_expect(length <= 4096 && length > 4096 - 24, "%zu", length);
        cr_expect_str_eq(rest + strlen(rest) - 17, "\\n\\n\",\"cut\":true}");
        log.format = LOG_LOGFMT;
        log_event(&log, LOG_INFO, "m", LOG_TEXT("p", prefix), LOG_TEXT("v", text), LOG_INT("n", 1));
        rest = read_line(LOG_LOGFMT);
        cr_expect_leq(strlen(line) + 1, 4096);
        cr_expect_str_eq(rest + strlen(rest) - 14, "\\n\\n\" cut=true");
    }
    free(text);
}

Test(log, many_fields_are_cut_as_wholes)
{
    struct log_field fields[600];
    for (size_t i = 0; i < 600; i++)
        fields[i] = LOG_INT("number", 123456789);
    struct log log = log_root(ends[1], LOG_DEBUG, LOG_JSON);
    log_emit(&log, LOG_INFO, "m", fields, 600);
    const char *rest = read_line(LOG_JSON);
    cr_expect_leq(strlen(line) + 1, 4096);
    cr_expect_str_eq(rest + strlen(rest) - 31, ",\"number\":123456789,\"cut\":true}");
}

Test(log, errno_is_kept)
{
    struct log log = log_root(-1, LOG_DEBUG, LOG_LOGFMT);
    errno = EAGAIN;
    log_emit(&log, LOG_INFO, "m", NULL, 0);
    cr_expect_eq(errno, EAGAIN);
}

#define LINES_PER_THREAD 300

static void *write_lines(void *context)
{
    const struct log *log = context;
    char text[200];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < LINES_PER_THREAD; i++)
        log_event(log, LOG_INFO, "m", LOG_TEXT("v", text));
    return NULL;
}

Test(log, lines_of_threads_do_not_mix)
{
    struct log log = log_root(ends[1], LOG_DEBUG, LOG_LOGFMT);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, &log), 0);
    FILE *in = fdopen(dup(ends[0]), "r");
    for (int i = 0; i < 2 * LINES_PER_THREAD; i++) {
        cr_assert_not_null(fgets(line, sizeof line, in));
        cr_expect_eq(strncmp(line, "ts=", 3), 0);
        cr_expect_eq(strlen(line),
                     strlen("ts=2026-11-22T12:00:00.123Z level=info msg=\"m\" v=") + 200);
    }
    fclose(in);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
}

Test(log, limit)
{
    struct log_limit limit = {0};
    uint64_t held_back = 99;
    cr_expect(log_limit_pass(&limit, 5, 1000, &held_back));
    cr_expect_eq(held_back, 0);
    cr_expect_not(log_limit_pass(&limit, 6, 1000, &held_back));
    cr_expect_not(log_limit_pass(&limit, 1004, 1000, &held_back));
    cr_expect(log_limit_pass(&limit, 1005, 1000, &held_back));
    cr_expect_eq(held_back, 2);
    cr_expect_not(log_limit_pass(&limit, 1006, 1000, &held_back));
    cr_expect(log_limit_pass(&limit, 5000, 1000, &held_back));
    cr_expect_eq(held_back, 1);
}

Test(log, limit_at_time_zero)
{
    struct log_limit limit = {0};
    uint64_t held_back = 99;
    cr_expect(log_limit_pass(&limit, 0, 1000, &held_back));
    cr_expect_not(log_limit_pass(&limit, 0, 1000, &held_back));
    cr_expect_not(log_limit_pass(&limit, 999, 1000, &held_back));
    cr_expect(log_limit_pass(&limit, 1001, 1000, &held_back));
    cr_expect_eq(held_back, 2);
}

/* ---- the journal --------------------------------------------------------------------------- */

Test(log, a_stream_is_known_by_device_and_inode)
{
    struct stat status;
    char stream[64];
    cr_assert_eq(fstat(ends[1], &status), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    cr_assert(log_is_journal(ends[1], stream));
    strcat(stream, "0");
    cr_assert_not(log_is_journal(ends[1], stream));
    cr_assert_not(log_is_journal(ends[1], ""));
    cr_assert_not(log_is_journal(ends[1], NULL));
    cr_assert_not(log_is_journal(-1, stream));
}

Test(log, lines_for_the_journal_begin_with_their_priority)
{
    static const struct {
        enum log_level level;
        enum log_format format;
        const char *begin;
    } cases[] = {
        {LOG_DEBUG, LOG_LOGFMT, "<7>ts=2"},      {LOG_INFO, LOG_LOGFMT, "<6>ts=2"},
        {LOG_WARNING, LOG_LOGFMT, "<4>ts=2"},    {LOG_ERROR, LOG_LOGFMT, "<3>ts=2"},
        {LOG_ERROR, LOG_JSON, "<3>{\"ts\":\"2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct log root = log_root(ends[1], LOG_DEBUG, cases[i].format);
        root.journal = true;
        struct log child = log_child(&root, LOG_INT("shard", 1));
        char text[512];
        log_emit(&child, cases[i].level, "words", NULL, 0);
        ssize_t got = read(ends[0], text, sizeof text - 1);
        cr_assert_gt(got, 0);
        text[got] = '\0';
        cr_assert_eq(strncmp(text, cases[i].begin, strlen(cases[i].begin)), 0, "%s", text);
    }
}
