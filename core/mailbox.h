/*
 * The only door between threads: a queue of messages bound to the event loop of the one thread that
 * reads it. Posting is open to any thread; everything else belongs to the reader's thread.
 */
#ifndef NEMOGATE_CORE_MAILBOX_H
#define NEMOGATE_CORE_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

enum mail_kind {
    MAIL_STREAM_FOUND, /* to a shard: text is a stream of the slot; count 1: found late */
    MAIL_SLOT_PREFER,  /* to a shard: count 1: this instance is to have the slot; 0: another is */
    MAIL_RATE_SHARE,   /* to a shard: slot is a broker's index, count its slots with streams */
    MAIL_DRAIN,        /* to a shard: settle what is in flight, then give up all slots */
    MAIL_HURRY,        /* to a shard: the drain takes too long */
    MAIL_STOP,         /* to a shard: end at once */
    MAIL_REPORT,       /* to a shard: report; count is the number of the request */
    MAIL_WATCH,        /* to a shard: count 1: hand over samples of what is carried; 0: no more */
    MAIL_TURN,         /* to a shard: say that it turns */
    MAIL_STATE,    /* to a shard: text is a site: hand over its retained values; count as above */
    MAIL_TURNED,   /* to main: slot is a shard's index; it turns */
    MAIL_SETTLE,   /* to a shard: count is the token of a settings entry that is done with; text, if
                      any, the later version that the site has saved */
    MAIL_SETTINGS, /* to main: data is a struct site_request */
    MAIL_SLOT_RUNNING, /* to main: the slot publishes */
    MAIL_SLOT_LEFT,    /* to main: it does no more, and may do so again */
    MAIL_SLOT_STOPPED, /* to main: it has drained for the end; count entries stay pending */
    MAIL_SLOT_BROKER,  /* to main: count is 2 x a broker's index, + 1: the slot reaches it */
    MAIL_SLOT_REPORT,  /* to main: data is a struct slot_report */
    MAIL_REPORTED,     /* to main: slot is a shard's index; all of its slots have reported */
    MAIL_SAMPLE,       /* to main: data is a struct watch_sample */
    MAIL_SLOT_STATE,   /* to main: data is a struct watch_state; count is the request's number */
    MAIL_LETTERS,      /* to main: data is what a request about dead letters has come to */
};

/* text and data are owned by the message and freed, each by one free(), after its delivery. */
struct mail {
    enum mail_kind kind;
    unsigned slot;
    uint64_t count;
    char *text;
    void *data;
    struct mail *next;
};

struct mailbox;
struct event_base;

/* deliver runs on the loop's thread, once per message in the order of posting, outside of any lock.
 * Owned by the caller; NULL when memory or file descriptors are short. */
struct mailbox *mailbox_new(struct event_base *base,
                            void (*deliver)(void *context, const struct mail *mail), void *context);
/* Only when nobody posts any more. Messages that were not delivered are dropped. */
void mailbox_free(struct mailbox *mailbox);

/* Any thread. text may be NULL and is copied. false: memory is short, nothing was posted. */
bool mailbox_post(struct mailbox *mailbox, enum mail_kind kind, unsigned slot, uint64_t count,
                  const char *text);
/* data (not NULL) is moved to the message, or freed where memory is short. Any thread. */
bool mailbox_post_data(struct mailbox *mailbox, enum mail_kind kind, unsigned slot, uint64_t count,
                       void *data);

#endif
