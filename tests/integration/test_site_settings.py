"""Settings that a lab saves on the page of its NEMO, applied by the gateway in the order of the
stream; refused with a word to the lab when they are no good; and switched off by an operator."""

import json
import os
import random
import time

import pytest
from harness import Verifier, produce, wait_until
from site_settings import (APPLIED, NOT_ALLOWED, REFUSED, Site, USED, config_from_site, secret)


class Both:
    """Several brokers as one, for the Verifier: a list that only grows."""

    def __init__(self, *brokers):
        self.brokers = {broker: 0 for broker in brokers}
        self.taken = []

    @property
    def messages(self):
        for broker, count in self.brokers.items():
            new = broker.messages[count:]
            self.brokers[broker] += len(new)
            self.taken += new
        return self.taken


def topics(broker):
    return [m.topic for m in broker.messages if not m.topic.startswith("nemogate/")]


def test_settings_are_applied_in_order(things):
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=50)
    version = site.save(broker_url=second.url)
    producer.send(50)
    gateway = things.gateway(config_from_site(redis, first), start=False).start()
    site.wait_version(version)
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    assert len(topics(first)) == 50 and len(topics(second)) == 50
    site.wait_done()
    line = gateway.wait_log("", msg=USED)
    assert line["site"] == "a" and line["broker"] == "main/a" and line["version"] == "1"
    assert line["login"] == "no" and line["signed"] == "no"
    assert site.applied["broker_url"] == second.url and site.error == ""
    wait_until(lambda: site.told("settings_version") == "1", 30, "the heartbeat")
    assert site.told("settings_error") == "" and site.told("broker") == second.url
    assert gateway.terminate(timeout=15) == 0


def test_own_is_told_and_the_stream_goes_on(things):
    redis, broker, other = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=20)
    version = site.save(broker_url=other.url)
    producer.send(20)
    things.gateway(config_from_site(redis, broker, route_changes={"settings": "own"}))
    Verifier(producer, broker).wait().check(duplicates=0)
    assert site.wait_error(version) == NOT_ALLOWED and site.version == 0
    wait_until(lambda: site.told("settings_error") == NOT_ALLOWED, 30, "the heartbeat")
    site.wait_done()
    assert len(topics(broker)) == 40 and not topics(other)
    assert not redis.client().exists("nemo:{a}:dead")


def test_tls_login_and_signing_of_a_site(things, tmp_path):
    """All that the page has: address, authority, user, password, key. Another site is left alone."""
    from test_signed import opened
    redis, first = things.redis(), things.recording_broker()
    mosquitto = things.mosquitto(tls=things.certs, password={"lab-a": "pass a", "reader": "r"})
    subscriber = things.subscriber(mosquitto.port, tls=things.certs, username="reader",
                                   password="r")
    site, other = Site(redis, "a"), Site(redis, "b")
    secret(tmp_path / "secrets" / "a", "broker-2026", "pass a")
    secret(tmp_path / "secrets" / "a", "key.1", "a key of the lab")
    gateway = things.gateway(config_from_site(redis, first, tmp_path / "secrets" / "{site}"))
    with open(f"{things.certs}/ca.crt") as f:
        ca = f.read()
    version = site.save(broker_url=f"mqtts://localhost:{mosquitto.port}", broker_ca=ca,
                        broker_username="lab-a", broker_password_ref="broker-2026",
                        sign_key_ref="key.1")
    site.wait_version(version)
    producer = produce(redis, site.stream, keys=3, count=10)
    elsewhere = produce(redis, other.stream, keys=3, count=10)
    messages = [m for m in subscriber.wait_messages(11, timeout=30) if "/tools/" in m.topic]
    site.wait_done()
    Verifier(elsewhere, first).wait().check(duplicates=0)
    assert all(opened(m, "a key of the lab") for m in messages) and producer.total == 10
    line = gateway.wait_log("", msg=USED)
    assert line["tls"] == line["login"] == line["signed"] == "yes"
    everything = gateway.log_text() + str(site.client.hgetall(f"{site.key}:applied"))
    assert "pass a" not in everything and "a key of the lab" not in everything


