/*
 * Keys that do not take the common way through the outbox: because the broker has refused an entry
 * of theirs, because an entry is a suspect or a dead letter, or because the route wants one publish
 * of a key in flight at a time. Such a key has a queue of its own, from which its entries are sent
 * one by one, so that their order holds and no other key waits for it. One slot, one thread.
 */
#ifndef NEMOGATE_CORE_KEY_QUEUE_H
#define NEMOGATE_CORE_KEY_QUEUE_H

#include "core/ledger.h"
#include "transport/backoff.h"

struct lane;
struct outbox;
struct outlet;

enum key_state {
    KEY_GATHERING, /* entries of it are in flight from before it was set apart, or lane->gathers */
    KEY_READY,     /* its first entry may be sent */
    KEY_SENT,      /* published, without an answer */
    KEY_RESTING,   /* refused for now; until due_ms */
    KEY_BURYING,   /* its first entry is on its way to the dead letters */
    KEY_SUSPECT,   /* its first entry is to be sent alone */
    KEY_TRYING,    /* its first entry is being sent alone */
    KEY_AWAY,      /* nothing of it is in memory: what was parked is being read back */
};

struct key_queue {
    struct key_queue *next_same; /* in its bucket, or among the free ones */
    struct key_queue *next;      /* in its outbox's list of its state */
    struct lane *lane;
    struct outbox *outbox;
    uint32_t hash; /* of the key; two keys with one hash are as one */
    enum key_state state;
    struct entry_queue again;   /* sent before it was set apart and answered since; come first */
    struct entry_queue waiting; /* while nothing is in flight from before: all there are */
    uint32_t in_flight;         /* sent before it was set apart, without an answer */
    uint32_t leader;            /* KEY_SENT, KEY_TRYING: the entry that was published */
    bool leaving;               /* the outbox, just now */
    bool stuck;                 /* from a refusal, a burial or a suspicion until it has caught up:
                                   its share is limited */

    /* refusal.c */
    bool refused;           /* its leader, at least once */
    uint32_t verdict;       /* what it stands as among the verdicts since its last refusal */
    uint32_t refusals;      /* those that count: while the broker took other keys */
    uint64_t accepted_then; /* outlet->accepted at the last of them */
    struct backoff backoff;
    uint64_t due_ms; /* not to be sent before */

    /* Entries from this one on were dropped from memory. They stay pending, and are read back from
     * there before anything newer of the key is taken. */
    bool parked;
    bool reading_back; /* by the history read that is under way */
    bool smooth;       /* nothing of it was refused since it was read back */
    struct stream_id first_parked;
};

struct key_list {
    struct key_queue *first;
    struct key_queue *last;
};

/* The keys of an outlet that are set apart, by hash. */
struct key_table {
    struct key_queue **buckets; /* a power of two */
    size_t bucket_count;
    size_t count;
    size_t stuck_entries; /* in the queues of stuck keys */
    size_t stuck_bytes;   /* of their packets */
    struct key_queue *free;
    struct key_block *blocks;
};

/* key_table.c */

/* credits: how many entries the outlet may hold, and so how many keys. false: memory is short. */
MUST_CHECK bool key_table_open(struct key_table *table, size_t credits);
void key_table_close(struct key_table *table);

/* NULL: the key takes the common way. */
struct key_queue *key_find(const struct outlet *outlet, const struct lane *lane, uint32_t hash);
/* A key without entries, in KEY_GATHERING. The process ends when memory is short. */
struct key_queue *key_make(struct outbox *outbox, struct lane *lane, uint32_t hash);
/* Strikes a key off that is in no list. */
void key_end(struct key_queue *key);
/* Forgets all keys of the outlet, not their entries. */
void key_forget_all(struct outlet *outlet);
/* Calls act for each key of an outlet or a lane; it may go on or end meanwhile. */
void key_for_outlet(struct outlet *outlet, void (*act)(struct key_queue *key, void *context),
                    void *context);
void key_for_lane(struct lane *lane, void (*act)(struct key_queue *key, void *context),
                  void *context);

/* key_queue.c */

/* Sets a key apart that is not: takes its unsent entries out of the outbox and counts its sent
 * ones. key_go_on must follow. */
struct key_queue *key_set_apart(struct outbox *outbox, struct lane *lane, uint32_t hash);
/* At the end of the entries that wait. */
void key_append(struct key_queue *key, uint32_t index);
/* An entry that was in flight when its key was set apart, or whose refusal set it apart: it is sent
 * again, before those that wait. In the order of their publishes. */
void key_keep(struct key_queue *key, uint32_t index);
/* Nothing of it is in flight or on its way to the dead letters: decides what comes next. A key
 * without entries takes the common way again. */
void key_go_on(struct key_queue *key);
/* The first of a list leaves it and is sent, or tried alone. */
void key_sent(struct key_queue *key, uint32_t leader);
/* The first of the ready keys has turned out not to be: it goes on. */
void key_not_ready(struct key_queue *key);
void key_trying(struct key_queue *key);
/* The first suspect goes to the end of the list. There must be one. */
void key_next_suspect(struct outbox *outbox);
void key_set_stuck(struct key_queue *key, bool stuck);
/* Takes the first entry out. There must be one. */
uint32_t key_take(struct key_queue *key);
/* Resting keys whose time has come go on. */
void key_wake(struct outbox *outbox, uint64_t now_ms);
/* The outbox's connection is gone, and what was in flight has been kept: all begins again. */
void key_rewind(struct outbox *outbox);
/* The lane's keys have gathered what there is, or there is no room for more: they go on. */
void key_end_gathering(struct lane *lane);

/* Parking: stuck keys have at most an eighth of the credits in memory, and of the bytes, or one
 * entry each. What is read back takes its turn as everything of the key does, one publish at a
 * time; when that has gone well once, the rest is read back as if the key had never been apart. */

/* Whether an entry that Redis has just delivered is to be left there for now. */
bool key_parks(struct key_queue *key, struct stream_id id);
/* Drops what can be read again of the lane's keys, and no parked entry is known any more: the lane
 * is about to begin again with its history. */
void key_drop_unsent(struct lane *lane);
/* A history read begins: notes which keys get their parked entries back, in lane->keys_back how
 * many, in lane->back_to_end whether some go the common way. false: none; *first is the first such
 * entry. */
bool key_begin_read_back(struct lane *lane, struct stream_id *first);
/* The history read has come to its end. */
void key_end_read_back(struct lane *lane);

#endif
