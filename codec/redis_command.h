/*
 * Commands to Redis as bytes: an array of bulk strings, in one pass into memory of the caller. An
 * XACK names hundreds of ids, each of which hiredis would format by printf. Knows no command.
 */
#ifndef NEMOGATE_CODEC_REDIS_COMMAND_H
#define NEMOGATE_CODEC_REDIS_COMMAND_H

#include "codec/bytes.h"

/* The most bytes that the command can take. */
size_t redis_command_bound(const struct bytes *arguments, size_t count);
/* Writes the command to memory of at least that size; returns its length. */
size_t redis_command_write(uint8_t *memory, const struct bytes *arguments, size_t count);

#endif
