/*
 * The process has a group of its own, so that what it has started ends with it. Its output ends
 * when it is closed; then the exit code is waited for, in small steps of the same loop.
 */
#include "core/legacy_command.h"

#include "core/legacy_values.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP_MS 10
#define STEPS_MAX 6000u /* a minute: dumpdata starts all of NEMO */

struct legacy_command {
    legacy_command_fn *on_done;
    void *context;
    pid_t pid; /* 0: it has been waited for */
    int fd;    /* -1: all has been read */
    struct event *readable;
    struct event *step;
    unsigned steps;
    size_t length;
    uint8_t output[LEGACY_OUTPUT_MAX + 1];
};

extern char **environ;

/* What is said to the service manager, or to the program that begins anew in this process, is
 * nobody else's business. Owned by the caller, as an array of views; NULL: memory is short. */
static char **copy_environment(void)
{
    static const char *const own[] = {
        "NOTIFY_SOCKET=",   "WATCHDOG_USEC=",         "WATCHDOG_PID=",
        "NEMOGATE_HOLDER=", "NEMOGATE_ADMIN_SOCKET=", "NEMOGATE_SITES="};
    size_t count = 0, copied = 0;
    while (environ[count] != NULL)
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy != NULL && i < count; i++) {
        bool is_own = false;
        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
            is_own = is_own || strncmp(environ[i], own[k], strlen(own[k])) == 0;
        if (!is_own)
            copy[copied++] = environ[i];
    }
    return copy;
}

static bool spawn(struct legacy_command *command, const char *text, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    char *arguments[] = {"sh", "-c", (char *)(uintptr_t)text, NULL};
    char **environment = copy_environment();
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    bool able =
        environment != NULL &&
        posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
        posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO) == 0 &&
        posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF) == 0 &&
        posix_spawnattr_setsigmask(&attributes, &none) == 0 &&
        posix_spawnattr_setsigdefault(&attributes, &all) == 0 &&
        posix_spawn(&command->pid, "/bin/sh", &files, &attributes, arguments, environment) == 0;
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    free(environment);
    return able;
}

static void finish(struct legacy_command *command, const char *fault)
{
    event_del(command->readable);
    event_del(command->step);
    command->on_done(command->context, fault,
                     (struct bytes){command->output, fault == NULL ? command->length : 0});
}

static void on_readable(int fd, short what, void *context)
{
    (void)what;
    struct legacy_command *command = context;
    ssize_t got =
        read(fd, command->output + command->length, sizeof command->output - command->length);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        command->length += (size_t)got;
        if (command->length > LEGACY_OUTPUT_MAX)
            finish(command, "it prints more than 64 KiB");
        return;
    }
    event_del(command->readable);
    close(command->fd);
    command->fd = -1;
}

static void on_step(int fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct legacy_command *command = context;
    int status = 0;
    if (++command->steps > STEPS_MAX) {
        finish(command, "it has not ended within a minute");
        return;
    }
    event_add(command->step, &(struct timeval){.tv_usec = STEP_MS * 1000});
    if (command->fd >= 0 || waitpid(command->pid, &status, WNOHANG) == 0)
        return;
    command->pid = 0;
    finish(command, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? NULL : "it has failed");
}

struct legacy_command *legacy_command_start(struct event_base *base, const char *text,
                                            legacy_command_fn *on_done, void *context)
{
    struct legacy_command *command = calloc(1, sizeof *command);
    int ends[2] = {-1, -1};
    if (command == NULL)
        return NULL;
    command->on_done = on_done;
    command->context = context;
    command->fd = -1;
    bool able = pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
    command->fd = ends[0];
    if (able) {
        command->readable = event_new(base, ends[0], EV_READ | EV_PERSIST, on_readable, command);
        command->step = event_new(base, -1, 0, on_step, command);
        able = command->readable != NULL && command->step != NULL &&
               event_add(command->readable, NULL) == 0 &&
               event_add(command->step, &(struct timeval){.tv_usec = STEP_MS * 1000}) == 0 &&
               spawn(command, text, ends[1]);
    }
    if (ends[1] >= 0)
        close(ends[1]);
    if (able)
        return command;
    command->pid = 0;
    legacy_command_free(command);
    return NULL;
}

void legacy_command_free(struct legacy_command *command)
{
    if (command == NULL)
        return;
    if (command->readable != NULL)
        event_free(command->readable);
    if (command->step != NULL)
        event_free(command->step);
    if (command->fd >= 0)
        close(command->fd);
    if (command->pid > 0) {
        kill(-command->pid, SIGKILL);
        waitpid(command->pid, NULL, 0);
    }
    explicit_bzero(command->output, sizeof command->output);
    free(command);
}
