/*
 * Requests: first whether they may be made at all (Host, token, method), then by path. What tells
 * of the present waits for the reports of the shards.
 */
#include "core/admin_routes.h"

#include <stdlib.h>
#include <strings.h>

/* Then it is answered with what is known. */
#define REPORTS_MS 500u

enum route { ROUTE_METRICS, ROUTE_READY, ROUTE_STATUS, ROUTE_STATUS_TEXT };

struct admin_request {
    struct admin_request *next;
    struct http_connection *connection;
    enum route route;
    uint64_t number; /* of the request for reports */
    uint64_t until_ms;
};

/* ---- who may ask --------------------------------------------------------------------------- */

/* Takes as long whatever differs. */
static bool same_secret(const char *given, const char *expected)
{
    size_t given_length = strlen(given), length = strlen(expected);
    unsigned difference = given_length != length;
    for (size_t i = 0; i < length; i++)
        difference |=
            (unsigned char)(given_length == length ? given[i] : 0) ^ (unsigned char)expected[i];
    return difference == 0;
}

static bool may_ask(const struct admin *admin, const struct http_request *request)
{
    const char *token = admin->config->admin.token;
    if (token == NULL)
        return true;
    return strncasecmp(request->authorization, "Bearer ", 7) == 0 &&
           same_secret(request->authorization + 7, token);
}

/* A page of another site may make a browser on this host ask under a name of its own, which its
 * name server has moved to 127.0.0.1 meanwhile: such a request has that name as its Host. Without a
 * Host it comes from no browser. */
static bool is_own_host(const struct admin *admin, const char *host)
{
    const struct config_admin *config = &admin->config->admin;
    const char *const names[] = {"localhost", "127.0.0.1", "[::1]", config->host};
    if (!config->loopback || host[0] == '\0')
        return true;
    const char *colon = strrchr(host, ':');
    size_t length =
        colon != NULL && strchr(colon, ']') == NULL ? (size_t)(colon - host) : strlen(host);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && strncasecmp(host, names[i], length) == 0)
            return true;
    return false;
}

/* ---- answers ------------------------------------------------------------------------------- */

/* What write puts into the file. */
static void answer_written(struct admin *admin, struct http_connection *connection,
                           const char *type, void (*write)(struct admin *admin, FILE *out))
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out != NULL)
        write(admin, out);
    if (out == NULL || fclose(out) != 0)
        http_answer_error(connection, 503, "memory", "memory is short");
    else
        http_answer(connection, 200, type, (struct bytes){(const uint8_t *)text, length});
    free(text);
}

static void write_status(struct admin *admin, FILE *out)
{
    struct json json = {.out = out};
    status_write(admin, &json, true);
    fputc('\n', out);
}

static void answer_live(struct admin *admin, struct http_connection *connection)
{
    char text[64];
    int shard = judge_dead_shard(admin);
    snprintf(text, sizeof text, "shard-dead: shard %d does not turn\n", shard);
    http_answer(connection, shard < 0 ? 200 : 503, "text/plain; charset=utf-8",
                bytes_of(shard < 0 ? "ok\n" : text));
}

/* Without a token: a line for each reason, of which only the code and the name of its subject. */
static void answer_ready(struct admin *admin, struct http_connection *connection)
{
    char text[8192];
    size_t length = 0;
    bool ready = judge_is_ready(admin);
    for (size_t i = 0; i < admin->reason_count && length < sizeof text / 2; i++) {
        const struct admin_reason *reason = &admin->reasons[i];
        if (!reason->unready)
            continue;
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s%s%s%s\n",
                                   reason->code, reason->broker != NULL ? " " : "",
                                   reason->broker != NULL ? reason->broker : "",
                                   admin->config->admin.token == NULL ? ": " : "",
                                   admin->config->admin.token == NULL ? reason->text : "");
    }
    http_answer(connection, ready ? 200 : 503, "text/plain; charset=utf-8",
                ready ? bytes_of("ok\n") : (struct bytes){(const uint8_t *)text, length});
}

