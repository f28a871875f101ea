"""encoding: batch. Many entries of a stream in one publish; one PUBACK settles all of them, and what the
broker does not like is found among them."""

import collections
import time

import pytest
from harness import Verifier, gateway_config, produce, wait_until
from harness.batches import CONTENT_TYPE, Unbatched, is_batch, messages_of, read_batch
from harness.events import Producer
from refusals import DEAD, PATIENCE, STREAM, Refuser, check_final, config_for, letters, wait_settled

BATCH = {"encoding": "batch"}


def batch(**limits):
    return {"encoding": "batch", "batch": limits}


def batches_of(broker):
    return [m for m in broker.messages if is_batch(m)]


def check_streams_in_order(broker, strict=False):
    """By stream ids, of a stream as a whole: first arrivals never go back."""
    highest = collections.defaultdict(tuple)
    seen = set()
    for message in batches_of(broker):
        if message.code is None or message.code >= 0x80:
            continue
        carried = read_batch(message.payload)
        for event in carried["events"]:
            sid = tuple(map(int, event["sid"].split("-")))
            where = carried["stream"]
            if (where, sid) not in seen or strict:
                assert sid > highest[where], (where, sid, highest[where])
                highest[where] = sid
                seen.add((where, sid))


def put(client, stream=STREAM, **fields):
    return client.xadd(stream, {"topic": "tools/1/state", "payload": "x", **fields})


# ---- what is sent --------------------------------------------------------------------------------


def test_a_backlog_in_batches(things):
    redis, broker = things.redis(), things.recording_broker()
    streams = ["nemo:{a}:events", "nemo:{b}:events"]
    producer = produce(redis, streams, keys=20, count=5000)
    things.gateway(config_for(redis, broker, route_changes=batch(events=50)))
    Verifier(producer, Unbatched(broker)).wait(30 * PATIENCE).check(duplicates=0)
    check_streams_in_order(broker, strict=True)
    wait_settled(redis.client())
    sizes = [len(read_batch(m.payload)["events"]) for m in batches_of(broker)]
    assert max(sizes) == 50 and len(sizes) <= 5000 / 50 * 1.5
    for message in batches_of(broker):
        assert (message.qos, message.retain, message.content_type) == (1, False, CONTENT_TYPE)
        carried = read_batch(message.payload)
        assert message.topic == f"nemo/{carried['site']}/batch"
        assert carried["stream"] == "nemo:{%s}:events" % carried["site"]


