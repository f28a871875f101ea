"""The gateway's JSON against Python's json, hmac and str.strip, which the NEMO plugins are made of:
signed envelopes byte for byte, the envelopes that the plugins push field for field, and keys. Cases
are random, from fixed seeds; a failing assertion shows the text."""

import decimal
import hashlib
import hmac
import json
import random
import sys

import pytest

from harness.tool import Tool

CASES = 1500
LONGEST = 400


class JsonTool(Tool):
    """tests/tools/json_tool.c, which says what the commands are."""

    def __init__(self):
        super().__init__("json_tool")

    def ask(self, verb, *arguments):
        return self.ask_line(" ".join([verb, *("x" + argument.hex() for argument in arguments)]))


@pytest.fixture(scope="module")
def tool():
    json_tool = JsonTool()
    yield json_tool
    json_tool.close()


def character(rng, surrogates=False):
    """One of all planes; those at the edges of an encoding more often than others."""
    kind = rng.random()
    if kind < 0.5:
        return chr(rng.randrange(0x20, 0x7f))
    if kind < 0.6:
        return rng.choice('"\\/\b\f\n\r\t{}:,')
    if kind < 0.7:
        return chr(rng.choice((*range(0x20), 0x7e, 0x7f)))
    if kind < 0.8:
        return chr(rng.choice((0x80, 0xff, 0x100, 0x7ff, 0x800, 0x2028, 0xd7ff, 0xe000, 0xfeff,
                               0xfffe, 0xffff, 0x10000, 0x10ffff)))
    if kind < 0.83 and surrogates:
        return chr(rng.randrange(0xd800, 0xe000))
    value = rng.randrange(0x80, rng.choice((0x800, 0x10000, 0x110000)))
    return "?" if 0xd800 <= value < 0xe000 else chr(value)


def text(rng, surrogates=False):
    return "".join(character(rng, surrogates)
                   for _ in range(rng.choice((0, 1, 3, 7, 8, 9, 20, 64, rng.randrange(LONGEST)))))


def is_unicode(string):
    return not any(0xd800 <= ord(one) < 0xe000 for one in string)


# ---- out ------------------------------------------------------------------------------------

def signed_by_python(key, payload):
    signature = hmac.new(key, payload.encode("utf-8"), hashlib.sha256).hexdigest()
    return json.dumps({"payload": payload, "hmac": signature, "algo": "sha256"})


def key_of(rng):
    key = text(rng).strip()[:rng.choice((1, 20, 63, 64, 65, 200))].strip()
    return (key or "k").encode()


def test_signed_envelopes(tool):
    rng = random.Random(7000)
    for _ in range(CASES):
        key, payload = key_of(rng), text(rng)
        if rng.random() < 0.3:  # as the plugin makes it: JSON in ASCII
            payload = json.dumps({"user_name": payload, "tool_id": 1})
        answer = tool.ask("sign", key, payload.encode())
        assert bytes.fromhex(answer[1:]).decode("ascii") == signed_by_python(key, payload), payload


def test_every_character_is_escaped_as_python_does(tool):
    """All 1,112,064 of them, some thousand at a time."""
    step = 4096
    for first in range(0, 0x110000, step):
        payload = "".join(chr(code) for code in range(first, first + step)
                          if not 0xd800 <= code < 0xe000)
        answer = tool.ask("sign", b"k", payload.encode())
        assert bytes.fromhex(answer[1:]).decode("ascii") == signed_by_python(b"k", payload), first


