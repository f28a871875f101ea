/*
 * The command line, read by the tables of cli_commands.c. No option is shared by position: a
 * command is the first word (or two), its options follow in any order.
 */
#include "core/cli_private.h"

#include "codec/decimal.h"

#include <string.h>

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

/* ---- refusals ------------------------------------------------------------------------------ */

static enum cli_result refuse(FILE *errors, const char *problem, const char *argument,
                              const struct cli_syntax *command)
{
    fprintf(errors, "nemogate: %s%s%s%s; see 'nemogate %s%s%s%s--help'\n", problem,
            argument != NULL ? " '" : "", argument != NULL ? argument : "",
            argument != NULL ? "'" : "", command != NULL ? command->name : "",
            command != NULL ? " " : "",
            command != NULL && command->part != NULL ? command->part : "",
            command != NULL && command->part != NULL ? " " : "");
    return CLI_REFUSED;
}

static enum cli_result refuse_option(FILE *errors, const struct cli_option *option,
                                     const char *problem, const struct cli_syntax *command)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s", option->name, problem);
    return refuse(errors, text, NULL, command);
}

static enum cli_result refuse_value(FILE *errors, const struct cli_option *option,
                                    const char *value, const struct cli_syntax *command)
{
    char text[128];
    bool is_value = value != NULL && value[0] != '\0' && strncmp(value, "--", 2) != 0;
    snprintf(text, sizeof text, "%s needs %s%s", option->name, option->needs,
             is_value ? ", not" : "");
    return refuse(errors, text, is_value ? value : NULL, command);
}

/* ---- parsing ------------------------------------------------------------------------------- */

/* "2h"; false: not a duration, or 0. */
static bool read_duration(const char *text, uint64_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(text, "0123456789");
    uint64_t number;
    if (!decimal_read((struct bytes){(const uint8_t *)text, digits}, &number))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text + digits, units[i].unit) == 0)
            return !__builtin_mul_overflow(number, units[i].ms, ms) && *ms > 0;
    return false;
}

static void *place_of(const struct cli_option *option, struct cli *cli)
{
    return (char *)cli + option->place;
}

static bool is_given(const struct cli_option *option, struct cli *cli)
{
    const void *place = place_of(option, cli);
    switch (option->kind) {
    case CLI_FLAG:
        return *(const bool *)place;
    case CLI_TEXT:
        return *(const char *const *)place != NULL;
    case CLI_TEXTS:
        return ((const struct cli_texts *)place)->count > 0;
    case CLI_NUMBER:
    case CLI_DURATION:
        return *(const uint64_t *)place > 0;
    }
    return false;
}

/* false: the value is not of the option's kind. */
static bool store(const struct cli_option *option, const char *value, struct cli *cli)
{
    void *place = place_of(option, cli);
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)place = true;
        return true;
    case CLI_TEXT:
        *(const char **)place = value;
        return true;
    case CLI_TEXTS: {
        struct cli_texts *texts = place;
        texts->item[texts->count++] = value;
        return true;
    }
    case CLI_NUMBER:
        return decimal_read(bytes_of(value), place) && *(const uint64_t *)place > 0;
    case CLI_DURATION:
        return read_duration(value, place);
    }
    return false;
}

static enum cli_result set_value(const struct cli_syntax *command, const struct cli_option *option,
                                 const char *value, struct cli *cli, FILE *errors)
{
    const struct cli_texts *texts = option->kind == CLI_TEXTS ? place_of(option, cli) : NULL;
    if (texts == NULL && is_given(option, cli))
        return refuse_option(errors, option, "is given more than once", command);
    if (texts != NULL && texts->count == CLI_TEXTS_MAX)
        return refuse_option(errors, option, "is given more than 100 times", command);
    if (value == NULL || value[0] == '\0' || strncmp(value, "--", 2) == 0 ||
        !store(option, value, cli))
        return refuse_value(errors, option, value, command);
    return CLI_COMMAND;
}

/* The option whose name the argument begins with, followed by its end or, of one with a value, by
 * an equals sign. */
static const struct cli_option *find_option(const struct cli_syntax *command, const char *argument,
                                            size_t *length)
{
    for (const struct cli_use *use = command->uses; use->option != NULL; use++) {
        *length = strlen(use->option->name);
        if (strncmp(argument, use->option->name, *length) == 0 &&
            (argument[*length] == '\0' ||
             (argument[*length] == '=' && use->option->kind != CLI_FLAG)))
            return use->option;
    }
    return NULL;
}

