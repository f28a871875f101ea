"""Self tests of the harness: the RecordingBroker against paho, the Verifier against known faults,
and the starting and ending of the real servers. None of them needs the gateway."""

import json
import os
import queue
import random
import signal
import socket
import time

import paho.mqtt.client as mqtt
import pytest
import redis as redis_py
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import (Message, Verifier, free_port, gateway_config, parse_logfmt, produce, to_yaml,
                     wait_until)
from harness.events import Producer
from harness.process import Process

VERSIONS = {5: mqtt.MQTTv5, 4: mqtt.MQTTv311}


class Client:
    """A paho publisher that keeps what it was told."""

    def __init__(self, port, client_id="publisher", version=5, will=None):
        self.answers = queue.Queue()       # (packet id, reason code or None)
        self.connects = queue.Queue()      # codes of CONNACKs
        self.disconnects = queue.Queue()   # codes of DISCONNECTs
        self.connack = None
        clean = {} if version == 5 else {"clean_session": True}
        self.paho = mqtt.Client(client_id, protocol=VERSIONS[version], **clean)
        self.paho.max_inflight_messages_set(65535)
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_publish = lambda _client, _userdata, mid: self.answers.put(mid)
        if will:
            self.paho.will_set(*will, qos=1, retain=True)
        self.paho.connect_async("127.0.0.1", port, keepalive=20)
        self.paho.loop_start()

    def _on_connect(self, _client, _userdata, _flags, code, properties=None):
        self.connack = properties
        self.connects.put(getattr(code, "value", code))

    def _on_disconnect(self, _client, _userdata, code, _properties=None):
        self.disconnects.put(getattr(code, "value", code))

    def connected(self):
        code = self.connects.get(timeout=5)
        assert code == 0
        return self

    def publish(self, topic, payload, qos=1, retain=False, user_properties=()):
        properties = None
        if user_properties:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = list(user_properties)
        return self.paho.publish(topic, payload, qos, retain, properties=properties)

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


@pytest.fixture
def connect():
    made = []

    def make(*arguments, **options):
        made.append(Client(*arguments, **options))
        return made[-1]
    yield make
    for client in made:
        client.close()


def wait_answers(client, count):
    for _ in range(count):
        client.answers.get(timeout=5)


# ---- RecordingBroker -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_broker_writes_down_what_comes(things, connect, version):
    broker = things.recording_broker()
    client = connect(broker.port, version=version, will=("status", "offline")).connected()
    properties = [("id", "7"), ("stream-id", "5-1")] if version == 5 else ()
    client.publish("a/b", b"one", user_properties=properties)
    client.publish("a/b", b"", qos=1, retain=True)
    client.publish("a/c", bytes(range(256)) * 300, qos=1, retain=True)
    client.publish("a/d", b"zero", qos=0)
    wait_answers(client, 4)
    broker.wait_messages(4)
    first, second, third, fourth = broker.messages
    assert (first.topic, first.payload, first.qos, first.retain) == ("a/b", b"one", 1, False)
    assert first.user_properties == dict(properties)
    assert second.payload == b"" and second.retain
    assert third.payload == bytes(range(256)) * 300
    assert (fourth.qos, fourth.packet_id, fourth.code) == (0, 0, 0)
    assert broker.retained == {"a/c": third.payload}
    connection = broker.connections[0]
    assert (connection.client_id, connection.version) == ("publisher", version)
    assert connection.will == ("status", b"offline", 1, True)
    client.close()
    broker.wait_connections(0)
    assert (connection.ended, connection.reason_code) == ("disconnect", 0)
    assert broker.violations == [] and broker.wills == []


def test_a_lost_client_leaves_its_will(things, connect):
    broker = things.recording_broker()
    client = connect(broker.port, will=("status", "offline")).connected()
    client.paho.socket().shutdown(socket.SHUT_RDWR)
    wait_until(lambda: broker.wills, 5, "the will")
    assert broker.wills == [("publisher", "status", b"offline")]
    assert broker.retained["status"] == b"offline"
    assert broker.connections[0].ended == "lost"


