"""A broker that refuses publishes: what is for good goes to the dead letters, what is for now waits with its
key and is sent again in order, what is the broker's own state is counted against nobody, and other keys
are not held up."""

import time

import pytest
from harness import Verifier, produce, wait_until
from harness.events import Producer
from refusals import (DEAD, PATIENCE, STREAM, Refuser, check_final, config_for, expected_of, key_of,
                      last_order, letters, pending, wait_settled)
from scale import SANITIZED


LARGE_WINDOW = 20000


def others_of(producer, *keys):
    return {where: n for where, n in producer.sent.items() if where[1] not in keys}


def wait_for(broker, expected, seconds=30):
    return Verifier(expected, broker, ignore=lambda topic: not any(
        f"/{key}/" in topic for _, key in expected)).wait(seconds * PATIENCE)


# ---- reason codes by class ---------------------------------------------------------------------


@pytest.mark.parametrize("code, word", [(0x90, "topic-name-invalid"), (0x99, "payload-format-invalid"),
                                        (0x87, "not-authorized")])
def test_a_refusal_for_good_makes_a_dead_letter(things, code, word):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(code, whom=lambda m: b'"n":3,' in m.payload and key_of(m) == "k3")
    producer = Producer(redis, STREAM, keys=10)
    gateway = things.gateway(config_for(redis, broker))
    with producer.background(rate=200):  # other keys go on while it is judged
        wait_until(lambda: client.xlen(DEAD) == 1, 20 * PATIENCE, "the dead letter")
    wait_for(broker, others_of(producer, "k3")).check(duplicates=0)
    wait_settled(client)
    letter = letters(client)[0]
    assert letter["dead_reason"] == word and letter["key"] == "k3" and '"n":3,' in letter["payload"]
    where = (STREAM, "k3")
    assert last_order(broker)[where] == [n for n in range(1, producer.sent[where] + 1) if n != 3]
    assert refuser.refused == (2 if code == 0x87 else 1)
    assert gateway.terminate() == 0


@pytest.mark.parametrize("code", [0x80, 0x83, 0x91, 0x97])
def test_a_refusal_for_now_makes_a_dead_letter_after_max_deliveries(things, code):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(code, whom=lambda m: b'"n":3,' in m.payload and key_of(m) == "k3")
    producer = Producer(redis, STREAM, keys=10)
    things.gateway(config_for(redis, broker, delivery={"max_deliveries": 4}))
    with producer.background(rate=200):
        wait_until(lambda: client.xlen(DEAD) == 1, 30 * PATIENCE, "the dead letter")
    wait_for(broker, others_of(producer, "k3")).check(duplicates=0)
    wait_settled(client)
    assert letters(client)[0]["dead_reason"] == "refused"
    assert refuser.refused == 5  # the first, and four that came while others were taken


def test_a_packet_over_maximum_packet_size_is_not_sent(things):
    redis, broker = things.redis(), things.recording_broker(maximum_packet_size=2000)
    client = redis.client()
    for i in range(20):
        client.xadd(STREAM, {"topic": "t", "payload": "x" * 3000 if i == 7 else f"p{i}"})
    things.gateway(config_for(redis, broker))
    wait_until(lambda: client.xlen(DEAD) == 1, 20 * PATIENCE, "the dead letter")
    wait_settled(client)
    assert letters(client)[0]["dead_reason"] == "packet-too-large"
    assert [m.payload for m in broker.accepted() if m.topic.startswith("nemo/")] == [
        f"p{i}".encode() for i in range(20) if i != 7]
    assert broker.violations == []


def test_no_retained_messages_and_no_qos_1(things):
    redis = things.redis()
    broker = things.recording_broker(retain_available=0)
    redis.client().xadd(STREAM, {"topic": "t", "payload": "p", "retain": "1"})
    gateway = things.gateway(config_for(redis, broker))
    wait_settled(redis.client())
    assert not broker.messages[-1].retain and broker.violations == []
    gateway.wait_log("RETAIN is cleared", level="warning")
    broker.announce(maximum_qos=0)
    broker.disconnect()
    assert "QoS 0" in gateway.wait_log("cannot connect to the broker", 20)["reason"]
    broker.announce(maximum_qos=None)
    redis.client().xadd(STREAM, {"topic": "t", "payload": "later"})
    wait_settled(redis.client())


# ---- the key's suffix --------------------------------------------------------------------------


