"""Entries that can never be published go to the dead-letter stream; their neighbours do not notice."""

import pytest
from harness import gateway_config, wait_until
from scale import is_settled

STREAM, DEAD = "nemo:{a}:events", "nemo:{a}:dead"

BAD = {
    "no topic": ({"payload": "x"}, "no-topic"),
    "wildcard": ({"topic": "tools/#", "payload": "x"}, "bad-topic"),
    "plus": ({"topic": "tools/+/x", "payload": "x"}, "bad-topic"),
    "empty topic": ({"topic": "", "payload": "x"}, None),
    "long topic": ({"topic": "t" * 70000, "payload": "x"}, "bad-topic"),
    "topic too long with the prefix": ({"topic": "t" * 65535, "payload": "x"}, "bad-topic"),
    "not UTF-8": ({"topic": b"tools/\xff\xfe", "payload": "x"}, "bad-topic"),
    "NUL": ({"topic": b"tools/\x00", "payload": "x"}, "bad-topic"),
    "payload too large": ({"topic": "t", "payload": b"x" * 300_000}, "payload-too-large"),
    "unknown version": ({"topic": "t", "payload": "x", "v": "2"}, "unknown-version"),
    "qos 7": ({"topic": "t", "payload": "x", "qos": "7"}, "bad-field"),
    "retain 2": ({"topic": "t", "payload": "x", "retain": "2"}, "bad-field"),
    "bad exp": ({"topic": "t", "payload": "x", "exp": "-1"}, "bad-field"),
    "100 fields": ({"topic": "t", "payload": "x", **{f"f{i}": "x" for i in range(98)}},
                   "bad-field"),
}


def test_each_bad_entry_is_kept_with_its_reason(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client(decode_responses=False)
    ids, good = {}, 0
    for name, (fields, _reason) in BAD.items():
        ids[name] = client.xadd(STREAM, {**fields, "key": "k"})
        client.xadd(STREAM, {"topic": "good", "payload": str(good), "key": "k"})
        client.xadd(STREAM, {"topic": "other", "payload": str(good), "key": "other"})
        good += 1
    gateway = things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [STREAM]), 20, "settled")
    letters = {fields[b"dead_id"]: fields for _id, fields in client.xrange(DEAD)}
    assert len(letters) == len(BAD)
    for name, (fields, reason) in BAD.items():
        letter = letters[ids[name]]
        assert reason is None or letter[b"dead_reason"].decode() == reason, name
        assert letter[b"dead_detail"], name
        assert letter[b"dead_stream"] == STREAM.encode()
        for field, value in fields.items():  # nothing of it is lost
            value = value.encode() if isinstance(value, str) else value
            assert letter[field.encode()] == value, name
    for topic in ("good", "other"):
        assert broker.payloads(f"nemo/a/{topic}") == [str(i).encode() for i in range(good)]
    assert broker.violations == []
    assert gateway.log_count("entry goes to the dead-letter stream") >= 1


def test_a_packet_over_the_brokers_maximum_packet_size(things):
    redis, broker = things.redis(), things.recording_broker(maximum_packet_size=1000)
    client = redis.client()
    client.xadd(STREAM, {"topic": "t", "payload": "1", "key": "k"})
    large = client.xadd(STREAM, {"topic": "t", "payload": "x" * 2000, "key": "k"})
    client.xadd(STREAM, {"topic": "t", "payload": "3", "key": "k"})
    things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [STREAM]), 10, "settled")
    assert [(e["dead_id"], e["dead_reason"]) for _id, e in client.xrange(DEAD)] == [
        (large, "packet-too-large")]
    assert broker.payloads("nemo/a/t") == [b"1", b"3"]
    assert broker.violations == []


def test_a_dead_letter_that_redis_refuses_is_not_acknowledged(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.set(DEAD, "not a stream")
    bad = client.xadd(STREAM, {"topic": "#", "payload": "x", "key": "k"})
    client.xadd(STREAM, {"topic": "after", "payload": "x", "key": "k"})
    gateway = things.gateway(gateway_config(redis, broker))
    gateway.wait_log("Redis refused the dead letter")
    assert client.xpending_range(STREAM, "nemogate", bad, bad, 1)
    assert broker.payloads("nemo/a/after") == []  # it waits: the order of its key
    client.delete(DEAD)
    wait_until(lambda: is_settled(redis, [STREAM]), 10, "settled")
    assert client.xlen(DEAD) == 1
    assert broker.payloads("nemo/a/after") == [b"x"]


@pytest.mark.limit(300)
def test_many_bad_entries_do_not_stop_the_good_ones(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    with client.pipeline(transaction=False) as pipe:
        for i in range(2000):
            pipe.xadd(STREAM, {"topic": "bad/#" if i % 2 else f"good/{i}", "payload": str(i),
                               "key": f"k{i % 7}"})
        pipe.execute()
    things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [STREAM]), 60, "settled")
    assert client.xlen(DEAD) == 1000
    assert len([m for m in broker.messages if m.topic.startswith("nemo/a/good")]) == 1000
