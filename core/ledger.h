/*
 * The ledger of a slot: one record per entry from the moment it is read until Redis has answered
 * its XACK. Records are a fixed table, so that unsettled entries are bounded by construction;
 * references across time are tokens {generation, index}, so that a late PUBACK never finds another
 * entry. One slot, one thread.
 */
#ifndef NEMOGATE_CORE_LEDGER_H
#define NEMOGATE_CORE_LEDGER_H

#include "codec/stream_id.h"

struct batch;
struct lane;

enum entry_state {
    ENTRY_FREE,
    ENTRY_WAITING, /* in an outbox, not sent on the present connection */
    ENTRY_SENT,    /* in an outbox, sent, its PUBACK has not come */
    ENTRY_SETTLED, /* owed to Redis: its XACK (or dead letter) has not been answered */
};

#define ENTRY_NONE UINT32_MAX

struct entry {
    struct stream_id id;
    struct lane *lane;
    uint8_t *packet; /* the encoded PUBLISH, lent by batch; NULL: there is nothing to publish */
    struct batch *batch;
    uint32_t size; /* of the packet */
    uint32_t packet_id_offset;
    uint64_t expires_ms;      /* on Redis' clock; 0: never */
    const char *fault_reason; /* not NULL: it can never be published and goes to the dead letters */
    const char *fault_detail;
    uint32_t key_hash;
    uint32_t generation;
    uint32_t next; /* in its outbox, then in its lane's queue of owed entries */
    enum entry_state state;
    uint32_t order;  /* of its last publish, among those of its connection */
    uint16_t outbox; /* the index of its connection */
    uint8_t losses;  /* connections that were lost with it as the head of the window */
    bool apart;      /* in the queue of its key, not in the outbox */
    bool suspect;    /* it may be the cause of what went wrong: it is sent alone */
    bool retained;   /* its payload is to be kept for those who look; see slot_watch.c */
};

struct ledger {
    struct entry *entries;
    uint32_t size;
    uint32_t touched; /* records from here on were never taken: their memory is not there yet */
    uint32_t free_first;
    uint32_t used;
};

/* size: 1 to ENTRY_NONE - 1 records. false: memory is short. */
MUST_CHECK bool ledger_open(struct ledger *ledger, uint32_t size);
void ledger_close(struct ledger *ledger);

/* Takes a free record, zeroed but for its generation; ENTRY_NONE when none is left. */
uint32_t ledger_take(struct ledger *ledger);
void ledger_give_back(struct ledger *ledger, uint32_t index);

static inline struct entry *ledger_entry(const struct ledger *ledger, uint32_t index)
{
    return &ledger->entries[index];
}

static inline uint64_t ledger_token(const struct ledger *ledger, uint32_t index)
{
    return (uint64_t)ledger->entries[index].generation << 32 | index;
}

/* The index behind a token; ENTRY_NONE when the record has another owner by now. */
static inline uint32_t ledger_find(const struct ledger *ledger, uint64_t token)
{
    uint32_t index = (uint32_t)token;
    if (index >= ledger->touched || ledger->entries[index].state == ENTRY_FREE ||
        ledger->entries[index].generation != token >> 32)
        return ENTRY_NONE;
    return index;
}

/* A queue through entry.next. */
struct entry_queue {
    uint32_t first;
    uint32_t last;
    uint32_t count;
};

static inline struct entry_queue entry_queue_empty(void)
{
    return (struct entry_queue){ENTRY_NONE, ENTRY_NONE, 0};
}

static inline void entry_queue_append(struct entry_queue *queue, struct ledger *ledger,
                                      uint32_t index)
{
    ledger->entries[index].next = ENTRY_NONE;
    if (queue->first == ENTRY_NONE)
        queue->first = index;
    else
        ledger->entries[queue->last].next = index;
    queue->last = index;
    queue->count++;
}

/* Moves everything of the other queue to the end of this one. */
static inline void entry_queue_join(struct entry_queue *queue, struct entry_queue *other,
                                    struct ledger *ledger)
{
    if (other->count == 0)
        return;
    if (queue->first == ENTRY_NONE)
        queue->first = other->first;
    else
        ledger->entries[queue->last].next = other->first;
    queue->last = other->last;
    queue->count += other->count;
    *other = entry_queue_empty();
}

/* The queue must not be empty. */
static inline uint32_t entry_queue_take(struct entry_queue *queue, const struct ledger *ledger)
{
    uint32_t index = queue->first;
    queue->first = ledger->entries[index].next;
    if (queue->first == ENTRY_NONE)
        queue->last = ENTRY_NONE;
    queue->count--;
    return index;
}

#endif
