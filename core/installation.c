/*
 * One script asks and keeps: of several instances that start for the first time together one
 * decides, and the others are told.
 */
#include "core/installation.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

/* Nothing is kept where something differs. Answers {1, tag} or {0, field, kept, ...}. */
static const char agree_script[] = "local answer = {0}\n"
                                   "for i = 2, #ARGV, 2 do\n"
                                   "  local kept = redis.call('HGET', KEYS[2], ARGV[i])\n"
                                   "  if kept and kept ~= ARGV[i + 1] then\n"
                                   "    answer[#answer + 1] = ARGV[i]\n"
                                   "    answer[#answer + 1] = kept\n"
                                   "  end\n"
                                   "end\n"
                                   "if #answer > 1 then return answer end\n"
                                   "for i = 2, #ARGV, 2 do\n"
                                   "  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])\n"
                                   "end\n"
                                   "local tag = redis.call('GET', KEYS[1])\n"
                                   "if not tag then\n"
                                   "  tag = ARGV[1]\n"
                                   "  redis.call('SET', KEYS[1], tag)\n"
                                   "end\n"
                                   "return {1, tag}\n";

struct installation {
    const struct config *config;
    const struct log *log;
    struct redis_link *link;
    const struct installation_events *events;
    void *context;
    char *tag_key;
    char *counts_key;
    char tag[INSTALLATION_TAG_TEXT]; /* to be kept where Redis has none, or has lost it */
    struct installation_counts counts;
};

/* ---- the numbers --------------------------------------------------------------------------- */

void installation_counts_of(const struct config *config, unsigned slots,
                            struct installation_counts *counts)
{
    *counts = (struct installation_counts){.number = 1, .item[0].field = "slots"};
    snprintf(counts->item[0].value, sizeof counts->item[0].value, "%u", slots);
    for (size_t i = 0;
         i < config->broker_count - config->site_broker_count && i + 1 < INSTALLATION_COUNTS_MAX;
         i++) {
        struct installation_count *count = &counts->item[counts->number++];
        snprintf(count->field, sizeof count->field, "connections:%s", config->brokers[i].name);
        snprintf(count->value, sizeof count->value, "%u", config->brokers[i].connections);
    }
}

size_t installation_put_counts(const struct installation_counts *counts, struct bytes *arguments)
{
    for (size_t i = 0; i < counts->number; i++) {
        arguments[2 * i] = bytes_of(counts->item[i].field);
        arguments[2 * i + 1] = bytes_of(counts->item[i].value);
    }
    return 2 * counts->number;
}

/* ---- asking -------------------------------------------------------------------------------- */

static void fail(struct installation *installation, const struct redis_value *reply)
{
    char reason[300];
    struct bytes text =
        reply->type == REDIS_ERROR ? reply->text : bytes_of("not what was expected");
    snprintf(reason, sizeof reason,
             "Redis cannot keep the installation's id and its slot count: %.*s", (int)text.length,
             (const char *)text.data);
    redis_link_fail(installation->link, reason);
}

static const char *configured(const struct installation *installation, struct bytes field)
{
    for (size_t i = 0; i < installation->counts.number; i++)
        if (bytes_equal(bytes_of(installation->counts.item[i].field), field))
            return installation->counts.item[i].value;
    return "";
}

static void report(const struct installation *installation, struct bytes field, struct bytes kept)
{
    char command[96];
    snprintf(command, sizeof command, "nemogate slots --set %u --config FILE",
             installation->config->slots);
    log_event(installation->log, LOG_ERROR,
              "the configuration differs from what Redis keeps for all instances of the group: "
              "configure what is kept, or stop all instances and run the command",
              LOG_TEXT("key", installation->counts_key), LOG_BYTES("field", field),
              LOG_BYTES("kept", kept), LOG_TEXT("configured", configured(installation, field)),
              LOG_TEXT("command", command));
}

static void on_answer(void *context, const struct redis_value *reply)
{
    struct installation *installation = context;
    if (reply == NULL)
        return;
    const struct redis_value *first = reply->type == REDIS_ARRAY ? reply->element : NULL;
    const struct redis_value *second = first != NULL ? first->next : NULL;
    bool is_usable = second != NULL && first->type == REDIS_INTEGER;
    for (const struct redis_value *v = second; v != NULL; v = v->next)
        is_usable = is_usable && v->type == REDIS_STRING;
    if (!is_usable) {
        fail(installation, reply);
        return;
    }
    if (first->integer == 0) {
        for (const struct redis_value *v = second; v != NULL && v->next != NULL; v = v->next->next)
            report(installation, v->text, v->next->text);
        installation->events->on_mismatch(installation->context);
    } else if (second->text.length == 0 || second->text.length >= INSTALLATION_TAG_TEXT) {
        fail(installation, reply);
    } else {
        snprintf(installation->tag, sizeof installation->tag, "%.*s", (int)second->text.length,
                 (const char *)second->text.data);
        installation->events->on_agreed(installation->context, installation->tag);
    }
}

void installation_ask(struct installation *installation)
{
    struct bytes arguments[6 + 2 * INSTALLATION_COUNTS_MAX] = {bytes_of("EVAL"),
                                                               bytes_of(agree_script),
                                                               bytes_of("2"),
                                                               bytes_of(installation->tag_key),
                                                               bytes_of(installation->counts_key),
                                                               bytes_of(installation->tag)};
    size_t count = 6 + installation_put_counts(&installation->counts, arguments + 6);
    redis_link_command(installation->link, arguments, count, on_answer, installation);
    redis_link_flush(installation->link);
}

struct installation *installation_new(const struct config *config, const struct log *log,
                                      struct redis_link *link,
                                      const struct installation_events *events, void *context)
{
    struct installation *installation = calloc(1, sizeof *installation);
    uint32_t random;
    if (installation == NULL)
        return NULL;
    *installation = (struct installation){
        .config = config, .log = log, .link = link, .events = events, .context = context};
    installation_counts_of(config, config->slots, &installation->counts);
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = (uint32_t)net_now_us();
    snprintf(installation->tag, sizeof installation->tag, "%08" PRIx32, random);
    if (asprintf(&installation->tag_key, "nemogate:{%s}:id", config->redis.group) < 0)
        installation->tag_key = NULL;
    if (asprintf(&installation->counts_key, "nemogate:{%s}:slots", config->redis.group) < 0)
        installation->counts_key = NULL;
    if (installation->tag_key == NULL || installation->counts_key == NULL) {
        installation_free(installation);
        return NULL;
    }
    return installation;
}

void installation_free(struct installation *installation)
{
    if (installation == NULL)
        return;
    free(installation->tag_key);
    free(installation->counts_key);
    free(installation);
}
