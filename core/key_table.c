/*
 * The table of keys that are set apart: found by their hash, kept in blocks that are reused. What
 * becomes of a key is told in key_queue.c.
 */
#include "core/slot_private.h"

#include <stdlib.h>

#define BLOCK_KEYS 64u
#define BUCKETS_MAX 65536u

struct key_block {
    struct key_block *next;
    struct key_queue keys[BLOCK_KEYS];
};

bool key_table_open(struct key_table *table, size_t credits)
{
    table->bucket_count = 64;
    while (table->bucket_count < credits / 2 && table->bucket_count < BUCKETS_MAX)
        table->bucket_count *= 2;
    table->buckets = calloc(table->bucket_count, sizeof(struct key_queue *));
    return table->buckets != NULL;
}

void key_table_close(struct key_table *table)
{
    for (struct key_block *block = table->blocks, *next; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    free(table->buckets);
}

static struct key_queue **bucket_of(const struct key_table *table, const struct lane *lane,
                                    uint32_t hash)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)lane ^ hash) * UINT64_C(0x9e3779b97f4a7c15);
    return &table->buckets[mixed >> 32 & (table->bucket_count - 1)];
}

struct key_queue *key_find(const struct outlet *outlet, const struct lane *lane, uint32_t hash)
{
    if (outlet->keys.count == 0)
        return NULL;
    struct key_queue *key = *bucket_of(&outlet->keys, lane, hash);
    while (key != NULL && (key->hash != hash || key->lane != lane))
        key = key->next_same;
    return key;
}

static struct key_queue *take_free(struct key_table *table)
{
    if (table->free == NULL) {
        struct key_block *block = malloc(sizeof *block);
        if (block == NULL)
            return NULL;
        block->next = table->blocks;
        table->blocks = block;
        for (size_t i = 0; i < BLOCK_KEYS; i++) {
            block->keys[i].next_same = table->free;
            table->free = &block->keys[i];
        }
    }
    struct key_queue *key = table->free;
    table->free = key->next_same;
    return key;
}

struct key_queue *key_make(struct outbox *outbox, struct lane *lane, uint32_t hash)
{
    struct key_table *table = &outbox->outlet->keys;
    struct key_queue *key = take_free(table);
    if (key == NULL) {
        log_event(
            &outbox->log, LOG_ERROR,
            "no memory for a key; the process ends, and all that is not settled stays pending "
            "in Redis",
            LOG_TEXT("stream", lane->name));
        abort();
    }
    struct key_queue **bucket = bucket_of(table, lane, hash);
    *key = (struct key_queue){.next_same = *bucket,
                              .lane = lane,
                              .outbox = outbox,
                              .hash = hash,
                              .state = KEY_GATHERING,
                              .leaving = true,
                              .again = entry_queue_empty(),
                              .waiting = entry_queue_empty(),
                              .leader = ENTRY_NONE};
    backoff_init(&key->backoff, hash * UINT64_C(2654435761) + net_now_us());
    *bucket = key;
    table->count++;
    return key;
}

void key_end(struct key_queue *key)
{
    struct key_table *table = &key->outbox->outlet->keys;
    struct key_queue **link = bucket_of(table, key->lane, key->hash);
    while (*link != key)
        link = &(*link)->next_same;
    *link = key->next_same;
    key->lane->refused_keys -= key->refused;
    key->next_same = table->free;
    table->free = key;
    table->count--;
}

void key_forget_all(struct outlet *outlet)
{
    struct key_table *table = &outlet->keys;
    for (size_t i = 0; table->count > 0 && i < table->bucket_count; i++)
        while (table->buckets[i] != NULL)
            key_end(table->buckets[i]);
    table->stuck_entries = 0;
    table->stuck_bytes = 0;
}

static void for_each(struct key_table *table, const struct lane *lane,
                     void (*act)(struct key_queue *key, void *context), void *context)
{
    for (size_t i = 0; table->count > 0 && i < table->bucket_count; i++) {
        for (struct key_queue *key = table->buckets[i], *next; key != NULL; key = next) {
            next = key->next_same;
            if (lane == NULL || key->lane == lane)
                act(key, context);
        }
    }
}

void key_for_outlet(struct outlet *outlet, void (*act)(struct key_queue *key, void *context),
                    void *context)
{
    for_each(&outlet->keys, NULL, act, context);
}

void key_for_lane(struct lane *lane, void (*act)(struct key_queue *key, void *context),
                  void *context)
{
    for_each(&lane->outlet->keys, lane, act, context);
}
