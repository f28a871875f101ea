/*
 * `dead-letters show`: all that is known of a letter, and all of its entry.
 */
#include "core/dead_letters_private.h"

#include "codec/decimal.h"

static void put_line(FILE *out, const char *name, struct bytes value)
{
    fprintf(out, "  %-12s", name);
    if (value.data == NULL)
        fputs("(not said)", out);
    else
        letters_put_printable(value, out);
    fputc('\n', out);
}

/* An id with its time. */
static void put_id(FILE *out, const char *name, struct bytes text)
{
    char line[STREAM_ID_TEXT + LETTERS_TIME_TEXT + 16], when[LETTERS_TIME_TEXT];
    struct stream_id id;
    if (stream_id_parse(text, &id) != STATUS_OK) {
        put_line(out, name, text);
        return;
    }
    snprintf(line, sizeof line, "%.*s (%s UTC)", (int)text.length, (const char *)text.data,
             letters_format_time(id.ms, when));
    put_line(out, name, bytes_of(line));
}

static void put_fields(const struct letter *letter, FILE *out)
{
    struct letter_fields fields = letter_fields(letter);
    struct bytes name, value;
    char number[LETTERS_NUMBER_TEXT];
    while (letter_next_field(&fields, &name, &value)) {
        fputs("\n  ", out);
        letters_put_printable(name, out);
        fprintf(out, " (%s byte%s)\n", letters_format_number(value.length, number),
                value.length == 1 ? "" : "s");
        letters_put_block(value, "    ", out);
    }
}

static void show(struct letters *letters, const struct letters_site *site,
                 const struct redis_value *entry_reply)
{
    FILE *out = letters->out;
    struct letter letter;
    struct letter_entry entry;
    char id[STREAM_ID_TEXT], count[LETTERS_NUMBER_TEXT], size[LETTERS_NUMBER_TEXT];
    if (!letter_read(entry_reply, &letter))
        return;
    if (letters->cli->json) {
        letters_json_letter(out, site->name, &letter, true);
        return;
    }
    letter_entry(&letter, &entry);
    stream_id_format(letter.id, id);
    put_id(out, "dead letter", bytes_of(id));
    put_line(out, "site", bytes_of(site->name));
    put_line(out, "reason", letter.reason);
    put_line(out, "detail", letter.detail);
    put_line(out, "deliveries", letter.deliveries);
    put_line(out, "stream", letter.stream);
    put_id(out, "original id", letter.original);
    fprintf(out, "  %-12s%s, %s bytes%s\n", "fields",
            letters_format_number(entry.field_count, count),
            letters_format_number(entry.size, size),
            letter.packed.data != NULL ? ", packed in the dead letter" : "");
    put_fields(&letter, out);
    fputc('\n', out);
}

bool letters_show(struct letters *letters)
{
    return letters_find_ids(letters, false, show);
}
