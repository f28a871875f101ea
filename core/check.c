/*
 * The report of `check --connect`: Redis and all brokers are tried side by side on one event loop,
 * each part collects its lines, and they are printed in the order of the configuration as soon as
 * nothing before them is missing.
 */
#include "core/check.h"

#include "core/check_private.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#define OVERALL_S 30

struct check {
    const struct config *config;
    FILE *out;
    struct net net;
    struct event *deadline;
    struct check_redis redis;
    struct check_broker *brokers;
    struct check_legacy *lists;
    struct check_part *parts; /* Redis, then the brokers, then the lists */
    size_t part_count;
    size_t printed; /* parts */
    bool failed;
};

/* ---- the words ----------------------------------------------------------------------------- */

/* Names and reasons come from servers: nothing in them may move the cursor of a terminal. */
static void put_printable(FILE *lines, const char *text)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, lines);
}

void check_say(struct check_part *part, enum check_verdict verdict, const char *format, ...)
{
    static const char *const words[] = {
        [CHECK_OK] = "ok       ", [CHECK_WARNING] = "warning  ", [CHECK_FAILED] = "FAILED   "};
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (verdict == CHECK_FAILED)
        part->failed = true;
    fputs(words[verdict], part->lines);
    put_printable(part->lines, length < 0 ? "memory is short" : text);
    fputc('\n', part->lines);
    if (length >= 0)
        free(text);
}

void check_finish(struct check_part *part)
{
    if (part->done)
        return;
    part->done = true;
    fflush(part->lines);
    part->on_done(part->context);
}

const char *check_number(uint64_t number, char *text)
{
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%" PRIu64, number);
    char *at = text;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return text;
}

/* ---- the parts ----------------------------------------------------------------------------- */

static void on_done(void *context)
{
    struct check *check = context;
    while (check->printed < check->part_count && check->parts[check->printed].done) {
        struct check_part *part = &check->parts[check->printed++];
        fwrite(part->text, 1, part->length, check->out);
        fflush(check->out);
        check->failed = check->failed || part->failed;
    }
    if (check->printed == check->part_count)
        event_base_loopbreak(check->net.base);
}

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct check *check = context;
    if (!check->parts[0].done)
        check_redis_give_up(&check->redis);
    for (size_t i = 0; i < check->config->broker_count; i++)
        if (!check->parts[i + 1].done)
            check_broker_give_up(&check->brokers[i]);
    for (size_t i = 0; i < check->config->legacy_list_count; i++)
        if (!check->parts[check->config->broker_count + 1 + i].done)
            check_legacy_give_up(&check->lists[i]);
}

static bool open_check(struct check *check)
{
    if (!net_open(&check->net))
        return false;
    check->deadline = event_new(check->net.base, -1, 0, on_deadline, check);
    check->brokers = calloc(check->config->broker_count, sizeof *check->brokers);
    size_t count = 1 + check->config->broker_count + check->config->legacy_list_count;
    check->lists = calloc(check->config->legacy_list_count + 1, sizeof *check->lists);
    check->parts = calloc(count, sizeof *check->parts);
    if (check->deadline == NULL || check->brokers == NULL || check->lists == NULL ||
        check->parts == NULL ||
        event_add(check->deadline, &(struct timeval){.tv_sec = OVERALL_S}) != 0)
        return false;
    for (; check->part_count < count; check->part_count++) {
        struct check_part *part = &check->parts[check->part_count];
        part->on_done = on_done;
        part->context = check;
        part->lines = open_memstream(&part->text, &part->length);
        if (part->lines == NULL)
            return false;
    }
    return true;
}

static void close_check(struct check *check)
{
    check_redis_close(&check->redis);
    for (size_t i = 0; check->brokers != NULL && i < check->config->broker_count; i++)
        check_broker_close(&check->brokers[i]);
    for (size_t i = 0; check->lists != NULL && i < check->config->legacy_list_count; i++)
        check_legacy_close(&check->lists[i]);
    for (size_t i = 0; i < check->part_count; i++) {
        fclose(check->parts[i].lines);
        free(check->parts[i].text);
    }
    if (check->deadline != NULL)
        event_free(check->deadline);
    net_close(&check->net);
    free(check->parts);
    free(check->brokers);
    free(check->lists);
}

int check_connect(const struct config *config, FILE *out)
{
    struct check check = {.config = config, .out = out};
    signal(SIGPIPE, SIG_IGN);
    check.redis.config = config;
    if (open_check(&check)) {
        check_redis_open(&check.redis, &check.net, &check.parts[0]);
        for (size_t i = 0; i < config->broker_count; i++)
            check_broker_open(&check.brokers[i], config, i, &check.net, &check.parts[i + 1]);
        for (size_t i = 0; i < config->legacy_list_count; i++)
            check_legacy_open(&check.lists[i], config, i, &check.net,
                              &check.parts[config->broker_count + 1 + i]);
        if (check.printed < check.part_count)
            event_base_dispatch(check.net.base);
    } else {
        fputs("FAILED   memory is short\n", out);
        check.failed = true;
    }
    close_check(&check);
    return check.failed ? 1 : 0;
}
