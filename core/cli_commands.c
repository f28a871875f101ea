/*
 * The commands and their options: two tables, and the help that is made of them.
 */
#include "core/cli_private.h"

#include <stddef.h>
#include <string.h>

#define HELP_COLUMNS 80

/* ---- options ------------------------------------------------------------------------------- */

#define PLACE(member) offsetof(struct cli, member)

static const struct cli_option CONFIG = {
    "--config", CLI_TEXT, PLACE(config_file), "FILE", "a file", "the configuration (YAML)",
};
static const struct cli_option CONNECT = {
    "--connect", CLI_FLAG, PLACE(connect), NULL, NULL, "also try Redis and the brokers",
};
static const struct cli_option SITE = {
    "--site", CLI_TEXTS, PLACE(sites), "SITE", "a site", "only of this site; may be repeated",
};
static const struct cli_option STREAM = {
    "--stream", CLI_TEXTS,  PLACE(streams),
    "NAME",     "a stream", "only from this stream; may be repeated",
};
static const struct cli_option REASON = {
    "--reason",
    CLI_TEXTS,
    PLACE(reasons),
    "REASON",
    "a reason such as bad-topic",
    "those with this reason; may be repeated",
};
static const struct cli_option SINCE = {
    "--since",
    CLI_DURATION,
    PLACE(since_ms),
    "TIME",
    "a duration such as 90s, 30m, 2h or 7d",
    "only those of the last 90s, 30m, 2h, 7d, ...",
};
static const struct cli_option LIMIT = {
    "--limit", CLI_NUMBER, PLACE(limit), "N", "a number from 1", "only the newest N of each site",
};
static const struct cli_option ID = {
    "--id",
    CLI_TEXTS,
    PLACE(ids),
    "ID",
    "an id such as 1700000000000-0",
    "the dead letter with this id, which list shows; may be repeated",
};
static const struct cli_option ALL = {
    "--all", CLI_FLAG, PLACE(all), NULL, NULL, "all dead letters",
};
static const struct cli_option FORCE = {
    "--force", CLI_FLAG, PLACE(force), NULL, NULL, "also those that are refused otherwise",
};
static const struct cli_option DRY_RUN = {
    "--dry-run", CLI_FLAG, PLACE(dry_run), NULL, NULL, "change nothing, say what would be done",
};
static const struct cli_option JSON = {
    "--json", CLI_FLAG, PLACE(json), NULL, NULL, "one JSON object per line, for programs",
};

static const struct cli_option SET = {
    "--set", CLI_NUMBER,        PLACE(set_slots),
    "N",     "a number from 1", "keep this number of slots, and the configuration's connections",
};

static const struct cli_option ADMIN = {
    "--admin",
    CLI_TEXT,
    PLACE(admin),
    "URL",
    "an address such as https://127.0.0.1:9464",
    "the admin server, where it is not the configuration's",
};
static const struct cli_option ADMIN_CA = {
    "--admin-ca", CLI_TEXT, PLACE(admin_ca),
    "FILE",       "a file", "authorities (PEM) for the admin server's certificate",
};
static const struct cli_option ADMIN_CERT = {
    "--admin-cert", CLI_TEXT, PLACE(admin_cert),
    "FILE",         "a file", "own certificate (PEM), where the admin server asks for one",
};
static const struct cli_option ADMIN_KEY = {
    "--admin-key", CLI_TEXT, PLACE(admin_key), "FILE", "a file", "its key (PEM)",
};
static const struct cli_option WATCH = {
    "--watch", CLI_FLAG, PLACE(watch), NULL, NULL, "again every two seconds",
};

/* ---- commands ------------------------------------------------------------------------------ */

