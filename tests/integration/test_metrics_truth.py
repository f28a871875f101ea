"""Metrics where they once said what was not so: duplicates by each policy of a route, QoS 0, streams that are
gone. That the sums agree over a whole day is in test_prometheus.py."""

import time

import pytest
from harness import free_port, gateway_config, wait_until
from harness.batches import messages_of

STREAM = "nemo:{lab}:events"
BATCH = {"encoding": "batch", "batch": {"events": 10, "linger": "1ms"}}


def config_of(redis, broker, **changes):
    admin = {"listen": f"127.0.0.1:{free_port()}", "stall_timeout": "2s"}
    return gateway_config(redis, broker, admin=admin, **changes)


def write(redis, count, stream=STREAM, **fields):
    client = redis.client()
    for n in range(count):
        client.xadd(stream, {"topic": f"tools/{n % 4}/state", "payload": str(n), **fields})


def payloads(broker):
    return [event.payload for message in list(broker.messages) if "/status" not in message.topic
            for event in messages_of(message)]


@pytest.mark.parametrize("route", [{}, {"coalesce_retained": True}, {"strict_order": True}, BATCH],
                         ids=["plain", "coalesced", "strict", "batch"])
def test_republished_is_what_a_subscriber_sees_twice(things, route):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, route_changes=route))
    write(redis, 40)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 40, 10, "all are acknowledged")
    broker.hold_acks()
    write(redis, 40)
    wait_until(lambda: gateway.metric("nemogate_entries_read_total") == 80, 10, "all are read")
    wait_until(lambda: len(payloads(broker)) > 40, 10, "some are in flight")
    in_flight, calm = 0, 0
    while calm < 5:  # until no more come without an answer
        time.sleep(0.1)
        before, in_flight = in_flight, len(payloads(broker)) - 40
        calm = calm + 1 if before == in_flight else 0
    broker.disconnect()
    broker.release_acks()
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 80, 20, "all are acknowledged")
    assert in_flight >= 4
    assert gateway.metric("nemogate_republished_total") == in_flight == len(payloads(broker)) - 80
    lost = gateway.wait_log("broker connection lost")
    assert sum(int(line["unsettled"]) for line in gateway.log_lines()
               if line.get("msg") == lost["msg"]) == in_flight


def test_qos_0_has_no_time_to_its_puback(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis, 20, qos="0")
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 20, 10, "all are acknowledged")
    assert gateway.metric("nemogate_published_total") == 20
    for name in ("nemogate_puback_reason_total", "nemogate_puback_seconds_count",
                 "nemogate_delivery_seconds_count"):
        assert gateway.metric(name) == 0, name
    write(redis, 1)
    wait_until(lambda: gateway.metric("nemogate_puback_seconds_count") == 1, 10, "one is timed")


def test_a_stream_that_is_gone_waits_for_nothing(things):
    """Its last pending entries would else age for ever, and the gateway would be stalled."""
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis, 1)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 1, 10, "the other one is carried")
    broker.hold_acks()
    write(redis, 5, "nemo:{gone}:events")
    pending = 'nemogate_pending_entries{site="gone"}'
    wait_until(lambda: gateway.metrics().get(pending) == 5, 10, "Redis was asked")
    wait_until(lambda: gateway.metric("nemogate_oldest_pending_seconds") >= 1, 10, "they age")
    redis.client().delete("nemo:{gone}:events")
    wait_until(lambda: pending not in gateway.metrics(), 10, "nothing is known of it")
    assert gateway.metric("nemogate_oldest_pending_seconds") == 0
    broker.release_acks()
    wait_until(lambda: gateway.metric("nemogate_inflight") == 0, 10, "all have an answer")
    wait_until(lambda: gateway.admin("/readyz")[0] == 200, 10, "it is ready")
    end = time.monotonic() + 4  # twice stall_timeout
    while time.monotonic() < end:
        assert gateway.admin("/readyz") == (200, "ok\n")
        time.sleep(0.1)
    write(redis, 1, "nemo:{gone}:events")
    wait_until(lambda: gateway.metrics().get(pending) == 0, 10, "it is there again")
