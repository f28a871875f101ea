/*
 * A Redis stream id: milliseconds and sequence, ordered. Pure functions.
 */
#ifndef NEMOGATE_CODEC_STREAM_ID_H
#define NEMOGATE_CODEC_STREAM_ID_H

#include "codec/bytes.h"
#include "codec/status.h"

struct stream_id {
    uint64_t ms;
    uint64_t seq;
};

#define STREAM_ID_TEXT 42 /* two 20-digit numbers, a hyphen and a NUL */

/* "ms-seq", both decimal without sign; anything else is STATUS_MALFORMED. */
MUST_CHECK enum status stream_id_parse(struct bytes text, struct stream_id *id);

/* Writes "ms-seq" and a NUL into text (STREAM_ID_TEXT bytes); returns the length without NUL. */
size_t stream_id_format(struct stream_id id, char *text);

/* Negative, 0 or positive as a is before, equal to or after b. */
static inline int stream_id_compare(struct stream_id a, struct stream_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

/* The last id before id, which is not 0-0. */
static inline struct stream_id stream_id_before(struct stream_id id)
{
    return id.seq > 0 ? (struct stream_id){id.ms, id.seq - 1}
                      : (struct stream_id){id.ms - 1, UINT64_MAX};
}

/* The next id after this one, which is not the last of all. */
static inline struct stream_id stream_id_after(struct stream_id id)
{
    return id.seq < UINT64_MAX ? (struct stream_id){id.ms, id.seq + 1}
                               : (struct stream_id){id.ms + 1, 0};
}

#endif
