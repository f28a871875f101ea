"""A real Prometheus beside two real gateways: the scrape configuration with token and TLS, each panel of the
dashboard, each rule, and the values themselves after a dead letter, a refusal, an outage and duplicates."""

import copy
import math
import re
import shutil
import ssl
import threading
import time
import urllib.request

import pytest
import yaml
from harness import free_port, gateway_config, wait_until
from monitoring import FOLDER, RULES, Prometheus, filled_in, metrics, panel_queries, variables

TOKEN = "the-token-of-prometheus"
SITES = ("lab", "fab", "north", "south")
PATIENCE = 30


def stream(site):
    return f"nemo:{{{site}}}:events"


class Traffic:
    """Events of each site until it is closed."""

    def __init__(self, redis):
        self.client = redis.client()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def _write(self):
        n = 0
        while not self.over.wait(0.02):
            n += 1
            for site in SITES:
                self.client.xadd(stream(site), {"topic": f"tools/{n % 9}/state", "payload": "{}"})

    def close(self):
        self.over.set()
        self.thread.join()


class Installation:
    """Two instances with token and TLS, and a Prometheus that was given the sample file."""

    def __init__(self, things, tmp):
        self.tmp = tmp
        (tmp / "token").write_text(TOKEN + "\n")
        self.certs = things.certs
        self.redis = things.redis(appendonly=True)
        self.broker = things.mosquitto(tls=things.certs, acl="topic readwrite nemo/#\n"
                                       "topic readwrite nemogate/#\n")
        self.gateways = []
        for name in ("gateway-1", "gateway-2"):
            admin = {"listen": f"127.0.0.1:{free_port()}", "token_file": str(tmp / "token"),
                     "tls": {"cert_file": f"{things.certs}/server.crt",
                             "key_file": f"{things.certs}/server.key"}}
            self.gateways.append(things.gateway(gateway_config(
                self.redis, self.broker, instance=name, slots=8, admin=admin,
                route_changes={"coalesce_retained": True})))
        self.prometheus = Prometheus(tmp, self.sample_config())
        things.made.append(self.prometheus)
        self.prometheus.start()

    def sample_config(self):
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms",
                            "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        job = copy.deepcopy(config["scrape_configs"][1])
        job["authorization"]["credentials_file"] = str(self.tmp / "token")
        job["tls_config"]["ca_file"] = f"{self.certs}/ca.crt"
        job["static_configs"][0]["targets"] = [g.config["admin"]["listen"] for g in self.gateways]
        return {**config, "scrape_configs": [job]}

    def metrics_text(self, number):
        url = f"https://{self.gateways[number].config['admin']['listen']}/metrics"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
        trust = ssl.create_default_context(cafile=f"{self.certs}/ca.crt")
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            return answer.read().decode()

    def value(self, expression):
        found = self.prometheus.query(expression)
        return found[0][1] if found else 0

    def wait_value(self, expression, wanted):
        """wanted: a number, or a function of what is there."""
        fits = wanted if callable(wanted) else lambda value: value == wanted
        wait_until(lambda: fits(self.value(expression)), PATIENCE,
                   lambda: f"{expression} is {self.value(expression)}", interval=0.2)


@pytest.fixture
def installation(things, tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    return Installation(things, tmp_path)


def have_a_day(here):
    """What makes every metric move."""
    client = here.redis.client()
    traffic = Traffic(here.redis)
    here.wait_value("sum(nemogate_acked_total)", lambda acked: acked > 200)
    client.xadd(stream("lab"), {"payload": "without a topic"})
    client.xadd(stream("fab"), {"topic": "forbidden/here", "abs": "1", "payload": "x"})
    here.wait_value("sum(nemogate_site_dead_letters_total)", 2)
    here.broker.pause()  # what is in flight then is published again
    here.wait_value("sum(nemogate_inflight)", lambda count: count > 10)
    here.broker.kill()
    here.wait_value("sum(nemogate_connected)", 0)
    client.xadd(stream("north"), {"topic": "late", "payload": "x", "exp": "1"})
    for n in range(9):
        client.xadd(stream("south"), {"topic": "newest", "payload": str(n), "retain": "1"})
    here.wait_value("min(nemogate_broker_up)", 0)
    here.wait_value("max(nemogate_oldest_pending_seconds)", lambda age: age >= 2)
    here.broker.start()
    here.wait_value("min(nemogate_broker_up)", 1)
    traffic.close()
    here.wait_value("sum(nemogate_lag_entries) + sum(nemogate_pending_entries)", 0)
    written = sum(client.xinfo_stream(stream(site))["entries-added"] for site in SITES)
    here.wait_value("sum(nemogate_acked_total)", written)
    return written


def test_the_readme_has_the_sample_file():
    """Its two pieces of YAML are the jobs of prometheus.yml."""
    text = (FOLDER.parents[1] / "README.md").read_text()
    section = text.split("### Prometheus and Grafana")[1].split("\n## ")[0]
    first, second = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL))
    sample = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert first["rule_files"] == sample["rule_files"]
    assert first["scrape_configs"] + second == sample["scrape_configs"]


