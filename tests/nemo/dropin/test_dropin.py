"""The scenarios of the drop-in: the older plugin in NEMO, nemogate in the place of its Python bridge.

That plugin kills every broker it finds by name, starts one of its own, and knows only
localhost:6379: these tests run in namespaces of their own (run.sh makes them)."""

import json
import os
import re
import signal
import time

import pytest
from esp32_display import Esp32Display
from harness import Subscriber, free_port, gateway_config, wait_until
from lab import order_faults
from nemo_site import BRIDGE, NemoSite
from vm_server import VmServer

scenario = pytest.mark.scenario
LISTS = [{"list": "nemo_mqtt_events", "db": 1, "stream": "nemo:{lab}:events"}]
KEY, OTHER_KEY = "0123456789abcdef" * 4, "fedcba9876543210" * 4
TABLE = "nemo_mqtt_mqttconfiguration"


class PluginsBroker:
    """The Mosquitto that the plugin's bridge starts. It outlives NEMO: a test that lets the bridge
    start must end it, or the broker of the next test finds its port taken."""

    def pids(self):
        for name in filter(str.isdigit, os.listdir("/proc")):  # of this namespace alone
            try:
                with open(f"/proc/{name}/cmdline", "rb") as line:
                    if line.read() == b"mosquitto\0-p\0001883\0":
                        yield int(name)
            except OSError:
                continue

    @property
    def running(self):
        return any(self.pids())

    def close(self):
        for pid in list(self.pids()):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.running, 5, "the end of the plugin's broker")


class OldLab:
    """Redis where the plugin looks for it, a plain broker, NEMO with the older plugin, a subscriber.
    bridge: the plugin starts its own bridge, which ends the broker and makes another; else the
    folder in its lock's place keeps it from that."""

    def __init__(self, things, bridge=False, broker=None, **values):
        if os.environ.get("NEMOGATE_NEMO_PRIVATE") != "yes":
            pytest.skip("not in namespaces of its own: run.sh")
        self.things = things
        self.lock = os.path.join(str(things.tmp), "nemo_mqtt_bridge.lock")
        os.mkdir(self.lock)
        self.redis = things.redis(port=6379, appendonly=True)
        self.db1 = self.redis.client(db=1)
        self.plugins_broker = self.keep(PluginsBroker())
        self.broker = things.mosquitto(port=1883, **(broker or {}))
        self.site = self.keep(NemoSite(things.tmp, plugins=(BRIDGE,),
                                       env={"TMPDIR": str(things.tmp)}))
        made = self.site.populate(["E-Beam \u00e9vaporateur", "Sputter", "Wet bench"])
        self.project, self.tools, self.users = made["project"], made["tools"], made["users"]
        self.configure(broker_host="127.0.0.1", broker_port=1883, enabled=True, **values)
        self.db1.flushdb()  # what the making of tools and users has pushed
        if bridge:
            os.rmdir(self.lock)
        self.site.start()
        if bridge:
            self.wait_for_the_bridge()
        self.browser = self.site.browser()
        self.subscriber = things.subscriber(1883, topics=("nemo/#",), persistent=True)

    def wait_for_the_bridge(self):
        wait_until(lambda: not self.broker.running, 20, "the plugin ends the broker")
        wait_until(lambda: self.plugins_broker.running, 20, "the plugin's broker")
        wait_until(lambda: self.page()["broker_connected"] == "connected", 30, "the Python bridge")

    def keep(self, thing):
        self.things.made.append(thing)
        return thing

    def configure(self, **values):
        self.site.shell(f"""
from NEMO_mqtt_bridge.models import MQTTConfiguration
MQTTConfiguration.objects.update_or_create(name="Default", defaults={values!r})
""")

    def config(self, **changes):
        return gateway_config(self.redis, self.broker, legacy_lists=LISTS, slots=2,
                              log={"level": "info"}, **changes)

    def messages(self):
        return [m for m in self.subscriber.messages if m.topic.startswith("nemo/tools/")]

    def pushed(self):
        """What the plugin itself noted of its last events, oldest first: (topic, payload)."""
        rows = [json.loads(row) for row in self.db1.lrange("nemo_mqtt_monitor", 0, -1)]
        return [(row["topic"], row["payload"].encode()) for row in reversed(rows)]

    def use(self, tool, user="rm\u00fcller"):
        self.browser.enable(tool, self.users[user], self.project)
        self.browser.disable(tool)

    def exporter(self):
        """A command that prints the plugin's saved configuration, without starting the plugin."""
        script = self.things.tmp / "page.sh"
        script.write_text(f"""#!/bin/sh
exec {os.environ["NEMOGATE_NEMO_VENV"]}/bin/python -c '
import sqlite3
rows = sqlite3.connect("file:{self.site.folder}/nemo.db?mode=ro", uri=True)
rows.row_factory = sqlite3.Row
for row in rows.execute("select * from {TABLE} where enabled"):
    for name in ("broker_host", "broker_port", "keepalive", "username", "password", "use_hmac",
                 "hmac_secret_key"):
        print(name + "=" + ("" if row[name] is None else str(row[name])))
'
""")
        script.chmod(0o700)
        return str(script)

    def save_page(self, **values):
        """What a person does on the plugin's configuration page."""
        self.browser.post("/customize/mqtt/", {
            "mqtt_name": "Default", "mqtt_enabled": "enabled", "mqtt_broker_host": "127.0.0.1",
            "mqtt_broker_port": 1883, "mqtt_keepalive": 60, "mqtt_reconnect_delay": 5,
            "mqtt_max_reconnect_attempts": 10, **values})

    def page(self):
        """What the plugin's monitor page shows; of the broker connected, disconnected or None."""
        return json.loads(self.site.browser().get("/monitor/api/"))

    def wait_messages(self, count, timeout=20):
        wait_until(lambda: len(self.messages()) >= count, timeout,
                   lambda: f"{count} messages, {len(self.messages())} came")

    def toggle(self, rounds):
        self.site.shell(f"""
for n in range({rounds}):
    tool = {self.tools!r}[n % 3]
    enable(tool, {self.users["li"]}, {self.project})
    disable(tool)
""")


