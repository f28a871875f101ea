/*
 * Leases against a real redis-server: who holds one, which links are closed for it, and until when
 * it is good.
 */
#include "lease_driver.h"

/* ---- Redis, past the lease ---------------------------------------------------------------- */

static const char *say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *say(const char *format, ...)
{
    static char reply[8192];
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line - 2, format, arguments);
    va_end(arguments);
    real_redis_say(&redis, strcat(line, "\r\n"), reply, sizeof reply);
    return reply;
}

/* Whoever holds it, its time is over. */
static void expire(void)
{
    say("HSET " KEY " deadline 1");
}

static bool is_recorded(const struct party *party, enum lease_role role)
{
    return strncmp(say("HEXISTS " KEY " link:%s:%" PRId64,
                       redis_link_run_id(party->links[role].link), id_of(party, role)),
                   ":1", 2) == 0;
}

static void expect_text(const char *reply, const char *text)
{
    cr_expect_not_null(strstr(reply, text), "\"%s\" in \"%s\"", text, reply);
}

static void setup(void)
{
    begin_driver();
    real_redis_start(&redis);
}

static void teardown(void)
{
    net_close(&net);
    real_redis_stop(&redis);
}

TestSuite(lease, .init = setup, .fini = teardown, .timeout = 60);

/* ---- taking ------------------------------------------------------------------------------- */

Test(lease, a_free_one_is_taken)
{
    struct party a;
    party_open(&a, "a");
    cr_expect_not(is_valid(&a));
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.fresh, 1);
    cr_expect(is_valid(&a));
    expect_text(say("HGET " KEY " holder"), "\r\na\r\n");
    expect_text(say("HGET " KEY " link:%s:%" PRId64, redis_link_run_id(a.links[LEASE_WRITE].link),
                    id_of(&a, LEASE_WRITE)),
                "write");
    expect_text(say("TTL " KEY), ":-1"); /* the record outlives its deadline */
    party_close(&a);
}

Test(lease, its_own_is_kept_and_the_other_link_lives)
{
    struct party a;
    party_open(&a, "a");
    take(&a, LEASE_WRITE);
    take(&a, LEASE_READ);
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.granted, 3);
    cr_expect_eq(a.fresh, 1);
    cr_expect(is_recorded(&a, LEASE_READ));
    cr_expect(is_recorded(&a, LEASE_WRITE));
    turn_for(50);
    cr_expect_eq(a.links[LEASE_READ].down, 0);
    cr_expect_eq(a.links[LEASE_WRITE].down, 0);
    party_close(&a);
}

Test(lease, it_is_refused_while_another_holds_it)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    ask(&b, LEASE_WRITE);
    until(&b.refused, 1);
    cr_expect_str_eq(b.holder, "a");
    cr_expect_gt(b.remaining_ms, 0);
    cr_expect_leq(b.remaining_ms, TTL_MS);
    cr_expect_not(is_valid(&b));
    cr_expect_not(is_recorded(&b, LEASE_WRITE));
    cr_expect_eq(b.granted, 0);
    cr_expect(is_valid(&a));
    party_close(&a);
    party_close(&b);
}

Test(lease, after_its_time_another_takes_it_and_closes_the_former_links)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    take(&a, LEASE_READ);
    expire();
    take(&b, LEASE_WRITE);
    cr_expect_eq(b.fresh, 1);
    cr_expect(is_valid(&b));
    until(&a.links[LEASE_WRITE].down, 1);
    until(&a.links[LEASE_READ].down, 1);
    cr_expect_not(is_recorded(&a, LEASE_WRITE));
    cr_expect_not(is_recorded(&a, LEASE_READ));
    cr_expect(is_recorded(&b, LEASE_WRITE));
    cr_expect_eq(b.links[LEASE_WRITE].down, 0);
    cr_expect_eq(b.links[LEASE_READ].down, 0); /* it is not recorded yet */
    expect_text(say("HLEN " KEY), ":4");       /* holder, deadline, term, b's link */
    party_close(&a);
    party_close(&b);
}

/* A parked read of a former owner would swallow entries: nothing is granted before it is gone. */
Test(lease, it_is_granted_only_when_the_former_links_are_closed)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_READ);
    int64_t id = id_of(&a, LEASE_READ);
    expire();
    take(&b, LEASE_WRITE);
    expect_text(say("CLIENT LIST ID %" PRId64, id), "$0");
    party_close(&a);
    party_close(&b);
}

