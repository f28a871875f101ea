"""The settings page: who may use it, what it refuses, what it saves and tells the gateway."""

import json
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from django.db import DatabaseError, connections
from django.test import Client

from harness.redis_server import RedisServer
from NEMO.models import Customization
from NEMO.views.customization import CustomizationBase
from NEMO_streams import broker, conf, options, redis_stream, settings_publish, sweep

ROOT = Path(__file__).resolve().parents[2]
PAGE, SAVE = "/customization/streams/", "/customize/streams/"
STATUS, TEST = "/customization/streams/status/", "/customization/streams/test/"
SETTINGS, GATEWAY = "nemo:{lab}:gateway:settings", "nemo:{lab}:gateway"
PATIENT = 2.5  # a request waits 0.25 s for Redis; this is far below what a hanging one would cost


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    subprocess.run(["sh", str(ROOT / "tests/tools/make_certs.sh"), str(folder)], check=True,
                   capture_output=True)
    return folder


@pytest.fixture
def admin(lab):
    lab.user("captain", "Cap", "Tain", is_staff=True, is_superuser=True)
    yield Client(REMOTE_USER="captain")
    thread = sweep.background.thread
    if thread is not None:
        thread.join(20)


def saved():
    return dict(Customization.objects.filter(name__startswith="streams_")
                .values_list("name", "value"))


def save(client, **fields):
    return client.post(SAVE, {f"streams_{name}": value for name, value in fields.items()},
                       follow=True)


def settled():
    thread = sweep.background.thread
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()


def settings_entries(lab):
    return [entry for entry in lab.new() if entry.type == "gateway.settings"]


@pytest.mark.parametrize("method, url", [("get", PAGE), ("post", SAVE), ("get", STATUS),
                                         ("post", TEST)])
def test_only_administrators(lab, method, url):
    lab.user("staff", is_staff=True)
    lab.user("old", is_superuser=True, is_active=False)
    before = saved()
    for who in ({}, {"REMOTE_USER": "staff"}, {"REMOTE_USER": "old"}):
        answer = getattr(Client(**who), method)(url, {"streams_names": "none"} if method == "post"
                                                else {})
        assert answer.status_code == 302 and answer["Location"].startswith("/login/")
    assert saved() == before and not lab.redis.exists(SETTINGS)


@pytest.mark.parametrize("url", [SAVE, TEST])
def test_forged_posts_are_refused(admin, url):
    strict = Client(enforce_csrf_checks=True, REMOTE_USER="captain")
    assert strict.post(url, {"streams_names": "none"}).status_code == 403
    assert saved() == {}
    token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"',
                      strict.get(PAGE).content.decode())[1]
    assert strict.post(url, {"streams_names": "none"},
                       HTTP_X_CSRFTOKEN=token).status_code in (200, 302)


def test_wrong_methods(admin):
    assert admin.get(TEST).status_code == 405 and admin.post(STATUS).status_code == 405
    assert admin.post(SAVE + "file/").status_code == 404


def test_every_option_has_a_labelled_field(admin):
    page = admin.get(PAGE).content.decode()
    for option in options.OPTIONS + broker.OPTIONS:
        assert f'id="{option.name}"' in page and f'<label' in page
        assert re.search(f'<label[^>]* for="{option.name}"', page), option.name
        assert len(option.name) <= 50  # NEMO's column
    for described in re.findall('aria-describedby="([^"]+)"', page):
        assert f'id="{described}"' in page
    assert "Passwords and keys are not typed in here" in page
    assert 'type="password"' not in page


def test_saves_what_was_chosen(lab, admin):
    answer = save(admin, areas="disabled", names="initials", display_zone=" Europe/Paris ",
                  text_limit="100")
    assert answer.redirect_chain == [(PAGE, 302)]
    assert saved() == {"streams_areas": "disabled", "streams_names": "initials",
                       "streams_display_zone": "Europe/Paris", "streams_text_limit": "100"}
    page = answer.content.decode()
    assert "settings saved successfully" in page and 'value="Europe/Paris"' in page
    assert not lab.redis.exists(SETTINGS)  # nothing of the gateway's
    assert 'id="streams_areas" name="streams_areas" value="enabled"\n' in page
    settled()


