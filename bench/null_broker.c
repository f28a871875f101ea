/*
 * A broker that does nothing: takes MQTT 5 and 3.1.1 clients, plain or TLS, acknowledges their
 * publishes in batches and counts. It shows the gateway's own ceiling; and with a round trip, a
 * small window, refusals, stalls and lost connections, how the gateway bears them. Loopback only.
 */
#include "bench/common.h"
#include "bench/null_worker.h"
#include "bench/tls_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS_NS UINT64_C(1000000)
#define MAX_THREADS 64
#define BACKLOG 4096
#define NEVER UINT64_MAX

struct options {
    const char *refuse;
    const char *cert_file;
    const char *key_file;
    uint64_t port;
    uint64_t threads;
    uint64_t seconds;
    uint64_t receive_maximum;
    uint64_t max_packet;
    uint64_t delay_us;
    uint64_t delay_ms;
    uint64_t stall_after;
    uint64_t stall_ms;
    uint64_t drop_after;
    uint64_t drop_down_ms;
    uint64_t report_ms;
};

struct broker {
    struct options options;
    struct null_common common;
    struct null_worker *workers;
    int listener; /* -1: down */
    int signals;
    int notices[2];
    uint64_t accepted;
    uint64_t stalls;
    uint64_t begun_ns;
    uint64_t listen_ns; /* when to listen again; NEVER */
    uint64_t dropped_ns;
    uint64_t dropped;        /* connections */
    uint64_t drop_number;    /* clients above it came after the drop */
    uint64_t published;      /* of those, how many have published */
    uint64_t connected_ns;   /* from the drop until as many were accepted; NEVER */
    uint64_t republished_ns; /* and until as many had published */
    uint64_t reported_ns;
    uint64_t reported_publishes;
    uint64_t reported_bytes;
};

static void open_listener(struct broker *broker)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)broker->options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    broker->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(broker->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(broker->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(broker->listener, BACKLOG) != 0)
        die("listen on 127.0.0.1:%llu: %s", (unsigned long long)broker->options.port,
            strerror(errno));
    broker->listen_ns = NEVER;
}

