/*
 * One link, one step after the other: what is kept, who lives, and for --set the closing of former
 * owners' links, which the owners of other slots would not know of, and the change.
 */
#include "core/slots_command.h"

#include "core/installation.h"
#include "core/instances.h"
#include "core/peers.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#define SLOTS_MAX 1024u
#define HOLDERS_MAX 256u

/* Answers {{field, value ...}, {instance, for how long ...}, {slot, holder, for how long ...},
 * {link ...}}. The keys behind the first two are the leases, ARGV[1] is the server's run id. */
static const char look_script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "local counts, instances, leases, links = {}, {}, {}, {}\n"
    "for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do\n"
    "  counts[#counts + 1] = field\n"
    "  counts[#counts + 1] = redis.call('HGET', KEYS[1], field)\n"
    "end\n"
    "local living = redis.call('ZRANGEBYSCORE', KEYS[2], now, '+inf', 'WITHSCORES')\n"
    "for i = 1, #living, 2 do\n"
    "  instances[i], instances[i + 1] = living[i], tonumber(living[i + 1]) - now\n"
    "end\n"
    "for i = 3, #KEYS do\n"
    "  local held = redis.call('HMGET', KEYS[i], 'holder', 'deadline')\n"
    "  local left = tonumber(held[2] or '0') - now\n"
    "  if held[1] and left > 0 then\n"
    "    leases[#leases + 1] = i - 3\n"
    "    leases[#leases + 1] = held[1]\n"
    "    leases[#leases + 1] = left\n"
    "  end\n"
    "  for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do\n"
    "    local run, id = string.match(field, '^link:([^:]*):(%d+)$')\n"
    "    if run == ARGV[1] then links[#links + 1] = id end\n"
    "  end\n"
    "end\n"
    "return {counts, instances, leases, links}\n";

/* Answers 0 when somebody has come, or changed the number, since it was looked at; else {field,
 * what was kept ('': nothing), what is kept now, ...}. ARGV: the kept number of slots, then field,
 * value
 * ... */
static const char set_script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "if (redis.call('HGET', KEYS[1], 'slots') or '') ~= ARGV[1] then return 0 end\n"
    "if #redis.call('ZRANGEBYSCORE', KEYS[2], now, '+inf') > 0 then return 0 end\n"
    "for i = 3, #KEYS do\n"
    "  local held = redis.call('HMGET', KEYS[i], 'holder', 'deadline')\n"
    "  if held[1] and tonumber(held[2] or '0') > now then return 0 end\n"
    "end\n"
    "local answer = {}\n"
    "for i = 2, #ARGV, 2 do\n"
    "  answer[#answer + 1] = ARGV[i]\n"
    "  answer[#answer + 1] = redis.call('HGET', KEYS[1], ARGV[i]) or ''\n"
    "  answer[#answer + 1] = ARGV[i + 1]\n"
    "  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])\n"
    "end\n"
    "return answer\n";

struct slots_command {
    const struct config *config;
    const struct cli *cli;
    FILE *out;
    FILE *errors;
    struct net net;
    char where[ENDPOINT_TEXT];
    char *link_name;
    struct tls_context *tls;
    struct redis_link_config link_config;
    struct redis_link *link;
    bool ready;
    bool failed;
    char *counts_key;
    char *instances_key;
    char lease_keys[SLOTS_MAX][128];
    char kept[16]; /* number of slots; "": none is kept */
    unsigned slots;
    struct installation_counts counts; /* to be kept */
    bool kill_refused;
};

/* ---- the link ------------------------------------------------------------------------------ */

static void fail(struct slots_command *command, struct bytes reason)
{
    if (!command->failed)
        fprintf(command->errors, "nemogate: Redis %s: %.*s\n", command->where, (int)reason.length,
                (const char *)reason.data);
    command->failed = true;
}

static void fail_over_reply(struct slots_command *command, const struct redis_value *reply)
{
    fail(command, reply->type == REDIS_ERROR ? reply->text : bytes_of("an unexpected answer"));
}

