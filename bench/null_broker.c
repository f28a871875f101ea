/*
 * A broker that does nothing: takes MQTT 5 and 3.1.1 clients, acknowledges their publishes in
 * batches and counts. It shows the gateway's own ceiling, and, by counting publishes beyond the
 * Receive Maximum it announced, that the gateway keeps to it. One thread, loopback only.
 */
#include "bench/common.h"
#include "bench/mqtt_raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE (1u << 20)
#define OUT_SIZE (1u << 20)
#define READ_SIZE (1u << 18) /* its acknowledgements fit into a quarter of OUT_SIZE */
#define MAX_CLIENTS 64
#define MAX_MARKS 4096

struct options {
    uint64_t port;
    uint64_t receive_maximum;
    uint64_t delay_ms;
    uint64_t seconds;
};

struct counts {
    uint64_t connections;
    uint64_t publishes;
    uint64_t qos0;
    uint64_t bytes;
    uint64_t malformed;
    uint64_t over_window; /* publishes beyond the Receive Maximum */
    uint64_t max_unacknowledged;
    uint64_t first_ns;
    uint64_t last_ns;
};

/* The bytes of `out` before the end may leave when it is due. */
struct mark {
    uint64_t due_ns;
    size_t end;
};

/*   out: 0 .. released  may leave      released .. used  waits for its mark   */
struct client {
    int fd; /* -1: this place is free */
    unsigned version;
    uint8_t *in;
    size_t in_used;
    uint8_t *out;
    size_t released;
    size_t used;
    uint64_t unacknowledged;
    struct mark marks[MAX_MARKS]; /* a ring */
    size_t first_mark;
    size_t mark_count;
    bool waits_to_write;
};

struct broker {
    struct options options;
    struct counts counts;
    int epoll;
    int listener;
    int signals;
    struct client clients[MAX_CLIENTS];
};

static void client_close(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    free(client->in);
    free(client->out);
}

