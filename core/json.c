/*
 * Commas, quotes and escapes.
 */
#include "core/json.h"

#include "core/utf8.h"

#include <inttypes.h>

void json_put_string(struct bytes text, FILE *out)
{
    fputc('"', out);
    while (text.length > 0) {
        uint8_t c = text.data[0];
        size_t length = utf8_first(text);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else if (length == 0)
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(text.data, 1, length, out);
        length = length > 0 ? length : 1;
        text.data += length;
        text.length -= length;
    }
    fputc('"', out);
}

static void put_name(struct json *json, const char *name)
{
    if (json->more)
        fputc(',', json->out);
    json->more = true;
    if (name == NULL)
        return;
    json_put_string(bytes_of(name), json->out);
    fputc(':', json->out);
}

static void begin(struct json *json, const char *name, char bracket)
{
    put_name(json, name);
    fputc(bracket, json->out);
    json->more = false;
}

static void end(struct json *json, char bracket)
{
    fputc(bracket, json->out);
    json->more = true;
}

void json_begin_object(struct json *json, const char *name)
{
    begin(json, name, '{');
}

void json_end_object(struct json *json)
{
    end(json, '}');
}

void json_begin_array(struct json *json, const char *name)
{
    begin(json, name, '[');
}

void json_end_array(struct json *json)
{
    end(json, ']');
}

void json_text(struct json *json, const char *name, const char *value)
{
    json_bytes(json, name, bytes_of(value));
}

void json_bytes(struct json *json, const char *name, struct bytes value)
{
    put_name(json, name);
    if (value.data == NULL)
        fputs("null", json->out);
    else
        json_put_string(value, json->out);
}

void json_number(struct json *json, const char *name, uint64_t value)
{
    put_name(json, name);
    fprintf(json->out, "%" PRIu64, value);
}

void json_bool(struct json *json, const char *name, bool value)
{
    put_name(json, name);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *name)
{
    put_name(json, name);
    fputs("null", json->out);
}

void json_number_if(struct json *json, const char *name, bool known, uint64_t value)
{
    if (known)
        json_number(json, name, value);
    else
        json_null(json, name);
}

bool json_is_text(struct bytes value)
{
    return value.length == 0 || mqtt_utf8_valid(value);
}
