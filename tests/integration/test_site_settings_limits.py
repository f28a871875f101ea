"""Settings of sites where more than one route, or something that went wrong before, is concerned:
they never stop more than what they are for, and what is shown of them is true."""

import time

import pytest
from harness import Verifier, produce, wait_until
from site_settings import NOT_ALLOWED, Site, USED, config_from_site, secret
from test_site_settings import Both, topics

UNUSABLE = "settings that a site has saved cannot be used any more"


def two_routes(redis, broker, first, second):
    config = config_from_site(redis, broker)
    config["routes"] = [{"broker": "main", "settings": "from-site", **route}
                        for route in (first, second)]
    return config


def test_settings_must_suit_all_routes_of_the_site(things, tmp_path):
    """A key for signing cannot be used for batches: then it is refused, wherever it is saved."""
    redis, broker = things.redis(), things.recording_broker()
    site = Site(redis)
    secret(tmp_path / "a", "key", "a key of the lab")
    route = {"settings_secrets": str(tmp_path / "{site}")}
    produce(redis, [site.stream, "nemo:{a}:values"], keys=2, count=10)
    gateway = things.gateway(two_routes(
        redis, broker, {"streams": "nemo:*:events", **route},
        {"streams": "nemo:*:values", "encoding": "batch", **route}))
    assert "batches" in site.wait_error(site.save(sign_key_ref="key"))
    produce(redis, "nemo:{a}:values", keys=2, count=10)
    client = redis.client()
    wait_until(lambda: all(g["pending"] == 0 and g["lag"] in (0, None)
                           for g in client.xinfo_groups("nemo:{a}:values")), 20)
    assert site.version == 0 and gateway.log_count(UNUSABLE) == 0


def test_many_saves_make_no_suspects(things):
    """What lies behind them is not delivered once more for each: it would be sent one at a time."""
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    producer = produce(redis, site.stream, keys=50, count=50)
    versions = [site.save(broker_url=second.url, broker_username=f"u{n}") for n in range(30)]
    producer.send(150)
    things.gateway(config_from_site(redis, first))
    site.wait_version(versions[-1])
    site.wait_done()
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    assert len(topics(first)) == 50 and second.connections[-1].username == "u29"
    notes = site.client.info("commandstats")["cmdstat_hincrby"]["calls"] - len(versions)
    assert notes == 0, "lone tries were noted"


@pytest.mark.parametrize("other", ["nemo:{b}:*", "nemo:*"])
def test_routes_of_other_sites_have_no_say(things, tmp_path, other):
    """Neither one that cannot take a stream of the site, nor one that another leaves none."""
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    secret(tmp_path, "word", "of the lab")
    gateway = things.gateway(two_routes(
        redis, first, {"streams": "nemo:{a}:*", "settings_secrets": str(tmp_path)},
        {"streams": other}), start=False)
    produce(redis, [site.stream, "nemo:{b}:events"], keys=2, count=10)
    gateway.start()
    version = site.save(broker_url=second.url, broker_username="u", broker_password_ref="word")
    site.wait_version(version)
    gateway.wait_log("", msg=USED)
    produce(redis, site.stream, keys=2, count=10)
    wait_until(lambda: len(topics(second)) == 10, 20)
    site.wait_done()
    assert site.error == "" and gateway.log_count(UNUSABLE) == 0
    found = gateway.command("check", "--connect").stdout
    assert "FAILED   site" not in found, found


@pytest.mark.limit(150)
def test_a_site_that_is_not_carried_saves_others(things, tmp_path):
    """Its stream is not read, so its entry is never come to: what is saved counts all the same."""
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    secret(tmp_path, "word", "of the lab")
    producer = produce(redis, site.stream, keys=3, count=5)
    gateway = things.gateway(config_from_site(redis, first, tmp_path))
    site.wait_version(site.save(broker_url=second.url, broker_username="u",
                                broker_password_ref="word"))
    site.wait_done()
    gateway.terminate(timeout=15)
    (tmp_path / "word").unlink()
    gateway.start()
    assert "cannot be read" in site.wait_error(1)
    wait_until(lambda: "secret" in site.told("last_error"), 30, lambda: site.told("last_error"))
    producer.send(5)
    assert "cannot be read" in site.wait_error(
        site.save(broker_url=second.url, broker_password_ref="other"), 60)
    producer.send(5)
    version = site.save(broker_url=second.url)
    producer.send(5)
    site.wait_version(version, 60)
    site.wait_done()
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    assert len(topics(first)) == 5 and len(topics(second)) == 15 and site.error == ""


def test_a_page_is_told_when_its_settings_are_switched_off(things):
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    producer = produce(redis, site.stream, keys=3, count=5)
    gateway = things.gateway(config_from_site(redis, first))
    site.wait_version(site.save(broker_url=second.url))
    wait_until(lambda: site.told("settings_version") == "1", 30)
    site.wait_done()
    gateway.write_config(config_from_site(redis, first, route_changes={"settings": "own"}))
    wait_until(lambda: site.told("settings_error") == NOT_ALLOWED, 30, lambda: site.told("broker"))
    assert site.told("settings_version") == "" and site.version == 1
    producer.send(5)
    Verifier(producer, Both(first, second)).wait().check(duplicates=0)
    assert len(topics(first)) == 10


@pytest.mark.limit(180)
def test_a_look_that_redis_does_not_answer_is_not_the_last(things):
    """Every 30 s an instance looks for what another has applied."""
    redis, first, second = things.redis(), things.recording_broker(), things.recording_broker()
    site = Site(redis)
    produce(redis, site.stream, keys=3, count=5)
    gateway = things.gateway(config_from_site(redis, first))
    site.wait_done()
    time.sleep(25)
    redis.pause()
    time.sleep(10)
    gateway.wait_log("no connection to Redis", link="control", timeout=30)
    redis.resume()
    produce(redis, site.stream, keys=3, count=5)
    site.wait_done(60)
    site.client.hset(f"{site.key}:applied", mapping={"version": 5, "broker_url": second.url})
    assert gateway.wait_log("", msg=USED, timeout=60)["version"] == "5"
