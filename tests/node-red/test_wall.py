"""The wall of tools in a browser, fed from the stream through nemogate and the broker."""

import http.client
import subprocess
import sys

import pytest
from conftest import SOURCE, now

TOOL = '[data-tool="%d"]'
NO_CONNECTION = "No connection to the broker"


def furnish(lab):
    """A small lab on a working day."""
    names = ["ALD Cambridge Fiji", "Dicer DAD 3220", "E-beam writer", "Ellipsometer",
             "Evaporator 1", "Evaporator 2", "Mask aligner MA6", "Oxidation furnace", "Profilometer",
             "RIE Oxford 80", "SEM Sigma 300", "Spinner left", "Spinner right", "Sputter Kurt Lesker",
             "Wet bench acids", "Wire bonder"]
    for id, name in enumerate(names, 1):
        lab.tool(id, name, since=-47 * id)
    lab.tool(3, names[2], "in_use", "René Müller", -135)
    lab.tool(7, names[6], "in_use", "Aiko Tanaka", -12)
    lab.tool(11, names[10], "in_use", "Maria Lopez-Castellanos", -4)
    lab.tool(6, names[5], "cooldown", "Jan Novák", None, 25)
    lab.tool(8, names[7], "down", None, -60 * 26, problems=["task 12: shutdown"])
    lab.tool(10, names[9], "down", None, -90, 150, problems=["outage: cooling water"])
    lab.area(1, "Cleanroom", 7, 12)
    lab.area(2, "Yellow room", 4, 4)
    lab.area(3, "Wet lab", 0, 6, problems=["resource: exhaust"])
    lab.area(4, "Gowning", 1)
    lab.sensor(1, "Humidity, yellow room", 44.6, "%")
    lab.sensor(2, "Temperature, cleanroom", 21.37, "°C")
    lab.facility("alerts", {"id": 1, "title": "Nitrogen delivery",
                            "category": "", "contents": "Pressure may drop for a few minutes.",
                            "since": now(-20), "until": now(90)})
    lab.facility("safety", {"id": 1, "location": "Wet bench", "concern": "Eye wash out of order",
                            "since": now(-300)})
    lab.facility("closures", {"id": 1, "name": "Maintenance day", "start": now(60 * 40),
                              "end": now(60 * 50), "closed_now": False})


@pytest.mark.limit(300)
def test_what_happens_is_seen_within_seconds(lab, screen):
    furnish(lab)
    wall = lab.wall(NEMO_TITLE="Nanofabrication lab")
    screen.open(wall)
    screen.wait("return document.querySelectorAll('.nemo-tool').length === 16")
    screen.wait_text(TOOL % 1, "Free")
    screen.wait_text(TOOL % 3, "René Müller")
    screen.wait_text(TOOL % 8, "task 12: shutdown")
    screen.wait_text(TOOL % 6, "Cooling down")
    screen.wait_text('[data-area="2"]', "Full")
    screen.wait_text('[data-area="3"]', "resource: exhaust")
    screen.wait_text('[data-sensor="2"]', "21.37 °C")
    screen.wait_text(".nemo-group-gauge", "44.6")
    screen.wait_text(".nemo-notices", "Nitrogen delivery")
    screen.wait_text(".nemo-notices", "Eye wash out of order")
    screen.wait_text(".nemo-notices", "Will close: Maintenance day")
    assert screen.text(".nemo-trouble") is None

    lab.tool(1, "ALD Cambridge Fiji", "in_use", "Grace Hopper", 0)
    screen.wait_text(TOOL % 1, "Grace Hopper", patience=10)
    assert "In use" in screen.text(TOOL % 1)
    assert "since" in screen.text(TOOL % 1)
    screen.wait_text(".nemo-counts", "4 in use")
    lab.area(1, "Cleanroom", 8, 12)
    screen.wait_text('[data-area="1"]', "8 / 12", patience=10)
    lab.sensor(1, "Humidity, yellow room", 51, "%")
    screen.wait_text(".nemo-group-gauge", "51", patience=10)
    lab.facility("alerts")
    screen.wait("return !document.body.innerText.includes('Nitrogen')", patience=10)
    furnish_alert = {"id": 2, "title": "Fire drill at 16:00", "category": "", "contents":
                     "Leave by the nearest door.", "since": now(), "until": None}
    lab.facility("alerts", furnish_alert)
    screen.wait_text(".nemo-notices", "Fire drill")
    screen.picture("wall")
    assert not screen.is_too_wide()

    screen.size(390, 844, mobile=True)
    screen.wait("return innerWidth === 390")
    assert not screen.is_too_wide()
    screen.picture("phone")
    screen.picture("phone-whole", whole=True)
    assert screen.hosts() == {"127.0.0.1"}
    assert screen.complaints() == []


