/*
 * `dead-letters drop`: XDEL, a page of ids at a time.
 */
#include "core/dead_letters_private.h"

struct drop {
    struct letters *letters;
    const struct letters_site *site;
    char ids[LETTERS_PAGE_MAX][STREAM_ID_TEXT]; /* of the present page */
    size_t count;
    struct letters_tally selected;
    uint64_t total; /* at most so many */
    uint64_t dropped;
    uint64_t site_dropped;
};

static void on_page(void *context, const struct redis_value *entries)
{
    struct drop *drop = context;
    struct letter letter;
    drop->count = 0;
    for (const struct redis_value *v = entries->element;
         v != NULL && drop->count < LETTERS_PAGE_MAX; v = v->next) {
        if (!letter_read(v, &letter) || !letters_matches(drop->letters, &letter))
            continue;
        stream_id_format(letter.id, drop->ids[drop->count++]);
        letters_tally_add(&drop->selected, letter.reason);
    }
}

static void on_dropped(void *context, const struct redis_value *reply)
{
    struct drop *drop = context;
    if (reply == NULL || reply->type != REDIS_INTEGER)
        letters_redis_refused(&drop->letters->redis, "XDEL", drop->site->key, reply);
    else
        drop->site_dropped += (uint64_t)reply->integer;
}

static bool drop_page(struct drop *drop)
{
    struct bytes arguments[LETTERS_PAGE_MAX + 2] = {bytes_of("XDEL"), bytes_of(drop->site->key)};
    if (drop->count == 0)
        return true;
    for (size_t i = 0; i < drop->count; i++)
        arguments[i + 2] = bytes_of(drop->ids[i]);
    letters_redis_send(&drop->letters->redis, arguments, drop->count + 2, on_dropped, drop);
    return letters_redis_wait(&drop->letters->redis);
}

static void report_site(const struct drop *drop)
{
    struct letters_json json = {.out = drop->letters->out};
    if (!drop->letters->cli->json)
        return;
    letters_json_begin(&json);
    letters_json_text(&json, "site", bytes_of(drop->site->name));
    letters_json_number(&json, drop->letters->cli->dry_run ? "would_drop" : "dropped",
                        drop->site_dropped);
    letters_json_end(&json);
}

static bool drop_site(struct drop *drop, size_t site)
{
    struct letters *letters = drop->letters;
    struct letters_selection selection;
    drop->site = &letters->sites[site];
    drop->site_dropped = 0;
    if (!letters_selection_open(&selection, letters, site, on_page, drop))
        return false;
    drop->total += letters->wanted_count > 0 ? letters->wanted_count : selection.length;
    while (!letters->stopped && letters_selection_next(&selection)) {
        if (letters->cli->dry_run)
            drop->site_dropped += drop->count;
        else if (!drop_page(drop))
            break;
        drop->count = 0;
    }
    drop->dropped += drop->site_dropped;
    report_site(drop);
    return !letters->redis.failed;
}

static void format_progress(void *context, char *text, size_t size)
{
    const struct drop *drop = context;
    char dropped[LETTERS_NUMBER_TEXT], total[LETTERS_NUMBER_TEXT];
    snprintf(text, size, "dropped %s of at most %s",
             letters_format_number(drop->dropped + drop->site_dropped, dropped),
             letters_format_number(drop->total, total));
}

static void report_sum(const struct drop *drop)
{
    struct letters *letters = drop->letters;
    FILE *out = letters->cli->json ? letters->errors : letters->out;
    char number[LETTERS_NUMBER_TEXT];
    fprintf(out, "%s %s", letters->cli->dry_run ? "would drop" : "dropped",
            letters_format_number(drop->dropped, number));
    if (drop->dropped > 0 && drop->dropped == drop->selected.sum) {
        fputs(" (", out);
        letters_tally_print(&drop->selected, out);
        fputc(')', out);
    }
    fputs(letters->stopped ? "; stopped by a signal\n" : "\n", out);
}

bool letters_drop(struct letters *letters)
{
    struct drop drop = {.letters = letters};
    struct letters_progress progress;
    if (letters->wanted_count > 0 && !letters_find_ids(letters, true, NULL))
        return false;
    if (letters_progress_open(&progress, letters, format_progress, &drop))
        for (size_t i = 0; i < letters->site_count && !letters->stopped; i++)
            if (!drop_site(&drop, i))
                break;
    letters_progress_close(&progress);
    report_sum(&drop);
    letters->incomplete = letters->incomplete || letters->stopped;
    return !letters->redis.failed;
}
