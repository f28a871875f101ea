"""Fixtures of the wall's tests: what the integration tests have (things, certs), the browser of the
monitor page's tests, and

install   folder with Node-RED and the flow, as deploy/node-red/README.md says to make it (npm ci);
          skips where npm or its registry is not there
lab       Redis, Mosquitto with TLS and passwords, nemogate; lab.state(...) and lab.clear(topic)
          write entries as the plugin for NEMO does; lab.wall() is a started Node-RED
screen    the browser: open(wall), wait_text(selector, part), picture(name)
"""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "deploy" / "node-red"
BUILD = ROOT / "build" / "node-red"
OLDEST_NODE = (18, 5)
sys.path[:0] = [str(ROOT / "tests" / "integration"), str(ROOT / "deploy" / "nemo")]

from harness import free_port, gateway_config, wait_until  # noqa: E402
from harness.process import Process  # noqa: E402
from NEMO_streams import entries  # noqa: E402


def fixtures_of(folder):
    path = ROOT / "tests" / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_integration, _page = fixtures_of("integration"), fixtures_of("page")
pytest_configure = _integration.pytest_configure
certs, things, _limit = _integration.certs, _integration.things, _integration._limit
browser = _page.browser

PASSWORDS = {"nemogate": "gateway-word", "dashboard": "wall word $1"}
ACCESS = """user nemogate
topic readwrite #
user dashboard
topic read nemo/lab/#
topic read nemogate/+/status
"""


def why_not():
    for program in ("node", "npm"):
        if not shutil.which(program):
            return f"no {program} here (Debian: apt install nodejs npm)"
    said = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    if not found or tuple(map(int, found.groups())) < OLDEST_NODE:
        return f"node is {said.strip()}; Node-RED 4.1 needs {'.'.join(map(str, OLDEST_NODE))}"
    return None


@pytest.fixture(scope="session")
def install():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    home = BUILD / "home"
    parts = [*sorted(SOURCE.glob("*.js*")), SOURCE / ".npmrc"]
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != lock:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for part in parts:
            shutil.copy(part, home)
        made = subprocess.run(["npm", "ci", "--omit=dev", "--ignore-scripts"], cwd=home,
                              capture_output=True, text=True, timeout=500,
                              preexec_fn=functools.partial(os.nice, 10))
        away = re.search(r".*(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ECONNRESET|"
                         r"EHOSTUNREACH|E50[0-9]).*", made.stderr)
        if made.returncode and away:
            pytest.skip(f"npm does not reach its registry: {away[0]}")
        assert made.returncode == 0, made.stderr
        stamp.write_text(lock)
    for part in parts:
        shutil.copy(part, home)
    return home


class NodeRed(Process):
    """The wall. Its settings are variables, as a user sets them."""

    name = "node-red"

    def __init__(self, tmp, home, settings):
        self.port = free_port()
        super().__init__(tmp, {"DASHBOARD_PORT": str(self.port), "HOME": str(tmp), **settings})
        self.home = home
        self.url = f"http://127.0.0.1:{self.port}"

    def argv(self):
        return ["nice", "-n", "10", "node", f"{self.home}/node_modules/node-red/red.js",
                "--settings", f"{self.home}/settings.js"]

    def wait_ready(self, timeout=60.0):
        self.wait_listening(self.port, max(timeout, 60))

        def served():
            try:
                return urllib.request.urlopen(self.url + "/dashboard/wall", timeout=5).status == 200
            except OSError:
                return False
        wait_until(served, 60, "the page of Node-RED", interval=0.2)


def now(minutes=0):
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 60 * minutes))


