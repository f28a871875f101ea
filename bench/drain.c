/*
 * How fast Redis gives a backlog away: XREADGROUP with several requests outstanding and XACK of a
 * whole reply's ids in one command, with no MQTT behind it. What a gateway reaches against the null
 * broker is measured against this. The streams are shared out among the connections.
 */
#include "bench/common.h"
#include "bench/entry.h"
#include "bench/redis_raw.h"
#include "bench/sample.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE (1u << 20)
#define ID_SIZE 48
#define MAX_DEPTH 6
#define ENTRY_DEPTH 4 /* reply > stream > entries > entry */
#define FIELDS_DEPTH 5
#define MAX_OUTSTANDING 64
#define MAX_CONNECTIONS 64
#define SILENCE_MS 10000

struct options {
    const char *host;
    const char *group;
    const char *stream_names;
    const char *entry;
    uint64_t port;
    uint64_t streams;
    uint64_t first_stream;
    uint64_t count;
    uint64_t outstanding;
    uint64_t connections;
    bool view;
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
    bool view;       /* looks into the fields */
    bool is_payload; /* the value that comes next */
    uint64_t field_bytes;
    uint64_t stamps;
};

/* One connection with its streams: those of index % connections. */
struct drain {
    const struct options *options;
    size_t index;
    size_t streams;
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

/* Names and values take turns. */
static void scanner_field(struct scanner *scanner, const uint8_t *text, size_t length)
{
    struct stamp stamp;
    scanner->field_bytes += length;
    if (scanner->index[FIELDS_DEPTH] % 2 == 0)
        scanner->is_payload = length == strlen("payload") && memcmp(text, "payload", length) == 0;
    else if (scanner->is_payload && sample_read(text, length, &stamp))
        scanner->stamps++;
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
    if (scanner->view && scanner->depth == FIELDS_DEPTH)
        scanner_field(scanner, text, length);
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

/* The name of a stream of this connection. */
static void name_stream(const struct drain *drain, size_t stream, char *into, size_t size)
{
    const struct options *options = drain->options;
    stream_name(into, size, options->stream_names,
                options->first_stream + drain->index + stream * options->connections);
}

static size_t format_read(struct drain *drain, size_t stream, char **command)
{
    char name[256];
    name_stream(drain, stream, name, sizeof name);
    int length =
        redisFormatCommand(command, "XREADGROUP GROUP %s bench COUNT %llu STREAMS %s >",
                           drain->options->group, (unsigned long long)drain->options->count, name);
    if (length < 0)
        die("out of memory");
    drain_await(drain, stream);
    drain->reading++;
    return (size_t)length;
}

static size_t format_xack(struct drain *drain, size_t stream, char **command)
{
    char name[256];
    size_t count = drain->scanner.id_count;
    const char **words = must_alloc(count + 3, sizeof *words);
    name_stream(drain, stream, name, sizeof name);
    words[0] = "XACK";
    words[1] = name;
    words[2] = drain->options->group;
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
    while (drain->reading < drain->options->outstanding && drain->empty_count < drain->streams) {
        while (drain->empty[drain->next_stream])
            drain->next_stream = (drain->next_stream + 1) % drain->streams;
        char *command = NULL;
        size_t length = format_read(drain, drain->next_stream, &command);
        send_all(drain->fd, command, length);
        redisFreeCommand(command);
        drain->next_stream = (drain->next_stream + 1) % drain->streams;
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
                                 drain->options->count, &value)) > 0) {
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
        char name[256];
        stream_name(name, sizeof name, options->stream_names, options->first_stream + i);
        if (redisAppendCommand(redis, "XGROUP CREATE %s %s 0", name, options->group) != REDIS_OK)
            die("out of memory");
        if (i % 1000 == 999 || i + 1 == options->streams)
            redis_skip(redis, i % 1000 + 1);
    }
    redisFree(redis);
}

static void drain_open(struct drain *drain, const struct options *options, size_t index)
{
    drain->options = options;
    drain->index = index;
    drain->streams = (options->streams - index + options->connections - 1) / options->connections;
    drain->fd = tcp_connect(options->host, options->port);
    drain->in = must_alloc(IN_SIZE + 1, 1);
    drain->empty = must_alloc(drain->streams, sizeof *drain->empty);
    drain->scanner.ids = must_alloc(options->count, ID_SIZE);
    drain->scanner.view = options->view;
    scanner_begin(&drain->scanner);
}

static void drain_close(struct drain *drain)
{
    close(drain->fd);
    free(drain->in);
    free(drain->empty);
    free(drain->scanner.ids);
}

