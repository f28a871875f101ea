/*
 * Redis or a broker as the load's target; see target.h.
 */
#include "bench/target.h"

#include "bench/common.h"
#include "bench/mqtt_raw.h"
#include "bench/redis_raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PACKET_EXTRA 256 /* of a PUBLISH beside its payload */
#define SILENCE_MS 10000
#define STREAM_ID "1700000000000-100"

struct target {
    struct target_options options;
    uint8_t *batch;
    size_t length;
    size_t capacity;
    uint64_t put; /* events in the batch */
    uint64_t bytes;

    redisContext *redis;
    struct entry_maker *maker;
    uint64_t unread; /* replies */

    struct wire wire;
    uint8_t *payloads[8]; /* 2 * size + non-ASCII */
    uint64_t window;
    uint64_t sent;
    uint64_t acknowledged;
};

static void open_direct(struct target *target)
{
    const struct target_options *options = &target->options;
    const struct size_mix *mix = &options->entry.mix;
    char client_id[32];
    size_t largest = 0;
    for (size_t i = 0; i < 2 * mix->count; i++) {
        size_t size = mix->size[i / 2];
        target->payloads[i] = must_alloc(size, 1);
        sample_payload(target->payloads[i], size, i % 2 != 0);
        largest = size > largest ? size : largest;
    }
    target->capacity = options->pipeline * (largest + PACKET_EXTRA);
    snprintf(client_id, sizeof client_id, "load-%d", (int)getpid());
    wire_open(&target->wire, options->host, options->port, options->ca_file);
    target->window =
        raw_handshake(&target->wire, options->v3 ? RAW_MQTT_3_1_1 : RAW_MQTT_5, client_id);
}

struct target *target_new(const struct target_options *options)
{
    struct target *target = must_alloc(1, sizeof *target);
    target->options = *options;
    if (options->direct) {
        open_direct(target);
    } else {
        target->maker = entry_maker_new(&options->entry);
        target->capacity = options->pipeline * entry_maker_size(target->maker);
        target->redis = redis_open(options->host, options->port);
    }
    target->batch = must_alloc(target->capacity, 1);
    return target;
}

void target_free(struct target *target)
{
    if (target->options.direct) {
        wire_close(&target->wire);
    } else {
        redisFree(target->redis);
        entry_maker_free(target->maker);
    }
    for (size_t i = 0; i < 8; i++)
        free(target->payloads[i]);
    free(target->batch);
    free(target);
}

/* ---- a broker ------------------------------------------------------------------------------ */

static void take_pubacks(struct target *target)
{
    struct wire *wire = &target->wire;
    size_t at = 0;
    size_t header = 0;
    size_t size = 0;
    while ((size = raw_frame(wire->in + at, wire->used - at, &header)) != 0) {
        const uint8_t *packet = wire->in + at;
        if (size == SIZE_MAX || packet[0] >> 4 != RAW_PUBACK)
            die("the broker sent packet type %d instead of PUBACK", packet[0] >> 4);
        if (size > header + 2 && packet[header + 2] >= 0x80)
            die("the broker refused a publish with code 0x%02x", packet[header + 2]);
        target->acknowledged++;
        at += size;
    }
    wire_take(wire, at);
}

/* Until at most `most` publishes have no answer. */
static void await_pubacks(struct target *target, uint64_t most)
{
    while (wire_read(&target->wire))
        take_pubacks(target);
    while (target->sent - target->acknowledged > most) {
        if (!wire_wait(&target->wire, SILENCE_MS))
            die("no PUBACK for %d ms", SILENCE_MS);
        take_pubacks(target);
    }
}

static void flush_direct(struct target *target)
{
    wire_write_all(&target->wire, target->batch, target->length);
    target->bytes += target->length;
    target->length = 0;
    target->put = 0;
}

static void put_direct(struct target *target, const struct event *event)
{
    char topic[64] = SAMPLE_TOPIC_PREFIX;
    char id[SAMPLE_UUID + 1] = "";
    size_t kind = 2 * event->size + (event->non_ascii ? 1 : 0);
    if (target->sent - target->acknowledged == target->window) {
        flush_direct(target);
        await_pubacks(target, target->window - 1);
    }
    sample_topic(topic + strlen(topic), sizeof topic - strlen(topic), event->stamp.key);
    sample_uuid((uint8_t *)id, event->number);
    sample_stamp(target->payloads[kind], &event->stamp);
    struct raw_publish publish = {
        .version = target->options.v3 ? RAW_MQTT_3_1_1 : RAW_MQTT_5,
        .qos = 1,
        .retain = event->retain,
        .packet_id = (uint16_t)(target->sent % 65535 + 1),
        .topic = topic,
        .payload = {target->payloads[kind], target->options.entry.mix.size[event->size]},
        .id = id,
        .stream_id = STREAM_ID,
    };
    struct writer w =
        writer_over(target->batch + target->length, target->capacity - target->length);
    raw_put_publish(&w, &publish);
    target->length += writer_length(&w);
    target->sent++;
}

/* ---- either -------------------------------------------------------------------------------- */

void target_put(struct target *target, const struct event *event)
{
    target->put++;
    if (target->options.direct)
        put_direct(target, event);
    else
        target->length += entry_make(target->maker, event, target->batch + target->length);
}

void target_flush(struct target *target)
{
    uint64_t put = target->put;
    if (target->options.direct) {
        flush_direct(target);
        await_pubacks(target, target->window);
        return;
    }
    if (redisAppendFormattedCommand(target->redis, (char *)target->batch, target->length) !=
        REDIS_OK)
        die("Redis: %s", target->redis->errstr);
    redis_flush(target->redis);
    redis_skip(target->redis, target->unread);
    target->bytes += target->length;
    target->unread = put;
    target->length = 0;
    target->put = 0;
}

void target_finish(struct target *target)
{
    if (target->options.direct)
        await_pubacks(target, 0);
    else
        redis_skip(target->redis, target->unread);
    target->unread = 0;
}

uint64_t target_bytes(const struct target *target)
{
    return target->bytes;
}
