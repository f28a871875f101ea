/*
 * The raw ceiling of a broker: publishes that were encoded before the clock started, QoS 1, a
 * window, acknowledgements read in bulk. No Redis, no encoding, no bookkeeping but counting: a
 * gateway that comes near this rate is limited by the broker. With QoS 0 the clock stops when the
 * broker has answered a PINGREQ behind the last publish.
 */
#include "bench/common.h"
#include "bench/mqtt_raw.h"
#include "bench/sample.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUBACK_SIZE_MIN 4 /* [MQTT 5.0, 3.4]: without reason code and properties */
#define SILENCE_MS 10000
#define HOLD_MS 1
#define MAX_CONNECTIONS 64
#define PAYLOAD_MAX (1u << 18)
#define RING_MAX (UINT64_C(1) << 30)
#define PACKET_EXTRA 192 /* of a PUBLISH beside its payload */

struct options {
    const char *host;
    const char *ca_file;
    uint64_t port;
    uint64_t messages;
    uint64_t payload;
    uint64_t keys;
    uint64_t window;
    uint64_t lowat;
    uint64_t connections;
    uint64_t qos;
    bool v3;
    bool user_properties;
    bool eager;
};

/* The encoded publishes, a whole number of windows of them, so that packet identifiers 1 to window
 * stand in them for good: a broker acknowledges in order [MQTT-4.6.0-2], hence an identifier is
 * free again when its turn comes. */
struct ring {
    uint8_t *data;
    size_t *offset; /* count + 1 */
    size_t count;
};

/*   ring: at .. end  the slice that is on its way out   */
struct lane {
    struct wire wire;
    struct ring ring;
    size_t window;
    unsigned qos;
    uint64_t quota;
    uint64_t sent;
    uint64_t acknowledged; /* with QoS 0: written */
    uint64_t refused;
    size_t at;
    size_t end;
    int lowat; /* what the socket has */
    bool waits_to_write;
};

static size_t ring_count(size_t window, size_t keys)
{
    return window * ((keys + window - 1) / window);
}

static void ring_fill(struct ring *ring, const struct options *options, size_t window)
{
    unsigned version = options->v3 ? RAW_MQTT_3_1_1 : RAW_MQTT_5;
    size_t keys = options->keys;
    ring->count = ring_count(window, keys);
    size_t size = ring->count * (options->payload + PACKET_EXTRA);
    ring->data = must_alloc(size, 1);
    ring->offset = must_alloc(ring->count + 1, sizeof *ring->offset);
    uint8_t *payload = must_alloc(options->payload, 1);
    struct writer w = writer_over(ring->data, size);
    for (size_t i = 0; i < ring->count; i++) {
        char topic[64] = SAMPLE_TOPIC_PREFIX;
        char id[SAMPLE_UUID + 1] = "";
        sample_topic(topic + strlen(topic), sizeof topic - strlen(topic), i % keys);
        sample_uuid((uint8_t *)id, i);
        sample_payload(payload, options->payload, false);
        struct raw_publish publish = {
            .version = version,
            .qos = (unsigned)options->qos,
            .packet_id = (uint16_t)(i % window + 1),
            .topic = topic,
            .payload = {payload, options->payload},
            .id = options->user_properties ? id : NULL,
            .stream_id = "1700000000000-100",
        };
        ring->offset[i] = writer_length(&w);
        raw_put_publish(&w, &publish);
    }
    ring->offset[ring->count] = writer_length(&w);
    if (!writer_ok(&w))
        die("a publish is larger than thought");
    free(payload);
}

static void lane_open(struct lane *lane, const struct options *options, size_t index)
{
    char client_id[48];
    snprintf(client_id, sizeof client_id, "blaster-%d-%zu", (int)getpid(), index);
    wire_open(&lane->wire, options->host, options->port, options->ca_file);
    uint16_t maximum =
        raw_handshake(&lane->wire, options->v3 ? RAW_MQTT_3_1_1 : RAW_MQTT_5, client_id);
    lane->window = options->window < maximum ? options->window : maximum;
    lane->quota = options->messages / options->connections +
                  (index < options->messages % options->connections ? 1 : 0);
    lane->lowat = 1;
    lane->qos = (unsigned)options->qos;
    ring_fill(&lane->ring, options, lane->window);
}

/* Takes the next publishes of the ring into the slice, as many as window and quota leave room for.
 */
static bool lane_slice(struct lane *lane)
{
    uint64_t room = lane->window - (lane->sent - lane->acknowledged);
    uint64_t left = lane->quota - lane->sent;
    size_t slot = lane->sent % lane->ring.count;
    uint64_t run = room < left ? room : left;
    if (run > lane->ring.count - slot)
        run = lane->ring.count - slot;
    lane->at = lane->ring.offset[slot];
    lane->end = lane->ring.offset[slot + run];
    lane->sent += run;
    return run > 0;
}

