/*
 * Which streams a start would read, and how many entries it would send: SCAN as discovery does it,
 * then the state of the group in each stream. It only reads.
 */
#include "core/check_private.h"

#include "codec/stream_entry.h"

#include <stdlib.h>

#define PAGE "1000"
#define ASKED_MAX 256u
/* Of streams that nobody will read, this many are told by name. */
#define COMPLAINTS_MAX 10u

/* ---- finding ------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct check_stream *)a)->name, ((const struct check_stream *)b)->name);
}

/* false: there are too many, or memory is short. */
static bool add_name(struct check_redis *check, const char *text, size_t length)
{
    if (check->stream_count == check->stream_capacity) {
        size_t capacity = check->stream_capacity == 0 ? 64 : check->stream_capacity * 2;
        struct check_stream *more = realloc(check->streams, capacity * sizeof *more);
        if (more == NULL)
            return false;
        check->streams = more;
        check->stream_capacity = capacity;
    }
    char *name = strndup(text, length);
    if (check->stream_count >= CHECK_STREAMS_MAX || name == NULL) {
        free(name);
        return false;
    }
    check->streams[check->stream_count++] = (struct check_stream){check, name};
    return true;
}

/* SCAN, and patterns that overlap, may give a name more than once. */
static void strike_out_repeats(struct check_redis *check)
{
    size_t kept = 0;
    if (check->stream_count > 0)
        qsort(check->streams, check->stream_count, sizeof *check->streams, compare_names);
    for (size_t i = 0; i < check->stream_count; i++) {
        if (kept > 0 && compare_names(&check->streams[kept - 1], &check->streams[i]) == 0)
            free(check->streams[i].name);
        else
            check->streams[kept++] = check->streams[i];
    }
    check->stream_count = kept;
}

/* NULL: the stream will be read. */
static const char *why_not_read(const struct config *config, const char *name)
{
    const struct config_route *route = config_route_of(config, name);
    if (route == NULL)
        return "matches no route";
    if (stream_site(bytes_of(name)).length == 0 && route->site[0] == '\0')
        return "has no site (no hash tag in its name, no site: in its route)";
    return NULL;
}

static void strike_out_unread(struct check_redis *check)
{
    size_t kept = 0, complaints = 0;
    for (size_t i = 0; i < check->stream_count; i++) {
        struct check_stream stream = check->streams[i];
        const char *why = why_not_read(check->config, stream.name);
        if (why == NULL) {
            check->streams[kept++] = stream;
            continue;
        }
        if (complaints++ < COMPLAINTS_MAX)
            check_say(check->part, CHECK_WARNING, "stream %s %s and will not be read", stream.name,
                      why);
        free(stream.name);
    }
    check->stream_count = kept;
    if (complaints > COMPLAINTS_MAX)
        check_say(check->part, CHECK_WARNING, "%zu more streams will not be read",
                  complaints - COMPLAINTS_MAX);
}

static void end_finding(struct check_redis *check)
{
    strike_out_repeats(check);
    strike_out_unread(check);
    check_rights(check);
}

static void scan(struct check_redis *check);

static void take_page(struct check_redis *check, const struct redis_value *reply)
{
    struct bytes cursor = reply->element->text;
    snprintf(check->cursor, sizeof check->cursor, "%.*s", (int)cursor.length,
             (const char *)cursor.data);
    for (const struct redis_value *v = reply->element->next->element; v != NULL; v = v->next) {
        if (v->type != REDIS_STRING || memchr(v->text.data, '\0', v->text.length) != NULL)
            continue;
        if (!add_name(check, (const char *)v->text.data, v->text.length)) {
            check->cut_off = true;
            end_finding(check);
            return;
        }
    }
    if (strcmp(check->cursor, "0") == 0)
        check->pattern++;
    scan(check);
}

