/*
 * Dead letters for programs: one JSON object per line [RFC 8259]. JSON has no bytes: what is not
 * UTF-8 goes into a member name_base64 [RFC 4648, 4].
 */
#include "core/dead_letters_private.h"

#include "codec/decimal.h"
#include "codec/mqtt_wire.h"
#include "core/json.h"

#include <inttypes.h>

static void put_base64(struct bytes value, FILE *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fputc('"', out);
    for (size_t at = 0; at < value.length; at += 3) {
        size_t left = value.length - at;
        uint32_t group = (uint32_t)value.data[at] << 16;
        if (left > 1)
            group |= (uint32_t)value.data[at + 1] << 8;
        if (left > 2)
            group |= value.data[at + 2];
        fputc(digits[group >> 18], out);
        fputc(digits[group >> 12 & 63], out);
        fputc(left > 1 ? digits[group >> 6 & 63] : '=', out);
        fputc(left > 2 ? digits[group & 63] : '=', out);
    }
    fputc('"', out);
}

/* ---- members ------------------------------------------------------------------------------- */

static void put_name(struct letters_json *json, const char *name, const char *suffix)
{
    fprintf(json->out, "%s\"%s%s\": ", json->more ? ", " : "", name, suffix);
    json->more = true;
}

void letters_json_begin(struct letters_json *json)
{
    fputc('{', json->out);
    json->more = false;
}

void letters_json_end(struct letters_json *json)
{
    fputs("}\n", json->out);
}

void letters_json_text(struct letters_json *json, const char *name, struct bytes value)
{
    if (value.data == NULL) {
        put_name(json, name, "");
        fputs("null", json->out);
    } else if (mqtt_utf8_valid(value)) {
        put_name(json, name, "");
        json_put_string(value, json->out);
    } else {
        put_name(json, name, "_base64");
        put_base64(value, json->out);
    }
}

void letters_json_number(struct letters_json *json, const char *name, uint64_t value)
{
    put_name(json, name, "");
    fprintf(json->out, "%" PRIu64, value);
}

void letters_json_bool(struct letters_json *json, const char *name, bool value)
{
    put_name(json, name, "");
    fputs(value ? "true" : "false", json->out);
}

/* ---- a letter ------------------------------------------------------------------------------ */

static void put_id(struct letters_json *json, const char *name, struct stream_id id)
{
    char text[STREAM_ID_TEXT];
    size_t length = stream_id_format(id, text);
    letters_json_text(json, name, (struct bytes){(const uint8_t *)text, length});
}

/* "2023-11-14T22:13:20.123Z" */
static void put_time(struct letters_json *json, uint64_t ms)
{
    char text[LETTERS_TIME_TEXT + 8];
    letters_format_time(ms, text);
    char *space = strchr(text, ' ');
    if (text[4] == '-' && space != NULL) {
        *space = 'T';
        snprintf(text + strlen(text), sizeof text - strlen(text), ".%03uZ", (unsigned)(ms % 1000));
    }
    letters_json_text(json, "time", bytes_of(text));
}

static void put_fields(struct letters_json *json, const struct letter *letter)
{
    struct letter_fields fields = letter_fields(letter);
    struct bytes name, value;
    put_name(json, "fields", "");
    fputc('[', json->out);
    for (const char *before = ""; letter_next_field(&fields, &name, &value); before = ", ") {
        struct letters_json field = {.out = json->out};
        fprintf(json->out, "%s{", before);
        letters_json_text(&field, "name", name);
        letters_json_text(&field, "value", value);
        fputc('}', json->out);
    }
    fputc(']', json->out);
}

void letters_json_letter(FILE *out, const char *site, const struct letter *letter, bool with_fields)
{
    struct letters_json json = {.out = out};
    struct letter_entry entry;
    uint64_t deliveries;
    letter_entry(letter, &entry);
    letters_json_begin(&json);
    letters_json_text(&json, "site", bytes_of(site));
    put_id(&json, "id", letter->id);
    put_time(&json, letter->id.ms);
    letters_json_text(&json, "reason", letter->reason);
    letters_json_text(&json, "detail", letter->detail);
    if (decimal_read(letter->deliveries, &deliveries))
        letters_json_number(&json, "deliveries", deliveries);
    letters_json_text(&json, "stream", letter->stream);
    letters_json_text(&json, "original_id", letter->original);
    letters_json_text(&json, "topic", entry.topic);
    letters_json_text(&json, "key", entry.key);
    letters_json_bool(&json, "retain", entry.retain);
    letters_json_number(&json, "size", entry.size);
    letters_json_number(&json, "payload_size", entry.payload.length);
    letters_json_text(&json, "payload", entry.payload);
    if (with_fields)
        put_fields(&json, letter);
    letters_json_end(&json);
}
