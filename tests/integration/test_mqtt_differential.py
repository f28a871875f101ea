"""The MQTT codec against paho-mqtt, and its UTF-8 against Python's: other people's reading of the
same specification. What the gateway writes must be, byte for byte, what paho writes of the same
fields; what is packed with paho's tables must be read as what went in. Cases are random, from fixed
seeds; a failing assertion shows the command and the packet."""

import random
import struct

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCodes

from harness.tool import Tool

CASES = 200
LENGTHS = (0, 1, 2, 7, 8, 9, 100, 127, 128, 129, 300, 16383, 16384)
VERSIONS = {4: paho.MQTTv311, 5: paho.MQTTv5}


class WireTool(Tool):
    """tests/tools/mqtt_wire_tool.c, which says what the commands are."""

    def __init__(self):
        super().__init__("mqtt_wire_tool")

    def ask(self, verb, **fields):
        parts = [verb]
        for name, value in fields.items():
            if value is not None:
                parts.append(f"{name}={value.hex() if isinstance(value, bytes) else int(value)}")
        return self.ask_line(" ".join(parts))


@pytest.fixture(scope="module")
def tool():
    wire_tool = WireTool()
    yield wire_tool
    wire_tool.close()


class Recorder(paho.Client):
    """A paho client that keeps the packets it would send."""

    def __init__(self, version, **arguments):
        super().__init__(protocol=VERSIONS[version], **arguments)
        self.packets = []
        self._sock = True  # only asked whether it is there

    def _packet_queue(self, command, packet, mid, qos, info=None):
        self.packets.append(bytes(packet))
        return paho.MQTT_ERR_SUCCESS

    def __del__(self):
        self._sock = None


def text(rng, lengths=LENGTHS, least=0):
    """Random text of the given sizes, now and then not ASCII; never a wildcard or U+0000."""
    length = rng.choice([n for n in lengths if n >= least])
    letters = "abcxyz/019 -_$"
    if rng.random() < 0.3:
        letters += "äß€漢\U0001f527"
    return "".join(rng.choices(letters, k=length))


def maybe(rng, value, chance=0.5):
    return value if rng.random() < chance else None


@pytest.mark.parametrize("version", VERSIONS)
def test_connect(tool, version):
    rng = random.Random(1000 + version)
    for _ in range(CASES):
        short = (1, 5, 23, 60, 127, 128)
        client_id, clean = text(rng, short), rng.random() < 0.5
        username = maybe(rng, text(rng, short, least=1))
        password = maybe(rng, text(rng, short)) if username else None
        will = maybe(rng, (text(rng, short, least=1), text(rng, LENGTHS).encode(),
                           rng.randrange(3), rng.random() < 0.5))
        keep_alive = rng.choice((0, 1, 30, 65535))
        expiry, maximum, size = (maybe(rng, rng.choice((1, 300, 65535))) for _ in range(3))

        client = Recorder(version, client_id=client_id,
                          clean_session=clean if version == 4 else None)
        if username:
            client.username_pw_set(username, password)
        if will:
            client.will_set(will[0], will[1], will[2], will[3])
        if version == 5:
            client._clean_start = clean
            properties = Properties(PacketTypes.CONNECT)
            for name, value in (("SessionExpiryInterval", expiry), ("ReceiveMaximum", maximum),
                                ("MaximumPacketSize", size)):
                if value is not None:
                    setattr(properties, name, value)
            client._connect_properties = properties
        client._send_connect(keep_alive)

        fields = dict(version=version, clean_start=clean, keep_alive=keep_alive,
                      client_id=client_id.encode(),
                      username=username.encode() if username else None,
                      password=password.encode() if password is not None else None,
                      session_expiry=expiry, receive_maximum=maximum, maximum_packet_size=size)
        if will:
            fields.update(will_topic=will[0].encode(), will_payload=will[1], will_qos=will[2],
                          will_retain=will[3])
        assert tool.ask("connect", **fields) == client.packets[0].hex(), fields


