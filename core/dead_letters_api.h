/*
 * Dead letters for the admin server: the same work as `dead-letters`, its results as JSON for the
 * monitor page. Blocks until Redis has answered: on a thread of its own, not in an event loop.
 */
#ifndef NEMOGATE_CORE_DEAD_LETTERS_API_H
#define NEMOGATE_CORE_DEAD_LETTERS_API_H

#include "core/cli.h"
#include "core/config.h"

enum dead_letters_work { DEAD_LETTERS_LIST, DEAD_LETTERS_REPLAY, DEAD_LETTERS_DROP };

/* cli: sites, reasons and limit of a list; one site, ids and force of the others. Writes an object
 * to out. false: error (size bytes) says why, and what is in out is of no use. */
MUST_CHECK bool dead_letters_work(const struct config *config, enum dead_letters_work work,
                                  const struct cli *cli, FILE *out, char *error, size_t size);

#endif
