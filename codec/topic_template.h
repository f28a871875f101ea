/*
 * A topic template of the configuration: text with {site} and {client_id}. Expanded once per stream
 * or connection, never per message. Pure functions.
 */
#ifndef NEMOGATE_CODEC_TOPIC_TEMPLATE_H
#define NEMOGATE_CODEC_TOPIC_TEMPLATE_H

#include "codec/bytes.h"
#include "codec/status.h"

struct topic_values {
    struct bytes site;      /* data NULL: the template may not use {site} */
    struct bytes client_id; /* data NULL: the template may not use {client_id} */
};

/* NULL when the template is well formed and uses only the names that are allowed; else a static
 * text of what is wrong (unknown name, unclosed brace, wildcard, not UTF-8, NUL). An empty
 * template is well formed. */
const char *topic_template_fault(struct bytes template, bool site_allowed, bool client_id_allowed);

/* Writes the expanded template. The template must have passed topic_template_fault. */
void topic_template_expand(struct writer *w, struct bytes template,
                           const struct topic_values *values);

#endif
