/*
 * The output buffer of a channel: linear, so that one flush is one write of everything. It doubles
 * when a packet needs it and goes back to its first size once that is enough again.
 */
#include "transport/channel_private.h"

#include <stdio.h>
#include <stdlib.h>

size_t channel_pending(const struct channel *channel)
{
    return channel->output.end - channel->output.start;
}

uint64_t channel_written(const struct channel *channel)
{
    return channel->written;
}

uint64_t channel_appended(const struct channel *channel)
{
    return channel->appended;
}

/* NULL, or why there can be no room for this much more. */
static const char *make_output_room(struct channel *channel, size_t length)
{
    struct channel_buffer *output = &channel->output;
    if (output->size - output->end >= length)
        return NULL;
    size_t pending = output->end - output->start;
    if (length > channel->sizes.output_max || pending > channel->sizes.output_max - length)
        return "more output is waiting than may be buffered";
    if (output->start > 0) {
        memmove(output->memory, output->memory + output->start, pending);
        output->start = 0;
        output->end = pending;
    }
    size_t size = output->size;
    while (size - pending < length)
        size = size > channel->sizes.output_max / 2 ? channel->sizes.output_max : size * 2;
    if (size == output->size)
        return NULL;
    uint8_t *memory = realloc(output->memory, size);
    if (memory == NULL)
        return "out of memory for output";
    output->memory = memory;
    output->size = size;
    return NULL;
}

uint8_t *channel_reserve(struct channel *channel, size_t size)
{
    if (channel->state == CHANNEL_CLOSED || channel->state == CHANNEL_ENDED ||
        channel->output_failure != NULL)
        return NULL;
    channel->output_failure = make_output_room(channel, size);
    if (channel->output_failure != NULL)
        return NULL;
    size_t filled = channel_pending(channel) + size;
    if (filled > channel->output_peak)
        channel->output_peak = filled;
    return channel->output.memory + channel->output.end;
}

void channel_commit(struct channel *channel, size_t length)
{
    channel->output.end += length;
    channel->appended += length;
}

void channel_write(struct channel *channel, struct bytes output)
{
    if (output.length == 0)
        return;
    uint8_t *room = channel_reserve(channel, output.length);
    if (room == NULL)
        return;
    memcpy(room, output.data, output.length);
    channel_commit(channel, output.length);
}

/* The buffer is empty. It shrinks when this filling would have fitted without growing, not at once:
 * a steady stream of large flushes would otherwise allocate for each. */
static void reset_output(struct channel *channel)
{
    struct channel_buffer *output = &channel->output;
    output->start = output->end = 0;
    if (output->size > channel->sizes.output && channel->output_peak <= channel->sizes.output) {
        uint8_t *memory = realloc(output->memory, channel->sizes.output);
        if (memory != NULL) {
            output->memory = memory;
            output->size = channel->sizes.output;
        }
    }
    channel->output_peak = 0;
}

/* The peer may have said why it went (a DISCONNECT, an alert), and that may lie unread: so the
 * channel reads on, and ends when nothing more is there. */
static void fail_write(struct channel *channel)
{
    snprintf(channel->reason, sizeof channel->reason, "%s", channel->io->error);
    channel->write_failed = true;
    channel_schedule_turn(channel);
    channel_watch_open(channel);
}

void channel_flush(struct channel *channel)
{
    if (channel->state != CHANNEL_OPEN || channel->write_failed)
        return;
    if (channel->output_failure != NULL) {
        channel_end(channel, "%s (at most %zu bytes)", channel->output_failure,
                    channel->sizes.output_max);
        return;
    }
    struct channel_buffer *output = &channel->output;
    struct io *io = channel->io;
    while (output->end > output->start) {
        size_t put = 0;
        enum status status = io->ops->write(
            io, (struct bytes){output->memory + output->start, output->end - output->start}, &put);
        if (status == STATUS_AGAIN) {
            channel->write_want = io->ops->want(io);
            break;
        }
        if (status != STATUS_OK) {
            fail_write(channel);
            return;
        }
        output->start += put;
        channel->written += put;
    }
    if (output->end == output->start)
        reset_output(channel);
    channel_watch_open(channel);
}
