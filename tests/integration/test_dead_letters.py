"""`nemogate dead-letters`: what lies in nemo:{site}:dead is listed, shown, put back and removed."""

import base64
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest
from harness import free_port, gateway_config, wait_until
from harness.gateway import binary
from scale import PATIENCE

STREAM, DEAD = "nemo:{a}:events", "nemo:{a}:dead"

README = os.path.join(os.path.dirname(__file__), "..", "..", "README.md")


def rights_of_the_readme():
    """The rules of the Redis user that the section on dead letters tells people to make."""
    with open(README, encoding="utf-8") as text:
        found = re.search(r"ACL SETUSER admin on >PASSWORD ((?:.+\n)+)", text.read())
    return " ".join(found.group(1).split())


# The stream keeps what was acknowledged, for a test to look at.
KEPT = {"trim": "none"}


class Command:
    """`dead-letters` with the configuration of a gateway that need not run."""

    def __init__(self, things, redis, broker="mqtt://127.0.0.1:1", **config):
        self.gateway = things.gateway(gateway_config(redis, broker, **config), start=False)

    def __call__(self, *arguments, timeout=60):
        done = self.gateway.command("dead-letters", *arguments, timeout=timeout * PATIENCE)
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments):
        code, out, errors = self(*arguments)
        assert (code, errors) == (0, ""), (code, out, errors)
        return out

    def objects(self, *arguments):
        return [json.loads(line) for line in self(*arguments, "--json")[1].splitlines()]

    def start(self, *arguments, **popen):
        argv = [binary(), "dead-letters", *arguments, "--config", self.gateway.config_path]
        return subprocess.Popen(argv, env=self.gateway.env, **popen)


def head(stream=STREAM, dead_id="1700000000000-0", reason="bad-topic"):
    return {"dead_reason": reason, "dead_detail": f"what {reason} means", "dead_stream": stream,
            "dead_id": dead_id, "dead_deliveries": "1"}


def bury(client, fields, stream=STREAM, dead=DEAD, **of_head):
    """A dead letter as a gateway writes it; its id."""
    return client.xadd(dead, {**head(stream, **of_head), **fields})


def entry_and_letter(client, fields, **of_head):
    """An entry of the stream, and its dead letter: (the entry's id, the letter's)."""
    entry = client.xadd(STREAM, fields)
    return entry, bury(client, fields, dead_id=entry, **of_head)


# ---- list -----------------------------------------------------------------------------------