@pytest.fixture
def old(things):
    return lambda **values: OldLab(things, **values)


def shape(topic, payload):
    """Without what differs from one usage to the next."""
    return topic, re.sub(rb'"usage_id": \d+|"(start|end)_time": "[^"]*"', b"", payload)


@scenario(1, "drop-in: nemogate instead of the Python bridge")
def test_swap(old, things, seen):
    lab = old(bridge=True)
    lab.browser.enable(lab.tools[0], lab.users["rm\u00fcller"], lab.project)
    lab.wait_messages(1)
    lab.browser.disable(lab.tools[0])
    lab.wait_messages(2)
    of_bridge = [(m.topic, m.payload) for m in lab.messages()]
    assert of_bridge == lab.pushed()
    # The swap, as README says.
    assert lab.site.terminate(20) == 0
    lab.plugins_broker.close()
    os.remove(lab.lock)
    os.mkdir(lab.lock)
    lab.broker.start()
    lab.site.start()
    wait_until(lambda: lab.subscriber.log_text().count("subscribed") > 1, 20, "the subscriber")
    gateway = things.gateway(lab.config())
    server = lab.keep(VmServer(1883)).start()
    display = lab.keep(Esp32Display(1883, lab.tools[0])).power_on()
    lab.browser.enable(lab.tools[0], lab.users["rm\u00fcller"], lab.project)
    wait_until(lambda: display.green, 10, lambda: f"green; {display.shown}")
    lab.browser.disable(lab.tools[0])
    wait_until(lambda: not display.green and display.shown["event_type"] == "disabled", 10)
    assert len(server.accepted) == 2
    of_gateway = [(m.topic, m.payload) for m in lab.messages()[2:]]
    assert [shape(*m) for m in of_gateway] == [shape(*m) for m in of_bridge]
    for tool in lab.tools:
        lab.use(tool, "li")
    wait_until(lambda: len(lab.messages()) == len(lab.pushed()), 10,
               lambda: f"{len(lab.messages())} of {len(lab.pushed())}")
    assert [(m.topic, m.payload) for m in lab.messages()] == lab.pushed()
    assert not any(m.retain for m in lab.messages()) and lab.broker.running and gateway.running
    seen(f"{len(of_bridge)} messages by the Python bridge, {len(lab.pushed()) - len(of_bridge)} by "
         "nemogate: topic and payload as the plugin made them, byte for byte, and alike; display green, "
         f"then red, with {display.shown['user_name']}")


