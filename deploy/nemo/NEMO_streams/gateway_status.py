"""How the gateway is, in words: for the settings page and for nemo_streams_check. What it says
comes from Redis and is untrusted text: shortened here, escaped where it is shown."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timezone as fixed

import redis
from django.utils import timezone

from . import broker
from .settings_publish import FIELDS
from .text import cut

OK, INFO, WARNING, DANGER = "success", "info", "warning", "danger"
STALE = 120  # seconds; the gateway reports every 10
LETTERS = 5
DAY = 86_400


@dataclass
class Report:
    """lines: (level, sentence), the worst not necessarily first. facts: (name, value)."""

    lines: list = field(default_factory=list)
    facts: list = field(default_factory=list)
    letters: list = field(default_factory=list)

    def say(self, level, sentence):
        self.lines.append((level, sentence))

    def faults(self):
        return [sentence for level, sentence in self.lines if level in (WARNING, DANGER)]

    def as_json(self):
        return {"lines": [{"level": level, "text": sentence[:1].upper() + sentence[1:]}
                          for level, sentence in self.lines],
                "facts": [{"name": name, "value": value} for name, value in self.facts],
                "letters": self.letters}


def look(config):
    """What Redis knows; None for what it refuses, since a user may lack a right."""
    def work(client):
        pipe = client.pipeline(transaction=False)
        pipe.hgetall(config.gateway_key)
        pipe.hgetall(config.settings_key)
        pipe.xinfo_groups(config.events_key)
        pipe.xlen(config.events_key)
        pipe.xlen(config.dead_key)
        pipe.xrevrange(config.dead_key, count=LETTERS)
        answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, redis.ResponseError):
                raise answer
        names = ("gateway", "settings", "groups", "length", "dead", "letters")
        return {name: None if isinstance(answer, Exception) else answer
                for name, answer in zip(names, answers)}
    return work


def text(raw, limit=300):
    """Without control characters, which a terminal would obey."""
    raw = raw or b""
    found = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return cut("".join(letter if letter.isprintable() else " " for letter in found), limit)


def whole(raw):
    """A number, or None: never an exception, whatever lies in Redis."""
    found = text(raw, 30)
    return int(found) if found.isascii() and found.isdigit() and len(found) < 19 else None


def when(ms):
    try:
        moment = datetime.fromtimestamp(ms / 1000, fixed.utc)
        return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (TypeError, ValueError, OverflowError, OSError):
        return "an unknown time"


def ago(seconds):
    for size, word in ((DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {word}"
    return f"{int(seconds)} seconds"


def read(found, config, now=None):
    """Report of what look() has found."""
    now = time.time() if now is None else now
    report = Report()
    gateway = {key.decode("utf-8", "replace"): value
               for key, value in (found["gateway"] or {}).items()}
    if found["gateway"] is None:
        report.say(WARNING, f"Redis does not let NEMO read {config.gateway_key}: grant its user "
                            "+hgetall")
    else:
        read_beat(report, gateway, now)
    read_stream(report, found, gateway, config)
    read_settings(report, found["settings"], gateway)
    read_letters(report, found, config)
    if text(gateway.get("last_error")):
        since = whole(gateway.get("last_error_at"))
        report.say(WARNING, f"the gateway says{f' ({when(since)})' if since else ''}: "
                            f"{text(gateway['last_error'])}")
    return report


def read_beat(report, gateway, now):
    """Whether there is a gateway, and what it is connected to. Its hash expires after a minute."""
    beat = whole(gateway.get("beat"))
    if beat is None:
        report.say(DANGER, "no gateway has reported for a minute or more: is nemogate running, on "
                           "this Redis, for this site?")
        return
    age = now - beat / 1000
    if age > STALE:
        report.say(DANGER, f"no gateway has reported for {ago(age)}: is nemogate running? (Or the "
                           "clocks of the two machines differ.)")
    state, place = text(gateway.get("state"), 40), text(gateway.get("broker")) or "the broker"
    since = when(whole(gateway.get("since")))
    words = {"connected": (OK, f"connected to {place} since {since}"),
             "disconnected": (DANGER, f"the gateway is disconnected from {place} since {since}"),
             "connecting": (WARNING, f"the gateway is connecting to {place} since {since}"),
             "draining": (WARNING, f"the gateway is shutting down since {since}: it finishes what "
                                   "it has read")}
    if age <= STALE:
        report.say(*words.get(state, (WARNING, f"the gateway reports a state that this plugin does "
                                               f"not know: {state or 'none'}")))
    report.facts += [("Broker", place), ("TLS", text(gateway.get("tls")) or "none"),
                     ("Gateway", f"{text(gateway.get('instance'), 60) or 'unnamed'}, version "
                                 f"{text(gateway.get('version'), 40) or 'unknown'}"),
                     ("Last report", when(beat))]
    if whole(gateway.get("last_event")):
        report.facts.append(("Last message", when(whole(gateway["last_event"]))))


def read_stream(report, found, gateway, config):
    if not found["groups"]:
        report.say(DANGER, "no gateway has read this stream yet: is nemogate running, on this "
                           "Redis?")
    waiting = [whole(gateway.get("lag"))]
    waiting += [group.get("lag") for group in found["groups"] or ()]
    waiting = max((count for count in waiting if isinstance(count, int)), default=None)
    if waiting is not None:
        report.facts.append(("Waiting in Redis", f"{waiting} messages"))
        if waiting > config.maxlen // 2:
            report.say(DANGER, f"{waiting} entries wait for the gateway; from {config.maxlen} on "
                               "the oldest are lost")
    if whole(gateway.get("pending")) is not None:
        report.facts.append(("On the way",
                             f"{whole(gateway['pending'])} messages"))


def read_settings(report, stored, gateway):
    """The version that was saved against the one that is applied."""
    if stored is None:
        return
    named = {key.decode("utf-8", "replace"): value for key, value in stored.items()}
    saved = whole(named.get("version")) or 0
    applied = whole(gateway.get("settings_version")) or 0
    error, present = text(gateway.get("settings_error")), whole(gateway.get("beat")) is not None
    if {name: text(named.get(name), broker.CA_LIMIT) for name in FIELDS} != \
            {name: text(value, broker.CA_LIMIT) for name, value in broker.read().items()}:
        report.say(WARNING, "the gateway was not told what is saved here: nemo_streams_tick does "
                            "it within a minute, or save again")
    elif not saved and not applied:
        report.say(INFO, "the gateway uses its own broker: no other was ever saved here")
    elif not present:
        report.say(WARNING, f"settings {saved} are waiting for a gateway")
    elif error and (whole(gateway["beat"]) or 0) >= (whole(named.get("saved_at")) or 0):
        report.say(DANGER, f"settings {saved} were refused: {error}."
                           + (f" Settings {applied} stay in use" if applied else
                              " The gateway keeps its own"))
    elif applied == saved:
        report.say(OK, f"settings {saved} are applied")
    elif applied > saved:
        report.say(WARNING, f"the gateway has settings {applied}, Redis only {saved}, as after a "
                            "loss of its data: nemo_streams_tick puts it right within a minute")
    else:
        report.say(WARNING, f"settings {saved} are waiting for the gateway, which comes to them "
                            "after what lies before them in the stream"
                            + (f"; {applied} are in use" if applied else ""))
    if saved:
        author = text(named.get("saved_by"), 100)
        report.facts.append(("Settings", f"{saved}, saved {when(whole(named.get('saved_at')))}"
                                         + (f" by {author}" if author else "")))


def read_letters(report, found, config):
    if not found["dead"]:
        return
    report.say(WARNING, f"{found['dead']} dead letters: nemogate dead-letters list --site "
                        f"{config.site} shows them")
    for id, fields in found["letters"] or ():
        letter = {key.decode("utf-8", "replace"): value for key, value in fields.items()}
        reason = text(letter.get("dead_reason"), 100) or "no reason given"
        detail = text(letter.get("dead_detail"))
        ms = whole(text(id, 60).split("-", 1)[0])
        report.letters.append({"time": when(ms), "topic": text(letter.get("topic"), 200),
                               "reason": f"{reason}: {detail}" if detail else reason})
