/*
 * Fills streams with schema v1 entries by pipelined XADD, as fast as Redis takes them or at a given
 * rate. It makes input for the benchmark; it is not a producer to copy from.
 */
#include "bench/common.h"
#include "bench/entry.h"
#include "bench/redis_raw.h"
#include "bench/sample.h"

#include <stdio.h>
#include <stdlib.h>

#define PACE_NS UINT64_C(1000000) /* with --rate, what is due is sent every millisecond */

struct options {
    const char *host;
    uint64_t port;
    uint64_t messages;
    uint64_t streams;
    uint64_t keys;
    uint64_t payload;
    uint64_t pipeline;
    uint64_t rate;
    bool zipf;
};

struct load {
    struct options options;
    redisContext *redis;
    struct entry_maker *maker;
    struct sample_keys *keys;
    uint8_t *batch;
};

/* Appends and writes the entries `from` to `to`; their replies stay unread. */
static void load_send(struct load *load, uint64_t from, uint64_t to)
{
    size_t length = 0;
    uint64_t stamp = clock_ns();
    uint64_t now = wall_ms();
    for (uint64_t i = from; i < to; i++) {
        struct entry_of entry = {.stream = i % load->options.streams,
                                 .key = sample_keys_draw(load->keys),
                                 .number = i,
                                 .stamp = stamp,
                                 .wall_ms = now};
        length += entry_make(load->maker, &entry, load->batch + length);
    }
    if (redisAppendFormattedCommand(load->redis, (char *)load->batch, length) != REDIS_OK)
        die("Redis: %s", load->redis->errstr);
    redis_flush(load->redis);
}

/* One pipeline is on its way while the replies of the one before it are read. */
static void load_all(struct load *load)
{
    const struct options *options = &load->options;
    uint64_t start = clock_ns();
    uint64_t sent = 0;
    uint64_t unread = 0;
    while (sent < options->messages) {
        uint64_t to = sent + options->pipeline;
        if (options->rate > 0) {
            double due = (double)(clock_ns() - start) / 1e9 * (double)options->rate;
            if ((uint64_t)due < to)
                to = (uint64_t)due;
        }
        if (to > options->messages)
            to = options->messages;
        if (to > sent)
            load_send(load, sent, to);
        redis_skip(load->redis, unread);
        unread = to - sent;
        sent = to;
        if (options->rate > 0)
            sleep_until(clock_ns() + PACE_NS);
    }
    redis_skip(load->redis, unread);
}

int main(int argc, char **argv)
{
    struct load load = {.options = {.host = "127.0.0.1",
                                    .port = 6379,
                                    .messages = 500000,
                                    .streams = 1,
                                    .keys = 500,
                                    .payload = 220,
                                    .pipeline = 500}};
    struct options *options = &load.options;
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &options->host, "address of Redis"},
        {"port", OPTION_NUMBER, &options->port, "port of Redis"},
        {"messages", OPTION_NUMBER, &options->messages, "entries, over all streams in turn"},
        {"streams", OPTION_NUMBER, &options->streams, "nemo:{bench1}:events and so on"},
        {"keys", OPTION_NUMBER, &options->keys, "ordering keys, each with its topic"},
        {"zipf", OPTION_FLAG, &options->zipf, "keys by Zipf's law instead of uniformly"},
        {"payload", OPTION_NUMBER, &options->payload, "bytes of payload"},
        {"pipeline", OPTION_NUMBER, &options->pipeline, "commands per write"},
        {"rate", OPTION_NUMBER, &options->rate, "entries per second, 0: as fast as possible"},
    };
    options_read(argc, argv, "fills streams with events", rows, sizeof rows / sizeof rows[0]);
    if (options->pipeline == 0 || options->messages == 0)
        die("messages and pipeline must be at least 1");
    load.maker = entry_maker_new(options->streams, options->keys, options->payload);
    load.keys = sample_keys_new((unsigned)options->keys, options->zipf);
    load.batch = must_alloc(options->pipeline, entry_maker_size(load.maker));
    load.redis = redis_open(options->host, options->port);

    double cpu = cpu_us();
    uint64_t start = clock_ns();
    load_all(&load);
    double seconds = (double)(clock_ns() - start) / 1e9;
    double messages = (double)options->messages;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.0f, \"cpu_us\": %.3f}\n",
           (unsigned long long)options->messages, seconds, messages / seconds,
           (cpu_us() - cpu) / messages);
    redisFree(load.redis);
    free(load.batch);
    sample_keys_free(load.keys);
    entry_maker_free(load.maker);
    return 0;
}
