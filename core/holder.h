/*
 * The name by which this process holds leases: the instance's name and a random number, so that an
 * instance that was started again is another holder. A process that begins anew hands its name on
 * to itself, in the environment: the others see no change.
 */
#ifndef NEMOGATE_CORE_HOLDER_H
#define NEMOGATE_CORE_HOLDER_H

#include <stdbool.h>

/* Owned by the caller; NULL: memory is short. */
char *holder_name(const char *instance);
/* For the program that is started in this process next. false: memory is short. */
bool holder_hand_on(const char *holder);

#endif
