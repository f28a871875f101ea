"""The alert rules of deploy/monitoring, by promtool: what each fires at, what it leaves alone, and that
ordinary life (restarts, a takeover, a backlog that is worked off) fires nothing.

A case is a change of an ordinary time of two instances, whose values are `promtool test rules` series
(start+stepxcount, one every 30 s)."""

import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

RULES = pathlib.Path(__file__).parents[2] / "deploy/monitoring/nemogate.rules.yml"
SAMPLES = 480  # four hours
DAY = 86400


def constant(value):
    return f"{value}x{SAMPLES}"


def growing(step, start=0):
    return f"{start}+{step}x{SAMPLES}"


def series(name, instance="a", **labels):
    labels = {"job": "nemogate", "instance": instance, **labels}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def loop_of(instance, slow):
    """The histogram of an instance: ten looks a sample, so many of them slow."""
    return {series("nemogate_loop_seconds_bucket", instance, le=le): growing(step)
            for le, step in (("0.1", 10 - slow), ("1", 10 - slow), ("2", 10), ("+Inf", 10))}


def ordinary():
    """Two instances of one installation; sites lab (of a) and fab (of b), both at the broker main."""
    found = {}
    for instance, site in (("a", "lab"), ("b", "fab")):
        def put(name, values, instance=instance, **labels):
            found[series(name, instance, **labels)] = values
        put("up", constant(1))
        put("process_start_time_seconds", constant(1))
        put("nemogate_ready", constant(1))
        put("nemogate_redis_up", constant(1))
        put("nemogate_reload_failed", constant(0))
        put("nemogate_legacy_rivals", constant(0))
        put("nemogate_oldest_pending_seconds", constant(0))
        put("nemogate_broker_up", constant(1), broker="main")
        put("nemogate_connections", constant(2), broker="main")
        put("nemogate_connected", constant(2), broker="main")
        put("nemogate_reconnects_total", constant(0), broker="main")
        put("nemogate_republished_total", constant(0), broker="main")
        put("nemogate_puback_reason_total", growing(300), broker="main", code="0x00")
        put("nemogate_certificate_expiry_timestamp_seconds", constant(90 * DAY), of="broker",
            broker="main")
        put("nemogate_lag_entries", constant(0), site=site)
        put("nemogate_acked_total", growing(300), site=site)
        put("nemogate_site_dead_letters_total", constant(0), site=site)
        put("nemogate_dead_letter_stream_entries", constant(0), site=site)
        found.update(loop_of(instance, 0))
    return found


def problem(code, level="warning", values=None):
    return {series("nemogate_problems", code=code, level=level): values or constant(1)}


def only(instance, names, values, **labels):
    return {series(name, instance, **labels): values for name in names}


def silent(*instances):
    """The targets are there and do not answer."""
    changes = {name: None for name in ordinary() if any(f'instance="{i}"' in name for i in instances)}
    return {**changes, **{series("up", i): constant(0) for i in instances}}


NEW_CODE = series("nemogate_puback_reason_total", broker="main", code="0x97")
EXPIRY = series("nemogate_certificate_expiry_timestamp_seconds", of="broker", broker="main")
EXPIRY_B = EXPIRY.replace('"a"', '"b"')
ACKED, LAG = series("nemogate_acked_total", site="lab"), series("nemogate_lag_entries", site="lab")
LETTERS = series("nemogate_site_dead_letters_total", site="lab")
OLDEST = series("nemogate_oldest_pending_seconds")
AGAIN = series("nemogate_republished_total", broker="main")
RECONNECTS = series("nemogate_reconnects_total", broker="main")
STARTED = series("process_start_time_seconds")

