"""The reference reader of batches and the splitter (deploy/readers/python). The golden files in
tests/data/batches are those that the C encoder's unit test writes byte for byte; here they are
compared with what Python's msgpack makes of the same events, and read."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import msgpack
import paho.mqtt.client as mqtt
import pytest
from harness import wait_until
from harness.process import Process

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
READERS = os.path.join(ROOT, "deploy", "readers", "python")
GOLDEN = os.path.join(ROOT, "tests", "data", "batches")
sys.path.insert(0, READERS)

from nemogate_batch import Batch, Duplicates, Event, read_batch, unexpired  # noqa: E402

STREAM = "nemo:{lab}:events"

# Name of the file -> stream, and the events as they stand in the batch.
FILES = {
    "empty": (STREAM, []),
    "least": (STREAM, [{"sid": "1700000000000-0", "topic": "tools/17/event", "payload": b"{}"}]),
    "full": (STREAM, [
        {"sid": "1700000000000-0", "topic": "nemo/lab/tools/17/state",
         "payload": '{"tool_name":"Ofen","user":"René Müller"}'.encode(), "retain": True,
         "key": "tool/17", "id": "0198c0de-0000-7000-8000-0123456789ab", "type": "tool.state",
         "ts": 1699999999987, "exp": 1700000060000},
        {"sid": "1700000000000-1", "topic": "nemo/lab/räume/東/state", "payload": b"",
         "retain": True, "key": "tool/ü", "ts": 0}]),
    "bytes": (b"nemo:{lab}:\xfe", [
        {"sid": f"{2 ** 64 - 1}-{2 ** 64 - 1}", "topic": "a", "payload": b"\x00\xff\xc1\x80",
         "key": b"tool/\xff"},
        {"sid": "0-1", "topic": "b", "payload": b"\n", "key": b"a\0b"}]),
    "sixteen": ("s", [{"sid": f"1700000000000-{n}", "topic": "a", "payload": b"1"}
                      for n in range(16)]),
}


def packed(events, stream=STREAM, **others):
    return msgpack.packb({"v": 1, "site": "lab", "stream": stream, "events": events, **others})


def least(**others):
    return {"sid": "1700000000000-0", "topic": "a", "payload": b"1", **others}


def expected(content):
    """The Event for an event of a batch, by the README's defaults."""
    defaults = {"retain": False, "key": content["topic"], "id": None, "type": None, "exp": None,
                "ts": int(content["sid"].split("-")[0])}
    return Event(**{**defaults, **content})


