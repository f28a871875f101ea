/*
 * The plain byte stream: TCP and unix sockets. It holds nothing but the socket, so that what cannot
 * be read now shows on the socket itself.
 */
#include "transport/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct io_tcp {
    struct io head;
    int fd;
    unsigned want;
    bool drained; /* the last recv() took less than it could: the next one would find nothing */
};

static enum status fail(struct io_tcp *tcp, const char *verb, int error)
{
    snprintf(tcp->head.error, sizeof tcp->head.error, "%s: %s", verb, strerror(error));
    return STATUS_FAILED;
}

static enum status tcp_open(struct io *io, int fd)
{
    struct io_tcp *tcp = (struct io_tcp *)io;
    tcp->fd = fd;
    tcp->want = IO_WANT_READ;
    tcp->drained = false;
    return STATUS_OK;
}

static enum status tcp_read(struct io *io, uint8_t *into, size_t size, size_t *got)
{
    struct io_tcp *tcp = (struct io_tcp *)io;
    /* Saves the recv() that only learns EAGAIN. Should something have come meanwhile, the socket is
     * readable and the loop calls again. */
    if (tcp->drained) {
        tcp->drained = false;
        return STATUS_AGAIN;
    }
    ssize_t result;
    do {
        result = recv(tcp->fd, into, size, 0);
    } while (result < 0 && errno == EINTR);
    if (result > 0) {
        *got = (size_t)result;
        tcp->drained = *got < size;
        return STATUS_OK;
    }
    if (result == 0)
        return STATUS_CLOSED;
    return errno == EAGAIN ? STATUS_AGAIN : fail(tcp, "read", errno);
}

static enum status tcp_write(struct io *io, struct bytes from, size_t *put)
{
    struct io_tcp *tcp = (struct io_tcp *)io;
    ssize_t result;
    do {
        result = send(tcp->fd, from.data, from.length, MSG_NOSIGNAL);
    } while (result < 0 && errno == EINTR);
    tcp->want = IO_WANT_READ;
    if (result >= 0) {
        *put = (size_t)result;
        return STATUS_OK;
    }
    if (errno != EAGAIN) {
        tcp->drained = false; /* what the peer has sent before it went is still to be read */
        return fail(tcp, "write", errno);
    }
    tcp->want = IO_WANT_WRITE;
    return STATUS_AGAIN;
}

static unsigned tcp_want(const struct io *io)
{
    return ((const struct io_tcp *)io)->want;
}

static void tcp_close(struct io *io)
{
    ((struct io_tcp *)io)->fd = -1;
}

static void tcp_free(struct io *io)
{
    free(io);
}

static const struct io_ops tcp_ops = {
    .open = tcp_open,
    .read = tcp_read,
    .write = tcp_write,
    .want = tcp_want,
    .close = tcp_close,
    .free = tcp_free,
};

struct io *io_tcp_new(void)
{
    struct io_tcp *tcp = calloc(1, sizeof *tcp);
    if (tcp == NULL)
        return NULL;
    tcp->head.ops = &tcp_ops;
    tcp->fd = -1;
    return &tcp->head;
}
