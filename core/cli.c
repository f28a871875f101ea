/*
 * The command line by a table of commands, from which the help comes, too. No option is shared by
 * position: a command is the first word, its options follow in any order.
 */
#include "core/cli.h"

#include <string.h>

struct command {
    const char *name;
    enum cli_command id;
    bool takes_config; /* --config FILE, which is then needed */
    bool takes_connect;
    const char *summary;
    const char *details;
};

static const struct command COMMANDS[] = {
    {"run", CLI_RUN, true, false, "carry events until SIGTERM or SIGINT",
     "Reads the configuration, then carries events from Redis to the brokers until SIGTERM or\n"
     "SIGINT. It then finishes what is in flight; a second signal ends it at once.\n"},
    {"check", CLI_CHECK, true, true, "check a configuration",
     "Reads the configuration and reports every fault with file, line and column. --connect also\n"
     "tries Redis and the brokers; nothing is changed there.\n"},
    {"config-doc", CLI_CONFIG_DOC, false, false, "print the reference of all keys",
     "Prints the keys of the configuration as a table in Markdown.\n"},
    {"config-sample", CLI_CONFIG_SAMPLE, false, false, "print a commented configuration",
     "Prints a configuration with every key, its default and its meaning, ready to be edited.\n"},
};

#define COMMAND_COUNT (sizeof COMMANDS / sizeof COMMANDS[0])

static void print_usage_of(const struct command *command, FILE *out)
{
    fprintf(out, "nemogate %s%s%s", command->name, command->takes_config ? " --config FILE" : "",
            command->takes_connect ? " [--connect]" : "");
}

static void print_help(FILE *out)
{
    fputs("nemogate carries events from Redis Streams to MQTT brokers.\n\nUsage:\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fputs("  ", out);
        print_usage_of(&COMMANDS[i], out);
        fprintf(out, "\n      %s\n", COMMANDS[i].summary);
    }
    fputs("  nemogate --version | --help\n  nemogate COMMAND --help\n\n"
          "Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration.\n",
          out);
}

static void print_command_help(const struct command *command, FILE *out)
{
    fputs("Usage: ", out);
    print_usage_of(command, out);
    fprintf(out, "\n\n%s", command->details);
    if (command->takes_config)
        fputs("\nOptions:\n  --config FILE  the configuration (YAML)\n", out);
    if (command->takes_connect)
        fputs("  --connect      also try Redis and the brokers\n", out);
}

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(COMMANDS[i].name, name) == 0)
            return &COMMANDS[i];
    return NULL;
}

static enum cli_result refuse(FILE *errors, const char *problem, const char *argument,
                              const struct command *command)
{
    fprintf(errors, "nemogate: %s%s%s%s; see 'nemogate %s%s--help'\n", problem,
            argument != NULL ? " '" : "", argument != NULL ? argument : "",
            argument != NULL ? "'" : "", command != NULL ? command->name : "",
            command != NULL ? " " : "");
    return CLI_REFUSED;
}

static enum cli_result set_config(const struct command *command, const char *file, struct cli *cli,
                                  FILE *errors)
{
    if (cli->config_file != NULL)
        return refuse(errors, "--config is given more than once", NULL, command);
    if (file == NULL || file[0] == '\0' || strncmp(file, "--", 2) == 0)
        return refuse(errors, "--config needs a file", NULL, command);
    cli->config_file = file;
    return CLI_COMMAND;
}

/* The arguments behind the command's name; the last one is followed by NULL. */
static enum cli_result parse_options(const struct command *command, char *const *arguments,
                                     struct cli *cli, FILE *errors)
{
    for (; *arguments != NULL; arguments++) {
        const char *argument = *arguments;
        enum cli_result result = CLI_COMMAND;
        if (command->takes_config && strcmp(argument, "--config") == 0) {
            result = set_config(command, arguments[1], cli, errors);
            if (result == CLI_COMMAND)
                arguments++;
        } else if (command->takes_config && strncmp(argument, "--config=", 9) == 0) {
            result = set_config(command, argument + 9, cli, errors);
        } else if (command->takes_connect && strcmp(argument, "--connect") == 0) {
            cli->connect = true;
        } else if (argument[0] == '-') {
            result = refuse(errors, "unknown option", argument, command);
        } else {
            result = refuse(errors, "surplus argument", argument, command);
        }
        if (result != CLI_COMMAND)
            return result;
    }
    if (command->takes_config && cli->config_file == NULL)
        return refuse(errors, "--config FILE is missing", NULL, command);
    return CLI_COMMAND;
}

enum cli_result cli_parse(int argc, char *const *argv, struct cli *cli, FILE *out, FILE *errors)
{
    *cli = (struct cli){.command = CLI_RUN};
    if (argc < 2)
        return refuse(errors, "a command is missing", NULL, NULL);
    const struct command *command = find_command(argv[1]);
    bool is_version = strcmp(argv[1], "--version") == 0;
    if (command == NULL && !is_version && !is_help(argv[1]))
        return refuse(errors, argv[1][0] == '-' ? "unknown option" : "unknown command", argv[1],
                      NULL);
    if (command == NULL) {
        if (argc > 2)
            return refuse(errors, "surplus argument", argv[2], NULL);
        if (is_version)
            fprintf(out, "nemogate %s\n", NEMOGATE_VERSION);
        else
            print_help(out);
        return CLI_PRINTED;
    }
    for (int i = 2; i < argc; i++) {
        if (is_help(argv[i])) {
            print_command_help(command, out);
            return CLI_PRINTED;
        }
    }
    cli->command = command->id;
    return parse_options(command, argv + 2, cli, errors);
}
