"""Everything that runs during a part of the chaos run: Redis, a broker, the fault proxy, the
instances of nemogate, the producers and the judge. Faults (faults.py) reach for its parts.

Two kinds. In `recording` the broker is the test's own: it writes down each message before it
acknowledges it, so it may die at any moment and still knows what it had accepted. In `mosquitto` the
judge is a subscriber with a persistent session; that broker is stopped in an orderly way only, since
what it loses when it is killed would not be ours.
"""

import os
import re
import subprocess
import tempfile
import threading
import time

import redis as redis_py
from harness import (Gateway, Mosquitto, RecordingBroker, RedisServer, Subscriber, gateway_config,
                     to_yaml, wait_until)

from fault_proxy import FaultProxy, lasting_port
from judge import Judge
from load import Load

LEASE_TTL = 2.0
PUBACK_TIMEOUT = 2.0
DRAIN_TIMEOUT = 3.0
SLOTS, CONNECTIONS, INFLIGHT = 5, 2, 100
WINDOW = CONNECTIONS * INFLIGHT     # of a slot: what may be published and not acknowledged
CREDITS = max(512, 3 * WINDOW)      # of a slot: what may be read and not yet acknowledged to Redis
GROUP = "nemogate"
PLAIN = [f"nemo:{{lab-{i}}}:events" for i in range(1, 6)]
STRICT = [f"nemo:{{strict-{i}}}:events" for i in range(1, 4)]
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