def test_acks_are_held_and_released_in_order(things, connect):
    broker = things.recording_broker()
    client = connect(broker.port).connected()
    broker.hold_acks(after=2)
    sent = [client.publish("t", str(i)).mid for i in range(6)]
    broker.wait_messages(6)
    assert [client.answers.get(timeout=5) for _ in range(2)] == sent[:2]
    assert broker.owed_acks() == 4 and client.answers.empty()
    broker.release_acks(1)
    assert client.answers.get(timeout=5) == sent[2]
    assert broker.owed_acks() == 3
    broker.release_acks()
    assert [client.answers.get(timeout=5) for _ in range(3)] == sent[3:]
    client.publish("t", "more")
    wait_answers(client, 1)
    assert broker.connections[0].most_unacknowledged >= 4


def test_a_stalled_broker_reads_nothing(things, connect):
    broker = things.recording_broker()
    client = connect(broker.port).connected()
    broker.stall()
    client.publish("t", "x")
    time.sleep(0.2)
    assert broker.messages == []
    broker.unstall()
    broker.wait_messages(1)
    wait_answers(client, 1)


def test_delayed_acks_come(things, connect):
    broker = things.recording_broker()
    client = connect(broker.port).connected()
    broker.ack_delay = 0.2
    begun = time.monotonic()
    client.publish("t", "x")
    wait_answers(client, 1)
    assert time.monotonic() - begun >= 0.2


@pytest.mark.parametrize("version,code,seen", [(5, 0x87, 0x87), (4, 5, 5)])
def test_connects_are_refused(things, connect, version, code, seen):
    broker = things.recording_broker()
    broker.refuse_connect(code, count=1)
    client = connect(broker.port, version=version)
    assert client.connects.get(timeout=5) == seen
    assert client.connects.get(timeout=5) == 0  # paho tries again
    assert broker.refused_connects == 1 and len(broker.connections) == 1


@pytest.mark.parametrize("packet,accepted", [("CONNECT", 0), ("CONNACK", 1)])
def test_closing_after_connect(things, connect, packet, accepted):
    broker = things.recording_broker()
    broker.close_after(packet)
    client = connect(broker.port)
    client.disconnects.get(timeout=5)
    assert len(broker.connections) == accepted
    broker.close_after(None)
    while client.connects.get(timeout=5) != 0 or not broker.open_connections():
        pass


def raw_connect(broker, client_id=b"raw"):
    """A socket behind its CONNACK, for what paho does not tell: codes of PUBACK and DISCONNECT."""
    s = socket.create_connection(("127.0.0.1", broker.port), timeout=5)
    body = b"\0\4MQTT\5\2\0\x14\0" + bytes((0, len(client_id))) + client_id
    s.sendall(bytes((0x10, len(body))) + body)
    assert s.recv(100)[0] == 0x20
    return s


def raw_puback_codes(broker, version, topics):
    """{topic: what came back}."""
    level = bytes((version,))
    properties = b"\0" if version == 5 else b""
    body = b"\0\4MQTT" + level + b"\2\0\x14" + properties + b"\0\3raw"
    answers = {}
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as s:
        s.sendall(bytes((0x10, len(body))) + body)
        s.recv(100)
        for i, topic in enumerate(topics, 1):
            name = topic.encode()
            body = bytes((0, len(name))) + name + bytes((0, i)) + properties + b"x"
            s.sendall(bytes((0x32, len(body))) + body)
            answers[topic] = s.recv(100)
        s.sendall(b"\xe0\0")
    return answers


