/*
 * The signals that the gateway handles: on the main thread only, by its event loop; while nobody
 * handles them they wait, also for the program that this process becomes. Main thread.
 */
#ifndef NEMOGATE_CORE_SIGNALS_H
#define NEMOGATE_CORE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

struct event_base;
struct signals;

/* number and what are as libevent has them. */
typedef void signals_fn(int number, short what, void *context);

/* Handles SIGTERM and SIGINT (on_end) and SIGHUP (on_hangup) from now on, also those that a former
 * program has left. Owned by the caller; NULL: memory is short. */
struct signals *signals_new(struct event_base *base, signals_fn *on_end, signals_fn *on_hangup,
                            void *context);
void signals_free(struct signals *signals); /* may be NULL */

/* For the beginning: SIGHUP waits for whoever handles it, where it would end the process. SIGTERM
 * and SIGINT may do so as long as nothing is carried. */
void signals_hold_hangup(void);

/* SIG_BLOCK: what comes waits, also beyond exec, and is not left to the system, which would end the
 * process. SIG_UNBLOCK: what has waited comes. Returns how it was before. */
sigset_t signals_mask(int how);

#endif
