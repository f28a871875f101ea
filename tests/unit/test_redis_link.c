/*
 * The Redis link against a scripted Redis that speaks raw RESP one byte at a time.
 */
#include "fake_redis.h"
#include "redis_link_driver.h"

static struct fake_redis fake;

static struct redis_link_config plain_config(void)
{
    return (struct redis_link_config){.endpoint = {.host = "127.0.0.1", .port = fake.port},
                                      .client_name = "nemogate-test",
                                      .connect_timeout_ms = 5000,
                                      .reply_timeout_ms = 5000};
}

static void setup(void)
{
    begin_driver();
    fake_start(&fake, net.base);
}

static void teardown(void)
{
    end_link();
    fake_stop(&fake);
    net_close(&net);
}

TestSuite(redis_link, .init = setup, .fini = teardown, .timeout = 60);

/* ---- handshake ---------------------------------------------------------------------------- */

Test(redis_link, handshake_sends_everything_at_once_and_learns_the_server)
{
    struct redis_link_config config = plain_config();
    config.username = "lab";
    config.password = "secret";
    config.database = 3;
    begin(&config);
    cr_expect_not(redis_link_is_ready(told.link));
    until(&told.ready, 1);
    cr_expect_str_eq(fake.seen, "AUTH lab secret\nSELECT 3\nCLIENT SETNAME nemogate-test\n"
                                "CLIENT ID\nINFO server\nPING\n");
    cr_expect(redis_link_is_ready(told.link));
    cr_expect_eq(redis_link_client_id(told.link), 42);
    cr_expect_str_eq(redis_link_run_id(told.link), "ab12cd");
    cr_expect_not(redis_link_is_cluster(told.link));
    cr_expect_eq(redis_link_outstanding(told.link), 0);
    cr_expect_eq(told.down, 0);
}

Test(redis_link, handshake_leaves_out_what_is_not_configured)
{
    struct redis_link_config config = plain_config();
    config.client_name = NULL;
    begin(&config);
    until(&told.ready, 1);
    cr_expect_str_eq(fake.seen, "CLIENT ID\nINFO server\nPING\n");
}

Test(redis_link, password_alone_authenticates_the_default_user)
{
    struct redis_link_config config = plain_config();
    config.password = "secret";
    begin(&config);
    until(&told.ready, 1);
    cr_expect(strncmp(fake.seen, "AUTH secret\n", 12) == 0);
}

Test(redis_link, cluster_is_told)
{
    struct redis_link_config config = plain_config();
    fake_rule(&fake, "INFO", "$20\r\nredis_mode:cluster\r\n\r\n");
    begin(&config);
    until(&told.ready, 1);
    cr_expect(redis_link_is_cluster(told.link));
    cr_expect_str_eq(redis_link_run_id(told.link), "");
}

static bool script_is(const char *wanted)
{
    return bytes_equal(redis_link_script(told.link, "#!lua flags=allow-oom\nreturn 1\n"),
                       bytes_of(wanted));
}

Test(redis_link, redis_before_7_gets_scripts_without_their_first_line)
{
    struct redis_link_config config = plain_config();
    fake_rule(&fake, "INFO", "$22\r\nredis_version:6.0.16\r\n\r\n");
    begin(&config);
    cr_expect(script_is("#!lua flags=allow-oom\nreturn 1\n"), "nothing is known of it yet");
    until(&told.ready, 1);
    cr_expect(redis_link_is_before(told.link, 6, 2));
    cr_expect(redis_link_is_before(told.link, 7, 0));
    cr_expect_not(redis_link_is_before(told.link, 6, 0));
    cr_expect_not(redis_link_is_before(told.link, 5, 1));
    cr_expect(script_is("return 1\n"));
    cr_expect(bytes_equal(redis_link_script(told.link, "return 2\n"), bytes_of("return 2\n")));
}

Test(redis_link, redis_7_gets_scripts_as_they_are)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    cr_expect_not(redis_link_is_before(told.link, 7, 0));
    cr_expect(redis_link_is_before(told.link, 7, 1));
    cr_expect(script_is("#!lua flags=allow-oom\nreturn 1\n"));
}

Test(redis_link, forbidden_info_setname_and_ping_are_tolerated)
{
    struct redis_link_config config = plain_config();
    fake_rule(&fake, "INFO", "-NOPERM no permissions to run the 'info' command\r\n");
    fake_rule(&fake, "CLIENT SETNAME", "-NOPERM no permissions to run 'client|setname'\r\n");
    fake_rule(&fake, "PING", "-NOPERM no permissions to run the 'ping' command\r\n");
    begin(&config);
    until(&told.ready, 1);
    cr_expect_str_eq(redis_link_run_id(told.link), "");
    cr_expect_eq(redis_link_client_id(told.link), 42);
}

