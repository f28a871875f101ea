/*
 * Log lines. A line is made on the stack and leaves with one write, of at most 4,096 bytes: up to
 * that size a pipe takes it as a whole (PIPE_BUF), so that lines of several threads do not mix. A
 * line that does not get out is lost; the gateway does not stop for its log.
 */
#include "core/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/bytes.h"
#include "core/utf8.h"

#define LINE_MAX_BYTES 4096u
/* What closes a line: the mark of a cut one, brace, line end. */
#define TAIL_BYTES 16u

/*   start .. at  the line      at .. end  free, behind it TAIL_BYTES for closing it   */
struct line {
    struct writer w;
    size_t head; /* what stands before the first field */
    enum log_format format;
    bool cut; /* the line is full; further fields are left out */
};

/* What of a value can be written as it is, and how the rest is written. */
struct piece {
    uint8_t text[16];
    size_t length; /* of text */
    size_t taken;  /* of the value */
};

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug";
    case LOG_INFO:
        return "info";
    case LOG_WARNING:
        return "warning";
    case LOG_ERROR:
        return "error";
    }
    return "unknown";
}

static void put_text(struct line *line, const char *text)
{
    writer_put_bytes(&line->w, bytes_of(text));
}

/* Those of syslog(3). */
static void put_priority(struct line *line, enum log_level level)
{
    static const char *const priorities[] = {
        [LOG_DEBUG] = "<7>", [LOG_INFO] = "<6>", [LOG_WARNING] = "<4>", [LOG_ERROR] = "<3>"};
    put_text(line, priorities[level]);
    line->head = writer_length(&line->w);
}

static void set_piece(struct piece *piece, const char *format, unsigned value)
{
    piece->length = (size_t)snprintf((char *)piece->text, sizeof piece->text, format, value);
}

/* U+0080 to U+009F: terminals may take them for commands, as they do the others below U+0020. */
static bool is_upper_control(struct bytes text)
{
    return text.length >= 2 && text.data[0] == 0xc2 && text.data[1] < 0xa0;
}

