/*
 * Writes JSON [RFC 8259] to a file, member by member. Texts that are not UTF-8 are written with
 * U+FFFD for each wrong byte: whoever must tell such texts apart looks at json_is_text first.
 */
#ifndef NEMOGATE_CORE_JSON_H
#define NEMOGATE_CORE_JSON_H

#include "codec/bytes.h"

#include <stdio.h>

struct json {
    FILE *out;
    bool more; /* something stands before, in the same object or array */
};

/* name NULL: in an array, or the whole. */
void json_begin_object(struct json *json, const char *name);
void json_end_object(struct json *json);
void json_begin_array(struct json *json, const char *name);
void json_end_array(struct json *json);

void json_text(struct json *json, const char *name, const char *value);
/* data NULL: null. */
void json_bytes(struct json *json, const char *name, struct bytes value);
void json_number(struct json *json, const char *name, uint64_t value);
void json_bool(struct json *json, const char *name, bool value);
void json_null(struct json *json, const char *name);
/* known false: null. */
void json_number_if(struct json *json, const char *name, bool known, uint64_t value);

/* A string alone, with its quotes: for who has another way with what stands around it. */
void json_put_string(struct bytes text, FILE *out);

bool json_is_text(struct bytes value);

#endif