def test_the_suffix_of_a_refused_key_is_sent_again_in_order(things):
    """In the middle of a full window, with many entries of the key in flight."""
    redis, broker = things.redis(), things.recording_broker(receive_maximum=500)
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97, whom=lambda m: b'"n":20,' in m.payload and key_of(m) == "k3", seconds=1)
    producer = produce(redis, STREAM, keys=5, count=2000, fields={"retain": 1})
    things.gateway(config_for(redis, broker))
    wait_for(broker, others_of(producer, "k3")).check(duplicates=0)
    wait_settled(client)
    check_final(broker, producer)
    assert client.xlen(DEAD) == 0 and refuser.refused > 1
    for (_, key), count in producer.sent.items():
        assert b'"n":%d,' % count in broker.retained[f"nemo/a/tools/{key}/state"]
    # e2 before e1 only where e1 was refused
    assert {key for _, key, _, _ in Verifier(producer, broker).report().out_of_order} <= {"k3"}


def test_two_refused_entries_of_one_key(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x80, whom=lambda m: key_of(m) == "k1" and any(
        b'"n":%d,' % n in m.payload for n in (10, 11, 30)), seconds=1)
    producer = produce(redis, STREAM, keys=4, count=400)
    things.gateway(config_for(redis, broker))
    wait_settled(client)
    check_final(broker, producer)
    wait_for(broker, others_of(producer, "k1")).check(duplicates=0)


def test_a_refused_key_delays_no_other(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97, keys={"bad"})
    bad = produce(redis, STREAM, keys=["bad"], count=100)
    others = Producer(redis, STREAM, keys=50)
    things.gateway(config_for(redis, broker))
    begun = time.monotonic()
    with others.background(rate=1000):
        time.sleep(5)
        arrived = sum(1 for m in broker.accepted() if key_of(m) not in (None, "bad"))
        assert arrived > 0.8 * others.total, (arrived, others.total)
        while others.total < 5000:
            time.sleep(0.1)
    wait_for(broker, others.sent, 10).check(duplicates=0)
    assert not any(key_of(m) == "bad" for m in broker.accepted())
    assert refuser.refused >= 3 and time.monotonic() - begun >= 5
    refuser.accept()
    wait_settled(client)
    check_final(broker, bad, others)


def test_refused_lost_and_refused_again(things):
    redis, broker = things.redis(), things.recording_broker(receive_maximum=300)
    client, refuser = redis.client(), Refuser(broker)
    producer = Producer(redis, STREAM, keys=10)
    things.gateway(config_for(redis, broker))
    with producer.background(rate=1000):
        for _ in range(4):
            refuser.refuse(0x97, keys={"k2", "k5"})
            time.sleep(0.7)
            broker.disconnect()
            time.sleep(0.5)
            refuser.refuse(0x83, keys={"k5", "k7"})
            time.sleep(0.3)
            broker.disconnect()
            refuser.accept()
            time.sleep(0.3)
    wait_settled(client, seconds=60)
    check_final(broker, producer)
    assert client.xlen(DEAD) == 0
    assert {key for _, key, _, _ in Verifier(producer, broker).report().out_of_order} <= {
        "k2", "k5", "k7"}


def test_refused_and_killed(things):
    redis, broker = things.redis(), things.recording_broker(receive_maximum=300)
    client, refuser = redis.client(), Refuser(broker)
    producer = Producer(redis, STREAM, keys=10)
    gateway = things.gateway(config_for(redis, broker))
    with producer.background(rate=1000):
        for _ in range(3):
            refuser.refuse(0x97, keys={"k2", "k5"})
            time.sleep(0.7)
            gateway.kill9()
            gateway.start(20)
            time.sleep(0.5)
            refuser.accept()
            time.sleep(0.3)
    wait_settled(client, seconds=60)
    check_final(broker, producer)
    assert client.xlen(DEAD) == 0


@pytest.mark.parametrize("link", ["read", "write"])
def test_refused_while_a_redis_link_drops(things, link):
    redis, broker = things.redis(), things.recording_broker(receive_maximum=300)
    client, refuser = redis.client(), Refuser(broker)
    producer = Producer(redis, STREAM, keys=10)
    things.gateway(config_for(redis, broker))
    with producer.background(rate=1000):
        for _ in range(4):
            refuser.refuse(0x97, keys={"k2", "k5"})
            time.sleep(0.5)
            for connection in client.client_list():
                if connection["name"].endswith(f":slot-0:{link}"):
                    client.client_kill_filter(_id=connection["id"])
            time.sleep(0.5)
            refuser.accept()
            time.sleep(0.3)
    wait_settled(client, seconds=60)
    check_final(broker, producer)
    assert client.xlen(DEAD) == 0
    assert {key for _, key, _, _ in Verifier(producer, broker).report().out_of_order} <= {"k2", "k5"}


