/*
 * The other side of transport/ for tests in memory: events in a list, a clock that moves when it is
 * told to, and one channel whose peer is the test.
 */
#include "tests/fuzz/memory_net.h"

#include "tests/fuzz/fuzz_input.h"

#include <event2/event.h>
#include <stdio.h>

#define START_US UINT64_C(1000000000) /* 0 means "never" in many places */
#define MOST_RUNS 100000              /* events of one step: more is a loop without end */

struct event {
    struct event *next;
    event_callback_fn callback;
    void *argument;
    bool pending;
    uint64_t due_us;
    uint64_t order; /* among those of the same time: as they were added */
};

struct event_base {
    struct event *first;
    uint64_t now_us;
    uint64_t order;
};

static struct event_base base;

/* ---- the loop ------------------------------------------------------------------------------ */

uint64_t net_now_us(void)
{
    return base.now_us;
}

uint64_t net_now_ms(void)
{
    return base.now_us / 1000;
}

struct event *event_new(struct event_base *of, evutil_socket_t fd, short what,
                        event_callback_fn callback, void *argument)
{
    (void)what;
    require(of == &base && fd == -1);
    struct event *event = calloc(1, sizeof *event);
    require(event != NULL);
    event->callback = callback;
    event->argument = argument;
    event->next = base.first;
    base.first = event;
    return event;
}

void event_free(struct event *event)
{
    struct event **link = &base.first;
    while (*link != event)
        link = &(*link)->next;
    *link = event->next;
    free(event);
}

int event_add(struct event *event, const struct timeval *wait)
{
    event->pending = true;
    event->due_us = base.now_us + (uint64_t)wait->tv_sec * 1000000 + (uint64_t)wait->tv_usec;
    event->order = base.order++;
    return 0;
}

int event_del(struct event *event)
{
    event->pending = false;
    return 0;
}

void event_active(struct event *event, int what, short calls)
{
    (void)what;
    (void)calls;
    event_add(event, &(struct timeval){0, 0});
}

static struct event *next_due(uint64_t until_us)
{
    struct event *best = NULL;
    for (struct event *event = base.first; event != NULL; event = event->next)
        if (event->pending && event->due_us <= until_us &&
            (best == NULL || event->due_us < best->due_us ||
             (event->due_us == best->due_us && event->order < best->order)))
            best = event;
    return best;
}

void memory_net_run(uint64_t ms)
{
    uint64_t until_us = base.now_us + ms * 1000;
    struct event *event;
    for (int runs = 0; (event = next_due(until_us)) != NULL; runs++) {
        require(runs < MOST_RUNS);
        if (event->due_us > base.now_us)
            base.now_us = event->due_us;
        event->pending = false;
        event->callback(-1, EV_TIMEOUT, event->argument);
    }
    base.now_us = until_us;
}

/* ---- the channel --------------------------------------------------------------------------- */

struct buffer {
    uint8_t *memory;
    size_t length;
    size_t size;
};

struct channel {
    const struct channel_events *events;
    void *context;
    struct channel_sizes sizes;
    enum { CLOSED, OPENING, OPEN, ENDED } state;
    uint64_t generation;
    struct event *turn;
    char reason[100];
    struct buffer input;  /* what was sent and not consumed */
    struct buffer output; /* what was appended and has not left */
    uint8_t *reserved;    /* what channel_reserve has lent last */
    uint64_t written, appended;
};

static struct {
    struct channel *channel; /* opened last */
    struct buffer taken;     /* what has left the channel */
    struct buffer given;     /* what memory_peer_take has handed out */
    bool refuse;
    size_t throttle;
    unsigned generation;
} peer;

static void append(struct buffer *buffer, struct bytes data)
{
    if (buffer->size - buffer->length < data.length) {
        buffer->size = 2 * (buffer->length + data.length);
        buffer->memory = realloc(buffer->memory, buffer->size);
        require(buffer->memory != NULL);
    }
    if (data.length > 0)
        memcpy(buffer->memory + buffer->length, data.data, data.length);
    buffer->length += data.length;
}

static void drop_front(struct buffer *buffer, size_t length)
{
    if (length > 0)
        memmove(buffer->memory, buffer->memory + length, buffer->length - length);
    buffer->length -= length;
}

static void end(struct channel *channel, const char *reason)
{
    snprintf(channel->reason, sizeof channel->reason, "%s", reason);
    channel->generation++;
    channel->state = ENDED;
    event_add(channel->turn, &(struct timeval){0, 0});
}

/* Gives all that is there, from memory of its exact size, until nothing of it is consumed. */
static void deliver(struct channel *channel)
{
    uint64_t generation = channel->generation;
    while (channel->state == OPEN && channel->input.length > 0) {
        uint8_t *copy = exact_copy((struct bytes){channel->input.memory, channel->input.length});
        size_t used =
            channel->events->on_data(channel->context, (struct bytes){copy, channel->input.length});
        free(copy);
        if (generation != channel->generation)
            return;
        require(used <= channel->input.length);
        if (used == 0 && channel->input.length == channel->sizes.input)
            end(channel, "a message of the peer does not fit in the input buffer");
        if (used == 0)
            return;
        drop_front(&channel->input, used);
    }
}

