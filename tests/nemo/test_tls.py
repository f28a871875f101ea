"""Scenario 8: TLS with a private authority. The plugins' status keys are on, to see what they say."""

import json
import os
import shutil
import subprocess
import time

import pytest
from harness import wait_until
from lab import reload

scenario = pytest.mark.scenario
LISTS = [{"list": "nemo_mqtt_events", "db": 1, "stream": "nemo:{lab}:events"}]
STATUS = "nemo_mqtt_bridge_status"


def status(lab):
    return lab.redis.client(db=1).get(STATUS)


@scenario(8, "TLS: private authority; displays on the plain port of the same broker")
def test_connects(lab, seen):
    lab = lab(display=True, legacy_lists=LISTS)
    display = lab.display(lab.tools[0])
    lab.browser.enable(lab.tools[0], lab.users["bob"], lab.project)
    wait_until(lambda: display.green, 10)
    wait_until(lambda: status(lab) == "connected", 5, lambda: str(status(lab)))
    line = lab.gateway.wait_log("broker connected")
    seen(f"{line['tls']}, status connected; a display on port {lab.plain_port} without TLS is green")


@scenario(8, "TLS: wrong authority, wrong name and expired certificate are refused")
@pytest.mark.parametrize("fault, words", [
    ("other-ca", "signed by an unknown authority"), ("other-name", "is not for the"),
    ("expired", "has expired")])
def test_refused(lab, things, fault, words, seen):
    broker = {"certificate": fault} if fault != "other-ca" else {}
    subscriber = {"plain": True}
    lab = lab(gateway=False, broker=broker, subscriber=subscriber, legacy_lists=LISTS)
    if fault == "other-ca":
        lab.config["brokers"][0]["tls"] = {"ca_file": f"{things.certs}/other-ca.crt"}
    gateway = things.gateway(lab.config, start=False).launch()
    line = gateway.wait_log("cannot connect to the broker", 15)
    assert words in line["reason"], line
    wait_until(lambda: status(lab) == "disconnected", 10, lambda: str(status(lab)))
    lab.browser.enable(lab.tools[0], lab.users["bob"], lab.project)
    time.sleep(1)
    assert lab.state(lab.tools[0]) is None and gateway.running
    seen(f"'{line['reason']}', status disconnected, nothing sent")


@scenario(8, "TLS: login by client certificate")
def test_client_certificate(lab, things, seen):
    own = {"ca_file": f"{things.certs}/ca.crt", "cert_file": f"{things.certs}/client.crt",
           "key_file": f"{things.certs}/client.key"}
    lab = lab(gateway=False, broker={"client_certs": True}, subscriber={"plain": True})
    without = things.gateway(lab.config, start=False).launch()
    line = without.wait_log("client certificate", 15)
    assert without.terminate() == 0
    lab.config["brokers"][0]["tls"] = own
    things.gateway(lab.config)
    lab.browser.enable(lab.tools[0], lab.users["bob"], lab.project)
    lab.wait_state(lab.tools[0], "in_use")
    seen(f"without: '{line['reason']}'; with it: connected")


@scenario(8, "TLS: renewed certificate and authority are taken up without loss")
def test_renewed(lab, things, seen):
    """The broker gets a certificate of another authority; the gateway's ca_file is renewed, then it
    reloads, while events flow."""
    folder = things.tmp / "renewed"
    folder.mkdir()
    for name in ("ca.crt", "ca.key", "server.crt", "server.key"):
        shutil.copy(os.path.join(things.certs, name), folder / name)
    lab = lab(broker={"tls": str(folder)}, subscriber={"plain": True})
    lab.config["brokers"][0]["tls"] = {"ca_file": f"{folder}/ca.crt"}
    lab.gateway.write_config(lab.config)
    fresh = things.tmp / "fresh"
    subprocess.run(["sh", os.path.join(os.path.dirname(__file__), "..", "tools", "make_certs.sh"),
                    str(fresh)], check=True, capture_output=True)
    lab.browser.enable(lab.tools[0], lab.users["bob"], lab.project)
    lab.wait_state(lab.tools[0], "in_use")
    for name in ("ca.crt", "server.crt", "server.key"):
        shutil.copy(fresh / name, folder / name)
    assert lab.broker.terminate() == 0
    lab.broker.start()
    lab.browser.disable(lab.tools[0])
    reload(lab.gateway, 20)
    lab.browser.enable(lab.tools[1], lab.users["bob"], lab.project)
    lab.wait_state(lab.tools[0], "idle", 20)
    lab.wait_state(lab.tools[1], "in_use", 20)
    lab.wait_settled()
    events = [json.loads(m.payload)["event"] for m in lab.messages() if m.topic.endswith("/event")]
    assert sorted(set(events)) == ["disabled", "enabled"] and len(events) >= 3
    assert lab.wrong_states() == []
    seen("taken up with SIGHUP; 3 of 3 events, one of the time between, arrived")
