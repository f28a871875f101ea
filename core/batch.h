/*
 * Memory for encoded entries: fixed blocks that are filled one after the other and reused when the
 * last entry in them has been settled. An entry too large for a shared block has one of its own.
 * Bytes never move while they are lent. One connection, one thread.
 */
#ifndef NEMOGATE_CORE_BATCH_H
#define NEMOGATE_CORE_BATCH_H

#include <stddef.h>
#include <stdint.h>

#define BATCH_BLOCK_SIZE (128u * 1024u)

struct batch;      /* a block */
struct batch_pool; /* the blocks of one connection's entries */

/* Owned by the caller; NULL when memory is short. */
struct batch_pool *batch_pool_new(void);
/* What is still lent goes with it. */
void batch_pool_free(struct batch_pool *pool);

/* Lends size bytes, which belong to *batch until batch_release. NULL when memory is short. */
uint8_t *batch_lend(struct batch_pool *pool, size_t size, struct batch **batch);
/* Gives the size bytes of one entry back. */
void batch_release(struct batch_pool *pool, struct batch *batch, size_t size);

/* Bytes that are lent. */
size_t batch_pool_used(const struct batch_pool *pool);
/* Bytes of memory that the pool holds, lent or not. */
size_t batch_pool_held(const struct batch_pool *pool);

#endif
