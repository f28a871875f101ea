"""A Redis that is out of its mind: replies of the wrong shape to every command, lengths without end,
entries nobody asked for. It must not crash the gateway, hang it or make it grow; the log says what was
wrong; and when the same port leads to a sane Redis again everything is carried, nothing lost."""

import threading
import time

import pytest
from harness import Verifier, gateway_config, wait_until
from harness.events import Producer
from hostile import Front, assert_clean_log, watch
from scale import PATIENCE, SANITIZED, is_settled

STREAMS = ["nemo:{a}:events", "nemo:{b}:events", "nemo:{c}:events"]
SLOTS = 4
MOST_GROWTH_KB = 32 * 1024   # what stays after 30 bad connections: what malloc keeps of the peak
MOST_PEAK_KB = 128 * 1024    # while a bad reply comes: REDIS_MAX_REPLY and the room to copy it


def bulk(text):
    text = text if isinstance(text, bytes) else str(text).encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


def array(*items):
    return b"*%d\r\n" % len(items) + b"".join(items)


def entry(entry_id, **fields):
    texts = [bulk(part) for pair in fields.items() for part in pair]
    return array(bulk(entry_id), array(*texts))


def a_publish(n=1, **fields):
    return {"topic": f"hostile/{n}", "payload": "x", **fields}


INFO = bulk("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:feed\r\n")
ERROR = b"-ERR no\r\n"


def verb(words):
    """What a command is, by name; a script by the first key that it is given."""
    name = words[0].upper().decode()
    if name in ("EVAL", "EVALSHA", "FCALL"):
        key = words[3].decode(errors="replace")
        return ("LEASE" if ":lease:" in key else "AGREE" if key.endswith(":id")
                else "BEAT" if key.endswith(":instances") else "SCRIPT")
    if name in ("CLIENT", "XGROUP"):
        return f"{name} {words[1].upper().decode()}"
    return name


def server(**changes):
    """A behaviour: the sane server answers, except to the commands named (with _ for blanks), whose
    replies are bytes, or functions (talk, words) -> bytes."""
    changes = {name.replace("_", " "): reply for name, reply in changes.items()}

    def behave(talk):
        with talk.upstream() as ask:
            while True:
                words = talk.command()
                reply = changes.get(verb(words))
                if reply is not None and verb(words) == "XREADGROUP":
                    time.sleep(0.02)  # it would be asked again at once
                if callable(reply):
                    reply = reply(talk, words)
                talk.send(ask(words) if reply is None else reply)
    return behave