static void on_turn(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct channel *channel = argument;
    if (channel->state == ENDED) {
        channel->state = CLOSED;
        channel->events->on_closed(channel->context, channel->reason);
    } else if (channel->state == OPENING && peer.refuse) {
        end(channel, "connect: Connection refused");
    } else if (channel->state == OPENING) {
        uint64_t generation = channel->generation;
        channel->state = OPEN;
        peer.channel = channel;
        peer.taken.length = 0;
        peer.generation++;
        channel->events->on_open(channel->context);
        if (generation == channel->generation)
            channel_flush(channel);
    }
}

struct channel *channel_new(const struct net *net, const struct endpoint *endpoint,
                            const struct channel_events *events, void *context,
                            struct channel_sizes sizes)
{
    require(endpoint->tls == NULL);
    struct channel *channel = calloc(1, sizeof *channel);
    require(channel != NULL);
    channel->events = events;
    channel->context = context;
    channel->sizes = sizes;
    channel->turn = event_new(net->base, -1, 0, on_turn, channel);
    return channel;
}

void channel_free(struct channel *channel)
{
    if (peer.channel == channel)
        peer.channel = NULL;
    event_free(channel->turn);
    free(channel->input.memory);
    free(channel->output.memory);
    free(channel->reserved);
    free(channel);
}

void channel_open(struct channel *channel, uint32_t timeout_ms)
{
    require(channel->state == CLOSED && timeout_ms > 0);
    channel->input.length = channel->output.length = 0;
    channel->written = channel->appended = 0;
    channel->state = OPENING;
    event_add(channel->turn, &(struct timeval){0, 0});
}

void channel_close(struct channel *channel)
{
    if (channel->state == CLOSED)
        return;
    channel->generation++;
    channel->state = CLOSED;
    event_del(channel->turn);
}

bool channel_is_open(const struct channel *channel)
{
    return channel->state == OPEN;
}

void channel_write(struct channel *channel, struct bytes output)
{
    if (channel->state == CLOSED || channel->state == ENDED)
        return;
    append(&channel->output, output);
    channel->appended += output.length;
}

/* In memory of exactly this size: whoever writes beyond it is found out. */
uint8_t *channel_reserve(struct channel *channel, size_t size)
{
    if (channel->state == CLOSED || channel->state == ENDED)
        return NULL;
    free(channel->reserved);
    channel->reserved = malloc(size);
    require(channel->reserved != NULL);
    return channel->reserved;
}

void channel_commit(struct channel *channel, size_t length)
{
    channel_write(channel, (struct bytes){channel->reserved, length});
}

void channel_flush(struct channel *channel)
{
    if (channel->state != OPEN)
        return;
    if (channel->output.length > channel->sizes.output_max) {
        end(channel, "more output is waiting than may be buffered");
        return;
    }
    size_t length = channel->output.length;
    if (peer.throttle != 0 && length > peer.throttle)
        length = peer.throttle;
    append(&peer.taken, (struct bytes){channel->output.memory, length});
    drop_front(&channel->output, length);
    channel->written += length;
}

size_t channel_pending(const struct channel *channel)
{
    return channel->output.length;
}

uint64_t channel_written(const struct channel *channel)
{
    return channel->written;
}

uint64_t channel_appended(const struct channel *channel)
{
    return channel->appended;
}

void channel_set_low_water(struct channel *channel, int bytes)
{
    require(channel != NULL && bytes > 0);
}

void channel_poll(struct channel *channel)
{
    deliver(channel);
}

const char *channel_describe(const struct channel *channel)
{
    (void)channel;
    return "";
}

uint64_t channel_certificate_end(const struct channel *channel)
{
    (void)channel;
    return 0; /* as without TLS */
}

/* ---- for the test -------------------------------------------------------------------------- */

struct net memory_net_open(void)
{
    require(base.first == NULL && peer.channel == NULL);
    base = (struct event_base){.now_us = START_US};
    peer.taken.length = 0;
    peer.refuse = false;
    peer.throttle = 0;
    peer.generation = 0;
    return (struct net){.base = &base};
}

void memory_net_close(struct net *net)
{
    require(base.first == NULL && net->base == &base);
    free(peer.taken.memory);
    free(peer.given.memory);
    peer.taken = peer.given = (struct buffer){NULL, 0, 0};
}

void memory_net_accept(bool accept)
{
    peer.refuse = !accept;
}

void memory_net_throttle(size_t bytes)
{
    peer.throttle = bytes;
}

bool memory_peer_is_open(void)
{
    return peer.channel != NULL && peer.channel->state == OPEN;
}

void memory_peer_send(struct bytes data)
{
    while (memory_peer_is_open() && data.length > 0) {
        struct channel *channel = peer.channel;
        uint64_t generation = channel->generation;
        size_t room = channel->sizes.input - channel->input.length;
        append(&channel->input, take_bytes(&data, room));
        deliver(channel);
        if (generation != channel->generation)
            return;
    }
}

void memory_peer_close(void)
{
    if (memory_peer_is_open())
        end(peer.channel, "the peer closed the connection");
}

struct bytes memory_peer_take(void)
{
    peer.given.length = 0;
    append(&peer.given, (struct bytes){peer.taken.memory, peer.taken.length});
    peer.taken.length = 0;
    return (struct bytes){peer.given.memory, peer.given.length};
}

unsigned memory_peer_generation(void)
{
    return peer.generation;
}
