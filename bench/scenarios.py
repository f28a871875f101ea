"""The catalogue of scenarios. Each holds the ceilings that its cases are compared with, so that both
are measured in turns; the functions that measure are in drains.py and trials.py."""

from functools import partial

import drains
import trials
from case import Case, Scenario
from shape import Shape

SIGNED_PAYLOAD = 350  # about what the HMAC envelope makes of 220 bytes
WINDOW_OF_WAN = 20    # Receive Maximum
FULL_WINDOW = 65535
SERVERS_SECONDS = 0.4   # to start and stop Redis and a broker
GATEWAY_SECONDS = 1.2   # the same for nemogate, with its warm-up
LOAD_RATE, BROKER_RATE, NULL_RATE, SUBSCRIBER_RATE = 300000, 130000, 350000, 40000  # estimates


def seconds_of(messages, rate, loads=1, gateway=True):
    return (SERVERS_SECONDS + (GATEWAY_SECONDS if gateway else 0) + loads * messages / LOAD_RATE
            + messages / rate)


def blasters(shape, messages, where):
    """The two blasters at Mosquitto; which is better depends on the machine and the setting."""
    return [Case(f"blaster {strategy} -> Mosquitto, {where}", shape,
                 partial(drains.blaster_mosquitto, shape=shape, messages=messages,
                         strategy=strategy),
                 seconds_of(messages, BROKER_RATE, 0, False), ceiling=True)
            for strategy in (drains.BULK, drains.EAGER)]


def to_mosquitto(shape, messages, where, ceilings):
    return Case(f"nemogate -> Mosquitto, {where}", shape,
                partial(drains.gateway_mosquitto, shape=shape, messages=messages),
                seconds_of(messages, BROKER_RATE), ceilings=tuple(ceilings))


def against_mosquitto(shape, messages, where):
    ceilings = blasters(shape, messages, where)
    return [*ceilings, to_mosquitto(shape, messages, where, [case.name for case in ceilings])]


def redis_alone(shape, messages, where, servers=1):
    return Case(f"drain (Redis only), {where}", shape,
                partial(drains.redis_alone, shape=shape, messages=messages, servers=servers),
                servers * seconds_of(messages, NULL_RATE, gateway=False), ceiling=True)


def blaster_null(shape, messages, where, **options):
    return Case(f"blaster -> null broker, {where}", shape,
                partial(drains.blaster_null, shape=shape, messages=messages, **options),
                seconds_of(messages, NULL_RATE * 10, 0, False), ceiling=True)


def to_null(shape, messages, where, ceilings, servers=1):
    return Case(f"nemogate -> null broker, {where}", shape,
                partial(drains.gateway_null, shape=shape, messages=messages, servers=servers),
                servers * seconds_of(messages, NULL_RATE), ceilings=tuple(ceilings))


def against_null(shape, messages, where):
    return [redis_alone(shape, messages, where), blaster_null(shape, messages * 4, where),
            to_null(shape, messages, where, [f"drain (Redis only), {where}"])]


def with_subscriber(shape, messages, where, ceilings=()):
    return Case(f"nemogate -> Mosquitto -> subscriber, {where}", shape,
                partial(drains.gateway_verified, shape=shape, messages=messages),
                seconds_of(messages, SUBSCRIBER_RATE) + 0.5, ceilings=tuple(ceilings))


def direct(shape, messages, where):
    return Case(f"load --direct -> Mosquitto -> subscriber, {where}", shape,
                partial(drains.direct_verified, shape=shape, messages=messages),
                seconds_of(messages, SUBSCRIBER_RATE, 0, False), ceiling=True)


def setting(tls, nodelay):
    return f"{'TLS 1.3' if tls else 'plain'}, set_tcp_nodelay {'true' if nodelay else 'false'}"


def saturation(length):
    one = Shape(streams=1)
    cases = against_mosquitto(one, length.messages, "1 stream")
    for tls in (False, True):
        for nodelay in (False, True):
            shape = Shape(tls=tls, nodelay=nodelay)
            cases += against_mosquitto(shape, length.messages, setting(tls, nodelay))
    plain = [f"blaster {strategy} -> Mosquitto, {setting(False, False)}"
             for strategy in (drains.BULK, drains.EAGER)]
    cases.append(to_mosquitto(Shape(entry_fields=5), length.messages, "entry of 5 fields", plain))
    shape = Shape()
    cases.append(direct(shape, length.verified, "4 streams"))
    cases.append(with_subscriber(shape, length.verified, "4 streams", [cases[-1].name]))
    cases += against_null(one, length.messages, "1 stream")
    cases += against_null(shape, length.messages, "4 streams")
    return cases


