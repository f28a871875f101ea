/*
 * The handshake of a Redis link as pure functions: which commands it takes, and which of their
 * replies end the link with which words. Sending them is redis_link.c's business.
 */
#include "transport/redis_handshake.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_needed(const struct redis_link_config *config, enum handshake_step step)
{
    switch (step) {
    case HANDSHAKE_AUTH:
        return config->password != NULL;
    case HANDSHAKE_SELECT:
        return config->database != 0;
    case HANDSHAKE_SETNAME:
        return config->client_name != NULL && config->client_name[0] != '\0';
    case HANDSHAKE_ID:
    case HANDSHAKE_INFO:
    case HANDSHAKE_PING:
    case HANDSHAKE_DONE:
        return true;
    }
    return true;
}

enum handshake_step redis_handshake_next(const struct redis_link_config *config,
                                         enum handshake_step from)
{
    while (!is_needed(config, from))
        from = (enum handshake_step)(from + 1);
    return from;
}

static void set_arguments(struct handshake_command *command, const char *first, const char *second,
                          const char *third)
{
    const char *texts[HANDSHAKE_ARGUMENTS] = {first, second, third};
    command->count = 0;
    for (size_t i = 0; i < HANDSHAKE_ARGUMENTS && texts[i] != NULL; i++)
        command->argument[command->count++] = bytes_of(texts[i]);
}

void redis_handshake_command(const struct redis_link_config *config, enum handshake_step step,
                             struct handshake_command *command)
{
    switch (step) {
    case HANDSHAKE_AUTH:
        if (config->username != NULL)
            set_arguments(command, "AUTH", config->username, config->password);
        else
            set_arguments(command, "AUTH", config->password, NULL);
        return;
    case HANDSHAKE_SELECT:
        (void)snprintf(command->number, sizeof command->number, "%u", config->database);
        set_arguments(command, "SELECT", command->number, NULL);
        return;
    case HANDSHAKE_SETNAME:
        set_arguments(command, "CLIENT", "SETNAME", config->client_name);
        return;
    case HANDSHAKE_ID:
        set_arguments(command, "CLIENT", "ID", NULL);
        return;
    case HANDSHAKE_INFO:
        set_arguments(command, "INFO", "server", NULL);
        return;
    case HANDSHAKE_PING:
        /* All commands above are answered while Redis loads its dataset; PING is refused then. */
        set_arguments(command, "PING", NULL, NULL);
        return;
    case HANDSHAKE_DONE:
        break;
    }
    command->count = 0;
}

/* The value of "name:value" in INFO's lines; empty where there is none. */
static struct bytes info_value(struct bytes info, const char *name)
{
    size_t name_length = strlen(name);
    const uint8_t *end = info.data + info.length;
    for (const uint8_t *line = info.data; line != NULL && line < end;) {
        const uint8_t *stop = memchr(line, '\r', (size_t)(end - line));
        if (stop == NULL)
            stop = end;
        size_t length = (size_t)(stop - line);
        if (length > name_length && line[name_length] == ':' &&
            memcmp(line, name, name_length) == 0)
            return (struct bytes){line + name_length + 1, length - name_length - 1};
        line = end - stop > 2 ? stop + 2 : end;
    }
    return (struct bytes){NULL, 0};
}

static void read_info(struct bytes info, struct redis_server *server)
{
    struct bytes run_id = info_value(info, "run_id");
    if (run_id.length > 0 && run_id.length < sizeof server->run_id) {
        memcpy(server->run_id, run_id.data, run_id.length);
        server->run_id[run_id.length] = '\0';
    }
    server->cluster = bytes_equal(info_value(info, "redis_mode"), bytes_of("cluster"));
    struct bytes version = info_value(info, "redis_version");
    char text[16];
    (void)snprintf(text, sizeof text, "%.*s", version.length > 15 ? 15 : (int)version.length,
                   version.length > 0 ? (const char *)version.data : "");
    if (sscanf(text, "%3u.%3u", &server->major, &server->minor) != 2)
        server->major = server->minor = 0;
}

