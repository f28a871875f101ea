"""Interleavings in which one stream, one dead letter or one broker must not hold up the others, and
fences that must hold although a former owner left in an orderly way."""

import socket
import threading
import time

import pytest
from harness import Producer, Verifier, free_port, gateway_config, produce, wait_until
from scale import PATIENCE, SANITIZED

A, B = "nemo:{a}:events", "nemo:{b}:events"


def one_slot(redis, broker, **changes):
    return gateway_config(redis, broker, slots=1, shards=1, **changes)


def test_a_deleted_stream_with_a_dead_letter_owed_blocks_nobody(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.stop()
    client = redis.client()
    client.xadd(A, {"topic": "#", "payload": "x"})
    things.gateway(one_slot(redis, broker), start=False).launch()
    wait_until(lambda: client.exists(A) and client.xinfo_groups(A)
               and client.xpending(A, "nemogate")["pending"] == 1, 10, "read")
    client.delete(A)
    client.xadd(B, {"topic": "t", "payload": "1"})
    broker.start()
    wait_until(lambda: broker.payloads("nemo/b/t") == [b"1"], 15 * PATIENCE, "the other stream")


def test_a_refused_dead_letter_of_one_site_does_not_block_another_site(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.set("nemo:{a}:dead", "not a stream")
    client.xadd(A, {"topic": "#", "payload": "x"})
    gateway = things.gateway(one_slot(redis, broker))
    gateway.wait_log("Redis refused the dead letter")
    client.xadd(B, {"topic": "t", "payload": "1"})
    wait_until(lambda: broker.payloads("nemo/b/t") == [b"1"], 10 * PATIENCE, "the other site")


@pytest.mark.limit(60)
def test_a_new_stream_is_read_beside_another_ones_backlog(things):
    redis, broker = things.redis(), things.recording_broker(receive_maximum=20)
    broker.ack_delay = 0.02
    produce(redis, A, keys=50, count=60_000)
    things.gateway(one_slot(redis, broker, broker_changes={"inflight": 20}))
    broker.wait_messages(2000, 20)
    redis.client().xadd(B, {"topic": "t", "payload": "1"})
    wait_until(lambda: any(m.topic == "nemo/b/t" for m in broker.messages), 20 * PATIENCE,
               lambda: f"the new stream; {len(broker.messages)} messages of the backlog came")


@pytest.mark.limit(120)
def test_an_entry_of_any_of_many_idle_streams_comes_soon(things):
    redis, broker = things.redis(), things.recording_broker()
    client, streams = redis.client(), [f"nemo:{{s{i}}}:events" for i in range(1500)]
    pipe = client.pipeline(transaction=False)
    for stream in streams:
        pipe.xadd(stream, {"topic": "t", "payload": "0"})
    pipe.execute()
    things.gateway(one_slot(redis, broker, broker_changes={"inflight": 50}))
    wait_until(lambda: len(broker.messages) >= 1500, 40 * PATIENCE, "all streams")
    time.sleep(2)
    worst = 0.0
    for i in range(0, 1500, 300):
        begun = time.monotonic()
        client.xadd(streams[i], {"topic": "late", "payload": "1"})
        wait_until(lambda: broker.payloads(f"nemo/s{i}/late"), 60, f"stream {i}; worst {worst}")
        worst = max(worst, time.monotonic() - begun)
    assert worst < 3 * PATIENCE


def two_brokers(redis, up, down, **delivery):
    config = one_slot(redis, up, delivery={"lease_ttl": "2s", **delivery})
    config["brokers"].append({"name": "down", "url": down.url})
    config["routes"] = [{"streams": B, "broker": "down"},
                        {"streams": "nemo:*:events", "broker": "main"}]
    return config


def test_large_entries_for_a_broker_that_is_down_do_not_stop_another_broker(things):
    redis, up, down = things.redis(), things.recording_broker(), things.recording_broker()
    down.stop()
    produce(redis, B, keys=10, count=600, payload_size=100_000)
    client = redis.client()
    things.gateway(two_brokers(redis, up, down, inflight_bytes="16MiB"), start=False).launch()
    wait_until(lambda: client.xinfo_groups(B) and client.xpending(B, "nemogate")["pending"] > 150,
               15 * PATIENCE, "read")
    time.sleep(1)
    client.xadd(A, {"topic": "t", "payload": "1"})
    wait_until(lambda: up.payloads("nemo/a/t") == [b"1"], 10 * PATIENCE, "the other broker")


@pytest.mark.limit(120)
@pytest.mark.skipif(SANITIZED, reason="about memory")
def test_memory_is_bounded_while_one_of_two_brokers_is_down(things):
    redis, up, down = things.redis(), things.recording_broker(), things.recording_broker()
    down.stop()
    client = redis.client()
    client.xadd(A, {"topic": "t", "payload": "1"})
    gateway = things.gateway(two_brokers(redis, up, down, inflight_bytes="16MiB"),
                             start=False).launch()
    wait_until(lambda: up.payloads("nemo/a/t"), 10, "running")
    fast, slow = Producer(redis, A, 20, payload_size=1000), Producer(redis, B, 20)
    before = gateway.rss_kb()
    for _ in range(600):
        fast.send(150)
        slow.send(1)
    wait_until(lambda: client.xpending(B, "nemogate")["pending"] == 600, 20, "read")
    wait_until(lambda: len(up.messages) >= 600 * 150, 60, "published")
    assert gateway.rss_kb() - before < 40_000, (before, gateway.rss_kb())


def test_a_group_that_redis_has_forgotten_is_made_again_from_the_beginning(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(A, {"topic": "t", "payload": "0"})
    things.gateway(one_slot(redis, broker, redis_changes={"start": "new"}))
    wait_until(lambda: client.xinfo_groups(A), 10, "group")
    client.xadd(A, {"topic": "t", "payload": "1"})
    wait_until(lambda: broker.payloads("nemo/a/t") == [b"1"], 10, "carried")
    redis.kill()
    redis.start()  # empty: neither stream nor group
    client.xadd(A, {"topic": "t", "payload": "2"})
    time.sleep(2)
    client.xadd(A, {"topic": "t", "payload": "3"})
    wait_until(lambda: b"3" in broker.payloads("nemo/a/t"), 20 * PATIENCE, "after the restart")
    assert broker.payloads("nemo/a/t") == [b"1", b"2", b"3"]


def test_a_redis_out_of_memory_still_gets_its_backlog_carried(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    things.gateway(one_slot(redis, broker))
    broker.hold_acks()
    producer = produce(redis, A, keys=10, count=5000)
    broker.wait_messages(500)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    time.sleep(4)  # longer than the lease
    broker.release_acks()
    try:
        Verifier(producer, broker).wait(15 * PATIENCE).check()
    finally:
        client.config_set("maxmemory", "0")


class LateNetwork:
    """Stands before Redis. hold() keeps back what the links with this name send from now on, also
    when their client closes; late() gives it to Redis at last."""

    def __init__(self, port, name):
        self.port, self._to, self._name = free_port(), port, name
        self._held = threading.Event()
        self._late = threading.Event()
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        self._held.set()

    def late(self):
        self._late.set()

    def _accept(self):
        while True:
            client, _ = self._server.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            state = {"named": False}
            threading.Thread(target=self._up, args=(client, server, state), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client, server, state):
        held, holding = b"", False
        while True:
            try:
                data = client.recv(65536)
            except OSError:
                data = b""
            if self._name in data:
                state["named"] = not self._held.is_set()
            if state["named"] and self._held.is_set():
                holding = True
            if holding:
                held += data
                if not data:
                    self._late.wait()
                    server.sendall(held)
                    time.sleep(0.5)
                    server.close()
                    return
            elif not data:
                server.close()
                return
            else:
                server.sendall(data)

    def _down(self, client, server):
        try:
            while True:
                data = server.recv(65536)
                if not data:
                    break
                client.sendall(data)
        except OSError:
            pass
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.mark.limit(60)
def test_a_read_of_an_owner_that_has_drained_is_fenced_too(things):
    redis, broker = things.redis(), things.recording_broker()
    network = LateNetwork(redis.port, b"slot-0:read")
    client = redis.client()
    config = one_slot(f"redis://127.0.0.1:{network.port}/0", broker)
    gateway = things.gateway(config)
    client.xadd(A, {"topic": "t", "payload": "0"})
    wait_until(lambda: broker.payloads("nemo/a/t") == [b"0"], 10, "carried")
    network.hold()
    time.sleep(2)  # the next read is on its way, and does not arrive
    assert gateway.terminate(20) == 0
    config["redis"]["url"] = redis.url
    config["instance"] = "gateway-2"
    second = things.gateway(config)
    second.pause()
    time.sleep(1.2)  # its parked read is over
    network.late()
    time.sleep(0.1)
    client.xadd(A, {"topic": "t", "payload": "1"})
    second.resume()
    client.xadd(A, {"topic": "t", "payload": "2"})
    wait_until(lambda: b"2" in broker.payloads("nemo/a/t"), 10, "the second owner")
    time.sleep(1)
    assert broker.payloads("nemo/a/t") == [b"0", b"1", b"2"], client.xpending_range(
        A, "nemogate", "-", "+", 10)


def test_message_expiry_counts_from_the_entrys_time_not_from_its_reading(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.stop()
    client = redis.client()
    client.xadd(A, {"topic": "t", "payload": "1", "exp": "60"})
    things.gateway(one_slot(redis, broker), start=False).launch()
    wait_until(lambda: client.xinfo_groups(A) and client.xpending(A, "nemogate")["pending"] == 1,
               10, "read")
    time.sleep(5)
    broker.start()
    wait_until(lambda: broker.payloads("nemo/a/t"), 15 * PATIENCE, "published")
    assert next(m for m in broker.messages if m.topic == "nemo/a/t").expiry <= 56


def test_expired_entries_among_others_do_not_cost_a_round_trip_each(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.1  # a broker that is far away
    pipe = redis.client().pipeline(transaction=False)
    for i in range(600):
        pipe.xadd(A, {"topic": f"t{i}", "payload": "x", **({"exp": "0"} if i % 2 else {})})
    pipe.execute()
    things.gateway(one_slot(redis, broker))
    begun = time.monotonic()
    wait_until(lambda: len(broker.accepted()) >= 300, 60 * PATIENCE, "published")
    assert time.monotonic() - begun < 5 * PATIENCE


def test_a_stream_that_cannot_be_acknowledged_does_not_keep_the_credits(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    client = redis.client()
    produce(redis, A, keys=10, count=2000)
    things.gateway(one_slot(redis, broker, broker_changes={"inflight": 100}))
    wait_until(lambda: client.xpending(A, "nemogate")["pending"] > 320, 10, "read")
    client.delete(A)
    client.set(A, "not a stream any more")
    broker.release_acks()
    time.sleep(1)
    client.xadd(B, {"topic": "t", "payload": "1"})
    wait_until(lambda: broker.payloads("nemo/b/t") == [b"1"], 15 * PATIENCE, "the other stream")


class HalfClosingBroker:
    """MQTT 3.1.1. It says goodbye by closing its sending half only, and goes on reading: so it sees
    every byte that the client's process has written."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self.server.getsockname()[1]}"
        self.sockets, self.streams = [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            sock, _ = self.server.accept()
            self.sockets.append(sock)
            self.streams.append(bytearray())
            threading.Thread(target=self._serve, args=(sock, self.streams[-1]), daemon=True).start()

    def _serve(self, sock, stream):
        stream += sock.recv(65536)
        sock.sendall(b"\x20\x02\x00\x00")
        while data := sock.recv(65536):
            stream += data
        sock.close()

    def has(self, payload):
        return any(payload in bytes(stream) for stream in list(self.streams))


def test_qos_0_settles_only_when_it_has_been_written(things):
    redis, broker = things.redis(), HalfClosingBroker()
    client = redis.client()
    client.xadd(A, {"topic": "t", "payload": "<first>", "qos": "0"})
    config = one_slot(redis, broker, broker_changes={"protocol": "3.1.1", "status_topic": ""})
    gateway = things.gateway(config)
    wait_until(lambda: broker.has(b"<first>"), 10, "carried")
    for n in range(5):
        connections = len(broker.sockets)
        gateway.pause()
        time.sleep(0.1)
        broker.sockets[-1].shutdown(socket.SHUT_WR)
        client.xadd(A, {"topic": "t", "payload": f"<{n}>", "qos": "0"})
        gateway.resume()  # the end of the connection and the entry come in one turn of the loop
        wait_until(lambda: len(broker.sockets) > connections, 10, "connected again")
        wait_until(lambda: client.xpending(A, "nemogate")["pending"] == 0, 10, "settled")
        time.sleep(0.3)
    assert [n for n in range(5) if not broker.has(b"<%d>" % n)] == []


class CutNetwork:
    """Stands before Redis until cut(): then nothing goes through and nobody gets an answer."""

    def __init__(self, port):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"
        self._to, self._is_cut = port, False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self._is_cut = True

    def _accept(self):
        self._kept = []
        while True:
            client, _ = self._server.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            self._kept += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, sink):
        try:
            while data := source.recv(65536):
                if not self._is_cut:
                    sink.sendall(data)
        except OSError:
            pass


@pytest.mark.limit(90)
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_owner_cut_off_from_redis_leaves_the_broker_to_the_next_owner(things, protocol):
    redis, broker = things.redis(), things.recording_broker()
    network = CutNetwork(redis.port)
    config = one_slot(network.url, broker, broker_changes={"protocol": protocol})
    things.gateway(config)
    redis.client().xadd(A, {"topic": "t", "payload": "1"})
    wait_until(lambda: broker.payloads("nemo/a/t"), 10, "carried")
    network.cut()
    config["redis"]["url"], config["instance"] = redis.url, "gateway-2"
    things.gateway(config)
    time.sleep(2)
    before = len(broker.connections)
    time.sleep(15)
    assert len(broker.connections) - before <= 1
