"""strict_order, coalesce_retained, max_rate: one publish of a key at a time, only the newest of a backlog,
and no more than the broker is said to bear."""

import collections
import time

import pytest
from harness import Verifier, produce, wait_until
from harness.events import Producer
from refusals import (DEAD, PATIENCE, STREAM, Refuser, check_final, config_for, key_of, letters, pending,
                      wait_settled)
from scale import SANITIZED

STRICT = {"strict_order": True}
COALESCE = {"coalesce_retained": True}


# ---- strict_order ------------------------------------------------------------------------------


def test_one_publish_of_a_key_in_flight(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.05
    producer = produce(redis, STREAM, keys=40, count=800)
    things.gateway(config_for(redis, broker, route_changes=STRICT))
    Verifier(producer, broker).wait(30 * PATIENCE).check(duplicates=0)
    wait_settled(redis.client())
    before = {}
    for message in broker.messages:
        key = key_of(message)
        if key is not None:
            assert message.time - before.get(key, 0) >= 0.05, key  # its PUBACK was sent before
            before[key] = message.time
    assert broker.connections[0].most_unacknowledged >= 30  # of different keys, though


@pytest.mark.limit(240)
def test_strict_order_under_refusals_losses_and_kills(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    producer = Producer(redis, STREAM, keys=10)
    gateway = things.gateway(config_for(redis, broker, route_changes=STRICT))
    with producer.background(rate=500):
        for turn in range(4):
            refuser.refuse(0x97, keys={"k2", "k5"})
            time.sleep(0.7)
            broker.disconnect()
            time.sleep(0.3)
            if turn == 1:
                gateway.kill9()
                gateway.start(20)
            refuser.refuse(0x97, whom=lambda m: hash((m.topic, m.time)) % 10 == 0)
            time.sleep(0.5)
            refuser.accept()
            time.sleep(0.3)
    wait_settled(client, seconds=60)
    Verifier(producer, broker).report().check()  # e2 never before e1
    check_final(broker, producer)
    assert client.xlen(DEAD) == 0


def test_strict_order_and_a_backlog_of_a_refused_key(things):
    """More of it than there is room for: the others go on."""
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97, keys={"bad"})
    bad = produce(redis, STREAM, keys=["bad"], count=3000)
    others = produce(redis, STREAM, keys=20, count=1000)
    things.gateway(config_for(redis, broker, route_changes=STRICT, broker_changes={"inflight": 100}))
    Verifier(others, broker).wait(15 * PATIENCE).check(duplicates=0)
    assert pending(redis, STREAM) == (3000, 0)
    refuser.accept()
    wait_settled(client, seconds=60)
    check_final(broker, bad, others)
    Verifier({**bad.sent, **others.sent}, broker).report().check(duplicates=0)


def test_strict_and_common_streams_share_a_broker(things):
    """More strict keys than the window: the common stream has its turns."""
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.02
    config = config_for(redis, broker, route_changes={**STRICT, "streams": "nemo:{s}:events"},
                        broker_changes={"inflight": 50})
    config["routes"].append({"streams": "nemo:*:events", "broker": "main"})
    strict = produce(redis, "nemo:{s}:events", keys=200, count=8000)
    common = produce(redis, STREAM, keys=5, count=200)
    things.gateway(config)
    Verifier(common, broker, ignore=lambda t: not t.startswith("nemo/a/")).wait(
        10 * PATIENCE).check(duplicates=0)
    assert len(broker.accepted()) < 7000  # not only because the strict ones were through
    Verifier({**strict.sent, **common.sent}, broker).wait(40 * PATIENCE).check(duplicates=0)


# ---- coalesce_retained -------------------------------------------------------------------------


def test_of_a_backlog_of_retained_entries_the_newest_arrives(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    count = 2000 if SANITIZED else 10000
    producer = produce(redis, STREAM, keys=5, count=count, fields={"retain": 1})
    gateway = things.gateway(config_for(redis, broker, route_changes=COALESCE))
    wait_settled(client)
    for (_, key), n in producer.sent.items():
        assert b'"n":%d,' % n in broker.retained[f"nemo/a/tools/{key}/state"]
    got = [m for m in broker.messages if key_of(m)]
    assert len(got) < count / 10, len(got)
    assert not Verifier(producer, broker).report().out_of_order
    assert gateway.terminate() == 0
    assert int(gateway.wait_stopped_line()["settled"]) == count


def test_only_retained_entries_of_one_topic_are_superseded(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks()
    expected = []
    for i in range(50):
        for _ in range(3):
            client.xadd(STREAM, {"topic": "t/a", "key": "k", "payload": f"a{i}", "retain": "1"})
        client.xadd(STREAM, {"topic": "t/a", "key": "k", "payload": f"event{i}"})
        client.xadd(STREAM, {"topic": "t/b", "key": "k", "payload": f"b{i}", "retain": "1"})
        client.xadd(STREAM, {"topic": "t/a", "key": "k", "payload": f"c{i}", "retain": "1", "qos": "0"})
        client.xadd(STREAM, {"topic": "t/a", "key": "k", "payload": f"d{i}", "retain": "1", "exp": "600"})
        expected += [f"a{i}", f"event{i}", f"b{i}", f"c{i}", f"d{i}"]
    things.gateway(config_for(redis, broker, route_changes=COALESCE))
    time.sleep(0.5)
    broker.release_acks()
    wait_settled(client)
    got = [m.payload.decode() for m in broker.accepted() if m.topic.startswith("nemo/")]
    assert got == expected


def test_an_unacknowledged_entry_of_qos_0_supersedes_nothing(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks()
    for i in range(10):
        client.xadd(STREAM, {"topic": "t", "payload": f"p{i}", "retain": "1"})
    client.xadd(STREAM, {"topic": "t", "payload": "last", "retain": "1", "qos": "0"})
    things.gateway(config_for(redis, broker, route_changes=COALESCE))
    time.sleep(1)
    assert client.xpending(STREAM, "nemogate")["pending"] == 11
    broker.release_acks()
    wait_settled(client)
    assert broker.retained["nemo/a/t"] == b"last"
    assert b"p9" in broker.payloads("nemo/a/t")


def test_where_the_newest_is_a_dead_letter_the_next_newest_is_published(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x99, whom=lambda m: m.payload in (b"p19", b"p18"))
    for i in range(20):
        client.xadd(STREAM, {"topic": "t", "payload": f"p{i}", "retain": "1"})
    things.gateway(config_for(redis, broker, route_changes=COALESCE))
    wait_settled(client)
    assert broker.retained["nemo/a/t"] == b"p17"
    assert [letter["payload"] for letter in letters(client)] == ["p18", "p19"]
    assert len(broker.payloads("nemo/a/t")) <= 3


@pytest.mark.limit(240)
def test_coalescing_killed_and_refused(things):
    redis, broker = things.redis(), things.recording_broker(receive_maximum=50)
    client, refuser = redis.client(), Refuser(broker)
    broker.ack_delay = 0.01
    producer = Producer(redis, STREAM, keys=20, fields={"retain": 1})
    gateway = things.gateway(config_for(redis, broker, route_changes=COALESCE))
    with producer.background(rate=3000):
        for _ in range(4):
            refuser.refuse(0x97, keys={"k2", "k5"})
            time.sleep(0.7)
            gateway.kill9()
            gateway.start(20)
            time.sleep(0.3)
            broker.disconnect()
            time.sleep(0.3)
            refuser.accept()
            time.sleep(0.3)
    wait_settled(client, seconds=60)
    for (_, key), n in producer.sent.items():
        assert b'"n":%d,' % n in broker.retained[f"nemo/a/tools/{key}/state"]
    assert not Verifier(producer, broker).report().out_of_order
    assert client.xlen(DEAD) == 0


# ---- max_rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3])
def test_max_rate(things, slots):
    redis, broker = things.redis(), things.recording_broker()
    streams = [f"nemo:{{s{i}}}:events" for i in range(12)]
    producer = produce(redis, streams, keys=10, count=2040)
    config = config_for(redis, broker, broker_changes={"max_rate": 500})
    config["slots"], config["shards"] = slots, 2
    things.gateway(config)
    report = Verifier(producer, broker).wait(40 * PATIENCE).check(duplicates=0)
    times = [m.time for m in broker.messages if m.topic.startswith("nemo/")]
    took = times[-1] - times[0]
    print(f"{report.received} in {took:.2f} s")
    assert took > 3.3, took
    per_second = collections.Counter(int((t - times[0]) * 2) for t in times)
    assert max(per_second.values()) < 400, per_second  # in half a second


def test_max_rate_of_one_a_second(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis, STREAM, keys=3, count=4)
    things.gateway(config_for(redis, broker, broker_changes={"max_rate": 1}))
    Verifier(producer, broker).wait(15 * PATIENCE).check(duplicates=0)
    times = [m.time for m in broker.messages if m.topic.startswith("nemo/")]
    assert all(0.8 <= b - a for a, b in zip(times, times[1:])), times
    assert times[-1] - times[0] < 6 * PATIENCE