# ---- the broker's state ------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x97, 0x87, 0x99])
def test_a_broker_that_refuses_everything_loses_nothing(things, code):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    producer = Producer(redis, STREAM, keys=20)
    gateway = things.gateway(config_for(redis, broker))
    with producer.background(rate=500):
        time.sleep(1)
        refuser.refuse(code)
        time.sleep(3)
        while_refused = refuser.refused
        refuser.accept()
        time.sleep(1)
    wait_settled(client, seconds=60)
    gateway.wait_log("the broker refuses most of what is published", level="error")
    gateway.wait_log("the broker takes publishes again")
    if code == 0x99:  # of the first three keys nothing could be known yet
        assert client.xlen(DEAD) <= 3
        return
    check_final(broker, producer)
    assert client.xlen(DEAD) == 0
    assert while_refused < 200  # the window of the beginning, then probes


def test_publishes_of_qos_0_do_not_speak_for_the_broker(things):
    """It cannot refuse them: that they were sent says nothing about it."""
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x87, whom=lambda m: m.qos == 1)
    producer = produce(redis, STREAM, keys=["k0", "k1"], count=20)
    quiet = Producer(redis, STREAM, keys=["quiet"], fields={"qos": 0})
    things.gateway(config_for(redis, broker))
    with quiet.background(rate=100):
        time.sleep(3)
    assert client.xlen(DEAD) == 0
    refuser.accept()
    wait_settled(client)
    check_final(broker, producer)


def test_one_key_that_is_not_authorized_goes_quickly(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x87, keys={"bad"})
    producer = Producer(redis, STREAM, keys=10)
    things.gateway(config_for(redis, broker))
    bad = produce(redis, STREAM, keys=["bad"], count=20)
    with producer.background(rate=200):
        wait_until(lambda: client.xlen(DEAD) >= 20, 20 * PATIENCE, "dead letters")
    wait_for(broker, producer.sent).check(duplicates=0)
    wait_settled(client, seconds=60)
    assert {letter["dead_reason"] for letter in letters(client)} == {"not-authorized"}
    assert [letter["payload"].split('"n":')[1].split(",")[0] for letter in letters(client)] == [
        str(n + 1) for n in range(bad.total)]


def test_a_large_window_refused_as_a_whole(things):
    """Thousands of keys are set apart at once: the thread must not be lost in it."""
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97)
    broker.hold_acks()
    count = 4000 if SANITIZED else LARGE_WINDOW
    producer = produce(redis, STREAM, keys=count, count=count)
    gateway = things.gateway(config_for(redis, broker, broker_changes={"inflight": 65535}))
    wait_until(lambda: refuser.refused == count, 30 * PATIENCE, "all in flight")
    refuser.accept()
    begun = time.monotonic()
    broker.release_acks()
    wait_settled(client, seconds=60)
    print(f"{time.monotonic() - begun:.1f} s, {gateway.cpu_seconds():.1f} s of CPU")
    check_final(broker, producer)
    assert gateway.log_count("lease lost") == 0 and gateway.log_count("connection lost") == 0
    assert client.xlen(DEAD) == 0


def test_half_of_the_keys_refused_in_a_full_window(things):
    """They leave together; those that were not refused come back to the common way, and keep their
    order."""
    redis, broker = things.redis(), things.recording_broker(receive_maximum=1000)
    client, refuser = redis.client(), Refuser(broker)
    bad = {f"k{i}" for i in range(0, 60, 3)}
    refuser.refuse(0x97, keys=bad, seconds=1.5)
    producer = Producer(redis, STREAM, keys=60)
    gateway = things.gateway(config_for(redis, broker))
    with producer.background(rate=3000):
        time.sleep(0.7)
        broker.disconnect()
        time.sleep(2)
    wait_settled(client, seconds=60)
    check_final(broker, producer)
    assert {key for _, key, _, _ in Verifier(producer, broker).report().out_of_order} <= bad
    assert client.xlen(DEAD) == 0 and gateway.log_count("broker connection lost") == 1


