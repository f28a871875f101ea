/*
 * `slots`: who has which slot, and the numbers of slots and connections that Redis keeps for all
 * instances of the group. `slots --set N` changes these while no instance lives.
 */
#ifndef NEMOGATE_CORE_SLOTS_COMMAND_H
#define NEMOGATE_CORE_SLOTS_COMMAND_H

#include "core/cli.h"
#include "core/config.h"

/* Results go to out, faults and refusals to errors. Returns the exit code: 0 done, 1 refused
 * because an instance lives, or failed, 2 a number of slots that cannot be. */
MUST_CHECK int slots_command_run(const struct config *config, const struct cli *cli, FILE *out,
                                 FILE *errors);

#endif
