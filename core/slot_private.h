/*
 * The inside of a slot, shared by the files that make it up: slot.c (its life), lane.c (a stream's
 * beginning), reading.c (what is read when), flow.c (entries to publishes to settlement), acks.c
 * (settlement to Redis), trim.c (what Redis need not keep), gateway_beat.c (what a site's page
 * shows of it). Nobody else includes it.
 */
#ifndef NEMOGATE_CORE_SLOT_PRIVATE_H
#define NEMOGATE_CORE_SLOT_PRIVATE_H

#include "core/batch.h"
#include "core/key_queue.h"
#include "core/lease.h"
#include "core/ledger.h"
#include "core/report.h"
#include "core/rotation.h"
#include "core/slot.h"
#include "core/watch.h"
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
    LANE_SETTINGS,    /* it waits at an entry of type gateway.settings, or for its site's version */
    LANE_HELD,        /* Redis refuses what it is owed: nothing is read until that is over */
    LANE_QUARANTINED, /* Redis refuses the stream; tried again later */
};

/* One XREADGROUP without an answer. Those of a link are answered in the order of sending. */
struct read_op {
    struct read_op *next;
    struct lane **lanes; /* those named, in that order */
    size_t lane_count;
    size_t lane_capacity;
    const struct rotation *from; /* that the lanes were chosen from; NULL: a history */
    size_t position;             /* the lane whose entries are coming */
    unsigned per_lane;           /* COUNT: reserved for each lane until the answer */
    bool history;                /* else it asks for new entries */
    bool blocking;
    bool busy;
};

#define TRIM_WAITS 6

struct trim_list {
    struct lane *first;
    struct lane *last;
};

struct lane_trim {
    struct trim_list
        *list; /* of the slot; NULL: nothing to do, or its script is without an answer */
    struct lane *next;
    struct lane *previous;
    uint64_t due_ms;
    unsigned patience; /* which of the waits it is in */
    uint32_t acked;    /* since its script was last sent */
    struct log_limit held;
};

/* What waits of a lane whose route has the encoding batch; see bundle.c. */
struct bundle_list {
    struct lane *first;
    struct lane *last;
};

/* What its site's NEMO page shows; a ring of those that do. See gateway_beat.c. */
struct lane_beat {
    struct lane *next; /* NULL: no page shows it */
    struct lane *previous;
    uint64_t refused_ms; /* when Redis last refused it; 0: it has taken it */
};

struct bundling {
    struct entry_queue waiting; /* taken in, and not sent on the present connection */
    struct entry_queue again;   /* of them, those that a lost connection has just given back */
    size_t bytes;               /* of their events */
    struct bundle_list *list;   /* of its outbox; NULL: nothing waits */
    struct lane *next;
    struct lane *previous;
    uint64_t due_ms;     /* lingering: not to be sent before, unless there are enough */
    uint32_t events_max; /* less than the route's after a refusal or a loss; grows again */
    uint32_t hash;       /* of the one key that the stream is */
    uint8_t *topic;      /* the route's, expanded */
    size_t topic_length;
};

struct lane {
    /* What each read looks at of each lane that it names, close together: with many idle streams
     * little else is done. */
    char *name;
    struct outlet *outlet;
    struct turn turn; /* LANE_LIVE: in one of the slot's rotations */
    size_t received;  /* entries of the read that is being answered */
    uint32_t name_length;
    enum lane_state state;

    struct slot *slot;
    struct bytes site; /* view of name, or of the route's site */
    char *dead_stream; /* nemo:{site}:dead */
    char *tries_key;   /* nemo:{site}:tries */
    uint8_t *prefix;   /* the route's topic prefix, expanded */
    size_t prefix_length;
    const struct config_route *route;
    bool late;         /* found after the first look for streams: it is read from its beginning */
    bool had_group;    /* its group has been seen: one that is gone is made again from 0 */
    size_t entries;    /* in the ledger */
    uint64_t retry_ms; /* LANE_QUARANTINED: when to try again */
    uint64_t begun_ms; /* when it last began */

    struct stream_id last; /* the last entry that was taken in, or skipped as alive */
    bool cut;              /* an entry of the read that is being answered had no room */

