/*
 * Redis for the benchmark's programs: hiredis with replies that are not built (only their types
 * count), so that the client is never what limits.
 */
#ifndef NEMOGATE_BENCH_REDIS_RAW_H
#define NEMOGATE_BENCH_REDIS_RAW_H

#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdint.h>

redisContext *redis_open(const char *host, uint64_t port);
/* Writes everything that was appended. */
void redis_flush(redisContext *redis);
/* Reads count replies and throws them away; an error reply ends the program with its text. */
void redis_skip(redisContext *redis, size_t count);

/* A parser without objects, for programs that do their own I/O. */
redisReader *redis_reader_new(void);
/* Takes all whole replies out of the reader; returns how many. */
size_t redis_reader_skip(redisReader *reader);

#endif
