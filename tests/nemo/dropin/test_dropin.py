"""Scenarios 1 and 9: the older plugin in NEMO, nemogate in the place of its Python bridge.

That plugin kills every broker it finds by name and knows only localhost:6379: these tests run in
namespaces of their own (run.sh makes them)."""

import json
import os
import time

import pytest
from esp32_display import Esp32Display
from harness import Subscriber, free_port, gateway_config, wait_until
from nemo_site import BRIDGE, NemoSite
from vm_server import VmServer

scenario = pytest.mark.scenario
LISTS = [{"list": "nemo_mqtt_events", "db": 1, "stream": "nemo:{lab}:events"}]
KEY, OTHER_KEY = "0123456789abcdef" * 4, "fedcba9876543210" * 4
TABLE = "nemo_mqtt_mqttconfiguration"


class OldLab:
    """Redis where the plugin looks for it, a plain broker, NEMO with the older plugin whose own
    bridge is kept from starting, nemogate, a subscriber, a display with its server."""

    def __init__(self, things, **values):
        if os.environ.get("NEMOGATE_NEMO_PRIVATE") != "yes":
            pytest.skip("not in namespaces of its own: run.sh")
        self.things = things
        self.lock = os.path.join(str(things.tmp), "nemo_mqtt_bridge.lock")
        os.mkdir(self.lock)
        self.redis = things.redis(port=6379, appendonly=True)
        self.db1 = self.redis.client(db=1)
        self.broker = things.mosquitto(port=1883)
        self.site = self.keep(NemoSite(things.tmp, plugins=(BRIDGE,),
                                       env={"TMPDIR": str(things.tmp)}))
        made = self.site.populate(["E-Beam \u00e9vaporateur", "Sputter", "Wet bench"])
        self.project, self.tools, self.users = made["project"], made["tools"], made["users"]
        self.configure(broker_host="127.0.0.1", broker_port=1883, enabled=True, **values)
        self.db1.flushdb()  # what the making of tools and users has pushed
        self.site.start()
        self.browser = self.site.browser()
        self.subscriber = things.subscriber(1883)

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
        """What the plugin's monitor page shows of the broker: connected, disconnected or None."""
        return json.loads(self.browser.get("/monitor/api/"))


@pytest.fixture
def old(things):
    return lambda **values: OldLab(things, **values)


@scenario(1, "drop-in: nemogate instead of the Python bridge")
def test_swap(old, things, seen):
    lab = old()
    gateway = things.gateway(lab.config())
    server = lab.keep(VmServer(1883)).start()
    display = lab.keep(Esp32Display(1883, lab.tools[0])).power_on()
    lab.browser.enable(lab.tools[0], lab.users["rm\u00fcller"], lab.project)
    wait_until(lambda: display.green, 10, lambda: f"green; {display.shown}")
    lab.browser.disable(lab.tools[0])
    wait_until(lambda: not display.green and display.shown["event_type"] == "disabled", 10)
    assert len(server.accepted) == 2
    for tool in lab.tools:
        lab.use(tool, "li")
    wait_until(lambda: len(lab.messages()) == len(lab.pushed()), 10,
               lambda: f"{len(lab.messages())} of {len(lab.pushed())}")
    assert [(m.topic, m.payload) for m in lab.messages()] == lab.pushed()
    assert not any(m.retain for m in lab.messages()) and lab.broker.running and gateway.running
    seen(f"{len(lab.pushed())} messages, topic and payload as the plugin made them, byte for byte; "
         f"display green, then red, with {display.shown['user_name']}")


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
    # The plugin's bridge kills the broker and starts one of its own on the port.
    wait_until(lambda: not lab.broker.running, 20, "the plugin ends the broker")
    wait_until(lambda: len(lab.messages()) >= 6, 40, lambda: f"6 messages, {len(lab.messages())}")
    assert lab.db1.llen("nemo_mqtt_events") == 0
    got = {(m.topic, m.payload) for m in lab.messages()}
    assert got == set(lab.pushed())
    seen(f"{waiting} events waited in the list and were published by the Python bridge; none lost")


@scenario(9, "monitor page: connected, disconnected, latest events")
@pytest.mark.limit(400)
def test_monitor(old, things, seen, request):
    lab = old()
    outage = max(95.0, float(request.config.getoption("--outage")))
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
    assert len(first.accepted) == 2 and len(lab.messages()) == 4
    assert all(set(json.loads(m.payload)) == {"payload", "hmac", "algo"} for m in lab.messages())
    text = gateway.log_text()
    assert KEY not in text and OTHER_KEY not in text
    seen(f"live {took:.1f} s after the page was saved; 4 of 4 signed, each accepted by its key only; no "
         "key in nemogate's log")
