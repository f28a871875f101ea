/*
 * How fast Redis gives a backlog away: XREADGROUP with several requests outstanding and XACK of a
 * whole reply's ids in one command, on one connection, with no MQTT behind it. What a gateway
 * reaches against the null broker is measured against this.
 */
#include "bench/common.h"
#include "bench/redis_raw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE (1u << 20)
#define ID_SIZE 48
#define MAX_DEPTH 6
#define ENTRY_DEPTH 4 /* reply > stream > entries > entry */
#define MAX_OUTSTANDING 64

struct options {
    const char *host;
    const char *group;
    uint64_t port;
    uint64_t streams;
    uint64_t count;
    uint64_t outstanding;
};

/* Goes over a reply token by token and keeps the ids of its entries; it stops at any byte and goes
 * on from there. left[d] is how many elements are still to come at depth d. */
struct scanner {
    size_t depth;
    long left[MAX_DEPTH];
    long index[MAX_DEPTH];
    char (*ids)[ID_SIZE];
    size_t id_count;
    bool is_integer;
};

struct drain {
    struct options options;
    int fd;
    uint8_t *in;
    size_t used;
    struct scanner scanner;
    /* which stream each unanswered command reads; XACKs are marked with their own value */
    size_t awaited[MAX_OUTSTANDING * 2];
    size_t first_awaited;
    size_t awaited_count;
    size_t reading; /* XREADGROUPs among them */
    bool *empty;
    size_t next_stream;
    size_t empty_count;
    uint64_t entries;
    uint64_t acknowledged;
};

#define AWAIT_XACK SIZE_MAX

static void scanner_begin(struct scanner *scanner)
{
    scanner->depth = 0;
    scanner->left[0] = 1;
    scanner->index[0] = 0;
    scanner->id_count = 0;
    scanner->is_integer = false;
}

/* An element at the present depth is complete; so may be those around it. */
static void scanner_element(struct scanner *scanner)
{
    for (;;) {
        scanner->left[scanner->depth]--;
        scanner->index[scanner->depth]++;
        if (scanner->left[scanner->depth] > 0 || scanner->depth == 0)
            return;
        scanner->depth--;
    }
}

static void scanner_array(struct scanner *scanner, long elements)
{
    if (elements <= 0) {
        scanner_element(scanner);
        return;
    }
    if (scanner->depth + 1 == MAX_DEPTH)
        die("Redis: a reply is nested too deep");
    scanner->depth++;
    scanner->left[scanner->depth] = elements;
    scanner->index[scanner->depth] = 0;
}

static void scanner_string(struct scanner *scanner, const uint8_t *text, size_t length,
                           size_t count)
{
    if (scanner->depth == ENTRY_DEPTH && scanner->index[ENTRY_DEPTH] == 0) {
        if (length >= ID_SIZE || scanner->id_count == count)
            die("Redis: an unexpected entry");
        memcpy(scanner->ids[scanner->id_count], text, length);
        scanner->ids[scanner->id_count++][length] = '\0';
    }
    scanner_element(scanner);
}

/* Takes one token; returns its length, 0 when it is incomplete. */
static size_t scanner_token(struct scanner *scanner, const uint8_t *at, size_t length, size_t count,
                            long *value)
{
    const uint8_t *line = memchr(at, '\n', length);
    if (line == NULL)
        return 0;
    size_t head = (size_t)(line - at) + 1;
    if (at[0] == '-')
        die("Redis: %.*s", (int)head - 3, at + 1);
    *value = strtol((const char *)at + 1, NULL, 10);
    if (at[0] == '*') {
        scanner_array(scanner, *value);
        return head;
    }
    if (at[0] == '$' && *value >= 0) {
        size_t size = (size_t)*value;
        if (length < head + size + 2)
            return 0;
        scanner_string(scanner, at + head, size, count);
        return head + size + 2;
    }
    scanner->is_integer = at[0] == ':' && scanner->depth == 0;
    scanner_element(scanner);
    return head;
}

static void send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t put = send(fd, bytes, length, MSG_NOSIGNAL);
        if (put < 0 && errno != EINTR)
            die("Redis: %s", strerror(errno));
        bytes += put > 0 ? put : 0;
        length -= put > 0 ? (size_t)put : 0;
    }
}

static void drain_await(struct drain *drain, size_t what)
{
    size_t places = sizeof drain->awaited / sizeof drain->awaited[0];
    drain->awaited[(drain->first_awaited + drain->awaited_count) % places] = what;
    drain->awaited_count++;
}

static size_t format_read(struct drain *drain, size_t stream, char **command)
{
    char name[64];
    redis_stream_name(name, sizeof name, stream + 1);
    int length =
        redisFormatCommand(command, "XREADGROUP GROUP %s bench COUNT %llu STREAMS %s >",
                           drain->options.group, (unsigned long long)drain->options.count, name);
    if (length < 0)
        die("out of memory");
    drain_await(drain, stream);
    drain->reading++;
    return (size_t)length;
}

static size_t format_xack(struct drain *drain, size_t stream, char **command)
{
    char name[64];
    size_t count = drain->scanner.id_count;
    const char **words = must_alloc(count + 3, sizeof *words);
    redis_stream_name(name, sizeof name, stream + 1);
    words[0] = "XACK";
    words[1] = name;
    words[2] = drain->options.group;
    for (size_t i = 0; i < count; i++)
        words[3 + i] = drain->scanner.ids[i];
    int length = redisFormatCommandArgv(command, (int)count + 3, words, NULL);
    free(words);
    if (length < 0)
        die("out of memory");
    drain_await(drain, AWAIT_XACK);
    return (size_t)length;
}