static void on_page(void *context, const struct redis_value *reply)
{
    struct check_redis *check = context;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_ARRAY && reply->count == 2 && reply->element->type == REDIS_STRING &&
        reply->element->next->type == REDIS_ARRAY) {
        take_page(check, reply);
        return;
    }
    struct bytes text = reply->type == REDIS_ERROR ? reply->text : bytes_of("unexpected reply");
    if (redis_value_is_error(reply, "NOPERM"))
        check_say(check->part, CHECK_FAILED,
                  "Redis %s: the user '%s' may not run SCAN, which finds streams by pattern: give "
                  "it +scan",
                  check->where, check_redis_user(check));
    else
        check_say(check->part, CHECK_FAILED, "Redis %s: SCAN does not work: %.*s", check->where,
                  (int)text.length, (const char *)text.data);
    end_finding(check);
}

static void scan(struct check_redis *check)
{
    const struct config_redis *redis = &check->config->redis;
    while (check->pattern < redis->stream_count &&
           !config_is_pattern(redis->streams[check->pattern]))
        check->pattern++;
    if (check->pattern == redis->stream_count) {
        end_finding(check);
        return;
    }
    struct bytes arguments[] = {bytes_of("SCAN"),  bytes_of(check->cursor),
                                bytes_of("MATCH"), bytes_of(redis->streams[check->pattern]),
                                bytes_of("COUNT"), bytes_of(PAGE),
                                bytes_of("TYPE"),  bytes_of("stream")};
    redis_link_command(check->link, arguments, sizeof arguments / sizeof *arguments, on_page,
                       check);
    redis_link_flush(check->link);
}

void check_streams_find(struct check_redis *check)
{
    const struct config_redis *redis = &check->config->redis;
    check->doing = "looking for streams";
    snprintf(check->cursor, sizeof check->cursor, "0");
    for (size_t i = 0; i < redis->stream_count; i++)
        if (!config_is_pattern(redis->streams[i]) &&
            !add_name(check, redis->streams[i], strlen(redis->streams[i])))
            check->cut_off = true;
    scan(check);
}

/* ---- counting ------------------------------------------------------------------------------ */

static void ask_on(struct check_redis *check);

static void answered(struct check_redis *check)
{
    check->asked--;
    ask_on(check);
}

static void on_length(void *context, const struct redis_value *reply)
{
    const struct check_stream *stream = context;
    struct check_redis *check = stream->redis;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_INTEGER)
        check->lag += (uint64_t)reply->integer;
    else
        check->inexact = true;
    answered(check);
}

/* The value behind a name in XINFO's flat list of names and values. */
static const struct redis_value *field(const struct redis_value *group, const char *name)
{
    for (const struct redis_value *v = group->element; v != NULL && v->next != NULL;
         v = v->next->next)
        if (v->type == REDIS_STRING && bytes_equal(v->text, bytes_of(name)))
            return v->next;
    return NULL;
}

static const struct redis_value *find_group(const struct redis_value *groups, const char *name)
{
    for (const struct redis_value *group = groups->element; group != NULL; group = group->next) {
        const struct redis_value *value = group->type == REDIS_ARRAY ? field(group, "name") : NULL;
        if (value != NULL && value->type == REDIS_STRING &&
            bytes_equal(value->text, bytes_of(name)))
            return group;
    }
    return NULL;
}

static void add_group(struct check_redis *check, const struct redis_value *group)
{
    const struct redis_value *pending = field(group, "pending"), *lag = field(group, "lag");
    check->grouped++;
    if (pending != NULL && pending->type == REDIS_INTEGER)
        check->pending += (uint64_t)pending->integer;
    /* Redis 6 has no lag, and Redis 7 does not know it after entries were deleted. */
    if (lag != NULL && lag->type == REDIS_INTEGER)
        check->lag += (uint64_t)lag->integer;
    else
        check->inexact = true;
}

