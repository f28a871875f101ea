"""One NEMO site as the demo plays it: tools, people, and the stream entries (schema v1) that the
plugin writes when something happens. Every method returns a list of entries; it does no I/O."""

import json
import uuid
from datetime import datetime, timedelta, timezone

PEOPLE = [
    "René Müller (rmüller)", "Alice Doe (adoe)", "李 小龙 (xlli)", "Zoë Ångström (zang)",
    "Oľga Šťastná (ostastna)", "Jürgen Weiß (jweiss)", "Aiko 山田 (ayamada)", "Sam O'Neil (soneil)",
    "Ибрагимова Ольга (oibr)", "Priya Nair 🔬 (pnair)",
]

MODELS = [
    "E-Beam évaporateur", "woollam", "Ätzanlage Süd", "电子束光刻", "Röntgen XRD", "FIB/SEM",
    "Sputter \"AJA\"", "Kryo-Prüfstand", "ALD Fiji", "Naßbank 3", "Heidelberg MLA150", "Ellipsomètre",
]

LEGACY_KEYS = {"tools": "tool", "areas": "area", "area_access": "area-access",
               "reservations": "reservation"}


class Site:
    def __init__(self, name, tools, areas, random):
        self.name = name
        self.random = random
        self.tools = {}
        for tool_id in range(1, tools + 1):
            model = MODELS[(tool_id - 1) % len(MODELS)]
            number = (tool_id - 1) // len(MODELS)
            self.tools[tool_id] = {
                "name": f"{model} {number + 1}" if number else model,
                "state": "idle",
                "user": None,
                "usage_id": None,
            }
        self.areas = {area_id: 0 for area_id in range(1, areas + 1)}
        self.next_number = 1

    def stream(self):
        return f"nemo:{{{self.name}}}:events"

    def entry(self, key, kind, topic, payload, retain=False, qos=1):
        """The flat fields of one stream entry; the payload is compact JSON in UTF-8."""
        text = payload if isinstance(payload, str) else compact(payload)
        return {
            "v": "1",
            "id": str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            "type": kind,
            "topic": topic,
            "key": key,
            "payload": text,
            "qos": str(qos),
            "retain": "1" if retain else "0",
            "ts": str(int(datetime.now(timezone.utc).timestamp() * 1000)),
        }

    def number(self):
        self.next_number += 1
        return self.next_number

    def tool_state(self, tool_id):
        tool = self.tools[tool_id]
        return self.entry(f"tool/{tool_id}", "tool.state", f"tools/{tool_id}/state", {
            "v": 1, "site": self.name, "tool_id": tool_id, "tool_name": tool["name"],
            "operational": tool["state"] != "down", "in_use": tool["state"] == "in_use",
            "state": tool["state"], "user": tool["user"], "since": now(),
            "usage_id": tool["usage_id"], "until": None, "ts": now(),
        }, retain=True)

    def tool_event(self, tool_id, event):
        tool = self.tools[tool_id]
        return self.entry(f"tool/{tool_id}", "tool.event", f"tools/{tool_id}/event", {
            "event": event, "tool_id": tool_id, "tool_name": tool["name"],
            "usage_id": tool["usage_id"], "user_name": tool["user"], "timestamp": now(),
        })

    def interlock(self, tool_id, locked):
        return self.entry(f"interlock/{tool_id}", "interlock.state", f"interlocks/{tool_id}/state", {
            "interlock_id": tool_id, "tool_id": tool_id, "tool_name": self.tools[tool_id]["name"],
            "state": "locked" if locked else "unlocked", "since": now(),
        }, retain=True)

    def task(self, tool_id, text):
        return self.entry(f"tool/{tool_id}", "tool.tasks", f"tools/{tool_id}/tasks", {
            "event": "task_shutdown", "task_id": self.number(), "tool_id": tool_id,
            "tool_name": self.tools[tool_id]["name"], "problem_description": text,
            "force_shutdown": True, "safety_hazard": False, "resolved": False, "created_at": now(),
        }, retain=True)

    def enable(self, tool_id, user):
        self.tools[tool_id].update(state="in_use", user=user, usage_id=self.number())
        return [self.tool_event(tool_id, "enabled"), self.tool_state(tool_id),
                self.interlock(tool_id, False)]

    def disable(self, tool_id):
        event = self.tool_event(tool_id, "disabled")
        self.tools[tool_id].update(state="idle", user=None, usage_id=None)
        return [event, self.tool_state(tool_id), self.interlock(tool_id, True)]

    def reservation(self, tool_id, user):
        start = datetime.now(timezone.utc) + timedelta(minutes=30)
        return [self.entry(f"tool/{tool_id}", "tool.next", f"tools/{tool_id}/next", {
            "reservation_id": self.number(), "tool_id": tool_id,
            "tool_name": self.tools[tool_id]["name"], "user_name": user,
            "start_time": start.isoformat(), "end_time": (start + timedelta(hours=2)).isoformat(),
        }, retain=True)]

    def area(self, area_id, change):
        self.areas[area_id] = max(0, self.areas[area_id] + change)
        return [self.entry(f"area/{area_id}", "area.state", f"areas/{area_id}/state", {
            "area_id": area_id, "area_name": f"Reinraum {area_id} – Gelb", "count":
            self.areas[area_id], "maximum_capacity": 24, "ts": now(),
        }, retain=True)]

    def sensor(self, sensor_id):
        return [self.entry(f"sensor/{sensor_id}", "sensor.value", f"sensors/{sensor_id}/value", {
            "sensor_id": sensor_id, "sensor_name": f"Partikelzähler {sensor_id}",
            "value": round(self.random.gauss(21.5, 0.4), 3), "unit": "°C", "ts": now(),
        }, retain=True, qos=0)]

    def snapshot(self):
        entries = [self.tool_state(tool_id) for tool_id in self.tools]
        for area_id in self.areas:
            entries += self.area(area_id, 0)
        return entries

    def something(self):
        """What happens next on an ordinary day."""
        tool_id = self.random.choice(list(self.tools))
        user = self.random.choice(PEOPLE)
        dice = self.random.random()
        if dice < 0.65:
            if self.tools[tool_id]["state"] == "in_use":
                return self.disable(tool_id)
            return self.enable(tool_id, user)
        if dice < 0.80:
            return self.reservation(tool_id, user)
        if dice < 0.92:
            return self.area(self.random.choice(list(self.areas)), self.random.choice([1, 1, -1]))
        return self.sensor(self.random.randint(1, 20))

    def power_outage(self):
        """Every tool loses its user, goes down, gets a task and a dead interlock: 5 entries each."""
        entries = []
        for tool_id, tool in self.tools.items():
            if tool["user"] is None:
                tool.update(user=self.random.choice(PEOPLE), usage_id=self.number())
            entries.append(self.tool_event(tool_id, "disabled"))
            tool.update(state="down", user=None, usage_id=None)
            entries.append(self.tool_event(tool_id, "down"))
            entries.append(self.tool_state(tool_id))
            entries.append(self.task(tool_id, "Stromausfall – Gebäude B, power lost at the panel"))
            entries.append(self.interlock(tool_id, True))
        return entries

    def power_back(self):
        entries = []
        for tool_id, tool in self.tools.items():
            tool["state"] = "idle"
            entries += [self.tool_event(tool_id, "up"), self.tool_state(tool_id)]
        return entries

    def legacy(self, envelopes):
        """What the older, list-based plugin pushed on a running NEMO, as entries of this site: the
        payload is taken over byte for byte, the topic becomes relative to the site's prefix."""
        entries = []
        for envelope in envelopes:
            topic = envelope["topic"].removeprefix("nemo/")
            family, number = topic.split("/")[:2]
            entries.append(self.entry(f"{LEGACY_KEYS[family]}/{number}", "legacy", topic,
                                      envelope["payload"], envelope["retain"], envelope["qos"]))
        return entries


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def now():
    return datetime.now(timezone.utc).isoformat()