static bool contains(struct bytes text, const char *part)
{
    return part != NULL && memmem(text.data, text.length, part, strlen(part)) != NULL;
}

/* A server or proxy that does not know AUTH quotes the arguments in its error ("unknown command
 * 'AUTH', with args beginning with: ..."): of such a text only the code is shown. */
static struct bytes without_password(const struct redis_link_config *config, struct bytes text)
{
    if (text.length > 0 && (contains(text, "args beginning") || contains(text, config->password))) {
        const uint8_t *blank = memchr(text.data, ' ', text.length);
        text.length = blank == NULL ? 0 : (size_t)(blank - text.data);
        if (contains(text, config->password))
            text.length = 0;
    }
    return text;
}

static const char *step_name(enum handshake_step step)
{
    switch (step) {
    case HANDSHAKE_AUTH:
        return "AUTH";
    case HANDSHAKE_SELECT:
        return "SELECT";
    case HANDSHAKE_SETNAME:
        return "CLIENT SETNAME";
    case HANDSHAKE_ID:
        return "CLIENT ID";
    case HANDSHAKE_INFO:
        return "INFO";
    case HANDSHAKE_PING:
    case HANDSHAKE_DONE:
        break;
    }
    return "PING";
}

/* Only what the link cannot do without may end it: its name and what INFO tells are extras, and an
 * error of PING (MISCONF, MASTERDOWN) is one that the commands to come are told themselves. */
static bool is_tolerated(enum handshake_step step, const struct redis_value *error)
{
    if (redis_value_is_error(error, "NOAUTH"))
        return false;
    return step == HANDSHAKE_PING || ((step == HANDSHAKE_SETNAME || step == HANDSHAKE_INFO) &&
                                      redis_value_is_error(error, "NOPERM"));
}

static void explain(const struct redis_link_config *config, enum handshake_step step,
                    const struct redis_value *refusal, char *error)
{
    struct bytes text = without_password(config, refusal->text);
    int length = text.length > 200 ? 200 : (int)text.length;
    const char *words = length > 0 ? (const char *)text.data : "";
    if (redis_value_is_error(refusal, "NOAUTH"))
        (void)snprintf(error, HANDSHAKE_ERROR_TEXT, "Redis asks for a password, none is set: %.*s",
                       length, words);
    else if (step == HANDSHAKE_AUTH && config->username != NULL)
        (void)snprintf(error, HANDSHAKE_ERROR_TEXT, "Redis refused AUTH for user '%.64s': %.*s",
                       config->username, length, words);
    else if (step == HANDSHAKE_SELECT)
        (void)snprintf(error, HANDSHAKE_ERROR_TEXT, "Redis refused SELECT %u: %.*s",
                       config->database, length, words);
    else
        (void)snprintf(error, HANDSHAKE_ERROR_TEXT, "Redis refused %s: %.*s", step_name(step),
                       length, words);
}

bool redis_handshake_reply(const struct redis_link_config *config, enum handshake_step step,
                           const struct redis_value *reply, struct redis_server *server,
                           char *error)
{
    if (reply->type == REDIS_ERROR) {
        if (redis_value_is_error(reply, "LOADING")) {
            (void)snprintf(error, HANDSHAKE_ERROR_TEXT, "Redis is loading its dataset");
            return false;
        }
        if (is_tolerated(step, reply))
            return true;
        explain(config, step, reply, error);
        return false;
    }
    if (step == HANDSHAKE_ID) {
        if (reply->type != REDIS_INTEGER) {
            (void)snprintf(error, HANDSHAKE_ERROR_TEXT,
                           "Redis answered CLIENT ID without a number");
            return false;
        }
        server->client_id = reply->integer;
    } else if (step == HANDSHAKE_INFO && reply->type == REDIS_STRING) {
        read_info(reply->text, server);
    }
    return true;
}
