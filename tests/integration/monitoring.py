"""What the tests of deploy/monitoring share: the dashboard's queries, the table of metrics, and a Prometheus
of the test's own.

    prometheus = Prometheus(tmp_path, {"scrape_configs": [...]}).start()
    prometheus.query("up"); prometheus.query_range("up", begin); prometheus.get("/api/v1/rules")
"""

import json
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from harness import free_port, gateway, wait_until
from harness.process import Process

FOLDER = pathlib.Path(__file__).parents[2] / "deploy/monitoring"
RULES = FOLDER / "nemogate.rules.yml"


def dashboard():
    return json.loads((FOLDER / "grafana-dashboard.json").read_text())


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panel_queries():
    """[(panel's title, target)]"""
    return [(panel["title"], target) for panel in dashboard()["panels"]
            for target in panel.get("targets", [])]


def variables():
    return {entry["name"]: entry for entry in dashboard()["templating"]["list"]}


def filled_in(expression, interval):
    """As Grafana sends it with all chosen."""
    for name, entry in variables().items():
        expression = expression.replace(f"${name}", entry.get("allValue", "?"))
    expression = expression.replace("$__rate_interval", interval)
    assert "$" not in expression, f"a variable that the dashboard has not: {expression}"
    return expression


def metrics():
    """{name: (type, {labels})} as `nemogate metrics-doc` has it."""
    table = subprocess.run([gateway.binary(), "metrics-doc"], text=True, capture_output=True, check=True,
                           timeout=20).stdout
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*?) ?\|", table, re.MULTILINE)
    return {name: (kind, set(filter(None, labels.replace(" ", "").split(","))))
            for name, kind, labels in rows}


class Prometheus(Process):
    name = "prometheus"

    def __init__(self, tmp, config):
        super().__init__(tmp)
        self.port = free_port()
        self.config_path = f"{self.folder}/prometheus.yml"
        pathlib.Path(self.config_path).write_text(yaml.safe_dump(config))

    def argv(self):
        return ["prometheus", f"--config.file={self.config_path}",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]

    def wait_ready(self, timeout=10.0):
        def ready():
            self.check_running()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                    return True
            except (OSError, urllib.error.HTTPError):
                return False
        wait_until(ready, 6 * timeout, f"Prometheus is ready ({self.log_path})")

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{path} {parameters}: {refusal.read().decode()}") from None
        assert said["status"] == "success", said
        return said["data"]

    def query(self, expression):
        """[(labels, value)] of now."""
        result = self.get("/api/v1/query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def query_range(self, expression, begin):
        """[(labels, [value])] since then, one a second."""
        result = self.get("/api/v1/query_range", query=expression, start=begin, end=time.time(),
                          step="1s")["result"]
        return [(row["metric"], [float(value) for _, value in row["values"]]) for row in result]