def clock_env(path):
    """Environment of a process whose CLOCK_REALTIME is off by what stands in the file; its other
    clocks are left alone."""
    return {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": path, "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def why_no_clock(binary):
    """Why the clock of this program cannot be stepped; empty: its log shows that it can."""
    if not os.path.exists(FAKETIME):
        return "libfaketime (Debian package faketime) is not installed"
    with tempfile.TemporaryDirectory() as folder:
        clock, config = os.path.join(folder, "clock"), os.path.join(folder, "config")
        with open(clock, "w") as f:
            f.write("+864000000\n")
        with open(config, "w") as f:
            f.write(to_yaml(gateway_config("redis://127.0.0.1:1/0", "mqtt://127.0.0.1:1")) + "\n")
        with subprocess.Popen([binary, "run", "--config", config], text=True,
                              stderr=subprocess.PIPE, env={**os.environ, **clock_env(clock)}) as run:
            line = run.stderr.readline()
            run.kill()
    year = int((re.search(r"ts=(\d{4})", line) or [0, 0])[1])
    return "" if year > time.gmtime().tm_year + 20 else f"libfaketime has no effect: {line.strip()}"


class Instance(Gateway):
    """A gateway that notices when it ends although nobody has ended it."""

    def __init__(self, tmp, number, config, clock):
        self.number = number
        self.label = f"gw-{number}"
        self.wanted = False           # it should be running
        self.exits = []               # codes of the ends that were asked for by SIGTERM
        self.rss = []                 # [(seconds since the arena's start, kB)]
        super().__init__(tmp, config)
        self.clock_path = os.path.join(self.folder, "clock")
        if clock:
            self.step_clock(0)
            self.env.update(clock_env(self.clock_path))

    def step_clock(self, seconds):
        with open(self.clock_path + ".new", "w") as f:
            f.write(f"{seconds:+d}\n")
        os.replace(self.clock_path + ".new", self.clock_path)

    def begin(self):
        if not self.running:
            self.launch()
        self.wanted = True

    def crash(self):
        self.wanted = False
        self.kill()

    def leave(self):
        """SIGTERM, without waiting."""
        self.wanted = False
        if self.running:
            self.resume()
            self.signal(15)

    def left(self, timeout):
        """Waits for the end after leave(); notes the exit code, None when it had to be killed."""
        if self.process is None:
            return
        try:
            self.exits.append(self.wait(timeout))
        except TimeoutError:
            self.exits.append(None)


class Arena:
    """options: instances, strict (the route key strict_order exists), clock, rate, seed."""

    def __init__(self, kind, folder, options):
        self.kind = kind
        self.folder = folder
        self.options = options
        self.failures = []            # texts, of what is wrong at once
        self.refusing = {}            # (stream, key) -> reason code, for the time being
        self.destroyed_groups = 0
        self.begun = time.monotonic()
        self._parts = []
        self._stop = threading.Event()
        self._streams = PLAIN + STRICT

    def __enter__(self):
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    # ---- opening and closing

    def _keep(self, part):
        self._parts.append(part)
        return part

    def _open(self):
        os.makedirs(self.folder)
        self.redis = self._keep(RedisServer(self.folder, appendonly=True, port=lasting_port(),
                                            args=["--auto-aof-rewrite-min-size", "16mb"]))
        self.redis.start()
        if self.kind == "recording":
            self.broker = self._keep(RecordingBroker(
                lasting_port(), receive_maximum=INFLIGHT)).start()
            self.broker.answer = self._answer
        else:
            self.broker = self._keep(Mosquitto(
                self.folder, port=lasting_port(), max_inflight=INFLIGHT, persistence=True, nodelay=True,
                extra=["autosave_on_changes true", "autosave_interval 100000"])).start()
        targets = {}
        for i in range(1, self.options.instances + 1):
            targets[f"redis-{i}"] = self.redis.port
            targets[f"broker-{i}"] = self.broker.port
        self.proxy = self._keep(FaultProxy(self.folder, targets)).start()
        self.load = Load(self.redis, self._streams, rate=self.options.rate, group=GROUP,
                         seed=self.options.seed)
        self.judge = Judge(self.load, resends=self.kind == "mosquitto")
        if self.kind == "recording":
            self.judge.follow(self.broker)
        else:
            self.subscriber = self._keep(Subscriber(
                self.folder, self.broker.port, topics=("nemo/#",), client_id="judge",
                persistent=True)).start()
            self.judge.follow(self.subscriber)
        self.control = redis_py.Redis(unix_socket_path=self.redis.socket, decode_responses=True,
                                      socket_timeout=1.0)
        self.instances = [self._keep(Instance(self.folder, i, self._config(i), self.options.clock))
                          for i in range(1, self.options.instances + 1)]
        self.load.start()
        for instance in self.instances:
            instance.begin()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def _config(self, number):
        changes = {"connections": CONNECTIONS, "inflight": INFLIGHT,
                   "puback_timeout": f"{PUBACK_TIMEOUT:.0f}s", "connect_timeout": "1s",
                   "keepalive": "5s"}
        config = gateway_config(
            f"redis://127.0.0.1:{self.proxy.ports[f'redis-{number}']}/0",
            f"mqtt://127.0.0.1:{self.proxy.ports[f'broker-{number}']}",
            broker_changes=changes, instance=f"gw-{number}", shards=2, slots=SLOTS,
            delivery={"lease_ttl": f"{LEASE_TTL:.0f}s", "drain_timeout": f"{DRAIN_TIMEOUT:.0f}s"})
        if self.options.strict:
            config["routes"].insert(0, {"streams": "nemo:*strict-*:events", "broker": "main",
                                        "strict_order": True})
        return config

    def close(self):
        self._stop.set()
        for instance in getattr(self, "instances", ()):
            instance.wanted = False
        for part in reversed(self._parts):
            try:
                part.close()
            except Exception as error:
                self.failures.append(f"{type(part).__name__}: {error}")
        self._parts = []

    # ---- what happens beside the faults

    def _answer(self, message):
        """The recording broker's reason code for a message. On the broker's thread."""
        payload = message.payload
        at = payload.find(b'"refuse":')
        if at >= 0:
            return int(payload[at + 9:payload.index(b",", at)])
        if self.refusing:
            for (stream, key), code in list(self.refusing.items()):
                if message.topic == self.load.topic(stream, key):
                    return code
        return 0

    def _watch(self):
        while not self._stop.wait(0.5):
            for instance in self.instances:
                try:
                    if instance.wanted and not instance.running:
                        instance.wanted = False
                        self.failures.append(f"{instance.label} ended by itself with "
                                             f"{instance.process.returncode}: {instance.log_path}")
                    elif instance.running:
                        instance.rss.append((self.now(), instance.rss_kb()))
                except (OSError, KeyError):
                    pass  # it ended in between

    def now(self):
        return time.monotonic() - self.begun

    def paths(self, kind, numbers=None):
        """Names of the proxy's paths: kind is "redis" or "broker"."""
        return [f"{kind}-{i.number}" for i in self.instances
                if numbers is None or i.number in numbers]

    # ---- who owns what

    def owners(self):
        """[number of the instance that holds the slot, or None] per slot; raises when Redis is
        away."""
        owners = []
        for slot in range(SLOTS):
            holder = self.control.hget(f"nemogate:{{{GROUP}}}:lease:{slot}", "holder") or ""
            name = holder.split("/")[0]
            owners.append(int(name[3:]) if name.startswith("gw-") else None)
        return owners

    def instance_of(self, target):
        """target: {"slot": n}: the owner of this slot now; {"instance": n}: that one."""
        if "slot" in target:
            try:
                number = self.owners()[target["slot"]]
                if number is not None:
                    return self.instances[number - 1]
            except redis_py.exceptions.RedisError:
                pass
        return self.instances[target.get("instance", 1) - 1]

    def slots_of(self, instances):
        """How many slots these instances hold; all of them when nobody can tell."""
        numbers = {i.number for i in instances}
        try:
            return sum(1 for owner in self.owners() if owner in numbers)
        except redis_py.exceptions.RedisError:
            return SLOTS

    # ---- the end

    def repair(self):
        """Undoes whatever faults may have left."""
        self.proxy.heal([])
        self.redis.resume()
        if not self.redis.running:
            self.redis.start()
        self.refusing.clear()
        if self.kind == "recording":
            self.broker.refuse_connect(None)
            self.broker.ack_delay = 0.0
            self.broker.release_acks()
            self.broker.unstall()
            self.broker.start()
        else:
            self.broker.resume()
            if not self.broker.running:
                self.broker.start()
        for instance in self.instances:
            instance.resume()
            instance.begin()

    def backlog(self):
        """(pending, lag) over all streams."""
        pending = lag = 0
        for stream in self._streams:
            info = self.control.xinfo_stream(stream)
            groups = [g for g in self.control.xinfo_groups(stream) if g["name"] == GROUP]
            if not groups:
                return None, None
            pending += groups[0]["pending"]
            if groups[0]["last-delivered-id"] != info["last-generated-id"]:
                lag += max(1, groups[0]["lag"] or 0)
        return pending, lag

    def wait_drained(self, timeout):
        """Until all that was written has come and Redis has nothing pending; False: not in time."""
        def drained():
            if self.judge.error:
                raise self.judge.error
            try:
                return not self.judge.lost() and self.backlog() == (0, 0)
            except redis_py.exceptions.RedisError:
                return False
        try:
            return wait_until(drained, timeout, "everything to arrive", interval=0.1)
        except TimeoutError:
            return False

    def retained(self):
        """{topic: payload} as the broker has them now."""
        if self.kind == "recording":
            return {t: p for t, p in self.broker.retained.items() if t.startswith("nemo/")}
        topics = sorted(self.load.topic(s, k) for s in self._streams
                        for k in self.load.retained_keys)
        with Subscriber(self.folder, self.broker.port, topics=topics) as fresh:
            fresh.start()
            try:
                wait_until(lambda: len(fresh.messages) >= len(topics), 10, "retained messages")
            except TimeoutError:
                pass  # the comparison says which are missing
            return {m.topic: m.payload for m in fresh.messages if m.retain}

    def dead_letters(self):
        """[(stream, id of the event, reason)] in the dead-letter streams."""
        found = []
        for stream in self._streams:
            dead = stream.replace(":events", ":dead")
            found += [(stream, fields.get("id", "?"), fields.get("dead_reason", "?"))
                      for _, fields in self.control.xrange(dead)]
        return found
