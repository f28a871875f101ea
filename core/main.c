/*
 * The program: a command of the command line, carried out, and its exit code: 0 done, 1 failed at
 * run time, 2 usage or configuration.
 */
#include "core/admin_socket.h"
#include "core/check.h"
#include "core/check_sites.h"
#include "core/cli.h"
#include "core/config.h"
#include "core/dead_letters.h"
#include "core/engine.h"
#include "core/legacy.h"
#include "core/legacy_settings.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/signals.h"
#include "core/site_config.h"
#include "core/slots_command.h"
#include "core/status_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct log open_log(const struct config *config)
{
    static const enum log_level levels[] = {
        [CONFIG_LOG_DEBUG] = LOG_DEBUG,
        [CONFIG_LOG_INFO] = LOG_INFO,
        [CONFIG_LOG_WARNING] = LOG_WARNING,
        [CONFIG_LOG_ERROR] = LOG_ERROR,
    };
    struct log log = log_root(STDERR_FILENO, levels[config->log_level],
                              config->log_format == CONFIG_LOG_JSON ? LOG_JSON : LOG_LOGFMT);
    log.journal = log_is_journal(STDERR_FILENO, getenv("JOURNAL_STREAM"));
    return log;
}

static bool holds_secrets(const struct config *config)
{
    bool holds = config->admin.token != NULL || config->admin.tls.key_file[0] != '\0' ||
                 config->redis.password != NULL || config->redis.tls.key_file[0] != '\0';
    for (size_t i = 0; i < config->broker_count; i++)
        holds = holds || config->brokers[i].password != NULL ||
                config->brokers[i].tls.key_file[0] != '\0';
    for (size_t i = 0; i < config->route_count; i++)
        holds = holds || config->routes[i].sign_key != NULL;
    return holds;
}

/* No core dump, neither to a file nor to a handler that keeps them (which RLIMIT_CORE would not
 * stop), and no look into /proc/PID/mem for other processes of the same user. root still may. */
