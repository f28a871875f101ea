/*
 * The running gateway: the main thread. It connects to Redis, finds the streams, starts the shards,
 * and drains them when a signal says so. It carries no entry itself.
 */
#ifndef NEMOGATE_CORE_ENGINE_H
#define NEMOGATE_CORE_ENGINE_H

#include "core/config.h"
#include "core/log.h"
#include "core/reload.h"

/* No exit code: drained, and the program is to be started anew in its place. */
#define ENGINE_RESTART (-1)

/* In the environment of a program that is started anew: who it was. */
#define ENGINE_HOLDER_VARIABLE "NEMOGATE_HOLDER"

/* Runs until SIGTERM or SIGINT. Returns the exit code of the process: 0 drained, 1 could not run;
 * or ENGINE_RESTART. state: what reload_before has returned; the file is watched, and read again on
 * SIGHUP. All are borrowed. */
int engine_run(const struct config *config, struct reload_state *state, const struct log *log);

#endif