/* Waits with writing until half of the window is free, so that each write is a large one. */
static void lane_write(struct lane *lane, bool eager)
{
    uint64_t room = lane->window - (lane->sent - lane->acknowledged);
    if (lane->at == lane->end && room < (lane->window + 1) / 2 && !eager)
        return;
    while (lane->at < lane->end || lane_slice(lane)) {
        size_t put = wire_write(&lane->wire, lane->ring.data + lane->at, lane->end - lane->at);
        lane->at += put;
        if (put == 0)
            break;
        if (lane->qos == 0 && lane->at == lane->end)
            lane->acknowledged = lane->sent;
    }
}

static void lane_packet(struct lane *lane, const uint8_t *packet, size_t header, size_t size)
{
    unsigned type = packet[0] >> 4;
    if (type != RAW_PUBACK || size < header + 2)
        die("the broker sent packet type %u instead of PUBACK", type);
    unsigned id = (unsigned)packet[header] << 8 | packet[header + 1];
    if (id != lane->acknowledged % lane->window + 1)
        die("PUBACK for %u out of order", id);
    lane->acknowledged++;
    if (size > header + 2 && packet[header + 2] >= 0x80)
        lane->refused++;
}

static bool lane_read(struct lane *lane)
{
    if (!wire_read(&lane->wire))
        return false;
    size_t at = 0;
    size_t header = 0;
    size_t size = 0;
    while ((size = raw_frame(lane->wire.in + at, lane->wire.used - at, &header)) != 0) {
        if (size == SIZE_MAX)
            die("the broker sent a malformed packet");
        lane_packet(lane, lane->wire.in + at, header, size);
        at += size;
    }
    wire_take(&lane->wire, at);
    return true;
}

/* The low-water mark never exceeds what is certain to come: every publish that is out brings at
 * least PUBACK_SIZE_MIN bytes. */
static void lane_set_lowat(struct lane *lane, uint64_t pubacks)
{
    uint64_t certain = lane->sent - lane->acknowledged;
    int lowat = 1;
    if (pubacks > 0 && certain > pubacks && lane->at == lane->end)
        lowat = (int)(pubacks * PUBACK_SIZE_MIN - lane->wire.used);
    if (lowat == lane->lowat)
        return;
    lane->lowat = lowat;
    setsockopt(lane->wire.fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat);
}

static void lane_watch(struct lane *lane, int epoll, int operation)
{
    bool waits = lane->at < lane->end;
    if (operation == EPOLL_CTL_MOD && waits == lane->waits_to_write)
        return;
    lane->waits_to_write = waits;
    struct epoll_event event = {.events = EPOLLIN | (waits ? EPOLLOUT : 0u), .data.ptr = lane};
    if (epoll_ctl(epoll, operation, lane->wire.fd, &event) != 0)
        die("epoll: %s", strerror(errno));
}

static void lane_turn(struct lane *lane, const struct options *options)
{
    while (lane_read(lane) && wire_reads_ahead(&lane->wire))
        continue;
    lane_write(lane, options->eager);
    lane_set_lowat(lane, wire_reads_ahead(&lane->wire) ? 0 : options->lowat);
}

/* A hold that the broker has not filled in time: takes what there is and acknowledges it at once.
 * The broker's TCP may keep the next PUBACKs back until it has heard of the last (Nagle), and ours
 * puts that off by 40 ms while it has nothing to send. */
static void lane_end_hold(struct lane *lane, const struct options *options)
{
    int on = 1;
    lane_turn(lane, options);
    setsockopt(lane->wire.fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

static uint64_t unsettled(const struct lane *lanes, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += lanes[i].quota - lanes[i].acknowledged;
    return sum;
}

static void blast(struct lane *lanes, const struct options *options)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timeout = options->lowat > 0 ? HOLD_MS : SILENCE_MS;
    for (size_t i = 0; i < options->connections; i++) {
        lane_write(&lanes[i], options->eager);
        lane_set_lowat(&lanes[i], wire_reads_ahead(&lanes[i].wire) ? 0 : options->lowat);
        lane_watch(&lanes[i], epoll, EPOLL_CTL_ADD);
    }
    uint64_t left = unsettled(lanes, options->connections);
    uint64_t changed = clock_ns();
    while (left > 0) {
        struct epoll_event events[MAX_CONNECTIONS];
        int ready = epoll_wait(epoll, events, MAX_CONNECTIONS, timeout);
        for (int i = 0; i < ready; i++)
            lane_turn(events[i].data.ptr, options);
        for (size_t i = 0; i < options->connections; i++) {
            if (ready == 0)
                lane_end_hold(&lanes[i], options);
            lane_watch(&lanes[i], epoll, EPOLL_CTL_MOD);
        }
        uint64_t before = left;
        left = unsettled(lanes, options->connections);
        if (left < before)
            changed = clock_ns();
        else if (clock_ns() - changed > SILENCE_MS * UINT64_C(1000000))
            die("no acknowledgement for %d ms", SILENCE_MS);
    }
    close(epoll);
}

/* A broker takes packets in their order: what answers PINGREQ has taken all before it. */
static void lane_barrier(struct lane *lane)
{
    static const uint8_t pingreq[] = {RAW_PINGREQ << 4, 0};
    struct wire *wire = &lane->wire;
    wire_write_all(wire, pingreq, sizeof pingreq);
    while (wire->used < 2)
        if (!wire_wait(wire, SILENCE_MS))
            die("no answer to PINGREQ for %d ms", SILENCE_MS);
    if (wire->in[0] >> 4 != RAW_PINGRESP)
        die("the broker sent packet type %d instead of PINGRESP", wire->in[0] >> 4);
}

static void print_result(const struct lane *lanes, const struct options *options, uint64_t ns,
                         double cpu)
{
    uint64_t refused = 0;
    for (size_t i = 0; i < options->connections; i++)
        refused += lanes[i].refused;
    double seconds = (double)ns / 1e9;
    double messages = (double)options->messages;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.0f, \"cpu_us\": %.3f, "
           "\"window\": %zu, \"connections\": %llu, \"refused\": %llu, \"qos\": %llu, "
           "\"packet_bytes\": %zu}\n",
           (unsigned long long)options->messages, seconds, messages / seconds, cpu / messages,
           lanes[0].window, (unsigned long long)options->connections, (unsigned long long)refused,
           (unsigned long long)options->qos, lanes[0].ring.offset[1]);
}

