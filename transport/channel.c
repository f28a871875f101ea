/*
 * A channel's states and its turns on the event loop: opening, reading, writing, ending. The way to
 * a connected socket is in channel_connect.c, the output buffer in channel_output.c.
 *
 * Callbacks of the owner are called only from the loop's events here (on_socket, on_turn, and
 * channel_poll), never from what the owner calls. Each may close the channel, and open it again:
 * whoever called a callback compares the generation before going on.
 */
#include "transport/channel_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one wake-up may read before the loop serves the others. */
#define READ_BUDGET ((size_t)65536)

#define TO(state) (1u << (state))

void channel_set_state(struct channel *channel, enum channel_state state)
{
    static const unsigned may_follow[] = {
        [CHANNEL_CLOSED] = TO(CHANNEL_STARTING) | TO(CHANNEL_HANDSHAKE),
        [CHANNEL_STARTING] =
            TO(CHANNEL_RESOLVING) | TO(CHANNEL_CONNECTING) | TO(CHANNEL_ENDED) | TO(CHANNEL_CLOSED),
        [CHANNEL_RESOLVING] = TO(CHANNEL_CONNECTING) | TO(CHANNEL_ENDED) | TO(CHANNEL_CLOSED),
        [CHANNEL_CONNECTING] = TO(CHANNEL_HANDSHAKE) | TO(CHANNEL_ENDED) | TO(CHANNEL_CLOSED),
        [CHANNEL_HANDSHAKE] =
            TO(CHANNEL_OPEN) | TO(CHANNEL_STARTING) | TO(CHANNEL_ENDED) | TO(CHANNEL_CLOSED),
        [CHANNEL_OPEN] = TO(CHANNEL_ENDED) | TO(CHANNEL_CLOSED),
        [CHANNEL_ENDED] = TO(CHANNEL_CLOSED),
    };
    assert((may_follow[channel->state] & TO(state)) != 0);
    (void)may_follow;
    channel->state = state;
}

static void watch_one(struct event *event, bool wanted, bool watched)
{
    if (wanted && !watched)
        event_add(event, NULL);
    else if (!wanted && watched)
        event_del(event);
}

void channel_watch(struct channel *channel, unsigned want)
{
    watch_one(channel->readable, want & IO_WANT_READ, channel->watched & IO_WANT_READ);
    watch_one(channel->writable, want & IO_WANT_WRITE, channel->watched & IO_WANT_WRITE);
    channel->watched = want;
}

/* What an open stream waits for: reading, and writing while there is output, each with the
 * direction of the socket that TLS wants for it. */
void channel_watch_open(struct channel *channel)
{
    unsigned want = channel->read_want;
    if (channel_pending(channel) > 0 && !channel->write_failed)
        want |= channel->write_want;
    channel_watch(channel, want);
}

void channel_set_deadline(struct channel *channel, uint64_t ms)
{
    const struct timeval wait = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
    event_add(channel->deadline, &wait);
}

/* Zero seconds, not event_active: that would run in this very turn, before the sockets of the
 * others are looked at. */
void channel_schedule_turn(struct channel *channel)
{
    const struct timeval none = {0, 0};
    event_add(channel->turn, &none);
}

/* Lets go of everything that belongs to the connection at hand. The io and the buffers stay. */
static void drop_connection(struct channel *channel)
{
    channel->generation++;
    channel_connect_forget(channel);
    channel_watch(channel, 0);
    event_del(channel->turn);
    event_del(channel->deadline);
    if (channel->state == CHANNEL_HANDSHAKE || channel->state == CHANNEL_OPEN)
        channel->io->ops->close(channel->io);
    if (channel->fd >= 0)
        (void)close(channel->fd);
    channel->fd = -1;
}

void channel_end_noted(struct channel *channel)
{
    drop_connection(channel);
    channel_set_state(channel, CHANNEL_ENDED);
    channel_schedule_turn(channel);
}

void channel_end(struct channel *channel, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(channel->reason, sizeof channel->reason, format, arguments);
    va_end(arguments);
    channel_end_noted(channel);
}

/* ---- opening ------------------------------------------------------------------------------- */

static void on_readable(evutil_socket_t fd, short what, void *argument);
static void on_writable(evutil_socket_t fd, short what, void *argument);

void channel_use_socket(struct channel *channel, int fd)
{
    channel->fd = fd;
    channel->low_water = 1;
    event_assign(channel->readable, channel->net->base, fd, EV_READ | EV_PERSIST, on_readable,
                 channel);
    event_assign(channel->writable, channel->net->base, fd, EV_WRITE | EV_PERSIST, on_writable,
                 channel);
}

static void connect_again(struct channel *channel)
{
    drop_connection(channel);
    channel_set_state(channel, CHANNEL_STARTING);
    channel_schedule_turn(channel);
}

