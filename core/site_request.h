/*
 * What a lane asks of the main thread about its site's settings. The answer, where one is waited
 * for, is slot_settle_settings.
 */
#ifndef NEMOGATE_CORE_SITE_REQUEST_H
#define NEMOGATE_CORE_SITE_REQUEST_H

#include "core/site_settings.h"

enum site_request_kind {
    SITE_REQUEST_APPLY, /* the lane waits at an entry with this token and version */
    SITE_REQUEST_SAVED, /* the lane cannot use this version: has the site saved another one? */
    SITE_REQUEST_NEWER, /* Redis has a later version than this process */
    SITE_REQUEST_OLDER, /* Redis has lost the version that this process has */
};

struct site_request {
    enum site_request_kind kind;
    unsigned slot;
    uint64_t token;
    uint64_t version;
    size_t route; /* of the file: its index in the configuration */
    char site[SITE_NAME_TEXT];
};

#endif