BAD = {
    "url": ({"broker_url": "http://h:1"}, "broker_url has a scheme that is not known here"),
    "port": ({"broker_url": "mqtt://h:0"}, "broker_url has a port"),
    "login in the address": ({"broker_url": "mqtt://u:p@h"}, "holds a user or a password"),
    "no certificate": ({"broker_url": "mqtts://h", "broker_ca": "nothing"}, "TLS cannot be used"),
    "an authority without TLS": ({"broker_ca": "-----BEGIN"}, "broker_ca is of no use without TLS"),
    "a missing file": ({"broker_password_ref": "not-there"},
                       "the file that broker_password_ref names in the gateway's folder of secret "
                       "files cannot be read"),
    "a way out": ({"broker_password_ref": "../b/word"}, "is not the name of a secret file"),
    "hidden": ({"broker_password_ref": ".word"}, "is not the name of a secret file"),
    "a folder": ({"sign_key_ref": "folder"}, "is a directory"),
    "blanks": ({"sign_key_ref": "blanks"}, "the key in the file that sign_key_ref names"),
    "no UTF-8": ({"broker_username": b"\xff"}, "broker_username must be UTF-8"),
    "lines": ({"broker_username": "a\r\nb"}, "without control characters"),
    "too long": ({"broker_ca": "x" * 70_000}, "a value in Redis is too long"),
}


@pytest.mark.limit(180)
def test_bad_settings_are_refused_and_the_old_stay(things, tmp_path):
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    folder = tmp_path / "secrets" / "a"
    secret(tmp_path / "secrets" / "b", "word", "of another site")
    secret(folder, "blanks", " a key ")
    secret(folder, ".word", "x")
    (folder / "folder").mkdir()
    producer = produce(redis, site.stream, keys=3, count=5)
    gateway = things.gateway(config_from_site(redis, first, tmp_path / "secrets" / "{site}"))
    good = site.save(broker_url=second.url)
    site.wait_version(good)
    for name, (values, words) in BAD.items():
        producer.send(3)
        error = site.wait_error(site.save(**values))
        assert words in error, f"{name}: {error}"
        producer.send(3)
    site.wait_done()
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    assert len(topics(first)) == 5 and site.version == good
    assert gateway.log_count("", msg=REFUSED) == len(BAD)
    better = site.save(broker_url=first.url)
    site.wait_version(better)
    assert site.error == ""
    site.wait_done()


def test_no_folder_for_secrets(things):
    redis, broker = things.redis(), things.recording_broker()
    site = Site(redis)
    produce(redis, site.stream, count=5)
    things.gateway(config_from_site(redis, broker))
    assert "has configured no folder" in site.wait_error(site.save(broker_password_ref="word"))
    site.wait_done()


def test_superseded_versions_settle(things):
    redis, first = things.redis(), things.recording_broker()
    brokers = [things.recording_broker() for _ in range(3)]
    site = Site(redis)
    producer = produce(redis, site.stream, keys=3, count=10)
    for broker in brokers:
        version = site.save(broker_url=broker.url)
        producer.send(10)
    gateway = things.gateway(config_from_site(redis, first))
    site.wait_version(version)
    Verifier(producer, Both(first, *brokers)).wait().check(duplicates=0)
    site.wait_done()
    assert [len(topics(b)) for b in (first, *brokers)] == [30, 0, 0, 10]
    assert gateway.log_count("", msg=APPLIED) == 1


def test_a_payload_that_is_none(things):
    """It goes to the dead letters, as whatever else cannot be understood; the stream goes on."""
    redis, broker = things.redis(), things.recording_broker()
    site, client = Site(redis), redis.client()
    payloads = ["", "{}", '{"version":0}', '{"version":-1}', '{"version":1.5}', '{"version": 1}',
                '{"version":1}x', '{"version":01}', '{"version":9007199254740993}', "1"]
    for payload in payloads:
        client.xadd(site.stream, {"type": "gateway.settings", "topic": "gateway/settings",
                                  "key": "gateway", "payload": payload})
    producer = produce(redis, site.stream, keys=3, count=10)
    things.gateway(config_from_site(redis, broker))
    Verifier(producer, broker).wait().check(duplicates=0)
    site.wait_done()
    letters = [fields for _, fields in client.xrange("nemo:{a}:dead")]
    assert [f["payload"] for f in letters] == payloads
    assert {f["dead_reason"] for f in letters} == {"bad-settings"}


def test_a_new_process_has_them_from_the_start(things):
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=3, count=5)
    gateway = things.gateway(config_from_site(redis, first))
    site.wait_version(site.save(broker_url=second.url))
    site.wait_done()
    for end in (lambda: gateway.terminate(timeout=15), gateway.kill9, gateway.reload):
        end()
        producer.send(20)
        if gateway.process is None or gateway.process.poll() is not None:
            gateway.start()
        Verifier(producer, Both(first, second)).wait().check(duplicates=0)
        site.wait_done()
    assert len(topics(first)) == 5


