"""The parts of tests/chaos: a judge that cannot fail is worth nothing, and a proxy that loses bytes by
itself would be blamed on the gateway."""

import itertools
import os
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chaos"))

from faults import FAULTS  # noqa: E402
from fault_proxy import FaultProxy  # noqa: E402
from judge import Judge  # noqa: E402
from load import Load, id_of, payload_of  # noqa: E402
from schedule import steps  # noqa: E402

STREAM = "nemo:{a}:events"


# ---- the judge --------------------------------------------------------------------------------


def message(n, key="k1", **changes):
    fields = {"topic": f"nemo/a/tools/{key}/state", "payload": payload_of(STREAM, key, n, n),
              "code": 0, "dup": False, "connection": 1, "client_id": "c", "time": float(n),
              "user_properties": {"id": id_of(STREAM, key, n)}}
    return SimpleNamespace(**{**fields, **changes})


def judge_of(numbers, sent=5, marked=(), resends=False, **changes):
    load = SimpleNamespace(sent={(STREAM, "k1"): sent}, marked={(STREAM, "k1", n): 135 for n in marked},
                           topic=lambda _stream, key: f"nemo/a/tools/{key}/state")
    judge = Judge(load, resends=resends)
    for n in numbers:
        judge.take(message(n, **changes))
    return judge


def findings(judge):
    return (len(judge.lost()), judge.duplicates, *judge.problem_counts.values())


def test_the_judge_is_content_with_what_is_right():
    assert findings(judge_of([1, 2, 3, 4, 5])) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("numbers, expected", [
    ([1, 2, 4, 5], (1, 0, 0, 0, 0)),           # lost
    ([1, 2, 3, 4], (1, 0, 0, 0, 0)),           # the last one lost
    ([], (5, 0, 0, 0, 0)),
    ([1, 2, 3, 3, 4, 5], (0, 1, 0, 0, 0)),     # twice
    ([1, 2, 3, 4, 5, 2, 3, 4, 5], (0, 4, 0, 0, 0)),
    ([1, 3, 2, 4, 5], (0, 0, 1, 1, 0)),        # out of order, and 4 leaves out the 3
    ([1, 2, 3, 4, 2, 5], (0, 1, 0, 1, 0)),     # sent again, but not a whole suffix
])
def test_the_judge_finds(numbers, expected):
    assert findings(judge_of(numbers)) == expected


def test_the_judge_finds_what_was_never_written():
    assert judge_of([1, 2, 3], sent=2).never_written() == [(STREAM, "k1", 3)]


@pytest.mark.parametrize("changes", [
    {"payload": payload_of(STREAM, "k1", 1, 1)[:-1] + b" }"}, {"payload": b"?"},
    {"topic": "nemo/a/tools/k2/state"}, {"user_properties": {}},
    {"user_properties": {"id": id_of(STREAM, "k1", 2)}},
    {"payload": payload_of(STREAM, "k1", 1, 1, 135)}])
def test_the_judge_finds_strange_messages(changes):
    assert judge_of([1], **changes).problem_counts["strange"] == 1


def test_refused_messages_do_not_count():
    assert findings(judge_of([1, 2], sent=2, code=0x97)) == (2, 0, 0, 0, 0)
    assert findings(judge_of([1, 2, 5], marked=[3, 4])) == (0, 0, 0, 0, 0)


def test_what_the_broker_repeats_is_not_the_gateways():
    judge = judge_of([1, 2], sent=2, resends=True)
    judge.take(message(2, dup=True))
    assert (judge.duplicates, judge.broker_resends) == (0, 1)


# ---- the schedule -----------------------------------------------------------------------------


def plan(seed, count, names=tuple(FAULTS)):
    return list(itertools.islice(steps(seed, "recording", list(names)), count))


def test_a_seed_gives_one_schedule():
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)


def test_all_faults_come_before_any_comes_again():
    assert {s.planned[0].fault for s in plan(7, len(FAULTS))} == set(FAULTS)
    assert any(s.paired for s in plan(7, 50))


# ---- the producers ----------------------------------------------------------------------------


def test_numbering_is_exact_over_restarts_of_redis(things):
    redis = things.redis(appendonly=True)
    load = Load(redis, [STREAM, "nemo:{b}:events"], rate=3000).start()
    for _ in range(3):
        time.sleep(0.5)
        redis.kill()
        redis.start()
    canaries = load.canaries()
    time.sleep(0.5)
    load.stop()
    assert load.reconciled >= 1
    assert set(canaries.numbers.values()) == {1}
    for stream in load.streams:
        ids = [fields["id"] for _, fields in redis.client().xrange(stream)]
        assert sorted(ids) == sorted(id_of(stream, key, n) for key in [*load.keys, "canary"]
                                     for n in range(1, load.sent[stream, key] + 1))


