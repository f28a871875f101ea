/*
 * The shared part of the benchmark's programs; see common.h. Nothing here is on a measured path.
 */
#include "bench/common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void die_of_option(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs(" (--help lists the options)\n", stderr);
    exit(2);
}

void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        die("out of memory");
    return memory;
}

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void sleep_until(uint64_t when)
{
    struct timespec at = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

static void options_print(const char *program, const char *what, const struct option_row *rows,
                          size_t count)
{
    printf("%s: %s\n\n", program, what);
    for (size_t i = 0; i < count; i++) {
        printf("  --%-18s %s", rows[i].name, rows[i].help);
        if (rows[i].kind == OPTION_NUMBER)
            printf(" (%llu)", (unsigned long long)*(uint64_t *)rows[i].target);
        if (rows[i].kind == OPTION_DECIMAL)
            printf(" (%g)", *(double *)rows[i].target);
        if (rows[i].kind == OPTION_TEXT && *(const char **)rows[i].target != NULL)
            printf(" (%s)", *(const char **)rows[i].target);
        printf("\n");
    }
}

static void option_set(const struct option_row *row, const char *argument, const char *value)
{
    char *end = NULL;
    if (value == NULL)
        die_of_option("%s: needs a value", argument);
    errno = 0;
    switch (row->kind) {
    case OPTION_TEXT:
        *(const char **)row->target = value;
        return;
    case OPTION_NUMBER:
        *(uint64_t *)row->target = strtoull(value, &end, 10);
        break;
    case OPTION_DECIMAL:
        *(double *)row->target = strtod(value, &end);
        break;
    case OPTION_FLAG:
        return;
    }
    bool is_number = (value[0] >= '0' && value[0] <= '9') || value[0] == '.';
    if (errno != 0 || !is_number || end == value || *end != '\0')
        die_of_option("%s %s: needs a number", argument, value);
}

void options_read(int argc, char **argv, const char *what, const struct option_row *rows,
                  size_t count)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            options_print(argv[0], what, rows, count);
            exit(0);
        }
        const struct option_row *row = NULL;
        for (size_t j = 0; j < count && row == NULL; j++)
            if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, rows[j].name) == 0)
                row = &rows[j];
        if (row == NULL)
            die_of_option("%s: unknown option", argv[i]);
        if (row->kind == OPTION_FLAG) {
            *(bool *)row->target = true;
        } else {
            option_set(row, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            i++;
        }
    }
}

size_t option_choice(const char *option, const char *word, const char *const *choices)
{
    for (size_t i = 0; choices[i] != NULL; i++)
        if (strcmp(word, choices[i]) == 0)
            return i;
    fprintf(stderr, "--%s %s: must be one of", option, word);
    for (size_t i = 0; choices[i] != NULL; i++)
        fprintf(stderr, " %s", choices[i]);
    fputc('\n', stderr);
    exit(2);
}

int tcp_connect(const char *host, uint64_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (port == 0 || port > UINT16_MAX)
        die_of_option("port %llu: must be 1 to 65535", (unsigned long long)port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die_of_option("%s: not an IPv4 address", host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect to %s:%llu: %s", host, (unsigned long long)port, strerror(errno));
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

void set_nonblocking(int fd)
{
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        die("fcntl: %s", strerror(errno));
}