@pytest.mark.limit(240)
def test_panels_rules_and_values(installation):
    here, begin = installation, time.time()
    have_a_day(here)
    here.wait_value("sum(max by (job, site) (nemogate_dead_letter_stream_entries))", 2)
    time.sleep(3)  # some more scrapes
    for title, target in panel_queries():
        expression = filled_in(target["expr"], "10s")
        rows = here.prometheus.query_range(expression, begin)
        assert any(not math.isnan(value) for _, values in rows for value in values), \
            f"{title}: no data: {expression}"
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert all(label in labels for labels, _ in rows), f"{title}: no {label}: {rows[0][0]}"
    check_variables(here)
    check_rules(here)
    check_values(here)


def check_variables(here):
    """Each of them offers what there is."""
    offers = {}
    for name, entry in variables().items():
        if entry["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", entry["definition"]).groups()
            offers[name] = here.prometheus.get(f"/api/v1/label/{label}/values",
                                               **{"match[]": filled_in(metric, "10s")})
    targets = sorted(g.config["admin"]["listen"] for g in here.gateways)
    assert offers == {"job": ["nemogate-campus"], "instance": targets, "site": sorted(SITES),
                      "broker": ["main"]}


def check_rules(here):
    """Each is evaluated without an error, and of the alerts those fire that should."""
    found = [rule for group in here.prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert found and all(rule["health"] == "ok" for rule in found), \
        [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"]
    fires = {(alert["labels"]["alertname"], alert["labels"].get("site"))
             for alert in here.prometheus.get("/api/v1/alerts")["alerts"] if alert["state"] == "firing"}
    assert fires == {("NemogateDeadLetters", "lab"), ("NemogateDeadLetters", "fab")}


def check_values(here):
    """What the metrics say is what has happened."""
    for expression, wanted in {
            'nemogate_dead_letters_total{reason="no-topic"} > 0': 1,
            'sum(nemogate_dead_letters_total{reason="not-authorized"})': 1,
            'sum(nemogate_puback_reason_total{code="0x87"})': lambda v: v >= 1,
            'sum by (code) (nemogate_puback_reason_total{code="0x87"})'
            " - on () sum(nemogate_refused_total)": 0,
            "sum(nemogate_slots_owned)": 8,
            "sum(nemogate_connected) - sum(nemogate_connections)": 0,
            # At least the outage; Mosquitto closes connections after some refusals, too.
            "sum(nemogate_reconnects_total) - sum(nemogate_connections)": lambda v: 0 <= v <= 10,
            "sum(nemogate_window) - 20 * sum(nemogate_connected)": 0,
            "sum(nemogate_expired_total)": 1,
            "sum(nemogate_coalesced_total)": 8,
            "sum(nemogate_republished_total)": lambda v: 10 < v < 200,
            "min(nemogate_ready)": 1,
            "sum(nemogate_inflight) + sum(nemogate_inflight_bytes)": 0,
            "max(nemogate_oldest_pending_seconds)": 0,
            "sum(nemogate_entries_read_total) - sum(nemogate_acked_total)": 0,
            "sum(nemogate_acked_total) - sum(nemogate_settled_total)": 2,
            "sum(nemogate_published_total) - sum(nemogate_refused_total)"
            " - sum(nemogate_republished_total) + sum(nemogate_expired_total)"
            " + sum(nemogate_coalesced_total) - sum(nemogate_settled_total)": 0,
            'sum(nemogate_problems{code="dead-letters",level="warning"})': lambda v: v >= 2,
            "max(nemogate_certificate_expiry_timestamp_seconds) - time()":
                lambda v: 20 * 86400 < v < 40 * 86400,
            "max(process_resident_memory_bytes)": lambda v: 1e6 < v < 1e9,
            "sum(process_cpu_seconds_total)": lambda v: 0 < v < 100,
            "time() - min(process_start_time_seconds)": lambda v: 0 < v < 240}.items():
        value = here.value(expression)
        assert wanted(value) if callable(wanted) else value == wanted, f"{expression} is {value}"


@pytest.mark.limit(180)
def test_no_metric_is_of_another_kind_than_the_table_says(installation):
    """Name, type and labels on the wire are those of the table, and the table has all of them."""
    here = installation
    client = here.redis.client()
    for site in SITES:
        client.xadd(stream(site), {"topic": "a", "payload": "{}"})
    client.xadd(stream("lab"), {"payload": "without a topic"})
    here.wait_value("sum(nemogate_dead_letters_total)", 1)
    here.wait_value("sum(nemogate_pending_entries)", 0)
    types, seen = {}, {}
    for number in range(len(here.gateways)):
        text = here.metrics_text(number)
        types.update(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            family = family if types.get(family) == "histogram" else name
            seen.setdefault(family, set()).update(re.findall(r'(\w+)="', labels))
    table = metrics()
    assert types == {name: kind for name, (kind, _) in table.items()}
    assert set(seen) == set(table), "each has a sample"
    for name, labels in seen.items():
        assert labels - {"le"} == table[name][1], name
