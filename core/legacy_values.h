/*
 * The settings that an admin has saved on the configuration page of NEMO's plugins, from what a
 * command prints: the JSON of `manage.py dumpdata`, or lines key=value; the names are those of the
 * plugin's table in both. Pure functions, no allocation.
 */
#ifndef NEMOGATE_CORE_LEGACY_VALUES_H
#define NEMOGATE_CORE_LEGACY_VALUES_H

#include "codec/bytes.h"

#define LEGACY_OUTPUT_MAX ((size_t)64 << 10)
#define LEGACY_TEXT_MAX 512u /* more than any column of the table holds, in UTF-8 */

struct legacy_values {
    char broker_host[LEGACY_TEXT_MAX];
    unsigned broker_port;
    unsigned keepalive;             /* seconds */
    char username[LEGACY_TEXT_MAX]; /* "" where not both it and the password are given */
    char password[LEGACY_TEXT_MAX];
    bool use_hmac;
    char hmac_secret_key[LEGACY_TEXT_MAX * 4]; /* "" without use_hmac */
};

/* NULL: *values is set, of the first row that is enabled. Else static text of what is wrong, which
 * never holds a value. What is not given has the plugin's default; the host must be given. scratch:
 * as many bytes as text, at most LEGACY_OUTPUT_MAX. */
const char *legacy_values_read(struct bytes text, uint8_t *scratch, struct legacy_values *values);

#endif
