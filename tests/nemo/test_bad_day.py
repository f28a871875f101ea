"""Scenario 12: bursts, bad entries, huge texts, slow subscribers, and a stop in the middle of it."""

import json
import time

import pytest
from harness import wait_until

scenario = pytest.mark.scenario
TOOLS = [f"Tool {n:03}" for n in range(100)]


def burst(lab):
    """A power outage as the gateway finds it: 300 uses ended, 300 begun, all tools down at the end.
    As fast as NEMO saves is not fast enough, so the gateway is away meanwhile."""
    lab.site.shell(f"""
for n in range(3):
    for tool in {lab.tools!r}:
        enable(tool, {lab.users["bob"]}, {lab.project})
    for tool in {lab.tools!r}:
        disable(tool)
for tool in models.Tool.objects.all():
    tool.operational = False
    tool.save()
""")


@scenario(12, "bad day: 600 events at once for a slow display server, max_rate")
@pytest.mark.limit(600)
def test_burst(lab, seen):
    lab = lab(tools=TOOLS, legacy=True, gateway=False,
              broker={"extra": ["max_queued_messages 100"]})
    burst(lab)
    backlog = lab.written()
    missed = {}
    for rate in (100, 0):  # the second shows what would happen without
        server = lab.vm_server(pace=0.002)
        lab.config["redis"]["group"] = f"rate-{rate}"
        lab.config["brokers"][0]["max_rate"] = rate
        lab.config["delivery"]["trim"] = "none"
        gateway = lab.things.gateway(lab.config)
        begun = time.monotonic()
        group = lambda: next((g for g in lab.redis.client().xinfo_groups(  # noqa: E731
            "nemo:{lab}:events") if g["name"] == f"rate-{rate}"), {"pending": 0, "lag": backlog})
        wait_until(lambda: group()["pending"] + group()["lag"] == 0, 90, lambda: f"{group()}")
        took = time.monotonic() - begun
        known = -1
        while known != len(server.accepted):
            known = len(server.accepted)
            time.sleep(1)
        missed[rate] = (600 - len(server.accepted), took, gateway.peak_rss_kb())
        assert gateway.terminate() == 0
        server.stop()
        if rate:
            assert missed[rate][0] == 0, f"{server.accepted[-3:]}"
    assert missed[100][2] < 40_000
    seen(f"{backlog} entries; max_rate 100: {missed[100][0]} of 600 missed ({missed[100][1]:.0f} s, "
         f"{missed[100][2] / 1024:.0f} MB); without max_rate: {missed[0][0]} missed")


@scenario(12, "bad day: 5,000 saves at the month's end while a tool is in use")
@pytest.mark.limit(900)
def test_month_end(lab, seen):
    lab = lab()
    tool = lab.tools[0]
    lab.site.shell(f"""
start = timezone.now() - timedelta(days=30)
models.UsageEvent.objects.bulk_create([models.UsageEvent(
    user_id={lab.users["bob"]}, operator_id={lab.users["bob"]}, project_id={lab.project},
    tool_id={tool}, start=start + timedelta(minutes=n), end=start + timedelta(minutes=n, seconds=30),
    has_ended=n + 1) for n in range(5000)])
""")
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    lab.wait_state(tool, "in_use")
    lab.wait_settled()
    before, begun = lab.written(), time.monotonic()
    lab.site.shell("""
for usage in models.UsageEvent.objects.exclude(end=None):
    usage.validated = True
    usage.save()
""")
    rate = 5000 / (time.monotonic() - begun)
    lab.wait_settled()
    assert lab.state(tool)["in_use"]
    assert lab.written() == before
    assert lab.wrong_states() == []
    seen(f"5,000 saves at {rate:.0f}/s wrote {lab.written() - before} entries; the tool stayed in_use")


@scenario(12, "bad day: malformed entries of the list and the stream, a task text of 300 KiB")
def test_malformed(lab, seen):
    lab = lab(legacy_lists=[{"list": "nemo_mqtt_events", "db": 1, "stream": "nemo:{lab}:events"}])
    tool, client = lab.tools[0], lab.redis.client()
    for element in ("not json", '{"topic": "nemo/tools/1/enabled"}', '{"payload": "no topic"}',
                    '{"topic": "nemo/old/1", "payload": "good", "qos": 1, "retain": false}'):
        lab.redis.client(db=1).lpush("nemo_mqtt_events", element)
    for fields in ({"payload": "no topic"}, {"topic": "tools/+/state", "payload": "wildcard"},
                   {"topic": "x", "payload": "y", "v": "99"},
                   {"topic": "big", "payload": "x" * (300 * 1024)}):
        client.xadd("nemo:{lab}:events", fields)
    lab.site.shell(f"""
models.Task.objects.create(tool_id={tool}, creator_id={lab.users["bob"]}, urgency=0,
                           force_shutdown=False, safety_hazard=False,
                           problem_description="\u00e9" * (300 * 1024))
""")

    def tasks():
        found = lab.messages(lab.topic(f"tools/{tool}/tasks"))
        return json.loads(found[-1].payload)["tasks"] if found else []
    wait_until(tasks, 10)
    assert len(tasks()[0]["problem"]) == 500
    wait_until(lambda: len(lab.dead()) == 7, 10, lambda: f"7 dead letters; {lab.dead()}")
    wait_until(lambda: lab.messages("nemo/old/1"), 10, "the good element of the list")
    reasons = [fields["dead_reason"] for _, fields in lab.dead()]
    assert all(reasons)
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    lab.wait_state(tool, "in_use")
    assert lab.gateway.rss_kb() < 40_000
    seen(f"dead: {', '.join(sorted(reasons))}; the task's text cut to 500 characters; the rest flows; "
         f"{lab.gateway.rss_kb() / 1024:.0f} MB")


@scenario(12, "bad day: stopped while the broker acknowledges nothing")
def test_stop(lab, seen):
    lab = lab(delivery={"drain_timeout": "3s"})
    lab.snapshot()
    lab.wait_settled()
    lab.broker.pause()
    lab.site.shell(f"""
for n in range(50):
    enable({lab.tools[0]}, {lab.users["bob"]}, {lab.project})
    disable({lab.tools[0]})
""")
    begun = time.monotonic()
    code = lab.gateway.terminate(timeout=10)
    took = time.monotonic() - begun
    left = lab.waiting()
    assert left >= 180
    assert took < 5
    lab.broker.resume()
    lab.gateway.start()
    lab.wait_settled(30)
    events = {(json.loads(m.payload)["usage_id"], json.loads(m.payload)["event"])
              for m in lab.messages(lab.topic(f"tools/{lab.tools[0]}/event"))}
    assert len(events) == 100
    seen(f"drain_timeout 3s: ended in {took:.1f} s (exit {code}) with {left} entries left in Redis; "
         "100 of 100 events after the next start")
