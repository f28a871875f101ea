"""A broker that is out of its mind: frames beyond every limit, packets that no broker sends,
acknowledgements for what was never sent. It must not crash the gateway, hang it or make it grow; the
log says what was wrong; and when the same port leads to a sane broker again everything is carried,
nothing lost."""

import struct
from types import SimpleNamespace

import pytest
from harness import Verifier, gateway_config, wait_until
from harness.events import Producer
from hostile import Front, assert_clean_log, watch
from scale import PATIENCE, SANITIZED, is_settled

STREAMS = ["nemo:{a}:events", "nemo:{b}:events", "nemo:{c}:events"]
MOST_GROWTH_KB = 8 * 1024    # after 30 bad connections, and while they are there
PUBLISH = 3


def varint(value):
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(out)


def from_varint(data, at):
    """(value, offset behind it)"""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def packet(first, body):
    return bytes((first,)) + varint(len(body)) + body


def string(text):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">H", len(text)) + text


def connack(properties=b"", code=0, flags=0):
    return packet(0x20, bytes((flags, code)) + varint(len(properties)) + properties)


def puback(packet_id, code=None, properties=None):
    body = struct.pack(">H", packet_id)
    if code is not None:
        body += bytes((code,))
    if properties is not None:
        body += varint(len(properties)) + properties
    return packet(0x40, body)


def reason(text):
    return b"\x1f" + string(text)


class Packets:
    """The packets of the gateway on one connection."""

    def __init__(self, talk):
        self._talk, self._data = talk, b""

    def next(self):
        while True:
            taken = self._take()
            if taken:
                return taken
            self._data += self._talk.receive()

    def _take(self):
        try:
            length, at = from_varint(self._data, 1)
        except IndexError:
            return None
        if len(self._data) < at + length:
            return None
        taken = self._data[0], self._data[at:at + length]
        self._data = self._data[at + length:]
        return taken

    def next_publish(self):
        """(packet identifier, topic, payload) of the next PUBLISH of QoS 1."""
        while True:
            first, body = self.next()
            if first >> 4 == PUBLISH and first & 6:
                end = 2 + struct.unpack_from(">H", body)[0]
                length, properties = from_varint(body, end + 2)
                return (struct.unpack_from(">H", body, end)[0], body[2:end].decode(),
                        body[properties + length:])


def says(data):
    """Answers CONNECT with these bytes."""
    def behave(talk):
        packets = Packets(talk)
        packets.next()
        talk.send(data)
        talk.drain()
    return behave


def after_connack(data):
    return says(connack() + data)


TAKEN = []  # what a hostile broker has acknowledged: that is the broker's from then on


def to_publishes(answer, takes=False):
    """CONNACK, and for each PUBLISH of QoS 1 what answer(packet id) gives; takes: it accepts."""
    def behave(talk):
        packets = Packets(talk)
        packets.next()
        talk.send(connack())
        while True:
            packet_id, topic, payload = packets.next_publish()
            if takes:
                TAKEN.append(SimpleNamespace(topic=topic, payload=payload))
            talk.send(answer(packet_id))
    return behave


def endless(begin, chunk, most=64 << 20):
    def behave(talk):
        Packets(talk).next()
        talk.send(begin)
        talk.flood(chunk, most)
        talk.drain()
    return behave


def before_connect(data):
    def behave(talk):
        talk.send(data)
        talk.drain()
    return behave


def slowly(talk):
    """One byte a second of a CONNACK, in the handshake."""
    Packets(talk).next()
    talk.trickle(connack(reason("x" * 100)), 1.0)


FORGED = "gone\nts=2026-01-01T00:00:00.000Z level=error msg=\"forged\"\r\x1b[2J\x1b]0;owned\x07\x9b31m"
FORGED_TEXT = (FORGED + "y" * 61000).encode()

