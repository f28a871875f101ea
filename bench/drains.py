"""How fast a backlog is carried: by nemogate into Mosquitto, into the null broker, with a verifying
subscriber; and the ceilings beside it: the blaster (broker without Redis), drain (Redis without
MQTT), load --direct (broker with a subscriber, without Redis)."""

import time
from contextlib import ExitStack

from arena import WARM_UP, verdict
from measure import MemorySampler, Meter, peak_rss_mib, thinned
from servers import Failed

BULK, EAGER = "bulk", "eager"


def blast(arena, shape, broker, messages, strategy):
    """The blaster: publishes encoded beforehand, the bytes of the gateway's, the same window. bulk
    reads PUBACKs by the half window (1 ms at most), eager at once."""
    bulk = strategy == BULK
    meter = Meter(broker=broker)
    result = arena.run(
        "blaster", port=broker.port, ca=arena.ca(shape), messages=messages, payload=shape.payload,
        keys=shape.keys, window=shape.inflight, connections=shape.connections * shape.slots,
        lowat=shape.inflight // 2 if bulk else 0, eager=not bulk, v3=shape.protocol != "5",
        user_properties=True, qos=shape.qos)
    measured = meter.stop(messages)
    if result["refused"]:
        raise Failed(f"the broker refused {result['refused']} publishes of the blaster")
    measured["cpu_us"]["client"] = result["cpu_us"]
    measured["cores"]["client"] = result["cpu_us"] * result["rate"] / 1e6
    return {"rate": result["rate"], "window": result["window"], **measured}


def blaster_mosquitto(arena, shape, messages, strategy):
    with arena.mosquitto(shape) as broker:
        return blast(arena, shape, broker, messages, strategy)


def blaster_null(arena, shape, messages, **options):
    with arena.null_broker(shape, **options) as broker:
        return blast(arena, shape, broker, messages, EAGER)


def redis_alone(arena, shape, messages, servers=1):
    """XREADGROUP COUNT 100, two outstanding, XACK per reply; one such client for each Redis."""
    with ExitStack() as stack:
        stores = [stack.enter_context(arena.redis()) for _ in range(servers)]
        for store in stores:
            arena.load(shape, store, messages)
        meter = Meter(**named("redis", stores))
        clients = [stack.enter_context(arena.start("drain", port=store.port, streams=shape.streams))
                   for store in stores]
        for name, client in named("client", clients).items():
            meter.join(name, client)
        for client in clients:
            if not client.await_end(arena.timeout):
                raise client.failure(f"is not done after {arena.timeout} s")
        measured = meter.stop(messages * servers)
        results = [client.result() for client in clients]
    for result in results:
        if result["acknowledged"] != messages:
            raise Failed(f"drain acknowledged {result['acknowledged']} of {messages}")
    for name in ("redis", "client"):
        measured = together(measured, name, stores)
    return {"rate": messages * servers / max(result["seconds"] for result in results), **measured}


def named(name, processes):
    """Keyword arguments for a Meter: one process by its name, several with numbers."""
    if len(processes) == 1:
        return {name: processes[0]}
    return {f"{name}{number + 1}": process for number, process in enumerate(processes)}


def together(measured, name, processes):
    """Several processes of one kind as one figure of CPU per message; the cores stay apart."""
    if len(processes) > 1:
        cpu = measured["cpu_us"]
        cpu[name] = sum(cpu.pop(f"{name}{n + 1}") for n in range(len(processes)))
    return measured


