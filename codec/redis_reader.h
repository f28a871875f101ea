/*
 * RESP replies from bytes: the only reader of Redis' protocol (hiredis' redisReader behind it).
 * A reply is read either as a small tree of values, or, for XREADGROUP, entry by entry, so that a
 * reply of any size never exists in memory as a whole. No I/O. One thread at a time.
 */
#ifndef NEMOGATE_CODEC_REDIS_READER_H
#define NEMOGATE_CODEC_REDIS_READER_H

#include "codec/bytes.h"
#include "codec/status.h"
#include "codec/stream_entry.h"

enum redis_type { REDIS_STRING, REDIS_STATUS, REDIS_ERROR, REDIS_INTEGER, REDIS_ARRAY, REDIS_NIL };

/* A reply or a part of one: a view that is valid until the next call on its reader. */
struct redis_value {
    enum redis_type type;
    int64_t integer;                   /* REDIS_INTEGER */
    struct bytes text;                 /* REDIS_STRING, REDIS_STATUS, REDIS_ERROR */
    const struct redis_value *element; /* REDIS_ARRAY: the first of its elements, or NULL */
    size_t count;                      /* REDIS_ARRAY */
    const struct redis_value *next;    /* the next element of the same array, or NULL */
};

/* True for an error reply whose text begins with code and a space ("NOGROUP", "WRONGTYPE"). */
bool redis_value_is_error(const struct redis_value *value, const char *code);

/* What the next reply in the stream of bytes is to be read as. */
enum redis_expect {
    REDIS_EXPECT_VALUE,  /* as a tree */
    REDIS_EXPECT_STREAMS /* XREADGROUP: as entries; nil and errors come as a tree all the same */
};

#define REDIS_MAX_FIELDS 64

/* What a server may make the reader hold. Beyond these a reply is malformed, except that an entry
 * must not block its stream: a text of a field is cut, and what lies beyond it is passed over as it
 * comes; of an entry that is larger as a whole the first fields are given. */
#define REDIS_MAX_TEXT (((size_t)16 << 20) + 1) /* one more than any payload may have */
#define REDIS_MAX_REPLY ((size_t)32 << 20)      /* a reply as a tree, or an entry */
#define REDIS_MAX_LINE ((size_t)64 << 10)       /* a status, an error, a number, a length */

struct redis_entry {
    struct stream_id id;
    const struct stream_field *fields;
    size_t count;
    bool nil;      /* pending, but deleted from the stream: no fields are left */
    bool overflow; /* more than REDIS_MAX_FIELDS fields, or REDIS_MAX_REPLY bytes: the first fields
                      are given */
};

/* Called while a REDIS_EXPECT_STREAMS reply is read. Views are valid for the call only. They must
 * not call the reader. */
struct redis_stream_sink {
    /* The entries that follow belong to this stream. */
    void (*on_stream)(void *context, struct bytes name);
    /* An entry, in the reply's order. */
    void (*on_entry)(void *context, const struct redis_entry *entry);
};

struct redis_reader;

/* expect(context) is asked once at the start of every reply and says how to read it. sink and
 * context are borrowed for the reader's life. Returns owned, or NULL when memory is short. */
struct redis_reader *redis_reader_new(enum redis_expect (*expect)(void *context),
                                      const struct redis_stream_sink *sink, void *context);
void redis_reader_free(struct redis_reader *reader);

/* Takes over a copy of input, which is best given in pieces far smaller than REDIS_MAX_TEXT.
 * STATUS_FAILED when memory is short or the reader has failed. */
MUST_CHECK enum status redis_reader_feed(struct redis_reader *reader, struct bytes input);

/* Reads on in what was fed. STATUS_OK: *reply is a whole reply; for a streams reply that was given
 * to the sink it is an array without elements whose count is the number of entries. STATUS_AGAIN:
 * what was fed is used up; entries that were complete have been given to the sink.
 * STATUS_MALFORMED: not RESP, or not the shape of XREADGROUP: redis_reader_error says what; the
 * link must be closed. STATUS_FAILED: memory is short; the link must be closed too. */
MUST_CHECK enum status redis_reader_next(struct redis_reader *reader,
                                         const struct redis_value **reply);

/* Static or reader-owned text, valid until the reader is freed. */
const char *redis_reader_error(const struct redis_reader *reader);

/* Forgets everything unread, for a new connection. */
void redis_reader_reset(struct redis_reader *reader);

#endif
