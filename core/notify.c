/*
 * Messages are datagrams; each of their lines is a variable. What cannot be sent now stays owed and
 * is sent a little later, so that a service manager that is busy never holds up the main thread.
 */
#include "core/notify_private.h"

#include "codec/bytes.h"
#include "codec/decimal.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SOON_MS 250
#define AGAIN_MS 1000
#define PATIENCE_MS 5000
/* Beyond the drain timeout: for leases and connections. */
#define STOP_MARGIN_MS 10000u
/* How long a process that begins anew may be busy before it can answer: legacy_config_command has
 * a minute. */
#define ANEW_US UINT64_C(90000000)

enum { OWES_READY = 1, OWES_RELOADING = 2, OWES_STOPPING = 4, OWES_WATCHDOG = 8 };

/* ---- sending ------------------------------------------------------------------------------- */

static void tell_later(struct notify *notify, int ms)
{
    struct timeval delay = {ms / 1000, (ms % 1000) * 1000};
    if (!event_pending(notify->soon, EV_TIMEOUT, NULL))
        event_add(notify->soon, &delay);
}

static bool send_text(struct notify *notify, const char *text)
{
    uint64_t held_back;
    ssize_t sent = sendto(notify->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&notify->address, notify->address_length);
    if (sent >= 0)
        return true;
    if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS &&
        log_limit_pass(&notify->trouble, net_now_ms(), 600000, &held_back))
        log_event(notify->setting.log, LOG_WARNING, "the service manager cannot be told anything",
                  LOG_TEXT("reason", strerror(errno)), LOG_INT("repeated", held_back));
    return false;
}

static uint64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The phase, the last one alone. */
static size_t write_phase(const struct notify *notify, char *text, size_t size)
{
    uint64_t stop_ms = (uint64_t)notify->config->delivery.drain_timeout_ms + STOP_MARGIN_MS;
    int length = 0;
    if ((notify->owed & OWES_STOPPING) != 0)
        length =
            snprintf(text, size, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\n", stop_ms * 1000);
    else if ((notify->owed & OWES_RELOADING) != 0)
        length = snprintf(text, size, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\n", monotonic_us());
    else if ((notify->owed & OWES_READY) != 0)
        length = snprintf(text, size, "READY=1\n");
    return (size_t)length;
}

static void tell(struct notify *notify)
{
    char text[NOTIFY_STATUS_TEXT + 128], status[NOTIFY_STATUS_TEXT];
    size_t length = write_phase(notify, text, sizeof text);
    notify_write_status(notify, status);
    if ((notify->owed & OWES_WATCHDOG) != 0)
        length += (size_t)snprintf(text + length, sizeof text - length, "WATCHDOG=1\n");
    if (strcmp(status, notify->told) != 0)
        length += (size_t)snprintf(text + length, sizeof text - length, "STATUS=%s\n", status);
    if (length == 0)
        return;
    if (!send_text(notify, text)) {
        tell_later(notify, AGAIN_MS);
        return;
    }
    notify->owed = 0;
    memcpy(notify->told, status, sizeof status);
}

static void owe(struct notify *notify, unsigned what)
{
    notify->owed |= what;
    tell(notify);
}

static void on_soon(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    tell(context);
}

/* ---- phases -------------------------------------------------------------------------------- */

void notify_ready(struct notify *notify)
{
    if (notify->fd < 0 || notify->said_ready || notify->phase != NOTIFY_RUNS)
        return;
    notify->said_ready = true;
    event_del(notify->patience);
    owe(notify, OWES_READY);
}

static void on_patience(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    notify_ready(context);
}

static void enter(struct notify *notify, enum notify_phase phase, unsigned what)
{
    if (notify->fd < 0)
        return;
    notify->phase = phase;
    owe(notify, what);
}

void notify_reloading(struct notify *notify)
{
    /* Before READY=1 it is still the start. */
    enter(notify, NOTIFY_RELOADS, notify->said_ready ? OWES_RELOADING : 0);
}

void notify_stopping(struct notify *notify)
{
    enter(notify, NOTIFY_STOPS, OWES_STOPPING);
}

/* ---- how it is ----------------------------------------------------------------------------- */

static void changed(struct notify *notify)
{
    tell_later(notify, SOON_MS);
}

void notify_redis(struct notify *notify, const char *reason)
{
    if (notify->fd < 0)
        return;
    notify->redis_up = reason == NULL;
    snprintf(notify->redis_reason, sizeof notify->redis_reason, "%s", reason != NULL ? reason : "");
    if (reason != NULL)
        notify_ready(notify);
    changed(notify);
}

void notify_stream(struct notify *notify, unsigned slot, size_t broker)
{
    if (notify->fd < 0)
        return;
    notify->slots[slot].streams++;
    notify->ways[broker * notify->config->slots + slot].used = true;
    changed(notify);
}

void notify_prefer(struct notify *notify, unsigned slot, bool preferred)
{
    if (notify->fd < 0)
        return;
    notify->slots[slot].preferred = preferred;
    changed(notify);
}

/* ---- watchdog ------------------------------------------------------------------------------ */

/* The shards are asked once they have all answered: who hangs is waited for, and the service
 * manager hears nothing until then. */
static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct notify *notify = context;
    notify->stuck = notify->waiting > 0;
    if (notify->stuck) {
        tell(notify);
        return;
    }
    if (notify->shards == 0) {
        owe(notify, OWES_WATCHDOG);
        return;
    }
    notify->waiting = notify->shards;
    memset(notify->waits, true, notify->shards * sizeof *notify->waits);
    notify->setting.post(notify->setting.context, MAIL_TURN, 0, NULL);
}

static void on_turned(struct notify *notify, unsigned shard)
{
    if (notify->waiting == 0 || shard >= notify->shards || !notify->waits[shard])
        return;
    notify->waits[shard] = false;
    if (--notify->waiting > 0)
        return;
    notify->stuck = false;
    owe(notify, OWES_WATCHDOG);
}

void notify_started(struct notify *notify, unsigned shards)
{
    if (notify->fd < 0)
        return;
    notify->shards = shards;
    changed(notify);
}

void notify_deliver(struct notify *notify, const struct mail *mail)
{
    if (notify->fd < 0)
        return;
    if (mail->kind == MAIL_TURNED) {
        on_turned(notify, mail->slot);
    } else if (mail->kind == MAIL_SLOT_RUNNING || mail->kind == MAIL_SLOT_LEFT) {
        notify->slots[mail->slot].running = mail->kind == MAIL_SLOT_RUNNING;
        changed(notify);
    } else if (mail->kind == MAIL_SLOT_BROKER) {
        size_t way = mail->count / 2 * notify->config->slots + mail->slot;
        notify->ways[way].reached = mail->count % 2 == 1;
        changed(notify);
    }
}

/* ---- making and ending --------------------------------------------------------------------- */

/* "/path" or "@abstract". false: it is neither, or too long. */
static bool read_address(struct notify *notify, const char *name)
{
    size_t length = strlen(name);
    bool abstract = name[0] == '@';
    if ((!abstract && name[0] != '/') || length < 2 || length >= sizeof notify->address.sun_path)
        return false;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, name, length + 1);
    if (abstract)
        notify->address.sun_path[0] = '\0';
    notify->address_length =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
    return true;
}

