"""The states of the world that the mock gateway can show, as its HTTP interface tells them."""

import json
import math
import time
from datetime import datetime, timezone

MINUTE = 60_000
USERS = ["René Müller", "Ada Osei", "Li Wei", "J. van den Berg", "María José Ruiz"]
TOOLS = ["woollam", "Sputter 2", "SEM Zeiss Ultra 55", "Mask aligner MA6", "RIE Oxford 80",
         "Spin coater", "Profilometer", "Wet bench left", "ALD Savannah", "Wire bonder",
         "Dicing saw", "Raman"]
CODES = ["redis-down", "broker-down", "broker-refused", "broker-stalled", "certificate-expires",
         "entries-refused", "slot-without-owner", "dead-letters", "stalled", "legacy-bridge-eats", "reload-failed",
         "stream-unreadable", "no-streams", "lag-growing", "trim-blocked", "slots-not-running",
         "starting", "draining", "shard-dead"]


def now():
    return int(time.time() * 1000)


def iso(ms):
    return datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="milliseconds")


def site(name, **more):
    return {"site": name, "streams": 1, "lag": 0, "pending": 0, "oldest_pending_s": 0,
            "dead_letters": 0, "last_event": now() - 4000, "rate": 0.4, "total": 12345, **more}


def broker(name, **more):
    return {"name": name, "url": f"mqtts://{name}.example.org:8883", "up": True, "connections": 4,
            "connected": 4, "since": now() - 90 * MINUTE, "window": 4000, "inflight": 2,
            "tls": "TLSv1.3 TLS_AES_128_GCM_SHA256", "certificate_expires": None,
            "last_error": None, "puback_p50_us": 1800, "puback_p99_us": 9400, **more}


def status(sites, brokers, reasons=(), **more):
    levels = [reason["level"] for reason in reasons]
    overall = "error" if "error" in levels else "warning" if levels else "ok"
    return {"instance": "gw-1", "version": "0.1.0", "started": now() - 90 * MINUTE, "now": now(),
            "write": False, "ready": overall != "error", "overall": overall,
            "reasons": list(reasons), "sites": sites, "sites_total": len(sites),
            "redis": {"up": True, "url": "redis://127.0.0.1:6379/0", "since": now() - 90 * MINUTE,
                      "last_error": None},
            "brokers": brokers,
            "slots": {"count": 4, "owned": 4, "without_owner": 0, "list": []},
            "totals": {"read": 99999, "published": 99999, "settled": 99999, "acked": 99999,
                       "republished": 12, "expired": 3, "coalesced": 0, "refused": 0,
                       "dead_letters": sum(one["dead_letters"] for one in sites)}, **more}


def reason(code, level="error", ago=2 * MINUTE, **more):
    return {"code": code, "level": level, "since": now() - ago, **more}


def history():
    rate = [round(1.2 + math.sin(i / 7) + (2.5 if i == 41 else 0) + (i % 5) / 8, 2)
            for i in range(60)]
    p50 = [None if i in (20, 21, 22) else round(9 + 3 * math.sin(i / 5), 1) for i in range(60)]
    p99 = [None if one is None else round(one * 2.8 + (60 if i == 41 else 0), 1)
           for i, one in enumerate(p50)]
    return {"step_s": 60, "rate": rate, "delivery_p50_ms": p50, "delivery_p99_ms": p99}


# ---- topics ---------------------------------------------------------------------------------------

def topic(name, body):
    return {"topic": name, "payload": body if isinstance(body, str) else json.dumps(body),
            "at": now()}


def tool_state(site_name, number, state, user=None, ago=37 * MINUTE, **more):
    return {"v": 1, "site": site_name, "tool_id": number, "tool_name": TOOLS[number % len(TOOLS)],
            "operational": state != "down", "in_use": state == "in_use", "state": state,
            "user": user, "since": iso(now() - ago), "usage_id": 4, "until": None,
            "ts": iso(now()), "problems": [], **more}


