#!/usr/bin/python3
"""Reads batches of nemogate: many events in one MQTT message, as MessagePack (content type
application/x-msgpack). The README, "Batches", says what is in them. Python 3.9 or newer, and the
module msgpack (Debian: python3-msgpack).

    batch = read_batch(message.payload)          # ValueError: this is no batch, and why
    for event in unexpired(duplicates.drop(batch)):
        print(event.topic, event.payload)

As a program it writes a batch as lines of JSON:  nemogate_batch.py --file FILE
"""

import argparse
import base64
import json
import re
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, Union

import msgpack

VERSION = 1
CONTENT_TYPE = "application/x-msgpack"

Name = Union[str, bytes]  # text where it is UTF-8, else the bytes


@dataclass(frozen=True)
class Event:
    """One entry of the stream, with the defaults filled in for what the batch leaves out."""

    sid: str                    # the entry's id in the stream
    topic: str                  # the whole topic
    payload: bytes
    retain: bool = False
    key: Name = ""              # the ordering key; the topic where the batch has none
    id: Optional[str] = None    # the producer's id of the event
    type: Optional[str] = None
    ts: int = 0                 # ms since epoch; the time in sid where the batch has none
    exp: Optional[int] = None   # ms since epoch: from then on the event is of no use


@dataclass(frozen=True)
class Batch:
    site: str
    stream: Name
    events: Tuple[Event, ...]   # in the order of the stream


# ---- reading -------------------------------------------------------------------------------------

def read_batch(payload: bytes) -> Batch:
    """The batch in the payload of one MQTT message; ValueError says what is wrong with it."""
    try:
        content = msgpack.unpackb(payload, raw=False)
    except ValueError as error:  # what msgpack raises is derived from it
        raise ValueError(f"not MessagePack: {error or type(error).__name__}") from error
    _expect(content, dict, "the batch")
    version = _value(content, "v", int, "the batch")
    if version != VERSION:
        raise ValueError(f"the batch has version {version}; this reader knows {VERSION}")
    return Batch(
        site=_value(content, "site", str, "the batch"),
        stream=_value(content, "stream", (str, bytes), "the batch"),
        events=tuple(_read_event(event, f"event {number}") for number, event
                     in enumerate(_value(content, "events", list, "the batch"))))


def _read_event(content: Any, where: str) -> Event:
    _expect(content, dict, where)
    sid = _value(content, "sid", str, where)
    topic = _value(content, "topic", str, where)
    if not _is_stream_id(sid):
        raise ValueError(f"{where}: sid is {sid!r}, which is no stream id")
    if not topic or len(topic.encode()) > 65535 or re.search(r"[+#\0]", topic):
        raise ValueError(f"{where}: topic is {topic[:80]!r}, which is no topic to publish to")
    return Event(
        sid=sid,
        topic=topic,
        payload=_value(content, "payload", bytes, where),
        retain=_value(content, "retain", bool, where, default=False),
        key=_value(content, "key", (str, bytes), where, default=topic),
        id=_value(content, "id", str, where, default=None),
        type=_value(content, "type", str, where, default=None),
        ts=_time(content, "ts", where, default=int(sid.split("-")[0])),
        exp=_time(content, "exp", where, default=None))


_REQUIRED = object()
_MESSAGEPACK = {dict: "map", list: "array", str: "str", bytes: "bin", int: "integer",
                bool: "boolean"}


def _value(content: dict, name: str, kind, where: str, default: Any = _REQUIRED) -> Any:
    if name in content:
        return _expect(content[name], kind, f"{where}: {name}")
    if default is _REQUIRED:
        raise ValueError(f"{where} has no {name}")
    return default


def _expect(value: Any, kind, what: str) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if type(value) not in kinds:  # not isinstance: to Python, True is an int
        wanted = " or ".join(_MESSAGEPACK[kind] for kind in kinds)
        raise ValueError(f"{what} is no {wanted}")
    return value


def _time(content: dict, name: str, where: str, default: Optional[int]) -> Optional[int]:
    value = _value(content, name, int, where, default)
    if value is not None and value < 0:
        raise ValueError(f"{where}: {name} is negative")
    return value


def _is_stream_id(text: str) -> bool:
    found = re.fullmatch(r"([0-9]{1,20})-([0-9]{1,20})", text)
    return found is not None and all(int(number) < 2 ** 64 for number in found.groups())


# ---- what a consumer does with it ----------------------------------------------------------------

def unexpired(events: Iterable[Event], clock: Callable[[], float] = time.time) -> Iterator[Event]:
    """The events whose time is not over. The clock gives seconds since epoch, and is asked anew for
    each event."""
    for event in events:
        if event.exp is None or clock() * 1000 < event.exp:
            yield event


class Duplicates:
    """Remembers which events it has let through, the newest `capacity` of them, and drops those that
    come again. An event is known by its id, and by its sid where it has no id, within its stream.
    Some 250 bytes of memory for each; as many as two batches of each stream are enough."""

    def __init__(self, capacity: int = 100_000):
        if capacity < 1:
            raise ValueError("capacity is less than 1")
        self._capacity = capacity
        self._seen: "OrderedDict[Tuple[Name, str], None]" = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def drop(self, batch: Batch) -> List[Event]:
        """The events of the batch that have not been let through before."""
        return [event for event in batch.events if self._is_new(batch.stream, event)]

    def _is_new(self, stream: Name, event: Event) -> bool:
        identity = (stream, event.sid if event.id is None else event.id)
        new = identity not in self._seen
        self._seen[identity] = None
        self._seen.move_to_end(identity)
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return new


# ---- the program ---------------------------------------------------------------------------------

def event_as_json(batch: Batch, event: Event) -> str:
    """One line. What is not UTF-8 stands there as base64, under a name that says so."""
    line: dict = {}
    for name, value in (("site", batch.site), ("stream", batch.stream), *vars(event).items()):
        if isinstance(value, bytes):
            try:
                line[name] = value.decode()
            except UnicodeDecodeError:
                line[f"{name}_base64"] = base64.b64encode(value).decode()
        elif value is not None:
            line[name] = value
    return json.dumps(line, ensure_ascii=False)


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes a batch of nemogate as lines of JSON.")
    parser.add_argument("--file", help="the payload of one MQTT message; standard input without it")
    arguments = parser.parse_args()
    try:
        if arguments.file:
            with open(arguments.file, "rb") as file:
                payload = file.read()
        else:
            payload = sys.stdin.buffer.read()
        batch = read_batch(payload)
    except (OSError, ValueError) as error:
        print(f"nemogate_batch: {error}", file=sys.stderr)
        return 1
    sys.stdout.reconfigure(encoding="utf-8")
    for event in batch.events:
        print(event_as_json(batch, event))
    return 0


if __name__ == "__main__":
    sys.exit(main())