/* The workers take turns. */
static void accept_client(struct broker *broker)
{
    int on = 1;
    int fd = accept4(broker->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    broker->accepted++;
    struct order order = {ORDER_SERVE, fd, broker->accepted};
    null_worker_order(&broker->workers[broker->accepted % broker->options.threads], &order);
    if (broker->dropped > 0 && broker->connected_ns == NEVER &&
        broker->accepted - broker->drop_number >= broker->dropped)
        broker->connected_ns = clock_ns() - broker->dropped_ns;
}

static void order_all(struct broker *broker, const struct order *order)
{
    for (uint64_t i = 0; i < broker->options.threads; i++)
        null_worker_order(&broker->workers[i], order);
}

struct sums {
    uint64_t open;
    uint64_t publishes;
    uint64_t bytes;
};

static struct sums sum_views(struct broker *broker)
{
    struct sums sums = {0};
    for (uint64_t i = 0; i < broker->options.threads; i++) {
        struct null_view *view = &broker->workers[i].view;
        sums.open += atomic_load_explicit(&view->open, memory_order_relaxed);
        sums.publishes += atomic_load_explicit(&view->publishes, memory_order_relaxed);
        sums.bytes += atomic_load_explicit(&view->bytes, memory_order_relaxed);
    }
    return sums;
}

static void drop_clients(struct broker *broker)
{
    struct order order = {.kind = ORDER_DROP};
    broker->dropped = sum_views(broker).open;
    broker->dropped_ns = clock_ns();
    broker->drop_number = broker->accepted;
    if (broker->options.drop_down_ms > 0) {
        close(broker->listener);
        broker->listener = -1;
        broker->listen_ns = broker->dropped_ns + broker->options.drop_down_ms * MS_NS;
    }
    order_all(broker, &order);
}

static void take_notice(struct broker *broker)
{
    struct notice notice;
    if (read(broker->notices[0], &notice, sizeof notice) != (ssize_t)sizeof notice)
        die("pipe: %s", strerror(errno));
    struct order stall = {ORDER_STALL, -1, notice.ns + broker->options.stall_ms * MS_NS};
    switch (notice.kind) {
    case NOTICE_DROP:
        drop_clients(broker);
        return;
    case NOTICE_STALL:
        broker->stalls++;
        order_all(broker, &stall);
        return;
    case NOTICE_PUBLISHED:
        if (broker->dropped > 0 && notice.number > broker->drop_number &&
            ++broker->published == broker->dropped)
            broker->republished_ns = notice.ns - broker->dropped_ns;
        return;
    }
}

static void report(struct broker *broker, uint64_t now)
{
    if (broker->options.report_ms == 0 ||
        now - broker->reported_ns < broker->options.report_ms * MS_NS)
        return;
    struct sums sums = sum_views(broker);
    uint64_t publishes = sums.publishes - broker->reported_publishes;
    printf("{\"t\": %.3f, \"publishes\": %llu, \"bytes\": %llu, \"rate\": %.0f, "
           "\"connections\": %llu}\n",
           (double)(now - broker->begun_ns) / 1e9, (unsigned long long)publishes,
           (unsigned long long)(sums.bytes - broker->reported_bytes),
           (double)publishes / ((double)(now - broker->reported_ns) / 1e9),
           (unsigned long long)sums.open);
    fflush(stdout);
    broker->reported_ns = now;
    broker->reported_publishes = sums.publishes;
    broker->reported_bytes = sums.bytes;
}

/* How long nothing of the broker's own is to be done, at most a second. */
static int wait_ms(const struct broker *broker, uint64_t now, uint64_t end)
{
    uint64_t until = now + 1000 * MS_NS;
    if (end < until)
        until = end;
    if (broker->listen_ns < until)
        until = broker->listen_ns;
    if (broker->options.report_ms > 0 &&
        broker->reported_ns + broker->options.report_ms * MS_NS < until)
        until = broker->reported_ns + broker->options.report_ms * MS_NS;
    return until > now ? (int)((until - now + MS_NS - 1) / MS_NS) : 0;
}

/* Until a signal comes or the time is over. */
static void run(struct broker *broker)
{
    uint64_t now = broker->begun_ns = broker->reported_ns = clock_ns();
    uint64_t end = now + broker->options.seconds * 1000 * MS_NS;
    for (; now < end; now = clock_ns()) {
        struct pollfd sources[] = {{.fd = broker->signals, .events = POLLIN},
                                   {.fd = broker->notices[0], .events = POLLIN},
                                   {.fd = broker->listener, .events = POLLIN}};
        if (poll(sources, 3, wait_ms(broker, now, end)) < 0 && errno != EINTR)
            die("poll: %s", strerror(errno));
        if (sources[0].revents != 0)
            return;
        if (sources[1].revents != 0)
            take_notice(broker);
        else if (sources[2].revents != 0)
            accept_client(broker);
        now = clock_ns();
        if (now >= broker->listen_ns)
            open_listener(broker);
        report(broker, now);
    }
}

static void add_counts(struct null_counts *sum, const struct null_counts *counts)
{
    sum->publishes += counts->publishes;
    sum->qos0 += counts->qos0;
    sum->bytes += counts->bytes;
    sum->malformed += counts->malformed;
    sum->over_window += counts->over_window;
    sum->over_size += counts->over_size;
    sum->refused += counts->refused;
    if (counts->max_unacknowledged > sum->max_unacknowledged)
        sum->max_unacknowledged = counts->max_unacknowledged;
    if (counts->first_ns != 0 && (sum->first_ns == 0 || counts->first_ns < sum->first_ns))
        sum->first_ns = counts->first_ns;
    if (counts->last_ns > sum->last_ns)
        sum->last_ns = counts->last_ns;
}

static double passed_ms(uint64_t ns)
{
    return ns == NEVER ? -1 : (double)ns / 1e6;
}

static void print_result(const struct broker *broker)
{
    struct null_counts sum = {0};
    for (uint64_t i = 0; i < broker->options.threads; i++)
        add_counts(&sum, &broker->workers[i].counts);
    double seconds = (double)(sum.last_ns - sum.first_ns) / 1e9;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"connections", broker->accepted},
        {"publishes", sum.publishes},
        {"qos0", sum.qos0},
        {"bytes", sum.bytes},
        {"malformed", sum.malformed},
        {"over_window", sum.over_window},
        {"over_size", sum.over_size},
        {"refused", sum.refused},
        {"max_unacknowledged", sum.max_unacknowledged},
        {"stalls", broker->stalls},
        {"dropped", broker->dropped},
    };
    printf("{");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        printf("\"%s\": %llu, ", numbers[i].name, (unsigned long long)numbers[i].value);
    printf("\"recovered_connect_ms\": %.3f, \"recovered_publish_ms\": %.3f, \"seconds\": %.6f, "
           "\"rate\": %.0f, \"cpu_us\": %.3f}\n",
           passed_ms(broker->connected_ns), passed_ms(broker->republished_ns), seconds,
           seconds > 0 ? (double)sum.publishes / seconds : 0,
           sum.publishes > 0 ? cpu_us() / (double)sum.publishes : 0);
}

/* CODE[:EVERY], the code as 151 or 0x97. */
static void read_refuse(struct null_manners *manners, const char *text)
{
    char *end = NULL;
    unsigned long code = strtoul(text, &end, 0);
    manners->refuse_every = 1;
    if (*end == ':')
        manners->refuse_every = strtoull(end + 1, &end, 10);
    if (end == text || *end != '\0' || code < 0x80 || code > 0xff || manners->refuse_every == 0)
        die_of_option("--refuse %s: must be CODE or CODE:EVERY, with a code of 0x80 to 0xff, such "
                      "as 0x97:100",
                      text);
    manners->refuse_code = (unsigned)code;
}

