/*
 * A configuration is frozen once its threads run. So changed values are not put into it: whoever is
 * told that they have changed ends as for SIGTERM and begins anew.
 */
#include "core/legacy_settings.h"

#include "core/config_private.h"
#include "core/legacy_command.h"
#include "core/legacy_values.h"

#include <event2/event.h>
#include <stdlib.h>

struct legacy_settings {
    const struct config *config;
    const struct log *log;
    struct event_base *base;
    void (*on_change)(void *context);
    void *context;
    struct legacy_command *command; /* it runs */
    struct event *ended;            /* frees it outside of its callback */
    bool again;                     /* the page was saved meanwhile */
};

/* ---- the values ---------------------------------------------------------------------------- */

static bool read_values(struct bytes output, struct legacy_values *values, const char **fault)
{
    uint8_t *scratch = malloc(output.length + 1);
    *fault = "memory is short";
    if (scratch == NULL)
        return false;
    *fault = legacy_values_read(output, scratch, values);
    explicit_bzero(scratch, output.length + 1);
    free(scratch);
    return *fault == NULL;
}

static struct config_route *route_of(const struct config *config)
{
    return config->routes +
           (config_file_route_of(config, config->legacy_lists[0].stream) - config->routes);
}

/* NULL and "" are the same. */
static bool same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

/* The file decides on signing where the page does not ask for it. */
static bool is_applied(const struct config *config, const struct legacy_values *values)
{
    const struct config_route *route = route_of(config);
    const struct config_broker *broker = &config->brokers[route->broker];
    bool signs = route->encoding == CONFIG_ENCODING_SIGNED && route->sign_key_file[0] == '\0';
    return strcmp(broker->url.host, values->broker_host) == 0 &&
           broker->url.port == values->broker_port &&
           broker->keepalive_ms == values->keepalive * 1000 &&
           same_text(broker->username, values->username) &&
           same_text(broker->password, values->password) && signs == values->use_hmac &&
           (!signs || same_text(route->sign_key, values->hmac_secret_key));
}

static char *keep(struct config *config, const char *text)
{
    return config_memory_text(config_memory_of(config), text, strlen(text));
}

static bool apply(struct config *config, const struct legacy_values *values)
{
    struct config_route *route = route_of(config);
    struct config_broker *broker = &config->brokers[route->broker];
    broker->url.host = keep(config, values->broker_host);
    broker->url.port = (uint16_t)values->broker_port;
    broker->keepalive_ms = values->keepalive * 1000;
    broker->username = keep(config, values->username);
    broker->password = values->password[0] != '\0' ? keep(config, values->password) : NULL;
    if (values->use_hmac) {
        route->encoding = CONFIG_ENCODING_SIGNED;
        route->sign_key_file = keep(config, "");
        route->sign_key = keep(config, values->hmac_secret_key);
    }
    return !config_memory_of(config)->failed;
}

static void log_applied(const struct config *config, const struct log *log)
{
    const struct config_route *route = route_of(config);
    const struct config_broker *broker = &config->brokers[route->broker];
    log_event(log, LOG_INFO, "values of the plugin's configuration page are used",
              LOG_TEXT("broker", broker->name), LOG_TEXT("host", broker->url.host),
              LOG_INT("port", broker->url.port),
              LOG_TEXT("login", broker->password != NULL ? "yes" : "no"),
              LOG_TEXT("signed", route->encoding == CONFIG_ENCODING_SIGNED ? "yes" : "no"));
}

/* ---- at the start -------------------------------------------------------------------------- */

struct start {
    struct config *config;
    const struct log *log;
    bool applied;
};

static void on_start_output(void *context, const char *fault, struct bytes output)
{
    struct start *start = context;
    struct legacy_values values;
    if (fault == NULL && read_values(output, &values, &fault))
        start->applied = apply(start->config, &values);
    if (start->applied)
        log_applied(start->config, start->log);
    else
        log_event(start->log, LOG_ERROR,
                  "legacy_config_command gives no values of the plugin's configuration page; "
                  "without them nothing is published",
                  LOG_TEXT("reason", fault != NULL ? fault : "memory is short"));
    explicit_bzero(&values, sizeof values);
}

bool legacy_settings_apply(struct config *config, const struct log *log)
{
    struct start start = {config, log, false};
    if (config->legacy_config_command[0] == '\0')
        return true;
    struct event_base *base = event_base_new();
    struct legacy_command *command = NULL;
    if (base != NULL)
        command =
            legacy_command_start(base, config->legacy_config_command, on_start_output, &start);
    if (command != NULL)
        event_base_dispatch(base);
    else
        on_start_output(&start, "the system refuses a process", (struct bytes){NULL, 0});
    legacy_command_free(command);
    if (base != NULL)
        event_base_free(base);
    return start.applied;
}

/* ---- later --------------------------------------------------------------------------------- */

static void on_output(void *context, const char *fault, struct bytes output)
{
    struct legacy_settings *settings = context;
    struct legacy_values values;
    event_active(settings->ended, 0, 0);
    if (fault != NULL || !read_values(output, &values, &fault)) {
        log_event(settings->log, LOG_ERROR,
                  "legacy_config_command gives no values of the plugin's configuration page; those "
                  "it gave before stand",
                  LOG_TEXT("reason", fault));
    } else if (is_applied(settings->config, &values)) {
        log_event(settings->log, LOG_INFO,
                  "the plugin's configuration page was saved, and nothing has changed for nemogate",
                  LOG_TEXT("instance", settings->config->instance));
    } else {
        settings->on_change(settings->context);
    }
    explicit_bzero(&values, sizeof values);
}

static void on_ended(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct legacy_settings *settings = context;
    legacy_command_free(settings->command);
    settings->command = NULL;
    if (settings->again)
        legacy_settings_look(settings);
}

void legacy_settings_look(struct legacy_settings *settings)
{
    settings->again = settings->command != NULL;
    if (settings->again)
        return;
    if (settings->config->legacy_config_command[0] == '\0') {
        log_event(settings->log, LOG_WARNING,
                  "the plugin's configuration page was saved; its values are not used without "
                  "legacy_config_command: those of the configuration file stand",
                  LOG_TEXT("instance", settings->config->instance));
        return;
    }
    settings->command = legacy_command_start(
        settings->base, settings->config->legacy_config_command, on_output, settings);
    if (settings->command == NULL)
        log_event(settings->log, LOG_ERROR,
                  "legacy_config_command cannot be run; the values it gave before stand",
                  LOG_TEXT("reason", "the system refuses a process"));
}

struct legacy_settings *legacy_settings_new(const struct config *config, const struct log *log,
                                            struct event_base *base,
                                            void (*on_change)(void *context), void *context)
{
    struct legacy_settings *settings = calloc(1, sizeof *settings);
    if (settings == NULL)
        return NULL;
    *settings = (struct legacy_settings){
        .config = config, .log = log, .base = base, .on_change = on_change, .context = context};
    settings->ended = event_new(base, -1, 0, on_ended, settings);
    if (settings->ended == NULL) {
        free(settings);
        return NULL;
    }
    return settings;
}

void legacy_settings_free(struct legacy_settings *settings)
{
    if (settings == NULL)
        return;
    legacy_command_free(settings->command);
    event_free(settings->ended);
    free(settings);
}