@scenario(1, "drop-in: signed as the Python bridge signs")
def test_signed(old, things, seen):
    lab = old(use_hmac=True, hmac_secret_key=KEY)
    path = things.tmp / "sign.key"
    path.write_text(KEY)
    things.gateway(lab.config(route_changes={"encoding": "signed", "sign_key_file": str(path)}))
    server = lab.keep(VmServer(1883, key=KEY)).start()
    for tool, user in zip(lab.tools, ("rm\u00fcller", "li", "star")):
        lab.use(tool, user)
    pushed = lab.pushed()
    wait_until(lambda: len(lab.messages()) == len(pushed), 10)
    texts = [payload.decode() for _, payload in pushed]
    expected = lab.site.shell(f"""
from NEMO_mqtt_bridge.utils import sign_payload_hmac
result = [sign_payload_hmac(text, {KEY!r}) for text in {texts!r}]
""")
    assert [m.payload.decode() for m in lab.messages()] == expected
    wait_until(lambda: len(server.accepted) == len(pushed), 10)
    assert server.refused == []
    seen(f"{len(expected)} envelopes equal those of the plugin's own function; the display server "
         "accepted all")


@scenario(1, "drop-in: the way back")
def test_rollback(old, things, seen):
    lab = old()
    gateway = things.gateway(lab.config())
    lab.use(lab.tools[0])
    wait_until(lambda: len(lab.messages()) == 2, 10)
    assert gateway.terminate() == 0
    lab.use(lab.tools[1])
    lab.use(lab.tools[2])
    waiting = lab.db1.llen("nemo_mqtt_events")
    assert waiting == 4
    assert lab.site.terminate(20) == 0
    os.rmdir(lab.lock)
    lab.site.start()
    wait_until(lambda: not lab.broker.running, 20, "the plugin ends the broker")
    lab.wait_messages(6, 40)
    assert lab.db1.llen("nemo_mqtt_events") == 0
    got = {(m.topic, m.payload) for m in lab.messages()}
    assert got == set(lab.pushed())
    seen(f"{waiting} events waited in the list and were published by the Python bridge; none lost")


def in_order(lab, tool):
    """What came of a tool, repeats left out."""
    mine = [(m.topic, m.payload) for m in lab.messages() if m.topic.startswith(f"nemo/tools/{tool}/")]
    return list(dict.fromkeys(mine))


@scenario(2, "drop-in: order after an outage, nemogate away for 20 pairs on 3 tools")
def test_order(old, things, seen):
    lab = old()
    gateway = things.gateway(lab.config())
    assert gateway.terminate() == 0
    for n in range(20):
        lab.use(lab.tools[n % 3])
    lab.browser.enable(lab.tools[0], lab.users["li"], lab.project)
    pushed = lab.pushed()
    assert len(pushed) == 41 and lab.db1.llen("nemo_mqtt_events") == 41
    gateway.start()
    lab.wait_messages(41)
    for tool in lab.tools:
        assert in_order(lab, tool) == [m for m in pushed if m[0].startswith(f"nemo/tools/{tool}/")]
    last = {m.topic.split("/")[2]: m.topic.split("/")[3] for m in lab.messages()}
    assert last == {str(lab.tools[0]): "enabled", str(lab.tools[1]): "disabled",
                    str(lab.tools[2]): "disabled"}
    seen("41 of 41 events in time order per tool, the last of each tool is the truth")


