"""Poison does not block, and bad luck is not poison: suspects are sent alone, and only tries that ended in
a lost connection or a crash make a dead letter."""

import time

import pytest
from harness import RecordingBroker, Verifier, gateway_config, produce, wait_until
from scale import PATIENCE

STREAM, DEAD, TRIES = "nemo:{a}:events", "nemo:{a}:dead", "nemo:{a}:tries"


def config_for(redis, broker, **changes):
    delivery = {"lease_ttl": "1s", **changes.pop("delivery", {})}
    return gateway_config(redis, broker, slots=1, shards=1, delivery=delivery, **changes)


def closes_on(payload):
    return lambda message: RecordingBroker.CLOSE if message.payload == payload else 0


def test_an_entry_that_kills_its_connection_becomes_a_dead_letter_and_its_neighbours_arrive(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.answer = closes_on(b"poison")
    for i in range(20):
        client.xadd(STREAM, {"topic": f"t/{i}", "payload": f"p{i}"})
    bad = client.xadd(STREAM, {"topic": "t/bad", "payload": "poison", "retain": "1"})
    client.xadd(STREAM, {"topic": "t/bad", "payload": "after"})
    for i in range(20, 40):
        client.xadd(STREAM, {"topic": f"t/{i}", "payload": f"p{i}"})
    things.gateway(config_for(redis, broker))
    wait_until(lambda: client.xlen(DEAD) == 1, 60 * PATIENCE, "the dead letter")
    letter = client.xrange(DEAD)[0][1]
    assert letter["dead_reason"] == "poison" and letter["dead_id"] == bad
    wait_until(lambda: client.xpending(STREAM, "nemogate")["pending"] == 0, 20 * PATIENCE, "all")
    got = {m.payload for m in broker.accepted()} - {b"online"}
    assert got == {b"after", *(f"p{i}".encode() for i in range(40))}
    tries = sum(m.payload == b"poison" for m in broker.messages)
    # In ever smaller windows until it is the head, three times as the head, three times alone.
    assert tries <= 6 + 3 + 3, tries


@pytest.mark.limit(180)
def test_thirty_restarts_make_no_dead_letter(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks()
    producer = produce(redis, STREAM, keys=5, count=40)
    gateway = things.gateway(config_for(redis, broker), start=False)
    for _ in range(30):
        seen = len(broker.messages)
        gateway.launch()
        wait_until(lambda: len(broker.messages) > seen, 30 * PATIENCE, "publishes")
        gateway.kill9()
    counts = [p["times_delivered"] for p in
              client.xpending_range(STREAM, "nemogate", "-", "+", 10)]
    assert min(counts) > 10, counts
    broker.release_acks()
    gateway.launch()
    Verifier(producer, broker).wait(60 * PATIENCE).check()
    assert client.xlen(DEAD) == 0
    wait_until(lambda: client.xpending(STREAM, "nemogate")["pending"] == 0, 20, "acknowledged")
    wait_until(lambda: client.hgetall(TRIES) == {}, 10, "no tries are kept")


@pytest.mark.limit(120)
def test_a_broker_that_comes_and_goes_makes_no_dead_letter(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks()
    producer = produce(redis, STREAM, keys=5, count=200)
    things.gateway(config_for(redis, broker))
    for _ in range(6):
        connections = len(broker.connections)
        wait_until(lambda: broker.connections and broker.connections[-1].open, 40 * PATIENCE,
                   "connected")
        time.sleep(0.1)
        broker.stop()
        broker.start()
        wait_until(lambda: len(broker.connections) > connections, 40 * PATIENCE, "again")
    broker.release_acks()
    Verifier(producer, broker).wait(60 * PATIENCE).check()
    assert client.xlen(DEAD) == 0


def test_a_packet_that_the_broker_calls_too_large_is_found(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()

    def answer(message):
        if len(message.payload) > 5000:
            broker._end(next(c for c in broker._live if c.number == message.connection),
                        "violation", 0x95)
            return None
        return 0
    broker.answer = answer
    for i in range(10):
        client.xadd(STREAM, {"topic": f"t/{i}", "payload": f"p{i}"})
    client.xadd(STREAM, {"topic": "t/large", "payload": "x" * 6000})
    for i in range(10, 20):
        client.xadd(STREAM, {"topic": f"t/{i}", "payload": f"p{i}"})
    things.gateway(config_for(redis, broker))
    wait_until(lambda: client.xlen(DEAD) == 1, 40 * PATIENCE, "the dead letter")
    assert client.xrange(DEAD)[0][1]["dead_reason"] == "packet-too-large"
    wait_until(lambda: client.xpending(STREAM, "nemogate")["pending"] == 0, 20 * PATIENCE, "all")
    assert {m.payload for m in broker.accepted()} >= {f"p{i}".encode() for i in range(20)}


def test_a_single_entry_that_kills_its_connection_becomes_a_dead_letter(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.answer = closes_on(b"poison")
    client.xadd(STREAM, {"topic": "t/bad", "payload": "poison"})
    things.gateway(config_for(redis, broker))
    wait_until(lambda: client.xlen(DEAD) == 1, 60 * PATIENCE, "the dead letter")
    client.xadd(STREAM, {"topic": "t/bad", "payload": "after"})
    wait_until(lambda: broker.payloads("nemo/a/t/bad")[-1:] == [b"after"], 20 * PATIENCE, "the next")


@pytest.mark.limit(200)
def test_a_single_entry_of_a_broker_that_stays_silent_is_kept(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks()
    client.xadd(STREAM, {"topic": "t", "payload": "x"})
    things.gateway(config_for(redis, broker, broker_changes={"puback_timeout": "1s"}))
    wait_until(lambda: len(broker.payloads("nemo/a/t")) == 6, 90 * PATIENCE, "six times")
    assert client.xlen(DEAD) == 0
    broker.release_acks()
    wait_until(lambda: client.xpending(STREAM, "nemogate")["pending"] == 0, 60 * PATIENCE, "taken")