def streams(length):
    cases = []
    for count in (8, 64):
        shape = Shape(streams=count)
        cases += against_mosquitto(shape, length.messages, f"{count} streams")
        cases += against_null(shape, length.messages, f"{count} streams")
    return cases


def matrix(length):
    """One thing differs from the base case at a time."""
    variants = {"base": Shape(), "TLS 1.3": Shape(tls=True), "MQTT 3.1.1": Shape(protocol="3.1.1"),
                "QoS 0": Shape(qos=0), "64 bytes": Shape(payload=64),
                "1 KiB": Shape(payload=1024), "16 KiB": Shape(payload=16384)}
    cases = []
    for name, shape in variants.items():
        cases += against_mosquitto(shape, length.fitting(shape.payload), name)
    return cases


def encodings(length):
    base = Shape()
    cases = [*blasters(base, length.messages, "raw"),
             *blasters(Shape(payload=SIGNED_PAYLOAD), length.messages, "signed"),
             redis_alone(base, length.messages, "4 streams"),
             direct(base, length.verified, "raw")]
    of_redis = ("drain (Redis only), 4 streams",)
    for encoding in ("raw", "signed", "batch"):
        shape = Shape(encoding=encoding)
        of_broker = of_redis if encoding == "batch" else (
            f"blaster bulk -> Mosquitto, {encoding}", f"blaster eager -> Mosquitto, {encoding}")
        of_subscriber = of_redis if encoding == "batch" else (
            "load --direct -> Mosquitto -> subscriber, raw",)
        cases.append(to_mosquitto(shape, length.messages, encoding, of_broker))
        cases.append(to_null(shape, length.messages, encoding, of_redis))
        cases.append(with_subscriber(shape, length.verified, encoding, of_subscriber))
    return cases


def wan(length):
    cases = [redis_alone(Shape(streams=16), length.messages, "16 streams")]
    for delay_us in (200, 5000, 50000):
        for connections in (1, 2, 4, 8):
            where = f"{delay_us / 1000:g} ms, connections {connections}"
            options = {"receive_maximum": WINDOW_OF_WAN, "delay_us": delay_us}
            possible = connections * WINDOW_OF_WAN * 1e6 / delay_us
            for encoding in ("blaster", "raw", "batch"):
                shape = Shape(streams=16, connections=connections,
                              encoding="batch" if encoding == "batch" else "raw")
                rate = min(NULL_RATE, possible * (shape.batch_events if encoding == "batch" else 1))
                messages = max(100, min(length.messages, int(rate * length.wan_seconds)))
                took = messages / rate
                if encoding == "blaster":
                    cases.append(Case(
                        f"blaster -> null broker, {where}", shape,
                        partial(drains.blaster_null, shape=shape, messages=messages, **options),
                        took + SERVERS_SECONDS, ceiling=True))
                else:
                    ceiling = ("drain (Redis only), 16 streams" if encoding == "batch"
                               else f"blaster -> null broker, {where}")
                    cases.append(Case(
                        f"nemogate {encoding} -> null broker, {where}", shape,
                        partial(drains.gateway_null, shape=shape, messages=messages, **options),
                        1.3 * took + SERVERS_SECONDS + GATEWAY_SECONDS, ceilings=(ceiling,)))
    return cases


def latency(length):
    cases = []
    for rate in (100, 2000, 20000):
        for nodelay in (False, True):
            shape = Shape(nodelay=nodelay)
            where = f"{rate}/s, set_tcp_nodelay {'true' if nodelay else 'false'}"
            seconds = length.paced_seconds * (2 if rate == 100 else 1)
            arguments = {"shape": shape, "rate": rate, "seconds": seconds}
            cases.append(Case(f"direct publish, {where}", shape,
                              partial(trials.latency_direct, **arguments),
                              seconds + SERVERS_SECONDS, ceiling=True))
            cases.append(Case(f"nemogate, {where}", shape,
                              partial(trials.latency_gateway, **arguments),
                              seconds + SERVERS_SECONDS + GATEWAY_SECONDS,
                              ceilings=(f"direct publish, {where}",)))
    return cases


