/*
 * The program: a command of the command line, carried out, and its exit code: 0 done, 1 failed at
 * run time, 2 usage or configuration.
 */
#include "core/check.h"
#include "core/cli.h"
#include "core/config.h"
#include "core/engine.h"
#include "core/log.h"

#include <stdio.h>
#include <unistd.h>

static struct log open_log(const struct config *config)
{
    static const enum log_level levels[] = {
        [CONFIG_LOG_DEBUG] = LOG_DEBUG,
        [CONFIG_LOG_INFO] = LOG_INFO,
        [CONFIG_LOG_WARNING] = LOG_WARNING,
        [CONFIG_LOG_ERROR] = LOG_ERROR,
    };
    return log_root(STDERR_FILENO, levels[config->log_level],
                    config->log_format == CONFIG_LOG_JSON ? LOG_JSON : LOG_LOGFMT);
}

static int with_config(const struct cli *cli)
{
    struct config *config = config_load(cli->config_file, stderr);
    if (config == NULL)
        return CLI_EXIT_USAGE;
    int exit_code = CLI_EXIT_DONE;
    if (cli->command == CLI_RUN) {
        struct log log = open_log(config);
        exit_code = engine_run(config, &log);
    } else if (cli->connect) {
        exit_code = check_connect(config, stdout);
    } else {
        printf("%s: the configuration is valid\n", cli->config_file);
    }
    config_free(config);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct cli cli;
    switch (cli_parse(argc, argv, &cli, stdout, stderr)) {
    case CLI_PRINTED:
        return CLI_EXIT_DONE;
    case CLI_REFUSED:
        return CLI_EXIT_USAGE;
    case CLI_COMMAND:
        break;
    }
    switch (cli.command) {
    case CLI_RUN:
    case CLI_CHECK:
        return with_config(&cli);
    case CLI_CONFIG_DOC:
        config_write_reference(stdout);
        return CLI_EXIT_DONE;
    case CLI_CONFIG_SAMPLE:
        config_write_sample(stdout);
        return CLI_EXIT_DONE;
    }
    return CLI_EXIT_USAGE;
}
