/*
 * A client of the null broker; see null_client.h.
 */
#include "bench/null_client.h"

#include "bench/common.h"
#include "bench/mqtt_raw.h"
#include "bench/tls_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE (1u << 20)
#define OUT_SIZE (1u << 21) /* what all of `in` brings fits into half of it */
#define READ_SIZE (1u << 18)
#define PUBACK_V5_REASON_SIZE 3 /* remaining length with a reason code, without properties */

struct null_client *null_client_new(int fd, uint64_t number, const struct null_manners *manners,
                                    struct null_counts *counts)
{
    struct null_client *client = must_alloc(1, sizeof *client);
    client->manners = manners;
    client->counts = counts;
    client->fd = fd;
    client->number = number;
    client->in = must_alloc(IN_SIZE, 1);
    client->out = must_alloc(OUT_SIZE, 1);
    client->due.delay_ns = manners->delay_ns;
    if (manners->tls != NULL)
        client->tls = tls_session_new(manners->tls, fd);
    return client;
}

void null_client_free(struct null_client *client)
{
    if (client->tls != NULL)
        tls_session_free(client->tls);
    close(client->fd);
    free(client->in);
    free(client->out);
    free(client);
}

static void put(struct null_client *client, const uint8_t *bytes, size_t size)
{
    memcpy(client->out + (client->written - client->base), bytes, size);
    client->written += size;
}

/* CONNECT: only the protocol level matters [MQTT 5.0, 3.1.2.2]. */
static bool take_connect(struct null_client *client, struct bytes body)
{
    uint8_t connack[16];
    struct writer w = writer_over(connack, sizeof connack);
    const struct null_manners *manners = client->manners;
    if (body.length < 7 || client->version != 0)
        return false;
    client->version = body.data[6];
    if (client->version != RAW_MQTT_5 && client->version != RAW_MQTT_3_1_1)
        return false;
    uint8_t properties = manners->max_packet > 0 ? 3 + 5 : 3;
    writer_put_u8(&w, RAW_CONNACK << 4);
    writer_put_u8(&w, client->version == RAW_MQTT_5 ? (uint8_t)(3 + properties) : 2);
    writer_put_u16(&w, 0);
    if (client->version == RAW_MQTT_5) {
        writer_put_u8(&w, properties);
        writer_put_u8(&w, 0x21); /* Receive Maximum */
        writer_put_u16(&w, (uint16_t)manners->receive_maximum);
    }
    if (client->version == RAW_MQTT_5 && manners->max_packet > 0) {
        writer_put_u8(&w, 0x27); /* Maximum Packet Size */
        writer_put_u32(&w, (uint32_t)manners->max_packet);
    }
    put(client, connack, writer_length(&w));
    return true;
}

static void acknowledge(struct null_client *client, const uint8_t *packet_id)
{
    const struct null_manners *manners = client->manners;
    struct null_counts *counts = client->counts;
    bool refuses = manners->refuse_code != 0 && client->version == RAW_MQTT_5 &&
                   counts->publishes % manners->refuse_every == 0;
    const uint8_t puback[] = {RAW_PUBACK << 4, refuses ? PUBACK_V5_REASON_SIZE : 2, packet_id[0],
                              packet_id[1], (uint8_t)manners->refuse_code};
    put(client, puback, refuses ? 5 : 4);
    counts->refused += refuses;
    client->unacknowledged++;
    if (client->unacknowledged > counts->max_unacknowledged)
        counts->max_unacknowledged = client->unacknowledged;
    if (client->version == RAW_MQTT_5 && client->unacknowledged > manners->receive_maximum)
        counts->over_window++;
}

static bool take_publish(struct null_client *client, const uint8_t *packet, size_t header,
                         size_t size)
{
    struct null_counts *counts = client->counts;
    size_t topic = header + 2 <= size ? (size_t)packet[header] << 8 | packet[header + 1] : size;
    unsigned qos = packet[0] >> 1 & 3u;
    size_t id_at = header + 2 + topic;
    if (client->version == 0 || topic == 0 || qos > 1 || id_at + (qos > 0 ? 2 : 0) > size)
        return false;
    counts->publishes++;
    counts->bytes += size;
    client->published = true;
    if (qos == 0)
        counts->qos0++;
    else
        acknowledge(client, packet + id_at);
    return true;
}