@scenario(3, "drop-in: broker stalls, is killed, returns: 300 events meanwhile")
def test_broker_dies(old, things, seen):
    # The broker writes down each change, or the subscriber's session would be gone with it.
    lab = old(broker={"persistence": True, "extra": ["autosave_on_changes true",
                                                     "autosave_interval 1"]})
    things.gateway(lab.config(broker_changes={"puback_timeout": "2s"}))
    lab.use(lab.tools[0])
    lab.wait_messages(2)
    lab.broker.pause()
    lab.toggle(150)
    time.sleep(3)
    lab.broker.kill()
    time.sleep(1)
    lab.broker.start()
    different = lambda: {(m.topic, m.payload) for m in lab.messages()}  # noqa: E731
    wait_until(lambda: len(different()) >= 302, 40, lambda: f"302, {len(different())} came")
    faults, repeats, count = order_faults(lab.messages())
    assert (faults, count) == (0, 302)
    usages = [json.loads(payload)["usage_id"] for tool in lab.tools
              for _, payload in in_order(lab, tool)]
    assert len(usages) == 302 and all(a == b for a, b in zip(usages[::2], usages[1::2]))
    seen(f"300 of 300 arrived, enabled before disabled and in order per tool, {repeats} twice")


@scenario(4, "drop-in: nemogate killed (-9) ten times while tools are used")
@pytest.mark.limit(240)
def test_gateway_killed(old, things, seen):
    lab = old()
    gateway = things.gateway(lab.config(delivery={"lease_ttl": "1s"}))
    for _ in range(10):
        lab.toggle(10)
        gateway.kill9()
        lab.toggle(1)
        gateway.start()
    different = lambda: {(m.topic, m.payload) for m in lab.messages()}  # noqa: E731
    wait_until(lambda: len(different()) >= 220, 40, lambda: f"220, {len(different())} came")
    faults, repeats, count = order_faults(lab.messages())
    assert (faults, count) == (0, 220)
    seen(f"220 of 220 events, 0 out of order, {repeats} twice")


@scenario(12, "drop-in: malformed elements in the plugin's list")
def test_malformed(old, things, seen):
    lab = old()
    gateway = things.gateway(lab.config(), start=False)
    malformed = (b"not json", b'{"topic": "nemo/tools/1/enabled"}',
                 b'{"topic": "nemo/+/enabled", "payload": "x"}')
    raw = lab.redis.client(db=1, decode_responses=False)
    for element in malformed:
        lab.use(lab.tools[0])
        raw.lpush("nemo_mqtt_events", element)
    lab.use(lab.tools[1])
    gateway.start()
    lab.wait_messages(8)
    assert [(m.topic, m.payload) for m in lab.messages()] == lab.pushed()
    client = lab.redis.client()
    wait_until(lambda: client.xlen("nemo:{lab}:dead") == 3, 10, "three dead letters")
    reasons = [fields["dead_reason"] for _, fields in client.xrange("nemo:{lab}:dead")]
    assert all(reasons) and lab.db1.llen("nemo_mqtt_events") == 0
    seen(f"dead: {', '.join(reasons)}; 8 of 8 events around them arrived")