# The minute at which one looks, the change, and what then fires: {alert: labels}.
FIRES = [
    ("nobody answers", 8, silent("a", "b"), {"NemogateDown": {}}),
    ("no target", 6, {name: None for name in ordinary()}, {"NemogateAbsent": None}),
    ("one of two does not answer", 6, silent("b"), {"NemogateInstanceDown": {"instance": "b"}}),
    ("it crashes over and over", 20, {STARTED: "1x9 300x4 420x4 540x4 660x4 780x400"},
     {"NemogateRestarting": {"instance": "a"}}),
    ("a faulty configuration", 3, only("a", ["nemogate_reload_failed"], constant(1)),
     {"NemogateReloadFailed": {"instance": "a"}}),
    ("a busy thread", 25, loop_of("b", 3), {"NemogateOverloaded": {"instance": "b"}}),
    ("Redis is away", 8, {**only("a", ["nemogate_redis_up", "nemogate_ready"], constant(0))},
     {"NemogateRedisDown": {"instance": "a"}}),
    ("the broker is away", 8,
     {**only("a", ["nemogate_connected", "nemogate_broker_up"], constant(0), broker="main"),
      **only("b", ["nemogate_connected", "nemogate_broker_up"], constant(0), broker="main"),
      **only("a", ["nemogate_ready"], constant(0)), **only("b", ["nemogate_ready"], constant(0))},
     {"NemogateBrokerDown": {"broker": "main"}}),
    ("a connection is missing", 8,
     {**only("a", ["nemogate_connected"], constant(1), broker="main"),
      **only("a", ["nemogate_broker_up"], constant(0), broker="main"),
      **only("a", ["nemogate_ready"], constant(0))},
     {"NemogateBrokerPartlyConnected": {"instance": "a", "broker": "main"}}),
    ("it is not ready", 8, only("b", ["nemogate_ready"], constant(0)),
     {"NemogateNotReady": {"instance": "b"}}),
    ("a broker that takes all and acknowledges nothing", 15,
     {**only("a", ["nemogate_ready"], constant(0)),
      series("nemogate_broker_up", broker="main"): "1 1 0 1 1 0 1 1 0 1 1 0 1 1 0 1 1 0 1 1 0 1 1 0 1 1 0 1"},
     {"NemogateNotReady": {"instance": "a"}}),
    ("a slot without an owner", 3, problem("slot-without-owner", "error"),
     {"NemogateSlotWithoutOwner": {}}),
    ("a certificate ends in 13 days", 20, {EXPIRY: constant(13 * DAY)},
     {"NemogateCertificateExpires": {"of": "broker", "broker": "main"}}),
    ("a certificate ends in two days", 20, {EXPIRY: constant(2 * DAY), EXPIRY_B: constant(2 * DAY)},
     {"NemogateCertificateExpiresNow": {"of": "broker", "broker": "main"}}),
    ("a certificate has ended", 20, {EXPIRY: constant(0)},
     {"NemogateCertificateExpiresNow": {"of": "broker", "broker": "main"}}),
    ("the Python bridge runs", 4, only("a", ["nemogate_legacy_rivals"], constant(1)),
     {"NemogateLegacyBridge": {}}),
    ("a site is stuck", 30, {LAG: constant(7), ACKED: constant(500)},
     {"NemogateSiteStuck": {"site": "lab"}}),
    ("a backlog grows", 40, {LAG: growing(100)}, {"NemogateLagGrowing": {"site": "lab"}}),
    ("a backlog grows while its slots change hands", 60,
     {LAG: "0+100x60 stale", series("nemogate_lag_entries", "b", site="lab"): "_x60 6000+100x400",
      ACKED: "0+300x60 stale", series("nemogate_acked_total", "b", site="lab"): "_x60 0+300x400"},
     {"NemogateLagGrowing": {"site": "lab"}}),
    ("an event does not move", 30, {OLDEST: growing(30)},
     {"NemogateOldestPending": {"instance": "a"}}),
    ("a stream that cannot be read", 8, problem("stream-unreadable"), {"NemogateStreamUnreadable": {}}),
    ("trimming is blocked", 65, problem("trim-blocked"), {"NemogateTrimBlocked": {}}),
    ("a dead letter", 31, {LETTERS: "0x60 1x400"}, {"NemogateDeadLetters": {"site": "lab"}}),
    ("the first one of a site that was not known", 31,
     {series("nemogate_site_dead_letters_total", site="new"): "_x60 1x400"},
     {"NemogateDeadLetters": {"site": "new"}}),
    ("one after a restart", 41, {LETTERS: "5x60 0x20 1x400"}, {"NemogateDeadLetters": {"site": "lab"}}),
    ("very many dead letters", 20,
     {series("nemogate_dead_letters_total", reason="not-authorized"): growing(10)},
     {"NemogateDeadLettersMany": {}}),
    ("a broker over its quota", 15, {NEW_CODE: growing(1)},
     {"NemogateBrokerRefuses": {"broker": "main", "code": "0x97"}}),
    ("an unsteady network", 25, {RECONNECTS: growing(1)}, {"NemogateBrokerUnsteady": {"broker": "main"}}),
    ("many duplicates", 50, {AGAIN: growing(20)}, {"NemogateRepublished": {}}),
]

