"""Facility-wide lists: public alerts, visible safety issues, closures. An alert for one user, an
issue for the staff's eyes and the names of reporters never leave NEMO."""

from datetime import timedelta

from django.db.models import Q

from . import entries
from .text import cut, iso

CLOSURE_HORIZON = timedelta(days=60)
ITEMS = 50  # what does not fit is counted in "more"


def alerts(context):
    from NEMO.models import Alert

    limit = context.choice.text_limit
    for alert in Alert.objects.filter(
            Q(expiration_time=None) | Q(expiration_time__gt=context.now), user=None, expired=False,
            deleted=False, debut_time__lte=context.now).order_by("-debut_time", "pk"):
        yield {"id": alert.pk, "title": cut(alert.title, limit), "category": alert.category,
               "contents": cut(alert.contents, limit), "since": iso(alert.debut_time),
               "until": iso(alert.expiration_time)}


def safety(context):
    from NEMO.models import SafetyIssue

    limit = context.choice.text_limit
    for issue in SafetyIssue.objects.filter(visible=True, resolved=False) \
            .order_by("-creation_time", "pk"):
        yield {"id": issue.pk, "location": cut(issue.location, limit) or None,
               "concern": cut(issue.concern, limit), "since": iso(issue.creation_time)}


def closures(context):
    from NEMO.models import ClosureTime

    for time in ClosureTime.objects.filter(
            end_time__gt=context.now, start_time__lt=context.now + CLOSURE_HORIZON) \
            .select_related("closure").order_by("start_time", "pk"):
        yield {"id": time.pk, "name": time.closure.name, "start": iso(time.start_time),
               "end": iso(time.end_time), "closed_now": time.start_time <= context.now}


LISTS = {"alerts": alerts, "safety": safety, "closures": closures}


def made(name, context):
    if not context.choice.facility:
        return [],
    found = list(LISTS[name](context))
    items = entries.fitting(found[:ITEMS])
    body = context.head(items=items, more=len(found) - len(items))
    return [entries.state(f"facility/{name}", f"facility.{name}", body, context.ts)],


def lists(names, context):
    for name in names:
        yield name, lambda name=name: made(name, context)