def test_an_empty_value_is_the_default_again(admin):
    save(admin, display_zone="Europe/Paris")
    save(admin, display_zone="")
    assert "streams_display_zone" not in saved()
    settled()


def test_the_page_does_not_show_an_old_cache(admin):
    admin.get(PAGE)
    assert CustomizationBase.get_instance("streams").get("streams_names") == "full"
    Customization.objects.create(name="streams_names", value="none")  # by another process
    assert '<option value="none" selected>' in admin.get(PAGE).content.decode()


WRONG = [
    ("broker_url", "http://broker:1883", "must begin with mqtts://"),
    ("broker_url", "broker:1883", "must begin with mqtts://"),
    ("broker_url", "mqtt://user:word@broker:1883", "fields of their own"),
    ("broker_url", "mqtt://broker:70000", "1 to 65535"),
    ("broker_url", "mqtt://broker:0", "1 to 65535"),
    ("broker_url", "mqtt://broker:x", "1 to 65535"),
    ("broker_url", "mqtt://", "must name a host"),
    ("broker_url", "mqtt://:1883", "must name a host"),
    ("broker_url", "mqtt://bro ker:1883", "blanks"),
    ("broker_url", "mqtt://br\u00f6ker:1883", "must name a host"),
    ("broker_url", "mqtt://[::x]:1883", "must "),
    ("broker_url", "mqtt://broker:1883/path", "end after the port"),
    ("broker_url", "mqtt://broker:1883?x=1", "end after the port"),
    ("broker_username", "a\x07b", "control characters"),
    ("broker_username", "a" * 1025, "1024 bytes"),
    ("broker_password_ref", "../../etc/passwd", "name of a secret file"),
    ("broker_password_ref", "..", "name of a secret file"),
    ("broker_password_ref", "my secret", "name of a secret file"),
    ("sign_key_ref", "k" * 65, "name of a secret file"),
    ("broker_ca", "hello", "holds no certificate"),
    ("broker_ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "block 1"),
    ("broker_ca", "-----BEGIN CERTIFICATE-----\nAAAA", "holds no certificate"),
    ("broker_ca", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "private key"),
    ("broker_ca", "x" * 70000, "64 KiB"),
    ("broker_ca", "-----BEGIN A-----" * 3800, "more than 100"),
    ("display_prefix", "a\x00b", "must be a topic"),
    ("names", "everything", "must be one of"),
    ("display_zone", "Mars/Olympus", "is not a time zone"),
    ("display_prefix", "a/#", "must be a topic"),
    ("text_limit", "5", "from 20 to 5000"),
    ("areas", "", "must be enabled or disabled"),
]


@pytest.mark.parametrize("field, value, words", WRONG)
def test_a_wrong_value_saves_nothing(lab, admin, field, value, words):
    good = {"names": "none", "broker_username": "lab", "areas": "disabled"}
    answer = save(admin, **{**good, field: value})
    page = answer.content.decode()
    assert answer.status_code == 200 and not answer.redirect_chain
    assert words in page and "Nothing was saved" in page and f'href="#streams_{field}"' in page
    assert saved() == {} and not lab.redis.exists(SETTINGS) and lab.new() == []
    if field != "broker_username":  # what was typed is still there
        assert 'value="lab"' in page


def test_a_key_beside_a_certificate_is_refused(admin, certs):
    both = (certs / "ca.crt").read_text() + (certs / "ca.key").read_text()
    assert "private key" in save(admin, broker_url="mqtts://b", broker_ca=both).content.decode()
    half = (certs / "ca.crt").read_text() + "-----BEGIN CERTIFICATE-----\nMIIB"
    assert "copied completely" in save(admin, broker_ca=half).content.decode()
    assert saved() == {}


def test_values_that_do_not_go_together(admin, certs):
    page = save(admin, broker_url="mqtt://b:1", broker_ca=(certs / "ca.crt").read_text())
    assert "is of no use without TLS" in page.content.decode() and saved() == {}


@pytest.mark.parametrize("typed, url", [
    ("mqtt://broker", "mqtt://broker:1883"), ("mqtts://Broker.Example.org/",
                                              "mqtts://broker.example.org:8883"),
    ("mqtts://[::1]:18883", "mqtts://[::1]:18883"), (" mqtt://192.0.2.7:1 ", "mqtt://192.0.2.7:1")])
def test_addresses(typed, url):
    assert broker.url(typed.strip()) == url


def test_what_is_typed_is_escaped(admin):
    evil = '"><script>x</script>'
    page = save(admin, broker_username=evil, names="wrong").content.decode()
    assert "<script>x" not in page and "&lt;script&gt;x" in page
    assert "<script>x" not in save(admin, broker_username=evil).content.decode()


def test_a_database_that_fails_halfway_keeps_nothing(lab, admin, monkeypatch):
    page = type(CustomizationBase.get_instance("streams"))
    real, calls = page.set.__func__, []

    def fail_second(cls, name, value):
        calls.append(name)
        if len(calls) == 2:
            raise DatabaseError("full")
        real(cls, name, value)

    monkeypatch.setattr(page, "set", classmethod(fail_second))
    with pytest.raises(DatabaseError):
        save(admin, names="none", broker_username="lab", areas="disabled")
    assert len(calls) == 2 and saved() == {} and not lab.redis.exists(SETTINGS)


def test_the_gateway_is_told(lab, admin, certs):
    ca = (certs / "ca.crt").read_text()
    answer = save(admin, broker_url="mqtts://broker.example.org", broker_username="l\u00e4b",
                  broker_password_ref="lab.pw", sign_key_ref="key-1",
                  broker_ca="Subject: my authority\r\n" + ca.replace("\n", "\r\n"))
    assert "The gateway was told (settings 1)" in answer.content.decode()
    found = lab.redis.hgetall(SETTINGS)
    assert abs(time.time() - int(found.pop("saved_at")) / 1000) < 60
    assert found == {"version": "1", "saved_by": "captain", "broker_username": "l\u00e4b",
                     "broker_url": "mqtts://broker.example.org:8883", "broker_ca": ca,
                     "broker_password_ref": "lab.pw", "sign_key_ref": "key-1"}
    entry, = settings_entries(lab)
    assert entry[:3] == ("gateway/settings", "gateway.settings", "gateway")
    assert entry.payload == '{"version":1}' and entry.v == "1" and len(entry.id) == 36
    assert saved()["streams_broker_ca"] == ca


def test_only_when_something_of_the_gateway_has_changed(lab, admin):
    save(admin, broker_url="mqtt://a:1")
    before = lab.redis.hgetall(SETTINGS)
    save(admin, broker_url="mqtt://a:1", text_limit="99")
    settled()
    lab.tick()
    assert lab.redis.hgetall(SETTINGS) == before and len(settings_entries(lab)) == 1
    save(admin, broker_url="mqtt://b:1")
    save(admin, broker_url="")
    assert [entry.body["version"] for entry in settings_entries(lab)] == [2, 3]
    found = lab.redis.hgetall(SETTINGS)
    assert found["version"] == "3" and found["broker_url"] == ""


@pytest.mark.parametrize("policy, who", [("full", "captain"), ("initials", "CT"), ("none", "")])
def test_who_saved_obeys_the_names_policy(lab, admin, policy, who):
    save(admin, names=policy, broker_url="mqtt://a:1")
    assert lab.redis.hget(SETTINGS, "saved_by") == who
    settled()


def test_versions_never_go_back(lab, admin):
    save(admin, broker_url="mqtt://a:1")
    save(admin, broker_url="mqtt://b:1")
    lab.redis.delete(SETTINGS)  # Redis has lost it; the gateway has not
    lab.redis.hset(GATEWAY, "settings_version", 7)
    lab.tick()
    found = lab.redis.hgetall(SETTINGS)
    assert found["version"] == "8" and found["broker_url"] == "mqtt://b:1"
    lab.redis.hset(SETTINGS, "version", 3)  # an old backup
    lab.tick()
    assert lab.redis.hget(SETTINGS, "version") == "8"


def test_two_admins_at_once(lab, admin):
    """Whoever wins, Redis and the database agree, each version is told once, in order."""
    lab.user("mate", "First", "Mate", is_superuser=True)
    rounds, failed = 12, []

    def press(who):
        client = Client(REMOTE_USER=who)
        try:
            for at in range(rounds):
                save(client, broker_url=f"mqtt://{who}:{at + 1}")
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press, args=(who,)) for who in ("captain", "mate")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    versions = [entry.body["version"] for entry in settings_entries(lab)]
    assert versions == list(range(1, len(versions) + 1)) and versions
    found = lab.redis.hgetall(SETTINGS)
    assert found["version"] == str(versions[-1])
    assert found["broker_url"] == saved()["streams_broker_url"]