Test(lease, its_own_after_its_time_is_not_fresh_when_nobody_else_had_it)
{
    struct party a;
    party_open(&a, "a");
    take(&a, LEASE_WRITE);
    expire();
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.fresh, 1);
    party_close(&a);
}

/* a loses it to b and gets it back: whatever a had in memory, b may have settled. */
Test(lease, it_is_fresh_after_another_had_it)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    expire();
    say("HSET " KEY " holder b");
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.fresh, 2);
    say("DEL " KEY);
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.fresh, 3);
    lease_forget(a.lease);
    cr_expect_not(is_valid(&a));
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.fresh, 4);
    party_close(&a);
    party_close(&b);
}

/* The taker's answer was lost: the record names it as the holder, and yet another was in between.
 */
Test(lease, an_owner_in_between_is_seen_although_the_answer_that_told_of_it_was_lost)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    expire();
    take(&b, LEASE_WRITE);
    expire();
    say("EVAL \"redis.call('HSET', KEYS[1], 'holder', 'a', 'deadline', '9999999999999', 'term', "
        "redis.call('HGET', KEYS[1], 'term') + 1) return 1\" 1 " KEY);
    lease_renew(a.lease, a.links[LEASE_READ].link);
    until(&a.refused, 1);
    cr_expect_not(is_valid(&a), "a renewal does not take what it does not know");
    take(&a, LEASE_READ);
    cr_expect_eq(a.fresh, 2);
    party_close(&a);
    party_close(&b);
}

Test(lease, links_of_another_run_of_redis_are_forgotten_and_not_killed)
{
    struct party a, stranger;
    party_open(&a, "a");
    party_open(&stranger, "stranger");
    say("HSET " KEY " holder x deadline 1 link:%040d:%" PRId64 " read", 7,
        id_of(&stranger, LEASE_READ));
    take(&a, LEASE_WRITE);
    expect_text(say("HLEN " KEY), ":4");
    turn_for(50);
    cr_expect_eq(stranger.links[LEASE_READ].down, 0);
    expect_text(say("CLIENT LIST ID %" PRId64, id_of(&stranger, LEASE_READ)), "id=");
    party_close(&a);
    party_close(&stranger);
}

/* More than one script answers at a time. */
Test(lease, any_number_of_former_links_is_struck_off)
{
    struct party a;
    party_open(&a, "a");
    for (int i = 0; i < 5; i++)
        say("EVAL \"for i = 1, 50 do redis.call('HSET', KEYS[1], 'link:%s:' .. 900000 + %d + i, "
            "'read') end return 1\" 1 " KEY,
            redis_link_run_id(a.links[LEASE_WRITE].link), i * 50);
    expect_text(say("HLEN " KEY), ":250");
    take(&a, LEASE_WRITE);
    cr_expect_eq(a.granted, 1);
    cr_expect_eq(a.fresh, 1);
    expect_text(say("HLEN " KEY), ":4");
    party_close(&a);
}

static void open_without_kill(struct party *party, const char *name)
{
    say("ACL SETUSER lab on >word ~* +@all -client|kill");
    party_open(party, name);
    redis_link_free(party->links[LEASE_WRITE].link);
    party->links[LEASE_WRITE].ready = 0;
    party_connect(party, LEASE_WRITE, "lab");
}

Test(lease, without_client_kill_it_is_granted_and_unfenced)
{
    struct party a, b;
    party_open(&a, "a");
    open_without_kill(&b, "b");
    take(&a, LEASE_WRITE);
    take(&a, LEASE_READ);
    cr_expect_eq(a.unfenced, 0);
    expire();
    take(&b, LEASE_WRITE);
    cr_expect_eq(b.fresh, 1);
    cr_expect_eq(b.unfenced, 1);
    cr_expect(is_valid(&b));
    turn_for(50);
    cr_expect_eq(a.links[LEASE_WRITE].down + a.links[LEASE_READ].down, 0);
    cr_expect(is_recorded(&a, LEASE_READ)); /* for an owner who may */
    take(&b, LEASE_WRITE);
    cr_expect_eq(b.unfenced, 2);
    take(&b, LEASE_READ); /* as a user who may */
    cr_expect_eq(b.unfenced, 2);
    until(&a.links[LEASE_READ].down, 1);
    party_close(&a);
    party_close(&b);
}

