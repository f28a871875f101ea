/*
 * A shard: a thread with its own event loop that runs some of the instance's slots. Shards share
 * nothing; the only way in is the mailbox.
 */
#ifndef NEMOGATE_CORE_SHARD_H
#define NEMOGATE_CORE_SHARD_H

#include "core/config.h"
#include "core/log.h"
#include "core/mailbox.h"
#include "core/slot.h"

struct shard;

/* All borrowed for the shard's life. */
struct shard_setting {
    const struct config *config;
    const struct log *log;
    unsigned index;
    const char *tag;
    const char *holder;
    struct mailbox *to_main;
};

/* Makes the shard and loads its TLS files; the thread does not run yet. Owned by the caller. NULL:
 * error (IO_ERROR_TEXT bytes) says why. Main thread. */
struct shard *shard_new(const struct shard_setting *setting, char *error);
/* Starts the thread. false: the system refuses one. Main thread, as are the two below. */
bool shard_start(struct shard *shard);
/* Any thread, from shard_new on: true when the message was posted. */
bool shard_post(struct shard *shard, enum mail_kind kind, unsigned slot, uint64_t count,
                const char *text);
/* Waits for the thread, which must have been sent MAIL_STOP, adds what it counted, and frees the
 * shard. */
void shard_join(struct shard *shard, struct slot_counts *sum);

#endif