def test_what_an_event_says(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    sid = client.xadd(STREAM, {"topic": "t/é", "payload": b"\x00\xff", "key": "k", "id": "i",
                               "type": "tool.state", "retain": "1", "ts": "17", "exp": "3600"})
    plain = client.xadd(STREAM, {"topic": "verbatim", "abs": "1", "payload": ""})
    things.gateway(config_for(redis, broker, route_changes=BATCH))
    wait_until(lambda: sum(len(messages_of(m)) for m in batches_of(broker)) == 2, 10 * PATIENCE)
    first, second = [e for m in batches_of(broker) for e in read_batch(m.payload)["events"]]
    assert first == {"sid": sid, "topic": "nemo/a/t/é", "payload": b"\x00\xff", "key": "k",
                     "id": "i", "type": "tool.state", "retain": True, "ts": 17,
                     "exp": int(sid.split("-")[0]) + 3600_000}
    assert second == {"sid": plain, "topic": "verbatim", "payload": b""}


def test_linger_gathers_and_ends(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    things.gateway(config_for(redis, broker, route_changes=batch(linger="700ms")))
    put(client)
    begun = time.monotonic()
    for _ in range(9):
        time.sleep(0.03)
        put(client)
    wait_until(lambda: batches_of(broker), 10 * PATIENCE)
    assert len(read_batch(batches_of(broker)[0].payload)["events"]) == 10
    assert batches_of(broker)[0].time - begun > 0.5
    put(client)  # and the next one has its own time
    wait_until(lambda: len(batches_of(broker)) == 2, 10 * PATIENCE)


def test_without_linger_nothing_waits(things):
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(config_for(redis, broker, route_changes=batch(linger="0s")))
    producer = produce(redis, STREAM, count=200)
    Verifier(producer, Unbatched(broker)).wait(10 * PATIENCE).check(duplicates=0)


@pytest.mark.parametrize("limit", ["bytes", "packet"])
def test_bytes_bound_a_batch(things, limit):
    redis, broker = things.redis(), things.recording_broker()
    if limit == "packet":
        broker.announce(maximum_packet_size=4096)
    route = batch(bytes="4KiB" if limit == "bytes" else "64KiB", events=1000)
    producer = produce(redis, STREAM, count=500, payload_size=300)
    large = "x" * 6000
    put(redis.client(), payload=large, key="large")
    producer.send(100)
    things.gateway(config_for(redis, broker, route_changes=route))
    ignore = lambda topic: topic.startswith("nemogate/") or topic.endswith("tools/1/state")  # noqa: E731
    Verifier(producer, Unbatched(broker), ignore=ignore).wait(20 * PATIENCE).check(duplicates=0)
    wait_settled(redis.client())
    sizes = {len(read_batch(m.payload)["events"]): len(m.payload) for m in batches_of(broker)}
    assert max(sizes) >= 8
    assert all(size <= 4096 for count, size in sizes.items() if count > 1)
    sent = [m for m in Unbatched(broker).messages if m.payload == large.encode()]
    dead = [letter["dead_reason"] for letter in letters(redis.client())]
    if limit == "bytes":
        assert len(sent) == 1 and dead == []  # alone
    else:
        assert sent == [] and dead == ["packet-too-large"]


def test_mqtt_3_and_tls(things):
    redis, mosquitto = things.redis(), things.mosquitto(tls=things.certs)
    subscriber = things.subscriber(mosquitto.port, tls=mosquitto.tls, topics=("nemo/#",))
    producer = produce(redis, STREAM, keys=20, count=2000)
    things.gateway(gateway_config(redis, mosquitto, slots=1, route_changes=BATCH,
                                  broker_changes={"protocol": "3.1.1"}))
    Verifier(producer, Unbatched(subscriber)).wait(20 * PATIENCE).check(duplicates=0)


def test_expired_events_are_left_out(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    now = int(time.time() * 1000)
    for n in range(20):
        client.xadd(STREAM, {"topic": f"t/{n}", "payload": "x", "exp": "1" if n % 2 else "3600"},
                    id=f"{now - 5000}-{n}")
    gateway = things.gateway(config_for(redis, broker, route_changes=BATCH))
    wait_settled(client)
    topics = [m.topic for m in Unbatched(broker).messages if not m.topic.startswith("nemogate")]
    assert topics == [f"nemo/a/t/{n}" for n in range(0, 20, 2)]
    assert gateway.terminate(10 * PATIENCE) == 0
    assert gateway.wait_stopped_line()["expired"] == "10"


def test_only_expired_events_settle_without_a_publish(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    now = int(time.time() * 1000)
    for n in range(10):
        client.xadd(STREAM, {"topic": "t", "payload": "x", "exp": "1"}, id=f"{now - 5000}-{n}")
    things.gateway(config_for(redis, broker, route_changes=BATCH))
    wait_settled(client)
    assert batches_of(broker) == []


def test_small_receive_maximum_is_used_by_large_batches(things):
    """The case that batches are for: 20 publishes in flight, 50 ms away."""
    redis, broker = things.redis(), things.recording_broker()
    broker.announce(receive_maximum=5)
    broker.ack_delay = 0.05
    producer = produce(redis, STREAM, keys=50, count=20000)
    things.gateway(config_for(redis, broker, route_changes=batch(events=200)))
    Verifier(producer, Unbatched(broker)).wait(30 * PATIENCE).check(duplicates=0)
    assert 3 <= broker.connections[0].most_unacknowledged <= 5
    assert len(batches_of(broker)) <= 20000 / 200 * 1.2
    assert broker.violations == []


def test_batches_beside_raw_and_strict_on_one_connection(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.005
    config = config_for(redis, broker, broker_changes={"inflight": 20},
                        route_changes={**BATCH, "streams": "nemo:{b}:events"})
    config["routes"] += [{"streams": "nemo:{s}:events", "broker": "main", "strict_order": True},
                         {"streams": "nemo:*:events", "broker": "main"}]
    producer = produce(redis, ["nemo:{b}:events", "nemo:{s}:events", STREAM], keys=20, count=6000)
    things.gateway(config)
    Verifier(producer, Unbatched(broker)).wait(30 * PATIENCE).check(duplicates=0)
    check_streams_in_order(broker, strict=True)


def test_strict_order_has_one_batch_in_flight(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.02
    producer = produce(redis, STREAM, keys=20, count=3000)
    things.gateway(config_for(redis, broker, route_changes={**BATCH, "strict_order": True}))
    Verifier(producer, Unbatched(broker)).wait(30 * PATIENCE).check(duplicates=0)
    assert broker.connections[0].most_unacknowledged == 1
    assert len(batches_of(broker)) < 100


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_the_guilty_entry_of_a_refused_batch_is_found(things, count):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x99, whom=lambda m: is_batch(m) and b"guilty" in m.payload)
    producer = produce(redis, STREAM, keys=20, count=450)
    for n in range(count):
        put(client, payload=f"guilty {n}", key="g")
        producer.send(170)
    things.gateway(config_for(redis, broker, route_changes=batch(events=100)))
    wait_settled(client, seconds=60)
    check_final(Unbatched(broker), producer)
    assert [letter["payload"] for letter in letters(client)] == [f"guilty {n}" for n in range(count)]
    assert {letter["dead_reason"] for letter in letters(client)} == {"payload-format-invalid"}


def test_malformed_entries_among_others(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = produce(redis, STREAM, keys=20, count=300)
    for _ in range(5):
        client.xadd(STREAM, {"topic": "a/#", "payload": "x"})
        client.xadd(STREAM, {"nothing": "here"})
        producer.send(300)
    things.gateway(config_for(redis, broker, route_changes=batch(events=64)))
    Verifier(producer, Unbatched(broker)).wait(30 * PATIENCE).check(duplicates=0)
    wait_settled(client)
    check_streams_in_order(broker)
    reasons = collections.Counter(letter["dead_reason"] for letter in letters(client))
    assert reasons == {"bad-topic": 5, "no-topic": 5}


def test_a_refusal_for_now_keeps_the_order(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    other = Producer(redis, "nemo:{b}:events", keys=5)
    refuser.refuse(0x97, whom=lambda m: m.topic == "nemo/a/batch", seconds=2)
    producer = produce(redis, STREAM, keys=20, count=3000)
    things.gateway(config_for(redis, broker, route_changes=batch(events=20)))
    with other.background(rate=300):
        wait_until(lambda: refuser.refused > 3, 20 * PATIENCE)
        producer.send(500)
        wait_settled(client, seconds=60)
    check_final(Unbatched(broker), producer)
    assert client.xlen(DEAD) == 0
    assert refuser.refused > 1


def test_poison_in_a_batch_is_found(things):
    """The broker ends the connection whenever a batch holds a certain entry."""
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()

    broker.answer = lambda m: broker.CLOSE if is_batch(m) and b"poison" in m.payload else 0
    producer = produce(redis, STREAM, keys=20, count=150)
    put(client, payload="poison", key="p")
    producer.send(150)
    things.gateway(config_for(redis, broker, route_changes=batch(events=100),
                              delivery={"lease_ttl": "2s"}))
    wait_settled(client, seconds=120)
    check_final(Unbatched(broker), producer)
    assert [(x["payload"], x["dead_reason"]) for x in letters(client)] == [("poison", "poison")]


@pytest.mark.limit(240)
def test_batches_under_losses_kills_and_refusals(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    producer = Producer(redis, [STREAM, "nemo:{b}:events"], keys=10)
    gateway = things.gateway(config_for(redis, broker, route_changes=batch(events=30),
                                        broker_changes={"inflight": 8, "connections": 2}))
    with producer.background(rate=2000):
        for turn in range(5):
            broker.hold_acks()
            time.sleep(0.3)
            broker.disconnect()
            broker.release_acks()
            time.sleep(0.3)
            if turn % 2:
                gateway.kill9()
                gateway.start(20)
            refuser.refuse(0x97, whom=lambda m: is_batch(m) and hash((m.time,)) % 4 == 0)
            time.sleep(0.4)
            refuser.accept()
            time.sleep(0.3)
    for stream in (STREAM, "nemo:{b}:events"):
        wait_settled(client, stream, seconds=60)
    check_final(Unbatched(broker), producer)
    assert client.xlen(DEAD) == 0
    assert broker.violations == []


def test_a_stopped_gateway_leaves_what_lingers_in_redis(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    gateway = things.gateway(config_for(redis, broker, route_changes=batch(linger="10s")))
    put(client)
    wait_until(lambda: [g["pending"] for g in client.xinfo_groups(STREAM)] == [1], 10 * PATIENCE)
    assert gateway.terminate(10 * PATIENCE) == 0
    assert batches_of(broker) == []
    assert client.xpending(STREAM, "nemogate")["pending"] == 1


@pytest.mark.parametrize("code", [0x90, 0x99])
def test_a_broker_that_refuses_every_batch_does_not_empty_the_stream(things, code):
    """Few dead letters until it is seen that this is the broker's state, or the route's topic."""
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(code, whom=is_batch)
    producer = produce(redis, STREAM, keys=20, count=1000)
    things.gateway(config_for(redis, broker, route_changes=batch(events=20)))
    wait_until(lambda: refuser.refused >= 4, 20 * PATIENCE)
    time.sleep(3)
    dead = letters(client)
    assert len(dead) <= (0 if code == 0x90 else 8)
    refuser.accept()
    wait_settled(client, seconds=60)
    carried = {m.payload for m in Unbatched(broker).accepted() if m.topic.startswith("nemo/")}
    assert len(carried) + len(dead) == producer.total
