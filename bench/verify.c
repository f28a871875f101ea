/*
 * A subscriber that verifies: every event that `load` has sent must come, in the order of its key;
 * and how long it took. It acknowledges in bulk and keeps no message, so that it is cheaper than
 * any broker. Its clock is load's: both run on one machine.
 */
#include "bench/arrivals.h"
#include "bench/common.h"
#include "bench/histogram.h"
#include "bench/mqtt_raw.h"
#include "bench/sequence.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)
#define MS_NS UINT64_C(1000000)
#define ACKS_SIZE (1u << 20)
#define TABLE_MAX (UINT64_C(1) << 28)

struct options {
    const char *host;
    const char *ca_file;
    const char *filter;
    const char *client_id;
    const char *encoding;
    uint64_t port;
    uint64_t qos;
    uint64_t streams;
    uint64_t keys;
    uint64_t run;
    uint64_t expect;
    uint64_t seconds;
    uint64_t idle_ms;
    uint64_t linger_ms;
    uint64_t skip;
    uint64_t latency_stream;
    uint64_t report_ms;
    uint64_t hold_us;
    bool v3;
    bool allow_gaps;
};

struct verify {
    struct options options;
    unsigned version;
    struct wire wire;
    int signals;
    bool stopped;
    struct arrivals *arrivals;
    struct sequences *sequences;
    uint8_t *acks; /* PUBACKs that wait to leave */
    size_t ack_length;
    uint64_t publishes;
    uint64_t bytes;
    uint64_t received; /* events of this run */
    uint64_t foreign;
    uint64_t malformed;
    uint64_t now_ns; /* when the bytes at hand were read */
    uint64_t begun_ns;
    uint64_t first_ns; /* 0: nothing has come yet */
    uint64_t last_ns;
    uint64_t reached_ns; /* when all that is expected had come */
    uint64_t reported_ns;
    struct histogram latency;
    struct histogram interval; /* since the last report */
};

static void found_stamp(void *context, const struct stamp *stamp)
{
    struct verify *verify = context;
    const struct options *options = &verify->options;
    if (stamp->run != options->run || stamp->stream == 0 || stamp->stream > options->streams ||
        stamp->key >= options->keys) {
        verify->foreign++;
        return;
    }
    if (verify->first_ns == 0)
        verify->first_ns = verify->reported_ns = verify->now_ns;
    verify->last_ns = verify->now_ns;
    verify->received++;
    size_t key = (size_t)(stamp->stream - 1) * options->keys + stamp->key;
    if (!sequences_add(verify->sequences, key, stamp->sequence))
        return;
    if (options->latency_stream != 0 && options->latency_stream != stamp->stream)
        return;
    uint64_t took = verify->now_ns > stamp->ns ? verify->now_ns - stamp->ns : 0;
    if (sequences_counts(verify->sequences)->distinct > options->skip)
        histogram_add(&verify->latency, took);
    if (options->report_ms > 0)
        histogram_add(&verify->interval, took);
}

static void flush_acks(struct verify *verify)
{
    size_t put = 0;
    while (put < verify->ack_length) {
        size_t sent = wire_write(&verify->wire, verify->acks + put, verify->ack_length - put);
        if (sent == 0)
            break;
        put += sent;
    }
    verify->ack_length -= put;
    memmove(verify->acks, verify->acks + put, verify->ack_length);
}

static void take_packet(struct verify *verify, const uint8_t *packet, size_t header, size_t size)
{
    struct raw_message message;
    if (packet[0] >> 4 == RAW_DISCONNECT)
        die("the broker sent DISCONNECT with code 0x%02x", size > header ? packet[header] : 0);
    if (packet[0] >> 4 != RAW_PUBLISH)
        return;
    if (!raw_read_publish(packet, header, size, verify->version, &message))
        die("the broker sent a malformed PUBLISH");
    verify->publishes++;
    verify->bytes += size;
    verify->malformed += arrivals_take(verify->arrivals, message.payload);
    if (message.qos == 1) {
        uint8_t *ack = verify->acks + verify->ack_length;
        ack[0] = RAW_PUBACK << 4;
        ack[1] = 2;
        ack[2] = (uint8_t)(message.packet_id >> 8);
        ack[3] = (uint8_t)message.packet_id;
        verify->ack_length += 4;
    }
}

/* False when there was nothing to read, or no room to acknowledge it. */
static bool take_packets(struct verify *verify)
{
    struct wire *wire = &verify->wire;
    size_t at = 0;
    size_t header = 0;
    size_t size = 0;
    if (verify->ack_length > ACKS_SIZE / 2 || !wire_read(wire))
        return false;
    verify->now_ns = clock_ns();
    while (verify->ack_length + 4 <= ACKS_SIZE &&
           (size = raw_frame(wire->in + at, wire->used - at, &header)) != 0) {
        if (size == SIZE_MAX)
            die("the broker sent a malformed packet");
        take_packet(verify, wire->in + at, header, size);
        at += size;
    }
    wire_take(wire, at);
    flush_acks(verify);
    return true;
}