static const struct cli_syntax COMMANDS[] = {
    {"run",
     NULL,
     CLI_RUN,
     {{&CONFIG, CLI_REQUIRED}},
     "carry events until SIGTERM or SIGINT",
     "Reads the configuration, then carries events from Redis to the brokers until SIGTERM or\n"
     "SIGINT. It then finishes what is in flight; a second signal ends it at once.\n"},
    {"check",
     NULL,
     CLI_CHECK,
     {{&CONFIG, CLI_REQUIRED}, {&CONNECT, CLI_OPTIONAL}},
     "check a configuration",
     "Reads the configuration and reports every fault with file, line and column. --connect also\n"
     "tries Redis and the brokers; nothing is changed there.\n"},
    {"config-doc",
     NULL,
     CLI_CONFIG_DOC,
     {{NULL, CLI_OPTIONAL}},
     "print the reference of all keys",
     "Prints the keys of the configuration as a table in Markdown.\n"},
    {"config-sample",
     NULL,
     CLI_CONFIG_SAMPLE,
     {{NULL, CLI_OPTIONAL}},
     "print a commented configuration",
     "Prints a configuration with every key, its default and its meaning, ready to be edited.\n"},
    {"dead-letters",
     "list",
     CLI_DEAD_LETTERS_LIST,
     {{&CONFIG, CLI_REQUIRED},
      {&SITE, CLI_OPTIONAL},
      {&STREAM, CLI_OPTIONAL},
      {&REASON, CLI_OPTIONAL},
      {&SINCE, CLI_OPTIONAL},
      {&LIMIT, CLI_OPTIONAL},
      {&JSON, CLI_OPTIONAL}},
     "show which entries could not be delivered, and why",
     "Lists the dead letters, one line each, site by site, the newest first, and counts them by "
     "reason.\n"},
    {"dead-letters",
     "show",
     CLI_DEAD_LETTERS_SHOW,
     {{&CONFIG, CLI_REQUIRED}, {&SITE, CLI_OPTIONAL}, {&ID, CLI_REQUIRED}, {&JSON, CLI_OPTIONAL}},
     "show all of a dead letter",
     "Shows everything that is known of a dead letter, and its fields.\n"},
    {"dead-letters",
     "replay",
     CLI_DEAD_LETTERS_REPLAY,
     {{&CONFIG, CLI_REQUIRED},
      {&SITE, CLI_OPTIONAL},
      {&ID, CLI_ONE_OF},
      {&REASON, CLI_ONE_OF},
      {&ALL, CLI_ONE_OF},
      {&FORCE, CLI_OPTIONAL},
      {&DRY_RUN, CLI_OPTIONAL},
      {&JSON, CLI_OPTIONAL}},
     "put dead letters into their streams again",
     "Appends the entry of a dead letter to the stream that it came from, and removes the dead\n"
     "letter, in one step. Refused without --force: a stream that is gone, and a retained entry\n"
     "when its topic has, or may have, a newer one.\n"},
    {"dead-letters",
     "drop",
     CLI_DEAD_LETTERS_DROP,
     {{&CONFIG, CLI_REQUIRED},
      {&SITE, CLI_OPTIONAL},
      {&ID, CLI_ONE_OF},
      {&REASON, CLI_ONE_OF},
      {&ALL, CLI_ONE_OF},
      {&DRY_RUN, CLI_OPTIONAL},
      {&JSON, CLI_OPTIONAL}},
     "remove dead letters for good",
     "Removes dead letters. Their entries are lost.\n"},
    {"slots",
     NULL,
     CLI_SLOTS,
     {{&CONFIG, CLI_REQUIRED}, {&SET, CLI_OPTIONAL}, {&JSON, CLI_OPTIONAL}},
     "show which instance has which slot, or change how many there are",
     "Shows the slots, who holds their leases and is to hold them, and which instances live.\n"
     "--set changes the number of slots, and of connections to each broker, that all instances\n"
     "must have; refused while one of them lives. What is pending then moves with its stream.\n"},
    {"status",
     NULL,
     CLI_STATUS,
     {{&CONFIG, CLI_OPTIONAL},
      {&ADMIN, CLI_OPTIONAL},
      {&ADMIN_CA, CLI_OPTIONAL},
      {&ADMIN_CERT, CLI_OPTIONAL},
      {&ADMIN_KEY, CLI_OPTIONAL},
      {&WATCH, CLI_OPTIONAL},
      {&JSON, CLI_OPTIONAL}},
     "show how a running gateway is",
     "Asks the admin server of a running gateway, at admin.listen of the configuration or at\n"
     "--admin: what is wrong, brokers, slots, and what waits. Exit code 1: it is not ready, or\n"
     "cannot be asked. The token is that of the configuration's admin.token_file. With https://\n"
     "the certificate is checked against --admin-ca, or the system's authorities; at admin.listen\n"
     "it must be that of the configuration.\n"},
    {"metrics-doc",
     NULL,
     CLI_METRICS_DOC,
     {{NULL, CLI_OPTIONAL}},
     "print the reference of all metrics",
     "Prints the metrics of the admin server's /metrics as a table in Markdown.\n"},
};