/* One step of the io's opening. */
static void handshake(struct channel *channel)
{
    struct io *io = channel->io;
    char text[ENDPOINT_TEXT];
    enum status status = io->ops->open(io, channel->fd);
    if (status == STATUS_FAILED && io->reopen) {
        connect_again(channel);
        return;
    }
    switch (status) {
    case STATUS_OK:
        break;
    case STATUS_AGAIN:
        channel_watch(channel, io->ops->want(io));
        return;
    case STATUS_CLOSED:
        channel_end(channel, "TLS handshake with %s: the peer closed the connection",
                    endpoint_format(channel->endpoint, text));
        return;
    case STATUS_FAILED:
    case STATUS_MALFORMED:
    case STATUS_TOO_LARGE:
        channel_end(channel, "TLS handshake with %s: %s", endpoint_format(channel->endpoint, text),
                    io->error);
        return;
    }
    event_del(channel->deadline);
    channel_set_state(channel, CHANNEL_OPEN);
    uint64_t generation = channel->generation;
    channel->events->on_open(channel->context);
    if (channel->generation != generation)
        return;
    /* What came right behind the handshake may lie in the io already, where no socket event tells
     * of it; and output may have been appended while the channel was opening. */
    channel_schedule_turn(channel);
    channel_flush(channel);
}

/* From the event loop only: on_open may follow at once. */
void channel_connected(struct channel *channel)
{
    channel_watch(channel, 0);
    channel_set_state(channel, CHANNEL_HANDSHAKE);
    uint64_t now = net_now_ms();
    channel_set_deadline(channel, channel->deadline_ms > now ? channel->deadline_ms - now : 1);
    handshake(channel);
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct channel *channel = argument;
    char text[ENDPOINT_TEXT];
    if (channel->state == CHANNEL_HANDSHAKE)
        channel_end(channel, "timed out after %u ms during the TLS handshake with %s",
                    channel->timeout_ms, endpoint_format(channel->endpoint, text));
    else
        channel_connect_timeout(channel);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Moves what is left to the front when the room behind it gets short. */
static size_t make_input_room(struct channel_buffer *input)
{
    if (input->size - input->end < input->size / 2 && input->start > 0) {
        memmove(input->memory, input->memory + input->start, input->end - input->start);
        input->end -= input->start;
        input->start = 0;
    }
    return input->size - input->end;
}

/* Reads until nothing is there, the buffer is full or the budget is used (both: STATUS_OK). */
static enum status fill_input(struct channel *channel, size_t *budget)
{
    struct channel_buffer *input = &channel->input;
    size_t room = make_input_room(input);
    while (room > 0 && *budget > 0) {
        size_t got = 0;
        enum status status = channel->io->ops->read(channel->io, input->memory + input->end,
                                                    room < *budget ? room : *budget, &got);
        if (status != STATUS_OK)
            return status;
        input->end += got;
        room -= got;
        *budget -= got;
    }
    return STATUS_OK;
}

/* false: the callback has ended the connection. */
static bool deliver_input(struct channel *channel)
{
    struct channel_buffer *input = &channel->input;
    uint64_t generation = channel->generation;
    size_t consumed = channel->events->on_data(
        channel->context, (struct bytes){input->memory + input->start, input->end - input->start});
    if (channel->generation != generation)
        return false;
    assert(consumed <= input->end - input->start);
    input->start += consumed;
    if (input->start == input->end)
        input->start = input->end = 0;
    return true;
}

static void end_of_input(struct channel *channel, enum status status)
{
    if (status == STATUS_CLOSED)
        channel_end(channel, "the peer closed the connection");
    else
        channel_end(channel, "%s", channel->io->error);
}

static void read_turn(struct channel *channel)
{
    struct channel_buffer *input = &channel->input;
    size_t budget = READ_BUDGET;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && budget > 0) {
        size_t before = input->end - input->start;
        status = fill_input(channel, &budget);
        size_t filled = input->end - input->start;
        if (filled > before && !deliver_input(channel))
            return;
        if (filled == input->size && input->start == 0 && input->end == input->size) {
            channel_end(channel,
                        "a message of the peer does not fit in the input buffer of %zu "
                        "bytes",
                        input->size);
            return;
        }
    }
    if (status != STATUS_OK && status != STATUS_AGAIN) {
        end_of_input(channel, status);
        return;
    }
    if (channel->write_failed && status == STATUS_AGAIN) {
        channel_end_noted(channel);
        return;
    }
    if (status == STATUS_AGAIN)
        channel->read_want = channel->io->ops->want(channel->io);
    else
        channel_schedule_turn(channel); /* the io may hold bytes that the socket does not show */
    channel_watch_open(channel);
}

void channel_poll(struct channel *channel)
{
    if (channel->state == CHANNEL_OPEN)
        read_turn(channel);
}

/* ---- events of the loop -------------------------------------------------------------------- */