Test(lease, without_client_kill_a_first_owner_is_fenced)
{
    struct party b;
    open_without_kill(&b, "b");
    take(&b, LEASE_WRITE);
    cr_expect_eq(b.unfenced, 0); /* there is nobody to close */
    party_close(&b);
}

/* The record must not grow with every link that is opened, though nothing may be closed. */
Test(lease, without_client_kill_the_record_stays_bounded)
{
    struct party b;
    open_without_kill(&b, "b");
    for (int i = 0; i < 300; i++) {
        say("HSET " KEY " link:%s:%d read", redis_link_run_id(b.links[LEASE_WRITE].link),
            900000 + i);
        take(&b, LEASE_WRITE);
    }
    cr_expect_eq(b.unfenced, 300);
    int fields = atoi(say("HLEN " KEY) + 1);
    cr_expect_leq(fields, 103, "%d fields", fields);
    cr_expect_geq(fields, 50);
    char newest[96];
    snprintf(newest, sizeof newest, "link:%s:900299", redis_link_run_id(b.links[LEASE_WRITE].link));
    expect_text(say("HEXISTS " KEY " %s", newest), ":1");
    party_close(&b);
}

/* With another number of slots a stream would have two owners. */
Test(lease, none_is_given_where_another_number_of_slots_is_kept)
{
    struct party a;
    party_open(&a, "a");
    say("HSET " COUNTS " slots 8");
    ask(&a, LEASE_WRITE);
    until(&a.links[LEASE_WRITE].down, 1);
    expect_text(a.links[LEASE_WRITE].reason,
                COUNTS " keeps slots = 8 and this instance is configured for 4");
    cr_expect_eq(a.granted + a.refused, 0);
    cr_expect_not(is_valid(&a));
    expect_text(say("EXISTS " KEY), ":0");
    say("HSET " COUNTS " slots 4");
    take(&a, LEASE_READ);
    cr_expect(is_valid(&a));
    party_close(&a);
}

Test(lease, a_record_of_the_wrong_type_fails_the_link)
{
    struct party a;
    party_open(&a, "a");
    say("SET " KEY " x");
    ask(&a, LEASE_WRITE);
    until(&a.links[LEASE_WRITE].down, 1);
    expect_text(a.links[LEASE_WRITE].reason, "Redis refused the lease script: ");
    cr_expect_eq(a.granted, 0);
    party_close(&a);
}

/* ---- keeping and leaving ------------------------------------------------------------------ */

Test(lease, it_is_good_for_nine_tenths_of_its_time_from_the_request)
{
    struct party a;
    party_open(&a, "a");
    uint64_t before = net_now_ms();
    take(&a, LEASE_WRITE);
    uint64_t after = net_now_ms();
    cr_expect(lease_is_valid(a.lease, before + TTL_MS - TTL_MS / 10 - 1));
    cr_expect_not(lease_is_valid(a.lease, after + TTL_MS - TTL_MS / 10));
    cr_expect_not(lease_renewal_due(a.lease, before + TTL_MS / 3 - 1));
    cr_expect(lease_renewal_due(a.lease, after + TTL_MS / 3));
    party_close(&a);
}

/* What was sent before something went wrong does not tell what came of it. */
Test(lease, it_knows_when_the_last_granted_request_was_sent)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    cr_expect_eq(lease_confirmed_ms(a.lease), 0);
    uint64_t before = net_now_ms();
    take(&a, LEASE_WRITE);
    uint64_t taken = lease_confirmed_ms(a.lease);
    cr_expect(taken >= before && taken <= net_now_ms());
    turn_for(20);
    before = net_now_ms();
    lease_renew(a.lease, a.links[LEASE_WRITE].link);
    cr_expect_eq(lease_confirmed_ms(a.lease), taken);
    while (redis_link_outstanding(a.links[LEASE_WRITE].link) > 0)
        turn_for(1);
    uint64_t renewed = lease_confirmed_ms(a.lease);
    cr_expect_geq(renewed, before);
    say("HSET " KEY " holder b");
    turn_for(20);
    lease_renew(a.lease, a.links[LEASE_WRITE].link);
    until(&a.refused, 1);
    cr_expect_eq(lease_confirmed_ms(a.lease), renewed);
    party_close(&a);
    party_close(&b);
}