    /* The history read: which entries were alive when it began. They are skipped, however they fare
     * meanwhile. */
    struct stream_id *alive;
    size_t alive_count;
    struct read_op history;
    struct lane *history_page; /* what history.lanes points to */
    bool looks_for_suspects;   /* something was pending when it began: counts are asked for */
    bool back_wanted;          /* a key waits for its parked entries */
    bool gathers;     /* coalescing: what was superseded before a restart may not be sent after what
                         superseded it, and so nothing is until the history is in memory */
    size_t keys_back; /* they are being read back, and there is room for more of them */
    bool back_to_end; /* of some all are read back */
    struct stream_id seen; /* reading back: what lies before is in memory or parked, or was */
    bool at_settings;      /* LANE_SETTINGS: at the entry with this token */
    uint64_t settings_token;
    uint64_t settings_saved;    /* its site has saved this version: those before it do not count */
    char *applied_key;          /* nemo:{site}:gateway:applied */
    uint64_t backs;             /* times of reading back since it began: each raised counts */
    struct stream_id *suspects; /* of this page: delivered more often than max_deliveries */
    size_t suspect_count;

    /* What Redis is owed, in the order of settlement; the first acking of them are in an XACK or a
     * dead-letter script without an answer. */
    struct entry_queue owed;
    bool refused; /* Redis has refused the first of them: the lane is held until it takes it */
    uint32_t acking;
    bool owes; /* on the slot's list of lanes that owe */
    struct lane *next_owing;
    uint64_t ack_retry_ms; /* after an error: not before */
    struct log_limit trouble;

    struct lane_trim trim;
    struct lane_beat beat;
    struct bundling bundling;
    struct slot_counts counts;
    size_t refused_keys; /* whose leader the broker has refused */
    uint8_t refusal;     /* the reason code of the last refusal */
    uint64_t reported;   /* a sum over what was last reported; see slot_report.c */
};

/* ---- brokers ------------------------------------------------------------------------------- */

/* The entries of one connection in their order: sent ones first, then those that wait. */
struct outbox {
    struct outlet *outlet;
    struct mqtt_conn *conn;
    struct entry_queue entries;
    uint32_t next_to_send; /* ENTRY_NONE: all have been sent */
    uint32_t sent;         /* entries before next_to_send */
    unsigned source;       /* of the last publish; see flow.c */
    uint32_t packet_max;   /* the broker's Maximum Packet Size; 0: no limit */
    bool answered;         /* on this connection, at least one publish */
    uint64_t ready_ms;     /* since when it is connected */
    bool stopped;          /* mqtt_conn_stop is done */

    /* Keys that are set apart, by what they wait for. */
    struct key_list ready;
    struct key_list resting;
    struct key_list suspects;
    uint64_t resting_due_ms; /* the first of the resting ones; 0: none */

    /* Lanes that send several entries in one publish, and what is in flight of them. */
    struct bundle_list full;      /* there are enough, or the first has lingered */
    struct bundle_list lingering; /* by due time */
    struct entry_queue bundles;   /* the entries of all bundles without an answer, in order */

    struct log_limit refusal_trouble;

    /* poison.c: the one that is sent alone, and how often a head of the window was lost. */
    struct key_queue *trying;
    unsigned try_asks;          /* notes of tries without an answer */
    bool try_noted;             /* Redis counts it */
    uint64_t try_sent_ms;       /* 0: not yet */
    uint64_t lost_try;          /* token of the last one whose connection was lost */
    uint32_t order;             /* of the last publish */
    size_t allowed;             /* publishes in flight, after a loss of some; 0: the window */
    struct batch_pool *batches; /* entries of an outbox settle in order, and so its blocks empty */
    struct log log;
    struct log_limit lost;
    uint64_t timed;    /* token of the publish whose way is timed, or NOT_TIMED; one at a time */
    uint64_t timed_us; /* when it was published */
    uint16_t window;
    uint64_t down_until_ms; /* closed by us: it is not opened again before; 0: at any time */
};

/* The broker's last verdicts on the last keys, kept while it refuses some. */
#define VERDICTS 32u
struct verdicts {
    uint32_t hash[VERDICTS];
    bool refused[VERDICTS];
    bool over[VERDICTS]; /* the refused entry is gone: it counts until the broker takes another */
    size_t count;
    size_t oldest;
};

/* The key that a retained topic was last seen with. */
#define RETAINED_TOPICS 1024u
struct retained_topic {
    uint32_t topic;
    uint32_t key;
    bool told;
};

