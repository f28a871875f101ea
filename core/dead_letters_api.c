/*
 * Listing, replaying and dropping for the admin server. Without progress and without signals, which
 * belong to the process' main thread.
 */
#include "core/dead_letters_api.h"

#include "core/dead_letters_private.h"
#include "core/json.h"

#include "codec/decimal.h"

#include <stdlib.h>

#define PAYLOAD_MAX 2048u

/* ---- list ---------------------------------------------------------------------------------- */

struct listing {
    struct letters *letters;
    const struct letters_site *site;
    struct json json;
    uint64_t left;
    bool more;
};

static void put_id(struct json *json, const char *name, struct stream_id id)
{
    char text[STREAM_ID_TEXT];
    stream_id_format(id, text);
    json_text(json, name, text);
}

static void put_letter(struct listing *listing, const struct letter *letter)
{
    struct json *json = &listing->json;
    struct letter_entry entry;
    uint64_t deliveries = 0;
    letter_entry(letter, &entry);
    bool counted = decimal_read(letter->deliveries, &deliveries);
    if (entry.payload.length > PAYLOAD_MAX)
        entry.payload.length = PAYLOAD_MAX;
    json_begin_object(json, NULL);
    json_text(json, "site", listing->site->name);
    put_id(json, "id", letter->id);
    json_bytes(json, "stream", letter->stream);
    json_bytes(json, "entry_id", letter->original);
    json_bytes(json, "reason", letter->reason);
    json_bytes(json, "detail", letter->detail);
    json_number_if(json, "deliveries", counted, deliveries);
    json_bytes(json, "topic", entry.topic);
    json_bytes(json, "key", entry.key);
    json_number(json, "at", letter->id.ms);
    json_bytes(json, "payload", entry.payload);
    json_end_object(json);
}

static void on_page(void *context, const struct redis_value *entries)
{
    struct listing *listing = context;
    struct letter letter;
    for (const struct redis_value *v = entries->element; v != NULL; v = v->next) {
        if (!letter_read(v, &letter) || !letters_matches(listing->letters, &letter))
            continue;
        if (listing->left == 0) {
            listing->more = true;
            return;
        }
        put_letter(listing, &letter);
        listing->left--;
    }
}

static bool list(struct letters *letters)
{
    struct listing listing = {
        .letters = letters, .json = {.out = letters->out}, .left = letters->cli->limit};
    json_begin_object(&listing.json, NULL);
    json_begin_array(&listing.json, "letters");
    for (size_t i = 0; i < letters->site_count && !listing.more; i++) {
        listing.site = &letters->sites[i];
        struct letters_pager pager = {.redis = &letters->redis,
                                      .key = listing.site->key,
                                      .newest_first = true,
                                      .next = LETTERS_LAST_ID,
                                      .until = LETTERS_FIRST_ID,
                                      .on_page = on_page,
                                      .context = &listing};
        while (!listing.more && letters_pager_next(&pager))
            continue;
    }
    json_end_array(&listing.json);
    json_bool(&listing.json, "more", listing.more);
    json_end_object(&listing.json);
    return !letters->redis.failed;
}

/* ---- replay and drop ----------------------------------------------------------------------- */

struct outcomes {
    struct letters *letters;
    const char *why[CLI_TEXTS_MAX]; /* by wanted id; NULL: done */
    size_t at;                      /* the id that is being dropped */
};

static void on_replayed(void *context, struct stream_id id, const char *why)
{
    struct outcomes *outcomes = context;
    for (size_t i = 0; i < outcomes->letters->wanted_count; i++)
        if (stream_id_compare(outcomes->letters->wanted[i].id, id) == 0)
            outcomes->why[i] = why;
}

static void on_dropped(void *context, const struct redis_value *reply)
{
    struct outcomes *outcomes = context;
    if (reply == NULL || reply->type != REDIS_INTEGER)
        letters_redis_refused(&outcomes->letters->redis, "XDEL", outcomes->letters->sites[0].key,
                              reply);
    else if (reply->integer > 0)
        outcomes->why[outcomes->at] = NULL;
}

static bool drop(struct outcomes *outcomes)
{
    struct letters *letters = outcomes->letters;
    for (size_t i = 0; i < letters->wanted_count && letters->site_count > 0; i++) {
        char id[STREAM_ID_TEXT];
        stream_id_format(letters->wanted[i].id, id);
        struct bytes arguments[] = {bytes_of("XDEL"), bytes_of(letters->sites[0].key),
                                    bytes_of(id)};
        outcomes->at = i;
        letters_redis_send(&letters->redis, arguments, 3, on_dropped, outcomes);
        if (!letters_redis_wait(&letters->redis))
            return false;
    }
    return true;
}

static bool change(struct letters *letters, enum dead_letters_work work, FILE *out)
{
    struct outcomes outcomes = {.letters = letters};
    struct json json = {.out = out};
    uint64_t done = 0;
    for (size_t i = 0; i < letters->wanted_count; i++)
        outcomes.why[i] = "it is not there any more";
    letters->on_replayed = on_replayed;
    letters->on_replayed_context = &outcomes;
    bool went = work == DEAD_LETTERS_DROP ? drop(&outcomes) : letters_replay(letters);
    letters->on_replayed_context = NULL;
    if (!went)
        return false;
    for (size_t i = 0; i < letters->wanted_count; i++)
        done += outcomes.why[i] == NULL;
    json_begin_object(&json, NULL);
    json_number(&json, "done", done);
    json_begin_array(&json, "failed");
    for (size_t i = 0; i < letters->wanted_count; i++) {
        if (outcomes.why[i] == NULL)
            continue;
        json_begin_object(&json, NULL);
        put_id(&json, "id", letters->wanted[i].id);
        json_text(&json, "why", outcomes.why[i]);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    return true;
}

/* ---- the work ------------------------------------------------------------------------------ */

static bool carry_out(struct letters *letters, enum dead_letters_work work, FILE *out)
{
    if (!letters_read_options(letters) || !letters_redis_open(&letters->redis, letters->config) ||
        !letters_find_sites(letters))
        return false;
    return work == DEAD_LETTERS_LIST ? list(letters) : change(letters, work, out);
}

bool dead_letters_work(const struct config *config, enum dead_letters_work work,
                       const struct cli *cli, FILE *out, char *error, size_t size)
{
    char *said = NULL; /* what the command would say to people */
    size_t said_length = 0;
    FILE *words = open_memstream(&said, &said_length);
    if (words == NULL) {
        snprintf(error, size, "memory is short");
        return false;
    }
    struct letters letters = {.config = config,
                              .cli = cli,
                              .out = work == DEAD_LETTERS_LIST ? out : words,
                              .errors = words,
                              .quiet = true};
    bool good = carry_out(&letters, work, out);
    snprintf(error, size, "%s", letters.redis.error);
    letters_free_sites(&letters);
    letters_redis_close(&letters.redis);
    fclose(words);
    if (!good && error[0] == '\0' && said != NULL)
        snprintf(error, size, "%.*s", (int)strcspn(said, "\n"), said);
    free(said);
    return good;
}