def test_who_looked_first_does_not_write_last(lab, admin):
    """The one took its turn and read; the other saved in between."""
    save(admin, broker_url="mqtt://a:1")
    writer = redis_stream.writer(conf.current())
    budget = redis_stream.Budget(10)
    turn = writer.call(settings_publish.take_turn(writer.config), budget)
    old = broker.read()
    save(admin, broker_url="mqtt://b:1")
    assert writer.call(settings_publish.write(writer.config, turn, old, "slow"), budget) == [-1, 0]
    found = lab.redis.hgetall(SETTINGS)
    assert (found["version"], found["broker_url"], found["saved_by"]) == ("2", "mqtt://b:1",
                                                                         "captain")


def test_what_was_refused_is_saved_again(lab, admin):
    """A secret file that was missing is there now. Nobody else asks the gateway again."""
    save(admin, broker_url="mqtt://a:1")
    save(admin, broker_url="mqtt://a:1")
    lab.redis.hset(GATEWAY, "settings_error", "no such file")
    settings_publish.tell(redis_stream.writer(conf.current()), "tick")
    assert [entry.body["version"] for entry in settings_entries(lab)] == [1]
    save(admin, broker_url="mqtt://a:1")
    assert [entry.body["version"] for entry in settings_entries(lab)] == [2]
    assert lab.redis.hget(SETTINGS, "version") == "2"


