/*
 * A command of the configuration, run by the shell, and what it prints: read without blocking the
 * loop, within bounds of time and size. Its standard error is thrown away, for the plugins write
 * secrets there. On the loop's thread.
 */
#ifndef NEMOGATE_CORE_LEGACY_COMMAND_H
#define NEMOGATE_CORE_LEGACY_COMMAND_H

#include "codec/bytes.h"

struct legacy_command;
struct event_base;

/* fault NULL: output is all that it printed, a view for the call; it has ended with 0. Called once,
 * from the loop; the command may be freed in it. */
typedef void legacy_command_fn(void *context, const char *fault, struct bytes output);

/* Owned by the caller; NULL: the system refuses a process. */
struct legacy_command *legacy_command_start(struct event_base *base, const char *text,
                                            legacy_command_fn *on_done, void *context);
/* One that still runs is killed. NULL does nothing. */
void legacy_command_free(struct legacy_command *command);

#endif
