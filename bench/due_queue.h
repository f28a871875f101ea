/*
 * Byte positions of an output stream with the time at which the bytes before them may leave, for
 * delayed acknowledgements. Bounded: what is put within a small part of the delay after the last
 * mark's time joins it and leaves that much late.
 */
#ifndef NEMOGATE_BENCH_DUE_QUEUE_H
#define NEMOGATE_BENCH_DUE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DUE_MARKS 4096

struct due_mark {
    uint64_t due_ns;
    uint64_t end;  /* position in the stream */
    uint64_t acks; /* how many acknowledgements it stands for */
};

/*   marks: a ring, in the order of time and position   */
struct due_queue {
    uint64_t delay_ns;
    size_t first;
    size_t count;
    uint64_t opened_ns; /* when the last mark began to take */
    struct due_mark marks[DUE_MARKS];
};

/* The bytes up to end, with acks acknowledgements more, were made now. */
void due_queue_put(struct due_queue *queue, uint64_t now, uint64_t end, uint64_t acks);
/* Takes out what is due; adds it up: end of the last mark taken, sum of acks. False when none is.
 */
bool due_queue_take(struct due_queue *queue, uint64_t now, struct due_mark *taken);
/* When the next is due; UINT64_MAX when empty. */
uint64_t due_queue_next(const struct due_queue *queue);

#endif