@pytest.mark.parametrize("version", VERSIONS)
def test_publish(tool, version):
    rng = random.Random(2000 + version)
    client = Recorder(version)
    for _ in range(CASES):
        topic = text(rng, least=1)
        cut = rng.randrange(len(topic) + 1)
        payload = rng.randbytes(rng.choice(LENGTHS))
        qos, retain, packet_id = rng.randrange(2), rng.random() < 0.5, rng.randrange(1, 65536)
        expiry = maybe(rng, rng.choice((0, 1, 3600, 2**32 - 1)))
        content_type = maybe(rng, text(rng, least=1))
        users = [(text(rng), text(rng)) for _ in range(rng.randrange(3))]

        properties = None
        if version == 5:
            properties = Properties(PacketTypes.PUBLISH)
            if expiry is not None:
                properties.MessageExpiryInterval = expiry
            if content_type:
                properties.ContentType = content_type
            for pair in users:
                properties.UserProperty = pair
        client.packets.clear()
        client._send_publish(packet_id, topic.encode(), payload, qos, retain,
                             properties=properties)

        fields = dict(version=version, qos=qos, retain=retain, packet_id=packet_id,
                      prefix=topic[:cut].encode(), topic=topic[cut:].encode(), payload=payload,
                      expiry=expiry, content_type=content_type.encode() if content_type else None,
                      users=len(users))
        for i, (name, value) in enumerate(users):
            fields.update({f"name{i}": name.encode(), f"value{i}": value.encode()})
        assert tool.ask("publish", **fields) == client.packets[0].hex(), fields


@pytest.mark.parametrize("version", VERSIONS)
def test_pingreq_and_disconnect(tool, version):
    client = Recorder(version)
    client._send_pingreq()
    assert tool.ask("pingreq") == client.packets[-1].hex()
    client._send_disconnect()
    assert tool.ask("disconnect", version=version) == client.packets[-1].hex()
    for reason in (0x81, 0x82, 0x93) if version == 5 else ():
        client._send_disconnect(ReasonCodes(PacketTypes.DISCONNECT, identifier=reason))
        assert tool.ask("disconnect", version=5, reason=reason) == client.packets[-1].hex()


def packet(packet_type, body):
    """A packet with paho's own Remaining Length."""
    head = bytearray([packet_type << 4])
    paho.Client()._pack_remaining_length(head, len(body))
    return bytes(head) + body


def answer_of(line):
    """("connack", {"reason": "0", ...}) from the tool's answer."""
    kind, *fields = line.split(" ")
    return kind, dict(field.split("=", 1) for field in fields)


CONNACK_DEFAULTS = dict(receive_maximum=65535, maximum_qos=2, retain_available=1,
                        maximum_packet_size=0, topic_alias_maximum=0)
CONNACK_NUMBERS = {  # paho's name: ours, values
    "SessionExpiryInterval": ("session_expiry", (0, 1, 2**32 - 1)),
    "ReceiveMaximum": ("receive_maximum", (1, 20, 65535)),
    "MaximumQoS": ("maximum_qos", (0, 1)),
    "RetainAvailable": ("retain_available", (0, 1)),
    "MaximumPacketSize": ("maximum_packet_size", (1, 268435455)),
    "TopicAliasMaximum": ("topic_alias_maximum", (0, 10, 65535)),
    "ServerKeepAlive": ("server_keep_alive", (0, 60, 65535)),
}
CONNACK_TEXTS = {
    "AssignedClientIdentifier": "assigned_client_id",
    "ReasonString": "reason_string",
    "ServerReference": "server_reference",
}


def add_users(rng, properties):
    for _ in range(rng.choice((0, 0, 1, 3))):
        properties.UserProperty = (text(rng), text(rng))