# ---- the proxy --------------------------------------------------------------------------------


class Echo:
    """A server that sends back what it gets."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.sockets, self.ends = [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.server.accept()
            except OSError:
                return
            self.sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            while data := sock.recv(65536):
                sock.sendall(data)
            self.ends.append("end")
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.ends.append(type(error).__name__)


@pytest.fixture
def path(tmp_path):
    """(proxy, connect): a proxy with the one path "p" before an Echo."""
    echo = Echo()
    with FaultProxy(tmp_path, {"p": echo.port}) as proxy:
        proxy.start()
        sockets = []

        def connect():
            sockets.append(socket.create_connection(("127.0.0.1", proxy.ports["p"]), 5))
            return sockets[-1]
        yield SimpleNamespace(proxy=proxy, connect=connect, echo=echo)
        for sock in sockets:
            sock.close()
    echo.server.close()


def exchange(sock, data):
    """Sends and reads back as much; (what came, seconds)."""
    begun, got = time.monotonic(), b""
    threading.Thread(target=lambda: sock.sendall(data), daemon=True).start()
    while len(got) < len(data):
        part = sock.recv(65536)
        if not part:
            break
        got += part
    return got, time.monotonic() - begun


def is_silent(sock, seconds=0.4):
    sock.settimeout(seconds)
    try:
        sock.recv(100)
        return False
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)


def test_the_proxy_carries_every_byte(path):
    data = os.urandom(3_000_000)
    sock = path.connect()
    assert exchange(sock, data)[0] == data
    sock.shutdown(socket.SHUT_WR)
    assert sock.recv(10) == b""
    assert path.echo.ends == ["end"]


def test_delay_and_throttle_alter_nothing_but_the_time(path):
    sock, data = path.connect(), os.urandom(30_000)
    path.proxy.delay(["p"], 0.2)
    got, took = exchange(sock, data)
    assert got == data and took >= 0.4
    path.proxy.throttle(["p"], 20_000)
    got, took = exchange(sock, data)
    assert got == data and took >= 1.4
    path.proxy.heal(["p"])
    path.proxy.distance(["p"], 0.1)
    got, took = exchange(sock, data)
    assert got == data and took >= 0.2


@pytest.mark.parametrize("sides", [["up", "down"], ["up"], ["down"]])
def test_what_is_stalled_comes_late_and_whole(path, sides):
    sock = path.connect()
    assert exchange(sock, b"before")[0] == b"before"
    path.proxy.stall(["p"], sides)
    sock.sendall(b"during")
    other = path.connect()
    other.sendall(b"other")
    assert is_silent(sock) and is_silent(other)
    path.proxy.heal(["p"])
    assert sock.recv(100) == b"during" and other.recv(100) == b"other"


def test_reset_is_heard_on_both_sides(path):
    sock = path.connect()
    exchange(sock, b"x")
    assert path.proxy.reset(["p"]) == {"p": 1}
    with pytest.raises(ConnectionResetError):
        sock.recv(10)
    time.sleep(0.2)
    assert path.echo.ends == ["ConnectionResetError"]
    assert exchange(path.connect(), b"again")[0] == b"again"


def test_half_open_towards_the_client(path):
    sock = path.connect()
    exchange(sock, b"x")
    path.proxy.half_open(["p"], keep="client")
    sock.sendall(b"into the void")
    assert is_silent(sock) and path.echo.ends == ["end"]
    assert exchange(path.connect(), b"new ones work")[0] == b"new ones work"
    path.proxy.heal(["p"])
    with pytest.raises(ConnectionResetError):
        sock.recv(10)


def test_half_open_towards_the_server(path):
    sock = path.connect()
    exchange(sock, b"x")
    path.proxy.half_open(["p"], keep="server")
    assert sock.recv(10) == b""
    time.sleep(0.2)
    assert path.echo.ends == []  # the server hears nothing of it
    path.proxy.heal(["p"])
    time.sleep(0.2)
    assert path.echo.ends == ["ConnectionResetError"]


def test_refused_until_healed(path):
    path.proxy.refuse(["p"])
    with pytest.raises(ConnectionRefusedError):
        path.connect()
    path.proxy.heal(["p"])
    assert exchange(path.connect(), b"x")[0] == b"x"
