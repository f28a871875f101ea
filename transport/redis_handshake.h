/*
 * The commands that open a Redis connection and what their replies mean: AUTH, SELECT, CLIENT
 * SETNAME, CLIENT ID, INFO and PING, sent in one go. Private to redis_link.c. Pure functions: no
 * I/O, no state, no time.
 */
#ifndef NEMOGATE_TRANSPORT_REDIS_HANDSHAKE_H
#define NEMOGATE_TRANSPORT_REDIS_HANDSHAKE_H

#include "codec/redis_reader.h"
#include "transport/redis_link.h"

/* In the order in which they are sent. */
enum handshake_step {
    HANDSHAKE_AUTH,
    HANDSHAKE_SELECT,
    HANDSHAKE_SETNAME,
    HANDSHAKE_ID,
    HANDSHAKE_INFO,
    HANDSHAKE_PING,
    HANDSHAKE_DONE
};

#define REDIS_RUN_ID_TEXT 64

/* What the handshake learns of the connection and the server. */
struct redis_server {
    int64_t client_id;
    char run_id[REDIS_RUN_ID_TEXT]; /* "": unknown */
    bool cluster;
    unsigned major, minor; /* version; 0: unknown */
};

#define HANDSHAKE_ARGUMENTS 3

/* Views borrow from the configuration and from number. */
struct handshake_command {
    struct bytes argument[HANDSHAKE_ARGUMENTS];
    size_t count;
    char number[16];
};

/* The first step from this one on that the configuration needs. */
enum handshake_step redis_handshake_next(const struct redis_link_config *config,
                                         enum handshake_step from);

/* Writes the command of a step other than HANDSHAKE_DONE. */
void redis_handshake_command(const struct redis_link_config *config, enum handshake_step step,
                             struct handshake_command *command);

#define HANDSHAKE_ERROR_TEXT 320

/* Judges a step's reply. false: the link cannot be used; error (HANDSHAKE_ERROR_TEXT bytes) then
 * says why, and never holds the password. */
MUST_CHECK bool redis_handshake_reply(const struct redis_link_config *config,
                                      enum handshake_step step, const struct redis_value *reply,
                                      struct redis_server *server, char *error);

#endif