/* For the report. */
struct outlet_counts {
    uint64_t reconnects;
    uint64_t republished;
    uint64_t answers[256]; /* by reason code; of 0x00 none are counted: see accepted */
    struct histogram puback;
    struct histogram delivery;
    enum report_cause cause; /* of the last loss */
    uint64_t lost_ms;
    char error[REPORT_ERROR_TEXT];
};

enum beat_state {
    BEAT_UNKNOWN, /* not in use */
    BEAT_CONNECTING,
    BEAT_CONNECTED,
    BEAT_DISCONNECTED, /* lost, or refused, and tried again */
    BEAT_DRAINING,
};

struct outlet_beat {
    enum beat_state state;
    uint64_t since_ms;
    uint64_t shown_ms; /* the same by Redis' clock, as it was known then */
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
    bool reached;    /* one of them is ready, as was told last */
    size_t credits;  /* entries that may be unsettled */
    size_t ahead;    /* of them, those beyond what may be in flight */
    size_t used;     /* entries in the ledger */
    size_t reserved; /* entries that outstanding reads may bring */
    size_t bytes;    /* encoded entries in memory */
    size_t bytes_max;
    size_t budget;        /* what is left of it for the read that is being made up */
    bool wanted;          /* a lane waits for room for its history: new entries must not take it */
    uint64_t entry_bytes; /* running mean of an encoded entry's size, for choosing COUNT */
    struct key_table keys;
    struct retained_topic *retained;
    struct event *wake; /* turns the loop, and with it the slot */
    uint64_t wake_ms;   /* when; in the past: not armed */
    uint64_t accepted;  /* publishes that the broker has taken */
    struct verdicts verdicts;
    uint64_t paused_until_ms; /* the broker refuses most keys; then one publish at a time */
    struct backoff pauses;
    struct log_limit pause_trouble;
    bool pause_told;
    uint64_t rate_next_ns; /* max_rate: the next publish is due, less a burst */
    unsigned rate_share;   /* slots that share the broker's max_rate; 0: not known yet */
    uint8_t *scratch;      /* where a bundle is put together, or an envelope */
    size_t scratch_size;
    struct outlet_counts counts;
    struct outlet_beat beat;
};

/* ---- the slot ------------------------------------------------------------------------------ */

enum slot_state {
    SLOT_STOPPED,
    SLOT_STANDBY,   /* another instance is to have it: no links, nothing is tried */
    SLOT_WAITING,   /* for Redis, or for the lease */
    SLOT_HELD,      /* it owns the lease and carries entries */
    SLOT_DRAINING,  /* it reads nothing new and settles what is in flight */
    SLOT_PARTING,   /* disconnecting from the brokers */
    SLOT_RELEASING, /* giving the lease back */
};

struct slot_trim {
    struct trim_list full;                /* due at once */
    struct trim_list waiting[TRIM_WAITS]; /* due at their time */
    struct lane *sent;                    /* its script is without an answer */
    uint64_t next_ms;                     /* no script before */
    struct log_limit trouble;
};

struct slot_beat {
    struct lane *next; /* of the ring; NULL: it is empty */
    size_t lanes;
    size_t hurried;       /* so many from next on are not to wait for their time */
    size_t asked;         /* scripts without an answer */
    uint64_t due_ms;      /* of next */
    uint64_t paid_ms;     /* the last one */
    uint64_t granted_ms;  /* the write link is fenced since then */
    uint64_t farewell_ms; /* the drain has begun */
    struct log_limit refusals;
    struct log_limit others;
};

#define WATCH_WAITING 32u

struct slot_watch {
    bool on;                       /* somebody listens */
    unsigned budget;               /* samples until the next tick */
    uint64_t dropped;              /* since the last one that was handed over */
    size_t waiting;                /* samples whose entries have not settled, */
    uint64_t token[WATCH_WAITING]; /* the entries, */
    struct watch_sample *sample[WATCH_WAITING];
    struct watch_table *table; /* retained values; NULL: nobody can ask */
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
    bool announced;    /* on_running has been called */
    struct log_limit lease_trouble;
    struct log_limit link_trouble[LEASE_ROLES];
    struct log_limit dead_trouble;
    struct log_limit gone_trouble;

    struct lane **lanes;
    size_t lane_count;
    size_t lane_capacity;
    bool lanes_waiting;         /* some are to begin, or wait for room for a page of history */
    uint64_t quarantine_due_ms; /* the first of the quarantined ones is tried again; 0: none is */

