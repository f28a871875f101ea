"""The settings page of the plugin, saved in a real NEMO: the gateway applies it in the order of the
stream, and the page shows what has come of it."""

import json

import pytest
from harness import Subscriber, wait_until

scenario = pytest.mark.scenario
PASSWORD = "a password of the lab"


class Page:
    def __init__(self, lab):
        self.lab = lab

    def save(self, **values):
        """As a person who types these into the form; the rest of it stays as it is."""
        text = self.lab.browser.post("/customize/streams/",
                                     {f"streams_{name}": value for name, value in values.items()})
        assert "saved" in text or "told" in text, text[-2000:]

    def status(self):
        return json.loads(self.lab.browser.get("/customization/streams/status/"))

    def lines(self):
        return [(line["level"], line["text"]) for line in self.status()["lines"]]

    def wait_line(self, words, timeout=30):
        """The level and the text of the first sentence with these words."""
        def found():
            return next((line for line in self.lines() if words in line[1].lower()), None)
        return wait_until(found, timeout, lambda: f"{words!r} on the page; it says {self.lines()}", 0.2)


@pytest.fixture
def page_lab(lab, things, tmp_path):
    """A lab whose gateway takes the site's settings, and a second broker with TLS and a login."""
    def make(settings="from-site"):
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        (secrets / "broker.password").write_text(PASSWORD)
        (secrets / "broker.password").chmod(0o600)
        made = lab(route_changes={"settings": settings, "settings_secrets":
                                  str(secrets) if settings == "from-site" else ""})
        other = things.mosquitto(tls=things.certs, password={"lab": PASSWORD})
        there = made.keep(Subscriber(things.tmp, other.port, topics=("nemo/#",), tls=things.certs,
                                     username="lab", password=PASSWORD)).start()
        return made, Page(made), other, there
    return make


def events_at(subscriber):
    return [json.loads(m.payload)["event"] for m in subscriber.messages
            if m.topic.startswith("nemo/") and m.topic.endswith("/event")]


@scenario(9, "settings page of the new plugin: saved, applied, shown")
def test_saved_and_applied(page_lab, things, seen):
    lab, page, other, there = page_lab()
    tool = lab.tools[0]
    ca = open(f"{things.certs}/ca.crt", encoding="ascii").read()
    page.wait_line("connected to")
    page.wait_line("uses its own broker")
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    lab.wait_state(tool, "in_use")
    page.save(broker_url=other.url, broker_ca=ca, broker_username="lab",
              broker_password_ref="broker.password")
    lab.browser.disable(tool)
    level, applied = page.wait_line("settings 1 are applied")
    assert level == "success"
    wait_until(lambda: events_at(there) == ["disabled"], 20, lambda: str(events_at(there)))
    assert events_at(lab.subscriber) == ["enabled"]
    level, connected = page.wait_line("connected to")
    assert level == "success" and str(other.port) in connected
    # One that cannot be applied: what was in use stays so.
    page.save(broker_password_ref="nowhere")
    level, refused = page.wait_line("settings 2 were refused")
    assert level == "danger" and "Settings 1 stay in use" in refused
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    wait_until(lambda: events_at(there) == ["disabled", "enabled"], 20)
    # And back to the gateway's own broker.
    page.save(broker_url="", broker_ca="", broker_username="", broker_password_ref="")
    page.wait_line("settings 3 are applied")
    lab.browser.disable(tool)
    wait_until(lambda: events_at(lab.subscriber) == ["enabled", "disabled"], 20)
    assert events_at(there) == ["disabled", "enabled"]
    logs = lab.gateway.log_text() + lab.site.log_text() + json.dumps(page.status())
    assert PASSWORD not in logs
    stored = lab.redis.client().hgetall("nemo:{lab}:gateway:settings")
    assert PASSWORD not in json.dumps(stored)
    seen(f"'{applied}', '{connected.split(' since')[0]}'; '{refused}'; and back to its own broker; 4 of 4 "
         "events, each at the broker that was in use; no secret in Redis, page or log")


@scenario(9, "settings page of the new plugin where the operator has switched it off")
def test_not_allowed(page_lab, seen):
    lab, page, other, there = page_lab("own")
    page.wait_line("connected to")
    page.save(broker_url=other.url.replace("mqtts", "mqtt"))
    level, refused = page.wait_line("settings 1 were refused")
    assert level == "danger" and "operator" in refused
    lab.browser.enable(lab.tools[0], lab.users["captain"], lab.project)
    lab.wait_state(lab.tools[0], "in_use")
    assert there.messages == []
    seen(f"'{refused}'; events go on to the gateway's own broker")