static void on_ready(void *context)
{
    struct slots_command *command = context;
    command->ready = true;
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)retry_ms;
    fail(context, bytes_of(reason));
}

/* Until all that was sent is answered. */
static bool wait_for_answers(struct slots_command *command)
{
    redis_link_flush(command->link);
    while (!command->failed && redis_link_outstanding(command->link) > 0)
        event_base_loop(command->net.base, EVLOOP_ONCE);
    return !command->failed;
}

static bool connect_link(struct slots_command *command)
{
    static const struct redis_link_events events = {on_ready, on_down};
    const struct config_redis *redis = &command->config->redis;
    char error[IO_ERROR_TEXT];
    struct endpoint endpoint = peer_redis_endpoint(redis, NULL);
    endpoint_format(&endpoint, command->where);
    if (!peer_open_tls(&redis->url, &redis->tls, &command->tls, error)) {
        fail(command, bytes_of(error));
        return false;
    }
    command->link_config = peer_redis_link(redis, command->tls, command->link_name);
    command->link =
        redis_link_new(&command->net, &command->link_config, &events, NULL, command, net_now_us());
    if (command->link == NULL) {
        fail(command, bytes_of("memory is short"));
        return false;
    }
    redis_link_start(command->link);
    while (!command->ready && !command->failed)
        event_base_loop(command->net.base, EVLOOP_ONCE);
    return !command->failed;
}

/* ---- showing ------------------------------------------------------------------------------- */

/* What stands in Redis may have been written by anybody: nothing of it moves a terminal's cursor or
 * ends a text in JSON. */
static void put_text(FILE *out, struct bytes text, size_t width)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        fputc(c < 0x20 || c > 0x7e || c == '"' || c == '\\' ? '?' : c, out);
    }
    for (size_t i = text.length; i < width; i++)
        fputc(' ', out);
}

static size_t widest(const struct redis_value *first, size_t step, size_t least)
{
    size_t width = least;
    while (first != NULL) {
        width = first->text.length > width ? first->text.length : width;
        for (size_t i = 0; i < step && first != NULL; i++)
            first = first->next;
    }
    return width;
}

static struct bytes configured(const struct slots_command *command, struct bytes field)
{
    for (size_t i = 0; i < command->counts.number; i++)
        if (bytes_equal(bytes_of(command->counts.item[i].field), field))
            return bytes_of(command->counts.item[i].value);
    return bytes_of("-");
}

static void show_counts(const struct slots_command *command, const struct redis_value *counts)
{
    FILE *out = command->out;
    size_t width = widest(counts->element, 2, strlen("COUNT"));
    fprintf(out, "%-*s  KEPT  CONFIGURED\n", (int)width, "COUNT");
    for (const struct redis_value *v = counts->element; v != NULL; v = v->next->next) {
        put_text(out, v->text, width + 2);
        put_text(out, v->next->text, strlen("KEPT") + 2);
        put_text(out, configured(command, v->text), 0);
        fputc('\n', out);
    }
    if (counts->count == 0)
        fputs("(nothing is kept yet: no instance has run)\n", out);
}

static void show_instances(const struct slots_command *command, const struct redis_value *instances)
{
    FILE *out = command->out;
    size_t width = widest(instances->element, 2, strlen("INSTANCE"));
    fprintf(out, "\n%-*s  LIVES FOR\n", (int)width, "INSTANCE");
    for (const struct redis_value *v = instances->element; v != NULL; v = v->next->next) {
        put_text(out, v->text, width + 2);
        fprintf(out, "%" PRId64 " ms\n", v->next->integer);
    }
    if (instances->count == 0)
        fputs("(no instance lives)\n", out);
}

/* The instance that is to have the slot; "-": none lives. */
static struct bytes preferred(const struct redis_value *instances, unsigned slot)
{
    struct bytes holders[HOLDERS_MAX];
    size_t count = 0;
    for (const struct redis_value *v = instances->element; v != NULL && count < HOLDERS_MAX;
         v = v->next->next)
        holders[count++] = v->text;
    return count > 0 ? holders[instances_choose(slot, holders, count)] : bytes_of("-");
}

