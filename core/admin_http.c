/*
 * The connections of the HTTP server. Each is a channel over an accepted socket; a tick looks after
 * their times. A connection takes one request at a time: what a client sends before it has its
 * answer ends the connection after that.
 */
#include "core/admin_http_private.h"

#include "transport/channel.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64u
#define OPEN_MS 5000u
/* A request is there as a whole so long after the connection was opened, or idle. */
#define REQUEST_MS 10000u
#define IDLE_MS 30000u
/* Something of what waits is taken by the client within this. */
#define WRITE_MS 10000u
#define TICK_MS 250u
#define INPUT_SIZE (HTTP_HEAD_MAX + HTTP_BODY_MAX + 16u)
#define OUTPUT_MAX (16u << 20)
/* What a stream may have waiting, and all connections together. */
#define STREAM_WAITING_MAX (1u << 20)
#define WAITING_MAX (64u << 20)

static const char common_head[] =
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'\r\n";

enum http_state {
    HTTP_RECEIVING,
    HTTP_ANSWERING, /* the owner has the request */
    HTTP_STREAMING,
    HTTP_CLOSING, /* what waits is written, then it is closed */
    HTTP_GONE,
};

struct http_connection {
    struct http_server *server;
    struct http_connection *next;
    char address[INET6_ADDRSTRLEN]; /* of the client */
    struct endpoint endpoint;       /* the same, for the channel's messages */
    struct channel *channel;
    bool opened; /* TLS: the handshake is done */
    bool asked;  /* a request has been answered on it */
    enum http_state state;
    uint64_t since_ms; /* of the state; HTTP_RECEIVING: of the first byte too */
    uint64_t written;  /* channel_written, */
    uint64_t moved_ms; /* and when it last grew, or nothing waited */
    bool begun;        /* the first byte of a request is there */
    bool continued;    /* 100 Continue has been sent */
    bool head_only;    /* HEAD */
    bool close;        /* after the answer */
    void *owner;
};

struct http_server {
    struct http_setting setting;
    struct evconnlistener *listener;
    struct event *tick;
    struct http_connection *first;
    size_t count;
    bool retired; /* takes no further connection */
    struct http_reading reading;
};

static void set_state(struct http_connection *connection, enum http_state state)
{
    static const unsigned may_follow[] = {
        [HTTP_RECEIVING] = 1u << HTTP_ANSWERING | 1u << HTTP_CLOSING | 1u << HTTP_GONE,
        [HTTP_ANSWERING] =
            1u << HTTP_RECEIVING | 1u << HTTP_STREAMING | 1u << HTTP_CLOSING | 1u << HTTP_GONE,
        [HTTP_STREAMING] = 1u << HTTP_CLOSING | 1u << HTTP_GONE,
        [HTTP_CLOSING] = 1u << HTTP_GONE,
        [HTTP_GONE] = 0,
    };
    if (!(may_follow[connection->state] & 1u << state))
        return;
    connection->state = state;
    connection->since_ms = net_now_ms();
    connection->begun = connection->continued = false;
}

/* ---- answers ------------------------------------------------------------------------------- */