static bool take_packet(struct null_client *client, const uint8_t *packet, size_t header,
                        size_t size)
{
    const uint8_t pingresp[] = {RAW_PINGRESP << 4, 0};
    switch (packet[0] >> 4) {
    case RAW_CONNECT:
        return take_connect(client, (struct bytes){packet + header, size - header});
    case RAW_PUBLISH:
        return take_publish(client, packet, header, size);
    case RAW_PINGREQ:
        put(client, pingresp, sizeof pingresp);
        return true;
    case RAW_DISCONNECT:
        return true;
    }
    return false;
}

static bool is_over_size(struct null_client *client, size_t size)
{
    uint64_t most = client->manners->max_packet;
    if (most == 0 || size <= most || client->version != RAW_MQTT_5)
        return false;
    client->counts->over_size++;
    return true;
}

/* Takes all whole packets; false when one is malformed or larger than the buffer. */
static bool take_packets(struct null_client *client)
{
    size_t at = 0;
    size_t header = 0;
    size_t size = 0;
    while ((size = raw_frame(client->in + at, client->in_used - at, &header)) != 0) {
        if (size != SIZE_MAX && is_over_size(client, size))
            return false;
        if (size == SIZE_MAX || !take_packet(client, client->in + at, header, size)) {
            client->counts->malformed++;
            return false;
        }
        at += size;
    }
    client->in_used -= at;
    memmove(client->in, client->in + at, client->in_used);
    return client->in_used < IN_SIZE;
}

/* What a turn may read; a TLS record that is left in wolfSSL would not be announced any more, hence
 * it reads until there is nothing. */
static ssize_t read_some(struct null_client *client)
{
    size_t room = IN_SIZE - client->in_used;
    size_t most = room < READ_SIZE ? room : READ_SIZE;
    uint8_t *into = client->in + client->in_used;
    if (client->tls == NULL)
        return recv(client->fd, into, most, 0);
    ssize_t sum = 0;
    ssize_t got = 0;
    while ((size_t)sum < room &&
           (got = tls_session_read(client->tls, into + sum, room - (size_t)sum)) > 0)
        sum += got;
    return sum > 0 ? sum : got;
}

/* The front of `out` that has gone makes room once it is worth the copy. */
static void make_room(struct null_client *client)
{
    uint64_t gone = client->sent - client->base;
    if (client->sent != client->written && client->written - client->base <= OUT_SIZE / 2)
        return;
    memmove(client->out, client->out + gone, client->written - client->sent);
    client->base = client->sent;
}

bool null_client_read(struct null_client *client)
{
    struct null_counts *counts = client->counts;
    make_room(client);
    if (client->written - client->base > OUT_SIZE / 2)
        return true; /* the client does not read its acknowledgements */
    ssize_t got = read_some(client);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    uint64_t now = clock_ns();
    uint64_t before = counts->publishes;
    uint64_t unacknowledged = client->unacknowledged;
    uint64_t written = client->written;
    client->in_used += (size_t)got;
    bool filled = client->tls != NULL && client->in_used == IN_SIZE; /* there may be more of it */
    bool good = take_packets(client);
    if (counts->publishes > before) {
        counts->last_ns = now;
        if (before == 0)
            counts->first_ns = now;
    }
    if (client->written > written)
        due_queue_put(&client->due, now, client->written, client->unacknowledged - unacknowledged);
    return good && (!filled || null_client_read(client));
}

bool null_client_write(struct null_client *client)
{
    struct due_mark due;
    if (due_queue_next(&client->due) != UINT64_MAX &&
        due_queue_take(&client->due, clock_ns(), &due)) {
        client->released = due.end;
        client->unacknowledged -= due.acks;
    }
    while (client->released > client->sent) {
        const uint8_t *from = client->out + (client->sent - client->base);
        size_t size = client->released - client->sent;
        ssize_t gone = client->tls == NULL ? send(client->fd, from, size, MSG_NOSIGNAL)
                                           : tls_session_write(client->tls, from, size);
        if (gone < 0 && errno == EAGAIN)
            return true;
        if (gone <= 0)
            return false;
        client->sent += (uint64_t)gone;
    }
    return true;
}