def test_connack(tool):
    rng = random.Random(3005)
    for _ in range(CASES):
        properties = Properties(PacketTypes.CONNACK)
        want = dict(CONNACK_DEFAULTS)
        for name, (ours, values) in CONNACK_NUMBERS.items():
            if rng.random() < 0.5:
                want[ours] = rng.choice(values)
                setattr(properties, name, want[ours])
        for name, ours in CONNACK_TEXTS.items():
            value = maybe(rng, text(rng))
            if value is not None:
                setattr(properties, name, value)
            want[ours] = (value or "").encode().hex()
        for name in ("WildcardSubscriptionAvailable", "SubscriptionIdentifierAvailable",
                     "SharedSubscriptionAvailable"):
            if rng.random() < 0.5:
                setattr(properties, name, rng.randrange(2))
        if rng.random() < 0.5:
            properties.ResponseInformation = text(rng)
        add_users(rng, properties)
        want["reason"] = rng.choice((0, 0, 0x80, 0x86, 0x87, 0x9f))
        want["session_present"] = rng.randrange(2) if want["reason"] == 0 else 0

        raw = packet(PacketTypes.CONNACK, bytes([want["session_present"], want["reason"]]) +
                     properties.pack())
        kind, seen = answer_of(tool.ask("read", version=5, packet=raw))
        assert kind == "connack", raw.hex()
        assert seen == {name: str(value) for name, value in want.items()}, raw.hex()


def test_puback(tool):
    rng = random.Random(4005)
    for _ in range(CASES):
        packet_id, reason = rng.randrange(1, 65536), rng.choice((0, 0x10, 0x80, 0x87, 0x97, 0x99))
        properties = Properties(PacketTypes.PUBACK)
        reason_string = maybe(rng, text(rng))
        if reason_string is not None:
            properties.ReasonString = reason_string
        add_users(rng, properties)
        raw = packet(PacketTypes.PUBACK,
                     struct.pack("!HB", packet_id, reason) + properties.pack())
        assert answer_of(tool.ask("read", version=5, packet=raw)) == (
            "puback", {"packet_id": str(packet_id), "reason": str(reason),
                       "reason_string": (reason_string or "").encode().hex()}), raw.hex()


def test_disconnect(tool):
    rng = random.Random(5005)
    for _ in range(CASES):
        reason = rng.choice((0x00, 0x8b, 0x8d, 0x8e, 0x98, 0x9d))
        properties = Properties(PacketTypes.DISCONNECT)
        values = {}
        for name, ours in (("ReasonString", "reason_string"),
                           ("ServerReference", "server_reference")):
            value = maybe(rng, text(rng))
            if value is not None:
                setattr(properties, name, value)
            values[ours] = (value or "").encode().hex()
        add_users(rng, properties)
        raw = packet(PacketTypes.DISCONNECT, bytes([reason]) + properties.pack())
        assert answer_of(tool.ask("read", version=5, packet=raw)) == (
            "disconnect", {"reason": str(reason), **values}), raw.hex()


def random_bytes(rng):
    """Mostly good UTF-8 with a few bytes changed, so that the faults are near the rules."""
    data = bytearray(text(rng, (1, 2, 3, 7, 8, 9, 16, 17, 40)).encode())
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        data[rng.randrange(len(data))] = rng.choice(
            (0x00, 0x01, 0x23, 0x2b, 0x7f, 0x80, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0,
             0xf4, 0xf5, 0xff, rng.randrange(256)))
    return bytes(data)


def python_accepts(data):
    try:
        return "\0" not in data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return False


def test_utf8_and_topics(tool):
    rng = random.Random(6000)
    seen = set()
    for _ in range(4 * CASES):
        data = random_bytes(rng)
        valid = python_accepts(data)
        assert (tool.ask("utf8", text=data) == "valid") == valid, data.hex()
        cut = rng.randrange(len(data) + 1)
        good = valid and b"+" not in data and b"#" not in data
        assert (tool.ask("topic", prefix=data[:cut], topic=data[cut:]) == "valid") == good, \
            data.hex()
        seen.add((valid, good))
    assert seen == {(True, True), (True, False), (False, False)}
