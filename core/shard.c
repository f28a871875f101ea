/*
 * The loop of a shard: one wait for events, then the end of the turn for every slot, where all that
 * was gathered is written out.
 */
#include "core/shard.h"

#include "core/peers.h"
#include "core/report.h"
#include "core/watch.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>

struct shard {
    struct shard_setting setting;
    struct log log;
    struct net net;
    struct mailbox *mailbox;
    pthread_t thread;
    bool running; /* the thread has been started */
    bool ended;   /* MAIL_STOP has come */
    struct tls_context *redis_tls;
    struct tls_context **broker_tls;
    struct slot **slots; /* by number; NULL: of another shard */
};

static bool load_all_tls(struct shard *shard, char *error)
{
    const struct config *config = shard->setting.config;
    shard->broker_tls = calloc(config->broker_count, sizeof(struct tls_context *));
    if (shard->broker_tls == NULL)
        return false;
    if (!peer_open_tls(&config->redis.url, &config->redis.tls, &shard->redis_tls, error))
        return false;
    for (size_t i = 0; i < config->broker_count; i++) {
        const struct config_broker *broker = &config->brokers[i];
        if (broker->site == NULL &&
            !peer_open_tls(&broker->url, &broker->tls, &shard->broker_tls[i], error))
            return false;
    }
    return true;
}

/* That of a site's broker is opened when a slot first has a stream of the site: there may be many,
 * and most of them are other slots' business. */
static bool open_tls(void *context, size_t broker, struct tls_context **tls)
{
    struct shard *shard = context;
    const struct config_broker *config = &shard->setting.config->brokers[broker];
    char error[IO_ERROR_TEXT];
    *tls = shard->broker_tls[broker];
    if (*tls != NULL || peer_open_tls(&config->url, &config->tls, tls, error)) {
        shard->broker_tls[broker] = *tls;
        return true;
    }
    log_event(&shard->log, LOG_ERROR, "TLS cannot be used with a broker",
              LOG_TEXT("broker", config->name), LOG_TEXT("reason", error));
    return false;
}

static void for_each_slot(struct shard *shard, void (*act)(struct slot *slot))
{
    for (unsigned i = 0; i < shard->setting.config->slots; i++)
        if (shard->slots[i] != NULL)
            act(shard->slots[i]);
}

static void share_rate(struct shard *shard, size_t broker, unsigned share)
{
    for (unsigned i = 0; i < shard->setting.config->slots; i++)
        if (shard->slots[i] != NULL)
            slot_share_rate(shard->slots[i], broker, share);
}

/* The main thread learns from the last message that this one still turns. */
static void report(struct shard *shard, uint64_t number)
{
    for (unsigned i = 0; i < shard->setting.config->slots; i++) {
        struct slot_report *told = NULL;
        if (shard->slots[i] != NULL)
            told = slot_report_new(shard->slots[i]);
        if (told != NULL)
            mailbox_post_data(shard->setting.to_main, MAIL_SLOT_REPORT, i, number, told);
    }
    mailbox_post(shard->setting.to_main, MAIL_REPORTED, shard->setting.index, number, NULL);
}

static void watch(struct shard *shard, bool on)
{
    for (unsigned i = 0; i < shard->setting.config->slots; i++)
        if (shard->slots[i] != NULL)
            slot_watch(shard->slots[i], on);
}

/* The last message is without data. */
static void tell_state(struct shard *shard, uint64_t number, const char *site)
{
    for (unsigned i = 0; i < shard->setting.config->slots; i++) {
        struct watch_state *state = NULL;
        if (shard->slots[i] != NULL)
            state = slot_state(shard->slots[i], site);
        if (state != NULL)
            mailbox_post_data(shard->setting.to_main, MAIL_SLOT_STATE, i, number, state);
    }
    mailbox_post(shard->setting.to_main, MAIL_SLOT_STATE, shard->setting.index, number, NULL);
}

static void on_sample(void *context, struct watch_sample *sample)
{
    struct shard *shard = context;
    mailbox_post_data(shard->setting.to_main, MAIL_SAMPLE, 0, 0, sample);
}

static void deliver(void *context, const struct mail *mail)
{
    struct shard *shard = context;
    switch (mail->kind) {
    case MAIL_STREAM_FOUND:
        if (shard->slots[mail->slot] != NULL)
            slot_add_stream(shard->slots[mail->slot], mail->text, mail->count > 0);
        break;
    case MAIL_SLOT_PREFER:
        if (shard->slots[mail->slot] != NULL)
            slot_prefer(shard->slots[mail->slot], mail->count > 0);
        break;
    case MAIL_RATE_SHARE:
        share_rate(shard, mail->slot, (unsigned)mail->count);
        break;
    case MAIL_DRAIN:
        for_each_slot(shard, slot_drain);
        break;
    case MAIL_HURRY:
        for_each_slot(shard, slot_hurry);
        break;
    case MAIL_STOP:
        shard->ended = true;
        break;
    case MAIL_REPORT:
        report(shard, mail->count);
        break;
    case MAIL_WATCH:
        watch(shard, mail->count > 0);
        break;
    case MAIL_TURN:
        mailbox_post(shard->setting.to_main, MAIL_TURNED, shard->setting.index, 0, NULL);
        break;
    case MAIL_STATE:
        tell_state(shard, mail->count, mail->text);
        break;
    case MAIL_SETTLE:
        if (shard->slots[mail->slot] != NULL)
            slot_settle_settings(shard->slots[mail->slot], mail->count, mail->text);
        break;
    case MAIL_TURNED:
    case MAIL_SETTINGS:
    case MAIL_SLOT_RUNNING:
    case MAIL_SLOT_LEFT:
    case MAIL_SLOT_STOPPED:
    case MAIL_SLOT_BROKER:
    case MAIL_SLOT_REPORT:
    case MAIL_REPORTED:
    case MAIL_SAMPLE:
    case MAIL_SLOT_STATE:
    case MAIL_LETTERS:
        break; /* to main only */
    }
}

