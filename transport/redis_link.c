/*
 * A link to Redis: the state machine over one channel, the ring of unanswered commands, their
 * timeout, and coming back with backoff. What the handshake says is in redis_handshake.c, what
 * replies look like in codec/redis_reader.c. It never calls on_down from inside another call: a
 * loss is noted where it is found and reported by the timer, from the event loop.
 */
#include "transport/redis_link.h"

#include "codec/redis_command.h"
#include "transport/backoff.h"
#include "transport/redis_handshake.h"
#include "transport/redis_pending.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_SIZE 65536u
#define OUTPUT_SIZE 16384u
#define OUTPUT_MAX (64u << 20)
/* A reply that takes its time must bring so much within each reply timeout: less is silence. */
#define LEAST_HEARD 1024u
#define TICK_MIN_MS 25u
#define TICK_MAX_MS 1000u
#define REASON_TEXT 384

enum link_state {
    LINK_STOPPED,
    LINK_WAITING, /* for the backoff to pass, or for the timer to report a loss */
    LINK_CONNECTING,
    LINK_HANDSHAKE,
    LINK_READY
};

#define MAY(state) (1u << (state))

/* What may follow what; nothing else may. */
static const unsigned may_follow[] = {
    [LINK_STOPPED] = MAY(LINK_WAITING),
    [LINK_WAITING] = MAY(LINK_CONNECTING) | MAY(LINK_STOPPED),
    [LINK_CONNECTING] = MAY(LINK_HANDSHAKE) | MAY(LINK_WAITING) | MAY(LINK_STOPPED),
    [LINK_HANDSHAKE] = MAY(LINK_READY) | MAY(LINK_WAITING) | MAY(LINK_STOPPED),
    [LINK_READY] = MAY(LINK_WAITING) | MAY(LINK_STOPPED),
};

/* How far the report of a loss has come. */
enum loss { LOSS_NONE, LOSS_OWED, LOSS_REPORTING };

struct redis_link {
    struct redis_link_config config;
    struct redis_link_events events;
    struct redis_stream_sink sink;
    void *context;
    struct channel *channel;
    struct redis_reader *reader;
    struct event *timer; /* WAITING: its end; HANDSHAKE and READY: the look at the oldest command */
    enum link_state state;
    enum loss loss;
    char reason[REASON_TEXT];
    struct backoff backoff;
    struct redis_pending pending;
    enum handshake_step step;
    struct redis_server server;
    bool unasked;       /* the reply that is being read answers no command */
    uint64_t heard_ms;  /* when a reply, or a good part of one, came last */
    size_t heard_bytes; /* since then */
};

/* ---- time --------------------------------------------------------------------------------- */

