"""The Python bridge of the older plugin and nemogate as its drop-in, side by side: the same list in
Redis, the same Mosquitto, the same subscriber, one after the other. Run by run.sh --compare in
namespaces of its own. Prints the table of README's section "Compared with the plugin's Python bridge".

order     20 events of one tool are in the list when the bridge starts
loss      300 events while the broker stands still for 3 s, is killed and comes back
request   how long a person waits for "enable tool" in NEMO while Redis is down
backlog   20,000 events are in the list when the bridge starts; counted at the subscriber
push      how long an LPUSH takes meanwhile, every 2 ms: what a request in NEMO waits for
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

from harness import Gateway, Mosquitto, RedisServer, Subscriber, gateway_config, wait_until  # noqa: E402
from harness.process import Process  # noqa: E402
from nemo_site import BRIDGE, STREAMS, NemoSite, venv  # noqa: E402

LIST, COUNT = "nemo_mqtt_events", 20_000
START = """
import logging, time, django
logging.basicConfig(level=logging.WARNING)
django.setup()
from NEMO_mqtt_bridge.bridge import process_lock
process_lock.LOCK_PATH = {lock!r}
from NEMO_mqtt_bridge.redis_mqtt_bridge import RedisMQTTBridge
bridge = RedisMQTTBridge(auto_start=False)
assert bridge.start()
print("ready", flush=True)
while True:
    time.sleep(1)
"""


class PythonBridge(Process):
    """The plugin's bridge, alone in its process, in the mode that starts and kills no servers. The one
    that the plugin begins in each Django process is kept from it by a folder in the lock's place."""

    name = "bridge"

    def __init__(self, tmp, site):
        super().__init__(tmp, site.env)
        self.start_path = os.path.join(self.folder, "start.py")
        with open(self.start_path, "w") as f:
            f.write(START.format(lock=os.path.join(self.folder, "lock")))

    def argv(self):
        return [venv("bin", "python"), "-B", self.start_path]

    def wait_ready(self, timeout=40.0):
        wait_until(lambda: self.check_running() or "ready" in self.log_text(), timeout, self.log_tail)


class Bench:
    def __init__(self, tmp):
        self.tmp = tmp
        self.things = []
        self.redis = self.keep(RedisServer(tmp, port=6379))
        self.broker = self.keep(Mosquitto(tmp, port=1883))
        # It writes down each change, so that the subscriber's session outlives it; far too slow else.
        self.mortal = self.keep(Mosquitto(tmp, port=1883, persistence=True, extra=[
            "autosave_on_changes true", "autosave_interval 1"]))
        self.redis.start()
        self.broker.start()
        self.client = self.redis.client(db=1)
        os.mkdir(os.path.join(tmp, "nemo_mqtt_bridge.lock"))

    def keep(self, thing):
        self.things.append(thing)
        return thing

    def close(self):
        for thing in reversed(self.things):
            thing.close()

    def old_site(self):
        site = self.keep(NemoSite(self.tmp, plugins=(BRIDGE,), env={"TMPDIR": self.tmp}))
        site.shell("""
from NEMO_mqtt_bridge.models import MQTTConfiguration
MQTTConfiguration.objects.create(name="Default", enabled=True, broker_host="127.0.0.1", broker_port=1883,
                                 reconnect_delay=1)
""")
        return site

    def gateway(self):
        return self.keep(Gateway(self.tmp, gateway_config(
            self.redis, self.broker, slots=2, log={"level": "warning"},
            legacy_lists=[{"list": LIST, "db": 1, "stream": "nemo:{lab}:events"}])))

    def push(self, numbers):
        rows = [json.dumps({"topic": "nemo/tools/1/enabled", "payload": json.dumps(
            {"event": "tool_enabled", "tool_id": 1, "tool_name": "E-Beam \u00e9vaporateur", "usage_id": n,
             "user_name": "Ren\u00e9 M\u00fcller (rm\u00fcller)",
             "start_time": "2026-11-22T04:34:54.989846+00:00"}),
            "qos": 1, "retain": False, "timestamp": 1795322094.99776}) for n in numbers]
        for start in range(0, len(rows), 1000):
            self.client.lpush(LIST, *rows[start:start + 1000])

    def subscriber(self):
        return self.keep(Subscriber(self.tmp, 1883, topics="nemo/tools/#", persistent=True)).start()


def numbers(subscriber):
    return [json.loads(m.payload)["usage_id"] for m in subscriber.messages]


def settle(subscriber, count, patience):
    """Until count events have come, or none any more for patience seconds."""
    known, since = -1, time.monotonic()
    while len(subscriber.messages) < count and time.monotonic() - since < patience:
        if len(subscriber.messages) != known:
            known, since = len(subscriber.messages), time.monotonic()
        time.sleep(0.02)


