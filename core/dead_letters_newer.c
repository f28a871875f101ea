/*
 * Whether the topic of a retained dead letter has a newer entry in its stream: then replaying the
 * letter would put an old value over a newer one. The streams are read once, in pages, for all
 * topics in question, up to the end that they had; what is added after that is for the script that
 * replays. Entries that are gone from a stream cannot be known.
 *
 * "Newer" is by the id under which an event was first written: a replayed entry counts as what it
 * was, not as what it is now.
 */
#include "core/dead_letters_private.h"

#include "codec/stream_entry.h"
#include "codec/topic_template.h"

#include <stdlib.h>

struct topic {
    uint64_t hash; /* 0: free */
    struct stream_id newest;
};

struct letters_stream {
    char *name;
    char *prefix;         /* what the route puts before topics */
    struct topic *topics; /* open hash table, a power of two of places */
    size_t topic_places;
    size_t topic_count;
    struct stream_id from;  /* the oldest origin that matters */
    struct stream_id first; /* the oldest entry when it had been read first */
    struct stream_id max_deleted;
    struct stream_id end;  /* its last id when it was read first */
    struct stream_id seen; /* its last id when it was read last */
    uint64_t added;        /* and how many entries had been added then */
    uint64_t counted;      /* entries of the present read */
    uint64_t *scanned;     /* for progress */
    uint64_t turn;         /* when it was read last */
    bool read;
    bool lost; /* entries were removed between two reads */
};

struct letters_streams {
    struct letters *letters;
    const char *site;
    struct letters_stream **stream;
    size_t count;
    size_t capacity;
};

/* ---- streams ------------------------------------------------------------------------------- */

struct letters_streams *letters_streams_new(struct letters *letters, const char *site)
{
    struct letters_streams *streams = calloc(1, sizeof *streams);
    if (streams != NULL)
        *streams = (struct letters_streams){.letters = letters, .site = site};
    return streams;
}

static void free_stream(struct letters_stream *stream)
{
    free(stream->name);
    free(stream->prefix);
    free(stream->topics);
    free(stream);
}

void letters_streams_free(struct letters_streams *streams)
{
    if (streams == NULL)
        return;
    for (size_t i = 0; i < streams->count; i++)
        free_stream(streams->stream[i]);
    free(streams->stream);
    free(streams);
}

/* Without a route nothing is put before a topic; entries of one stream still compare. */
static char *expand_prefix(const struct config *config, const char *name, const char *site)
{
    const struct config_route *route = config_route_of(config, name);
    struct bytes template = bytes_of(route != NULL ? route->topic_prefix : "");
    size_t room = (template.length + 1) * 32; /* a site has at most 32 bytes */
    char *prefix = calloc(1, room);
    if (prefix == NULL)
        return NULL;
    struct writer w = writer_over((uint8_t *)prefix, room - 1);
    topic_template_expand(&w, template, &(struct topic_values){.site = bytes_of(site)});
    return prefix;
}

static struct letters_stream *add_stream(struct letters_streams *streams, struct bytes name)
{
    if (streams->count == streams->capacity) {
        size_t capacity = streams->capacity == 0 ? 4 : streams->capacity * 2;
        struct letters_stream **more = realloc(streams->stream, capacity * sizeof(*more));
        if (more == NULL)
            return NULL;
        streams->stream = more;
        streams->capacity = capacity;
    }
    struct letters_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->from = LETTERS_LAST_ID;
    stream->name = strndup((const char *)name.data, name.length);
    if (stream->name != NULL)
        stream->prefix = expand_prefix(streams->letters->config, stream->name, streams->site);
    if (stream->prefix == NULL) {
        free_stream(stream);
        return NULL;
    }
    streams->stream[streams->count++] = stream;
    return stream;
}

struct letters_stream *letters_streams_of(struct letters_streams *streams, struct bytes name)
{
    for (size_t i = streams->count; i > 0; i--)
        if (bytes_equal(name, bytes_of(streams->stream[i - 1]->name)))
            return streams->stream[i - 1];
    return add_stream(streams, name);
}

const char *letters_stream_name(const struct letters_stream *stream)
{
    return stream->name;
}

const char *letters_stream_prefix(const struct letters_stream *stream)
{
    return stream->prefix;
}

/* ---- topics -------------------------------------------------------------------------------- */

static uint64_t hash_on(uint64_t hash, struct bytes text)
{
    for (size_t i = 0; i < text.length; i++)
        hash = (hash ^ text.data[i]) * 1099511628211u; /* FNV-1a */
    return hash;
}

/* Two topics of one hash would refuse a letter that could be replayed, no more. */
static uint64_t topic_hash(const struct letters_stream *stream, const struct letter_entry *entry)
{
    uint64_t hash = 14695981039346656037u;
    if (!entry->absolute)
        hash = hash_on(hash, bytes_of(stream->prefix));
    hash = hash_on(hash, entry->topic);
    return hash != 0 ? hash : 1;
}

/* Where the topic is, or would be. */
static struct topic *find_topic(struct topic *topics, size_t places, uint64_t hash)
{
    size_t place = hash & (places - 1);
    while (topics[place].hash != 0 && topics[place].hash != hash)
        place = (place + 1) & (places - 1);
    return &topics[place];
}

