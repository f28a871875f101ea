/*
 * Log lines to standard error: logfmt or JSON, one write(2) each, so that threads need no lock.
 * A log may have a parent: its field (shard=2) stands on every line of its children. Messages are
 * constant texts; what varies goes into fields, so that lines can be searched and counted.
 */
#ifndef NEMOGATE_CORE_LOG_H
#define NEMOGATE_CORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

enum log_type { LOG_TYPE_TEXT, LOG_TYPE_BYTES, LOG_TYPE_SIGNED, LOG_TYPE_UNSIGNED };

/* Views, borrowed for the call (of a log: for its life). */
struct log_field {
    const char *name;
    enum log_type type;
    const char *text;
    size_t length; /* LOG_TYPE_BYTES */
    int64_t number;
};

#define LOG_TEXT(name, value) ((struct log_field){(name), LOG_TYPE_TEXT, (value), 0, 0})
#define LOG_BYTES(name, value)                                                                     \
    ((struct log_field){(name), LOG_TYPE_BYTES, (const char *)(value).data, (value).length, 0})
#define LOG_INT(name, value)                                                                       \
    ((struct log_field){(name), LOG_TYPE_SIGNED, NULL, 0, (int64_t)(value)})

struct log {
    const struct log *parent; /* borrowed; NULL: this is the root */
    struct log_field field;   /* of a child */
    int fd;                   /* of the root, as is all below */
    enum log_level level;
    enum log_format format;
    bool journal; /* lines begin with their priority, as in <6> */
};

struct log log_root(int fd, enum log_level level, enum log_format format);
/* Whether fd leads to systemd's journal, which takes a priority off the beginning of a line
 * (sd-daemon(3)). stream: JOURNAL_STREAM of the environment, its device and inode; may be NULL. */
bool log_is_journal(int fd, const char *stream);
struct log log_child(const struct log *parent, struct log_field field);

/* Values are quoted and escaped as the format needs; bytes that are not UTF-8 are shown as \xNN. A
 * line is cut at 4,096 bytes. */
void log_emit(const struct log *log, enum log_level level, const char *message,
              const struct log_field *fields, size_t count);

#define LOG_FIELDS(...)                                                                            \
    (struct log_field[]){__VA_ARGS__},                                                             \
        sizeof((struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field)

/* log_event(log, LOG_INFO, "broker connected", LOG_TEXT("broker", name), ...); at least one field
 */
#define log_event(log, level, message, ...)                                                        \
    log_emit((log), (level), (message), LOG_FIELDS(__VA_ARGS__))

/* Lets a message that repeats through once per period; the count of those held back in between
 * comes with the next one. Owned by whoever repeats himself, one per kind of message. */
struct log_limit {
    uint64_t last_ms; /* 0: never */
    uint64_t held_back;
};

/* true: write it, and *held_back of its kind were not written before it. */
bool log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint64_t period_ms,
                    uint64_t *held_back);

#endif