def test_every_golden_file_is_known():
    assert sorted(os.listdir(GOLDEN)) == sorted(f"{name}.msgpack" for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_golden_file(name):
    stream, events = FILES[name]
    with open(os.path.join(GOLDEN, f"{name}.msgpack"), "rb") as file:
        golden = file.read()
    assert golden == packed(events, stream)
    assert read_batch(golden) == Batch("lab", stream, tuple(map(expected, events)))


def test_random_batches():
    choose = random.Random(4)

    def text():
        return "".join(choose.choices("abc/xyzäß東🔧", k=choose.choice((1, 8, 31, 40, 300))))

    for _ in range(200):
        events = []
        for _ in range(choose.randrange(0, 40)):
            optional = {"retain": choose.random() < 0.5, "key": choose.choice((text(), b"\xff")),
                        "id": text(), "type": text(), "ts": choose.randrange(2 ** 64),
                        "exp": choose.randrange(2 ** 64)}
            events.append({"sid": f"{choose.randrange(2 ** 64)}-{choose.randrange(2 ** 64)}",
                           "topic": text(), "payload": choose.randbytes(choose.randrange(400)),
                           **dict(choose.sample(sorted(optional.items()), choose.randrange(7)))})
        assert read_batch(packed(events)).events == tuple(map(expected, events))


def test_unknown_names_are_skipped():
    event = least(later={"a": [1, None, 2.5]}, other=msgpack.ExtType(5, b"x"))
    batch = read_batch(packed([event], more=[{}], another=-1))
    assert batch == Batch("lab", STREAM, (expected(least()),))


WHOLE = packed([least(key="k")])

MALFORMED = [
    (b"", "not MessagePack"),
    (b"\xc1", "not MessagePack"),
    (WHOLE + b"\0", "not MessagePack"),
    (b"\xdd\xff\xff\xff\xff", "not MessagePack"),
    (b"\x91" * 100_000 + b"\x90", "not MessagePack"),
    (b"\x81\x90\x01", "not MessagePack"),
    (b"\x81\xa1\xff\x01", "not MessagePack"),
    (b'{"v":1}', "not MessagePack"),
    (msgpack.packb([1]), "the batch is no map"),
    (msgpack.packb({}), "the batch has no v"),
    (msgpack.packb({"v": "1"}), "v is no integer"),
    (msgpack.packb({"v": True}), "v is no integer"),
    (msgpack.packb({"v": 2}), "version 2; this reader knows 1"),
    (msgpack.packb({"v": 1}), "the batch has no site"),
    (msgpack.packb({"v": 1, "site": 5}), "site is no str"),
    (msgpack.packb({"v": 1, "site": "lab"}), "the batch has no stream"),
    (packed([], stream=5), "stream is no str or bin"),
    (msgpack.packb({"v": 1, "site": "lab", "stream": "s"}), "the batch has no events"),
    (packed({}), "events is no array"),
    (packed([least(), 5]), "event 1 is no map"),
    (packed([{}]), "event 0 has no sid"),
    (packed([{"sid": "1-1"}]), "event 0 has no topic"),
    (packed([{"sid": "1-1", "topic": "a"}]), "event 0 has no payload"),
    (packed([least(payload="text")]), "event 0: payload is no bin"),
    (packed([least(topic=b"a")]), "topic is no str"),
    (packed([least(topic="")]), "no topic to publish to"),
    (packed([least(topic="a/+/b")]), "no topic to publish to"),
    (packed([least(topic="#")]), "no topic to publish to"),
    (packed([least(topic="a\0")]), "no topic to publish to"),
    (packed([least(topic="ü" * 32768)]), "no topic to publish to"),
    (packed([least(retain=1)]), "retain is no boolean"),
    (packed([least(key=None)]), "key is no str or bin"),
    (packed([least(id=b"a")]), "id is no str"),
    (packed([least(type=1)]), "type is no str"),
    (packed([least(ts="1")]), "ts is no integer"),
    (packed([least(ts=-1)]), "ts is negative"),
    (packed([least(exp=1.5)]), "exp is no integer"),
    (packed([least(exp=True)]), "exp is no integer"),
    *[(packed([least(sid=sid)]), "no stream id") for sid in
      ("", "1", "-", "1-", "-1", "1-1-1", "a-1", " 1-1", "1-1\n", "+1-1", "١-1", f"{2 ** 64}-0",
       "1-" + "9" * 5000)],
]


@pytest.mark.parametrize("payload, says", MALFORMED)
def test_malformed(payload, says):
    with pytest.raises(ValueError) as raised:
        read_batch(payload)
    assert says in str(raised.value)
    assert len(str(raised.value)) < 6000


def test_no_bytes_do_more_than_raise_value_error():
    for end in range(len(WHOLE)):
        with pytest.raises(ValueError):
            read_batch(WHOLE[:end])
    choose = random.Random(7)
    for _ in range(20_000):
        mutant = bytearray(WHOLE)
        for _ in range(choose.randrange(1, 4)):
            mutant[choose.randrange(len(mutant))] = choose.randrange(256)
        try:
            read_batch(bytes(mutant))
        except ValueError:
            pass


def test_unexpired():
    events = [Event("1-1", "a", b""), Event("1-2", "a", b"", exp=5000),
              Event("1-3", "a", b"", exp=5001)]
    assert list(unexpired(events, lambda: 4.999)) == events
    assert list(unexpired(events, lambda: 5.0)) == [events[0], events[2]]
    assert list(unexpired(events, lambda: 6)) == [events[0]]
    alive, over = int(time.time() * 1000) + 60_000, int(time.time() * 1000) - 1
    assert [e.exp for e in unexpired([replace(events[0], exp=alive),
                                      replace(events[0], exp=over)])] == [alive]


def batch_of(*events, stream=STREAM):
    return Batch("lab", stream, events)


def test_duplicates():
    one, two = Event("1-1", "a", b"1"), Event("1-2", "a", b"2")
    duplicates = Duplicates()
    assert duplicates.drop(batch_of(one, two, one)) == [one, two]
    assert duplicates.drop(batch_of(one, two)) == []
    assert duplicates.drop(batch_of(one, stream="other")) == [one]
    # A producer that wrote an event twice, and nemogate's replay of a dead letter, which has the
    # old stream id as its id.
    named = Event("2-1", "a", b"3", id="x")
    assert duplicates.drop(batch_of(named, replace(named, sid="2-2"))) == [named]
    assert duplicates.drop(batch_of(Event("3-1", "a", b"1", id="1-1"))) == []


def test_duplicates_have_bounds():
    events = [Event(f"1-{n}", "a", b"") for n in range(10)]
    duplicates = Duplicates(capacity=4)
    assert duplicates.drop(batch_of(*events)) == events
    assert len(duplicates) == 4
    assert duplicates.drop(batch_of(*events[6:])) == []
    assert duplicates.drop(batch_of(events[5])) == [events[5]]
    assert duplicates.drop(batch_of(events[6])) == [events[6]]  # the oldest had to go
    with pytest.raises(ValueError):
        Duplicates(capacity=0)


# ---- the programs --------------------------------------------------------------------------------

def program(*arguments, **options):
    argv = [sys.executable, "-B", os.path.join(READERS, "nemogate_batch.py"), *arguments]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False, **options)


