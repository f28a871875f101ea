/*
 * One dead letter, read from its entry in nemo:{site}:dead: what core/acks.c has put before the
 * entry's own fields, and these, plain or packed. Whatever lies there, it is only looked at. The
 * script of dead_letters_replay.c reads the same form.
 */
#include "core/dead_letters_private.h"

#define PACKED_FIELDS "dead_fields_msgpack"

/* ---- MessagePack: an array of strings, as cmsgpack writes it ------------------------------- */

/* The number of elements; SIZE_MAX: it is not an array. */
static size_t read_array(struct reader *r)
{
    uint8_t type = reader_get_u8(r);
    if ((type & 0xf0) == 0x90) /* fixarray */
        return type & 0x0f;
    if (type == 0xdc)
        return reader_get_u16(r);
    return type == 0xdd ? reader_get_u32(r) : SIZE_MAX;
}

static struct bytes read_string(struct reader *r)
{
    uint8_t type = reader_get_u8(r);
    size_t length = 0;
    if ((type & 0xe0) == 0xa0) /* fixstr */
        length = type & 0x1f;
    else if (type == 0xd9)
        length = reader_get_u8(r);
    else if (type == 0xda)
        length = reader_get_u16(r);
    else if (type == 0xdb)
        length = reader_get_u32(r);
    else
        r->failed = true;
    return reader_get_bytes(r, length);
}

/* Whether these bytes are an array of names and values by turns, and nothing more. */
static bool is_packed(struct bytes text)
{
    struct reader r = reader_over(text);
    size_t count = read_array(&r);
    if (!reader_ok(&r) || count == SIZE_MAX || count % 2 != 0)
        return false;
    for (size_t i = 0; i < count && reader_ok(&r); i++)
        (void)read_string(&r);
    return reader_ok(&r) && reader_left(&r) == 0;
}

/* ---- the letter ---------------------------------------------------------------------------- */

bool letter_read_entry(const struct redis_value *entry, struct letter *letter)
{
    *letter = (struct letter){0};
    if (entry->type != REDIS_ARRAY || entry->count != 2 ||
        stream_id_parse(entry->element->text, &letter->id) != STATUS_OK)
        return false;
    letter->own = entry->element->next->element;
    return true;
}

bool letter_read(const struct redis_value *entry, struct letter *letter)
{
    if (!letter_read_entry(entry, letter))
        return false;
    const struct {
        const char *name;
        struct bytes *place;
    } heads[] = {{"dead_reason", &letter->reason},
                 {"dead_detail", &letter->detail},
                 {"dead_stream", &letter->stream},
                 {"dead_id", &letter->original},
                 {"dead_deliveries", &letter->deliveries}};
    /* Only here, and only once each: an entry may have fields of these names itself. */
    const struct redis_value *v = letter->own;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (v == NULL || v->next == NULL || !bytes_equal(v->text, bytes_of(heads[i].name)))
            continue;
        *heads[i].place = v->next->text;
        v = v->next->next;
    }
    letter->own = v;
    if (v != NULL && v->next != NULL && v->next->next == NULL &&
        bytes_equal(v->text, bytes_of(PACKED_FIELDS)) && is_packed(v->next->text)) {
        letter->packed = v->next->text;
        letter->own = NULL;
    }
    return true;
}

struct letter_fields letter_fields(const struct letter *letter)
{
    struct letter_fields fields = {.next = letter->own, .packed = reader_over(letter->packed)};
    if (letter->packed.data != NULL)
        fields.packed_left = read_array(&fields.packed) / 2;
    return fields;
}

bool letter_next_field(struct letter_fields *fields, struct bytes *name, struct bytes *value)
{
    if (fields->packed_left > 0) {
        fields->packed_left--;
        *name = read_string(&fields->packed);
        *value = read_string(&fields->packed);
        return true;
    }
    if (fields->next == NULL || fields->next->next == NULL)
        return false;
    *name = fields->next->text;
    *value = fields->next->next->text;
    fields->next = fields->next->next->next;
    return true;
}

void letter_entry(const struct letter *letter, struct letter_entry *entry)
{
    struct bytes absolute = {NULL, 0}, retain = {NULL, 0}, name, value;
    *entry = (struct letter_entry){0};
    const struct {
        const char *name;
        struct bytes *place;
    } places[] = {{"topic", &entry->topic},     {"key", &entry->key},
                  {"payload", &entry->payload}, {"replayed_from", &entry->replayed_from},
                  {"abs", &absolute},           {"retain", &retain}};
    struct letter_fields fields = letter_fields(letter);
    while (letter_next_field(&fields, &name, &value)) {
        entry->field_count++;
        entry->size += name.length + value.length;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++)
            if (bytes_equal(name, bytes_of(places[i].name)))
                *places[i].place = value; /* of a field given twice the last counts */
    }
    entry->absolute = bytes_equal(absolute, bytes_of("1"));
    entry->retain = bytes_equal(retain, bytes_of("1"));
}