def carry(arena, shape, lines, brokers, messages, watch=(), after=None):
    """Starts a nemogate for each (redis, broker), lets it carry a first few entries so that it is
    connected and warm, stops its process while the backlog is written, and measures from the moment
    it goes on until nothing is left. `watch` are more processes to account for by name; `after` runs
    before nemogate ends, and its result is kept."""
    with ExitStack() as stack:
        gateways = [stack.enter_context(arena.gateway(shape, redis, broker))
                    for redis, broker in zip(lines, brokers)]
        pairs = list(zip(lines, gateways))
        arena.warm_up(shape, pairs, min(WARM_UP, messages // 4))
        for gateway in gateways:
            gateway.pause()
        for redis in lines:
            arena.load(shape, redis, messages)
        processes = {**named("nemogate", gateways), **named("redis", lines),
                     **named("broker", brokers), **dict(watch)}
        sampler = MemorySampler(**named("nemogate", gateways))
        backlog = []
        meter = Meter(**processes)
        start = time.monotonic()
        for gateway in gateways:
            gateway.resume()
        arena.await_settled(pairs, shape.stream_names(), arena.timeout, backlog)
        seconds = time.monotonic() - start
        total = messages * len(gateways)
        measured = meter.stop(total)
        series = {"rss_mib": sampler.stop(), "left": thinned(backlog)}
        for name, group in (("nemogate", gateways), ("redis", lines), ("broker", brokers)):
            measured = together(measured, name, group)
        extra = after() if after else {}
        memory = max(peak_rss_mib(gateway.pid) for gateway in gateways)
        for gateway in gateways:
            gateway.finish()
    return {"rate": total / seconds, "seconds": seconds, "peak_rss_mib": memory, **measured,
            **extra, "series": series}


def gateway_mosquitto(arena, shape, messages):
    arena.require(shape)
    with arena.mosquitto(shape) as broker, arena.redis() as redis:
        return carry(arena, shape, [redis], [broker], messages)


def gateway_null(arena, shape, messages, servers=1, **options):
    """Against null brokers, one for each nemogate; they count what arrives."""
    arena.require(shape)
    with ExitStack() as stack:
        brokers = [stack.enter_context(arena.null_broker(shape, **options)) for _ in range(servers)]
        stores = [stack.enter_context(arena.redis()) for _ in range(servers)]
        result = carry(arena, shape, stores, brokers, messages)
        counts = [broker.result() for broker in brokers]
    for count in counts:
        if count["over_window"] or count["malformed"] or not count["publishes"]:
            raise Failed(f"what the null broker saw is not right: {count}")
        if shape.encoding != "batch" and count["publishes"] < messages:
            raise Failed(f"the null broker saw {count['publishes']} publishes of {messages}")
    publishes = sum(count["publishes"] for count in counts)
    return {**result, "publishes": publishes,
            "packet_bytes": sum(count["bytes"] for count in counts) / publishes}


def patience(messages):
    """Seconds that a subscriber may need after the broker has acknowledged everything."""
    return 3 + messages / 20000


def gateway_verified(arena, shape, messages, **options):
    """Into Mosquitto with a verifying subscriber: the rate counts until everything is settled, the
    verdict when the subscriber has everything."""
    arena.require(shape)
    with arena.mosquitto(shape) as broker, arena.redis() as redis, \
            arena.verify(shape, broker, messages, **options) as subscriber:
        return carry(arena, shape, [redis], [broker], messages,
                     watch={"subscriber": subscriber}.items(),
                     after=lambda: {"verify": verdict(subscriber, patience(messages))})


def direct_verified(arena, shape, messages):
    """The ceiling of a broker with a verifying subscriber: load publishes straight to it."""
    with arena.mosquitto(shape) as broker, \
            arena.verify(shape, broker, messages) as subscriber:
        meter = Meter(broker=broker, subscriber=subscriber)
        start = time.monotonic()
        result = arena.run("load", **arena.direct_options(shape, broker, messages=messages))
        ended = subscriber.await_end(patience(messages))
        seconds = time.monotonic() - start
        measured = meter.stop(messages)
        seen = verdict(subscriber, 0)
    measured["cpu_us"]["client"] = result["cpu_us"]
    measured["cores"]["client"] = result["cpu_us"] * messages / seconds / 1e6
    rate = seen["rate"] if ended else messages / seconds
    return {"rate": rate, **measured, "verify": seen}