static void report(struct verify *verify, uint64_t now)
{
    struct histogram *interval = &verify->interval;
    uint64_t every = verify->options.report_ms * MS_NS;
    if (every == 0 || verify->first_ns == 0 || now - verify->reported_ns < every)
        return;
    double seconds = (double)(now - verify->reported_ns) / 1e9;
    printf("{\"t\": %.3f, \"count\": %llu, \"rate\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"max_us\": %.1f}\n",
           (double)(now - verify->first_ns) / 1e9, (unsigned long long)interval->count,
           (double)interval->count / seconds, (double)histogram_percentile(interval, 0.5) / 1e3,
           (double)histogram_percentile(interval, 0.99) / 1e3, (double)interval->max / 1e3);
    fflush(stdout);
    histogram_clear(interval);
    verify->reported_ns = now;
}

static bool is_over(struct verify *verify, uint64_t now)
{
    const struct options *options = &verify->options;
    uint64_t distinct = sequences_counts(verify->sequences)->distinct;
    if (verify->stopped || now - verify->begun_ns >= options->seconds * SECOND_NS)
        return true;
    if (options->expect > 0 && distinct >= options->expect) {
        if (verify->reached_ns == 0)
            verify->reached_ns = now;
        if (now - verify->reached_ns >= options->linger_ms * MS_NS)
            return true;
    }
    return options->idle_ms > 0 && verify->last_ns != 0 && now > verify->last_ns &&
           now - verify->last_ns >= options->idle_ms * MS_NS;
}

static struct timespec wait_time(const struct verify *verify)
{
    const struct options *options = &verify->options;
    uint64_t wait = 100 * MS_NS;
    if (options->report_ms > 0 && options->report_ms * MS_NS < wait)
        wait = options->report_ms * MS_NS;
    if (verify->reached_ns != 0 && options->linger_ms * MS_NS < wait)
        wait = options->linger_ms * MS_NS;
    return (struct timespec){(time_t)(wait / SECOND_NS), (long)(wait % SECOND_NS)};
}

static void run(struct verify *verify)
{
    struct pollfd sockets[2] = {{.fd = verify->wire.fd}, {.fd = verify->signals, .events = POLLIN}};
    verify->begun_ns = clock_ns();
    for (uint64_t now = verify->begun_ns; !is_over(verify, now); now = clock_ns()) {
        struct timespec wait = wait_time(verify);
        bool can_read = verify->ack_length <= ACKS_SIZE / 2;
        bool must_write = verify->ack_length > 0;
        sockets[0].events = (short)((can_read ? POLLIN : 0) | (must_write ? POLLOUT : 0));
        if (ppoll(sockets, 2, &wait, NULL) < 0 && errno != EINTR)
            die("poll: %s", strerror(errno));
        verify->stopped = sockets[1].revents != 0;
        if (sockets[0].revents & POLLOUT)
            flush_acks(verify);
        /* a TLS record that was read ahead is not announced by the socket */
        while (sockets[0].revents & ~POLLOUT && take_packets(verify) &&
               wire_reads_ahead(&verify->wire))
            continue;
        report(verify, clock_ns());
        if (verify->options.hold_us > 0)
            sleep_until(clock_ns() + verify->options.hold_us * 1000);
    }
    flush_acks(verify);
}

static bool print_result(const struct verify *verify, double cpu)
{
    const struct options *options = &verify->options;
    const struct sequence_counts *counts = sequences_counts(verify->sequences);
    const struct histogram *latency = &verify->latency;
    uint64_t unseen = options->expect > counts->newest ? options->expect - counts->newest : 0;
    uint64_t lost = (options->allow_gaps ? 0 : counts->missing) + unseen;
    bool ok = lost == 0 && counts->reordered == 0 && verify->malformed == 0;
    double seconds = (double)(verify->last_ns - verify->first_ns) / 1e9;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"received", verify->received},     {"distinct", counts->distinct},
        {"duplicates", counts->duplicates}, {"lost", lost},
        {"reordered", counts->reordered},   {"skipped", options->allow_gaps ? counts->missing : 0},
        {"untracked", counts->untracked},   {"foreign", verify->foreign},
        {"malformed", verify->malformed},   {"expected", options->expect},
        {"newest_total", counts->newest},   {"publishes", verify->publishes},
        {"bytes", verify->bytes},
    };
    printf("{\"ok\": %s, ", ok ? "true" : "false");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        printf("\"%s\": %llu, ", numbers[i].name, (unsigned long long)numbers[i].value);
    printf("\"seconds\": %.6f, \"rate\": %.0f, \"cpu_us\": %.3f, \"p50_us\": %.1f, "
           "\"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
           "\"mean_us\": %.1f}\n",
           seconds, seconds > 0 ? (double)counts->distinct / seconds : 0,
           verify->received > 0 ? cpu / (double)verify->received : 0,
           (double)histogram_percentile(latency, 0.5) / 1e3,
           (double)histogram_percentile(latency, 0.9) / 1e3,
           (double)histogram_percentile(latency, 0.99) / 1e3,
           (double)histogram_percentile(latency, 0.999) / 1e3, (double)latency->max / 1e3,
           histogram_mean(latency) / 1e3);
    return ok;
}