# What takes a day; one looks every ten minutes.
LONG = [
    ("dead letters that lie there", 25 * 60,
     {**{name: "0+1x3100" for name in ordinary() if name.startswith(("up", "nemogate_acked"))},
      **{series("nemogate_dead_letter_stream_entries", i, site="lab"): "3x3100" for i in "ab"}},
     {"NemogateDeadLettersLie": {"site": "lab"}}),
    ("dead letters that somebody looks at", 25 * 60,
     {**{name: "0+1x3100" for name in ordinary() if name.startswith("up")},
      series("nemogate_dead_letter_stream_entries", site="lab"): "3x2000 0x60 3x1000"}, {}),
]

# What is nobody's fault, or over before somebody could do anything: nothing fires from the 16th minute to the
# last one. (A counter that Prometheus sees for the first time is new to it for 15 minutes.)
AWAY = "1x40 0x3 1x400"  # 90 s
KEEPS_STILL = [
    ("an ordinary time", 90, {}),
    ("a gateway without streams, brokers or sites yet", 60,
     {name: None for name in ordinary() if "site=" in name or "broker=" in name}),
    ("a restart of 90 s, of both", 40,
     {**{name: "0+300x40 _x3 0+300x400" for name in ordinary() if "acked" in name or "reason" in name},
      series("up"): AWAY, series("up", "b"): AWAY,
      STARTED: "1x40 _x3 1300x400", LETTERS: "7x40 _x3 0x400", AGAIN: "5000x40 _x3 0x400",
      series("nemogate_ready"): "1x40 _x3 0x3 1x400"}),
    ("three reloads after another", 40, {STARTED: "1x40 1300x4 1420x4 1540x400"}),
    ("a takeover: b carries what a did", 70,
     {LAG: "0x60 stale", series("nemogate_lag_entries", "b", site="lab"): "_x60 400x2 0x400",
      ACKED: "0+300x60 stale", series("nemogate_acked_total", "b", site="lab"): "_x60 0+300x400",
      LETTERS: "4x60 stale", series("nemogate_site_dead_letters_total", "b", site="lab"): "_x60 0x400"}),
    ("a backlog of an hour is worked off", 80,
     {LAG: "500000-2000x250 0x300", OLDEST: "3600-10x360 0x100", ACKED: growing(2300)}),
    ("a burst", 45, {LAG: "0x40 20000+100x24 0x400"}),
    ("a large backlog that does not grow while events are carried", 70, {LAG: constant(50000)}),
    ("a few events wait for a moment, and none comes for long", 70,
     {ACKED: "5000x60 5007x400", LAG: "0x60 7x2 0x400"}),
    ("the broker's restart of 90 s", 45,
     {**{series("nemogate_connected", i, broker="main"): "2x40 0x3 2x400" for i in "ab"},
      **{series("nemogate_broker_up", i, broker="main"): AWAY for i in "ab"},
      **{series("nemogate_ready", i): AWAY for i in "ab"},
      RECONNECTS: "0x43 2x400", AGAIN: "0x43 1000x400", ACKED: growing(3000)}),
    ("a failover of Redis of 90 s", 40, only("a", ["nemogate_redis_up", "nemogate_ready"], AWAY)),
    ("a single refusal", 60, {NEW_CODE: "0x40 1x400"}),
    ("a dead letter of yesterday", 60,
     {LETTERS: constant(1), series("nemogate_dead_letter_stream_entries", site="lab"): constant(1)}),
    ("a certificate of 30 days", 40, {EXPIRY: constant(30 * DAY)}),
    ("problems with alerts of their own are not told twice", 70,
     {**problem("dead-letters"), **problem("lag-growing"), **problem("reload-failed")}),
    ("another installation is not mixed up with it", 60,
     {series("nemogate_connected", "c", job="nemogate-other", broker="main"): constant(1),
      series("nemogate_connections", "c", job="nemogate-other", broker="main"): constant(1),
      series("nemogate_acked_total", "c", job="nemogate-other", site="lab"): constant(0),
      series("nemogate_lag_entries", "c", job="nemogate-other", site="lab"): constant(0),
      series("up", "c", job="nemogate-other"): constant(1)}),
    ("neither are targets of other programs", 40,
     {series("up", "n", job="node"): constant(0),
      series("process_start_time_seconds", "n", job="node"): growing(60)}),
]


