/*
 * The command as a whole: its options looked at, Redis connected, sites found, and in the end what
 * could not be done.
 */
#include "core/dead_letters_private.h"

#include "codec/stream_entry.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* ---- options ------------------------------------------------------------------------------- */

static int compare_wanted(const void *a, const void *b)
{
    return stream_id_compare(((const struct letters_wanted *)a)->id,
                             ((const struct letters_wanted *)b)->id);
}

static bool read_ids(struct letters *letters)
{
    const struct cli_texts *ids = &letters->cli->ids;
    size_t kept = 0;
    for (size_t i = 0; i < ids->count; i++) {
        struct letters_wanted *wanted = &letters->wanted[i];
        wanted->site = LETTERS_NO_SITE;
        if (stream_id_parse(bytes_of(ids->item[i]), &wanted->id) != STATUS_OK) {
            fprintf(letters->errors,
                    "nemogate: --id needs an id such as 1700000000000-0, not '%s'\n", ids->item[i]);
            return false;
        }
    }
    qsort(letters->wanted, ids->count, sizeof *letters->wanted, compare_wanted);
    for (size_t i = 0; i < ids->count; i++)
        if (kept == 0 || compare_wanted(&letters->wanted[kept - 1], &letters->wanted[i]) != 0)
            letters->wanted[kept++] = letters->wanted[i];
    letters->wanted_count = kept;
    return true;
}

bool letters_read_options(struct letters *letters)
{
    const struct cli *cli = letters->cli;
    struct timespec now;
    for (size_t i = 0; i < cli->sites.count; i++)
        if (!site_id_valid(bytes_of(cli->sites.item[i]))) {
            fprintf(letters->errors,
                    "nemogate: --site needs the id of a site ([a-z0-9][a-z0-9-]{0,31}), not '%s'\n",
                    cli->sites.item[i]);
            return false;
        }
    if (cli->since_ms > 0) {
        clock_gettime(CLOCK_REALTIME, &now);
        uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
        letters->since.ms = now_ms > cli->since_ms ? now_ms - cli->since_ms : 0;
    }
    return read_ids(letters);
}

/* ---- the command --------------------------------------------------------------------------- */

static bool carry_out(struct letters *letters)
{
    static const struct {
        enum cli_command command;
        bool (*carry_out)(struct letters *letters);
    } commands[] = {{CLI_DEAD_LETTERS_LIST, letters_list},
                    {CLI_DEAD_LETTERS_SHOW, letters_show},
                    {CLI_DEAD_LETTERS_REPLAY, letters_replay},
                    {CLI_DEAD_LETTERS_DROP, letters_drop}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (commands[i].command == letters->cli->command)
            return commands[i].carry_out(letters);
    return false;
}

/* Of a reader that has had enough (`| head`) there is nothing to say. */
static void end_output(struct letters *letters)
{
    errno = 0;
    if (fflush(letters->out) == 0 && !ferror(letters->out))
        return;
    letters->incomplete = true;
    if (errno != EPIPE && errno != 0)
        fprintf(letters->errors, "nemogate: the output cannot be written: %s\n", strerror(errno));
}

int dead_letters_run(const struct config *config, const struct cli *cli, FILE *out, FILE *errors)
{
    struct letters letters = {.config = config, .cli = cli, .out = out, .errors = errors};
    signal(SIGPIPE, SIG_IGN);
    if (!letters_read_options(&letters))
        return CLI_EXIT_USAGE;
    bool ok = letters_redis_open(&letters.redis, config) && letters_find_sites(&letters) &&
              carry_out(&letters);
    end_output(&letters);
    if (!ok) {
        fputs("nemogate: ", errors);
        letters_put_printable(bytes_of(letters.redis.error), errors);
        fputc('\n', errors);
    }
    letters_free_sites(&letters);
    letters_redis_close(&letters.redis);
    return ok && !letters.incomplete ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}
