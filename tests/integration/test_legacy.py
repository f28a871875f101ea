"""The drop-in for the Redis plugins of NEMO: their lists, status keys and control lists."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest
import redis as redis_py
from harness import gateway_config, wait_until

DATA = os.path.join(os.path.dirname(__file__), "..", "data")
STATUS_KEYS = ("nemo_mqtt_bridge_status", "NEMO_mqtt_bridge_status")
CONTROL_LISTS = ("nemo_mqtt_bridge_control", "NEMO_mqtt_bridge_control")
LIST, STREAM, DEAD = "nemo_mqtt_events", "nemo:{lab}:events", "nemo:{lab}:dead"


def config_of(redis, broker, lists=None, **changes):
    lists = lists or [{"list": LIST, "db": 1, "stream": STREAM}]
    return gateway_config(redis, broker, legacy_lists=lists, **changes)


def envelope(topic, payload, qos=1, retain=False, timestamp=1795322094.99776):
    """As the plugins write it: json.dumps with its defaults."""
    return json.dumps({"topic": topic, "payload": payload if isinstance(payload, str)
                       else json.dumps(payload), "qos": qos, "retain": retain,
                       "timestamp": timestamp})


def numbered(n, topic="nemo/tools/1/enabled"):
    return envelope(topic, {"event": "tool_enabled", "n": n})


def events_of(broker):
    return [m for m in broker.messages if not m.topic.startswith("nemogate/") and m.code == 0]


def wait_events(broker, count, timeout=20):
    wait_until(lambda: len(events_of(broker)) >= count, timeout,
               lambda: f"{count} events, {len(events_of(broker))} came")
    return events_of(broker)


def numbers_of(events):
    return [json.loads(e.payload)["n"] for e in events]


def without_repeats(numbers):
    return list(dict.fromkeys(numbers))


# ---- what comes out ---------------------------------------------------------------------------


def test_topic_payload_qos_and_retain_come_out_as_they_went_in(things):
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(config_of(redis, broker))
    with open(os.path.join(DATA, "legacy_envelopes.jsonl"), "rb") as lines:
        envelopes = [line.rstrip(b"\n") for line in lines if line.strip()]
    assert len(envelopes) == 11
    plugin = redis.client(db=1, decode_responses=False)
    for text in envelopes:
        plugin.lpush(LIST, text)
    events = wait_events(broker, 11)
    wanted = [json.loads(text) for text in envelopes]
    assert [(e.topic, e.payload.decode(), e.qos, e.retain) for e in events] == \
           [(w["topic"], w["payload"], w["qos"], w["retain"]) for w in wanted]
    assert plugin.llen(LIST) == 0 and broker.violations == []


def test_retain_qos_0_and_the_time_of_the_event(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    plugin = redis.client(db=1)
    plugin.lpush(LIST, envelope("a/b", "x", qos=0, retain=True))
    plugin.lpush(LIST, envelope("a/c", "y", qos=2, retain=False, timestamp=None))
    wait_until(lambda: len([m for m in broker.messages if m.topic.startswith("a/")]) == 2, 10,
               "both events")
    first, second = [m for m in broker.messages if m.topic.startswith("a/")]
    assert (first.qos, first.retain, second.qos, second.retain) == (0, True, 1, False)
    assert gateway.terminate() == 0


def test_entries_have_the_fields_of_the_schema(things):
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(config_of(redis, broker, delivery={"trim": "none"}))
    redis.client(db=1).lpush(LIST, envelope("nemo/tools/17/enabled", "{}"),
                             envelope("nemo/tools/17", "{}", timestamp=None))
    wait_events(broker, 2)
    fields = [entry for _, entry in redis.client().xrange(STREAM)]
    assert fields == [
        {"topic": "nemo/tools/17/enabled", "key": "nemo/tools/17", "payload": "{}", "abs": "1",
         "qos": "1", "retain": "0", "ts": "1795322094997"},
        {"topic": "nemo/tools/17", "key": "nemo/tools/17", "payload": "{}", "abs": "1",
         "qos": "1", "retain": "0"}]


@pytest.mark.parametrize("database", [0, 1])
def test_list_and_stream_in_the_same_or_in_different_databases(things, database):
    redis, broker = things.redis(), things.recording_broker()
    lists = [{"list": LIST, "db": database, "stream": STREAM}]
    things.gateway(config_of(redis, broker, lists,
                             redis_changes={"url": redis.url[:-1] + "1"}))
    redis.client(db=database).lpush(LIST, *[numbered(n) for n in range(5)])
    assert numbers_of(wait_events(broker, 5)) == [0, 1, 2, 3, 4]
    assert redis.client(db=0).exists(STREAM) == 0 and redis.client(db=1).exists(STREAM) == 1


def test_several_lists_to_several_sites_and_brokers(things):
    redis, one, two = things.redis(), things.recording_broker(), things.recording_broker()
    config = config_of(redis, one, [
        {"list": "nemo_mqtt_events", "db": 1, "stream": "nemo:{a}:events"},
        {"list": "NEMO_mqtt_events", "db": 1, "stream": "nemo:{a}:events"},
        {"list": "nemo_mqtt_events", "db": 2, "stream": "nemo:{b}:events"}])
    config["brokers"].append({"name": "two", "url": two.url})
    config["routes"].insert(0, {"streams": "nemo:{b}:events", "broker": "two"})
    things.gateway(config)
    redis.client(db=1).lpush("nemo_mqtt_events", numbered(1))
    redis.client(db=1).lpush("NEMO_mqtt_events", numbered(2))
    redis.client(db=2).lpush("nemo_mqtt_events", numbered(3))
    assert sorted(numbers_of(wait_events(one, 2))) == [1, 2]
    assert numbers_of(wait_events(two, 1)) == [3]


def test_signed_envelopes_are_those_of_the_plugin_byte_for_byte(things):
    with open(os.path.join(DATA, "hmac_vectors.json"), encoding="utf-8") as file:
        vectors = [v for v in json.load(file) if v["key_utf8_hex"] == b"s3cret-key".hex()]
    redis, broker = things.redis(), things.recording_broker()
    key = os.path.join(things.tmp, "sign.key")
    with open(key, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(b"s3cret-key\n")
    things.gateway(config_of(redis, broker, route_changes={"encoding": "signed",
                                                           "sign_key_file": key}))
    for vector in vectors:
        payload = bytes.fromhex(vector["payload_utf8_hex"]).decode()
        redis.client(db=1).lpush(LIST, envelope("nemo/tools/1/enabled", payload))
    redis.client(db=1).lpush(LIST, '{"topic": "nemo/a", "payload": "\\ud800"}')
    events = wait_events(broker, len(vectors))
    assert len(vectors) > 0
    assert [e.payload.decode() for e in events] == [v["envelope_ascii"] for v in vectors]


# ---- order and loss ---------------------------------------------------------------------------


def test_backlog_of_an_outage_comes_out_oldest_first(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker), start=False)
    plugin = redis.client(db=1)
    wanted = []
    for n in range(20):
        for action in ("enabled", "disabled"):
            wanted.append((f"nemo/tools/{n % 3}/{action}", len(wanted)))
            plugin.lpush(LIST, numbered(wanted[-1][1], wanted[-1][0]))
    gateway.start()
    events = wait_events(broker, 40)
    came = list(zip([e.topic for e in events], numbers_of(events)))
    for tool in range(3):
        mine = [c for c in came if c[0].startswith(f"nemo/tools/{tool}/")]
        assert mine == [w for w in wanted if w[0].startswith(f"nemo/tools/{tool}/")]
    assert len(came) == 40


def test_redis_start_new_sends_what_waits_in_the_list_but_not_the_old_stream(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, redis_changes={"start": "new"}), start=False)
    redis.client().xadd(STREAM, {"topic": "old", "payload": '{"n": -1}'})
    redis.client(db=1).lpush(LIST, *[numbered(n) for n in range(500)])
    gateway.start()
    assert numbers_of(wait_events(broker, 500)) == list(range(500))


class Plugin:
    """Pushes numbered events until it is stopped, and never loses count of them."""

    def __init__(self, redis, rate=0):
        self.client = redis.client(db=1)
        self.count, self.rate, self.stopped = 0, rate, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped:
            size = 50
            self.client.lpush(LIST, *[numbered(self.count + i, f"nemo/tools/{(self.count + i) % 5}"
                                               "/enabled") for i in range(size)])
            self.count += size
            if self.rate:
                time.sleep(size / self.rate)

    def stop(self):
        self.stopped = True
        self.thread.join(10)
        return self.count


def moved_exactly_once(redis, count):
    entries = redis.client().xrange(STREAM)
    numbers = [json.loads(fields["payload"])["n"] for _, fields in entries]
    assert len(numbers) == len(set(numbers)), "an element was moved twice"
    assert numbers == list(range(count)), "an element was lost, or out of its order"


def test_kill_9_in_the_middle_moves_every_element_once(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, delivery={"trim": "none",
                                                                "lease_ttl": "1s"}))
    plugin = Plugin(redis, rate=4000)
    for _ in range(5):
        time.sleep(0.4)
        gateway.kill9()
        gateway.start()
    count = plugin.stop()
    wait_until(lambda: len({json.loads(e.payload)["n"] for e in events_of(broker)}) == count, 40,
               "all events")
    moved_exactly_once(redis, count)
    for tool in range(5):
        mine = [n for n in numbers_of(events_of(broker)) if n % 5 == tool]
        assert without_repeats(mine) == sorted(set(mine))


def test_two_instances_and_a_handover_move_every_element_once(things):
    redis, broker = things.redis(), things.recording_broker()
    config = config_of(redis, broker, delivery={"trim": "none", "lease_ttl": "1s"})
    first = things.gateway(config)
    plugin = Plugin(redis, rate=4000)
    second = things.gateway(dict(config, instance="gateway-2"))
    for gateway in (first, second) * 2:
        time.sleep(0.5)
        assert gateway.terminate() == 0
        gateway.start()
    count = plugin.stop()
    wait_until(lambda: len({json.loads(e.payload)["n"] for e in events_of(broker)}) == count, 40,
               "all events")
    moved_exactly_once(redis, count)


@pytest.mark.parametrize("how", ["pause", "restart"])
def test_redis_comes_back(things, how):
    redis, broker = things.redis(appendonly=True), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, delivery={"trim": "none"}))
    client = redis.client(db=1)
    client.lpush(LIST, *[numbered(n) for n in range(100)])
    wait_events(broker, 100)
    if how == "pause":
        redis.pause()
        time.sleep(7)  # longer than a command may take without an answer
        redis.resume()
    else:
        redis.kill()
        time.sleep(1)
        redis.start()
    client.lpush(LIST, *[numbered(n) for n in range(100, 3000)])
    wait_until(lambda: set(numbers_of(events_of(broker))) == set(range(3000)), 60, "all events")
    moved_exactly_once(redis, 3000)
    gateway.check_running()


def test_a_dead_broker_loses_nothing(things):
    redis, broker = things.redis(), things.mosquitto(persistence=True)
    subscriber = things.subscriber(broker.port, topics=("nemo/#",), persistent=True)
    things.gateway(config_of(redis, broker, broker_changes={"puback_timeout": "3s"}))
    broker.signal(signal.SIGUSR1)  # its sessions are saved, and outlive the kill
    wait_until(lambda: os.path.exists(f"{broker.folder}/mosquitto.db"), 5, "the saved sessions")
    client = redis.client(db=1)
    broker.pause()
    for n in range(300):
        client.lpush(LIST, numbered(n, f"nemo/tools/{n % 7}/enabled"))
    time.sleep(3)
    broker.kill()
    broker.start()
    wait_until(lambda: {json.loads(m.payload)["n"] for m in subscriber.messages} ==
               set(range(300)), 60, lambda: f"300 of 300, {len(subscriber.messages)} came")
    numbers = numbers_of(subscriber.messages)
    for tool in range(7):
        mine = [n for n in numbers if n % 7 == tool]
        assert without_repeats(mine) == sorted(set(mine))


def test_two_that_move_one_list_all_the_time_move_every_element_once(things):
    """Two groups: neither knows of the other, and both move the list."""
    redis, broker = things.redis(), things.recording_broker()
    for name in ("g1", "g2"):
        config = config_of(redis, broker, redis_changes={"group": name}, instance=name,
                           delivery={"trim": "none"},
                           broker_changes={"client_id_prefix": name})
        things.gateway(config)
    plugin = Plugin(redis)
    time.sleep(4)
    count = plugin.stop()
    wait_until(lambda: redis.client(db=1).llen(LIST) == 0, 30, "an empty list")
    wait_until(lambda: redis.client().xlen(STREAM) == count, 10, "all entries")
    moved_exactly_once(redis, count)


# ---- what cannot be decoded ---------------------------------------------------------------------


MALFORMED = {
    b"": "bad-envelope", b"not json": "bad-envelope", b"[1]": "bad-envelope", b"\xff\x00\xfe":
    "bad-envelope", b'{"topic": "a/b"}': "bad-field", b'{"payload": "x"}': "no-topic",
    b'{"topic": 5, "payload": "x"}': "bad-topic", b'{"topic": "a", "payload": {"x": 1}}':
    "bad-field", b'{"topic": "a", "payload": "x", "qos": 7}': "bad-field",
    b'{"topic": "a", "payload": "\\ud800"}': "lone-surrogate",
    b'{"topic": "\\udc00", "payload": "x"}': "lone-surrogate",
    b'{"topic": "a", "payload": "x"} more': "bad-envelope",
    b'{"topic": "a", "payload": "' + b"x" * 100000: "bad-envelope"}
UNPUBLISHABLE = {"nemo/+/x": "bad-topic", "nemo/#": "bad-topic", "": "bad-topic"}


def test_malformed_elements_become_dead_letters_with_their_bytes(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker), start=False)
    client = redis.client(db=1, decode_responses=False)
    for n, raw in enumerate(MALFORMED):
        client.lpush(LIST, raw)
        client.lpush(LIST, numbered(n))
    for topic in UNPUBLISHABLE:
        client.lpush(LIST, envelope(topic, "x"))
    client.lpush(LIST, envelope("nemo/tools/9/tasks", "x" * (300 << 10)))
    client.lpush(LIST, numbered(len(MALFORMED)))
    gateway.start()
    events = wait_events(broker, len(MALFORMED) + 1)
    assert numbers_of(events) == list(range(len(MALFORMED) + 1))
    letters = redis.client(decode_responses=False)
    count = len(MALFORMED) + len(UNPUBLISHABLE) + 1
    wait_until(lambda: letters.xlen(DEAD) == count, 10, f"{count} dead letters")
    dead = [fields for _, fields in letters.xrange(DEAD)]
    undecoded = [f for f in dead if b"legacy" in f]
    assert {f[b"legacy"]: f[b"dead_reason"].decode() for f in undecoded} == MALFORMED
    assert all(f[b"legacy_list"] == LIST.encode() for f in undecoded)
    others = {f[b"topic"].decode(): f[b"dead_reason"].decode() for f in dead if b"topic" in f}
    assert others == dict(UNPUBLISHABLE, **{"nemo/tools/9/tasks": "payload-too-large"})
    listing = gateway.command("dead-letters", "list")
    assert listing.returncode == 0 and "lone-surrogate" in listing.stdout, listing


def test_an_element_beyond_all_limits_does_not_block_the_list(things):
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(config_of(redis, broker))
    client = redis.client(db=1)
    client.lpush(LIST, numbered(0), "x" * (17 << 20), *["y" * (1 << 20)] * 30, numbered(1))
    assert numbers_of(wait_events(broker, 2, 30)) == [0, 1]
    letters = redis.client()
    wait_until(lambda: letters.xlen(DEAD) == 31, 10, "31 dead letters")
    first = letters.xrange(DEAD, count=1)[0][1]
    assert first["dead_reason"] == "payload-too-large" and len(first["legacy"]) == 17 << 20


# ---- the monitor page -------------------------------------------------------------------------


def status_of(client):
    return [client.get(key) for key in STATUS_KEYS]


def test_status_keys_tell_the_truth(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    client = redis.client(db=1)
    wait_until(lambda: status_of(client) == ["connected"] * 2, 5, "connected")
    assert all(80 <= client.ttl(key) <= 90 for key in STATUS_KEYS)
    broker.stop()
    wait_until(lambda: status_of(client) == ["disconnected"] * 2, 5, "disconnected")
    broker.start()
    wait_until(lambda: status_of(client) == ["connected"] * 2, 30, "connected again")
    assert gateway.terminate() == 0
    assert status_of(client) == ["disconnected"] * 2


@pytest.mark.parametrize("when", ["connected", "starting"])
def test_status_when_the_broker_is_killed_soon_after_the_start(things, when):
    """At moments over 0.3 s, with an event on its way: the page must not stay at "connected"."""
    redis, broker = things.redis(), things.mosquitto()
    gateway = things.gateway(config_of(redis, broker), start=False)
    client = redis.client(db=1)
    for n in range(12):
        client.flushall()
        gateway.launch()
        if when == "connected":
            wait_until(lambda: status_of(client) == ["connected"] * 2, 10, "connected")
            client.lpush(LIST, numbered(n))
        time.sleep(n * 0.025)
        assert broker.running
        broker.kill()
        wait_until(lambda: status_of(client) == ["disconnected"] * 2, 10,
                   lambda: f"disconnected after {n * 25} ms; the keys say {status_of(client)}")
        broker.start()
        assert gateway.terminate() == 0


@pytest.mark.limit(150)
def test_status_is_refreshed_while_the_broker_is_away(things):
    redis, broker = things.redis(), things.recording_broker(start=False)
    things.gateway(config_of(redis, broker), start=False).launch()
    client = redis.client(db=1)
    wait_until(lambda: status_of(client) == ["disconnected"] * 2, 10, "disconnected")
    for key in STATUS_KEYS:
        client.expire(key, 40)
    wait_until(lambda: all(client.ttl(key) > 60 for key in STATUS_KEYS), 40, "a refresh")
    assert status_of(client) == ["disconnected"] * 2


def test_control_lists_are_emptied(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    client = redis.client(db=1)
    for key in CONTROL_LISTS:
        client.lpush(key, *["reload_config"] * 20)
    client.lpush(CONTROL_LISTS[0], "dance")
    wait_until(lambda: not any(client.exists(key) for key in CONTROL_LISTS), 10, "empty lists")
    gateway.wait_log("an unknown word", word="dance")
    gateway.wait_log("the plugin's configuration page was saved")


def test_without_the_page_no_key_is_touched(things):
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(config_of(redis, broker, [{"list": LIST, "db": 1, "stream": STREAM,
                                              "monitor": False}]))
    client = redis.client(db=1)
    client.lpush(CONTROL_LISTS[0], "reload_config")
    client.lpush(LIST, numbered(1))
    wait_events(broker, 1)
    time.sleep(1.5)
    assert status_of(client) == [None, None] and client.llen(CONTROL_LISTS[0]) == 1


# ---- trouble ------------------------------------------------------------------------------------


def test_another_bridge_is_named(things):
    redis, broker = things.redis(), things.recording_broker()
    rival = redis_py.Redis(port=redis.port, db=1, client_name="python-bridge")
    stop = threading.Event()

    def run():
        while not stop.is_set():
            rival.blpop([LIST], timeout=1)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        time.sleep(0.3)
        gateway = things.gateway(config_of(redis, broker))
        line = gateway.wait_log("another program takes events out of the plugin's list")
        assert line["level"] == "error" and line["client"].startswith("127.0.0.1:")
        assert "mkdir /tmp/nemo_mqtt_bridge.lock" in line["msg"]
    finally:
        stop.set()
        thread.join(5)
        rival.close()


def test_a_list_of_another_type_is_said_and_moved_once_it_is_right(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client(db=1)
    client.set(LIST, "text")
    gateway = things.gateway(config_of(redis, broker))
    line = gateway.wait_log("Redis refuses to move events")
    assert "WRONGTYPE" in line["reply"] and line["list"] == LIST
    client.delete(LIST)
    client.lpush(LIST, numbered(1))
    assert numbers_of(wait_events(broker, 1)) == [1]


@pytest.mark.parametrize("missing", ["-ltrim", "-xadd", "-lrange", "-select"])
def test_missing_rights_are_said_and_nothing_is_lost_or_doubled(things, missing):
    redis, broker = things.redis(), things.recording_broker()
    admin = redis.client(db=1)
    admin.execute_command("ACL", "SETUSER", "gate", "on", ">secret", "~*", "+@all")
    password = os.path.join(things.tmp, "password")
    with open(password, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write("secret\n")
    gateway = things.gateway(config_of(redis, broker, delivery={"trim": "none"}, redis_changes={
        "username": "gate", "password_file": password}))
    wait_until(lambda: status_of(admin) == ["connected"] * 2, 5, "connected")
    admin.execute_command("ACL", "SETUSER", "gate", missing)
    admin.lpush(LIST, *[numbered(n) for n in range(10)])
    gateway.wait_log("Redis refuses to move events")
    time.sleep(1.5)
    assert admin.llen(LIST) == 10 and redis.client().xlen(STREAM) == 0
    admin.execute_command("ACL", "SETUSER", "gate", "+@all")
    assert numbers_of(wait_events(broker, 10)) == list(range(10))
    moved_exactly_once(redis, 10)


def test_a_stream_of_another_type_keeps_the_list(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker))
    wait_until(lambda: redis.client().type(STREAM) == "stream", 5, "the stream")
    redis.client().delete(STREAM)
    redis.client().set(STREAM, "text")
    client = redis.client(db=1)
    client.lpush(LIST, *[numbered(n) for n in range(10)])
    gateway.wait_log("Redis refuses to move events")
    assert client.llen(LIST) == 10


# ---- values of the plugin's configuration page ----------------------------------------------------


def dump(broker, **fields):
    """As manage.py dumpdata prints it."""
    row = {"name": "Default", "enabled": True, "broker_host": "127.0.0.1",
           "broker_port": broker.port, "keepalive": 60, "username": None, "password": None,
           "use_hmac": False, "hmac_secret_key": None, "hmac_algorithm": "sha256", **fields}
    return json.dumps([{"model": "nemo_mqtt.mqttconfiguration", "pk": 1, "fields": row}])


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def cmdline(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def test_a_saved_page_takes_effect_and_nothing_is_lost(things):
    redis, one, two = things.redis(), things.recording_broker(), things.recording_broker()
    page = os.path.join(things.tmp, "page.json")
    write(page, dump(one, password="hidden-password", username="nemo"))
    gateway = things.gateway(config_of(redis, "mqtt://127.0.0.1:9",
                                       legacy_config_command=f"cat {page}"))
    client, pid, before = redis.client(db=1), gateway.pid, cmdline(gateway.pid)
    client.lpush(LIST, numbered(0))
    assert numbers_of(wait_events(one, 1)) == [0]
    client.lpush(CONTROL_LISTS[0], "reload_config")
    gateway.wait_log("nothing has changed")
    write(page, "Traceback (most recent call last):")
    client.lpush(CONTROL_LISTS[1], "reload_config")
    gateway.wait_log("those it gave before stand")
    client.lpush(LIST, numbered(1))
    assert numbers_of(wait_events(one, 2)) == [0, 1]
    write(page, dump(two, use_hmac=True, hmac_secret_key="hidden-key"))
    client.lpush(CONTROL_LISTS[0], "reload_config")
    for n in range(2, 102):
        client.lpush(LIST, numbered(n))
        time.sleep(0.02)
    numbers = {n for n in numbers_of(events_of(one))}
    wait_until(lambda: len(numbers) + len(events_of(two)) >= 102, 20, "all events")
    signed = [json.loads(e.payload) for e in events_of(two)]
    assert all(e["hmac"] for e in signed)
    numbers |= {json.loads(e["payload"])["n"] for e in signed}
    assert numbers == set(range(102))
    assert gateway.pid == pid and cmdline(pid) == before
    with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
        assert comm.read() == "nemogate\n"
    assert gateway.terminate() == 0
    assert "hidden" not in gateway.log_text()


@pytest.mark.parametrize("command", ["false", "true", "echo broker_host=", "kill -9 $$",
                                     "echo key=hidden; exit 3", "head -c 100000 /dev/zero"])
def test_without_the_values_nothing_is_published(things, command):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker, legacy_config_command=command), start=False)
    gateway.launch()
    assert gateway.wait() == 1
    assert "gives no values of the plugin's configuration page" in gateway.log_text()
    assert "hidden" not in gateway.log_text() and events_of(broker) == []


@pytest.mark.parametrize("changes, words", [
    ({"legacy_lists": [{"stream": "nemo:*:events"}]}, "is a pattern"),
    ({"legacy_lists": [{"stream": "other"}]}, "has no route"),
    ({"legacy_lists": [{}, {"db": 1}]}, "legacy_lists[1].list: the same list"),
    ({"legacy_lists": [{"db": 0, "list": "nemo:{a}:events", "stream": "nemo:{a}:events"}]},
     "is the list itself"),
    ({"legacy_lists": [{"db": -1}]}, "legacy_lists[0].db: '-1' is out of range"),
    ({"legacy_lists": [{"queue": "x"}]}, "not known"),
    ({"legacy_config_command": "true"}, "there are no legacy_lists"),
])
def test_faults_of_the_configuration_are_named(things, changes, words):
    gateway = things.gateway(gateway_config("redis://127.0.0.1:6379/0", "mqtt://127.0.0.1",
                                            **changes), start=False)
    done = gateway.command("check")
    assert done.returncode == 2 and words in done.stderr, done
    assert ":1:1" not in done.stderr


# ---- check --connect -----------------------------------------------------------------------------


def test_check_says_what_is_in_the_list_and_who_else_takes_from_it(things):
    redis, broker = things.redis(), things.mosquitto()
    gateway = things.gateway(config_of(redis, broker), start=False)
    client = redis.client(db=1)
    client.lpush(LIST, *["x"] * 1234)
    done = gateway.command("check", "--connect")
    assert done.returncode == 0, done
    assert f"ok       list {LIST} in db 1: a start will move 1,234 events into {STREAM}" in done.stdout
    assert client.llen(LIST) == 1234
    waits = redis_py.Redis(port=redis.port, db=1)
    thread = threading.Thread(target=lambda: waits.blpop(["another"], timeout=3), daemon=True)
    thread.start()
    wait_until(lambda: "cmd=blpop" in str(client.execute_command("CLIENT", "LIST")) or any(
        c["cmd"] == "blpop" for c in client.client_list()), 5, "a client in BLPOP")
    done = gateway.command("check", "--connect")
    assert done.returncode == 1 and "takes events out of this database's lists" in done.stdout, done
    thread.join(5)
    waits.close()
    client.delete(LIST)
    client.set(LIST, "text")
    done = gateway.command("check", "--connect")
    assert done.returncode == 1 and "the key is no list but a string" in done.stdout, done


def test_check_names_each_right_that_is_missing(things):
    redis, broker = things.redis(), things.mosquitto()
    admin = redis.client(db=1)
    if int(admin.info("server")["redis_version"].split(".")[0]) < 7:
        pytest.skip("a subcommand alone can be taken away since Redis 7.0")
    admin.lpush(LIST, "x")
    admin.execute_command("ACL", "SETUSER", "gate", "on", ">secret", "~*", "+@all", "-ltrim",
                          "-setex", "-client|list")
    password = os.path.join(things.tmp, "password")
    with open(password, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write("secret\n")
    gateway = things.gateway(config_of(redis, broker, redis_changes={
        "username": "gate", "password_file": password}), start=False)
    done = gateway.command("check", "--connect")
    assert done.returncode == 1
    assert f"FAILED   list {LIST} in db 1: the user may not run LTRIM {LIST}" in done.stdout, done
    assert "give it +SETEX ~NEMO_mqtt_bridge_status" in done.stdout
    assert "give it +client|list" in done.stdout
    assert done.stdout.count("FAILED") == 1
    assert admin.lrange(LIST, 0, -1) == ["x"] and status_of(admin) == [None, None]


# ---- pkill ---------------------------------------------------------------------------------------


def test_a_path_that_pkill_would_match_is_warned_of(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker), start=False)
    folder = os.path.join(things.tmp, "mosquitto")
    os.mkdir(folder)
    assert "warning" not in gateway.command("check").stdout
    gateway.config_path = shutil.copy(gateway.config_path, folder)
    assert "pkill -f mosquitto" in gateway.command("check").stdout
    gateway.start()
    assert gateway.wait_log("kill this process")["pkill"] == "mosquitto"


def test_survives_what_the_plugins_kill(things):
    """The plugins' three lines, in a namespace of pids of our own: they would end other tests."""
    isolated = ["unshare", "-p", "-f", "--mount-proc", "--kill-child"]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not make a namespace of pids")
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_of(redis, broker), start=False)
    script = f"""exec 2>&1
exec -a victim-mosquitto sleep 60 & victim=$!
"{gateway.argv()[0]}" run --config "{gateway.config_path}" & ours=$!
for i in $(seq 100); do
    redis-cli -s {redis.socket} -n 1 GET {STATUS_KEYS[0]} | grep -qx connected && break
    sleep 0.1
done
pkill -f mosquitto; pkill -9 mosquitto; pkill -f redis_mqtt_bridge
sleep 0.5
kill -0 $victim && echo "victim lives"
kill -0 $ours && echo "gateway lives"
kill $ours; wait $ours; echo "ended $?"
"""
    path = os.path.join(things.tmp, "lines.sh")  # not in the command line, which pkill reads, too
    write(path, script)
    done = subprocess.run([*isolated, "bash", path], capture_output=True, text=True, timeout=40,
                          check=False)
    assert "gateway lives" in done.stdout and "ended 0" in done.stdout, done
    assert "victim lives" not in done.stdout, "pkill has killed nothing: the test proves nothing"
