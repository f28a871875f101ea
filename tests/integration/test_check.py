"""`nemogate check --connect`: what it says of Redis and of the brokers, and that it changes nothing."""

import pytest
from harness import free_port, gateway_config, wait_until

STREAM = "nemo:{a}:events"
ENTRY = {"topic": "t", "payload": "x"}


def check(things, config):
    """(exit code, lines) of `check --connect`."""
    gateway = things.gateway(config, start=False)
    done = gateway.command("check", "--connect", timeout=60)
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        assert line[:9] in ("ok       ", "warning  ", "FAILED   "), line
    return done.returncode, done.stdout.splitlines()


def with_password(things, word):
    path = things.tmp / "password"
    path.write_text(word + "\n")
    path.chmod(0o600)
    return str(path)


def with_user(things, redis, rules, **redis_changes):
    """Changes of the redis section that log in as a user with these rules."""
    redis.client().execute_command("ACL", "SETUSER", "gate", "on", ">word", *rules.split())
    return {"username": "gate", "password_file": with_password(things, "word"), **redis_changes}


def said(lines, verdict, *texts):
    """The one line with this verdict that holds all texts."""
    found = [line for line in lines if line.startswith(verdict) and all(t in line for t in texts)]
    assert len(found) == 1, "\n".join([f"{len(found)} lines have {verdict} {texts}:", *lines])
    return found[0]


def failed(lines):
    return [line for line in lines if line.startswith("FAILED")]


def dump(redis):
    client = redis.client(decode_responses=False)
    return {key: (client.dump(key), client.pttl(key),
                  client.execute_command("XINFO", "STREAM", key, "FULL"))
            for key in client.keys("*")}


# ---- Redis ----------------------------------------------------------------------------------


def test_all_is_well(things):
    redis, broker = things.redis(), things.mosquitto(max_inflight=20)
    redis.client().xadd(STREAM, ENTRY)
    code, lines = check(things, gateway_config(redis, broker))
    assert lines == [
        f"ok       Redis 127.0.0.1:{redis.port}: connected (standalone, Redis "
        f"{redis.client().info()['redis_version']})",
        f"ok       Redis 127.0.0.1:{redis.port}: the user 'default' may do all that nemogate does",
        "ok       streams: 1 matches nemo:*:events; the group nemogate exists in 0 of them; a start "
        "will send 1 entry (0 of them are pending)",
        f"ok       broker main ({broker.url}): connected; window 20 (Receive Maximum), Maximum "
        "Packet Size none"]
    assert code == 0


def test_over_tls(things):
    redis, broker = things.redis(tls=things.certs), things.mosquitto(tls=things.certs)
    code, lines = check(things, gateway_config(redis, broker))
    said(lines, "ok", f"broker main (mqtts://127.0.0.1:{broker.port}): connected with TLSv1.")
    said(lines, "ok", f"Redis 127.0.0.1:{redis.port}: connected (standalone")
    said(lines, "warning", "streams: none matches nemo:*:events yet")
    assert code == 0