/* The leases are in the order of their slots; NULL: this slot has none. */
static const struct redis_value *take_lease(const struct redis_value **lease, unsigned slot)
{
    const struct redis_value *found = *lease;
    if (found == NULL || found->integer != (int64_t)slot)
        return NULL;
    *lease = found->next->next->next;
    return found;
}

static void show_slots(const struct slots_command *command, const struct redis_value *instances,
                       const struct redis_value *leases)
{
    FILE *out = command->out;
    const struct redis_value *lease = leases->element;
    size_t width = widest(lease != NULL ? lease->next : NULL, 3, strlen("HOLDER"));
    fprintf(out, "\nSLOT  %-*s  LEASED FOR  PREFERRED\n", (int)width, "HOLDER");
    for (unsigned slot = 0; slot < command->slots; slot++) {
        const struct redis_value *found = take_lease(&lease, slot);
        fprintf(out, "%-4u  ", slot);
        put_text(out, found != NULL ? found->next->text : bytes_of("-"), width + 2);
        if (found != NULL)
            fprintf(out, "%7" PRId64 " ms  ", found->next->next->integer);
        else
            fprintf(out, "%-10s  ", "-");
        put_text(out, preferred(instances, slot), 0);
        fputc('\n', out);
    }
}

static void show_json(const struct slots_command *command, const struct redis_value *counts,
                      const struct redis_value *instances, const struct redis_value *leases)
{
    FILE *out = command->out;
    const struct redis_value *lease = leases->element;
    for (const struct redis_value *v = counts->element; v != NULL; v = v->next->next) {
        fputs("{\"count\":\"", out);
        put_text(out, v->text, 0);
        fputs("\",\"kept\":\"", out);
        put_text(out, v->next->text, 0);
        fputs("\",\"configured\":\"", out);
        put_text(out, configured(command, v->text), 0);
        fputs("\"}\n", out);
    }
    for (const struct redis_value *v = instances->element; v != NULL; v = v->next->next) {
        fputs("{\"instance\":\"", out);
        put_text(out, v->text, 0);
        fprintf(out, "\",\"lives_for_ms\":%" PRId64 "}\n", v->next->integer);
    }
    for (unsigned slot = 0; slot < command->slots; slot++) {
        const struct redis_value *found = take_lease(&lease, slot);
        fprintf(out, "{\"slot\":%u,\"holder\":\"", slot);
        put_text(out, found != NULL ? found->next->text : bytes_of("-"), 0);
        fprintf(out, "\",\"leased_for_ms\":%" PRId64 ",\"preferred\":\"",
                found != NULL ? found->next->next->integer : 0);
        put_text(out, preferred(instances, slot), 0);
        fputs("\"}\n", out);
    }
}

/* ---- setting ------------------------------------------------------------------------------- */

/* true: nobody is in the way. */
static bool is_free(struct slots_command *command, const struct redis_value *instances,
                    const struct redis_value *leases)
{
    FILE *errors = command->errors;
    if (instances->count == 0 && leases->count == 0)
        return true;
    fputs("nemogate: nothing is changed, because instances live: stop them all, and wait for the "
          "leases of those that were killed\n",
          errors);
    for (const struct redis_value *v = instances->element; v != NULL; v = v->next->next) {
        fputs("  instance ", errors);
        put_text(errors, v->text, 0);
        fprintf(errors, ", last heard of %" PRId64 " ms before it is given up\n", v->next->integer);
    }
    for (const struct redis_value *v = leases->element; v != NULL; v = v->next->next->next) {
        fprintf(errors, "  slot %" PRId64 " is leased to ", v->integer);
        put_text(errors, v->next->text, 0);
        fprintf(errors, " for %" PRId64 " ms\n", v->next->next->integer);
    }
    command->failed = true;
    return false;
}

