/*
 * The inside of the admin server, shared by its files: admin.c (its life), admin_model.c and
 * admin_certificates.c (what is known), admin_ask.c (what Redis is asked), admin_judge.c (is all
 * well?), admin_status.c and admin_metrics.c (how it is told), admin_feed.c (events as they
 * happen), admin_letters.c (dead letters). Nobody else includes it. All on the main thread.
 */
#ifndef NEMOGATE_CORE_ADMIN_PRIVATE_H
#define NEMOGATE_CORE_ADMIN_PRIVATE_H

#include "core/admin.h"
#include "core/admin_http.h"
#include "core/json.h"
#include "core/report.h"

#include <event2/event.h>

/* ---- what is known ------------------------------------------------------------------------- */

#define ADMIN_SITES_SHOWN 1000u
#define RATE_MARKS 7u
#define RATE_MARK_MS 10000u

struct admin_site {
    char name[40];
    size_t index;
    /* Redis' word. */
    bool dead_known;
    uint64_t dead;
    /* Summed from the streams by model_sum. */
    struct slot_counts counts;
    unsigned streams; /* of slots that are held here */
    bool lag_known, pending_known;
    uint64_t lag, pending;
    uint64_t oldest_ms; /* by Redis' clock; 0: none is pending */
    uint64_t last_ms;
    bool unreadable, trim_blocked;
    bool refused_keys_known; /* always: it is counted here */
    uint64_t refused_keys;
    size_t refusing; /* broker, and its last reason code for one of them */
    uint8_t refusal;
    /* counts.settled, every RATE_MARK_MS; the newest is the first. */
    uint64_t mark[RATE_MARKS];
    unsigned marks;
    uint64_t lag_minute[2]; /* of the last two minutes */
};

struct admin_stream {
    struct admin *admin;
    char *name;
    char *dead_key;
    struct admin_site *site;
    unsigned slot;
    size_t broker;
    struct slot_counts counts;
    uint64_t last_ms;
    enum report_stream_state state;
    bool trim_blocked;
    uint64_t refused_keys;
    uint8_t refusal;
    bool lag_known, pending_known;
    uint64_t lag, pending, oldest_ms;
};

struct admin_slot {
    bool preferred;
    bool held;
    bool running;
    bool redis_up;
    unsigned streams;
    struct report_outlet *outlets; /* one per broker; the last report's */
    struct report_reason reasons[REPORT_REASONS_MAX];
    size_t reason_count;
    char owner[160];             /* of one that is not held here; "": nobody, as far as known */
    uint64_t ownerless_since_ms; /* 0: it has an owner */
};

/* A broker, summed over the slots by model_sum. */
struct admin_broker {
    struct report_outlet sum;
    bool used, up;
    uint64_t since;    /* ms since epoch: of up, or of not being up */
    uint64_t mark;     /* what has been answered, */
    uint64_t moved_ms; /* and when that last grew, or nothing waited */
    bool no_answer;    /* the last loss was for want of one, and none has come since */
    bool has_error;
    uint64_t error_at;
};

/* Those that are shown to us, and _CLIENT those that we show. */
enum admin_certificate_of {
    CERTIFICATE_BROKER,
    CERTIFICATE_BROKER_CLIENT,
    CERTIFICATE_REDIS,
    CERTIFICATE_REDIS_CLIENT,
    CERTIFICATE_ADMIN,
};

struct admin_certificate {
    enum admin_certificate_of of;
    size_t broker; /* of CERTIFICATE_BROKER and _CLIENT */
    uint64_t end;  /* s since epoch; 0: none, or it is not known yet */
    /* CERTIFICATE_BROKER and _REDIS. */
    uint64_t shown_end;  /* of the connections that there are */
    uint64_t looked_end; /* of one that was made only to look; 0: it has shown none */
    uint64_t looked_ms;  /* when; 0: not yet */
};

struct admin_error {
    uint64_t at; /* ms since epoch; 0: there was none */
    char text[REPORT_ERROR_TEXT];
};

/* ---- judgement ----------------------------------------------------------------------------- */

enum admin_level { ADMIN_OK, ADMIN_WARNING, ADMIN_ERROR };

#define REASONS_MAX 64u

struct admin_reason {
    const char *code;
    enum admin_level level;
    bool unready; /* /readyz says so */
    uint64_t since;
    const char *broker; /* NULL: none */
    const char *site;
    int slot; /* -1: none */
    bool counted;
    uint64_t count;
    const struct admin_certificate *certificate; /* NULL: none */
    char text[REPORT_ERROR_TEXT];
};

#define HISTORY_MINUTES 60u

struct admin_minute {
    uint64_t settled; /* in it */
    bool measured;
    uint64_t p50_us, p99_us;
};

