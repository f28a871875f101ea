/*
 * Which dead letters a command is about: the sites, found by SCAN or named; ids, looked for in all
 * of them; and the filters.
 */
#include "core/dead_letters_private.h"

#include <stdlib.h>

#define SCAN_COUNT "1000"
/* Look-ups of ids that are under way at a time. */
#define LOOKUPS_MAX 256u

/* ---- sites --------------------------------------------------------------------------------- */

static bool add_site(struct letters *letters, struct bytes name)
{
    if (letters->site_count == letters->site_capacity) {
        size_t capacity = letters->site_capacity == 0 ? 16 : letters->site_capacity * 2;
        struct letters_site *more = realloc(letters->sites, capacity * sizeof *more);
        if (more == NULL)
            return false;
        letters->sites = more;
        letters->site_capacity = capacity;
    }
    struct letters_site *site = &letters->sites[letters->site_count];
    site->name = strndup((const char *)name.data, name.length);
    if (site->name == NULL)
        return false;
    snprintf(site->key, sizeof site->key, "nemo:{%s}:dead", site->name);
    letters->site_count++;
    return true;
}

static int compare_sites(const void *a, const void *b)
{
    return strcmp(((const struct letters_site *)a)->name, ((const struct letters_site *)b)->name);
}

/* SCAN may give a key more than once, and so may a command line. */
static void sort_sites(struct letters *letters)
{
    size_t kept = 0;
    if (letters->site_count > 0)
        qsort(letters->sites, letters->site_count, sizeof *letters->sites, compare_sites);
    for (size_t i = 0; i < letters->site_count; i++) {
        if (kept > 0 && compare_sites(&letters->sites[kept - 1], &letters->sites[i]) == 0)
            free(letters->sites[i].name);
        else
            letters->sites[kept++] = letters->sites[i];
    }
    letters->site_count = kept;
}

void letters_free_sites(struct letters *letters)
{
    for (size_t i = 0; i < letters->site_count; i++)
        free(letters->sites[i].name);
    free(letters->sites);
}

struct scan {
    struct letters *letters;
    char cursor[24];
};

/* The site of a key "nemo:{site}:dead"; length 0: it is another key. */
static struct bytes site_of(struct bytes key)
{
    struct bytes site = stream_site(key);
    char own[48];
    int length =
        snprintf(own, sizeof own, "nemo:{%.*s}:dead", (int)site.length, (const char *)site.data);
    bool is_own =
        site.length > 0 && bytes_equal(key, (struct bytes){(uint8_t *)own, (size_t)length});
    return is_own ? site : (struct bytes){NULL, 0};
}

static void on_scan(void *context, const struct redis_value *reply)
{
    struct scan *scan = context;
    struct letters_redis *redis = &scan->letters->redis;
    if (reply == NULL || reply->type != REDIS_ARRAY || reply->count != 2 ||
        reply->element->type != REDIS_STRING || reply->element->next->type != REDIS_ARRAY) {
        if (reply != NULL && redis_value_is_error(reply, "NOPERM"))
            letters_redis_fail(redis,
                               "Redis %s: the user '%s' may not run SCAN, which finds the sites: "
                               "give it +scan, or name the sites with --site",
                               redis->where, redis->config->redis.username);
        letters_redis_refused(redis, "SCAN", "nemo:*:dead", reply);
        return;
    }
    struct bytes cursor = reply->element->text;
    snprintf(scan->cursor, sizeof scan->cursor, "%.*s", (int)cursor.length,
             (const char *)cursor.data);
    for (const struct redis_value *v = reply->element->next->element; v != NULL; v = v->next) {
        struct bytes site = site_of(v->text);
        if (site.length > 0 && !add_site(scan->letters, site))
            letters_redis_fail(redis, "memory is short");
    }
}

bool letters_find_sites(struct letters *letters)
{
    const struct cli_texts *named = &letters->cli->sites;
    struct letters_redis *redis = &letters->redis;
    struct scan scan = {letters, "0"};
    for (size_t i = 0; i < named->count; i++)
        if (!add_site(letters, bytes_of(named->item[i])))
            letters_redis_fail(redis, "memory is short");
    if (named->count == 0) {
        do {
            struct bytes arguments[] = {bytes_of("SCAN"),  bytes_of(scan.cursor),
                                        bytes_of("MATCH"), bytes_of("nemo:*:dead"),
                                        bytes_of("COUNT"), bytes_of(SCAN_COUNT),
                                        bytes_of("TYPE"),  bytes_of("stream")};
            letters_redis_send(redis, arguments, sizeof arguments / sizeof *arguments, on_scan,
                               &scan);
        } while (letters_redis_wait(redis) && strcmp(scan.cursor, "0") != 0);
    }
    sort_sites(letters);
    return !redis->failed;
}

/* ---- ids ----------------------------------------------------------------------------------- */

