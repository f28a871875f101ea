/*
 * A broker of raw bytes on a loopback port, and the event loop of the connection under test, both
 * in one thread: the test says what the broker sends and looks at what it got. Whatever is waited
 * for is waited for during a bounded number of turns.
 */
#ifndef NEMOGATE_TESTS_FAKE_BROKER_H
#define NEMOGATE_TESTS_FAKE_BROKER_H

#include "transport/mqtt_conn.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_PEERS 8
#define MOST_TURNS 20000
#define PEER_BYTES (1u << 21)

struct peer {
    int fd; /* -1: gone */
    uint8_t *input;
    size_t length;
    bool closed; /* the client has ended it */
};

struct fake_broker {
    struct net net;
    struct event *tick; /* a turn ends within a millisecond */
    int listener;
    uint16_t port;
    struct peer peers[MOST_PEERS];
    size_t peer_count; /* connections accepted so far */
};

static inline void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

static inline void broker_open(struct fake_broker *broker)
{
    memset(broker, 0, sizeof(*broker));
    cr_assert(net_open(&broker->net));
    broker->tick = event_new(broker->net.base, -1, EV_PERSIST, on_tick, NULL);
    event_add(broker->tick, &(struct timeval){0, 1000});
    broker->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    cr_assert_eq(bind(broker->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(broker->listener, 16), 0);
    cr_assert_eq(getsockname(broker->listener, (struct sockaddr *)&address, &size), 0);
    broker->port = ntohs(address.sin_port);
}

static inline void peer_close(struct peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
}

static inline void broker_close(struct fake_broker *broker)
{
    for (size_t i = 0; i < broker->peer_count; i++) {
        peer_close(&broker->peers[i]);
        free(broker->peers[i].input);
    }
    close(broker->listener);
    event_free(broker->tick);
    net_close(&broker->net);
}

static inline void peer_read(struct peer *peer)
{
    while (peer->fd >= 0 && !peer->closed && peer->length < PEER_BYTES) {
        ssize_t got =
            recv(peer->fd, peer->input + peer->length, PEER_BYTES - peer->length, MSG_DONTWAIT);
        if (got > 0)
            peer->length += (size_t)got;
        else if (got < 0 && errno == EAGAIN)
            return;
        else
            peer->closed = true;
    }
}

/* One turn of the loop; the caller flushes its connections after it. */
static inline void broker_turn(struct fake_broker *broker)
{
    event_base_loop(broker->net.base, EVLOOP_ONCE);
    int fd = accept4(broker->listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd >= 0) {
        cr_assert_lt(broker->peer_count, MOST_PEERS);
        broker->peers[broker->peer_count++] = (struct peer){.fd = fd, .input = malloc(PEER_BYTES)};
    }
    for (size_t i = 0; i < broker->peer_count; i++)
        peer_read(&broker->peers[i]);
}

static inline void peer_send(struct peer *peer, const void *data, size_t length)
{
    cr_assert_eq(send(peer->fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

#define SEND(peer, ...)                                                                            \
    do {                                                                                           \
        const uint8_t send_bytes[] = {__VA_ARGS__};                                                \
        peer_send(peer, send_bytes, sizeof(send_bytes));                                           \
    } while (0)

/* ---- what a peer has got ------------------------------------------------------------------- */

struct packet {
    uint8_t first;
    const uint8_t *body;
    size_t length;
};

/* The packet at *at; false: no whole one is there. */
static inline bool peer_packet(const struct peer *peer, size_t *at, struct packet *packet)
{
    size_t length = 0;
    size_t i = *at + 1;
    for (unsigned shift = 0;; shift += 7, i++) {
        if (i >= peer->length)
            return false;
        length |= (size_t)(peer->input[i] & 0x7f) << shift;
        if (peer->input[i] < 0x80)
            break;
    }
    i++;
    if (peer->length - i < length)
        return false;
    *packet = (struct packet){peer->input[*at], peer->input + i, length};
    *at = i + length;
    return true;
}

/* How many packets of this type (the high four bits of the first byte) have come; *last is the last
 * one. */
static inline size_t peer_count(const struct peer *peer, uint8_t type, struct packet *last)
{
    size_t at = 0;
    size_t count = 0;
    struct packet packet;
    while (peer_packet(peer, &at, &packet)) {
        if (packet.first >> 4 != type)
            continue;
        count++;
        if (last)
            *last = packet;
    }
    return count;
}

/* The publish number index (from 0) that a peer has got. */
static inline struct packet peer_publish(const struct peer *peer, size_t index)
{
    size_t at = 0;
    struct packet packet;
    while (peer_packet(peer, &at, &packet))
        if (packet.first >> 4 == MQTT_PUBLISH && index-- == 0)
            return packet;
    cr_assert_fail("the broker has not got that publish");
    return packet;
}

/* The packet identifier of a PUBLISH of QoS 1. */
static inline uint16_t packet_id_of(const struct packet *publish)
{
    size_t topic = (size_t)(publish->body[0] << 8 | publish->body[1]);
    return (uint16_t)(publish->body[2 + topic] << 8 | publish->body[3 + topic]);
}

#endif
