"""Ready-made texts for the ESP32 tool displays. Their MQTT library drops, without a word, a packet
of more than 256 bytes, and their fonts have no letters beyond ASCII; they are green if and only if
event_type is "enabled"."""

import logging

from . import entries
from .text import display_time, fold, person, zone

logger = logging.getLogger(__name__)

PACKET = 256
OVERHEAD = 1 + 2 + 2 + 2  # type, remaining length, topic length, packet identifier (of QoS 1)
NOBODY = "--"

LABELS = {"in_use": ("Enabled Since", "Current User"), "idle": ("Disabled Since", "Last User"),
          "cooldown": ("Cooldown Until", "Last User"), "down": ("Down Since", "Last User")}


def user_name(user, choice):
    """Without what stands in parentheses; a long name becomes its first word, then is cut."""
    name = letters(person(user, choice.names) or "", choice).split("(")[0].strip()
    if not name and user is not None and choice.names == "full":
        name = letters(user.username, choice)  # nothing of the name exists in plain letters
    if len(name) > choice.display_name_length:
        name = name.split()[0][:choice.display_name_length]
    return name or NOBODY


def letters(text, choice):
    return fold(text) if choice.display_ascii else " ".join(text.split())


def body(tool, choice):
    time_label, user_label = LABELS[tool.state]
    used = tool.state == "in_use"
    user = tool.usage or tool.last
    when = tool.until if tool.state == "cooldown" else tool.since
    return {"event_type": "enabled" if used else "disabled", "in_use": used,
            "timestamp": display_time(when, known_zone(choice.display_zone)),
            "time_label": time_label, "user_label": user_label,
            "user_name": user_name(user.user if user else None, choice),
            "tool_name": letters(tool.name, choice) or f"Tool {tool.id}"}


_told = set()


def known_zone(name):
    if zone(name) is not None:
        return name
    if name not in _told:
        _told.add(name)
        logger.error("time zone %s is unknown here; displays show UTC", name)
    return "UTC"


def fit(made, room):
    """The payload's bytes; the longer of the two names is cut until they fit."""
    while len(entries.compact(made)) > room and (made["tool_name"] or made["user_name"]):
        longer = max(("tool_name", "user_name"), key=lambda field: len(made[field].encode()))
        made[longer] = made[longer][:-1].rstrip()
    return entries.compact(made)


def topic(id, choice):
    return f"{choice.display_prefix}/{id}/status"


def message(tool, choice):
    place, made = topic(tool.id, choice), body(tool, choice)
    payload = fit(made, PACKET - OVERHEAD - len(place.encode()))
    return entries.Message(place, "display.status", payload, retain=True, absolute=True,
                           digest=entries.digest(made))
