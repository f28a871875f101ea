"""The hash nemo:{site}:gateway, which a site's NEMO page shows: what it says when all is well and
when something is wrong, that it ends with its gateway, and that nothing else suffers where it cannot
be written. What the page makes of it is tests/nemo_plugin/test_plugin_gateway.py."""

import signal
import subprocess
import time

import pytest
from harness import Producer, Verifier, free_port, gateway_config, wait_until
from harness.gateway import binary
from scale import PATIENCE, SANITIZED, is_settled, owners, pending

SITE_A, STREAM, DEAD = "nemo:{a}:gateway", "nemo:{a}:events", "nemo:{a}:dead"
ENTRY = {"topic": "t", "payload": "x"}
FIELDS = {"beat", "version", "instance", "state", "since", "broker", "tls", "pending", "lag",
          "dead_letters", "last_event", "last_error", "last_error_at", "settings_version",
          "settings_error", "group"}
CLOCK_MS = 100  # the gateway knows Redis' clock from the last answer about its lease
REFUSED = "Redis refused what a site's NEMO page shows"


def one_slot(redis, broker, **changes):
    return gateway_config(redis, broker, slots=1, shards=1, **changes)


def wait_beat(client, timeout=15.0, key=SITE_A, **fields):
    """The hash as soon as it has these values."""
    texts = {name: str(value) for name, value in fields.items()}

    def found():
        beat = client.hgetall(key)
        return beat if beat and texts.items() <= beat.items() else None
    return wait_until(found, timeout * PATIENCE,
                      lambda: f"{fields} in {key}: {client.hgetall(key)}", interval=0.02)


def now_ms(client):
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


# ---- what it says ---------------------------------------------------------------------------


