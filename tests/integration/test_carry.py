"""The main job: many entries over many streams and keys, over TLS, all of them once and in order."""

import pytest
from harness import Verifier, gateway_config, produce, wait_until
from scale import COUNT, is_settled, patience

STREAMS = [f"nemo:{{site{i}}}:events" for i in range(8)]


def carry(things, broker, **changes):
    redis = things.redis()
    producer = produce(redis, STREAMS, keys=250, count=COUNT, payload_size=220)
    subscriber = things.line_subscriber(broker.port, tls=broker.tls, topics=("nemo/#",))
    gateway = things.gateway(gateway_config(redis, broker, slots=4, **changes))
    Verifier(producer, subscriber).wait(patience(30)).check(duplicates=0)
    wait_until(lambda: is_settled(redis, STREAMS), 10, "nothing pending and no lag")
    assert gateway.terminate() == 0
    assert gateway.log_count("", level="error") == 0


@pytest.mark.limit(1800)
def test_tls_mqtt5(things):
    carry(things, things.mosquitto(tls=things.certs, max_inflight=1000))


@pytest.mark.limit(1800)
def test_tls_mqtt311(things):
    carry(things, things.mosquitto(tls=things.certs, max_inflight=1000),
          broker_changes={"protocol": "3.1.1"})


@pytest.mark.limit(1800)
def test_receive_maximum_20_with_four_connections(things):
    carry(things, things.mosquitto(tls=things.certs, max_inflight=20),
          broker_changes={"connections": 4})


def test_the_packet_on_the_wire(things):
    """Topic with the route's prefix, payload, RETAIN, QoS, user properties, expiry."""
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{lab-1}:events"
    entry = redis.client().xadd(stream, {"v": "1", "topic": "tools/17/state", "key": "tool/17",
                                         "payload": "Zoë 李 😀", "id": "an-id", "retain": "1",
                                         "exp": "3600", "type": "tool.state", "new-field": "x"})
    plain = redis.client().xadd(stream, {"topic": "nemo/tools/1/enabled", "abs": "1", "qos": "0",
                                         "payload": b"\x00\xff"})
    things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [stream]), 10, "settled")
    first, second = [m for m in broker.messages if not m.topic.startswith("nemogate/")]
    assert (first.topic, first.payload.decode()) == ("nemo/lab-1/tools/17/state", "Zoë 李 😀")
    assert (first.qos, first.retain) == (1, True)
    assert dict(first.user_properties) == {"id": "an-id", "stream-id": entry}
    assert 3590 <= first.expiry <= 3600
    assert (second.topic, second.payload, second.qos, second.retain) == (
        "nemo/tools/1/enabled", b"\x00\xff", 0, False)
    assert dict(second.user_properties) == {"id": plain, "stream-id": plain}
    assert broker.violations == []


def test_an_expired_entry_is_settled_unpublished(things):
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{a}:events"
    client = redis.client()
    client.xadd(stream, {"topic": "old", "payload": "x", "exp": "1"}, id="1000-0")
    client.xadd(stream, {"topic": "fresh", "payload": "x"})
    things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [stream]), 10, "settled")
    assert [m.topic for m in broker.messages if m.topic.startswith("nemo/")] == ["nemo/a/fresh"]


def test_one_connection_for_one_stream(things):
    """A slot without streams does not use up one of the broker's connections."""
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis, "nemo:{a}:events", count=10)
    things.gateway(gateway_config(redis, broker, slots=8))
    Verifier(producer, broker).wait(10).check(duplicates=0)
    assert len(broker.open_connections()) == 1


def test_a_stream_without_a_hash_tag_takes_its_site_from_the_route(things):
    redis, broker = things.redis(), things.recording_broker()
    redis.client().xadd("plain", {"topic": "t", "payload": "x"})
    config = gateway_config(redis, broker, redis_changes={"streams": ["plain"]},
                            route_changes={"streams": "plain", "site": "lab"})
    things.gateway(config)
    wait_until(lambda: is_settled(redis, ["plain"]), 10, "settled")
    assert [m.topic for m in broker.messages if m.topic.startswith("nemo/")] == ["nemo/lab/t"]


def test_start_new_leaves_the_past_alone(things):
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{a}:events"
    redis.client().xadd(stream, {"topic": "before", "payload": "x"})
    gateway = things.gateway(gateway_config(redis, broker, redis_changes={"start": "new"}))
    gateway.wait_log("consumer group made")
    redis.client().xadd(stream, {"topic": "after", "payload": "x"})
    wait_until(lambda: is_settled(redis, [stream]), 10, "settled")
    assert [m.topic for m in broker.messages if m.topic.startswith("nemo/")] == ["nemo/a/after"]


def test_json_log(things):
    import json
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, log={"level": "debug", "format": "json"}),
                             start=False)
    gateway.launch()
    wait_until(lambda: '"msg":"ready"' in gateway.log_text().replace(": ", ":"), 10, "ready")
    assert gateway.terminate() == 0
    lines = [json.loads(line) for line in gateway.log_text().splitlines()]
    assert lines and all({"ts", "level", "msg"} <= set(line) for line in lines)
