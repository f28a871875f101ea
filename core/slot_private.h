/*
 * The inside of a slot, shared by the files that make it up: slot.c (its life), lane.c (a stream's
 * beginning), reading.c (what is read when), flow.c (entries to publishes to settlement), acks.c
 * (settlement to Redis). Nobody else includes it.
 */
#ifndef NEMOGATE_CORE_SLOT_PRIVATE_H
#define NEMOGATE_CORE_SLOT_PRIVATE_H

#include "core/batch.h"
#include "core/lease.h"
#include "core/ledger.h"
#include "core/slot.h"
#include "transport/mqtt_pool.h"

#include <event2/event.h>
#include <pthread.h>

/* ---- a stream ------------------------------------------------------------------------------ */

enum lane_state {
    LANE_NEW,         /* to begin when the read link is fenced */
    LANE_GROUP,       /* the consumer group is being made */
    LANE_CLAIM,       /* what other consumers hold is being claimed */
    LANE_HISTORY,     /* its own pending entries are being read */
    LANE_LIVE,        /* new entries are read */
    LANE_HELD,        /* Redis refuses what it is owed: nothing is read until that is over */
    LANE_QUARANTINED, /* Redis refuses the stream; tried again later */
};

/* One XREADGROUP without an answer. Those of a link are answered in the order of sending. */
struct read_op {
    struct read_op *next;
    struct lane **lanes; /* those named, in that order */
    size_t lane_count;
    size_t lane_capacity;
    size_t position;   /* the lane whose entries are coming */
    unsigned per_lane; /* COUNT: reserved for each lane until the answer */
    bool history;      /* else it asks for new entries */
    bool blocking;
    bool busy;
};

struct lane {
    struct slot *slot;
    char *name;
    struct bytes site; /* view of name, or of the route's site */
    char *dead_stream; /* nemo:{site}:dead */
    uint8_t *prefix;   /* the route's topic prefix, expanded */
    size_t prefix_length;
    const struct config_route *route;
    struct outlet *outlet;
    enum lane_state state;
    bool hot;          /* its last read was full: there is more */
    bool late;         /* found after the first look for streams: it is read from its beginning */
    bool had_group;    /* its group has been seen: one that is gone is made again from 0 */
    size_t received;   /* entries of the read that is being answered */
    size_t entries;    /* in the ledger */
    uint64_t retry_ms; /* LANE_QUARANTINED: when to try again */

    struct stream_id last; /* the last entry that was taken in, or skipped as alive */
    bool cut;              /* an entry of the read that is being answered had no room */

    /* The history read: which entries were alive when it began. They are skipped, however they fare
     * meanwhile. */
    struct stream_id *alive;
    size_t alive_count;
    struct read_op history;
    struct lane *history_page; /* what history.lanes points to */

    /* What Redis is owed, in the order of settlement; the first acking of them are in an XACK or a
     * dead-letter script without an answer. */
    struct entry_queue owed;
    bool refused; /* Redis has refused the first of them: the lane is held until it takes it */
    uint32_t acking;
    bool owes; /* on the slot's list of lanes that owe */
    struct lane *next_owing;
    uint64_t ack_retry_ms; /* after an error: not before */
    struct log_limit trouble;
};

/* ---- brokers ------------------------------------------------------------------------------- */

/* The entries of one connection in their order: sent ones first, then those that wait. */
struct outbox {
    struct outlet *outlet;
    struct mqtt_conn *conn;
    struct entry_queue entries;
    uint32_t next_to_send; /* ENTRY_NONE: all have been sent */
    uint32_t sent;         /* entries before next_to_send */
    uint32_t burying;      /* given to acks.c as a dead letter; ENTRY_NONE: none. Nothing is sent
                              before Redis has answered */
    bool stopped;          /* mqtt_conn_stop is done */
    struct batch_pool *batches; /* entries of an outbox settle in order, and so its blocks empty */
    struct log log;
    struct log_limit lost;
};

/* A slot's way to one broker. */
struct outlet {
    struct slot *slot;
    const struct config_broker *broker;
    struct log log;
    char *client_id_prefix;
    struct mqtt_conn_config conn_config;
    struct mqtt_pool *pool;
    struct outbox *outboxes;
    void **contexts;
    size_t connections;
    bool started;    /* the pool has been told to connect: a lane uses it */
    bool open;       /* all connections have been ready since the lease was taken */
    size_t credits;  /* entries that may be unsettled */
    size_t used;     /* entries in the ledger */
    size_t reserved; /* entries that outstanding reads may bring */
    size_t bytes;    /* encoded entries in memory */
    size_t bytes_max;
    bool wanted;          /* a lane waits for room for its history: new entries must not take it */
    uint64_t entry_bytes; /* running mean of an encoded entry's size, for choosing COUNT */
};

/* ---- the slot ------------------------------------------------------------------------------ */

enum slot_state {
    SLOT_STOPPED,
    SLOT_WAITING,   /* for Redis, or for the lease */
    SLOT_HELD,      /* it owns the lease and carries entries */
    SLOT_DRAINING,  /* it reads nothing new and settles what is in flight */
    SLOT_PARTING,   /* disconnecting from the brokers */
    SLOT_RELEASING, /* giving the lease back */
};

