"""What nemogate is to reach on two cores with 220-byte payloads and QoS 1, and whether a run shows it.
A target whose case was not measured is `not measured`, never met."""

from dataclasses import dataclass
from typing import Optional

from case import LENGTHS
from scenarios import FULL_WINDOW, setting

FORTY_MB = 40e6 / (1024 * 1024)


@dataclass(frozen=True)
class Target:
    text: str
    scenario: str
    case: str
    figure: str                     # of the case's median, with dots; "ratio": rate over its ceiling
    unit: str
    most: Optional[float] = None
    least: Optional[float] = None
    over: Optional[str] = None      # the figure is divided by the same figure of this case


def mosquitto_targets():
    found = []
    for tls, cpu in ((False, 1.3), (True, 3.0)):
        for nodelay in (False, True):
            where = setting(tls, nodelay)
            case = f"nemogate -> Mosquitto, {where}"
            found.append(Target(f"Mosquitto without subscriber, {where}: of the blaster's rate",
                                "saturation", case, "ratio", "", least=0.97))
            found.append(Target(f"Mosquitto without subscriber, {where}: CPU of nemogate",
                                "saturation", case, "cpu_us.nemogate", "us", most=cpu))
    return found


def null_targets():
    return [
        Target("null broker, one Redis, one shard", "saturation",
               "nemogate -> null broker, 4 streams", "rate", "msg/s", least=450000),
        Target("null broker: CPU of nemogate", "saturation",
               "nemogate -> null broker, 4 streams", "cpu_us.nemogate", "us", most=0.8),
        Target("null broker, batch: CPU of nemogate", "encodings",
               "nemogate -> null broker, batch", "cpu_us.nemogate", "us", most=0.6),
        *[Target(f"null broker, {count} shards, 2 Redis: of the rate of 1 shard", "shards",
                 f"nemogate -> null broker, {count} shards, 2 Redis", "rate", "times",
                 over="nemogate -> null broker, 1 shards, 2 Redis") for count in (2, 4)]]


def latency_targets():
    return [Target(f"latency at 2,000/s, set_tcp_nodelay {nodelay}: {name}", "latency",
                   f"nemogate, 2000/s, set_tcp_nodelay {nodelay}", figure, "us", most=most)
            for nodelay in ("false", "true")
            for name, figure, most in (("p50", "p50_us", 130), ("p99", "p99_us", 300))]


def rest():
    idle = "nemogate, {} idle streams"
    many = LENGTHS["medium"].many_streams
    return [
        Target(f"{many:,} idle streams: CPU of nemogate, of a core", "idle", idle.format(many),
               "nemogate_cpu_percent", "%", most=1.0),
        Target("full window of 65,535: RSS of nemogate (40 MB)", "memory",
               f"nemogate, {FULL_WINDOW} unacknowledged", "peak_rss_mib", "MiB", most=FORTY_MB),
        Target("WAN, Receive Maximum 20, 50 ms, 1 connection: batch over raw", "wan",
               "nemogate batch -> null broker, 50 ms, connections 1", "rate", "times", least=50,
               over="nemogate raw -> null broker, 50 ms, connections 1"),
        Target("fresh events of a quiet site beside a backlog: p50", "fresh",
               "fresh events, others drain a backlog", "p50_us", "us"),
        Target("fresh events of a quiet site beside a backlog: p99", "fresh",
               "fresh events, others drain a backlog", "p99_us", "us")]


def figure_of(case, path):
    if case is None or case["status"] != "ok":
        return None
    value = case if path == "ratio" else case["median"]
    for key in path.split("."):
        value = value.get(key) if value else None
    return value


def judge(target, cases):
    case = cases.get((target.scenario, target.case))
    value = figure_of(case, target.figure)
    if target.over:
        base = figure_of(cases.get((target.scenario, target.over)), target.figure)
        value = value / base if value is not None and base else None
    if value is None:
        verdict = "not measured"
    elif target.most is None and target.least is None:
        verdict = "reported"
    else:
        good = (target.most is None or value <= target.most) and \
            (target.least is None or value >= target.least)
        verdict = "met" if good else "not met"
    measured = case if value is not None else {}
    return {"target": target.text, "scenario": target.scenario, "case": target.case,
            "at_most": target.most, "at_least": target.least, "unit": target.unit,
            "measured": value, "ceiling": measured.get("ceiling_case"),
            "ceiling_rate": measured.get("ceiling_rate"), "ratio": measured.get("ratio"),
            "verdict": verdict}


def judged_targets(records):
    cases = {(case["scenario"], case["name"]): case for case in records}
    return [judge(target, cases)
            for target in (*mosquitto_targets(), *null_targets(), *latency_targets(), *rest())]
