/*
 * What `dead-letters replay` says of its letters: one by one for programs, in sum for people.
 */
#include "core/dead_letters_private.h"

/* So many letters that were not replayed are named. */
#define NOTES_MAX 10u

enum class { CLASS_REPLAYED, CLASS_GONE, CLASS_REFUSED, CLASS_FAILED };

struct outcome {
    enum class class;
    const char *word; /* in the script */
    const char *why;
};

static const struct outcome OUTCOMES[OUTCOME_COUNT] = {
    [OUTCOME_REPLAYED] = {CLASS_REPLAYED, "replayed", NULL},
    [OUTCOME_GONE] = {CLASS_GONE, "gone", "it is not there any more"},
    [OUTCOME_NEWER] = {CLASS_REFUSED, "newer", "a newer entry of the topic exists"},
    [OUTCOME_MAYBE_NEWER] = {CLASS_REFUSED, "maybe-newer",
                             "entries were removed from its stream: a newer one of the topic may "
                             "have been published"},
    [OUTCOME_BUSY] = {CLASS_REFUSED, "busy",
                      "its stream grows too fast to look for a newer entry of the topic"},
    [OUTCOME_NO_STREAM] = {CLASS_REFUSED, "no-stream", "its stream does not exist any more"},
    [OUTCOME_EXPIRED] = {CLASS_REFUSED, "expired", "its time (exp) is over"},
    [OUTCOME_EMPTY] = {CLASS_FAILED, "empty",
                       "its entry had been deleted from the stream before: there are no fields"},
    [OUTCOME_MANY_FIELDS] = {CLASS_FAILED, "many-fields",
                             "it has more than 3,950 fields, too many for a script of Redis"},
    [OUTCOME_FOREIGN] = {CLASS_FAILED, "foreign",
                         "it does not say of which entry of which stream it is"},
    [OUTCOME_WRONG_TYPE] = {CLASS_FAILED, "wrong-type", "its stream is now of another type"},
    [OUTCOME_ERROR] = {CLASS_FAILED, NULL, "Redis refused it"},
    [OUTCOME_LOST] = {CLASS_FAILED, NULL,
                      "the connection was lost: it is not known whether it was replayed"},
};

enum letters_outcome letters_outcome_of(struct bytes word)
{
    for (size_t i = 0; i < OUTCOME_COUNT; i++)
        if (OUTCOMES[i].word != NULL && bytes_equal(word, bytes_of(OUTCOMES[i].word)))
            return (enum letters_outcome)i;
    return OUTCOME_ERROR;
}

static const char *result_word(const struct letters_report *report, enum class class)
{
    switch (class) {
    case CLASS_REPLAYED:
        return report->letters->cli->dry_run ? "would-replay" : "replayed";
    case CLASS_GONE:
        return "gone";
    case CLASS_REFUSED:
        return "refused";
    case CLASS_FAILED:
        return "failed";
    }
    return "";
}

static struct bytes given(const char *text)
{
    return text[0] != '\0' ? bytes_of(text) : (struct bytes){NULL, 0};
}

static void put_object(const struct letters_report *report, const struct letters_replayed *replayed)
{
    const struct outcome *outcome = &OUTCOMES[replayed->outcome];
    struct letters_json json = {.out = report->letters->out};
    char id[STREAM_ID_TEXT];
    stream_id_format(replayed->id, id);
    letters_json_begin(&json);
    letters_json_text(&json, "site", bytes_of(replayed->site));
    letters_json_text(&json, "id", bytes_of(id));
    letters_json_text(&json, "result", bytes_of(result_word(report, outcome->class)));
    letters_json_text(&json, "new_id", given(replayed->new_id));
    letters_json_text(&json, "newer_id", given(replayed->newer_id));
    letters_json_text(&json, "why", given(outcome->why != NULL ? outcome->why : ""));
    letters_json_end(&json);
}

static void put_note(struct letters_report *report, const struct letters_replayed *replayed)
{
    const struct outcome *outcome = &OUTCOMES[replayed->outcome];
    FILE *errors = report->letters->errors;
    char id[STREAM_ID_TEXT];
    if (outcome->class != CLASS_REFUSED && outcome->class != CLASS_FAILED)
        return;
    if (report->notes++ >= NOTES_MAX)
        return;
    stream_id_format(replayed->id, id);
    fprintf(errors, "%s %s of site %s: %s", result_word(report, outcome->class), id, replayed->site,
            outcome->why);
    if (replayed->newer_id[0] != '\0')
        fprintf(errors, " (%s)", replayed->newer_id);
    fputc('\n', errors);
}

void letters_report_add(struct letters_report *report, const struct letters_replayed *replayed)
{
    struct letters *letters = report->letters;
    report->counts[replayed->outcome]++;
    if (letters->on_replayed != NULL)
        letters->on_replayed(letters->on_replayed_context, replayed->id,
                             OUTCOMES[replayed->outcome].why);
    if (report->letters->cli->json)
        put_object(report, replayed);
    else
        put_note(report, replayed);
}

static uint64_t sum_of(const struct letters_report *report, enum class class)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < OUTCOME_COUNT; i++)
        if (OUTCOMES[i].class == class)
            sum += report->counts[i];
    return sum;
}

uint64_t letters_report_refused(const struct letters_report *report)
{
    return sum_of(report, CLASS_REFUSED);
}

uint64_t letters_report_failed(const struct letters_report *report)
{
    return sum_of(report, CLASS_FAILED);
}

/* "3 (a newer entry of the topic exists; --force replays them)"; with their counts where there are
 * several reasons. */
static void put_sum(const struct letters_report *report, enum class class, FILE *out)
{
    char number[LETTERS_NUMBER_TEXT];
    uint64_t sum = sum_of(report, class);
    fputs(letters_format_number(sum, number), out);
    const char *before = " (";
    for (size_t i = 0; i < OUTCOME_COUNT; i++) {
        if (OUTCOMES[i].class != class || report->counts[i] == 0)
            continue;
        fputs(before, out);
        before = "; ";
        if (report->counts[i] < sum)
            fprintf(out, "%s: ", letters_format_number(report->counts[i], number));
        fputs(OUTCOMES[i].why, out);
    }
    if (sum > 0)
        fprintf(out, "%s)",
                class != CLASS_REFUSED ? ""
                : sum == 1             ? "; --force replays it"
                                       : "; --force replays them");
}

void letters_report_sum(const struct letters_report *report, uint64_t not_tried)
{
    const struct letters *letters = report->letters;
    FILE *out = letters->cli->json ? letters->errors : letters->out;
    bool dry_run = letters->cli->dry_run;
    char number[LETTERS_NUMBER_TEXT];
    if (report->notes > NOTES_MAX)
        fprintf(letters->errors, "... and %s more\n",
                letters_format_number(report->notes - NOTES_MAX, number));
    fprintf(out, "%s %s, %s ", dry_run ? "would replay" : "replayed",
            letters_format_number(sum_of(report, CLASS_REPLAYED), number),
            dry_run ? "would refuse" : "refused");
    put_sum(report, CLASS_REFUSED, out);
    fputs(", failed ", out);
    put_sum(report, CLASS_FAILED, out);
    if (sum_of(report, CLASS_GONE) > 0)
        fprintf(out, ", gone meanwhile %s",
                letters_format_number(sum_of(report, CLASS_GONE), number));
    if (not_tried > 0)
        fprintf(out, ", not tried %s", letters_format_number(not_tried, number));
    fputs(letters->stopped ? "; stopped by a signal\n" : "\n", out);
}
