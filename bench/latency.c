/*
 * From XADD (or, for the floor, from a direct publish) to the arrival at an MQTT subscriber, at a
 * steady rate. One process sends and receives, so one monotonic clock measures; the stamp travels
 * in the payload.
 */
#include "bench/common.h"
#include "bench/entry.h"
#include "bench/mqtt_raw.h"
#include "bench/redis_raw.h"
#include "bench/sample.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_MAX 1024
#define LAST_WAIT_NS UINT64_C(5000000000)

struct options {
    const char *host;
    const char *ca_file;
    uint64_t redis_port; /* 0: publish directly */
    uint64_t mqtt_port;
    uint64_t messages;
    uint64_t skip;
    uint64_t rate;
    uint64_t payload;
    uint64_t keys;
    uint64_t qos;
    bool v3;
};

struct latency {
    struct options options;
    unsigned version;
    struct wire subscriber;
    struct wire publisher;
    int redis;
    redisReader *reader;
    struct entry_maker *maker;
    uint8_t *payload; /* of a direct publish */
    double *took_us;  /* by sequence; below 0: not arrived */
    uint64_t sent;
    uint64_t received;
    uint64_t duplicates;
    uint64_t reordered;
    uint64_t newest;
};

static void send_entry(struct latency *latency, uint64_t now)
{
    uint8_t command[2 * PACKET_MAX];
    struct entry_of entry = {.key = latency->sent % latency->options.keys,
                             .number = latency->sent,
                             .stamp = now,
                             .wall_ms = wall_ms()};
    size_t length = entry_make(latency->maker, &entry, command);
    if (send(latency->redis, command, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("Redis takes no more: %s", strerror(errno));
}

static void send_publish(struct latency *latency, uint64_t now)
{
    uint8_t packet[PACKET_MAX];
    char topic[64] = SAMPLE_TOPIC_PREFIX;
    char id[SAMPLE_UUID + 1] = "";
    struct writer w = writer_over(packet, sizeof packet);
    sample_topic(topic + strlen(topic), sizeof topic - strlen(topic),
                 (unsigned)(latency->sent % latency->options.keys));
    sample_uuid((uint8_t *)id, latency->sent);
    sample_stamp(latency->payload, now, latency->sent);
    struct raw_publish publish = {.version = latency->version,
                                  .qos = 1,
                                  .packet_id = (uint16_t)(latency->sent % 65535 + 1),
                                  .topic = topic,
                                  .payload = {latency->payload, latency->options.payload},
                                  .id = id,
                                  .stream_id = "1700000000000-100"};
    raw_put_publish(&w, &publish);
    wire_write_all(&latency->publisher, packet, writer_length(&w));
}

static void arrived(struct latency *latency, const struct raw_message *message, uint64_t now)
{
    uint64_t stamp = 0;
    uint64_t sequence = 0;
    if (!sample_read(message->payload.data, message->payload.length, &stamp, &sequence) ||
        sequence >= latency->options.messages)
        return; /* not one of ours */
    if (latency->took_us[sequence] >= 0) {
        latency->duplicates++;
        return;
    }
    latency->took_us[sequence] = (double)(now - stamp) / 1000;
    latency->received++;
    if (sequence < latency->newest)
        latency->reordered++;
    else
        latency->newest = sequence;
}

static void take_messages(struct latency *latency)
{
    struct wire *wire = &latency->subscriber;
    size_t header = 0;
    size_t size = 0;
    size_t at = 0;
    uint64_t now = clock_ns();
    while ((size = raw_frame(wire->in + at, wire->used - at, &header)) != 0) {
        struct raw_message message;
        if (size == SIZE_MAX)
            die("the broker sent a malformed packet");
        if (wire->in[at] >> 4 == RAW_PUBLISH) {
            if (!raw_read_publish(wire->in + at, header, size, latency->version, &message))
                die("the broker sent a malformed PUBLISH");
            arrived(latency, &message, now);
            uint8_t puback[4];
            struct writer w = writer_over(puback, sizeof puback);
            raw_put_puback(&w, message.packet_id);
            if (message.qos == 1)
                wire_write_all(wire, puback, sizeof puback);
        }
        at += size;
    }
    wire_take(wire, at);
}

/* Reads and forgets what the broker or Redis answers to the sender. */
static void take_answers(struct latency *latency)
{
    if (latency->options.redis_port == 0) {
        while (wire_read(&latency->publisher))
            latency->publisher.used = 0;
        return;
    }
    char in[1 << 14];
    ssize_t got = recv(latency->redis, in, sizeof in, MSG_DONTWAIT);
    if (got == 0)
        die("Redis has closed the connection");
    if (got > 0 && redisReaderFeed(latency->reader, in, (size_t)got) != REDIS_OK)
        die("Redis: %s", latency->reader->errstr);
    redis_reader_skip(latency->reader);
}

static void wait_until(struct latency *latency, uint64_t when)
{
    bool direct = latency->options.redis_port == 0;
    struct pollfd sockets[2] = {
        {.fd = latency->subscriber.fd, .events = POLLIN},
        {.fd = direct ? latency->publisher.fd : latency->redis, .events = POLLIN}};
    uint64_t now = clock_ns();
    uint64_t left = when > now ? when - now : 0;
    struct timespec timeout = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    if (ppoll(sockets, 2, &timeout, NULL) < 0 && errno != EINTR)
        die("poll: %s", strerror(errno));
    if (sockets[0].revents != 0)
        while (wire_read(&latency->subscriber))
            take_messages(latency);
    if (sockets[1].revents != 0)
        take_answers(latency);
}

static void run(struct latency *latency)
{
    const struct options *options = &latency->options;
    uint64_t interval = 1000000000u / options->rate;
    uint64_t start = clock_ns();
    while (latency->sent < options->messages) {
        uint64_t due = start + latency->sent * interval;
        uint64_t now = clock_ns();
        if (now < due) {
            wait_until(latency, due);
            continue;
        }
        if (options->redis_port == 0)
            send_publish(latency, now);
        else
            send_entry(latency, now);
        latency->sent++;
    }
    uint64_t end = clock_ns() + LAST_WAIT_NS;
    while (latency->received < options->messages && clock_ns() < end)
        wait_until(latency, end);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool print_result(struct latency *latency)
{
    const struct options *options = &latency->options;
    size_t count = 0;
    for (uint64_t i = options->skip; i < options->messages; i++)
        if (latency->took_us[i] >= 0)
            latency->took_us[count++] = latency->took_us[i];
    if (count == 0)
        die("nothing has arrived");
    qsort(latency->took_us, count, sizeof latency->took_us[0], compare);
    const double *sorted = latency->took_us;
    printf("{\"messages\": %llu, \"received\": %llu, \"duplicates\": %llu, \"reordered\": %llu, "
           "\"rate\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f}\n",
           (unsigned long long)options->messages, (unsigned long long)latency->received,
           (unsigned long long)latency->duplicates, (unsigned long long)latency->reordered,
           (unsigned long long)options->rate, sorted[count / 2], sorted[count * 99 / 100],
           sorted[count * 999 / 1000], sorted[count - 1]);
    return latency->received == options->messages;
}

static struct options read_options(int argc, char **argv)
{
    struct options options = {.host = "127.0.0.1",
                              .mqtt_port = 1883,
                              .messages = 5000,
                              .skip = 100,
                              .rate = 1000,
                              .payload = 220,
                              .keys = 500,
                              .qos = 1};
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &options.host, "address of Redis and the broker"},
        {"redis-port", OPTION_NUMBER, &options.redis_port, "port of Redis, 0: publish directly"},
        {"mqtt-port", OPTION_NUMBER, &options.mqtt_port, "port of the broker"},
        {"ca", OPTION_TEXT, &options.ca_file, "TLS, verified against this CA"},
        {"messages", OPTION_NUMBER, &options.messages, "how many"},
        {"skip", OPTION_NUMBER, &options.skip, "the first ones, that do not count"},
        {"rate", OPTION_NUMBER, &options.rate, "messages per second"},
        {"payload", OPTION_NUMBER, &options.payload, "bytes of payload"},
        {"keys", OPTION_NUMBER, &options.keys, "topics"},
        {"qos", OPTION_NUMBER, &options.qos, "of the subscription"},
        {"v3", OPTION_FLAG, &options.v3, "MQTT 3.1.1 instead of 5"},
    };
    options_read(argc, argv, "XADD to subscriber, in microseconds", rows,
                 sizeof rows / sizeof rows[0]);
    if (options.messages <= options.skip || options.rate == 0 || options.rate > 1000000 ||
        options.keys == 0 || options.qos > 1 || options.payload > PACKET_MAX - 256)
        die("needs messages > skip, rate 1 to 1000000, keys >= 1, qos 0 or 1, payload <= %d",
            PACKET_MAX - 256);
    return options;
}

int main(int argc, char **argv)
{
    struct latency *latency = must_alloc(1, sizeof *latency);
    latency->options = read_options(argc, argv);
    const struct options *options = &latency->options;
    latency->version = options->v3 ? RAW_MQTT_3_1_1 : RAW_MQTT_5;
    latency->took_us = must_alloc(options->messages, sizeof *latency->took_us);
    for (uint64_t i = 0; i < options->messages; i++)
        latency->took_us[i] = -1;
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);

    char client_id[48];
    snprintf(client_id, sizeof client_id, "latency-subscriber-%d", (int)getpid());
    wire_open(&latency->subscriber, options->host, options->mqtt_port, options->ca_file);
    raw_handshake(&latency->subscriber, latency->version, client_id);
    raw_subscribe(&latency->subscriber, latency->version, SAMPLE_TOPIC_PREFIX "#",
                  (unsigned)options->qos);
    if (options->redis_port == 0) {
        snprintf(client_id, sizeof client_id, "latency-publisher-%d", (int)getpid());
        wire_open(&latency->publisher, options->host, options->mqtt_port, options->ca_file);
        raw_handshake(&latency->publisher, latency->version, client_id);
        latency->payload = must_alloc(options->payload, 1);
        sample_payload(latency->payload, options->payload, 0);
    } else {
        latency->redis = tcp_connect(options->host, options->redis_port);
        latency->reader = redis_reader_new();
        latency->maker = entry_maker_new(1, options->keys, options->payload);
    }
    run(latency);
    bool complete = print_result(latency);

    wire_close(&latency->subscriber);
    if (options->redis_port == 0) {
        wire_close(&latency->publisher);
    } else {
        close(latency->redis);
        redisReaderFree(latency->reader);
        entry_maker_free(latency->maker);
    }
    free(latency->payload);
    free(latency->took_us);
    free(latency);
    return complete ? 0 : 1;
}
