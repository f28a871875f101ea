"""Entries of the stream, schema 1 (README: Entries). Payloads are compact JSON in UTF-8."""

import hashlib
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Optional

PAYLOAD_LIMIT = 64 * 1024
ROOM = 48 * 1024  # bytes of a list within a payload


class TooLarge(ValueError):
    pass


def compact(body):
    """A lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def fitting(items):
    """As many of the items, from the first on, as a payload has room for."""
    found, room = [], ROOM
    for item in items:
        room -= len(compact(item))
        if room < 0:
            break
        found.append(item)
    return found


@dataclass
class Message:
    """One publish to be: what nemogate needs to know, and the payload's bytes."""

    topic: str
    type: str
    payload: bytes
    retain: bool = False
    qos: int = 1
    absolute: bool = False  # the topic stands as it is, without the site's prefix
    exp: Optional[int] = None
    digest: str = field(default="", compare=False)

    def fields(self, key, now=None):
        """Flat field, value, field, value ... as XADD takes them."""
        if len(self.payload) > PAYLOAD_LIMIT:
            raise TooLarge(f"{self.topic}: {len(self.payload)} bytes")
        pairs = {"v": "1", "id": str(uuid.uuid4()), "type": self.type, "topic": self.topic,
                 "key": key, "payload": self.payload, "qos": str(self.qos),
                 "retain": "1" if self.retain else "0",
                 "ts": str(int((time.time() if now is None else now) * 1000))}
        if self.absolute:
            pairs["abs"] = "1"
        if self.exp is not None:
            pairs["exp"] = str(self.exp)
        return [part for pair in pairs.items() for part in pair]


def digest(body):
    return hashlib.sha256(compact(body)).hexdigest()[:16]


def state(topic, type, body, ts, qos=1):
    """A retained message. Its digest leaves out ts, the moment of making: the same truth twice is
    no change."""
    return Message(topic, type, compact({**body, "ts": ts}), retain=True, qos=qos,
                   digest=digest(body))


def clear(topic, absolute):
    """Empty and retained: the broker forgets what it has kept for the topic."""
    return Message(topic, "clear", b"", retain=True, absolute=absolute)
