/*
 * The inside of `dead-letters`, shared by its files: dead_letters.c (the command as a whole),
 * _redis.c (commands and their answers, one after the other), _sites.c (which sites, which
 * letters), _letter.c (one letter), _text.c, _table.c and _json.c (how it is shown), _list.c,
 * _show.c, _replay.c with _newer.c (are there newer entries?) and _report.c, _drop.c. Nobody else
 * includes it. All on the main thread.
 */
#ifndef NEMOGATE_CORE_DEAD_LETTERS_PRIVATE_H
#define NEMOGATE_CORE_DEAD_LETTERS_PRIVATE_H

#include "core/dead_letters.h"
#include "transport/net.h"
#include "transport/redis_link.h"

/* ---- Redis: what is sent is waited for ----------------------------------------------------- */

struct letters_redis {
    const struct config *config;
    struct net net;
    char where[ENDPOINT_TEXT]; /* "127.0.0.1:6379" */
    char *name;
    struct tls_context *tls;
    struct redis_link_config link_config;
    struct redis_link *link;
    bool ready;
    bool failed;     /* nothing more can be done */
    char error[768]; /* why, in words */
};

/* Connects. false: the error says why. Close it in any case. */
MUST_CHECK bool letters_redis_open(struct letters_redis *redis, const struct config *config);
void letters_redis_close(struct letters_redis *redis);

/* Queues a command; its callback runs in letters_redis_wait, with NULL when the link went down. */
void letters_redis_send(struct letters_redis *redis, const struct bytes *arguments, size_t count,
                        redis_reply_fn *on_reply, void *context);
/* Until all is answered. false: failed. */
MUST_CHECK bool letters_redis_wait(struct letters_redis *redis);

