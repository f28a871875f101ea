/*
 * Delayed output; see due_queue.h.
 */
#include "bench/due_queue.h"

/* A mark takes for at most this part of the delay, so that the marks of one delay fit. */
#define JOIN_PARTS (DUE_MARKS / 2)

void due_queue_put(struct due_queue *queue, uint64_t now, uint64_t end, uint64_t acks)
{
    struct due_mark *last = &queue->marks[(queue->first + queue->count - 1) % DUE_MARKS];
    bool joins = queue->count > 0 && (queue->count == DUE_MARKS ||
                                      now - queue->opened_ns <= queue->delay_ns / JOIN_PARTS);
    if (!joins) {
        last = &queue->marks[(queue->first + queue->count) % DUE_MARKS];
        last->acks = 0;
        queue->count++;
        queue->opened_ns = now;
    }
    last->due_ns = now + queue->delay_ns;
    last->end = end;
    last->acks += acks;
}

bool due_queue_take(struct due_queue *queue, uint64_t now, struct due_mark *taken)
{
    bool some = false;
    taken->acks = 0;
    while (queue->count > 0 && queue->marks[queue->first].due_ns <= now) {
        const struct due_mark *mark = &queue->marks[queue->first];
        taken->due_ns = mark->due_ns;
        taken->end = mark->end;
        taken->acks += mark->acks;
        queue->first = (queue->first + 1) % DUE_MARKS;
        queue->count--;
        some = true;
    }
    return some;
}

uint64_t due_queue_next(const struct due_queue *queue)
{
    return queue->count > 0 ? queue->marks[queue->first].due_ns : UINT64_MAX;
}