struct refusal {
    const char *username;
    const char *password;
    const char *command;
    const char *reply;
    const char *reason;
};

static const struct refusal refusals[] = {
    {"x", "hunter2", "AUTH", "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
     "Redis refused AUTH for user 'x': WRONGPASS invalid username-password pair or user is "
     "disabled."},
    {NULL, "hunter2", "AUTH", "-WRONGPASS invalid\r\n", "Redis refused AUTH: WRONGPASS invalid"},
    {NULL, "hunter2", "AUTH",
     "-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n",
     "Redis refused AUTH: ERR"},
    {NULL, "hunter2", "AUTH", "-hunter2 is wrong\r\n", "Redis refused AUTH: "},
    {NULL, NULL, "SELECT", "-ERR DB index is out of range\r\n",
     "Redis refused SELECT 9: ERR DB index is out of range"},
    {NULL, NULL, "SELECT", "-NOAUTH Authentication required.\r\n",
     "Redis asks for a password, none is set: NOAUTH Authentication required."},
    {NULL, NULL, "CLIENT SETNAME", "-ERR max number of clients reached\r\n",
     "Redis refused CLIENT SETNAME: ERR max number of clients reached"},
    {NULL, NULL, "CLIENT ID", "-NOPERM no permissions\r\n",
     "Redis refused CLIENT ID: NOPERM no permissions"},
    {NULL, NULL, "CLIENT ID", "+what\r\n", "Redis answered CLIENT ID without a number"},
    {NULL, NULL, "PING", "-LOADING Redis is loading the dataset in memory\r\n",
     "Redis is loading its dataset"},
};

Test(redis_link, refusals_are_told_in_clear_words_without_the_password)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *refusal = &refusals[i];
        struct redis_link_config config = plain_config();
        config.username = refusal->username;
        config.password = refusal->password;
        config.database = 9;
        size_t rules = fake.rules;
        fake_rule(&fake, refusal->command, refusal->reply);
        begin(&config);
        until(&told.down, 1);
        cr_expect_str_eq(told.reason, refusal->reason);
        cr_expect_null(strstr(told.reason, "hunter2"));
        cr_expect_eq(told.ready, 0);
        cr_expect_not(redis_link_is_ready(told.link));
        end_link();
        fake_disconnect(&fake);
        memmove(fake.rule, fake.rule + 1, rules * sizeof fake.rule[0]);
        fake.rules = rules;
    }
}

Test(redis_link, comes_back_when_loading_is_over)
{
    struct redis_link_config config = plain_config();
    fake_rule(&fake, "PING", "-LOADING Redis is loading the dataset in memory\r\n");
    begin(&config);
    until(&told.down, 2);
    fake_rule(&fake, "PING", "+PONG\r\n");
    until(&told.ready, 1);
    cr_expect_str_eq(told.out, "down down ready ");
}

/* ---- commands and replies ----------------------------------------------------------------- */

Test(redis_link, replies_go_to_their_commands_in_order)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    fake_rule(&fake, "GET", "$3\r\nabc\r\n");
    fake_rule(&fake, "DEL", ":2\r\n");
    fake_rule(&fake, "LRANGE", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    fake_rule(&fake, "BAD", "-ERR unknown\r\n");
    named(told.link, "GET k", "a");
    named(told.link, "DEL k", "b");
    named(told.link, "LRANGE l 0 -1", "c");
    named(told.link, "BAD", "d");
    cr_expect_eq(redis_link_outstanding(told.link), 4);
    redis_link_flush(told.link);
    until(&told.replies, 4);
    cr_expect_str_eq(told.out, "ready a=abc b=2 c=#2 d=ERR unknown ");
    cr_expect_eq(redis_link_outstanding(told.link), 0);
}

Test(redis_link, many_commands_grow_the_ring)
{
    struct redis_link_config config = plain_config();
    fake.piece = 100;
    begin(&config);
    until(&told.ready, 1);
    fake_rule(&fake, "INCR", ":1\r\n");
    for (unsigned i = 0; i < 1000; i++)
        command(told.link, "INCR n");
    cr_expect_eq(redis_link_outstanding(told.link), 1000);
    redis_link_flush(told.link);
    until(&told.replies, 1000);
    cr_expect_eq(redis_link_outstanding(told.link), 0);
}

#define ENTRIES                                                                                    \
    "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"                 \
    "*2\r\n$3\r\n8-0\r\n*4\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\ng\r\n$0\r\n\r\n"