def firing(expected):
    """The ALERTS that Prometheus keeps of it."""
    job = {} if expected and None in expected.values() else {"job": "nemogate"}
    return [{"labels": "ALERTS" + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(
        {"alertname": alert, "alertstate": "firing", **job, **(labels or {})}.items())) + "}",
        "value": 1} for alert, labels in expected.items()]


def case(name, minute, changes, expected, since=None):
    """since: a minute, from which on to the other one alerts count that have fired at any time."""
    found = {key: values for key, values in {**ordinary(), **changes}.items() if values is not None}
    alerts = "ALERTS{alertstate='firing'}"
    if since is not None:
        alerts = f"max_over_time({alerts}[{minute - since}m])"
    query = f"max without (severity) ({alerts})"  # a maximum has no name
    samples = [{**sample, "labels": sample["labels"].removeprefix("ALERTS")}
               for sample in firing(expected)]
    return {"name": name, "interval": "30s",
            "input_series": [{"series": key, "values": values} for key, values in found.items()],
            "promql_expr_test": [{"expr": query, "eval_time": f"{minute}m", "exp_samples": samples}]}


@pytest.fixture(autouse=True)
def _promtool():
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")


def alerts():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
            if "alert" in rule]


def run_cases(folder, cases, interval="30s"):
    file = folder / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": interval,
                                    "tests": [case(*c) for c in cases]}))
    return subprocess.run(["promtool", "test", "rules", str(file)], text=True, capture_output=True,
                          timeout=100)


def test_the_file_is_whole():
    checked = subprocess.run(["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(RULES)],
                             text=True, capture_output=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for alert in alerts():
        assert alert["labels"]["severity"] in ("critical", "warning", "info"), alert["alert"]
        summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
        assert len(summary) < 100 and len(description.split()) > 15, alert["alert"]
    tried = {name for *_, expected in FIRES + LONG for name in expected}
    assert tried == {alert["alert"] for alert in alerts()}, "each alert needs a case that fires it"


def test_the_readme_has_each_alert():
    text = (RULES.parents[2] / "README.md").read_text()
    rows = re.findall(r"^\| (`Nemogate[^|]*) \| ([a-z, ]+) \|", text, re.MULTILINE)
    told = {}
    for names, severities in rows:
        names, severities = re.findall(r"`(\w+)`", names), severities.split(", ")
        told.update(zip(names, severities if len(severities) > 1 else severities * len(names)))
    assert told == {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}


def test_each_alert_fires_alone(tmp_path):
    done = run_cases(tmp_path, FIRES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_takes_a_day(tmp_path):
    done = run_cases(tmp_path, LONG, "10m")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ordinary_life_fires_nothing(tmp_path):
    done = run_cases(tmp_path, [(*c, {}, 16) for c in KEEPS_STILL], "1m")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_can_fail(tmp_path):
    """What is expected and does not fire, and what fires and is not expected."""
    name, minute, changes, _ = FIRES[0]
    assert run_cases(tmp_path, [(name, minute, changes, {})]).returncode != 0
    assert run_cases(tmp_path, [("nothing", 30, {}, {"NemogateDown": {}})]).returncode != 0


def test_texts_name_what_they_speak_of(tmp_path):
    """Templates are filled in by Prometheus: with a label or value that is not there they would read
    "<no value>", or nothing."""
    labels = {name: labels or {} for *_, expected in FIRES + LONG for name, labels in expected.items()}
    for alert in alerts():
        text = "".join(alert["annotations"].values())
        used = set(re.findall(r"\$labels\.(\w+)", text))
        has = set(labels[alert["alert"]]) | ({"job"} if alert["alert"] != "NemogateAbsent" else set())
        assert used <= has, f"{alert['alert']}: {used - has}"