static void say_change(const struct slots_command *command, const struct redis_value *field)
{
    FILE *out = command->out;
    struct bytes was = field->next->text, is = field->next->next->text;
    fputs(command->cli->json ? "{\"count\":\"" : "", out);
    put_text(out, field->text, 0);
    if (command->cli->json) {
        fputs("\",\"was\":\"", out);
        put_text(out, was, 0);
        fputs("\",\"kept\":\"", out);
        put_text(out, is, 0);
        fputs("\"}\n", out);
        return;
    }
    fputs(": ", out);
    if (was.length > 0 && !bytes_equal(was, is)) {
        put_text(out, was, 0);
        fputs(" -> ", out);
    }
    put_text(out, is, 0);
    fputs(bytes_equal(was, is) ? ", as before\n" : "\n", out);
}

static void on_kill(void *context, const struct redis_value *reply)
{
    struct slots_command *command = context;
    if (reply == NULL || reply->type != REDIS_ERROR)
        return;
    if (!command->kill_refused)
        fprintf(command->errors,
                "nemogate: warning: Redis did not close former owners' links: %.*s\n",
                (int)reply->text.length, (const char *)reply->text.data);
    command->kill_refused = true;
}

/* With another number of slots a stream has another owner, who knows nothing of the links of its
 * former one: they are closed here. */
static void close_links(struct slots_command *command, const struct redis_value *links)
{
    for (const struct redis_value *link = links->element; link != NULL; link = link->next) {
        struct bytes kill[] = {bytes_of("CLIENT"), bytes_of("KILL"), bytes_of("ID"), link->text};
        redis_link_command(command->link, kill, 4, on_kill, command);
    }
}

/* Whether a list is made of groups of texts (s) and integers (i) such as "is". */
static bool has_form(const struct redis_value *list, const char *group)
{
    if (list->type != REDIS_ARRAY || list->count % strlen(group) != 0)
        return false;
    size_t position = 0;
    for (const struct redis_value *v = list->element; v != NULL; v = v->next, position++)
        if (v->type != (group[position % strlen(group)] == 's' ? REDIS_STRING : REDIS_INTEGER))
            return false;
    return true;
}

static void on_set(void *context, const struct redis_value *reply)
{
    struct slots_command *command = context;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_INTEGER) {
        fail(command, bytes_of("nothing is changed, because an instance has started meanwhile"));
        return;
    }
    if (!has_form(reply, "sss")) {
        fail_over_reply(command, reply);
        return;
    }
    for (const struct redis_value *v = reply->element; v != NULL; v = v->next->next->next)
        say_change(command, v);
    if (command->config->slots != command->cli->set_slots)
        fprintf(command->errors,
                "nemogate: the configuration has slots: %u; set it to %" PRIu64
                " for all instances before they start\n",
                command->config->slots, command->cli->set_slots);
}

/* ---- steps --------------------------------------------------------------------------------- */

/* A script over the counts, the instances and all leases. */
static void send_script(struct slots_command *command, const char *script,
                        const struct bytes *arguments, size_t count, redis_reply_fn *on_reply)
{
    struct bytes all[5 + SLOTS_MAX + 1 + 2 * INSTALLATION_COUNTS_MAX];
    char keys[16];
    size_t n = 0;
    snprintf(keys, sizeof keys, "%u", 2 + command->slots);
    all[n++] = bytes_of("EVAL");
    all[n++] = bytes_of(script);
    all[n++] = bytes_of(keys);
    all[n++] = bytes_of(command->counts_key);
    all[n++] = bytes_of(command->instances_key);
    for (unsigned slot = 0; slot < command->slots; slot++) {
        snprintf(command->lease_keys[slot], sizeof command->lease_keys[slot],
                 "nemogate:{%s}:lease:%u", command->config->redis.group, slot);
        all[n++] = bytes_of(command->lease_keys[slot]);
    }
    for (size_t i = 0; i < count; i++)
        all[n++] = arguments[i];
    redis_link_command(command->link, all, n, on_reply, command);
}

static void set(struct slots_command *command)
{
    struct bytes arguments[1 + 2 * INSTALLATION_COUNTS_MAX] = {bytes_of(command->kept)};
    size_t count = 1 + installation_put_counts(&command->counts, arguments + 1);
    send_script(command, set_script, arguments, count, on_set);
}

