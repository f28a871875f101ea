"""State and events of tools: what the database says, not what was saved."""

import json
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from NEMO import models

NOW = timezone.now
HOUR = timedelta(hours=1)


def state(lab, tool):
    """The state that was published last for the tool."""
    found = [entry for entry in lab.redis.xrange(lab.events)
             if entry[1]["topic"] == f"tools/{tool.pk}/state"]
    return json.loads(found[-1][1]["payload"])


def test_shape_of_state(lab):
    tool = lab.tool("woollam")
    usage = lab.use(tool)
    entry = [entry for entry in lab.new("tools/") if entry.topic.endswith("/state")][-1]
    assert list(entry.body) == ["v", "site", "tool_id", "tool_name", "operational", "in_use",
                                "state", "user", "since", "usage_id", "until", "problems", "ts"]
    assert entry.body["site"] == "lab" and entry.body["tool_id"] == tool.pk
    assert entry.body["state"] == "in_use" and entry.body["in_use"] is True
    assert entry.body["user"] == "Ren\u00e9 M\u00fcller" and entry.body["usage_id"] == usage.pk
    assert entry.body["since"] == usage.start.isoformat(timespec="milliseconds")
    assert "Ren\u00e9" in entry.payload and ", " not in entry.payload  # UTF-8, compact
    assert (entry.v, entry.key, entry.qos, entry.retain) == ("1", f"tool/{tool.pk}", "1", "1")
    assert entry.exp is None and entry.abs is None and len(entry.id) == 36
    assert int(entry.ts) > 1_700_000_000_000


def test_enable_and_disable(lab):
    tool = lab.tool()
    assert state(lab, tool)["state"] == "idle"
    assert lab.words(lab.new()) == []
    usage = lab.use(tool)
    assert lab.words(lab.new()) == [(tool.pk, "enabled")]
    lab.end(usage)
    entries = lab.new()
    assert lab.words(entries) == [(tool.pk, "disabled")]
    now = state(lab, tool)
    assert (now["state"], now["in_use"], now["user"], now["usage_id"]) == ("idle", False, None,
                                                                          None)
    assert now["since"] == usage.end.isoformat(timespec="milliseconds")
    event = [entry for entry in entries if entry.topic.endswith("/event")][0]
    assert (event.retain, event.exp, event.body["usage_id"]) == ("0", "3600", usage.pk)


def test_handover_within_one_commit_is_two_events(lab):
    tool = lab.tool()
    usage = lab.use(tool)
    lab.new()
    with transaction.atomic():
        lab.end(usage)
        second = lab.use(tool, lab.user("b", "Bo", "Li"))
    entries = lab.new()
    assert lab.words(entries) == [(tool.pk, "disabled"), (tool.pk, "enabled")]
    assert state(lab, tool)["usage_id"] == second.pk


def test_validating_an_old_charge_says_nothing(lab):
    tool = lab.tool()
    old = lab.use(tool, start=NOW() - 24 * HOUR, end=NOW() - 20 * HOUR)
    lab.use(tool)
    lab.new()
    old.validated = True
    old.save()
    assert lab.new() == []
    assert state(lab, tool)["state"] == "in_use"


def test_family_is_one_machine(lab):
    parent = lab.tool()
    child, sibling = lab.tool(parent=parent), lab.tool(parent=parent)
    stranger = lab.tool()
    lab.new()
    usage = lab.use(child)
    entries = lab.new()
    assert lab.states_of(entries) == {parent.pk: "in_use", child.pk: "in_use",
                                      sibling.pk: "in_use"}
    assert models.Tool.objects.get(pk=parent.pk).in_use()
    assert not any(entry.key == f"tool/{stranger.pk}" for entry in entries)
    lab.end(usage)
    assert set(lab.states_of(lab.new()).values()) == {"idle"}
    parent.operational = False
    parent.save()
    entries = lab.new()
    assert set(lab.states_of(entries)) == {parent.pk, child.pk, sibling.pk}
    assert set(lab.states_of(entries).values()) == {"down"}


def test_delayed_logoff_is_a_cooldown(lab):
    tool = lab.tool()
    usage = lab.use(tool)
    lab.new()
    lab.end(usage, minutes=30)
    entries = lab.new()
    now = state(lab, tool)
    assert now["state"] == "cooldown" and now["in_use"] is False
    assert now["until"] == usage.end.isoformat(timespec="milliseconds")
    assert now["usage_id"] == usage.pk and now["since"] is not None
    assert lab.words(entries) == [(tool.pk, "disabled")]
    lab.tick()
    assert lab.new() == []
    models.UsageEvent.objects.filter(pk=usage.pk).update(end=NOW() - timedelta(seconds=1))
    lab.tick()
    entries = lab.new()
    assert lab.words(entries) == [(tool.pk, "cooldown_end")]
    assert state(lab, tool)["state"] == "idle"


