/*
 * `check --connect`: tries what the configuration names, changes nothing, and says in words what
 * works and what does not.
 */
#ifndef NEMOGATE_CORE_CHECK_H
#define NEMOGATE_CORE_CHECK_H

#include "core/config.h"

#include <stdio.h>

/* Tries Redis (connection, rights, cluster mode, streams, groups, how many entries a start would
 * send) and every broker (connection, limits), each at most once, one line of out each. Returns the
 * exit code: 0 all is well, 1 something is not. */
int check_connect(const struct config *config, FILE *out);

#endif
