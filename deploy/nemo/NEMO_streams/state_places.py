"""State of areas (how many people, never who), resources, interlocks and sensors."""

import math
from collections import defaultdict

from django.apps import apps

from . import entries
from .text import cut, iso

INTERLOCK = {1: "unlocked", 2: "locked"}


def outages_now(now, **condition):
    from NEMO.models import ScheduledOutage

    return ScheduledOutage.objects.filter(start__lte=now, end__gt=now, **condition) \
        .order_by("start")


class Areas:
    """All areas with their people. Labs have few, and a parent counts its children's people."""

    def __init__(self, now):
        from NEMO.models import Area, AreaAccessRecord, Resource

        self.areas = {area.pk: area for area in Area.objects.all()}
        self.people = defaultdict(list)
        present = AreaAccessRecord.objects.filter(end=None, staff_charge=None)
        for area, *flags in present.values_list("area_id", "customer__is_staff",
                                                "customer__is_service_personnel"):
            for above in self.upwards(area):
                self.people[above].append(flags)
        self.problems = defaultdict(list)
        depends = Resource.dependent_areas.through.objects
        for area, name in depends.filter(resource__available=False).order_by("resource__name") \
                .values_list("area_id", "resource__name"):
            self.problems[area].append(f"resource: {cut(name, 80)}")
        by_resource = defaultdict(list)
        for area, resource in depends.values_list("area_id", "resource_id"):
            by_resource[resource].append(area)
        for outage in outages_now(now, tool=None):
            for area in [outage.area_id] if outage.area_id else by_resource[outage.resource_id]:
                self.problems[area].append(f"outage: {cut(outage.title, 80)}")

    def upwards(self, id):
        """The area and those that contain it."""
        seen = []
        while id in self.areas and id not in seen:
            seen.append(id)
            id = self.areas[id].parent_area_id
        return seen

    def made(self, id, context):
        area, people = self.areas[id], self.people[id]
        count = len(people)
        if not area.count_staff_in_occupancy:  # as NEMO's occupancy_count()
            count -= sum(1 for staff, _ in people if staff)
        if not area.count_service_personnel_in_occupancy:
            count -= sum(1 for _, service in people if service)
        problems = [problem for above in self.upwards(id) for problem in self.problems[above]]
        body = context.head(
            area_id=id, area_name=area.name, available=not problems, occupancy=count,
            capacity=area.maximum_capacity or None,
            requires_reservation=area.requires_reservation, problems=problems[:20])
        return ([entries.state(f"areas/{id}/state", "area.state", body, context.ts)]
                if context.choice.areas else []),


def areas(ids, context):
    picture = Areas(context.now)
    for id in ids:
        if id in picture.areas:
            yield id, lambda id=id: picture.made(id, context)


def resources(ids, context):
    from NEMO.models import Resource, UnplannedOutage

    since = {outage.resource_id: outage.start for outage in
             UnplannedOutage.objects.filter(resource_id__in=ids, end=None).order_by("-start")}
    outages = defaultdict(list)
    for outage in outages_now(context.now, resource_id__in=ids):
        outages[outage.resource_id].append(outage)

    def made(resource):
        running = outages[resource.pk]
        message = "" if resource.available else resource.restriction_message
        body = context.head(
            resource_id=resource.pk, resource_name=resource.name, available=resource.available,
            since=iso(since.get(resource.pk)),
            until=iso(max((outage.end for outage in running), default=None)),
            message=cut(message, context.choice.text_limit) or None,
            problems=[f"outage: {cut(outage.title, 80)}" for outage in running[:20]])
        return ([entries.state(f"resources/{resource.pk}/state", "resource.state", body,
                               context.ts)] if context.choice.resources else []),

    for resource in Resource.objects.filter(pk__in=ids):
        yield resource.pk, lambda resource=resource: made(resource)


def interlocks(ids, context):
    from NEMO.models import Interlock, Tool

    tool_of = dict(Tool.objects.filter(_interlock_id__in=ids).values_list("_interlock_id", "pk"))

    def made(interlock):
        body = context.head(
            interlock_id=interlock.pk, interlock_name=interlock.name or None,
            tool_id=tool_of.get(interlock.pk), state=INTERLOCK.get(interlock.state, "unknown"),
            replied=iso(interlock.most_recent_reply_time))
        return ([entries.state(f"interlocks/{interlock.pk}/state", "interlock.state", body,
                               context.ts)] if context.choice.interlocks else []),

    for interlock in Interlock.objects.filter(pk__in=ids):
        yield interlock.pk, lambda interlock=interlock: made(interlock)


def sensors(ids, context):
    def made(sensor):
        value = sensor.last_value
        body = context.head(
            sensor_id=sensor.pk, sensor_name=sensor.name,
            value=value if value is not None and math.isfinite(value) else None,  # no NaN in JSON
            label=sensor.data_label or None, prefix=sensor.data_prefix or None,
            suffix=sensor.data_suffix or None, read=iso(sensor.last_read))
        return ([entries.state(f"sensors/{sensor.pk}/value", "sensor.value", body, context.ts,
                               qos=0)] if context.choice.sensors and sensor.visible else []),

    if not apps.is_installed("NEMO_sensors"):
        return
    for sensor in apps.get_model("sensors.Sensor").objects.filter(pk__in=ids):
        yield sensor.pk, lambda sensor=sensor: made(sensor)
