"""The numbers that all instances of a group must agree on, and `nemogate slots`, which shows who has
what and changes them while no instance lives."""

import json
import time

import pytest
from harness import Producer, Verifier, gateway_config, produce, wait_until
from networks import ControlCut
from scale import PATIENCE, is_settled, owners, patience, pending

KEPT = "nemogate:{nemogate}:slots"
INSTANCES = "nemogate:{nemogate}:instances"


def end_of(gateway):
    """Exit code and log lines of a run that ends by itself."""
    gateway.launch()
    code = gateway.wait(20 * PATIENCE)
    return code, [line for line in gateway.log_lines(this_run=True) if line["level"] == "error"]


# ---- agreement ------------------------------------------------------------------------------


def test_the_first_one_decides_and_another_number_is_an_error(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    config = gateway_config(redis, broker, slots=4, broker_changes={"connections": 2})
    first = things.gateway(config)
    assert client.hgetall(KEPT) == {"slots": "4", "connections:main": "2"}
    produce(redis, "nemo:{a}:events", count=10)
    config = dict(config, instance="gateway-2", slots=6)
    config["brokers"] = [dict(config["brokers"][0], connections=3)]
    second = things.gateway(config, start=False)
    code, errors = end_of(second)
    assert code == 2
    assert [(e["key"], e["field"], e["kept"], e["configured"], e["command"]) for e in errors] == [
        (KEPT, "slots", "4", "6", "nemogate slots --set 6 --config FILE"),
        (KEPT, "connections:main", "2", "3", "nemogate slots --set 6 --config FILE")]
    assert client.hgetall(KEPT) == {"slots": "4", "connections:main": "2"}
    assert client.zcard(INSTANCES) == 1
    assert first.running and set(owners(client, 6).values()) == {"gateway-1"}


def test_a_broker_that_is_new_is_added(things):
    redis, broker = things.redis(), things.recording_broker()
    config = gateway_config(redis, broker)
    things.gateway(config)
    config["instance"] = "gateway-2"
    config["brokers"].append({"name": "other", "url": broker.url, "connections": 7,
                              "client_id_prefix": "other"})
    things.gateway(config)
    assert redis.client().hgetall(KEPT) == {"slots": "2", "connections:main": "1",
                                            "connections:other": "7"}


def test_a_number_changed_under_a_running_instance_ends_it(things):
    """It could share a stream with one that goes by the new number."""
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker))
    redis.client().hset(KEPT, "slots", 5)
    assert gateway.wait(20 * PATIENCE) == 2
    assert gateway.log_count("differs from what Redis keeps", field="slots", kept=5) == 1
    assert redis.client().zcard(INSTANCES) == 0


def test_numbers_that_redis_has_lost_are_kept_again(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker))
    tag = redis.client().get("nemogate:{nemogate}:id")
    redis.client().flushall()
    wait_until(lambda: redis.client().hgetall(KEPT) == {"slots": "2", "connections:main": "1"},
               10 * PATIENCE, "kept again")
    assert redis.client().get("nemogate:{nemogate}:id") == tag
    producer = produce(redis, "nemo:{a}:events", count=20)
    Verifier(producer, broker).wait(20 * PATIENCE).check()
    assert gateway.running


@pytest.mark.limit(60)
def test_one_that_was_away_while_the_number_changed_takes_no_lease(things):
    """It stands still, its time runs out, the number is changed; when it goes on, its slots' own links
    get no lease, although the control link, which would end it, is not back yet."""
    redis, broker = things.redis(), things.recording_broker()
    network = ControlCut(redis.port)
    config = gateway_config(network.url, broker, delivery={"lease_ttl": "1s"})
    gateway = things.gateway(config)
    gateway.pause()
    network.cut()
    gateway.write_config(gateway_config(redis, broker))
    wait_until(lambda: gateway.command("slots", "--set", "4").returncode == 0, 20 * PATIENCE,
               "the change")
    gateway.resume()
    gateway.wait_log("no connection to Redis", timeout=20 * PATIENCE, link="write")
    for _ in range(30):
        assert owners(redis.client(), 4) == {}
        time.sleep(0.1)
    assert gateway.running
    network.heal()
    assert gateway.wait(40 * PATIENCE) == 2
    assert owners(redis.client(), 4) == {}


# ---- the command ----------------------------------------------------------------------------


def test_the_table(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, slots=3))
    result = gateway.command("slots")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["COUNT", "KEPT", "CONFIGURED"]
    assert ["slots", "3", "3"] in lines and ["connections:main", "1", "1"] in lines
    holder = redis.client().hget("nemogate:{nemogate}:lease:0", "holder")
    assert [line for line in lines if line[:1] == [holder]][0][2:] == ["ms"]
    slots = lines[lines.index(["SLOT", "HOLDER", "LEASED", "FOR", "PREFERRED"]) + 1:]
    assert [(s[0], s[1], s[3], s[4]) for s in slots] == [
        (str(n), holder, "ms", holder) for n in range(3)]
    assert all(0 < int(s[2]) <= 2000 for s in slots)


