/*
 * XADD commands for the benchmark; see entry.h. The fields are those of the stream entry, schema
 * v1; 9: head(stream) v id type | topic key (key) | payload (size) | qos retain ts
 *      5: head(stream) | topic key (key) | payload (size) | id ts
 */
#include "bench/entry.h"

#include "bench/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TS_WIDTH 13
#define STREAM_NAME_MAX 200
#define PART_SIZE 320 /* every part but the payload */

/* A prepared piece of a command. */
struct part {
    uint8_t *bytes;
    size_t length;
};

struct entry_maker {
    struct entry_options options;
    struct part *heads;      /* by stream */
    struct part *keys;       /* by key */
    struct part payloads[8]; /* 2 * size + non-ASCII */
    size_t payload_at[8];    /* where the payload stands in them */
    struct part front;
    struct part back;
    size_t id_at; /* in front (9 fields) or back (5) */
    size_t retain_at;
    size_t ts_at;
    size_t size;
};

/* Appends a bulk string; returns where its content stands. */
static size_t part_put(struct part *part, const void *content, size_t length)
{
    part->length += (size_t)sprintf((char *)part->bytes + part->length, "$%zu\r\n", length);
    size_t at = part->length;
    memcpy(part->bytes + at, content, length);
    memcpy(part->bytes + at + length, "\r\n", 2);
    part->length += length + 2;
    return at;
}

static size_t part_field(struct part *part, const char *name, const void *content, size_t length)
{
    part_put(part, name, strlen(name));
    return part_put(part, content, length);
}

static struct part part_new(size_t size)
{
    return (struct part){.bytes = must_alloc(size, 1)};
}

static void make_heads(struct entry_maker *maker)
{
    const struct entry_options *options = &maker->options;
    maker->heads = must_alloc(options->streams, sizeof *maker->heads);
    for (size_t i = 0; i < options->streams; i++) {
        char name[STREAM_NAME_MAX];
        struct part *head = &maker->heads[i];
        *head = part_new(PART_SIZE);
        stream_name(name, sizeof name, options->stream_names, options->first_stream + i);
        head->length = (size_t)sprintf((char *)head->bytes, "*%llu\r\n",
                                       (unsigned long long)(3 + 2 * options->fields));
        part_field(head, "XADD", name, strlen(name));
        part_put(head, "*", 1);
    }
}

static void make_keys(struct entry_maker *maker)
{
    maker->keys = must_alloc(maker->options.keys, sizeof *maker->keys);
    for (size_t i = 0; i < maker->options.keys; i++) {
        char topic[64];
        char key[32];
        struct part *part = &maker->keys[i];
        *part = part_new(PART_SIZE / 2);
        sample_topic(topic, sizeof topic, i);
        snprintf(key, sizeof key, "tool/%zu", i);
        part_field(part, "topic", topic, strlen(topic));
        part_field(part, "key", key, strlen(key));
    }
}

static void make_payloads(struct entry_maker *maker)
{
    const struct size_mix *mix = &maker->options.mix;
    for (size_t i = 0; i < 2 * mix->count; i++) {
        size_t size = mix->size[i / 2];
        uint8_t *payload = must_alloc(size, 1);
        sample_payload(payload, size, i % 2 != 0);
        maker->payloads[i] = part_new(size + PART_SIZE);
        maker->payload_at[i] = part_field(&maker->payloads[i], "payload", payload, size);
        if (maker->size < size)
            maker->size = size;
        free(payload);
    }
}

static void make_frame(struct entry_maker *maker)
{
    uint8_t id[SAMPLE_UUID];
    uint8_t ts[TS_WIDTH] = {0};
    bool plugin = maker->options.fields == 9;
    struct part *front = &maker->front;
    struct part *back = &maker->back;
    sample_uuid(id, 0);
    *front = part_new(PART_SIZE);
    *back = part_new(PART_SIZE);
    if (plugin) {
        part_field(front, "v", "1", 1);
        maker->id_at = part_field(front, "id", id, sizeof id);
        part_field(front, "type", "tool.enabled", strlen("tool.enabled"));
        part_field(back, "qos", maker->options.qos == 0 ? "0" : "1", 1);
        maker->retain_at = part_field(back, "retain", "0", 1);
    } else {
        maker->id_at = part_field(back, "id", id, sizeof id);
    }
    maker->ts_at = part_field(back, "ts", ts, sizeof ts);
}

struct entry_maker *entry_maker_new(const struct entry_options *options)
{
    struct entry_maker *maker = must_alloc(1, sizeof *maker);
    maker->options = *options;
    make_heads(maker);
    make_keys(maker);
    make_payloads(maker);
    make_frame(maker);
    maker->size += 5 * PART_SIZE;
    return maker;
}

void entry_maker_free(struct entry_maker *maker)
{
    for (size_t i = 0; i < maker->options.streams; i++)
        free(maker->heads[i].bytes);
    for (size_t i = 0; i < maker->options.keys; i++)
        free(maker->keys[i].bytes);
    for (size_t i = 0; i < 2 * maker->options.mix.count; i++)
        free(maker->payloads[i].bytes);
    free(maker->heads);
    free(maker->keys);
    free(maker->front.bytes);
    free(maker->back.bytes);
    free(maker);
}

size_t entry_maker_size(const struct entry_maker *maker)
{
    return maker->size;
}

static uint8_t *copy_part(uint8_t *into, const struct part *part)
{
    memcpy(into, part->bytes, part->length);
    return into + part->length;
}

size_t entry_make(const struct entry_maker *maker, const struct event *event, uint8_t *into)
{
    size_t kind = 2 * event->size + (event->non_ascii ? 1 : 0);
    uint8_t *front =
        copy_part(into, &maker->heads[event->stamp.stream - maker->options.first_stream]);
    uint8_t *key = copy_part(front, &maker->front);
    uint8_t *payload = copy_part(key, &maker->keys[event->stamp.key]);
    uint8_t *back = copy_part(payload, &maker->payloads[kind]);
    uint8_t *end = copy_part(back, &maker->back);
    bool plugin = maker->options.fields == 9;
    sample_uuid((plugin ? front : back) + maker->id_at, event->number);
    sample_stamp(payload + maker->payload_at[kind], &event->stamp);
    if (plugin)
        back[maker->retain_at] = event->retain ? '1' : '0';
    sample_digits(back + maker->ts_at, TS_WIDTH, event->wall_ms);
    return (size_t)(end - into);
}

void stream_names_check(const char *pattern)
{
    const char *mark = strchr(pattern, '%');
    if (mark == NULL || strchr(mark + 1, '%') != NULL)
        die_of_option("--stream-names %s: needs one %% for the number", pattern);
}

void stream_name(char *into, size_t size, const char *pattern, uint64_t number)
{
    const char *mark = strchr(pattern, '%');
    int length = snprintf(into, size, "%.*s%llu%s", (int)(mark - pattern), pattern,
                          (unsigned long long)number, mark + 1);
    if (length < 0 || (size_t)length >= size)
        die("the stream's name is longer than %zu bytes", size - 1);
}
