"""What a RecordingBroker or a Subscriber has received: Message, and MQTT 5 properties."""

import json
import struct
from typing import NamedTuple

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")

# Type of each property of MQTT 5.0, section 2.2.2.2.
_BYTE, _TWO, _FOUR, _VARINT, _BINARY, _TEXT, _PAIR = range(7)
_TYPES = {
    0x01: _BYTE, 0x02: _FOUR, 0x03: _TEXT, 0x08: _TEXT, 0x09: _BINARY, 0x0B: _VARINT, 0x11: _FOUR,
    0x12: _TEXT, 0x13: _TWO, 0x15: _TEXT, 0x16: _BINARY, 0x17: _BYTE, 0x18: _FOUR, 0x19: _BYTE,
    0x1A: _TEXT, 0x1C: _TEXT, 0x1F: _TEXT, 0x21: _TWO, 0x22: _TWO, 0x23: _TWO, 0x24: _BYTE,
    0x25: _BYTE, 0x26: _PAIR, 0x27: _FOUR, 0x28: _BYTE, 0x29: _BYTE, 0x2A: _BYTE,
}
MESSAGE_EXPIRY, CONTENT_TYPE, USER_PROPERTY = 0x02, 0x03, 0x26


def varint(data, at):
    """(value, offset behind it) of a Variable Byte Integer; IndexError where it is not whole."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 21:
            raise ValueError("a Variable Byte Integer of more than four bytes")


def put_varint(value):
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(out)


def text(data, at):
    end = at + 2 + _U16.unpack_from(data, at)[0]
    if end > len(data):
        raise ValueError("a string goes beyond its packet")
    return data[at + 2:end], end


def properties(data):
    """[(identifier, value)] of a property list without its length."""
    found, at = [], 0
    while at < len(data):
        identifier = data[at]
        at += 1
        kind = _TYPES.get(identifier)
        if kind is None:
            raise ValueError(f"unknown property 0x{identifier:02x}")
        if kind == _BYTE:
            value, at = data[at], at + 1
        elif kind == _TWO:
            value, at = _U16.unpack_from(data, at)[0], at + 2
        elif kind == _FOUR:
            value, at = _U32.unpack_from(data, at)[0], at + 4
        elif kind == _VARINT:
            value, at = varint(data, at)
        elif kind == _BINARY:
            value, at = text(data, at)
        elif kind == _TEXT:
            value, at = text(data, at)
            value = value.decode()
        else:
            name, at = text(data, at)
            value, at = text(data, at)
            value = (name.decode(), value.decode())
        found.append((identifier, value))
    return found


class Message(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    code: int
    """Reason code of the answer: 0 accepted, from 0x80 refused, None never to be answered."""
    connection: int
    """Number of the connection, from 1 in the order of their CONNECTs."""
    client_id: str
    raw_properties: bytes
    time: float
    """time.monotonic() of the receipt."""

    @property
    def properties(self):
        """[(identifier, value)], see the constants of this module."""
        return properties(self.raw_properties)

    @property
    def user_properties(self):
        """{name: value}; of a name that comes twice the last."""
        return dict(v for i, v in self.properties if i == USER_PROPERTY)

    @property
    def expiry(self):
        return dict(self.properties).get(MESSAGE_EXPIRY)

    @property
    def content_type(self):
        return dict(self.properties).get(CONTENT_TYPE)

    @property
    def json(self):
        return json.loads(self.payload)