static void drain_all(struct drain *drains, size_t count)
{
    struct pollfd sockets[MAX_CONNECTIONS];
    size_t busy = count;
    for (size_t i = 0; i < count; i++) {
        sockets[i] = (struct pollfd){.fd = drains[i].fd, .events = POLLIN};
        drain_ask(&drains[i]);
    }
    while (busy > 0) {
        if (count > 1 && poll(sockets, count, SILENCE_MS) <= 0)
            die("Redis: no answer for %d ms", SILENCE_MS);
        for (size_t i = 0; i < count; i++) {
            if (count > 1 && sockets[i].revents == 0)
                continue;
            drain_read(&drains[i]);
            drain_ask(&drains[i]);
            if (drains[i].awaited_count == 0) {
                sockets[i].fd = -1;
                busy--;
            }
        }
    }
}

static void read_options(struct options *options, int argc, char **argv)
{
    static const char *const entries[] = {"ids", "view", NULL};
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &options->host, "address of Redis"},
        {"port", OPTION_NUMBER, &options->port, "port of Redis"},
        {"group", OPTION_TEXT, &options->group, "a consumer group that does not exist yet"},
        {"streams", OPTION_NUMBER, &options->streams, "how many"},
        {"first-stream", OPTION_NUMBER, &options->first_stream, "number of the first"},
        {"stream-names", OPTION_TEXT, &options->stream_names, "their names, % is the number"},
        {"count", OPTION_NUMBER, &options->count, "COUNT of XREADGROUP"},
        {"outstanding", OPTION_NUMBER, &options->outstanding,
         "reads without an answer yet, per connection"},
        {"connections", OPTION_NUMBER, &options->connections, "connections, streams shared out"},
        {"entry", OPTION_TEXT, &options->entry,
         "ids: takes the ids only; view: also the fields, and the payload's stamp"},
    };
    options_read(argc, argv, "reads and acknowledges a backlog without MQTT; JSON on stdout", rows,
                 sizeof rows / sizeof rows[0]);
    if (options->streams == 0 || options->first_stream == 0 || options->count == 0 ||
        options->outstanding == 0 || options->outstanding > MAX_OUTSTANDING)
        die_of_option("--streams, --first-stream and --count must be at least 1, --outstanding 1 "
                      "to %d",
                      MAX_OUTSTANDING);
    if (options->connections == 0 || options->connections > MAX_CONNECTIONS ||
        options->connections > options->streams)
        die_of_option("--connections must be 1 to %d, and at most as many as streams",
                      MAX_CONNECTIONS);
    stream_names_check(options->stream_names);
    options->view = option_choice("entry", options->entry, entries) == 1;
}

int main(int argc, char **argv)
{
    struct options options = {.host = "127.0.0.1",
                              .group = "drain",
                              .stream_names = STREAM_NAMES,
                              .entry = "ids",
                              .port = 6379,
                              .streams = 1,
                              .first_stream = 1,
                              .count = 100,
                              .outstanding = 2,
                              .connections = 1};
    read_options(&options, argc, argv);
    make_groups(&options);
    struct drain *drains = must_alloc(options.connections, sizeof *drains);
    for (size_t i = 0; i < options.connections; i++)
        drain_open(&drains[i], &options, i);

    double cpu = cpu_us();
    uint64_t start = clock_ns();
    drain_all(drains, options.connections);
    double seconds = (double)(clock_ns() - start) / 1e9;
    cpu = cpu_us() - cpu;
    struct drain sum = {0};
    for (size_t i = 0; i < options.connections; i++) {
        sum.entries += drains[i].entries;
        sum.acknowledged += drains[i].acknowledged;
        sum.scanner.stamps += drains[i].scanner.stamps;
        sum.scanner.field_bytes += drains[i].scanner.field_bytes;
        drain_close(&drains[i]);
    }
    free(drains);
    double entries = sum.entries > 0 ? (double)sum.entries : 1;
    printf("{\"messages\": %llu, \"acknowledged\": %llu, \"stamps\": %llu, \"field_bytes\": %llu, "
           "\"seconds\": %.6f, \"rate\": %.0f, \"cpu_us\": %.3f}\n",
           (unsigned long long)sum.entries, (unsigned long long)sum.acknowledged,
           (unsigned long long)sum.scanner.stamps, (unsigned long long)sum.scanner.field_bytes,
           seconds, entries / seconds, cpu / entries);
    return sum.entries == sum.acknowledged && (!options.view || sum.scanner.stamps == sum.entries)
               ? 0
               : 1;
}
