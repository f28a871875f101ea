/*
 * What redis_reader.c (replies, trees) and redis_streams.c (entries of XREADGROUP) share: the
 * reader's body. Included by these two only. The functions return what hiredis' object functions
 * return: something that is not NULL, or NULL after the reader's failure and error have been set.
 */
#ifndef NEMOGATE_CODEC_REDIS_READER_PRIVATE_H
#define NEMOGATE_CODEC_REDIS_READER_PRIVATE_H

#include "codec/redis_reader.h"

#include <hiredis/hiredis.h>

/* Memory that a large reply has needed is kept up to this size, and freed above it. */
#define REDIS_KEEP_SIZE ((size_t)1 << 20)

struct redis_chunk;

struct redis_reader {
    redisReader *resp; /* owned; NULL after memory was too short to make it again */
    redisReplyObjectFunctions functions;
    enum redis_expect (*expect)(void *context);
    const struct redis_stream_sink *sink;
    void *context;
    bool calling; /* a callback runs: the reader must not be called */
    enum redis_expect mode;
    size_t max_text;  /* REDIS_MAX_TEXT, and REDIS_MAX_REPLY: tests choose smaller ones */
    size_t max_reply; /* */
    /* Of a text that is cut: so many bytes of input are still its own, and so many behind those are
     * passed over. */
    size_t keep_left;
    uint64_t pass_left;
    struct redis_chunk *chunks; /* the arena of trees, redis_reader.c's own */
    struct redis_value summary; /* of a streams reply: how many entries went to the sink */

    /* The entry that is being read: texts 0 .. seen are names and values by turns. */
    struct stream_id id;
    struct stream_field fields[REDIS_MAX_FIELDS];
    size_t seen;
    uint8_t *scratch; /* the texts of an entry that hiredis reads, one after the other */
    size_t scratch_size;
    size_t scratch_used;
    bool full; /* a text did not fit: no more are taken */

    enum status failure; /* STATUS_OK while all is well */
    char error[256];
};

/* Where the innermost items of a REDIS_EXPECT_STREAMS reply stand: names and values. */
#define REDIS_STREAMS_FIELD_DEPTH 5

/* Sets the failure that memory is short. Returns NULL. */
void *redis_reader_no_memory(struct redis_reader *reader);

/* One item of a REDIS_EXPECT_STREAMS reply, handed on to the sink where it completes something. */
void *redis_streams_text(struct redis_reader *reader, const redisReadTask *task, struct bytes text);
void *redis_streams_array(struct redis_reader *reader, const redisReadTask *task, size_t count);
void *redis_streams_integer(struct redis_reader *reader, const redisReadTask *task);
void *redis_streams_nil(struct redis_reader *reader, const redisReadTask *task);

/* Drops what has been read of an entry. */
void redis_streams_forget_entry(struct redis_reader *reader);

#endif