static void answer_route(struct admin *admin, struct http_connection *connection, enum route route)
{
    switch (route) {
    case ROUTE_METRICS:
        answer_written(admin, connection, "text/plain; version=0.0.4; charset=utf-8",
                       admin_metrics_write);
        break;
    case ROUTE_READY:
        answer_ready(admin, connection);
        break;
    case ROUTE_STATUS:
        answer_written(admin, connection, "application/json", write_status);
        break;
    case ROUTE_STATUS_TEXT:
        answer_written(admin, connection, "text/plain; charset=utf-8", status_write_text);
        break;
    }
}

/* ---- waiting for reports ------------------------------------------------------------------- */

static void wait_for_reports(struct admin *admin, struct http_connection *connection,
                             enum route route)
{
    struct admin_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        http_answer_error(connection, 503, "memory", "memory is short");
        return;
    }
    request->connection = connection;
    request->route = route;
    request->number = admin_request_reports(admin);
    request->until_ms = net_now_ms() + REPORTS_MS;
    request->next = admin->requests;
    admin->requests = request;
    routes_tick(admin, net_now_ms());
}

void routes_tick(struct admin *admin, uint64_t now_ms)
{
    for (struct admin_request **link = &admin->requests; *link != NULL;) {
        struct admin_request *request = *link;
        bool complete = admin_has_reports(admin, request->number);
        if (!complete && now_ms < request->until_ms && !admin->hands_over) {
            link = &request->next;
            continue;
        }
        *link = request->next;
        admin_refresh(admin);
        answer_route(admin, request->connection, request->route);
        free(request);
    }
}

void routes_go_on(struct admin *admin)
{
    routes_tick(admin, net_now_ms());
}

void routes_on_gone(void *context, struct http_connection *connection)
{
    struct admin *admin = context;
    feed_gone(admin, connection);
    state_gone(admin, connection);
    letters_gone(admin, connection);
    for (struct admin_request **link = &admin->requests; *link != NULL;) {
        struct admin_request *request = *link;
        if (request->connection != connection) {
            link = &request->next;
            continue;
        }
        *link = request->next;
        free(request);
    }
}

void routes_close(struct admin *admin)
{
    while (admin->requests != NULL) {
        struct admin_request *request = admin->requests;
        admin->requests = request->next;
        free(request);
    }
}

/* ---- paths --------------------------------------------------------------------------------- */

static bool is_reading(const struct http_request *request)
{
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

/* What needs no token: the files of the page, which ask for it, and what an orchestrator probes. */
static bool answer_open(struct admin *admin, struct http_connection *connection,
                        const struct http_request *request)
{
    if (!is_reading(request))
        return false;
    if (strcmp(request->path, "/livez") == 0)
        answer_live(admin, connection);
    else if (strcmp(request->path, "/readyz") == 0)
        wait_for_reports(admin, connection, ROUTE_READY);
    else
        return page_answer(connection, request);
    return true;
}

static void answer_read(struct admin *admin, struct http_connection *connection,
                        const struct http_request *request)
{
    if (strcmp(request->path, "/metrics") == 0)
        wait_for_reports(admin, connection, ROUTE_METRICS);
    else if (strcmp(request->path, "/api/v1/status") == 0)
        wait_for_reports(admin, connection,
                         strcmp(request->query, "format=text") == 0 ? ROUTE_STATUS_TEXT
                                                                    : ROUTE_STATUS);
    else if (strcmp(request->path, "/api/v1/feed") == 0)
        feed_open(admin, connection, strcmp(request->method, "HEAD") == 0);
    else if (state_answer(admin, connection, request->path))
        return;
    else
        http_answer_error(connection, 404, "not-found", "there is nothing at this path");
}

static void answer_guarded(struct admin *admin, struct http_connection *connection,
                           const struct http_request *request)
{
    if (!may_ask(admin, request))
        http_answer_error(connection, 401, "token", "a token is needed: Authorization: Bearer");
    else if (letters_answer(admin, connection, request))
        return;
    else if (is_reading(request))
        answer_read(admin, connection, request);
    else
        http_answer_error(connection, 405, "method", "this method is not known here");
}

void routes_on_request(void *context, struct http_connection *connection,
                       const struct http_request *request)
{
    struct admin *admin = context;
    if (!is_own_host(admin, request->host))
        http_answer_error(connection, 421, "wrong-host", "the Host header is not this server's");
    else if (!answer_open(admin, connection, request))
        answer_guarded(admin, connection, request);
}
