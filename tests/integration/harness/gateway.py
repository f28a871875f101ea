"""The gateway under test: `$NEMOGATE_BINARY run --config FILE`.

    config = gateway_config(redis, broker, slots=1, broker_changes={"inflight": 20})
    gateway = Gateway(tmp_path, config).start()       # waits until its log says READY_TEXT
    gateway.kill9(); gateway.start()
    assert gateway.terminate(timeout=10) == 0
    gateway.log_lines()                               # [{"level": "info", "msg": ..., ...}, ...]
    gateway.wait_log("broker connected")
    gateway.command("check", "--connect")             # another command with the same configuration

config is a dict, written as YAML. Several gateways in one test are several instances: give each
another `instance` in its configuration.
"""

import copy
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request

from .process import Process, wait_until

READY_TEXT = "ready"
"""The message (msg=) in the log once all slots of the gateway run."""


def binary():
    """Path of the program; NEMOGATE_BINARY, which tests/run.sh sets."""
    path = os.environ.get("NEMOGATE_BINARY")
    if not path:
        raise RuntimeError("NEMOGATE_BINARY is not set: path of the nemogate binary to test")
    return os.path.abspath(path)


def gateway_config(redis, broker, redis_changes=None, broker_changes=None, route_changes=None,
                   delivery=None, **top):
    """A configuration for one RedisServer (or its URL) and one broker (or its URL), with times that
    suit tests. The *_changes go into the redis section, the first broker and the first route; top
    into the root: gateway_config(r, b, slots=1, delivery={"lease_ttl": "5s"})."""
    config = {
        "instance": "gateway-1",
        "shards": 2,
        "slots": 2,
        "redis": {"url": getattr(redis, "url", redis), "discovery_interval": "500ms"},
        "brokers": [{"name": "main", "url": getattr(broker, "url", broker)}],
        "routes": [{"streams": "nemo:*:events", "broker": "main"}],
        "delivery": {"lease_ttl": "2s", "drain_timeout": "10s"},
        "admin": {"listen": ""},  # of several gateways on a host one alone gets the default port
        "log": {"level": "debug"},
    }
    if getattr(redis, "tls", None):
        config["redis"]["tls"] = {"ca_file": f"{redis.tls}/ca.crt"}
    if getattr(broker, "tls", None):
        config["brokers"][0]["tls"] = {"ca_file": f"{broker.tls}/ca.crt"}
    config["redis"].update(redis_changes or {})
    config["brokers"][0].update(broker_changes or {})
    config["routes"][0].update(route_changes or {})
    config["delivery"].update(delivery or {})
    config.update(top)
    return config


# ---- YAML and logfmt ------------------------------------------------------------------------


def to_yaml(value, indent=0):
    """Dicts, lists, texts, numbers and booleans as block YAML; texts are always quoted."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{key}:\n{to_yaml(item, indent + 1)}")
            else:
                lines.append(f"{pad}{key}: {_scalar(item)}")
        return "\n".join(lines)
    if isinstance(value, list):
        lines = []
        for item in value:
            if isinstance(item, (dict, list)):
                lines.append(f"{pad}- {to_yaml(item, indent + 1).lstrip()}")
            else:
                lines.append(f"{pad}- {_scalar(item)}")
        return "\n".join(lines)
    return pad + _scalar(value)


def _scalar(value):
    return "" if value is None else json.dumps(value)  # JSON's scalars are YAML's


_FIELD = re.compile(r'([A-Za-z_][\w.-]*)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_logfmt(line):
    """One logfmt line as a dict of texts. A line that is not logfmt is {"text": line}."""
    if not _FIELD.match(line):
        return {"text": line}
    fields = {}
    for name, value in _FIELD.findall(line):
        if value.startswith('"'):
            try:
                value = json.loads(value)
            except ValueError:
                value = value[1:-1]
        fields[name] = value
    return fields


# ---- the gateway ----------------------------------------------------------------------------


class Gateway(Process):
    name = "gateway"

    def __init__(self, tmp, config, env=None):
        super().__init__(tmp, env)
        self.config_path = os.path.join(self.folder, "nemogate.yaml")
        self.write_config(config)
        self._log_from = 0

    def argv(self):
        return [binary(), "run", "--config", self.config_path]

    def write_config(self, config):
        """Replaces the file; config is a dict, or the file's text. See reload()."""
        self.config = copy.deepcopy(config)
        text = config if isinstance(config, str) else to_yaml(config) + "\n"
        with open(self.config_path + ".new", "w") as f:
            f.write(text)
        os.replace(self.config_path + ".new", self.config_path)

    def launch(self):
        self._log_from = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        return super().launch()

    def wait_ready(self, timeout=10.0):
        """Until this run's log says that it is ready; fails at once when it has ended."""
        self.wait_log("", timeout, msg=READY_TEXT)

    def kill9(self):
        self.kill()

    def reload(self):
        self.signal(signal.SIGHUP)

    def command(self, *arguments, timeout=20, **popen):
        """Runs another command with --config of this gateway; a CompletedProcess with texts."""
        return subprocess.run([binary(), *arguments, "--config", self.config_path], text=True,
                              capture_output=True, timeout=timeout, env=self.env, **popen)

    # ---- log

    def log_lines(self, this_run=False):
        """All lines as dicts, oldest first; this_run: since the last start only."""
        text = self.log_text()
        if this_run:
            with open(self.log_path, "rb") as log:
                log.seek(self._log_from)
                text = log.read().decode(errors="backslashreplace")
        return [parse_logfmt(line) for line in text.splitlines() if line]

    def log_count(self, text, **fields):
        """How many lines have this text somewhere in a value, and exactly these fields."""
        return sum(_line_matches(line, text, fields) for line in self.log_lines())

    def wait_log(self, text, timeout=10.0, **fields):
        """The first line of this run with this text somewhere in a value, and exactly these fields,
        e.g. wait_log("refused", level="warning"); as a dict."""
        def found():
            for line in self.log_lines(this_run=True):
                if _line_matches(line, text, fields):
                    return line
            if fields.get("msg") != "stopped":
                self.check_running()
            return None
        return wait_until(found, timeout, lambda: f"{text!r} {fields or ''} in {self.log_path}; "
                          f"its end:\n{self.log_tail()}\n", interval=0.02)

    def wait_stopped_line(self):
        """The last line of this run: its counts, and how much stays pending."""
        return self.wait_log("", msg="stopped")

    # ---- admin (needs admin: {"listen": ...} in the configuration)

    def admin(self, path):
        """GET of the admin server: (status, text)."""
        url = f"http://{self.config['admin']['listen']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def metrics(self):
        """{'nemogate_published_total{site="a"}': 17.0, ...}"""
        values = {}
        for line in self.admin("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def metric(self, name):
        """Sum of a metric over its labels; 0 where it does not exist yet."""
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name)


def _line_matches(line, text, fields):
    return (any(text in value for value in line.values())
            and all(line.get(name) == str(value) for name, value in fields.items()))
