/*
 * A byte stream with scripted faults, over one end of a socketpair: short writes, STATUS_AGAIN with
 * any want, failures, and bytes that only the io holds and no socket shows.
 */
#ifndef NEMOGATE_TESTS_SCRIPT_IO_H
#define NEMOGATE_TESTS_SCRIPT_IO_H

#include "transport/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct script_io {
    struct io head;
    int fd;
    unsigned want;
    enum status open_status;
    size_t write_at_most;      /* per call; 0: everything */
    unsigned write_again;      /* so many further writes give STATUS_AGAIN */
    unsigned want_while_again; /* want() after those */
    bool write_fails;
    bool read_fails;
    size_t held;         /* bytes that the io holds itself: reads give these first */
    size_t read_at_most; /* of the held bytes, per call; 0: everything */
    size_t swells;       /* so much the io holds more after the next read of the socket */
    size_t read_in_all;
    unsigned opens, closes, writes;
    unsigned *frees; /* counts across the io's life; may be NULL */
};

static inline enum status script_open(struct io *io, int fd)
{
    struct script_io *script = (struct script_io *)io;
    script->fd = fd;
    script->opens++;
    if (script->open_status == STATUS_FAILED)
        snprintf(io->error, sizeof io->error, "the script says no");
    return script->open_status;
}

static inline enum status script_read(struct io *io, uint8_t *into, size_t size, size_t *got)
{
    struct script_io *script = (struct script_io *)io;
    if (script->read_fails) {
        snprintf(io->error, sizeof io->error, "read: the script says no");
        return STATUS_FAILED;
    }
    if (script->held > 0) {
        size_t take = script->held < size ? script->held : size;
        if (script->read_at_most != 0 && take > script->read_at_most)
            take = script->read_at_most;
        memset(into, 'h', take);
        script->held -= take;
        script->read_in_all += take;
        *got = take;
        return STATUS_OK;
    }
    ssize_t result = recv(script->fd, into, size, 0);
    if (result > 0) {
        *got = (size_t)result;
        script->read_in_all += *got;
        script->held += script->swells;
        script->swells = 0;
        return STATUS_OK;
    }
    return result == 0 ? STATUS_CLOSED : STATUS_AGAIN;
}

static inline enum status script_write(struct io *io, struct bytes from, size_t *put)
{
    struct script_io *script = (struct script_io *)io;
    script->writes++;
    if (script->write_fails) {
        snprintf(io->error, sizeof io->error, "write: the script says no");
        return STATUS_FAILED;
    }
    if (script->write_again > 0) {
        script->write_again--;
        script->want = script->want_while_again;
        return STATUS_AGAIN;
    }
    size_t length = from.length;
    if (script->write_at_most != 0 && length > script->write_at_most)
        length = script->write_at_most;
    ssize_t result = send(script->fd, from.data, length, MSG_NOSIGNAL);
    script->want = result < 0 ? IO_WANT_WRITE : IO_WANT_READ;
    if (result < 0)
        return STATUS_AGAIN;
    *put = (size_t)result;
    return STATUS_OK;
}

static inline unsigned script_want(const struct io *io)
{
    return ((const struct script_io *)io)->want;
}

static inline void script_close(struct io *io)
{
    ((struct script_io *)io)->closes++;
}

static inline void script_free(struct io *io)
{
    struct script_io *script = (struct script_io *)io;
    if (script->frees != NULL)
        ++*script->frees;
    free(script);
}

/* Opens at once and works, until told otherwise. */
static inline struct script_io *script_io_new(void)
{
    static const struct io_ops ops = {script_open, script_read,  script_write,
                                      script_want, script_close, script_free};
    struct script_io *script = calloc(1, sizeof *script);
    script->head.ops = &ops;
    script->want = IO_WANT_READ;
    script->want_while_again = IO_WANT_WRITE;
    return script;
}

#endif
