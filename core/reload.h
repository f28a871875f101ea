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

struct reload;

/* All borrowed for its life. */
struct reload_setting {
    const struct config *config; /* the present one */
    const char *file;            /* that it came from */
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

/* The last configuration that was tried could not be used. */
bool reload_has_failed(const struct reload *reload);

#endif
