/*
 * One stream entry of schema v1: the flat fields of a Redis stream entry, read and judged.
 * It checks what is the entry's own (required fields, numbers, lengths, UTF-8, wildcards); what
 * depends on a route or a broker is not its business. Pure functions, no allocation. Any thread.
 */
#ifndef NEMOGATE_CODEC_STREAM_ENTRY_H
#define NEMOGATE_CODEC_STREAM_ENTRY_H

#include "codec/bytes.h"
#include "codec/status.h"
#include "codec/stream_id.h"

struct stream_field {
    struct bytes name;
    struct bytes value;
};

/* A decoded entry. All views borrow from the fields given to stream_entry_read. */
struct stream_entry {
    struct bytes topic;
    bool absolute; /* abs=1: the topic is taken verbatim, without the route's prefix */
    struct bytes payload;
    struct bytes key;  /* the topic where the entry names none */
    struct bytes id;   /* the producer's id; empty: none, the stream id stands for it */
    struct bytes type; /* may be empty */
    uint8_t qos;       /* 0 or 1; an entry's 2 is read as 1, the path is at-least-once */
    bool retain;
    uint64_t ts_ms; /* since epoch; the stream id's time where the entry names none */
    bool has_exp;
    uint32_t exp_s; /* from the stream id's time */
};

/* Why an entry can never be published. Static strings: reason is the short word that is written to
 * the dead-letter stream ("no-topic", "bad-topic", "bad-field", "payload-too-large",
 * "unknown-version"), detail says what was wrong in words. */
struct stream_entry_fault {
    const char *reason;
    const char *detail;
};

/* STATUS_OK: *entry is set. STATUS_MALFORMED or STATUS_TOO_LARGE: *fault is set, and entry->key (or
 * the topic, or nothing: empty) is still set where it could be read, so that the fault takes its
 * place in the key's order. Unknown fields are ignored; of a field given twice the last counts.
 * max_payload is in bytes. */
MUST_CHECK enum status stream_entry_read(struct stream_id id, const struct stream_field *fields,
                                         size_t count, size_t max_payload,
                                         struct stream_entry *entry,
                                         struct stream_entry_fault *fault);

/* The site of a stream name: the text of its hash tag, "a" for "nemo:{a}:events"; empty where there
 * is no tag or the tag is not a site id ([a-z0-9][a-z0-9-]{0,31}). The view borrows from name. */
struct bytes stream_site(struct bytes stream_name);

/* [a-z0-9][a-z0-9-]{0,31} */
bool site_id_valid(struct bytes site);

#endif
