/*
 * When acknowledgements are worth reading in bulk. A broker may send each PUBACK as a segment of
 * its own; a client that wakes for each, and answers each with one publish, makes both sides pay
 * for every message. So, while the window is what limits the rate, a connection holds: it takes no
 * publish and lets the kernel gather PUBACKs until half of the window is free. A timer ends a hold
 * that the broker does not fill. Pure decisions over numbers: no I/O, no clock.
 */
#ifndef NEMOGATE_TRANSPORT_ACK_COALESCING_H
#define NEMOGATE_TRANSPORT_ACK_COALESCING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long a hold waits before it looks at what has come. */
#define ACK_COALESCING_PERIOD_MS 1u

struct ack_coalescing {
    size_t window;
    size_t most;      /* PUBACKs to wait for: half of the window, bounded */
    size_t share;     /* how many the next hold waits for: at most that, fewer after failures */
    bool holding;     /* the rest is of this hold */
    unsigned periods; /* timers that have fired */
    size_t began;     /* unacknowledged when it began */
    size_t seen;      /* unacknowledged then, or when its timer fired last */
    size_t goal;      /* it ends with this many unacknowledged or fewer */
    uint64_t rest_until_ms; /* no hold begins before */
    uint32_t rest_ms;       /* the next rest */
};

/* For a new connection with this window. */
void ack_coalescing_reset(struct ack_coalescing *coalescing, size_t window);

/* At the end of a loop turn: begins, keeps or ends a hold; returns whether there is one now. A hold
 * begins only when the window is full and more publishes wait, and ends as soon as none does. */
bool ack_coalescing_at_flush(struct ack_coalescing *coalescing, size_t unacknowledged,
                             bool more_waiting, uint64_t now_ms);

/* PUBACKs have come: ends the hold when it has reached its goal. */
void ack_coalescing_at_input(struct ack_coalescing *coalescing, size_t unacknowledged);

/* A period is over and the socket has been read: ends the hold when too little has come in it, or
 * after a few periods. Returns whether it goes on. */
bool ack_coalescing_at_timer(struct ack_coalescing *coalescing, size_t unacknowledged,
                             uint64_t now_ms);

/* How many bytes the kernel is to gather before it wakes the loop, where a PUBACK takes puback_size
 * bytes on the wire; 1 when there is no hold. */
int ack_coalescing_low_water(const struct ack_coalescing *coalescing, size_t unacknowledged,
                             size_t puback_size);

#endif
