"""Goes through the steps of a schedule in an arena, and measures: when each fault began and ended,
how long until a canary on every stream had arrived, and how many duplicates came until the next
step. At the end it undoes everything, waits until all has drained, and runs the checks."""

import collections
import os
import re
import time
from dataclasses import dataclass, field

from arena import CREDITS, DRAIN_TIMEOUT, LEASE_TTL, SLOTS
from faults import FAULTS

TAKEOVER_LIMIT = LEASE_TTL + 10.0
RECOVERY_LIMIT = 60.0
DRAIN_LIMIT = 90.0
RSS_FACTOR, RSS_SLACK_KB = 1.5, 8192
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|"
                       r"Assertion .* failed")


@dataclass
class Done:
    """A step that has been carried out."""

    step: object
    began: float                  # seconds since the arena's start
    times: list = field(default_factory=list)   # texts
    found: list = field(default_factory=list)   # per fault: its parameters, and what it noted
    takeover: float = None
    recovery: float = None
    recovered: bool = False
    duplicates: int = 0
    bound: int = 0


class Runner:
    def __init__(self, arena, say):
        self.arena = arena
        self.say = say
        self.done = []
        self.checks = []   # (name, failure text or "")
        self.stuck = False

    # ---- steps

    def warm_up(self):
        """All instances up, and a canary of every stream has arrived."""
        canaries = self.arena.load.canaries()
        if self.arena.judge.wait(canaries, RECOVERY_LIMIT) is None:
            raise RuntimeError(f"nothing arrives before the first fault; logs: {self.arena.folder}")
        time.sleep(1.0)

    def run(self, schedule, until):
        """Steps until the arena's time `until` (seconds) is reached."""
        self.warm_up()
        before = self.arena.judge.duplicates
        for step in schedule:
            if self.arena.now() >= until or self.stuck:
                return
            done = self._step(step)
            after = self.arena.judge.duplicates
            done.duplicates, before = after - before, after
            self.done.append(done)
            self.say(self._line(done))

    def _step(self, step):
        arena = self.arena
        done = Done(step, arena.now())
        actions = []  # (time, order, "apply" or "undo", planned, parameters)
        for i, planned in enumerate(step.planned):
            p = {**planned.parameters, "hold": planned.hold, "slots_hit": SLOTS}
            done.found.append(p)
            actions.append((planned.offset, 2 * i, "apply", planned, p))
            actions.append((planned.offset + planned.hold, 2 * i + 1, "undo", planned, p))
        self._make_weather(step.weather)
        begun, canaries = time.monotonic(), None
        for when, _order, what, planned, p in sorted(actions, key=lambda a: a[:2]):
            time.sleep(max(0.0, begun + when - time.monotonic()))
            fault = FAULTS[planned.fault]
            if what == "undo" and canaries is not None:
                done.takeover = self._took_over(fault, canaries)
            done.times.append(f"{arena.now():.2f} {what} {planned.fault}")
            at = time.monotonic()
            getattr(fault, what)(arena, p)
            if what == "apply" and fault.takeover and not step.paired:
                canaries = arena.load.canaries(at)
        self._recover(done)
        if canaries is not None and done.takeover is None:
            when = arena.judge.arrived(canaries)
            done.takeover = None if when is None else when - canaries.since
        done.bound = self._bound(step, done)
        time.sleep(step.pause)
        return done

    def _make_weather(self, weather):
        """The burst is on its way, and not yet over, when the fault comes."""
        arena = self.arena
        for kind in ("redis", "broker"):
            arena.proxy.distance(arena.paths(kind), weather[kind] / 1000)
        arena.load.burst(weather["burst"])
        time.sleep(0.1)

    def _took_over(self, fault, canaries):
        """A process that was stopped comes back when its time is over; one that has ended waits
        until the others have taken over."""
        limit = TAKEOVER_LIMIT if fault.group == "gateway" and fault.name != "gw-stop" else 0.0
        when = self.arena.judge.wait(canaries, limit)
        return None if when is None else when - canaries.since

    def _recover(self, done):
        canaries = self.arena.load.canaries()
        when = self.arena.judge.wait(canaries, RECOVERY_LIMIT)
        self.arena.judge.forget_canaries_before(canaries)
        if when is None:
            self.stuck = True
            done.recovery = time.monotonic() - canaries.since
            return
        done.recovered = True
        done.recovery = max(0.0, when - canaries.since)

    def _bound(self, step, done):
        bounds = [FAULTS[planned.fault].bound(self.arena, p)
                  for planned, p in zip(step.planned, done.found)]
        if step.paired:  # one fault may prolong or disturb the way out of the other
            return sum(max(bound, CREDITS * SLOTS) for bound in bounds)
        return bounds[0]

    def _line(self, done):
        parts = [f"{self.arena.kind} {done.began:7.1f} s  {done.step}"]
        for p in done.found:
            if "hit" in p:
                parts.append(f"hit {p['hit']} with {p['slots_hit']} slots")
        if done.takeover is not None:
            parts.append(f"taken over in {done.takeover:.2f} s")
        parts.append(f"recovered in {done.recovery:.2f} s" if done.recovered
                     else f"NOT RECOVERED in {done.recovery:.0f} s")
        parts.append(f"{done.duplicates} duplicates (at most {done.bound})")
        return "; ".join(parts)

    # ---- the end

    def finish(self):
        arena = self.arena
        arena.repair()
        arena.load.stop()
        drained = arena.wait_drained(DRAIN_LIMIT)
        arena.judge.stop()
        lost = arena.judge.lost()
        pending, lag = arena.backlog()
        retained = arena.retained()
        for instance in arena.instances:
            instance.leave()
        for instance in arena.instances:
            instance.left(DRAIN_TIMEOUT + 15)
        self._check_messages(drained, lost, pending, lag)
        self._check_retained(retained)
        self._check_dead_letters()
        self._check_steps()
        self._check_instances()
        if arena.kind == "recording":
            self._check("the broker saw no violation of MQTT", "; ".join(arena.broker.violations[:5]))
        self._write_findings(lost)

    def _check(self, name, failure):
        self.checks.append((f"{self.arena.kind}: {name}", failure))

    def _check_messages(self, drained, lost, pending, lag):
        judge = self.arena.judge
        never = judge.never_written()
        self._check("everything drained", "" if drained else f"not within {DRAIN_LIMIT:.0f} s: "
                    f"{len(lost)} missing, {pending} pending, lag {lag}")
        self._check("nothing lost", f"{len(lost)} lost: {lost[:5]}" if lost else "")
        for kind, count in judge.problem_counts.items():
            examples = [text for text in judge.problems if f" {kind}: " in text][:3]
            self._check({"out of order": "order kept per key",
                         "skipped": "what is sent again is a whole suffix of its key",
                         "strange": "every message is one that was written"}[kind],
                        f"{count}: {examples}" if count else "")
        self._check("nothing came that was never written", f"{never[:5]}" if never else "")
        self._check("nothing pending", f"{pending} pending" if pending != 0 else "")
        self._check("no lag", f"lag {lag}" if lag != 0 else "")

    def _check_retained(self, retained):
        arena, wrong = self.arena, []
        load, judge = arena.load, arena.judge
        for stream in load.streams:
            for key in sorted(load.retained_keys):
                n = load.sent[stream, key]
                while n and (stream, key, n) in load.marked:
                    n -= 1
                payload = retained.get(load.topic(stream, key), b"")
                if n and f'"n":{n},'.encode() not in payload:
                    wrong.append(f"{load.topic(stream, key)}: {payload!r}, newest is {n}")
                track = judge.tracks.get((stream, key))
                if n and track and track.last != n:
                    wrong.append(f"{load.topic(stream, key)}: the last message was {track.last}, "
                                 f"newest is {n}")
        self._check("each retained topic holds its newest value", "; ".join(wrong[:5]))

    def _check_dead_letters(self):
        arena = self.arena
        wanted = collections.Counter((s, f"{s}/{k}/{n}") for s, k, n in arena.load.marked)
        found = collections.Counter((s, i) for s, i, _reason in arena.dead_letters())
        missing, extra = list(wanted.keys() - found.keys()), list(found.keys() - wanted.keys())
        twice = [i for i, count in found.items() if count > 1 and not arena.destroyed_groups]
        text = "; ".join(f"{name}: {len(items)}, {items[:3]}" for name, items in
                         (("missing", missing), ("too many", extra), ("twice", twice)) if items)
        self._check(f"dead letters are exactly the {len(wanted)} that were refused for good", text)

    def _check_steps(self):
        over = [d for d in self.done if d.duplicates > d.bound]
        self._check("duplicates of each fault within its bound", "; ".join(
            f"step {d.step.number} ({d.step.name}): {d.duplicates} of {d.bound}" for d in over[:10]))
        stuck = [d.step.number for d in self.done if not d.recovered]
        self._check("recovered after each fault", f"step {stuck}: not within "
                    f"{RECOVERY_LIMIT:.0f} s" if stuck else "")
        late = [d for d in self.done if d.takeover is not None and d.takeover > TAKEOVER_LIMIT]
        self._check(f"taken over within lease ttl + {TAKEOVER_LIMIT - LEASE_TTL:.0f} s", "; ".join(
            f"step {d.step.number} ({d.step.name}): {d.takeover:.1f} s" for d in late))

    def _check_instances(self):
        arena = self.arena
        self._check("instances ended only when told to", "; ".join(arena.failures))
        codes = {i.label: sorted({str(c) for c in i.exits}) for i in arena.instances}
        wrong = {label: c for label, c in codes.items() if c != ["0"]}
        self._check("SIGTERM ends with exit code 0", f"{wrong}" if wrong else "")
        reports = [f"{i.log_path}: {line.strip()}" for i in arena.instances
                   for line in open(i.log_path, errors="replace") if SANITIZER.search(line)]
        self._check("no report of a sanitizer, no assertion", "; ".join(reports[:3]))
        if arena.options.sanitized:
            return
        wrong = []
        for name, first, last in self.memory():
            if last > RSS_FACTOR * first and last > first + RSS_SLACK_KB:
                wrong.append(f"{name}: {first} kB, then {last} kB")
        self._check("memory flat", "; ".join(wrong))

    def memory(self):
        """[(instance, most kB in the first third, most kB in the last third)]"""
        rows = []
        end = max((when for i in self.arena.instances for when, _kb in i.rss), default=0.0)
        for instance in self.arena.instances:
            first = [kb for when, kb in instance.rss if when < end / 3]
            last = [kb for when, kb in instance.rss if when > end * 2 / 3]
            if first and last:
                rows.append((instance.label, max(first), max(last)))
        return rows

    def _write_findings(self, lost):
        with open(os.path.join(self.arena.folder, "findings"), "w") as out:
            for line in (f"lost: {stream} {key} {n}" for stream, key, n in lost):
                out.write(line + "\n")
            for problem in self.arena.judge.problems:
                out.write(problem + "\n")

    def write_schedule(self):
        with open(os.path.join(self.arena.folder, "schedule"), "w") as out:
            for done in self.done:
                out.write(f"{self.arena.kind} {done.step}: {'; '.join(done.times)}\n")