def test_down_during_a_cooldown_does_not_end_it(lab):
    tool = lab.tool()
    lab.end(lab.use(tool), minutes=30)
    since = state(lab, tool)["since"]
    lab.new()
    tool.operational = False
    tool.save()
    assert lab.words(lab.new()) == [(tool.pk, "down")]
    tool.operational = True
    tool.save()
    assert lab.words(lab.new()) == [(tool.pk, "up")]
    assert state(lab, tool)["state"] == "cooldown"
    assert state(lab, tool)["since"] == since


def test_down_and_up(lab):
    tool = lab.tool()
    lab.new()
    tool.operational = False
    tool.save()
    entries = lab.new()
    outage = models.UnplannedOutage.objects.get(tool=tool)
    now = state(lab, tool)
    assert (now["state"], now["operational"]) == ("down", False)
    assert now["since"] == outage.start.isoformat(timespec="milliseconds")
    assert lab.words(entries) == [(tool.pk, "down")]
    tool.operational = True
    tool.save()
    assert lab.words(lab.new()) == [(tool.pk, "up")]


def test_shutdown_beats_use_but_an_outage_lets_finish(lab):
    tool = lab.tool()
    usage = lab.use(tool)
    water = models.Resource.objects.create(name="Water", available=False)
    water.fully_dependent_tools.add(tool)
    assert state(lab, tool)["state"] == "in_use"
    assert state(lab, tool)["problems"] == ["resource: Water"]
    tool.operational = False
    tool.save()
    now = state(lab, tool)
    assert (now["state"], now["in_use"], now["user"]) == ("down", True, "Ren\u00e9 M\u00fcller")
    tool.operational = True
    tool.save()
    lab.end(usage)
    assert state(lab, tool)["state"] == "down"
    assert state(lab, tool)["operational"] is True


def test_scheduled_outage_of_tool_and_of_resource(lab):
    tool, other = lab.tool(), lab.tool()
    water = models.Resource.objects.create(name="Water")
    water.fully_dependent_tools.add(other)
    for item in ({"tool": tool}, {"resource": water}):
        models.ScheduledOutage.objects.create(start=NOW() + HOUR, end=NOW() + 2 * HOUR,
                                              title="Power", **item)
    assert state(lab, tool)["state"] == "idle"
    lab.new()
    models.ScheduledOutage.objects.update(start=NOW() - HOUR)
    assert lab.new() == []
    lab.tick()
    assert lab.states_of(lab.new()) == {tool.pk: "down", other.pk: "down"}
    now = state(lab, other)
    assert now["problems"] == ["outage: Power"] and now["until"] is not None
    models.ScheduledOutage.objects.all().delete()
    assert lab.states_of(lab.new()) == {tool.pk: "idle", other.pk: "idle"}


def test_tasks_are_summed_up_and_cut(lab):
    tool = lab.tool()
    lab.choose(text_limit="20")
    lab.new()
    task = models.Task.objects.create(tool=tool, urgency=1, force_shutdown=True,
                                      safety_hazard=False, problem_description="x" * 300_000)
    models.TaskHistory.objects.create(task=task, status="Waiting for parts")
    body = lab.new("tool.tasks")[-1].body
    assert body["count"] == 1
    only = body["tasks"][0]
    assert only["problem"] == "x" * 19 + "\u2026"
    assert (only["urgency"], only["shutdown"], only["status"]) == ("high", True,
                                                                   "Waiting for parts")
    assert state(lab, tool)["problems"] == [f"task {task.pk}: shutdown"]
    task.resolved = True
    task.save()
    assert lab.new("tool.tasks")[-1].body["count"] == 0


def test_long_texts_of_problems_do_not_hold_up_the_state(lab):
    tool = lab.tool()
    lab.choose(text_limit="5000")
    for _ in range(20):
        models.Task.objects.create(tool=tool, urgency=1, force_shutdown=False, safety_hazard=False,
                                   problem_description="\u674e" * 6000)
    lab.new()
    lab.use(tool)
    lab.tick()
    assert state(lab, tool)["state"] == "in_use"
    summary = [json.loads(fields["payload"]) for _, fields in lab.redis.xrange(lab.events)
               if fields["type"] == "tool.tasks"][-1]
    assert summary["count"] == 20 and 1 < len(summary["tasks"]) < 20


