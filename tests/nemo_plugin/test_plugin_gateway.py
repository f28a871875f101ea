"""The settings page and a real gateway: what it writes about itself is what the page reads."""

import pytest
from django.core.cache import cache

from harness import Gateway, RecordingBroker, gateway_config, wait_until
from NEMO_streams import conf, gateway_status
from test_plugin_settings import GATEWAY


@pytest.fixture
def broker():
    found = RecordingBroker().start()
    yield found
    found.close()


@pytest.fixture
def gateway(lab, broker, tmp_path):
    cache.clear()
    found = Gateway(tmp_path, gateway_config(lab.server, broker, slots=1))
    try:
        yield found.start()
    finally:
        found.close()


def look(lab):
    client = lab.server.client(decode_responses=False)
    return gateway_status.read(gateway_status.look(conf.current())(client), conf.current())


def wait_said(lab, level, words):
    def found():
        report = look(lab)
        said = any(line[0] == level and words in line[1] for line in report.lines)
        return report if said else None
    return wait_until(found, 20, lambda: f"{words!r}: {look(lab).lines}", interval=0.1)


def test_a_healthy_gateway_has_no_warning(lab, broker, gateway):
    tool = lab.tool()
    lab.use(tool)
    wait_said(lab, "success", f"connected to {broker.url} since")

    def all_came():
        facts = dict(look(lab).facts)
        return facts if (facts.get("On the way"), facts["Waiting in Redis"]) == (
            "0 messages", "0 messages") and "Last message" in facts else None
    facts = wait_until(all_came, 25, lambda: look(lab).facts, interval=0.1)
    report = look(lab)
    assert report.faults() == [] and report.letters == []
    assert facts["Broker"] == broker.url and facts["TLS"] == "none"
    assert facts["Gateway"].startswith("gateway-1, version ")


def test_what_goes_wrong_is_shown(lab, broker, gateway):
    wait_said(lab, "success", "connected to")
    lab.redis.xadd(lab.events, {"payload": "without a topic"})
    broker.stop()
    report = wait_said(lab, "danger", f"disconnected from {broker.url} since")
    wait_said(lab, "warning", "the gateway says (")
    report = wait_said(lab, "warning", "1 dead letters")
    assert len(report.letters) == 1
    broker.start()
    report = wait_said(lab, "success", "connected to")
    assert not any("the gateway says" in line for _, line in report.lines)
    assert gateway.terminate() == 0
    wait_said(lab, "warning", "the gateway is shutting down since")


def test_settings_that_the_operator_does_not_allow(lab, gateway):
    wait_said(lab, "success", "connected to")
    lab.choose(broker_url="mqtt://b:1883")
    lab.tick()  # hands them over
    saved = int(lab.redis.hget(conf.current().settings_key, "version"))
    wait_said(lab, "danger", f"settings {saved} were refused: the operator of the gateway has not")


def test_settings_that_are_applied(lab, broker, gateway):
    config = gateway.config
    config["routes"] = [{"streams": "nemo:*:events", "settings": "from-site"}]
    assert gateway.terminate() == 0
    gateway.write_config(config)
    gateway.start()
    wait_said(lab, "success", "connected to")
    lab.choose(broker_url=broker.url)
    lab.tick()
    saved = int(lab.redis.hget(conf.current().settings_key, "version"))
    wait_said(lab, "success", f"settings {saved} are applied")
    wait_said(lab, "success", "connected to")
