/*
 * What a slot tells the main thread of itself, when it is asked: one piece of memory, which the
 * mailbox carries. Counts go on from the slot's beginning. The main thread gets copies; only names
 * are borrowed, which last until the shards have been joined.
 */
#ifndef NEMOGATE_CORE_REPORT_H
#define NEMOGATE_CORE_REPORT_H

#include "codec/bytes.h"
#include "core/metrics.h"
#include "core/slot.h"

#define REPORT_ERROR_TEXT 256u

enum report_stream_state { REPORT_STREAM_FINE, REPORT_STREAM_HELD, REPORT_STREAM_QUARANTINED };

struct report_stream {
    const char *name;  /* borrowed */
    struct bytes site; /* borrowed */
    size_t broker;
    struct slot_counts counts;
    uint64_t last_ms; /* of the id of the last entry that was read; 0: none was */
    enum report_stream_state state;
    bool trim_blocked;   /* another group keeps what is acknowledged */
    size_t refused_keys; /* wait because the broker has refused an entry of theirs for now */
    uint8_t refusal;     /* the reason code of the last of these refusals */
};

enum report_cause { REPORT_NO_LOSS, REPORT_LOST, REPORT_REFUSED, REPORT_NO_ANSWER };

/* A slot's way to one broker. */
struct report_outlet {
    bool used; /* it has streams for the broker, and its lease */
    unsigned connections;
    unsigned connected;
    size_t inflight;
    size_t window;
    size_t bytes;
    size_t unsettled; /* entries that the broker has not answered or Redis not heard of */
    uint64_t reconnects;
    uint64_t republished;
    uint64_t taken;        /* publishes */
    uint64_t answers[256]; /* by reason code */
    struct histogram puback;
    struct histogram delivery;
    char tls[64];             /* "": plain */
    uint64_t certificate_end; /* of the first of the broker's certificates to end, in s since epoch;
                                 0: none is known */
    /* The last loss. */
    enum report_cause cause;
    uint64_t lost_ms; /* net_now_ms */
    char error[REPORT_ERROR_TEXT];
};

#define REPORT_REASONS_MAX 32u

struct report_reason {
    const char *reason; /* a constant */
    uint64_t count;
};

struct slot_report {
    unsigned slot;
    bool held;     /* the lease is ours */
    bool running;  /* and it carries entries */
    bool redis_up; /* both of its links stand, or are not wanted */
    size_t broker_count;
    struct report_outlet *outlets; /* behind this, in the same piece of memory */
    size_t stream_count;
    size_t all_streams;
    struct report_stream *streams; /* those of which something has changed since the last report */
    struct report_reason reasons[REPORT_REASONS_MAX]; /* of dead letters */
    size_t reason_count;
};

/* On the slot's thread. Owned by the caller, one free() frees it; NULL: memory is short. */
struct slot_report *slot_report_new(struct slot *slot);

#endif
