/*
 * Jittered exponential backoff: 100 ms doubling to 30 s, each wait drawn evenly between half of the
 * step and the step. Inline and without state elsewhere.
 */
#ifndef NEMOGATE_TRANSPORT_BACKOFF_H
#define NEMOGATE_TRANSPORT_BACKOFF_H

#include <stdint.h>

#define BACKOFF_FIRST_MS 100u
#define BACKOFF_LAST_MS 30000u

struct backoff {
    uint32_t step_ms; /* 0: the next wait is the first */
    uint64_t random;  /* xorshift state, never 0 */
};

static inline void backoff_init(struct backoff *b, uint64_t seed)
{
    b->step_ms = 0;
    b->random = seed | 1;
}

static inline void backoff_reset(struct backoff *b)
{
    b->step_ms = 0;
}

/* Milliseconds to wait before the next try. */
static inline uint32_t backoff_next_ms(struct backoff *b)
{
    b->step_ms = b->step_ms == 0                    ? BACKOFF_FIRST_MS
                 : b->step_ms > BACKOFF_LAST_MS / 2 ? BACKOFF_LAST_MS
                                                    : b->step_ms * 2;
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    uint32_t half = b->step_ms / 2;
    return half + (uint32_t)(b->random % (half + 1));
}

#endif