def spike(length):
    shape = Shape(streams=length.many_streams, keys=20)
    four = Shape(keys=20)
    return [direct(four, length.burst // 2, "4 streams"),
            Case("nemogate, steady and spike", shape,
                 partial(trials.spike, shape=shape, rate=5000 if length.many_streams > 5000 else 1000,
                         steady_seconds=length.steady_seconds, burst=length.burst,
                         burst_seconds=length.burst_seconds),
                 GATEWAY_SECONDS + 5 + length.steady_seconds + length.burst / SUBSCRIBER_RATE,
                 ceilings=("load --direct -> Mosquitto -> subscriber, 4 streams",))]


def backlog(length):
    nemo = {"mix": "nemo", "retain_percent": 100, "site_topics": True}
    plain, coalesced = Shape(**nemo), Shape(**nemo, coalesce=True)
    cases = [redis_alone(plain, length.backlog, "NEMO mix"),
             direct(plain, length.verified, "NEMO mix")]
    for shape, name in ((plain, "each entry"), (coalesced, "coalesced")):
        cases.append(Case(
            f"nemogate -> Mosquitto -> subscriber, {name}", shape,
            partial(trials.backlog, shape=shape, messages=length.backlog),
            seconds_of(length.backlog, SUBSCRIBER_RATE),
            ceilings=(cases[0].name if shape.coalesce else cases[1].name,)))
    return cases


def shards(length):
    cases = []
    for servers in (1, 2):
        where = f"{servers} Redis"
        cases.append(redis_alone(Shape(streams=16), length.messages, where, servers))
        for count in (1, 2, 4):
            shape = Shape(streams=16, shards=count, slots=count)
            cases.append(to_null(shape, length.messages, f"{count} shards, {where}",
                                 [f"drain (Redis only), {where}"], servers))
    return cases


def idle(length):
    shape = Shape(streams=length.many_streams, keys=20)
    return [Case(f"nemogate, {length.many_streams} idle streams", shape,
                 partial(trials.idle, shape=shape, seconds=length.idle_seconds),
                 length.idle_seconds + 5 + length.many_streams / 250 + GATEWAY_SECONDS)]


def storm(length):
    shape = Shape(streams=64, slots=8, connections=8, tls=True)
    return [Case("nemogate, 64 TLS connections lost at once", shape,
                 partial(trials.storm, shape=shape, rate=length.storm_rate,
                         seconds=length.storm_seconds),
                 length.storm_seconds + 5 + GATEWAY_SECONDS)]


def fresh(length):
    shape = Shape(streams=5, site_topics=True)
    seconds = max(0.1, length.backlog / 400000)
    cases = []
    for messages, name in ((0, "no backlog"), (length.backlog, "others drain a backlog")):
        cases.append(Case(f"fresh events, {name}", shape,
                          partial(trials.fresh, shape=shape, messages=messages, rate=200,
                                  seconds=seconds),
                          seconds_of(messages, BROKER_RATE) + 1 + seconds,
                          ceiling=not messages,
                          ceilings=("fresh events, no backlog",) if messages else ()))
    return cases


def memory(_length):
    shape = Shape(inflight=FULL_WINDOW)
    return [Case(f"nemogate, {FULL_WINDOW} unacknowledged{more}", shape,
                 partial(trials.full_window, shape=shape, messages=FULL_WINDOW * times), 5 + 4 * times)
            for times, more in ((1, ""), (3, ", more waiting in Redis"))]


SCENARIOS = [
    Scenario(1, "saturation", "a backlog drained, plain and TLS, both TCP settings of Mosquitto",
             saturation),
    Scenario(2, "streams", "the same over 8 and 64 streams", streams),
    Scenario(3, "matrix", "TLS, protocol, QoS and payload, one at a time", matrix),
    Scenario(4, "encodings", "raw, signed and batch, each also with a verifying subscriber",
             encodings),
    Scenario(5, "wan", "Receive Maximum 20 and a round trip of 0.2 to 50 ms, raw against batch",
             wan, most_repeats=1),
    Scenario(6, "latency", "XADD to subscriber at 100, 2,000 and 20,000/s", latency),
    Scenario(7, "spike", "many streams at a steady pace, then a spike", spike, most_repeats=1),
    Scenario(8, "backlog", "a long backlog of retained topics, with and without coalescing",
             backlog, most_repeats=1),
    Scenario(9, "shards", "1, 2 and 4 shards against null brokers, with one and two Redis servers "
             "(two: two nemogate processes, each with its Redis)", shards),
    Scenario(10, "idle", "CPU and wake-ups with many idle streams", idle, most_repeats=1),
    Scenario(11, "storm", "64 TLS connections lost at once", storm),
    Scenario(12, "fresh", "fresh events of a quiet site while others drain a backlog", fresh),
    Scenario(13, "memory", "resident memory with a full window", memory, most_repeats=1),
]