static bool grow_topics(struct letters_stream *stream)
{
    if (stream->topic_count * 2 < stream->topic_places)
        return true;
    size_t places = stream->topic_places == 0 ? 64 : stream->topic_places * 2;
    struct topic *topics = calloc(places, sizeof *topics);
    if (topics == NULL)
        return false;
    for (size_t i = 0; i < stream->topic_places; i++)
        if (stream->topics[i].hash != 0)
            *find_topic(topics, places, stream->topics[i].hash) = stream->topics[i];
    free(stream->topics);
    stream->topics = topics;
    stream->topic_places = places;
    return true;
}

struct stream_id letters_origin(const struct letter_entry *entry, struct stream_id id)
{
    struct stream_id origin;
    return stream_id_parse(entry->replayed_from, &origin) == STATUS_OK ? origin : id;
}

uint64_t letters_stream_watch(struct letters_stream *stream, const struct letter_entry *entry,
                              struct stream_id origin, bool *ok)
{
    *ok = grow_topics(stream);
    if (!*ok)
        return 0;
    uint64_t hash = topic_hash(stream, entry);
    struct topic *topic = find_topic(stream->topics, stream->topic_places, hash);
    stream->topic_count += topic->hash == 0;
    topic->hash = hash;
    if (stream_id_compare(origin, stream->from) < 0)
        stream->from = origin;
    return hash;
}

/* ---- reading ------------------------------------------------------------------------------- */

static void on_entries(void *context, const struct redis_value *entries)
{
    struct letters_stream *stream = context;
    for (const struct redis_value *v = entries->element; v != NULL; v = v->next) {
        struct letter letter;
        struct letter_entry entry;
        if (!letter_read_entry(v, &letter))
            continue;
        stream->counted++;
        ++*stream->scanned;
        letter_entry(&letter, &entry);
        struct stream_id origin = letters_origin(&entry, letter.id);
        struct topic *topic =
            find_topic(stream->topics, stream->topic_places, topic_hash(stream, &entry));
        if (topic->hash != 0 && stream_id_compare(origin, topic->newest) > 0)
            topic->newest = origin;
    }
}

static bool read_range(struct letters_streams *streams, struct letters_stream *stream,
                       struct stream_id from, struct stream_id until)
{
    struct letters_pager pager = {.redis = &streams->letters->redis,
                                  .key = stream->name,
                                  .next = from,
                                  .until = until,
                                  .on_page = on_entries,
                                  .context = stream};
    stream->counted = 0;
    while (!streams->letters->stopped && letters_pager_next(&pager))
        continue;
    return !streams->letters->redis.failed;
}

/* The first time: what was removed before the reading was done is seen by what the stream begins
 * with afterwards. */
static bool read_first(struct letters_streams *streams, struct letters_stream *stream,
                       const struct letters_stream_info *before)
{
    struct letters_stream_info info = *before;
    if (stream_id_compare(stream->from, before->last) <= 0 &&
        (!read_range(streams, stream, stream->from, before->last) ||
         !letters_stream_info(&streams->letters->redis, stream->name, &info)))
        return false;
    stream->first = info.length > 0 ? info.first : LETTERS_LAST_ID;
    stream->max_deleted = info.max_deleted;
    stream->end = before->last;
    stream->read = true;
    return true;
}

/* Later: as many entries must be there as were added. */
static bool read_more(struct letters_streams *streams, struct letters_stream *stream,
                      const struct letters_stream_info *info)
{
    if (info->added == stream->added)
        return true;
    if (!read_range(streams, stream, letters_id_after(stream->seen), info->last))
        return false;
    if (info->added < stream->added || stream->counted != info->added - stream->added)
        stream->lost = true;
    return true;
}

bool letters_stream_read(struct letters_streams *streams, struct letters_stream *stream,
                         uint64_t turn, uint64_t *scanned)
{
    struct letters_stream_info info;
    if (stream->turn == turn)
        return true;
    stream->turn = turn;
    stream->scanned = scanned;
    if (!letters_stream_info(&streams->letters->redis, stream->name, &info))
        return false;
    if (!(stream->read ? read_more(streams, stream, &info) : read_first(streams, stream, &info)))
        return false;
    stream->seen = info.last;
    stream->added = info.added;
    return true;
}

/* ---- the answer ---------------------------------------------------------------------------- */

enum letters_newer letters_stream_newer(const struct letters_stream *stream, uint64_t topic,
                                        struct stream_id origin)
{
    const struct topic *found = find_topic(stream->topics, stream->topic_places, topic);
    if (stream_id_compare(found->newest, origin) > 0)
        return NEWER_EXISTS;
    bool nothing_after = stream_id_compare(stream->end, origin) <= 0;
    bool all_there = stream_id_compare(stream->first, origin) <= 0 &&
                     stream_id_compare(stream->max_deleted, origin) <= 0;
    return stream->lost || !(nothing_after || all_there) ? NEWER_UNKNOWN : NEWER_NONE;
}

struct stream_id letters_stream_seen(const struct letters_stream *stream, uint64_t *added)
{
    *added = stream->added;
    return stream->seen;
}
