"""Brokers that stall, die, refuse, or never acknowledge; TLS that does not hold. Each has its own clear
message, and each is over by itself when it has been mended."""

import time

import pytest
from harness import Verifier, free_port, gateway_config, produce, wait_until
from harness.events import Producer
from scale import COUNT, PATIENCE, SANITIZED, is_settled, patience

STREAMS = ["nemo:{a}:events", "nemo:{b}:events", "nemo:{c}:events"]
FAST = {"connect_timeout": "1s", "puback_timeout": "1s"}


@pytest.mark.limit(600)
def test_broker_stalled_and_killed_under_load(things):
    redis, broker = things.redis(), things.recording_broker()
    producer = Producer(redis, STREAMS, keys=100, payload_size=200)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes=FAST))
    with producer.background(rate=2000):
        time.sleep(1)
        broker.stall()
        time.sleep(3)
        broker.stop()
        broker.unstall()
        time.sleep(1)
        broker.start()
        time.sleep(2)
    report = Verifier(producer, broker).wait(patience(40, producer.total))
    report.check()
    print(report)
    wait_until(lambda: is_settled(redis, STREAMS), 10, "nothing pending and no lag")
    assert gateway.terminate() == 0
    assert broker.violations == []


@pytest.mark.limit(600)
def test_mosquitto_restarted_and_stopped_under_load(things):
    """SIGTERM, so that it saves its state; SIGSTOP for 5 s."""
    redis = things.redis()
    plain = free_port()  # paho does not survive a TLS connection that breaks while it writes
    broker = things.mosquitto(tls=things.certs, max_inflight=100, persistence=True, extra=(
        "per_listener_settings false", f"listener {plain} 127.0.0.1"))
    subscriber = things.subscriber(plain, topics=("nemo/#",), client_id="verifier", persistent=True)
    producer = Producer(redis, STREAMS, keys=100, payload_size=200)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes={"puback_timeout": "2s"}))
    with producer.background(rate=1000):
        time.sleep(1)
        broker.pause()
        time.sleep(5)
        broker.resume()
        time.sleep(1)
        broker.terminate()
        time.sleep(1)
        broker.start()
        time.sleep(2)
    Verifier(producer, subscriber).wait(patience(40, producer.total)).check()
    assert gateway.terminate() == 0


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory is not the gateway's")
@pytest.mark.limit(600)
def test_memory_does_not_depend_on_the_backlog(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, slots=1, broker_changes=FAST))
    producer = produce(redis, STREAMS, keys=100, count=3000, payload_size=220)
    Verifier(producer, broker).wait(patience(20)).check()
    before = gateway.rss_kb()
    broker.stop()
    producer.send(15 * COUNT)
    time.sleep(3)
    during = gateway.rss_kb()
    broker.start()
    Verifier(producer, broker).wait(patience(60, producer.total)).check()
    after = gateway.rss_kb()
    print(f"RSS {before} kB, in the outage {during} kB, after it {after} kB")
    slack = 1.1 * before + 1024
    assert during <= slack and after <= slack, (before, during, after)


def test_a_broker_that_never_acknowledges(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    producer = produce(redis, STREAMS, count=20)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes=FAST), start=False)
    gateway.launch()
    line = gateway.wait_log("broker connection lost")
    assert "no PUBACK within" in line["reason"]
    assert not is_settled(redis, STREAMS)
    broker.release_acks()
    Verifier(producer, broker).wait(30 * PATIENCE).check()
    wait_until(lambda: is_settled(redis, STREAMS), 10, "settled")


def test_a_broker_that_closes_after_connect(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.close_after("CONNECT")
    producer = produce(redis, STREAMS, count=20)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes=FAST), start=False)
    gateway.launch()
    gateway.wait_log("cannot connect to the broker")
    time.sleep(1.5)
    tries = len(broker.connections)
    assert tries <= 25  # backoff
    broker.close_after(None)
    Verifier(producer, broker).wait(30 * PATIENCE).check()


def test_credentials_refused(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.refuse_connect(0x87)
    producer = produce(redis, STREAMS, count=20)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes=FAST), start=False)
    gateway.launch()
    line = gateway.wait_log("cannot connect to the broker")
    assert "Not authorized" in line["reason"] and "0x87" in line["reason"]
    broker.refuse_connect(None)
    Verifier(producer, broker).wait(30 * PATIENCE).check()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_password_of_mosquitto(things, tmp_path, protocol):
    redis = things.redis()
    broker = things.mosquitto(password={"gate": "s3cret-word"})
    password = tmp_path / "password"
    password.write_text("wrong-word\n")
    changes = {**FAST, "username": "gate", "password_file": str(password), "protocol": protocol}
    gateway = things.gateway(gateway_config(redis, broker, broker_changes=changes), start=False)
    produce(redis, STREAMS, count=20)
    gateway.launch()
    line = gateway.wait_log("cannot connect to the broker")
    assert "uthorized" in line["reason"] or "user name" in line["reason"].lower(), line
    gateway.terminate()
    password.write_text("s3cret-word\n")
    gateway.launch()
    wait_until(lambda: is_settled(redis, STREAMS), 20, "settled")
    assert "s3cret-word" not in gateway.log_text() and "wrong-word" not in gateway.log_text()