def test_pubacks_carry_reason_codes(things):
    broker = things.recording_broker()
    broker.answer = lambda m: 0x87 if m.topic == "no" else broker.CLOSE if m.topic == "end" else 0
    assert raw_puback_codes(broker, 5, ["yes", "no", "end"]) == {
        "yes": b"\x40\2\0\1", "no": b"\x40\3\0\2\x87", "end": b""}
    assert raw_puback_codes(broker, 4, ["no"]) == {"no": b"\x40\2\0\1"}
    assert [(m.topic, m.code) for m in broker.messages] == [
        ("yes", 0), ("no", 0x87), ("end", None), ("no", 0x87)]
    assert [m.topic for m in broker.accepted()] == ["yes"]


def test_announced_limits_are_told_and_kept(things, connect):
    broker = things.recording_broker(receive_maximum=3, maximum_packet_size=1000, maximum_qos=1,
                                     retain_available=0)
    client = connect(broker.port).connected()
    assert client.connack.ReceiveMaximum == 3
    assert client.connack.MaximumPacketSize == 1000
    assert client.connack.RetainAvailable == 0
    with raw_connect(broker) as s:
        s.sendall(b"\x33\6\0\1t\0\1\0")
        assert s.recv(100) == b"\xe0\2\x9a\0"
    assert "Retain Available" in broker.violations[0]


def test_more_than_receive_maximum_is_a_violation(things):
    broker = things.recording_broker(receive_maximum=2)
    broker.hold_acks()
    publishes = b"".join(b"\x32\6\0\1t" + bytes((0, i)) + b"\0" for i in (1, 2, 3))
    with raw_connect(broker) as s:
        s.sendall(publishes)
        assert s.recv(100) == b"\xe0\2\x93\0"
    assert len(broker.messages) == 2
    assert "Receive Maximum is 2" in broker.violations[0]


@pytest.mark.parametrize("packets,words", [
    (b"\x32\6\0\1t\0\0\0", "packet identifier 0"),
    (b"\x32\6\0\1t\0\1\0" * 2, "packet identifier 1"),
    (b"\x34\6\0\1t\0\1\0", "QoS 2"),
    (b"\x32\6\0\1#\0\1\0", "topic '#'"),
    (b"\x82\6\0\1\0\0\1t", "not for this broker"),
    (b"\x32\4\0\7t\0", "malformed"),
])
def test_violations_are_written_down(things, packets, words):
    broker = things.recording_broker()
    broker.hold_acks()
    with raw_connect(broker) as s:
        s.sendall(packets)
        wait_until(lambda: broker.violations, 5, "a violation")
    assert words in broker.violations[0]


def test_the_same_client_id_throws_the_older_connection_out(things, connect):
    broker = things.recording_broker()
    with raw_connect(broker, b"twice") as first, raw_connect(broker, b"other"):
        with raw_connect(broker, b"twice"):
            assert first.recv(100) == b"\xe0\2\x8e\0"
            assert first.recv(100) == b""
            assert [c.ended for c in broker.connections] == ["taken over", None, None]


def test_a_connection_that_is_taken_over_leaves_its_will(things, connect):
    broker = things.recording_broker()
    connect(broker.port, will=("s", "off")).connected()
    with raw_connect(broker, b"publisher"):
        wait_until(lambda: broker.wills, 5, "the will")


def test_stopping_and_starting_keeps_records_and_port(things, connect):
    broker = things.recording_broker()
    client = connect(broker.port).connected()
    client.publish("t", "before")
    wait_answers(client, 1)
    broker.stop()
    client.disconnects.get(timeout=5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port), timeout=1)
    broker.start()
    client.connected()
    client.publish("t", "after")
    wait_answers(client, 1)
    assert broker.payloads("t") == [b"before", b"after"]
    assert [m.connection for m in broker.messages] == [1, 2]
    assert broker.connections[0].ended == "broker stopped"


def test_disconnect_with_a_code(things):
    broker = things.recording_broker()
    with raw_connect(broker, b"a") as a, raw_connect(broker, b"b") as b:
        broker.disconnect(0x8B, client_id="a")
        assert a.recv(100) == b"\xe0\2\x8b\0"
        assert len(broker.open_connections()) == 1
        broker.disconnect()
        assert b.recv(100) == b""


