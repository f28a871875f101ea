"""Events of tools, not retained: what lies between the state that was last published and the
present one. They come from the states, not from the rows that were saved, so that a validated old
charge is no event, and one is sent once whoever notices it first."""

from datetime import timedelta

from . import entries, legacy
from .text import iso, person

EXPIRY = 3600  # seconds after which an event is no news any more
FIRST = timedelta(minutes=1)  # age of a use that begins while nobody knows what was before


def between(before, made, choice, site, assume):
    """Messages. before: facts of the last state, None when nobody knows it: at a tool's first use,
    or when Redis has lost its data. Then, if assume, it was idle, unless its use is an old one."""
    tool = made.subject
    if tool is None:
        return []
    if before is None:
        if not assume or (tool.in_use and tool.usage.start < tool.now - FIRST):
            return []
        before = {"state": "idle" if made.facts["state"] != "down" else "down", "in_use": False}
    found = []
    for word, usage, until in kinds(before, made.facts, tool):
        if choice.tool_events:
            found.append(event(word, tool, usage, until, choice, site))
        if choice.legacy and word in ("enabled", "disabled") and usage is not None:
            found.append(legacy.copy(word, tool, usage, choice))
    return found


def kinds(before, now, tool):
    """(word, usage it is about, until) in the order in which it happened."""
    last, usage = before.get("usage"), now.get("usage")
    if before.get("in_use") and not (now["in_use"] and usage == last):
        yield "disabled", tool.usages.get(last), tool.usage.end if now["cooling"] else None
    if before.get("cooling") and not (now["cooling"] and usage == last):
        yield "cooldown_end", tool.usages.get(last), None
    if before.get("state") == "down" and now["state"] != "down":
        yield "up", None, None
    if now["in_use"] and not (before.get("in_use") and usage == last):
        yield "enabled", tool.usages.get(usage), None
    if now["state"] == "down" and before.get("state") != "down":
        yield "down", None, tool.until


def event(word, tool, usage, until, choice, site):
    time = None
    if usage is not None:
        time = usage.start if word == "enabled" else min(usage.end or tool.now, tool.now)
    elif word == "down":
        time = tool.since
    body = {"v": 1, "site": site, "event": word, "tool_id": tool.id, "tool_name": tool.name,
            "user": person(usage.user, choice.names) if usage else None,
            "usage_id": usage.id if usage else None, "time": iso(time or tool.now),
            "until": iso(until), "ts": iso(tool.now)}
    return entries.Message(f"tools/{tool.id}/event", f"tool.{word}", entries.compact(body),
                           exp=EXPIRY)
