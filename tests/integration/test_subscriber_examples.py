"""The examples for subscribers in the README, as they stand there, against Mosquitto with TLS and
passwords, fed by nemogate. Only the connection's details are replaced."""

import json
import os
import re
import subprocess
import sys

import pytest
from harness import gateway_config, wait_until
from harness.process import Process

README = os.path.join(os.path.dirname(__file__), "..", "..", "README.md")
STREAM = "nemo:{lab}:events"
SECRET = "only readers"


def section():
    with open(README, encoding="utf-8") as file:
        text = file.read()
    return re.search(r"^## For subscribers.*?(?=^## )", text, re.M | re.S)[0]


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", section(), re.M | re.S)[1]


def indented(first):
    """The block of indented lines that begins with `first`."""
    lines = re.search(rf"^    {re.escape(first)}.*\n(?:    .*\n)*", section(), re.M)[0]
    return re.sub(r"^    ", "", lines, flags=re.M)


class Program(Process):
    name = "program"

    def __init__(self, tmp, argv, env):
        super().__init__(tmp, env)
        self._argv = argv

    def argv(self):
        return self._argv

    def wait_ready(self, timeout=10.0):
        pass

    def wait_line(self, line):
        wait_until(lambda: line in self.log_text(), 15,
                   lambda: f"{line!r} of {self.log_path}:\n{self.log_text()}")


class Site:
    def __init__(self, things):
        self.things, self.redis = things, things.redis()
        self.broker = things.mosquitto(
            tls=things.certs, password={"gateway": "g", "dashboard": SECRET},
            acl="user gateway\ntopic readwrite #\n" + indented("user dashboard"))
        password = things.tmp / "password"
        password.write_text("g")
        things.gateway(gateway_config(self.redis, self.broker, broker_changes={
            "username": "gateway", "password_file": str(password)}))

    def local(self, text):
        for theirs, ours in (("broker.example.org", "localhost"), ("8883", str(self.broker.port)),
                             ("/etc/nemo/ca.crt", f"{self.things.certs}/ca.crt"),
                             ("-P secret", f"-P {SECRET}")):
            text = text.replace(theirs, ours)
        return text

    def write(self, topic, payload, **fields):
        self.redis.client().xadd(STREAM, {
            "topic": topic, "payload": payload if payload == "" else json.dumps(payload), **fields})

    def state(self, id, state, user=None):
        self.write(f"tools/{id}/state", {"v": 1, "tool_name": f"tool {id}", "state": state,
                                         "user": user}, retain=1)

    def enabled(self, id, event_id):
        self.write(f"tools/{id}/event", {"v": 1, "tool_name": f"tool {id}", "event": "enabled"},
                   id=event_id)

    def wait_published(self):
        def settled():
            groups = self.redis.client().xinfo_groups(STREAM)
            return groups and groups[0]["lag"] == 0 and groups[0]["pending"] == 0
        wait_until(settled, 15, "all entries acknowledged")

    def run(self, argv, **env):
        program = Program(self.things.tmp, argv, env)
        self.things.made.append(program)
        return program.start()


@pytest.fixture
def site(things):
    site = Site(things)
    site.state(1, "idle")
    site.state(2, "in_use", "Ada")
    site.wait_published()
    return site


def test_the_python_program(site):
    path = site.things.tmp / "example.py"
    path.write_text(site.local(block("python")), encoding="utf-8")
    program = site.run([sys.executable, "-B", str(path)], MQTT_PASSWORD=SECRET)
    program.wait_line("now: tool 1 idle -\n")
    program.wait_line("now: tool 2 in_use Ada\n")
    site.state(1, "in_use", "René")
    program.wait_line("changed: tool 1 in_use René\n")
    site.enabled(1, "event-1")
    site.enabled(1, "event-1")  # as after a fault
    site.enabled(2, "event-2")
    program.wait_line("event: tool 2 enabled\n")
    assert program.log_text().count("event: tool 1 enabled") == 1
    site.write("tools/2/state", "", retain=1)
    program.wait_line("gone: nemo/lab/tools/2/state\n")

    wrong = site.run([sys.executable, "-B", str(path)], MQTT_PASSWORD="guess")
    wrong.wait_line("the broker refused: ")


def test_the_commands(site):
    home = site.things.tmp / "home"
    (home / ".config").mkdir(parents=True)
    options = home / ".config" / "mosquitto_sub"
    options.write_text(site.local(indented("-h broker")))
    options.chmod(0o600)
    everything, states, events = block("sh").splitlines()
    environment = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}

    all_of_it = site.run(["sh", "-c", "exec " + everything], **environment)
    all_of_it.wait_line("nemo/lab/tools/2/state {")
    only_events = site.run(["sh", "-c", "exec stdbuf -oL " + events + " -d"], **environment)
    only_events.wait_line("Subscribed (mid")
    site.enabled(1, "event-1")
    only_events.wait_line("nemo/lab/tools/1/event id:event-1 stream-id:")
    all_of_it.wait_line("nemo/lab/tools/1/event {")

    # Exit code 27 is mosquitto_sub's for -W.
    now = subprocess.run(["sh", "-c", states], env={**os.environ, **environment}, timeout=20,
                         capture_output=True, text=True)
    assert now.returncode == 27, now.stderr
    assert [line.split(" ")[0] for line in sorted(now.stdout.splitlines())] == \
        ["nemo/lab/tools/1/state", "nemo/lab/tools/2/state"]
