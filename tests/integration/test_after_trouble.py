"""What a slot must get over: a lease that was in doubt, a lost read link while Redis refuses what a
stream is owed, and entries larger than a broker's share of the bytes."""

import time

import pytest
from harness import gateway_config, wait_until
from scale import PATIENCE

A, B = "nemo:{a}:events", "nemo:{b}:events"


def one_slot(redis, broker, **changes):
    return gateway_config(redis, broker, slots=1, shards=1, **changes)


@pytest.mark.limit(60)
def test_connections_come_back_when_a_renewal_ends_the_doubt(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    things.gateway(one_slot(redis, broker))
    client.xadd(A, {"topic": "t", "payload": "1"})
    wait_until(lambda: broker.payloads("nemo/a/t") == [b"1"], 10, "carried")
    redis.pause()
    time.sleep(2.4)  # longer than the lease, shorter than a link waits for an answer
    broker.disconnect()
    time.sleep(0.6)
    redis.resume()
    client.xadd(A, {"topic": "t", "payload": "2"})
    wait_until(lambda: broker.payloads("nemo/a/t") == [b"1", b"2"], 15 * PATIENCE,
               "the entry after the doubt")


@pytest.mark.limit(60)
def test_nothing_passes_a_refused_dead_letter_of_its_key_when_the_read_link_is_lost(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.set("nemo:{a}:dead", "not a stream")
    client.xadd(A, {"topic": "#", "key": "k", "payload": "x"})
    gateway = things.gateway(one_slot(redis, broker))
    gateway.wait_log("Redis refused the dead letter")
    client.xadd(A, {"topic": "t", "key": "k", "payload": "1"})
    time.sleep(1.5)
    assert broker.payloads("nemo/a/t") == []
    for _ in range(6):
        for link in client.client_list():
            if link["name"].endswith("slot-0:read"):
                client.client_kill_filter(_id=link["id"])
        time.sleep(0.7)
    assert broker.payloads("nemo/a/t") == [], client.xpending_range(A, "nemogate", "-", "+", 10)


@pytest.mark.limit(60)
def test_large_entries_of_one_of_four_brokers_pass_a_refused_dead_letter(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.set("nemo:{b}:dead", "not a stream")
    client.xadd(B, {"topic": "#", "payload": "x"})
    config = one_slot(redis, broker, delivery={"inflight_bytes": "8MiB", "max_payload": "1MiB"})
    for n in range(3):  # each broker gets a quarter of the bytes: less than one entry
        config["brokers"].append({"name": f"other{n}", "url": broker.url,
                                  "client_id_prefix": f"other{n}"})
        config["routes"].insert(0, {"streams": f"nemo:*:other{n}", "broker": f"other{n}"})
    gateway = things.gateway(config)
    gateway.wait_log("Redis refused the dead letter")
    for _ in range(40):
        client.xadd(A, {"topic": "t", "payload": "x" * 900_000})
    wait_until(lambda: len(broker.payloads("nemo/a/t")) == 40, 10 * PATIENCE,
               lambda: f"all; {len(broker.payloads('nemo/a/t'))} came")
