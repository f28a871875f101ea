"""Redis that is killed, restarted, cut off or short of rights: nothing of what it still has is lost, the
order is kept, and the process goes on."""

import json
import time

import pytest
from harness import Verifier, gateway_config, produce, wait_until
from harness.events import Producer
from scale import PATIENCE, is_settled, patience, pending

STREAMS = ["nemo:{a}:events", "nemo:{b}:events", "nemo:{c}:events"]
DURABLE = {"appendonly": True, "args": ("--appendfsync", "always")}


@pytest.mark.limit(600)
def test_redis_killed_and_restarted_under_load(things):
    redis, broker = things.redis(**DURABLE), things.recording_broker()
    producer = Producer(redis, STREAMS, keys=100, payload_size=200)
    gateway = things.gateway(gateway_config(redis, broker))
    with producer.background(rate=1500):
        for _ in range(3):
            time.sleep(1)
            redis.kill()
            time.sleep(0.5)
            redis.start()
            time.sleep(2)
    Verifier(producer, broker).wait(patience(30, producer.total)).check()
    wait_until(lambda: is_settled(redis, STREAMS), 20, "nothing pending and no lag")
    assert gateway.running
    assert gateway.terminate() == 0


@pytest.mark.limit(300)
def test_links_cut_by_client_kill_under_load(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = Producer(redis, STREAMS, keys=100)
    gateway = things.gateway(gateway_config(redis, broker))
    client = redis.client()
    with producer.background(rate=2000):
        for _ in range(15):
            time.sleep(0.2)
            for link in client.client_list():
                if link["name"].startswith("nemogate:"):
                    client.client_kill_filter(_id=link["id"])
    report = Verifier(producer, broker).wait(patience(30, producer.total))
    report.check()
    print(report)
    wait_until(lambda: is_settled(redis, STREAMS), 10, "nothing pending and no lag")
    assert gateway.terminate() == 0


@pytest.mark.limit(300)
def test_a_half_open_link_swallows_nothing(things):
    """nemogate is stopped with a read parked in Redis, and Redis answers that read into a connection
    whose answer never arrives; when it goes on, these entries are published before newer ones."""
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{a}:events"
    producer = Producer(redis, stream, keys=3).send(30)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"lease_ttl": "30s"}))
    wait_until(lambda: is_settled(redis, [stream]), 10, "settled")
    client = redis.client()
    for _ in range(5):
        gateway.pause()
        producer.send(9)  # the parked read takes them: they are delivered, and nobody has seen them
        wait_until(lambda: pending(redis, stream)[0] > 0, 5, "delivered to the parked read")
        for link in client.client_list():  # what was answered into the socket is lost with it
            if link["name"].endswith(":read"):
                client.client_kill_filter(_id=link["id"])
        producer.send(9)
        gateway.resume()
        wait_until(lambda: is_settled(redis, [stream]), 20 * PATIENCE, "settled")
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)


def test_redis_is_away_at_the_start(things):
    redis, broker = things.redis(start=False), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), start=False)
    gateway.launch()
    line = gateway.wait_log("no connection to Redis")
    assert "refused" in line["reason"]
    redis.start()
    producer = produce(redis, STREAMS, count=30)
    Verifier(producer, broker).wait(40 * PATIENCE).check(duplicates=0)


def test_a_wrong_password(things, tmp_path):
    redis, broker = things.redis(password="right-word"), things.recording_broker()
    secret = tmp_path / "secret"
    secret.write_text("wrong-word\n")
    config = gateway_config(redis, broker, redis_changes={"password_file": str(secret)})
    gateway = things.gateway(config, start=False)
    gateway.launch()
    line = gateway.wait_log("no connection to Redis")
    assert "WRONGPASS" in line["reason"] or "invalid" in line["reason"], line
    assert "wrong-word" not in gateway.log_text()


def test_a_key_of_another_type_does_not_stop_its_neighbours(things):
    redis, broker = things.redis(), things.recording_broker()
    names = ["nemo:{a}:events", "nemo:{b}:events"]
    config = gateway_config(redis, broker, slots=1, redis_changes={"streams": names})
    redis.client().set("nemo:{b}:events", "a text")
    producer = Producer(redis, "nemo:{a}:events", keys=5).send(50)
    gateway = things.gateway(config)
    line = gateway.wait_log("a stream cannot be read", stream="nemo:{b}:events")
    assert "WRONGTYPE" in line["reply"]
    Verifier(producer, broker).wait(10 * PATIENCE).check(duplicates=0)
    redis.client().delete("nemo:{b}:events")
    other = Producer(redis, "nemo:{b}:events", keys=5).send(50)
    Verifier({**producer.sent, **other.sent}, broker).wait(20 * PATIENCE).check(duplicates=0)