static void check_options(const struct options *options)
{
    if (options->messages == 0 || options->keys == 0 || options->window == 0 ||
        options->window > UINT16_MAX || options->connections == 0 ||
        options->connections > MAX_CONNECTIONS)
        die_of_option("--messages and --keys must be at least 1, --window 1 to 65535, "
                      "--connections 1 to %d",
                      MAX_CONNECTIONS);
    if (options->payload < SAMPLE_PAYLOAD_MIN || options->payload > PAYLOAD_MAX)
        die_of_option("--payload must be %d to %u", SAMPLE_PAYLOAD_MIN, PAYLOAD_MAX);
    if (options->qos > 1)
        die_of_option("--qos must be 0 or 1");
    if (ring_count(options->window, options->keys) * options->connections *
            (options->payload + PACKET_EXTRA) >
        RING_MAX)
        die_of_option("the publishes of all windows would need more than %llu MiB: take a smaller "
                      "--window, --payload or --connections",
                      (unsigned long long)(RING_MAX >> 20));
}

static struct options read_options(int argc, char **argv)
{
    struct options options = {.host = "127.0.0.1",
                              .port = 1883,
                              .messages = 500000,
                              .payload = 220,
                              .keys = 500,
                              .window = 1000,
                              .lowat = 500,
                              .connections = 1,
                              .qos = 1};
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &options.host, "address of the broker"},
        {"port", OPTION_NUMBER, &options.port, "port of the broker"},
        {"ca", OPTION_TEXT, &options.ca_file, "TLS, verified against this CA"},
        {"messages", OPTION_NUMBER, &options.messages, "how many"},
        {"payload", OPTION_NUMBER, &options.payload, "bytes of payload"},
        {"keys", OPTION_NUMBER, &options.keys, "topics"},
        {"window", OPTION_NUMBER, &options.window, "publishes in flight per connection"},
        {"lowat", OPTION_NUMBER, &options.lowat, "PUBACKs to wait for per wake-up, plain TCP"},
        {"connections", OPTION_NUMBER, &options.connections, "connections, messages shared out"},
        {"qos", OPTION_NUMBER, &options.qos, "0 or 1"},
        {"v3", OPTION_FLAG, &options.v3, "MQTT 3.1.1 instead of 5"},
        {"user-properties", OPTION_FLAG, &options.user_properties, "as the gateway sends them"},
        {"eager", OPTION_FLAG, &options.eager, "write at once, not when half the window is free"},
    };
    options_read(argc, argv, "the raw ceiling of a broker", rows, sizeof rows / sizeof rows[0]);
    check_options(&options);
    return options;
}

int main(int argc, char **argv)
{
    struct options options = read_options(argc, argv);
    struct lane *lanes = must_alloc(options.connections, sizeof *lanes);
    for (size_t i = 0; i < options.connections; i++)
        lane_open(&lanes[i], &options, i);
    double cpu = cpu_us();
    uint64_t start = clock_ns();
    blast(lanes, &options);
    for (size_t i = 0; i < options.connections && options.qos == 0; i++)
        lane_barrier(&lanes[i]);
    uint64_t ns = clock_ns() - start;
    print_result(lanes, &options, ns, cpu_us() - cpu);
    for (size_t i = 0; i < options.connections; i++) {
        wire_close(&lanes[i].wire);
        free(lanes[i].ring.data);
        free(lanes[i].ring.offset);
    }
    free(lanes);
    return 0;
}
