/*
 * Another configuration for a running gateway: asked for by a signal, or seen when the file or one
 * that it names (passwords, keys, certificates) has other content, however it was put there: a
 * Kubernetes ConfigMap swaps a symbolic link, an editor renames. What is wrong with it is logged,
 * and the present one stays. Applying it is the engine's business. Main thread.
 */
#ifndef NEMOGATE_CORE_RELOAD_H
#define NEMOGATE_CORE_RELOAD_H

#include "core/config.h"
#include "core/log.h"
#include "transport/net.h"

#include <stdint.h>
#include <stdio.h>

struct reload;

/* What is known of the files, from one engine to the next that this process runs with the same
 * configuration. */
struct reload_state {
    const char *file; /* where the configuration came from; borrowed */
    uint64_t read;    /* hash of the configuration's file before it was read */
    uint64_t content; /* of all files that is in use, or was tried last */
    bool begun;       /* content is known */
    bool failed;      /* the last configuration that was tried could not be used */
};

/* Called before the file is read: what changes from then on is noticed. */
struct reload_state reload_before(const char *file);

/* All borrowed for its life. */
struct reload_setting {
    const struct config *config; /* the present one */
    struct reload_state *state;
    const struct log *log;
    const struct net *net;
    /* The file has a configuration that can be applied. why: a word for the log. */
    void (*on_change)(void *context, const char *why);
    void *context;
};

/* Looks at the files every two seconds from now on. Owned by the caller; NULL: memory is short. */
struct reload *reload_new(const struct reload_setting *setting);
void reload_free(struct reload *reload); /* may be NULL */

/* As SIGHUP asks: also when no file has changed. */
void reload_ask(struct reload *reload);

/* The configuration that the file holds now, where it may take the place of the present one; owned
 * by the caller. NULL: errors has a line for each fault. */
struct config *reload_load(const struct config *now, const char *file, FILE *errors);

/* The same once this process has drained for it; the faults are logged, and kept in state. */
bool reload_is_still_sound(const struct config *now, struct reload_state *state,
                           const struct log *log);

/* The last configuration that was tried could not be used. */
bool reload_has_failed(const struct reload *reload);

#endif
