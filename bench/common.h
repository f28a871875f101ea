/*
 * What the programs of bench/ share: clocks, options, fatal errors, a TCP connection. They are
 * tools for one run on loopback: whatever goes wrong ends the program with a line on stderr and
 * status 1; a wrong option ends it with 2.
 */
#ifndef NEMOGATE_BENCH_COMMON_H
#define NEMOGATE_BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with status 2. */
_Noreturn void die_of_option(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory; never NULL. */
void *must_alloc(size_t count, size_t size);

uint64_t clock_ns(void);         /* CLOCK_MONOTONIC */
uint64_t wall_ms(void);          /* CLOCK_REALTIME */
double cpu_us(void);             /* user and system time of this process so far */
void sleep_until(uint64_t when); /* a value of clock_ns */

enum option_kind { OPTION_TEXT, OPTION_NUMBER, OPTION_DECIMAL, OPTION_FLAG };

/* One option. The target is a const char *, a uint64_t, a double or a bool and holds the default.
 */
struct option_row {
    const char *name;
    enum option_kind kind;
    void *target;
    const char *help;
};

/* Reads --name VALUE (or --name for a flag). --help prints the rows and ends with 0, anything
 * unknown ends with 2. */
void options_read(int argc, char **argv, const char *what, const struct option_row *rows,
                  size_t count);

/* For options of one word out of several: the index of the word in choices (NULL at its end). */
size_t option_choice(const char *option, const char *word, const char *const *choices);

/* A connected blocking socket with TCP_NODELAY. */
int tcp_connect(const char *host, uint64_t port);
void set_nonblocking(int fd);

#endif