# ---- parking -----------------------------------------------------------------------------------


@pytest.mark.limit(300)
def test_parked_entries_wait_in_redis_and_arrive_in_order(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97, keys={"bad"})
    others = produce(redis, STREAM, keys=20, count=200)
    gateway = things.gateway(config_for(redis, broker, broker_changes={"inflight": 200}))
    bad = produce(redis, STREAM, keys=["bad"], count=200, payload_size=2000)
    time.sleep(1)
    before = gateway.rss_kb()
    count = 2000 if SANITIZED else 20000
    for _ in range(10):
        bad.send(count // 10)
        others.send(200)
    wait_for(broker, others.sent, 20).check(duplicates=0)
    wait_until(lambda: pending(redis, STREAM) == (bad.total, 0), 30 * PATIENCE,
               lambda: f"all pending: {pending(redis, STREAM)}")
    if not SANITIZED:
        assert gateway.rss_kb() < before + 4096, (before, gateway.rss_kb())
    refuser.accept()
    # While the key catches up the others go on.
    wait_until(lambda: any(key_of(m) == "bad" for m in broker.accepted()), 40 * PATIENCE, "bad again")
    others.send(200)
    wait_for(broker, others.sent, 10).check(duplicates=0)
    wait_settled(client, seconds=120)
    check_final(broker, bad, others)
    report = Verifier(expected_of(bad, others), broker).report().check()
    assert report.duplicates == 0, str(report)  # nothing of it had been taken before
    assert client.xlen(DEAD) == 0


@pytest.mark.limit(300)
def test_a_key_that_catches_up_slowly_delays_no_other(things):
    """The broker is far away: one publish of the key at a time is slow."""
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    broker.ack_delay = 0.05
    refuser.refuse(0x97, keys={"bad"})
    others = produce(redis, STREAM, keys=20, count=200)
    things.gateway(config_for(redis, broker, broker_changes={"inflight": 200}))
    wait_for(broker, others.sent, 20).check(duplicates=0)
    bad = produce(redis, STREAM, keys=["bad"], count=3000)
    wait_until(lambda: pending(redis, STREAM) == (bad.total, 0), 30 * PATIENCE, "parked")
    refuser.accept()
    wait_until(lambda: any(key_of(m) == "bad" for m in broker.accepted()), 40 * PATIENCE, "bad again")
    for _ in range(5):
        others.send(200)
        wait_for(broker, others.sent, 10).check(duplicates=0)
        time.sleep(1)
    wait_settled(client, seconds=60)
    check_final(broker, bad, others)


@pytest.mark.limit(300)
@pytest.mark.parametrize("how", ["kill", "stop", "read", "write", "broker"])
def test_parked_and_interrupted(things, how):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97, keys={"bad"})
    bad = Producer(redis, STREAM, keys=["bad"])
    others = Producer(redis, STREAM, keys=20)
    gateway = things.gateway(config_for(redis, broker, broker_changes={"inflight": 100}))
    for turn in range(3):
        refuser.refuse(0x97, keys={"bad"})
        for _ in range(5):
            bad.send(400)
            others.send(100)
        wait_for(broker, others.sent, 10).check()
        if turn == 2:
            refuser.accept()  # it is reading back when it happens
            time.sleep(0.3)
        if how in ("kill", "stop"):
            if how == "kill":
                gateway.kill9()
            else:
                assert gateway.terminate() == 0
            gateway.start(20)
        elif how == "broker":
            broker.disconnect()
        else:
            for connection in client.client_list():
                if connection["name"].endswith(f":slot-0:{how}"):
                    client.client_kill_filter(_id=connection["id"])
        time.sleep(0.5)
        refuser.accept()
        time.sleep(0.3)
    wait_settled(client, seconds=60)
    check_final(broker, bad, others)
    assert client.xlen(DEAD) == 0


