"""Entries whose life ends on the way, and consumer groups that are destroyed while entries flow, with
and without trimming."""

import collections
import contextlib
import json
import threading
import time

import pytest
from harness import Producer, Verifier, gateway_config, wait_until
from scale import PATIENCE, is_settled, patience

A, B = "nemo:{a}:events", "nemo:{b}:events"


def one_slot(redis, broker, **changes):
    return gateway_config(redis, broker, slots=1, shards=1, **changes)


def topics(broker):
    return [m.topic.removeprefix("nemo/a/") for m in broker.accepted()
            if m.topic.startswith("nemo/")]


# ---- expiry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_expires_while_the_broker_is_down_is_not_published(things, protocol):
    """Both what had been read and what still lay in Redis; the rest comes, in its order."""
    redis, broker = things.redis(), things.recording_broker()
    broker.stop()
    client = redis.client()
    pipe = client.pipeline(transaction=False)
    for i in range(1200):
        pipe.xadd(A, {"topic": f"t{i}", "payload": "x", "key": i % 7,
                      **({"exp": "2"} if i % 3 == 0 else {"exp": "600"} if i % 3 == 1 else {})})
    pipe.execute()
    gateway = things.gateway(one_slot(redis, broker, broker_changes={"inflight": 10,
                                                                     "protocol": protocol}),
                             start=False).launch()
    wait_until(lambda: client.xinfo_groups(A) and client.xpending(A, "nemogate")["pending"] > 200,
               20 * PATIENCE, "read")
    assert client.xpending(A, "nemogate")["pending"] < 1200
    time.sleep(2.5)
    broker.start()
    wait_until(lambda: is_settled(redis, [A]), 30 * PATIENCE, "settled")
    expected = [f"t{i}" for i in range(1200) if i % 3]
    assert topics(broker) == expected
    expiry = {m.topic: m.expiry for m in broker.accepted() if m.topic.startswith("nemo/")}
    if protocol == "5":
        assert all((expiry[f"nemo/a/t{i}"] is None) == (i % 3 == 2) for i in range(1200) if i % 3)
        assert max(value for value in expiry.values() if value) <= 598
    wait_until(lambda: client.xlen(A) == 0, 20 * PATIENCE, "trimmed")
    assert not client.exists("nemo:{a}:dead")
    assert broker.violations == []
    assert gateway.terminate() == 0


def test_what_expires_before_it_can_be_sent_again_is_settled(things):
    """Published and not acknowledged, then the connection is lost: it is not sent again after its
    life; what is younger is sent again with what is left of it, and the key goes on."""
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    client = redis.client()
    client.xadd(A, {"topic": "short", "key": "k", "payload": "1", "exp": "2"})
    client.xadd(A, {"topic": "long", "key": "k", "payload": "2", "exp": "100"})
    client.xadd(A, {"topic": "ever", "key": "k", "payload": "3"})
    things.gateway(one_slot(redis, broker, broker_changes={"status_topic": ""}))
    broker.wait_messages(3)
    assert broker.messages[0].expiry <= 2 and 90 < broker.messages[1].expiry <= 100
    time.sleep(3)
    broker.disconnect()
    broker.wait_messages(5, 20 * PATIENCE)
    broker.release_acks()
    wait_until(lambda: is_settled(redis, [A]), 20 * PATIENCE, "settled")
    assert topics(broker) == ["short", "long", "ever", "long", "ever"]
    assert broker.messages[3].expiry <= 97
    assert broker.messages[4].expiry is None


# ---- groups ---------------------------------------------------------------------------------


def counted(broker):
    """How often each event (stream, key, n) has come."""
    count = collections.Counter()
    for message in broker.accepted():
        if message.topic.startswith("nemo/"):
            event = json.loads(message.payload)
            count[event["stream"], event["key"], event["n"]] += 1
    return count


@pytest.mark.limit(240)
@pytest.mark.parametrize("trim", ["acked", "none"])
def test_a_group_made_again_brings_what_is_left(things, trim):
    """XGROUP DESTROY while entries flow: the group is made again from 0. Without trimming all that
    the stream has comes again; with it, what had been removed does not."""
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = Producer(redis, [A, B], keys=10).send(2000)
    before = dict(producer.sent)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"trim": trim}))
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    if trim == "acked":
        wait_until(lambda: client.xlen(A) == 0, 20 * PATIENCE, "trimmed")
    with producer.background(rate=1500):
        time.sleep(0.5)
        client.xgroup_destroy(A, "nemogate")
        line = gateway.wait_log("made again", 20 * PATIENCE, stream=A)
        time.sleep(0.5)
    assert line["level"] == "error"
    Verifier(producer, broker).wait(patience(20, producer.total)).check()
    wait_until(lambda: is_settled(redis, [A, B]), 30 * PATIENCE, "settled")
    old = [n for event, n in counted(broker).items()
           if event[0] == A and event[2] <= before[event[:2]]]
    assert len(old) == 1000
    assert set(old) == ({1} if trim == "acked" else {2})
    if trim == "acked":
        wait_until(lambda: client.xlen(A) == client.xlen(B) == 0, 30 * PATIENCE, "trimmed")
    else:
        assert client.xlen(A) + client.xlen(B) == producer.total
    assert gateway.log_count("made again") == 1


@contextlib.contextmanager
def runs_ahead(redis, group):
    """A reader that takes at once all that there is, and acknowledges it by taking it."""
    client, stop = redis.client(), threading.Event()

    def take():
        return client.xreadgroup(group, "consumer", {A: ">"}, count=5000, noack=True)

    def run():
        while not stop.wait(0.01):
            take()
    reader = threading.Thread(target=run, daemon=True)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join(10)
    take()


@pytest.mark.limit(240)
def test_nothing_is_trimmed_while_the_group_is_away(things):
    """Another group that is ahead does not decide alone what may go when ours has been destroyed."""
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.3
    client = redis.client()
    client.xgroup_create(A, "ahead", "0", mkstream=True)
    producer = Producer(redis, A, keys=20)
    gateway = things.gateway(one_slot(redis, broker))
    with runs_ahead(redis, "ahead"), producer.background(rate=4000):
        for times in range(1, 6):
            time.sleep(1.5)
            client.xgroup_destroy(A, "nemogate")
            wait_until(lambda: gateway.log_count("made again") == times, 20 * PATIENCE, "made again")
    Verifier(producer, broker).wait(patience(30, producer.total)).check()
    wait_until(lambda: client.xlen(A) == 0, 60 * PATIENCE, "trimmed")
    assert gateway.log_count("made again") == 5
    assert gateway.log_count("was deleted from the stream") == 0
    assert gateway.log_count("Redis refused to trim") == 0
