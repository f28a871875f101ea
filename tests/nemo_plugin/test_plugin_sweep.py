"""Snapshot, tick and check."""

import json
import time
from datetime import timedelta

import pytest
from django.apps import apps
from django.utils import timezone

from NEMO import models
from NEMO_sensors.models import Sensor
from NEMO_streams import reach
from NEMO_streams.publish import publish


def furnish(lab):
    tools = [lab.tool() for _ in range(3)]
    lab.use(tools[0])
    models.Area.objects.create(name="Bay")
    models.Resource.objects.create(name="Water")
    models.Interlock.objects.create(card=models.InterlockCard.objects.create(server="x"))
    Sensor.objects.create(name="T1", last_value=1.5)
    return tools


def said(entries):
    """What entries say, without the moment of saying it."""
    return sorted((entry.topic, str({name: value for name, value in entry.body.items()
                                     if name != "ts"})) for entry in entries)


def test_snapshot_says_everything_again_and_no_event(lab):
    furnish(lab)
    lab.new()
    lab.snapshot()
    first = lab.new()
    assert len(first) == 3 * 3 + 4 + 3 and all(entry.retain == "1" for entry in first)
    lab.snapshot()
    assert said(lab.new()) == said(first)


def test_snapshot_fills_an_empty_redis(lab):
    tools = furnish(lab)
    lab.redis.flushall()
    lab.seen = "0"
    lab.snapshot()
    entries = lab.new()
    assert len(entries) == 16 and lab.words(entries) == []
    assert lab.states_of(entries)[tools[0].pk] == "in_use"


def test_tick_is_silent_when_nothing_changed(lab):
    furnish(lab)
    lab.new()
    for _ in range(3):
        lab.tick()
    assert lab.new() == []


def test_tick_after_a_loss_of_redis_sends_states_but_no_old_events(lab):
    tools = furnish(lab)
    lab.redis.flushall()
    lab.seen = "0"
    lab.tick()
    entries = lab.new()
    assert lab.states_of(entries)[tools[0].pk] == "in_use" and lab.words(entries) == []


def test_a_save_after_a_loss_of_redis_is_no_old_event_either(lab):
    """An old charge is validated on a tool that has been in use, or down, for an hour."""
    lab.choose(legacy="enabled")
    used, down = lab.tool(), lab.tool()
    for tool in (used, down):
        lab.end(lab.use(tool))
    hour = timezone.now() - timedelta(hours=1)
    lab.use(used, start=hour)
    down.operational = False
    down.save()
    models.UnplannedOutage.objects.update(start=hour)
    lab.redis.flushall()
    lab.seen = "0"
    for usage in models.UsageEvent.objects.filter(has_ended__gt=0):
        usage.validated = True
        usage.save()
    entries = lab.new()
    assert lab.states_of(entries) == {used.pk: "in_use", down.pk: "down"}
    assert not [entry for entry in entries if entry.retain == "0"]


def test_tick_sees_what_update_and_raw_deletion_did(lab):
    tools = furnish(lab)
    lab.new()
    models.Tool.objects.filter(pk=tools[1].pk).update(_operational=False)
    models.Tool.objects.filter(pk=tools[2].pk)._raw_delete("default")
    lab.tick()
    entries = lab.new()
    assert lab.states_of([entry for entry in entries if entry.body]) == {tools[1].pk: "down"}
    assert {entry.topic for entry in entries if entry.payload == ""} == {
        f"tools/{tools[2].pk}/{name}" for name in ("state", "tasks", "next")}
    lab.tick()
    assert lab.new() == []


def test_snapshot_survives_nonsense_among_the_marks(lab):
    furnish(lab)
    lab.redis.hset(lab.states, "rubbish", "x")
    lab.redis.hset(lab.states, "tool/1x", "{}")
    lab.redis.hset(lab.states, f"tool/{models.Tool.objects.first().pk}", "[1, 2")
    lab.snapshot()
    lab.tick()


