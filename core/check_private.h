/*
 * The inside of `check --connect`, shared by its files: check.c (the loop and the report),
 * check_redis.c (the link, the server's version), check_streams.c (which streams there are, and how
 * much waits in them), check_rights.c (what Redis lets the user do), check_broker.c,
 * check_legacy.c. Nobody else includes it. All on the main thread.
 */
#ifndef NEMOGATE_CORE_CHECK_PRIVATE_H
#define NEMOGATE_CORE_CHECK_PRIVATE_H

#include "core/config.h"
#include "transport/mqtt_conn.h"
#include "transport/redis_link.h"

#include <stdio.h>

/* ---- the report ---------------------------------------------------------------------------- */

enum check_verdict { CHECK_OK, CHECK_WARNING, CHECK_FAILED };

/* What one server's check has to say. The parts run side by side, and are printed in their order.
 */
struct check_part {
    void (*on_done)(void *context); /* once */
    void *context;
    FILE *lines;
    char *text;
    size_t length;
    bool failed; /* a line is FAILED */
    bool done;
};

void check_say(struct check_part *part, enum check_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The part has no more to say. */
void check_finish(struct check_part *part);

#define CHECK_NUMBER_TEXT 32

/* "1,240". Returns text (CHECK_NUMBER_TEXT bytes). */
const char *check_number(uint64_t number, char *text);

/* ---- a broker ------------------------------------------------------------------------------ */

struct check_broker {
    struct check_part *part;
    const struct config *config;
    const struct config_broker *broker;
    char where[ENDPOINT_TEXT]; /* "broker:8883" */
    char *client_id;
    struct tls_context *tls;
    struct mqtt_conn_config conn_config;
    struct mqtt_conn *conn;
};

/* Borrows config, net and part until check_broker_close. Finishes the part, now or later. */
void check_broker_open(struct check_broker *check, const struct config *config, size_t index,
                       const struct net *net, struct check_part *part);
void check_broker_close(struct check_broker *check);
/* Time is up. */
void check_broker_give_up(struct check_broker *check);

/* ---- a list of legacy_lists ---------------------------------------------------------------- */

struct check_legacy {
    struct check_part *part;
    const struct config_legacy_list *list;
    char where[560]; /* "list nemo_mqtt_events in db 1" */
    struct tls_context *tls;
    struct redis_link_config link_config;
    struct redis_link *link;
    size_t asked;  /* commands without an answer */
    size_t probed; /* index of the next probe to be answered */
};

/* The same as for a broker. */
void check_legacy_open(struct check_legacy *check, const struct config *config, size_t index,
                       const struct net *net, struct check_part *part);
void check_legacy_close(struct check_legacy *check);
void check_legacy_give_up(struct check_legacy *check);

/* ---- Redis --------------------------------------------------------------------------------- */

#define CHECK_STREAMS_MAX 100000u

struct check_redis;
struct check_probe;

struct check_stream {
    struct check_redis *redis;
    char *name; /* owned */
};

struct check_redis {
    struct check_part *part;
    const struct config *config;
    char where[ENDPOINT_TEXT]; /* "127.0.0.1:6379" */
    char *link_name;
    struct tls_context *tls;
    struct redis_link_config link_config;
    struct redis_link *link;
    const char *doing; /* for a check that runs out of time */

    /* Finding streams. */
    size_t pattern; /* index into config->redis.streams */
    char cursor[24];
    struct check_stream *streams; /* in the order of their names once they are all found */
    size_t stream_count;
    size_t stream_capacity;
    bool cut_off; /* there are more */

    /* Counting their entries. */
    size_t next_stream;
    size_t asked;   /* streams without an answer */
    size_t grouped; /* streams that have the group */
    size_t missing; /* streams that do not exist yet */
    uint64_t pending;
    uint64_t lag;
    bool inexact; /* Redis does not know some of the numbers */
    bool count_refused;

    /* Rights: a round of probes for nemogate's own keys, then one for each of redis.streams. */
    char *keys[6];                    /* what probes are sent for, by enum probe_key */
    const struct check_probe *probes; /* of this round */
    size_t probe_count;
    size_t probe_answers;
    size_t next_round;         /* index into config->redis.streams */
    unsigned keys_refused;     /* a bit for each of keys: it has been complained of */
    unsigned commands_refused; /* the same for each of a round's probes */
    bool write_refused;
    unsigned refusals;
};

/* The same as for a broker. */
void check_redis_open(struct check_redis *check, const struct net *net, struct check_part *part);
void check_redis_close(struct check_redis *check);
void check_redis_give_up(struct check_redis *check);

/* Each of these sends commands and goes on by their replies to the next of: check_streams_find,
 * check_rights, check_streams_count, check_redis_end. */
void check_streams_find(struct check_redis *check);
void check_rights(struct check_redis *check);
void check_streams_count(struct check_redis *check);
void check_redis_end(struct check_redis *check);

/* The user's name for messages. */
const char *check_redis_user(const struct check_redis *check);

#endif
