/*
 * The body of a request that changes dead letters: {"site": "lab", "ids": ["1-0"], "force": false},
 * read strictly. Part of the admin server's inside.
 */
#ifndef NEMOGATE_CORE_ADMIN_LETTERS_H
#define NEMOGATE_CORE_ADMIN_LETTERS_H

#include "codec/bytes.h"
#include "core/cli.h"

/* Owns the texts that a struct cli views. Zeroed at first. */
struct letters_body {
    char *text[CLI_TEXTS_MAX + 2];
    size_t count;
    bool failed; /* memory was short, or there were too many; sticky */
};

/* A copy; NULL: failed. */
const char *letters_body_keep(struct letters_body *body, const char *text);
void letters_body_free(struct letters_body *body);

/* Fills cli's sites (one), ids and force. false: it is not such an object. */
MUST_CHECK bool letters_body_read(struct bytes json, struct letters_body *body, struct cli *cli);

#endif