def test_how_many_entries_a_start_will_send(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    for name, count in (("a", 1000), ("b", 200), ("c", 40)):
        pipe = client.pipeline()
        for _ in range(count):
            pipe.xadd(f"nemo:{{{name}}}:events", ENTRY)
        pipe.execute()
    client.xgroup_create("nemo:{b}:events", "nemogate", "0")
    client.xgroup_create("nemo:{c}:events", "nemogate", "$")
    client.xgroup_create("nemo:{c}:events", "another", "0")
    client.xreadgroup("nemogate", "slot-0", {"nemo:{b}:events": ">"}, count=70)
    read = client.xreadgroup("nemogate", "slot-0", {"nemo:{b}:events": ">"}, count=30)
    client.xack("nemo:{b}:events", "nemogate", *[entry for entry, _ in read[0][1]])
    config = gateway_config(redis, broker)
    said(check(things, config)[1], "ok", "streams: 3 match nemo:*:events; the group nemogate exists "
         "in 2 of them; a start will send 1,170 entries (70 of them are pending)")
    config["redis"]["start"] = "new"
    said(check(things, config)[1], "ok", "a start will send 170 entries (70 of them are pending)")
    client.xdel("nemo:{b}:events", client.xrange("nemo:{b}:events", min="-", count=150)[-1][0])
    assert [g["lag"] for g in client.xinfo_groups("nemo:{b}:events")] == [None]
    said(check(things, config)[1], "ok", "a start will send at least 70 entries (70 of them")


def test_what_was_said_is_what_a_start_sends(things):
    redis, broker = things.redis(), things.recording_broker()
    for n in range(300):
        redis.client().xadd(f"nemo:{{{'ab'[n % 2]}}}:events", ENTRY)
    config = gateway_config(redis, broker)
    said(check(things, config)[1], "ok", "a start will send 300 entries")
    gateway = things.gateway(config)
    broker.wait_messages(300)
    gateway.terminate()
    assert len([m for m in broker.messages if m.topic.startswith("nemo/")]) == 300
    said(check(things, config)[1], "ok", "exists in 2 of them; a start will send 0 entries")


def test_more_streams_than_one_page(things):
    redis, broker = things.redis(), things.recording_broker()
    pipe = redis.client().pipeline()
    for n in range(3000):
        pipe.xadd(f"nemo:{{site-{n}}}:events", ENTRY)
        pipe.set(f"other:{n}", "x")
    pipe.execute()
    config = gateway_config(redis, broker, redis_changes={"streams": ["nemo:*:events", "nemo:*"]})
    said(check(things, config)[1], "ok", "streams: 3,000 match nemo:*:events, nemo:*; ",
         "a start will send 3,000 entries")


def test_streams_that_nobody_reads(things):
    redis, broker = things.redis(), things.recording_broker()
    for name in ("nemo:{a}:events", "nemo:{a}:tasks", "nemo:b:events", "nemo:{c}:evil\x1b[2J"):
        redis.client().xadd(name, ENTRY)
    config = gateway_config(redis, broker, redis_changes={"streams": ["nemo:*", "named"]})
    config["routes"].append({"streams": "named", "broker": "main", "site": "x"})
    code, lines = check(things, config)
    said(lines, "warning", "stream nemo:{a}:tasks matches no route and will not be read")
    said(lines, "warning", "stream nemo:b:events has no site")
    said(lines, "warning", "stream nemo:{c}:evil?[2J matches no route")
    said(lines, "ok", "streams: 2 match nemo:*, named (1 will be made); ", "will send 1 entry")
    assert code == 0


def test_a_key_that_is_no_stream(things):
    redis, broker = things.redis(), things.recording_broker()
    redis.client().set(STREAM, "x")
    code, lines = check(things, gateway_config(redis, broker, redis_changes={"streams": [STREAM]}))
    said(lines, "FAILED", f"stream {STREAM} cannot be read: WRONGTYPE")
    assert code == 1


def test_a_wrong_password(things):
    redis, broker = things.redis(password="right"), things.recording_broker()
    path = with_password(things, "wrong")
    code, lines = check(things, gateway_config(redis, broker,
                                               redis_changes={"password_file": path}))
    said(lines, "FAILED", f"Redis 127.0.0.1:{redis.port}: Redis refused AUTH: WRONGPASS")
    said(lines, "ok", "broker main")
    assert code == 1
    code, lines = check(things, gateway_config(redis, broker))
    said(lines, "FAILED", "Redis asks for a password, none is set")


def test_no_client_kill(things):
    redis, broker = things.redis(), things.recording_broker()
    user = with_user(things, redis, "~* +@all -client|kill")
    code, lines = check(things, gateway_config(redis, broker, redis_changes=user))
    said(lines, "warning", f"Redis 127.0.0.1:{redis.port}: the user 'gate' may not run CLIENT KILL, "
         "which closes the links of former owners (without it a slot waits 2 s whenever it begins): "
         "give it +client|kill")
    assert (code, failed(lines)) == (0, [])


NEEDED = ("client|id client|kill client|unblock client|setname time get set eval hget hmget hkeys "
          "hset hdel zadd zrangebyscore zremrangebyscore zrem xgroup|create xpending xautoclaim "
          "xreadgroup xack xrange xadd xlen hincrby expire xinfo|groups "
          "xtrim").split()
DISPENSABLE = ["client|kill", "client|setname", "xlen", "hincrby", "expire", "xinfo|groups", "xtrim"]
REST = "select info ping scan"
KEYS = "~nemo:*:events ~nemo:*:dead ~nemo:*:tries ~nemo:*:gateway* ~nemogate:{nemogate}:*"


def rules(commands):
    return " ".join([KEYS, *("+" + command for command in [*commands, *REST.split()])])


def test_the_rights_it_names_are_enough(things):
    """A user with exactly these rights passes, and is enough for the gateway, dead letters and a
    takeover included."""
    redis, broker = things.redis(), things.recording_broker()
    redis.client().xadd(STREAM, {"payload": "without a topic"})
    redis.client().xadd(STREAM, ENTRY)
    config = gateway_config(redis, broker,
                            redis_changes=with_user(things, redis, rules(NEEDED)))
    code, lines = check(things, config)
    assert (code, failed(lines)) == (0, [])
    said(lines, "ok", "the user 'gate' may do all that nemogate does")
    gateway = things.gateway(config)
    broker.wait_messages(1)
    gateway.kill9()
    redis.client().xadd(STREAM, ENTRY)
    gateway.start()
    broker.wait_messages(2)
    wait_until(lambda: redis.client().xlen(STREAM) == 0, 20, "trimmed")
    wait_until(lambda: redis.client().hget("nemo:{a}:gateway", "dead_letters") == "1", 20, "a beat")
    assert gateway.terminate() == 0
    assert redis.client().xlen("nemo:{a}:dead") == 1
    assert redis.client().acl_log() == []
    assert gateway.log_count("NOPERM") == 0


@pytest.mark.parametrize("command", [c for c in NEEDED if c != "client|id"])
def test_each_missing_right_is_named(things, command):
    redis, broker = things.redis(), things.recording_broker()
    without = [c for c in NEEDED if c != command]
    _, lines = check(things, gateway_config(
        redis, broker, redis_changes=with_user(things, redis, rules(without))))
    verdict = "warning" if command in DISPENSABLE else "FAILED"
    name = command.upper().replace("|", " ")
    said(lines, verdict, f"the user 'gate' may not run {name}, which ", f": give it +{command}")
    assert len(failed(lines)) == (verdict == "FAILED")


def test_keys_that_are_out_of_reach(things):
    redis, broker = things.redis(), things.recording_broker()
    user = with_user(things, redis, "~nemo:*:events +@all")
    redis.client().xadd(STREAM, ENTRY)
    code, lines = check(things, gateway_config(redis, broker, redis_changes=user))
    assert len(failed(lines)) == 3
    said(lines, "FAILED", "may not touch the key nemo:{a}:tries with HINCRBY", "~nemo:*:tries")
    said(lines, "FAILED", "may not touch the key nemogate:{nemogate}:id with GET",
         "give it ~nemogate:{nemogate}:*")
    said(lines, "FAILED", "may not touch the key nemo:{a}:dead with XADD", "give it ~nemo:*:dead")
    said(lines, "warning", "may not touch the key nemo:{a}:gateway with HSET, which tells the site's "
         "NEMO page how the gateway is", "give it ~nemo:*:gateway*")
    assert code == 1
    user = with_user(things, redis, "resetkeys ~nemo:*:dead ~nemo:*:tries ~nemogate:* +@all")
    _, lines = check(things, gateway_config(redis, broker, redis_changes=user))
    assert len(failed(lines)) == 1
    said(lines, "FAILED", f"may not touch the key {STREAM} with", "give it ~nemo:*:events")
    said(lines, "warning", "the user 'gate' may not run XINFO GROUPS", "is not known")


def test_no_scan_and_no_info(things):
    redis, broker = things.redis(), things.recording_broker()
    user = with_user(things, redis, "~* +@all -scan -info")
    code, lines = check(things, gateway_config(redis, broker, redis_changes=user))
    said(lines, "FAILED", "may not run SCAN", "give it +scan")
    said(lines, "warning", "may not run INFO", "give it +info")
    assert code == 1


def test_a_cluster(things):
    # The port of the cluster's bus is the port + 10000 by default, which need not be a port.
    cluster = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    redis, broker = things.redis(args=cluster), things.recording_broker()
    code, lines = check(things, gateway_config(redis, broker))
    said(lines, "FAILED", "it runs in cluster mode, which is not supported")
    assert code == 1


def test_a_replica_that_takes_no_writes(things):
    redis, broker = things.redis(), things.recording_broker()
    redis.client().execute_command("REPLICAOF", "127.0.0.1", free_port())
    code, lines = check(things, gateway_config(redis, broker))
    said(lines, "FAILED", "refuses to be written to: READONLY")
    assert code == 1


def test_no_redis(things):
    broker = things.recording_broker()
    port = free_port()
    code, lines = check(things, gateway_config(f"redis://127.0.0.1:{port}/0", broker))
    said(lines, "FAILED", f"Redis 127.0.0.1:{port}: ", "Connection refused")
    said(lines, "ok", "broker main")
    assert code == 1


def test_a_redis_that_does_not_answer(things):
    redis, broker = things.redis(), things.recording_broker()
    redis.pause()
    code, lines = check(things, gateway_config(redis, broker))
    said(lines, "FAILED", "no answer from Redis within 5000 ms")
    assert code == 1


def test_a_command_that_has_been_renamed(things):
    redis = things.redis(args=["--rename-command", "XAUTOCLAIM", "secret"])
    code, lines = check(things, gateway_config(redis, things.recording_broker()))
    said(lines, "FAILED", "the server does not know XAUTOCLAIM")
    assert code == 1


# ---- brokers --------------------------------------------------------------------------------


def test_a_broker_that_refuses(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.refuse_connect(0x87)
    code, lines = check(things, gateway_config(redis, broker))
    said(lines, "FAILED", f"broker main ({broker.url}): the broker refused the connection: Not "
         "authorized (0x87)")
    assert code == 1
    assert broker.refused_connects == 1


def test_a_wrong_password_for_mosquitto(things):
    redis, broker = things.redis(), things.mosquitto(password={"gate": "right"})
    changes = {"username": "gate", "password_file": with_password(things, "wrong")}
    code, lines = check(things, gateway_config(redis, broker, broker_changes=changes))
    said(lines, "FAILED", "broker main", "the broker refused the connection: Not authorized (0x87)")
    assert code == 1
    changes["password_file"] = with_password(things, "right")
    assert check(things, gateway_config(redis, broker, broker_changes=changes))[0] == 0


def test_the_wrong_authority(things):
    redis, broker = things.redis(), things.mosquitto(tls=things.certs)
    changes = {"tls": {"ca_file": f"{things.certs}/other-ca.crt"}}
    code, lines = check(things, gateway_config(redis, broker, broker_changes=changes))
    said(lines, "FAILED", "broker main", "certificate")
    assert code == 1


def test_a_ca_file_without_a_certificate(things):
    redis, broker = things.redis(tls=things.certs), things.mosquitto(tls=things.certs)
    path = things.tmp / "ca.crt"
    path.write_text("nothing\n")
    code, lines = check(things, gateway_config(
        redis, broker, broker_changes={"tls": {"ca_file": str(path)}},
        redis_changes={"tls": {"ca_file": str(path)}}))
    said(lines, "FAILED", "broker main", str(path))
    said(lines, "FAILED", "Redis", str(path))
    assert code == 1


def test_brokers_of_all_sorts(things):
    """Several brokers are tried side by side and told of in their order."""
    redis, good = things.redis(), things.recording_broker(maximum_packet_size=100000,
                                                          retain_available=0)
    silent = things.recording_broker()
    silent.stall()
    port = free_port()
    config = gateway_config(redis, silent, broker_changes={"connect_timeout": "500ms"})
    config["brokers"] += [{"name": "closed", "url": f"mqtt://127.0.0.1:{port}"},
                          {"name": "old", "url": good.url, "protocol": "3.1.1"},
                          {"name": "small", "url": good.url, "inflight": 7,
                           "client_id_prefix": "another"}]
    config["routes"].append({"streams": "nemo:*:x", "broker": "old"})
    code, lines = check(things, config)
    said(lines, "FAILED", "broker main", "no CONNACK within")
    said(lines, "FAILED", f"broker closed (mqtt://127.0.0.1:{port}): ", "Connection refused")
    said(lines, "warning", "broker closed: no route leads to it")
    said(lines, "ok", f"broker old ({good.url}): connected; window 1000; MQTT 3.1.1 announces")
    said(lines, "warning", "broker old: MQTT 3.1.1 carries no reason codes", "use protocol: 5")
    said(lines, "ok", f"broker small ({good.url}): connected; window 7, Maximum Packet Size "
         "100,000 bytes")
    said(lines, "warning", "broker small: its Maximum Packet Size is below delivery.max_payload")
    said(lines, "warning", "broker small: it keeps no retained messages")
    names = [line.split()[2].rstrip(":") for line in lines if " broker " in line]
    assert names == sorted(names, key=["main", "closed", "old", "small"].index)
    assert code == 1


# ---- it changes nothing ---------------------------------------------------------------------


def test_nothing_is_changed(things):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    for name in ("a", "b"):
        for _ in range(10):
            client.xadd(f"nemo:{{{name}}}:events", ENTRY)
    client.xgroup_create(STREAM, "nemogate", "0")
    client.xreadgroup("nemogate", "slot-0", {STREAM: ">"}, count=4)
    before, changes = dump(redis), client.info("persistence")["rdb_changes_since_last_save"]
    config = gateway_config(redis, broker, redis_changes={"streams": ["nemo:*:events", "named"]})
    config["routes"].append({"streams": "named", "broker": "main", "site": "x"})
    code, _ = check(things, config)
    assert code == 0
    assert dump(redis) == before
    assert client.info("persistence")["rdb_changes_since_last_save"] == changes
    [connection] = broker.connections
    assert connection.client_id.startswith("nemogate-check-")
    assert (connection.ended, connection.will) == ("disconnect", None)
    assert broker.messages == [] and broker.retained == {} and broker.wills == []
    assert broker.violations == []
