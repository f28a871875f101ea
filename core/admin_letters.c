/*
 * /api/v1/dead-letters: the work is done by a thread of its own, one piece at a time, since it
 * waits for Redis; its result comes back by the mailbox.
 */
#include "core/admin_routes.h"

#include "codec/stream_entry.h"
#include "core/admin_letters.h"
#include "core/dead_letters_api.h"

#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

#define JOBS_MAX 8u
#define LIST_USUAL 100u
#define LIST_MAX 1000u

struct job {
    struct admin_letters *letters;
    struct job *next;
    struct http_connection *connection; /* NULL: it is gone */
    enum dead_letters_work work;
    struct letters_body body; /* owns the texts that cli views */
    struct cli cli;
};

/* What the thread hands back. */
struct result {
    unsigned status;
    size_t length;
    char text[];
};

struct admin_letters {
    struct admin *admin;
    struct job *first; /* the one that is worked on, and those that wait */
    size_t count;
    pthread_t thread;
    bool running;
};

/* ---- the thread ---------------------------------------------------------------------------- */

static struct result *make_result(unsigned status, const char *text, size_t length)
{
    struct result *result = malloc(sizeof *result + length);
    if (result == NULL)
        return NULL;
    result->status = status;
    result->length = length;
    memcpy(result->text, text, length);
    return result;
}

static struct result *fail(const char *error)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    struct json json = {.out = out};
    json_begin_object(&json, NULL);
    json_begin_object(&json, "error");
    json_text(&json, "code", "failed");
    json_text(&json, "text", error);
    json_end_object(&json);
    json_end_object(&json);
    struct result *result = fclose(out) == 0 ? make_result(503, text, length) : NULL;
    free(text);
    return result;
}