def test_broker_is_fast_enough(things):
    """Not a measurement: 30,000 messages of a raw client must not take longer than 10 s."""
    broker = things.recording_broker()
    count, payload = 30000, b"x" * 200
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as s:
        s.sendall(b"\x10\x10\0\4MQTT\5\2\0\0\0\0\3raw")
        assert s.recv(100)[0] == 0x20
        begun, got = time.monotonic(), 0
        for start in range(1, count + 1, 1000):
            s.sendall(b"".join(b"\x32\xd0\x01\0\3a/b" + i.to_bytes(2, "big") + b"\0" + payload
                               for i in range(start, start + 1000)))
            while got < 4 * (start + 999):
                got += len(s.recv(65536))
        took = time.monotonic() - begun
    print(f"{count / took:.0f} messages per second")
    assert len(broker.messages) == count and broker.violations == []
    assert took < 10


# ---- Verifier ------------------------------------------------------------------------------------


def message(stream, key, n, code=0):
    payload = json.dumps({"stream": stream, "key": key, "n": n}).encode()
    return Message(f"tools/{key}", payload, 1, False, False, 1, code, 1, "c", b"", 0.0)


def verify(expected, numbers, key="k"):
    verifier = Verifier({("s", key): expected})
    for n in numbers:
        verifier.add(message("s", key, n))
    return verifier.report()


def test_verifier_passes_what_is_right():
    report = verify(4, [1, 2, 3, 4]).check(duplicates=0)
    assert (report.expected, report.received, report.unique) == (4, 4, 4)


def test_verifier_reports_loss():
    report = verify(5, [1, 2, 4])
    assert report.lost == [("s", "k", 3), ("s", "k", 5)] and report.lost_count == 2
    assert not report.complete
    with pytest.raises(AssertionError, match="2 lost"):
        report.check()


def test_verifier_reports_the_loss_of_a_whole_key():
    verifier = Verifier({("s", "a"): 2, ("s", "b"): 3})
    verifier.add(message("s", "a", 1))
    verifier.add(message("s", "a", 2))
    assert verifier.report().lost == [("s", "b", 1), ("s", "b", 2), ("s", "b", 3)]


def test_verifier_tells_duplicates_from_disorder():
    report = verify(4, [1, 2, 3, 2, 3, 4, 1])
    assert (report.duplicates, report.out_of_order, report.unique) == (3, [], 4)
    report.check()
    with pytest.raises(AssertionError):
        report.check(duplicates=2)


def test_verifier_reports_disorder():
    report = verify(3, [1, 3, 2])
    assert report.out_of_order == [("s", "k", 2, 3)] and report.complete
    with pytest.raises(AssertionError, match="1 out of order"):
        report.check()


def test_order_is_per_stream_and_key():
    verifier = Verifier({("s", "a"): 2, ("s", "b"): 1, ("t", "a"): 1})
    for m in (message("s", "a", 1), message("s", "a", 2), message("t", "a", 1), message("s", "b", 1)):
        verifier.add(m)
    verifier.report().check(duplicates=0)


def test_verifier_reports_what_was_never_sent():
    assert len(verify(2, [1, 2, 3]).unknown) == 1
    verifier = Verifier({("s", "k"): 0})
    verifier.add(message("s", "k", 1)._replace(payload=b"what?"))
    assert len(verifier.report().unknown) == 1


def test_refused_messages_do_not_count():
    verifier = Verifier({("s", "k"): 1})
    verifier.add(message("s", "k", 1, code=0x97))
    assert verifier.report().lost_count == 1
    verifier.add(message("s", "k", 1))
    verifier.report().check(duplicates=0)


def carry(producer_client, streams, publish):
    """A gateway of five lines: everything in the streams, through publish."""
    for stream in streams:
        for _, fields in producer_client.xrange(stream):
            publish(fields["topic"], fields["payload"])