# name: (behaviour, what the log says)
CASES = {
    # ---- frames
    "bytes of no protocol": (before_connect(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "broke the protocol"),
    "a TLS alert": (before_connect(b"\x15\x03\x01\x00\x02\x02\x46"), "broke the protocol"),
    "a remaining length of five bytes": (says(b"\x20\xff\xff\xff\xff\x7f"), "more than four bytes"),
    "a remaining length with needless bytes": (says(b"\x20\x83\x00\x00\x00\x00"), "longer than"),
    "a frame of 256 MB": (says(b"\x20\xff\xff\xff\x7f"), "over our Maximum Packet Size"),
    "a frame of 256 MB that comes": (endless(connack() + b"\x40\xff\xff\xff\x7f", b"x" * 65536),
                                     "over our Maximum Packet Size"),
    "a frame just over the maximum": (after_connack(b"\x40" + varint(65536) + b"\0" * 65536),
                                      "over our Maximum Packet Size"),
    "reserved flags": (says(b"\x21\x03\0\0\0"), "reserved flags"),
    "packet type 0": (after_connack(b"\x00\x00"), "reserved"),
    "closes after CONNECT": (lambda talk: Packets(talk).next(), "before the CONNACK"),

    # ---- CONNACK
    "PUBACK before CONNACK": (says(puback(1)), "first packet is no CONNACK"),
    "CONNACK before CONNECT, and twice": (before_connect(connack() * 2), "second CONNACK"),
    "CONNACK twice": (after_connack(connack()), "second CONNACK"),
    "CONNACK is cut short": (says(packet(0x20, b"\0")), "cut short"),
    "CONNACK without properties": (says(packet(0x20, b"\0\0")), "Property Length"),
    "CONNACK with strange flags": (says(connack(flags=0x82)), "acknowledge flags"),
    "Session Present": (says(connack(flags=1)), "Session Present"),
    "Receive Maximum 0": (says(connack(b"\x21\0\0")), "Receive Maximum is not allowed"),
    "Maximum Packet Size 0": (says(connack(b"\x27\0\0\0\0")), "Maximum Packet Size is not allowed"),
    "Maximum QoS 0": (says(connack(b"\x24\0")), "Maximum QoS 0"),
    "Maximum QoS 7": (says(connack(b"\x24\x07")), "Maximum QoS is not allowed"),
    "a property twice": (says(connack(b"\x21\0\x0a\x21\0\x0a")), "Receive Maximum is given twice"),
    "an unknown property": (says(connack(b"\x7f\0")), "cannot have"),
    "an authentication method": (says(connack(b"\x15" + string("x"))), "Authentication Method"),
    "a property that goes beyond": (says(connack(b"\x1f\xff\xffabc")), "cut short"),
    "properties without end": (says(connack(b"\x26\0\1a\0\1b" * 9000)), None),
    "properties beyond the maximum": (says(connack(b"\x26\0\1a\0\1b" * 20000)),
                                      "over our Maximum Packet Size"),
    "a length of properties beyond": (says(packet(0x20, b"\0\0\xff\x7f" + b"\x21\0\1")), "disagrees"),
    "text that is not UTF-8": (says(connack(reason(b"\xff\xfe"))), "not valid UTF-8"),
    "U+0000 in a text": (says(connack(reason(b"a\0b"))), "not valid UTF-8"),
    "a refusal with a forged reason": (says(connack(reason(FORGED), code=0x87)), "Not authorized"),
    "an unknown refusal": (says(connack(code=0xFE)), "0xfe"),
    "a slow handshake": (slowly, "no CONNACK within"),

    # ---- when connected
    "PUBACK for what was never sent": (after_connack(puback(4711)), "not in flight"),
    "PUBACK 0": (after_connack(puback(0)), "packet identifier 0"),
    "PUBACK for another": (to_publishes(lambda n: puback(n ^ 0x4000)), "not in flight"),
    "PUBACK twice": (to_publishes(lambda n: puback(n) * 2, takes=True), "not in flight"),
    "PUBACK with an empty body": (after_connack(packet(0x40, b"")), "cut short"),
    "PUBACK with a property of others": (to_publishes(lambda n: puback(n, 0, b"\x21\0\1")),
                                         "cannot have"),
    "a flood of PUBACKs": (endless(connack(), puback(60000) * 16384), "not in flight"),
    "a flood of PINGRESPs": (endless(connack(), b"\xd0\0" * 32768, 16 << 20), None),
    "PINGRESP with a body": (after_connack(b"\xd0\x01x"), "PINGRESP with a body"),
    "PUBLISH to us": (after_connack(packet(0x30, string("a") + b"\0x")), "PUBLISH to a client"),
    "SUBACK": (after_connack(b"\x90\x04\0\1\0\0"), "SUBACK"),
    "PUBREC": (to_publishes(lambda n: packet(0x50, struct.pack(">H", n))), "PUBREC"),
    "AUTH": (after_connack(packet(0xF0, b"\x18\0")), "AUTH to a client"),
    "CONNECT": (after_connack(packet(0x10, string("MQTT") + b"\5\2\0\0\0" + string("x"))), "CONNECT"),
    "DISCONNECT with a forged reason of 60 KB": (
        after_connack(packet(0xE0, b"\x8b" + varint(len(reason(FORGED_TEXT))) + reason(FORGED_TEXT))),
        "Server shutting down"),
    "DISCONNECT with a forged server": (
        after_connack(packet(0xE0, b"\x8b" + varint(len(FORGED.encode()) + 3) + b"\x1c" +
                             string(FORGED))), "it names the server"),
    "DISCONNECT with an expiry": (after_connack(packet(0xE0, b"\0\5\x11\0\0\0\1")), "not allowed"),
    "a refusal of every publish, forged": (to_publishes(lambda n: puback(n, 0x83, reason(FORGED))),
                                           None),
}

# So many connections do not come of these in the test's time: nothing ends them, or a time-out does.
FEW = {"a slow handshake", "properties without end", "a flood of PINGRESPs",
       "a refusal of every publish, forged"}


def add_taken(verifier):
    for message in TAKEN:
        verifier.add(message)
    TAKEN.clear()

@pytest.mark.limit(240)
@pytest.mark.parametrize("case", CASES)
def test_hostile_broker(things, case):
    behaviour, text = CASES[case]
    TAKEN.clear()
    redis, broker = things.redis(), things.recording_broker()
    front = Front(broker.port)
    things.made.append(front)
    front.turn_hostile(behaviour)
    producer = Producer(redis, STREAMS, keys=50).send(600)
    config = gateway_config(redis, f"mqtt://127.0.0.1:{front.port}", broker_changes={
        "connections": 8, "connect_timeout": "2s", "puback_timeout": "3s"})
    gateway = things.gateway(config, start=False).launch()
    if text is not None:
        gateway.wait_log(text, timeout=20 * PATIENCE)
    else:
        watch(gateway, 1)
    front.turn_sane()
    verifier = Verifier(producer, broker)
    add_taken(verifier)
    verifier.wait(90 * PATIENCE).check()
    before = gateway.rss_kb()

    front.turn_hostile(behaviour)
    producer.send(600)
    front.wait_served(16 if case in FEW else 30, 60 * PATIENCE)
    during = watch(gateway, 1)

    front.turn_sane()
    add_taken(verifier)
    verifier.wait(90 * PATIENCE).check()
    wait_until(lambda: is_settled(redis, STREAMS), 30 * PATIENCE, "nothing pending and no lag")
    after, peak = gateway.rss_kb(), gateway.peak_rss_kb()
    print(f"{front.served} hostile connections; RSS {before} kB, {during} kB, after it {after} kB; "
          f"peak {peak} kB")
    if not SANITIZED:
        assert peak - before < MOST_GROWTH_KB
    assert gateway.terminate(20) == 0
    assert_clean_log(gateway)
    assert "forged" not in {line["msg"] for line in gateway.log_lines()}