static bool is_look(const struct redis_value *reply)
{
    static const char *const forms[] = {"ss", "si", "isi", "s"};
    if (reply->type != REDIS_ARRAY || reply->count != 4)
        return false;
    size_t position = 0;
    for (const struct redis_value *v = reply->element; v != NULL; v = v->next)
        if (!has_form(v, forms[position++]))
            return false;
    return true;
}

static void on_look(void *context, const struct redis_value *reply)
{
    struct slots_command *command = context;
    if (reply == NULL)
        return;
    if (!is_look(reply)) {
        fail_over_reply(command, reply);
        return;
    }
    const struct redis_value *counts = reply->element, *instances = counts->next,
                             *leases = instances->next, *links = leases->next;
    if (command->cli->set_slots > 0) {
        if (!is_free(command, instances, leases))
            return;
        close_links(command, links);
        set(command);
    } else if (command->cli->json) {
        show_json(command, counts, instances, leases);
    } else {
        show_counts(command, counts);
        show_instances(command, instances);
        show_slots(command, instances, leases);
    }
}

static void on_kept(void *context, const struct redis_value *reply)
{
    struct slots_command *command = context;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_NIL) {
        command->slots = command->config->slots; /* leases of former versions may be there */
        return;
    }
    if (reply->type != REDIS_STRING) {
        fail_over_reply(command, reply);
        return;
    }
    snprintf(command->kept, sizeof command->kept, "%.*s", (int)reply->text.length,
             (const char *)reply->text.data);
    unsigned long slots = strtoul(command->kept, NULL, 10);
    command->slots = slots < SLOTS_MAX ? (unsigned)slots : SLOTS_MAX;
}

static void carry_out(struct slots_command *command)
{
    struct bytes get[] = {bytes_of("HGET"), bytes_of(command->counts_key), bytes_of("slots")};
    redis_link_command(command->link, get, 3, on_kept, command);
    if (!wait_for_answers(command))
        return;
    struct bytes run_id = bytes_of(redis_link_run_id(command->link));
    send_script(command, look_script, &run_id, 1, on_look);
    command->failed = !wait_for_answers(command);
}

static bool name_things(struct slots_command *command)
{
    const struct config *config = command->config;
    const char *group = config->redis.group;
    if (asprintf(&command->counts_key, "nemogate:{%s}:slots", group) < 0)
        command->counts_key = NULL;
    if (asprintf(&command->instances_key, "nemogate:{%s}:instances", group) < 0)
        command->instances_key = NULL;
    if (asprintf(&command->link_name, "nemogate:%s:slots", config->instance) < 0)
        command->link_name = NULL;
    return command->counts_key != NULL && command->instances_key != NULL &&
           command->link_name != NULL;
}

int slots_command_run(const struct config *config, const struct cli *cli, FILE *out, FILE *errors)
{
    if (cli->set_slots > SLOTS_MAX) {
        fprintf(errors, "nemogate: --set needs a number from 1 to %u, not '%" PRIu64 "'\n",
                SLOTS_MAX, cli->set_slots);
        return CLI_EXIT_USAGE;
    }
    struct slots_command *command = calloc(1, sizeof *command);
    if (command == NULL)
        return CLI_EXIT_FAILED;
    signal(SIGPIPE, SIG_IGN);
    *command = (struct slots_command){.config = config, .cli = cli, .out = out, .errors = errors};
    installation_counts_of(config, cli->set_slots > 0 ? (unsigned)cli->set_slots : config->slots,
                           &command->counts);
    if (!name_things(command) || !net_open(&command->net))
        fail(command, bytes_of("memory is short"));
    else if (connect_link(command))
        carry_out(command);
    int exit_code = command->failed ? CLI_EXIT_FAILED : CLI_EXIT_DONE;
    redis_link_free(command->link);
    tls_context_free(command->tls);
    net_close(&command->net);
    free(command->counts_key);
    free(command->instances_key);
    free(command->link_name);
    free(command);
    return exit_code;
}
