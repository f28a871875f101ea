"""Thousands of streams: all are found and read, none starves beside others with a backlog, no more is
read than there are credits for, one that is broken does not stop the others, and looking at streams
that have nothing costs little."""

import collections
import random
import time

import pytest
from harness import gateway_config, wait_until
from scale import PATIENCE, SANITIZED

SUM_PENDING = """
local sum = 0
for i = 1, tonumber(ARGV[1]) do
  local reply = redis.pcall('XPENDING', 'nemo:{s' .. i .. '}:events', 'nemogate')
  if not reply.err then sum = sum + reply[1] end
end
return sum
"""
FILL = """
for n = ARGV[3], ARGV[4] do
  for i = ARGV[1], ARGV[2] do
    redis.call('XADD', 'nemo:{s' .. i .. '}:events', '*', 'topic', 't', 'payload', n)
  end
end
"""


def stream(i):
    return f"nemo:{{s{i}}}:events"


def fill(redis, streams, entries, first=1):
    """entries of streams 1 to streams, in turn; payloads count from first."""
    step = max(1, 50_000 // streams)
    for n in range(first, first + entries, step):
        redis.client().eval(FILL, 0, 1, streams, n, min(n + step, first + entries) - 1)


def one_slot(redis, broker, **changes):
    return gateway_config(redis, broker, slots=1, shards=1, log={"level": "info"}, **changes)


def published(broker):
    """How many messages of each site have come."""
    return collections.Counter(m.topic.split("/")[1] for m in list(broker.messages)
                               if m.topic.startswith("nemo/"))


def wait_published(broker, count, timeout):
    wait_until(lambda: sum(published(broker).values()) >= count, timeout * PATIENCE,
               lambda: f"{count} messages ({len(broker.messages)} came)", interval=0.1)


def delay_of(client, broker, i):
    """Seconds until a new entry of stream i has come to the broker."""
    topic, begun = f"probe/{random.getrandbits(60)}", time.monotonic()
    client.xadd(stream(i), {"topic": topic, "payload": "x"})
    seen = 0

    def found():
        nonlocal seen
        end = len(broker.messages)
        for m in broker.messages[seen:end]:
            if m.topic.endswith(topic):
                return m
        seen = end
        return None
    return wait_until(found, 60, f"an entry of stream {i}").time - begun


def calls(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


@pytest.mark.limit(120)
def test_ten_thousand_streams_are_found_and_carried(things):
    count = 2000 if SANITIZED else 10_000
    redis, broker = things.redis(), things.recording_broker()
    fill(redis, count, 1)
    gateway = things.gateway(gateway_config(redis, broker, slots=4, log={"level": "info"},
                                            delivery={"lease_ttl": "5s"}), start=False).launch()
    wait_published(broker, count, 60)
    gateway.wait_ready(10)
    assert set(published(broker).values()) == {1}
    assert gateway.rss_kb() < 60_000 * PATIENCE
    client, before = redis.client(), calls(redis.client(), "xreadgroup")
    time.sleep(5)
    assert calls(client, "xreadgroup") - before < 60  # four reads that are parked for a second each
    worst = max(delay_of(client, broker, random.randint(1, count)) for _ in range(10))
    assert worst < 3 * PATIENCE


@pytest.mark.limit(120)
@pytest.mark.parametrize("inflight", [20, 1000])
@pytest.mark.parametrize("streams", [1, 100, 3000])
def test_no_more_is_pending_than_there_are_credits(things, streams, inflight):
    credits, backlog = max(512, 3 * inflight), 12_000
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    fill(redis, streams, backlog // streams)
    broker.hold_acks()
    gateway = things.gateway(one_slot(redis, broker, broker_changes={"inflight": inflight}))
    highest = 0

    def pending():
        nonlocal highest
        now = client.eval(SUM_PENDING, 0, streams)
        highest = max(highest, now)
        assert now <= credits
        return now
    wait_until(lambda: pending() >= credits / 2, 20 * PATIENCE, lambda: f"{highest} of {credits}")
    for turn in range(20):
        if turn == 10:
            gateway.kill9()  # what it leaves is read again before anything new
            gateway.start(30 * PATIENCE)
        broker.release_acks(100)
        pending()
        time.sleep(0.1)
        pending()
    assert highest >= credits / 2
    broker.release_acks()
    wait_until(lambda: pending() == 0 and len(published(broker)) == streams
               and sum(published(broker).values()) >= backlog, 30 * PATIENCE, "everything")


@pytest.mark.limit(120)
def test_every_stream_makes_progress_while_acknowledgements_come_slowly(things):
    streams, entries, credits, at_once = 2500, 12, 512, 4
    redis, broker = things.redis(), things.recording_broker()
    fill(redis, streams, entries)
    broker.hold_acks()
    things.gateway(one_slot(redis, broker, broker_changes={"inflight": 100}), start=False).launch()
    come = collections.Counter()
    while come.total() < streams * (entries - at_once):
        broker.release_acks(100)
        time.sleep(0.01)
        come = published(broker)
        last = min(come[f"s{i}"] for i in range(1, streams + 1))
        # Whoever is ahead has had one turn more, or it is under way to him.
        assert come.total() <= streams * (last + at_once) + credits + streams / 10, \
            f"somebody has had {last} and others {max(come.values())}"
    broker.release_acks()
    wait_published(broker, streams * entries, 30)


@pytest.mark.limit(60)
def test_single_entries_for_many_streams_are_gathered(things):
    count, rate, seconds = 2000, 400, 3
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    fill(redis, count, 1)
    things.gateway(one_slot(redis, broker))
    wait_published(broker, count, 30)
    before, begun = client.info("stats")["total_net_input_bytes"], time.monotonic()
    for n in range(rate * seconds):
        time.sleep(max(0, begun + n / rate - time.monotonic()))
        client.xadd(stream(random.randint(1, count)), {"topic": "t", "payload": "x"})
    wait_published(broker, count + rate * seconds, 10)
    # A read that names all streams costs Redis more than all else here; it is mostly their names.
    came = client.info("stats")["total_net_input_bytes"] - before
    size = sum(len(f"${len(name)}..{name}..$1..>..") for name in map(stream, range(1, count + 1)))
    assert came / size < 75 * (time.monotonic() - begun)


@pytest.mark.limit(60)
@pytest.mark.parametrize("streams", [10, 300])
def test_looking_costs_little_while_a_backlog_has_no_room(things, streams):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    fill(redis, streams, 1)
    things.gateway(one_slot(redis, broker))
    wait_published(broker, streams, 20)
    broker.hold_acks()
    fill(redis, 1, 20_000, first=2)
    wait_until(lambda: client.xpending(stream(1), "nemogate")["pending"] > 2000, 20, "credits used")
    time.sleep(1)
    before = calls(client, "xreadgroup")
    time.sleep(2)
    assert calls(client, "xreadgroup") - before < 600


@pytest.mark.limit(120)
@pytest.mark.parametrize("inflight", [100, 1000])
def test_quiet_streams_are_served_beside_hot_ones(things, inflight):
    cold, hot, backlog = 1500, 10, 30_000
    redis, broker = things.redis(), things.recording_broker(receive_maximum=100)
    client = redis.client()
    fill(redis, cold, 1)
    things.gateway(one_slot(redis, broker, broker_changes={"inflight": inflight}))
    wait_published(broker, cold, 30)
    broker.ack_delay = 0.02  # a broker that is far away: 5,000 per second
    fill(redis, hot, backlog, first=2)
    wait_published(broker, cold + 2000, 30)
    delays = [delay_of(client, broker, random.randint(hot + 1, cold)) for _ in range(15)]
    shares = [published(broker)[f"s{i}"] for i in range(1, hot + 1)]
    assert max(shares) < backlog, "the hot streams have drained before the end of the test"
    assert min(shares) > max(shares) / 2, f"hot streams do not share: {shares}"
    assert max(delays) < 5 * PATIENCE, delays


@pytest.mark.limit(120)
def test_a_fresh_event_does_not_wait_for_a_backlog_of_a_million(things):
    backlog = 50_000 if SANITIZED else 1_000_000
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    fill(redis, 20, 1)
    things.gateway(one_slot(redis, broker))
    wait_published(broker, 20, 10)
    broker.hold_acks()
    fill(redis, 1, backlog, first=2)
    broker.release_acks()
    delays = [delay_of(client, broker, random.randint(2, 20)) for _ in range(10)]
    assert client.xinfo_groups(stream(1))[0]["lag"] > 0, "drained before the end of the test"
    assert max(delays) < 5 * PATIENCE, delays


@pytest.mark.limit(120)
@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_a_broken_stream_among_thousands_stops_nobody_else(things, how):
    count, bad = 1500, 700
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    fill(redis, count, 1)
    gateway = things.gateway(one_slot(redis, broker))
    wait_published(broker, count, 30)
    before = calls(client, "xpending")
    client.delete(stream(bad))
    if how == "replaced":
        client.set(stream(bad), "not a stream")
    gateway.wait_log("a stream cannot be read", 20 * PATIENCE, stream=stream(bad))
    worst = max(delay_of(client, broker, i) for i in range(1, count, 150) if i != bad)
    assert worst < 3 * PATIENCE
    # It was found without asking all others anything, and is tried alone from now on.
    assert calls(client, "xpending") - before < 100
    reads = calls(client, "xreadgroup")
    time.sleep(3)
    assert calls(client, "xreadgroup") - reads < 40
    client.delete(stream(bad))
    client.xadd(stream(bad), {"topic": "back", "payload": "1"})
    wait_until(lambda: broker.payloads(f"nemo/s{bad}/back") == [b"1"], 10 * PATIENCE, "mended")
    assert {n for site, n in published(broker).items() if site != f"s{bad}"} <= {1, 2}


@pytest.mark.limit(60)
def test_looking_for_streams_among_many_other_keys_is_spread(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.eval("for i = 1, 100000 do redis.call('SET', 'other:' .. i, 'x') end", 0)
    client.xadd(stream(1), {"topic": "t", "payload": "1"})
    gateway = things.gateway(one_slot(redis, broker,
                                      redis_changes={"discovery_interval": "100ms"}))
    wait_until(lambda: broker.payloads("nemo/s1/t") == [b"1"], 10 * PATIENCE, "the first stream")
    before = calls(client, "scan")
    time.sleep(2)
    assert 5 < calls(client, "scan") - before < 60
    client.xadd(stream(2), {"topic": "t", "payload": "2"})
    wait_until(lambda: broker.payloads("nemo/s2/t") == [b"2"], 30 * PATIENCE, "the new stream")
    assert gateway.log_count("", level="error") == 0
