"""What NEMO saves or deletes becomes a list of references, and that is published after the commit:
nothing of a rolled-back change, and one look per object however often a transaction saved it. The
receivers make no query and raise nothing."""

import logging
from functools import wraps

from django.apps import apps
from django.db import connections, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from . import reach, states
from .publish import publish

logger = logging.getLogger(__name__)


def own(kind):
    return lambda row: [(kind, row.pk)]


def tool(row):
    return [("tool", row.pk), ("tool", row.parent_tool_id)] if row.parent_tool_id else \
        [("tool", row.pk)]


def area(row):
    return [("area", id) for id in (row.pk, row.parent_area_id) if id is not None]


def of(*kinds):
    """What a row points to: its tool_id, area_id, resource_id, task_id."""
    def references(row):
        found = ((kind, getattr(row, f"{kind}_id", None)) for kind in kinds)
        return [(kind, id) for kind, id in found if id is not None]
    return references


def facility(name):
    return lambda row: [("facility", name)]


TABLES = {
    "NEMO.Tool": tool,
    "NEMO.UsageEvent": of("tool"),
    "NEMO.Task": of("tool"),
    "NEMO.TaskHistory": of("task"),
    "NEMO.Reservation": of("tool"),
    "NEMO.UnplannedOutage": of("tool", "resource"),
    "NEMO.ScheduledOutage": of("tool", "area", "resource"),
    "NEMO.Resource": own("resource"),
    "NEMO.Area": area,
    "NEMO.AreaAccessRecord": of("area"),
    "NEMO.Interlock": own("interlock"),
    "NEMO.Alert": facility("alerts"),
    "NEMO.SafetyIssue": facility("safety"),
    "NEMO.Closure": facility("closures"),
    "NEMO.ClosureTime": facility("closures"),
    "sensors.Sensor": own("sensor"),
}
# A deleted resource or area no longer tells what it reached.
ALSO_AT_DELETE = {"NEMO.Resource": [("tool", None), ("area", None)]}
LINKS = {"fully_dependent_tools": "tool", "dependent_areas": "area"}


class Batch:
    """References of one transaction; called after its commit."""

    def __init__(self, references):
        self.references = set(references)

    def __call__(self):
        try:
            publish(reach.keys_of(self.references), assume=True)
        except Exception as error:
            logger.error("a change could not be published: %s", states.where(error))


def after_commit(references, using):
    """Into the transaction's batch. Savepoints have their own: one may be rolled back alone."""
    connection = connections[using]
    if connection.in_atomic_block:
        for savepoints, hook, *_ in connection.run_on_commit:
            if isinstance(hook, Batch) and savepoints == set(connection.savepoint_ids):
                hook.references.update(references)
                return
    transaction.on_commit(Batch(references), using=using)


def quiet(receiver):
    @wraps(receiver)
    def wrapped(sender, **details):
        try:
            receiver(sender, **details)
        except Exception as error:
            logger.error("a change of %s was not noticed: %s", sender.__name__,
                         states.where(error))
    return wrapped


@quiet
def saved(sender, instance, using, raw=False, **_):
    if not raw:
        after_commit(TABLES[sender._meta.label](instance), using)


@quiet
def deleted(sender, instance, using, **_):
    label = sender._meta.label
    after_commit(TABLES[label](instance) + ALSO_AT_DELETE.get(label, []), using)


@quiet
def linked(sender, instance, action, reverse, pk_set, using, **_):
    """A resource was given other dependents, from its own side or from theirs."""
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    kind = next(kind for field, kind in LINKS.items() if sender is through(field))
    if action == "pre_clear":
        after_commit([(kind, None)], using)
    elif reverse:
        after_commit([(kind, instance.pk)], using)
    else:
        after_commit([(kind, pk) for pk in pk_set], using)


def through(field):
    return getattr(apps.get_model("NEMO.Resource"), field).through


def connect():
    for label in TABLES:
        try:
            sender = apps.get_model(label)
        except LookupError:
            logger.debug("%s is not installed", label)
            continue
        post_save.connect(saved, sender=sender, dispatch_uid=f"nemo_streams.save.{label}")
        post_delete.connect(deleted, sender=sender, dispatch_uid=f"nemo_streams.delete.{label}")
    for field in LINKS:
        m2m_changed.connect(linked, sender=through(field),
                            dispatch_uid=f"nemo_streams.link.{field}")
