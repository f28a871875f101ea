"""`nemogate dead-letters replay`: back into the stream, but no older truth over a newer one."""

import re
import subprocess
import threading
import time

import pytest
from harness import gateway_config, wait_until
from letters import DEAD, KEPT, STREAM, Command, bury, entry_and_letter, head, summary
from scale import PATIENCE

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