struct slot {
    struct slot_setting setting;
    struct log log;
    pthread_t thread;
    enum slot_state state;
    struct event *tick;

    struct lease *lease;
    char *lease_key;
    char *consumer;
    char *link_names[LEASE_ROLES];
    struct redis_link_config link_config[LEASE_ROLES];
    struct redis_link *read_link;
    struct redis_link *write_link;
    bool read_fenced;  /* the read link's lease is confirmed and former links are closed */
    bool write_fenced; /* the same of the write link */
    uint64_t lease_retry_ms;
    bool announced; /* on_running has been called */
    struct log_limit lease_trouble;
    struct log_limit link_trouble[LEASE_ROLES];
    struct log_limit dead_trouble;
    struct log_limit gone_trouble;

    struct lane **lanes;
    size_t lane_count;
    size_t lane_capacity;
    bool lanes_waiting; /* some are to begin, or wait for room for a page of history */
    size_t hot_lanes;

    struct outlet *outlets; /* one per broker of the configuration; pool NULL: not in use */

    struct ledger ledger;

    struct read_op *ops_first; /* reads without an answer */
    struct read_op **ops_last;
    struct read_op reads[2]; /* for new entries */
    size_t rotation;         /* the lane that the next read names first */
    unsigned hot_turns;
    bool waking;             /* a CLIENT UNBLOCK is on its way */
    struct bytes *arguments; /* of commands, reused */
    size_t argument_capacity;

    struct lane *owing; /* lanes that owe Redis an acknowledgement */
    struct slot_counts counts;
};

#define ASSERT_ON_SHARD(slot) assert(pthread_equal(pthread_self(), (slot)->thread))

/* slot_setup.c */
extern const struct redis_link_events slot_read_events;
extern const struct redis_link_events slot_write_events;
extern const struct lease_events slot_lease_events;
void slot_on_tick(int fd, short what, void *context);

/* slot.c */
/* Forgets everything in memory, all of which is pending in Redis, and begins again with the lease.
 */
void slot_start_over(struct slot *slot);

/* lane.c */
struct lane *lane_new(struct slot *slot, const char *name, bool late);
void lane_free(struct lane *lane);
/* Begins. The read link must be fenced. */
void lane_begin(struct lane *lane);
/* Asks for the next page of history; false: there is no room for one. */
bool lane_read_history(struct lane *lane);
/* true: the entry was alive when the history read began, and is not to be taken again. */
bool lane_was_alive(const struct lane *lane, struct stream_id id);
/* An entry had no room: it and all behind it are read again, as history, when there is some. */
void lane_read_again(struct lane *lane);
/* Redis refuses what it is owed: gives back what waits in memory, and reads nothing. */
void lane_hold(struct lane *lane);
/* Ends a hold: the lane begins again. */
void lane_go_on(struct lane *lane);
void lane_set_hot(struct lane *lane, bool hot);

/* reading.c */
/* Makes room for count arguments and returns them. NULL: memory is short. */
struct bytes *slot_arguments(struct slot *slot, size_t count);
/* How many more entries may be asked for, by credits and, as far as sizes can be foreseen, by
 * bytes. */
size_t reading_room(const struct outlet *outlet);
/* Notes a read that is about to be sent: its lanes and per_lane are set, and there is room. */
void reading_expect(struct slot *slot, struct read_op *op, bool blocking);
/* Its reply has come, or never will. */
void reading_answered(struct slot *slot, struct read_op *op);
/* All lanes begin again: the read link has just been fenced. */
void reading_begin(struct slot *slot);
/* Reads as far as there is room. */
void reading_refill(struct slot *slot);
/* Ends a parked read early. */
void reading_wake(struct slot *slot);
/* Forgets all outstanding reads. */
void reading_forget(struct slot *slot);
extern const struct redis_stream_sink reading_sink;

/* flow.c */
/* Takes an entry in: ledger, encoding, outbox. false: it has no room, by bytes. */
bool flow_take(struct lane *lane, const struct redis_entry *entry);
/* Says that a pending entry was deleted by others. id is its text. */
void flow_report_gone(struct lane *lane, struct bytes id);
/* Publishes what the connections have room for. */
void flow_pump(struct outlet *outlet);
/* The entry that the outbox has given to acks.c as a dead letter is gone. */
void flow_buried(struct slot *slot, uint32_t index);
/* Forgets the entries of a lane that have not been sent: they stay pending in Redis. */
void flow_drop_unsent(struct lane *lane);
/* Closes the connections without a word and forgets what waits for them; the ledger keeps it. */
void flow_close(struct outlet *outlet);
/* Publishes without their acknowledgement. */
size_t flow_in_flight(const struct slot *slot);
/* Gives an entry's memory back and strikes it from the ledger. */
void flow_forget(struct slot *slot, uint32_t index);
extern const struct mqtt_conn_events flow_events;

/* acks.c */
/* The entry has settled, or can never be published (fault_reason): Redis is owed the word of it. */
void acks_owe(struct slot *slot, uint32_t index);
/* Sends what is owed, one command per lane at a time. */
void acks_flush(struct slot *slot);
/* The write link went down: what was sent without an answer is owed again. */
void acks_rewind(struct slot *slot);
bool acks_idle(const struct slot *slot);

#endif
