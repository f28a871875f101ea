/*
 * Of a page of names all hashes are asked for at once, and the next page when all have answered.
 */
#include "core/site_fetch.h"

#include "codec/stream_entry.h"

#include <stdio.h>
#include <stdlib.h>

#define PATTERN "nemo:{*}:gateway:applied"
#define PAGE "1000"

struct fetched {
    struct site_fetch *fetch;
    struct bytes site; /* view of name */
    char name[80];
};

struct site_fetch {
    struct redis_link *link;
    void (*on_done)(void *context, struct site_set *found, const char *refused);
    void *context;
    char cursor[24];
    bool busy;
    struct fetched *page;
    size_t page_count;
    size_t answers; /* of the page */
    struct site_set found;
    char refused[160];
};

static void scan(struct site_fetch *fetch);

/* ---- a hash -------------------------------------------------------------------------------- */

void site_hmget_words(const char *key, struct bytes words[SITE_HMGET_WORDS])
{
    words[0] = bytes_of("HMGET");
    words[1] = bytes_of(key);
    words[2] = bytes_of("version");
    for (int i = 0; i < SITE_FIELDS; i++)
        words[3 + i] = bytes_of(site_field_names[i]);
}

struct site_settings *site_hash_read(const struct redis_value *reply, struct bytes site,
                                     uint64_t *version)
{
    struct bytes text[SITE_FIELDS];
    *version = 0;
    if (reply->type != REDIS_ARRAY || reply->count != SITE_HASH_FIELDS)
        return NULL;
    const struct redis_value *v = reply->element;
    if (v->type != REDIS_STRING || !site_version_read(v->text, version)) {
        *version = 0;
        return NULL;
    }
    for (int i = 0; i < SITE_FIELDS; i++) {
        v = v->next;
        text[i] = v->type == REDIS_STRING ? v->text : bytes_of("");
    }
    return site_settings_new(site, *version, text);
}

/* ---- pages --------------------------------------------------------------------------------- */

static void forget_page(struct site_fetch *fetch)
{
    free(fetch->page);
    fetch->page = NULL;
    fetch->page_count = 0;
}

static void note_refusal(struct site_fetch *fetch, struct bytes text)
{
    snprintf(fetch->refused, sizeof fetch->refused, "%.*s", (int)text.length,
             (const char *)text.data);
}

static void end_page(struct site_fetch *fetch)
{
    forget_page(fetch);
    if (strcmp(fetch->cursor, "0") != 0) {
        scan(fetch);
        return;
    }
    fetch->busy = false;
    fetch->on_done(fetch->context, &fetch->found,
                   fetch->refused[0] != '\0' ? fetch->refused : NULL);
}

static void on_hash(void *context, const struct redis_value *reply)
{
    struct fetched *fetched = context;
    struct site_fetch *fetch = fetched->fetch;
    uint64_t version;
    if (reply == NULL) {
        fetch->busy = false;
        return;
    }
    if (reply->type == REDIS_ERROR)
        note_refusal(fetch, reply->text);
    struct site_settings *settings = site_hash_read(reply, fetched->site, &version);
    if (settings != NULL)
        (void)site_set_put(&fetch->found, settings);
    if (++fetch->answers == fetch->page_count)
        end_page(fetch);
}

/* A name that the pattern matches may still be none. */
static void add_name(struct site_fetch *fetch, const struct redis_value *v)
{
    struct fetched *fetched = &fetch->page[fetch->page_count];
    struct bytes text = v->type == REDIS_STRING ? v->text : bytes_of("");
    struct bytes site = stream_site(text);
    char expected[sizeof fetched->name];
    snprintf(expected, sizeof expected, "nemo:{%.*s}:gateway:applied", (int)site.length,
             (const char *)site.data);
    snprintf(fetched->name, sizeof fetched->name, "%.*s", (int)text.length,
             (const char *)text.data);
    if (site.length == 0 || strcmp(fetched->name, expected) != 0)
        return;
    fetched->fetch = fetch;
    fetched->site =
        (struct bytes){(const uint8_t *)fetched->name + sizeof "nemo:{" - 1, site.length};
    fetch->page_count++;
}

static void take_page(struct site_fetch *fetch, const struct redis_value *reply)
{
    const struct redis_value *names = reply->element->next;
    snprintf(fetch->cursor, sizeof fetch->cursor, "%.*s", (int)reply->element->text.length,
             (const char *)reply->element->text.data);
    fetch->answers = 0;
    fetch->page = calloc(names->count + 1, sizeof *fetch->page);
    if (fetch->page == NULL)
        note_refusal(fetch, bytes_of("memory is short"));
    for (const struct redis_value *v = names->element; fetch->page != NULL && v != NULL;
         v = v->next)
        add_name(fetch, v);
    if (fetch->page == NULL || fetch->page_count == 0) {
        end_page(fetch);
        return;
    }
    for (size_t i = 0; i < fetch->page_count; i++) {
        struct bytes words[SITE_HMGET_WORDS];
        site_hmget_words(fetch->page[i].name, words);
        redis_link_command(fetch->link, words, SITE_HMGET_WORDS, on_hash, &fetch->page[i]);
    }
    redis_link_flush(fetch->link);
}

static void on_page(void *context, const struct redis_value *reply)
{
    struct site_fetch *fetch = context;
    if (reply == NULL) {
        fetch->busy = false;
    } else if (reply->type == REDIS_ARRAY && reply->count == 2 &&
               reply->element->type == REDIS_STRING && reply->element->next->type == REDIS_ARRAY) {
        take_page(fetch, reply);
    } else {
        note_refusal(fetch, reply->type == REDIS_ERROR ? reply->text
                                                       : bytes_of("SCAN: not what was expected"));
        snprintf(fetch->cursor, sizeof fetch->cursor, "0");
        end_page(fetch);
    }
}

static void scan(struct site_fetch *fetch)
{
    struct bytes words[] = {bytes_of("SCAN"),  bytes_of(fetch->cursor), bytes_of("MATCH"),
                            bytes_of(PATTERN), bytes_of("COUNT"),       bytes_of(PAGE),
                            bytes_of("TYPE"),  bytes_of("hash")};
    redis_link_command(fetch->link, words, sizeof words / sizeof *words, on_page, fetch);
    redis_link_flush(fetch->link);
}

void site_fetch_begin(struct site_fetch *fetch)
{
    if (fetch->busy)
        return;
    forget_page(fetch);
    site_set_free(&fetch->found);
    fetch->refused[0] = '\0';
    fetch->busy = true;
    snprintf(fetch->cursor, sizeof fetch->cursor, "0");
    scan(fetch);
}

struct site_fetch *site_fetch_new(struct redis_link *link,
                                  void (*on_done)(void *context, struct site_set *found,
                                                  const char *refused),
                                  void *context)
{
    struct site_fetch *fetch = calloc(1, sizeof *fetch);
    if (fetch != NULL)
        *fetch = (struct site_fetch){.link = link, .on_done = on_done, .context = context};
    return fetch;
}

void site_fetch_free(struct site_fetch *fetch)
{
    if (fetch == NULL)
        return;
    forget_page(fetch);
    site_set_free(&fetch->found);
    free(fetch);
}
