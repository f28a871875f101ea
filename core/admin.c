/*
 * The admin server's life: it listens, asks for reports, and answers what is asked. An answer about
 * the present waits for the shards' reports, but not for long: a shard that does not turn must not
 * keep its own failure from being told.
 */
#include "core/admin_private.h"

#include "core/admin_routes.h"
#include "core/admin_socket.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 100u
#define REPORT_MS 2000u
#define MINUTE_MS 60000u
#define LISTEN_MS 5000u
/* How often a client is told of that does not come to speak TLS. */
#define REFUSED_MS 600000u
/* A process that begins anew waits so long for those who have been let in. */
#define HAND_OVER_MS 500u

uint64_t admin_epoch_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- reports ------------------------------------------------------------------------------- */

uint64_t admin_request_reports(struct admin *admin)
{
    uint64_t now = net_now_ms();
    admin->request++;
    for (unsigned i = 0; i < admin->shards; i++)
        if (admin->asked_ms[i] == 0)
            admin->asked_ms[i] = now;
    if (admin->shards > 0)
        admin->setting.post(admin->setting.context, MAIL_REPORT, admin->request, NULL);
    admin->next_report_ms = now + REPORT_MS;
    return admin->request;
}

bool admin_has_reports(const struct admin *admin, uint64_t number)
{
    for (unsigned i = 0; i < admin->shards; i++)
        if (admin->answered[i] < number)
            return false;
    return true;
}

void admin_refresh(struct admin *admin)
{
    model_sum(admin);
    judge(admin);
}

static void on_reported(struct admin *admin, unsigned shard, uint64_t number)
{
    if (shard >= admin->shards)
        return;
    if (number == admin->request && admin->asked_ms[shard] != 0)
        histogram_note(&admin->loop, (net_now_ms() - admin->asked_ms[shard]) * 1000);
    admin->answered[shard] = number;
    if (number == admin->request)
        admin->asked_ms[shard] = 0;
    if (!admin_has_reports(admin, admin->request))
        return;
    admin_refresh(admin);
    routes_go_on(admin);
}

void admin_deliver(struct admin *admin, const struct mail *mail)
{
    if (mail->kind == MAIL_SLOT_REPORT)
        model_take(admin, mail->data);
    else if (mail->kind == MAIL_REPORTED)
        on_reported(admin, mail->slot, mail->count);
    else if (mail->kind == MAIL_SAMPLE)
        feed_sample(admin, mail->data);
    else if (mail->kind == MAIL_SLOT_STATE)
        state_take(admin, mail->count, mail->data);
    else if (mail->kind == MAIL_LETTERS)
        letters_take(admin, mail->data);
}

/* ---- what the engine tells ----------------------------------------------------------------- */

void admin_started(struct admin *admin, unsigned shards)
{
    admin->shards = shards;
    if (admin->listener_count > 0)
        admin->setting.post(admin->setting.context, MAIL_WATCH, 1, NULL);
    (void)admin_request_reports(admin);
}

void admin_draining(struct admin *admin, bool begins_anew)
{
    admin->begins_anew = false;
    admin->draining = !begins_anew;
    judge(admin);
    admin->begins_anew = begins_anew;
}

void admin_redis(struct admin *admin, const char *reason)
{
    bool up = reason == NULL;
    if (up != admin->redis_up || admin->redis_since == 0)
        admin->redis_since = admin_epoch_ms();
    admin->redis_up = up;
    if (!up) {
        admin->redis_error.at = admin_epoch_ms();
        snprintf(admin->redis_error.text, sizeof admin->redis_error.text, "%s", reason);
    }
    judge(admin);
}

void admin_prefer(struct admin *admin, unsigned slot, bool preferred)
{
    admin->slots[slot].preferred = preferred;
}

void admin_rival(struct admin *admin, size_t list, bool there)
{
    admin->rivals[list] = there ? model_site_of_list(admin, list) : NULL;
    judge(admin);
}

/* ---- listening ----------------------------------------------------------------------------- */

static void on_refused(void *context, const char *reason)
{
    struct admin *admin = context;
    uint64_t held_back;
    if (log_limit_pass(&admin->refused, net_now_ms(), REFUSED_MS, &held_back))
        log_event(admin->setting.log, LOG_WARNING,
                  "no TLS with a client of the admin server: it speaks HTTPS here, with the "
                  "certificate of admin.tls",
                  LOG_TEXT("reason", reason), LOG_INT("repeated", held_back));
}

static bool open_tls(struct admin *admin, char *error)
{
    const struct config_tls *tls = &admin->config->admin.tls;
    const struct tls_settings settings = {
        .ca_file = tls->ca_file, .cert_file = tls->cert_file, .key_file = tls->key_file};
    if (admin->tls == NULL && tls->cert_file[0] != '\0')
        admin->tls = tls_context_new_server(&settings, error);
    return admin->tls != NULL || tls->cert_file[0] == '\0';
}

