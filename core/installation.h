/*
 * What all instances of a group have in common, kept once in Redis: the installation's tag, which
 * is part of the client identifiers, and the numbers that must be the same everywhere, of slots and
 * of connections per broker. It is asked for on the control link, and what is not there yet is put
 * there. On the main thread.
 */
#ifndef NEMOGATE_CORE_INSTALLATION_H
#define NEMOGATE_CORE_INSTALLATION_H

#include "core/config.h"
#include "core/log.h"
#include "transport/redis_link.h"

#define INSTALLATION_TAG_TEXT 32

/* ---- the numbers --------------------------------------------------------------------------- */

#define INSTALLATION_COUNTS_MAX 17 /* slots, and connections to 16 brokers */

struct installation_count {
    char field[80]; /* "slots", "connections:main" */
    char value[16];
};

struct installation_counts {
    size_t number;
    struct installation_count item[INSTALLATION_COUNTS_MAX]; /* slots is the first */
};

/* Those of the configuration, but for so many slots. */
void installation_counts_of(const struct config *config, unsigned slots,
                            struct installation_counts *counts);
/* Puts field, value, field, value ... into arguments (room for two for each) as views of counts;
 * returns how many. */
size_t installation_put_counts(const struct installation_counts *counts, struct bytes *arguments);

/* ---- asking -------------------------------------------------------------------------------- */

struct installation;

struct installation_events {
    /* The numbers are those of the configuration. tag is valid until the next answer. */
    void (*on_agreed)(void *context, const char *tag);
    /* They are not; what differs has been logged. */
    void (*on_mismatch)(void *context);
};

/* Borrows all of its arguments. Owned by the caller; NULL: memory is short. */
struct installation *installation_new(const struct config *config, const struct log *log,
                                      struct redis_link *link,
                                      const struct installation_events *events, void *context);
void installation_free(struct installation *installation);

/* The link is ready. An answer that makes no sense fails it. */
void installation_ask(struct installation *installation);

#endif