def changed(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if data:
            data[rng.randrange(len(data))] = rng.choice(
                (0x00, 0x22, 0x5c, 0x7f, 0x80, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed, 0xa0, 0xef,
                 0xf0, 0xf4, 0xf5, 0xff, rng.randrange(256)))
    return bytes(data)


def test_what_cannot_be_signed(tool):
    rng = random.Random(7100)
    seen = set()
    for _ in range(CASES):
        payload = text(rng, surrogates=True).encode("utf-8", "surrogatepass")
        if rng.random() < 0.5:
            payload = changed(rng, payload)
        answer = tool.ask("sign", b"k", payload)
        try:
            payload.decode("utf-8")
            expected = "x"
        except UnicodeDecodeError:
            expected = "refused not-utf8"
            try:
                payload.decode("utf-8", "surrogatepass")
                expected = "refused lone-surrogate"
            except UnicodeDecodeError:
                # With both faults in one payload the first is named.
                expected = "refused"
        assert answer.startswith(expected), payload.hex()
        seen.add(expected)
    assert seen == {"x", "refused", "refused lone-surrogate"}


def test_keys_with_outer_blanks(tool):
    """Every character that str.strip takes from a key, and no other, makes a key refused."""
    for code in range(sys.maxunicode + 1):
        if code > 0x3100 and code % 251 != 0 or 0xd800 <= code < 0xe000:
            continue
        blank = chr(code).strip() == ""
        for key in (f"{chr(code)}k", f"k{chr(code)}"):
            answer = tool.ask("key", key.encode())
            assert (answer != "good") == blank, (hex(code), answer)
        assert tool.ask("key", f"k{chr(code)}k".encode()) == "good", hex(code)


# ---- in -------------------------------------------------------------------------------------

class Literal(str):
    """A number or constant, as it stands in the text."""


def read_by_python(data):
    """What the tool must answer."""
    try:
        # Numbers stay texts, so that none is rounded and none is too long.
        members = json.loads(data.decode("utf-8"), parse_int=Literal, parse_float=Literal,
                             parse_constant=lambda name: None)
    except ValueError:
        return "refused bad-envelope"
    if not isinstance(members, dict):
        return "refused bad-envelope"
    if "topic" not in members:
        return "refused no-topic"
    topic = members["topic"]
    if not isinstance(topic, str) or isinstance(topic, Literal):
        return "refused bad-topic"
    if not is_unicode(topic):
        return "refused lone-surrogate"
    payload = members.get("payload")
    if not isinstance(payload, str) or isinstance(payload, Literal):
        return "refused bad-field"
    if not is_unicode(payload):
        return "refused lone-surrogate"
    qos, retain = members.get("qos", Literal("1")), members.get("retain", False)
    if not isinstance(qos, Literal) or qos not in ("0", "1", "2") or not isinstance(retain, bool):
        return "refused bad-field"
    answer = (f"topic=x{topic.encode().hex()} payload=x{payload.encode().hex()} qos={qos} "
              f"retain={int(retain)}")
    milliseconds = milliseconds_of(members.get("timestamp"))
    return answer if milliseconds is None else f"{answer} ts={milliseconds}"


def milliseconds_of(timestamp):
    if not isinstance(timestamp, Literal) or timestamp.startswith("-"):
        return None
    with decimal.localcontext() as context:
        context.prec = 2000
        value = decimal.Decimal(timestamp) * 1000
        if value >= 2 ** 64:
            return None
        return int(value)


def number(rng):
    whole = rng.choice(("0", "1", "2", "1795322094", str(rng.randrange(10 ** 12)),
                        str(rng.randrange(10 ** 30))))
    fraction = rng.choice(("", "", ".0", ".5", f".{rng.randrange(10 ** 9):09}"))
    exponent = rng.choice(("", "", "", "e3", "E-3", f"e+{rng.randrange(30)}",
                           f"e-{rng.randrange(30)}"))
    return rng.choice(("", "", "", "-")) + whole + fraction + exponent


def quoted(rng, string):
    """As a JSON string, each character in one of its spellings."""
    parts = ['"']
    for one in string:
        short = json.dumps(one)[1:-1]
        plain = ord(one) >= 0x20 and one not in '"\\' and is_unicode(one)
        units = one.encode("utf-16-be", "surrogatepass").hex()
        long = "".join("\\u" + units[at:at + 4] for at in range(0, len(units), 4))
        parts.append(rng.choice((one if plain else short, short, long,
                                 long.upper().replace("U", "u"))))
    parts.append('"')
    return "".join(parts)


def blanks(rng):
    return rng.choice(("", "", "", " ", "\n", "\t \r"))


def value(rng, depth=0):
    kind = rng.randrange(6 if depth < 4 else 4)
    if kind == 0:
        return number(rng)
    if kind == 1:
        return quoted(rng, text(rng, surrogates=True)[:12])
    if kind in (2, 3):
        return rng.choice(("true", "false", "null", "NaN", "Infinity", "-Infinity"))
    parts = []
    for _ in range(rng.randrange(4)):
        name = quoted(rng, rng.choice(("topic", "payload", "x", "\n"))) + ":" if kind == 4 else ""
        parts.append(blanks(rng) + name + blanks(rng) + value(rng, depth + 1) + blanks(rng))
    inside = ",".join(parts) or blanks(rng)
    return "{" + inside + "}" if kind == 4 else "[" + inside + "]"


def envelope(rng):
    surrogates = rng.random() < 0.2
    members = [("topic", quoted(rng, text(rng, surrogates)[:40])),
               ("payload", quoted(rng, text(rng, surrogates))),
               ("qos", rng.choice("0121")), ("retain", rng.choice(("true", "false"))),
               ("timestamp", rng.choice((repr(rng.random() * 2e9), number(rng))))]
    members = [member for member in members if rng.random() < 0.95]
    for _ in range(rng.choice((0, 0, 1, 2))):
        name = rng.choice(("topic", "payload", "qos", "retain", "timestamp", "x", "\u00e9", ""))
        members.append((name, value(rng)))
    rng.shuffle(members)
    inside = ",".join(blanks(rng) + quoted(rng, name) + blanks(rng) + ":" + blanks(rng) + member +
                      blanks(rng) for name, member in members)
    return (blanks(rng) + "{" + inside + "}" + blanks(rng)).encode()


def test_envelopes(tool):
    rng = random.Random(7200)
    seen = set()
    for _ in range(4 * CASES):
        data = envelope(rng)
        expected = read_by_python(data)
        assert tool.ask("read", data) == expected, data
        seen.add(expected if expected.startswith("refused") else "read")
    assert seen == {"read", "refused no-topic", "refused bad-topic", "refused bad-field",
                    "refused lone-surrogate"}


def test_envelopes_with_bytes_changed(tool):
    rng = random.Random(7300)
    refused = 0
    for _ in range(4 * CASES):
        data = envelope(rng)
        data = changed(rng, data) if rng.random() < 0.7 else data[:rng.randrange(len(data))]
        if rng.random() < 0.3:
            at = rng.randrange(len(data) + 1)
            data = data[:at] + rng.choice((b'"', b",", b"}", b"{", b"\\", b"0", b"-", b"\\u",
                                           b"\x0b", b".", b"e", b"]")) + data[at:]
        expected = read_by_python(data)
        assert tool.ask("read", data) == expected, data
        refused += expected == "refused bad-envelope"
    assert CASES < refused < 4 * CASES


def test_what_json_dumps_writes(tool):
    """As the plugins make it: an event in JSON, in an envelope in JSON."""
    rng = random.Random(7400)
    for _ in range(CASES):
        payload = json.dumps({"event": "tool_enabled", "user_name": text(rng, True)})
        data = json.dumps({"topic": "nemo/tools/1/enabled", "payload": payload, "qos": 1,
                           "retain": False, "timestamp": rng.random() * 4e9})
        answer = tool.ask("read", data.encode())
        assert answer == read_by_python(data.encode()), data
        assert f"payload=x{payload.encode().hex()} " in answer
