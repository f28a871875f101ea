/*
 * The growing of the ring of unanswered commands; its everyday moves are inline in the header.
 */
#include "transport/redis_pending.h"

#include <stdlib.h>

#define FIRST_SIZE 16u

static bool grow(struct redis_pending *pending)
{
    size_t size = pending->size == 0 ? FIRST_SIZE : pending->size * 2;
    struct pending_command *entry = calloc(size, sizeof *entry);
    if (entry == NULL)
        return false;
    for (size_t i = 0; i < pending->count; i++)
        entry[i] = pending->entry[(pending->head + i) & (pending->size - 1)];
    free(pending->entry);
    *pending = (struct redis_pending){entry, size, 0, pending->count};
    return true;
}

bool redis_pending_init(struct redis_pending *pending)
{
    return grow(pending);
}

void redis_pending_free(struct redis_pending *pending)
{
    free(pending->entry);
    *pending = (struct redis_pending){0};
}

bool redis_pending_add(struct redis_pending *pending, struct pending_command command)
{
    if (pending->count == pending->size && !grow(pending))
        abort(); /* a second time: the process has no future, and Redis has everything */
    pending->entry[(pending->head + pending->count) & (pending->size - 1)] = command;
    pending->count++;
    return pending->count < pending->size || grow(pending);
}
