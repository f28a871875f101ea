/*
 * What sites have saved on the settings page of their NEMO for the gateway, of all sites: the
 * values as they stand in Redis, neither judged nor applied. References to secrets are among them,
 * secrets never. The set of them passes to the program that is started anew in this process.
 */
#ifndef NEMOGATE_CORE_SITE_SETTINGS_H
#define NEMOGATE_CORE_SITE_SETTINGS_H

#include "codec/bytes.h"
#include "codec/status.h"

/* Sites with settings of their own that one gateway carries. */
#define SITE_SET_MAX 256u
#define SITE_TEXT_MAX ((size_t)64 << 10)
#define SITE_NAME_TEXT 33

/* In words for the site's page. */
#define SITE_NOT_ALLOWED                                                                           \
    "the operator of the gateway has not allowed settings from this site (routes[].settings is "   \
    "own)"

enum site_field {
    SITE_BROKER_URL,
    SITE_USERNAME,
    SITE_PASSWORD_REF,
    SITE_CA, /* certificates in PEM */
    SITE_SIGN_KEY_REF,
    SITE_FIELDS
};

/* Their names in Redis. */
extern const char *const site_field_names[SITE_FIELDS];

struct site_settings {
    char site[SITE_NAME_TEXT];
    uint64_t version;
    char *text[SITE_FIELDS]; /* never NULL; "": what the gateway itself has configured */
};

/* By site. Zeroed it is empty. */
struct site_set {
    struct site_settings **items; /* owned */
    size_t count;
};

/* Owned by the caller. NULL: a value is longer than SITE_TEXT_MAX or holds a NUL, the site is none,
 * or memory is short. */
struct site_settings *site_settings_new(struct bytes site, uint64_t version,
                                        const struct bytes text[SITE_FIELDS]);
void site_settings_free(struct site_settings *settings); /* may be NULL */

enum site_put {
    SITE_PUT_OLD, /* the set has the same version of the site, or a later one */
    SITE_PUT_DONE,
    SITE_PUT_FULL,
};
/* Takes the settings over, or frees them; those of the same site with a lower version are freed. */
enum site_put site_set_put(struct site_set *set, struct site_settings *settings);
/* NULL: the set, which may be NULL, has none of the site; *index is where they would stand. */
const struct site_settings *site_set_find(const struct site_set *set, struct bytes site,
                                          size_t *index);
/* A copy, into an empty set. false: memory is short. Either may be NULL, for an empty one. */
MUST_CHECK bool site_set_copy(struct site_set *to, const struct site_set *from);
bool site_set_equal(const struct site_set *a, const struct site_set *b);
void site_set_free(struct site_set *set);

/* Leaves the set to the program that this process becomes: in memory that outlives it, named in its
 * environment. What was left before is withdrawn. false: the system refuses it. */
MUST_CHECK bool site_set_leave(const struct site_set *set);
/* Just before the exec: until then no other program gets what was left. */
void site_set_keep_open(void);
/* What was left to this program, into an empty set; what is not as it should be is left out. */
void site_set_inherit(struct site_set *set);

/* The payload of an entry of type gateway.settings: {"version":7}, nothing else. */
MUST_CHECK bool site_order_read(struct bytes payload, uint64_t *version);
/* A version: 1 to 2^53, the largest that Lua and JSON have all below. */
MUST_CHECK bool site_version_read(struct bytes text, uint64_t *version);

#endif