def test_other_choices_are_published_at_once(lab, admin):
    tool = lab.tool()
    lab.use(tool)
    lab.new()
    save(admin, names="none", tool_next="disabled")
    settled()
    found = {entry.topic: entry for entry in lab.new()}
    assert found[f"tools/{tool.pk}/state"].body["user"] is None
    assert found[f"tools/{tool.pk}/next"].payload == ""
    lab.tick()
    assert lab.new() == []


def test_the_last_of_many_choices_counts(lab, admin):
    tool = lab.tool()
    lab.use(tool)
    for policy in ("none", "initials", "full", "none", "initials"):
        save(admin, names=policy)
    settled()
    lab.new()
    lab.tick()
    assert lab.new() == []  # nothing was left over
    lab.snapshot()
    assert [entry.body["user"] for entry in lab.new("tool.state")] == ["RM"]


@pytest.fixture
def other(tmp_path, settings_of):
    server = RedisServer(tmp_path, appendonly=True).start()
    with settings_of({"site": "lab", "redis_url": server.url}):
        yield server
    server.kill()


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_redis_down_while_saving(lab, admin, hurry, other, how):
    other.kill() if how == "killed" else other.pause()
    try:
        begun = time.monotonic()
        page = save(admin, broker_url="mqtt://a:1", names="none").content.decode()
        assert time.monotonic() - begun < PATIENT
        assert "saved in NEMO, but the gateway was not told" in page and "again" in page
        assert saved() == {"streams_broker_url": "mqtt://a:1", "streams_names": "none"}
        begun = time.monotonic()
        lines = admin.get(STATUS).json()["lines"]
        assert time.monotonic() - begun < PATIENT
        assert [line["level"] for line in lines] == ["danger"]
        assert "does not answer" in lines[0]["text"]
    finally:
        other.start() if how == "killed" else other.resume()
    redis_stream._writers.clear()
    client = other.client()
    assert not client.exists(SETTINGS)
    told = [line["text"] for line in admin.get(STATUS).json()["lines"]]
    assert any("gateway was not told" in text for text in told)
    lab.tick()
    assert client.hget(SETTINGS, "broker_url") == "mqtt://a:1"
    assert client.hget(SETTINGS, "version") == "1"
    assert not any("not told" in line["text"] for line in admin.get(STATUS).json()["lines"])


