"""What is published, and how: values of NEMO's Customization table (names below), each with a
default. One table, from which a settings page can be made. A yes-or-no is stored as "enabled" or
"disabled", never as an empty value: NEMO deletes a customization that is saved empty, and the
default would come back. A value that does not pass its check counts as not set."""

import re
from dataclasses import dataclass
from typing import Callable

from django.conf import settings

from .text import zone

ENABLED, DISABLED = "enabled", "disabled"


def yes_or_no(value):
    if value not in (ENABLED, DISABLED):
        raise ValueError("must be enabled or disabled")
    return value == ENABLED


def one_of(*words):
    def check(value):
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value
    return check


def number(low, high):
    def check(value):
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return int(value)
    return check


def zone_name(value):
    if value and zone(value) is None:
        raise ValueError("is not a time zone of this server, such as Europe/Paris")
    return value or settings.TIME_ZONE


def topic_prefix(value):
    level = r"[^\s\x00-\x1f\x7f-\x9f+#/]+"
    if not re.fullmatch(rf"(?!\$){level}(/{level})*", value) or len(value.encode()) > 40:
        raise ValueError("must be a topic such as nemo/esp32: at most 40 bytes, no +, #, blanks or "
                         "outer slashes")
    return value


@dataclass(frozen=True)
class Option:
    name: str       # in NEMO's Customization table: at most 50 characters
    kind: str       # bool, choice, number, zone, topic: how a page shows it
    default: str    # as stored
    help: str
    check: Callable  # stored text -> value; ValueError says what would be right
    choices: tuple = ()

    @property
    def field(self):
        return self.name[len(PREFIX):]


PREFIX = "streams_"


def switch(name, default, text):
    return Option(PREFIX + name, "bool", ENABLED if default else DISABLED, text, yes_or_no)


NAMES = ("full", "initials", "none")

OPTIONS = (
    switch("tool_states", True, "State of each tool: idle, in use, cooldown or down"),
    switch("tool_events", True, "Events of tools as they happen: enabled, disabled, down, up"),
    switch("tool_tasks", True, "Open problems of each tool, with the text of the report"),
    switch("tool_next", True, "Next reservation of each tool"),
    switch("areas", True, "How many people are in each area (never who)"),
    switch("resources", True, "Whether each resource is available"),
    switch("interlocks", True, "State of each interlock"),
    switch("facility", True, "Public alerts, visible safety issues and closures"),
    switch("sensors", True, "Values of sensors, where NEMO-sensors is installed"),
    Option(PREFIX + "names", "choice", "full", "How users are named: full name, initials, or not "
           "at all", one_of(*NAMES), NAMES),
    Option(PREFIX + "text_limit", "number", "500", "Longest text of a problem, alert or safety "
           "issue, in characters; longer ones are cut", number(20, 5000)),
    switch("display", False, "Ready-made texts for ESP32 tool displays"),
    Option(PREFIX + "display_prefix", "topic", "nemo/esp32", "Displays listen on this topic, "
           "followed by /(tool id)/status", topic_prefix),
    Option(PREFIX + "display_zone", "zone", "", "Time zone of the displays' times; empty: NEMO's "
           "own", zone_name),
    switch("display_ascii", True, "Displays get plain letters (e for \u00e9), since their fonts "
           "have no others"),
    Option(PREFIX + "display_name_length", "number", "13", "Longest user name on a display; longer "
           "ones become the first name", number(1, 50)),
    switch("legacy", False, "Copies on the topics of the older MQTT plugin, nemo/tools/(tool id)/"
           "enabled and disabled"),
)


class Options:
    """Checked values, as attributes named like the table without its prefix."""

    def __init__(self, stored):
        for option in OPTIONS:
            try:
                value = option.check(stored.get(option.name, option.default))
            except ValueError:
                value = option.check(option.default)
            setattr(self, option.field, value)


def read():
    """One short query: a saved page counts from the next change on, in every process."""
    from NEMO.models import Customization

    return Options(dict(Customization.objects.filter(name__in=[option.name for option in OPTIONS])
                        .values_list("name", "value")))


def faulty_defaults():
    for option in OPTIONS:
        try:
            option.check(option.default)
        except ValueError as error:
            yield f"default of {option.name} {error}"
