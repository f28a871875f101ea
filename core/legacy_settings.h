/*
 * legacy_config_command: the values of the plugin's configuration page in place of those of the
 * file, at the start; and whether they have changed since, when the page was saved. They are put
 * into the broker and the route of the first of legacy_lists. What they are is never logged.
 */
#ifndef NEMOGATE_CORE_LEGACY_SETTINGS_H
#define NEMOGATE_CORE_LEGACY_SETTINGS_H

#include "codec/status.h"
#include "core/config.h"
#include "core/log.h"

struct legacy_settings;
struct event_base;

/* Runs the command, waits for it, and puts its values into the configuration, before anyone borrows
 * it; does nothing where there is no command. false: what is wrong has been logged: to go on
 * without them might mean another broker, or unsigned messages. */
MUST_CHECK bool legacy_settings_apply(struct config *config, const struct log *log);

/* on_change: the command was run anew, and prints other values than those of the configuration.
 * Borrows all. Owned by the caller; NULL: memory is short. */
struct legacy_settings *legacy_settings_new(const struct config *config, const struct log *log,
                                            struct event_base *base,
                                            void (*on_change)(void *context), void *context);
void legacy_settings_free(struct legacy_settings *settings);
/* The page was saved: runs the command, where there is one. Bad output has no effect but a line of
 * the log. */
void legacy_settings_look(struct legacy_settings *settings);

#endif