#define COMMAND_COUNT (sizeof COMMANDS / sizeof COMMANDS[0])

/* ---- help ---------------------------------------------------------------------------------- */

const struct cli_use *cli_format_piece(const struct cli_use *use, char *text, size_t size)
{
    static const char *const begin[] = {
        [CLI_OPTIONAL] = "[", [CLI_REQUIRED] = "", [CLI_ONE_OF] = "("};
    static const char *const end[] = {
        [CLI_OPTIONAL] = "]", [CLI_REQUIRED] = "", [CLI_ONE_OF] = ")"};
    enum cli_need need = use->need;
    size_t used = 0;
    bool more = true;
    for (const char *before = begin[need]; more; before = " | ") {
        const struct cli_option *option = use++->option;
        more = need == CLI_ONE_OF && use->option != NULL && use->need == CLI_ONE_OF;
        used +=
            (size_t)snprintf(text + used, size - used, "%s%s%s%s%s", before, option->name,
                             option->kind == CLI_FLAG ? "" : " ",
                             option->kind == CLI_FLAG ? "" : option->value, more ? "" : end[need]);
    }
    return use;
}

/* The usage behind what stands in the line already (column), in as many lines as it takes. */
static void print_usage_of(const struct cli_syntax *command, size_t column, FILE *out)
{
    int indent = (int)column + 4;
    column +=
        (size_t)fprintf(out, "nemogate %s%s%s", command->name, command->part != NULL ? " " : "",
                        command->part != NULL ? command->part : "");
    for (const struct cli_use *use = command->uses; use->option != NULL;) {
        char piece[128];
        use = cli_format_piece(use, piece, sizeof piece);
        if (column + 1 + strlen(piece) > HELP_COLUMNS)
            column = (size_t)fprintf(out, "\n%*s", indent - 1, "") - 1;
        column += (size_t)fprintf(out, " %s", piece);
    }
}

void cli_print_help(FILE *out)
{
    fputs("nemogate carries events from Redis Streams to MQTT brokers.\n\nUsage:\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fputs("  ", out);
        print_usage_of(&COMMANDS[i], 2, out);
        fprintf(out, "\n      %s\n", COMMANDS[i].summary);
    }
    fputs("  nemogate --version | --help\n  nemogate COMMAND --help\n\n"
          "Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration.\n",
          out);
}

void cli_print_command_help(const struct cli_syntax *command, FILE *out)
{
    fputs("Usage: ", out);
    print_usage_of(command, 7, out);
    fprintf(out, "\n\n%s", command->details);
    if (command->uses->option != NULL)
        fputs("\nOptions:\n", out);
    for (const struct cli_use *use = command->uses; use->option != NULL; use++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s%s", use->option->name,
                 use->option->kind == CLI_FLAG ? "" : " ",
                 use->option->kind == CLI_FLAG ? "" : use->option->value);
        fprintf(out, "  %-15s  %s\n", name, use->option->help);
    }
}

void cli_print_parts_help(const char *name, FILE *out)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(COMMANDS[i].name, name) != 0)
            continue;
        cli_print_command_help(&COMMANDS[i], out);
        if (i + 1 < COMMAND_COUNT && strcmp(COMMANDS[i + 1].name, name) == 0)
            fputc('\n', out);
    }
}

/* ---- finding ------------------------------------------------------------------------------- */

const struct cli_syntax *cli_find_command(const char *name, const char *part, bool *is_known)
{
    *is_known = false;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(COMMANDS[i].name, name) != 0)
            continue;
        *is_known = true;
        if (COMMANDS[i].part == NULL || (part != NULL && strcmp(COMMANDS[i].part, part) == 0))
            return &COMMANDS[i];
    }
    return NULL;
}

void cli_format_parts(const char *name, char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < COMMAND_COUNT && used < size; i++)
        if (strcmp(COMMANDS[i].name, name) == 0)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "",
                                     COMMANDS[i].part);
}
