/*
 * The inside of what the service manager is told, shared by its two files: notify.c (when it is
 * told, and how it is sent) and notify_status.c (the sentence). Nobody else includes it.
 */
#ifndef NEMOGATE_CORE_NOTIFY_PRIVATE_H
#define NEMOGATE_CORE_NOTIFY_PRIVATE_H

#include "core/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#define NOTIFY_STATUS_TEXT 512u
#define NOTIFY_REASON_TEXT 160u

enum notify_phase { NOTIFY_RUNS, NOTIFY_RELOADS, NOTIFY_STOPS };

struct notify_slot {
    bool preferred, running;
    unsigned streams;
};

/* Of a slot and a broker. */
struct notify_way {
    bool used; /* the slot has streams for it */
    bool reached;
};

struct notify {
    struct notify_setting setting;
    const struct config *config;
    int fd; /* -1: nobody is to be told */
    struct sockaddr_un address;
    socklen_t address_length;
    struct log_limit trouble;
    struct event *soon;     /* what is owed is told */
    struct event *patience; /* the start has taken long enough */
    struct event *tick;     /* half of the watchdog's time */
    uint64_t watchdog_us;   /* 0: there is none */
    unsigned owed;          /* bits of what has not been told yet */
    bool said_ready;
    char told[NOTIFY_STATUS_TEXT]; /* the sentence that was told last */

    enum notify_phase phase;
    bool redis_up;
    char redis_reason[NOTIFY_REASON_TEXT]; /* "": it has not been tried yet */
    unsigned shards;
    unsigned waiting; /* for so many that have not answered */
    bool *waits;      /* by shard */
    bool stuck;       /* some have not for half of the watchdog's time */
    struct notify_slot *slots;
    struct notify_way *ways; /* broker * slots + slot */
};

/* At most NOTIFY_STATUS_TEXT bytes, one line. notify_status.c */
void notify_write_status(const struct notify *notify, char *text);

#endif