def lab_topics(name="lab"):
    states = ["in_use", "idle", "in_use", "down", "idle", "cooldown", "idle", "in_use", "idle",
              "idle", "idle", "idle"]
    found = [topic(f"nemo/{name}/tools/{i}/state",
                   tool_state(name, i, state, USERS[i % 5] if state in ("in_use", "cooldown")
                              else None, (i + 1) * 23 * MINUTE))
             for i, state in enumerate(states)]
    found += [
        topic(f"nemo/{name}/tools/3/tasks", {"v": 1, "tool_id": 3, "count": 2, "tasks": []}),
        topic(f"nemo/{name}/tools/2/next", {"v": 1, "tool_id": 2, "next": {
            "reservation_id": 7, "user": "Ada Osei", "start": iso(now() + 95 * MINUTE),
            "end": iso(now() + 200 * MINUTE)}}),
        topic(f"nemo/{name}/areas/1/state", {"v": 1, "area_id": 1, "area_name": "Cleanroom",
                                             "available": True, "occupancy": 5, "capacity": 12}),
        topic(f"nemo/{name}/areas/2/state", {"v": 1, "area_id": 2, "area_name": "Chemistry lab",
                                             "available": True, "occupancy": 1,
                                             "capacity": None}),
        topic(f"nemo/{name}/weather", "21.4 degrees, calm"),
        topic("nemo/esp32/17/status", {"line1": "woollam", "line2": "in use"})]
    return found


# ---- messages -------------------------------------------------------------------------------------

def message(name, payload, **more):
    parts = name.split("/")
    return {"at": now(), "site": parts[1] if len(parts) > 1 else "lab",
            "stream_id": f"{now()}-0", "topic": name, "key": "/".join(parts[2:4]),
            "type": "", "retain": parts[-1] in ("state", "tasks", "next"), "qos": 1,
            "payload": payload if isinstance(payload, (str, type(None))) else json.dumps(payload),
            "binary": False, "cut": False, "dropped": 0, **more}


def tool_event(word, number, user, name="lab"):
    return (f"nemo/{name}/tools/{number}/event",
            {"v": 1, "site": name, "event": word, "tool_id": number,
             "tool_name": TOOLS[number % len(TOOLS)], "user": user, "usage_id": 9,
             "time": iso(now()), "until": None, "ts": iso(now())}, {})


def some_events(name="lab"):
    """What a minute of a lab looks like."""
    return [
        tool_event("enabled", 0, "René Müller", name),
        (f"nemo/{name}/tools/0/state", tool_state(name, 0, "in_use", "René Müller", 0), {}),
        (f"nemo/{name}/areas/1/state", {"area_name": "Cleanroom", "available": True,
                                        "occupancy": 6, "capacity": 12}, {}),
        tool_event("disabled", 7, "Li Wei", name),
        (f"nemo/{name}/tools/7/state", tool_state(name, 7, "cooldown", "Li Wei", 0,
                                                  until=iso(now() + 5 * MINUTE)), {}),
        tool_event("down", 3, None, name),
        (f"nemo/{name}/tools/3/tasks", {"tool_name": TOOLS[3], "count": 2}, {}),
        (f"nemo/{name}/tools/2/next", {"tool_name": TOOLS[2], "next": {
            "user": "Ada Osei", "start": iso(now() + 95 * MINUTE)}}, {}),
        (f"nemo/{name}/sensors/4/value", {"sensor_name": "Humidity", "value": 41.2,
                                          "suffix": "%"}, {"qos": 0}),
        (f"nemo/{name}/weather", "21.4 degrees, calm", {}),
        tool_event("up", 3, None, name),
        tool_event("enabled", 5, "María José Ruiz", name),
    ]


def endless_day():
    while True:
        yield from some_events()


# ---- dead letters ---------------------------------------------------------------------------------

def letter(number, why, detail, **more):
    return {"site": "lab", "id": f"{1795000000000 + number}-0", "stream": "nemo:{lab}:events",
            "entry_id": f"{1794000000000 + number}-0", "reason": why, "detail": detail,
            "deliveries": 1, "topic": "nemo/lab/tools/3/state", "key": "tool/3",
            "at": now() - number * 11 * MINUTE,
            "payload": json.dumps(tool_state("lab", number, "idle")), **more}


def letters():
    return [letter(1, "not-authorized", "the broker refused it: Not authorized", deliveries=3),
            letter(2, "payload-too-large", "payload exceeds max_payload", payload="x" * 900,
                   topic="nemo/lab/images/1"),
            letter(3, "no-topic", "no topic field", topic="", payload="{}"),
            letter(4, "poison", "sent alone three times, and each time the connection or the "
                   "process ended", deliveries=14)]