static void broker_accept(struct broker *broker)
{
    int fd = accept4(broker->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct client *client = NULL;
    for (size_t i = 0; i < MAX_CLIENTS && client == NULL; i++)
        if (broker->clients[i].fd < 0)
            client = &broker->clients[i];
    if (client == NULL) {
        close(fd);
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    memset(client, 0, sizeof *client);
    client->fd = fd;
    client->in = must_alloc(IN_SIZE, 1);
    client->out = must_alloc(OUT_SIZE, 1);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(broker->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll: %s", strerror(errno));
    broker->counts.connections++;
}

static void client_put(struct client *client, const uint8_t *bytes, size_t size)
{
    memcpy(client->out + client->used, bytes, size);
    client->used += size;
}

/* CONNECT: only the protocol level matters [MQTT 5.0, 3.1.2.2]. */
static bool client_connect(struct broker *broker, struct client *client, struct bytes body)
{
    if (body.length < 7 || client->version != 0)
        return false;
    client->version = body.data[6];
    uint16_t maximum = (uint16_t)broker->options.receive_maximum;
    const uint8_t v5[] = {RAW_CONNACK << 4,        6, 0, 0, 3, 0x21, (uint8_t)(maximum >> 8),
                          (uint8_t)(maximum & 255)};
    const uint8_t v3[] = {RAW_CONNACK << 4, 2, 0, 0};
    if (client->version == RAW_MQTT_5)
        client_put(client, v5, sizeof v5);
    else if (client->version == RAW_MQTT_3_1_1)
        client_put(client, v3, sizeof v3);
    return client->version == RAW_MQTT_5 || client->version == RAW_MQTT_3_1_1;
}

static bool client_publish(struct broker *broker, struct client *client, const uint8_t *packet,
                           size_t header, size_t size)
{
    struct counts *counts = &broker->counts;
    size_t topic = header + 2 <= size ? (size_t)packet[header] << 8 | packet[header + 1] : size;
    unsigned qos = packet[0] >> 1 & 3u;
    size_t id_at = header + 2 + topic;
    if (client->version == 0 || topic == 0 || qos > 1 || id_at + (qos > 0 ? 2 : 0) > size)
        return false;
    counts->publishes++;
    counts->bytes += size;
    if (qos == 0) {
        counts->qos0++;
        return true;
    }
    const uint8_t puback[] = {RAW_PUBACK << 4, 2, packet[id_at], packet[id_at + 1]};
    client_put(client, puback, sizeof puback);
    client->unacknowledged++;
    if (client->unacknowledged > counts->max_unacknowledged)
        counts->max_unacknowledged = client->unacknowledged;
    if (client->version == RAW_MQTT_5 && client->unacknowledged > broker->options.receive_maximum)
        counts->over_window++;
    return true;
}

static bool client_packet(struct broker *broker, struct client *client, const uint8_t *packet,
                          size_t header, size_t size)
{
    const uint8_t pingresp[] = {13u << 4, 0};
    switch (packet[0] >> 4) {
    case RAW_CONNECT:
        return client_connect(broker, client, (struct bytes){packet + header, size - header});
    case RAW_PUBLISH:
        return client_publish(broker, client, packet, header, size);
    case RAW_PINGREQ:
        client_put(client, pingresp, sizeof pingresp);
        return true;
    case RAW_DISCONNECT:
        return true;
    }
    return false;
}

/* What this turn has put into `out` becomes due delay_ms from now. */
static void client_mark(struct client *client, uint64_t delay_ms)
{
    if (delay_ms == 0) {
        client->released = client->used;
        return;
    }
    size_t last = (client->first_mark + client->mark_count - 1) % MAX_MARKS;
    if (client->mark_count > 0 && client->marks[last].end == client->used)
        return;
    if (client->mark_count < MAX_MARKS) {
        client->mark_count++;
        last = (last + 1) % MAX_MARKS;
    }
    client->marks[last] = (struct mark){clock_ns() + delay_ms * 1000000u, client->used};
}

static void client_release(struct client *client, uint64_t now)
{
    while (client->mark_count > 0 && client->marks[client->first_mark].due_ns <= now) {
        client->released = client->marks[client->first_mark].end;
        client->first_mark = (client->first_mark + 1) % MAX_MARKS;
        client->mark_count--;
    }
}

/* False when the connection is lost. */
static bool client_flush(struct broker *broker, struct client *client)
{
    if (client->released > 0) {
        ssize_t put = send(client->fd, client->out, client->released, MSG_NOSIGNAL);
        if (put < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        size_t sent = put > 0 ? (size_t)put : 0;
        client->used -= sent;
        client->released -= sent;
        memmove(client->out, client->out + sent, client->used);
        for (size_t i = 0; i < client->mark_count; i++)
            client->marks[(client->first_mark + i) % MAX_MARKS].end -= sent;
        uint64_t pubacks = client->used / 4;
        if (client->unacknowledged > pubacks)
            client->unacknowledged = pubacks;
    }
    bool waits = client->released > 0;
    if (waits != client->waits_to_write) {
        client->waits_to_write = waits;
        struct epoll_event event = {.events = EPOLLIN | (waits ? EPOLLOUT : 0u),
                                    .data.ptr = client};
        epoll_ctl(broker->epoll, EPOLL_CTL_MOD, client->fd, &event);
    }
    return true;
}

/* Takes all whole packets; false when one is malformed or larger than the buffer. */
static bool client_parse(struct broker *broker, struct client *client)
{
    size_t at = 0;
    size_t header = 0;
    size_t size = 0;
    while ((size = raw_frame(client->in + at, client->in_used - at, &header)) != 0) {
        if (size == SIZE_MAX || !client_packet(broker, client, client->in + at, header, size)) {
            broker->counts.malformed++;
            return false;
        }
        at += size;
    }
    client->in_used -= at;
    memmove(client->in, client->in + at, client->in_used);
    return client->in_used < IN_SIZE;
}

static bool client_read(struct broker *broker, struct client *client)
{
    size_t room = IN_SIZE - client->in_used;
    if (OUT_SIZE - client->used < OUT_SIZE / 2)
        return true; /* the client does not read its acknowledgements */
    ssize_t got =
        recv(client->fd, client->in + client->in_used, room < READ_SIZE ? room : READ_SIZE, 0);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    client->in_used += (size_t)got;
    uint64_t before = broker->counts.publishes;
    bool good = client_parse(broker, client);
    if (broker->counts.publishes > before) {
        broker->counts.last_ns = clock_ns();
        if (before == 0)
            broker->counts.first_ns = broker->counts.last_ns;
    }
    client_mark(client, broker->options.delay_ms);
    return good;
}

static void client_turn(struct broker *broker, struct client *client, uint32_t events)
{
    bool good = (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0 || client_read(broker, client);
    if (!good || !client_flush(broker, client))
        client_close(client);
}

/* Lets go what has become due; returns how many milliseconds the next one needs, at most `most`. */
static int broker_release(struct broker *broker, int most)
{
    uint64_t now = clock_ns();
    for (size_t i = 0; i < MAX_CLIENTS && broker->options.delay_ms > 0; i++) {
        struct client *client = &broker->clients[i];
        if (client->fd < 0 || client->mark_count == 0)
            continue;
        client_release(client, now);
        if (!client_flush(broker, client)) {
            client_close(client);
        } else if (client->mark_count > 0) {
            uint64_t left = client->marks[client->first_mark].due_ns - now;
            if ((int)(left / 1000000) + 1 < most)
                most = (int)(left / 1000000) + 1;
        }
    }
    return most;
}

static void broker_listen(struct broker *broker)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)broker->options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    broker->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(broker->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(broker->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(broker->listener, MAX_CLIENTS) != 0)
        die("port %llu: %s", (unsigned long long)broker->options.port, strerror(errno));

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    broker->signals = signalfd(-1, &set, SFD_CLOEXEC);
    broker->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &broker->listener};
    epoll_ctl(broker->epoll, EPOLL_CTL_ADD, broker->listener, &event);
    event.data.ptr = &broker->signals;
    epoll_ctl(broker->epoll, EPOLL_CTL_ADD, broker->signals, &event);
}

/* Until a signal comes or the time is over. */
static void broker_run(struct broker *broker)
{
    uint64_t end = clock_ns() + broker->options.seconds * UINT64_C(1000000000);
    while (clock_ns() < end) {
        struct epoll_event events[MAX_CLIENTS];
        int timeout = broker_release(broker, 1000);
        int ready = epoll_wait(broker->epoll, events, MAX_CLIENTS, timeout);
        for (int i = 0; i < ready; i++) {
            void *source = events[i].data.ptr;
            if (source == &broker->signals)
                return;
            if (source == &broker->listener)
                broker_accept(broker);
            else
                client_turn(broker, source, events[i].events);
        }
    }
}

static void print_counts(const struct counts *counts)
{
    double seconds = (double)(counts->last_ns - counts->first_ns) / 1e9;
    printf("{\"connections\": %llu, \"publishes\": %llu, \"qos0\": %llu, \"bytes\": %llu, "
           "\"malformed\": %llu, \"over_window\": %llu, \"max_unacknowledged\": %llu, "
           "\"seconds\": %.6f, \"rate\": %.0f, \"cpu_us\": %.3f}\n",
           (unsigned long long)counts->connections, (unsigned long long)counts->publishes,
           (unsigned long long)counts->qos0, (unsigned long long)counts->bytes,
           (unsigned long long)counts->malformed, (unsigned long long)counts->over_window,
           (unsigned long long)counts->max_unacknowledged, seconds,
           seconds > 0 ? (double)counts->publishes / seconds : 0,
           counts->publishes > 0 ? cpu_us() / (double)counts->publishes : 0);
}

int main(int argc, char **argv)
{
    struct broker *broker = must_alloc(1, sizeof *broker);
    broker->options = (struct options){.port = 1883, .receive_maximum = 65535, .seconds = 600};
    const struct option_row rows[] = {
        {"port", OPTION_NUMBER, &broker->options.port, "port on 127.0.0.1"},
        {"receive-maximum", OPTION_NUMBER, &broker->options.receive_maximum,
         "announced with MQTT 5"},
        {"delay-ms", OPTION_NUMBER, &broker->options.delay_ms, "acknowledgements come this late"},
        {"seconds", OPTION_NUMBER, &broker->options.seconds, "ends by itself after this time"},
    };
    options_read(argc, argv, "a broker that only acknowledges", rows, sizeof rows / sizeof rows[0]);
    if (broker->options.receive_maximum == 0 || broker->options.receive_maximum > 65535)
        die("--receive-maximum must be 1 to 65535 [MQTT 5.0, 3.2.2.3.3]");
    for (size_t i = 0; i < MAX_CLIENTS; i++)
        broker->clients[i].fd = -1;
    broker_listen(broker);
    broker_run(broker);
    print_counts(&broker->counts);
    for (size_t i = 0; i < MAX_CLIENTS; i++)
        if (broker->clients[i].fd >= 0)
            client_close(&broker->clients[i]);
    free(broker);
    return 0;
}
