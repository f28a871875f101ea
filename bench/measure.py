"""What a case costs: CPU of each process, of everything else on the machine, memory and backlog over
time; and how the runs of a case become one figure. Starts nothing and knows no scenario."""

import os
import resource
import statistics
import threading
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024
SERIES_POINTS = 400  # as many as a plot can show


def cpu_seconds(pid):
    """User and system time of a process and all its threads so far, in nanoseconds where the kernel
    counts them. Threads that have ended are not in it then; nothing that is measured ends one."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if not threads:
        return cpu_ticks(pid) / TICK
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e9


def cpu_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def rss_mib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MIB


def peak_rss_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def wake_ups(pid):
    """Voluntary context switches of all threads so far: each is a wait that something ended."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def machine_cpu_seconds():
    """What all processes of the machine have used so far."""
    user, nice, system, _, _, irq, softirq = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


class Meter:
    """CPU time of the named processes, of this program with its finished children and of everything
    else, from its making to stop()."""

    def __init__(self, **processes):
        self.processes = processes
        self.before = self.sample()

    def join(self, name, process):
        """One more process, that has only just been started."""
        self.processes[name] = process
        self.before[0][name] = 0.0

    def sample(self):
        own = sum(sum(resource.getrusage(who)[:2])
                  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return ({name: process.cpu() for name, process in self.processes.items()}, own,
                machine_cpu_seconds(), time.monotonic())

    def stop(self, messages):
        after = self.sample()
        used = {name: after[0][name] - self.before[0][name] for name in self.processes}
        seconds = after[3] - self.before[3]
        others = after[2] - self.before[2] - sum(used.values()) - (after[1] - self.before[1])
        return {"cpu_us": {name: value * 1e6 / messages for name, value in used.items()},
                "cores": {name: value / seconds for name, value in used.items()},
                "others": max(0.0, others / seconds)}


class MemorySampler:
    """Resident memory of the named processes over time, sampled by a thread of its own."""

    def __init__(self, interval=0.1, **processes):
        self.processes, self.interval = processes, interval
        self.series = {name: [] for name in processes}
        self.start = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.sample()
        while not self.ended.wait(self.interval):
            self.sample()

    def sample(self):
        now = round(time.monotonic() - self.start, 3)
        for name, process in self.processes.items():
            try:
                self.series[name].append((now, round(rss_mib(process.pid), 2)))
            except (OSError, IndexError):  # it has just ended
                pass

    def stop(self):
        """The series by name, with a last point of now."""
        self.ended.set()
        self.thread.join()
        self.sample()
        return {name: thinned(points) for name, points in self.series.items() if points}


def thinned(points):
    """At most SERIES_POINTS of them, the last one always among them."""
    step = -(-len(points) // SERIES_POINTS) if points else 1
    kept = points[::step]
    if points and kept[-1] is not points[-1]:
        kept.append(points[-1])
    return [list(point) for point in kept]


def median_of(values):
    """One value out of those of several runs: the median of numbers, key by key; of anything else
    (series, texts) the last run's."""
    last = values[-1]
    if isinstance(last, dict):
        return {key: median_of([value[key] for value in values if key in value]) for key in last}
    if isinstance(last, bool):
        return all(values)
    if isinstance(last, (int, float)):
        return statistics.median(values)
    return last


def summary_of(runs):
    summary = median_of(runs)
    if "rate" in summary:
        summary["lowest"] = min(run["rate"] for run in runs)
        summary["highest"] = max(run["rate"] for run in runs)
    if "verify" in summary:  # the worst run counts, not the median
        summary["verify"]["ok"] = all(run["verify"]["ok"] for run in runs)
        for key in ("lost", "reordered", "malformed", "duplicates"):
            summary["verify"][key] = max(run["verify"][key] for run in runs)
    return summary


FULL_CORE = 0.9  # from this share of a core on, a process is named as the limit


def limit_of(summary):
    """What ends the rate: a process that fills a core, or all cores together; else the fullest
    process (it waits for something)."""
    shares = summary.get("cores")
    if not shares:
        return ""
    name, share = max(shares.items(), key=lambda item: item[1])
    total = sum(shares.values()) + summary["others"]
    if share >= FULL_CORE:
        return f"{name} ({share:.0%} of a core)"
    if total >= FULL_CORE * os.cpu_count():
        return f"all cores ({total:.2f} of {os.cpu_count()})"
    return f"none full ({name} {share:.0%}, all {total:.2f} of {os.cpu_count()})"