    struct signer **signers; /* one per route of the configuration; NULL: it does not sign */
    struct outlet *outlets;  /* one per broker of the configuration; pool NULL: not in use */

    struct ledger ledger;

    struct read_op *ops_first; /* reads without an answer */
    struct read_op **ops_last;
    struct read_op hot_reads[2];
    struct read_op look_read; /* of lanes that are not hot */
    struct rotation hot;      /* lanes whose last read was full: there is more */
    struct rotation cold;     /* the other ones that are live */
    struct rotation suspects; /* Redis has refused a read of them because of one of them */
    size_t suspect_part;      /* how many of those the next read names at most */
    struct event *look;       /* wakes the loop when it is time to look at the cold ones */
    uint64_t look_sent_us;    /* the last look: when it was sent and answered, */
    uint64_t looked_us;
    bool looked_all; /* whether it named all that are cold, and how many */
    size_t looked_lanes;
    size_t vain;             /* cold lanes looked at since one of them had an entry */
    bool waking;             /* a CLIENT UNBLOCK is on its way */
    struct bytes *arguments; /* of commands, reused */
    size_t argument_capacity;

    struct lane *owing; /* lanes that owe Redis an acknowledgement */
    struct slot_trim trim;
    struct slot_beat beat;
    struct slot_watch watch;
    struct report_reason reasons[REPORT_REASONS_MAX]; /* of dead letters */
    size_t reason_count;

    /* Among several instances. */
    char *counts_key;
    bool preferred;            /* this instance is to have it */
    bool ending;               /* the process ends: it is not taken again */
    uint64_t drain_until_ms;   /* of a hand-over: then it is hurried */
    struct event *lease_retry; /* one shot: to ask for the lease again */
    uint64_t confirm_since_ms; /* connections that are kept down stay so until a request of the
                                  lease that was sent from here on has been granted */
    /* Redis does not let us close former links: until then one of them may take new entries in, and
     * after it the history is to be read once more. 0: all are closed. */
    uint64_t unfenced_until_ms;
    bool unfenced_told;
};

/* No token has the index ENTRY_NONE. */
#define NOT_TIMED UINT64_MAX

/* The publish with this token leaves: its way to its PUBACK is timed, if none is. */
static inline void outbox_time(struct outbox *outbox, uint64_t token)
{
    if (outbox->timed != NOT_TIMED)
        return;
    outbox->timed = token;
    outbox->timed_us = net_now_us();
}

#define ASSERT_ON_SHARD(slot) assert(pthread_equal(pthread_self(), (slot)->thread))

/* slot_setup.c */
extern const struct redis_link_events slot_read_events;
extern const struct redis_link_events slot_write_events;
extern const struct lease_events slot_lease_events;
void slot_on_tick(int fd, short what, void *context);
void slot_on_lease_retry(int fd, short what, void *context);

/* slot_setup.c: the way to a broker that not every slot needs. false: there is none. */
bool slot_open_outlet(struct slot *slot, size_t index);

/* slot.c */
/* Asks Redis at once whether the lease is still ours; connections that are kept down come back only
 * after its answer. */
void slot_confirm_lease(struct slot *slot);
/* Forgets everything in memory, all of which is pending in Redis, and begins again with the lease.
 */
void slot_start_over(struct slot *slot);

/* One publish of a key in flight at a time: every key of the stream is set apart. */
static inline bool lane_sends_one_by_one(const struct lane *lane)
{
    return lane->route->strict_order || lane->route->coalesce_retained;
}

static inline struct bytes lane_name(const struct lane *lane)
{
    return (struct bytes){(const uint8_t *)lane->name, lane->name_length};
}

/* Its entries are published several at a time. */
static inline bool lane_bundles(const struct lane *lane)
{
    return lane->route->encoding == CONFIG_ENCODING_BATCH;
}

/* lane.c */
struct lane *lane_new(struct slot *slot, const char *name, bool late);
void lane_free(struct lane *lane);
/* It is left alone until then. */
void lane_quarantine(struct lane *lane, uint64_t until_ms);
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
/* A key's parked entries are to be read again, before anything new. */
void lane_read_back(struct lane *lane);
/* Of the page of history that is being read: Redis has delivered it too often. */
bool lane_is_suspect(const struct lane *lane, struct stream_id id);

/* Asks for the group, and goes on with the beginning. */
void lane_ask_for_group(struct lane *lane);

