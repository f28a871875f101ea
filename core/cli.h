/*
 * The command line: which command, and its options. It prints help and version itself and leaves
 * running the commands, and ending the process, to main.
 */
#ifndef NEMOGATE_CORE_CLI_H
#define NEMOGATE_CORE_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "codec/status.h"

/* Exit codes of all commands. */
enum cli_exit { CLI_EXIT_DONE = 0, CLI_EXIT_FAILED = 1, CLI_EXIT_USAGE = 2 };

enum cli_command {
    CLI_RUN,
    CLI_CHECK,
    CLI_CONFIG_DOC,
    CLI_CONFIG_SAMPLE,
    CLI_DEAD_LETTERS_LIST,
    CLI_DEAD_LETTERS_SHOW,
    CLI_DEAD_LETTERS_REPLAY,
    CLI_DEAD_LETTERS_DROP,
    CLI_SLOTS,
    CLI_STATUS,
    CLI_METRICS_DOC
};

#define CLI_TEXTS_MAX 100

/* An option that may be given several times. */
struct cli_texts {
    size_t count;
    const char *item[CLI_TEXTS_MAX]; /* views of argv */
};

/* What an option that was not given leaves: NULL, 0, false. */
struct cli {
    enum cli_command command;
    const char *config_file; /* view of argv; NULL: a command that takes none */
    bool connect;            /* check: also try Redis and the brokers */

    /* dead-letters */
    struct cli_texts sites;
    struct cli_texts streams;
    struct cli_texts reasons;
    struct cli_texts ids;
    uint64_t since_ms;
    uint64_t limit;
    bool all;
    bool force;
    bool dry_run;
    bool json;

    uint64_t set_slots; /* slots */

    const char *admin; /* status: the URL */
    const char *admin_ca;
    const char *admin_cert;
    const char *admin_key;
    bool watch;
};

enum cli_result {
    CLI_COMMAND, /* *cli says what to do */
    CLI_PRINTED, /* help or version went to out: exit with CLI_EXIT_DONE */
    CLI_REFUSED  /* one line on errors says why: exit with CLI_EXIT_USAGE */
};

MUST_CHECK enum cli_result cli_parse(int argc, char *const *argv, struct cli *cli, FILE *out,
                                     FILE *errors);

#endif
