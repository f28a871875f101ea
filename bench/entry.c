/*
 * XADD commands for the benchmark; see entry.h. The fields are those of the stream entry, schema
 * v1.
 */
#include "bench/entry.h"

#include "bench/common.h"
#include "bench/redis_raw.h"
#include "bench/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TS_WIDTH 13
#define HEAD_SIZE 128
#define TAIL_EXTRA 512 /* everything of a command but stream name and payload */

/* A command's part behind the stream's name, and where its changing fields stand in it. */
struct tail {
    uint8_t *bytes;
    size_t length;
    size_t id_at;
    size_t ts_at;
    size_t payload_at;
};

struct head {
    uint8_t bytes[HEAD_SIZE];
    size_t length;
};

struct entry_maker {
    struct head *heads;
    struct tail *tails;
    size_t streams;
    size_t keys;
    size_t tail_size;
};

/* Appends a bulk string; returns where its content stands. */
static size_t tail_put(struct tail *tail, const void *content, size_t length)
{
    tail->length += (size_t)sprintf((char *)tail->bytes + tail->length, "$%zu\r\n", length);
    size_t at = tail->length;
    memcpy(tail->bytes + at, content, length);
    memcpy(tail->bytes + at + length, "\r\n", 2);
    tail->length += length + 2;
    return at;
}

static size_t tail_field(struct tail *tail, const char *name, const void *content, size_t length)
{
    tail_put(tail, name, strlen(name));
    return tail_put(tail, content, length);
}

static void tail_make(struct tail *tail, unsigned tool, size_t payload_size)
{
    char topic[64];
    char key[32];
    uint8_t id[SAMPLE_UUID];
    uint8_t ts[TS_WIDTH] = {0};
    uint8_t *payload = must_alloc(payload_size, 1);
    sample_topic(topic, sizeof topic, tool);
    sample_uuid(id, 0);
    sample_payload(payload, payload_size, tool);
    int key_length = snprintf(key, sizeof key, "tool/%u", tool);

    tail->bytes = must_alloc(payload_size + TAIL_EXTRA, 1);
    tail_put(tail, "*", 1);
    tail_field(tail, "v", "1", 1);
    tail->id_at = tail_field(tail, "id", id, sizeof id);
    tail_field(tail, "type", "tool.enabled", strlen("tool.enabled"));
    tail_field(tail, "topic", topic, strlen(topic));
    tail_field(tail, "key", key, (size_t)key_length);
    tail->payload_at = tail_field(tail, "payload", payload, payload_size);
    tail_field(tail, "qos", "1", 1);
    tail_field(tail, "retain", "0", 1);
    tail->ts_at = tail_field(tail, "ts", ts, sizeof ts);
    free(payload);
}

struct entry_maker *entry_maker_new(size_t streams, size_t keys, size_t payload)
{
    if (streams == 0 || keys == 0)
        die("streams and keys must be at least 1");
    struct entry_maker *maker = must_alloc(1, sizeof *maker);
    *maker = (struct entry_maker){.streams = streams, .keys = keys};
    maker->heads = must_alloc(streams, sizeof *maker->heads);
    maker->tails = must_alloc(keys, sizeof *maker->tails);
    for (size_t i = 0; i < streams; i++) {
        char name[64];
        redis_stream_name(name, sizeof name, i + 1);
        int length = snprintf((char *)maker->heads[i].bytes, HEAD_SIZE,
                              "*21\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n", strlen(name), name);
        maker->heads[i].length = (size_t)length;
    }
    for (size_t i = 0; i < keys; i++)
        tail_make(&maker->tails[i], (unsigned)i, payload);
    maker->tail_size = payload + TAIL_EXTRA;
    return maker;
}

void entry_maker_free(struct entry_maker *maker)
{
    for (size_t i = 0; i < maker->keys; i++)
        free(maker->tails[i].bytes);
    free(maker->tails);
    free(maker->heads);
    free(maker);
}

size_t entry_maker_size(const struct entry_maker *maker)
{
    return HEAD_SIZE + maker->tail_size;
}

size_t entry_make(const struct entry_maker *maker, const struct entry_of *entry, uint8_t *into)
{
    const struct head *head = &maker->heads[entry->stream];
    const struct tail *tail = &maker->tails[entry->key];
    uint8_t *body = into + head->length;
    memcpy(into, head->bytes, head->length);
    memcpy(body, tail->bytes, tail->length);
    sample_uuid(body + tail->id_at, entry->number);
    sample_digits(body + tail->ts_at, TS_WIDTH, entry->wall_ms);
    sample_stamp(body + tail->payload_at, entry->stamp, entry->number);
    return head->length + tail->length;
}
