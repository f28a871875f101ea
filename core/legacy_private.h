/*
 * What the files of the drop-in share: legacy.c (making, ending, who does what), legacy_move.c (one
 * list), legacy_monitor.c (status keys, control lists, competitors). Nobody else includes it. All
 * on the main thread.
 */
#ifndef NEMOGATE_CORE_LEGACY_PRIVATE_H
#define NEMOGATE_CORE_LEGACY_PRIVATE_H

#include "core/legacy.h"
#include "core/legacy_settings.h"
#include "transport/redis_link.h"

struct event;
struct legacy_list;

/* Status keys and control lists of a database, for the first of the lists in it. */
struct legacy_monitor {
    struct legacy_list *list; /* NULL: the page is not served, or another list sees to it */
    struct event *tick;
    uint64_t next_status_ms; /* 0: at once */
    unsigned asked;          /* LPOPs without an answer */
    bool reload;             /* reload_config was among what they took */
    struct log_limit trouble;
};

struct legacy_list {
    struct legacy *legacy;
    const struct config_legacy_list *config;
    struct log log;
    unsigned slot;
    size_t broker;
    char *dead_stream;
    char *link_name;
    struct redis_link_config link_config;
    struct redis_link *link;
    struct log_limit link_trouble;
    bool preferred; /* this instance moves the list */
    bool reached;   /* its slot reaches its broker */

    /* Moving. */
    struct event *look; /* when the list is looked at next */
    bool busy;          /* a script is without an answer */
    bool told;          /* that the list is moved: the first look has been answered */
    uint64_t eager_until_ms;
    size_t asked;    /* elements that were given to the script that moves */
    uint8_t *memory; /* decoded texts of one script */
    size_t memory_size;
    uint64_t moved;
    struct log_limit trouble;
    struct log_limit dead_trouble;

    /* Somebody else who takes from the list. */
    struct event *watch;
    bool watching;          /* CLIENT LIST is without an answer */
    unsigned conflicts;     /* elements that were gone, since it was answered last */
    bool rival;             /* there is somebody, */
    uint64_t rival_seen_ms; /* who was seen last at this time */
    struct log_limit rival_trouble;

    struct legacy_monitor monitor;
};

struct legacy {
    struct legacy_setting setting;
    struct legacy_settings *settings;
    bool leaving;
    size_t count;
    struct legacy_list lists[];
};

/* ---- one list ------------------------------------------------------------------------------ */

/* Looks at the list, soon or now, for as long as this instance is to move it. */
void legacy_look(struct legacy_list *list);
void legacy_on_look(int fd, short what, void *context);

/* At a handover two instances may move one list for a moment, which is no rival yet. */
#define LEGACY_CONFLICTS_MAX 3u

/* ---- the monitor page, and others ---------------------------------------------------------- */

/* The state has changed, or the link is back: the page is told at once. */
void legacy_tell(struct legacy_list *list);
void legacy_on_monitor_tick(int fd, short what, void *context);
void legacy_watch(struct legacy_list *list);
/* The address of a client that waits for elements of a list in that database, in a reply of CLIENT
 * LIST; a view of it, empty: there is none. */
struct bytes legacy_find_rival(unsigned database, struct bytes clients);
void legacy_on_watch(int fd, short what, void *context);

#endif