@pytest.mark.parametrize("version", VERSIONS)
def test_events_from_redis_to_recording_broker(things, connect, version):
    redis, broker = things.redis(), things.recording_broker()
    streams = ["nemo:{a}:events", "nemo:{b}:events"]
    producer = produce(redis, streams, keys=5, count=1003, payload_size=220)
    assert producer.total == 1003
    assert sum(redis.client().xlen(s) for s in streams) == 1003
    client = connect(broker.port, version=version).connected()
    carry(redis.client(), streams, client.publish)
    report = Verifier(producer, broker).wait(timeout=10).check(duplicates=0)
    assert report.unique == 1003
    assert len(broker.messages[0].payload) == 220
    producer.send(7)
    assert Verifier(producer, broker).wait(timeout=0.1).lost_count == 7


def test_shuffled_and_doubled_messages_are_found(things, connect):
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis, "nemo:{a}:events", keys=["x"], count=50)
    client = connect(broker.port).connected()
    events = [f for _, f in redis.client().xrange("nemo:{a}:events")]
    random.Random(3).shuffle(events)
    for event in events + events[:10]:
        client.publish(event["topic"], event["payload"])
    report = Verifier(producer, broker).wait(timeout=10)
    wait_until(lambda: len(broker.messages) == 60, 5, "all messages")
    assert report.complete and len(report.out_of_order) > 10


def test_background_producer_survives_a_killed_redis(things):
    redis = things.redis(appendonly=True)
    producer = Producer(redis, "nemo:{a}:events", keys=3)
    with producer.background(rate=2000):
        wait_until(lambda: producer.total > 100, 5, "100 events")
        redis.kill()
        redis.start()
        before = producer.total
        wait_until(lambda: producer.total > before + 100, 10, "events after the restart")
    seen = {json.loads(f["payload"])["n"] for _, f in redis.client().xrange("nemo:{a}:events")
            if f["key"] == "k0"}
    assert seen == set(range(1, producer.sent["nemo:{a}:events", "k0"] + 1))


# ---- servers -------------------------------------------------------------------------------------


def test_redis_over_tcp_and_tls(things):
    plain, secure = things.redis(), things.redis(tls=things.certs, password="s3cret")
    assert redis_py.Redis.from_url(plain.url).ping()
    ca = os.path.join(things.certs, "ca.crt")
    assert redis_py.Redis.from_url(secure.url, password="s3cret", ssl_ca_certs=ca).ping()
    assert secure.client().ping()
    with pytest.raises(redis_py.exceptions.RedisError):
        redis_py.Redis.from_url(secure.url, ssl_ca_certs=ca).ping()


def test_redis_keeps_its_data_only_with_appendonly(things):
    for appendonly, kept in ((True, 1), (False, 0)):
        redis = things.redis(appendonly=appendonly)
        redis.client().xadd("s", {"a": 1})
        redis.kill()
        redis.start()
        assert redis.client().xlen("s") == kept


def test_pause_and_resume(things):
    redis = things.redis()
    redis.pause()
    impatient = redis_py.Redis(host="127.0.0.1", port=redis.port, socket_timeout=0.2)
    with pytest.raises(redis_py.exceptions.TimeoutError):
        impatient.ping()
    redis.resume()
    assert impatient.ping()


@pytest.mark.parametrize("version", (5, 4))
@pytest.mark.parametrize("secure", (False, True))
def test_subscriber_hears_what_mosquitto_carries(things, connect, version, secure):
    tls = things.certs if secure else None
    broker = things.mosquitto(tls=tls)
    subscriber = things.subscriber(broker.port, tls=tls, version=version)
    publisher = mqtt.Client("p", protocol=mqtt.MQTTv5)
    if secure:
        publisher.tls_set(ca_certs=f"{tls}/ca.crt")
    publisher.connect("127.0.0.1", broker.port)
    publisher.loop_start()
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("id", "x")
    for i in range(300):
        publisher.publish("t/1", bytes((i % 256,)) * 50, 1, retain=i == 299, properties=properties)
    messages = subscriber.wait_messages(300)
    publisher.disconnect()
    publisher.loop_stop()
    assert [m.payload[0] for m in messages] == [i % 256 for i in range(300)]
    assert messages[0].qos == 1 and len(messages[0].payload) == 50
    assert messages[0].user_properties == ({"id": "x"} if version == 5 else {})
    assert messages[299].retain == (version == 5)  # Retain As Published; 3.1.1 has no such thing