def test_the_old_broker_is_dead(things):
    """The very reason for other settings: what it has not acknowledged goes to the new one."""
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=20)
    gateway = things.gateway(config_from_site(redis, first, delivery={"drain_timeout": "60s"}))
    Verifier(producer, first).wait().check(duplicates=0)
    first.hold_acks()  # it takes everything and answers nothing
    producer.send(30)
    first.wait_messages(51)
    before = time.monotonic()
    version = site.save(broker_url=second.url)
    producer.send(20)
    site.wait_version(version)
    wait_until(lambda: len(topics(second)) == 50, 30)
    assert time.monotonic() - before < 25, "the restart waits for a broker that is left"
    site.wait_done()
    report = Verifier(producer, Both(first, second)).wait()
    assert report.complete and not report.unknown, str(report)
    assert gateway.log_count("", msg="ready") >= 2


def test_the_old_broker_is_down(things):
    redis, second = things.redis(), things.recording_broker()
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=20)
    gateway = things.gateway(config_from_site(redis, "mqtt://127.0.0.1:1"), start=False)
    gateway.launch()
    version = site.save(broker_url=second.url)
    producer.send(20)
    site.wait_version(version)
    Verifier(producer, second).wait().check(duplicates=0)
    site.wait_done()


def test_a_broker_of_a_site_that_is_down_stops_nobody_else(things):
    redis, broker = things.redis(), things.recording_broker()
    lost, fine = Site(redis, "lost"), Site(redis, "fine")
    produce(redis, lost.stream, keys=5, count=20)
    config = config_from_site(redis, broker, admin={"listen": "127.0.0.1:0"})
    config["admin"]["listen"] = f"127.0.0.1:{things.redis(start=False).port}"
    gateway = things.gateway(config)
    lost.wait_version(lost.save(broker_url="mqtt://127.0.0.1:1"))
    wait_until(lambda: gateway.log_count("", msg="ready") >= 2, 20, "ready, though it is down")
    produce(redis, lost.stream, keys=5, count=20)
    other = produce(redis, fine.stream, keys=5, count=20)
    wait_until(lambda: len(topics(broker)) == 40, 20)
    fine.wait_done()
    wait_until(lambda: '"broker-down"' in gateway.admin("/api/v1/status")[1], 10)
    assert '"main/lost"' in gateway.admin("/api/v1/status")[1]
    assert gateway.admin("/readyz")[0] == 200, gateway.admin("/readyz")
    assert other.total == 20 and lost.pending() >= 20


def test_two_sites_at_one_server(things, tmp_path):
    """Different users; and neither takes the other's client identifiers over."""
    redis, broker = things.redis(), things.recording_broker()
    sites = [Site(redis, name) for name in ("a", "b")]
    for site in sites:
        secret(tmp_path / site.name, "word", f"word of {site.name}")
        produce(redis, site.stream, count=2)
    server = things.recording_broker()
    gateway = things.gateway(config_from_site(redis, broker, tmp_path / "{site}", slots=1))
    for site in sites:
        site.version_saved = site.save(broker_url=server.url, broker_username=f"user-{site.name}",
                                       broker_password_ref="word")
    for site in sites:
        site.wait_version(site.version_saved)
    producer = produce(redis, [site.stream for site in sites], keys=5, count=100)
    Verifier(producer, server).wait().check(duplicates=0)
    for site in sites:
        site.wait_done()
    live = [c for c in server.connections if c.ended is None]
    assert sorted((c.username, c.password) for c in live) == [
        ("user-a", b"word of a"), ("user-b", b"word of b")]
    assert len({c.client_id for c in live}) == 2 and gateway.log_count("taken over") == 0


def test_the_operators_login_stays_his(things, tmp_path):
    """A site that chooses where to connect to is not given the login of the file's broker there."""
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    (tmp_path / "word").write_text("of the operator\n")
    site = Site(redis)
    produce(redis, site.stream, count=5)
    things.gateway(config_from_site(redis, first, broker_changes={
        "username": "operator", "password_file": str(tmp_path / "word")}))
    site.wait_version(site.save(broker_url=second.url))
    produce(redis, site.stream, count=5)
    second.wait_messages(5)
    assert first.connections[0].password == b"of the operator"
    assert {(c.username, c.password) for c in second.connections} == {(None, None)}