static void arm(struct redis_link *link, uint32_t ms)
{
    const struct timeval wait = {.tv_sec = (time_t)(ms / 1000),
                                 .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(link->timer, &wait);
}

static void arm_tick(struct redis_link *link)
{
    uint32_t ms = link->config.reply_timeout_ms / 4;
    arm(link, ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms);
}

/* ---- state -------------------------------------------------------------------------------- */

static bool is_connected(const struct redis_link *link)
{
    return link->state == LINK_HANDSHAKE || link->state == LINK_READY;
}

static void redis_link_set_state(struct redis_link *link, enum link_state next)
{
    if ((may_follow[link->state] & MAY(next)) == 0)
        abort();
    link->state = next;
    switch (next) {
    case LINK_STOPPED:
    case LINK_CONNECTING:
        event_del(link->timer);
        break;
    case LINK_WAITING:
        arm(link, 0);
        break;
    case LINK_HANDSHAKE:
    case LINK_READY:
        arm_tick(link);
        break;
    }
}

/* Notes the first loss of a connection; report_loss tells of it from the event loop. */
static void lose(struct redis_link *link, const char *reason)
{
    if (link->state == LINK_STOPPED || link->state == LINK_WAITING)
        return;
    (void)snprintf(link->reason, sizeof link->reason, "%s", reason);
    channel_close(link->channel);
    link->loss = LOSS_OWED;
    redis_link_set_state(link, LINK_WAITING);
}

/* ---- sending ------------------------------------------------------------------------------ */

static void write_command(struct redis_link *link, const struct bytes *arguments, size_t count)
{
    uint8_t *room = channel_reserve(link->channel, redis_command_bound(arguments, count));
    if (room != NULL)
        channel_commit(link->channel, redis_command_write(room, arguments, count));
}

static void queue(struct redis_link *link, const struct bytes *arguments, size_t count,
                  struct pending_command entry)
{
    entry.sent_ms = net_now_ms();
    /* After a loss that is not reported yet the command is not sent: its NULL comes with the
     * others. */
    bool fits = redis_pending_add(&link->pending, entry);
    if (!is_connected(link))
        return;
    write_command(link, arguments, count);
    if (!fits)
        lose(link, "memory is short for a Redis command");
}

/* ---- the way down ------------------------------------------------------------------------- */

/* Any callback may stop the link (and start it again): then nothing more is told of this loss. */
static void report_loss(struct redis_link *link)
{
    link->loss = LOSS_REPORTING;
    while (link->pending.count > 0) {
        struct pending_command oldest = redis_pending_take(&link->pending);
        oldest.on_reply(oldest.context, NULL);
        if (link->loss != LOSS_REPORTING)
            return;
    }
    link->loss = LOSS_NONE;
    uint32_t retry_ms = backoff_next_ms(&link->backoff);
    arm(link, retry_ms);
    char reason[REASON_TEXT];
    memcpy(reason, link->reason, sizeof reason);
    link->events.on_down(link->context, reason, retry_ms);
}

static void check_oldest(struct redis_link *link)
{
    arm_tick(link);
    const struct pending_command *oldest = redis_pending_oldest(&link->pending);
    if (oldest == NULL)
        return;
    /* While much of an answer arrives Redis is not silent, and a command that waited behind another
     * has its own time from that one's answer on. */
    uint64_t since = oldest->sent_ms > link->heard_ms ? oldest->sent_ms : link->heard_ms;
    uint64_t limit = (uint64_t)link->config.reply_timeout_ms + oldest->block_ms;
    if (net_now_ms() - since <= limit)
        return;
    char reason[REASON_TEXT];
    (void)snprintf(reason, sizeof reason, "no answer from Redis within %llu ms",
                   (unsigned long long)limit);
    lose(link, reason);
}

static void connect_now(struct redis_link *link)
{
    redis_reader_reset(link->reader);
    link->server = (struct redis_server){0};
    redis_link_set_state(link, LINK_CONNECTING);
    channel_open(link->channel, link->config.connect_timeout_ms);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct redis_link *link = context;
    switch (link->state) {
    case LINK_STOPPED:
    case LINK_CONNECTING:
        break;
    case LINK_WAITING:
        if (link->loss == LOSS_OWED)
            report_loss(link);
        else
            connect_now(link);
        break;
    case LINK_HANDSHAKE:
    case LINK_READY:
        check_oldest(link);
        break;
    }
}

static void note_heard(struct redis_link *link, size_t bytes)
{
    link->heard_bytes += bytes;
    if (link->heard_bytes < LEAST_HEARD)
        return;
    link->heard_ms = net_now_ms();
    link->heard_bytes = 0;
}

/* ---- handshake ---------------------------------------------------------------------------- */

static void on_handshake_reply(void *context, const struct redis_value *reply)
{
    struct redis_link *link = context;
    char error[HANDSHAKE_ERROR_TEXT];
    if (reply == NULL)
        return;
    if (!redis_handshake_reply(&link->config, link->step, reply, &link->server, error)) {
        lose(link, error);
        return;
    }
    link->step = redis_handshake_next(&link->config, (enum handshake_step)(link->step + 1));
    if (link->step == HANDSHAKE_DONE) {
        redis_link_set_state(link, LINK_READY);
        link->events.on_ready(link->context);
    }
}

static void on_open(void *context)
{
    struct redis_link *link = context;
    redis_link_set_state(link, LINK_HANDSHAKE);
    note_heard(link, LEAST_HEARD);
    link->step = redis_handshake_next(&link->config, HANDSHAKE_AUTH);
    const struct pending_command entry = {
        .on_reply = on_handshake_reply, .context = link, .expect = REDIS_EXPECT_VALUE};
    for (enum handshake_step step = link->step; step != HANDSHAKE_DONE;
         step = redis_handshake_next(&link->config, (enum handshake_step)(step + 1))) {
        struct handshake_command command;
        redis_handshake_command(&link->config, step, &command);
        queue(link, command.argument, command.count, entry);
    }
    redis_link_flush(link);
}

/* ---- input -------------------------------------------------------------------------------- */

/* A reply begins. One that begins while no command waits answers none, not even one that is sent
 * before its end: every later reply would be taken for that of the command before. */
static enum redis_expect expect_next(void *context)
{
    struct redis_link *link = context;
    const struct pending_command *oldest = redis_pending_oldest(&link->pending);
    link->unasked = oldest == NULL;
    return oldest == NULL ? REDIS_EXPECT_VALUE : oldest->expect;
}

/* What stopped or failed the link in the middle of a reply wants nothing more of it. */
static void on_stream(void *context, struct bytes name)
{
    const struct redis_link *link = context;
    if (is_connected(link))
        link->sink.on_stream(link->context, name);
}

static void on_entry(void *context, const struct redis_entry *entry)
{
    const struct redis_link *link = context;
    if (is_connected(link))
        link->sink.on_entry(link->context, entry);
}

static void take_reply(struct redis_link *link, const struct redis_value *reply)
{
    note_heard(link, LEAST_HEARD);
    if (!link->unasked) {
        struct pending_command oldest = redis_pending_take(&link->pending);
        oldest.on_reply(oldest.context, reply);
        return;
    }
    char reason[REASON_TEXT];
    if (reply->type == REDIS_ERROR)
        (void)snprintf(reason, sizeof reason, "Redis sent an error that answers no command: %.*s",
                       reply->text.length > 200 ? 200 : (int)reply->text.length,
                       (const char *)reply->text.data);
    else
        (void)snprintf(reason, sizeof reason, "Redis sent a reply that answers no command");
    lose(link, reason);
}

static void take_input(struct redis_link *link, struct bytes input)
{
    if (redis_reader_feed(link->reader, input) != STATUS_OK) {
        lose(link, "memory is short for a Redis reply");
        return;
    }
    while (is_connected(link)) {
        const struct redis_value *reply = NULL;
        enum status status = redis_reader_next(link->reader, &reply);
        if (status == STATUS_AGAIN)
            return;
        /* The sink may have ended the link while this reply was read. */
        if (!is_connected(link))
            return;
        if (status != STATUS_OK) {
            char reason[REASON_TEXT];
            (void)snprintf(reason, sizeof reason, "not a reply of Redis: %s",
                           redis_reader_error(link->reader));
            lose(link, reason);
            return;
        }
        take_reply(link, reply);
    }
}

static size_t on_data(void *context, struct bytes input)
{
    struct redis_link *link = context;
    note_heard(link, input.length);
    take_input(link, input);
    return input.length;
}

static void on_closed(void *context, const char *reason)
{
    lose(context, reason);
}

/* ---- life --------------------------------------------------------------------------------- */

static const struct channel_events channel_callbacks = {on_open, on_data, on_closed};
static const struct redis_stream_sink link_sink = {on_stream, on_entry};

struct redis_link *redis_link_new(const struct net *net, const struct redis_link_config *config,
                                  const struct redis_link_events *events,
                                  const struct redis_stream_sink *sink, void *context,
                                  uint64_t seed)
{
    struct redis_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return NULL;
    link->config = *config;
    link->events = *events;
    link->context = context;
    if (sink != NULL)
        link->sink = *sink;
    backoff_init(&link->backoff, seed);
    const struct channel_sizes sizes = {INPUT_SIZE, OUTPUT_SIZE, OUTPUT_MAX};
    link->channel = channel_new(net, &link->config.endpoint, &channel_callbacks, link, sizes);
    link->reader = redis_reader_new(expect_next, &link_sink, link);
    link->timer = event_new(net->base, -1, 0, on_timer, link);
    if (link->channel == NULL || link->reader == NULL || link->timer == NULL ||
        !redis_pending_init(&link->pending)) {
        redis_link_free(link);
        return NULL;
    }
    return link;
}

void redis_link_free(struct redis_link *link)
{
    if (link == NULL)
        return;
    if (link->timer != NULL)
        event_free(link->timer);
    if (link->channel != NULL)
        channel_free(link->channel);
    if (link->reader != NULL)
        redis_reader_free(link->reader);
    redis_pending_free(&link->pending);
    free(link);
}

void redis_link_start(struct redis_link *link)
{
    /* The channel is opened from the event loop: this may be called from within its callback. */
    if (link->state == LINK_STOPPED)
        redis_link_set_state(link, LINK_WAITING);
}

void redis_link_stop(struct redis_link *link)
{
    if (link->state == LINK_STOPPED)
        return;
    channel_close(link->channel);
    redis_pending_forget(&link->pending);
    link->loss = LOSS_NONE;
    redis_link_set_state(link, LINK_STOPPED);
}

void redis_link_fail(struct redis_link *link, const char *reason)
{
    lose(link, reason);
}

bool redis_link_is_ready(const struct redis_link *link)
{
    return link->state == LINK_READY;
}

void redis_link_proven(struct redis_link *link)
{
    backoff_reset(&link->backoff);
}

/* ---- commands ----------------------------------------------------------------------------- */

void redis_link_command(struct redis_link *link, const struct bytes *arguments, size_t count,
                        redis_reply_fn *on_reply, void *context)
{
    assert(link->state == LINK_READY || link->loss == LOSS_OWED);
    queue(link, arguments, count,
          (struct pending_command){
              .on_reply = on_reply, .context = context, .expect = REDIS_EXPECT_VALUE});
}

void redis_link_read(struct redis_link *link, const struct bytes *arguments, size_t count,
                     uint32_t block_ms, redis_reply_fn *on_reply, void *context)
{
    assert(link->state == LINK_READY || link->loss == LOSS_OWED);
    assert(link->sink.on_entry != NULL);
    queue(link, arguments, count,
          (struct pending_command){.on_reply = on_reply,
                                   .context = context,
                                   .expect = REDIS_EXPECT_STREAMS,
                                   .block_ms = block_ms});
}

void redis_link_flush(struct redis_link *link)
{
    if (is_connected(link))
        channel_flush(link->channel);
}

size_t redis_link_outstanding(const struct redis_link *link)
{
    return link->pending.count;
}

int64_t redis_link_client_id(const struct redis_link *link)
{
    return link->server.client_id;
}

const char *redis_link_run_id(const struct redis_link *link)
{
    return link->server.run_id;
}

bool redis_link_is_cluster(const struct redis_link *link)
{
    return link->server.cluster;
}

bool redis_link_is_before(const struct redis_link *link, unsigned major, unsigned minor)
{
    const struct redis_server *server = &link->server;
    return server->major != 0 &&
           (server->major < major || (server->major == major && server->minor < minor));
}

struct bytes redis_link_script(const struct redis_link *link, const char *text)
{
    const char *end = strncmp(text, "#!", 2) == 0 ? strchr(text, '\n') : NULL;
    return bytes_of(end != NULL && redis_link_is_before(link, 7, 0) ? end + 1 : text);
}

uint64_t redis_link_certificate_end(const struct redis_link *link)
{
    return channel_certificate_end(link->channel);
}
