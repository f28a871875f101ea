/*
 * The environment is what passes an exec without a file. The variable is taken away when it is
 * read: no child is to find it. What it says is not believed: only a socket that listens, and where
 * it should, is used.
 */
#include "core/admin_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VARIABLE "NEMOGATE_ADMIN_SOCKET"

bool admin_socket_leave(int fd, bool ready)
{
    char text[32];
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy < 0)
        return false;
    snprintf(text, sizeof text, "%d %s", copy, ready ? "ready" : "unready");
    if (setenv(VARIABLE, text, 1) == 0)
        return true;
    close(copy);
    return false;
}

/* -1: there is none. */
static int left_socket(bool *ready)
{
    const char *text = getenv(VARIABLE);
    char word[8] = "";
    int fd, listens = 0;
    socklen_t size = sizeof listens;
    if (text == NULL || sscanf(text, "%d %7s", &fd, word) != 2 || fd <= STDERR_FILENO ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0)
        return -1;
    *ready = strcmp(word, "ready") == 0;
    return fd;
}

static void set_flags(int flags)
{
    bool ready;
    int fd = left_socket(&ready);
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, flags);
}

void admin_socket_keep_open(void)
{
    set_flags(0);
}

void admin_socket_keep_own(void)
{
    set_flags(FD_CLOEXEC);
}

static bool listens_on(int fd, const char *host, uint16_t port)
{
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    uint8_t expected[16];
    if (getsockname(fd, (struct sockaddr *)&name, &size) != 0)
        return false;
    if (name.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&name;
        return ntohs(v4->sin_port) == port && inet_pton(AF_INET, host, expected) == 1 &&
               memcmp(&v4->sin_addr, expected, sizeof v4->sin_addr) == 0;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&name;
    return name.ss_family == AF_INET6 && ntohs(v6->sin6_port) == port &&
           inet_pton(AF_INET6, host, expected) == 1 &&
           memcmp(&v6->sin6_addr, expected, sizeof v6->sin6_addr) == 0;
}

int admin_socket_take(const char *host, uint16_t port, bool *ready)
{
    *ready = false;
    int fd = left_socket(ready);
    unsetenv(VARIABLE);
    if (fd < 0)
        return -1;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (listens_on(fd, host, port))
        return fd;
    close(fd);
    *ready = false;
    return -1;
}
