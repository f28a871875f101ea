/*
 * A listening socket that is left in the environment: taken where it listens as it should, and only
 * then.
 */
#include "core/admin_socket.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "channel_driver.h"

#define VARIABLE "NEMOGATE_ADMIN_SOCKET"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int left(void)
{
    int fd = -1;
    cr_assert_not_null(getenv(VARIABLE));
    cr_assert_eq(sscanf(getenv(VARIABLE), "%d", &fd), 1);
    return fd;
}

Test(admin_socket, is_taken_where_it_listens_as_it_should)
{
    for (int ready = 0; ready <= 1; ready++) {
        uint16_t port = 0;
        bool was_ready = !ready;
        int fd = listen_loopback("127.0.0.1", &port, 5);
        cr_assert(admin_socket_leave(fd, ready));
        close(fd);
        int taken = admin_socket_take("127.0.0.1", port, &was_ready);
        cr_assert_geq(taken, 0);
        cr_assert_eq(was_ready, ready);
        cr_assert_null(getenv(VARIABLE));
        cr_assert_eq(fcntl(taken, F_GETFD), FD_CLOEXEC);
        cr_assert_eq(admin_socket_take("127.0.0.1", port, &was_ready), -1, "it is there once");
        cr_assert_not(was_ready);
        close(taken);
    }
}

Test(admin_socket, passes_an_exec_and_nothing_else)
{
    uint16_t port = 0;
    int fd = listen_loopback("127.0.0.1", &port, 5);
    cr_assert(admin_socket_leave(fd, true));
    cr_assert_eq(fcntl(left(), F_GETFD), FD_CLOEXEC);
    admin_socket_keep_open();
    cr_assert_eq(fcntl(left(), F_GETFD), 0);
    cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    admin_socket_keep_own();
    cr_assert_eq(fcntl(left(), F_GETFD), FD_CLOEXEC);
}

Test(admin_socket, that_listens_elsewhere_is_closed)
{
    static const char *const hosts[] = {"127.0.0.2", "::1", "0.0.0.0", ""};
    for (size_t i = 0; i <= sizeof hosts / sizeof *hosts; i++) {
        bool other_port = i == sizeof hosts / sizeof *hosts;
        uint16_t port = 0;
        bool ready = true;
        int fd = listen_loopback("127.0.0.1", &port, 5);
        cr_assert(admin_socket_leave(fd, true));
        int copy = left();
        cr_assert_eq(admin_socket_take(other_port ? "127.0.0.1" : hosts[i],
                                       (uint16_t)(port + other_port), &ready),
                     -1);
        cr_assert_not(is_open(copy));
        cr_assert_not(ready);
        close(fd);
    }
}

/* Whatever somebody has put there: nothing of this process is touched. */
Test(admin_socket, that_is_none_is_left_alone)
{
    char own[32];
    bool ready = true;
    int fd = open("/dev/null", O_RDONLY);
    snprintf(own, sizeof own, "%d ready", fd);
    const char *const texts[] = {own,       "",         "x",           "0 ready",
                                 "2 ready", "-1 ready", "99999 ready", "7"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_assert_eq(setenv(VARIABLE, texts[i], 1), 0);
        admin_socket_keep_open();
        cr_assert_eq(admin_socket_take("127.0.0.1", 1, &ready), -1, "%s", texts[i]);
        cr_assert_null(getenv(VARIABLE));
        cr_assert_not(ready);
    }
    cr_assert(is_open(fd) && is_open(0) && is_open(2));
    close(fd);
}