Test(redis_link, entries_go_to_the_sink_and_values_to_their_command)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    fake_rule(&fake, "XREADGROUP", ENTRIES);
    fake_rule(&fake, "XREADGROUP old", "*-1\r\n");
    fake_rule(&fake, "XREADGROUP bad", "-NOGROUP No such key\r\n");
    fake_rule(&fake, "XRANGE", "*0\r\n");
    read_streams(told.link, "XREADGROUP x", 0);
    named(told.link, "XRANGE s - +", "v");
    read_streams(told.link, "XREADGROUP old", 0);
    read_streams(told.link, "XREADGROUP bad", 0);
    redis_link_flush(told.link);
    until(&told.replies, 4);
    cr_expect_str_eq(told.out, "ready [s] 7:1 8:2 r=#2 v=#0 r=nil r=NOGROUP No such key ");
}

/* ---- the way down ------------------------------------------------------------------------- */

Test(redis_link, a_loss_answers_all_commands_with_null_in_order_and_comes_back)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    named(told.link, "ONE", "1");
    named(told.link, "TWO", "2");
    read_streams(told.link, "XREADGROUP x", 0);
    redis_link_flush(told.link);
    until(&fake.commands, 4 + 3);
    fake_disconnect(&fake);
    until(&told.ready, 2);
    cr_expect_str_eq(told.out, "ready 1=NULL 2=NULL r=NULL down ready ");
    cr_expect_eq(fake.connections, 2);
    cr_expect_neq(told.reason[0], '\0');
}

Test(redis_link, backoff_grows_until_the_link_has_proved_itself)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    for (unsigned i = 1; i <= 3; i++) {
        until(&told.ready, i);
        fake_disconnect(&fake);
        until(&told.down, i);
    }
    cr_expect_geq(told.retry_ms, 200, "the third wait is drawn from 200 to 400 ms");
    until(&told.ready, 4);
    redis_link_proven(told.link);
    fake_disconnect(&fake);
    until(&told.down, 4);
    cr_expect_leq(told.retry_ms, 100);
}

Test(redis_link, nobody_listening_is_a_loss)
{
    struct redis_link_config config = plain_config();
    fake_unlisten(&fake);
    begin(&config);
    until(&told.down, 2);
    fake_listen(&fake);
    until(&told.ready, 1);
    cr_expect_eq(told.out[0], 'd');
}

Test(redis_link, silence_is_a_loss)
{
    struct redis_link_config config = plain_config();
    config.reply_timeout_ms = 100;
    begin(&config);
    until(&told.ready, 1);
    command(told.link, "SILENCE");
    redis_link_flush(told.link);
    until(&told.down, 1);
    cr_expect_str_eq(told.out, "ready c=NULL down ");
    cr_expect_str_eq(told.reason, "no answer from Redis within 100 ms");
}

Test(redis_link, silence_in_the_handshake_is_a_loss)
{
    struct redis_link_config config = plain_config();
    config.reply_timeout_ms = 100;
    fake_rule(&fake, "INFO", "");
    fake_rule(&fake, "PING", "");
    begin(&config);
    until(&told.down, 1);
    cr_expect_str_eq(told.reason, "no answer from Redis within 100 ms");
}

Test(redis_link, a_link_without_commands_has_no_timeout)
{
    struct redis_link_config config = plain_config();
    config.reply_timeout_ms = 60;
    begin(&config);
    until(&told.ready, 1);
    turn_for(300);
    cr_expect_eq(told.down, 0);
}

Test(redis_link, a_blocking_read_has_its_block_on_top)
{
    struct redis_link_config config = plain_config();
    config.reply_timeout_ms = 100;
    begin(&config);
    until(&told.ready, 1);
    read_streams(told.link, "XREADGROUP x", 60000);
    redis_link_flush(told.link);
    turn_for(400);
    cr_expect_eq(told.down, 0);
    /* A command behind it has its own time only from the read's answer on. */
    command(told.link, "SILENCE");
    redis_link_flush(told.link);
    turn_for(300);
    cr_expect_eq(told.down, 0);
    fake_say(&fake, "*-1\r\n");
    until(&told.down, 1);
    cr_expect_str_eq(told.out, "ready r=nil c=NULL down ");
}

Test(redis_link, a_reply_to_nothing_is_a_loss)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    fake_say(&fake, "+hello\r\n");
    until(&told.down, 1);
    cr_expect_str_eq(told.reason, "Redis sent a reply that answers no command");
    until(&told.ready, 2);
    fake_say(&fake, "-ERR go away\r\n");
    until(&told.down, 2);
    cr_expect_str_eq(told.reason, "Redis sent an error that answers no command: ERR go away");
}

