/*
 * What the files of the command line share: the form of the tables of options and commands in
 * cli_commands.c, which cli.c reads by. Included by these two only.
 */
#ifndef NEMOGATE_CORE_CLI_PRIVATE_H
#define NEMOGATE_CORE_CLI_PRIVATE_H

#include "core/cli.h"

#define CLI_OPTIONS_MAX 8 /* of one command */

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_TEXTS, CLI_NUMBER, CLI_DURATION };

struct cli_option {
    const char *name;
    enum cli_kind kind;
    size_t place;      /* of its member in struct cli: bool, text, cli_texts, uint64_t, uint64_t */
    const char *value; /* stands for the value in the help */
    const char *needs; /* "--config needs a file" */
    const char *help;
};

enum cli_need { CLI_OPTIONAL, CLI_REQUIRED, CLI_ONE_OF /* exactly one of those so marked */ };

struct cli_use {
    const struct cli_option *option;
    enum cli_need need;
};

struct cli_syntax {
    const char *name;
    const char *part; /* second word, of a command that has several; else NULL */
    enum cli_command id;
    struct cli_use uses[CLI_OPTIONS_MAX + 1]; /* up to the first NULL */
    const char *summary;
    const char *details;
};

/* NULL: there is none. *is_known: there is one with this first word. part may be NULL. */
const struct cli_syntax *cli_find_command(const char *name, const char *part, bool *is_known);

/* "list, show": the second words of a command that has several. */
void cli_format_parts(const char *name, char *text, size_t size);

/* "[--site SITE]", "(--id ID | --all)": options of which one is needed are one piece. Returns what
 * follows the piece. */
const struct cli_use *cli_format_piece(const struct cli_use *use, char *text, size_t size);

void cli_print_help(FILE *out);
void cli_print_command_help(const struct cli_syntax *command, FILE *out);
/* Of all commands with this first word. */
void cli_print_parts_help(const char *name, FILE *out);

#endif
