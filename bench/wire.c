/*
 * The benchmark's broker connection; see wire.h.
 */
#include "bench/wire.h"

#include "bench/common.h"
#include "transport/io.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDSHAKE_TIMEOUT_MS 5000
#define READ_MAX (1u << 18) /* what stays in the processor's cache */

static void wait_for(int fd, unsigned want)
{
    struct pollfd waiting = {.fd = fd};
    if (want & IO_WANT_READ)
        waiting.events |= POLLIN;
    if (want & IO_WANT_WRITE)
        waiting.events |= POLLOUT;
    if (poll(&waiting, 1, HANDSHAKE_TIMEOUT_MS) <= 0)
        die("the broker is silent for %d ms", HANDSHAKE_TIMEOUT_MS);
}

static void open_tls(struct wire *wire, const char *ca_file)
{
    char error[IO_ERROR_TEXT] = "";
    struct tls_settings settings = {.ca_file = ca_file, .server_name = "localhost"};
    wire->tls = tls_context_new(&settings, error);
    if (wire->tls == NULL)
        die("TLS: %s", error);
    wire->io = io_tls_new(wire->tls);
    if (wire->io == NULL)
        die("out of memory");
    enum status status;
    while ((status = wire->io->ops->open(wire->io, wire->fd)) == STATUS_AGAIN)
        wait_for(wire->fd, wire->io->ops->want(wire->io));
    if (status != STATUS_OK)
        die("TLS: %s", wire->io->error);
}

void wire_open(struct wire *wire, const char *host, uint64_t port, const char *ca_file)
{
    *wire = (struct wire){.fd = tcp_connect(host, port)};
    set_nonblocking(wire->fd);
    if (ca_file != NULL)
        open_tls(wire, ca_file);
}

void wire_close(struct wire *wire)
{
    if (wire->io != NULL) {
        wire->io->ops->close(wire->io);
        wire->io->ops->free(wire->io);
        tls_context_free(wire->tls);
    }
    close(wire->fd);
}

static size_t tls_write(struct wire *wire, const uint8_t *from, size_t size)
{
    size_t put = 0;
    enum status status = wire->io->ops->write(wire->io, (struct bytes){from, size}, &put);
    if (status == STATUS_OK)
        return put;
    if (status != STATUS_AGAIN)
        die("write: %s", wire->io->error);
    return 0;
}

size_t wire_write(struct wire *wire, const uint8_t *from, size_t size)
{
    if (wire->io != NULL)
        return tls_write(wire, from, size);
    ssize_t put = send(wire->fd, from, size, MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        die("write to the broker: %s", strerror(errno));
    return put < 0 ? 0 : (size_t)put;
}

void wire_write_all(struct wire *wire, const uint8_t *from, size_t size)
{
    while (size > 0) {
        size_t put = wire_write(wire, from, size);
        if (put == 0)
            wait_for(wire->fd, IO_WANT_WRITE);
        from += put;
        size -= put;
    }
}

static bool tls_read(struct wire *wire)
{
    size_t got = 0;
    enum status status =
        wire->io->ops->read(wire->io, wire->in + wire->used, sizeof wire->in - wire->used, &got);
    if (status != STATUS_OK && status != STATUS_AGAIN)
        die("read: %s", status == STATUS_CLOSED ? "the broker has closed" : wire->io->error);
    wire->used += got;
    return got > 0;
}

bool wire_read(struct wire *wire)
{
    if (wire->used == sizeof wire->in)
        die("a packet of the broker exceeds %zu bytes", sizeof wire->in);
    if (wire->io != NULL)
        return tls_read(wire);
    size_t room = sizeof wire->in - wire->used;
    ssize_t got = recv(wire->fd, wire->in + wire->used, room < READ_MAX ? room : READ_MAX, 0);
    if (got == 0)
        die("the broker has closed the connection");
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        die("read from the broker: %s", strerror(errno));
    if (got < 0)
        return false;
    wire->used += (size_t)got;
    return true;
}

void wire_take(struct wire *wire, size_t size)
{
    wire->used -= size;
    memmove(wire->in, wire->in + size, wire->used);
}

bool wire_wait(struct wire *wire, int timeout_ms)
{
    struct pollfd waiting = {.fd = wire->fd, .events = POLLIN};
    if (poll(&waiting, 1, timeout_ms) <= 0)
        return false;
    return wire_read(wire);
}

bool wire_reads_ahead(const struct wire *wire)
{
    return wire->io != NULL;
}
