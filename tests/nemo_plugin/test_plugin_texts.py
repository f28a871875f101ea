"""Names, cutting, times and the displays' 256 bytes; options and settings."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from NEMO import models
from NEMO.models import User
from NEMO_streams import checks, conf, display, entries, options, text

FIELDS = {"user_name", "timestamp", "time_label", "user_label", "tool_name", "event_type"}


def person(first, last, username="rmueller"):
    return User(username=username, first_name=first, last_name=last)


@pytest.mark.parametrize("first, last, full, initials", [
    ("Ren\u00e9", "M\u00fcller", "Ren\u00e9 M\u00fcller", "RM"),
    ("\u674e", "\u5c0f\u9f99", "\u674e \u5c0f\u9f99", "\u674e\u5c0f"),
    ("", "Prince", "Prince", "P"),
    ("", "", "rmueller", None),
])
def test_names(first, last, full, initials):
    user = person(first, last)
    assert text.person(user, "full") == full
    assert text.person(user, "initials") == initials
    assert text.person(user, "none") is None and text.person(None, "full") is None


@pytest.mark.parametrize("given, limit, wanted", [
    ("short", 5, "short"), ("longer", 5, "long\u2026"), (" a  ", 5, "a"), (None, 5, ""),
    ("one two", 5, "one\u2026")])
def test_cut(given, limit, wanted):
    assert text.cut(given, limit) == wanted and len(wanted) <= limit


@pytest.mark.parametrize("given, wanted", [
    ("Ren\u00e9 M\u00fcller", "Rene Muller"), ("Stra\u00dfe \u00d8 \u0141\u00f3d\u017a",
                                               "Strasse O Lodz"),
    ("10 \u00b5m \u03bc-PG", "10 um u-PG"), ("Sa\u0127\u0127a", "Sahha"),
    ("M\u00fcller\u2010L\u00fcdenscheidt", "Muller-Ludenscheidt"),
    ("\u201cx\u201d \u2014 \u2018y\u2019", "\"x\" - 'y'"),
    ("\u674e \u5c0f\u9f99", ""), ("a\u2019b \U0001f600", "a'b"), ("\uff21\u2460", "A1")])
def test_fold(given, wanted):
    assert text.fold(given) == wanted


def test_lone_surrogates_do_not_break_a_payload():
    message = entries.state("t", "x", {"name": "a\ud800b"}, "now")
    assert json.loads(message.payload.decode("utf-8"))["name"] == "a?b"


@pytest.mark.parametrize("utc, zone, wanted", [
    ("2026-11-22T02:36:00", "America/New_York", "Nov 21, 09:36 PM"),
    ("2026-07-22T02:36:00", "America/New_York", "Jul 21, 10:36 PM"),
    ("2026-03-29T00:59:00", "Europe/Paris", "Mar 29, 01:59 AM"),
    ("2026-03-29T01:00:00", "Europe/Paris", "Mar 29, 03:00 AM"),
    ("2026-10-25T00:30:00", "Europe/Paris", "Oct 25, 02:30 AM"),
    ("2026-10-25T01:30:00", "Europe/Paris", "Oct 25, 02:30 AM"),
    ("2026-01-01T00:00:00", "Asia/Kolkata", "Jan 01, 05:30 AM"),
    ("2026-01-01T12:05:00", "UTC", "Jan 01, 12:05 PM"),
    ("2026-01-01T00:05:00", "UTC", "Jan 01, 12:05 AM"),
    ("2026-01-01T00:05:00", "Mars/Olympus", "Jan 01, 12:05 AM"),
])
def test_display_times_in_zones_with_summer_time(utc, zone, wanted):
    when = datetime.fromisoformat(utc).replace(tzinfo=timezone.utc)
    assert text.display_time(when, zone) == wanted


def packet(topic, payload, qos):
    """Size of an MQTT 3.1.1 PUBLISH."""
    rest = 2 + len(topic.encode()) + (2 if qos else 0) + len(payload)
    return 1 + (1 if rest < 128 else 2) + rest


def shown(lab, tool):
    rows = [entry for entry in lab.new("display") if entry.key == f"tool/{tool.pk}"]
    return rows[-1]


@pytest.mark.parametrize("ascii", ["enabled", "disabled"])
@pytest.mark.parametrize("name", ["woollam", "x" * 100, "\u00e9" * 100, "\u674e" * 100,
                                  "\U0001f600" * 100, 'a"\\' * 33],
                         ids=["short", "ascii", "accents", "chinese", "emoji", "escapes"])
@pytest.mark.parametrize("prefix", ["nemo/esp32", "a/" * 19 + "bc"])
def test_display_packets_are_small_enough(lab, ascii, name, prefix):
    lab.choose(display="enabled", display_ascii=ascii, display_name_length="50",
               display_prefix=prefix)
    tool = lab.tool(name)
    lab.use(tool, lab.user("u", "\u5c0f" * 60, "Second"))
    entry = shown(lab, tool)
    payload = entry.payload.encode()
    assert packet(entry.topic, payload, 1) <= 256
    assert FIELDS <= set(entry.body)
    assert (entry.topic, entry.abs, entry.retain) == (f"{prefix}/{tool.pk}/status", "1", "1")
    assert entry.body["user_name"] and entry.body["tool_name"]
    if ascii == "enabled" and name == "x" * 100:
        assert packet(entry.topic, payload, 1) == 256  # no byte is given away


def test_display_follows_the_state(lab):
    lab.choose(display="enabled", display_zone="Europe/Paris")
    tool = lab.tool("E-Beam \u00e9vaporateur")
    entry = shown(lab, tool)
    assert (entry.body["event_type"], entry.body["user_name"], entry.body["timestamp"]) == (
        "disabled", "--", "--")
    usage = lab.use(tool)
    entry = shown(lab, tool)
    assert entry.body == {
        "event_type": "enabled", "in_use": True, "time_label": "Enabled Since",
        "timestamp": text.display_time(usage.start, "Europe/Paris"),
        "user_label": "Current User", "user_name": "Rene Muller",
        "tool_name": "E-Beam evaporateur"}
    lab.end(usage, minutes=30)
    entry = shown(lab, tool)
    assert entry.body["time_label"] == "Cooldown Until" and entry.body["in_use"] is False
    assert entry.body["timestamp"] == text.display_time(usage.end, "Europe/Paris")
    models.UsageEvent.objects.update(end=usage.start + timedelta(microseconds=1))
    lab.tick()
    entry = shown(lab, tool)
    assert (entry.body["event_type"], entry.body["time_label"], entry.body["user_label"],
            entry.body["user_name"]) == ("disabled", "Disabled Since", "Last User", "Rene Muller")
    tool.operational = False
    tool.save()
    assert shown(lab, tool).body["time_label"] == "Down Since"


@pytest.mark.parametrize("first, last, length, wanted", [
    ("Alexandria", "Smith-Jones", "13", "Alexandria"),
    ("Al", "Smith (guest)", "13", "Al Smith"),
    ("Bartholomewxxxxx", "B", "13", "Bartholomewxx"),
    ("\u674e", "\u5c0f\u9f99", "13", "lxl")])
def test_display_user_names(first, last, length, wanted):
    choice = options.Options({"streams_display_name_length": length})
    assert display.user_name(person(first, last, "lxl"), choice) == wanted


def test_names_policy_holds_on_displays():
    for policy, wanted in (("initials", "RM"), ("none", "--")):
        choice = options.Options({"streams_names": policy})
        assert display.user_name(person("Ren\u00e9", "M\u00fcller"), choice) == wanted
        assert display.user_name(None, choice) == "--"
    choice = options.Options({"streams_names": "initials"})
    assert display.user_name(person("\u674e", "\u5c0f"), choice) == "--"  # not the user name


# Options and settings


def test_every_default_passes_its_check():
    assert list(options.faulty_defaults()) == []
    for option in options.OPTIONS:
        assert option.name.startswith("streams_") and len(option.name) <= 50 and option.help


@pytest.mark.parametrize("name, value, field, wanted", [
    ("streams_names", "everything", "names", "full"), ("streams_names", "none", "names", "none"),
    ("streams_text_limit", "-5", "text_limit", 500), ("streams_text_limit", "60", "text_limit", 60),
    ("streams_text_limit", "\u0665\u0665", "text_limit", 500),
    ("streams_display_zone", "Mars/Olympus", "display_zone", "America/New_York"),
    ("streams_display_zone", "", "display_zone", "America/New_York"),
    ("streams_display_zone", "Asia/Kolkata", "display_zone", "Asia/Kolkata"),
    ("streams_display_prefix", "a/+/b", "display_prefix", "nemo/esp32"),
    ("streams_display_prefix", "$SYS", "display_prefix", "nemo/esp32"),
    ("streams_display_prefix", "a\x00b", "display_prefix", "nemo/esp32"),
    ("streams_display_prefix", "a\x9bb", "display_prefix", "nemo/esp32"),
    ("streams_display_prefix", "floor/2", "display_prefix", "floor/2"),
    ("streams_display", "enabled", "display", True), ("streams_display", "on", "display", False),
    ("streams_tool_states", "disabled", "tool_states", False)])
def test_options_fall_back_to_their_defaults(name, value, field, wanted):
    assert getattr(options.Options({name: value}), field) == wanted


GOOD = {"site": "lab-1", "redis_url": "redis://127.0.0.1:6379/2"}


@pytest.mark.parametrize("more, fields", [
    ({}, {"host": "127.0.0.1", "port": 6379, "db": 2, "tls": False}),
    ({"redis_url": "rediss://u:p%40@redis.example.org"},
     {"host": "redis.example.org", "port": 6379, "db": 0, "tls": True, "username": "u",
      "password": "p@"}),
    ({"redis_url": "unix:///run/redis.sock?db=3"}, {"unix_path": "/run/redis.sock", "db": 3}),
    ({"redis_url": "redis://[::1]:7000/0"}, {"host": "::1", "port": 7000}),
    ({"maxlen": 5000}, {"maxlen": 5000})])
def test_settings_that_are_right(more, fields):
    config, problems = conf.read({**GOOD, **more})
    assert problems == []
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize("raw, word", [
    (None, "missing"), ([], "missing"), ({}, "site"), ({**GOOD, "site": "Lab"}, "site"),
    ({**GOOD, "site": 5}, "site"), ({**GOOD, "redis_url": "http://x"}, "redis://"),
    ({**GOOD, "redis_url": "redis://x:port/0"}, "URL"), ({**GOOD, "redis_url": "redis://"}, "host"),
    ({**GOOD, "redis_url": "redis://x/abc"}, "database"),
    ({**GOOD, "redis_url": "redis://x/\u00b2"}, "database"), ({**GOOD, "url": "x"}, "unknown"),
    ({**GOOD, "maxlen": "100"}, "maxlen"), ({**GOOD, "maxlen": True}, "maxlen"),
    ({**GOOD, "password": "a", "password_file": "/b"}, "exclude"),
    ({**GOOD, "password_file": "b"}, "absolute"), ({**GOOD, "ca_file": "/a"}, "rediss://"),
    ({**GOOD, "redis_url": "rediss://x", "cert_file": "/a"}, "together")])
def test_settings_that_are_wrong(raw, word):
    config, problems = conf.read(raw)
    assert config is None and word in " ".join(problems)


def test_problems_never_tell_a_secret():
    _, problems = conf.read({"site": "X", "redis_url": "redis://:geheim@x:port", "password": 5})
    assert "geheim" not in " ".join(problems)


def test_system_check_only_warns(settings_of, tmp_path):
    with settings_of({"site": "No"}):
        found = checks.settings_check()
        assert found and all(not warning.is_serious() for warning in found)
    with settings_of({**GOOD, "password_file": str(tmp_path / "none")}):
        assert [warning.id for warning in checks.settings_check()] == ["nemo_streams.W002"]
    with settings_of(GOOD):
        assert checks.settings_check() == []
