/*
 * A link to Redis: one connection, with its handshake (AUTH, SELECT, CLIENT SETNAME, CLIENT ID, the
 * server's run id), pipelined commands, timeouts and reconnecting with backoff. It knows commands
 * and replies, not what they are for. It reports by callback and never logs. All on one thread.
 */
#ifndef NEMOGATE_TRANSPORT_REDIS_LINK_H
#define NEMOGATE_TRANSPORT_REDIS_LINK_H

#include "codec/redis_reader.h"
#include "transport/channel.h"

/* All borrowed for the link's life. */
struct redis_link_config {
    struct endpoint endpoint;
    const char *username; /* NULL: none */
    const char *password; /* NULL: no AUTH */
    unsigned database;
    const char *client_name; /* CLIENT SETNAME; no blanks */
    uint32_t connect_timeout_ms;
    uint32_t
        reply_timeout_ms; /* of the oldest unanswered command; a blocking read's block is added */
};

struct redis_link;

struct redis_link_events {
    /* Connected and through the handshake; commands may be sent. */
    void (*on_ready)(void *context);
    /* The connection has ended or could not be made. Every unanswered command's callback has been
     * called with NULL before. reason is in words for people, valid for the call. The link tries
     * again by itself after retry_ms. */
    void (*on_down)(void *context, const char *reason, uint32_t retry_ms);
};

/* reply is a view for the call; NULL: the link went down and whether the command was carried out is
 * not known. */
typedef void redis_reply_fn(void *context, const struct redis_value *reply);

/* sink (may be NULL: then no redis_link_read) gets the entries of redis_link_read's replies with
 * context. seed: any number, for the jitter. Owned by the caller; NULL: memory is short. */
struct redis_link *redis_link_new(const struct net *net, const struct redis_link_config *config,
                                  const struct redis_link_events *events,
                                  const struct redis_stream_sink *sink, void *context,
                                  uint64_t seed);
/* Not from one of its own callbacks. Unanswered commands are forgotten without a callback. */
void redis_link_free(struct redis_link *link);

/* Connects, and connects again after every loss, until redis_link_stop. */
void redis_link_start(struct redis_link *link);
/* Closes at once and stays closed. Unanswered commands are forgotten without a callback. */
void redis_link_stop(struct redis_link *link);
/* Closes and connects again after the backoff, as if the connection had been lost for that reason;
 * on_down is called from the event loop. */
void redis_link_fail(struct redis_link *link, const char *reason);
bool redis_link_is_ready(const struct redis_link *link);
/* The link has proved itself: the next backoff starts from the shortest wait. */
void redis_link_proven(struct redis_link *link);

/* Queues a command; it is sent by redis_link_flush. The link must be ready. Arguments are copied.
 */
void redis_link_command(struct redis_link *link, const struct bytes *arguments, size_t count,
                        redis_reply_fn *on_reply, void *context);
/* The same for an XREADGROUP: entries go to the sink as they are read; on_reply then gets an array
 * whose count is their number, or nil, or an error. block_ms 0: the command does not block. */
void redis_link_read(struct redis_link *link, const struct bytes *arguments, size_t count,
                     uint32_t block_ms, redis_reply_fn *on_reply, void *context);
void redis_link_flush(struct redis_link *link);
/* Commands without an answer yet. */
size_t redis_link_outstanding(const struct redis_link *link);

/* Of the present connection: its CLIENT ID, and the run_id of the server ("" where INFO is
 * forbidden). */
int64_t redis_link_client_id(const struct redis_link *link);
const char *redis_link_run_id(const struct redis_link *link);
/* INFO's redis_mode is "cluster". */
bool redis_link_is_cluster(const struct redis_link *link);
/* The server is known to be older than this version. */
bool redis_link_is_before(const struct redis_link *link, unsigned major, unsigned minor);
/* A script as the server wants it, a view of text: Redis before 7.0 takes a first line "#!lua ..."
 * for a fault of Lua, and the script goes without it. */
struct bytes redis_link_script(const struct redis_link *link, const char *text);

/* channel_certificate_end of the link. */
uint64_t redis_link_certificate_end(const struct redis_link *link);

#endif