/* lane_settings.c */
/* The type of an entry at which a site's settings are applied. */
bool lane_is_settings(const struct stream_entry *in);
/* Takes in an entry of that type whose record has this index: it settles at once, or the lane stops
 * at it, or (false) it is no good and has its fault. */
bool lane_take_settings(struct lane *lane, uint32_t index, struct bytes payload);
/* The lane begins: first it makes sure that the site's settings are those that Redis has. */
void lane_compare_settings(struct lane *lane);
/* The settings cannot be used: the lane is left alone. */
void lane_refuse_settings(struct lane *lane);
/* It waits at an entry no more, and will meet it again. */
void lane_leave_settings(struct lane *lane);

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
/* New entries of the lane are read from now on; or not any more, until it joins again. */
void reading_join(struct lane *lane);
void reading_leave(struct lane *lane);
/* Ends a parked read early. */
void reading_wake(struct slot *slot);
/* Forgets all outstanding reads. */
void reading_forget(struct slot *slot);
/* It is time to look at the lanes that are not hot. */
void reading_on_look(int fd, short what, void *context);
extern const struct redis_stream_sink reading_sink;

/* intake.c */
/* Takes an entry in: ledger, encoding, outbox or queue of its key; or leaves it parked. false: it
 * has no room, by bytes. */
bool flow_take(struct lane *lane, const struct redis_entry *entry);
/* Two keys with the same are as one. */
uint32_t flow_key_hash(struct bytes key);
/* Memory of the outlet for size bytes, until the next call. Never NULL: the process ends when
 * memory is short. */
uint8_t *flow_scratch(struct outlet *outlet, size_t size);
/* Says that a pending entry was deleted by others. id is its text. */
void flow_report_gone(struct lane *lane, struct bytes id);

/* flow.c */
/* It can never be published: the word for the dead letter, and more words. Static texts. */
void flow_fault(struct entry *entry, const char *reason, const char *detail);
void flow_fault_too_large(struct entry *entry);
/* Sends the first entry of a key, or all up to leader where the lane sends several at a time; skips
 * what has expired. There must be room. STATUS_TOO_LARGE: the entry exceeds the broker's Maximum
 * Packet Size; then it was one. */
MUST_CHECK enum status flow_send(struct key_queue *key, uint32_t leader, uint64_t now_ms);
/* Its life is over. */
bool flow_is_expired(const struct slot *slot, const struct entry *entry, uint64_t now_ms);
/* The broker has taken the entry. */
void flow_settle(struct slot *slot, uint32_t index);
/* Gives the memory of its packet back. */
void flow_release_packet(struct entry *entry);
/* The outlet's turn comes at this time at the latest. */
void flow_wake_at(struct outlet *outlet, uint64_t at_ms);
/* The entry waits behind all others of its key to be sent. */
void flow_append(struct outbox *outbox, uint32_t index);
/* Publishes what the connections have room for. */
void flow_pump(struct outlet *outlet);
/* The entry that was given to acks.c as a dead letter is gone: its key goes on. */
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

/* bundle.c: only for lanes that lane_bundles(). */
#define BUNDLE_PACKET_EXTRA 64u /* more than what a PUBLISH has around topic and payload */
void bundle_init(struct lane *lane, uint32_t hash);
/* The entry waits for others. */
void bundle_append(struct lane *lane, uint32_t index);
/* What waits goes to the key that has been set apart; of any lane. */
void bundle_give_to_key(struct key_queue *key);
/* Forgets what waits; it stays pending in Redis. */
void bundle_drop_waiting(struct lane *lane);
/* All entries of the outbox are forgotten elsewhere. */
void bundle_forget(struct outbox *outbox);
/* Lanes that have lingered are ready to be sent. */
void bundle_wake(struct outbox *outbox, uint64_t now_ms);
/* Sends for the first lane that has enough. There must be one, and room. */
void bundle_send(struct outbox *outbox, uint64_t now_ms);
/* How far a bundle reaches that begins with the entry first of a queue: its last entry. */
uint32_t bundle_choose(const struct outbox *outbox, const struct lane *lane, uint32_t first);
/* Publishes the entries from first to leader; STATUS_TOO_LARGE: it is one, and exceeds the broker's
 * Maximum Packet Size. */
MUST_CHECK enum status bundle_publish(struct outbox *outbox, struct lane *lane, uint32_t first,
                                      uint32_t leader, uint64_t now_ms);
