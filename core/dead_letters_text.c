/*
 * How bytes, times and numbers are shown to people. Names, reasons and payloads come from others:
 * nothing of them that steers a terminal reaches it.
 */
#include "core/dead_letters_private.h"

#include "core/utf8.h"

#include <inttypes.h>
#include <time.h>

/* ---- what may be shown --------------------------------------------------------------------- */

/* The length of the printable character that text begins with; 0: it begins with none. */
static size_t printable_first(struct bytes text)
{
    size_t length = utf8_first(text);
    const uint8_t *c = text.data;
    if (length == 1 && (c[0] < 0x20 || c[0] == 0x7f))
        return 0;
    if (length == 2 && c[0] == 0xc2 && c[1] < 0xa0) /* C1 controls, U+0080 to U+009F */
        return 0;
    /* Marks that turn the direction of writing: U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069;
     * and the separators of lines and paragraphs, U+2028 and U+2029. */
    if (length == 3 && c[0] == 0xe2 &&
        ((c[1] == 0x80 && (c[2] == 0x8e || c[2] == 0x8f || (c[2] >= 0xa8 && c[2] <= 0xae))) ||
         (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9)))
        return 0;
    return length;
}

static struct bytes rest_of(struct bytes text, size_t from)
{
    return (struct bytes){text.data + from, text.length - from};
}

bool letters_is_printable(struct bytes text, bool lines)
{
    for (size_t at = 0; at < text.length;) {
        size_t length = printable_first(rest_of(text, at));
        if (length == 0 && lines && (text.data[at] == '\n' || text.data[at] == '\t'))
            length = 1;
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

/* What stands for the beginning of text, at most four bytes and a NUL; *taken: of text. Returns its
 * columns: wide characters count as one. */
static size_t show_first(struct bytes text, char *shown, size_t *taken)
{
    *taken = printable_first(text);
    if (*taken > 0) {
        memcpy(shown, text.data, *taken);
        shown[*taken] = '\0';
        return 1;
    }
    *taken = 1;
    snprintf(shown, 5, "\\x%02x", text.data[0]);
    return 4;
}

size_t letters_cell(struct bytes text, size_t columns, char *cell)
{
    size_t used = 0;
    char *end = cell, *last = cell; /* last: where the ~ would go */
    size_t at = 0;
    while (at < text.length) {
        char shown[5];
        size_t taken, width = show_first(rest_of(text, at), shown, &taken);
        if (used + width > columns)
            break;
        if (used + width < columns)
            last = end + strlen(shown);
        end = stpcpy(end, shown);
        used += width;
        at += taken;
    }
    *end = '\0';
    if (at == text.length || columns == 0)
        return used;
    /* The ~ takes the place of what stood in the last column. */
    end = used < columns ? end : last;
    *end++ = '~';
    *end = '\0';
    size_t result = 0;
    for (const char *c = cell; *c != '\0'; c++)
        result += ((uint8_t)*c & 0xc0) != 0x80;
    return result;
}

void letters_put_printable(struct bytes text, FILE *out)
{
    for (size_t at = 0; at < text.length;) {
        char shown[5];
        size_t taken;
        (void)show_first(rest_of(text, at), shown, &taken);
        fputs(shown, out);
        at += taken;
    }
}

/* ---- blocks -------------------------------------------------------------------------------- */

static void put_lines(struct bytes text, const char *indent, FILE *out)
{
    bool at_begin = true;
    for (size_t i = 0; i < text.length; i++) {
        if (at_begin)
            fputs(indent, out);
        at_begin = text.data[i] == '\n';
        fputc(text.data[i], out);
    }
    if (!at_begin)
        fputc('\n', out);
}

#define DUMP_WIDTH 16

/* "00000010  68 65 6c 6c 6f ...  |hello|" */
static void put_dump(struct bytes value, const char *indent, FILE *out)
{
    for (size_t at = 0; at < value.length; at += DUMP_WIDTH) {
        fprintf(out, "%s%08zx ", indent, at);
        for (size_t i = at; i < at + DUMP_WIDTH; i++)
            if (i < value.length)
                fprintf(out, " %02x", value.data[i]);
            else
                fputs("   ", out);
        fputs("  |", out);
        for (size_t i = at; i < at + DUMP_WIDTH && i < value.length; i++)
            fputc(value.data[i] >= 0x20 && value.data[i] < 0x7f ? value.data[i] : '.', out);
        fputs("|\n", out);
    }
}

void letters_put_block(struct bytes value, const char *indent, FILE *out)
{
    if (letters_is_printable(value, true))
        put_lines(value, indent, out);
    else
        put_dump(value, indent, out);
}

/* ---- numbers and times --------------------------------------------------------------------- */

const char *letters_format_time(uint64_t ms, char *text)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    if (gmtime_r(&seconds, &utc) == NULL || utc.tm_year > 9999 - 1900)
        snprintf(text, LETTERS_TIME_TEXT, "%" PRIu64 " ms", ms);
    else
        strftime(text, LETTERS_TIME_TEXT, "%Y-%m-%d %H:%M:%S", &utc);
    return text;
}

const char *letters_format_number(uint64_t number, char *text)
{
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%" PRIu64, number);
    char *at = text;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return text;
}

const char *letters_format_size(uint64_t bytes, char *text)
{
    static const char units[] = {'K', 'M', 'G', 'T', 'P', 'E'};
    if (bytes < 10000) {
        snprintf(text, LETTERS_NUMBER_TEXT, "%" PRIu64, bytes);
        return text;
    }
    size_t unit = 0;
    uint64_t number = (bytes + 512) / 1024;
    for (; number >= 10000 && unit + 1 < sizeof units; unit++)
        number = (number + 512) / 1024;
    snprintf(text, LETTERS_NUMBER_TEXT, "%" PRIu64 "%c", number, units[unit]);
    return text;
}

/* ---- counts by reason ---------------------------------------------------------------------- */

void letters_tally_add(struct letters_tally *tally, struct bytes reason)
{
    char text[LETTERS_REASON_TEXT];
    tally->sum++;
    (void)letters_cell(reason, LETTERS_REASON_COLUMNS, text);
    if (text[0] == '\0')
        strcpy(text, "without reason");
    for (size_t i = 0; i < tally->rows; i++)
        if (strcmp(tally->row[i].reason, text) == 0) {
            tally->row[i].count++;
            return;
        }
    if (tally->rows == LETTERS_REASONS_MAX) {
        strcpy(tally->row[tally->rows - 1].reason, "others");
        tally->row[tally->rows - 1].count++;
        return;
    }
    memcpy(tally->row[tally->rows].reason, text, sizeof text);
    tally->row[tally->rows++].count = 1;
}

void letters_tally_print(const struct letters_tally *tally, FILE *out)
{
    char number[LETTERS_NUMBER_TEXT];
    for (size_t i = 0; i < tally->rows; i++)
        fprintf(out, "%s%s %s", i > 0 ? ", " : "",
                letters_format_number(tally->row[i].count, number), tally->row[i].reason);
}
