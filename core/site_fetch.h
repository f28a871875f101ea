/*
 * The settings of all sites that are applied, from Redis: the hashes nemo:{site}:gateway:applied,
 * found by SCAN page by page. On a link that somebody else owns.
 */
#ifndef NEMOGATE_CORE_SITE_FETCH_H
#define NEMOGATE_CORE_SITE_FETCH_H

#include "core/site_settings.h"
#include "transport/redis_link.h"

#define SITE_HASH_FIELDS (1 + SITE_FIELDS) /* the version and the values */

struct site_fetch;

/* on_done: found is lent for the call and may be emptied by it (another set put in its place);
 * refused is what Redis has said when it refused a command, then found may lack sites, else NULL.
 * There are SITE_SET_MAX sites at most. It is not called when the link goes down. Borrows the link.
 * Owned by the caller; NULL: memory is short. */
struct site_fetch *site_fetch_new(struct redis_link *link,
                                  void (*on_done)(void *context, struct site_set *found,
                                                  const char *refused),
                                  void *context);
/* May be NULL; before or after its link. */
void site_fetch_free(struct site_fetch *fetch);
/* The link is ready: begins from the start, unless it is at it. */
void site_fetch_begin(struct site_fetch *fetch);

/* The words of an HMGET of a site's hash, all borrowed from key. */
#define SITE_HMGET_WORDS (2 + SITE_HASH_FIELDS)
void site_hmget_words(const char *key, struct bytes words[SITE_HMGET_WORDS]);
/* What Redis has answered to it. *version 0: there is none. Owned by the caller; NULL: there is no
 * version, or a value that cannot be one. */
struct site_settings *site_hash_read(const struct redis_value *reply, struct bytes site,
                                     uint64_t *version);

#endif