struct lookup {
    struct letters *letters;
    size_t site;
    size_t wanted;
    bool unique;
    letters_found_fn *on_found;
};

static void report_several(struct letters *letters, struct stream_id id, const char *one,
                           const char *other)
{
    char text[STREAM_ID_TEXT];
    stream_id_format(id, text);
    letters_redis_fail(&letters->redis,
                       "the sites %s and %s both have a dead letter %s: say which with --site", one,
                       other, text);
}

static void on_lookup(void *context, const struct redis_value *reply)
{
    const struct lookup *lookup = context;
    struct letters *letters = lookup->letters;
    const struct letters_site *site = &letters->sites[lookup->site];
    struct letters_wanted *wanted = &letters->wanted[lookup->wanted];
    if (reply == NULL || reply->type != REDIS_ARRAY) {
        letters_redis_refused(&letters->redis, "XRANGE", site->key, reply);
        return;
    }
    if (reply->count == 0)
        return;
    if (lookup->unique && wanted->site != LETTERS_NO_SITE)
        report_several(letters, wanted->id, letters->sites[wanted->site].name, site->name);
    wanted->site = lookup->site;
    if (lookup->on_found != NULL)
        lookup->on_found(letters, site, reply->element);
}

static void send_lookup(struct lookup *lookup)
{
    struct letters *letters = lookup->letters;
    char id[STREAM_ID_TEXT];
    stream_id_format(letters->wanted[lookup->wanted].id, id);
    struct bytes arguments[] = {bytes_of("XRANGE"), bytes_of(letters->sites[lookup->site].key),
                                bytes_of(id), bytes_of(id)};
    letters_redis_send(&letters->redis, arguments, 4, on_lookup, lookup);
}

static void report_missing(struct letters *letters)
{
    for (size_t i = 0; i < letters->wanted_count; i++) {
        char id[STREAM_ID_TEXT];
        if (letters->wanted[i].site != LETTERS_NO_SITE)
            continue;
        stream_id_format(letters->wanted[i].id, id);
        fprintf(letters->errors, "nemogate: there is no dead letter %s%s%s\n", id,
                letters->cli->sites.count == 1 ? " in site " : "",
                letters->cli->sites.count == 1 ? letters->sites[0].name : "");
        letters->incomplete = true;
    }
}

bool letters_find_ids(struct letters *letters, bool unique, letters_found_fn *on_found)
{
    static const size_t most = LOOKUPS_MAX;
    struct lookup lookups[LOOKUPS_MAX];
    size_t total = letters->site_count * letters->wanted_count;
    for (size_t done = 0; done < total && !letters->redis.failed;) {
        size_t count = total - done < most ? total - done : most;
        for (size_t i = 0; i < count; i++, done++) {
            lookups[i] = (struct lookup){letters, done / letters->wanted_count,
                                         done % letters->wanted_count, unique, on_found};
            send_lookup(&lookups[i]);
        }
        if (!letters_redis_wait(&letters->redis))
            return false;
    }
    report_missing(letters);
    return true;
}

/* ---- filters ------------------------------------------------------------------------------- */

static bool is_among(const struct cli_texts *texts, struct bytes value)
{
    for (size_t i = 0; i < texts->count; i++)
        if (bytes_equal(value, bytes_of(texts->item[i])))
            return true;
    return texts->count == 0;
}

bool letters_matches(const struct letters *letters, const struct letter *letter)
{
    return is_among(&letters->cli->reasons, letter->reason) &&
           is_among(&letters->cli->streams, letter->stream);
}

/* ---- the letters of a site ----------------------------------------------------------------- */

bool letters_selection_open(struct letters_selection *selection, struct letters *letters,
                            size_t site,
                            void (*on_page)(void *context, const struct redis_value *entries),
                            void *context)
{
    struct letters_stream_info info;
    const char *key = letters->sites[site].key;
    *selection = (struct letters_selection){
        .letters = letters,
        .site = site,
        .pager = {.redis = &letters->redis, .key = key, .on_page = on_page, .context = context}};
    if (letters->wanted_count > 0)
        return true;
    /* What a gateway adds meanwhile, may be of the same entries again, is not of this command. */
    if (!letters_stream_info(&letters->redis, key, &info))
        return false;
    selection->length = info.length;
    selection->pager.until = info.last;
    selection->pager.done = info.length == 0;
    return true;
}

bool letters_selection_next(struct letters_selection *selection)
{
    struct letters *letters = selection->letters;
    if (letters->wanted_count == 0)
        return letters_pager_next(&selection->pager);
    while (selection->next_id < letters->wanted_count) {
        const struct letters_wanted *wanted = &letters->wanted[selection->next_id++];
        if (wanted->site != selection->site)
            continue;
        selection->pager.next = selection->pager.until = wanted->id;
        selection->pager.done = false;
        return letters_pager_next(&selection->pager);
    }
    return false;
}
