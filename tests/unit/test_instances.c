/*
 * Who is to have which slot: instances of different versions must agree on it, and one that comes
 * or goes must move no slots but its own. Then heartbeats, against a real redis-server.
 */
#include "core/instances.h"

#include "real_redis.h"
#include "redis_link_driver.h"

#include <inttypes.h>

#define GROUP "nemogate:{g}:"

/* ---- rendezvous hashing ------------------------------------------------------------------- */

enum { SLOTS = 1000, MOST = 8 };

static void name_holders(struct bytes *holders, char (*names)[32], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "pod-%zu/%016" PRIx64, i,
                 (uint64_t)i * UINT64_C(0x123456789abcdef));
        holders[i] = bytes_of(names[i]);
    }
}

Test(rendezvous, never_changes)
{
    struct bytes holders[] = {bytes_of("gateway-1/0123456789abcdef"),
                              bytes_of("gateway-2/fedcba9876543210"),
                              bytes_of("gateway-3/00ff00ff00ff00ff")};
    static const size_t chosen[] = {2, 0, 2, 1, 1, 1, 0, 0, 0, 0, 1, 2};
    for (unsigned slot = 0; slot < sizeof chosen / sizeof *chosen; slot++)
        cr_expect_eq(instances_choose(slot, holders, 3), chosen[slot], "slot %u: %zu", slot,
                     instances_choose(slot, holders, 3));
    cr_expect_eq(instances_choose(1023, holders, 1), 0);
}

Test(rendezvous, does_not_depend_on_the_order)
{
    struct bytes holders[MOST], turned[MOST];
    char names[MOST][32];
    name_holders(holders, names, MOST);
    for (size_t i = 0; i < MOST; i++)
        turned[i] = holders[MOST - 1 - i];
    for (unsigned slot = 0; slot < SLOTS; slot++)
        cr_expect_eq(instances_choose(slot, holders, MOST),
                     MOST - 1 - instances_choose(slot, turned, MOST));
}

/* Without the last of them the others keep what they have; with him back he has the same again. */
Test(rendezvous, one_that_goes_moves_only_its_own_slots)
{
    struct bytes holders[MOST];
    char names[MOST][32];
    name_holders(holders, names, MOST);
    for (size_t count = 2; count <= MOST; count++)
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            size_t before = instances_choose(slot, holders, count);
            size_t after = instances_choose(slot, holders, count - 1);
            if (before != count - 1)
                cr_expect_eq(after, before, "slot %u moves from %zu to %zu", slot, before, after);
        }
}

/* Names that differ in one digit only. Nobody gets a third more or less than his share. */
Test(rendezvous, shares_evenly)
{
    struct bytes holders[MOST];
    char names[MOST][32];
    for (size_t i = 0; i < MOST; i++) {
        snprintf(names[i], sizeof names[i], "pod-%zu", i);
        holders[i] = bytes_of(names[i]);
    }
    for (size_t count = 2; count <= MOST; count++) {
        size_t slots[MOST] = {0}, share = 3 * SLOTS / count;
        for (unsigned slot = 0; slot < 3 * SLOTS; slot++)
            slots[instances_choose(slot, holders, count)]++;
        for (size_t i = 0; i < count; i++)
            cr_expect(slots[i] > share * 2 / 3 && slots[i] < share * 4 / 3,
                      "%zu of %zu has %zu slots", i, count, slots[i]);
    }
}

/* ---- heartbeats --------------------------------------------------------------------------- */

static struct real_redis redis;
static struct config config;
static struct log silent;

struct member {
    struct instances *instances;
    struct redis_link *link;
    unsigned ready;
    unsigned changes;
    unsigned other_counts;
};

static void on_link_ready(void *context)
{
    ((struct member *)context)->ready++;
}

static void on_link_down(void *context, const char *reason, uint32_t retry_ms)
{
    (void)context;
    (void)reason;
    (void)retry_ms;
}

static void on_change(void *context)
{
    ((struct member *)context)->changes++;
}

static void on_other_count(void *context)
{
    ((struct member *)context)->other_counts++;
}

static void open_member(struct member *member, const char *holder)
{
    static const struct redis_link_events link_events = {on_link_ready, on_link_down};
    static const struct instances_events instances_events = {on_change, on_other_count};
    struct redis_link_config link_config = {
        .endpoint = {.path = redis.socket}, .connect_timeout_ms = 5000, .reply_timeout_ms = 5000};
    *member = (struct member){0};
    member->link = redis_link_new(&net, &link_config, &link_events, NULL, member, 1);
    cr_assert_not_null(member->link);
    redis_link_start(member->link);
    until(&member->ready, 1);
    struct instances_setting setting = {&config, &silent, &net, member->link, holder};
    member->instances = instances_new(&setting, &instances_events, member);
    cr_assert_not_null(member->instances);
}