static void read_options(struct options *options, int argc, char **argv)
{
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &options->host, "address of the broker"},
        {"port", OPTION_NUMBER, &options->port, "port of the broker"},
        {"ca", OPTION_TEXT, &options->ca_file, "TLS, verified against this CA"},
        {"v3", OPTION_FLAG, &options->v3, "MQTT 3.1.1 instead of 5"},
        {"qos", OPTION_NUMBER, &options->qos, "of the subscription, 0 or 1"},
        {"filter", OPTION_TEXT, &options->filter, "what to subscribe to"},
        {"client-id", OPTION_TEXT, &options->client_id, "default: verify-PID"},
        {"encoding", OPTION_TEXT, &options->encoding, "of the route: raw, signed or batch"},
        {"streams", OPTION_NUMBER, &options->streams, "the highest stream number"},
        {"keys", OPTION_NUMBER, &options->keys, "keys per stream, as load has them"},
        {"run", OPTION_NUMBER, &options->run, "counts events of this --run of load, no others"},
        {"expect", OPTION_NUMBER, &options->expect, "ends when so many distinct have come"},
        {"linger-ms", OPTION_NUMBER, &options->linger_ms, "and this time more, for duplicates"},
        {"seconds", OPTION_NUMBER, &options->seconds, "ends by itself after this time"},
        {"idle-ms", OPTION_NUMBER, &options->idle_ms, "ends after this silence, 0: does not"},
        {"allow-gaps", OPTION_FLAG, &options->allow_gaps, "numbers left out are no loss"},
        {"skip", OPTION_NUMBER, &options->skip, "the first events, whose latency does not count"},
        {"latency-stream", OPTION_NUMBER, &options->latency_stream,
         "latency of this stream only, 0: of all"},
        {"report-ms", OPTION_NUMBER, &options->report_ms, "a line about each such interval"},
        {"hold-us", OPTION_NUMBER, &options->hold_us,
         "reads at most once in this time (cheaper, latency is coarser)"},
    };
    options_read(argc, argv, "subscribes and verifies what load has sent; JSON on stdout", rows,
                 sizeof rows / sizeof rows[0]);
    if (options->qos > 1)
        die_of_option("--qos must be 0 or 1");
    if (options->streams == 0 || options->streams > STAMP_STREAMS_MAX || options->keys == 0 ||
        options->keys > STAMP_KEYS_MAX || options->streams * options->keys > TABLE_MAX)
        die_of_option("--streams and --keys must be 1 to %u, their product at most %llu",
                      STAMP_KEYS_MAX, (unsigned long long)TABLE_MAX);
    if (options->run > STAMP_RUNS_MAX)
        die_of_option("--run must be 0 to %u", STAMP_RUNS_MAX);
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
    static const char *const encodings[] = {"raw", "signed", "batch", NULL};
    struct verify *verify = must_alloc(1, sizeof *verify);
    struct options *options = &verify->options;
    char client_id[32];
    snprintf(client_id, sizeof client_id, "verify-%d", (int)getpid());
    *options = (struct options){.host = "127.0.0.1",
                                .filter = SAMPLE_TOPIC_PREFIX "#",
                                .encoding = "raw",
                                .port = 1883,
                                .qos = 1,
                                .streams = 1,
                                .keys = 500,
                                .seconds = 600};
    read_options(options, argc, argv);
    size_t encoding = option_choice("encoding", options->encoding, encodings);
    verify->version = options->v3 ? RAW_MQTT_3_1_1 : RAW_MQTT_5;
    verify->arrivals = arrivals_new((enum encoding)encoding, found_stamp, verify);
    verify->sequences = sequences_new(options->streams * options->keys, options->allow_gaps);
    verify->acks = must_alloc(ACKS_SIZE, 1);
    verify->signals = open_signals();
    wire_open(&verify->wire, options->host, options->port, options->ca_file);
    raw_handshake(&verify->wire, verify->version,
                  options->client_id != NULL ? options->client_id : client_id);
    raw_subscribe(&verify->wire, verify->version, options->filter, (unsigned)options->qos);
    fprintf(stderr, "subscribed\n");

    double cpu = cpu_us();
    run(verify);
    bool ok = print_result(verify, cpu_us() - cpu);
    wire_close(&verify->wire);
    close(verify->signals);
    arrivals_free(verify->arrivals);
    sequences_free(verify->sequences);
    free(verify->acks);
    free(verify);
    return ok ? 0 : 1;
}
