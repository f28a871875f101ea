/*
 * The paths of the admin server: who may ask for what, and which part answers. Part of the admin
 * server's inside.
 */
#ifndef NEMOGATE_CORE_ADMIN_ROUTES_H
#define NEMOGATE_CORE_ADMIN_ROUTES_H

#include "core/admin_private.h"

void routes_on_request(void *context, struct http_connection *connection,
                       const struct http_request *request);
void routes_on_gone(void *context, struct http_connection *connection);
/* All shards have reported. */
void routes_go_on(struct admin *admin);
/* Requests that have waited long enough are answered with what there is. */
void routes_tick(struct admin *admin, uint64_t now_ms);
void routes_close(struct admin *admin);

/* admin.c */
/* Asks all shards; the number of the request. */
uint64_t admin_request_reports(struct admin *admin);
bool admin_has_reports(const struct admin *admin, uint64_t number);
void admin_refresh(struct admin *admin);

/* admin_feed.c */
struct watch_sample;
void feed_open(struct admin *admin, struct http_connection *connection, bool head_only);
void feed_sample(struct admin *admin, const struct watch_sample *sample);
void feed_gone(struct admin *admin, const struct http_connection *connection);
void feed_tick(struct admin *admin, uint64_t now_ms);
void feed_close(struct admin *admin);

/* admin_letters.c */
MUST_CHECK bool letters_open(struct admin *admin);
void letters_close(struct admin *admin);
/* false: the request is another. */
bool letters_answer(struct admin *admin, struct http_connection *connection,
                    const struct http_request *request);
/* What the thread has done; NULL: memory was short. */
void letters_take(struct admin *admin, const void *data);
void letters_gone(struct admin *admin, const struct http_connection *connection);

/* admin_state.c */
struct watch_state;
/* false: the path is another. */
bool state_answer(struct admin *admin, struct http_connection *connection, const char *path);
/* Some values; NULL: the last word of a shard. */
void state_take(struct admin *admin, uint64_t number, const struct watch_state *state);
void state_gone(struct admin *admin, const struct http_connection *connection);
void state_tick(struct admin *admin, uint64_t now_ms);
void state_close(struct admin *admin);

/* admin_page.c; false: there is no such file. */
bool page_answer(struct http_connection *connection, const struct http_request *request);

#endif