/* It may be meant for another process: WATCHDOG_PID says for which. */
static uint64_t read_watchdog(void)
{
    const char *pid = getenv("WATCHDOG_PID"), *time = getenv("WATCHDOG_USEC");
    uint64_t number;
    if (time == NULL || !decimal_read(bytes_of(time), &number) || number < 2)
        return 0;
    uint64_t watchdog_us = number;
    if (pid != NULL &&
        (!decimal_read(bytes_of(pid), &number) || number != (uint64_t)(intmax_t)getpid()))
        return 0;
    return watchdog_us;
}

static void say_watchdog(struct notify *notify, uint64_t watchdog_us)
{
    char text[64];
    snprintf(text, sizeof text, "WATCHDOG_USEC=%" PRIu64 "\nWATCHDOG=1\n", watchdog_us);
    (void)send_text(notify, text);
}

static bool open_events(struct notify *notify)
{
    struct event_base *base = notify->setting.net->base;
    struct timeval patience = {PATIENCE_MS / 1000, 0};
    struct timeval half = {(time_t)(notify->watchdog_us / 2000000),
                           (suseconds_t)(notify->watchdog_us / 2 % 1000000)};
    notify->soon = event_new(base, -1, 0, on_soon, notify);
    notify->patience = event_new(base, -1, 0, on_patience, notify);
    notify->tick = event_new(base, -1, EV_PERSIST, on_tick, notify);
    return notify->soon != NULL && notify->patience != NULL && notify->tick != NULL &&
           event_add(notify->patience, &patience) == 0 &&
           (notify->watchdog_us == 0 || event_add(notify->tick, &half) == 0);
}

/* true: also where nobody is to be told. */
static bool open_notify(struct notify *notify)
{
    const struct config *config = notify->config;
    const char *name = getenv("NOTIFY_SOCKET");
    if (name == NULL || name[0] == '\0')
        return true;
    if (read_address(notify, name))
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify->fd < 0) {
        log_event(notify->setting.log, LOG_WARNING, "NOTIFY_SOCKET cannot be used",
                  LOG_TEXT("socket", name));
        return true;
    }
    notify->watchdog_us = read_watchdog();
    notify->slots = calloc(config->slots, sizeof *notify->slots);
    notify->ways = calloc(config->broker_count * config->slots, sizeof *notify->ways);
    notify->waits = calloc(config->shards, sizeof *notify->waits);
    if (notify->slots == NULL || notify->ways == NULL || notify->waits == NULL ||
        !open_events(notify))
        return false;
    if (notify->watchdog_us > 0) /* takes back what notify_free has asked for */
        say_watchdog(notify, notify->watchdog_us);
    changed(notify);
    return true;
}

struct notify *notify_new(const struct notify_setting *setting)
{
    struct notify *notify = calloc(1, sizeof *notify);
    if (notify == NULL)
        return NULL;
    notify->setting = *setting;
    notify->config = setting->config;
    notify->fd = -1;
    if (open_notify(notify))
        return notify;
    notify_free(notify);
    return NULL;
}

void notify_free(struct notify *notify)
{
    if (notify == NULL)
        return;
    if (notify->phase == NOTIFY_RELOADS && notify->watchdog_us > 0)
        say_watchdog(notify, notify->watchdog_us + ANEW_US);
    if (notify->soon != NULL)
        event_free(notify->soon);
    if (notify->patience != NULL)
        event_free(notify->patience);
    if (notify->tick != NULL)
        event_free(notify->tick);
    if (notify->fd >= 0)
        close(notify->fd);
    free(notify->slots);
    free(notify->ways);
    free(notify->waits);
    free(notify);
}