static void on_socket(struct channel *channel, unsigned event)
{
    if (channel->state == CHANNEL_CONNECTING) {
        channel_connect_answered(channel);
        return;
    }
    if (channel->state == CHANNEL_HANDSHAKE) {
        handshake(channel);
        return;
    }
    if (channel_pending(channel) > 0 && (channel->write_want & event) != 0)
        channel_flush(channel);
    if (channel->state == CHANNEL_OPEN && (channel->read_want & event) != 0)
        read_turn(channel);
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    on_socket(argument, IO_WANT_READ);
}

static void on_writable(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    on_socket(argument, IO_WANT_WRITE);
}

static void on_turn(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct channel *channel = argument;
    switch (channel->state) {
    case CHANNEL_STARTING:
        channel_connect(channel);
        break;
    case CHANNEL_HANDSHAKE:
        handshake(channel);
        break;
    case CHANNEL_OPEN:
        read_turn(channel);
        break;
    case CHANNEL_ENDED:
        channel_set_state(channel, CHANNEL_CLOSED);
        channel->events->on_closed(channel->context, channel->reason);
        break;
    case CHANNEL_CLOSED:
    case CHANNEL_RESOLVING:
    case CHANNEL_CONNECTING:
        break;
    }
}

/* ---- what the owner calls ------------------------------------------------------------------ */

struct channel *channel_new(const struct net *net, const struct endpoint *endpoint,
                            const struct channel_events *events, void *context,
                            struct channel_sizes sizes)
{
    struct channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL)
        return NULL;
    channel->net = net;
    channel->endpoint = endpoint;
    channel->events = events;
    channel->context = context;
    channel->sizes = sizes;
    channel->fd = -1;
    channel->io = endpoint->tls != NULL ? io_tls_new(endpoint->tls) : io_tcp_new();
    channel->readable = event_new(net->base, -1, EV_READ, on_readable, channel);
    channel->writable = event_new(net->base, -1, EV_WRITE, on_writable, channel);
    channel->turn = evtimer_new(net->base, on_turn, channel);
    channel->deadline = evtimer_new(net->base, on_deadline, channel);
    channel->input = (struct channel_buffer){malloc(sizes.input), sizes.input, 0, 0};
    channel->output = (struct channel_buffer){malloc(sizes.output), sizes.output, 0, 0};
    if (channel->io == NULL || channel->readable == NULL || channel->writable == NULL ||
        channel->turn == NULL || channel->deadline == NULL || channel->input.memory == NULL ||
        channel->output.memory == NULL) {
        channel_free(channel);
        return NULL;
    }
    return channel;
}

static void free_event(struct event *event)
{
    if (event != NULL)
        event_free(event);
}

void channel_free(struct channel *channel)
{
    if (channel == NULL)
        return;
    channel_close(channel);
    free_event(channel->readable);
    free_event(channel->writable);
    free_event(channel->turn);
    free_event(channel->deadline);
    if (channel->io != NULL)
        channel->io->ops->free(channel->io);
    free(channel->input.memory);
    free(channel->output.memory);
    free(channel);
}

/* Everything of an earlier connection is forgotten. */
static void begin(struct channel *channel, uint32_t timeout_ms)
{
    assert(channel->state == CHANNEL_CLOSED);
    channel->input.start = channel->input.end = 0;
    channel->output.start = channel->output.end = 0;
    channel->output_failure = NULL;
    channel->write_failed = false;
    channel->written = 0;
    channel->appended = 0;
    channel->read_want = IO_WANT_READ;
    channel->write_want = IO_WANT_WRITE;
    channel->timeout_ms = timeout_ms;
    channel->io->error[0] = '\0';
    channel_schedule_turn(channel);
}

void channel_open(struct channel *channel, uint32_t timeout_ms)
{
    begin(channel, timeout_ms);
    channel_set_state(channel, CHANNEL_STARTING);
}

void channel_accept(struct channel *channel, int fd, uint32_t timeout_ms)
{
    begin(channel, timeout_ms);
    channel_use_socket(channel, fd);
    channel_set_state(channel, CHANNEL_HANDSHAKE);
    channel_set_deadline(channel, timeout_ms);
}

void channel_open_socket(struct channel *channel, int fd, struct io *io, uint32_t timeout_ms)
{
    channel->io->ops->free(channel->io);
    channel->io = io;
    channel_accept(channel, fd, timeout_ms);
}

void channel_close(struct channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return;
    drop_connection(channel);
    channel_set_state(channel, CHANNEL_CLOSED);
}

bool channel_is_open(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN;
}

void channel_set_low_water(struct channel *channel, int bytes)
{
    if (channel->state != CHANNEL_OPEN || channel->low_water == bytes)
        return;
    /* Where the kernel refuses, the loop wakes more often; nothing else changes. */
    (void)setsockopt(channel->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
    channel->low_water = bytes;
}

const char *channel_describe(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN ? io_tls_describe(channel->io) : "";
}

uint64_t channel_certificate_end(const struct channel *channel)
{
    return io_tls_certificate_end(channel->io);
}