def test_a_secret_file_is_changed_missing_and_back(things, tmp_path):
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    secret(tmp_path / "s", "word", "first word")
    producer = produce(redis, site.stream, keys=3, count=5)
    gateway = things.gateway(config_from_site(redis, first, tmp_path / "s"))
    site.wait_version(site.save(broker_url=second.url, broker_username="u",
                                broker_password_ref="word"))
    producer.send(5)
    second.wait_messages(6)
    secret(tmp_path / "s", "word", "another word")
    wait_until(lambda: second.connections[-1].password == b"another word", 30)
    os.remove(tmp_path / "s" / "word")
    gateway.wait_log("the configuration is not reloaded", timeout=20)
    producer.send(5)
    site.wait_done()
    gateway.terminate(timeout=15)
    producer.send(5)
    gateway.start()  # without it the site is not carried, least of all to the file's broker
    assert "cannot be read" in site.wait_error(site.version)
    time.sleep(1)
    assert site.pending() == 5 and len(topics(first)) == 5
    secret(tmp_path / "s", "word", "another word")
    site.wait_done(40)
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    wait_until(lambda: site.error == "", 10, lambda: site.applied)


def test_a_site_that_is_down_for_long_is_no_stall(things):
    redis, broker = things.redis(), things.recording_broker()
    lost = Site(redis, "lost")
    produce(redis, lost.stream, keys=5, count=20)
    port = things.redis(start=False).port
    gateway = things.gateway(config_from_site(redis, broker, admin={
        "listen": f"127.0.0.1:{port}", "stall_timeout": "1s"}))
    lost.wait_version(lost.save(broker_url="mqtt://127.0.0.1:1"))
    produce(redis, lost.stream, keys=5, count=20)
    wait_until(lambda: '"broker-down"' in gateway.admin("/api/v1/status")[1], 20)
    time.sleep(3)
    assert gateway.admin("/readyz")[0] == 200, gateway.admin("/readyz")


def test_batches_end_at_the_settings(things):
    from test_batches import batches_of, read_batch
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=3, count=25)
    version = site.save(broker_url=second.url)
    producer.send(25)
    things.gateway(config_from_site(redis, first, route_changes={"encoding": "batch"}))
    site.wait_version(version)
    site.wait_done()

    assert [sum(len(read_batch(m.payload)["events"]) for m in batches_of(broker)) for broker in (first, second)] == [
        25, 25]
    assert "batches" in site.wait_error(site.save(sign_key_ref="key"))


@pytest.mark.parametrize("options", ["coalesce_retained", "strict_order"])
def test_one_by_one_routes(things, options):
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=50, fields={"retain": 1})
    version = site.save(broker_url=second.url)
    producer.send(50)
    things.gateway(config_from_site(redis, first, route_changes={options: True}))
    site.wait_version(version)
    site.wait_done()
    if options == "strict_order":
        Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    last = {m.topic: m.payload for m in second.messages if "/tools/" in m.topic}
    assert len(last) == 5 and all(b'"n":20,' in payload for payload in last.values())


# ---- several instances, and crashes ---------------------------------------------------------------


def pair_of(things, redis, broker, **changes):
    """Two instances, each with some of eight slots."""
    gateways = [things.gateway(config_from_site(redis, broker, instance=name, slots=8, **changes))
                for name in ("one", "two")]
    wait_until(lambda: all(g.log_count("instances", living="2") for g in gateways), 20, "both")
    return gateways


def owner_of(redis, site):
    """The name of the instance that has the slot of the site's stream."""
    client = redis.client()
    consumer, = client.xinfo_consumers(site.stream, "nemogate")
    slot = consumer["name"].split("-")[1]
    return client.hget(f"nemogate:{{nemogate}}:lease:{slot}", "holder").split("/")[0]


@pytest.mark.limit(180)
def test_takeover_by_an_instance_with_older_settings(things):
    """The owner applies and dies; who takes its slot over must not publish with what it has."""
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=20)
    gateways = pair_of(things, redis, first)
    Verifier(producer, first).wait().check(duplicates=0)
    name = owner_of(redis, site)
    owner, other = sorted(gateways, key=lambda g: g.config["instance"] != name)
    other.pause()  # it is not told, and does not look
    site.wait_version(site.save(broker_url=second.url))
    producer.send(20)
    site.wait_done()
    owner.kill9()
    producer.send(20)
    other.resume()
    Verifier(producer, Both(first, second)).wait(60).check(duplicates=0)
    site.wait_done()
    assert len(topics(first)) == 20 and len(topics(second)) == 40


