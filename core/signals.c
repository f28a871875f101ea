/*
 * One event for each signal.
 */
#include "core/signals.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>

#define SIGNALS 3
static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

struct signals {
    struct event *events[SIGNALS];
};

sigset_t signals_mask(int how)
{
    sigset_t own, before;
    sigemptyset(&own);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&own, numbers[i]);
    (void)pthread_sigmask(how, &own, &before);
    return before;
}

void signals_hold_hangup(void)
{
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &hangup, NULL);
}

struct signals *signals_new(struct event_base *base, signals_fn *on_end, signals_fn *on_hangup,
                            void *context)
{
    struct signals *signals = calloc(1, sizeof *signals);
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is seen by what write(2) returns */
    for (int i = 0; signals != NULL && i < SIGNALS; i++) {
        signals->events[i] =
            evsignal_new(base, numbers[i], numbers[i] == SIGHUP ? on_hangup : on_end, context);
        if (signals->events[i] == NULL || event_add(signals->events[i], NULL) != 0) {
            signals_free(signals);
            return NULL;
        }
    }
    (void)signals_mask(SIG_UNBLOCK);
    return signals;
}

void signals_free(struct signals *signals)
{
    if (signals == NULL)
        return;
    for (int i = 0; i < SIGNALS; i++)
        if (signals->events[i] != NULL)
            event_free(signals->events[i]);
    free(signals);
}
