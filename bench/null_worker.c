/*
 * A thread of the null broker; see null_worker.h.
 */
#include "bench/null_worker.h"

#include "bench/common.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define EVENTS_MAX 64

static void watch(struct null_worker *worker, int fd, void *source, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(worker->epoll, operation, fd, &event) != 0)
        die("epoll: %s", strerror(errno));
}

static void notify(struct null_worker *worker, enum notice_kind kind, uint64_t number)
{
    struct notice notice = {.kind = kind, .number = number, .ns = clock_ns()};
    if (write(worker->common->notices, &notice, sizeof notice) != (ssize_t)sizeof notice)
        die("pipe: %s", strerror(errno));
}

static void add_client(struct null_worker *worker, int fd, uint64_t number)
{
    struct null_client *client =
        null_client_new(fd, number, &worker->common->manners, &worker->counts);
    client->next = worker->clients;
    if (client->next != NULL)
        client->next->previous = client;
    worker->clients = client;
    worker->counts.open++;
    watch(worker, fd, client, EPOLL_CTL_ADD, EPOLLIN);
}

static void remove_client(struct null_worker *worker, struct null_client *client)
{
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        worker->clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    worker->counts.open--;
    null_client_free(client);
}

/* False when the client is gone. */
static bool write_client(struct null_worker *worker, struct null_client *client)
{
    if (!null_client_write(client)) {
        remove_client(worker, client);
        return false;
    }
    bool waits = client->released > client->sent;
    if (waits != client->waits_to_write) {
        client->waits_to_write = waits;
        watch(worker, client->fd, client, EPOLL_CTL_MOD, EPOLLIN | (waits ? EPOLLOUT : 0u));
    }
    return true;
}

static void serve_client(struct null_worker *worker, struct null_client *client, uint32_t events)
{
    bool had_published = client->published;
    uint64_t number = client->number;
    bool good = (events & ~(uint32_t)EPOLLOUT) == 0 || null_client_read(client);
    if (client->published && !had_published)
        notify(worker, NOTICE_PUBLISHED, number);
    if (good)
        write_client(worker, client);
    else
        remove_client(worker, client);
}

/* Tells the broker once when the sum over all workers passes a limit. */
static void count_publishes(struct null_worker *worker, uint64_t more)
{
    struct null_common *common = worker->common;
    if (more == 0 || (common->drop_after == 0 && common->stall_after == 0))
        return;
    uint64_t before = atomic_fetch_add_explicit(&common->publishes, more, memory_order_relaxed);
    uint64_t after = before + more;
    if (before < common->drop_after && after >= common->drop_after)
        notify(worker, NOTICE_DROP, 0);
    if (before < common->stall_after && after >= common->stall_after)
        notify(worker, NOTICE_STALL, 0);
}

static void take_order(struct null_worker *worker)
{
    struct order order;
    if (read(worker->orders[0], &order, sizeof order) != (ssize_t)sizeof order)
        die("pipe: %s", strerror(errno));
    switch (order.kind) {
    case ORDER_SERVE:
        add_client(worker, order.fd, order.number);
        return;
    case ORDER_DROP:
        while (worker->clients != NULL)
            remove_client(worker, worker->clients);
        return;
    case ORDER_STALL:
        worker->stalled_until = order.number;
        return;
    case ORDER_END:
        worker->ended = true;
        return;
    }
}

/* Lets go what is due and sets the timer for what comes next. */
static void release(struct null_worker *worker)
{
    uint64_t next = UINT64_MAX;
    uint64_t now = clock_ns();
    struct null_client *after = NULL;
    for (struct null_client *client = worker->clients; client != NULL; client = after) {
        after = client->next;
        if (due_queue_next(&client->due) <= now && !write_client(worker, client))
            continue;
        if (due_queue_next(&client->due) < next)
            next = due_queue_next(&client->due);
    }
    if (next == worker->timer_ns || next == UINT64_MAX)
        return;
    struct itimerspec at = {.it_value = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)}};
    worker->timer_ns = next;
    if (timerfd_settime(worker->timer, TFD_TIMER_ABSTIME, &at, NULL) != 0)
        die("timerfd: %s", strerror(errno));
}

/* Nothing is read or written but orders. */
static void stall(struct null_worker *worker)
{
    struct pollfd orders = {.fd = worker->orders[0], .events = POLLIN};
    uint64_t now = clock_ns();
    while (!worker->ended && now < worker->stalled_until) {
        if (poll(&orders, 1, (int)((worker->stalled_until - now) / 1000000) + 1) > 0)
            take_order(worker);
        now = clock_ns();
    }
}

static void publish_view(struct null_worker *worker)
{
    struct null_view *view = &worker->view;
    atomic_store_explicit(&view->open, worker->counts.open, memory_order_relaxed);
    atomic_store_explicit(&view->publishes, worker->counts.publishes, memory_order_relaxed);
    atomic_store_explicit(&view->bytes, worker->counts.bytes, memory_order_relaxed);
}

/* An event of a client that an order has closed in the same turn must not be looked at: orders come
 * last. */
static void turn(struct null_worker *worker)
{
    struct epoll_event events[EVENTS_MAX];
    int ready = epoll_wait(worker->epoll, events, EVENTS_MAX, -1);
    uint64_t before = worker->counts.publishes;
    bool has_order = false;
    for (int i = 0; i < ready; i++) {
        void *source = events[i].data.ptr;
        uint64_t expirations = 0;
        if (source == &worker->orders)
            has_order = true;
        else if (source != &worker->timer)
            serve_client(worker, source, events[i].events);
        else if (read(worker->timer, &expirations, sizeof expirations) > 0)
            worker->timer_ns = UINT64_MAX;
    }
    if (worker->common->manners.delay_ns > 0)
        release(worker);
    count_publishes(worker, worker->counts.publishes - before);
    if (has_order)
        take_order(worker);
    publish_view(worker);
}

static void *run(void *context)
{
    struct null_worker *worker = context;
    while (!worker->ended) {
        stall(worker);
        if (!worker->ended)
            turn(worker);
    }
    while (worker->clients != NULL)
        remove_client(worker, worker->clients);
    return NULL;
}

void null_worker_start(struct null_worker *worker, struct null_common *common)
{
    worker->common = common;
    worker->timer_ns = UINT64_MAX;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (worker->epoll < 0 || worker->timer < 0 || pipe(worker->orders) != 0)
        die("no worker: %s", strerror(errno));
    watch(worker, worker->orders[0], &worker->orders, EPOLL_CTL_ADD, EPOLLIN);
    watch(worker, worker->timer, &worker->timer, EPOLL_CTL_ADD, EPOLLIN);
    if (pthread_create(&worker->thread, NULL, run, worker) != 0)
        die("no thread");
}

void null_worker_order(struct null_worker *worker, const struct order *order)
{
    if (write(worker->orders[1], order, sizeof *order) != (ssize_t)sizeof *order)
        die("pipe: %s", strerror(errno));
}

void null_worker_join(struct null_worker *worker)
{
    pthread_join(worker->thread, NULL);
    close(worker->orders[0]);
    close(worker->orders[1]);
    close(worker->epoll);
    close(worker->timer);
}