@pytest.mark.limit(180)
def test_the_other_instance_follows(things):
    """A site with streams in both slots: the instance that did not come to the entry takes the
    settings up, too."""
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    streams = [f"nemo:{{a}}:{n}:events" for n in range(8)]
    producer = produce(redis, [site.stream, *streams], keys=2, count=90)
    gateways = pair_of(things, redis, first)
    Verifier(producer, first).wait().check(duplicates=0)
    site.wait_version(site.save(broker_url=second.url))
    wait_until(lambda: all(g.log_count("", msg=USED) for g in gateways), 60)
    wait_until(lambda: all(g.log_count("", msg="ready") > 1 for g in gateways), 60)
    before = len(topics(first))
    producer.send(90)
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    assert len(topics(first)) == before and len(topics(second)) == 90


@pytest.mark.limit(240)
@pytest.mark.parametrize("moment", ["judged", "applied", "left", "begun", "again"])
def test_killed_at_every_step(things, moment):
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=200)
    gateway = things.gateway(config_from_site(redis, first, broker_changes={"inflight": 20}))
    first.ack_delay = 0.02
    words = {"judged": "the lane waits for its site's settings", "applied": APPLIED,
             "left": "another configuration", "begun": "configuration reloaded", "again": USED}
    producer.send(100)
    version = site.save(broker_url=second.url)
    producer.send(200)
    gateway.wait_log(words[moment])
    gateway.kill9()
    gateway.start()
    site.wait_version(version)
    site.wait_done(60)
    report = Verifier(producer, Both(first, second)).wait()
    assert report.complete and not report.unknown and not report.out_of_order, str(report)
    assert report.duplicates <= 40, str(report)
    numbers = len({m.payload for m in second.messages if "/tools/" in m.topic})
    assert numbers >= 200


def test_redis_loses_what_was_applied(things):
    """What a running gateway has stays, and is written back; a version only rises."""
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=20)
    gateway = things.gateway(config_from_site(redis, first))
    site.wait_version(site.save(broker_url=second.url))
    site.wait_done()
    redis.client().delete(f"{site.key}:applied", f"{site.key}:settings")
    redis.client().client_kill_filter(skipme=True)  # the lanes begin anew
    producer.send(20)
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    site.wait_version(1)
    assert gateway.log_count("written back") >= 1 and len(topics(first)) == 20


def test_a_faulty_file_delays_only_the_restart(things):
    """Another program could not take over: the present one goes on, and so do the other sites."""
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    site, other = Site(redis), Site(redis, "b")
    producer = produce(redis, site.stream, keys=5, count=5)
    gateway = things.gateway(config_from_site(redis, first))
    config = gateway.config
    gateway.write_config("brokers: nonsense\n")
    site.wait_version(site.save(broker_url=second.url))
    gateway.wait_log("settings of a site wait until the configuration file is sound", timeout=20)
    producer.send(5)
    elsewhere = produce(redis, other.stream, keys=5, count=20)
    other.wait_done()
    assert not topics(second)
    gateway.write_config(config)
    wait_until(lambda: len(topics(second)) == 5, 40)
    assert elsewhere.total == 20 and producer.total == 10
    site.wait_done()


def test_without_the_rights(things):
    """Settings stay unread, loudly; entries flow all the same."""
    redis, broker, other = (things.redis(), things.recording_broker(), things.recording_broker())
    site, client = Site(redis), redis.client()
    client.execute_command("ACL", "SETUSER", "gate", "on", ">word", "~nemo:*:events",
                           "~nemo:*:dead", "~nemo:*:tries", "~nemogate:*", "+@all")
    producer = produce(redis, site.stream, keys=5, count=5)
    (word := things.tmp / "word").write_text("word\n")
    gateway = things.gateway(config_from_site(redis, broker, redis_changes={
        "username": "gate", "password_file": str(word)}))
    site.save(broker_url=other.url)
    producer.send(5)
    site.wait_done()
    Verifier(producer, broker).wait().check(duplicates=0)
    line = gateway.wait_log("Redis does not give the settings that a site has saved")
    assert line["grant"] == "~nemo:*:gateway*" and not site.applied
    found = gateway.command("check", "--connect").stdout
    assert "nemo:*:gateway*" in found, found