struct admin {
    struct admin_setting setting;
    const struct config *config;
    struct http_server *http;
    struct tls_context *tls; /* NULL: plain HTTP */
    int left_socket;         /* that the process before has left, until it is used; -1: none */
    struct event *tick;
    struct log_limit trouble, forbidden, refused;
    uint64_t started;  /* ms since epoch */
    uint64_t begun_ms; /* net_now_ms */
    bool was_ready;    /* the process before, at its end */
    bool draining, begins_anew, hands_over;

    unsigned shards;
    uint64_t request;   /* number of the last request for reports */
    uint64_t *answered; /* by shard: the last request that it has answered */
    uint64_t *asked_ms; /* by shard: when the first one without an answer was sent; 0: none */
    struct histogram loop;
    uint64_t next_report_ms, next_mark_ms, next_minute_ms, next_listen_ms;

    struct admin_slot *slots;
    struct admin_broker *brokers;
    struct admin_certificate *certificates;
    size_t certificate_count;
    struct certificate_look *look;
    struct admin_site **rivals; /* by list: whose events somebody else takes; NULL: nobody does */
    struct admin_stream **streams;
    size_t stream_count, stream_capacity;
    struct admin_site **sites;
    size_t site_count, site_capacity;
    void *streams_by_name, *sites_by_name; /* tsearch */
    struct slot_counts totals;
    struct histogram delivery;
    uint64_t unsettled;
    uint64_t moved_mark, moved_ms; /* of acknowledgements to Redis */

    bool redis_up;
    uint64_t redis_since;
    struct admin_error redis_error;
    uint64_t redis_ahead_ms; /* Redis' clock less net_now_ms, modulo 2^64; 0: not known */
    size_t next_stream;
    unsigned next_slot;
    unsigned asking; /* commands without an answer */
    uint64_t next_time_ms;

    struct admin_reason reasons[REASONS_MAX];
    size_t reason_count;
    struct admin_minute minutes[HISTORY_MINUTES]; /* the last one is the newest */
    uint64_t minute_settled;
    struct histogram minute_delivery;

    struct admin_request *requests; /* that wait for reports, or for other threads */
    struct admin_listener *listeners;
    unsigned listener_count;
    uint64_t feed_dropped, feed_untold;
    unsigned feed_budget;
    uint64_t feed_budget_ms, next_status_ms, next_history_ms, next_heartbeat_ms;
    struct admin_question *questions; /* about the state of sites */
    uint64_t question_number;
    struct admin_letters *letters;
};

uint64_t admin_epoch_ms(void);

/* admin_model.c */
MUST_CHECK bool model_open(struct admin *admin);
void model_close(struct admin *admin);
void model_take(struct admin *admin, const struct slot_report *report);
/* Sums what is shown. */
void model_sum(struct admin *admin);
/* Every RATE_MARK_MS, and every minute; both after model_sum. */
void model_mark_rates(struct admin *admin);
void model_end_minute(struct admin *admin);
/* That the plugin's list with this index is moved to; NULL: memory is short. */
struct admin_site *model_site_of_list(struct admin *admin, size_t list);
/* Events per second over the last minute, times 100. */
uint64_t model_rate(const struct admin_site *site);

/* admin_certificates.c */
MUST_CHECK bool certificates_open(struct admin *admin);
void certificates_close(struct admin *admin);
/* Those that the servers have shown; in model_sum. */
void certificates_take(struct admin *admin);
/* Looks whether one that is near its end has been renewed meanwhile. */
void certificates_tick(struct admin *admin, uint64_t now_ms);
/* The word of the API and of the metric; and what it is, for people. */
const char *certificate_name(const struct admin_certificate *certificate);
const char *certificate_words(const struct admin_certificate *certificate);
/* Of one that is between us and a broker its name; NULL: another. */
const char *certificate_broker_name(const struct admin *admin,
                                    const struct admin_certificate *certificate);
/* The broker's own; NULL: it shows none. */
const struct admin_certificate *certificate_of_broker(const struct admin *admin, size_t broker);

/* admin_ask.c */
/* Asks Redis a little, if it has answered what it was asked before. */
void ask_turn(struct admin *admin);
uint64_t ask_redis_time(const struct admin *admin);

/* admin_judge.c */
void judge(struct admin *admin);
bool judge_is_ready(const struct admin *admin);
enum admin_level judge_level(const struct admin *admin);
/* A shard that does not turn; -1: all do. */
int judge_dead_shard(const struct admin *admin);

/* admin_status.c */
void status_write(struct admin *admin, struct json *json, bool with_history);
/* For people. admin_status_text.c */
void status_write_text(struct admin *admin, FILE *out);
void status_write_history(const struct admin *admin, struct json *json, const char *name);

/* admin_metrics.c */
void admin_metrics_write(struct admin *admin, FILE *out);

#endif
