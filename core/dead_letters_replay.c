/*
 * `dead-letters replay`: the letters of a site are read, a round at a time; before each batch of
 * them the streams that matter are read on, and then one script for each letter puts its entry back
 * and removes it, in one step. The scripts of a batch are sent in one go and run in their order:
 * the order in which the letters were written, which is the order of each key.
 */
#include "core/dead_letters_private.h"

#include <inttypes.h>
#include <stdlib.h>

/* Letters whose place is kept in memory at a time. */
#define ROUND_MAX 100000u
#define BATCH_MAX 64u

/* KEYS: the dead-letter stream and the letter's own. ARGV: the letter's id, force, dry run; whether
 * the topic must have no newer entry, the id up to which the stream has been looked through, the
 * number of entries that had been added by then, and the route's prefix. What has been added since
 * is looked through here, and must all be there. A replayed entry is as old as what replayed_from
 * says. Keep in step with dead_letters_letter.c and dead_letters_newer.c. */
static const char replay_script[] =
    "local id, force, dry = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'\n"
    "local watch, seen, added, prefix = ARGV[4] == '1', ARGV[5], tonumber(ARGV[6]), ARGV[7]\n"
    "local function fields(parts)\n"
    "  local field = {}\n"
    "  for i = 1, #parts, 2 do field[parts[i]] = parts[i + 1] end\n"
    "  return field\n"
    "end\n"
    "local function topic(field)\n"
    "  return (field.abs == '1' and '' or prefix) .. (field.topic or '')\n"
    "end\n"
    "local function origin(field, own_id)\n"
    "  return string.match(field.replayed_from or '', '^%d+%-%d+$') or own_id\n"
    "end\n"
    "local function after(a, b)\n"
    "  local a1, a2 = string.match(a, '^0*(%d*)%-0*(%d*)$')\n"
    "  local b1, b2 = string.match(b, '^0*(%d*)%-0*(%d*)$')\n"
    "  if a1 == b1 then a1, b1 = a2, b2 end\n"
    "  if #a1 ~= #b1 then return #a1 > #b1 end\n"
    "  return a1 > b1\n"
    "end\n"
    "local letter = redis.call('XRANGE', KEYS[1], id, id)[1]\n"
    "if not letter then return {'gone'} end\n"
    "local parts, head, at = letter[2], {}, 1\n"
    "for _, name in ipairs({'dead_reason', 'dead_detail', 'dead_stream', 'dead_id',\n"
    "    'dead_deliveries'}) do\n"
    "  if parts[at] == name then head[name] = parts[at + 1] at = at + 2 end\n"
    "end\n"
    "if head.dead_stream ~= KEYS[2] or KEYS[1] == KEYS[2] or not head.dead_id or\n"
    "    not string.match(head.dead_id, '^%d+%-%d+$') then return {'foreign'} end\n"
    "local own = {}\n"
    "local packed = parts[at] == 'dead_fields_msgpack' and #parts == at + 1\n"
    "if packed then own = cmsgpack.unpack(parts[at + 1])\n"
    "else for i = at, #parts do own[#own + 1] = parts[i] end end\n"
    "if #own == 0 then return {'empty'} end\n"
    "if #own > 7900 then return {'many-fields'} end\n"
    "local field = fields(own)\n"
    "local first = origin(field, head.dead_id)\n"
    "local function add(name, value) own[#own + 1] = name own[#own + 1] = value end\n"
    "if field.replayed_from ~= first then add('replayed_from', first) end\n"
    "if (field.id or '') == '' then add('id', first) end\n"
    "local life = not force and tonumber(string.match(field.exp or '', '^%d+$'))\n"
    "if life then\n"
    "  local age = redis.call('TIME')[1] - math.floor(string.match(head.dead_id, '^%d+') / 1000)\n"
    "  if age >= life then return {'expired'} end\n"
    "  if age > 0 then add('exp', string.format('%.0f', life - age)) end\n"
    "end\n"
    "local info = redis.pcall('XINFO', 'STREAM', KEYS[2])\n"
    "if info.err and string.find(info.err, 'no such key', 1, true) then\n"
    "  if not force then return {'no-stream'} end\n"
    "elseif info.err then\n"
    "  return info\n"
    "elseif watch then\n"
    "  local total = fields(info)['entries-added']\n"
    "  if not total then return {'maybe-newer'} end\n" /* Redis before 7.0 does not count them */
    "  local count = total - added\n"
    "  if count > 1000 then return {'busy'} end\n"
    "  local entries = redis.call('XRANGE', KEYS[2], '(' .. seen, '+', 'COUNT', 1001)\n"
    "  for _, entry in ipairs(entries) do\n"
    "    local other = fields(entry[2])\n"
    "    if topic(other) == topic(field) and after(origin(other, entry[1]), first) then\n"
    "      return {'newer', entry[1]}\n"
    "    end\n"
    "  end\n"
    "  if #entries ~= count then return {'maybe-newer'} end\n"
    "end\n"
    "if dry then return {'replayed'} end\n"
    "local new = redis.call('XADD', KEYS[2], '*', unpack(own))\n"
    "redis.call('XDEL', KEYS[1], id)\n"
    "return {'replayed', new}\n";

