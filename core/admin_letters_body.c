/*
 * Just enough JSON for one kind of object. Escapes are refused: neither the id of a site nor that
 * of an entry has any.
 */
#include "core/admin_letters.h"

#include "codec/stream_entry.h"

#include <stdlib.h>

#define TEXT_MAX 64u

struct cursor {
    const char *at;
    const char *end;
};

const char *letters_body_keep(struct letters_body *body, const char *text)
{
    char *copy = body->count < sizeof body->text / sizeof *body->text ? strdup(text) : NULL;
    if (copy == NULL)
        body->failed = true;
    else
        body->text[body->count++] = copy;
    return copy;
}

void letters_body_free(struct letters_body *body)
{
    for (size_t i = 0; i < body->count; i++)
        free(body->text[i]);
    body->count = 0;
}

static void skip_blanks(struct cursor *cursor)
{
    while (cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at) != NULL && *cursor->at != 0)
        cursor->at++;
}

static bool take(struct cursor *cursor, const char *word)
{
    skip_blanks(cursor);
    size_t length = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length) != 0)
        return false;
    cursor->at += length;
    return true;
}

static bool take_text(struct cursor *cursor, char text[TEXT_MAX])
{
    size_t length = 0;
    if (!take(cursor, "\""))
        return false;
    for (; cursor->at < cursor->end && *cursor->at != '"'; cursor->at++) {
        char c = *cursor->at;
        if (c < ' ' || c >= 0x7f || c == '\\' || length + 1 == TEXT_MAX)
            return false;
        text[length++] = c;
    }
    text[length] = '\0';
    return take(cursor, "\"");
}

static bool take_ids(struct cursor *cursor, struct letters_body *body, struct cli *cli)
{
    char text[TEXT_MAX];
    struct stream_id id;
    if (cli->ids.count > 0 || !take(cursor, "["))
        return false;
    do {
        if (!take_text(cursor, text) || cli->ids.count == CLI_TEXTS_MAX ||
            stream_id_parse(bytes_of(text), &id) != STATUS_OK)
            return false;
        cli->ids.item[cli->ids.count++] = letters_body_keep(body, text);
    } while (take(cursor, ","));
    return take(cursor, "]");
}

static bool take_member(struct cursor *cursor, struct letters_body *body, struct cli *cli)
{
    char name[TEXT_MAX], text[TEXT_MAX];
    if (!take_text(cursor, name) || !take(cursor, ":"))
        return false;
    if (strcmp(name, "site") == 0) {
        if (cli->sites.count > 0 || !take_text(cursor, text) || !site_id_valid(bytes_of(text)))
            return false;
        cli->sites.item[cli->sites.count++] = letters_body_keep(body, text);
        return true;
    }
    if (strcmp(name, "ids") == 0)
        return take_ids(cursor, body, cli);
    if (strcmp(name, "force") != 0)
        return false;
    cli->force = take(cursor, "true");
    return cli->force || take(cursor, "false");
}

bool letters_body_read(struct bytes json, struct letters_body *body, struct cli *cli)
{
    struct cursor cursor = {(const char *)json.data, (const char *)json.data + json.length};
    if (json.length == 0 || !take(&cursor, "{"))
        return false;
    do {
        if (!take_member(&cursor, body, cli))
            return false;
    } while (take(&cursor, ","));
    if (!take(&cursor, "}"))
        return false;
    skip_blanks(&cursor);
    return cursor.at == cursor.end && cli->sites.count == 1 && cli->ids.count > 0 && !body->failed;
}