def test_program_writes_lines_of_json():
    path = os.path.join(GOLDEN, "full.msgpack")
    done = program("--file", path)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0] == {"site": "lab", "stream": STREAM, **FILES["full"][1][0],
                        "payload": '{"tool_name":"Ofen","user":"René Müller"}'}
    assert lines[1]["topic"] == "nemo/lab/räume/東/state" and "exp" not in lines[1]
    with open(path, "rb") as file:
        assert program(stdin=file).stdout == done.stdout
    done = program("--file", os.path.join(GOLDEN, "bytes.msgpack"))
    line = json.loads(done.stdout.splitlines()[0])
    assert (line["stream_base64"], line["payload_base64"], line["key_base64"]) == (
        "bmVtbzp7bGFifTr+", "AP/BgA==", "dG9vbC//")


def test_program_says_what_is_wrong():
    done = program(input=b"{}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"nemogate_batch: not MessagePack")
    done = program("--file", os.path.join(GOLDEN, "none"))
    assert done.returncode == 1 and b"No such file" in done.stderr
    assert program("--wrong").returncode == 2


class SplitterProcess(Process):
    name = "splitter"

    def __init__(self, things, source, target):
        super().__init__(things.tmp)
        self.source, self.target = source, target
        things.made.append(self)

    def argv(self):
        return [sys.executable, "-B", os.path.join(READERS, "batch_splitter.py"), "--topic",
                "nemo/lab/batch", "--from", self.source.url, "--to", self.target.url]

    def wait_ready(self, timeout=10.0):
        wait_until(lambda: self.log_text().count("subscribed to") == self.starts, timeout,
                   "the splitter's subscription")

    def start(self):
        self.starts = getattr(self, "starts", 0) + 1
        return super().start()


def publish(broker, *payloads):
    client = mqtt.Client("gateway", protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for payload in payloads:
        client.publish("nemo/lab/batch", payload, 1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_splitter_publishes_each_event_to_its_topic(things):
    hub, far = things.mosquitto(), things.mosquitto()
    splitter = SplitterProcess(things, hub, far).start()
    displays = things.subscriber(far.port)
    now = int(time.time() * 1000)
    events = [least(sid=f"1700000000000-{n}", topic=f"t/{n % 7}", payload=b"%d" % n)
              for n in range(200)]
    events[3].update(retain=True, id="mine", exp=now + 50_000)
    events[4].update(exp=now - 1)
    publish(hub, packed(events[:100]), b"no batch", packed(events[:100]), packed(events[100:]))
    messages = displays.wait_messages(199)
    assert [m.payload for m in messages] == [b"%d" % n for n in range(200) if n != 4]
    assert all(m.topic == f"t/{int(m.payload) % 7}" for m in messages)
    assert messages[3].user_properties == {"id": "mine", "stream-id": "1700000000000-3"}
    assert 40 <= messages[3].expiry <= 50
    assert messages[4].user_properties == {"id": "1700000000000-5", "stream-id": "1700000000000-5"}
    assert messages[4].expiry is None
    late = things.subscriber(far.port)
    assert [(m.topic, m.payload) for m in late.wait_messages(1)] == [("t/3", b"3")]
    assert "nemo/lab/batch: not MessagePack" in splitter.log_text()


def test_splitter_acknowledges_only_what_it_has_published(things):
    hub, far = things.mosquitto(extra=["log_type debug"]), things.mosquitto()
    splitter = SplitterProcess(things, hub, far).start()
    far.kill()
    publish(hub, *(packed([least(sid=f"1-{n}", payload=b"%d" % n)]) for n in range(50)))
    wait_until(lambda: "Sending PUBLISH to batch-splitter" in hub.log_text(), 10, "a batch sent")
    splitter.kill()
    far.start()
    displays = things.subscriber(far.port)
    splitter.start()
    assert [m.payload for m in displays.wait_messages(50)] == [b"%d" % n for n in range(50)]


# ---- as a package ------------------------------------------------------------------------------------


def test_pip_installs_the_readers(tmp_path):
    """As the README says; without an index, so that only this folder can be the source."""
    if not all(importlib.util.find_spec(module) for module in ("pip", "setuptools", "wheel")):
        pytest.skip("Debian's python3-pip, python3-setuptools and python3-wheel are not there")
    folder, target = tmp_path / "python", tmp_path / "target"
    shutil.copytree(READERS, folder)  # pip leaves its own files beside the sources
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
                    "--no-build-isolation", "--target", target, folder], check=True, timeout=100)
    with open(os.path.join(GOLDEN, "full.msgpack"), "rb") as batch:
        lines = subprocess.run([target / "bin" / "nemogate-batch"], stdin=batch, check=True, timeout=30,
                               env={**os.environ, "PYTHONPATH": str(target)}, capture_output=True).stdout
    assert json.loads(lines.splitlines()[0])["topic"]
    assert (target / "bin" / "nemogate-batch-splitter").exists() and (target / "batch_splitter.py").exists()
