/*
 * What the service manager is told: the test holds the other end of NOTIFY_SOCKET.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/notify.h"

#define SLOTS 2u
#define BROKERS 5u

static struct config_broker brokers[BROKERS] = {
    {.name = (char *)"main"}, {.name = (char *)"b"}, {.name = (char *)"c"},
    {.name = (char *)"d"},    {.name = (char *)"e"},
};
static struct config config;
static struct log quiet;
static struct net net;
static struct notify *notify;
static int manager = -1;
static char folder[64], path[96];
static char told[8192]; /* all that has been received */
static unsigned asked;

static void on_post(void *context, enum mail_kind kind, uint64_t count, const char *text)
{
    (void)context;
    cr_assert_eq(kind, MAIL_TURN);
    cr_assert_eq(count, 0);
    cr_assert_null(text);
    asked++;
}

static void listen_at(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] != '@'));
    cr_assert_eq(bind(manager, (struct sockaddr *)&address, size), 0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static void set_up(void)
{
    strcpy(folder, "/tmp/test_notify.XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    config = (struct config){.shards = 2, .slots = SLOTS, .brokers = brokers, .broker_count = 1};
    config.redis.url.host = (char *)"127.0.0.1";
    config.redis.url.port = 6379;
    config.redis.url.path = (char *)"";
    config.delivery.drain_timeout_ms = 20000;
    quiet = log_root(-1, LOG_ERROR, LOG_LOGFMT);
    cr_assert(net_open(&net));
}

static void tear_down(void)
{
    notify_free(notify);
    net_close(&net);
    if (manager >= 0)
        close(manager);
    unlink(path);
    rmdir(folder);
}

TestSuite(notify, .init = set_up, .fini = tear_down);

static void begin(void)
{
    struct notify_setting setting = {&config, &quiet, &net, on_post, NULL};
    notify = notify_new(&setting);
    cr_assert_not_null(notify);
}

static const char *receive(void)
{
    size_t length = strlen(told);
    for (;;) {
        ssize_t got = recv(manager, told + length, sizeof told - 1 - length, 0);
        if (got < 0)
            break;
        length += (size_t)got;
        told[length] = '\0';
        cr_assert_eq(told[length - 1], '\n');
    }
    cr_assert_eq(errno, EAGAIN);
    return told;
}

static unsigned count(const char *text)
{
    unsigned found = 0;
    for (const char *at = receive(); (at = strstr(at, text)) != NULL; at++)
        found++;
    return found;
}

/* Until text has been told, 20 s at most. */
static void wait_told(const char *text)
{
    for (unsigned i = 0; i < 2000 && strstr(receive(), text) == NULL; i++) {
        struct timeval step = {.tv_usec = 10000};
        event_base_loopexit(net.base, &step);
        event_base_dispatch(net.base);
    }
    cr_assert_not_null(strstr(told, text), "no %s in: %s", text, told);
}

static void mail(enum mail_kind kind, unsigned slot, uint64_t number)
{
    struct mail message = {.kind = kind, .slot = slot, .count = number};
    notify_deliver(notify, &message);
}

static void run_all(void)
{
    notify_redis(notify, NULL);
    notify_started(notify, config.shards);
    for (unsigned i = 0; i < SLOTS; i++) {
        notify_prefer(notify, i, true);
        mail(MAIL_SLOT_RUNNING, i, 0);
    }
}

/* ---- nobody to be told --------------------------------------------------------------------- */

static void do_everything(void)
{
    run_all();
    notify_stream(notify, 0, 0);
    mail(MAIL_SLOT_BROKER, 0, 1);
    mail(MAIL_TURNED, 0, 0);
    notify_ready(notify);
    notify_reloading(notify);
    notify_stopping(notify);
    cr_assert_eq(event_base_get_num_events(net.base, EVENT_BASE_COUNT_ADDED), 0);
}

Test(notify, without_a_socket_nothing_is_done)
{
    begin();
    do_everything();
}

Test(notify, a_name_that_is_no_socket_is_not_used)
{
    char longer[200];
    memset(longer, 'x', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    const char *const names[] = {"", "@", "/", "relative", "vsock:2:1234", longer};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        begin();
        do_everything();
        notify_free(notify);
    }
    notify = NULL;
}

/* ---- phases -------------------------------------------------------------------------------- */

Test(notify, ready_is_told_once)
{
    listen_at(path);
    begin();
    cr_assert_eq(count("READY=1"), 0);
    notify_ready(notify);
    notify_ready(notify);
    notify_redis(notify, "Connection refused");
    cr_assert_eq(count("READY=1\n"), 1);
}

Test(notify, abstract_socket)
{
    char name[64];
    snprintf(name, sizeof name, "@nemogate-test-notify-%d", getpid());
    listen_at(name);
    begin();
    notify_ready(notify);
    cr_assert_eq(count("READY=1\n"), 1);
}

Test(notify, redis_away_is_ready)
{
    listen_at(path);
    begin();
    notify_redis(notify, "connect to 127.0.0.1:6379: Connection refused");
    cr_assert_eq(count("READY=1\n"), 1);
}

Test(notify, before_it_is_ready_there_is_no_reload)
{
    listen_at(path);
    begin();
    notify_reloading(notify);
    notify_ready(notify);
    cr_assert_eq(count("RELOADING"), 0);
    cr_assert_eq(count("READY"), 0);
}

Test(notify, reload_and_stop)
{
    listen_at(path);
    begin();
    notify_ready(notify);
    notify_reloading(notify);
    cr_assert_eq(count("RELOADING=1\nMONOTONIC_USEC="), 1);
    notify_stopping(notify);
    cr_assert_eq(count("STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\n"), 1);
    cr_assert_eq(count("STATUS=stopping: what is in flight is waited for, at most 20 s\n"), 1);
}

Test(notify, a_manager_that_is_busy_is_told_later)
{
    listen_at(path);
    begin();
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    while (sendto(sender, "X=1\n", 4, 0, (struct sockaddr *)&address, sizeof address) == 4)
        ;
    cr_assert_eq(errno, EAGAIN);
    notify_ready(notify);
    cr_assert_eq(count("READY=1"), 0);
    wait_told("READY=1\n");
    cr_assert_eq(count("READY=1"), 1);
    close(sender);
}

Test(notify, a_manager_that_is_gone_does_no_harm)
{
    listen_at(path);
    close(manager);
    begin();
    notify_ready(notify);
    unlink(path);
    notify_reloading(notify);
    listen_at(path);
    wait_told("RELOADING=1\n");
}

/* ---- the sentence -------------------------------------------------------------------------- */

static void assert_status(const char *text)
{
    char line[600];
    snprintf(line, sizeof line, "STATUS=%s\n", text);
    wait_told(line);
    told[0] = '\0';
}

Test(notify, sentences_of_a_start)
{
    listen_at(path);
    begin();
    assert_status("waiting for Redis 127.0.0.1:6379");
    notify_redis(notify, "connect to 127.0.0.1:6379: Connection refused");
    assert_status("waiting for Redis 127.0.0.1:6379: Connection refused");
    notify_redis(notify, "Redis refused AUTH");
    assert_status("waiting for Redis 127.0.0.1:6379: Redis refused AUTH");
    notify_redis(notify, NULL);
    assert_status("looking for streams at Redis 127.0.0.1:6379");
    run_all();
    assert_status("2 slots, 0 streams");
    notify_stream(notify, 1, 0);
    assert_status("2 slots, 1 stream; no connection to broker main");
    mail(MAIL_SLOT_BROKER, 1, 1);
    assert_status("2 slots, 1 stream; broker main connected");
    mail(MAIL_SLOT_LEFT, 1, 0);
    assert_status("1 of 2 slots run, 1 stream; broker main connected");
    notify_prefer(notify, 1, false);
    assert_status("1 slot, 0 streams");
    notify_redis(notify, "closed");
    assert_status("no connection to Redis 127.0.0.1:6379: closed");
}

Test(notify, sentences_of_other_addresses)
{
    listen_at(path);
    config.redis.url.host = (char *)"::1";
    begin();
    assert_status("waiting for Redis [::1]:6379");
    notify_free(notify);
    config.redis.url.host = (char *)"";
    config.redis.url.path = (char *)"/run/redis.sock";
    begin();
    assert_status("waiting for Redis /run/redis.sock");
}

Test(notify, sentences_of_many_brokers)
{
    listen_at(path);
    config.broker_count = BROKERS;
    begin();
    run_all();
    for (size_t i = 0; i < BROKERS; i++) {
        notify_stream(notify, 0, i);
        mail(MAIL_SLOT_BROKER, 0, i * 2 + 1);
    }
    assert_status("2 slots, 5 streams; brokers main, b, c and 2 more connected");
    mail(MAIL_SLOT_BROKER, 0, 2);
    mail(MAIL_SLOT_BROKER, 0, 8);
    assert_status(
        "2 slots, 5 streams; no connection to brokers b, e; brokers main, c, d connected");
}

Test(notify, what_redis_says_stays_in_its_line)
{
    listen_at(path);
    begin();
    notify_redis(notify, "a\nSTOPPING=1\n");
    assert_status("waiting for Redis 127.0.0.1:6379: a STOPPING=1 ");
}

/* ---- watchdog ------------------------------------------------------------------------------ */

Test(notify, watchdog_waits_for_every_shard)
{
    listen_at(path);
    setenv("WATCHDOG_USEC", "100000", 1);
    begin();
    wait_told("WATCHDOG_USEC=100000\nWATCHDOG=1\n");
    run_all();
    wait_told("2 slots, 0 streams");
    for (unsigned i = 0; i < 2000 && asked == 0; i++)
        event_base_loop(net.base, EVLOOP_ONCE);
    cr_assert_eq(asked, 1);
    unsigned before = count("WATCHDOG=1");
    mail(MAIL_TURNED, 1, 0);
    mail(MAIL_TURNED, 1, 0);
    mail(MAIL_TURNED, 9, 0);
    wait_told("STATUS=shard 0 does not turn; 2 slots, 0 streams\n");
    cr_assert_eq(count("WATCHDOG=1"), before);
    cr_assert_eq(asked, 1);
    mail(MAIL_TURNED, 0, 0);
    cr_assert_eq(count("WATCHDOG=1"), before + 1);
}

Test(notify, watchdog_of_others)
{
    const char *const bad[] = {"", "x", "-1", "0", "1", "99999999999999999999999"};
    listen_at(path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("WATCHDOG_USEC", bad[i], 1);
        begin();
        notify_free(notify);
    }
    setenv("WATCHDOG_USEC", "100000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    begin();
    cr_assert_eq(count("WATCHDOG"), 0);
}

Test(notify, a_program_that_begins_anew_has_time)
{
    listen_at(path);
    setenv("WATCHDOG_USEC", "100000", 1);
    begin();
    notify_ready(notify);
    notify_reloading(notify);
    notify_free(notify);
    notify = NULL;
    cr_assert_eq(count("WATCHDOG_USEC=90100000\nWATCHDOG=1\n"), 1);
}
