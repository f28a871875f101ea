/*
 * /api/v1/feed: server-sent events (HTML Living Standard, 9.2). The shards hand samples over only
 * while there is a listener. What a slow listener does not take is left out for him.
 */
#include "core/admin_routes.h"

#include "core/watch.h"

#include <stdlib.h>

#define LISTENERS_MAX 16u
#define STATUS_MS 2000u
#define HISTORY_MS 60000u
#define HEARTBEAT_MS 10000u
#define MESSAGES_PER_SECOND 50u

struct admin_listener {
    struct admin_listener *next;
    struct http_connection *connection;
};

/* ---- events -------------------------------------------------------------------------------- */

struct event_text {
    char *text;
    size_t length;
    FILE *out;
};

static bool begin_event(struct event_text *event, const char *name)
{
    *event = (struct event_text){.text = NULL};
    event->out = open_memstream(&event->text, &event->length);
    if (event->out != NULL)
        fprintf(event->out, "event: %s\ndata: ", name);
    return event->out != NULL;
}

/* To one listener, or, where he is NULL, to all. */
static void send_event(struct admin *admin, struct event_text *event,
                       struct admin_listener *listener)
{
    fputs("\n\n", event->out);
    if (fclose(event->out) == 0) {
        struct bytes text = {(const uint8_t *)event->text, event->length};
        for (struct admin_listener *l = admin->listeners; l != NULL; l = l->next)
            if (listener == NULL || l == listener)
                (void)http_stream_write(l->connection, text); /* he is slow: he misses it */
    }
    free(event->text);
}

static void send_status(struct admin *admin, struct admin_listener *listener)
{
    struct event_text event;
    if (!begin_event(&event, "status"))
        return;
    struct json json = {.out = event.out};
    status_write(admin, &json, false);
    send_event(admin, &event, listener);
}

static void send_history(struct admin *admin, struct admin_listener *listener)
{
    struct event_text event;
    if (!begin_event(&event, "history"))
        return;
    struct json json = {.out = event.out};
    status_write_history(admin, &json, NULL);
    send_event(admin, &event, listener);
}

static void write_sample(struct json *json, const struct watch_sample *sample, uint64_t dropped)
{
    char id[STREAM_ID_TEXT];
    bool binary = !json_is_text(sample->payload) && !sample->cut;
    stream_id_format(sample->id, id);
    json_begin_object(json, NULL);
    json_number(json, "at", admin_epoch_ms());
    json_text(json, "site", sample->site);
    json_text(json, "stream_id", id);
    json_bytes(json, "topic", sample->topic);
    json_bytes(json, "key", sample->key);
    json_bytes(json, "type", sample->type);
    json_bool(json, "retain", sample->retain);
    json_number(json, "qos", sample->qos);
    if (binary)
        json_null(json, "payload");
    else
        json_bytes(json, "payload", sample->payload);
    json_bool(json, "binary", binary);
    json_bool(json, "cut", sample->cut);
    json_number(json, "dropped", dropped);
    json_end_object(json);
}

void feed_sample(struct admin *admin, const struct watch_sample *sample)
{
    uint64_t now = net_now_ms();
    struct event_text event;
    if (now >= admin->feed_budget_ms) {
        admin->feed_budget = MESSAGES_PER_SECOND;
        admin->feed_budget_ms = now + 1000;
    }
    admin->feed_untold += sample->dropped;
    admin->feed_dropped += sample->dropped;
    if (admin->feed_budget == 0 || admin->listeners == NULL || !begin_event(&event, "message")) {
        admin->feed_untold++;
        admin->feed_dropped++;
        return;
    }
    admin->feed_budget--;
    struct json json = {.out = event.out};
    write_sample(&json, sample, admin->feed_untold);
    admin->feed_untold = 0;
    send_event(admin, &event, NULL);
}

/* ---- listeners ----------------------------------------------------------------------------- */

void feed_open(struct admin *admin, struct http_connection *connection, bool head_only)
{
    struct admin_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL || admin->listener_count >= LISTENERS_MAX) {
        free(listener);
        http_answer_error(connection, 503, "listeners", "there are 16 listeners already");
        return;
    }
    http_begin_stream(connection, "text/event-stream");
    if (head_only) {
        free(listener);
        return;
    }
    listener->connection = connection;
    listener->next = admin->listeners;
    admin->listeners = listener;
    admin->next_status_ms = net_now_ms() + STATUS_MS;
    admin->next_history_ms = net_now_ms() + HISTORY_MS;
    admin->next_heartbeat_ms = net_now_ms() + HEARTBEAT_MS;
    if (admin->listener_count++ == 0)
        admin->setting.post(admin->setting.context, MAIL_WATCH, 1, NULL);
    admin_refresh(admin);
    send_status(admin, listener);
    send_history(admin, listener);
}

void feed_gone(struct admin *admin, const struct http_connection *connection)
{
    for (struct admin_listener **link = &admin->listeners; *link != NULL;) {
        struct admin_listener *listener = *link;
        if (listener->connection != connection) {
            link = &listener->next;
            continue;
        }
        *link = listener->next;
        free(listener);
        if (--admin->listener_count == 0)
            admin->setting.post(admin->setting.context, MAIL_WATCH, 0, NULL);
    }
}

void feed_tick(struct admin *admin, uint64_t now_ms)
{
    if (admin->listeners == NULL)
        return;
    if (now_ms >= admin->next_status_ms) {
        admin->next_status_ms = now_ms + STATUS_MS;
        send_status(admin, NULL);
    }
    if (now_ms >= admin->next_history_ms) {
        admin->next_history_ms = now_ms + HISTORY_MS;
        send_history(admin, NULL);
    }
    if (now_ms >= admin->next_heartbeat_ms) {
        admin->next_heartbeat_ms = now_ms + HEARTBEAT_MS;
        for (struct admin_listener *l = admin->listeners; l != NULL; l = l->next)
            (void)http_stream_write(l->connection, bytes_of(": \n\n"));
    }
}

void feed_close(struct admin *admin)
{
    while (admin->listeners != NULL) {
        struct admin_listener *listener = admin->listeners;
        admin->listeners = listener->next;
        free(listener);
    }
}
