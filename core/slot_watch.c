/*
 * Watching what a slot carries. A sample is taken when an entry is read and handed over when the
 * broker has taken it; nothing is sampled while nobody listens. The last retained values are kept
 * in a table of their own, some hundred copies a second: what goes by faster is not copied, and a
 * value that may have been passed over is not shown.
 */
#include "core/slot_private.h"

#include <assert.h>
#include <stdlib.h>

#define SAMPLES_PER_TICK 25u
#define COPIES_PER_TICK 500u
#define WAYS 8u
#define TOPICS_MAX 4096u
#define TOPICS_LEAST 64u
#define BYTES_MAX (4u << 20)
#define PASSED_OVER 4096u

/* A topic and its last payload, in one piece of memory that is used again and again. */
struct watch_kept {
    const struct lane *lane; /* NULL: free */
    uint32_t hash;           /* of the topic */
    uint32_t key_hash;
    uint64_t order;
    uint64_t at_ms;
    uint8_t *memory;
    uint32_t capacity;
    uint32_t topic_length;
    uint32_t payload_length;
};

struct watch_table {
    size_t buckets; /* of WAYS each; a power of two */
    size_t bytes;
    size_t bytes_max;
    unsigned copies; /* that may be made until the next tick */
    uint64_t order;
    bool cut;
    uint64_t passed_over[PASSED_OVER]; /* by hash of the key: the last order that was not copied */
    struct watch_kept kept[];
};

/* ---- samples ------------------------------------------------------------------------------- */

static size_t cut_at(struct bytes text, size_t most)
{
    return text.length < most ? text.length : most;
}

static struct bytes put(uint8_t **at, struct bytes text, size_t most)
{
    struct bytes copy = {*at, cut_at(text, most)};
    if (copy.length > 0)
        memcpy(*at, text.data, copy.length);
    *at += copy.length;
    return copy;
}

static struct watch_sample *make_sample(const struct lane *lane, const struct stream_entry *in,
                                        struct stream_id id)
{
    struct bytes prefix = {lane->prefix, in->absolute ? 0 : lane->prefix_length};
    size_t size = cut_at(prefix, WATCH_TEXT_MAX) + cut_at(in->topic, WATCH_TEXT_MAX) +
                  cut_at(in->key, WATCH_TEXT_MAX) + cut_at(in->type, WATCH_TEXT_MAX) +
                  cut_at(in->payload, WATCH_PAYLOAD_MAX);
    struct watch_sample *sample = calloc(1, sizeof *sample + size);
    if (sample == NULL)
        return NULL;
    uint8_t *at = (uint8_t *)(sample + 1);
    sample->id = id;
    sample->topic.data = at;
    sample->topic.length = put(&at, prefix, WATCH_TEXT_MAX).length;
    sample->topic.length += put(&at, in->topic, WATCH_TEXT_MAX).length;
    sample->key = put(&at, in->key, WATCH_TEXT_MAX);
    sample->type = put(&at, in->type, WATCH_TEXT_MAX);
    sample->payload = put(&at, in->payload, WATCH_PAYLOAD_MAX);
    sample->cut = in->payload.length > WATCH_PAYLOAD_MAX;
    sample->retain = in->retain;
    sample->qos = in->qos;
    memcpy(sample->site, lane->site.data, cut_at(lane->site, sizeof sample->site - 1));
    return sample;
}

void watch_note(struct lane *lane, const struct stream_entry *in, uint32_t index)
{
    struct slot *slot = lane->slot;
    struct slot_watch *watch = &slot->watch;
    struct watch_sample *sample = NULL;
    if (watch->budget > 0 && watch->waiting < WATCH_WAITING)
        sample = make_sample(lane, in, ledger_entry(&slot->ledger, index)->id);
    if (sample == NULL) {
        watch->dropped++;
        return;
    }
    watch->budget--;
    watch->token[watch->waiting] = ledger_token(&slot->ledger, index);
    watch->sample[watch->waiting++] = sample;
}