Test(lease, a_renewal_extends_it)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    expire();
    turn_for(20);
    uint64_t before = net_now_ms();
    lease_renew(a.lease, a.links[LEASE_WRITE].link);
    while (redis_link_outstanding(a.links[LEASE_WRITE].link) > 0)
        turn_for(1);
    cr_expect(lease_is_valid(a.lease, before + TTL_MS - TTL_MS / 10 - 1));
    cr_expect_not(lease_renewal_due(a.lease, before + TTL_MS / 3 - 1));
    ask(&b, LEASE_WRITE);
    until(&b.refused, 1);
    cr_expect_gt(b.remaining_ms, TTL_MS / 2);
    party_close(&a);
    party_close(&b);
}

/* Two renewals are on their way, and only the first is carried out: Redis counts from it. */
Test(lease, each_renewal_extends_it_from_its_own_request)
{
    struct party a;
    party_open(&a, "a");
    take(&a, LEASE_WRITE);
    take(&a, LEASE_READ);
    struct redis_link *parked = a.links[LEASE_READ].link;
    struct bytes wait[] = {bytes_of("BLPOP"), bytes_of("nothing"), bytes_of("0")};
    redis_link_command(parked, wait, 3, on_reply, (void *)"b");
    turn_for(20);
    lease_renew(a.lease, a.links[LEASE_WRITE].link);
    uint64_t first = net_now_ms();
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    lease_renew(a.lease, parked);
    while (redis_link_outstanding(a.links[LEASE_WRITE].link) > 0)
        turn_for(1);
    cr_expect_eq(redis_link_outstanding(parked), 2);
    cr_expect_not(lease_is_valid(a.lease, first + TTL_MS - TTL_MS / 10));
    party_close(&a);
}

Test(lease, a_renewal_is_refused_when_another_has_it)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    say("HSET " KEY " holder b");
    lease_renew(a.lease, a.links[LEASE_WRITE].link);
    until(&a.refused, 1);
    cr_expect_str_eq(a.holder, "b");
    cr_expect_gt(a.remaining_ms, 0);
    cr_expect_not(is_valid(&a));
    say("DEL " KEY);
    lease_renew(a.lease, a.links[LEASE_WRITE].link);
    until(&a.refused, 2);
    cr_expect_str_eq(a.holder, "");
    cr_expect_eq(a.remaining_ms, 0);
    expect_text(say("EXISTS " KEY), ":0");
    party_close(&a);
    party_close(&b);
}

Test(lease, a_release_gives_up_only_its_own_and_keeps_the_links)
{
    struct party a, b;
    party_open(&a, "a");
    party_open(&b, "b");
    take(&a, LEASE_WRITE);
    lease_release(b.lease, b.links[LEASE_WRITE].link);
    until(&b.released, 1);
    expect_text(say("HGET " KEY " holder"), "\r\na\r\n");
    lease_release(a.lease, a.links[LEASE_WRITE].link);
    cr_expect_not(is_valid(&a));
    until(&a.released, 1);
    expect_text(say("HEXISTS " KEY " holder"), ":0");
    expect_text(say("HLEN " KEY), ":2"); /* its link, for the next owner to kill */
    take(&b, LEASE_WRITE);
    cr_expect_eq(b.fresh, 1);
    party_close(&a);
    party_close(&b);
}

/* ---- time --------------------------------------------------------------------------------- */

static uint64_t redis_time(void)
{
    unsigned long long seconds = 0, microseconds = 0;
    sscanf(say("TIME"), "*2\r\n$%*d\r\n%llu\r\n$%*d\r\n%llu", &seconds, &microseconds);
    return seconds * 1000 + microseconds / 1000;
}

Test(lease, it_knows_the_time_of_redis)
{
    struct party a;
    party_open(&a, "a");
    uint64_t before = redis_time();
    take(&a, LEASE_WRITE);
    uint64_t now = net_now_ms();
    cr_expect_geq(lease_redis_time(a.lease, now), before);
    cr_expect_leq(lease_redis_time(a.lease, now), redis_time() + 1);
    cr_expect_eq(lease_redis_time(a.lease, now + 5000), lease_redis_time(a.lease, now) + 5000);
    party_close(&a);
}