static void on_running(void *context, unsigned slot)
{
    struct shard *shard = context;
    mailbox_post(shard->setting.to_main, MAIL_SLOT_RUNNING, slot, 0, NULL);
}

static void on_left(void *context, unsigned slot)
{
    struct shard *shard = context;
    mailbox_post(shard->setting.to_main, MAIL_SLOT_LEFT, slot, 0, NULL);
}

static void on_stopped(void *context, unsigned slot, uint64_t pending)
{
    struct shard *shard = context;
    mailbox_post(shard->setting.to_main, MAIL_SLOT_STOPPED, slot, pending, NULL);
}

static void on_broker(void *context, unsigned slot, size_t broker, bool reached)
{
    struct shard *shard = context;
    mailbox_post(shard->setting.to_main, MAIL_SLOT_BROKER, slot, broker * 2 + reached, NULL);
}

static void on_settings(void *context, struct site_request *request)
{
    struct shard *shard = context;
    mailbox_post_data(shard->setting.to_main, MAIL_SETTINGS, 0, 0, request);
}

static bool make_slots(struct shard *shard)
{
    const struct config *config = shard->setting.config;
    for (unsigned i = shard->setting.index; i < config->slots; i += config->shards) {
        struct slot_setting setting = {
            .config = config,
            .net = &shard->net,
            .log = &shard->log,
            .index = i,
            .tag = shard->setting.tag,
            .holder = shard->setting.holder,
            .redis_tls = shard->redis_tls,
            .open_tls = open_tls,
            .on_running = on_running,
            .on_left = on_left,
            .on_stopped = on_stopped,
            .on_broker = on_broker,
            .on_settings = on_settings,
            .on_sample = on_sample,
            .context = shard,
        };
        shard->slots[i] = slot_new(&setting);
        if (shard->slots[i] == NULL)
            return false;
    }
    return true;
}

static void *run(void *context)
{
    struct shard *shard = context;
    if (!make_slots(shard)) {
        log_event(&shard->log, LOG_ERROR, "no memory for the slots of this shard",
                  LOG_INT("slots", shard->setting.config->slots));
        abort();
    }
    for_each_slot(shard, slot_start);
    while (!shard->ended) {
        event_base_loop(shard->net.base, EVLOOP_ONCE);
        for_each_slot(shard, slot_turn);
    }
    tls_thread_end();
    return NULL;
}

static void free_shard(struct shard *shard)
{
    for (unsigned i = 0; shard->slots != NULL && i < shard->setting.config->slots; i++)
        slot_free(shard->slots[i]);
    free(shard->slots);
    mailbox_free(shard->mailbox);
    net_close(&shard->net);
    tls_context_free(shard->redis_tls);
    for (size_t i = 0; shard->broker_tls != NULL && i < shard->setting.config->broker_count; i++)
        tls_context_free(shard->broker_tls[i]);
    free(shard->broker_tls);
    free(shard);
}

struct shard *shard_new(const struct shard_setting *setting, char *error)
{
    struct shard *shard = calloc(1, sizeof *shard);
    snprintf(error, IO_ERROR_TEXT, "no memory");
    if (shard == NULL)
        return NULL;
    shard->setting = *setting;
    shard->log = log_child(setting->log, LOG_INT("shard", setting->index));
    shard->slots = calloc(setting->config->slots, sizeof(struct slot *));
    if (shard->slots != NULL && net_open(&shard->net))
        shard->mailbox = mailbox_new(shard->net.base, deliver, shard);
    if (shard->mailbox == NULL || !load_all_tls(shard, error)) {
        free_shard(shard);
        return NULL;
    }
    return shard;
}

bool shard_start(struct shard *shard)
{
    shard->running = pthread_create(&shard->thread, NULL, run, shard) == 0;
    return shard->running;
}

bool shard_post(struct shard *shard, enum mail_kind kind, unsigned slot, uint64_t count,
                const char *text)
{
    return mailbox_post(shard->mailbox, kind, slot, count, text);
}

void shard_join(struct shard *shard, struct slot_counts *sum)
{
    if (shard->running)
        pthread_join(shard->thread, NULL);
    for (unsigned i = 0; i < shard->setting.config->slots; i++)
        if (shard->slots[i] != NULL)
            slot_add_counts(shard->slots[i], sum);
    free_shard(shard);
}
