"""Areas, resources, interlocks, sensors and the facility's lists."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from NEMO import models
from NEMO_sensors.models import Sensor, SensorData

NOW = timezone.now
HOUR = timedelta(hours=1)


def bodies(entries):
    """The last body of each topic."""
    return {entry.topic: entry.body for entry in entries}


def test_areas_count_people_and_never_name_them(lab):
    hall = models.Area.objects.create(name="Cleanroom", maximum_capacity=12)
    bay = models.Area.objects.create(name="Bay", parent_area=hall)
    lab.new()
    record = models.AreaAccessRecord.objects.create(area=bay, customer=lab.user())
    entries = lab.new()
    assert "ller" not in "".join(entry.payload for entry in entries)
    found = bodies(entries)
    assert found[f"areas/{bay.pk}/state"]["occupancy"] == 1
    assert found[f"areas/{hall.pk}/state"]["occupancy"] == 1
    assert found[f"areas/{hall.pk}/state"]["capacity"] == 12
    assert found[f"areas/{bay.pk}/state"]["capacity"] is None
    record.end = NOW()
    record.save()
    assert {body["occupancy"] for body in bodies(lab.new()).values()} == {0}


def test_occupancy_counts_as_nemo_does(lab):
    area = models.Area.objects.create(name="Bay", count_staff_in_occupancy=False)
    for name, staff in (("a", True), ("b", False)):
        models.AreaAccessRecord.objects.create(area=area, customer=lab.user(name, is_staff=staff))
    models.AreaAccessRecord.objects.create(area=area, customer=lab.user("c"),
                                           staff_charge=models.StaffCharge.objects.create())
    assert bodies(lab.new())[f"areas/{area.pk}/state"]["occupancy"] == 1


def test_resource_reaches_its_dependents(lab):
    tools = [lab.tool() for _ in range(3)]
    area = models.Area.objects.create(name="Bay")
    water = models.Resource.objects.create(name="Water", restriction_message="No water")
    water.fully_dependent_tools.set(tools[:2])
    water.dependent_areas.add(area)
    lab.new()
    water.available = False
    water.save()
    entries = lab.new()
    assert lab.states_of(entries) == {tools[0].pk: "down", tools[1].pk: "down"}
    found = bodies(entries)
    resource = found[f"resources/{water.pk}/state"]
    assert resource["available"] is False and resource["message"] == "No water"
    assert resource["since"] is not None
    assert found[f"areas/{area.pk}/state"]["available"] is False


def test_m2m_changes_from_both_sides(lab):
    one, two = lab.tool(), lab.tool()
    water = models.Resource.objects.create(name="Water", available=False)
    lab.new()
    water.fully_dependent_tools.add(one)
    assert lab.states_of(lab.new()) == {one.pk: "down"}
    two.required_resource_set.add(water)
    assert lab.states_of(lab.new()) == {two.pk: "down"}
    two.required_resource_set.remove(water)
    assert lab.states_of(lab.new()) == {two.pk: "idle"}
    water.fully_dependent_tools.clear()
    assert lab.states_of(lab.new()) == {one.pk: "idle"}


def test_m2m_clear_inside_a_transaction(lab):
    tool = lab.tool()
    water = models.Resource.objects.create(name="Water", available=False)
    water.fully_dependent_tools.add(tool)
    lab.new()
    with transaction.atomic():
        water.fully_dependent_tools.clear()
    assert lab.states_of(lab.new()) == {tool.pk: "idle"}


def test_deleted_resource_frees_its_tools(lab):
    tool = lab.tool()
    water = models.Resource.objects.create(name="Water", available=False)
    water.fully_dependent_tools.add(tool)
    lab.new()
    pk = water.pk
    water.delete()
    entries = lab.new()
    assert lab.states_of([entry for entry in entries if entry.body]) == {tool.pk: "idle"}
    assert [entry.topic for entry in entries if entry.body is None] == [f"resources/{pk}/state"]


def test_interlocks(lab):
    card = models.InterlockCard.objects.create(server="10.0.0.7")
    interlock = models.Interlock.objects.create(card=card, most_recent_reply="secret reply")
    tool = lab.tool(_interlock=interlock)
    interlock.state = models.Interlock.State.LOCKED
    interlock.save()
    entries = lab.new("interlock")
    assert [entry.body["state"] for entry in entries] == ["unknown", "locked"]
    assert entries[-1].body["tool_id"] == tool.pk
    text = "".join(entry.payload for entry in entries)
    assert "10.0.0.7" not in text and "secret" not in text


def test_sensors(lab):
    sensor = Sensor.objects.create(name="T1", data_suffix="\u00b0C")
    hidden = Sensor.objects.create(name="T2", visible=False)
    lab.new()
    SensorData.objects.create(sensor=sensor, value=21.5)
    SensorData.objects.create(sensor=hidden, value=1)
    entries = lab.new()
    assert [(entry.topic, entry.qos, entry.retain) for entry in entries] == [
        (f"sensors/{sensor.pk}/value", "0", "1")]
    assert entries[0].body["value"] == 21.5 and entries[0].body["suffix"] == "\u00b0C"
    SensorData.objects.create(sensor=sensor, value=float("inf"))  # JSON has no word for it
    entry, = lab.new()
    assert entry.body["value"] is None and "Infinity" not in entry.payload


def test_private_alerts_never_leave(lab):
    models.Alert.objects.create(title="Public", contents="all", debut_time=NOW() - HOUR)
    models.Alert.objects.create(title="Private", contents="only you", debut_time=NOW() - HOUR,
                                user=lab.user())
    models.Alert.objects.create(title="Deleted", contents="x", debut_time=NOW(), deleted=True)
    models.Alert.objects.create(title="Later", contents="x", debut_time=NOW() + HOUR)
    lab.snapshot()
    entries = lab.new()
    items = [entry.body["items"] for entry in entries if entry.topic == "facility/alerts"][-1]
    assert [item["title"] for item in items] == ["Public"]
    text = "".join(entry.payload for entry in entries)
    assert not any(word in text for word in ("Private", "only you", "Deleted", "Later"))


def test_alert_begins_and_expires_with_time(lab):
    alert = models.Alert.objects.create(title="Soon", contents="x", debut_time=NOW() + HOUR)
    models.Alert.objects.update(debut_time=NOW() - HOUR, expiration_time=NOW() + HOUR)
    lab.tick()
    assert [item["id"] for item in bodies(lab.new())["facility/alerts"]["items"]] == [alert.pk]
    models.Alert.objects.update(expiration_time=NOW() - timedelta(seconds=1))
    lab.tick()
    assert bodies(lab.new())["facility/alerts"]["items"] == []


def test_safety_issues_for_staff_stay_inside(lab):
    models.SafetyIssue.objects.create(concern="Spill", location="Bay 3", reporter=lab.user())
    models.SafetyIssue.objects.create(concern="Confidential", visible=False)
    models.SafetyIssue.objects.create(concern="Old", resolved=True)
    entries = lab.new("facility/safety")
    assert [item["concern"] for item in entries[-1].body["items"]] == ["Spill"]
    text = "".join(entry.payload for entry in entries)
    assert "Confidential" not in text and "ller" not in text


def test_closures(lab):
    closure = models.Closure.objects.create(name="New Year")
    models.ClosureTime.objects.create(closure=closure, start_time=NOW() + HOUR,
                                      end_time=NOW() + 9 * HOUR)
    assert bodies(lab.new())["facility/closures"]["items"][0]["closed_now"] is False
    models.ClosureTime.objects.update(start_time=NOW() - HOUR)
    lab.tick()
    assert bodies(lab.new())["facility/closures"]["items"][0]["closed_now"] is True


def test_long_lists_stay_below_64_KiB(lab):
    lab.choose(text_limit="5000")
    for number in range(30):
        models.SafetyIssue.objects.create(concern=f"{number} " + "\u00e9" * 6000)
    entry = lab.new("facility/safety")[-1]
    assert len(entry.payload.encode()) <= 64 * 1024
    assert entry.body["more"] == 30 - len(entry.body["items"]) > 0