class Lab:
    def __init__(self, things, home):
        self.things, self.home = things, home
        self.redis = things.redis()
        self.broker = things.mosquitto(tls=things.certs, password=PASSWORDS, acl=ACCESS,
                                       persistence=True)
        password = Path(things.tmp) / "gateway.password"
        password.write_text(PASSWORDS["nemogate"])
        self.gateway = things.gateway(gateway_config(
            self.redis, self.broker,
            broker_changes={"username": "nemogate", "password_file": str(password)}))

    def settings(self, **changes):
        return {"MQTT_HOST": "localhost", "MQTT_PORT": str(self.broker.port),
                "MQTT_CA": f"{self.things.certs}/ca.crt", "MQTT_USER": "dashboard",
                "MQTT_PASSWORD": PASSWORDS["dashboard"], "NEMO_SITE": "lab", **changes}

    def wall(self, start=True, **changes):
        return self.things._keep(NodeRed(self.things.tmp, self.home, self.settings(**changes)), start)

    def send(self, message, key):
        fields = message.fields(key)
        self.redis.client().xadd("nemo:{lab}:events", dict(zip(fields[::2], fields[1::2])))

    def state(self, topic, qos=1, **body):
        self.send(entries.state(topic, "state", {"v": 1, "site": "lab", **body}, now(), qos=qos),
                  "/".join(topic.split("/")[:2]))

    def clear(self, topic):
        self.send(entries.clear(topic, absolute=False), "/".join(topic.split("/")[:2]))

    def tool(self, id, name, state="idle", user=None, since=-30, until=None, problems=()):
        self.state(f"tools/{id}/state", tool_id=id, tool_name=name, operational=state != "down",
                   in_use=state == "in_use", state=state, user=user,
                   since=None if since is None else now(since), usage_id=None,
                   until=until and now(until), problems=list(problems))

    def area(self, id, name, occupancy, capacity=None, problems=()):
        self.state(f"areas/{id}/state", area_id=id, area_name=name, available=not problems,
                   occupancy=occupancy, capacity=capacity, requires_reservation=False,
                   problems=list(problems))

    def sensor(self, id, name, value, suffix):
        self.state(f"sensors/{id}/value", qos=0, sensor_id=id, sensor_name=name, value=value,
                   label=None, prefix=None, suffix=suffix, read=now())

    def facility(self, name, *items):
        self.state(f"facility/{name}", items=list(items), more=0)


@pytest.fixture
def lab(things, install):
    return Lab(things, install)


class Screen:
    def __init__(self, driver):
        self.driver = driver

    def size(self, width, height, mobile=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile})

    def open(self, wall):
        self.driver.get(wall.url + "/dashboard/wall")
        self.wait("return document.querySelector('.nemo-head h1')?.textContent")

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, *arguments, patience=20):
        return wait_until(lambda: self.js(script, *arguments), patience,
                          lambda: f"{script} {arguments}; the page says {self.text('body')!r}, "
                          f"the console {self.complaints()}", 0.05)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? null", selector)

    def wait_text(self, selector, part, patience=20):
        self.wait("return document.querySelector(arguments[0])?.innerText.includes(arguments[1])",
                  selector, part, patience=patience)

    def wait_gone(self, selector, patience=20):
        self.wait("return document.querySelector(arguments[0]) === null", selector,
                  patience=patience)

    def count(self, selector):
        return self.js("return document.querySelectorAll(arguments[0]).length", selector)

    def hosts(self):
        """Where the page's files came from."""
        return set(self.js("return performance.getEntriesByType('resource')"
                           ".map((one) => new URL(one.name).hostname)"))

    def is_too_wide(self):
        return self.js("return document.documentElement.scrollWidth > window.innerWidth")

    def picture(self, name, whole=False):
        BUILD.mkdir(parents=True, exist_ok=True)
        if whole:
            width, height = self.js("""return [innerWidth, Math.max(...[...document.querySelectorAll('*')]
                .map((one) => one.scrollHeight))]""")
            self.size(width, height)
        time.sleep(1.5)  # for the gauge's animation
        self.driver.save_screenshot(str(BUILD / f"{name}.png"))

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] == "SEVERE"]


@pytest.fixture
def screen(browser):
    screen = Screen(browser)
    screen.size(1920, 1080)
    screen.complaints()  # of pages before
    yield screen
    browser.get("about:blank")
