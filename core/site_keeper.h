/*
 * The main thread's part in settings that sites save for themselves: at the start it makes sure
 * that this process has those that are applied; then it judges what lanes come to, writes into
 * Redis what is applied, or why not, and asks for the restart that applies it, for several sites at
 * once and never soon after the last. Where no route of the configuration lets sites have settings
 * it says so to those that save some.
 */
#ifndef NEMOGATE_CORE_SITE_KEEPER_H
#define NEMOGATE_CORE_SITE_KEEPER_H

#include "core/config.h"
#include "core/log.h"
#include "core/site_request.h"
#include "transport/redis_link.h"

struct site_keeper;

/* All borrowed for its life. */
struct site_keeper_setting {
    const struct config *config;
    const char *file; /* that it came from: it must be sound for a restart */
    const struct log *log;
    const struct net *net;
    struct redis_link *link;
    /* This process has the settings that are applied: it may begin. Once. */
    void (*on_current)(void *context);
    /* It has others: it is to begin anew, with what site_keeper_leave leaves. */
    void (*on_change)(void *context, const char *why);
    /* An entry may settle. later: the version that the site has saved since; NULL: none. */
    void (*on_settle)(void *context, unsigned slot, uint64_t token, const char *later);
    void *context;
};

/* Owned by the caller; NULL: memory is short. */
struct site_keeper *site_keeper_new(const struct site_keeper_setting *setting);
void site_keeper_free(struct site_keeper *keeper); /* may be NULL */

/* The link is ready: the first look, and on_current; or what was not answered is asked again. */
void site_keeper_go_on(struct site_keeper *keeper);
/* The request is copied. */
void site_keeper_take(struct site_keeper *keeper, const struct site_request *request);
/* For the program that this process becomes; false: it will have to ask Redis. */
bool site_keeper_leave(struct site_keeper *keeper);

#endif