static struct watch_sample *take_sample(struct slot_watch *watch, size_t place)
{
    struct watch_sample *sample = watch->sample[place];
    watch->waiting--;
    watch->token[place] = watch->token[watch->waiting];
    watch->sample[place] = watch->sample[watch->waiting];
    return sample;
}

static void hand_over(struct slot *slot, uint64_t token)
{
    struct slot_watch *watch = &slot->watch;
    size_t place = 0;
    while (place < watch->waiting && watch->token[place] != token)
        place++;
    if (place == watch->waiting)
        return;
    struct watch_sample *sample = take_sample(watch, place);
    sample->dropped = watch->dropped;
    watch->dropped = 0;
    slot->setting.on_sample(slot->setting.context, sample);
}

static void drop_samples(struct slot *slot, bool all)
{
    struct slot_watch *watch = &slot->watch;
    for (size_t i = watch->waiting; i-- > 0;)
        if (all || ledger_find(&slot->ledger, watch->token[i]) == ENTRY_NONE)
            free(take_sample(watch, i));
}

void slot_watch(struct slot *slot, bool on)
{
    ASSERT_ON_SHARD(slot);
    slot->watch.on = on;
    slot->watch.budget = SAMPLES_PER_TICK;
    slot->watch.dropped = 0;
    if (!on)
        drop_samples(slot, true);
}

/* ---- retained values ----------------------------------------------------------------------- */

/* What follows the topic, the packet identifier and the properties [MQTT 5.0, 3.3]. */
static struct bytes payload_of(const struct entry *entry, bool v5)
{
    struct bytes topic = mqtt_publish_topic(entry->packet);
    const uint8_t *at = topic.data + topic.length;
    const uint8_t *end = entry->packet + entry->size;
    if ((entry->packet[0] & 0x06) != 0)
        at += 2;
    if (v5) {
        size_t length = 0;
        unsigned shift = 0;
        do {
            length |= (size_t)(*at & 0x7f) << shift;
            shift += 7;
        } while (*at++ & 0x80);
        at += length;
    }
    return (struct bytes){at, (size_t)(end - at)};
}

static struct watch_kept *place_of(struct watch_table *table, uint32_t hash, struct bytes topic)
{
    struct watch_kept *ways = &table->kept[(hash & (table->buckets - 1)) * WAYS];
    struct watch_kept *oldest = &ways[0];
    for (size_t i = 0; i < WAYS; i++) {
        struct bytes kept = {ways[i].memory, ways[i].topic_length};
        if (ways[i].lane != NULL && ways[i].hash == hash && bytes_equal(kept, topic))
            return &ways[i];
        if (ways[i].lane == NULL || (oldest->lane != NULL && ways[i].order < oldest->order))
            oldest = &ways[i];
    }
    table->cut = table->cut || oldest->lane != NULL;
    oldest->lane = NULL;
    return oldest;
}

static bool make_room(struct watch_table *table, struct watch_kept *kept, size_t size)
{
    if (size <= kept->capacity)
        return true;
    size_t capacity = (size + 127) / 128 * 128;
    if (table->bytes - kept->capacity + capacity > table->bytes_max)
        return false;
    uint8_t *larger = realloc(kept->memory, capacity);
    if (larger == NULL)
        return false;
    table->bytes += capacity - kept->capacity;
    kept->memory = larger;
    kept->capacity = (uint32_t)capacity;
    return true;
}

static void pass_over(struct watch_table *table, const struct entry *entry)
{
    table->passed_over[entry->key_hash % PASSED_OVER] = ++table->order;
    table->cut = true;
}

