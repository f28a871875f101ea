/*
 * When certificates end: those that brokers and Redis show, as the last handshakes have seen them,
 * and those of the configuration's files, which a process reads once, as it begins anew where they
 * change. A server may have been given a new one since the handshake, and connections last for
 * months: so, where the end is near, another connection is made now and then, only to look.
 */
#include "core/admin_private.h"

#include "core/peers.h"

#include <stdlib.h>

#define LOOK_PERIOD_MS 600000u
#define LOOK_TIMEOUT_MS 5000u
#define LOOK_INPUT 4096u
#define LOOK_OUTPUT 1024u

/* The connection that is made only to look. */
struct certificate_look {
    struct admin_certificate *certificate; /* of whom; NULL: there is none */
    struct tls_context *tls;
    struct endpoint endpoint;
    struct channel *channel;
    bool over;
};

static bool is_near(uint64_t end)
{
    return end != 0 && end < admin_epoch_ms() / 1000 + TLS_RENEWAL_S;
}

/* ---- looking ------------------------------------------------------------------------------- */

static void on_open(void *context)
{
    struct certificate_look *look = context;
    look->over = true;
}

static size_t on_data(void *context, struct bytes input)
{
    (void)context;
    return input.length;
}

static void on_closed(void *context, const char *reason)
{
    (void)reason;
    struct certificate_look *look = context;
    look->over = true;
}

static const struct channel_events look_events = {on_open, on_data, on_closed};

static void begin_look(struct admin *admin, struct admin_certificate *certificate)
{
    const struct config *config = admin->config;
    const struct config_broker *broker = &config->brokers[certificate->broker];
    bool of_redis = certificate->of == CERTIFICATE_REDIS;
    struct certificate_look *look = admin->look;
    struct channel_sizes sizes = {LOOK_INPUT, LOOK_OUTPUT, LOOK_OUTPUT};
    char error[IO_ERROR_TEXT];
    look->certificate = certificate;
    look->over = true;
    if (!peer_open_tls(of_redis ? &config->redis.url : &broker->url,
                       of_redis ? &config->redis.tls : &broker->tls, &look->tls, error))
        return;
    look->endpoint = of_redis ? peer_redis_endpoint(&config->redis, look->tls)
                              : peer_broker_conn(broker, look->tls, "").endpoint;
    look->channel = channel_new(admin->setting.net, &look->endpoint, &look_events, look, sizes);
    if (look->channel == NULL)
        return;
    look->over = false;
    channel_open(look->channel, LOOK_TIMEOUT_MS);
}

static void end_look(struct certificate_look *look)
{
    if (look->channel != NULL)
        channel_free(look->channel);
    tls_context_free(look->tls);
    *look = (struct certificate_look){.certificate = NULL};
}

static bool is_due(const struct admin_certificate *certificate, uint64_t now_ms)
{
    return is_near(certificate->shown_end) &&
           (certificate->looked_ms == 0 || now_ms - certificate->looked_ms >= LOOK_PERIOD_MS);
}

void certificates_tick(struct admin *admin, uint64_t now_ms)
{
    struct certificate_look *look = admin->look;
    if (look->certificate != NULL && !look->over)
        return;
    if (look->certificate != NULL) {
        look->certificate->looked_ms = now_ms;
        look->certificate->looked_end =
            look->channel != NULL ? channel_certificate_end(look->channel) : 0;
        end_look(look);
    }
    for (size_t i = 0; i < admin->certificate_count; i++)
        if (is_due(&admin->certificates[i], now_ms)) {
            begin_look(admin, &admin->certificates[i]);
            return;
        }
}

/* ---- all of them --------------------------------------------------------------------------- */

static void add(struct admin *admin, enum admin_certificate_of of, size_t broker, uint64_t end)
{
    admin->certificates[admin->certificate_count++] =
        (struct admin_certificate){.of = of, .broker = broker, .end = end};
}

static void add_file(struct admin *admin, enum admin_certificate_of of, size_t broker,
                     const char *file)
{
    if (file[0] != '\0')
        add(admin, of, broker, tls_file_certificate_end(file));
}

bool certificates_open(struct admin *admin)
{
    const struct config *config = admin->config;
    admin->certificates = calloc(2 * config->broker_count + 3, sizeof *admin->certificates);
    admin->look = calloc(1, sizeof *admin->look);
    if (admin->certificates == NULL || admin->look == NULL)
        return false;
    for (size_t i = 0; i < config->broker_count; i++) {
        if (!config->brokers[i].url.tls)
            continue;
        add(admin, CERTIFICATE_BROKER, i, 0);
        add_file(admin, CERTIFICATE_BROKER_CLIENT, i, config->brokers[i].tls.cert_file);
    }
    if (config->redis.url.tls) {
        add(admin, CERTIFICATE_REDIS, 0, 0);
        add_file(admin, CERTIFICATE_REDIS_CLIENT, 0, config->redis.tls.cert_file);
    }
    add_file(admin, CERTIFICATE_ADMIN, 0, config->admin.tls.cert_file);
    return true;
}

void certificates_close(struct admin *admin)
{
    if (admin->look != NULL)
        end_look(admin->look);
    free(admin->look);
    free(admin->certificates);
}

/* Of one that seems to be near its end nothing is said before another look. */
static void take_shown(struct admin_certificate *certificate, uint64_t shown_end)
{
    uint64_t looked_end = certificate->looked_end;
    if (shown_end != certificate->shown_end)
        certificate->looked_ms = 0;
    certificate->shown_end = shown_end;
    if (!is_near(shown_end))
        certificate->end = shown_end;
    else if (certificate->looked_ms == 0)
        certificate->end = 0;
    else
        certificate->end = looked_end > shown_end ? looked_end : shown_end;
}

void certificates_take(struct admin *admin)
{
    for (size_t i = 0; i < admin->certificate_count; i++) {
        struct admin_certificate *certificate = &admin->certificates[i];
        if (certificate->of == CERTIFICATE_BROKER)
            take_shown(certificate, admin->brokers[certificate->broker].sum.certificate_end);
        else if (certificate->of == CERTIFICATE_REDIS)
            take_shown(certificate, redis_link_certificate_end(admin->setting.link));
    }
}

static const struct {
    const char *name;
    const char *words;
} whose[] = {
    [CERTIFICATE_BROKER] = {"broker", "the certificate that the broker shows"},
    [CERTIFICATE_BROKER_CLIENT] = {"broker-client", "the client certificate for the broker"},
    [CERTIFICATE_REDIS] = {"redis", "the certificate that Redis shows"},
    [CERTIFICATE_REDIS_CLIENT] = {"redis-client", "the client certificate for Redis"},
    [CERTIFICATE_ADMIN] = {"admin", "the admin server's own certificate"},
};

const char *certificate_name(const struct admin_certificate *certificate)
{
    return whose[certificate->of].name;
}

const char *certificate_words(const struct admin_certificate *certificate)
{
    return whose[certificate->of].words;
}

const char *certificate_broker_name(const struct admin *admin,
                                    const struct admin_certificate *certificate)
{
    bool of_broker =
        certificate->of == CERTIFICATE_BROKER || certificate->of == CERTIFICATE_BROKER_CLIENT;
    return of_broker ? admin->config->brokers[certificate->broker].name : NULL;
}

const struct admin_certificate *certificate_of_broker(const struct admin *admin, size_t broker)
{
    for (size_t i = 0; i < admin->certificate_count; i++)
        if (admin->certificates[i].of == CERTIFICATE_BROKER &&
            admin->certificates[i].broker == broker)
            return &admin->certificates[i];
    return NULL;
}
