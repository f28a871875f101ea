/*
 * /api/v1/sites/{site}/state: the last retained values of a site, which the shards are asked for.
 */
#include "core/admin_routes.h"

#include "codec/stream_entry.h"
#include "core/watch.h"

#include <stdlib.h>

/* Then it is answered with what has come. */
#define STATE_MS 1000u

struct admin_question {
    struct admin_question *next;
    struct http_connection *connection;
    uint64_t number;
    unsigned left; /* shards without their last word */
    uint64_t until_ms;
    bool cut;
    struct json json;
    char *text;
    size_t length;
};

static void end_question(struct admin_question *question, bool answer)
{
    struct json *json = &question->json;
    json_end_array(json);
    json_bool(json, "cut", question->cut || question->left > 0);
    json_end_object(json);
    if (fclose(json->out) == 0 && answer)
        http_answer(question->connection, 200, "application/json",
                    (struct bytes){(const uint8_t *)question->text, question->length});
    else if (answer)
        http_answer_error(question->connection, 503, "memory", "memory is short");
    free(question->text);
    free(question);
}

static bool is_path(const char *path, char site[40])
{
    static const char begin[] = "/api/v1/sites/", end[] = "/state";
    size_t length = strlen(path), around = sizeof begin + sizeof end - 2;
    if (length <= around || length - around > 32 || strncmp(path, begin, sizeof begin - 1) != 0 ||
        strcmp(path + length - (sizeof end - 1), end) != 0)
        return false;
    snprintf(site, 40, "%.*s", (int)(length - around), path + sizeof begin - 1);
    return site_id_valid(bytes_of(site));
}

bool state_answer(struct admin *admin, struct http_connection *connection, const char *path)
{
    char site[40];
    if (!is_path(path, site))
        return false;
    struct admin_question *question = calloc(1, sizeof *question);
    if (question != NULL)
        question->json.out = open_memstream(&question->text, &question->length);
    if (question == NULL || question->json.out == NULL) {
        free(question);
        http_answer_error(connection, 503, "memory", "memory is short");
        return true;
    }
    question->connection = connection;
    question->number = ++admin->question_number;
    question->left = admin->shards;
    question->until_ms = net_now_ms() + STATE_MS;
    json_begin_object(&question->json, NULL);
    json_text(&question->json, "site", site);
    json_begin_array(&question->json, "topics");
    if (admin->shards == 0) {
        end_question(question, true);
        return true;
    }
    question->next = admin->questions;
    admin->questions = question;
    admin->setting.post(admin->setting.context, MAIL_STATE, question->number, site);
    return true;
}

static void write_values(struct json *json, const struct watch_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        const struct watch_value *value = &state->value[i];
        json_begin_object(json, NULL);
        json_bytes(json, "topic", value->topic);
        if (json_is_text(value->payload))
            json_bytes(json, "payload", value->payload);
        else
            json_null(json, "payload");
        json_number(json, "at", value->at_ms);
        json_end_object(json);
    }
}

/* Takes those out that have all, or wait too long, or whose client has gone. */
static void sweep(struct admin *admin, uint64_t now_ms, const struct http_connection *gone)
{
    for (struct admin_question **link = &admin->questions; *link != NULL;) {
        struct admin_question *question = *link;
        bool is_gone = question->connection == gone;
        if (!is_gone && question->left > 0 && now_ms < question->until_ms) {
            link = &question->next;
            continue;
        }
        *link = question->next;
        end_question(question, !is_gone);
    }
}

void state_take(struct admin *admin, uint64_t number, const struct watch_state *state)
{
    for (struct admin_question *question = admin->questions; question != NULL;
         question = question->next) {
        if (question->number != number)
            continue;
        if (state != NULL) {
            write_values(&question->json, state);
            question->cut = question->cut || state->cut;
        } else if (question->left > 0) {
            question->left--;
        }
    }
    if (state == NULL)
        sweep(admin, net_now_ms(), NULL);
}

void state_gone(struct admin *admin, const struct http_connection *connection)
{
    sweep(admin, 0, connection);
}

void state_tick(struct admin *admin, uint64_t now_ms)
{
    sweep(admin, now_ms, NULL);
}

void state_close(struct admin *admin)
{
    while (admin->questions != NULL) {
        struct admin_question *question = admin->questions;
        admin->questions = question->next;
        end_question(question, false);
    }
}