static void keep(struct watch_table *table, const struct entry *entry, bool v5)
{
    if (table->copies == 0) {
        pass_over(table, entry);
        return;
    }
    struct bytes topic = mqtt_publish_topic(entry->packet), payload = payload_of(entry, v5);
    uint32_t hash = flow_key_hash(topic);
    struct watch_kept *kept = place_of(table, hash, topic);
    table->copies--;
    if (payload.length == 0) {
        kept->lane = NULL;
        return;
    }
    if (payload.length > WATCH_PAYLOAD_MAX || topic.length > WATCH_TEXT_MAX ||
        !make_room(table, kept, topic.length + payload.length)) {
        kept->lane = NULL;
        pass_over(table, entry);
        return;
    }
    memcpy(kept->memory, topic.data, topic.length);
    memcpy(kept->memory + topic.length, payload.data, payload.length);
    kept->lane = entry->lane;
    kept->hash = hash;
    kept->key_hash = entry->key_hash;
    kept->order = ++table->order;
    kept->at_ms = entry->id.ms;
    kept->topic_length = (uint32_t)topic.length;
    kept->payload_length = (uint32_t)payload.length;
}

void watch_settled(struct slot *slot, uint32_t index)
{
    const struct entry *entry = ledger_entry(&slot->ledger, index);
    if (entry->state != ENTRY_SENT)
        return;
    if (slot->watch.on)
        hand_over(slot, ledger_token(&slot->ledger, index));
    if (entry->retained && entry->packet != NULL)
        keep(slot->watch.table, entry, entry->lane->outlet->conn_config.version == MQTT_5_0);
}

static bool is_shown(const struct watch_table *table, const struct watch_kept *kept,
                     struct bytes site)
{
    return kept->lane != NULL && bytes_equal(kept->lane->site, site) &&
           kept->order > table->passed_over[kept->key_hash % PASSED_OVER];
}

struct watch_state *slot_state(const struct slot *slot, const char *site)
{
    ASSERT_ON_SHARD(slot);
    const struct watch_table *table = slot->watch.table;
    size_t count = 0, size = 0;
    if (table == NULL)
        return NULL;
    for (size_t i = 0; i < table->buckets * WAYS; i++) {
        if (!is_shown(table, &table->kept[i], bytes_of(site)))
            continue;
        count++;
        size += table->kept[i].topic_length + table->kept[i].payload_length;
    }
    struct watch_state *state = malloc(sizeof *state + count * sizeof state->value[0] + size);
    if (state == NULL)
        return NULL;
    uint8_t *at = (uint8_t *)&state->value[count];
    *state = (struct watch_state){.cut = table->cut};
    for (size_t i = 0; i < table->buckets * WAYS; i++) {
        const struct watch_kept *kept = &table->kept[i];
        if (!is_shown(table, kept, bytes_of(site)))
            continue;
        struct bytes topic = {kept->memory, kept->topic_length};
        struct bytes payload = {kept->memory + kept->topic_length, kept->payload_length};
        struct watch_value *value = &state->value[state->count++];
        value->topic = put(&at, topic, SIZE_MAX);
        value->payload = put(&at, payload, SIZE_MAX);
        value->at_ms = kept->at_ms;
    }
    return state;
}

/* ---- its life ------------------------------------------------------------------------------ */

bool watch_open(struct slot *slot)
{
    const struct config *config = slot->setting.config;
    size_t topics = TOPICS_MAX / config->slots, buckets = 1;
    if (config->admin.listen[0] == '\0')
        return true;
    topics = topics < TOPICS_LEAST ? TOPICS_LEAST : topics;
    while (buckets * 2 * WAYS <= topics)
        buckets *= 2;
    struct watch_table *table = calloc(1, sizeof *table + buckets * WAYS * sizeof table->kept[0]);
    if (table == NULL)
        return false;
    table->buckets = buckets;
    table->bytes_max = BYTES_MAX / config->slots;
    table->copies = COPIES_PER_TICK;
    slot->watch.table = table;
    return true;
}

void watch_close(struct slot *slot)
{
    struct watch_table *table = slot->watch.table;
    drop_samples(slot, true);
    for (size_t i = 0; table != NULL && i < table->buckets * WAYS; i++)
        free(table->kept[i].memory);
    free(table);
}

void watch_tick(struct slot *slot)
{
    slot->watch.budget = SAMPLES_PER_TICK;
    if (slot->watch.waiting > 0)
        drop_samples(slot, false);
    if (slot->watch.table != NULL)
        slot->watch.table->copies = COPIES_PER_TICK;
}
