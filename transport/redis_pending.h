/*
 * The commands of a Redis link that have no answer yet, oldest first, in a ring that grows. Private
 * to redis_link.c. No I/O, no time.
 */
#ifndef NEMOGATE_TRANSPORT_REDIS_PENDING_H
#define NEMOGATE_TRANSPORT_REDIS_PENDING_H

#include "codec/redis_reader.h"
#include "transport/redis_link.h"

struct pending_command {
    redis_reply_fn *on_reply;
    void *context;
    enum redis_expect expect;
    uint32_t block_ms;
    uint64_t sent_ms; /* on the link's clock */
};

/*   entry[head] oldest .. entry[head + count - 1] newest   (indices modulo size, a power of two) */
struct redis_pending {
    struct pending_command *entry;
    size_t size;
    size_t head;
    size_t count;
};

/* pending is all zero before. false: memory is short. */
MUST_CHECK bool redis_pending_init(struct redis_pending *pending);
void redis_pending_free(struct redis_pending *pending);

/* false: memory is short for the next command; this one is in all the same, so that its callback
 * can be told of the loss that must follow. */
MUST_CHECK bool redis_pending_add(struct redis_pending *pending, struct pending_command command);

/* NULL: none. A view until the next call. */
static inline const struct pending_command *
redis_pending_oldest(const struct redis_pending *pending)
{
    return pending->count == 0 ? NULL : &pending->entry[pending->head];
}

/* Takes the oldest out; there must be one. */
static inline struct pending_command redis_pending_take(struct redis_pending *pending)
{
    struct pending_command oldest = pending->entry[pending->head];
    pending->head = (pending->head + 1) & (pending->size - 1);
    pending->count--;
    return oldest;
}

static inline void redis_pending_forget(struct redis_pending *pending)
{
    pending->count = 0;
}

#endif