static enum cli_result check_needs(const struct cli_syntax *command, struct cli *cli, FILE *errors)
{
    const struct cli_option *chosen = NULL;
    const struct cli_use *first = NULL;
    char text[192];
    for (const struct cli_use *use = command->uses; use->option != NULL; use++) {
        bool given = is_given(use->option, cli);
        if (use->need == CLI_REQUIRED && !given) {
            snprintf(text, sizeof text, "%s is missing", use->option->value);
            return refuse_option(errors, use->option, text, command);
        }
        if (use->need != CLI_ONE_OF)
            continue;
        if (first == NULL)
            first = use;
        if (given && chosen != NULL) {
            snprintf(text, sizeof text, "and %s exclude each other", use->option->name);
            return refuse_option(errors, chosen, text, command);
        }
        if (given)
            chosen = use->option;
    }
    if (first == NULL || chosen != NULL)
        return CLI_COMMAND;
    char choices[128];
    (void)cli_format_piece(first, choices, sizeof choices);
    snprintf(text, sizeof text, "one of %s is missing", choices);
    return refuse(errors, text, NULL, command);
}

/* The arguments behind the command's name; the last one is followed by NULL. */
static enum cli_result parse_options(const struct cli_syntax *command, char *const *arguments,
                                     struct cli *cli, FILE *errors)
{
    for (; *arguments != NULL; arguments++) {
        const char *argument = *arguments;
        enum cli_result result = CLI_COMMAND;
        size_t length = 0;
        const struct cli_option *option = find_option(command, argument, &length);
        if (option == NULL)
            result = refuse(errors, argument[0] == '-' ? "unknown option" : "surplus argument",
                            argument, command);
        else if (option->kind == CLI_FLAG)
            (void)store(option, NULL, cli);
        else if (argument[length] == '=')
            result = set_value(command, option, argument + length + 1, cli, errors);
        else
            result = set_value(command, option, *++arguments, cli, errors);
        if (result != CLI_COMMAND)
            return result;
    }
    return check_needs(command, cli, errors);
}

/* ---- the command --------------------------------------------------------------------------- */

static enum cli_result without_command(int argc, char *const *argv, FILE *out, FILE *errors)
{
    bool is_version = strcmp(argv[1], "--version") == 0;
    if (!is_version && !is_help(argv[1]))
        return refuse(errors, argv[1][0] == '-' ? "unknown option" : "unknown command", argv[1],
                      NULL);
    if (argc > 2)
        return refuse(errors, "surplus argument", argv[2], NULL);
    if (is_version)
        fprintf(out, "nemogate %s\n", NEMOGATE_VERSION);
    else
        cli_print_help(out);
    return CLI_PRINTED;
}

/* A command of several parts, without one that it has. */
static enum cli_result without_part(char *const *argv, FILE *out, FILE *errors)
{
    if (argv[2] != NULL && is_help(argv[2])) {
        cli_print_parts_help(argv[1], out);
        return CLI_PRINTED;
    }
    char text[192], parts[128];
    cli_format_parts(argv[1], parts, sizeof parts);
    snprintf(text, sizeof text, "%s needs one of %s%s", argv[1], parts,
             argv[2] != NULL ? ", not" : "");
    const struct cli_syntax all = {.name = argv[1]};
    return refuse(errors, text, argv[2], &all);
}

enum cli_result cli_parse(int argc, char *const *argv, struct cli *cli, FILE *out, FILE *errors)
{
    *cli = (struct cli){.command = CLI_RUN};
    if (argc < 2)
        return refuse(errors, "a command is missing", NULL, NULL);
    bool is_known;
    const struct cli_syntax *command = cli_find_command(argv[1], argv[2], &is_known);
    if (command == NULL)
        return is_known ? without_part(argv, out, errors)
                        : without_command(argc, argv, out, errors);
    int first = command->part != NULL ? 3 : 2;
    for (int i = first; i < argc; i++) {
        if (is_help(argv[i])) {
            cli_print_command_help(command, out);
            return CLI_PRINTED;
        }
    }
    cli->command = command->id;
    return parse_options(command, argv + first, cli, errors);
}
