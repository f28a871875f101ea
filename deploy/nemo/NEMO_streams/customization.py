"""The page Customization, MQTT streams. Either all values are right and all are saved, or none is.
After the commit the gateway is told (settings_publish.py), and where other things are to be
published, a thread does it."""

import logging
from zoneinfo import available_timezones

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404
from NEMO.decorators import customization
from NEMO.models import Customization
from NEMO.views.customization import CustomizationBase

from . import broker, conf, options, redis_stream, settings_publish, states, sweep
from .text import person

logger = logging.getLogger(__name__)

PUBLISHING = {option.name: option for option in options.OPTIONS}
BROKER = {option.name: option for option in broker.OPTIONS}
ALL = {**PUBLISHING, **BROKER}

GROUPS = (
    ("What is published", ("tool_states", "tool_events", "tool_tasks", "tool_next", "areas",
                           "resources", "interlocks", "facility", "sensors")),
    ("Names and texts", ("names", "text_limit")),
    ("Tool displays", ("display", "display_prefix", "display_zone", "display_ascii",
                       "display_name_length")),
    ("Older MQTT plugin", ("legacy",)),
    ("Broker", ("broker_url", "broker_ca", "broker_username", "broker_password_ref",
                "sign_key_ref")),
)
LABELS = {
    "tool_states": "Tool states", "tool_events": "Tool events", "tool_tasks": "Tool problems",
    "tool_next": "Next reservations", "areas": "Areas", "resources": "Resources",
    "interlocks": "Interlocks", "facility": "Alerts, safety, closures", "sensors": "Sensors",
    "names": "Users' names", "text_limit": "Longest text", "display": "ESP32 displays",
    "display_prefix": "Topic", "display_zone": "Time zone", "display_ascii": "Plain letters",
    "display_name_length": "Longest name", "legacy": "Old topics", "broker_url": "Address",
    "broker_ca": "Authority (CA)", "broker_username": "User name",
    "broker_password_ref": "Password file", "sign_key_ref": "Signing key file",
}
CHOICES = {"full": "Full name", "initials": "Initials", "none": "Not at all"}


def stored():
    """All values as saved, straight from the database: NEMO's cache may be half a minute old."""
    found = {name: option.default for name, option in ALL.items()}
    found.update(Customization.objects.filter(name__in=found).values_list("name", "value"))
    return found


def groups(values, faults):
    """What the template shows."""
    return [{"title": title, "broker": title == "Broker",
             "rows": [row(ALL[options.PREFIX + field], values, faults) for field in fields]}
            for title, fields in GROUPS]


def row(option, values, faults):
    return {"name": option.name, "kind": option.kind, "label": LABELS[option.field],
            "help": option.help, "value": values[option.name],
            "on": values[option.name] == options.ENABLED,
            "choices": [(word, CHOICES[word]) for word in option.choices],
            "error": faults.get(option.name, "")}


def accepted(option, text):
    """The value to be stored. ValueError says what would be right."""
    text = text.strip()
    checked = option.check(text)
    return checked if option.name in BROKER else text


class Refused(dict):
    """What NEMO passes to the template as errors; with all that was typed, so that nobody has to
    type it again."""

    def __init__(self, typed, faults):
        super().__init__({name: {"error": fault, "value": typed[name]}
                          for name, fault in faults.items()})
        self.groups = groups(typed, faults)


@customization("streams", "MQTT streams")
class StreamsCustomization(CustomizationBase):
    variables = {name: option.default for name, option in ALL.items()}

    def context(self):
        values = stored()
        return {**values, "customization": self, "groups": groups(values, {}),
                "zones": sorted(available_timezones())}

    def validate(self, name, value):
        try:
            return accepted(ALL[name], value)
        except ValueError as error:
            raise ValidationError(f"{LABELS[ALL[name].field]} {error}") from None

    def save(self, request, element=None):
        if element:
            raise Http404("this page has no files")
        typed = {name: request.POST.get(name, value) for name, value in stored().items()}
        values, faults = {}, {}
        for name, text in typed.items():
            try:
                values[name] = self.validate(name, text)
            except ValidationError as error:
                faults[name] = error.message
        if not faults:
            faults = {name: f"{LABELS[ALL[name].field]} {fault}"
                      for name, fault in broker.faults_between(values).items()}
        if faults:
            return Refused(typed, faults)
        with transaction.atomic():
            # SQLite's write lock, at once: of two who had only read, one could not go on.
            Customization.objects.filter(name="").update(value="")
            before = stored()
            changed = [name for name in ALL if values[name] != before[name]]
            for name in changed:
                type(self).set(name, values[name])
            transaction.on_commit(lambda: self.saved(request, changed, values))
        return {}

    def saved(self, request, changed, values):
        """The values are safe in NEMO; whatever happens now, the page is shown."""
        type(self).invalidate_cache()
        config, problems = conf.load()
        if config is None:
            messages.warning(request, "The values are saved, but nothing can be published: "
                                      f"NEMO_STREAMS in settings.py: {'; '.join(problems)}")
            return
        try:
            version, written = settings_publish.tell(redis_stream.writer(config),
                                                     author(request.user, values), again=True)
        except redis_stream.Unavailable as error:
            messages.warning(request, "The values are saved in NEMO, but the gateway was not told, "
                                      f"since Redis does not answer ({error}). nemo_streams_tick "
                                      "tells it within a minute of Redis' return; or save again.")
            return
        except Exception as error:
            logger.error("the gateway could not be told its settings: %s", states.where(error))
            messages.warning(request, "The values are saved in NEMO, but the gateway was not told: "
                                      "NEMO's log says why. nemo_streams_tick tries again.")
            return
        if written:
            messages.info(request, f"The gateway was told (settings {version}); the box below "
                                   "shows when they are applied.")
        if PUBLISHING.keys() & changed:
            sweep.background.start(config)


def author(user, values):
    """Who saved, as the names policy allows it: it is read by whoever reads Redis."""
    policy = values[options.PREFIX + "names"]
    return user.username if policy == "full" else person(user, policy) or ""
