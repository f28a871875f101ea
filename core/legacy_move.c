/*
 * From a list to its stream, in two steps. One script looks at the oldest elements, which are the
 * rightmost; they are decoded here, by codec/legacy_envelope.h; a second script, which is given
 * both the bytes that were seen and the entries made of them, takes from the list what is still the
 * same and adds it to the stream, as one step of Redis.
 *
 * So each element is moved exactly once and in its order, whoever else moves or takes elements
 * meanwhile: a run of that script removes the k rightmost elements, which it has just compared, and
 * adds the entries that were decoded from equal bytes. What a run was told of elements that are
 * gone has no effect. An answer that is lost costs nothing: the next look shows what is there.
 */
#include "core/legacy_private.h"

#include "codec/legacy_envelope.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Elements of one move. Redis does nothing else meanwhile: not the LPUSH either that somebody in
 * NEMO waits for. 200 were no faster, but held it up for a millisecond and more. */
#define LOOK_MAX 50u
#define LOOK_BYTES "1048576" /* and about so many bytes */
/* A larger element is a dead letter unseen: no payload may be as large, however it is escaped. */
#define ELEMENT_MAX "16777216"
#define EAGER_MS 1000u /* after an event the next one is looked for more often */
#define EAGER_LOOK_MS 5u
#define IDLE_LOOK_MS 20u
#define TROUBLE_LOOK_MS 1000u
#define TROUBLE_PERIOD_MS 30000u
#define STRIDE 8u /* arguments of an element */
#define HEAD 10u  /* arguments before them */
#define KEY_LEVELS 3

/* Elements from the oldest on; of one that is too large, its length. In pieces, so that a page of
 * large elements is not fetched for the first of them. */
static const char look_script[] =
    "local most, bytes, largest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
    "local seen, size, piece = {}, 0, 10\n"
    "for from = 1, most, piece do\n"
    "  local part = redis.call('LRANGE', KEYS[1], -from - piece + 1, -from)\n"
    "  for i = #part, 1, -1 do\n"
    "    size = size + #part[i]\n"
    "    if #seen > 0 and size > bytes then return seen end\n"
    "    seen[#seen + 1] = #part[i] > largest and #part[i] or part[i]\n"
    "  end\n"
    "  if #part < piece then break end\n"
    "end\n"
    "return seen\n";

/* KEYS: list, stream, dead letters. ARGV: database of the list, of the stream, group that must be
 * there before the first entry (or ''), elements; then for each a kind, the bytes (of kind 'huge'
 * their number) and six values. LTRIM is what removes: first in a form that removes nothing, for
 * what Redis refuses must be refused before anything is added. */
static const char move_script[] =
    "local count, other = tonumber(ARGV[4]), ARGV[1] ~= ARGV[2]\n"
    "local able = redis.pcall('LTRIM', KEYS[1], 0, -1)\n"
    "if able.err then return {0, able.err} end\n"
    "local tail = redis.call('LRANGE', KEYS[1], -count, -1)\n"
    "if other then redis.call('SELECT', ARGV[2]) end\n"
    "if ARGV[3] ~= '' then redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[3], '$', 'MKSTREAM') end\n"
    "local moved, trouble = 0, ''\n"
    "for i = 1, count do\n"
    "  local raw, at, added = tail[#tail + 1 - i], -2 + i * 8\n"
    "  local kind, seen = ARGV[at - 1], ARGV[at]\n"
    "  if not raw then break end\n"
    "  if (kind == 'huge' and tostring(#raw) or raw) ~= seen then break end\n"
    "  if kind == 'entry' then\n"
    "    local entry = {'topic', ARGV[at + 1], 'key', ARGV[at + 2], 'payload', ARGV[at + 3],\n"
    "      'abs', '1', 'qos', ARGV[at + 4], 'retain', ARGV[at + 5]}\n"
    "    if ARGV[at + 6] ~= '' then entry[13], entry[14] = 'ts', ARGV[at + 6] end\n"
    "    added = redis.pcall('XADD', KEYS[2], '*', unpack(entry))\n"
    "  else\n"
    "    added = redis.pcall('XADD', KEYS[3], '*', 'dead_reason', ARGV[at + 1],\n"
    "      'dead_detail', ARGV[at + 2], 'dead_stream', KEYS[2], 'dead_id', '0-0',\n"
    "      'dead_deliveries', '0', 'legacy_list', KEYS[1], 'legacy', raw)\n"
    "  end\n"
    "  if type(added) == 'table' and added.err then trouble = added.err break end\n"
    "  moved = moved + 1\n"
    "end\n"
    "if other then redis.call('SELECT', ARGV[1]) end\n"
    "if moved > 0 then redis.call('LTRIM', KEYS[1], 0, -moved - 1) end\n"
    "return {moved, trouble}\n";