def test_a_gateway_that_is_well(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    begun = now_ms(client)
    last = client.xadd(STREAM, ENTRY)
    gateway = things.gateway(one_slot(redis, broker))
    version = subprocess.run([binary(), "--version"], text=True, capture_output=True).stdout
    beat = wait_beat(client, state="connected", pending=0, lag=0, last_event=last.split("-")[0])
    assert set(beat) == FIELDS
    assert begun - CLOCK_MS <= int(beat["since"]) <= int(beat["beat"]) + CLOCK_MS
    assert int(beat["beat"]) <= now_ms(client)
    varies = {"beat", "since", "last_event", "pending", "lag"}
    known = {name: beat[name] for name in FIELDS - varies}
    assert known == {"version": version.split()[1], "instance": "gateway-1", "state": "connected",
                     "broker": broker.url, "tls": "", "dead_letters": "0", "last_error": "",
                     "last_error_at": "", "settings_version": "", "settings_error": "",
                     "group": "nemogate"}
    assert 50 < client.ttl(SITE_A) <= 60
    again = wait_until(lambda: client.hget(SITE_A, "beat") != beat["beat"] and
                       client.hgetall(SITE_A), 15 * PATIENCE, "the next beat")
    assert again["since"] == beat["since"]
    assert int(again["beat"]) - int(beat["beat"]) > 5000
    assert gateway.log_count("", level="warning") == gateway.log_count("", level="error") == 0


def test_tls_and_no_login_in_the_brokers_url(things):
    redis = things.redis()
    broker = things.mosquitto(tls=things.certs, password={"gate": "secret-word"})
    (things.tmp / "word").write_text("secret-word\n")
    redis.client().xadd(STREAM, ENTRY)
    things.gateway(one_slot(redis, broker, broker_changes={
        "username": "gate", "password_file": str(things.tmp / "word")}))
    beat = wait_beat(redis.client(), state="connected")
    assert beat["broker"] == broker.url and beat["broker"].startswith("mqtts://")
    assert beat["tls"].startswith("TLSv1.")
    assert "secret-word" not in str(beat) and "gate@" not in str(beat)


def test_a_broker_that_goes_and_comes_back(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    things.gateway(one_slot(redis, broker))
    first = wait_beat(client, state="connected")
    broker.stop()
    down = wait_beat(client, 3, state="disconnected")
    assert int(first["since"]) < int(down["since"]) <= int(down["beat"]) + CLOCK_MS
    assert down["last_error"] and int(down["last_error_at"]) >= int(down["since"]) - CLOCK_MS
    for _ in range(3):
        client.xadd(STREAM, ENTRY)
    wait_beat(client, 20, state="disconnected", pending=3, since=down["since"])
    broker.start()
    back = wait_beat(client, 40, state="connected", last_error="", last_error_at="")
    assert int(back["since"]) > int(down["since"])
    wait_beat(client, 20, pending=0)


def test_a_broker_that_was_never_there(things):
    redis, port = things.redis(), free_port()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    things.gateway(one_slot(redis, f"mqtt://127.0.0.1:{port}"), start=False).launch()
    beat = wait_beat(client, state="disconnected", broker=f"mqtt://127.0.0.1:{port}")
    assert "Connection refused" in beat["last_error"]


def test_a_broker_that_does_not_let_it_in(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.refuse_connect(0x87)
    redis.client().xadd(STREAM, ENTRY)
    things.gateway(one_slot(redis, broker), start=False).launch()
    assert "Not authorized" in wait_beat(redis.client(), state="disconnected")["last_error"]


def test_a_broker_that_does_not_answer_yet(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.stall()
    redis.client().xadd(STREAM, ENTRY)
    things.gateway(one_slot(redis, broker, broker_changes={"connect_timeout": "30s"}),
                   start=False).launch()
    beat = wait_beat(redis.client(), state="connecting")
    assert beat["last_error"] == beat["last_error_at"] == ""


def test_a_broker_that_refuses_everything(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.answer = lambda message: 0x97 if message.topic.startswith("nemo/") else 0
    things.gateway(one_slot(redis, broker), start=False).launch()
    Producer(redis, STREAM, keys=20).send(20)
    wait_until(lambda: "refuses most of what is published" in wait_beat(
        redis.client(), state="connected")["last_error"], 20 * PATIENCE, "the broker's refusal")
    broker.answer = None
    wait_beat(redis.client(), 60, state="connected", last_error="", pending=0)


def test_dead_letters_and_what_waits_are_counted(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    broker.hold_acks()
    for _ in range(2):
        client.xadd(STREAM, {"payload": "without a topic"})
    for n in range(700):  # more than a slot takes into memory
        last = client.xadd(STREAM, {"topic": f"t/{n}", "payload": "x"})
    things.gateway(one_slot(redis, broker, broker_changes={"inflight": 10, "status_topic": ""}))
    beat = wait_beat(client, 25, dead_letters=2)
    wait_until(lambda: pending(redis, STREAM)[1] > 0, 10 * PATIENCE, "a lag")
    count, lag = pending(redis, STREAM)
    beat = wait_beat(client, 25, pending=count, lag=lag, dead_letters=2)
    assert int(beat["pending"]) + int(beat["lag"]) == 700 and int(beat["lag"]) > 0
    broker.release_acks()
    wait_beat(client, 40, pending=0, lag=0, last_event=last.split("-")[0])


def test_what_was_applied_of_the_settings_is_copied(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    client.hset(f"{SITE_A}:applied", mapping={"version": 7, "broker_url": broker.url})
    things.gateway(one_slot(redis, broker, route_changes={"settings": "from-site"}))
    wait_beat(client, state="connected", settings_version=7, settings_error="")
    client.hset(f"{SITE_A}:applied", mapping={"error": "no such secret", "error_version": 8})
    wait_beat(client, 25, settings_version=7, settings_error="no such secret")
    client.hset(f"{SITE_A}:applied", mapping={"version": 9, "error": ""})
    wait_beat(client, 25, settings_version=9, settings_error="")


def test_which_streams_have_one(things):
    """The site's own stream; not those without a site, nor a second stream of the site, whose
    counts would take turns with the first one's."""
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    config = gateway_config(redis, broker, slots=4, redis_changes={
        "streams": ["nemo:*:events", "nemo:{a}:more", "machines"]})
    config["routes"] += [{"streams": "nemo:{a}:more", "broker": "main"},
                         {"streams": "machines", "broker": "main", "site": "works",
                          "topic_prefix": "works/"}]
    for stream in (STREAM, "nemo:{b}:events", "nemo:{a}:more", "machines"):
        client.xadd(stream, ENTRY)
    client.xadd("nemo:{a}:more", {"payload": "without a topic"})
    things.gateway(config)
    own = client.xinfo_stream(STREAM)["last-generated-id"].split("-")[0]
    for _ in range(2):
        wait_beat(client, key="nemo:{b}:gateway", state="connected")
        wait_beat(client, state="connected", last_event=own)
        time.sleep(1)
    wait_beat(client, dead_letters="1")  # perhaps only the next one has it
    assert sorted(client.keys("*gateway")) == [SITE_A, "nemo:{b}:gateway"]


# ---- its end --------------------------------------------------------------------------------


def test_it_ends_with_a_gateway_that_was_killed(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    gateway = things.gateway(one_slot(redis, broker))
    wait_beat(client, state="connected")
    gateway.kill9()
    left, begun = client.pttl(SITE_A), now_ms(client)
    assert 0 < left <= 60_000
    time.sleep(11)  # it would have been written again
    passed = now_ms(client) - begun
    assert client.pttl(SITE_A) <= left - passed + 1


def test_a_stop_says_that_it_drains(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    gateway = things.gateway(one_slot(redis, broker))
    wait_beat(client, state="connected")
    broker.hold_acks()
    client.xadd(STREAM, ENTRY)
    wait_until(lambda: broker.payloads("nemo/a/t").count(b"x") == 2, 10 * PATIENCE, "both")
    gateway.signal(signal.SIGTERM)
    drains = wait_beat(client, 3, state="draining", pending=1)
    assert drains["last_error"] == ""
    broker.release_acks()
    assert gateway.wait(10 * PATIENCE) == 0
    assert client.hget(SITE_A, "state") == "draining"
    assert 40 < client.ttl(SITE_A) <= 60


def test_a_lost_link_to_redis_ends_it_only_for_a_while(things):
    redis, broker = things.redis(appendonly=True), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    things.gateway(one_slot(redis, broker))
    wait_beat(client, state="connected")
    redis.kill()
    redis.start()
    client.delete(SITE_A)
    wait_beat(client, 30, state="connected")


# ---- several instances ----------------------------------------------------------------------

SNAPSHOT = """
local lease = redis.call('HMGET', KEYS[1], 'holder', 'term')
return {lease[1] or '', lease[2] or '', redis.call('HGET', KEYS[2], 'instance') or ''}
"""


@pytest.mark.limit(180)
def test_a_former_owner_never_overwrites_the_new_one(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    config = one_slot(redis, broker, delivery={"lease_ttl": "1s"})
    first = things.gateway(config)
    wait_beat(client, instance="gateway-1", state="connected")
    second = things.gateway(dict(config, instance="gateway-2"), start=False).launch()
    first.pause()
    second.wait_log("lease taken", 20 * PATIENCE)
    wait_beat(client, instance="gateway-2", state="connected")
    first.resume()
    before, end = None, time.monotonic() + 5
    while time.monotonic() < end:  # both at once: who has the lease, and who wrote the hash
        now = client.eval(SNAPSHOT, 2, "nemogate:{nemogate}:lease:0", SITE_A)
        if before and now[:2] == before[:2] and before[2] in before[0]:
            assert now[2] == before[2]
        before = now
        time.sleep(0.005)


@pytest.mark.limit(180)
def test_a_hand_over(things):
    """Each slot's hash names its owner, also when all of them move, and is never away."""
    sites = [f"s{i}" for i in range(12)]
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    for site in sites:
        client.xadd(f"nemo:{{{site}}}:events", ENTRY)
    config = gateway_config(redis, broker, slots=12)
    first = things.gateway(config)
    for site in sites:
        wait_beat(client, key=f"nemo:{{{site}}}:gateway", instance="gateway-1", state="connected")
    second = things.gateway(dict(config, instance="gateway-2"), start=False).launch()
    wait_until(lambda: len(set(owners(client, 12).values())) == 2, 30 * PATIENCE, "shared slots")
    producer = Producer(redis, [f"nemo:{{{site}}}:events" for site in sites], keys=3)
    with producer.background(rate=200):
        first.signal(signal.SIGTERM)
        wait_until(lambda: set(owners(client, 12).values()) == {"gateway-2"}, 30 * PATIENCE,
                   "all slots with the second")
        for site in sites:
            wait_beat(client, key=f"nemo:{{{site}}}:gateway", instance="gateway-2",
                      state="connected")
    Verifier(producer, broker, ignore=lambda t: not t.startswith("nemo/") or t.endswith("/t")).wait(
        20 * PATIENCE).check(duplicates=0)
    assert second.terminate(20 * PATIENCE) == 0
    states = {client.hget(f"nemo:{{{site}}}:gateway", "state") for site in sites}
    assert states == {"draining"}


def test_two_groups_do_not_take_turns(things):
    redis, broker, mirror = things.redis(), things.recording_broker(), things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    first = things.gateway(one_slot(redis, broker))
    wait_beat(client, state="connected", broker=broker.url)
    second = things.gateway(one_slot(redis, mirror, instance="mirror",
                                     redis_changes={"group": "mirror"}))
    second.wait_log("a gateway of another group carries this site, too")
    assert client.hget(SITE_A, "broker") == broker.url
    first.kill9()
    client.expire(SITE_A, 1)
    wait_beat(client, 25, broker=mirror.url, instance="mirror", group="mirror")


# ---- where it cannot be written -------------------------------------------------------------


def with_user(things, redis, rules):
    redis.client().execute_command("ACL", "SETUSER", "gate", "reset", "on", ">word", *rules.split())
    secret = things.tmp / "secret"
    secret.write_text("word\n")
    return {"username": "gate", "password_file": str(secret)}


@pytest.mark.parametrize("rules", [
    "+@all ~nemo:*:events ~nemo:*:dead ~nemo:*:tries ~nemogate:*", "~* +@all -xlen",
    "~* +@all -xinfo"])
def test_a_user_without_the_rights(things, rules):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    producer = Producer(redis, [STREAM, "nemo:{b}:events"], keys=5).send(200)
    config = one_slot(redis, broker, redis_changes=with_user(things, redis, rules),
                      delivery={"trim": "none"})
    gateway = things.gateway(config)
    line = gateway.wait_log(REFUSED)
    assert line["level"] == "warning" and "~nemo:*:gateway*" in line["grant"]
    assert "ermissions" in line["reply"] or "can't run this command" in line["reply"]
    before = len(client.acl_log())
    broker.stop()
    broker.start()  # a change of state
    producer.send(200)
    Verifier(producer, broker).wait(20 * PATIENCE).check()
    wait_until(lambda: is_settled(redis, producer.streams), 20 * PATIENCE, "settled")
    assert gateway.log_count(REFUSED) == 1
    assert len(client.acl_log()) == before and not client.exists(SITE_A)
    assert gateway.terminate() == 0
    client.execute_command("ACL", "SETUSER", "gate", "~*", "+@all")
    gateway.start()
    wait_beat(client, state="connected")
    assert gateway.log_count(REFUSED) == 1


def test_a_key_of_another_type_is_left_alone(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    client.set(SITE_A, "mine")
    producer = Producer(redis, [STREAM, "nemo:{b}:events"], keys=5).send(50)
    gateway = things.gateway(one_slot(redis, broker))
    assert "WRONGTYPE" in gateway.wait_log(REFUSED)["reply"]
    wait_beat(client, key="nemo:{b}:gateway", state="connected")
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    assert client.get(SITE_A) == "mine"


def test_a_redis_without_memory_still_says_how_the_gateway_is(things):
    redis = things.redis(args=["--maxmemory-policy", "noeviction"])
    broker = things.recording_broker()
    client = redis.client()
    client.xadd(STREAM, ENTRY)
    gateway = things.gateway(one_slot(redis, broker))
    wait_beat(client, state="connected")
    client.config_set("maxmemory", 1)
    broker.stop()
    wait_beat(client, 5, state="disconnected")
    broker.start()
    wait_beat(client, 40, state="connected")
    assert gateway.log_count(REFUSED) == 0


# ---- many -----------------------------------------------------------------------------------


def evals(client):
    return client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]


@pytest.mark.limit(150)
def test_thousands_of_sites_are_told_at_a_bounded_pace(things):
    count = 200 if SANITIZED else 1500
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    pipe = client.pipeline(transaction=False)
    for i in range(count):
        pipe.xgroup_create(f"nemo:{{s{i}}}:events", "nemogate", "0", mkstream=True)
    pipe.execute()
    gateway = things.gateway(one_slot(redis, broker, log={"level": "info"}))

    def told(state):
        pipe = client.pipeline(transaction=False)
        for i in range(count):
            pipe.hget(f"nemo:{{s{i}}}:gateway", "state")
        return pipe.execute().count(state)
    wait_until(lambda: told("connected") == count, 60 * PATIENCE, "all of them", interval=0.2)
    if count > 400:  # the period is longer than 10 s, and so is its life
        client.persist("nemo:{s7}:gateway")
        wait_until(lambda: client.ttl("nemo:{s7}:gateway") > 60, 60 * PATIENCE, "a longer life")
    else:
        time.sleep(count / 100 + 1)  # a round of beats that do not wait may be under way
    before, begun = evals(client), time.monotonic()
    time.sleep(5)
    rate = (evals(client) - before) / (time.monotonic() - begun)
    assert rate < 1000 / 25 + 10  # and the lease's
    broker.stop()
    before, begun = evals(client), time.monotonic()
    wait_until(lambda: told("disconnected") == count, 60 * PATIENCE, "all of them", interval=0.2)
    assert (evals(client) - before - 60) / (time.monotonic() - begun) < 110
    begun = time.monotonic()
    assert gateway.terminate() == 0
    assert time.monotonic() - begun < 5 * PATIENCE
    assert told("draining") > count / 2