def test_the_table_as_json(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, slots=3))
    assert gateway.terminate() == 0
    result = gateway.command("slots", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [
        {"count": "slots", "kept": "3", "configured": "3"},
        {"count": "connections:main", "kept": "1", "configured": "1"},
        *({"slot": n, "holder": "-", "leased_for_ms": 0, "preferred": "-"} for n in range(3))]


def test_the_table_of_a_redis_that_knows_nothing(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), start=False)
    result = gateway.command("slots")
    assert result.returncode == 0
    assert "nothing is kept yet" in result.stdout and "no instance lives" in result.stdout
    assert redis.client().keys("*") == []


def test_without_redis_it_fails(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), start=False)
    redis.stop()
    result = gateway.command("slots")
    assert result.returncode == 1
    assert f"nemogate: Redis 127.0.0.1:{redis.port}: " in result.stderr
    assert "refused" in result.stderr


def test_numbers_that_cannot_be(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), start=False)
    for number in ("0", "1025", "-1", "x", "99999999999999999999"):
        assert gateway.command("slots", "--set", number).returncode == 2, number
    assert redis.client().keys("*") == []


# ---- changing -------------------------------------------------------------------------------


def test_nothing_is_changed_while_an_instance_lives(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, delivery={"lease_ttl": "3s"}))
    holder = redis.client().hget("nemogate:{nemogate}:lease:0", "holder")
    result = gateway.command("slots", "--set", "4")
    assert result.returncode == 1
    assert f"instance {holder}, " in result.stderr
    assert f"slot 1 is leased to {holder} for " in result.stderr
    gateway.kill9()
    assert gateway.command("slots", "--set", "4").returncode == 1  # it may only stand still
    redis.client().delete(INSTANCES)
    result = gateway.command("slots", "--set", "4")
    assert result.returncode == 1 and "slot 0 is leased to" in result.stderr
    assert redis.client().hget(KEPT, "slots") == "2"
    wait_until(lambda: gateway.command("slots", "--set", "4").returncode == 0, 20 * PATIENCE,
               "the change", interval=0.1)
    assert redis.client().hget(KEPT, "slots") == "4"


def test_what_has_changed_is_said(things):
    redis, broker = things.redis(), things.recording_broker()
    config = gateway_config(redis, broker)
    gateway = things.gateway(config)
    assert gateway.terminate() == 0
    config["brokers"][0]["connections"] = 3
    gateway.write_config(config)
    result = gateway.command("slots", "--set", "2")
    assert (result.returncode, result.stdout) == (
        0, "slots: 2, as before\nconnections:main: 1 -> 3\n")
    result = gateway.command("slots", "--set", "8", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"count": "slots", "was": "2", "kept": "8"},
        {"count": "connections:main", "was": "3", "kept": "3"}]
    assert "the configuration has slots: 2; set it to 8" in result.stderr
    gateway.write_config(dict(config, slots=8))
    gateway.start()


@pytest.mark.limit(300)
@pytest.mark.parametrize("before,after", [(4, 2), (2, 5)])
def test_what_is_pending_moves_with_its_stream(things, before, after):
    redis, broker = things.redis(), things.recording_broker()
    streams = [f"nemo:{{s{i}}}:events" for i in range(12)]
    broker.hold_acks()
    config = gateway_config(redis, broker, slots=before, delivery={"lease_ttl": "1s"})
    gateway = things.gateway(config)
    producer = Producer(redis, streams, keys=5).send(1200)
    broker.wait_messages(1200, 20 * PATIENCE)
    gateway.kill9()
    consumers = {c["name"] for s in streams for c in redis.client().xinfo_consumers(s, "nemogate")
                 if c["pending"]}
    assert consumers == {f"slot-{n}" for n in range(before)}
    assert sum(pending(redis, s)[0] for s in streams) == 1200
    wait_until(lambda: gateway.command("slots", "--set", str(after)).returncode == 0,
               20 * PATIENCE, "the change", interval=0.1)
    producer.send(300)
    broker.release_acks()
    gateway.write_config(dict(config, slots=after))
    gateway.start(20 * PATIENCE)
    Verifier(producer, broker).wait(patience(30)).check()
    wait_until(lambda: is_settled(redis, streams), 20 * PATIENCE, "nothing pending and no lag")


@pytest.mark.limit(60)
def test_links_of_former_owners_are_closed_by_the_change(things):
    """With another number the owner of a stream is another, who knows nothing of the links on record
    for its former slot: a read that still hangs on one of them must not take in new entries."""
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, slots=2, delivery={"lease_ttl": "1s"}))
    produce(redis, "nemo:{a}:events", count=5)
    gateway.pause()
    client = redis.client()
    name = "nemogate:gateway-1:slot-"
    assert sum(link["name"].startswith(name) for link in client.client_list()) == 4
    wait_until(lambda: gateway.command("slots", "--set", "4").returncode == 0, 20 * PATIENCE,
               "the change", interval=0.1)
    assert sum(link["name"].startswith(name) for link in client.client_list()) == 0