def test_a_persistent_subscriber_misses_nothing(things, connect):
    broker = things.mosquitto()
    subscriber = things.subscriber(broker.port, persistent=True)
    subscriber.kill()
    publisher = connect(broker.port).connected()
    publisher.publish("t", "while away")
    wait_answers(publisher, 1)
    subscriber.start()
    assert subscriber.wait_messages(1)[0].payload == b"while away"


def test_mosquitto_limits_passwords_and_acl(things):
    broker = things.mosquitto(max_inflight=7, max_packet=2000, password={"u": "w"},
                              acl="user u\ntopic readwrite ok/#")
    connacks = queue.Queue()
    refused = mqtt.Client("r", protocol=mqtt.MQTTv5)
    refused.on_connect = lambda _c, _u, _f, code, _p: connacks.put(code.value)
    refused.connect("127.0.0.1", broker.port)
    refused.loop_start()
    assert connacks.get(timeout=5) == 0x87
    refused.disconnect()
    refused.loop_stop()
    client = mqtt.Client("c", protocol=mqtt.MQTTv5)
    client.username_pw_set("u", "w")
    client.on_connect = lambda _c, _u, _f, code, p: connacks.put((code.value, p))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    code, properties = connacks.get(timeout=5)
    assert code == 0
    assert (properties.ReceiveMaximum, properties.MaximumPacketSize) == (7, 2000)
    client.disconnect()
    client.loop_stop()


class Sleeper(Process):
    name = "sleeper"

    def argv(self):
        return ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]

    def wait_ready(self, timeout=5.0):
        wait_until(lambda: "up" in self.log_text(), timeout, "the sleeper")


def test_processes_are_measured_and_ended_by_force(things):
    sleeper = Sleeper(things.tmp).start()
    things.made.append(sleeper)
    assert 100 < sleeper.rss_kb() <= sleeper.peak_rss_kb() < 100_000
    assert sleeper.cpu_seconds() < 5 and sleeper.threads() == 1 and sleeper.open_files() >= 3
    with pytest.raises(TimeoutError, match="did not end"):
        sleeper.terminate(timeout=0.3)
    assert sleeper.process.returncode == -signal.SIGKILL


def test_a_server_that_cannot_start_says_why(things):
    with pytest.raises(RuntimeError, match="has ended"):
        things.redis(args=["--no-such-option"])


# ---- YAML and logfmt -----------------------------------------------------------------------------


def test_configuration_is_written_as_yaml(things):
    yaml = pytest.importorskip("yaml")
    config = gateway_config("redis://127.0.0.1:1/0", "mqtt://127.0.0.1:2", slots=1,
                            redis_changes={"streams": ["a:*", 'b"{x}"']},
                            delivery={"lease_ttl": "5s"}, broker_changes={"tls": {"ca_file": "/x"}})
    assert yaml.safe_load(to_yaml(config)) == config
    assert config["slots"] == 1 and config["delivery"]["lease_ttl"] == "5s"


def test_logfmt_is_read():
    assert parse_logfmt('level=info msg="a \\"quoted\\" text" n=3 empty= ') == {
        "level": "info", "msg": 'a "quoted" text', "n": "3", "empty": ""}
    assert parse_logfmt("==77==ERROR") == {"text": "==77==ERROR"}


def test_free_ports_differ():
    assert len({free_port() for _ in range(5)}) > 1