static void *work(void *context)
{
    struct job *job = context;
    struct admin *admin = job->letters->admin;
    char *text = NULL, error[768];
    size_t length = 0;
    struct result *result = NULL;
    FILE *out = open_memstream(&text, &length);
    if (out != NULL) {
        bool good =
            dead_letters_work(admin->config, job->work, &job->cli, out, error, sizeof error);
        if (fclose(out) == 0)
            result = good ? make_result(200, text, length) : fail(error);
        free(text);
    }
    tls_thread_end();
    if (result != NULL)
        mailbox_post_data(admin->setting.mailbox, MAIL_LETTERS, 0, 0, result);
    else
        mailbox_post(admin->setting.mailbox, MAIL_LETTERS, 0, 0, NULL);
    return NULL;
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static void end_first(struct admin_letters *letters, const struct result *result)
{
    struct job *job = letters->first;
    letters->first = job->next;
    letters->count--;
    if (job->connection != NULL && result != NULL)
        http_answer(job->connection, result->status, "application/json",
                    (struct bytes){(const uint8_t *)result->text, result->length});
    else if (job->connection != NULL)
        http_answer_error(job->connection, 503, "memory", "memory is short");
    letters_body_free(&job->body);
    free(job);
}

static void start_next(struct admin_letters *letters)
{
    while (letters->first != NULL && !letters->running) {
        letters->running = pthread_create(&letters->thread, NULL, work, letters->first) == 0;
        if (!letters->running)
            end_first(letters, NULL);
    }
}

void letters_take(struct admin *admin, const void *data)
{
    struct admin_letters *letters = admin->letters;
    pthread_join(letters->thread, NULL);
    letters->running = false;
    end_first(letters, data);
    start_next(letters);
}

static void begin(struct admin *admin, struct http_connection *connection, struct job *job)
{
    struct admin_letters *letters = admin->letters;
    struct job **last = &letters->first;
    job->letters = letters;
    job->connection = connection;
    while (*last != NULL)
        last = &(*last)->next;
    *last = job;
    letters->count++;
    start_next(letters);
}

void letters_gone(struct admin *admin, const struct http_connection *connection)
{
    for (struct job *job = admin->letters->first; job != NULL; job = job->next)
        if (job->connection == connection)
            job->connection = NULL;
}

/* ---- requests ------------------------------------------------------------------------------ */

static struct job *make_job(struct admin *admin, struct http_connection *connection)
{
    struct job *job = admin->letters->count < JOBS_MAX ? calloc(1, sizeof *job) : NULL;
    if (job == NULL)
        http_answer_error(connection, 503, "busy", "too many requests about dead letters wait");
    return job;
}

static void refuse(struct job *job, struct http_connection *connection, const char *text)
{
    letters_body_free(&job->body);
    free(job);
    http_answer_error(connection, 400, "bad-request", text);
}

static void answer_list(struct admin *admin, struct http_connection *connection, const char *query)
{
    struct job *job = make_job(admin, connection);
    char site[64], reason[128], limit[16];
    if (job == NULL)
        return;
    job->work = DEAD_LETTERS_LIST;
    job->cli.limit = LIST_USUAL;
    if (http_query_value(query, "site", site, sizeof site) && site[0] != '\0')
        job->cli.sites.item[job->cli.sites.count++] = letters_body_keep(&job->body, site);
    if (http_query_value(query, "reason", reason, sizeof reason) && reason[0] != '\0')
        job->cli.reasons.item[job->cli.reasons.count++] = letters_body_keep(&job->body, reason);
    if (http_query_value(query, "limit", limit, sizeof limit))
        job->cli.limit = strtoul(limit, NULL, 10);
    if (job->body.failed ||
        (job->cli.sites.count > 0 && !site_id_valid(bytes_of(job->cli.sites.item[0]))))
        refuse(job, connection, "site is no id of a site");
    else if (job->cli.limit == 0 || job->cli.limit > LIST_MAX)
        refuse(job, connection, "limit must be 1 to 1000");
    else
        begin(admin, connection, job);
}

/* No form, and no simple request of another site's page, has these two. */
static bool may_change(struct admin *admin, struct http_connection *connection,
                       const struct http_request *request)
{
    if (!admin->config->admin.write)
        http_answer_error(connection, 403, "read-only", "admin.write is not set");
    else if (strncasecmp(request->content_type, "application/json", 16) != 0)
        http_answer_error(connection, 415, "content-type", "application/json is expected");
    else if (strcmp(request->marker, "1") != 0)
        http_answer_error(connection, 403, "marker", "the header X-Nemogate: 1 is expected");
    else
        return true;
    return false;
}

static void answer_change(struct admin *admin, struct http_connection *connection,
                          const struct http_request *request, enum dead_letters_work what)
{
    if (!may_change(admin, connection, request))
        return;
    struct job *job = make_job(admin, connection);
    if (job == NULL)
        return;
    job->work = what;
    if (!letters_body_read(request->body, &job->body, &job->cli)) {
        refuse(job, connection,
               "an object with site, ids (1 to 100 texts) and perhaps force is expected");
        return;
    }
    log_event(admin->setting.log, LOG_INFO,
              what == DEAD_LETTERS_DROP ? "dead letters are dropped over HTTP"
                                        : "dead letters are replayed over HTTP",
              LOG_TEXT("site", job->cli.sites.item[0]), LOG_INT("letters", job->cli.ids.count),
              LOG_INT("force", job->cli.force));
    begin(admin, connection, job);
}

bool letters_answer(struct admin *admin, struct http_connection *connection,
                    const struct http_request *request)
{
    bool reads = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    bool posts = strcmp(request->method, "POST") == 0;
    if (reads && strcmp(request->path, "/api/v1/dead-letters") == 0)
        answer_list(admin, connection, request->query);
    else if (posts && strcmp(request->path, "/api/v1/dead-letters/replay") == 0)
        answer_change(admin, connection, request, DEAD_LETTERS_REPLAY);
    else if (posts && strcmp(request->path, "/api/v1/dead-letters/drop") == 0)
        answer_change(admin, connection, request, DEAD_LETTERS_DROP);
    else
        return false;
    return true;
}

/* ---- making and ending --------------------------------------------------------------------- */

bool letters_open(struct admin *admin)
{
    admin->letters = calloc(1, sizeof *admin->letters);
    if (admin->letters != NULL)
        admin->letters->admin = admin;
    return admin->letters != NULL;
}

void letters_close(struct admin *admin)
{
    struct admin_letters *letters = admin->letters;
    if (letters == NULL)
        return;
    if (letters->running)
        pthread_join(letters->thread, NULL);
    for (struct job *job = letters->first; job != NULL; job = job->next)
        job->connection = NULL;
    while (letters->first != NULL)
        end_first(letters, NULL);
    free(letters);
}
