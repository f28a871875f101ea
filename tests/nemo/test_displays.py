"""Scenarios 6 and 7: displays after a power cycle, names, signatures."""

import json
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from harness import wait_until
from lab import reload

scenario = pytest.mark.scenario
KEY, OTHER_KEY = "0f" * 32, "e1" * 32
LONG = ("Ion beam mill with load lock and mass spectrometer, " * 2)[:100]


@scenario(6, "display power cycle and restart of the display server")
def test_power_cycle(lab, seen):
    lab = lab(display=True, tools=["E-Beam \u00e9vaporateur", LONG, "Wet bench"],
              customize={"streams_display_zone": "Europe/Paris"})
    tool = lab.tools[0]
    display, long, other = lab.display(tool), lab.display(lab.tools[1]), lab.display(lab.tools[2])
    server = lab.vm_server()
    assert display.shown["user_name"] == "--" and not display.green
    lab.browser.enable(tool, lab.users["rm\u00fcller"], lab.project)
    lab.browser.enable(lab.tools[1], lab.users["bob"], lab.project)
    wait_until(lambda: display.green and long.green, 5, lambda: f"green: {display.shown}")
    start = lab.site.shell(f"result = models.UsageEvent.objects.get(tool_id={tool}, end=None)"
                           ".start.isoformat()")
    since = datetime.fromisoformat(start).astimezone(ZoneInfo("Europe/Paris"))
    right = {"event_type": "enabled", "user_name": "Rene Muller", "tool_name": "E-Beam evaporateur",
             "timestamp": since.strftime("%b %d, %I:%M %p"), "time_label": "Enabled Since",
             "user_label": "Current User"}
    display.power_off()
    server.stop()
    lab.gateway.kill9()  # nobody needs to publish anything again
    display.power_on()
    wait_until(lambda: display.shown == right, 5, lambda: f"{right}; it shows {display.shown}")
    lab.gateway.start()
    server.start()
    time.sleep(2)
    assert display.shown == right and long.green
    lab.browser.disable(tool)
    wait_until(lambda: not display.green, 5)
    assert not other.green and other.dropped == [] and long.dropped == []
    seen(f"green, Rene Muller, since {right['timestamp']} within 5 s of power on, with gateway and display "
         f"server away, and the same after the display server's restart; largest packet "
         f"{max(d.largest for d in (display, long, other))} bytes, dropped none")


def signed_lab(lab, tmp_path, **options):
    path = tmp_path / "sign.key"
    path.write_text(KEY)
    route = {"encoding": "signed", "sign_key_file": str(path)}
    return lab(legacy=True, route_changes=route, **options), path


def signed(lab):
    """All that NEMO has said, and not the display server."""
    return [m for m in lab.messages() if not m.topic.startswith(("nemo/server/", "nemo/esp32/"))]


@scenario(7, "signed messages and names")
def test_names(lab, tmp_path, seen):
    lab, _ = signed_lab(lab, tmp_path, tools=[LONG, "Sputter", "Wet bench", "Etch"])
    server, stranger = lab.vm_server(key=KEY), lab.vm_server(key=OTHER_KEY)
    people = ["rm\u00fcller", "li", "star", "bob"]
    for tool, person in zip(lab.tools, people):
        lab.browser.enable(tool, lab.users[person], lab.project)
    wait_until(lambda: len(server.accepted) == 4, 10, lambda: f"{server.accepted} {server.refused}")
    wait_until(lambda: len(stranger.refused) == 4, 10)
    names = [event["user_name"] for _, event in server.accepted]
    assert names == ["Ren\u00e9 M\u00fcller (rm\u00fcller)", "\u674e \u5c0f\u9f99 (li)",
                     "Star \U0001f600 Night (star)", "Robert Brown (bob)"]
    assert server.accepted[0][1]["tool_name"] == LONG
    assert server.refused == [] and stranger.accepted == []
    everything = signed(lab)
    assert everything and all(set(json.loads(m.payload)) == {"payload", "hmac", "algo"}
                              for m in everything)
    logs = lab.gateway.log_text() + lab.site.log_text()
    assert KEY not in logs
    seen(f"4 of 4 names accepted, wrong key refused 4 of 4; {len(everything)} messages, all signed; "
         "no key in a log")


@scenario(7, "signing key changed while events flow")
def test_key_changed(lab, tmp_path, seen):
    lab, path = signed_lab(lab, tmp_path)
    old, new = lab.vm_server(key=KEY), lab.vm_server(key=OTHER_KEY)
    rounds = 0
    for changed in (False, True):
        if changed:
            path.write_text(OTHER_KEY)
            reload(lab.gateway, 2)
        for _ in range(5):
            rounds += 1
            lab.browser.enable(lab.tools[0], lab.users["bob"], lab.project)
            lab.browser.disable(lab.tools[0])
    wait_until(lambda: len(old.accepted) + len(new.accepted) == 2 * rounds, 10,
               lambda: f"{len(old.accepted)} + {len(new.accepted)} of {2 * rounds}")
    assert len(old.accepted) == len(new.accepted) == rounds
    assert all(set(json.loads(m.payload)) == {"payload", "hmac", "algo"} for m in signed(lab))
    logs = lab.gateway.log_text() + lab.site.log_text()
    assert KEY not in logs and OTHER_KEY not in logs
    seen(f"live within 2 s; {len(old.accepted)} events by the old key, {len(new.accepted)} by the "
         f"new, none unsigned among {len(signed(lab))}")