def test_a_destroyed_group_is_made_again_loudly(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = Producer(redis, STREAMS, keys=5).send(60)
    gateway = things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, STREAMS), 10, "settled")
    redis.client().xgroup_destroy(STREAMS[0], "nemogate")
    producer.send(60)
    gateway.wait_log("made again", stream=STREAMS[0])
    Verifier(producer, broker).wait(20 * PATIENCE).check()


@pytest.mark.limit(300)
def test_a_group_destroyed_under_load(things):
    """What was in memory came from the old group: all of it is sent again, and ends with the newest."""
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.02
    producer = Producer(redis, STREAMS, keys=20)
    gateway = things.gateway(gateway_config(redis, broker))
    with producer.background(rate=1500):
        for _ in range(3):
            time.sleep(0.7)
            redis.client().xgroup_destroy(STREAMS[0], "nemogate")
            gateway.wait_log("made again", stream=STREAMS[0])
    Verifier(producer, broker).wait(patience(30, producer.total)).check()
    wait_until(lambda: is_settled(redis, STREAMS), 20 * PATIENCE, "settled")
    last = {}
    for message in broker.accepted():
        if message.topic.startswith("nemo/"):
            event = json.loads(message.payload)
            last[event["stream"], event["key"]] = event["n"]
    assert last == producer.sent


def test_flushall_and_a_new_beginning(things):
    redis, broker = things.redis(), things.recording_broker()
    Producer(redis, STREAMS, keys=5).send(60)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"lease_ttl": "1s"}))
    wait_until(lambda: is_settled(redis, STREAMS), 10, "settled")
    redis.client().flushall()
    time.sleep(0.5)
    broker.messages.clear()
    producer = Producer(redis, STREAMS, keys=7).send(70)
    Verifier(producer, broker).wait(30 * PATIENCE).check()
    assert gateway.running


def test_tls_and_acl_user(things, tmp_path):
    redis, broker = things.redis(tls=things.certs, password="word"), things.recording_broker()
    secret = tmp_path / "secret"
    secret.write_text("word\n")
    config = gateway_config(redis, broker, redis_changes={"username": "default",
                                                          "password_file": str(secret)})
    producer = produce(redis, STREAMS, count=30)
    things.gateway(config)
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)


def test_unix_socket(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis, STREAMS, count=30)
    things.gateway(gateway_config(redis.unix_url, broker))
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)


def test_another_database(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis.client(db=3, decode_responses=False), STREAMS, count=30)
    things.gateway(gateway_config(redis.url.removesuffix("/0") + "/3", broker))
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)


@pytest.mark.limit(300)
def test_links_cut_while_the_bytes_are_used_up(things):
    """Reading stands still for want of inflight_bytes when the links are cut: it goes on after."""
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks(after=20)
    producer = produce(redis, "nemo:{a}:events", keys=20, count=400, payload_size=30_000)
    config = gateway_config(redis, broker, slots=1,
                            delivery={"max_payload": "64KiB", "inflight_bytes": "1MiB"})
    gateway = things.gateway(config)
    broker.wait_messages(30)
    time.sleep(0.5)
    in_memory = len(broker.messages)
    assert in_memory < 90, "more than the configured bytes are in flight"
    client = redis.client()
    for link in client.client_list():
        if link["name"].startswith("nemogate:"):
            client.client_kill_filter(_id=link["id"])
    time.sleep(0.5)
    broker.release_acks()
    Verifier(producer, broker).wait(30 * PATIENCE).check(duplicates=0)
    assert gateway.terminate() == 0


def test_a_broker_that_is_down_does_not_hold_up_another(things):
    """Two brokers in one slot: the streams of one flow while the backlog of the other waits."""
    redis, up, down = things.redis(), things.recording_broker(), things.recording_broker()
    down.stop()
    config = gateway_config(redis, up, slots=1)
    config["brokers"].append({"name": "down", "url": down.url, "inflight": 10})
    config["routes"] = [{"streams": "nemo:{d*}:events", "broker": "down"},
                        {"streams": "nemo:*:events", "broker": "main"}]
    waiting = Producer(redis, ["nemo:{d1}:events", "nemo:{d2}:events"], keys=5).send(5000)
    things.gateway(config, start=False).launch()
    first = Producer(redis, "nemo:{u}:events", keys=5).send(3000)
    Verifier(first, up).wait(20 * PATIENCE).check(duplicates=0)
    slowest = 0.0
    for _ in range(20):
        before = time.monotonic()
        first.send(1)
        Verifier(first, up).wait(10 * PATIENCE).check(duplicates=0)
        slowest = max(slowest, time.monotonic() - before)
    print(f"slowest of 20 single events: {slowest * 1000:.0f} ms")
    down.start()
    Verifier(waiting, down).wait(40 * PATIENCE).check(duplicates=0)