def names_of(words):
    """The streams that an XREADGROUP names."""
    after = words[words.index(b"STREAMS") + 1:]
    return after[:len(after) // 2]


def is_history(words):
    return b">" not in words


def reads(make):
    """For XREADGROUP: make(streams, count) when new entries are asked for, else the end of history."""
    def reply(_talk, words):
        names = names_of(words)
        if is_history(words):
            return array(*(array(bulk(name), array()) for name in names))
        return make(names, int(words[words.index(b"COUNT") + 1]))
    return reply


def first_read(*entries):
    return reads(lambda names, _count: array(array(bulk(names[0]), array(*entries))))


def endless(chunk, begin=b"", most=256 << 20):
    """A reply without end, on one connection at a time: the others are just closed."""
    def reply(talk, _words):
        if not FLOODING.acquire(blocking=False):
            raise ConnectionError("somebody else floods")
        try:
            talk.send(begin)
            talk.flood(chunk, most)
            talk.drain(5)
        finally:
            FLOODING.release()
        raise ConnectionError("done")
    return reply


FLOODING = threading.Semaphore(1)
JUNK = b"x" * 65536
DEEP = b"*1\r\n" * 1000 + b":1\r\n"

# name: (behaviour, what the log says; None: it may be silent, as nothing is wrong with the reply's
# shape)
CASES = {
    # ---- the handshake
    "bytes of no protocol": (lambda talk: (talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
                                           talk.drain()), "not a reply of Redis"),
    "TLS alert": (lambda talk: (talk.send(b"\x15\x03\x01\x00\x02\x02\x46"), talk.drain()),
                  "not a reply of Redis"),
    "closes at once": (lambda talk: talk.command(), "closed the connection"),
    "CLIENT ID is no number": (server(CLIENT_ID=bulk("7")), "CLIENT ID without a number"),
    "CLIENT ID is an array": (server(CLIENT_ID=array(b":7\r\n")), "CLIENT ID without a number"),
    "INFO is an error": (server(INFO=b"-ERR what\r\n"), "Redis refused INFO: ERR what"),
    "INFO is nested too deep": (server(INFO=DEEP), "nested"),
    "PING asks for a password": (server(PING=b"-NOAUTH go away\r\n"), "asks for a password"),
    "control characters in an error": (
        server(CLIENT_ID=b"-ERR \x1b[2J\x1b]0;owned\x07 level=error\n msg=forged\r\n"),
        "Redis refused CLIENT ID"),
    "replies to nothing": (lambda talk: (talk.send(b"+OK\r\n" * 5000), talk.drain()), None),
    "errors to nothing": (server(SCAN=array(bulk("0"), array()) + b"-ERR forged\r\n"),
                          "answers no command"),

    # ---- lengths
    "a length of 2 GB": (server(INFO=b"$2147483648\r\nabc"), "no command asks for"),
    "2 GB, and they come": (server(INFO=endless(JUNK, b"$2147483648\r\n")), "no command asks for"),
    "512 MB, and they come": (server(AGREE=endless(JUNK, b"$536870912\r\n", 540 << 20)),
                              "no command asks for"),
    "a field of 2 GB that comes": (server(
        XREADGROUP=lambda talk, words: endless(
            JUNK, b"*1\r\n*2\r\n" + bulk(names_of(words)[0]) + b"*1\r\n*2\r\n" + bulk("5-1") +
            b"*2\r\n" + bulk("payload") + b"$2147483648\r\n", 200 << 20)(talk, words)), None),
    "a length below -1": (server(INFO=b"$-2\r\n"), "not a reply of Redis"),
    "a length far below 0": (server(INFO=b"$-9223372036854775808\r\n"), "not a reply of Redis"),
    "a length that is no number": (server(INFO=b"$12x\r\nabc\r\n"), "not a reply of Redis"),
    "an array of -5": (server(INFO=b"*-5\r\n"), "not a reply of Redis"),
    "an array of 2 thousand million": (server(AGREE=b"*2147483647\r\n:1\r\n"), None),
    "an array without end": (server(AGREE=endless(b":1\r\n" * 16384, b"*2147483647\r\n")),
                             "no command asks for"),
    "an error line without end": (server(AGREE=endless(JUNK, b"-ERR ")), "a line of more than"),
    "a status line without end": (server(INFO=endless(JUNK, b"+")), "a line of more than"),
    "a number without end": (server(CLIENT_ID=endless(b"1" * 65536, b":")), "a line of more than"),
    "arrays in arrays": (server(LEASE=DEEP), "nested"),
    "RESP3": (server(INFO=b"%1\r\n+a\r\n+b\r\n"), "not a reply of Redis"),

    # ---- replies of the wrong shape
    "heartbeats are an error": (server(BEAT=ERROR), None),
    "heartbeats are a text": (server(BEAT=bulk("1")), None),
    "heartbeats are odd": (server(BEAT=array(bulk("x"), b":4\r\n", array(), b":1\r\n", bulk(
        "\x1b[2J"), bulk("nan"), bulk("odd"))), None),
    "other scripts give errors": (server(SCRIPT=ERROR), None),
    "other scripts give texts": (server(SCRIPT=bulk("\x1b[2J")), None),
    "other scripts give nothing": (server(SCRIPT=array()), None),
    "other scripts give arrays": (server(SCRIPT=array(array(), array(), array())), None),
    "the agreement is an array of one": (server(AGREE=array(b":1\r\n")), "cannot keep"),
    "the agreed tag is too long": (server(AGREE=array(b":1\r\n", bulk("x" * 4000))), "cannot keep"),
    "the agreement is an error": (server(AGREE=ERROR), "cannot keep"),
    "the lease script gives an error": (server(LEASE=ERROR), "lease script"),
    "the lease script gives a text": (server(LEASE=b"+OK\r\n"), "lease script"),
    "the lease script gives nothing": (server(LEASE=b"*0\r\n"), "lease script"),
    "the lease script gives nil": (server(LEASE=b"*-1\r\n"), "lease script"),
    "the lease script gives arrays": (server(LEASE=array(array(), array(), array(), array())), None),
    "the lease script names a thousand links": (server(LEASE=array(
        b":1\r\n", b":1\r\n", *(bulk(n) for n in range(1000)))), None),
    "the lease script names strange links": (server(LEASE=array(
        b":1\r\n", b":1\r\n", b":1\r\n", bulk("x" * 5000), bulk(b"\0\r\n"), array(), bulk(""))),
        None),
    "the time of the lease is odd": (server(LEASE=array(
        b":1\r\n", b":-9223372036854775808\r\n", bulk("99999999999999999999"))), None),
    "CLIENT KILL is refused": (server(CLIENT_KILL=ERROR, LEASE=array(
        b":1\r\n", b":1\r\n", b":1\r\n", bulk("5"))), "CLIENT KILL"),
    "SCAN is an error": (server(SCAN=ERROR), "Redis refuses SCAN"),
    "SCAN is a number": (server(SCAN=b":5\r\n"), "SCAN"),
    "SCAN lacks its names": (server(SCAN=array(bulk("0"))), "SCAN"),
    "SCAN is nil and a number": (server(SCAN=array(b"$-1\r\n", b":1\r\n")), "SCAN"),
    "SCAN gives a cursor of 4 KB": (server(SCAN=array(bulk("9" * 4096), array())), None),
    "SCAN gives strange names": (server(SCAN=array(bulk("0"), array(
        bulk(b"nemo:{\0}:events"), bulk("x" * 70000), b":1\r\n", b"$-1\r\n", bulk(""),
        bulk("nemo:{\x1b[31m}:events"), bulk(STREAMS[0])))), None),
    "XPENDING is an error": (server(XPENDING=ERROR), "a stream cannot be read"),
    "XPENDING is a number": (server(XPENDING=b":1\r\n"), "a stream cannot be read"),
    "XPENDING is empty": (server(XPENDING=array()), None),
    "XPENDING is odd": (server(XPENDING=array(bulk("x"), array(), array(), array(
        array(), array(b":1\r\n"), b":1\r\n", array(b"$-1\r\n", b"$-1\r\n")))), None),
    "XAUTOCLAIM is a number": (server(
        XPENDING=array(b":1\r\n", bulk("1-1"), bulk("1-1"), array(array(bulk("x"), bulk("1")))),
        XAUTOCLAIM=b":1\r\n"), "XAUTOCLAIM"),
    "XAUTOCLAIM is short": (server(
        XPENDING=array(b":1\r\n", bulk("1-1"), bulk("1-1"), array(array(bulk("x"), bulk("1")))),
        XAUTOCLAIM=array(bulk("0-0"))), "XAUTOCLAIM"),
    "XAUTOCLAIM is odd": (server(
        XPENDING=array(b":1\r\n", bulk("1-1"), bulk("1-1"), array(array(bulk("x"), bulk("1")))),
        XAUTOCLAIM=array(bulk("0-0"), b":1\r\n", array(b":1\r\n", b"$-1\r\n", bulk("x" * 3000)))),
        None),
    "XREADGROUP is a text": (server(XREADGROUP=b"+OK\r\n"), "not a reply of XREADGROUP"),
    "XREADGROUP is a number": (server(XREADGROUP=b":1\r\n"), "not a reply of XREADGROUP"),
    "XREADGROUP is an error": (server(XREADGROUP=ERROR), "XREADGROUP"),
    "XREADGROUP has a stream without entries": (server(XREADGROUP=array(array(bulk(STREAMS[0])))),
                                                "not a reply of XREADGROUP"),
    "XREADGROUP has an id that is none": (server(XREADGROUP=first_read(entry("5", a="b"))),
                                          "not a reply of XREADGROUP"),
    "XREADGROUP has an odd number of texts": (server(XREADGROUP=reads(lambda names, _: array(array(
        bulk(names[0]), array(array(bulk("5-1"), array(bulk("a")))))))), "not a reply of XREADGROUP"),
    "XREADGROUP gives streams not asked for": (server(XREADGROUP=reads(lambda names, _: array(array(
        bulk("nemo:{other}:events"), array(entry("5-1", **a_publish())))))), "not asked for"),
    "XREADGROUP gives a stream twice": (server(XREADGROUP=reads(lambda names, count: array(*[array(
        bulk(names[0]), array(*(entry(f"5-{i}", **a_publish()) for i in range(count))))] * 2))),
        "than were asked for"),
    "XREADGROUP gives more than asked for": (server(XREADGROUP=reads(lambda names, count: array(
        array(bulk(names[0]), array(*(entry(f"5-{i + 1}", **a_publish())
                                      for i in range(count + 1))))))), "more entries than"),
    "XREADGROUP gives history without end": (server(XREADGROUP=lambda _talk, words: array(array(
        bulk(names_of(words)[0]), array(entry("5-1", **a_publish()))))), None),
    "XREADGROUP gives ids out of order and doubled": (server(XREADGROUP=first_read(
        entry("9-9", **a_publish()), entry("5-5", **a_publish()), entry("5-5", **a_publish()))), None),
    "XREADGROUP gives entries of 1000 fields": (server(XREADGROUP=first_read(entry(
        "5-1", **a_publish(), **{f"f{i}": "x" for i in range(1000)}))), None),
    "XACK is an error": (server(XREADGROUP=first_read(entry("5-1", **a_publish())), XACK=ERROR),
                         "XACK"),
    "XACK is a text": (server(XREADGROUP=first_read(entry("5-1", **a_publish())), XACK=bulk("1")),
                       "XACK"),
    "XACK is a large number": (server(XREADGROUP=first_read(entry("5-1", **a_publish())),
                                      XACK=b":9223372036854775807\r\n"), None),
}

# So many of these are met anyway: they do not end the connection, or the flood is one at a time.
FEW = {name for name, (_, says) in CASES.items() if says is None} | {
    name for name in CASES if "come" in name or "without end" in name} | {
    "SCAN is an error", "SCAN is a number", "SCAN lacks its names", "SCAN is nil and a number",
    "XPENDING is an error", "XPENDING is a number", "XAUTOCLAIM is a number", "XAUTOCLAIM is short",
    "XREADGROUP is an error", "XACK is an error", "XACK is a text", "the agreement is an array of one",
    "the agreed tag is too long", "the agreement is an error"}


@pytest.mark.limit(240)
@pytest.mark.parametrize("case", CASES)
def test_hostile_redis(things, case):
    behaviour, says = CASES[case]
    redis, broker = things.redis(), things.recording_broker()
    front = Front(redis.port)
    things.made.append(front)
    front.turn_hostile(behaviour)
    producer = Producer(redis, STREAMS, keys=10).send(300)
    config = gateway_config(f"redis://127.0.0.1:{front.port}/0", broker, slots=SLOTS,
                            delivery={"lease_ttl": "2s"})
    gateway = things.gateway(config, start=False).launch()
    if says is not None:
        gateway.wait_log(says, timeout=20 * PATIENCE)
    else:
        watch(gateway, 1)
    front.turn_sane()
    verifier = Verifier(producer, broker, ignore=lambda topic: topic.startswith(
        ("nemogate/", "nemo/a/hostile/", "nemo/b/hostile/", "nemo/c/hostile/")))
    verifier.wait(60 * PATIENCE).check()
    before = gateway.rss_kb()

    front.turn_hostile(behaviour)
    producer.send(300)
    if case not in FEW:
        front.wait_served(30, 40 * PATIENCE)
    during = watch(gateway, 1.5)

    front.turn_sane()
    verifier.wait(60 * PATIENCE).check()
    wait_until(lambda: is_settled(redis, STREAMS), 30 * PATIENCE, "nothing pending and no lag")
    after, peak = gateway.rss_kb(), gateway.peak_rss_kb()
    print(f"{front.served} hostile connections; RSS {before} kB, {during} kB, after it {after} kB; "
          f"peak {peak} kB")
    if not SANITIZED:
        assert after - before < MOST_GROWTH_KB and peak < MOST_PEAK_KB
    assert gateway.terminate(20) == 0
    assert_clean_log(gateway)
    assert broker.violations == []


@pytest.mark.limit(240)
def test_a_reply_that_comes_byte_by_byte(things):
    """One byte a second is silence: the link is given up after its timeout, and the slot goes on."""
    redis, broker = things.redis(), things.recording_broker()
    front = Front(redis.port)
    things.made.append(front)
    front.turn_hostile(lambda talk: talk.trickle(INFO * 10, 0.5))
    producer = Producer(redis, STREAMS, keys=10).send(30)
    config = gateway_config(f"redis://127.0.0.1:{front.port}/0", broker, slots=1)
    gateway = things.gateway(config, start=False).launch()
    line = gateway.wait_log("no answer from Redis within", timeout=30 * PATIENCE)
    assert line["link"] == "control"
    front.turn_sane()
    Verifier(producer, broker).wait(60 * PATIENCE).check()
    assert gateway.terminate(20) == 0
