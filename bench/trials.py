"""What is not a plain drain: latency at a pace, a spike over many streams, a coalesced backlog, idling,
a storm of reconnects, a fresh event beside a long backlog, memory of a full window."""

import time

from arena import WARM_UP, verdict
from drains import carry, patience
from measure import MemorySampler, Meter, peak_rss_mib, rss_mib, thinned, wake_ups
from servers import Failed, Skipped
from shape import GROUP

PERCENTILES = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
STEADY_RUN, SPIKE_RUN = 2, 3  # numbers in the payloads, so that each part has its own subscriber
LATE_MS = 3000  # also of CONNACK, so below connect_timeout
SILENCE = 5  # seconds that the last messages of a paced run may take


def started(arena, shape, redis, broker, warm_up=WARM_UP):
    """A nemogate that is connected, warm and has nothing to do."""
    gateway = arena.gateway(shape, redis, broker)
    try:
        arena.warm_up(shape, [(redis, gateway)], warm_up)
    except BaseException:
        gateway.stop()
        raise
    return gateway


def paced(arena, command, verify, rate, seconds, run=0):
    """One paced load and its subscriber; the latency of the first tenth does not count."""
    messages = max(20, int(rate * seconds))
    with verify(messages, skip=messages // 10, run=run) as subscriber:
        sent = command(messages, rate=rate, run=run)
        seen = verdict(subscriber, SILENCE)
    result = {key: seen[key] for key in PERCENTILES}
    return {**result, "sent_rate": sent["rate"], "late_p99_us": sent["late_p99_us"],
            "load_cpu_us": sent["cpu_us"], "verify": seen}


def latency_direct(arena, shape, rate, seconds):
    """The floor: the same pace and stamps, published straight to the broker."""
    with arena.mosquitto(shape) as broker:
        meter = Meter(broker=broker)
        result = paced(arena, lambda count, **more: arena.run(
            "load", **arena.direct_options(shape, broker, messages=count, **more)),
            lambda count, **more: arena.verify(shape, broker, count, **more), rate, seconds)
        measured = meter.stop(rate * seconds)
    return {**result, **measured}


def latency_gateway(arena, shape, rate, seconds):
    arena.require(shape)
    with arena.mosquitto(shape) as broker, arena.redis() as redis, \
            started(arena, shape, redis, broker) as gateway:
        meter = Meter(nemogate=gateway, redis=redis, broker=broker)
        result = paced(arena, lambda count, **more: arena.load(shape, redis, count, **more),
                       lambda count, **more: arena.verify(shape, broker, count, **more),
                       rate, seconds)
        measured = meter.stop(rate * seconds)
        gateway.finish()
    return {**result, **measured}


def spike(arena, shape, rate, steady_seconds, burst, burst_seconds):
    """Many streams at a steady pace, then a burst: how long until the subscriber has it all."""
    with arena.mosquitto(shape) as broker, arena.redis() as redis, \
            started(arena, shape, redis, broker) as gateway:
        sampler = MemorySampler(nemogate=gateway, redis=redis)
        idle = rss_mib(gateway.pid)
        steady = paced(arena, lambda count, **more: arena.load(shape, redis, count, **more),
                       lambda count, **more: arena.verify(shape, broker, count, **more),
                       rate, steady_seconds, STEADY_RUN)
        with arena.verify(shape, broker, burst, run=SPIKE_RUN, report_ms=200) as subscriber:
            meter = Meter(nemogate=gateway, redis=redis, broker=broker, subscriber=subscriber)
            start = time.monotonic()
            sent = arena.run("load", port=redis.port, **arena.load_options(
                shape, burst=f"{burst}/{burst_seconds}", run=SPIKE_RUN))
            subscriber.await_end(arena.timeout)
            seconds = time.monotonic() - start
            measured = meter.stop(burst)
            left = left_of(subscriber, burst)
            seen = verdict(subscriber, 0)
        series = sampler.stop()
        memory = peak_rss_mib(gateway.pid)
        gateway.finish()
    return {**{key: steady[key] for key in PERCENTILES}, "steady_ok": steady["verify"]["ok"],
            "rate": burst / seconds, "drain_seconds": seconds, "burst_sent_seconds": sent["seconds"],
            "idle_rss_mib": idle, "peak_rss_mib": memory, **measured, "verify": seen,
            "series": {"rss_mib": series, "left": thinned(left)}}


def intervals(subscriber):
    return [line for line in subscriber.lines() if "t" in line]


def left_of(subscriber, messages):
    """What had not arrived yet at each time that the subscriber has told of."""
    points = []
    for line in intervals(subscriber):
        messages -= line["count"]
        points.append((line["t"], messages))
    return points


def backlog(arena, shape, messages):
    """A backlog of retained topics; with coalescing most of it need not be published, but each key's
    newest must arrive."""
    arena.require(shape)
    options = {"allow_gaps": True, "report_ms": 100} if shape.coalesce else {}
    # with gaps the subscriber cannot know how many will come: it ends when nemogate has settled all
    expected = 0 if shape.coalesce else messages
    with arena.mosquitto(shape) as broker, arena.redis() as redis, \
            arena.verify(shape, broker, expected, **options) as subscriber:
        def judged():
            if shape.coalesce:
                await_silence(subscriber, patience(messages))
            seen = verdict(subscriber, 0 if shape.coalesce else patience(messages))
            newest = messages + arena.extra_expected
            seen["lost"] += max(0, newest - seen["newest_total"])
            seen["ok"] = seen["ok"] and seen["newest_total"] == newest
            return {"verify": seen, "published_percent": 100 * seen["distinct"] / messages}
        return carry(arena, shape, [redis], [broker], messages,
                     watch={"subscriber": subscriber}.items(), after=judged)


def await_silence(subscriber, seconds):
    """Until nothing more has arrived for half a second: the broker's queue is empty."""
    before, since = -1, time.monotonic()
    end = since + seconds
    while time.monotonic() < min(since + 0.5, end):
        time.sleep(0.05)
        count = sum(line["count"] for line in intervals(subscriber))
        if count != before:
            before, since = count, time.monotonic()


def idle(arena, shape, seconds):
    with arena.mosquitto(shape) as broker, arena.redis() as redis, \
            started(arena, shape, redis, broker, shape.streams) as gateway:
        # What followed the last entry has been done by then: streams are trimmed a few at a time.
        time.sleep(min(3, seconds) + shape.streams / 250)
        processes = {"nemogate": gateway, "redis": redis, "broker": broker}
        sampler = MemorySampler(1, nemogate=gateway, redis=redis)
        before = {name: (process.cpu(), wake_ups(process.pid))
                  for name, process in processes.items()}
        start = time.monotonic()
        meter = Meter(**processes)
        time.sleep(seconds)
        took = time.monotonic() - start
        measured = meter.stop(1)
        result = {}
        for name, process in processes.items():
            cpu, wakes = before[name]
            result[f"{name}_cpu_percent"] = 100 * (process.cpu() - cpu) / took
            result[f"{name}_wake_ups_per_second"] = (wake_ups(process.pid) - wakes) / took
        memory = rss_mib(gateway.pid)
        series = sampler.stop()
        gateway.finish()
    return {**result, "seconds": took, "rss_mib": memory, "others": measured["others"],
            "series": {"rss_mib": series}}


def storm(arena, shape, rate, seconds):
    """All connections are lost at once by the null broker, halfway through a steady load: how long
    until all are accepted and have published again, and what the handshakes cost: CPU of the half
    with the loss less CPU of the half without."""
    half = int(rate * seconds / 2)
    warm = WARM_UP if half > WARM_UP // 2 else half
    connections = shape.slots * shape.connections
    with arena.null_broker(shape, drop_after=warm + half + half // 10) as broker, \
            arena.redis() as redis, started(arena, shape, redis, broker, warm) as gateway:
        sampler = MemorySampler(nemogate=gateway)
        used, settled = [], []
        for part in (1, 2):
            before = gateway.cpu(), broker.cpu()
            start = time.monotonic()
            arena.load(shape, redis, half, rate=rate, run=part)
            arena.await_settled([(redis, gateway)], shape.stream_names(), arena.timeout)
            settled.append(time.monotonic() - start)
            used.append((gateway.cpu() - before[0], broker.cpu() - before[1]))
        series = sampler.stop()
        memory = peak_rss_mib(gateway.pid)
        gateway.finish()
        counts = broker.result()
    if counts["dropped"] != connections or counts["recovered_publish_ms"] < 0:
        raise Failed(f"of {connections} connections the null broker dropped {counts['dropped']}; "
                     f"all published again after {counts['recovered_publish_ms']} ms")
    return {"connections": connections, "connected_ms": counts["recovered_connect_ms"],
            "publishing_ms": counts["recovered_publish_ms"],
            "duplicates": counts["publishes"] - warm - 2 * half,
            "handshake_cpu_ms": 1000 * (used[1][0] - used[0][0]) / connections,
            "broker_handshake_cpu_ms": 1000 * (used[1][1] - used[0][1]) / connections,
            "settled_seconds": settled[1], "peak_rss_mib": memory,
            "series": {"rss_mib": series}}


def fresh(arena, shape, messages, rate, seconds):
    """The last of the streams is a quiet site; how long do its events take while the others drain
    `messages` entries? With 0 messages: how long on a quiet machine."""
    quiet = shape.streams
    with arena.mosquitto(shape) as broker, arena.redis() as redis, \
            started(arena, shape, redis, broker) as gateway:
        streams = shape.stream_names()
        count = int(rate * seconds)
        with arena.verify(shape, broker, count, filter=f"nemo/bench{quiet}/#") as subscriber:
            if messages:
                gateway.pause()
                arena.run("load", port=redis.port, **arena.load_options(
                    shape, messages=messages, streams=quiet - 1, run=STEADY_RUN))
                gateway.resume()
            start = time.monotonic()
            arena.run("load", port=redis.port, **arena.load_options(
                shape, messages=count, rate=rate, first_stream=quiet, streams=1))
            left = redis.unsettled(streams[:-1], GROUP)
            others_left = sum(left) if left else 0
            seen = verdict(subscriber, arena.timeout)
            arena.await_settled([(redis, gateway)], streams, arena.timeout)
            drained = time.monotonic() - start
        gateway.finish()
    if messages and not others_left:
        raise Skipped(f"the backlog was drained before the last of the {count} fresh events: "
                      "--messages must be larger")
    return {**{key: seen[key] for key in PERCENTILES}, "verify": seen, "fresh_events": count,
            "backlog_left_at_end": others_left, "backlog_seconds": drained}


def full_window(arena, shape, messages):
    """A broker that acknowledges so late that the whole window is in flight: memory of nemogate."""
    arena.require(shape)
    with arena.null_broker(shape, delay_ms=LATE_MS) as broker, arena.redis() as redis:
        arena.load(shape, redis, messages)
        with arena.gateway(shape, redis, broker) as gateway:
            sampler = MemorySampler(nemogate=gateway)
            arena.await_settled([(redis, gateway)], shape.stream_names(), arena.timeout)
            memory = peak_rss_mib(gateway.pid)
            series = sampler.stop()
            gateway.finish()
        counts = broker.result()
    if counts["max_unacknowledged"] < min(messages, shape.inflight):
        raise Failed(f"the window was never full: {counts['max_unacknowledged']} unacknowledged")
    return {"peak_rss_mib": memory, "unacknowledged": counts["max_unacknowledged"],
            "series": {"rss_mib": series}}
