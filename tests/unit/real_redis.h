/*
 * A redis-server of the test's own: on a free loopback port and a unix socket in a temporary
 * folder, without persistence. It dies with the test's process, also when that crashes.
 */
#ifndef NEMOGATE_TESTS_REAL_REDIS_H
#define NEMOGATE_TESTS_REAL_REDIS_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct real_redis {
    pid_t pid;
    uint16_t port;
    char folder[64];
    char socket[96];
};

static inline uint16_t real_redis_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    getsockname(fd, (struct sockaddr *)&address, &size);
    close(fd);
    return ntohs(address.sin_port);
}

static inline int real_redis_connect(const struct real_redis *redis)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", redis->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int tries = 0; tries < 500; tries++) {
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    close(fd);
    return -1;
}

/* Sends inline commands ("SET a b\r\n") past the code under test; the first bytes of the answers
 * go to reply. */
static inline void real_redis_say(const struct real_redis *redis, const char *commands, char *reply,
                                  size_t size)
{
    int fd = real_redis_connect(redis);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, commands, strlen(commands)), (ssize_t)strlen(commands));
    ssize_t got = read(fd, reply, size - 1);
    reply[got > 0 ? got : 0] = '\0';
    close(fd);
}

static inline void real_redis_start(struct real_redis *redis)
{
    char port[8];
    snprintf(redis->folder, sizeof redis->folder, "/tmp/test_redis_XXXXXX");
    cr_assert_not_null(mkdtemp(redis->folder));
    snprintf(redis->socket, sizeof redis->socket, "%s/redis.sock", redis->folder);
    redis->port = real_redis_free_port();
    snprintf(port, sizeof port, "%u", redis->port);
    pid_t parent = getpid();
    redis->pid = fork();
    cr_assert_geq(redis->pid, 0);
    if (redis->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1",
               "--unixsocket", redis->socket, "--save", "", "--dir", redis->folder, (char *)NULL);
        _exit(127);
    }
    char reply[64];
    real_redis_say(redis, "PING\r\n", reply, sizeof reply);
    cr_assert_str_eq(reply, "+PONG\r\n");
}

static inline void real_redis_stop(struct real_redis *redis)
{
    kill(redis->pid, SIGTERM);
    waitpid(redis->pid, NULL, 0);
    unlink(redis->socket);
    rmdir(redis->folder);
}

#endif