def test_nonsense_names_among_the_marks_harm_no_tool(lab):
    """Each is almost the key of a tool; none may stand for one, or stop the others."""
    tool = furnish(lab)[1]
    lab.new()
    for name in (f"0{tool.pk}", "\u00b2", "\u0663", "9" * 30, "9" * 5000):
        lab.redis.hset(lab.states, f"tool/{name}", "{}")
    lab.redis.hset(lab.states, b"tool/\xff", "{}")
    lab.tick()
    assert lab.new() == []
    tool.operational = False
    tool.save()
    lab.snapshot()
    assert not [entry for entry in lab.new() if entry.payload == ""]


@pytest.mark.parametrize("nonsense", [
    {"facts": []}, {"facts": None}, {"facts": {"usage": "x"}}, {"facts": {"usage": [1]}},
    {"facts": {"usage": 10 ** 30}}, {"facts": {"usage": True}}, {"abs": [[1]]}, {"abs": 5},
    {"topics": []}])
def test_a_mark_that_is_nonsense_is_made_anew(lab, nonsense):
    tools = furnish(lab)
    good = lab.redis.hget(lab.states, f"tool/{tools[1].pk}")
    lab.redis.hset(lab.states, f"tool/{tools[1].pk}", json.dumps({**json.loads(good), **nonsense}))
    lab.new()
    lab.tick()
    assert {entry.body["tool_id"] for entry in lab.new()} == {tools[1].pk}
    assert lab.redis.hget(lab.states, f"tool/{tools[1].pk}") == good


def test_more_objects_than_one_batch(lab, monkeypatch):
    monkeypatch.setattr("NEMO_streams.sweep.BATCH", 1)  # a child without its parent
    tools = furnish(lab)
    children = [lab.tool(parent=tools[0]), lab.tool(parent=tools[1])]
    lab.new()
    lab.snapshot()
    assert lab.states_of(lab.new()) == {
        tools[0].pk: "in_use", tools[1].pk: "idle", tools[2].pk: "idle",
        children[0].pk: "in_use", children[1].pk: "idle"}


def test_queries_do_not_grow_with_the_lab(lab, django_queries):
    def count():
        with django_queries() as queries:
            lab.tick()
        return len(queries)

    furnish(lab)
    few = count()
    for _ in range(30):
        lab.use(lab.tool())
    assert count() == few


def test_other_site_is_refused(lab):
    lab.snapshot()
    assert lab.refused("snapshot", "--site", "other")[0] == 2
    lab.run("snapshot", "--site", "lab")


def test_exit_codes(lab, settings_of):
    with settings_of({"site": "lab", "redis_url": "redis://127.0.0.1:1/0"}):
        for command in ("snapshot", "tick", "check"):
            code, message = lab.refused(command)
            assert code == 1 and "127.0.0.1:1" in message
    with settings_of({}):
        for command in ("snapshot", "tick", "check"):
            assert lab.refused(command)[0] == 2


def test_check_says_what_is_missing(lab):
    code, message = lab.refused("check")
    assert code == 1 and "no gateway has read" in message
    assert "no gateway has reported" in message
    lab.redis.xgroup_create(lab.events, "nemogate", "0")
    lab.redis.hset("nemo:{lab}:gateway", mapping={"beat": int(time.time() * 1000),
                                                  "state": "connected", "settings_version": 0})
    lab.run("check")
    lab.redis.xadd("nemo:{lab}:dead", {"dead_reason": "x"})
    lab.redis.hset("nemo:{lab}:gateway", "last_error", "broker refuses")
    code, message = lab.refused("check")
    assert code == 1 and "1 dead letters" in message and "broker refuses" in message


def test_uninstalled_sensors_are_cleared(lab, monkeypatch):
    sensor = Sensor.objects.create(name="T1")
    lab.new()
    monkeypatch.setattr(apps, "is_installed", lambda name: False)
    lab.tick()
    assert [(entry.topic, entry.payload) for entry in lab.new()] == [
        (f"sensors/{sensor.pk}/value", "")]


def test_a_change_makes_few_queries(lab, django_queries):
    """A request waits for them: of a tool with a child, a user, a problem and a reservation."""
    furnish(lab)
    tool = lab.tool()
    lab.tool(parent=tool)
    lab.use(tool)
    with django_queries() as queries:
        publish(reach.keys_of({("tool", tool.pk)}), force=True)
    assert len(queries) <= 8, [query["sql"] for query in queries]