@pytest.mark.limit(300)
def test_saves_of_two_sites_under_load_and_kills(things):
    """Nothing is lost and no key's order is broken, whatever is saved and whoever is killed when;
    and what was saved last is in use in the end."""
    draw = random.Random(7)
    redis = things.redis()
    brokers = [things.recording_broker() for _ in range(3)]
    sites = [Site(redis, name) for name in ("a", "b")]
    producer = produce(redis, [site.stream for site in sites], keys=5, count=20)
    gateways = pair_of(things, redis, brokers[0])
    last = {}
    with producer.background(rate=300):
        for turn in range(12):
            for site in draw.sample(sites, draw.randint(1, 2)):
                values = {"broker_url": draw.choice(brokers).url,
                          "broker_username": f"user-{turn}"}
                last[site.name] = (site.save(**values), values)
                if draw.random() < 0.3:
                    site.save(broker_url="mqtt://u:p@wrong")
                    last[site.name] = (site.save(**values), values)
            time.sleep(draw.uniform(0.2, 2.5))
            gateway = draw.choice(gateways)
            if draw.random() < 0.6:
                gateway.kill9()
                gateway.start()
    for site in sites:
        site.wait_done(120)
        version, values = last[site.name]
        site.wait_version(version)
        assert site.applied["broker_url"] == values["broker_url"]
        assert site.error == ""
    for key, sent in producer.sent.items():
        arrivals = sorted((m.time, json.loads(m.payload)["n"]) for b in brokers for m in b.messages
                          if "/tools/" in m.topic and stream_and_key(m) == key)
        highest = 0
        for _, n in arrivals:
            assert n <= highest + 1, f"{key}: {n} came after {highest}"
            highest = max(highest, n)
        assert highest == sent, key
    assert not redis.client().exists("nemo:{a}:dead", "nemo:{b}:dead")


def stream_and_key(message):
    event = json.loads(message.payload)
    return event["stream"], event["key"]


def test_check_tries_the_brokers_of_sites(things, tmp_path):
    redis, first, second = (things.redis(), things.recording_broker(), things.recording_broker())
    sites = [Site(redis, name) for name in ("a", "b")]
    for site in sites:
        secret(tmp_path / "s", f"word-{site.name}", "word")
        produce(redis, site.stream, count=1)
    gateway = things.gateway(config_from_site(redis, first, tmp_path / "s"))
    for site in sites:
        site.saved = site.save(broker_url=second.url, broker_username="u",
                               broker_password_ref=f"word-{site.name}")
    for site in sites:
        site.wait_version(site.saved)
        site.wait_done()
    found = gateway.command("check", "--connect")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok       site a: settings 1, which it has saved, lead to broker main/a" in found.stdout
    assert "broker main/b" in found.stdout and "all sites of nemo:*:events share" in found.stdout
    os.remove(tmp_path / "s" / "word-a")
    found = gateway.command("check", "--connect")
    assert found.returncode == 1
    assert "FAILED   site a: settings 1, which it has saved, cannot be used: the file" in found.stdout


@pytest.mark.parametrize("route, words", [
    ({"settings": "from-site", "settings_secrets": "/nonexistent"}, "No such file or directory"),
    ({"settings": "from-site", "settings_secrets": "/etc/passwd"}, "is not a folder"),
    ({"settings": "from-site", "settings_secrets": "/etc/{sites}"}, "holds a brace"),
    ({"settings_secrets": "/etc"}, "only a route with 'settings: from-site' has one"),
    ({"settings": "site"}, "own or from-site"),
])
def test_bad_keys(things, route, words):
    gateway = things.gateway(config_from_site("redis://127.0.0.1:1", "mqtt://h",
                                              route_changes={"settings": "own", **route}),
                             start=False)
    found = gateway.command("check")
    assert found.returncode == 2 and words in found.stderr, found.stderr
    assert "routes[0].settings" in found.stderr


@pytest.mark.parametrize("moment", ["the lane waits for its site's settings", APPLIED,
                                    "configuration reloaded"])
def test_redis_dies_meanwhile(things, moment):
    redis = things.redis(appendonly=True)
    first, second = things.recording_broker(), things.recording_broker()
    site = Site(redis)
    producer = produce(redis, site.stream, keys=5, count=20)
    gateway = things.gateway(config_from_site(redis, first))
    version = site.save(broker_url=second.url)
    producer.send(20)
    gateway.wait_log(moment)
    redis.kill()
    time.sleep(0.5)
    redis.start()
    site.wait_version(version)
    producer.send(20)
    report = Verifier(producer, Both(first, second)).wait()
    assert report.complete and not report.out_of_order and not report.unknown, str(report)
    assert len({m.payload for m in first.messages if "/tools/" in m.topic}) == 20
    assert len({m.payload for m in second.messages if "/tools/" in m.topic}) >= 40
    site.wait_done()
