/*
 * `dead-letters list`: a line for each letter, the newest of a site first, as they are read.
 */
#include "core/dead_letters_private.h"

#include <sys/ioctl.h>
#include <unistd.h>

#define USUAL_COLUMNS 80

struct list {
    struct letters *letters;
    const struct letters_site *site;
    uint64_t left; /* of --limit, in this site */
    struct letters_table table;
    struct letters_tally tally;
};

static size_t columns_of(FILE *out)
{
    struct winsize size;
    if (isatty(fileno(out)) == 1 && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return USUAL_COLUMNS;
}

static bool is_listed(const struct list *list, const struct redis_value *entry,
                      struct letter *letter)
{
    return letter_read(entry, letter) && letters_matches(list->letters, letter);
}

/* The widths are those of what was read so far; where they change the head is printed again. */
static void fit_table(struct list *list, const struct redis_value *entries)
{
    struct letters_row row;
    struct letter letter;
    FILE *out = list->letters->out;
    bool any = false;
    for (const struct redis_value *v = entries->element; v != NULL; v = v->next) {
        if (!is_listed(list, v, &letter))
            continue;
        letters_row_fill(&row, list->site->name, &letter);
        letters_table_measure(&list->table, &row);
        any = true;
    }
    if (!any || !letters_table_fit(&list->table, columns_of(out)))
        return;
    if (list->tally.sum > 0)
        fputc('\n', out);
    letters_table_head(&list->table, out);
}

static void list_letter(struct list *list, const struct letter *letter)
{
    struct letters_row row;
    letters_tally_add(&list->tally, letter->reason);
    if (list->letters->cli->json) {
        letters_json_letter(list->letters->out, list->site->name, letter, false);
        return;
    }
    letters_row_fill(&row, list->site->name, letter);
    letters_table_row(&list->table, &row, list->letters->out);
}

static void on_page(void *context, const struct redis_value *entries)
{
    struct list *list = context;
    struct letter letter;
    if (!list->letters->cli->json)
        fit_table(list, entries);
    for (const struct redis_value *v = entries->element; v != NULL && list->left > 0; v = v->next) {
        if (!is_listed(list, v, &letter))
            continue;
        list_letter(list, &letter);
        list->left--;
    }
}

static bool list_site(struct list *list)
{
    struct letters *letters = list->letters;
    list->left = letters->cli->limit > 0 ? letters->cli->limit : UINT64_MAX;
    struct letters_pager pager = {.redis = &letters->redis,
                                  .key = list->site->key,
                                  .newest_first = true,
                                  .next = LETTERS_LAST_ID,
                                  .until = letters->since,
                                  .on_page = on_page,
                                  .context = list};
    while (list->left > 0 && !ferror(letters->out) && letters_pager_next(&pager))
        fflush(letters->out);
    return !letters->redis.failed;
}

static void print_sum(const struct list *list)
{
    char number[LETTERS_NUMBER_TEXT];
    FILE *out = list->letters->out;
    if (list->letters->cli->json)
        return;
    if (list->tally.sum == 0) {
        fputs("no dead letters\n", out);
        return;
    }
    fprintf(out, "\n%s dead letter%s: ", letters_format_number(list->tally.sum, number),
            list->tally.sum == 1 ? "" : "s");
    letters_tally_print(&list->tally, out);
    fputc('\n', out);
}

bool letters_list(struct letters *letters)
{
    struct list list = {.letters = letters};
    for (size_t i = 0; i < letters->site_count && !ferror(letters->out); i++) {
        list.site = &letters->sites[i];
        if (!list_site(&list))
            return false;
    }
    print_sum(&list);
    return true;
}
