/*
 * A Redis link driven by a hostile server and a restless owner. Input: a byte of settings, then
 * steps: a byte that names one, and what it needs. Whatever happens, each command is answered at
 * most once and in order, by a reply or by the word that the link went down, and never from within
 * a call of the owner; entries come only while a read is the oldest unanswered command.
 */
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/memory_net.h"
#include "transport/redis_link.h"

#include <stdio.h>

#define MOST_COMMANDS 2000
#define MOST_STEPS 2000

/* What the server may say at a step, beside bytes of the fuzzer's own. */
static const char *const replies[] = {
    "+OK\r\n",
    ":42\r\n",
    "$27\r\nrun_id:ab12\r\nredis_mode:x\r\n\r\n",
    "+PONG\r\n",
    "+OK\r\n:7\r\n$-1\r\n+PONG\r\n",
    "+OK\r\n+OK\r\n+OK\r\n:7\r\n$18\r\nredis_mode:cluster\r\n+PONG\r\n",
    "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    ("*2\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n5-1\r\n*-1\r\n*2\r\n$3\r\n5-2\r\n*0\r\n"
     "*2\r\n$1\r\nt\r\n*0\r\n"),
    "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\na\r\n",
    "*-1\r\n",
    "-NOGROUP no such group\r\n",
    "-LOADING Redis is loading\r\n",
    "-NOPERM no\r\n",
    "-NOAUTH Authentication required.\r\n",
    "*3\r\n:1\r\n$3\r\nabc\r\n*1\r\n+x\r\n",
    "$2147483647\r\n",
};

/* What the owner does from within its next callback. */
enum whim { WHIM_NONE, WHIM_FAIL, WHIM_STOP, WHIM_RESTART, WHIM_COMMAND, WHIM_READ, WHIMS };

struct command {
    bool reads;
    bool answered;
};

struct test {
    struct net net;
    struct redis_link *link;
    bool ready;
    bool calling; /* the owner is in a call of the link: no callback may come */
    enum whim whim;
    struct command commands[MOST_COMMANDS];
    size_t issued;
    size_t first; /* the oldest that may still be answered */
    size_t entries;
};

static void fail(struct test *test)
{
    redis_link_fail(test->link, "a whim of the owner");
}

static void stop(struct test *test)
{
    redis_link_stop(test->link);
    test->first = test->issued; /* forgotten without a callback */
    test->ready = false;
    test->entries = 0;
    require(redis_link_outstanding(test->link) == 0 && !redis_link_is_ready(test->link));
}

static void on_reply(void *context, const struct redis_value *reply);

static struct test *the_test;

/* The context of a command is its place, so that an answer out of order is seen. */
static void issue(struct test *test, bool reads)
{
    if (!redis_link_is_ready(test->link) || test->issued == MOST_COMMANDS)
        return;
    const struct bytes arguments[] = {bytes_of("XREADGROUP"), bytes_of(""), bytes_of("a b")};
    struct command *command = &test->commands[test->issued++];
    *command = (struct command){.reads = reads};
    if (reads)
        redis_link_read(test->link, arguments, 3, 1000, on_reply, command);
    else
        redis_link_command(test->link, arguments, 3, on_reply, command);
}

static void follow_whim(struct test *test)
{
    enum whim whim = test->whim;
    test->whim = WHIM_NONE;
    switch (whim) {
    case WHIM_FAIL:
        fail(test);
        break;
    case WHIM_STOP:
        stop(test);
        break;
    case WHIM_RESTART:
        stop(test);
        redis_link_start(test->link);
        break;
    case WHIM_COMMAND:
        issue(test, false);
        break;
    case WHIM_READ:
        issue(test, true);
        break;
    case WHIM_NONE:
    case WHIMS:
        break;
    }
}

static void walk(const struct redis_value *value, unsigned depth)
{
    require(depth < 16);
    size_t count = 0;
    for (const struct redis_value *e = value->element; e != NULL; e = e->next, count++)
        walk(e, depth + 1);
    require(value->type == REDIS_ARRAY ? count == value->count : count == 0);
}

static void check_reply(struct test *test, const struct command *command,
                        const struct redis_value *reply)
{
    if (!command->reads || reply->type != REDIS_ARRAY) {
        require(!command->reads || reply->type == REDIS_NIL || reply->type == REDIS_ERROR);
        walk(reply, 0);
        return;
    }
    require(reply->element == NULL && reply->count == test->entries);
}

