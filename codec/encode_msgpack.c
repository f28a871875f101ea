/*
 * Batches in MessagePack, by msgpack-c's packer, which always takes the smallest form. The size is
 * found by the same walk that writes, with a callback that only counts: the two cannot differ.
 * INLINED: a packer that is inlined with its callback takes half the instructions of one that calls
 * it, because most calls write one byte, or a label whose length is known.
 */
#include "codec/encode_msgpack.h"

#include "codec/mqtt_wire.h"

#include <msgpack/pack.h>

#define MAX_LENGTH UINT32_MAX /* of a str or a bin */
#define INLINED __attribute__((flatten))

/* ---- where the packer's bytes go ----------------------------------------------------------- */

static int append(void *writer, const char *data, size_t length)
{
    writer_put_bytes(writer, (struct bytes){(const uint8_t *)data, length});
    return 0; /* the writer remembers */
}

/* Does not look at data. */
static int count_only(void *size, const char *data, size_t length)
{
    (void)data;
    *(size_t *)size += length;
    return 0;
}

/* Packing goes to a copy of the writer, which the compiler can keep in registers. What it holds
 * becomes the writer's if it is whole; else none of it does. */
static void all_or_nothing(struct writer *w, const struct writer *copy, bool encodable)
{
    if (encodable && writer_ok(copy))
        *w = *copy;
    else
        w->failed = true;
}

/* ---- parts --------------------------------------------------------------------------------- */

/* The name of a map's value. */
#define PACK_LABEL(to, literal) msgpack_pack_str_with_body((to), (literal), sizeof(literal) - 1)

static void pack_text(msgpack_packer *to, struct bytes text)
{
    msgpack_pack_str_with_body(to, text.data, text.length);
}

static bool is_plain(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    return true;
}

/* Bytes of somebody else's choice, and str is for UTF-8 only. Most are short and plain, which is
 * seen faster than whether they are UTF-8. */
static void pack_name(msgpack_packer *to, struct bytes name)
{
    if (is_plain(name) || mqtt_utf8_valid(name))
        pack_text(to, name);
    else
        msgpack_pack_bin_with_body(to, name.data, name.length);
}

/* ---- events -------------------------------------------------------------------------------- */

static bool event_fits(const struct batch_event *event)
{
    return event->topic_prefix.length <= MQTT_MAX_STRING &&
           event->topic.length <= MQTT_MAX_STRING - event->topic_prefix.length &&
           event->payload.length <= MAX_LENGTH && event->key.length <= MAX_LENGTH &&
           event->event_id.length <= MAX_LENGTH && event->type.length <= MAX_LENGTH;
}

/* sid is event->id as text. */
static void pack_event(msgpack_packer *to, const struct batch_event *event, struct bytes sid)
{
    bool has_key = !bytes_equal(event->key, event->topic);
    bool has_id = event->event_id.length > 0;
    bool has_type = event->type.length > 0;
    bool expires = event->expires_ms > 0;
    msgpack_pack_map(to,
                     3u + event->retain + has_key + has_id + has_type + event->has_ts + expires);
    PACK_LABEL(to, "sid");
    pack_text(to, sid);
    PACK_LABEL(to, "topic");
    msgpack_pack_str(to, event->topic_prefix.length + event->topic.length);
    msgpack_pack_str_body(to, event->topic_prefix.data, event->topic_prefix.length);
    msgpack_pack_str_body(to, event->topic.data, event->topic.length);
    PACK_LABEL(to, "payload");
    msgpack_pack_bin_with_body(to, event->payload.data, event->payload.length);
    if (event->retain) {
        PACK_LABEL(to, "retain");
        msgpack_pack_true(to);
    }
    if (has_key) {
        PACK_LABEL(to, "key");
        pack_name(to, event->key);
    }
    if (has_id) {
        PACK_LABEL(to, "id");
        pack_text(to, event->event_id);
    }
    if (has_type) {
        PACK_LABEL(to, "type");
        pack_text(to, event->type);
    }
    if (event->has_ts) {
        PACK_LABEL(to, "ts");
        msgpack_pack_uint64(to, event->ts_ms);
    }
    if (expires) {
        PACK_LABEL(to, "exp");
        msgpack_pack_uint64(to, event->expires_ms);
    }
}

static size_t decimal_length(uint64_t value)
{
    size_t length = 1;
    for (uint64_t power = 10; value >= power && length < 20; power *= 10)
        length++;
    return length;
}

INLINED size_t batch_event_size(const struct batch_event *event)
{
    size_t size = 0;
    msgpack_packer counter = {&size, count_only};
    size_t sid_length = decimal_length(event->id.ms) + 1 + decimal_length(event->id.seq);
    if (event_fits(event))
        pack_event(&counter, event, (struct bytes){NULL, sid_length});
    return size;
}

INLINED void batch_put_event(struct writer *w, const struct batch_event *event)
{
    struct writer copy = *w;
    msgpack_packer packer = {&copy, append};
    char sid[STREAM_ID_TEXT];
    size_t sid_length = stream_id_format(event->id, sid);
    bool fits = event_fits(event);
    if (fits)
        pack_event(&packer, event, (struct bytes){(const uint8_t *)sid, sid_length});
    all_or_nothing(w, &copy, fits);
}

/* ---- head ---------------------------------------------------------------------------------- */

static bool head_fits(struct bytes site, struct bytes stream)
{
    return site.length <= MAX_LENGTH && stream.length <= MAX_LENGTH;
}

static void pack_head(msgpack_packer *to, struct bytes site, struct bytes stream, uint32_t count)
{
    msgpack_pack_map(to, 4);
    PACK_LABEL(to, "v");
    msgpack_pack_uint8(to, BATCH_VERSION);
    PACK_LABEL(to, "site");
    pack_text(to, site);
    PACK_LABEL(to, "stream");
    pack_name(to, stream);
    PACK_LABEL(to, "events");
    msgpack_pack_array(to, count);
}

size_t batch_head_size(struct bytes site, struct bytes stream, uint32_t count)
{
    size_t size = 0;
    msgpack_packer counter = {&size, count_only};
    if (head_fits(site, stream))
        pack_head(&counter, site, stream, count);
    return size;
}

void batch_put_head(struct writer *w, struct bytes site, struct bytes stream, uint32_t count)
{
    struct writer copy = *w;
    msgpack_packer packer = {&copy, append};
    bool fits = head_fits(site, stream);
    if (fits)
        pack_head(&packer, site, stream, count);
    all_or_nothing(w, &copy, fits);
}
