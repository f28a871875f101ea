/*
 * The few MQTT packets that the benchmark's clients and the null broker need, written by hand and
 * apart from codec/, so that the ceiling owes nothing to the code that is measured against it.
 */
#ifndef NEMOGATE_BENCH_MQTT_RAW_H
#define NEMOGATE_BENCH_MQTT_RAW_H

#include "bench/wire.h"
#include "codec/bytes.h"

#define RAW_MQTT_5 5u
#define RAW_MQTT_3_1_1 4u

enum raw_type {
    RAW_CONNECT = 1,
    RAW_CONNACK = 2,
    RAW_PUBLISH = 3,
    RAW_PUBACK = 4,
    RAW_SUBSCRIBE = 8,
    RAW_SUBACK = 9,
    RAW_PINGREQ = 12,
    RAW_PINGRESP = 13,
    RAW_DISCONNECT = 14,
};

/* The size of the packet at the start and of its fixed header; 0 while it is incomplete. A
 * remaining length of more than four bytes [MQTT 5.0, 1.5.5] gives SIZE_MAX. */
size_t raw_frame(const uint8_t *at, size_t length, size_t *header);
/* The same when only the fixed header need be there: SIZE_MAX as above, 0 when it is not. */
size_t raw_frame_size(const uint8_t *at, size_t length, size_t *header);

struct raw_publish {
    unsigned version;
    unsigned qos;
    bool retain;
    uint16_t packet_id;
    const char *topic;
    struct bytes payload;
    const char *id;        /* user property `id`; NULL: no user properties */
    const char *stream_id; /* user property `stream-id` */
};

void raw_put_publish(struct writer *w, const struct raw_publish *publish);
void raw_put_puback(struct writer *w, uint16_t packet_id);

/* A frame of type PUBLISH taken apart, properties skipped. */
struct raw_message {
    unsigned qos;
    uint16_t packet_id;
    struct bytes payload;
};

/* False when it is malformed. */
bool raw_read_publish(const uint8_t *packet, size_t header, size_t size, unsigned version,
                      struct raw_message *message);

/* CONNECT with Clean Start and no keep alive, waits for a CONNACK that accepts and returns the
 * Receive Maximum it binds us to. */
uint16_t raw_handshake(struct wire *wire, unsigned version, const char *client_id);
/* SUBSCRIBE, and waits for a SUBACK that grants it. */
void raw_subscribe(struct wire *wire, unsigned version, const char *filter, unsigned qos);

#endif