/* ---- when ---------------------------------------------------------------------------------- */

static bool may_move(const struct legacy_list *list)
{
    return list->preferred && !list->legacy->leaving && redis_link_is_ready(list->link);
}

static void look_in(struct legacy_list *list, uint32_t ms)
{
    struct timeval delay = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};
    event_add(list->look, &delay);
}

static void rest(struct legacy_list *list)
{
    look_in(list, net_now_ms() < list->eager_until_ms ? EAGER_LOOK_MS : IDLE_LOOK_MS);
}

/* false: not an error. Whatever it is, it is tried again: a list of the wrong type or a right that
 * is missing can be put right while this runs. */
static bool is_refused(struct legacy_list *list, const char *doing, struct bytes text)
{
    uint64_t held_back;
    if (text.length == 0)
        return false;
    if (log_limit_pass(&list->trouble, net_now_ms(), TROUBLE_PERIOD_MS, &held_back))
        log_event(&list->log, LOG_ERROR,
                  "Redis refuses to move events out of a plugin's list; they stay in it, and are "
                  "tried again every second",
                  LOG_TEXT("doing", doing), LOG_TEXT("stream", list->config->stream),
                  LOG_BYTES("reply", text), LOG_INT("repeated", held_back));
    look_in(list, TROUBLE_LOOK_MS);
    return true;
}

static struct bytes error_of(const struct redis_value *reply, enum redis_type wanted)
{
    if (reply->type == REDIS_ERROR)
        return reply->text;
    return bytes_of(reply->type == wanted ? "" : "not what was expected");
}

/* ---- the second step ----------------------------------------------------------------------- */

static void on_moved(void *context, const struct redis_value *reply)
{
    struct legacy_list *list = context;
    list->busy = false;
    if (reply == NULL)
        return; /* legacy_look comes when the link is back */
    if (is_refused(list, "moving", error_of(reply, REDIS_ARRAY)) || reply->count != 2)
        return;
    size_t moved = (size_t)reply->element->integer;
    list->moved += moved;
    if (is_refused(list, "moving", reply->element->next->text))
        return;
    if (moved < list->asked) {
        if (++list->conflicts >= LEGACY_CONFLICTS_MAX)
            legacy_watch(list);
    }
    list->trouble = (struct log_limit){0};
    list->eager_until_ms = net_now_ms() + EAGER_MS;
    legacy_look(list);
}

struct move {
    struct bytes arguments[HEAD + LOOK_MAX * STRIDE];
    char numbers[LOOK_MAX][32];
    size_t count;
};

static void report_dead(struct legacy_list *list, const struct stream_entry_fault *fault,
                        size_t length)
{
    uint64_t held_back;
    if (log_limit_pass(&list->dead_trouble, net_now_ms(), 1000, &held_back))
        log_event(&list->log, LOG_WARNING,
                  "an event of a plugin cannot be decoded and goes to the dead-letter stream",
                  LOG_TEXT("reason", fault->reason), LOG_TEXT("detail", fault->detail),
                  LOG_INT("bytes", length), LOG_TEXT("dead_letters", list->dead_stream),
                  LOG_INT("repeated", held_back));
}

/* What is published of one thing has one key: "nemo/tools/1" of "nemo/tools/1/enabled". */
static struct bytes key_of(struct bytes topic)
{
    unsigned levels = 0;
    for (size_t i = 0; i < topic.length; i++)
        if (topic.data[i] == '/' && ++levels == KEY_LEVELS)
            return (struct bytes){topic.data, i};
    return topic;
}

static void put_dead(struct legacy_list *list, struct bytes *put,
                     const struct stream_entry_fault *fault, size_t length)
{
    put[2] = bytes_of(fault->reason);
    put[3] = bytes_of(fault->detail);
    report_dead(list, fault, length);
}

static void put_huge(struct legacy_list *list, struct move *move, struct bytes *put, int64_t length)
{
    static const struct stream_entry_fault fault = {"payload-too-large",
                                                    "the envelope is over 16 MiB"};
    snprintf(move->numbers[move->count], sizeof *move->numbers, "%" PRId64, length);
    put[0] = bytes_of("huge");
    put[1] = bytes_of(move->numbers[move->count]);
    put_dead(list, put, &fault, (size_t)length);
}

