/*
 * The command line: which command, and its options. It prints help and version itself and leaves
 * running the commands, and ending the process, to main.
 */
#ifndef NEMOGATE_CORE_CLI_H
#define NEMOGATE_CORE_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "codec/status.h"

/* Exit codes of all commands. */
enum cli_exit { CLI_EXIT_DONE = 0, CLI_EXIT_FAILED = 1, CLI_EXIT_USAGE = 2 };

enum cli_command { CLI_RUN, CLI_CHECK, CLI_CONFIG_DOC, CLI_CONFIG_SAMPLE };

struct cli {
    enum cli_command command;
    const char *config_file; /* view of argv; NULL: a command that takes none */
    bool connect;            /* check: also try Redis and the brokers */
};

enum cli_result {
    CLI_COMMAND, /* *cli says what to do */
    CLI_PRINTED, /* help or version went to out: exit with CLI_EXIT_DONE */
    CLI_REFUSED  /* one line on errors says why: exit with CLI_EXIT_USAGE */
};

MUST_CHECK enum cli_result cli_parse(int argc, char *const *argv, struct cli *cli, FILE *out,
                                     FILE *errors);

#endif