/* The first character of a value, escaped as the format needs. The value is not empty. */
static struct piece next_piece(struct bytes value, enum log_format format)
{
    bool json = format == LOG_JSON;
    uint8_t c = value.data[0];
    size_t length = utf8_first(value);
    struct piece piece = {.taken = length > 0 ? length : 1};
    if (c == '\n' || c == '\t' || c == '\r') {
        set_piece(&piece, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
    } else if (c == '"' || c == '\\') {
        set_piece(&piece, "\\%c", c);
    } else if (c < ' ' || c == 0x7f) {
        set_piece(&piece, json ? "\\u%04x" : "\\x%02x", c);
    } else if (length == 0) {
        set_piece(&piece, json ? "\\\\x%02x" : "\\x%02x", c);
    } else if (is_upper_control(value)) {
        set_piece(&piece, json ? "\\u%04x" : "\\xc2\\x%02x", value.data[1]);
    } else {
        memcpy(piece.text, value.data, length);
        piece.length = length;
    }
    return piece;
}

static bool is_bare(struct bytes value)
{
    for (size_t i = 0; i < value.length; i++) {
        uint8_t c = value.data[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return value.length > 0;
}

/* Notes that the line is cut where size more bytes do not fit. */
static bool has_room(struct line *line, size_t size)
{
    if ((size_t)(line->w.end - line->w.at) < size)
        line->cut = true;
    return !line->cut;
}

/* The field's name and what leads to its value. false: there is no room for it and least_value
 * bytes of value. */
static bool put_name(struct line *line, const char *name, size_t least_value)
{
    bool json = line->format == LOG_JSON;
    if (!has_room(line, strlen(name) + 4 + least_value))
        return false;
    if (writer_length(&line->w) > line->head)
        put_text(line, json ? "," : " ");
    else
        put_text(line, json ? "{" : "");
    put_text(line, json ? "\"" : "");
    put_text(line, name);
    put_text(line, json ? "\":" : "=");
    return true;
}

/* Cut where the line is full; the closing quote still goes in. */
static void put_text_field(struct line *line, const char *name, struct bytes value,
                           bool may_be_bare)
{
    bool quoted = line->format == LOG_JSON || !may_be_bare || !is_bare(value);
    if (!put_name(line, name, 2))
        return;
    put_text(line, quoted ? "\"" : "");
    while (value.length > 0) {
        struct piece piece = next_piece(value, line->format);
        if (!has_room(line, piece.length + 1))
            break;
        writer_put_bytes(&line->w, (struct bytes){piece.text, piece.length});
        value.data += piece.taken;
        value.length -= piece.taken;
    }
    put_text(line, quoted ? "\"" : "");
}

/* As a whole or not at all: the beginning of a number is another number. */
static void put_number_field(struct line *line, const struct log_field *field)
{
    char text[24];
    if (field->type == LOG_TYPE_SIGNED)
        snprintf(text, sizeof text, "%lld", (long long)field->number);
    else
        snprintf(text, sizeof text, "%llu", (unsigned long long)field->number);
    if (put_name(line, field->name, strlen(text)))
        put_text(line, text);
}

static void put_field(struct line *line, const struct log_field *field)
{
    switch (field->type) {
    case LOG_TYPE_TEXT:
        put_text_field(line, field->name, bytes_of(field->text != NULL ? field->text : ""), true);
        return;
    case LOG_TYPE_BYTES:
        put_text_field(line, field->name,
                       (struct bytes){(const uint8_t *)field->text, field->length}, true);
        return;
    case LOG_TYPE_SIGNED:
    case LOG_TYPE_UNSIGNED:
        put_number_field(line, field);
        return;
    }
}

/* The fields of the ancestors, the oldest first. Logs are few levels deep: shard, slot,
 * connection. */
static void put_ancestry(struct line *line, const struct log *log)
{
    if (log->parent == NULL)
        return;
    put_ancestry(line, log->parent);
    put_field(line, &log->field);
}

/* RFC 3339, UTC, milliseconds. */
static void put_time(struct line *line)
{
    struct timespec now = {0};
    struct tm utc = {0};
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, sizeof text - length, ".%03ldZ", now.tv_nsec / 1000000);
    put_text_field(line, "ts", bytes_of(text), true);
}

static void put_end(struct line *line)
{
    bool json = line->format == LOG_JSON;
    line->w.end += TAIL_BYTES;
    if (line->cut)
        put_text(line, json ? ",\"cut\":true" : " cut=true");
    put_text(line, json ? "}\n" : "\n");
}

static void write_line(int fd, const struct line *line)
{
    ssize_t written = 0;
    do
        written = write(fd, line->w.start, writer_length(&line->w));
    while (written < 0 && errno == EINTR);
}

struct log log_root(int fd, enum log_level level, enum log_format format)
{
    return (struct log){.fd = fd, .level = level, .format = format};
}

bool log_is_journal(int fd, const char *stream)
{
    struct stat status;
    char text[48];
    if (stream == NULL || fstat(fd, &status) != 0)
        return false;
    snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(text, stream) == 0;
}

struct log log_child(const struct log *parent, struct log_field field)
{
    return (struct log){.parent = parent,
                        .field = field,
                        .fd = parent->fd,
                        .level = parent->level,
                        .format = parent->format};
}

void log_emit(const struct log *log, enum log_level level, const char *message,
              const struct log_field *fields, size_t count)
{
    const struct log *root = log;
    while (root->parent != NULL)
        root = root->parent;
    if (level < root->level)
        return;
    const int saved_errno = errno;
    uint8_t memory[LINE_MAX_BYTES];
    struct line line = {.w = writer_over(memory, sizeof memory - TAIL_BYTES),
                        .format = root->format};
    if (root->journal)
        put_priority(&line, level);
    put_time(&line);
    put_text_field(&line, "level", bytes_of(level_name(level)), true);
    put_text_field(&line, "msg", bytes_of(message), false);
    put_ancestry(&line, log);
    for (size_t i = 0; i < count; i++)
        put_field(&line, &fields[i]);
    put_end(&line);
    write_line(root->fd, &line);
    errno = saved_errno;
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint64_t period_ms,
                    uint64_t *held_back)
{
    if (limit->last_ms != 0 && now_ms < limit->last_ms + period_ms) {
        limit->held_back++;
        return false;
    }
    limit->last_ms = now_ms != 0 ? now_ms : 1;
    *held_back = limit->held_back;
    limit->held_back = 0;
    return true;
}