/* The first failure counts. */
void letters_redis_fail(struct letters_redis *redis, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* What an answer that is not the wanted one means, in words: what was tried with which key, and
 * what to do about it. */
void letters_redis_explain(const struct letters_redis *redis, const char *command, const char *key,
                           struct bytes error, char *text, size_t size);
/* Fails with these words. */
void letters_redis_refused(struct letters_redis *redis, const char *command, const char *key,
                           const struct redis_value *reply);

/* ---- pages of a stream --------------------------------------------------------------------- */

#define LETTERS_PAGE_MAX 500u

/* Reads [next, until] of a stream, or downwards from next to until, page by page. Few entries per
 * page where they are large. */
struct letters_pager {
    struct letters_redis *redis;
    const char *key;
    bool newest_first;
    struct stream_id next;
    struct stream_id until;
    /* entries: an array of entries, a view for the call. */
    void (*on_page)(void *context, const struct redis_value *entries);
    void *context;
    unsigned count; /* of the next page; 0 at the beginning */
    bool done;
};

#define LETTERS_FIRST_ID ((struct stream_id){0, 0})
#define LETTERS_LAST_ID ((struct stream_id){UINT64_MAX, UINT64_MAX})

struct stream_id letters_id_after(struct stream_id id);

/* The next page. false: there is none, or Redis has failed. */
MUST_CHECK bool letters_pager_next(struct letters_pager *pager);

/* What XINFO STREAM says. */
struct letters_stream_info {
    bool exists;
    uint64_t length;
    uint64_t added;               /* ever */
    struct stream_id first;       /* 0-0: it is empty */
    struct stream_id last;        /* ever given, also when it has been deleted */
    struct stream_id max_deleted; /* by XDEL */
};

MUST_CHECK bool letters_stream_info(struct letters_redis *redis, const char *key,
                                    struct letters_stream_info *info);

/* ---- one letter ---------------------------------------------------------------------------- */

/* Views of the reply. data NULL: the letter does not say. */
struct letter {
    struct stream_id id;
    struct bytes reason, detail, stream, original, deliveries;
    const struct redis_value *own; /* the entry's own first name; NULL: it has none, or */
    struct bytes packed;           /* its own fields as MessagePack */
};

/* Reads an element of XRANGE's reply. false: it is none. */
MUST_CHECK bool letter_read(const struct redis_value *entry, struct letter *letter);
/* The same of any entry, whose fields are all its own. */
MUST_CHECK bool letter_read_entry(const struct redis_value *entry, struct letter *letter);

/* A walk through the entry's own fields. */
struct letter_fields {
    const struct redis_value *next;
    struct reader packed;
    size_t packed_left;
};

struct letter_fields letter_fields(const struct letter *letter);
bool letter_next_field(struct letter_fields *fields, struct bytes *name, struct bytes *value);

/* The own fields that matter, by their names; data NULL: not given. */
struct letter_entry {
    struct bytes topic, key, payload, replayed_from;
    bool absolute;
    bool retain;
    size_t field_count;
    size_t size; /* of all names and values */
};

void letter_entry(const struct letter *letter, struct letter_entry *entry);

/* ---- text ---------------------------------------------------------------------------------- */

/* Whether text can be shown as it is: UTF-8 without anything that steers a terminal. Line ends and
 * tabs are allowed where lines is true. */
bool letters_is_printable(struct bytes text, bool lines);

/* Writes text, and \xNN for each byte that is not printable, in at most `columns` columns, the last
 * one a ~ where it does not fit. Returns the columns used; cell has 4 * columns + 1 bytes. */
size_t letters_cell(struct bytes text, size_t columns, char *cell);
/* The same without limit, straight to a file. */
void letters_put_printable(struct bytes text, FILE *out);

/* Lines of text, or of a hex dump where it is not printable, each behind the indent. */
void letters_put_block(struct bytes value, const char *indent, FILE *out);

#define LETTERS_TIME_TEXT 32

/* "2023-11-14 22:13:20" (UTC). Returns text (LETTERS_TIME_TEXT bytes). */
const char *letters_format_time(uint64_t ms, char *text);

#define LETTERS_NUMBER_TEXT 32

/* "10,000". Returns text (LETTERS_NUMBER_TEXT bytes). */
const char *letters_format_number(uint64_t number, char *text);
/* "9999", "12K", "3M": at most five columns. */
const char *letters_format_size(uint64_t bytes, char *text);

/* ---- JSON ---------------------------------------------------------------------------------- */

/* One object in one line; members are put between begin and end. */
struct letters_json {
    FILE *out;
    bool more; /* a member has been put */
};

void letters_json_begin(struct letters_json *json);
void letters_json_end(struct letters_json *json);
/* A text, null where data is NULL; what is not UTF-8 as base64 in a member name_base64. */
void letters_json_text(struct letters_json *json, const char *name, struct bytes value);
void letters_json_number(struct letters_json *json, const char *name, uint64_t value);
void letters_json_bool(struct letters_json *json, const char *name, bool value);
/* What list and show say of a letter; show also has its fields. */
void letters_json_letter(FILE *out, const char *site, const struct letter *letter,
                         bool with_fields);

/* ---- a table ------------------------------------------------------------------------------- */

enum letters_column {
    COLUMN_SITE,
    COLUMN_ID,
    COLUMN_WHEN,
    COLUMN_REASON,
    COLUMN_STREAM,
    COLUMN_ORIGINAL,
    COLUMN_TOPIC,
    COLUMN_KEY,
    COLUMN_SIZE,
    COLUMN_COUNT
};

#define LETTERS_CELL_COLUMNS 64

struct letters_row {
    char cell[COLUMN_COUNT][4 * LETTERS_CELL_COLUMNS + 1];
    size_t columns[COLUMN_COUNT];
};

/* The widths only grow. Cells longer than theirs are cut. */
struct letters_table {
    size_t natural[COLUMN_COUNT]; /* of the longest cell so far */
    size_t width[COLUMN_COUNT];   /* 0: not shown */
};

void letters_row_fill(struct letters_row *row, const char *site, const struct letter *letter);
void letters_table_measure(struct letters_table *table, const struct letters_row *row);
/* Makes the widths from what was measured: shrinks some, then leaves some out, until a line has at
 * most so many columns. True: they have changed, a head is due. */
bool letters_table_fit(struct letters_table *table, size_t columns);
void letters_table_head(const struct letters_table *table, FILE *out);
void letters_table_row(const struct letters_table *table, const struct letters_row *row, FILE *out);

/* ---- counts by reason ---------------------------------------------------------------------- */

#define LETTERS_REASONS_MAX 40u
#define LETTERS_REASON_COLUMNS 24
#define LETTERS_REASON_TEXT (4 * LETTERS_REASON_COLUMNS + 1)

struct letters_tally {
    struct {
        char reason[LETTERS_REASON_TEXT];
        uint64_t count;
    } row[LETTERS_REASONS_MAX];
    size_t rows; /* the last one may be of all other reasons */
    uint64_t sum;
};

void letters_tally_add(struct letters_tally *tally, struct bytes reason);
/* "2 bad-topic, 1 no-topic" */
void letters_tally_print(const struct letters_tally *tally, FILE *out);

/* ---- the command --------------------------------------------------------------------------- */

struct letters_site {
    char *name; /* owned */
    char key[48];
};

#define LETTERS_NO_SITE SIZE_MAX

/* An id of the command line. */
struct letters_wanted {
    struct stream_id id;
    size_t site; /* index where it was found, or LETTERS_NO_SITE */
};

struct letters {
    const struct config *config;
    const struct cli *cli;
    FILE *out;
    FILE *errors;
    struct letters_redis redis;
    struct letters_site *sites; /* in the order of their names */
    size_t site_count;
    size_t site_capacity;
    struct letters_wanted wanted[CLI_TEXTS_MAX]; /* in the order of the ids, each once */
    size_t wanted_count;
    struct stream_id since;
    bool incomplete; /* something was refused, failed, or not found: exit code 1 */
    bool stopped;    /* by a signal, after what is under way */
    bool quiet;      /* without progress and signals: not the main thread's */
    /* Of each letter that a replay has looked at; why NULL: it was replayed. NULL: no matter. */
    void (*on_replayed)(void *context, struct stream_id id, const char *why);
    void *on_replayed_context;
};

/* Judges --site and --since and reads --id. false: told on errors. */
MUST_CHECK bool letters_read_options(struct letters *letters);

/* Those of --site, or all that have dead letters. false: Redis has failed, or memory is short. */
MUST_CHECK bool letters_find_sites(struct letters *letters);
void letters_free_sites(struct letters *letters);

/* Looks for the wanted ids in all sites; on_found (NULL: no matter) gets each letter found. Says
 * which ids were not found, and, where each must stand for one letter, which ones are in several
 * sites. false: Redis has failed, or an id stands for several. */
typedef void letters_found_fn(struct letters *letters, const struct letters_site *site,
                              const struct redis_value *entry);
MUST_CHECK bool letters_find_ids(struct letters *letters, bool unique, letters_found_fn *on_found);

/* --reason and --stream. */
bool letters_matches(const struct letters *letters, const struct letter *letter);

/* The selected letters of a site, oldest first, page by page: those of the wanted ids that were
 * found there, or all up to the last one that there was at the beginning. A page may hold others:
 * ask letters_matches. */
struct letters_selection {
    struct letters *letters;
    size_t site;
    size_t next_id; /* index into wanted */
    struct letters_pager pager;
    uint64_t length; /* of the dead-letter stream */
};

MUST_CHECK bool
letters_selection_open(struct letters_selection *selection, struct letters *letters, size_t site,
                       void (*on_page)(void *context, const struct redis_value *entries),
                       void *context);
MUST_CHECK bool letters_selection_next(struct letters_selection *selection);

/* Each carries out its command on the sites found; false: Redis has failed. */
MUST_CHECK bool letters_list(struct letters *letters);
MUST_CHECK bool letters_show(struct letters *letters);
MUST_CHECK bool letters_replay(struct letters *letters);
MUST_CHECK bool letters_drop(struct letters *letters);

/* ---- progress ------------------------------------------------------------------------------ */

/* A line on errors while the event loop turns: on a terminal each second, in place; else every ten
 * seconds. SIGINT and SIGTERM set letters->stopped meanwhile; a second one ends the process. */
struct letters_progress {
    struct letters *letters;
    void (*format)(void *context, char *text, size_t size);
    void *context;
    struct event *timer;
    struct event *interrupt;
    struct event *terminate;
    bool terminal;
    bool shown; /* a line stands on the terminal */
};

MUST_CHECK bool letters_progress_open(struct letters_progress *progress, struct letters *letters,
                                      void (*format)(void *context, char *text, size_t size),
                                      void *context);
/* Wipes the line, for what else is written to errors. */
void letters_progress_wipe(struct letters_progress *progress);
void letters_progress_close(struct letters_progress *progress);

/* ---- newer entries of a topic -------------------------------------------------------------- */

/* A stream that letters go back to. */
struct letters_stream;
struct letters_streams;

struct letters_streams *letters_streams_new(struct letters *letters, const char *site);
void letters_streams_free(struct letters_streams *streams);
/* The stream of this name, made where it is new; NULL: memory is short. Valid until free. */
struct letters_stream *letters_streams_of(struct letters_streams *streams, struct bytes name);
const char *letters_stream_name(const struct letters_stream *stream);
const char *letters_stream_prefix(const struct letters_stream *stream);

/* The stream id under which the event was first written: what replayed_from says, or else id. */
struct stream_id letters_origin(const struct letter_entry *entry, struct stream_id id);

/* Entries of this topic that are newer than origin matter. Returns the topic's hash; false in *ok:
 * memory is short. */
uint64_t letters_stream_watch(struct letters_stream *stream, const struct letter_entry *entry,
                              struct stream_id origin, bool *ok);
/* Reads the stream on up to its present end, once in a turn (1, 2, ...). *scanned counts entries.
 */
MUST_CHECK bool letters_stream_read(struct letters_streams *streams, struct letters_stream *stream,
                                    uint64_t turn, uint64_t *scanned);

enum letters_newer { NEWER_NONE, NEWER_EXISTS, NEWER_UNKNOWN };

/* Of what has been read. NEWER_UNKNOWN: entries after origin have been removed from the stream. */
enum letters_newer letters_stream_newer(const struct letters_stream *stream, uint64_t topic,
                                        struct stream_id origin);
/* How far the stream has been read: the last id there was then, and how many were added until
 * then. */
struct stream_id letters_stream_seen(const struct letters_stream *stream, uint64_t *added);

/* ---- replay -------------------------------------------------------------------------------- */

/* What became of a letter. */
enum letters_outcome {
    OUTCOME_REPLAYED,
    OUTCOME_GONE, /* somebody else has replayed or dropped it meanwhile */
    /* Refused, unless forced. */
    OUTCOME_NEWER,
    OUTCOME_MAYBE_NEWER,
    OUTCOME_BUSY,
    OUTCOME_NO_STREAM,
    OUTCOME_EXPIRED,
    /* Failed. */
    OUTCOME_EMPTY,
    OUTCOME_MANY_FIELDS,
    OUTCOME_FOREIGN,
    OUTCOME_WRONG_TYPE,
    OUTCOME_ERROR, /* Redis' own, which ends the command */
    OUTCOME_LOST,  /* the connection was lost before the answer came */
    OUTCOME_COUNT
};

struct letters_replayed {
    const char *site;
    struct stream_id id;
    enum letters_outcome outcome;
    char new_id[STREAM_ID_TEXT];   /* "": none */
    char newer_id[STREAM_ID_TEXT]; /* "": not known */
};

struct letters_report {
    struct letters *letters;
    uint64_t counts[OUTCOME_COUNT];
    unsigned notes;
};

/* What the script calls an outcome; OUTCOME_ERROR: nothing it says. */
enum letters_outcome letters_outcome_of(struct bytes word);
/* Counts a letter, and tells of it: an object with --json, else a line on errors for the first few
 * that were not replayed. */
void letters_report_add(struct letters_report *report, const struct letters_replayed *replayed);
uint64_t letters_report_refused(const struct letters_report *report);
uint64_t letters_report_failed(const struct letters_report *report);
/* "replayed 12, refused 3 (...), failed 0" and what more there is to say. */
void letters_report_sum(const struct letters_report *report, uint64_t not_tried);

#endif
