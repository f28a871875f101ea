/*
 * The table of `dead-letters list`. Where a line has too few columns for all, the wide ones shrink,
 * and then the least needed are left out. Ids are never cut: they are what the other commands take.
 */
#include "core/dead_letters_private.h"

#define GAP 2 /* between columns */

struct column {
    const char *head;
    size_t least; /* it is not shrunk below this; 0: it is never shrunk */
    bool right;
};

static const struct column COLUMNS[COLUMN_COUNT] = {
    [COLUMN_SITE] = {"SITE", 6, false},       [COLUMN_ID] = {"ID", 0, false},
    [COLUMN_WHEN] = {"WHEN (UTC)", 0, false}, [COLUMN_REASON] = {"REASON", 17, false},
    [COLUMN_STREAM] = {"STREAM", 6, false},   [COLUMN_ORIGINAL] = {"ORIGINAL ID", 0, false},
    [COLUMN_TOPIC] = {"TOPIC", 10, false},    [COLUMN_KEY] = {"KEY", 8, false},
    [COLUMN_SIZE] = {"SIZE", 0, true},
};

/* What is left out first where there is no room. */
static const enum letters_column LEAST_NEEDED[] = {COLUMN_KEY, COLUMN_ORIGINAL, COLUMN_WHEN,
                                                   COLUMN_STREAM, COLUMN_SIZE};

/* ---- rows ---------------------------------------------------------------------------------- */

static void set_cell(struct letters_row *row, enum letters_column column, struct bytes text)
{
    if (text.length == 0)
        text = bytes_of("-");
    row->columns[column] = letters_cell(text, LETTERS_CELL_COLUMNS, row->cell[column]);
}

/* Most streams begin as their site's other keys do: the rest of the name tells them apart. */
static struct bytes short_stream(struct bytes stream, const char *site)
{
    char begin[48];
    size_t length = (size_t)snprintf(begin, sizeof begin, "nemo:{%s}:", site);
    if (length < stream.length && memcmp(stream.data, begin, length) == 0)
        return (struct bytes){stream.data + length, stream.length - length};
    return stream;
}

/* "11-14 22:13" of "2023-11-14 22:13:20" */
static struct bytes short_time(const char *when)
{
    bool is_date = strlen(when) == 19 && when[4] == '-';
    return is_date ? (struct bytes){(const uint8_t *)when + 5, 11} : bytes_of(when);
}

void letters_row_fill(struct letters_row *row, const char *site, const struct letter *letter)
{
    char id[STREAM_ID_TEXT], when[LETTERS_TIME_TEXT], size[LETTERS_NUMBER_TEXT];
    struct letter_entry entry;
    letter_entry(letter, &entry);
    stream_id_format(letter->id, id);
    letters_format_time(letter->id.ms, when);
    set_cell(row, COLUMN_SITE, bytes_of(site));
    set_cell(row, COLUMN_ID, bytes_of(id));
    set_cell(row, COLUMN_WHEN, short_time(when));
    set_cell(row, COLUMN_REASON, letter->reason);
    set_cell(row, COLUMN_STREAM, short_stream(letter->stream, site));
    set_cell(row, COLUMN_ORIGINAL, letter->original);
    set_cell(row, COLUMN_TOPIC, entry.topic);
    set_cell(row, COLUMN_KEY, entry.key);
    set_cell(row, COLUMN_SIZE, bytes_of(letters_format_size(entry.size, size)));
}

/* ---- widths -------------------------------------------------------------------------------- */

void letters_table_measure(struct letters_table *table, const struct letters_row *row)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        if (table->natural[i] < strlen(COLUMNS[i].head))
            table->natural[i] = strlen(COLUMNS[i].head);
        if (table->natural[i] < row->columns[i])
            table->natural[i] = row->columns[i];
    }
}

static size_t total(const struct letters_table *table)
{
    size_t sum = 0;
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if (table->width[i] > 0)
            sum += table->width[i] + GAP;
    return sum > 0 ? sum - GAP : 0;
}

/* The widest column that may shrink; COLUMN_COUNT: none may. */
static size_t widest(const struct letters_table *table)
{
    size_t found = COLUMN_COUNT;
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if (COLUMNS[i].least > 0 && table->width[i] > COLUMNS[i].least &&
            (found == COLUMN_COUNT || table->width[i] > table->width[found]))
            found = i;
    return found;
}

static void shrink(struct letters_table *table, size_t columns)
{
    while (total(table) > columns) {
        size_t column = widest(table);
        if (column == COLUMN_COUNT)
            return;
        table->width[column]--;
    }
}

bool letters_table_fit(struct letters_table *table, size_t columns)
{
    struct letters_table whole = *table, before = *table;
    memcpy(whole.width, whole.natural, sizeof whole.width);
    *table = whole;
    shrink(table, columns);
    for (size_t i = 0; total(table) > columns && i < sizeof LEAST_NEEDED / sizeof *LEAST_NEEDED;
         i++) {
        whole.width[LEAST_NEEDED[i]] = 0;
        *table = whole;
        shrink(table, columns);
    }
    return memcmp(before.width, table->width, sizeof before.width) != 0;
}

/* ---- lines --------------------------------------------------------------------------------- */

static void put_cell(const struct letters_table *table, size_t column, const char *cell,
                     size_t columns, FILE *out)
{
    size_t width = table->width[column];
    int padding = width > columns ? (int)(width - columns) : 0;
    bool is_first = true, is_last = true;
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        is_first = is_first && (i >= column || table->width[i] == 0);
        is_last = is_last && (i <= column || table->width[i] == 0);
    }
    fprintf(out, "%*s", is_first ? 0 : GAP, "");
    if (COLUMNS[column].right)
        fprintf(out, "%*s%s", padding, "", cell);
    else
        fprintf(out, "%s%*s", cell, is_last ? 0 : padding, "");
}

void letters_table_head(const struct letters_table *table, FILE *out)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if (table->width[i] > 0)
            put_cell(table, i, COLUMNS[i].head, strlen(COLUMNS[i].head), out);
    fputc('\n', out);
}

void letters_table_row(const struct letters_table *table, const struct letters_row *row, FILE *out)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        char cut[sizeof row->cell[i]];
        const char *cell = row->cell[i];
        size_t columns = row->columns[i];
        if (table->width[i] == 0)
            continue;
        if (columns > table->width[i] && COLUMNS[i].least > 0) {
            columns = letters_cell(bytes_of(cell), table->width[i], cut);
            cell = cut;
        }
        put_cell(table, i, cell, columns, out);
    }
    fputc('\n', out);
}