static void keep_memory_private(void)
{
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* It was, before the process drained. */
static bool is_still_sound(const struct config *config, struct reload_state *state,
                           const struct log *log)
{
    bool sound = reload_is_still_sound(config, state, log);
    if (!sound)
        log_event(
            log, LOG_ERROR,
            "the configuration is not reloaded, for its file has become faulty meanwhile: the "
            "present one stays in use",
            LOG_TEXT("file", state->file));
    return sound;
}

/* Only MQTT 5 has reason codes in its PUBACKs. */
static void warn_of_old_protocol(const struct config *config, const struct log *log)
{
    for (size_t i = 0; i < config->broker_count - config->site_broker_count; i++)
        if (config->brokers[i].protocol == CONFIG_PROTOCOL_3_1_1)
            log_event(
                log, LOG_WARNING,
                "with MQTT 3.1.1 a broker cannot say that it has refused a message: what its "
                "access rules, quotas or limits refuse is lost without a word; use protocol: 5",
                LOG_TEXT("broker", config->brokers[i].name));
}

static int run(struct config *config, struct reload_state *state, struct site_set *sites)
{
    struct log log = open_log(config);
    admin_socket_keep_own();
    site_set_inherit(sites);
    if (!legacy_settings_apply(config, &log) || !site_config_apply(config, sites, &log))
        return CLI_EXIT_FAILED;
    if (holds_secrets(config))
        keep_memory_private();
    if (getenv(ENGINE_HOLDER_VARIABLE) != NULL)
        log_event(&log, LOG_INFO, "configuration reloaded", LOG_TEXT("instance", config->instance));
    warn_of_old_protocol(config, &log);
    int exit_code;
    do
        exit_code = engine_run(config, state, &log);
    while (exit_code == ENGINE_RESTART && !is_still_sound(config, state, &log));
    return exit_code;
}

/* The same program with the same arguments in this process, so that whoever watches it sees no end.
 * Whatever is not settled waits in Redis. */
static int restart(char **argv)
{
    admin_socket_keep_open();
    site_set_keep_open();
    execv("/proc/self/exe", argv);
    perror("nemogate: cannot be started anew");
    return CLI_EXIT_FAILED;
}

static void warn_of_pkill(const struct config *config)
{
    const char *fatal = legacy_fatal_name();
    if (fatal != NULL && config->legacy_list_count > 0)
        printf("warning  NEMO's plugins run pkill -f %s when they start a bridge of their own, "
               "which ends this program with such a command line: use another path\n",
               fatal);
}

static void warn_of_plain_admin(const struct config *config)
{
    const struct config_admin *admin = &config->admin;
    if (admin->listen[0] != '\0' && !admin->loopback && admin->tls.cert_file[0] == '\0')
        printf("warning  admin.listen: without admin.tls whoever listens on the network can read "
               "the token and all events, unless a proxy with TLS stands before %s\n",
               admin->listen);
}

static int check(struct config *config, const struct cli *cli, struct site_set *sites)
{
    warn_of_pkill(config);
    warn_of_plain_admin(config);
    check_sites_warn(config, stdout);
    if (cli->connect) {
        bool usable = check_sites(config, sites, stdout);
        int exit_code = check_connect(config, stdout);
        return usable ? exit_code : CLI_EXIT_FAILED;
    }
    printf("%s: the configuration is valid\n", cli->config_file);
    return CLI_EXIT_DONE;
}

static struct config *try_again(const char *file)
{
    FILE *nobody = fopen("/dev/null", "w"); /* what is wrong has been said */
    struct config *config = nobody != NULL ? config_load(file, nobody) : NULL;
    if (nobody != NULL)
        (void)fclose(nobody);
    return config;
}

/* A program that begins anew cannot go back. Its file was sound a moment ago, and is in the middle
 * of being written, it seems: so it waits, rather than end for good as for a faulty file. NULL: it
 * is to end. */
static struct config *wait_for_config(const char *file)
{
    const struct timespec period = {.tv_sec = 1};
    struct log log = log_root(STDERR_FILENO, LOG_INFO, LOG_LOGFMT);
    struct config *config = NULL;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    (void)signals_mask(SIG_BLOCK);
    log_event(&log, LOG_ERROR,
              "the configuration's file has become faulty while it was reloaded: nothing is "
              "carried until it is sound again",
              LOG_TEXT("file", file));
    while (config == NULL && sigtimedwait(&ends, NULL, &period) < 0)
        config = try_again(file);
    return config;
}

static int with_config(const struct cli *cli)
{
    struct reload_state state = reload_before(cli->config_file);
    struct config *config = config_load(cli->config_file, stderr);
    bool begins_anew = cli->command == CLI_RUN && getenv(ENGINE_HOLDER_VARIABLE) != NULL;
    if (config == NULL && begins_anew && (config = wait_for_config(cli->config_file)) == NULL)
        return CLI_EXIT_DONE;
    if (config == NULL)
        return CLI_EXIT_USAGE;
    struct site_set sites = {NULL, 0};
    int exit_code = CLI_EXIT_DONE;
    switch (cli->command) {
    case CLI_RUN:
        exit_code = run(config, &state, &sites);
        break;
    case CLI_CHECK:
        exit_code = check(config, cli, &sites);
        break;
    case CLI_DEAD_LETTERS_LIST:
    case CLI_DEAD_LETTERS_SHOW:
    case CLI_DEAD_LETTERS_REPLAY:
    case CLI_DEAD_LETTERS_DROP:
        exit_code = dead_letters_run(config, cli, stdout, stderr);
        break;
    case CLI_SLOTS:
        exit_code = slots_command_run(config, cli, stdout, stderr);
        break;
    case CLI_STATUS:
        exit_code = status_command_run(config, cli, stdout, stderr);
        break;
    case CLI_CONFIG_DOC:
    case CLI_CONFIG_SAMPLE:
    case CLI_METRICS_DOC:
        break;
    }
    config_free(config);
    site_set_free(&sites);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct cli cli;
    int exit_code;
    prctl(PR_SET_NAME, "nemogate"); /* begun anew it would be "exe" */
    switch (cli_parse(argc, argv, &cli, stdout, stderr)) {
    case CLI_PRINTED:
        return CLI_EXIT_DONE;
    case CLI_REFUSED:
        return CLI_EXIT_USAGE;
    case CLI_COMMAND:
        break;
    }
    if (cli.command == CLI_RUN)
        signals_hold_hangup();
    switch (cli.command) {
    case CLI_RUN:
    case CLI_CHECK:
    case CLI_DEAD_LETTERS_LIST:
    case CLI_DEAD_LETTERS_SHOW:
    case CLI_DEAD_LETTERS_REPLAY:
    case CLI_DEAD_LETTERS_DROP:
    case CLI_SLOTS:
        exit_code = with_config(&cli);
        return exit_code == ENGINE_RESTART ? restart(argv) : exit_code;
    case CLI_STATUS:
        return cli.config_file != NULL ? with_config(&cli)
                                       : status_command_run(NULL, &cli, stdout, stderr);
    case CLI_METRICS_DOC:
        metrics_write_reference(stdout);
        return CLI_EXIT_DONE;
    case CLI_CONFIG_DOC:
        config_write_reference(stdout);
        return CLI_EXIT_DONE;
    case CLI_CONFIG_SAMPLE:
        config_write_sample(stdout);
        return CLI_EXIT_DONE;
    }
    return CLI_EXIT_USAGE;
}