# ---- cases ----------------------------------------------------------------------------------------

def case(state, topics=None, dead=(), past=None):
    return {"status": state, "history": past or history(), "letters": list(dead),
            "topics": {one["site"]: lab_topics(one["site"]) for one in state["sites"]}
            if topics is None else topics}


def three_sites(**more):
    return [site("lab", total=99000, **more), site("demo", rate=0.1, last_event=now() - 40_000),
            site("packaging", rate=1.5, last_event=now() - 9000)]


def fine():
    return case(status(three_sites(), [broker("main")]))


def broker_down():
    sites = three_sites(lag=300, pending=18, oldest_pending_s=120)
    brokers = [broker("lab-b", up=False, connected=0, inflight=0,
                      last_error={"at": now(), "text": "connect: Connection refused"}),
               broker("campus")]
    return case(status(sites, brokers, [reason(
        "broker-down", broker="lab-b", text="10.1.2.3:8883: connect: Connection refused")]))


def redis_down():
    state = status(three_sites(), [broker("main", inflight=0)], [
        reason("redis-down", ago=42_000, text="127.0.0.1:6379: Connection refused"),
        reason("reload-failed", "warning", ago=30 * MINUTE)])
    state["redis"].update(up=False, since=now() - 42_000)
    return case(state)


def dead_letters(write=True):
    sites = three_sites(dead_letters=4)
    return case(status(sites, [broker("main")],
                       [reason("dead-letters", "warning", site="lab", count=4)], write=write),
                dead=letters())


def no_sites():
    empty = {"step_s": 60, "rate": [0] * 60, "delivery_p50_ms": [None] * 60,
             "delivery_p99_ms": [None] * 60}
    return case(status([], [broker("main", inflight=0)], [reason("no-streams", "warning")]),
                topics={}, past=empty)


def many_sites(count=1000):
    sites = [site(f"lab-{i:04}", rate=(i % 17) / 10, last_event=now() - i * 900)
             for i in range(count)]
    sites[700].update(dead_letters=2)
    sites[701].update(oldest_pending_s=95, lag=1200, pending=40)
    brokers = [broker(f"broker-{i}", up=i != 3) for i in range(6)]
    return case(status(sites, brokers, [
        reason("broker-down", broker="broker-3"),
        reason("stream-unreadable", "warning", site="lab-0702"),
        reason("dead-letters", "warning", count=2)]),
        topics={"lab-0702": lab_topics("lab-0702")})


def certificate():
    reasons = [reason("certificate-expires", "warning", ago=9 * 1440 * MINUTE, broker="main",
                      certificate="broker", expires=now() + 7200 * MINUTE,
                      text="the certificate that the broker shows ends 2026-11-27 09:30 UTC"),
               reason("entries-refused", "warning", ago=3 * MINUTE, broker="main", site="demo", count=2,
                      text="the broker's last answer to them: Quota exceeded"),
               reason("dead-letters", "warning", site="lab", count=1)]
    return case(status(three_sites(dead_letters=1), [broker("main")], reasons), dead=letters()[:1])


def one_site():
    return case(status([site("lab")], [broker("main")]))


CASES = {"fine": fine, "one-site": one_site, "broker-down": broker_down, "redis-down": redis_down,
         "dead-letters": dead_letters, "no-sites": no_sites, "many-sites": many_sites,
         "certificate": certificate}


def one_reason(code):
    """All is well but this; with all members that the code may bring."""
    given = {"broker": "lab-b", "text": "engine's words"}
    given.update({"certificate-expires": {"certificate": "broker",
                                          "expires": now() + 5 * 86_400_000 - MINUTE},
                  "entries-refused": {"site": "lab", "count": 2},
                  "slot-without-owner": {"slot": 3}, "slots-not-running": {"count": 2},
                  "dead-letters": {"count": 4},
                  "lag-growing": {"count": 318}, "stream-unreadable": {"site": "lab"},
                  "legacy-bridge-eats": {"site": "lab"}, "trim-blocked": {"site": "lab"}}
                 .get(code, {}))
    sites = three_sites(lag=300, pending=18)
    brokers = [broker("lab-b")]
    return status(sites, brokers, [reason(code, **given)])