@pytest.mark.limit(300)
def test_three_parked_keys_with_different_ends(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refused = {"b0", "b1", "b2"}
    refuser.refuse(0x97, whom=lambda m: key_of(m) in refused)
    bad = Producer(redis, STREAM, keys=["b0", "b1", "b2"])
    others = Producer(redis, STREAM, keys=10)
    things.gateway(config_for(redis, broker, broker_changes={"inflight": 100},
                              delivery={"max_deliveries": 100}))
    with others.background(rate=200):
        for _ in range(6):
            bad.send(600)
            time.sleep(0.2)
        for key in ("b1", "b0", "b2"):
            refused.discard(key)
            wait_for(broker, {(STREAM, key): bad.sent[STREAM, key]}, 60).check()
            bad.send(300)
    wait_settled(client, seconds=60)
    check_final(broker, bad, others)
    wait_for(broker, others.sent).check(duplicates=0)
    assert client.xlen(DEAD) == 0


@pytest.mark.limit(300)
@pytest.mark.parametrize("route", [{}, {"strict_order": True}], ids=["common", "strict"])
@pytest.mark.parametrize("every", [40, 150, 700])
def test_parked_and_refused_by_turns(things, every, route):
    """Now and then a publish of the key is refused: it is read back many times, and refused again in the
    middle of that."""
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    flip = [0]

    def every_other(message):
        if key_of(message) != "bad":
            return False
        flip[0] += 1
        return flip[0] % every == 0
    refuser.refuse(0x97, keys={"bad"})
    bad = Producer(redis, STREAM, keys=["bad"])
    others = Producer(redis, STREAM, keys=20)
    gateway = things.gateway(config_for(redis, broker, route_changes=route,
                                        broker_changes={"inflight": 100}))
    bad.send(3000)
    with others.background(rate=100):
        wait_until(lambda: (pending(redis, STREAM) or (0,))[0] >= 3000, 20 * PATIENCE, "parked")
        refuser.refuse(0x97, whom=every_other)
        wait_until(lambda: set(last_order(broker).get((STREAM, "bad"), ())) == set(range(1, 3001)),
                   120, "all of it", interval=0.5)
    wait_settled(client, seconds=60)
    check_final(broker, bad, others)
    wait_for(broker, others.sent).check(duplicates=0)
    assert client.xlen(DEAD) == 0
    print(client.info("commandstats").get("cmdstat_xreadgroup"), gateway.cpu_seconds())


# ---- stopping ----------------------------------------------------------------------------------


def test_a_drain_while_a_key_rests(things):
    redis, broker = things.redis(), things.recording_broker()
    client, refuser = redis.client(), Refuser(broker)
    refuser.refuse(0x97, keys={"k0"})
    producer = produce(redis, STREAM, keys=5, count=100)
    gateway = things.gateway(config_for(redis, broker))
    wait_for(broker, others_of(producer, "k0"))
    wait_until(lambda: refuser.refused >= 3, 10 * PATIENCE, "refused")
    begun = time.monotonic()
    assert gateway.terminate(timeout=8 * PATIENCE) == 0
    assert time.monotonic() - begun < 5 * PATIENCE
    assert pending(redis, STREAM)[0] == 20
    refuser.accept()
    gateway.start()
    wait_settled(client)
    check_final(broker, producer)


# ---- DISCONNECT --------------------------------------------------------------------------------


@pytest.mark.parametrize("code, least, most", [(0x8B, 0, 2), (0x97, 5, 9), (0x96, 5, 9), (0x9F, 5, 9),
                                               (0x8E, 5, 9)])
def test_disconnected_with_a_reason(things, code, least, most):
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis, STREAM, keys=5, count=100)
    gateway = things.gateway(config_for(redis, broker))
    wait_settled(redis.client())
    broker.disconnect(code)
    begun = time.monotonic()
    producer.send(100)
    assert f"0x{code:02x}" in gateway.wait_log("broker connection lost", level="error")["reason"]
    Verifier(producer, broker).wait(20 * PATIENCE).check()
    waited = time.monotonic() - begun
    assert waited >= least and waited < most * PATIENCE + 3, waited
    wait_settled(redis.client())


def test_a_moved_broker_is_named(things):
    redis, broker = things.redis(), things.recording_broker()
    produce(redis, STREAM, keys=5, count=100)
    gateway = things.gateway(config_for(redis, broker))
    wait_settled(redis.client())

    def move():
        name = b"other.example:1883"
        properties = b"\x1c" + len(name).to_bytes(2, "big") + name
        body = bytes((0x9D, len(properties))) + properties
        for connection in list(broker._live):
            connection.sock.send(b"\xe0" + bytes((len(body),)) + body)
            broker._end(connection, "closed")
    broker._do(move)
    line = gateway.wait_log("broker connection lost", level="error")
    assert "other.example:1883" in line["reason"] and int(line["retry_ms"]) >= 30000
    assert gateway.terminate() == 0
