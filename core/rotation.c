/*
 * A doubly linked list through the lanes themselves.
 */
#include "core/rotation.h"

void rotation_leave(struct turn *turn)
{
    struct rotation *rotation = turn->in;
    if (rotation == NULL)
        return;
    if (turn->previous != NULL)
        turn->previous->next = turn->next;
    else
        rotation->first = turn->next;
    if (turn->next != NULL)
        turn->next->previous = turn->previous;
    else
        rotation->last = turn->previous;
    rotation->count--;
    turn->in = NULL;
}

void rotation_put(struct rotation *rotation, struct turn *turn)
{
    rotation_leave(turn);
    turn->in = rotation;
    turn->next = NULL;
    turn->previous = rotation->last;
    if (rotation->last != NULL)
        rotation->last->next = turn;
    else
        rotation->first = turn;
    rotation->last = turn;
    rotation->count++;
}