/* The oldest bundle of outbox->bundles has been answered; leader is its last entry. */
void bundle_answered(struct outbox *outbox, uint32_t leader, uint8_t reason_code);
/* Everything without an answer waits again, or goes to its key. */
void bundle_rewind(struct outbox *outbox);
/* Adds what is in flight to the keys that leave; see leave_outbox. */
void bundle_count_in_flight(struct outbox *outbox, struct key_queue *one, bool wide);
/* One of count entries that were published together is bad or brings bad luck: fewer from now on.
 * And more again, when some were taken. */
void bundle_halve(struct lane *lane, uint32_t count);
void bundle_grow(struct lane *lane);
/* How many there are from first to leader; or how many were last published together with first. */
uint32_t bundle_count(const struct ledger *ledger, uint32_t first, uint32_t leader);
uint32_t bundle_published_with(const struct ledger *ledger, uint32_t first);

/* refusal.c */
/* Many of the last keys were refused. */
bool refusal_is_wide(const struct outlet *outlet);
/* The broker has refused the key's leader; count: with how many others of the key it was published
 * together, itself included. */
void refusal_judge(struct key_queue *key, uint8_t reason_code, uint32_t count);
/* The broker has taken an entry of the key, or it has gone to the dead letters. */
void refusal_over(struct key_queue *key);
/* The broker has taken an entry of a key with this hash. */
void refusal_note_accepted(struct outlet *outlet, uint32_t hash);
/* The outlet is paused: whether one publish may be sent to see if that is over. */
bool refusal_may_probe(const struct outbox *outbox, uint64_t now_ms);

/* poison.c */
/* Begins to send the first suspect alone, if it is time. Nothing must be in flight, and Redis'
 * write link fenced. */
void poison_try(struct outbox *outbox, uint64_t now_ms);
/* It has been answered, with whatever reason code. */
void poison_answered(struct key_queue *key);
/* Takes the note back of a try that lasts: this process has not died of it. */
void poison_watch(struct outbox *outbox, uint64_t now_ms);
/* The outbox's connection was lost: before anything is rewound. */
void poison_note_loss(struct outbox *outbox, const struct mqtt_loss *loss);

/* rate.c */
bool rate_allows(struct outlet *outlet, uint64_t now_ms);
void rate_note(struct outlet *outlet);

/* acks.c */
/* The entry has settled, or can never be published (fault_reason): Redis is owed the word of it. */
void acks_owe(struct slot *slot, uint32_t index);
/* Sends what is owed, one command per lane at a time. */
void acks_flush(struct slot *slot);
/* The write link went down: what was sent without an answer is owed again. */
void acks_rewind(struct slot *slot);
bool acks_idle(const struct slot *slot);

/* slot_watch.c */
MUST_CHECK bool watch_open(struct slot *slot);
void watch_close(struct slot *slot);
void watch_tick(struct slot *slot);
/* Somebody listens, and the entry has been taken in. */
void watch_note(struct lane *lane, const struct stream_entry *in, uint32_t index);
/* The entry settles, and somebody listens, or it is to be kept. */
void watch_settled(struct slot *slot, uint32_t index);

/* slot_report.c */
/* An entry has gone to the dead letters; reason is a constant. */
void report_note_buried(struct slot *slot, const char *reason);
/* The publish that was timed has been answered. */
void report_note_timed(struct outbox *outbox, const struct entry *entry);
/* Entries that have been published on the present connection and not been answered. */
size_t report_in_flight(const struct outbox *outbox);
void report_note_loss(struct outbox *outbox, const struct mqtt_loss *loss);

/* trim.c */
/* So many more of its entries have been acknowledged to Redis; 0: it begins, and may have some left
 * from before. */
void trim_note(struct lane *lane, uint32_t acked);
/* Sends the script of the stream that is due, if none is without an answer. */
void trim_turn(struct slot *slot);
/* The script without an answer will have none. */
void trim_forget(struct slot *slot);

/* gateway_beat.c */
/* A new lane. */
void beat_add(struct lane *lane);
/* Notes what has changed, and sends the beats that are due. */
void beat_turn(struct slot *slot);
/* The write link has just been fenced: all are told again. */
void beat_granted(struct slot *slot);
/* The slot drains, and Redis has been told so; or it has had its time. */
bool beat_is_told(const struct slot *slot);
/* The scripts without an answer will have none. */
void beat_forget(struct slot *slot);

#endif
