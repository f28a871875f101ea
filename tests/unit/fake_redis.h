/*
 * A scripted Redis for unit tests: it listens on the loopback of the test's own event loop, writes
 * down the commands it gets and answers each by the first rule whose text it begins with, in pieces
 * of a chosen size. A command without a rule gets no answer. One connection at a time.
 */
#ifndef NEMOGATE_TESTS_FAKE_REDIS_H
#define NEMOGATE_TESTS_FAKE_REDIS_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAKE_RULES 24
#define FAKE_BUFFER (1u << 20)

struct fake_rule {
    const char *command; /* beginning of the command, arguments joined by blanks */
    const char *reply;   /* raw RESP */
};

struct fake_redis {
    struct event_base *base;
    int listener;
    int fd; /* -1: nobody is connected */
    uint16_t port;
    struct event *accepting;
    struct event *reading;
    struct event *writing;
    struct fake_rule rule[FAKE_RULES];
    size_t rules;
    size_t piece; /* bytes per write */
    unsigned connections;
    unsigned commands;
    char seen[8192]; /* "AUTH u p\nCLIENT ID\n" */
    char *in;
    size_t in_length;
    char *out;
    size_t out_length;
    size_t out_at;
};

#define FAKE_INFO                                                                                  \
    "$70\r\n# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:ab12cd\r\n\r\n"

static inline void fake_disconnect(struct fake_redis *fake)
{
    if (fake->fd < 0)
        return;
    event_free(fake->reading);
    event_free(fake->writing);
    close(fake->fd);
    fake->fd = -1;
    fake->in_length = fake->out_length = fake->out_at = 0;
}

/* Sends raw bytes, asked for or not. */
static inline void fake_send(struct fake_redis *fake, const char *data, size_t length)
{
    cr_assert(fake->out_length + length <= FAKE_BUFFER, "the script's answers are too long");
    memcpy(fake->out + fake->out_length, data, length);
    fake->out_length += length;
    event_add(fake->writing, NULL);
}

static inline void fake_say(struct fake_redis *fake, const char *text)
{
    fake_send(fake, text, strlen(text));
}

static inline void fake_answer(struct fake_redis *fake, const char *command)
{
    size_t used = strlen(fake->seen);
    snprintf(fake->seen + used, sizeof fake->seen - used, "%s\n", command);
    fake->commands++;
    for (size_t i = 0; i < fake->rules; i++)
        if (strncmp(command, fake->rule[i].command, strlen(fake->rule[i].command)) == 0) {
            fake_say(fake, fake->rule[i].reply);
            return;
        }
}

/* Takes one "*2\r\n$4\r\nAUTH\r\n..." from the input; false: it is not whole yet. */
static inline bool fake_take_command(struct fake_redis *fake)
{
    char text[2048] = "";
    char *at = fake->in;
    fake->in[fake->in_length] = '\0';
    char *line = strstr(at, "\r\n");
    if (line == NULL)
        return false;
    cr_assert_eq(*at, '*');
    long count = strtol(at + 1, NULL, 10);
    at = line + 2;
    for (long i = 0; i < count; i++) {
        line = strstr(at, "\r\n");
        if (line == NULL)
            return false;
        cr_assert_eq(*at, '$');
        size_t length = (size_t)strtol(at + 1, NULL, 10);
        at = line + 2;
        if (fake->in + fake->in_length < at + length + 2)
            return false;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%.*s", i > 0 ? " " : "", (int)length, at);
        at += length + 2;
    }
    fake->in_length -= (size_t)(at - fake->in);
    memmove(fake->in, at, fake->in_length);
    fake_answer(fake, text);
    return true;
}

static inline void fake_on_read(evutil_socket_t fd, short what, void *context)
{
    struct fake_redis *fake = context;
    (void)what;
    ssize_t got = read(fd, fake->in + fake->in_length, FAKE_BUFFER - fake->in_length);
    if (got <= 0) {
        fake_disconnect(fake);
        return;
    }
    fake->in_length += (size_t)got;
    while (fake->in_length > 0 && fake_take_command(fake))
        continue;
}

static inline void fake_on_write(evutil_socket_t fd, short what, void *context)
{
    struct fake_redis *fake = context;
    (void)what;
    size_t length = fake->out_length - fake->out_at;
    if (length > fake->piece)
        length = fake->piece;
    ssize_t put = send(fd, fake->out + fake->out_at, length, MSG_NOSIGNAL);
    if (put > 0)
        fake->out_at += (size_t)put;
    if (fake->out_at < fake->out_length)
        event_add(fake->writing, NULL);
    else
        fake->out_at = fake->out_length = 0;
}

static inline void fake_on_accept(evutil_socket_t fd, short what, void *context)
{
    struct fake_redis *fake = context;
    (void)what;
    fake_disconnect(fake);
    fake->fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert_geq(fake->fd, 0);
    int on = 1;
    setsockopt(fake->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fake->connections++;
    fake->reading = event_new(fake->base, fake->fd, EV_READ | EV_PERSIST, fake_on_read, fake);
    fake->writing = event_new(fake->base, fake->fd, EV_WRITE, fake_on_write, fake);
    event_add(fake->reading, NULL);
}

static inline void fake_rule(struct fake_redis *fake, const char *command, const char *reply)
{
    /* A later rule goes before the earlier ones. */
    cr_assert_lt(fake->rules, (size_t)FAKE_RULES);
    memmove(fake->rule + 1, fake->rule, fake->rules * sizeof fake->rule[0]);
    fake->rule[0] = (struct fake_rule){command, reply};
    fake->rules++;
}

static inline void fake_listen(struct fake_redis *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fake->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1;
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fake->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    cr_assert_eq(bind(fake->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(fake->listener, 8), 0);
    getsockname(fake->listener, (struct sockaddr *)&address, &size);
    fake->port = ntohs(address.sin_port);
    fake->accepting =
        event_new(fake->base, fake->listener, EV_READ | EV_PERSIST, fake_on_accept, fake);
    event_add(fake->accepting, NULL);
}

static inline void fake_unlisten(struct fake_redis *fake)
{
    event_free(fake->accepting);
    close(fake->listener);
    fake->listener = -1;
}

static inline void fake_start(struct fake_redis *fake, struct event_base *base)
{
    *fake = (struct fake_redis){.base = base, .fd = -1, .piece = 1};
    fake->in = malloc(FAKE_BUFFER + 1);
    fake->out = malloc(FAKE_BUFFER);
    fake_listen(fake);
    fake_rule(fake, "AUTH", "+OK\r\n");
    fake_rule(fake, "SELECT", "+OK\r\n");
    fake_rule(fake, "CLIENT SETNAME", "+OK\r\n");
    fake_rule(fake, "CLIENT ID", ":42\r\n");
    fake_rule(fake, "INFO", FAKE_INFO);
    fake_rule(fake, "PING", "+PONG\r\n");
}

static inline void fake_stop(struct fake_redis *fake)
{
    fake_disconnect(fake);
    if (fake->listener >= 0)
        fake_unlisten(fake);
    free(fake->in);
    free(fake->out);
}

#endif
