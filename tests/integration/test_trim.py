"""delivery.trim: what every consumer group has acknowledged leaves its stream, nothing else does, and
whatever is wrong with the trimming, the carrying goes on."""

import contextlib
import random
import threading
import time

import pytest
from harness import Producer, Verifier, gateway_config, produce, wait_until
from scale import COUNT, PATIENCE, is_settled, patience, pending

A, B = "nemo:{a}:events", "nemo:{b}:events"
STREAMS = [A, B, "nemo:{c}:events"]
ENTRY = {"topic": "t", "payload": "x"}
GONE = "an entry was deleted from the stream before it was published"
HELD_BACK = "a consumer group has not acknowledged"
REFUSED = "Redis refused to trim a stream"


def wait_length(client, stream, length, timeout=20.0):
    wait_until(lambda: client.xlen(stream) == length, timeout * PATIENCE,
               lambda: f"{length} entries in {stream}; it has {client.xlen(stream)}")


def calls(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


def wait_looks(client, more, timeout=30.0):
    """Until the stream has been looked at so many more times, each with at least one XTRIM."""
    end = calls(client, "xtrim") + 2 * more
    wait_until(lambda: calls(client, "xtrim") >= end, timeout * PATIENCE, "further looks")


def read(client, stream, count, group="audit"):
    """Ids that the group reads; they are pending then."""
    answer = client.xreadgroup(group, "consumer", {stream: ">"}, count=count)
    return [entry for entry, _ in answer[0][1]] if answer else []


def ids(client, stream):
    return [entry for entry, _ in client.xrange(stream)]


def test_streams_are_empty_when_all_has_been_carried(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = Producer(redis, STREAMS, keys=50).send(COUNT)
    gateway = things.gateway(gateway_config(redis, broker))
    with producer.background(rate=1000):
        time.sleep(3)
    Verifier(producer, broker).wait(patience(20, producer.total)).check(duplicates=0)
    for stream in STREAMS:
        wait_length(client, stream, 0)
    assert is_settled(redis, STREAMS)
    assert gateway.terminate() == 0
    assert gateway.log_count("", level="error") == gateway.log_count("", level="warning") == 0
    # An empty stream is still one: it is found again, and what comes is carried.
    gateway.start()
    producer.send(300)
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    for stream in STREAMS:
        wait_length(client, stream, 0)


def test_what_the_broker_has_not_acknowledged_stays(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks(after=120)
    producer = produce(redis, A, keys=10, count=500)
    things.gateway(gateway_config(redis, broker, slots=1, broker_changes={"status_topic": ""}))
    broker.wait_messages(500)
    wait_length(client, A, 380)
    assert pending(redis, A) == (380, 0)
    broker.stop()
    producer.send(100)
    time.sleep(3)
    assert client.xlen(A) == 480
    broker.start()
    broker.release_acks()
    wait_length(client, A, 0)
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=380)


@pytest.mark.limit(180)
def test_a_second_group_keeps_what_it_has_not_acknowledged(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    produce(redis, A, keys=10, count=400)
    client.xgroup_create(A, "audit", "0")
    all_ids = ids(client, A)
    gateway = things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [A]), 20 * PATIENCE, "settled")
    wait_looks(client, 2)
    assert ids(client, A) == all_ids
    first = read(client, A, 100)
    client.xack(A, "audit", *first[:50], *first[60:])
    wait_length(client, A, 350, 60)  # though nothing new has come
    assert ids(client, A) == all_ids[50:]
    client.xack(A, "audit", *first[50:60])
    wait_length(client, A, 300, 60)
    assert ids(client, A) == all_ids[100:]
    client.xack(A, "audit", *read(client, A, 300))
    wait_length(client, A, 0, 60)
    assert gateway.log_count(HELD_BACK) == 0


@pytest.mark.limit(180)
def test_a_stream_that_is_held_back_is_looked_at_ever_more_seldom(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = produce(redis, A, keys=10, count=50)
    client.xgroup_create(A, "audit", "0")
    things.gateway(gateway_config(redis, broker, slots=1))
    wait_until(lambda: is_settled(redis, [A]), 20 * PATIENCE, "settled")
    before = calls(client, "xtrim")
    with producer.background(rate=2000):  # every half a second as much as makes it due at once
        time.sleep(12)
    assert calls(client, "xtrim") - before <= 2 * 5
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    assert client.xlen(A) == producer.total


def test_trim_none_leaves_the_stream_alone(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    produce(redis, A, keys=10, count=3000)
    things.gateway(gateway_config(redis, broker, delivery={"trim": "none"}))
    wait_until(lambda: is_settled(redis, [A]), 20 * PATIENCE, "settled")
    time.sleep(4)
    assert client.xlen(A) == 3000
    assert calls(client, "xtrim") == 0


@pytest.mark.limit(180)
def test_a_long_leftover_goes_in_small_steps(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    left = COUNT * 10
    produce(redis, A, keys=10, count=left)
    client.xgroup_create(A, "nemogate", "$")
    client.config_set("slowlog-log-slower-than", "1000")
    client.slowlog_reset()
    things.gateway(gateway_config(redis, broker))
    wait_length(client, A, 0, 60)
    assert calls(client, "xtrim") >= left / 1000
    slow = [entry["duration"] for entry in client.slowlog_get(1000) if "XTRIM" in str(entry["command"])]
    print(f"scripts over 1 ms: {len(slow)}, longest {max(slow, default=0)} us")
    client.xadd(A, ENTRY)
    wait_until(lambda: broker.payloads("nemo/a/t") == [b"x"], 10 * PATIENCE, "carried")


def test_start_new_passes_over_the_past_and_removes_it(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    produce(redis, A, count=100)
    things.gateway(gateway_config(redis, broker, redis_changes={"start": "new"}))
    wait_length(client, A, 0)
    assert not [m for m in broker.messages if m.topic.startswith("nemo/")]


def test_ids_that_numbers_cannot_hold(things):
    """Milliseconds and sequences that differ only beyond 2^53 are told apart."""
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    big = "18446744073709551"
    all_ids = [f"9007199254740992-{big}610", f"9007199254740992-{big}611",
               f"9007199254740993-{big}614", f"9007199254740993-{big}615",
               f"9007199254740994-9007199254740992", f"9007199254740994-9007199254740993"]
    for entry in all_ids:
        client.xadd(A, ENTRY, id=entry)
    client.xgroup_create(A, "audit", "0")
    things.gateway(gateway_config(redis, broker))
    wait_until(lambda: is_settled(redis, [A]), 20 * PATIENCE, "settled")
    for done in range(6):
        [entry] = read(client, A, 1)
        wait_looks(client, 1, 60)
        assert ids(client, A) == all_ids[done:]
        client.xack(A, "audit", entry)


@pytest.mark.limit(120)
def test_a_group_that_holds_it_back_for_a_day_is_named_once(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    for n in range(1, 6):
        client.xadd(A, ENTRY, id=f"{n}000-0")
    client.xgroup_create(A, "forgotten", "0")
    read(client, A, 2, "forgotten")
    client.xgroup_create(A, "ahead", "3000-0")
    client.xadd(B, ENTRY)
    client.xgroup_create(B, "young", "0")  # behind, but by seconds
    gateway = things.gateway(gateway_config(redis, broker))
    line = gateway.wait_log(HELD_BACK, 20 * PATIENCE, level="warning")
    assert (line["stream"], line["group"], line["pending"], line["id"]) == (A, "forgotten", "2",
                                                                            "1000-0")
    assert int(line["age_hours"]) > 400_000
    assert "XGROUP DESTROY" in line["msg"]
    wait_looks(client, 2)
    assert gateway.log_count(HELD_BACK) == 1
    client.xgroup_destroy(A, "forgotten")
    wait_length(client, A, 2, 60)
    client.xgroup_destroy(A, "ahead")
    wait_length(client, A, 0, 60)


@contextlib.contextmanager
def slow_reader(redis, stream, group):
    """A consumer of another group that reads slowly and acknowledges late: it then looks again at
    what it has pending, as one that had crashed would. Gives the list of ids that were still there
    when it acknowledged them."""
    client, seen, stop = redis.client(), [], threading.Event()

    def acknowledge(count):
        [(_, entries)] = client.xreadgroup(group, "consumer", {stream: "0"}, count=count)
        seen.extend(entry for entry, fields in entries if fields)
        if entries:
            client.xack(stream, group, *(entry for entry, _ in entries))
        return len(entries)

    def run():
        held = 0
        while not stop.wait(0.05):
            held += len(read(client, stream, 60, group))
            if held > 500:
                held -= acknowledge(300)
        while read(client, stream, 1000, group) or acknowledge(1000):
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(60)


@pytest.mark.limit(300)
def test_kill_9_under_load_with_a_slow_second_group(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.05  # so that there is always much in flight
    client = redis.client()
    client.xgroup_create(A, "audit", "0", mkstream=True)
    producer = Producer(redis, [A, B], keys=40)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"lease_ttl": "1s"}))
    dice = random.Random(11)
    with slow_reader(redis, A, "audit") as seen:
        with producer.background(rate=3000):
            for _ in range(8):
                time.sleep(dice.uniform(0.5, 2.5))
                gateway.kill9()
                gateway.launch()
                gateway.wait_log("lease taken", timeout=10 * PATIENCE)
        Verifier(producer, broker).wait(patience(30, producer.total)).check()
    assert calls(client, "xtrim") > 10
    added = client.xinfo_stream(A)["entries-added"]
    assert len(seen) == len(set(seen)) == added, f"{len(set(seen))} of {added}"
    for stream in (A, B):
        wait_length(client, stream, 0, 60)
    assert gateway.log_count(GONE) == 0


@pytest.mark.limit(120)
def test_lost_links_do_not_end_the_trimming(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = Producer(redis, STREAMS, keys=20)
    gateway = things.gateway(gateway_config(redis, broker))
    with producer.background(rate=4000):
        for _ in range(15):
            time.sleep(0.3)
            for link in client.client_list():
                if link["name"].startswith("nemogate:"):
                    client.client_kill_filter(_id=link["id"])
    Verifier(producer, broker).wait(patience(20, producer.total)).check()
    for stream in STREAMS:
        wait_length(client, stream, 0)
    assert gateway.log_count(GONE) == 0


@pytest.mark.limit(120)
def test_a_user_without_xtrim_carries_and_is_told_what_to_grant(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.execute_command("ACL", "SETUSER", "gate", "on", ">word", "~*", "+@all", "-xtrim")
    (tmp_path / "secret").write_text("word\n")
    user = {"username": "gate", "password_file": str(tmp_path / "secret")}
    producer = Producer(redis, STREAMS, keys=20)
    gateway = things.gateway(gateway_config(redis, broker, redis_changes=user))
    with producer.background(rate=2000):
        line = gateway.wait_log(REFUSED, 20 * PATIENCE, level="warning")
        time.sleep(8)
    assert "can't run this command" in line["reply"] and "+xtrim" in line["grant"]
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    refusals = sum(int(entry["count"]) for entry in client.acl_log() if entry["object"] == "xtrim")
    assert 1 <= refusals <= 3 * 5, "it hammers"
    assert 1 <= gateway.log_count(REFUSED) <= 2  # one for each slot
    assert sum(client.xlen(stream) for stream in STREAMS) == producer.total
    client.execute_command("ACL", "SETUSER", "gate", "+xtrim")
    for stream in STREAMS:
        wait_length(client, stream, 0, 80)


def test_a_redis_out_of_memory_is_trimmed(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    things.gateway(gateway_config(redis, broker, slots=1))
    broker.hold_acks()
    producer = produce(redis, A, keys=10, count=3000, payload_size=500)
    broker.wait_messages(500)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    broker.release_acks()
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    wait_length(client, A, 0)


def test_dead_letters_stay(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    for n in range(300):
        client.xadd(A, {"topic": "#" if n % 3 == 0 else "t", "payload": n, "key": n % 7})
    things.gateway(gateway_config(redis, broker))
    wait_length(client, A, 0)
    wait_looks(client, 0)
    letters = client.xrange("nemo:{a}:dead")
    assert sorted(int(fields["payload"]) for _, fields in letters) == list(range(0, 300, 3))
    assert len(broker.payloads("nemo/a/t")) == 200


@pytest.mark.limit(120)
def test_a_stream_that_is_gone_or_replaced_is_no_trouble(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = produce(redis, STREAMS, count=300)
    gateway = things.gateway(gateway_config(redis, broker, slots=1))
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    client.delete(A)
    client.set(B, "a text")
    client.xadd(STREAMS[2], ENTRY)
    wait_length(client, STREAMS[2], 0)
    assert gateway.log_count(REFUSED) == 0
