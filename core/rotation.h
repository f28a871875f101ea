/*
 * Lanes that take turns: the first is the next, and whoever has had his turn goes to the end. A
 * lane is in one rotation at most. What a turn is good for is reading.c's business.
 */
#ifndef NEMOGATE_CORE_ROTATION_H
#define NEMOGATE_CORE_ROTATION_H

#include <stddef.h>

struct lane;
struct rotation;

/* A part of the lane; zero but for lane, it is in no rotation. */
struct turn {
    struct lane *lane;
    struct rotation *in; /* NULL: in none */
    struct turn *next;
    struct turn *previous;
};

/* All zero: empty. */
struct rotation {
    struct turn *first;
    struct turn *last;
    size_t count;
};

/* Puts it at the end, out of the rotation that it was in. */
void rotation_put(struct rotation *rotation, struct turn *turn);
/* Nothing where it is in none. */
void rotation_leave(struct turn *turn);

#endif
