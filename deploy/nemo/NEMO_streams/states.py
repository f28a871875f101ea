"""The present state of NEMO's objects, computed from the database: what publish.py compares with
what was said last. An object is named by its key: tool/17, area/3, facility/alerts. Each kind is a
function (ids, Context) that makes its queries for all ids at once and then yields, object by
object, its id and how to make it: one that cannot be made does not stop the others."""

import logging
import os
import re
import traceback
from dataclasses import dataclass, field
from datetime import datetime

from django.apps import apps
from django.utils import timezone

from . import display, state_facility, state_places, state_tools
from .text import iso

logger = logging.getLogger(__name__)

KINDS = {"tool": state_tools.tools, "area": state_places.areas,
         "resource": state_places.resources, "interlock": state_places.interlocks,
         "sensor": state_places.sensors, "facility": state_facility.lists}
MODELS = {"tool": "NEMO.Tool", "area": "NEMO.Area", "resource": "NEMO.Resource",
          "interlock": "NEMO.Interlock", "sensor": "sensors.Sensor"}
TOPICS = {"tool": ("tools/%s/state", "tools/%s/tasks", "tools/%s/next"),
          "area": ("areas/%s/state",), "resource": ("resources/%s/state",),
          "interlock": ("interlocks/%s/state",), "sensor": ("sensors/%s/value",), "facility": ()}


@dataclass
class Made:
    messages: list
    facts: dict = field(default_factory=dict)  # what events.py compares
    subject: object = None


@dataclass
class Context:
    choice: object  # Options
    site: str
    now: datetime
    marks: dict     # of these objects, by id

    @property
    def ts(self):
        return iso(self.now)

    def head(self, **names):
        return {"v": 1, "site": self.site, **names}


def where(error):
    """What went wrong and at which line, without the message: it may hold a user's data."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "NEMO_streams" in frame.filename] or frames
    place = f" at {os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else ""
    return type(error).__name__ + place


def model(kind):
    """None where NEMO-sensors is not installed."""
    if kind == "sensor" and not apps.is_installed("NEMO_sensors"):
        return None
    return apps.get_model(MODELS[kind])


def topics_of(key, choice):
    """{topic: whether it is absolute}: what may be retained of an object that nobody remembers."""
    kind, _, name = key.partition("/")
    topics = {topic % name: False for topic in TOPICS[kind]}
    if kind == "tool" and choice.display:
        topics[display.topic(name, choice)] = True
    return topics


def all_keys():
    keys = [f"facility/{name}" for name in state_facility.LISTS]
    for kind in MODELS:
        table = model(kind)
        if table is not None:
            keys += [f"{kind}/{pk}" for pk in table.objects.order_by("pk")
                     .values_list("pk", flat=True)]
    return keys


def known(key):
    """False for what only looks like a key: tool/017 is not tool 17."""
    kind, _, name = key.partition("/")
    return name in state_facility.LISTS if kind == "facility" else \
        kind in KINDS and re.fullmatch("[1-9][0-9]{0,17}", name) is not None


def compute(keys, marks, choice, site):
    """({key: Made}, {keys that could not be made}). A key in neither is of an object that no
    longer exists."""
    now, made, failed, by_kind = timezone.now(), {}, set(), {}
    for key in keys:
        kind, _, name = key.partition("/")
        by_kind.setdefault(kind, {})[name if kind == "facility" else int(name)] = key
    for kind, ids in by_kind.items():
        context = Context(choice, site, now, {id: marks.get(key) or {}
                                              for id, key in ids.items()})
        try:
            found = list(KINDS[kind](list(ids), context))
        except Exception as error:
            logger.error("the state of %d objects (%s) could not be read: %s", len(ids), kind,
                         where(error))
            failed.update(ids.values())
            continue
        for id, make in found:
            try:
                made[ids[id]] = Made(*make())
            except Exception as error:
                logger.error("the state of %s could not be made: %s", ids[id], where(error))
                failed.add(ids[id])
    return made, failed