def test_a_refused_publish_is_never_settled(things):
    """PUBACK with 0x97 (quota): the key waits and it is said; when the refusal ends, everything is
    there, and the key's topic ends with the newest."""
    redis, broker = things.redis(), things.recording_broker()
    broker.answer = lambda m: 0x97 if m.topic.endswith("k3/state") else 0
    producer = produce(redis, "nemo:{a}:events", keys=10, count=200)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes=FAST))
    line = gateway.wait_log("the broker refused a publish", level="warning")
    assert "Quota exceeded" in line["reason"] and line["stream"] == "nemo:{a}:events"
    time.sleep(1)
    assert not is_settled(redis, ["nemo:{a}:events"])
    broker.answer = None
    Verifier(producer, broker).wait(30 * PATIENCE).check()
    wait_until(lambda: is_settled(redis, ["nemo:{a}:events"]), 10, "settled")


# ---- TLS --------------------------------------------------------------------------------------


TLS_FAULTS = {
    "wrong CA": ({}, {"ca_file": "other-ca.crt"}, ["not trusted", "unknown", "CA"]),
    "wrong host name": ({"certificate": "other-name"}, {}, ["name", "localhost", "127.0.0.1"]),
    "expired": ({"certificate": "expired"}, {}, ["expired"]),
    "not yet valid": ({"certificate": "not-yet"}, {}, ["not valid yet"]),
    "client certificate missing": ({"client_certs": True}, {}, ["client certificate", "certificate"]),
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
def test_tls_fault(things, fault):
    options, tls, words = TLS_FAULTS[fault]
    redis = things.redis()
    broker = things.mosquitto(tls=things.certs, **options)
    settings = {"ca_file": f"{things.certs}/{tls.get('ca_file', 'ca.crt')}"}
    produce(redis, STREAMS, count=20)
    gateway = things.gateway(gateway_config(redis, broker, broker_changes={**FAST, "tls": settings}),
                             start=False)
    gateway.launch()
    line = gateway.wait_log("broker", level="error")
    print(line["reason"])
    assert any(word in line["reason"] for word in words), line
    assert not is_settled_at_all(redis)


def is_settled_at_all(redis):
    return any(group["pending"] == 0 and group["lag"] == 0
               for stream in STREAMS for group in redis.client().xinfo_groups(stream))


def test_tls_mended(things):
    """The expired certificate is replaced and the broker started again: it goes on by itself."""
    redis = things.redis()
    port_holder = things.mosquitto(tls=things.certs, certificate="expired")
    produce(redis, STREAMS, count=20)
    gateway = things.gateway(gateway_config(redis, port_holder, broker_changes=FAST), start=False)
    gateway.launch()
    gateway.wait_log("expired")
    port_holder.close()
    things.mosquitto(tls=things.certs, port=port_holder.port)
    wait_until(lambda: is_settled(redis, STREAMS), 30 * PATIENCE, "settled")


def test_client_certificate(things):
    redis = things.redis()
    broker = things.mosquitto(tls=things.certs, client_certs=True)
    produce(redis, STREAMS, count=20)
    certs = things.certs
    tls = {"ca_file": f"{certs}/ca.crt", "cert_file": f"{certs}/client.crt",
           "key_file": f"{certs}/client.key"}
    things.gateway(gateway_config(redis, broker, broker_changes={**FAST, "tls": tls}))
    wait_until(lambda: is_settled(redis, STREAMS), 20, "settled")


def test_a_session_is_resumed_after_a_reconnect(things):
    redis = things.redis()
    broker = things.mosquitto(tls=things.certs, max_inflight=0)
    gateway = things.gateway(gateway_config(redis, broker, slots=1))
    produce(redis, STREAMS, count=20)
    first = gateway.wait_log("broker connected")
    assert first["tls"].startswith("TLSv1.3") and "resumed" not in first["tls"]
    wait_until(lambda: is_settled(redis, STREAMS), 20, "settled")
    broker.terminate()
    gateway.wait_log("broker connection lost")
    broker.start()
    wait_until(lambda: gateway.log_count("broker connected") == 2, 20, "connected again")
    print([line["tls"] for line in gateway.log_lines() if line.get("msg") == "broker connected"])
