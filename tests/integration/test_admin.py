"""The admin server: every path, whether what it says is true, and what it does with bad clients."""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import free_port, gateway_config, wait_until
from sockets import closed_among

TOKEN = "a-token-of-some-length"


def config_of(redis, broker, **changes):
    admin = {"listen": f"127.0.0.1:{free_port()}", "stall_timeout": "2s", **changes.pop("admin", {})}
    return gateway_config(redis, broker, admin=admin, **changes)


def status(gateway):
    code, text = gateway.admin("/api/v1/status")
    assert code == 200, text
    return json.loads(text)


def codes(gateway):
    return [reason["code"] for reason in status(gateway)["reasons"]]


def ready(gateway):
    return gateway.admin("/readyz")


def port_of(gateway):
    return int(gateway.config["admin"]["listen"].rsplit(":", 1)[1])


def request(gateway, method, path, body=None, **headers):
    """(status, headers, body) with headers whose names have underscores for dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(gateway), timeout=10)
    try:
        connection.request(method, path, body,
                           {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def raw(gateway, data, timeout=5, read=True):
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=timeout) as s:
        s.sendall(data)
        got = b""
        while read:
            try:
                part = s.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            got += part
        return got.decode(errors="replace")


def write(redis, site="lab", count=1, **fields):
    fields = {"topic": "tools/1/state", "payload": "{}", "retain": "1", **fields}
    client = redis.client()
    for _ in range(count):
        client.xadd(f"nemo:{{{site}}}:events", fields)


class Feed:
    """Reads /api/v1/feed in a thread: events as (name, object)."""

    def __init__(self, gateway):
        self.events = []
        self.connection = http.client.HTTPConnection("127.0.0.1", port_of(gateway), timeout=30)
        self.connection.request("GET", "/api/v1/feed")
        self.answer = self.connection.getresponse()
        self.thread = threading.Thread(target=self._read, daemon=True)
        if self.answer.status == 200:
            self.thread.start()

    def _read(self):
        name = ""
        try:
            for line in self.answer:
                line = line.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    self.events.append((name, json.loads(line[6:])))
        except (OSError, ValueError, AttributeError):
            pass  # it was closed

    def messages(self):
        return [data for name, data in list(self.events) if name == "message"]

    def close(self):
        if self.connection.sock is not None:
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.answer.close()
        self.connection.close()


# ---- what it tells ----------------------------------------------------------------------------


def test_metrics_and_status_agree_with_what_was_done(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis, "lab", 50)
    write(redis, "other", 7)
    redis.client().xadd("nemo:{lab}:events", {"payload": "without a topic"})
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 58, 10, "all are acknowledged")
    values = gateway.metrics()
    assert values['nemogate_entries_read_total{site="lab"}'] == 51
    assert values['nemogate_published_total{site="lab"}'] == 50
    assert values['nemogate_settled_total{site="other"}'] == 7
    assert values['nemogate_dead_letters_total{reason="no-topic"}'] == 1
    assert values['nemogate_puback_reason_total{broker="main",code="0x00"}'] == 57
    assert values["nemogate_slots_owned"] == 2 and values["nemogate_redis_up"] == 1
    assert values['nemogate_broker_up{broker="main"}'] == 1
    assert values['nemogate_puback_seconds_count{broker="main"}'] > 0
    assert values['nemogate_delivery_seconds_count{broker="main"}'] > 0
    wait_until(lambda: gateway.metrics().get('nemogate_dead_letter_stream_entries{site="lab"}') == 1,
               10, "Redis was asked for the dead letters")
    said = status(gateway)
    assert said["totals"]["read"] == 58 and said["totals"]["dead_letters"] == 1
    assert {site["site"] for site in said["sites"]} == {"lab", "other"}
    assert said["slots"]["owned"] == 2 and said["brokers"][0]["up"] is True
    assert ready(gateway) == (200, "ok\n") and gateway.admin("/livez") == (200, "ok\n")
    broker.answer = lambda message: 0x87
    write(redis, "lab", 1)
    wait_until(lambda: gateway.metrics().get(
        'nemogate_puback_reason_total{broker="main",code="0x87"}', 0) > 0, 10, "refusals counted")
    assert gateway.terminate() == 0


def test_promtool_finds_nothing(things):
    if shutil.which("promtool") is None:
        print("promtool (Debian package prometheus) is not there")
        pytest.skip("promtool is not installed")
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis, "lab", 20)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 20, 10, "all are acknowledged")
    checked = subprocess.run(["promtool", "check", "metrics"], input=gateway.admin("/metrics")[1],
                             text=True, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_every_header_and_method(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    code, headers, body = request(gateway, "GET", "/")
    assert code == 200 and headers["Content-Type"].startswith("text/html") and "<html" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    length = headers["Content-Length"]
    code, headers, body = request(gateway, "HEAD", "/")
    assert (code, headers["Content-Length"], body) == (200, length, "")
    for method in ("PUT", "DELETE", "OPTIONS", "POST", "BREW"):
        code, headers, body = request(gateway, method, "/metrics")
        assert code == 405 and "GET" in headers["Allow"]
    for path in ("/core", "/../README.md", "/page", "/api/v1/", "/api/v1/sites/../state", "/%2e"):
        assert request(gateway, "GET", path)[0] == 404
    assert json.loads(request(gateway, "GET", "/nothing")[2])["error"]["code"] == "not-found"


def test_feed_shows_a_message_within_a_second(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 1, 10, "the stream is carried")
    feed = Feed(gateway)
    wait_until(lambda: {"status", "history"} <= {name for name, _ in feed.events}, 5, "a greeting")
    wait_until(lambda: gateway.metric("nemogate_feed_listeners") == 1, 5, "it listens")
    write(redis, topic="tools/17/state", payload='{"state": "on", "who": "\u00fc"}', key="tool/17",
          type="tool.state")
    wait_until(feed.messages, 1.5, "the message")
    message = feed.messages()[0]
    assert message["topic"] == "nemo/lab/tools/17/state" and message["key"] == "tool/17"
    assert message["payload"] == '{"state": "on", "who": "\u00fc"}' and message["site"] == "lab"
    assert message["retain"] is True and message["type"] == "tool.state" and not message["binary"]
    write(redis, topic="binary", payload=b"\xff\xfe")
    wait_until(lambda: any(m["binary"] for m in feed.messages()), 5, "the binary one")
    write(redis, count=400)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 403, 10, "all are carried")
    write(redis, topic="last")
    wait_until(lambda: any(m["topic"] == "nemo/lab/last" for m in feed.messages())
               or write(redis, topic="last"), 10, "the feed goes on", interval=0.5)
    assert sum(m["dropped"] for m in feed.messages()) > 300 and len(feed.messages()) < 200
    feed.close()
    wait_until(lambda: gateway.metric("nemogate_feed_listeners") == 0, 15, "nobody listens")


def test_sixteen_listeners(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    feeds = [Feed(gateway) for _ in range(16)]
    assert [feed.answer.status for feed in feeds] == [200] * 16
    assert Feed(gateway).answer.status == 503
    write(redis)
    for feed in feeds:
        wait_until(feed.messages, 5, "every listener gets the message")
    for feed in feeds:
        feed.close()
    wait_until(lambda: gateway.metric("nemogate_feed_listeners") == 0, 15, "nobody listens")


def test_state_of_a_site(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis, topic="tools/1/state", payload="old")
    write(redis, topic="tools/1/state", payload="new")
    write(redis, topic="tools/2/state", payload="gone")
    write(redis, topic="tools/2/state", payload="")
    write(redis, topic="tools/3/event", payload="not kept", retain="0")
    write(redis, "other", topic="tools/4/state", payload="of another site")
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 6, 10, "all are carried")
    code, text = gateway.admin("/api/v1/sites/lab/state")
    said = json.loads(text)
    assert code == 200 and said["cut"] is False and said["site"] == "lab"
    assert {t["topic"]: t["payload"] for t in said["topics"]} == {"nemo/lab/tools/1/state": "new"}
    assert json.loads(gateway.admin("/api/v1/sites/nobody/state")[1])["topics"] == []
    client = redis.client()
    for n in range(6000):
        client.xadd("nemo:{lab}:events", {"topic": f"many/{n}", "payload": "x" * 900,
                                          "retain": "1"})
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 6006, 30, "all are carried")
    said = json.loads(gateway.admin("/api/v1/sites/lab/state")[1])
    assert said["cut"] is True and 100 < len(said["topics"]) <= 4096


# ---- dead letters -----------------------------------------------------------------------------


def test_dead_letters_listed_replayed_and_dropped(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, admin={"write": True}))
    for n in range(5):
        redis.client().xadd("nemo:{lab}:events", {"payload": f"letter {n}"})
    wait_until(lambda: redis.client().xlen("nemo:{lab}:dead") == 5, 10, "dead letters")
    code, text = gateway.admin("/api/v1/dead-letters?site=lab&limit=3")
    said = json.loads(text)
    assert code == 200 and said["more"] is True and len(said["letters"]) == 3
    letter = said["letters"][0]
    assert letter["reason"] == "no-topic" and letter["payload"] == "letter 4"
    assert json.loads(gateway.admin("/api/v1/dead-letters?reason=bad-topic")[1])["letters"] == []
    assert gateway.admin("/api/v1/dead-letters?limit=0")[0] == 400
    wait_until(lambda: "dead-letters" in codes(gateway), 10, "the status tells of them")
    assert ready(gateway)[0] == 200
    ids = [entry[0] for entry in redis.client().xrange("nemo:{lab}:dead")]
    change = {"Content_Type": "application/json", "X_Nemogate": "1"}
    body = json.dumps({"site": "lab", "ids": ids[:2] + ["5-5"]})
    code, _, text = request(gateway, "POST", "/api/v1/dead-letters/drop", body, **change)
    assert code == 200 and json.loads(text)["done"] == 2
    assert [f["id"] for f in json.loads(text)["failed"]] == ["5-5"]
    body = json.dumps({"site": "lab", "ids": ids[2:3]})
    code, _, text = request(gateway, "POST", "/api/v1/dead-letters/replay", body, **change)
    assert code == 200 and json.loads(text) == {"done": 1, "failed": []}
    wait_until(lambda: gateway.metric("nemogate_dead_letters_total") == 6, 10, "dead once more")
    for bad in ("", "{}", '{"site": "lab"}', '{"site": "lab", "ids": []}',
                '{"site": "LAB", "ids": ["1-1"]}', '{"site": "lab", "ids": ["1-1"], "x": 1}',
                '{"site": "lab", "ids": ["1-1"]} more', '{"site": "lab", "ids": ["one"]}'):
        code, _, text = request(gateway, "POST", "/api/v1/dead-letters/drop", bad, **change)
        assert code == 400, bad
    body = json.dumps({"site": "lab", "ids": ids[3:]})
    post = lambda **headers: request(gateway, "POST", "/api/v1/dead-letters/drop", body, **headers)[0]
    assert post(Content_Type="application/json") == 403
    assert post(Content_Type="text/plain", X_Nemogate="1") == 415
    assert redis.client().xlen("nemo:{lab}:dead") == 3


def test_dead_letters_are_read_only_by_default(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    code, _, text = request(gateway, "POST", "/api/v1/dead-letters/drop",
                            '{"site": "lab", "ids": ["1-1"]}', Content_Type="application/json",
                            X_Nemogate="1")
    assert code == 403 and json.loads(text)["error"]["code"] == "read-only"


def test_dead_letters_without_redis(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    redis.stop()
    code, text = gateway.admin("/api/v1/dead-letters")
    assert code == 503 and json.loads(text)["error"]["code"] == "failed"


# ---- is it true? ------------------------------------------------------------------------------


def test_redis_down_and_back(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    assert ready(gateway)[0] == 200
    redis.stop()
    wait_until(lambda: codes(gateway)[:1] == ["redis-down"], 10, "the first reason")
    said = status(gateway)
    assert said["overall"] == "error" and said["ready"] is False and not said["redis"]["up"]
    assert said["redis"]["last_error"]["text"] != ""
    code, text = ready(gateway)
    assert code == 503 and text.startswith("redis-down")
    assert gateway.admin("/livez")[0] == 200
    redis.start()
    wait_until(lambda: ready(gateway)[0] == 200, 20, "ready again")


def test_broker_down_and_back(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 1, 10, "carried")
    broker.stop()
    wait_until(lambda: "broker-down" in codes(gateway), 10, "broker-down")
    said = status(gateway)
    assert said["reasons"][0]["broker"] == "main" and said["brokers"][0]["up"] is False
    assert said["brokers"][0]["last_error"]["text"] != ""
    assert ready(gateway)[0] == 503
    broker.start()
    wait_until(lambda: ready(gateway)[0] == 200, 20, "ready again")
    assert gateway.metric("nemogate_reconnects_total") >= 1


def test_credentials_refused(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.refuse_connect(0x86)
    gateway = things.gateway(config_of(redis, broker), start=False)
    gateway.launch()
    write(redis)
    def refused():
        try:
            return "broker-refused" in codes(gateway)
        except OSError:
            return False
    wait_until(refused, 15, "broker-refused")
    assert ready(gateway)[0] == 503
    broker.refuse_connect(None)
    wait_until(lambda: ready(gateway)[0] == 200, 20, "ready")


def test_broker_that_never_acknowledges(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    broker.hold_acks()
    write(redis, count=3)
    wait_until(lambda: "broker-stalled" in codes(gateway), 15, "broker-stalled")
    code, text = ready(gateway)
    assert code == 503 and text.startswith("broker-stalled main")
    broker.release_acks()
    wait_until(lambda: ready(gateway)[0] == 200, 15, "ready again")


def test_nothing_settles_and_nobody_knows_why(things):
    """The broker is there, and answers; but what it answers is that it takes nothing now."""
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 1, 10, "carried")
    broker.answer = lambda message: 0x97 if "/1/" in message.topic else 0x00  # quota exceeded, for now
    write(redis)
    wait_until(lambda: "stalled" in codes(gateway), 20, "stalled")
    reason = next(r for r in status(gateway)["reasons"] if r["code"] == "stalled")
    assert "pending" in reason["text"] and reason["level"] == "error"
    code, text = ready(gateway)
    assert code == 503 and text.startswith("stalled: ")
    broker.answer = lambda message: 0x00
    wait_until(lambda: ready(gateway)[0] == 200, 40, "ready again")
    assert gateway.metric("nemogate_acked_total") == 2


def test_no_streams(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    wait_until(lambda: "no-streams" in codes(gateway), 10, "it is told")
    assert ready(gateway) == (200, "ok\n") and status(gateway)["overall"] == "warning"
    write(redis)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 1, 10, "carried")
    wait_until(lambda: "no-streams" not in codes(gateway), 10, "there is one")


def test_slot_without_owner(things):
    redis, broker = things.redis(), things.recording_broker()
    one = things.gateway(config_of(redis, broker, instance="one"))
    two = things.gateway(config_of(redis, broker, instance="two"))
    wait_until(lambda: status(one)["slots"]["owned"] == 1 and status(two)["slots"]["owned"] == 1
               or status(one)["slots"]["owned"] + status(two)["slots"]["owned"] == 2, 20, "shared")
    wait_until(lambda: status(one)["slots"]["without_owner"] == 0, 10, "all have an owner")
    wait_until(lambda: all(s["owner"] == "two" for s in status(one)["slots"]["list"]
                           if s["state"] == "elsewhere"), 20, "the other's slots are his")
    # Somebody holds the lease's key in a shape that nobody can take.
    two.kill9()
    for slot in range(2):
        redis.client().delete(f"nemogate:{{nemogate}}:lease:{slot}")
        redis.client().set(f"nemogate:{{nemogate}}:lease:{slot}", "not a hash")
    wait_until(lambda: status(one)["slots"]["without_owner"] > 0 or ready(one)[0] == 503, 20,
               "it is told")


class StoppedThread:
    """Holds one thread of a process still, as ptrace(2) can: SIGSTOP would stop them all."""

    SEIZE, INTERRUPT, DETACH, WAIT_ALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, thread):
        self.thread = thread
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.call(self.SEIZE)
        self.call(self.INTERRUPT)
        os.waitpid(thread, self.WAIT_ALL)

    def call(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace({request:#x})")

    def go_on(self):
        self.call(self.DETACH)


def threads_of(pid, name):
    def name_of(thread):
        with open(f"/proc/{pid}/task/{thread}/comm") as file:
            return file.read().strip()
    return [int(t) for t in os.listdir(f"/proc/{pid}/task") if name_of(t).startswith(name)]


def test_a_shard_that_does_not_turn_is_told(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    others = [t for t in threads_of(gateway.pid, "") if t != gateway.pid]
    shards = sorted(others)[-2:]  # ThreadSanitizer has a thread of its own, older than they are
    assert len(others) == 2 + (os.environ.get("NEMOGATE_SAN") == "tsan")
    try:
        stopped = StoppedThread(shards[1])
    except PermissionError:
        pytest.skip("this system does not let a test trace a process")
    try:
        wait_until(lambda: gateway.admin("/livez")[0] == 503, 30, "it is told")
        assert gateway.admin("/livez")[1].startswith("shard-dead: shard ")
        assert "shard-dead" in codes(gateway)
        code, text = ready(gateway)
        assert code == 503 and "shard-dead" in text
    finally:
        stopped.go_on()
    wait_until(lambda: gateway.admin("/livez")[0] == 200, 15, "it turns again")
    wait_until(lambda: ready(gateway)[0] == 200, 15, "ready again")


def test_a_process_that_has_slept_is_not_taken_for_dead(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    os.kill(gateway.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(gateway.pid, signal.SIGCONT)
    assert gateway.admin("/livez")[0] == 200
    wait_until(lambda: ready(gateway)[0] == 200, 15, "ready again")


def test_a_reload_that_failed(things):
    redis, broker = things.redis(), things.recording_broker()
    config = config_of(redis, broker)
    gateway = things.gateway(config)
    assert gateway.metric("nemogate_reload_failed") == 0
    gateway.write_config("no: configuration")
    gateway.config = config
    gateway.reload()
    wait_until(lambda: "reload-failed" in codes(gateway), 10, "the status tells of it")
    assert gateway.metric("nemogate_reload_failed") == 1 and ready(gateway)[0] == 200


def test_status_command(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    write(redis)
    wait_until(lambda: gateway.metric("nemogate_acked_total") == 1, 10, "carried")
    done = gateway.command("status")
    assert done.returncode == 0 and "all is well" in done.stdout and "lab" in done.stdout
    assert json.loads(gateway.command("status", "--json").stdout)["ready"] is True
    broker.stop()
    wait_until(lambda: ready(gateway)[0] == 503, 10, "not ready")
    done = gateway.command("status")
    assert done.returncode == 1 and "broker-down" in done.stdout and "not ready" in done.stdout
    gateway.terminate()
    done = gateway.command("status")
    assert done.returncode == 1 and "cannot be reached" in done.stderr


# ---- who may ask ------------------------------------------------------------------------------


def test_token(things):
    redis, broker = things.redis(), things.recording_broker()
    path = os.path.join(str(things.tmp), "token")
    with open(path, "w") as file:
        file.write(TOKEN + "\n")
    os.chmod(path, 0o600)
    gateway = things.gateway(config_of(redis, broker, admin={"token_file": path}))
    for bad in ({}, {"Authorization": "Bearer wrong-token-of-length"},
                {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}):
        code, headers, _ = request(gateway, "GET", "/metrics", **bad)
        assert code == 401 and headers["WWW-Authenticate"] == "Bearer"
        assert request(gateway, "GET", "/api/v1/status", **bad)[0] == 401
        assert request(gateway, "POST", "/api/v1/dead-letters/drop", "{}", **bad)[0] == 401
    assert request(gateway, "GET", "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert request(gateway, "GET", "/readyz")[0] == 200 and request(gateway, "GET", "/")[0] == 200
    assert gateway.command("status").returncode == 0
    assert TOKEN not in gateway.log_text()


def test_other_addresses_need_a_token(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, admin={"listen": "0.0.0.0:19464"}),
                             start=False)
    done = gateway.command("check")
    assert done.returncode == 2 and "token_file is expected" in done.stderr
    for bad in ("9464", "localhost:9464", "127.0.0.1:99999", "::1:9464", "[::1]", "1.2.3:4"):
        gateway.write_config(config_of(redis, broker, admin={"listen": bad}))
        done = gateway.command("check")
        assert done.returncode == 2 and "admin.listen" in done.stderr, bad


def test_host_header(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    port = port_of(gateway)
    for good in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LocalHost"):
        assert request(gateway, "GET", "/metrics", Host=good)[0] == 200, good
    for bad in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil"):
        assert request(gateway, "GET", "/metrics", Host=bad)[0] == 421, bad


def test_the_address_is_taken(things):
    """Events are carried, and the server listens as soon as it can."""
    redis, broker = things.redis(), things.recording_broker()
    config = config_of(redis, broker)
    with socket.create_server(("127.0.0.1", int(config["admin"]["listen"].rsplit(":")[-1]))):
        gateway = things.gateway(config)
        gateway.wait_log("the admin server cannot listen")
        write(redis)
        broker.wait_messages(1)
    gateway.wait_log("the admin server listens", timeout=15)
    assert gateway.admin("/livez")[0] == 200


# ---- bad clients ------------------------------------------------------------------------------


def test_what_is_no_request(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    def code(data):
        return raw(gateway, data).split(" ")[1]
    host = b"Host: localhost\r\n"
    assert code(b"GET / HTTP/1.1\r\n" + host + b"A: " + b"x" * 20000 + b"\r\n\r\n") == "431"
    assert code(b"GET /" + b"a" * 20000) == "431"
    assert code(b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 999999\r\n\r\n") == "413"
    assert code(b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n") == "501"
    assert code(b"GET / HTTP/2.0\r\n" + host + b"\r\n") == "505"
    for bad in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n", b"GET http://a/ HTTP/1.1\r\n" + host + b"\r\n",
                b"GET / HTTP/1.1\r\n" + host + host + b"\r\n", b"GET / HTTP/1.1\nHost: a\n\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + host + b" folded: x\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + host + b"A: \0\r\n\r\n"):
        assert code(bad) == "400", bad
    assert gateway.admin("/livez")[0] == 200


def test_slow_clients_are_cut_and_do_not_keep_others_out(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    slow = socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=40)
    slow.sendall(b"GET / HTTP/1.1\r\n")
    begun = time.monotonic()
    cut = None
    while cut is None and time.monotonic() - begun < 30:
        try:
            slow.sendall(b"A: b\r\n")
            slow.settimeout(0.5)
            if slow.recv(100) == b"":
                cut = time.monotonic() - begun
        except socket.timeout:
            assert gateway.admin("/livez")[0] == 200
        except OSError:
            cut = time.monotonic() - begun
    assert cut is not None and cut > 5


def test_connections_are_bounded(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    sockets = [socket.create_connection(("127.0.0.1", port_of(gateway))) for _ in range(100)]
    write(redis, count=10)
    broker.wait_messages(10)
    time.sleep(0.5)
    assert closed_among(sockets) == 36
    for s in sockets:
        s.close()
    def answers():
        try:
            return gateway.admin("/livez")[0] == 200
        except OSError:  # the closed ones have not been swept up yet
            return False
    wait_until(answers, 5, "it answers again")
