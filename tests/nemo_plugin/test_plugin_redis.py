"""Redis that hangs, refuses, trickles, comes back; forks and threads. A request waits 0.25 s at
most: PATIENT is that with room for a busy test machine, far below what the faults would cost."""

import logging
import os
import socket
import subprocess
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.test import Client, override_settings

from harness.redis_server import RedisServer
from NEMO import models
from NEMO_streams import conf, publish, redis_stream

PATIENT = 2.5
assert redis_stream.PATIENCE == 0.25
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def took_less_than(seconds=PATIENT):
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


@contextmanager
def server(serve, backlog=16):
    """A TCP server on a free port that treats each connection as serve(connection) does."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    ended, opened = threading.Event(), []

    def accept():
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            opened.append(connection)
            threading.Thread(target=serve, args=(connection, ended), daemon=True).start()

    if serve:
        threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        listener.close()
        for connection in opened:
            connection.close()


def silent(connection, ended):
    ended.wait(20)


def trickle(connection, ended):
    """The beginning of an answer that never ends, a byte at a time: no read ever times out."""
    try:
        while not ended.is_set():
            connection.sendall(b"+")
            time.sleep(0.05)
    except OSError:
        pass


@contextmanager
def between(redis, answer):
    """A way to Redis on which each answer passes through answer(bytes); None cuts it off."""
    def serve(connection, ended):
        with socket.create_connection(("127.0.0.1", redis.port)) as onward:
            def forward():
                while data := connection.recv(65536):
                    onward.sendall(data)
                onward.shutdown(socket.SHUT_WR)

            threading.Thread(target=quietly, args=(forward,), daemon=True).start()
            while (data := onward.recv(65536)) and (data := answer(data)) is not None:
                connection.sendall(data)
            connection.shutdown(socket.SHUT_RDWR)

    def quietly(work, *arguments):
        try:
            work(*arguments)
        except OSError:
            pass

    with server(lambda *arguments: quietly(serve, *arguments)) as port:
        yield {"site": "lab", "redis_url": f"redis://127.0.0.1:{port}/0"}


@contextmanager
def blackhole():
    """A port that answers no SYN: its queue of connections is full."""
    with server(None, backlog=0) as port:
        crowd = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            crowd.append(one)
        try:
            yield port
        finally:
            for one in crowd:
                one.close()


@contextmanager
def refused():
    with server(None) as port:
        pass
    yield port


PLACES = {"silent": lambda: server(silent), "trickle": lambda: server(trickle),
          "blackhole": blackhole, "refused": refused}


@pytest.mark.parametrize("place", PLACES)
def test_a_request_is_not_held_up(lab, hurry, settings_of, caplog, place):
    tool = lab.tool()
    with PLACES[place]() as port, settings_of({"site": "lab",
                                               "redis_url": f"redis://127.0.0.1:{port}/0"}):
        with took_less_than():
            lab.use(tool)
        writer = redis_stream.writer(conf.current())
        assert writer.lost == 1 and writer.closed_until is not None
        until = writer.closed_until
        for _ in range(5):
            tool.save()
        assert writer.lost == 6 and writer.closed_until == until  # nothing was tried
        writer.left_behind.thread.join(10)
        assert not writer.left_behind.thread.is_alive()
        assert len([line for line in caplog.records if line.levelno >= logging.ERROR]) == 1
        redis_stream.writer(conf.current()).close()
    assert models.UsageEvent.objects.count() == 1


@pytest.mark.parametrize("place", ["silent", "blackhole"])
def test_tls_to_a_hanging_server(lab, hurry, settings_of, place):
    with PLACES[place]() as port, settings_of({"site": "lab",
                                               "redis_url": f"rediss://127.0.0.1:{port}/0"}):
        with took_less_than():
            lab.tool()
        assert redis_stream.writer(conf.current()).lost == 1


def test_a_hanging_name_service(lab, hurry, settings_of, monkeypatch):
    begun, go_on = [], threading.Event()

    def hang(*_, **__):
        begun.append(True)
        go_on.wait(20)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with settings_of({"site": "lab", "redis_url": "redis://redis.example.org/0"}):
        with took_less_than():
            lab.tool()
        writer = redis_stream.writer(conf.current())
        writer.closed_until = 0.0  # the rest is over
        with took_less_than():
            lab.tool()
        assert len(begun) == 1, "a second thread hangs beside the first"
        go_on.set()


def test_a_web_request_beside_a_hanging_redis(lab, hurry, settings_of):
    tool = lab.tool()
    with server(silent) as port, settings_of({"site": "lab",
                                              "redis_url": f"redis://127.0.0.1:{port}/0"}), \
            override_settings(ROOT_URLCONF="stub_urls", ALLOWED_HOSTS=["*"]):
        lab.user()
        with took_less_than():
            answer = Client().post(f"/enable_tool/{tool.pk}/")
        assert answer.status_code == 200
    assert models.UsageEvent.objects.filter(tool=tool, end=None).exists()


def test_many_saves_in_a_request_share_its_patience(lab, hurry, settings_of, redis):
    """A Redis that is slow but answers in time fails no call, and 31 saves make 62."""
    tool, answers = lab.tool(), []

    def slowly(data):
        answers.append(data)
        time.sleep(0.06)
        return data

    with between(redis, slowly) as place, settings_of(place):
        assert Client().post(f"/save_often/{tool.pk}/31/").status_code == 200
        assert 0.06 * len(answers) < 0.6  # a request's patience, and what it takes to connect
        redis_stream.writer(conf.current()).close()
    lab.tick()
    assert lab.states_of(lab.new()) == {tool.pk: "down"}


def test_a_request_that_has_waited_enough_is_no_outage(lab, monkeypatch, caplog):
    tool = lab.tool()
    lab.new()
    monkeypatch.setattr(redis_stream, "PATIENCE", 0.0)
    assert Client().post(f"/save_often/{tool.pk}/3/").status_code == 200
    assert lab.new() == [] and len(caplog.records) == 1
    writer = redis_stream.writer(conf.current())
    assert writer.ready() and writer.lost == 0
    monkeypatch.setattr(redis_stream, "PATIENCE", 10.0)
    assert Client().post(f"/save_often/{tool.pk}/2/").status_code == 200
    lab.use(tool)  # outside of any request
    assert [(entry.body["state"], entry.body["in_use"]) for entry in lab.new("tool.state")] == [
        ("down", False), ("down", True)]


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def broken(client):
    raise ConnectionError("broken")


def rested(writer):
    """The thread of the last failure has ended; with a false clock that takes its real moment."""
    writer.left_behind.thread.join(10)


def test_breaker(lab, caplog):
    caplog.set_level(logging.WARNING)
    clock = Clock()
    writer = redis_stream.Writer(conf.current(), clock=clock)
    tries = []

    def call(work):
        def counted(client):
            tries.append(clock.now)
            return work(client)
        return writer.call(counted, redis_stream.Budget(5))

    assert call(lambda client: client.ping()) is True
    with pytest.raises(redis_stream.Unavailable):
        call(broken)
    assert not writer.ready()
    for _ in range(3):
        clock.now += 1.5
        with pytest.raises(redis_stream.Unavailable):
            call(lambda client: client.ping())
    assert len(tries) == 2
    clock.now += 1
    rested(writer)
    assert writer.ready()
    with pytest.raises(redis_stream.Unavailable):
        call(broken)  # one probe, and the rest begins again
    assert len(tries) == 3 and not writer.ready()
    writer.lose(7)
    clock.now += 5.1
    rested(writer)
    assert call(lambda client: client.ping()) is True
    assert writer.ready() and writer.lost == 0
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "7 changes" in caplog.records[1].getMessage()
    writer.close()


def test_only_one_probe_at_a_time(lab):
    clock = Clock()
    writer = redis_stream.Writer(conf.current(), clock=clock)
    with pytest.raises(redis_stream.Unavailable):
        writer.call(broken, redis_stream.Budget(5))
    clock.now += 6
    rested(writer)
    go_on, inside = threading.Event(), threading.Event()

    def probe(client):
        inside.set()
        go_on.wait(10)

    thread = threading.Thread(target=writer.call, args=(probe, redis_stream.Budget(10)))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(redis_stream.Unavailable), took_less_than():
        writer.call(lambda client: None, redis_stream.Budget(5))
    go_on.set()
    thread.join(10)
    assert writer.ready()
    writer.close()


class Interrupted(BaseException):
    """As KeyboardInterrupt, or what a server throws into a request that takes too long."""


class InterruptedJob(redis_stream.Job):
    def __init__(self, work):
        super().__init__(work)
        self.done.wait = fail_with(Interrupted())


def fail_with(fault):
    def fail(*_):
        raise fault
    return fail


@pytest.mark.parametrize("owner, name, fault", [
    (threading.Thread, "start", fail_with(RuntimeError("can't start new thread"))),
    (redis_stream, "Job", InterruptedJob)], ids=["no thread", "interrupted"])
def test_a_probe_that_ends_in_an_exception_is_not_the_last(lab, monkeypatch, owner, name, fault):
    clock = Clock()
    writer = redis_stream.Writer(conf.current(), clock=clock)
    with pytest.raises(redis_stream.Unavailable):
        writer.call(broken, redis_stream.Budget(5))
    clock.now += 6
    rested(writer)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fault)
        with pytest.raises((RuntimeError, Interrupted)):
            writer.call(lambda client: client.ping(), redis_stream.Budget(5))
    clock.now += 6
    rested(writer)
    assert writer.call(lambda client: client.ping(), redis_stream.Budget(5)) is True
    writer.close()


def test_all_callers_of_a_hanging_link_go_on(lab):
    writer = redis_stream.Writer(conf.current())
    go_on = threading.Event()
    ended = []

    def one():
        try:
            writer.call(lambda client: go_on.wait(20), redis_stream.Budget(0.25))
        except redis_stream.Unavailable:
            ended.append(True)

    threads = [threading.Thread(target=one) for _ in range(8)]
    with took_less_than():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len(ended) == 8
    go_on.set()


def test_a_connection_that_cannot_be_closed(lab, monkeypatch):
    """The thread and its caller may close at once, and redis-py then raises in one of them."""
    lab.tool()
    writer = redis_stream.writer(conf.current())
    monkeypatch.setattr(writer.link.client.connection_pool, "disconnect", lambda: None.close())
    with pytest.raises(redis_stream.Unavailable):
        writer.call(broken, redis_stream.Budget(5))
    assert not writer.ready()


def test_redis_returns_and_the_tick_repairs(lab, settings_of, redis):
    tool = lab.tool()
    with refused() as port, settings_of({"site": "lab",
                                         "redis_url": f"redis://127.0.0.1:{port}/0"}):
        usage = lab.use(tool)
        assert lab.refused("tick")[0] == 1
    lab.new()
    lab.tick()
    entries = lab.new()
    assert lab.states_of(entries) == {tool.pk: "in_use"}
    assert lab.words(entries) == [(tool.pk, "enabled")]
    assert entries[0].body["since"] == usage.start.isoformat(timespec="milliseconds")


def test_an_idle_connection_that_redis_closed_costs_nothing(lab):
    tool = lab.tool()
    lab.new()
    for client in lab.redis.client_list():
        if client["addr"].startswith("127.0.0.1"):
            lab.redis.client_kill(client["addr"])
    lab.use(tool)
    assert lab.states_of(lab.new()) == {tool.pk: "in_use"}
    assert redis_stream.writer(conf.current()).closed_until is None


def test_an_answer_that_is_lost_doubles_nothing(lab, settings_of, redis):
    """The entries are written, but the connection ends before Redis can say so: they are tried once
    more on a new one."""
    tool = lab.tool()
    lab.new()
    written = []

    def cut(data):
        if not written and lab.redis.xlen(lab.events) > before:
            written.append(True)
            return None
        return data

    before = lab.redis.xlen(lab.events)
    with between(redis, cut) as place, settings_of(place):
        lab.use(tool)
        redis_stream.writer(conf.current()).close()
    entries = lab.new()
    assert written and lab.words(entries) == [(tool.pk, "enabled")]
    assert len([entry for entry in entries if entry.type == "tool.state"]) == 1
    lab.tick()
    assert lab.new() == []


def test_a_refused_command_is_a_failure_in_words(lab, caplog):
    lab.redis.delete(lab.events)
    lab.redis.set(lab.events, "not a stream")
    lab.tool("Zebulon's")
    assert "WRONGTYPE" in caplog.text and "Zebulon" not in caplog.text


def test_a_child_makes_its_own_connection(lab):
    """As gunicorn does it: loaded and used in the parent, then forked while others use it."""
    tool = lab.tool()
    parent = redis_stream.writer(conf.current())
    parent.lock.acquire()  # a thread of the parent holds it while the process forks
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            mine = redis_stream.writer(conf.current())
            outcome = publish.publish([f"tool/{tool.pk}"], patience=5, force=True)
            if mine is not parent and outcome.written == 3 and not outcome.error:
                status = 0
        finally:
            os._exit(status)
    parent.lock.release()
    deadline = time.monotonic() + 30
    done, status = os.waitpid(pid, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.05)
        done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert done and os.waitstatus_to_exitcode(status) == 0
    lab.use(tool)  # the parent's connection was left alone
    assert parent.closed_until is None
    assert redis_stream.writer(conf.current()) is parent


def test_nothing_that_redis_py_will_give_up_is_used(lab):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        redis_stream.connect(conf.current(), 5).ping()


def test_nothing_is_opened_by_loading(lab):
    redis_stream._writers.clear()
    writer = redis_stream.writer(conf.current())
    assert writer.link is None
    lab.tool()
    assert writer.link.thread.name == "nemo-streams" and writer.link.thread.daemon


def test_password_and_unix_socket(lab, settings_of, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("p\u00e4ss word\n", encoding="utf-8")
    lab.redis.acl_setuser("plugin", enabled=True, passwords=["+p\u00e4ss word"],
                          keys=["nemo:{lab}:*"],
                          commands=["+hincrby", "+hmget", "+hkeys", "+eval", "+xadd", "+hget",
                                    "+hset", "+hdel"])
    place = {"site": "lab", "redis_url": lab.server.unix_url, "username": "plugin",
             "password_file": str(secret)}
    with settings_of(place):
        lab.tool()
        assert len(lab.new("tools/")) == 3
        lab.tick()
    secret.write_text("wrong")
    redis_stream._writers.clear()
    with settings_of(place):
        lab.tool()
        assert lab.new() == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run([str(ROOT / "tests" / "tools" / "make_certs.sh"), str(folder)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def test_tls(lab, settings_of, certificates, tmp_path, monkeypatch):
    plain = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: plain(
        "127.0.0.1" if host == "redis.example" else host, *more, **named))
    secure = RedisServer(tmp_path, tls=certificates).start()
    place = {"site": "lab", "redis_url": secure.url, "ca_file": str(certificates / "ca.crt")}
    other_name = secure.url.replace("127.0.0.1", "redis.example")
    key = f"tool/{lab.tool().pk}"
    try:
        for more, word in (({}, ""), ({"ca_file": str(certificates / "other-ca.crt")}, "verify"),
                           ({"redis_url": other_name}, "ostname")):
            before = secure.client().xlen(lab.events)
            with settings_of({**place, **more}):
                outcome = publish.publish([key], force=True)
            assert word in outcome.error and bool(word) == bool(outcome.error)
            assert (secure.client().xlen(lab.events) > before) == (not word)
    finally:
        secure.kill()


def test_no_user_in_any_log(lab, settings_of, caplog):
    caplog.set_level(logging.DEBUG)
    user = lab.user("zebulon", "Zebulon", "Quux")
    tool = lab.tool()
    usage = lab.use(tool, user)
    with refused() as port, settings_of({"site": "lab",
                                         "redis_url": f"redis://:geheim@127.0.0.1:{port}/0"}):
        lab.end(usage)
    ours = "".join(record.getMessage() for record in caplog.records
                   if record.name.startswith("NEMO_streams"))
    assert ours and not any(word in ours for word in ("ebulon", "Quux", "geheim"))