def test_the_letters_of_a_gateway_are_listed(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    first = client.xadd(STREAM, {"topic": "tools/#", "payload": "one", "key": "tool/1"})
    second = client.xadd("nemo:{b}:events", {"payload": "two"})
    third = client.xadd(STREAM, {"topic": "t", "payload": "x" * 300_000})
    command = Command(things, redis, broker)
    command.gateway.start()
    wait_until(lambda: client.xlen(DEAD) == 2 and client.xlen("nemo:{b}:dead") == 1, 10, "letters")
    lines = command.ok("list").splitlines()
    assert lines[0].split("  ")[0] == "SITE" and "REASON" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["a", "a", "b"]
    assert "payload-too-large" in lines[1] and "293K" in lines[1]  # the newest of a site first
    assert "bad-topic" in lines[2] and "tools/#" in lines[2]
    assert lines[-1].startswith("3 dead letters: ")
    assert all(len(line) <= 80 for line in lines)
    objects = command.objects("list")
    assert [(o["site"], o["original_id"], o["reason"]) for o in objects] == [
        ("a", third, "payload-too-large"), ("a", first, "bad-topic"), ("b", second, "no-topic")]
    assert objects[1]["payload"] == "one" and objects[1]["key"] == "tool/1"
    assert objects[2]["topic"] is None and objects[2]["stream"] == "nemo:{b}:events"
    assert objects[0]["payload_size"] == 300_000 and objects[0]["deliveries"] == 1


def test_filters(things):
    redis = things.redis()
    client = redis.client()
    old = client.xadd(DEAD, {**head(reason="bad-topic"), "topic": "t"}, id="1700000000000-5")
    new = [bury(client, {"topic": "t"}, reason=r) for r in ("bad-topic", "no-topic", "bad-field")]
    other = bury(client, {"topic": "t"}, stream="nemo:{a}:more")
    site = bury(client, {"topic": "t"}, stream="nemo:{b}:events", dead="nemo:{b}:dead")
    client.xadd("nemo:nobody:dead", {"a": "b"})       # not a key of ours
    client.xadd("nemo:{B}:dead", {"a": "b"})
    command = Command(things, redis)

    def ids(*arguments):
        return [o["id"] for o in command.objects("list", *arguments)]
    assert ids() == [other, *reversed(new), old, site]
    assert ids("--site", "b") == [site]
    assert ids("--site", "b", "--site", "a", "--site", "b") == [other, *reversed(new), old, site]
    assert ids("--site", "c") == []
    assert ids("--reason", "no-topic", "--reason", "bad-field") == [new[2], new[1]]
    assert ids("--stream", "nemo:{a}:more") == [other]
    assert ids("--stream", STREAM, "--reason", "bad-topic") == [new[0], old]
    assert ids("--since", "1h", "--site", "a") == [other, *reversed(new)]
    assert ids("--limit", "2") == [other, new[2], site]
    assert ids("--limit=1", "--reason", "bad-topic", "--site=a") == [other]
    assert command.ok("list", "--site", "c") == "no dead letters\n"
    assert command.ok("list", "--reason", "nothing") == "no dead letters\n"


def test_thousands_are_listed_in_pages(things):
    redis = things.redis()
    pipe = redis.client().pipeline(transaction=False)
    for n in range(3000):
        pipe.xadd(DEAD, {**head(dead_id=f"1700000000000-{n}"), "topic": f"t/{n}",
                         "payload": "x" * (100_000 if n % 1000 == 0 else 10)})
    pipe.execute()
    command = Command(things, redis)
    assert [o["original_id"] for o in command.objects("list")] == [
        f"1700000000000-{n}" for n in reversed(range(3000))]
    lines = command.ok("list").splitlines()
    assert lines[-1] == "3,000 dead letters: 3,000 bad-topic"
    assert len([line for line in lines if line.startswith("a ")]) == 3000


def on_terminal(command, *arguments, columns=80, errors=False):
    """What the command writes to a terminal, on which its output (or errors) goes."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = command.start(*arguments, stdin=subprocess.DEVNULL,
                            **({"stderr": slave, "stdout": subprocess.DEVNULL} if errors
                               else {"stdout": slave, "stderr": subprocess.DEVNULL}))
    os.close(slave)
    text = bytearray()

    def read():
        try:
            while data := os.read(master, 65536):
                text.extend(data)
        except OSError:
            pass  # EIO: the other side is closed
    reader = threading.Thread(target=read)
    reader.start()
    return process, reader, master, text


def test_a_wide_terminal_has_all_columns(things):
    redis = things.redis()
    bury(redis.client(), {"topic": "tools/17/state", "payload": "x", "key": "tool/17"})
    command = Command(things, redis)
    for columns, expected in ((160, {"KEY", "ORIGINAL", "TOPIC", "WHEN"}), (70, {"TOPIC"})):
        process, reader, master, text = on_terminal(command, "list", columns=columns)
        assert process.wait(20) == 0
        reader.join(10)
        os.close(master)
        lines = text.decode().splitlines()
        assert expected <= set(lines[0].split()), lines
        assert all(len(line) <= columns for line in lines)
        assert ("tool/17 " in lines[1]) == (columns == 160)


def test_a_reader_that_has_had_enough(things):
    redis = things.redis()
    pipe = redis.client().pipeline(transaction=False)
    for _ in range(3000):
        pipe.xadd(DEAD, {**head(), "topic": "t"})
    pipe.execute()
    process = Command(things, redis).start("list", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith(b"SITE")
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == b""


# ---- show -----------------------------------------------------------------------------------


def test_all_of_a_letter_is_shown(things):
    redis = things.redis()
    client = redis.client(decode_responses=False)
    letter = bury(client, {"topic": "tools/1", "payload": '{"a": "ä"}\n{"b": 2}', "extra": ""},
                  dead_id="1699999999999-3").decode()
    out = Command(things, redis).ok("show", "--id", letter)
    for part in (f"dead letter {letter} (20", "site        a\n", "reason      bad-topic\n",
                 "detail      what bad-topic means\n", "deliveries  1\n", f"stream      {STREAM}\n",
                 "original id 1699999999999-3 (2023-11-14 22:13:19 UTC)\n", "fields      3, ",
                 "  topic (7 bytes)\n    tools/1\n", "  extra (0 bytes)\n",
                 '  payload (20 bytes)\n    {"a": "ä"}\n    {"b": 2}\n'):
        assert part in out, part


def test_bytes_that_are_no_text(things):
    redis = things.redis()
    client = redis.client(decode_responses=False)
    payload = b"\x00\x01\xff" + b"hello, world" * 3
    letter = bury(client, {"topic": b"tools/\xff", "payload": payload}).decode()
    command = Command(things, redis)
    out = command.ok("show", "--id", letter)
    assert "00000000  00 01 ff 68 65 6c 6c 6f  2c" in out.replace("6f 2c", "6f  2c")
    assert "|...hello, worldh|" in out
    for which in (["list"], ["show", "--id", letter]):
        found, = command.objects(*which)
        assert base64.b64decode(found["payload_base64"]) == payload
        assert base64.b64decode(found["topic_base64"]) == b"tools/\xff"
        assert "payload" not in found and found["payload_size"] == len(payload)
    fields = {f["name"]: f for f in command.objects("show", "--id", letter)[0]["fields"]}
    assert base64.b64decode(fields["payload"]["value_base64"]) == payload


def test_nothing_reaches_the_terminal_raw(things):
    redis = things.redis()
    client = redis.client(decode_responses=False)
    evil = "\x1b[2J\r\x07\x7f\u009b31m\u202e\x00\u2028x".encode()
    letter = bury(client, {"topic": evil, "payload": evil, "key": evil, evil: evil},
                  reason=evil.decode(), dead_id="1-1").decode()
    client.xadd(DEAD, {evil: evil})
    command = Command(things, redis)
    for which in (["list"], ["list", "--json"], ["show", "--id", letter],
                  ["show", "--json", "--id", letter], ["replay", "--all", "--dry-run"],
                  ["drop", "--all", "--dry-run"]):
        _code, out, errors = command(*which)
        for c in out + errors:
            assert c in "\n" or ord(c) >= 0x20 and ord(c) != 0x7f, (which, c)
            if "--json" not in which:
                assert not 0x80 <= ord(c) < 0xa0 and c not in "\u202e\u2028", (which, c)


def test_what_is_not_there_or_makes_no_sense(things):
    redis = things.redis()
    client = redis.client()
    bury(client, {"topic": "t"})
    command = Command(things, redis)
    for action in ("show", "replay", "drop"):
        code, out, errors = command(action, "--id", "5-5")
        assert code == 1 and "there is no dead letter 5-5\n" in errors
        code, out, errors = command(action, "--id", "yesterday")
        assert (code, out) == (2, "") and "--id needs an id such as" in errors
        code, out, errors = command(action, "--site", "A b", "--id", "5-5")
        assert (code, out) == (2, "") and "--site needs the id of a site" in errors
    for action in ("replay", "drop"):
        code, out, errors = command(action)
        assert (code, out) == (2, "")
        assert "one of (--id ID | --reason REASON | --all) is missing" in errors
        assert command(action, "--all", "--reason", "bad-topic")[0] == 2
    assert client.xlen(DEAD) == 1


def test_one_id_in_two_sites(things):
    redis = things.redis()
    client = redis.client()
    for site in "ab":
        client.xadd(f"nemo:{{{site}}}:events", {"topic": "t", "payload": site}, id="5-5")
        client.xadd(f"nemo:{{{site}}}:dead", {**head(f"nemo:{{{site}}}:events", "5-5"), "topic": "t",
                                              "payload": site}, id="9-1")
    command = Command(things, redis)
    assert [o["site"] for o in command.objects("show", "--id", "9-1")] == ["a", "b"]
    for action in ("replay", "drop"):
        code, _out, errors = command(action, "--id", "9-1")
        assert code == 1 and "sites a and b both have a dead letter 9-1" in errors
    assert client.xlen("nemo:{a}:dead") == client.xlen("nemo:{b}:dead") == 1
    assert command.ok("replay", "--site", "b", "--id", "9-1").startswith("replayed 1,")
    assert (client.xlen("nemo:{a}:dead"), client.xlen("nemo:{b}:dead")) == (1, 0)


# ---- replay, with a gateway -----------------------------------------------------------------


def test_a_payload_that_was_too_large(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    large = client.xadd(STREAM, {"topic": "t", "payload": "x" * 2000, "key": "k", "qos": "1"})
    own = client.xadd(STREAM, {"topic": "t", "payload": "y" * 2000, "key": "k", "id": "my-own"})
    command = Command(things, redis, broker, delivery={"max_payload": "1000B", **KEPT})
    gateway = command.gateway.start()
    wait_until(lambda: client.xlen(DEAD) == 2, 10, "letters")
    gateway.terminate()
    gateway.write_config(gateway_config(redis, broker, delivery={"max_payload": "3000B", **KEPT}))
    gateway.start()
    letters = [key for key, _ in client.xrange(DEAD)]
    assert command.ok("replay", "--id", letters[0]) == "replayed 1, refused 0, failed 0\n"
    assert command.ok("replay", "--reason", "payload-too-large") == (
        "replayed 1, refused 0, failed 0\n")
    wait_until(lambda: len(broker.payloads("nemo/a/t")) == 2, 10, "both")
    assert broker.payloads("nemo/a/t") == [b"x" * 2000, b"y" * 2000]
    assert client.xlen(DEAD) == 0
    entries = [fields for _id, fields in client.xrange(STREAM)][-2:]
    assert entries[0] == {"topic": "t", "payload": "x" * 2000, "key": "k", "qos": "1",
                          "replayed_from": large, "id": large}
    assert entries[1] == {"topic": "t", "payload": "y" * 2000, "key": "k", "id": "my-own",
                          "replayed_from": own}
    ids = [m.user_properties["id"] for m in broker.accepted() if m.topic == "nemo/a/t"]
    assert ids == [large, "my-own"]  # by which subscribers drop duplicates


def test_an_entry_that_is_still_bad_comes_back(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    first = client.xadd(STREAM, {"topic": "tools/#", "payload": "x"})
    command = Command(things, redis, broker, delivery=KEPT)
    command.gateway.start()
    wait_until(lambda: client.xlen(DEAD) == 1, 10, "a letter")
    for _ in range(3):  # each run ends, although the letter is back meanwhile
        assert command.ok("replay", "--all") == "replayed 1, refused 0, failed 0\n"
        wait_until(lambda: client.xlen(DEAD) == 1, 10, "the letter again")
    (_id, letter), = client.xrange(DEAD)
    assert (letter["replayed_from"], letter["id"]) == (first, first)
    assert letter["dead_id"] == client.xrevrange(STREAM, count=1)[0][0]
    assert letter["dead_reason"] == "bad-topic"


@pytest.mark.limit(300)
def test_ten_thousand_arrive_in_their_order(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    count = 10_000
    ids = []
    for begin in range(0, count, 1000):
        with client.pipeline(transaction=False) as pipe:
            for n in range(begin, begin + 1000):
                pipe.xadd(STREAM, {"topic": "many", "payload": "x" * 200 + str(n), "key": "k"})
            ids += pipe.execute()
    command = Command(things, redis, broker, delivery={"max_payload": "100B", **KEPT})
    gateway = command.gateway.start()
    wait_until(lambda: client.xlen(DEAD) == count, 120 * PATIENCE, "letters")
    gateway.terminate()
    gateway.write_config(gateway_config(redis, broker, delivery=KEPT))
    gateway.start()
    code, out, errors = command("replay", "--all", timeout=120)
    assert (code, out, errors) == (0, "replayed 10,000, refused 0, failed 0\n", "")
    wait_until(lambda: len(broker.payloads("nemo/a/many")) >= count, 60 * PATIENCE, "all")
    assert broker.payloads("nemo/a/many") == [b"x" * 200 + b"%d" % n for n in range(count)]
    assert [f["replayed_from"] for _, f in client.xrange(STREAM, min=f"({ids[-1]}")] == ids
    assert client.xlen(DEAD) == 0


def test_a_stream_without_a_tag(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd("plain", {"topic": "t", "payload": "x" * 2000})
    changes = {"redis_changes": {"streams": ["plain"]},
               "route_changes": {"streams": "plain", "site": "lab"}}
    command = Command(things, redis, broker, delivery={"max_payload": "1000B"}, **changes)
    gateway = command.gateway.start()
    wait_until(lambda: client.xlen("nemo:{lab}:dead") == 1, 10, "a letter")
    gateway.terminate()
    gateway.write_config(gateway_config(redis, broker, **changes))
    gateway.start()
    assert command.ok("replay", "--site", "lab", "--all").startswith("replayed 1,")
    wait_until(lambda: broker.payloads("nemo/lab/t") == [b"x" * 2000], 10, "the message")


# ---- replay: what is refused ----------------------------------------------------------------

NEWER = "a newer entry of the topic exists"
MAYBE = ("entries were removed from its stream: a newer one of the topic may have been published")


def summary(replayed, refused=0, why=None):
    words = f" ({why}; --force replays {'it' if refused == 1 else 'them'})" if why else ""
    return f"replayed {replayed}, refused {refused}{words}, failed 0\n"


def test_a_retained_entry_with_a_newer_one(things):
    redis = things.redis()
    client = redis.client()
    old = {"topic": "state", "payload": "old", "retain": "1"}
    _entry, letter = entry_and_letter(client, old)
    entry_and_letter(client, {**old, "topic": "other"})
    newer = client.xadd(STREAM, {"topic": "state", "payload": "new", "retain": "1"})
    command = Command(things, redis)
    code, out, errors = command("replay", "--all")
    assert (code, out) == (1, summary(1, 1, NEWER))
    assert errors == f"refused {letter} of site a: {NEWER}\n"
    assert [key for key, _ in client.xrange(DEAD)] == [letter]
    length = client.xlen(STREAM)
    assert command("replay", "--id", letter, "--dry-run")[:2] == (
        1, summary(0, 1, NEWER).replace("replayed 0, refused", "would replay 0, would refuse"))
    assert (client.xlen(STREAM), client.xlen(DEAD)) == (length, 1)
    assert command.ok("replay", "--id", letter, "--force") == summary(1)
    assert client.xrevrange(STREAM, count=1)[0][1]["payload"] == "old"
    assert newer in [key for key, _ in client.xrange(STREAM)]


def test_absolute_topics_and_prefixes(things):
    redis = things.redis()
    client = redis.client()
    entry_and_letter(client, {"topic": "state", "payload": "old", "retain": "1"})
    client.xadd(STREAM, {"topic": "nemo/a/state", "payload": "new"})  # nemo/a/nemo/a/state
    client.xadd(STREAM, {"topic": "state", "abs": "1", "payload": "new"})
    command = Command(things, redis)
    assert command("replay", "--all", "--dry-run")[0] == 0
    client.xadd(STREAM, {"topic": "nemo/a/state", "abs": "1", "payload": "new"})
    assert command("replay", "--all", "--dry-run")[0] == 1


def test_what_is_not_retained_is_replayed_whatever_came_later(things):
    redis = things.redis()
    client = redis.client()
    entry_and_letter(client, {"topic": "t", "payload": "old"})
    client.xadd(STREAM, {"topic": "t", "payload": "new"})
    client.xtrim(STREAM, maxlen=0, approximate=False)
    assert Command(things, redis).ok("replay", "--all") == summary(1)


def test_a_replayed_entry_is_as_old_as_it_was(things):
    """Letters of one topic, by hand in the wrong order: the older one in the stream again is no
    reason to refuse the newer one."""
    redis = things.redis()
    client = redis.client()
    fields = {"topic": "state", "retain": "1"}
    _, first = entry_and_letter(client, {**fields, "payload": "1"})
    _, second = entry_and_letter(client, {**fields, "payload": "2"})
    command = Command(things, redis)
    assert command("replay", "--id", first)[0] == 1  # the second one's entry is newer
    assert command.ok("replay", "--id", first, "--force") == summary(1)
    assert command.ok("replay", "--id", second) == summary(1)
    _, again = entry_and_letter(client, client.xrevrange(STREAM, count=2)[1][1])
    assert command("replay", "--id", again)[0] == 1  # it became a letter again; 2 is newer


def test_a_stream_that_was_trimmed(things):
    redis = things.redis()
    client = redis.client()
    command = Command(things, redis)
    before = client.xadd(STREAM, {"topic": "before", "payload": "x"})
    entry, letter = entry_and_letter(client, {"topic": "t", "payload": "x", "retain": "1"})
    later = [client.xadd(STREAM, {"topic": "x", "payload": "x"}) for _ in range(3)]
    dry = ("replay", "--id", letter, "--dry-run")
    assert command(*dry)[0] == 0
    client.xtrim(STREAM, minid=entry, approximate=False)  # what is older than the letter does not matter
    assert client.xlen(STREAM) == 4 and command(*dry)[0] == 0
    client.xdel(STREAM, later[1])       # it could have been of this topic
    code, _out, errors = command(*dry)
    assert code == 1 and MAYBE in errors
    client.delete(STREAM)
    client.xadd(STREAM, {"topic": "x"}, id=before)
    client.xadd(STREAM, {"topic": "t", "payload": "x", "retain": "1"}, id=entry)
    client.xtrim(STREAM, maxlen=0, approximate=False)
    assert command(*dry)[0] == 0        # nothing was ever added after it
    client.xadd(STREAM, {"topic": "x"})
    code, _out, errors = command(*dry)
    assert code == 1 and MAYBE in errors  # the letter's own entry is gone, and others may be
    client.xadd(STREAM, {"topic": "t"})
    code, _out, errors = command(*dry)
    assert code == 1 and NEWER in errors
    assert command.ok("replay", "--id", letter, "--force") == summary(1)


@pytest.mark.parametrize("trim", ["acked", "none"])
def test_a_newer_one_that_a_gateway_has_published(things, trim):
    """Whether it still stands in the stream or was trimmed after its PUBACK."""
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, {"topic": "t", "payload": "x" * 2000, "retain": "1"})
    client.xadd(STREAM, {"topic": "t", "payload": "new", "retain": "1"})
    command = Command(things, redis, broker, delivery={"max_payload": "1000B", "trim": trim})
    command.gateway.start()
    wait_until(lambda: client.xlen(DEAD) == 1 and broker.payloads("nemo/a/t"), 10, "both settled")
    if trim == "acked":
        wait_until(lambda: client.xlen(STREAM) == 0, 20, "trimmed")
    code, _out, errors = command("replay", "--all")
    assert code == 1 and (NEWER if trim == "none" else MAYBE) in errors
    assert broker.retained["nemo/a/t"] == b"new" and client.xlen(DEAD) == 1


@pytest.mark.limit(200)
def test_newer_entries_that_come_meanwhile(things):
    """A producer writes while retained letters are replayed: whatever the moment, no letter is put
    behind an entry of its topic that is newer."""
    redis = things.redis()
    client = redis.client()
    count = 3000
    with client.pipeline(transaction=False) as pipe:
        for n in range(count):
            pipe.xadd(STREAM, {"topic": f"t/{n}", "payload": "old", "retain": "1"})
        ids = pipe.execute()
        for n, entry in enumerate(ids):
            pipe.xadd(DEAD, {**head(dead_id=entry), "topic": f"t/{n}", "payload": "old",
                             "retain": "1"})
        pipe.execute()
    stop = threading.Event()
    writer = redis.client()

    def write():
        n = count - 1
        while not stop.is_set() and n >= 0:  # towards the letters that are replayed
            with writer.pipeline(transaction=False) as pipe:
                for _ in range(5):
                    pipe.xadd(STREAM, {"topic": f"t/{n % count}", "payload": "new", "retain": "1"})
                    n -= 1
                pipe.execute()
            time.sleep(0.0005)
    thread = threading.Thread(target=write)
    process = Command(things, redis).start("replay", "--all", stdout=subprocess.PIPE,
                                           stderr=subprocess.DEVNULL, text=True)
    thread.start()
    out = process.communicate(timeout=120)[0]
    stop.set()
    thread.join(20)
    replayed, refused = (int(n.replace(",", "")) for n in
                         re.match(r"replayed ([\d,]+), refused ([\d,]+)", out).groups())
    assert replayed + refused == count and replayed > 0, out
    assert client.xlen(DEAD) == refused
    newest = {}
    for _key, fields in client.xrange(STREAM):
        if fields["payload"] == "new":
            newest[fields["topic"]] = True
        elif "replayed_from" in fields:
            assert fields["topic"] not in newest, fields


def test_a_long_stream_is_looked_through_without_blocking_redis(things):
    redis = things.redis()
    client = redis.client()
    _entry, letter = entry_and_letter(client, {"topic": "t", "payload": "x", "retain": "1"})
    for _ in range(10):
        with client.pipeline(transaction=False) as pipe:
            for n in range(5000):
                pipe.xadd(STREAM, {"topic": f"other/{n}", "payload": "y" * 50})
            pipe.execute()
    client.config_set("slowlog-log-slower-than", 200_000)
    client.slowlog_reset()
    command = Command(things, redis)
    assert command.ok("replay", "--id", letter) == summary(1)
    assert client.slowlog_get() == []
    _entry, letter = entry_and_letter(client, {"topic": "t2", "payload": "x", "retain": "1"})
    with client.pipeline(transaction=False) as pipe:
        for n in range(5000):
            pipe.xadd(STREAM, {"topic": f"other/{n}", "payload": "y"})
        pipe.xadd(STREAM, {"topic": "t2", "payload": "y"})
        pipe.execute()
    assert command("replay", "--id", letter)[:2] == (1, summary(0, 1, NEWER))


def test_a_stream_that_is_gone_or_of_another_type(things):
    redis = things.redis()
    client = redis.client()
    lost = bury(client, {"topic": "t", "payload": "x"})
    client.set("nemo:{a}:text", "not a stream")
    bury(client, {"topic": "t", "payload": "x"}, stream="nemo:{a}:text")
    client.xadd("nemo:{a}:more", {"topic": "t"})
    bury(client, {"topic": "t", "payload": "x"}, stream="nemo:{a}:more")
    command = Command(things, redis)
    code, out, _errors = command("replay", "--all")
    assert (code, out) == (1, "replayed 1, refused 1 (its stream does not exist any more; --force "
                           "replays it), failed 1 (its stream is now of another type)\n")
    assert client.exists(STREAM) == 0 and client.xlen(DEAD) == 2
    assert command.ok("replay", "--id", lost, "--force") == summary(1)
    assert client.xlen(STREAM) == 1 and client.xlen(DEAD) == 1


def test_letters_that_nobody_can_replay(things):
    redis = things.redis()
    client = redis.client()
    client.xadd(STREAM, {"topic": "t"})
    client.xadd(DEAD, {"topic": "t", "payload": "not a letter"})
    client.xadd(DEAD, {**head(dead_id="soon"), "topic": "t"})
    client.xadd(DEAD, {**head(stream=DEAD), "topic": "t"})
    client.xadd(DEAD, head())  # its entry was deleted before
    command = Command(things, redis)
    assert len(command.objects("list")) == 4
    for force in ([], ["--force"]):
        code, out, _errors = command("replay", "--all", *force)
        assert code == 1 and out.startswith("replayed 0, refused 0, failed 4 (1: its entry had been")
    assert (client.xlen(STREAM), client.xlen(DEAD)) == (1, 4)
    assert [o["result"] for o in command.objects("replay", "--all")] == ["failed"] * 4


def test_an_entry_of_very_many_fields(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    fields = {"topic": "t", "payload": "x" * 70_000, **{f"f{i}": "v" * (i % 40) for i in range(2500)}}
    entry = client.xadd(STREAM, fields)
    command = Command(things, redis, broker)
    command.gateway.start()
    wait_until(lambda: client.xlen(DEAD) == 1, 10, "a letter")
    command.gateway.terminate()
    (letter, packed), = redis.client(decode_responses=False).xrange(DEAD)
    assert b"dead_fields_msgpack" in packed
    found, = command.objects("show", "--id", letter.decode())
    assert {f["name"]: f["value"] for f in found["fields"]} == fields
    assert (found["topic"], found["payload_size"]) == ("t", 70_000)
    assert command.ok("replay", "--all") == summary(1)
    assert client.xrevrange(STREAM, count=1)[0][1] == {**fields, "replayed_from": entry, "id": entry}
    client.xadd(DEAD, {**head(), **{f"f{i}": "v" for i in range(5000)}})
    code, out, _errors = command("replay", "--all")
    assert code == 1 and "failed 1 (it has more than 3,950 fields" in out


def test_expiry_goes_on_counting(things):
    redis = things.redis()
    client = redis.client()
    client.xadd(STREAM, {"topic": "t"}, id="1-1")
    now = client.time()[0]
    for age, life in ((100, 60), (100, 1000), (0, 50)):
        bury(client, {"topic": "t", "payload": str(life), "exp": str(life)},
             dead_id=f"{(now - age) * 1000}-0")
    command = Command(things, redis)
    code, out, _errors = command("replay", "--all")
    assert (code, out) == (1, summary(2, 1, "its time (exp) is over"))
    left = {fields["payload"]: int(fields["exp"]) for _, fields in client.xrange(STREAM, "(1-1")}
    assert left.keys() == {"1000", "50"}
    assert 700 < left["1000"] <= 900 and 0 < left["50"] <= 50
    assert command.ok("replay", "--all", "--force") == summary(1)
    assert client.xrevrange(STREAM, count=1)[0][1]["exp"] == "60"


# ---- drop -----------------------------------------------------------------------------------


def test_drop(things):
    redis = things.redis()
    client = redis.client()
    for site in "ab":
        for reason in ("bad-topic", "no-topic", "bad-topic"):
            bury(client, {"topic": "t"}, stream=f"nemo:{{{site}}}:events",
                 dead=f"nemo:{{{site}}}:dead", reason=reason)
    command = Command(things, redis)
    assert command.ok("drop", "--all", "--dry-run") == "would drop 6 (4 bad-topic, 2 no-topic)\n"
    assert client.xlen(DEAD) == 3
    first = client.xrange(DEAD, count=1)[0][0]
    assert command.ok("drop", "--id", first, "--site", "a") == "dropped 1 (1 bad-topic)\n"
    assert command.ok("drop", "--reason", "bad-topic", "--site", "b") == "dropped 2 (2 bad-topic)\n"
    code, out, _errors = command("drop", "--all", "--json")
    assert (code, [json.loads(line) for line in out.splitlines()]) == (
        0, [{"site": "a", "dropped": 2}, {"site": "b", "dropped": 1}])
    assert command.ok("drop", "--all") == "dropped 0\n"
    with client.pipeline(transaction=False) as pipe:
        for n in range(3000):
            pipe.xadd(DEAD, {**head(reason=("x", "y")[n % 2]), "topic": "t"})
        pipe.execute()
    assert command.ok("drop", "--reason", "x") == "dropped 1,500 (1,500 x)\n"
    assert {f["dead_reason"] for _, f in client.xrange(DEAD)} == {"y"}


# ---- Redis, and what goes wrong -------------------------------------------------------------


def password_file(things, word):
    path = things.tmp / "password"
    path.write_text(word + "\n")
    path.chmod(0o600)
    return str(path)


def test_over_tls_with_a_password(things):
    redis = things.redis(tls=things.certs, password="secret")
    bury(redis.client(), {"topic": "t", "payload": "x"})
    redis.client().xadd(STREAM, {"topic": "t"})
    path = password_file(things, "secret")
    command = Command(things, redis, redis_changes={"password_file": path})
    assert len(command.objects("list")) == 1
    assert command.ok("replay", "--all") == summary(1)
    password_file(things, "wrong")
    code, out, errors = command("list")
    assert (code, out) == (1, "")
    assert f"Redis 127.0.0.1:{redis.port}: Redis refused AUTH" in errors and "wrong" not in errors


def as_user(things, redis, rules):
    client = redis.client()
    client.execute_command("ACL", "DELUSER", "clerk")
    client.execute_command("ACL", "SETUSER", "clerk", "on", ">word", *rules.split())
    return {"username": "clerk", "password_file": password_file(things, "word")}


def fill(client):
    client.flushall()
    client.xadd(STREAM, {"topic": "t"})
    for retain in "01":
        bury(client, {"topic": "t", "payload": "x", "retain": retain, "exp": "1000"},
             dead_id=f"{int(time.time() * 1000)}-0")


def test_the_rights_of_the_readme_are_enough_and_needed(things):
    redis = things.redis()
    client = redis.client()
    rights = rights_of_the_readme()
    fill(client)
    command = Command(things, redis, redis_changes=as_user(things, redis, rights))
    assert command.ok("list").endswith("2 dead letters: 2 bad-topic\n")
    assert command.ok("replay", "--all") == summary(2)
    fill(client)
    assert command.ok("drop", "--all").startswith("dropped 2 ")
    needed_by = {"+scan": "list", "+xrevrange": "list", "+xrange": "replay", "+xinfo|stream": "replay",
                 "+time": "replay", "+eval": "replay", "+xadd": "replay", "+xdel": "drop",
                 "~nemo:*:dead": "list", "~nemo:*:events": "replay"}
    for right, action in needed_by.items():
        fill(client)
        as_user(things, redis, " ".join(r for r in rights.split() if r != right))
        code, _out, errors = command(action, *(["--all"] if action != "list" else []))
        name = {"~nemo:*:dead": "~nemo:{a}:dead", "~nemo:*:events": f"~{STREAM}"}.get(right, right)
        if right == "~nemo:*:events":
            name = "~nemo:{a}:"
        assert code == 1 and name in errors and "'clerk'" in errors, (right, errors)
        assert client.xlen(DEAD) == 2 and client.xlen(STREAM) == 1, right


def test_a_key_that_is_no_stream(things):
    redis = things.redis()
    redis.client().set(DEAD, "text")
    command = Command(things, redis)
    assert command.ok("list") == "no dead letters\n"  # SCAN finds streams
    for arguments in (["list"], ["replay", "--all"], ["drop", "--all"], ["show", "--id", "1-1"]):
        code, _out, errors = command(*arguments, "--site", "a")
        assert code == 1 and f"{DEAD} is not a stream" in errors


def test_a_redis_that_is_not_there_or_says_nothing(things):
    command = Command(things, f"redis://127.0.0.1:{free_port()}/0")
    code, out, errors = command("list")
    assert (code, out) == (1, "") and "Connection refused" in errors
    assert errors.count("\n") == 1 and errors.startswith("nemogate: Redis 127.0.0.1:")
    redis = things.redis()
    command = Command(things, redis)
    redis.pause()
    code, out, errors = command("list", timeout=30)
    assert (code, out) == (1, "") and "no answer from Redis" in errors


def test_a_full_redis_keeps_the_letters(things):
    redis = things.redis()
    client = redis.client()
    fill(client)
    client.config_set("maxmemory", "1mb")
    code, out, errors = Command(things, redis)("replay", "--all", "--force")
    client.config_set("maxmemory", "0")
    assert code == 1 and "OOM" in errors and out.startswith("replayed 0, refused 0, failed 2 (Redis")
    assert (client.xlen(STREAM), client.xlen(DEAD)) == (1, 2)


def many_letters(redis, count):
    client = redis.client()
    client.xadd(STREAM, {"topic": "first"})
    for begin in range(0, count, 2000):
        with client.pipeline(transaction=False) as pipe:
            for n in range(begin, begin + 2000):
                pipe.xadd(DEAD, {**head(dead_id=f"1700000000000-{n}"), "topic": "t",
                                 "payload": str(n)})
            pipe.execute()
    return client


def replayed(client):
    return [fields["replayed_from"] for _, fields in client.xrange(STREAM)[1:]]


@pytest.mark.limit(300)
def test_a_redis_that_is_killed_meanwhile(things):
    """Each letter is moved in one step: whatever was cut off, a second run completes it."""
    redis = things.redis(appendonly=True)
    count = 20_000
    client = many_letters(redis, count)
    command = Command(things, redis)
    process = command.start("replay", "--all", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)
    wait_until(lambda: client.xlen(STREAM) > 500, 30 * PATIENCE, "some letters", interval=0.001)
    redis.kill()
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and ", not tried " in out, (out, errors)
    assert f"nemogate: Redis 127.0.0.1:{redis.port}: " in errors
    redis.start()
    before = replayed(client)
    assert client.xlen(DEAD) == count - len(before) > 0
    assert command("replay", "--all", timeout=120)[:2] == (0, summary(f"{count - len(before):,}"))
    assert replayed(client) == [f"1700000000000-{n}" for n in range(count)]


def test_ended_by_a_signal(things):
    redis = things.redis(appendonly=True)
    count = 20_000
    client = many_letters(redis, count)
    command = Command(things, redis)
    process = command.start("replay", "--all", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)
    wait_until(lambda: client.xlen(STREAM) > 500, 30 * PATIENCE, "some letters", interval=0.001)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    done = len(replayed(client))
    assert (process.returncode, errors) == (1, "")
    assert out == (f"replayed {done:,}, refused 0, failed 0, not tried {count - done:,}; "
                   "stopped by a signal\n")
    assert client.xlen(DEAD) == count - done


def test_progress_on_a_terminal(things):
    redis = things.redis(appendonly=True)
    client = many_letters(redis, 20_000)
    process, reader, master, text = on_terminal(Command(things, redis), "replay", "--all",
                                                errors=True)
    wait_until(lambda: client.xlen(STREAM) > 500, 30 * PATIENCE, "some letters", interval=0.001)
    redis.pause()
    wait_until(lambda: b"letters read so far: refused 0" in text, 10, "a line of progress")
    redis.resume()
    assert process.wait(60 * PATIENCE) == 0
    reader.join(10)
    os.close(master)
    assert re.search(rb"\r\x1b\[K[\d,]+ of 20,000 letters read so far", text)
    assert b"\n" not in text and text.endswith(b"\r\x1b[K")  # in place, and wiped


def test_two_at_a_time(things):
    """Two admins replay the same letters: each letter goes back once."""
    redis = things.redis()
    count = 4000
    client = many_letters(redis, count)
    command = Command(things, redis)
    both = [command.start("replay", "--all", stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted(replayed(client), key=lambda i: int(i.split("-")[1])) == [
        f"1700000000000-{n}" for n in range(count)]
    assert client.xlen(DEAD) == 0