static void take_error(struct check_stream *stream, struct bytes text)
{
    struct check_redis *check = stream->redis;
    static const char no_such_key[] = "ERR no such key";
    if (bytes_equal(text, bytes_of(no_such_key))) {
        check->missing++;
        return;
    }
    check->inexact = true;
    if (text.length >= 6 && memcmp(text.data, "NOPERM", 6) == 0)
        check->count_refused = true;
    else
        check_say(check->part, CHECK_FAILED, "stream %s cannot be read: %.*s", stream->name,
                  (int)text.length, (const char *)text.data);
}

static void on_groups(void *context, const struct redis_value *reply)
{
    struct check_stream *stream = context;
    struct check_redis *check = stream->redis;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_ERROR) {
        take_error(stream, reply->text);
    } else {
        const struct redis_value *group = find_group(reply, check->config->redis.group);
        if (group != NULL) {
            add_group(check, group);
        } else if (check->config->redis.start == CONFIG_START_BEGINNING) {
            struct bytes arguments[] = {bytes_of("XLEN"), bytes_of(stream->name)};
            redis_link_command(check->link, arguments, 2, on_length, stream);
            redis_link_flush(check->link);
            return;
        }
    }
    answered(check);
}

/* ---- the sum ------------------------------------------------------------------------------- */

static void join_patterns(const struct config_redis *redis, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < redis->stream_count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "",
                                 redis->streams[i]);
}

static void say_sum(struct check_redis *check, const char *patterns)
{
    char count[CHECK_NUMBER_TEXT], grouped[CHECK_NUMBER_TEXT], missing[80] = "";
    char entries[CHECK_NUMBER_TEXT], pending[CHECK_NUMBER_TEXT];
    if (check->missing > 0)
        snprintf(missing, sizeof missing, " (%zu will be made)", check->missing);
    uint64_t sum = check->pending + check->lag;
    check_say(check->part, CHECK_OK,
              "streams: %s match%s %s%s; the group %s exists in %s of them; a start will send "
              "%s%s %s (%s of them %s pending)",
              check_number(check->stream_count, count), check->stream_count == 1 ? "es" : "",
              patterns, missing, check->config->redis.group, check_number(check->grouped, grouped),
              check->inexact ? "at least " : "", check_number(sum, entries),
              sum == 1 ? "entry" : "entries", check_number(check->pending, pending),
              check->pending == 1 ? "is" : "are");
}

static void end_counting(struct check_redis *check)
{
    char patterns[256], count[CHECK_NUMBER_TEXT];
    join_patterns(&check->config->redis, patterns, sizeof patterns);
    if (check->stream_count == 0)
        check_say(check->part, CHECK_WARNING,
                  "streams: none matches %s yet; what appears later is found while nemogate runs",
                  patterns);
    else if (check->count_refused)
        check_say(check->part, CHECK_WARNING,
                  "streams: %s match%s %s; the user '%s' may not run XINFO GROUPS on them, so how "
                  "many entries a start will send is not known",
                  check_number(check->stream_count, count), check->stream_count == 1 ? "es" : "",
                  patterns, check_redis_user(check));
    else
        say_sum(check, patterns);
    if (check->cut_off)
        check_say(check->part, CHECK_WARNING,
                  "streams: there are more than %u; the numbers are of those found first",
                  CHECK_STREAMS_MAX);
    check_redis_end(check);
}

static void ask_on(struct check_redis *check)
{
    for (; check->asked < ASKED_MAX && check->next_stream < check->stream_count; check->asked++) {
        struct check_stream *stream = &check->streams[check->next_stream++];
        struct bytes arguments[] = {bytes_of("XINFO"), bytes_of("GROUPS"), bytes_of(stream->name)};
        redis_link_command(check->link, arguments, 3, on_groups, stream);
    }
    redis_link_flush(check->link);
    if (check->asked == 0)
        end_counting(check);
}

void check_streams_count(struct check_redis *check)
{
    check->doing = "counting entries";
    ask_on(check);
}
