"""kill -9, SIGTERM, a second instance: what is acknowledged, what is sent again, what is never lost."""

import random
import time

import pytest
from harness import Verifier, gateway_config, produce, wait_until
from harness.events import Producer
from scale import COUNT, PATIENCE, is_settled, owners, patience, pending

STREAMS = ["nemo:{a}:events", "nemo:{b}:events", "nemo:{c}:events"]


@pytest.mark.limit(600)
def test_kill_9_at_random_moments(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = Producer(redis, STREAMS, keys=100, payload_size=200)
    config = gateway_config(redis, broker, delivery={"lease_ttl": "1s"})
    gateway = things.gateway(config)
    dice = random.Random(7)
    with producer.background(rate=2000):
        for _ in range(20):
            time.sleep(dice.uniform(0.0, 0.6))
            gateway.kill9()
            gateway.launch()
            gateway.wait_log("lease taken", timeout=10 * PATIENCE)
    report = Verifier(producer, broker).wait(patience(30, producer.total))
    report.check()
    print(report)
    wait_until(lambda: is_settled(redis, STREAMS), 10, "nothing pending and no lag")
    assert broker.violations == []


@pytest.mark.limit(300)
def test_sigterm_under_load_acknowledges_what_the_broker_has(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.05
    producer = produce(redis, STREAMS, keys=100, count=COUNT)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"drain_timeout": "10s"}))
    broker.wait_messages(500)
    assert gateway.terminate(timeout=10 * PATIENCE) == 0
    acknowledged = sum(1 for m in broker.accepted() if m.topic.startswith("nemo/"))
    waiting = sum(sum(pending(redis, s)) for s in STREAMS)
    assert acknowledged + waiting == producer.total
    stopped = gateway.wait_stopped_line()
    assert int(stopped["settled"]) == acknowledged
    gateway.start()
    Verifier(producer, broker).wait(patience(30)).check(duplicates=0)


def test_sigterm_with_a_broker_that_is_silent_ends_with_the_drain_timeout(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    produce(redis, STREAMS, count=300)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"drain_timeout": "1s"}))
    broker.wait_messages(300)
    assert gateway.terminate(timeout=5 * PATIENCE) == 0
    assert gateway.log_count("the drain timeout has passed") == 1
    assert gateway.wait_stopped_line()["stays_pending"] == "300"
    assert sum(pending(redis, s)[0] for s in STREAMS) == 300


def test_a_second_signal_ends_it_at_once(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    produce(redis, STREAMS, count=30)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"drain_timeout": "60s"}))
    broker.wait_messages(30)
    gateway.signal(15)
    gateway.wait_log("draining")
    gateway.signal(15)
    assert gateway.wait(timeout=5 * PATIENCE) == 0


def wait_owner(redis, gateway):
    """Until the gateway owns both slots."""
    name = gateway.config["instance"]
    wait_until(lambda: owners(redis.client(), 2) == {0: name, 1: name}, 20 * PATIENCE,
               lambda: f"all slots owned by {name}: {owners(redis.client(), 2)}")


@pytest.mark.limit(300)
def test_a_second_instance_takes_over(things):
    redis, broker = things.redis(), things.recording_broker()
    config = gateway_config(redis, broker, delivery={"lease_ttl": "1s"})
    first = things.gateway(config)
    second = things.gateway(dict(config, instance="gateway-2"))
    producer = Producer(redis, STREAMS, keys=50)
    with producer.background(rate=2000):
        time.sleep(0.5)
        first.kill9()
        wait_owner(redis, second)
        time.sleep(0.5)
    Verifier(producer, broker).wait(patience(20, producer.total)).check()
    assert broker.violations == []


@pytest.mark.limit(300)
def test_a_paused_owner_is_fenced(things):
    """SIGSTOP for longer than the lease: the other takes over; the first, when it goes on, harms
    neither the order nor what is acknowledged."""
    redis, broker = things.redis(), things.recording_broker()
    config = gateway_config(redis, broker, delivery={"lease_ttl": "1s"})
    first = things.gateway(config)
    second = things.gateway(dict(config, instance="gateway-2"))
    producer = Producer(redis, STREAMS, keys=50)
    with producer.background(rate=2000):
        for paused, other in ((first, second), (second, first)):
            time.sleep(0.3)
            paused.pause()
            wait_owner(redis, other)
            time.sleep(0.3)
            paused.resume()
            time.sleep(0.5)
    Verifier(producer, broker).wait(patience(20, producer.total)).check()
    wait_until(lambda: is_settled(redis, STREAMS), 10, "nothing pending and no lag")


def test_what_other_consumers_hold_is_claimed(things):
    """Entries that a consumer of other days had read are published before newer ones."""
    redis, broker = things.redis(), things.recording_broker()
    producer = Producer(redis, "nemo:{a}:events", keys=5).send(2500)
    client = redis.client()
    client.xgroup_create("nemo:{a}:events", "nemogate", id="0")
    client.xreadgroup("nemogate", "somebody", {"nemo:{a}:events": ">"}, count=2300)
    producer.send(500)
    things.gateway(gateway_config(redis, broker))
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    wait_until(lambda: is_settled(redis, ["nemo:{a}:events"]), 10, "settled")


@pytest.mark.parametrize("consumer", ["slot-0", "somebody"])
def test_an_entry_deleted_while_pending_is_acknowledged_and_reported(things, consumer):
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{a}:events"
    Producer(redis, stream, keys=1).send(3)
    client = redis.client()
    client.xgroup_create(stream, "nemogate", id="0")
    entries = client.xreadgroup("nemogate", consumer, {stream: ">"}, count=2)[0][1]
    client.xdel(stream, entries[0][0])
    gateway = things.gateway(gateway_config(redis, broker, slots=1))
    gateway.wait_log("deleted from the stream", id=entries[0][0])
    wait_until(lambda: pending(redis, stream)[0] == 0 and len(broker.payloads(
        "nemo/a/tools/k0/state")) == 2, 10, "the other two published")
