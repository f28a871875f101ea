"""One laboratory: Redis, broker, NEMO with the new plugin, nemogate, and a subscriber that notes all.

    lab = Lab(things, tools=["E-Beam", "Sputter"])
    lab.browser.enable(lab.tools[0], lab.users["captain"], lab.project)
    lab.wait_state(lab.tools[0], "in_use")

The broker has a listener with TLS for nemogate and programs, and a plain one for displays. A second
site (beside=lab) shares the first one's broker.
"""

import json
import os

import pytest
from esp32_display import Esp32Display
from harness import Subscriber, free_port, gateway_config, wait_until
from nemo_site import NemoSite
from vm_server import VmServer

TOOLS = ["E-Beam evaporator", "Sputter coater", "Wet bench"]


def reload(gateway, timeout=5):
    """SIGHUP, and the gateway's word that it has taken up the configuration."""
    before = gateway.log_count("configuration reloaded")
    gateway.reload()
    try:
        wait_until(lambda: gateway.log_count("configuration reloaded") > before
                   or not gateway.running, timeout)
    except TimeoutError:
        if "not reloaded" in gateway.log_text():
            raise
    if gateway.log_count("configuration reloaded") == before:
        pytest.skip("this nemogate does not reload yet")


def order_faults(messages):
    """(events of a topic that did not arrive in the order of their stream ids, repeats, different
    events)"""
    last, faults, repeats, seen = {}, 0, 0, set()
    for m in messages:
        stream_id = tuple(map(int, m.user_properties["stream-id"].split("-")))
        if (m.topic, stream_id) in seen:
            repeats += 1
            continue
        seen.add((m.topic, stream_id))
        if stream_id < last.get(m.topic, (0, 0)):
            faults += 1
        last[m.topic] = stream_id
    return faults, repeats, len(seen)


class Lab:
    def __init__(self, things, site="lab", tools=TOOLS, beside=None, gateway=True, broker=None,
                 subscriber=None, legacy=False, display=False, customize=None, **changes):
        self.things = things
        self.name = site
        self.redis = things.redis(appendonly=True)
        self.broker = beside.broker if beside else self.make_broker(broker or {})
        self.plain_port = beside.plain_port if beside else self._plain_port
        self.site = self.keep(NemoSite(things.tmp, self.redis.url, site))
        made = self.site.populate(tools)
        self.project, self.tools, self.users = made["project"], made["tools"], made["users"]
        self.site.customize(**{"streams_legacy": "enabled" if legacy else "disabled",
                               "streams_display": "enabled" if display else "disabled",
                               **(customize or {})})
        self.site.start(40)
        self.browser = self.site.browser()
        self.subscriber = self.subscribe(**(subscriber or {}))
        changes.setdefault("slots", 2)
        changes.setdefault("log", {"level": "info"})
        self.config = gateway_config(self.redis, self.broker, **changes)
        self.gateway = things.gateway(self.config) if gateway else None

    def keep(self, thing):
        self.things.made.append(thing)
        return thing

    def make_broker(self, options):
        self._plain_port = free_port()
        extra = [f"listener {self._plain_port} 127.0.0.1", *options.pop("extra", ())]
        return self.things.mosquitto(**{"tls": self.things.certs, "persistence": True,
                                        "extra": extra, **options})

    def subscribe(self, plain=False, topics="#", **options):
        """plain: on the listener without TLS, where the broker's certificate is the test's matter."""
        where = {"port": self.plain_port, "tls": None} if plain else \
            {"port": self.broker.port, "tls": self.things.certs}
        return self.keep(Subscriber(self.things.tmp, topics=topics, persistent=True,
                                    **where, **options)).start()

    def display(self, tool):
        return self.keep(Esp32Display(self.plain_port, tool)).power_on()

    def vm_server(self, **options):
        return self.keep(VmServer(self.plain_port, **options)).start()

    def snapshot(self):
        return self.site.manage("nemo_streams_snapshot")

    def tick(self):
        return self.site.manage("nemo_streams_tick")

    # ---- what the broker has

    def messages(self, topic=None):
        """Received messages, without what nemogate says about itself."""
        return [m for m in self.subscriber.messages if not m.topic.startswith("nemogate/")
                and (topic is None or m.topic == topic)]

    def topic(self, rest):
        return f"nemo/{self.name}/{rest}"

    def state(self, tool):
        """The newest state received of a tool, a dict; None: none yet; {}: cleared."""
        found = self.messages(self.topic(f"tools/{tool}/state"))
        return None if not found else json.loads(found[-1].payload or b"{}")

    def wait_state(self, tool, word, timeout=10):
        return wait_until(lambda: (self.state(tool) or {}).get("state") == word and self.state(tool),
                          timeout, lambda: f"tool {tool} {word}; it is {self.state(tool)}")

    def retained(self, topics="#"):
        """{topic: payload} of what the broker keeps, as a new subscriber gets it."""
        late = self.keep(Subscriber(self.things.tmp, self.plain_port, topics=topics,
                                    username=self.subscriber.options["username"],
                                    password=self.subscriber.options["password"])).start()
        known = -1
        while known != len(late.messages):
            known = len(late.messages)
            try:
                wait_until(lambda: len(late.messages) > known, 0.5)
            except TimeoutError:
                break
        late.terminate()
        return {m.topic: m.payload for m in late.messages if m.retain}

    def wrong_states(self):
        """Tools whose retained state is not what NEMO's own page of tool states says."""
        kept, wrong = self.retained(self.topic("tools/+/state")), []
        for id, row in self.browser.tool_status().items():
            state = json.loads(kept.get(self.topic(f"tools/{id}/state")) or b"{}")
            if (state.get("in_use"), state.get("operational")) != (row["in_use"], row["operational"]):
                wrong.append((id, state.get("state"), row["in_use"], row["operational"]))
        return wrong

    # ---- what waits

    def written(self):
        """Entries that were ever added to the stream."""
        return self.redis.client().xinfo_stream(f"nemo:{{{self.name}}}:events")["entries-added"]

    def waiting(self):
        """Entries of the stream that no PUBACK has settled yet."""
        client, stream = self.redis.client(), f"nemo:{{{self.name}}}:events"
        groups = client.xinfo_groups(stream)
        return sum(group["pending"] + (group["lag"] or 0) for group in groups) if groups else \
            client.xlen(stream)

    def wait_settled(self, timeout=20):
        wait_until(lambda: self.waiting() == 0, timeout, lambda: f"{self.waiting()} entries wait")

    def dead(self):
        return self.redis.client().xrange(f"nemo:{{{self.name}}}:dead")

    def file(self, name, text):
        """A file beside the gateway's, for secrets; its path."""
        path = os.path.join(str(self.things.tmp), name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600)
        return path