def order(bench, bridge):
    subscriber = bench.subscriber()
    bench.push(range(20))
    launch(bridge)
    settle(subscriber, 20, 15)
    bridge.terminate()
    got = numbers(subscriber)
    subscriber.close()
    words = {tuple(range(20)): "as it happened", tuple(range(19, -1, -1)): "reversed: the oldest last"}
    return words.get(tuple(got), f"mixed: {got}")


def launch(bridge):
    if isinstance(bridge, Gateway):
        bridge.launch()  # its log level keeps the word "ready" back
    else:
        bridge.start(60)


def loss(bench, bridge):
    bench.broker.terminate()
    bench.mortal.start()
    subscriber = bench.subscriber()
    launch(bridge)
    bench.push([1000])
    settle(subscriber, 1, 30)
    assert numbers(subscriber) == [1000]
    bench.mortal.pause()
    for n in range(300):
        bench.push([n])
    time.sleep(3)
    bench.mortal.kill()
    time.sleep(1)
    bench.mortal.start()
    wait_until(lambda: subscriber.log_text().count("subscribed") > 1, 20)
    settle(subscriber, 301, 45)
    bench.push([2000])
    settle(subscriber, len(subscriber.messages) + 1, 15)
    bridge.terminate(20)
    got = set(numbers(subscriber))
    subscriber.close()
    bench.mortal.terminate()
    bench.broker.start()
    assert 2000 in got, "the bridge does not work any more"
    return f"{300 - len(got & set(range(300)))} of 300"


class Pushes:
    """An LPUSH every 2 ms, as the plugin's but into a list that nobody empties."""

    def __init__(self, bench):
        self.client = bench.redis.client(db=1)
        self.took, self.done = [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.done:
            begun = time.perf_counter()
            self.client.lpush("pushes", "x")
            self.took.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.002)

    def end(self):
        self.done = True
        self.thread.join()
        self.client.delete("pushes")
        took = sorted(self.took)
        return f"{took[len(took) // 2]:.1f} ms, 99 %: {took[len(took) * 99 // 100]:.1f} ms"


def backlog(bench, bridge):
    subscriber = bench.subscriber()
    bench.push(range(COUNT))
    launch(bridge)
    wait_until(lambda: subscriber.messages, 30, interval=0.001)
    pushes = Pushes(bench)
    cpu = bridge.cpu_seconds()
    already = len(subscriber.messages)
    settle(subscriber, COUNT, 20)
    push = pushes.end()
    bridge.check_running()
    cpu = bridge.cpu_seconds() - cpu
    memory = bridge.peak_rss_kb()
    bridge.terminate()
    found = subscriber.messages
    assert len(set(numbers(subscriber))) == COUNT, f"{len(found)} of {COUNT}"
    seconds = found[-1].time - found[0].time
    subscriber.close()
    return {"rate": f"{COUNT / seconds:,.0f}/s", "push": push,
            "cpu": f"{cpu / (COUNT - already) * 1e6:.0f} us",
            "memory": f"{memory / 1024:.0f} MB"}


def request(bench, site):
    made = site.populate(["Tool A", "Tool B"])
    site.start()
    browser = site.browser()
    browser.enable(made["tools"][0], made["users"]["captain"], made["project"])
    bench.redis.kill()
    browser.enable(made["tools"][1], made["users"]["captain"], made["project"])
    slow = browser.seconds
    bench.redis.start()
    site.close()
    return f"{slow:.1f} s" if slow >= 1 else f"{slow * 1000:.0f} ms"


def measured(bench, bridge, site):
    print(f"measuring {bridge.name} ...", file=sys.stderr, flush=True)
    bench.client.flushall()
    found = {"order": order(bench, bridge), "loss": loss(bench, bridge)}
    bench.client.flushall()
    found.update(backlog(bench, bridge))
    found["request"] = request(bench, site)
    bench.client.flushall()
    return found


ROWS = (("order", "order of what waited through an outage"),
        ("loss", "lost when the broker stands still and dies"),
        ("request", "\"enable tool\" in NEMO while Redis is down"),
        ("rate", f"a backlog of {COUNT:,} events"),
        ("push", "an `LPUSH` of the plugin meanwhile"),
        ("cpu", "processor time per event"),
        ("memory", "memory, at most"))


def main():
    if os.environ.get("NEMOGATE_NEMO_PRIVATE") != "yes":
        sys.exit("run tests/nemo/run.sh --compare: the older plugin needs namespaces of its own")
    tmp = tempfile.mkdtemp(prefix="compare-")
    bench = Bench(tmp)
    try:
        site = bench.old_site()
        old = measured(bench, bench.keep(PythonBridge(tmp, site)), site)
        new = measured(bench, bench.gateway(), bench.keep(NemoSite(
            tmp, bench.redis.url, plugins=(STREAMS,))))
    finally:
        bench.close()
    shutil.rmtree(tmp, ignore_errors=True)
    print("| | Python bridge | nemogate |\n| --- | --- | --- |")
    for key, title in ROWS:
        print(f"| {title} | {old[key]} | {new[key]} |")


main()