static void apply_options(struct broker *broker)
{
    const struct options *options = &broker->options;
    struct null_common *common = &broker->common;
    if (options->receive_maximum == 0 || options->receive_maximum > 65535)
        die_of_option("--receive-maximum must be 1 to 65535 [MQTT 5.0, 3.2.2.3.3]");
    if (options->threads == 0 || options->threads > MAX_THREADS)
        die_of_option("--threads must be 1 to %d", MAX_THREADS);
    if (options->max_packet > UINT32_MAX)
        die_of_option("--max-packet must be at most %u", UINT32_MAX);
    if ((options->cert_file == NULL) != (options->key_file == NULL))
        die_of_option("--cert and --key go together");
    if (options->port == 0 || options->port > UINT16_MAX)
        die_of_option("--port must be 1 to 65535");
    if ((options->stall_after == 0) != (options->stall_ms == 0))
        die_of_option("--stall-after and --stall-ms go together");
    common->manners.receive_maximum = options->receive_maximum;
    common->manners.max_packet = options->max_packet;
    common->manners.delay_ns = options->delay_ms * MS_NS + options->delay_us * 1000;
    common->drop_after = options->drop_after;
    common->stall_after = options->stall_after;
    if (options->refuse != NULL)
        read_refuse(&common->manners, options->refuse);
    if (options->cert_file != NULL)
        common->manners.tls = tls_server_new(options->cert_file, options->key_file);
}

static void read_options(struct options *options, int argc, char **argv)
{
    const struct option_row rows[] = {
        {"port", OPTION_NUMBER, &options->port, "port on 127.0.0.1"},
        {"threads", OPTION_NUMBER, &options->threads, "clients are shared out among them"},
        {"seconds", OPTION_NUMBER, &options->seconds, "ends by itself after this time"},
        {"receive-maximum", OPTION_NUMBER, &options->receive_maximum, "announced with MQTT 5"},
        {"max-packet", OPTION_NUMBER, &options->max_packet,
         "Maximum Packet Size announced with MQTT 5, 0: none"},
        {"delay-us", OPTION_NUMBER, &options->delay_us, "acknowledgements come this late"},
        {"delay-ms", OPTION_NUMBER, &options->delay_ms, "and this"},
        {"refuse", OPTION_TEXT, &options->refuse,
         "CODE[:EVERY]: this reason code for every n-th publish (MQTT 5), such as 0x97:100"},
        {"stall-after", OPTION_NUMBER, &options->stall_after,
         "after so many publishes neither reads nor acknowledges"},
        {"stall-ms", OPTION_NUMBER, &options->stall_ms, "for this time"},
        {"drop-after", OPTION_NUMBER, &options->drop_after,
         "after so many publishes closes all connections at once"},
        {"drop-down-ms", OPTION_NUMBER, &options->drop_down_ms, "and accepts none for this time"},
        {"cert", OPTION_TEXT, &options->cert_file, "TLS with this certificate chain (PEM)"},
        {"key", OPTION_TEXT, &options->key_file, "and its key (PEM)"},
        {"report-ms", OPTION_NUMBER, &options->report_ms, "a line about each such interval"},
    };
    options_read(argc, argv, "a broker that only acknowledges; JSON on stdout", rows,
                 sizeof rows / sizeof rows[0]);
}

static void start(struct broker *broker)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* wolfSSL's send has no MSG_NOSIGNAL */
    broker->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (pipe(broker->notices) != 0)
        die("pipe: %s", strerror(errno));
    broker->common.notices = broker->notices[1];
    broker->connected_ns = broker->republished_ns = NEVER;
    open_listener(broker);
    broker->workers = must_alloc(broker->options.threads, sizeof *broker->workers);
    for (uint64_t i = 0; i < broker->options.threads; i++)
        null_worker_start(&broker->workers[i], &broker->common);
    fprintf(stderr, "listening\n");
}

int main(int argc, char **argv)
{
    struct broker *broker = must_alloc(1, sizeof *broker);
    struct order end = {.kind = ORDER_END};
    broker->options =
        (struct options){.port = 1883, .threads = 1, .receive_maximum = 65535, .seconds = 600};
    read_options(&broker->options, argc, argv);
    apply_options(broker);
    start(broker);
    run(broker);
    order_all(broker, &end);
    for (uint64_t i = 0; i < broker->options.threads; i++)
        null_worker_join(&broker->workers[i]);
    print_result(broker);
    if (broker->common.manners.tls != NULL)
        tls_server_free(broker->common.manners.tls);
    close(broker->notices[0]);
    close(broker->notices[1]);
    close(broker->signals);
    free(broker->workers);
    free(broker);
    return 0;
}