def test_next_reservation(lab):
    tool = lab.tool()
    models.Reservation.objects.create(tool=tool, user=lab.user(), start=NOW() + 2 * HOUR,
                                      end=NOW() + 3 * HOUR, title="secret")
    first = models.Reservation.objects.create(tool=tool, user=lab.user(), start=NOW() + HOUR,
                                              end=NOW() + 2 * HOUR)
    entries = lab.new("tool.next")
    assert entries[-1].body["next"]["reservation_id"] == first.pk
    assert "secret" not in "".join(entry.payload for entry in entries)
    first.cancelled = True
    first.save()
    assert lab.new("tool.next")[-1].body["next"]["reservation_id"] != first.pk
    models.Reservation.objects.update(start=NOW() - HOUR)
    lab.tick()
    assert lab.new("tool.next")[-1].body["next"] is None


def test_names_policy(lab):
    tool = lab.tool()
    lab.choose(names="initials", legacy="enabled", display="enabled")
    usage = lab.use(tool)
    entries = lab.new()
    text = "".join(entry.payload for entry in entries)
    assert state(lab, tool)["user"] == "RM"
    assert "ller" not in text and "rmueller" not in text
    lab.end(usage)
    lab.choose(names="none")
    lab.use(tool)
    entries = lab.new()
    assert state(lab, tool)["user"] is None and state(lab, tool)["usage_id"]
    text = "".join(entry.payload for entry in entries[-4:])
    assert "ller" not in text and "RM" not in text


def test_deleted_tool_clears_what_is_retained(lab):
    lab.choose(display="enabled")
    tool, other = lab.tool(), lab.tool()
    retained = {entry.topic for entry in lab.new() if entry.key == f"tool/{tool.pk}"}
    assert len(retained) == 4
    key = f"tool/{tool.pk}"
    tool.delete()
    entries = lab.new()
    assert {entry.topic for entry in entries} == retained
    assert all(entry.payload == "" and entry.retain == "1" and entry.key == key
               for entry in entries)
    assert [entry.topic for entry in entries if entry.abs] == [f"nemo/esp32/{key[5:]}/status"]
    assert not lab.redis.hexists(lab.states, key)
    assert lab.redis.hexists(lab.states, f"tool/{other.pk}")


def test_deleted_tool_that_redis_has_forgotten(lab):
    tool = lab.tool()
    lab.redis.delete(lab.states)
    lab.new()
    pk = tool.pk
    tool.delete()
    assert {entry.topic for entry in lab.new()} == {f"tools/{pk}/state", f"tools/{pk}/tasks",
                                                   f"tools/{pk}/next"}


def test_deleted_tool_with_a_display_that_redis_has_forgotten(lab):
    lab.choose(display="enabled")
    tool = lab.tool()
    lab.redis.delete(lab.states)
    lab.new()
    topic = f"nemo/esp32/{tool.pk}/status"
    tool.delete()
    assert [(entry.abs, entry.payload) for entry in lab.new(topic)] == [("1", "")]


def test_switched_off_outputs_are_cleared_by_the_tick(lab):
    tool = lab.tool()
    lab.choose(tool_next="disabled", tool_tasks="disabled")
    lab.tick()
    cleared = [entry.topic for entry in lab.new() if entry.payload == ""]
    assert cleared == [f"tools/{tool.pk}/next", f"tools/{tool.pk}/tasks"]


def test_events_without_states(lab):
    lab.choose(tool_states="disabled", tool_next="disabled", tool_tasks="disabled")
    tool = lab.tool()
    lab.end(lab.use(tool))
    assert lab.words(lab.new()) == [(tool.pk, "enabled"), (tool.pk, "disabled")]


def test_legacy_copies(lab):
    lab.choose(legacy="enabled", tool_events="disabled")
    tool = lab.tool("E-Beam \u00e9vaporateur")
    usage = lab.use(tool)
    start = usage.start.isoformat()
    one = lab.new("legacy")[0]
    assert (one.topic, one.abs, one.retain) == (f"nemo/tools/{tool.pk}/enabled", "1", "0")
    assert one.payload == (
        f'{{"event": "tool_enabled", "tool_id": {tool.pk}, "tool_name": "E-Beam \\u00e9vaporateur",'
        f' "usage_id": {usage.pk}, "user_name": "Ren\\u00e9 M\\u00fcller (rmueller)", '
        f'"start_time": "{start}", "timestamp": "{start}"}}')
    lab.end(usage)
    two = lab.new("legacy")[0]
    assert two.topic == f"nemo/tools/{tool.pk}/disabled"
    assert list(two.body) == ["event", "tool_id", "tool_name", "usage_id", "user_name", "end_time",
                              "timestamp"]
