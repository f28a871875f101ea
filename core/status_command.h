/*
 * `nemogate status`: asks a running gateway's admin server how it is, and prints that.
 */
#ifndef NEMOGATE_CORE_STATUS_COMMAND_H
#define NEMOGATE_CORE_STATUS_COMMAND_H

#include "core/cli.h"
#include "core/config.h"

/* config NULL: only the address that cli names. Returns the exit code: 0 all is well or there are
 * warnings, 1 the gateway is not ready, or cannot be asked, 2 an address that makes no sense. */
MUST_CHECK int status_command_run(const struct config *config, const struct cli *cli, FILE *out,
                                  FILE *errors);

#endif
