/*
 * The batch encoding: many entries of one stream in one publish, as MessagePack. README, "Batches",
 * says what a reader finds; this is the writing half and does not decode.
 * A batch is its head and then its events, encoded each for itself, one behind the other: it can be
 * halved or made anew by writing another head before some of the same bytes.
 * Pure functions, no allocation. Any thread.
 */
#ifndef NEMOGATE_CODEC_ENCODE_MSGPACK_H
#define NEMOGATE_CODEC_ENCODE_MSGPACK_H

#include "codec/bytes.h"
#include "codec/stream_id.h"

#define BATCH_CONTENT_TYPE "application/x-msgpack"
#define BATCH_VERSION 1

/* One entry of a batch. All views are borrowed for the call. Topic, event_id and type are valid
 * UTF-8, as stream_entry_read leaves them, and so is the prefix; payload and key are any bytes. */
struct batch_event {
    struct stream_id id;       /* of the stream entry */
    struct bytes topic_prefix; /* may be empty */
    struct bytes topic;        /* as the producer wrote it */
    struct bytes payload;
    struct bytes key;      /* always there; written where it is not the topic, its default */
    struct bytes event_id; /* the producer's id; empty: none was given */
    struct bytes type;     /* empty: none */
    bool retain;
    bool has_ts;
    uint64_t ts_ms;      /* since epoch; where has_ts */
    uint64_t expires_ms; /* since epoch, on Redis' clock; 0: never */
};

/* The exact size of the event in bytes; 0 when it cannot be encoded: prefix and topic together are
 * over 65,535 bytes, which no MQTT topic can be, or another part is over 4,294,967,295. */
size_t batch_event_size(const struct batch_event *event);

/* At least that size, without looking closer. */
static inline size_t batch_event_most(const struct batch_event *event)
{
    return event->topic_prefix.length + event->topic.length + event->payload.length +
           event->key.length + event->event_id.length + event->type.length + 256;
}

/* Writes the event. Where it cannot be encoded, or does not fit, the writer has failed and nothing
 * of the event is in it. */
void batch_put_event(struct writer *w, const struct batch_event *event);

/* The exact size of what stands before the events of a batch of count events; 0 when site or stream
 * is over 4,294,967,295 bytes. */
size_t batch_head_size(struct bytes site, struct bytes stream, uint32_t count);

/* Writes the head; exactly count events must follow it. Site is valid UTF-8, stream is any bytes.
 * Where it cannot be encoded, or does not fit, as batch_put_event. */
void batch_put_head(struct writer *w, struct bytes site, struct bytes stream, uint32_t count);

#endif
