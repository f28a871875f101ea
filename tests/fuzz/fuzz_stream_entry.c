/*
 * Entries with arbitrary fields. Input: a byte of the largest payload in units of 4 bytes, then
 * fields: a byte that names the field (one of the schema's, or a name of its own) and a value with
 * its length before it. Whatever was read must follow from the last field of each name.
 */
#include "codec/mqtt_wire.h"
#include "codec/stream_entry.h"
#include "tests/fuzz/fuzz_input.h"

#define MOST_FIELDS 64

static const char *const names[] = {"v",   "topic",  "payload", "key", "id", "type",
                                    "qos", "retain", "ts",      "exp", "abs"};
#define NAMES (sizeof names / sizeof *names)

/* Owns the memory that its fields point to. */
struct fields {
    struct stream_field field[MOST_FIELDS];
    size_t count;
};

static struct bytes own(struct bytes view)
{
    return (struct bytes){exact_copy(view), view.length};
}

static void take_fields(struct bytes *input, struct fields *fields)
{
    while (input->length > 0 && fields->count < MOST_FIELDS) {
        uint8_t which = take_u8(input);
        struct bytes name =
            which < 250 ? bytes_of(names[which % NAMES]) : take_bytes(input, (size_t)(which - 248));
        size_t length = take_u8(input);
        if (length == 255)
            length = take_u16(input);
        fields->field[fields->count++] =
            (struct stream_field){own(name), own(take_bytes(input, length))};
    }
}

static void free_fields(struct fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        free((void *)(uintptr_t)fields->field[i].name.data);
        free((void *)(uintptr_t)fields->field[i].value.data);
    }
}

/* The last value of this name; data NULL: none was given. */
static struct bytes given(const struct fields *fields, const char *name)
{
    struct bytes value = {NULL, 0};
    for (size_t i = 0; i < fields->count; i++)
        if (bytes_equal(fields->field[i].name, bytes_of(name)))
            value = fields->field[i].value;
    return value;
}

static bool is(struct bytes value, const char *text)
{
    return value.data != NULL && bytes_equal(value, bytes_of(text));
}

static void check_key(const struct fields *fields, const struct stream_entry *entry)
{
    struct bytes key = given(fields, "key");
    require(bytes_equal(entry->key, key.length > 0 ? key : given(fields, "topic")));
}

static void check_entry(const struct fields *fields, const struct stream_entry *entry,
                        size_t max_payload)
{
    struct bytes v = given(fields, "v"), qos = given(fields, "qos");
    require(v.data == NULL || is(v, "1"));
    require(bytes_equal(entry->topic, given(fields, "topic")));
    require(mqtt_topic_fault((struct bytes){NULL, 0}, entry->topic) == NULL);
    require(given(fields, "payload").data != NULL && entry->payload.length <= max_payload);
    require(bytes_equal(entry->payload, given(fields, "payload")));
    require(bytes_equal(entry->id, given(fields, "id")) && mqtt_utf8_valid(entry->id));
    require(bytes_equal(entry->type, given(fields, "type")) && mqtt_utf8_valid(entry->type));
    require(qos.data == NULL || is(qos, "0") || is(qos, "1") || is(qos, "2"));
    require(entry->qos == (is(qos, "0") ? 0 : 1));
    require(entry->retain == is(given(fields, "retain"), "1"));
    require(entry->absolute == is(given(fields, "abs"), "1"));
    require(entry->has_exp == (given(fields, "exp").data != NULL));
    require(entry->has_exp || entry->exp_s == 0);
    require(given(fields, "ts").data != NULL || entry->ts_ms == 1234);
}

static void check_fault(const struct stream_entry_fault *fault, enum status status)
{
    static const char *const reasons[] = {"no-topic", "bad-topic", "bad-field", "payload-too-large",
                                          "unknown-version"};
    bool known = false;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        known = known || strcmp(fault->reason, reasons[i]) == 0;
    require(known && fault->detail != NULL && fault->detail[0] != '\0');
    require((status == STATUS_TOO_LARGE) == (strcmp(fault->reason, "payload-too-large") == 0));
}

/* A name that is the site's stays so in the streams that are derived from it. */
static void check_site(struct bytes name)
{
    struct bytes site = stream_site(name);
    if (site.length == 0)
        return;
    require(site_id_valid(site) && site.length <= 32);
    require(site.data > name.data && site.data + site.length < name.data + name.length);
    require(site.data[-1] == '{' && site.data[site.length] == '}');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    struct fields fields = {.count = 0};
    size_t max_payload = (size_t)take_u8(&input) * 4;
    check_site(input);
    take_fields(&input, &fields);
    struct stream_entry entry;
    struct stream_entry_fault fault = {NULL, NULL};
    struct stream_id id = {1234, 5};
    enum status status =
        stream_entry_read(id, fields.field, fields.count, max_payload, &entry, &fault);
    check_key(&fields, &entry);
    if (status == STATUS_OK) {
        check_entry(&fields, &entry, max_payload);
    } else {
        require(status == STATUS_MALFORMED || status == STATUS_TOO_LARGE);
        check_fault(&fault, status);
    }
    free_fields(&fields);
    return 0;
}
