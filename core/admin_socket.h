/*
 * The admin server's listening socket across an exec: a process that begins anew leaves it to the
 * program in its place, so that nobody finds the port closed meanwhile; who comes waits in its
 * backlog. It is named in the environment. Main thread.
 */
#ifndef NEMOGATE_CORE_ADMIN_SOCKET_H
#define NEMOGATE_CORE_ADMIN_SOCKET_H

#include "codec/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Leaves a socket, which stays the caller's, and whether /readyz was 200. false: the system refuses
 * it, and the next program opens one of its own. */
MUST_CHECK bool admin_socket_leave(int fd, bool ready);
/* Directly before exec, which would close it otherwise. */
void admin_socket_keep_open(void);
/* Directly after it: what this program starts before it takes the socket is not to have it. */
void admin_socket_keep_own(void);

/* A socket that was left and listens on this address (numeric) and port, owned by the caller. -1:
 * there is none, or it listens elsewhere and is closed. *ready: see above. */
int admin_socket_take(const char *host, uint16_t port, bool *ready);

#endif