Test(redis_link, what_is_not_resp_is_a_loss)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    command(told.link, "GET k");
    redis_link_flush(told.link);
    fake_say(&fake, "HTTP/1.1 400 Bad Request\r\n");
    until(&told.down, 1);
    cr_expect_str_eq(told.out, "ready c=NULL down ");
    cr_expect(strncmp(told.reason, "not a reply of Redis: ", 22) == 0, "%s", told.reason);
}

Test(redis_link, fail_reports_from_the_event_loop)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    command(told.link, "SILENCE");
    redis_link_fail(told.link, "the lease is lost");
    cr_expect_eq(told.down, 0);
    cr_expect_not(redis_link_is_ready(told.link));
    redis_link_fail(told.link, "a second reason does not count");
    until(&told.ready, 2);
    cr_expect_str_eq(told.out, "ready c=NULL down ready ");
    cr_expect_str_eq(told.reason, "the lease is lost");
}

Test(redis_link, stop_forgets_without_a_word_and_start_begins_anew)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    command(told.link, "SILENCE");
    redis_link_flush(told.link);
    redis_link_stop(told.link);
    cr_expect_eq(redis_link_outstanding(told.link), 0);
    cr_expect_not(redis_link_is_ready(told.link));
    turn_for(200);
    cr_expect_str_eq(told.out, "ready ");
    cr_expect_eq(fake.connections, 1);
    redis_link_start(told.link);
    until(&told.ready, 2);
}

Test(redis_link, fail_and_stop_from_within_the_sink_end_the_reply)
{
    struct redis_link_config config = plain_config();
    fake.piece = 4096;
    told.fail_at = 1;
    told.stop_at = 2;
    begin(&config);
    fake_rule(&fake, "XREADGROUP", ENTRIES ENTRIES);
    until(&told.ready, 1);
    read_streams(told.link, "XREADGROUP x", 0);
    redis_link_flush(told.link);
    until(&told.ready, 2);
    cr_expect_str_eq(told.out, "ready [s] 7:1 r=NULL down ready ");
    read_streams(told.link, "XREADGROUP x", 0);
    redis_link_flush(told.link);
    until(&told.entries, 2);
    turn_for(50);
    cr_expect_str_eq(told.out, "ready [s] 7:1 r=NULL down ready [s] 7:1 ");
}

static void on_reply_stop(void *context, const struct redis_value *reply)
{
    struct redis_link *link = context;
    note("stop%s ", reply == NULL ? "=NULL" : "");
    redis_link_stop(link);
    redis_link_start(link);
}

Test(redis_link, stop_and_start_from_within_callbacks)
{
    struct redis_link_config config = plain_config();
    begin(&config);
    until(&told.ready, 1);
    const struct bytes one[] = {bytes_of("ONE")};
    redis_link_command(told.link, one, 1, on_reply_stop, told.link);
    named(told.link, "TWO", "2");
    redis_link_flush(told.link);
    fake_rule(&fake, "ONE", "+1\r\n");
    until(&told.ready, 2);
    /* In the report of a loss it ends the report: neither the next command nor on_down is told. */
    redis_link_command(told.link, one, 1, on_reply_stop, told.link);
    named(told.link, "TWO", "2");
    redis_link_fail(told.link, "lost");
    until(&told.ready, 3);
    cr_expect_str_eq(told.out, "ready stop ready stop=NULL ready ");
    cr_expect_eq(told.down, 0);
}

/* ---- large replies ------------------------------------------------------------------------ */

/* A streams reply of count entries "1-i" with one field, about 45 bytes each. */
static char *large_reply(unsigned count)
{
    char *text = malloc(64 + (size_t)count * 64);
    char *at = text + sprintf(text, "*1\r\n*2\r\n$1\r\ns\r\n*%u\r\n", count);
    for (unsigned i = 0; i < count; i++) {
        char id[32];
        int length = sprintf(id, "1-%u", i);
        at += sprintf(at, "*2\r\n$%d\r\n%s\r\n*2\r\n$1\r\nf\r\n$4\r\nabcd\r\n", length, id);
    }
    return text;
}

Test(redis_link, a_reply_larger_than_all_buffers)
{
    struct redis_link_config config = plain_config();
    char *reply = large_reply(4000);
    fake.piece = 100000;
    fake_rule(&fake, "XREADGROUP", reply);
    begin(&config);
    until(&told.ready, 1);
    read_streams(told.link, "XREADGROUP x", 0);
    redis_link_flush(told.link);
    until(&told.replies, 1);
    cr_expect_eq(told.entries, 4000);
    cr_expect_eq(told.last_count, 4000);
    cr_expect_eq(told.down, 0);
    free(reply);
}