/* scratch has room for as many bytes as text. */
static void put_element(struct legacy_list *list, struct move *move, struct bytes *put,
                        struct bytes text, uint8_t *scratch)
{
    struct legacy_envelope envelope;
    struct stream_entry_fault fault;
    put[0] = bytes_of("entry");
    put[1] = text;
    if (legacy_envelope_read(text, scratch, &envelope, &fault) != STATUS_OK) {
        put[0] = bytes_of("dead");
        put_dead(list, put, &fault, text.length);
        return;
    }
    static const char *const digits[] = {"0", "1", "2"};
    put[2] = envelope.topic;
    put[3] = key_of(envelope.topic);
    put[4] = envelope.payload;
    put[5] = bytes_of(digits[envelope.qos]);
    put[6] = bytes_of(digits[envelope.retain]);
    if (!envelope.has_ts)
        return;
    snprintf(move->numbers[move->count], sizeof *move->numbers, "%" PRIu64, envelope.ts_ms);
    put[7] = bytes_of(move->numbers[move->count]);
}

static bool make_room(struct legacy_list *list, const struct redis_value *seen)
{
    size_t size = 1;
    for (const struct redis_value *v = seen->element; v != NULL; v = v->next)
        size += v->text.length;
    if (size <= list->memory_size)
        return true;
    uint8_t *memory = realloc(list->memory, size);
    if (memory == NULL)
        return false;
    list->memory = memory;
    list->memory_size = size;
    return true;
}

static void put_elements(struct legacy_list *list, struct move *move,
                         const struct redis_value *seen)
{
    uint8_t *scratch = list->memory;
    for (const struct redis_value *v = seen->element; v != NULL && move->count < LOOK_MAX;
         v = v->next) {
        struct bytes *put = move->arguments + HEAD + move->count * STRIDE;
        for (size_t i = 0; i < STRIDE; i++)
            put[i] = bytes_of("");
        if (v->type == REDIS_INTEGER) {
            put_huge(list, move, put, v->integer);
        } else {
            put_element(list, move, put, v->text, scratch);
            scratch += v->text.length;
        }
        move->count++;
    }
}

static void send_move(struct legacy_list *list, const struct redis_value *seen)
{
    const struct config_redis *redis = &list->legacy->setting.config->redis;
    struct move move = {.count = 0};
    put_elements(list, &move, seen);
    char from[16], to[16], count[16];
    snprintf(from, sizeof from, "%u", list->config->database);
    snprintf(to, sizeof to, "%u", redis->url.database);
    snprintf(count, sizeof count, "%zu", move.count);
    /* A group that begins with what is new must not take for old what comes before it is made. */
    const char *group = redis->start == CONFIG_START_NEW ? redis->group : "";
    const struct bytes head[HEAD] = {bytes_of("EVAL"),
                                     bytes_of(move_script),
                                     bytes_of("3"),
                                     bytes_of(list->config->list),
                                     bytes_of(list->config->stream),
                                     bytes_of(list->dead_stream),
                                     bytes_of(from),
                                     bytes_of(to),
                                     bytes_of(group),
                                     bytes_of(count)};
    memcpy(move.arguments, head, sizeof head);
    list->asked = move.count;
    list->busy = true;
    redis_link_command(list->link, move.arguments, HEAD + move.count * STRIDE, on_moved, list);
    redis_link_flush(list->link);
}

/* ---- the first step ------------------------------------------------------------------------ */

static void on_seen(void *context, const struct redis_value *reply)
{
    struct legacy_list *list = context;
    list->busy = false;
    if (reply == NULL || !may_move(list))
        return;
    if (is_refused(list, "looking", error_of(reply, REDIS_ARRAY)))
        return;
    redis_link_proven(list->link);
    list->link_trouble = (struct log_limit){0};
    if (!list->told)
        log_event(&list->log, LOG_INFO, "events of a plugin are moved into their stream",
                  LOG_TEXT("stream", list->config->stream));
    list->told = true;
    if (reply->count == 0)
        rest(list);
    else if (make_room(list, reply))
        send_move(list, reply);
    else
        (void)is_refused(list, "decoding", bytes_of("memory is short"));
}

void legacy_look(struct legacy_list *list)
{
    if (list->busy || !may_move(list))
        return;
    char most[16];
    snprintf(most, sizeof most, "%u", LOOK_MAX);
    struct bytes arguments[] = {
        bytes_of("EVAL"), bytes_of(look_script), bytes_of("1"),        bytes_of(list->config->list),
        bytes_of(most),   bytes_of(LOOK_BYTES),  bytes_of(ELEMENT_MAX)};
    list->busy = true;
    redis_link_command(list->link, arguments, 7, on_seen, list);
    redis_link_flush(list->link);
}

void legacy_on_look(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    legacy_look(context);
}
