/*
 * A block is current (being filled), full (waiting for its entries to settle) or spare. Entries
 * settle nearly in the order in which they came, so blocks empty in order too, and few are held.
 */
#include "core/batch.h"

#include <stdbool.h>
#include <stdlib.h>

/* Entries up to this share a block: at worst a quarter of it stays unused at its end. */
#define SHARED_MAX (BATCH_BLOCK_SIZE / 4)
/* Spare blocks beyond these are given back: a burst must not hold memory for ever. */
#define SPARE_MAX 4u

struct batch {
    struct batch *next; /* among all blocks of the pool */
    struct batch *previous;
    struct batch *next_spare;
    size_t size;
    size_t filled; /* bytes handed out */
    size_t live;   /* entries not released */
    uint8_t memory[];
};

struct batch_pool {
    struct batch *all;
    struct batch *current;
    struct batch *spare;
    unsigned spare_count;
    size_t used;
    size_t held;
};

struct batch_pool *batch_pool_new(void)
{
    return calloc(1, sizeof(struct batch_pool));
}

static void free_block(struct batch_pool *pool, struct batch *batch)
{
    if (batch->next != NULL)
        batch->next->previous = batch->previous;
    if (batch->previous != NULL)
        batch->previous->next = batch->next;
    else
        pool->all = batch->next;
    pool->held -= batch->size;
    free(batch);
}

void batch_pool_free(struct batch_pool *pool)
{
    if (pool == NULL)
        return;
    for (struct batch *batch = pool->all, *next; batch != NULL; batch = next) {
        next = batch->next;
        free(batch);
    }
    free(pool);
}

static struct batch *make_block(struct batch_pool *pool, size_t size)
{
    struct batch *batch = malloc(sizeof *batch + size);
    if (batch == NULL)
        return NULL;
    *batch = (struct batch){.size = size, .next = pool->all};
    if (pool->all != NULL)
        pool->all->previous = batch;
    pool->all = batch;
    pool->held += size;
    return batch;
}

static void retire(struct batch_pool *pool, struct batch *batch)
{
    if (batch->size != BATCH_BLOCK_SIZE || pool->spare_count == SPARE_MAX) {
        free_block(pool, batch);
        return;
    }
    batch->next_spare = pool->spare;
    pool->spare = batch;
    pool->spare_count++;
}

static struct batch *next_block(struct batch_pool *pool)
{
    struct batch *batch = pool->spare;
    if (batch == NULL)
        return make_block(pool, BATCH_BLOCK_SIZE);
    pool->spare = batch->next_spare;
    pool->spare_count--;
    batch->filled = 0;
    return batch;
}

/* The block with room for size shared bytes; NULL when memory is short. */
static struct batch *block_with_room(struct batch_pool *pool, size_t size)
{
    struct batch *current = pool->current;
    if (current != NULL && current->size - current->filled >= size)
        return current;
    /* A full block has entries that live: without them it would have been emptied. */
    struct batch *fresh = next_block(pool);
    if (fresh != NULL)
        pool->current = fresh;
    return fresh;
}

uint8_t *batch_lend(struct batch_pool *pool, size_t size, struct batch **batch)
{
    struct batch *block = size > SHARED_MAX ? make_block(pool, size) : block_with_room(pool, size);
    if (block == NULL)
        return NULL;
    uint8_t *memory = block->memory + block->filled;
    block->filled += size;
    block->live++;
    pool->used += size;
    *batch = block;
    return memory;
}

void batch_release(struct batch_pool *pool, struct batch *batch, size_t size)
{
    pool->used -= size;
    if (--batch->live > 0)
        return;
    if (batch == pool->current)
        batch->filled = 0;
    else
        retire(pool, batch);
}

size_t batch_pool_used(const struct batch_pool *pool)
{
    return pool->used;
}

size_t batch_pool_held(const struct batch_pool *pool)
{
    return pool->held;
}
