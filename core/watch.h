/*
 * What slots hand to the main thread for those who look: samples of what has been published, while
 * somebody listens, and the last retained values of a site, when somebody asks. Each is one piece
 * of memory with views into itself, which the mailbox carries.
 */
#ifndef NEMOGATE_CORE_WATCH_H
#define NEMOGATE_CORE_WATCH_H

#include "codec/bytes.h"
#include "codec/stream_id.h"

#define WATCH_PAYLOAD_MAX 2048u
#define WATCH_TEXT_MAX 512u

struct watch_sample {
    struct stream_id id;
    char site[40];
    struct bytes topic, key, type, payload; /* each may be cut */
    bool cut;                               /* the payload is */
    bool retain;
    uint8_t qos;
    uint64_t dropped; /* not handed over since the one before, of this slot */
};

struct watch_value {
    struct bytes topic, payload;
    uint64_t at_ms; /* of the entry's stream id */
};

struct watch_state {
    bool cut; /* there were more than are kept */
    size_t count;
    struct watch_value value[];
};

#endif
