"""`nemogate dead-letters list`, `show` and `drop`: what lies in nemo:{site}:dead."""

import base64
import json
import os
import subprocess

from harness import wait_until
from letters import DEAD, STREAM, Command, bury, head, on_terminal

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