@pytest.mark.limit(300)
def test_a_deleted_tool_vanishes_and_a_restart_shows_the_present(lab, screen):
    for id in (1, 2, 3):
        lab.tool(id, f"Tool {id}")
    wall = lab.wall()
    screen.open(wall)
    screen.wait("return document.querySelectorAll('.nemo-tool').length === 3")
    lab.clear("tools/2/state")
    screen.wait_gone(TOOL % 2)
    assert screen.count(".nemo-tool") == 2

    wall.stop()
    lab.tool(3, "Tool 3", "in_use", "Ada Lovelace")
    lab.clear("tools/1/state")
    lab.tool(4, "Tool 4")
    wall.start()
    screen.open(wall)
    screen.wait_text(TOOL % 3, "Ada Lovelace")
    screen.wait_text(TOOL % 4, "Free")
    assert screen.count(".nemo-tool") == 2


@pytest.mark.limit(300)
def test_the_page_says_when_it_may_be_out_of_date(lab, screen):
    lab.tool(1, "Tool 1")
    lab.tool(2, "Tool 2")
    screen.open(lab.wall())
    screen.wait("return document.querySelectorAll('.nemo-tool').length === 2")
    lab.gateway.kill9()
    screen.wait_text(".nemo-trouble", "nemogate) is not running")
    lab.gateway.start()
    screen.wait_gone(".nemo-trouble")

    # The broker comes back without what it had kept; only tool 1 is published again.
    lab.broker.stop()
    screen.wait_text(".nemo-trouble", NO_CONNECTION)
    assert screen.count(".nemo-tool") == 2
    for kept in lab.things.tmp.glob("mosquitto-*/mosquitto.db"):
        kept.unlink()
    lab.tool(1, "Tool 1", "in_use", "Ada Lovelace")
    lab.broker.start()
    screen.wait_text(TOOL % 1, "Ada Lovelace", patience=40)
    screen.wait_gone(".nemo-trouble")
    screen.wait_gone(TOOL % 2, patience=40)


@pytest.mark.limit(300)
def test_texts_are_texts_and_bad_payloads_change_nothing(lab, screen):
    lab.tool(1, "<img src=x onerror=document.title='broken'>{{ 1 + 1 }}", "in_use", "<b>Bob</b>")
    screen.open(lab.wall())
    screen.wait_text(TOOL % 1, "<b>Bob</b>")
    assert "{{ 1 + 1 }}" in screen.text(TOOL % 1)
    lab.redis.client().xadd("nemo:{lab}:events", {"topic": "tools/1/state", "payload": "{", "retain": "1"})
    lab.state("tools/2/state", v=2, tool_name="of another version")
    lab.tool(3, "Tool 3", state="on_strike", since=None)
    screen.wait_text(TOOL % 3, "on_strike")
    assert screen.count(".nemo-tool") == 2
    assert "<b>Bob</b>" in screen.text(TOOL % 1)
    assert screen.complaints() == []
    assert not screen.count(".nemo-group-areas .nemo-areas li")
    assert not screen.js("return document.querySelector('.nemo-group-gauge')?.checkVisibility()")


@pytest.mark.limit(300)
def test_a_large_lab_is_shown_densely(lab, screen):
    furnish(lab)
    for id in range(17, 141):
        state = ("idle", "in_use", "idle", "down", "in_use")[id % 5]
        lab.tool(id, f"Tool with number {id}", state, state == "in_use" and f"User {id}" or None, -id)
    screen.open(lab.wall())
    screen.wait("return document.querySelectorAll('.nemo-tool').length === 140")
    screen.picture("large")
    assert screen.count(".nemo-tools.dense") == 1
    assert not screen.is_too_wide()


@pytest.mark.limit(300)
@pytest.mark.parametrize("changes", [{"authority": "other-ca.crt"}, {"MQTT_PASSWORD": "wrong"}],
                         ids=["authority", "password"])
def test_no_connection_to_a_broker_that_is_not_trusted_or_refuses(lab, screen, changes):
    lab.tool(1, "Tool 1")
    if "authority" in changes:
        changes = {"MQTT_CA": f"{lab.things.certs}/{changes['authority']}"}
    wall = lab.wall(**changes)
    screen.open(wall)
    screen.wait_text(".nemo-trouble", NO_CONNECTION)
    assert screen.count(".nemo-tool") == 0
    assert "wrong" not in wall.log_text()


def test_wrong_settings_are_told_in_words(lab):
    wall = lab.wall(start=False, MQTT_CA="/nowhere/ca.crt", MQTT_USER="", NEMO_SITE="No/Site")
    wall.launch()
    assert wall.wait(30) == 2
    for words in ("MQTT_USER is not set", "MQTT_CA: ENOENT", "NEMO_SITE: a-z"):
        assert words in wall.log_text()


@pytest.mark.limit(300)
def test_the_editor_is_off(lab):
    wall = lab.wall()

    def status(method, path):
        connection = http.client.HTTPConnection("127.0.0.1", wall.port, timeout=10)
        connection.request(method, path, body="[]" if method == "POST" else None,
                           headers={"Content-Type": "application/json"})
        return connection.getresponse().status
    assert status("GET", "/dashboard/wall") == 200
    for path in ("/", "/flows", "/settings", "/nodes", "/auth/login"):
        assert status("GET", path) == 404, path
    assert status("POST", "/flows") == 404


def test_the_flow_is_what_its_sources_say():
    assert subprocess.run([sys.executable, "-B", SOURCE / "make_flows.py", "--check"]).returncode == 0
