/*
 * `dead-letters list | show | replay | drop`: what lies in nemo:{site}:dead, put back into its
 * stream, or removed. It works beside running gateways: each step on a letter is one command or one
 * script of Redis.
 */
#ifndef NEMOGATE_CORE_DEAD_LETTERS_H
#define NEMOGATE_CORE_DEAD_LETTERS_H

#include "core/cli.h"
#include "core/config.h"

/* Carries out the command of cli on the configuration's Redis. Results go to out, progress, faults
 * and refusals to errors. Returns the exit code: 0 all is done, 1 something was refused, not found
 * or failed, 2 an option's value makes no sense. */
MUST_CHECK int dead_letters_run(const struct config *config, const struct cli *cli, FILE *out,
                                FILE *errors);

#endif
