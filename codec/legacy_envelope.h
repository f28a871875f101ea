/*
 * What the Redis plugins of NEMO push: a JSON object with topic, payload (a string that itself
 * holds JSON), qos, retain and timestamp. Decoded once, into the fields of an entry; the payload
 * stays opaque, and whether the topic may be published to is stream_entry's business. Pure
 * functions, no allocation. Any thread.
 */
#ifndef NEMOGATE_CODEC_LEGACY_ENVELOPE_H
#define NEMOGATE_CODEC_LEGACY_ENVELOPE_H

#include "codec/bytes.h"
#include "codec/status.h"
#include "codec/stream_entry.h"

/* The views borrow from the text and from the scratch given to legacy_envelope_read. */
struct legacy_envelope {
    struct bytes topic;   /* UTF-8, may hold U+0000 */
    struct bytes payload; /* UTF-8, may hold U+0000 */
    uint8_t qos;          /* 0 to 2; 1 where the envelope names none */
    bool retain;          /* false where the envelope does not say */
    bool has_ts;
    uint64_t ts_ms; /* since epoch, rounded down */
};

/* text: any bytes; scratch: as many bytes as text, not overlapping it. STATUS_OK: *envelope is set.
 * STATUS_MALFORMED: *fault is set ("bad-envelope": no JSON object, or nested deeper than 64;
 * "no-topic", "bad-topic", "bad-field": as in stream_entry.h; "lone-surrogate": topic or payload is
 * no UTF-8 text once decoded), and envelope->topic is still set where it could be read. What
 * Python's json.loads takes is taken, with NaN and Infinity; of a member given twice the last
 * counts; unknown members are ignored. A timestamp that is no moment since the epoch (null,
 * negative, NaN) is as if it were not given: it has no say in whether an event is delivered. */
MUST_CHECK enum status legacy_envelope_read(struct bytes text, uint8_t *scratch,
                                            struct legacy_envelope *envelope,
                                            struct stream_entry_fault *fault);

#endif