def test_saving_again_tells_too(lab, admin, other):
    other.kill()
    save(admin, broker_url="mqtt://a:1")
    other.start()
    redis_stream._writers.clear()
    page = save(admin, broker_url="mqtt://a:1").content.decode()
    assert "The gateway was told (settings 1)" in page and "not told" not in page


def test_faulty_settings_py(lab, admin, settings_of):
    with settings_of({"site": "NO"}):
        page = save(admin, names="none").content.decode()
        assert "nothing can be published" in page and saved() == {"streams_names": "none"}
        line, = admin.get(STATUS).json()["lines"]
        assert line["level"] == "danger" and "site must be" in line["text"]


def test_what_lies_wrong_in_the_table_is_not_told(lab, admin):
    Customization.objects.create(name="streams_broker_url", value="mqtt://u:secret@b")
    lab.tick()
    assert not lab.redis.exists(SETTINGS)
    assert "mqtt://u:secret@b" in admin.get(PAGE).content.decode()  # so that it can be corrected


def test_a_redis_user_with_the_rights_in_the_readme(lab, admin, settings_of):
    text = (ROOT / "deploy/nemo/README.md").read_text()
    rights = re.search(r"ACL SETUSER nemo on >PASSWORD (.*?)\n\n", text, re.DOTALL)[1].split()
    lab.redis.execute_command("ACL", "SETUSER", "nemo", "on", ">word", *rights)
    try:
        with settings_of({"site": "lab", "redis_url": lab.server.url, "username": "nemo",
                          "password": "word"}):
            lab.redis.xadd("nemo:{lab}:dead", {"dead_reason": "why"})
            assert "was told" in save(admin, broker_url="mqtt://a:1").content.decode()
            answer = admin.get(STATUS).json()
            assert answer["letters"][0]["reason"] == "why"
            lab.tick()
    finally:
        lab.redis.execute_command("ACL", "DELUSER", "nemo")


def test_the_answer_is_json_and_the_page_never_makes_html_of_it(lab, admin):
    evil = "<img src=x onerror=alert(1)>"
    lab.redis.hset(GATEWAY, mapping={"beat": int(time.time() * 1000), "state": evil,
                                     "broker": evil, "last_error": evil, "tls": evil})
    lab.redis.xadd("nemo:{lab}:dead", {"dead_reason": evil, "topic": evil})
    answer = admin.get(STATUS)
    assert answer["Content-Type"] == "application/json" and "no-store" in answer["Cache-Control"]
    assert evil in json.dumps(answer.json())
    page = admin.get(PAGE).content.decode()
    assert evil not in page
    script = page[page.rindex("<script>"):]
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                ".html("):
        assert way not in script
