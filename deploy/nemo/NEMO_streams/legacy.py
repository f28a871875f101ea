"""Copies on the topics of the older MQTT plugin, for programs that know no others: the same fields
in the same order, written as Python's json writes them, and an ISO timestamp as the last, without
which the display server would show when the message came and not when it happened."""

import json

from . import entries
from .text import person

EXPIRY = 3600


def copy(word, tool, usage, choice):
    name = person(usage.user, choice.names) or ""
    if choice.names == "full":
        name = usage.user.get_full_name()  # "First Last (username)"
    field, time = ("start_time", usage.start) if word == "enabled" else ("end_time", usage.end)
    body = {"event": f"tool_{word}", "tool_id": tool.id, "tool_name": tool.name,
            "usage_id": usage.id, "user_name": name,
            field: time.isoformat() if time else None,
            "timestamp": (time if time and time <= tool.now else tool.now).isoformat()}
    return entries.Message(f"nemo/tools/{tool.id}/{word}", f"legacy.tool_{word}",
                           json.dumps(body).encode("ascii"), absolute=True, exp=EXPIRY)
