/*
 * Command lines: what is understood, and what is refused with which line.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/cli.h"

#define ARGUMENTS_MAX 8

struct outcome {
    enum cli_result result;
    struct cli cli;
    char out[2048];
    char errors[512];
};

/* The arguments are separated by single blanks; "" stands for an empty one. */
static struct outcome parse(const char *line)
{
    static char words[256];
    char *argv[ARGUMENTS_MAX + 1] = {(char *)"nemogate"};
    int argc = 1;
    struct outcome o = {0};
    strcpy(words, line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = strcmp(word, "\"\"") == 0 ? (char *)"" : word;
    cr_assert_leq(argc, ARGUMENTS_MAX);
    FILE *out = fmemopen(o.out, sizeof o.out, "w");
    FILE *errors = fmemopen(o.errors, sizeof o.errors, "w");
    o.result = cli_parse(argc, argv, &o.cli, out, errors);
    fclose(out);
    fclose(errors);
    return o;
}

static void refused(const char *line, const char *expected)
{
    struct outcome o = parse(line);
    cr_expect_eq(o.result, CLI_REFUSED, "%s", line);
    cr_expect_str_eq(o.errors, expected);
    cr_expect_str_eq(o.out, "");
}

Test(cli, commands)
{
    struct outcome o = parse("run --config a.yml");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.command, CLI_RUN);
    cr_expect_str_eq(o.cli.config_file, "a.yml");
    cr_expect_not(o.cli.connect);
    o = parse("check --connect --config=b.yml");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.command, CLI_CHECK);
    cr_expect_str_eq(o.cli.config_file, "b.yml");
    cr_expect(o.cli.connect);
    o = parse("check --config b.yml");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_not(o.cli.connect);
    o = parse("config-doc");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.command, CLI_CONFIG_DOC);
    cr_expect_null(o.cli.config_file);
    o = parse("config-sample");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.command, CLI_CONFIG_SAMPLE);
    cr_expect_str_eq(o.errors, "");
    cr_expect_str_eq(o.out, "");
}

Test(cli, version)
{
    struct outcome o = parse("--version");
    cr_expect_eq(o.result, CLI_PRINTED);
    cr_expect_eq(strncmp(o.out, "nemogate ", 9), 0);
    cr_expect(o.out[9] >= '0' && o.out[9] <= '9');
    cr_expect_str_eq(o.errors, "");
}

Test(cli, help)
{
    struct outcome o = parse("--help");
    cr_expect_eq(o.result, CLI_PRINTED);
    static const char *const lines[] = {
        "  nemogate run --config FILE\n", "  nemogate check --config FILE [--connect]\n",
        "  nemogate config-doc\n", "  nemogate config-sample\n", "  nemogate --version | --help\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        cr_expect_not_null(strstr(o.out, lines[i]), "%s", lines[i]);
    cr_expect_eq(parse("-h").result, CLI_PRINTED);
}

Test(cli, help_of_a_command)
{
    struct outcome o = parse("check --help");
    cr_expect_eq(o.result, CLI_PRINTED);
    cr_expect_not_null(strstr(o.out, "Usage: nemogate check --config FILE [--connect]\n"));
    cr_expect_not_null(strstr(o.out, "  --connect "));
    o = parse("run --config x --help");
    cr_expect_eq(o.result, CLI_PRINTED);
    cr_expect_not_null(strstr(o.out, "Usage: nemogate run --config FILE\n"));
    cr_expect_null(strstr(o.out, "--connect"));
    o = parse("config-doc --help");
    cr_expect_eq(o.result, CLI_PRINTED);
    cr_expect_null(strstr(o.out, "--config FILE"));
}

Test(cli, refusals)
{
    refused("", "nemogate: a command is missing; see 'nemogate --help'\n");
    refused("fly", "nemogate: unknown command 'fly'; see 'nemogate --help'\n");
    refused("status", "nemogate: unknown command 'status'; see 'nemogate --help'\n");
    refused("\"\"", "nemogate: unknown command ''; see 'nemogate --help'\n");
    refused("--fly", "nemogate: unknown option '--fly'; see 'nemogate --help'\n");
    refused("--config a run", "nemogate: unknown option '--config'; see 'nemogate --help'\n");
    refused("--version x", "nemogate: surplus argument 'x'; see 'nemogate --help'\n");
    refused("run", "nemogate: --config FILE is missing; see 'nemogate run --help'\n");
    refused("run --config", "nemogate: --config needs a file; see 'nemogate run --help'\n");
    refused("run --config=", "nemogate: --config needs a file; see 'nemogate run --help'\n");
    refused("run --config \"\"", "nemogate: --config needs a file; see 'nemogate run --help'\n");
    refused("check --config --connect",
            "nemogate: --config needs a file; see 'nemogate check --help'\n");
    refused("run --config a --config b",
            "nemogate: --config is given more than once; see 'nemogate run --help'\n");
    refused("run --config a --connect",
            "nemogate: unknown option '--connect'; see 'nemogate run --help'\n");
    refused("run a", "nemogate: surplus argument 'a'; see 'nemogate run --help'\n");
    refused("check --config a b", "nemogate: surplus argument 'b'; see 'nemogate check --help'\n");
    refused("config-doc --config a",
            "nemogate: unknown option '--config'; see 'nemogate config-doc --help'\n");
    refused("config-sample x",
            "nemogate: surplus argument 'x'; see 'nemogate config-sample --help'\n");
}
