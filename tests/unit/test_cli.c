/*
 * Command lines: what is understood, and what is refused with which line.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/cli.h"

#define ARGUMENTS_MAX 250

struct outcome {
    enum cli_result result;
    struct cli cli;
    char out[4096];
    char errors[512];
};

/* The arguments are separated by single blanks; "" stands for an empty one. */
static struct outcome parse(const char *line)
{
    static char words[4096];
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

Test(cli, dead_letters)
{
    struct outcome o = parse("dead-letters list --config a");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.command, CLI_DEAD_LETTERS_LIST);
    cr_expect_eq(o.cli.sites.count + o.cli.streams.count + o.cli.reasons.count + o.cli.ids.count,
                 0);
    cr_expect_eq(o.cli.since_ms, 0);
    cr_expect_eq(o.cli.limit, 0);
    o = parse("dead-letters list --site a --limit 20 --stream=x --config f --site=b --since 2h "
              "--reason r --json");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.sites.count, 2);
    cr_expect_str_eq(o.cli.sites.item[0], "a");
    cr_expect_str_eq(o.cli.sites.item[1], "b");
    cr_expect_str_eq(o.cli.streams.item[0], "x");
    cr_expect_str_eq(o.cli.reasons.item[0], "r");
    cr_expect_eq(o.cli.limit, 20);
    cr_expect_eq(o.cli.since_ms, 7200000);
    cr_expect(o.cli.json);
    o = parse("dead-letters show --config a --id 1-1 --id 2-1");
    cr_expect_eq(o.cli.command, CLI_DEAD_LETTERS_SHOW);
    cr_expect_eq(o.cli.ids.count, 2);
    o = parse("dead-letters replay --config a --all --force --dry-run");
    cr_expect_eq(o.cli.command, CLI_DEAD_LETTERS_REPLAY);
    cr_expect(o.cli.all && o.cli.force && o.cli.dry_run && !o.cli.json);
    o = parse("dead-letters drop --config a --reason x --reason y");
    cr_expect_eq(o.result, CLI_COMMAND);
    cr_expect_eq(o.cli.command, CLI_DEAD_LETTERS_DROP);
}

Test(cli, durations)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } cases[] = {
        {"250ms", 250}, {"90s", 90000}, {"5m", 300000}, {"1h", 3600000}, {"7d", 604800000}};
    char line[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(line, sizeof line, "dead-letters list --config a --since %s", cases[i].text);
        cr_expect_eq(parse(line).cli.since_ms, cases[i].ms, "%s", cases[i].text);
    }
    static const char *const bad[] = {"3", "h", "0s", "-1h", "1 h", "1w", "18446744073709551615d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(line, sizeof line, "dead-letters list --config a --since=%s", bad[i]);
        cr_expect_eq(parse(line).result, CLI_REFUSED, "%s", bad[i]);
    }
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
        "  nemogate run --config FILE\n",
        "  nemogate check --config FILE [--connect]\n",
        "  nemogate config-doc\n",
        "  nemogate config-sample\n",
        "  nemogate dead-letters show --config FILE [--site SITE] --id ID [--json]\n",
        "  nemogate dead-letters replay --config FILE [--site SITE]\n",
        "      (--id ID | --reason REASON | --all) [--force] [--dry-run] [--json]\n",
        "  nemogate --version | --help\n"};
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
    o = parse("dead-letters drop --help");
    cr_expect_not_null(strstr(o.out, "Usage: nemogate dead-letters drop --config FILE"));
    cr_expect_null(strstr(o.out, "--force"));
    o = parse("dead-letters --help");
    cr_expect_eq(o.result, CLI_PRINTED);
    cr_expect_not_null(strstr(o.out, "Usage: nemogate dead-letters list "));
    cr_expect_not_null(strstr(o.out, "\nUsage: nemogate dead-letters drop "));
    cr_expect_null(strstr(o.out, "nemogate run"));
}

/* No line of the help is wider than a terminal usually is. */
Test(cli, help_fits_a_terminal)
{
    static const char *const lines[] = {"--help", "dead-letters --help", "check --help"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct outcome o = parse(lines[i]);
        cr_assert_eq(o.result, CLI_PRINTED);
        for (const char *line = o.out; *line != '\0'; line += strcspn(line, "\n") + 1)
            cr_expect_leq(strcspn(line, "\n"), 100, "%.*s", (int)strcspn(line, "\n"), line);
    }
}

Test(cli, refusals)
{
    refused("", "nemogate: a command is missing; see 'nemogate --help'\n");
    refused("fly", "nemogate: unknown command 'fly'; see 'nemogate --help'\n");
    refused("state", "nemogate: unknown command 'state'; see 'nemogate --help'\n");
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
    refused("dead-letters", "nemogate: dead-letters needs one of list, show, replay, drop; see "
                            "'nemogate dead-letters --help'\n");
    refused("dead-letters burn",
            "nemogate: dead-letters needs one of list, show, replay, drop, not "
            "'burn'; see 'nemogate dead-letters --help'\n");
    refused("dead-letters list", "nemogate: --config FILE is missing; see 'nemogate dead-letters "
                                 "list --help'\n");
    refused("dead-letters show --config a", "nemogate: --id ID is missing; see 'nemogate "
                                            "dead-letters show --help'\n");
    refused("dead-letters list --config a --force",
            "nemogate: unknown option '--force'; see 'nemogate dead-letters list --help'\n");
    refused("dead-letters list --config a --limit 0",
            "nemogate: --limit needs a number from 1, not '0'; see 'nemogate dead-letters list "
            "--help'\n");
    refused("dead-letters list --config a --limit",
            "nemogate: --limit needs a number from 1; see 'nemogate dead-letters list --help'\n");
    refused("dead-letters list --config a --limit 1 --limit 2",
            "nemogate: --limit is given more than once; see 'nemogate dead-letters list --help'\n");
    refused("dead-letters drop --config a",
            "nemogate: one of (--id ID | --reason REASON | --all) is missing; see 'nemogate "
            "dead-letters drop --help'\n");
    refused("dead-letters replay --config a --id 1-1 --all",
            "nemogate: --id and --all exclude each other; see 'nemogate dead-letters replay "
            "--help'\n");
    char many[4096] = "dead-letters drop --config a";
    for (int i = 0; i <= CLI_TEXTS_MAX; i++)
        strcat(many, " --id 1-1");
    refused(many, "nemogate: --id is given more than 100 times; see 'nemogate dead-letters drop "
                  "--help'\n");
}