/* A letter that waits for its turn. */
struct record {
    struct stream_id id;
    struct stream_id origin;
    uint64_t topic;
    struct letters_stream *stream; /* NULL: it names none */
    bool watched;                  /* its topic must have no newer entry */
};

struct replay;

struct attempt {
    struct replay *replay;
    const struct record *record;
    struct letters_replayed replayed;
};

struct replay {
    struct letters *letters;
    const struct letters_site *site;
    struct letters_streams *streams;
    struct record *records; /* of this round */
    size_t record_count;
    struct attempt attempts[BATCH_MAX];
    uint64_t turn;
    uint64_t read;    /* letters */
    uint64_t tried;   /* of them */
    uint64_t scanned; /* entries of the streams */
    struct letters_report report;
};

/* ---- reading letters ----------------------------------------------------------------------- */

static bool names_a_stream(const struct letter *letter)
{
    return letter->stream.length > 0 &&
           memchr(letter->stream.data, '\0', letter->stream.length) == NULL;
}

static void add_record(struct replay *replay, const struct letter *letter)
{
    struct record *record = &replay->records[replay->record_count++];
    struct stream_id original;
    struct letter_entry entry;
    bool ok = true;
    *record = (struct record){.id = letter->id};
    replay->read++;
    if (!names_a_stream(letter) || stream_id_parse(letter->original, &original) != STATUS_OK)
        return;
    record->stream = letters_streams_of(replay->streams, letter->stream);
    letter_entry(letter, &entry);
    record->origin = letters_origin(&entry, original);
    if (record->stream != NULL && entry.retain && !replay->letters->cli->force) {
        record->watched = true;
        record->topic = letters_stream_watch(record->stream, &entry, record->origin, &ok);
    }
    if (record->stream == NULL || !ok)
        letters_redis_fail(&replay->letters->redis, "memory is short");
}

static void on_page(void *context, const struct redis_value *entries)
{
    struct replay *replay = context;
    struct letter letter;
    for (const struct redis_value *v = entries->element;
         v != NULL && replay->record_count < ROUND_MAX + LETTERS_PAGE_MAX; v = v->next)
        if (letter_read(v, &letter) && letters_matches(replay->letters, &letter))
            add_record(replay, &letter);
}

/* ---- scripts ------------------------------------------------------------------------------- */

static void copy_id(char *to, const struct redis_value *value)
{
    if (value != NULL && value->type == REDIS_STRING && value->text.length < STREAM_ID_TEXT)
        snprintf(to, STREAM_ID_TEXT, "%.*s", (int)value->text.length,
                 (const char *)value->text.data);
}

static void on_script(void *context, const struct redis_value *reply)
{
    struct attempt *attempt = context;
    struct letters_replayed *replayed = &attempt->replayed;
    struct letters_redis *redis = &attempt->replay->letters->redis;
    if (reply == NULL) {
        replayed->outcome = OUTCOME_LOST;
        return;
    }
    replayed->outcome = OUTCOME_ERROR;
    if (reply->type == REDIS_ARRAY && reply->count > 0) {
        replayed->outcome = letters_outcome_of(reply->element->text);
        copy_id(replayed->outcome == OUTCOME_NEWER ? replayed->newer_id : replayed->new_id,
                reply->element->next);
    } else if (redis_value_is_error(reply, "WRONGTYPE")) {
        replayed->outcome = OUTCOME_WRONG_TYPE;
    }
    if (replayed->outcome == OUTCOME_ERROR && redis->error[0] == '\0')
        letters_redis_explain(redis, "EVAL", letters_stream_name(attempt->record->stream),
                              reply->type == REDIS_ERROR ? reply->text
                                                         : bytes_of("unexpected reply"),
                              redis->error, sizeof redis->error);
}

static void send_script(struct attempt *attempt)
{
    const struct letters *letters = attempt->replay->letters;
    const struct record *record = attempt->record;
    char id[STREAM_ID_TEXT], seen[STREAM_ID_TEXT], added_text[24];
    uint64_t added;
    stream_id_format(record->id, id);
    stream_id_format(letters_stream_seen(record->stream, &added), seen);
    snprintf(added_text, sizeof added_text, "%" PRIu64, added);
    struct bytes arguments[] = {bytes_of("EVAL"),
                                bytes_of(replay_script),
                                bytes_of("2"),
                                bytes_of(attempt->replay->site->key),
                                bytes_of(letters_stream_name(record->stream)),
                                bytes_of(id),
                                bytes_of(letters->cli->force ? "1" : "0"),
                                bytes_of(letters->cli->dry_run ? "1" : "0"),
                                bytes_of(record->watched ? "1" : "0"),
                                bytes_of(seen),
                                bytes_of(added_text),
                                bytes_of(letters_stream_prefix(record->stream))};
    letters_redis_send(&attempt->replay->letters->redis, arguments,
                       sizeof arguments / sizeof *arguments, on_script, attempt);
}

