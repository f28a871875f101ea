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

/* admin_page.c; false: there is no such file. */
bool page_answer(struct http_connection *connection, const char *path);

#endif