static const char *phrase(unsigned status)
{
    static const struct {
        unsigned status;
        const char *phrase;
    } phrases[] = {{200, "OK"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {413, "Content Too Large"},
                   {415, "Unsupported Media Type"},
                   {421, "Misdirected Request"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "";
}

static size_t waiting(const struct http_server *server)
{
    size_t sum = 0;
    for (const struct http_connection *c = server->first; c != NULL; c = c->next)
        sum += channel_pending(c->channel);
    return sum;
}

/* length SIZE_MAX: not known, the end of the connection is that of the answer. more: further
 * headers. */
static void write_head(struct http_connection *connection, unsigned status, const char *type,
                       size_t length, const char *more)
{
    char head[1024], size[48] = "";
    if (length != SIZE_MAX)
        snprintf(size, sizeof size, "Content-Length: %zu\r\n", length);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %u %s\r\nContent-Type: %s\r\n%s%s%s%s%s%s\r\n",
                     status, phrase(status), type, size, common_head, more,
                     status == 401 ? "WWW-Authenticate: Bearer\r\n" : "",
                     status == 405 ? "Allow: GET, HEAD, POST\r\n" : "",
                     connection->close ? "Connection: close\r\n" : "");
    channel_write(connection->channel, (struct bytes){(const uint8_t *)head, (size_t)n});
}

static void answer(struct http_connection *connection, unsigned status, const char *type,
                   struct bytes body, const char *more)
{
    if (connection->state == HTTP_GONE)
        return;
    if (status >= 400)
        connection->close = true;
    connection->asked = true;
    write_head(connection, status, type, body.length, more);
    if (!connection->head_only && body.length > 0)
        channel_write(connection->channel, body);
    set_state(connection, connection->close ? HTTP_CLOSING : HTTP_RECEIVING);
    connection->owner = NULL;
    connection->moved_ms = net_now_ms();
    channel_flush(connection->channel);
}

void http_answer(struct http_connection *connection, unsigned status, const char *type,
                 struct bytes body)
{
    answer(connection, status, type, body, "");
}

void http_answer_encoded(struct http_connection *connection, const char *type, struct bytes body,
                         bool gzip)
{
    answer(connection, 200, type, body,
           gzip ? "Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\n"
                : "Vary: Accept-Encoding\r\n");
}

void http_answer_error(struct http_connection *connection, unsigned status, const char *code,
                       const char *text)
{
    char body[512];
    int n = snprintf(body, sizeof body, "{\"error\": {\"code\": \"%s\", \"text\": \"%s\"}}\n", code,
                     text);
    http_answer(connection, status, "application/json",
                (struct bytes){(const uint8_t *)body, (size_t)n});
}

void http_begin_stream(struct http_connection *connection, const char *type)
{
    connection->close = true;
    write_head(connection, 200, type, SIZE_MAX, "");
    set_state(connection, connection->head_only ? HTTP_CLOSING : HTTP_STREAMING);
    connection->moved_ms = net_now_ms();
    channel_flush(connection->channel);
}

bool http_stream_write(struct http_connection *connection, struct bytes data)
{
    if (connection->state != HTTP_STREAMING ||
        channel_pending(connection->channel) + data.length > STREAM_WAITING_MAX)
        return false;
    channel_write(connection->channel, data);
    channel_flush(connection->channel);
    return true;
}

void http_end_stream(struct http_connection *connection)
{
    connection->owner = NULL;
    if (connection->state == HTTP_STREAMING)
        set_state(connection, HTTP_CLOSING);
}

void http_set_owner(struct http_connection *connection, void *owner)
{
    connection->owner = owner;
}

void *http_owner(const struct http_connection *connection)
{
    return connection->owner;
}

/* ---- requests ------------------------------------------------------------------------------ */

static void refuse(struct http_connection *connection, enum http_outcome outcome)
{
    static const struct {
        unsigned status;
        const char *code, *text;
    } words[] = {
        [HTTP_BAD_REQUEST] = {400, "bad-request", "this is no HTTP request"},
        [HTTP_HEAD_TOO_LARGE] = {431, "head-too-large", "the request's head is over 8 KiB"},
        [HTTP_BODY_TOO_LARGE] = {413, "body-too-large", "the request's body is over 32 KiB"},
        [HTTP_NOT_IMPLEMENTED] = {501, "not-implemented", "no transfer coding is understood"},
        [HTTP_WRONG_VERSION] = {505, "wrong-version", "HTTP/1.1 is expected"},
    };
    set_state(connection, HTTP_ANSWERING);
    http_answer_error(connection, words[outcome].status, words[outcome].code, words[outcome].text);
}

static void hand_over(struct http_connection *connection, const struct http_reading *reading)
{
    struct http_server *server = connection->server;
    connection->head_only = strcmp(reading->request.method, "HEAD") == 0;
    connection->close = reading->close || server->retired;
    set_state(connection, HTTP_ANSWERING);
    if (waiting(server) > WAITING_MAX)
        http_answer_error(connection, 503, "busy", "too much waits for slow readers");
    else
        server->setting.on_request(server->setting.context, connection, &reading->request);
}

static size_t on_data(void *context, struct bytes input)
{
    struct http_connection *connection = context;
    struct http_server *server = connection->server;
    size_t used = 0;
    if (connection->state != HTTP_RECEIVING) {
        connection->close = true;
        return input.length;
    }
    if (!connection->begun)
        connection->since_ms = net_now_ms();
    connection->begun = true;
    enum http_outcome outcome = http_read_request(input, &server->reading, &used);
    if (outcome == HTTP_INCOMPLETE)
        return 0;
    if (outcome == HTTP_HEAD_ONLY) {
        if (server->reading.expects_continue && !connection->continued) {
            channel_write(connection->channel, bytes_of("HTTP/1.1 100 Continue\r\n\r\n"));
            channel_flush(connection->channel);
        }
        connection->continued = true;
        return 0;
    }
    if (outcome != HTTP_COMPLETE) {
        refuse(connection, outcome);
        return input.length;
    }
    server->reading.close = server->reading.close || used < input.length;
    hand_over(connection, &server->reading);
    return input.length;
}

/* ---- connections --------------------------------------------------------------------------- */

static void part(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    bool owned = connection->state == HTTP_ANSWERING || connection->state == HTTP_STREAMING;
    if (connection->state == HTTP_GONE)
        return;
    set_state(connection, HTTP_GONE);
    channel_close(connection->channel);
    if (owned)
        server->setting.on_gone(server->setting.context, connection);
}

static void on_open(void *context)
{
    struct http_connection *connection = context;
    connection->opened = true;
}

static void on_closed(void *context, const char *reason)
{
    struct http_connection *connection = context;
    const struct http_setting *setting = &connection->server->setting;
    if (setting->tls != NULL && !connection->opened)
        setting->on_refused(setting->context, reason);
    part(connection);
}

static const struct channel_events channel_events = {on_open, on_data, on_closed};

static void free_connection(struct http_connection *connection)
{
    channel_free(connection->channel);
    free(connection);
}

/* Frees those that are gone; from no callback of theirs. */
static void sweep(struct http_server *server)
{
    for (struct http_connection **link = &server->first; *link != NULL;) {
        struct http_connection *connection = *link;
        if (connection->state != HTTP_GONE) {
            link = &connection->next;
            continue;
        }
        *link = connection->next;
        server->count--;
        free_connection(connection);
    }
}

static void note_address(struct http_connection *connection, const struct sockaddr *address,
                         int length)
{
    char port[8] = "0";
    if (getnameinfo(address, (socklen_t)length, connection->address, sizeof connection->address,
                    port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(connection->address, sizeof connection->address, "client");
    connection->endpoint = (struct endpoint){.host = connection->address,
                                             .port = (uint16_t)atoi(port),
                                             .tls = connection->server->setting.tls};
}

/* NULL: memory is short. */
static struct http_connection *new_connection(struct http_server *server,
                                              const struct sockaddr *address, int length)
{
    struct http_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return NULL;
    connection->server = server;
    note_address(connection, address, length);
    connection->channel =
        channel_new(server->setting.net, &connection->endpoint, &channel_events, connection,
                    (struct channel_sizes){INPUT_SIZE, 4096, OUTPUT_MAX});
    if (connection->channel != NULL)
        return connection;
    free(connection);
    return NULL;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int length, void *context)
{
    (void)listener;
    struct http_server *server = context;
    struct http_connection *connection = NULL;
    if (server->count == CONNECTIONS_MAX)
        sweep(server);
    if (server->count < CONNECTIONS_MAX)
        connection = new_connection(server, address, length);
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->since_ms = connection->moved_ms = net_now_ms();
    connection->next = server->first;
    server->first = connection;
    server->count++;
    channel_accept(connection->channel, fd, OPEN_MS);
}

static bool is_late(struct http_connection *connection, uint64_t now)
{
    if (channel_pending(connection->channel) == 0 ||
        channel_written(connection->channel) != connection->written) {
        connection->written = channel_written(connection->channel);
        connection->moved_ms = now;
    }
    if (now - connection->moved_ms > WRITE_MS)
        return true;
    if (connection->state == HTTP_CLOSING)
        return channel_pending(connection->channel) == 0;
    return connection->state == HTTP_RECEIVING &&
           now - connection->since_ms > (connection->begun ? REQUEST_MS : IDLE_MS);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct http_server *server = context;
    uint64_t now = net_now_ms();
    for (struct http_connection *c = server->first; c != NULL; c = c->next)
        if (c->state != HTTP_GONE && is_late(c, now))
            part(c);
    sweep(server);
}

/* ---- the server ---------------------------------------------------------------------------- */

static socklen_t make_address(const struct http_setting *setting, struct sockaddr_storage *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(setting->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(setting->port)};
    if (inet_pton(AF_INET, setting->host, &v4.sin_addr) == 1) {
        memcpy(address, &v4, sizeof v4);
        return sizeof v4;
    }
    (void)inet_pton(AF_INET6, setting->host, &v6.sin6_addr);
    memcpy(address, &v6, sizeof v6);
    return sizeof v6;
}

static bool listen_on(struct http_server *server, char *error)
{
    const unsigned options = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    const struct http_setting *setting = &server->setting;
    struct sockaddr_storage address;
    socklen_t length = make_address(setting, &address);
    if (setting->socket >= 0)
        server->listener =
            evconnlistener_new(setting->net->base, on_accept, server, options, 0, setting->socket);
    else
        server->listener = evconnlistener_new_bind(setting->net->base, on_accept, server, options,
                                                   64, (struct sockaddr *)&address, (int)length);
    if (server->listener == NULL)
        snprintf(error, IO_ERROR_TEXT, "%s", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    return server->listener != NULL;
}

struct http_server *http_server_new(const struct http_setting *setting, char *error)
{
    struct http_server *server = calloc(1, sizeof *server);
    struct timeval period = {.tv_usec = TICK_MS * 1000};
    snprintf(error, IO_ERROR_TEXT, "memory is short");
    if (server == NULL)
        return NULL;
    server->setting = *setting;
    server->tick = event_new(setting->net->base, -1, EV_PERSIST, on_tick, server);
    if (server->tick == NULL || event_add(server->tick, &period) != 0 ||
        !listen_on(server, error)) {
        http_server_free(server);
        return NULL;
    }
    return server;
}

int http_server_retire(struct http_server *server)
{
    server->retired = true;
    evconnlistener_disable(server->listener);
    for (struct http_connection *c = server->first; c != NULL; c = c->next)
        if (c->state == HTTP_STREAMING)
            part(c);
    return evconnlistener_get_fd(server->listener);
}

bool http_server_is_busy(const struct http_server *server)
{
    for (const struct http_connection *c = server->first; c != NULL; c = c->next) {
        bool idle =
            c->state == HTTP_CLOSING || (c->state == HTTP_RECEIVING && c->asked && !c->begun);
        if (c->state != HTTP_GONE && (!idle || channel_pending(c->channel) > 0))
            return true;
    }
    return false;
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    if (server->listener != NULL)
        evconnlistener_free(server->listener);
    if (server->tick != NULL)
        event_free(server->tick);
    while (server->first != NULL) {
        struct http_connection *connection = server->first;
        server->first = connection->next;
        free_connection(connection);
    }
    free(server);
}