/* ---- batches ------------------------------------------------------------------------------- */

/* What is known without the script; OUTCOME_REPLAYED: nothing stands against it. */
static enum letters_outcome judge(const struct record *record)
{
    if (record->stream == NULL)
        return OUTCOME_FOREIGN;
    if (!record->watched)
        return OUTCOME_REPLAYED;
    switch (letters_stream_newer(record->stream, record->topic, record->origin)) {
    case NEWER_EXISTS:
        return OUTCOME_NEWER;
    case NEWER_UNKNOWN:
        return OUTCOME_MAYBE_NEWER;
    case NEWER_NONE:
        break;
    }
    return OUTCOME_REPLAYED;
}

static bool read_streams(struct replay *replay, size_t from, size_t count)
{
    replay->turn++;
    for (size_t i = from; i < from + count; i++)
        if (replay->records[i].watched &&
            !letters_stream_read(replay->streams, replay->records[i].stream, replay->turn,
                                 &replay->scanned))
            return false;
    return !replay->letters->stopped;
}

static bool replay_batch(struct replay *replay, size_t from, size_t count)
{
    struct letters_redis *redis = &replay->letters->redis;
    if (!read_streams(replay, from, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &replay->records[from + i];
        struct attempt *attempt = &replay->attempts[i];
        *attempt = (struct attempt){.replay = replay, .record = record};
        attempt->replayed.site = replay->site->name;
        attempt->replayed.id = record->id;
        attempt->replayed.outcome = judge(record);
        if (attempt->replayed.outcome == OUTCOME_REPLAYED)
            send_script(attempt);
    }
    bool answered = letters_redis_wait(redis);
    for (size_t i = 0; i < count; i++)
        letters_report_add(&replay->report, &replay->attempts[i].replayed);
    replay->tried += count;
    if (redis->error[0] != '\0')
        redis->failed = true;
    return answered && !redis->failed;
}

static bool replay_round(struct replay *replay)
{
    for (size_t from = 0; from < replay->record_count && !replay->letters->stopped;) {
        size_t left = replay->record_count - from;
        size_t count = left < BATCH_MAX ? left : BATCH_MAX;
        if (!replay_batch(replay, from, count))
            return false;
        from += count;
    }
    return true;
}

static bool replay_site(struct replay *replay, size_t site)
{
    struct letters *letters = replay->letters;
    struct letters_selection selection;
    bool more = true, ok = true;
    replay->site = &letters->sites[site];
    if (!letters_selection_open(&selection, letters, site, on_page, replay))
        return false;
    while (more && ok && !letters->stopped) {
        replay->record_count = 0;
        replay->streams = letters_streams_new(letters, replay->site->name);
        if (replay->streams == NULL)
            letters_redis_fail(&letters->redis, "memory is short");
        do
            more = letters_selection_next(&selection);
        while (more && !letters->stopped && replay->record_count < ROUND_MAX);
        ok = !letters->redis.failed && replay_round(replay);
        letters_streams_free(replay->streams);
    }
    return ok;
}

/* ---- the command --------------------------------------------------------------------------- */

static void format_progress(void *context, char *text, size_t size)
{
    const struct replay *replay = context;
    const struct letters_report *report = &replay->report;
    char tried[LETTERS_NUMBER_TEXT], read[LETTERS_NUMBER_TEXT], refused[LETTERS_NUMBER_TEXT];
    char failed[LETTERS_NUMBER_TEXT], scanned[LETTERS_NUMBER_TEXT];
    snprintf(text, size,
             "%s of %s letters read so far: refused %s, failed %s; %s entries looked through",
             letters_format_number(replay->tried, tried), letters_format_number(replay->read, read),
             letters_format_number(letters_report_refused(report), refused),
             letters_format_number(letters_report_failed(report), failed),
             letters_format_number(replay->scanned, scanned));
}

bool letters_replay(struct letters *letters)
{
    struct letters_progress progress;
    struct replay *replay = calloc(1, sizeof *replay);
    if (replay != NULL)
        replay->records = calloc(ROUND_MAX + LETTERS_PAGE_MAX, sizeof *replay->records);
    if (replay == NULL || replay->records == NULL)
        letters_redis_fail(&letters->redis, "memory is short");
    else if (letters->wanted_count == 0 || letters_find_ids(letters, true, NULL)) {
        replay->letters = replay->report.letters = letters;
        if (letters_progress_open(&progress, letters, format_progress, replay))
            for (size_t i = 0; i < letters->site_count && !letters->stopped; i++)
                if (!replay_site(replay, i))
                    break;
        letters_progress_close(&progress);
        letters_report_sum(&replay->report, replay->read - replay->tried);
        letters->incomplete = letters->incomplete || letters->stopped ||
                              letters_report_refused(&replay->report) > 0 ||
                              letters_report_failed(&replay->report) > 0;
    }
    if (replay != NULL)
        free(replay->records);
    free(replay);
    return !letters->redis.failed;
}