@scenario(9, "monitor page: connected, disconnected, latest events")
@pytest.mark.limit(900)
def test_monitor(old, things, seen, waits):
    lab = old()
    outage = waits(600, 95)
    gateway = things.gateway(lab.config(), start=False)
    begun = time.monotonic()
    gateway.start()
    wait_until(lambda: lab.page()["broker_connected"] == "connected", 10)
    connected = time.monotonic() - begun
    lab.use(lab.tools[0])
    page = lab.page()
    assert page["messages"][0]["topic"] == f"nemo/tools/{lab.tools[0]}/disabled"
    lab.broker.kill()
    begun, words = time.monotonic(), set()
    wait_until(lambda: lab.page()["broker_connected"] == "disconnected", 10,
               lambda: f"disconnected; the page says {lab.page()}")
    while time.monotonic() - begun < outage:
        words.add(lab.page()["broker_connected"])
        time.sleep(1)
    assert words == {"disconnected"}
    lab.use(lab.tools[1])
    assert lab.page()["messages"][0]["topic"] == f"nemo/tools/{lab.tools[1]}/disabled"
    lab.broker.start()
    wait_until(lambda: lab.page()["broker_connected"] == "connected", 40)
    gateway.kill9()
    begun = time.monotonic()
    wait_until(lambda: lab.page()["broker_connected"] is None, 92, interval=0.5)
    unknown = time.monotonic() - begun
    assert connected < 2 and unknown <= 91
    seen(f"Connected {connected:.1f} s after the start, Disconnected all of {outage:.0f} s, Unknown "
         f"{unknown:.0f} s after kill -9; newest event on top")


@scenario(9, "monitor page: the configuration page is saved")
def test_saved_page(old, things, seen):
    lab = old()
    other = things.mosquitto(port=free_port())
    second = lab.keep(Subscriber(things.tmp, other.port)).start()
    gateway = things.gateway({**lab.config(), "legacy_config_command": lab.exporter()})
    lab.use(lab.tools[0])
    wait_until(lambda: len(lab.messages()) == 2, 10)
    pid = gateway.pid
    lab.save_page(mqtt_broker_port=other.port)
    saved = time.monotonic()
    lab.use(lab.tools[1])
    gateway.wait_log("configuration reloaded")
    took = time.monotonic() - saved
    lab.use(lab.tools[2])
    there = lambda: [m for m in second.messages if m.topic.startswith("nemo/tools/")]  # noqa: E731
    wait_until(lambda: len(there()) >= 2, 20, lambda: f"{len(there())} at the new broker")
    assert gateway.pid == pid and gateway.running
    wait_until(lambda: len(lab.messages()) + len(there()) >= 6, 10)
    got = {(m.topic, m.payload) for m in [*lab.messages(), *there()]}
    assert got == set(lab.pushed())
    assert lab.db1.llen("nemo_mqtt_bridge_control") == 0
    seen(f"at the new broker {took:.1f} s after the page was saved, none lost, same process")


@scenario(7, "signing key changed on NEMO's page")
def test_saved_key(old, things, seen):
    lab = old(use_hmac=True, hmac_secret_key=KEY)
    gateway = things.gateway({**lab.config(), "legacy_config_command": lab.exporter()})
    first, second = (lab.keep(VmServer(1883, key=key)).start() for key in (KEY, OTHER_KEY))
    lab.use(lab.tools[0])
    wait_until(lambda: len(first.accepted) == 2, 10)
    lab.save_page(mqtt_use_hmac="enabled", mqtt_hmac_secret_key=OTHER_KEY)
    saved = time.monotonic()
    gateway.wait_log("configuration reloaded")
    took = time.monotonic() - saved
    lab.use(lab.tools[1])
    wait_until(lambda: len(second.accepted) == 2, 10, lambda: f"{first.accepted} {second.accepted}")
    assert took < 2
    lab.wait_messages(4)
    assert len(first.accepted) == 2 and len(lab.messages()) == 4
    assert all(set(json.loads(m.payload)) == {"payload", "hmac", "algo"} for m in lab.messages())
    text = gateway.log_text()
    assert KEY not in text and OTHER_KEY not in text
    seen(f"live {took:.1f} s after the page was saved; 4 of 4 signed, each accepted by its key only; no "
         "key in nemogate's log")
