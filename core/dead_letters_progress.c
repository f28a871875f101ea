/*
 * What a command that takes long says meanwhile, and how it is ended in between.
 */
#include "core/dead_letters_private.h"

#include <event2/event.h>
#include <signal.h>
#include <unistd.h>

#define TERMINAL_PERIOD_S 1
#define PERIOD_S 10
#define WIPE_LINE "\r\033[K"

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct letters_progress *progress = context;
    char text[160];
    progress->format(progress->context, text, sizeof text);
    fprintf(progress->letters->errors, "%s%s%s", progress->terminal ? WIPE_LINE : "", text,
            progress->terminal ? "" : "\n");
    fflush(progress->letters->errors);
    progress->shown = progress->terminal;
}

/* Without the event the signal has its usual effect again. */
static void on_signal(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct letters_progress *progress = context;
    progress->letters->stopped = true;
    event_del(progress->interrupt);
    event_del(progress->terminate);
}

bool letters_progress_open(struct letters_progress *progress, struct letters *letters,
                           void (*format)(void *context, char *text, size_t size), void *context)
{
    struct event_base *base = letters->redis.net.base;
    if (letters->quiet) {
        *progress = (struct letters_progress){.letters = letters};
        return true;
    }
    *progress = (struct letters_progress){
        .letters = letters,
        .format = format,
        .context = context,
        .timer = event_new(base, -1, EV_PERSIST, on_timer, progress),
        .interrupt = evsignal_new(base, SIGINT, on_signal, progress),
        .terminate = evsignal_new(base, SIGTERM, on_signal, progress),
        .terminal = isatty(fileno(letters->errors)) == 1,
    };
    struct timeval period = {.tv_sec = progress->terminal ? TERMINAL_PERIOD_S : PERIOD_S};
    if (progress->timer != NULL && progress->interrupt != NULL && progress->terminate != NULL &&
        event_add(progress->timer, &period) == 0 && event_add(progress->interrupt, NULL) == 0 &&
        event_add(progress->terminate, NULL) == 0)
        return true;
    letters_redis_fail(&letters->redis, "memory is short");
    return false;
}

void letters_progress_wipe(struct letters_progress *progress)
{
    if (progress->shown)
        fputs(WIPE_LINE, progress->letters->errors);
    progress->shown = false;
}

void letters_progress_close(struct letters_progress *progress)
{
    letters_progress_wipe(progress);
    if (progress->timer != NULL)
        event_free(progress->timer);
    if (progress->interrupt != NULL)
        event_free(progress->interrupt);
    if (progress->terminate != NULL)
        event_free(progress->terminate);
    progress->timer = progress->interrupt = progress->terminate = NULL;
}