static bool open_server(struct admin *admin, char *error)
{
    const struct config_admin *config = &admin->config->admin;
    struct http_setting setting = {.net = admin->setting.net,
                                   .host = config->host,
                                   .port = config->port,
                                   .socket = admin->left_socket,
                                   .on_request = routes_on_request,
                                   .on_gone = routes_on_gone,
                                   .on_refused = on_refused,
                                   .context = admin};
    if (!open_tls(admin, error))
        return false;
    setting.tls = admin->tls;
    admin->http = http_server_new(&setting, error);
    if (admin->http != NULL)
        admin->left_socket = -1;
    return admin->http != NULL;
}

static void tell_that_it_listens(const struct admin *admin)
{
    const struct config_admin *config = &admin->config->admin;
    log_event(admin->setting.log, LOG_INFO, "the admin server listens",
              LOG_TEXT("address", config->listen),
              LOG_TEXT("protocol", admin->tls != NULL ? "https" : "http"));
    if (!config->loopback && admin->tls == NULL)
        log_event(admin->setting.log, LOG_WARNING,
                  "the admin server has no TLS: whoever listens on the network can read the token "
                  "and all events, unless a proxy with TLS stands before it; see admin.tls",
                  LOG_TEXT("address", config->listen));
}

/* Events are carried all the same where the address cannot be had. */
static void try_to_listen(struct admin *admin, uint64_t now)
{
    const struct config_admin *config = &admin->config->admin;
    char error[IO_ERROR_TEXT];
    uint64_t held_back;
    admin->next_listen_ms = now + LISTEN_MS;
    if (open_server(admin, error))
        tell_that_it_listens(admin);
    else if (log_limit_pass(&admin->trouble, now, 600000, &held_back))
        log_event(admin->setting.log, LOG_ERROR,
                  "the admin server cannot listen: no metrics, no health, no page; events are "
                  "carried, and it is tried again",
                  LOG_TEXT("address", config->listen), LOG_TEXT("reason", error),
                  LOG_INT("repeated", held_back));
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct admin *admin = context;
    uint64_t now = net_now_ms();
    if (admin->http == NULL && now >= admin->next_listen_ms)
        try_to_listen(admin, now);
    ask_turn(admin);
    if (now >= admin->next_report_ms)
        (void)admin_request_reports(admin);
    if (now >= admin->next_mark_ms) {
        admin->next_mark_ms = now + RATE_MARK_MS;
        model_mark_rates(admin);
    }
    if (now >= admin->next_minute_ms) {
        admin->next_minute_ms = now + MINUTE_MS;
        model_end_minute(admin);
    }
    certificates_tick(admin, now);
    routes_tick(admin, now);
    feed_tick(admin, now);
    state_tick(admin, now);
}

/* ---- making and ending --------------------------------------------------------------------- */

static void take_socket(struct admin *admin)
{
    const struct config_admin *config = &admin->config->admin;
    const char *host = config->listen[0] != '\0' ? config->host : "";
    admin->left_socket = admin_socket_take(host, config->port, &admin->was_ready);
}

void admin_hand_over(struct admin *admin)
{
    uint64_t until = net_now_ms() + HAND_OVER_MS;
    if (admin->http == NULL)
        return;
    int socket = http_server_retire(admin->http);
    admin->hands_over = true; /* no shard is waited for: nothing that is told changes any more */
    routes_go_on(admin);
    while (http_server_is_busy(admin->http) && net_now_ms() < until)
        event_base_loop(admin->setting.net->base, EVLOOP_ONCE);
    if (!admin_socket_leave(socket, judge_is_ready(admin)))
        log_event(admin->setting.log, LOG_WARNING,
                  "the admin server cannot leave its socket to the next: for a moment nobody "
                  "listens",
                  LOG_TEXT("address", admin->config->admin.listen));
}

static bool open_admin(struct admin *admin)
{
    struct timeval period = {.tv_usec = TICK_MS * 1000};
    uint64_t now = net_now_ms();
    if (!model_open(admin) || !letters_open(admin) || admin->config->admin.listen[0] == '\0')
        return admin->letters != NULL;
    admin->next_mark_ms = now + RATE_MARK_MS;
    admin->next_minute_ms = now + MINUTE_MS;
    admin->tick = event_new(admin->setting.net->base, -1, EV_PERSIST, on_tick, admin);
    if (admin->tick == NULL || event_add(admin->tick, &period) != 0)
        return false;
    try_to_listen(admin, now);
    return true;
}

struct admin *admin_new(const struct admin_setting *setting)
{
    struct admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL)
        return NULL;
    admin->setting = *setting;
    admin->config = setting->config;
    admin->started = admin_epoch_ms();
    admin->begun_ms = admin->moved_ms = net_now_ms();
    take_socket(admin);
    if (open_admin(admin))
        return admin;
    admin_free(admin);
    return NULL;
}

void admin_free(struct admin *admin)
{
    if (admin == NULL)
        return;
    http_server_free(admin->http);
    tls_context_free(admin->tls);
    if (admin->left_socket >= 0)
        close(admin->left_socket);
    if (admin->tick != NULL)
        event_free(admin->tick);
    letters_close(admin);
    feed_close(admin);
    state_close(admin);
    routes_close(admin);
    model_close(admin);
    free(admin);
}