/* Asks for more where there may be more; the streams take turns. */
static void drain_ask(struct drain *drain)
{
    while (drain->reading < drain->options.outstanding &&
           drain->empty_count < drain->options.streams) {
        while (drain->empty[drain->next_stream])
            drain->next_stream = (drain->next_stream + 1) % drain->options.streams;
        char *command = NULL;
        size_t length = format_read(drain, drain->next_stream, &command);
        send_all(drain->fd, command, length);
        redisFreeCommand(command);
        drain->next_stream = (drain->next_stream + 1) % drain->options.streams;
    }
}

/* A reply is complete: XACK and the next read leave in one write. */
static void drain_reply(struct drain *drain, long value)
{
    size_t places = sizeof drain->awaited / sizeof drain->awaited[0];
    size_t what = drain->awaited[drain->first_awaited];
    drain->first_awaited = (drain->first_awaited + 1) % places;
    drain->awaited_count--;
    if (what == AWAIT_XACK) {
        if (!drain->scanner.is_integer)
            die("Redis: an unexpected reply to XACK");
        drain->acknowledged += (uint64_t)value;
        return;
    }
    drain->reading--;
    if (drain->scanner.id_count == 0) {
        drain->empty_count += drain->empty[what] ? 0 : 1;
        drain->empty[what] = true;
        return;
    }
    drain->entries += drain->scanner.id_count;
    char *ack = NULL;
    char *read = NULL;
    size_t ack_length = format_xack(drain, what, &ack);
    size_t read_length = drain->empty[what] ? 0 : format_read(drain, what, &read);
    char *both = must_alloc(ack_length + read_length + 1, 1);
    memcpy(both, ack, ack_length);
    if (read_length > 0)
        memcpy(both + ack_length, read, read_length);
    send_all(drain->fd, both, ack_length + read_length);
    redisFreeCommand(ack);
    redisFreeCommand(read);
    free(both);
}

static void drain_read(struct drain *drain)
{
    ssize_t got = recv(drain->fd, drain->in + drain->used, IN_SIZE - drain->used, 0);
    if (got <= 0)
        die("Redis: %s", got == 0 ? "the connection was closed" : strerror(errno));
    drain->used += (size_t)got;
    size_t at = 0;
    size_t size = 0;
    long value = 0;
    while (at < drain->used &&
           (size = scanner_token(&drain->scanner, drain->in + at, drain->used - at,
                                 drain->options.count, &value)) > 0) {
        at += size;
        if (drain->scanner.left[0] == 0) {
            drain_reply(drain, value);
            scanner_begin(&drain->scanner);
        }
    }
    drain->used -= at;
    memmove(drain->in, drain->in + at, drain->used);
    if (drain->used == IN_SIZE)
        die("Redis: a value exceeds %u bytes", IN_SIZE);
}

/* Groups that begin at the streams' start. */
static void make_groups(const struct options *options)
{
    redisContext *redis = redis_open(options->host, options->port);
    for (uint64_t i = 0; i < options->streams; i++) {
        char name[64];
        redis_stream_name(name, sizeof name, i + 1);
        if (redisAppendCommand(redis, "XGROUP CREATE %s %s 0", name, options->group) != REDIS_OK)
            die("out of memory");
    }
    redis_skip(redis, options->streams);
    redisFree(redis);
}

static void drain_run(struct drain *drain)
{
    const struct options *options = &drain->options;
    drain->fd = tcp_connect(options->host, options->port);
    drain->in = must_alloc(IN_SIZE + 1, 1);
    drain->empty = must_alloc(options->streams, sizeof *drain->empty);
    drain->scanner.ids = must_alloc(options->count, ID_SIZE);
    scanner_begin(&drain->scanner);
    drain_ask(drain);
    while (drain->awaited_count > 0) {
        drain_read(drain);
        drain_ask(drain);
    }
    close(drain->fd);
    free(drain->in);
    free(drain->empty);
    free(drain->scanner.ids);
}

int main(int argc, char **argv)
{
    struct drain drain = {.options = {.host = "127.0.0.1",
                                      .group = "drain",
                                      .port = 6379,
                                      .streams = 1,
                                      .count = 100,
                                      .outstanding = 2}};
    struct options *options = &drain.options;
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &options->host, "address of Redis"},
        {"port", OPTION_NUMBER, &options->port, "port of Redis"},
        {"group", OPTION_TEXT, &options->group, "a consumer group that does not exist yet"},
        {"streams", OPTION_NUMBER, &options->streams, "nemo:{bench1}:events and so on"},
        {"count", OPTION_NUMBER, &options->count, "COUNT of XREADGROUP"},
        {"outstanding", OPTION_NUMBER, &options->outstanding, "reads without an answer yet"},
    };
    options_read(argc, argv, "reads and acknowledges a backlog without MQTT", rows,
                 sizeof rows / sizeof rows[0]);
    if (options->streams == 0 || options->count == 0 || options->outstanding == 0 ||
        options->outstanding > MAX_OUTSTANDING)
        die("streams and count must be at least 1, outstanding 1 to %d", MAX_OUTSTANDING);
    make_groups(options);

    double cpu = cpu_us();
    uint64_t start = clock_ns();
    drain_run(&drain);
    double seconds = (double)(clock_ns() - start) / 1e9;
    double entries = drain.entries > 0 ? (double)drain.entries : 1;
    printf("{\"messages\": %llu, \"acknowledged\": %llu, \"seconds\": %.6f, \"rate\": %.0f, "
           "\"cpu_us\": %.3f}\n",
           (unsigned long long)drain.entries, (unsigned long long)drain.acknowledged, seconds,
           entries / seconds, (cpu_us() - cpu) / entries);
    return drain.entries == drain.acknowledged ? 0 : 1;
}