static void on_reply(void *context, const struct redis_value *reply)
{
    struct test *test = the_test;
    struct command *command = context;
    require(!test->calling && !command->answered);
    require(command == &test->commands[test->first] && test->first < test->issued);
    command->answered = true;
    test->first++;
    if (reply != NULL)
        check_reply(test, command, reply);
    test->entries = 0;
    follow_whim(test);
}

static void on_ready(void *context)
{
    struct test *test = context;
    require(!test->calling && !test->ready && redis_link_is_ready(test->link));
    require(test->first == test->issued && redis_link_client_id(test->link) != INT64_MIN);
    test->ready = true;
    follow_whim(test);
}

static void on_down(void *context, const char *reason, uint32_t retry_ms)
{
    struct test *test = context;
    require(!test->calling && !redis_link_is_ready(test->link));
    require(test->first == test->issued && redis_link_outstanding(test->link) == 0);
    require(reason[0] != '\0' && retry_ms >= 50 && retry_ms <= 30000);
    test->ready = false;
    test->entries = 0;
    follow_whim(test);
}

static void on_stream(void *context, struct bytes name)
{
    struct test *test = context;
    require(!test->calling && test->first < test->issued && test->commands[test->first].reads);
    require(name.length == 0 || name.data != NULL);
    if (name.length % 7 == 6)
        follow_whim(test);
}

static void on_entry(void *context, const struct redis_entry *entry)
{
    struct test *test = context;
    require(!test->calling && test->first < test->issued && test->commands[test->first].reads);
    require(entry->count <= REDIS_MAX_FIELDS && (!entry->nil || entry->count == 0));
    test->entries++;
    if (test->whim == WHIM_FAIL || test->whim == WHIM_STOP)
        follow_whim(test);
}

/* ---- the steps ----------------------------------------------------------------------------- */

static void call_owner(struct test *test, uint8_t what)
{
    test->calling = true;
    switch (what % 8) {
    case 0:
    case 1:
        issue(test, false);
        break;
    case 2:
    case 3:
        issue(test, true);
        break;
    case 4:
        redis_link_proven(test->link);
        break;
    case 5:
        fail(test);
        break;
    case 6:
        stop(test);
        break;
    case 7:
        redis_link_start(test->link);
        break;
    }
    redis_link_flush(test->link);
    test->calling = false;
}

static void step(struct test *test, struct bytes *input)
{
    uint8_t what = take_u8(input);
    uint8_t how = what >> 3;
    switch (what & 7) {
    case 0:
        memory_peer_send(take_bytes(input, 1u + how));
        break;
    case 1:
    case 2:
        memory_peer_send(bytes_of(replies[how % (sizeof replies / sizeof *replies)]));
        break;
    case 3:
        call_owner(test, how);
        break;
    case 4:
        memory_net_run((uint64_t)how * how * 16);
        break;
    case 5:
        test->whim = (enum whim)(how % WHIMS);
        break;
    case 6:
        memory_net_run(0);
        break;
    case 7:
        if (how == 0)
            memory_peer_close();
        else if (how < 16)
            memory_net_accept(how % 2 == 0);
        else
            memory_net_throttle(how - 16u);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct redis_link_events events = {on_ready, on_down};
    static const struct redis_stream_sink sink = {on_stream, on_entry};
    struct bytes input = {data, size};
    uint8_t settings = take_u8(&input);
    struct test *test = calloc(1, sizeof *test);
    require(test != NULL);
    the_test = test;
    struct redis_link_config config = {
        .endpoint = {.host = "memory", .port = 1},
        .username = (settings & 1) != 0 ? "user" : NULL,
        .password = (settings & 2) != 0 ? "secret" : NULL,
        .database = settings >> 2 & 1,
        .client_name = (settings & 8) != 0 ? "name" : NULL,
        .connect_timeout_ms = 1000,
        .reply_timeout_ms = 1000,
    };
    test->net = memory_net_open();
    test->link = redis_link_new(&test->net, &config, &events, &sink, test, settings);
    require(test->link != NULL);
    redis_link_start(test->link);
    memory_net_run(0);
    for (int steps = 0; input.length > 0 && steps < MOST_STEPS; steps++)
        step(test, &input);
    redis_link_free(test->link);
    memory_net_close(&test->net);
    free(test);
    return 0;
}
