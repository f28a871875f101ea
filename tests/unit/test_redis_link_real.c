/*
 * The Redis link against a real redis-server, over TCP and over a unix socket.
 */
#include "real_redis.h"
#include "redis_link_driver.h"

static struct real_redis redis;

static void setup_real(void)
{
    begin_driver();
    real_redis_start(&redis);
}

static void teardown_real(void)
{
    end_link();
    net_close(&net);
    real_redis_stop(&redis);
}

TestSuite(redis_link_real, .init = setup_real, .fini = teardown_real, .timeout = 60);

static struct redis_link_config config_of(struct endpoint endpoint)
{
    return (struct redis_link_config){.endpoint = endpoint,
                                      .client_name = "nemogate-test",
                                      .connect_timeout_ms = 5000,
                                      .reply_timeout_ms = 5000};
}

static struct redis_link_config unix_config(void)
{
    return config_of((struct endpoint){.path = redis.socket});
}

static struct redis_link_config tcp_config(void)
{
    return config_of((struct endpoint){.host = "localhost", .port = redis.port});
}

Test(redis_link_real, stream_round_trip_over_unix_and_tcp)
{
    const struct redis_link_config configs[] = {unix_config(), tcp_config()};
    for (size_t i = 0; i < 2; i++) {
        begin(&configs[i]);
        until(&told.ready, 1);
        cr_expect_eq(strlen(redis_link_run_id(told.link)), 40);
        cr_expect_gt(redis_link_client_id(told.link), 0);
        cr_expect_not(redis_link_is_cluster(told.link));
        command(told.link, "FLUSHALL");
        command(told.link, "XGROUP CREATE s g 0 MKSTREAM");
        command(told.link, "XADD s 5-1 f v g w");
        command(told.link, "XADD s 6-1 f v");
        read_streams(told.link, "XREADGROUP GROUP g c COUNT 10 STREAMS s >", 0);
        command(told.link, "XACK s g 5-1 6-1");
        read_streams(told.link, "XREADGROUP GROUP g c COUNT 10 STREAMS s >", 0);
        redis_link_flush(told.link);
        until(&told.replies, 7);
        cr_expect_str_eq(told.out, "ready c=OK c=OK c=5-1 c=6-1 [s] 5:2 6:1 r=#2 c=2 r=nil ");
        end_link();
    }
}

Test(redis_link_real, block_is_woken_by_a_new_entry_and_kill_is_a_loss)
{
    struct redis_link_config config = unix_config();
    char text[128];
    begin(&config);
    until(&told.ready, 1);
    command(told.link, "XGROUP CREATE s g 0 MKSTREAM");
    redis_link_flush(told.link);
    until(&told.replies, 1);
    read_streams(told.link, "XREADGROUP GROUP g c COUNT 10 BLOCK 8000 STREAMS s >", 8000);
    redis_link_flush(told.link);
    turn_for(50);
    real_redis_say(&redis, "XADD s 9-9 f v\r\n", text, sizeof text);
    until(&told.replies, 2);
    cr_expect_str_eq(told.out, "ready c=OK [s] 9:1 r=#1 ");
    int64_t first = redis_link_client_id(told.link);
    char kill_command[64];
    snprintf(kill_command, sizeof kill_command, "CLIENT KILL ID %lld\r\n", (long long)first);
    read_streams(told.link, "XREADGROUP GROUP g c COUNT 10 BLOCK 8000 STREAMS s >", 8000);
    redis_link_flush(told.link);
    turn_for(50);
    real_redis_say(&redis, kill_command, text, sizeof text);
    cr_expect_str_eq(text, ":1\r\n");
    until(&told.ready, 2);
    cr_expect_str_eq(told.out, "ready c=OK [s] 9:1 r=#1 r=NULL down ready ");
    cr_expect_neq(redis_link_client_id(told.link), first);
}

Test(redis_link_real, acl_user_and_database)
{
    struct redis_link_config config = tcp_config();
    char text[256];
    real_redis_say(&redis, "ACL SETUSER lab on >right ~* +@all -info -client|setname -ping\r\n",
                   text, sizeof text);
    cr_expect_str_eq(text, "+OK\r\n");
    config.username = "lab";
    config.password = "right";
    config.database = 2;
    begin(&config);
    until(&told.ready, 1);
    cr_expect_str_eq(redis_link_run_id(told.link), "");
    command(told.link, "SET k v");
    redis_link_flush(told.link);
    until(&told.replies, 1);
    real_redis_say(&redis, "SELECT 2\r\n", text, sizeof text);
    real_redis_say(&redis, "INFO keyspace\r\n", text, sizeof text);
    cr_expect_not_null(strstr(text, "db2:keys=1"), "%s", text);
    end_link();

    config.password = "wrong";
    begin(&config);
    until(&told.down, 1);
    cr_expect(strncmp(told.reason, "Redis refused AUTH for user 'lab': WRONGPASS", 44) == 0, "%s",
              told.reason);
    end_link();

    config.database = 99;
    config.password = "right";
    begin(&config);
    until(&told.down, 1);
    cr_expect(strncmp(told.reason, "Redis refused SELECT 99: ERR", 28) == 0, "%s", told.reason);
}

Test(redis_link_real, a_missing_password_is_told)
{
    struct redis_link_config config = unix_config();
    char text[256];
    real_redis_say(&redis, "CONFIG SET requirepass s3cret\r\n", text, sizeof text);
    begin(&config);
    until(&told.down, 1);
    cr_expect(strncmp(told.reason, "Redis asks for a password, none is set: NOAUTH", 46) == 0, "%s",
              told.reason);
    end_link();
    config.password = "s3cret";
    begin(&config);
    until(&told.ready, 1);
}

Test(redis_link_real, a_stopped_redis_is_noticed_and_comes_back)
{
    struct redis_link_config config = tcp_config();
    config.reply_timeout_ms = 200;
    begin(&config);
    until(&told.ready, 1);
    kill(redis.pid, SIGSTOP);
    command(told.link, "SET k v");
    redis_link_flush(told.link);
    until(&told.down, 2);
    kill(redis.pid, SIGCONT);
    until(&told.ready, 2);
    cr_expect(strncmp(told.out, "ready c=NULL down down ", 22) == 0, "%s", told.out);
}