static void close_member(struct member *member)
{
    instances_free(member->instances);
    redis_link_free(member->link);
}

static const char *say(const char *line)
{
    static char reply[8192];
    real_redis_say(&redis, line, reply, sizeof reply);
    return reply;
}

static unsigned preferred(const struct member *member)
{
    unsigned slots = 0;
    for (unsigned slot = 0; slot < config.slots; slot++)
        slots += instances_prefers(member->instances, slot);
    return slots;
}

static void setup(void)
{
    static char group[] = "g", name[] = "pod";
    begin_driver();
    real_redis_start(&redis);
    silent = log_root(-1, LOG_ERROR, LOG_LOGFMT);
    config = (struct config){.instance = name,
                             .slots = 64,
                             .redis = {.group = group},
                             .delivery = {.lease_ttl_ms = 1000}};
    say("HSET " GROUP "slots slots 64\r\n");
}

static void teardown(void)
{
    net_close(&net);
    real_redis_stop(&redis);
}

TestSuite(instances, .init = setup, .fini = teardown, .timeout = 60);

Test(instances, one_alone_is_to_have_all_slots)
{
    struct member a;
    open_member(&a, "a/1");
    cr_expect_not(instances_prefers(a.instances, 0)); /* nothing has been heard yet */
    cr_expect_eq(instances_living(a.instances), 0);
    instances_beat(a.instances);
    until(&a.changes, 1);
    cr_expect_eq(instances_living(a.instances), 1);
    cr_expect_eq(preferred(&a), 64);
    turn_for(600); /* it goes on beating, and nothing changes */
    cr_expect_eq(a.changes, 1);
    cr_expect_eq(a.other_counts, 0);
    close_member(&a);
}

Test(instances, each_slot_is_one_members)
{
    struct member a, b;
    open_member(&a, "a/1");
    open_member(&b, "b/2");
    instances_beat(a.instances);
    until(&a.changes, 1);
    instances_beat(b.instances);
    until(&b.changes, 1);
    until(&a.changes, 2); /* with its next beat */
    for (unsigned slot = 0; slot < 64; slot++)
        cr_expect_neq(instances_prefers(a.instances, slot), instances_prefers(b.instances, slot));
    cr_expect_gt(preferred(&a), 0);
    cr_expect_gt(preferred(&b), 0);
    close_member(&a);
    close_member(&b);
}

Test(instances, one_that_leaves_is_done_without_at_once)
{
    struct member a, b;
    open_member(&a, "a/1");
    open_member(&b, "b/2");
    instances_beat(b.instances);
    instances_beat(a.instances);
    until(&a.changes, 1);
    until(&b.changes, 1);
    instances_leave(b.instances);
    uint64_t begun = net_now_ms();
    while (instances_living(a.instances) != 1 && net_now_ms() < begun + 10000)
        turn_for(10);
    cr_expect_lt(net_now_ms() - begun, 1000u, "earlier than its beat runs out");
    cr_expect_eq(preferred(&a), 64);
    instances_beat(b.instances); /* it has left for good */
    turn_for(300);
    cr_expect_eq(instances_living(a.instances), 1);
    close_member(&a);
    close_member(&b);
}

Test(instances, one_that_is_silent_is_done_without_when_its_beat_runs_out)
{
    struct member a;
    open_member(&a, "a/1");
    say("EVAL \"local t = redis.call('TIME') return redis.call('ZADD', KEYS[1], t[1] * 1000 + "
        "t[2] / 1000 + ARGV[1], 'b/2')\" 1 " GROUP "instances 700\r\n");
    say("ZADD " GROUP "instances 1000 long-dead/3\r\n");
    instances_beat(a.instances);
    until(&a.changes, 1);
    cr_expect_eq(instances_living(a.instances), 2);
    until(&a.changes, 2);
    cr_expect_eq(instances_living(a.instances), 1);
    cr_expect_eq(preferred(&a), 64);
    cr_expect_not_null(strstr(say("ZCARD " GROUP "instances\r\n"), ":2")); /* a and b */
    close_member(&a);
}

Test(instances, another_number_of_slots_is_told_of)
{
    struct member a;
    open_member(&a, "a/1");
    say("HSET " GROUP "slots slots 8\r\n");
    instances_beat(a.instances);
    until(&a.other_counts, 1);
    cr_expect_eq(a.changes, 0);
    say("DEL " GROUP "slots\r\n");
    until(&a.other_counts, 2);
    say("HSET " GROUP "slots slots 64\r\n");
    until(&a.changes, 1);
    close_member(&a);
}
