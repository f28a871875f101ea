"""Scenario 10: the topics of the new plugin say what is true, not what was saved last."""

import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from harness import wait_until

scenario = pytest.mark.scenario


def events(lab, tool):
    return [json.loads(m.payload)["event"] for m in lab.messages(lab.topic(f"tools/{tool}/event"))]


@scenario(10, "truth: an old charge validated while the tool is in use")
def test_validated_charge(lab, seen):
    lab = lab()
    tool = lab.tools[0]
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    lab.wait_state(tool, "in_use")
    lab.browser.disable(tool)
    lab.wait_state(tool, "idle")
    lab.browser.enable(tool, lab.users["li"], lab.project)
    lab.wait_state(tool, "in_use")
    old = lab.site.shell("result = models.UsageEvent.objects.exclude(end=None).get().pk")
    lab.wait_settled()
    before = lab.written()
    lab.browser.post(f"/validate_usage_event/{old}/", {})
    assert lab.site.shell(f"result = models.UsageEvent.objects.get(pk={old}).validated")
    assert lab.written() == before
    lab.browser.disable(tool)
    lab.wait_state(tool, "idle")
    wait_until(lambda: len(events(lab, tool)) == 4, 5)
    words = [json.loads(m.payload)["state"] for m in lab.messages(lab.topic(f"tools/{tool}/state"))]
    assert words[-4:] == ["in_use", "idle", "in_use", "idle"]
    assert events(lab, tool) == ["enabled", "disabled", "enabled", "disabled"]
    assert lab.wrong_states() == []
    seen("in_use stayed; the validation wrote no entry")


def sleep_until(moment):
    left = (moment - datetime.now(timezone.utc)).total_seconds()
    if left > 0:
        time.sleep(left)


@scenario(10, "truth: disabled with 30 minutes of downtime")
@pytest.mark.limit(2100)
def test_downtime(lab, seen, waits):
    lab = lab()
    tool, other = lab.tools[:2]
    minutes = waits(30, 1)
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    lab.wait_state(tool, "in_use")
    lab.browser.enable(other, lab.users["captain"], lab.project)
    lab.wait_state(other, "in_use")
    lab.browser.disable(other, downtime=30)
    lab.browser.disable(tool, downtime=minutes)
    begun = datetime.now(timezone.utc)
    state, later = lab.wait_state(tool, "cooldown"), lab.wait_state(other, "cooldown")
    end = lab.site.shell(f"result = models.UsageEvent.objects.get(tool_id={tool}).end.isoformat()")
    assert state["until"][:19] == end[:19]
    due = datetime.fromisoformat(state["until"])
    assert abs((due - begun).total_seconds() - minutes * 60) < 30
    assert abs((datetime.fromisoformat(later["until"]) - begun).total_seconds() - 1800) < 30
    sleep_until(due - timedelta(seconds=20))
    lab.tick()
    lab.wait_settled()
    assert lab.state(tool)["state"] == "cooldown"
    sleep_until(due)
    lab.tick()  # what the timer of systemd runs each minute
    lab.wait_state(tool, "idle")
    lab.wait_state(other, "idle" if minutes == 30 else "cooldown")
    wait_until(lambda: events(lab, tool) == ["enabled", "disabled", "cooldown_end"], 5,
               lambda: f"the events, which are {events(lab, tool)}")
    seen(f"cooldown of {minutes} min until {end[11:19]}, still so 20 s before, idle with the tick of "
         "that minute; the other tool's of 30 min ends when it is to")


@scenario(10, "truth: a child tool is used")
def test_child(lab, seen):
    lab = lab()
    parent, other = lab.tools[:2]
    children = lab.site.shell(f"""
result = [models.Tool.objects.create(name=f"Chamber {{n}}", visible=False,
          parent_tool_id={parent}).pk for n in (1, 2)]
for user in models.User.objects.all():
    user.qualifications.add(*result)
""")
    lab.browser.enable(children[0], lab.users["captain"], lab.project)
    for tool in (parent, *children):
        lab.wait_state(tool, "in_use")
    lab.browser.disable(children[0])
    for tool in (parent, *children):
        lab.wait_state(tool, "idle")
    assert lab.state(other) is None or not lab.state(other)["in_use"]
    seen("the child, its parent and its sibling in_use, then idle")


@scenario(10, "truth: a shutdown problem is reported, and resolved")
def test_shutdown(lab, seen):
    lab = lab()
    tool = lab.tools[0]
    lab.browser.post("/create_task/", {
        "tool": tool, "description": "sm\u00f6kes", "force_shutdown": "on", "action": "create"})
    state = lab.wait_state(tool, "down")
    assert not state["operational"] and state["problems"]
    tasks = json.loads(lab.messages(lab.topic(f"tools/{tool}/tasks"))[-1].payload)
    assert tasks["tasks"][0]["problem"].startswith("sm\u00f6kes")
    task = tasks["tasks"][0]["id"]
    lab.browser.post(f"/update_task/{task}/", {"tool": tool, "description": "hosed",
                                               "urgency": 0, "action": "resolve"})
    state = lab.wait_state(tool, "idle")
    assert state["operational"] and not state["problems"]
    wait_until(lambda: events(lab, tool) == ["down", "up"], 5, lambda: str(events(lab, tool)))
    seen(f"down with problem '{tasks['tasks'][0]['problem']}', then idle")


@scenario(10, "truth: an admin's change is rolled back")
def test_rolled_back(lab, seen):
    lab = lab()
    tool = lab.tools[0]
    lab.snapshot()
    lab.wait_state(tool, "idle")
    lab.wait_settled()
    before, received = lab.written(), len(lab.messages())
    lab.site.shell(f"""
try:
    with transaction.atomic():
        tool = models.Tool.objects.get(pk={tool})
        tool.operational = False
        tool.save()
        raise KeyError("rolled back")
except KeyError:
    pass
""")
    assert lab.written() == before
    lab.browser.enable(lab.tools[1], lab.users["captain"], lab.project)
    lab.wait_state(lab.tools[1], "in_use")
    after = lab.messages()[received:]
    assert not [m for m in after if m.topic.startswith(lab.topic(f"tools/{tool}/"))]
    assert lab.wrong_states() == []
    seen(f"no message; {before} entries written before and after")


@scenario(10, "truth: a tool is deleted")
def test_deleted(lab, seen):
    lab = lab()
    lab.snapshot()
    tool = lab.tools[2]
    lab.wait_state(tool, "idle")
    kept = lab.retained(lab.topic(f"tools/{tool}/#"))
    assert lab.topic(f"tools/{tool}/state") in kept
    lab.site.shell(f"models.Tool.objects.get(pk={tool}).delete()")
    wait_until(lambda: lab.state(tool) == {}, 10, lambda: f"cleared; it is {lab.state(tool)}")
    lab.wait_settled()
    assert lab.retained(lab.topic(f"tools/{tool}/#")) == {}
    seen(f"{len(kept)} retained topics cleared")
