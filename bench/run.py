#!/usr/bin/python3
"""The speed figures, side by side in one run: the broker's ceiling by a raw client, nemogate draining
a backlog into the same broker, nemogate against a broker that does nothing, and Redis without MQTT.
The cases take turns and the median counts. README.md says what each figure means."""

import argparse
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servers import (Failed, Gateway, Mosquitto, NullBroker, Redis, machine_cpu_seconds,
                     make_certificates, peak_memory_mib, run_program)

ROOT = Path(__file__).resolve().parent.parent
GROUP = "bench"
WARM_UP = 20000
POLL_SECONDS = 0.02
FULL_CORE = 0.9  # from this share of a core on, a process is named as the limit


def progress(text):
    print(text, file=sys.stderr, flush=True)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=500000, help="entries per case")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--payload", type=int, default=220, help="bytes")
    parser.add_argument("--keys", type=int, default=500)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--shards", type=int, default=0, help="0: one per core, at most slots")
    parser.add_argument("--connections", type=int, default=1, help="per slot")
    parser.add_argument("--inflight", type=int, default=1000, help="window per connection")
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--tls", action="store_true", help="Mosquitto also with TLS 1.3")
    parser.add_argument("--latency", action="store_true", help="also XADD to subscriber, paced")
    parser.add_argument("--only", metavar="REGEX", default="", help="only the cases it matches")
    parser.add_argument("--no-gateway", action="store_true", help="only the ceilings")
    parser.add_argument("--timeout", type=int, default=180, help="seconds that one drain may take")
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    if min(arguments.messages, arguments.repeats, arguments.streams, arguments.slots,
           arguments.connections, arguments.inflight, arguments.keys) < 1:
        parser.error("counts must be at least 1")
    if not arguments.no_gateway and not (arguments.build / "nemogate").exists():
        parser.error(f"{arguments.build}/nemogate does not exist (bench/run.sh builds it)")
    return arguments


class Meter:
    """CPU time of the named servers, of this script's children and of everything else, between
    start() and stop()."""

    def __init__(self, **servers):
        self.servers = servers

    def sample(self):
        own = sum(sum(resource.getrusage(who)[:2])
                  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return ({name: server.cpu() for name, server in self.servers.items()}, own,
                machine_cpu_seconds(), time.monotonic())

    def start(self):
        self.before = self.sample()

    def stop(self, messages):
        after = self.sample()
        used = {name: after[0][name] - self.before[0][name] for name in self.servers}
        seconds = after[3] - self.before[3]
        others = after[2] - self.before[2] - sum(used.values()) - (after[1] - self.before[1])
        return {"cpu_us": {name: value * 1e6 / messages for name, value in used.items()},
                "others": max(0.0, others / seconds)}


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.programs = arguments.build / "bench"
        self.redis = Redis(folder)
        self.certificates = make_certificates(folder / "tls") if arguments.tls else None
        self.streams = [f"nemo:{{bench{n + 1}}}:events" for n in range(arguments.streams)]
        self.commands = {}

    def program(self, name, **options):
        """The command line of a program; an option that is False is left out."""
        command = [str(self.programs / name)]
        for option, value in options.items():
            flag = "--" + option.replace("_", "-")
            if value is True:
                command.append(flag)
            elif value is not False and value is not None:
                command += [flag, str(value)]
        return command

    def note(self, case, command):
        text = command if isinstance(command, str) else shlex.join(command)
        self.commands.setdefault(case, text.replace(f"{ROOT}/", ""))

    def ca(self, tls):
        return self.certificates / "ca.crt" if tls else None

    def blast(self, case, broker, strategy, tls=False):
        a = self.arguments
        bulk = strategy == "bulk"
        command = self.program(
            "blaster", port=broker.port, ca=self.ca(tls), messages=a.messages, payload=a.payload,
            keys=a.keys, window=a.inflight, connections=a.connections * a.slots,
            lowat=a.inflight // 2 if bulk else 0, eager=not bulk, v3=a.protocol != "5",
            user_properties=True)
        self.note(case, command)
        meter = Meter(broker=broker)
        meter.start()
        result = run_program(command, a.timeout)
        measured = meter.stop(a.messages)
        measured["cpu_us"]["client"] = result["cpu_us"]
        if result["refused"]:
            raise Failed(f"{case}: the broker refused {result['refused']} publishes")
        return {"rate": result["rate"], "window": result["window"], **measured}

    def case_blaster(self, case, strategy, nodelay, tls):
        with Mosquitto(self.folder, nodelay, self.certificates if tls else None) as broker:
            self.note("Mosquitto, " + setting(nodelay, tls), broker.config)
            return self.blast(case, broker, strategy, tls)

    def case_blaster_null(self, case):
        with NullBroker(self.folder, self.programs, self.arguments.timeout + 60) as broker:
            return self.blast(case, broker, "eager")

    def load(self, messages):
        a = self.arguments
        command = self.program("load", port=self.redis.port, messages=messages, streams=a.streams,
                               keys=a.keys, payload=a.payload)
        self.note("load", command)
        return run_program(command, a.timeout)

    def case_drain(self, case):
        a = self.arguments
        self.redis.flush()
        self.load(a.messages)
        command = self.program("drain", port=self.redis.port, streams=a.streams)
        self.note(case, command)
        meter = Meter(redis=self.redis)
        meter.start()
        result = run_program(command, a.timeout)
        measured = meter.stop(a.messages)
        measured["cpu_us"]["client"] = result["cpu_us"]
        if result["acknowledged"] != a.messages:
            raise Failed(f"drain acknowledged {result['acknowledged']} of {a.messages}")
        return {"rate": result["rate"], **measured}

    def config(self, broker, tls):
        a = self.arguments
        names = ", ".join(f'"{name}"' for name in self.streams)
        scheme, trust = ("mqtts", f"    tls: {{ca_file: {self.ca(True)}}}\n") if tls else ("mqtt", "")
        return (f"instance: bench\nshards: {a.shards}\nslots: {a.slots}\n"
                f"redis:\n  url: redis://127.0.0.1:{self.redis.port}/0\n  group: {GROUP}\n"
                f"  streams: [{names}]\n"
                f"brokers:\n  - name: main\n    url: {scheme}://127.0.0.1:{broker.port}\n{trust}"
                f"    protocol: {a.protocol}\n    connections: {a.connections}\n"
                f"    inflight: {a.inflight}\n    keepalive: 300s\n    status_topic: \"\"\n"
                f"routes:\n  - streams: \"nemo:*:events\"\n    broker: main\n"
                f"    topic_prefix: nemo/\n"
                f"delivery:\n  lease_ttl: 10m\n"
                f"log: {{level: info, format: logfmt}}\n")

    def await_settled(self, gateway, seconds):
        """Waits until nothing is unread or unacknowledged; polls gently, closer towards the end."""
        end = time.monotonic() + seconds
        state = None
        while time.monotonic() < end:
            state = self.redis.unsettled(self.streams, GROUP)
            if state == (0, 0):
                return
            gateway.check()
            near = state is not None and state[0] == 0
            time.sleep(POLL_SECONDS / 10 if near else POLL_SECONDS)
        raise Failed(f"not settled after {seconds} s; lag and pending: {state}; nemogate's log:\n"
                     f"{gateway.tail()}")

    def drain_by_gateway(self, case, broker, tls=False):
        """Starts nemogate, lets it carry a first few entries so that it is connected and warm,
        stops its process while the backlog is written, and measures from the moment it goes on."""
        a = self.arguments
        self.redis.flush()
        config = self.config(broker, tls)
        self.note(case, config)
        with Gateway(self.folder, a.build / "nemogate", config) as gateway:
            self.load(WARM_UP)
            self.await_settled(gateway, 30)
            gateway.pause()
            self.load(a.messages)
            meter = Meter(nemogate=gateway, redis=self.redis, broker=broker)
            meter.start()
            start = time.monotonic()
            gateway.resume()
            self.await_settled(gateway, a.timeout)
            seconds = time.monotonic() - start
            measured = meter.stop(a.messages)
            memory = peak_memory_mib(gateway.pid)
            status = gateway.stop()
            if status != 0:
                raise Failed(f"nemogate ended with status {status} on SIGTERM:\n{gateway.tail()}")
        return {"rate": a.messages / seconds, "memory_mib": memory, **measured}

    def case_gateway(self, case, nodelay, tls):
        with Mosquitto(self.folder, nodelay, self.certificates if tls else None) as broker:
            return self.drain_by_gateway(case, broker, tls)

    def case_gateway_null(self, case):
        with NullBroker(self.folder, self.programs, self.arguments.timeout + 60) as broker:
            result = self.drain_by_gateway(case, broker)
            counts = broker.counts()
        expected = WARM_UP + self.arguments.messages
        if counts["publishes"] < expected or counts["over_window"] or counts["malformed"]:
            raise Failed(f"{case}: of {expected} publishes the null broker saw {counts}")
        return {**result, "duplicates": counts["publishes"] - expected,
                "packet_bytes": counts["bytes"] / counts["publishes"]}

    def case_latency(self, case, rate, direct):
        a = self.arguments
        self.redis.flush()
        with Mosquitto(self.folder, False) as broker:
            command = self.program(
                "latency", mqtt_port=broker.port, redis_port=None if direct else self.redis.port,
                rate=rate, messages=rate * 10, payload=a.payload, keys=a.keys,
                v3=a.protocol != "5")
            self.note(case, command)
            if direct:
                return run_program(command, a.timeout)
            with Gateway(self.folder, a.build / "nemogate", self.config(broker, False)) as gateway:
                self.load(WARM_UP)
                self.await_settled(gateway, 30)
                return run_program(command, a.timeout)


def setting(nodelay, tls):
    return ("TLS 1.3, " if tls else "") + f"set_tcp_nodelay {'true' if nodelay else 'false'}"


def throughput_cases(bench):
    """Name -> function of one measurement, in the order they are run."""
    cases = {}
    for tls in (False, True) if bench.arguments.tls else (False,):
        for nodelay in (False, True):
            where = setting(nodelay, tls)
            for strategy in ("bulk", "eager"):
                name = f"blaster {strategy} -> Mosquitto, {where}"
                cases[name] = lambda n=name, s=strategy, d=nodelay, t=tls: bench.case_blaster(
                    n, s, d, t)
            name = f"nemogate -> Mosquitto, {where}"
            cases[name] = lambda n=name, d=nodelay, t=tls: bench.case_gateway(n, d, t)
    cases["blaster -> null broker"] = lambda: bench.case_blaster_null("blaster -> null broker")
    cases["nemogate -> null broker"] = lambda: bench.case_gateway_null("nemogate -> null broker")
    cases["drain (Redis only)"] = lambda: bench.case_drain("drain (Redis only)")
    return cases


def latency_cases(bench):
    cases = {}
    for rate in (100, 2000):
        for direct in (True, False):
            name = f"{'direct publish' if direct else 'nemogate'}, {rate}/s"
            cases[name] = lambda n=name, r=rate, d=direct: bench.case_latency(n, r, d)
    return cases


def selected(cases, arguments):
    return {name: case for name, case in cases.items()
            if re.search(arguments.only, name)
            and not (arguments.no_gateway and name.startswith("nemogate"))}


def measure(cases, repeats):
    """All runs of all cases, the cases taking turns."""
    runs = {name: [] for name in cases}
    for repeat in range(repeats):
        for name, case in cases.items():
            result = case()
            runs[name].append(result)
            figure = (f"{result['rate']:,.0f} msg/s" if "cpu_us" in result else
                      f"p50 {result['p50_us']:.0f} us, p99 {result['p99_us']:.0f} us")
            progress(f"[{repeat + 1}/{repeats}] {name}: {figure}")
    return runs


def median_of(results):
    """The median of every figure of a case's runs, with the rates' range."""
    summary = {key: statistics.median(r[key] for r in results)
               for key in results[0] if key != "cpu_us"}
    if "cpu_us" in results[0]:
        summary["cpu_us"] = {key: statistics.median(r["cpu_us"][key] for r in results)
                             for key in results[0]["cpu_us"]}
        summary["lowest"] = min(r["rate"] for r in results)
        summary["highest"] = max(r["rate"] for r in results)
    return summary


def limit_of(summary):
    """What ends the rate: a process that fills a core, or all cores together; else the fullest
    process (it waits for something)."""
    shares = {name: value * summary["rate"] / 1e6 for name, value in summary["cpu_us"].items()}
    name, share = max(shares.items(), key=lambda item: item[1])
    total = sum(shares.values()) + summary["others"]
    if share >= FULL_CORE:
        return f"{name} ({share:.0%} of a core)"
    if total >= FULL_CORE * os.cpu_count():
        return f"all cores ({total:.2f} of {os.cpu_count()})"
    return f"none full ({name} {share:.0%}, all {total:.2f} of {os.cpu_count()})"


def ceiling_for(name, summaries):
    """What a figure of nemogate is compared with: the better of the two blasters at the same broker
    setting, Redis alone where the broker costs nothing; None where it was not measured."""
    where = name.partition(" -> ")[2]
    ceiling = "drain" if where == "null broker" else "blaster"
    rates = [summary["rate"] for other, summary in summaries.items()
             if other.startswith(ceiling) and (ceiling == "drain" or other.endswith(" -> " + where))]
    return max(rates) if rates and name.startswith("nemogate") else None


def throughput_table(summaries):
    lines = ["| case | msg/s (range) | of ceiling | nemogate us | Redis us | broker us | client us "
             "| peak MiB | limit | others |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, s in summaries.items():
        ceiling = ceiling_for(name, summaries)
        cpu = {key: f"{value:.2f}" for key, value in s["cpu_us"].items()}
        lines.append("| " + " | ".join([
            name, f"{s['rate']:,.0f} ({s['lowest']:,.0f} to {s['highest']:,.0f})",
            f"{s['rate'] / ceiling:.1%}" if ceiling else "",
            cpu.get("nemogate", ""), cpu.get("redis", ""), cpu.get("broker", ""),
            cpu.get("client", ""), f"{s['memory_mib']:.1f}" if "memory_mib" in s else "",
            limit_of(s), f"{s['others']:.2f}"]) + " |")
    return lines


def latency_table(summaries):
    return ["| XADD to subscriber | p50 us | p99 us | p99.9 us | max us |", "|---|---|---|---|---|"] + [
        f"| {name} | {s['p50_us']:.0f} | {s['p99_us']:.0f} | {s['p999_us']:.0f} | {s['max_us']:.0f} |"
        for name, s in summaries.items()]


def output_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def environment():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    redis = re.search(r"v=(\S+)", output_of(["redis-server", "--version"]))
    mosquitto = re.search(r"version (\S+)", output_of(["mosquitto", "-h"]))
    dirty = output_of(["git", "status", "--porcelain", "--untracked-files=no"])
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "redis": redis.group(1) if redis else "unknown",
            "mosquitto": mosquitto.group(1) if mosquitto else "unknown",
            "wolfssl": output_of(["pkg-config", "--modversion", "wolfssl"]),
            "commit": output_of(["git", "rev-parse", "--short=12", "HEAD"])
                      + (" with changes" if dirty else ""),
            "load_before": os.getloadavg()[0]}


def report(arguments, machine, throughput, latency):
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Redis "
          f"{machine['redis']}, Mosquitto {machine['mosquitto']}, wolfSSL {machine['wolfssl']}, "
          f"commit {machine['commit']}; load average before: {machine['load_before']:.2f}.\n")
    print(f"{arguments.messages:,} messages of {arguments.payload} bytes, QoS 1, MQTT "
          f"{arguments.protocol}, {arguments.keys} topics, {arguments.streams} streams, "
          f"{arguments.slots} slots x {arguments.connections} connections, window "
          f"{arguments.inflight} each, `max_inflight_messages 0`, no subscriber; median of "
          f"{arguments.repeats}. CPU is user and system time per message; others: cores that "
          f"processes outside the measurement used (above 0.1 the figures are doubtful).\n")
    if throughput:
        print("\n".join(throughput_table(throughput)) + "\n")
    if latency:
        print("\n".join(latency_table(latency)) + "\n")


def main():
    arguments = read_arguments()
    machine = environment()
    with tempfile.TemporaryDirectory(prefix="nemogate-bench-") as name:
        bench = Bench(arguments, Path(name))
        with bench.redis:
            runs = measure(selected(throughput_cases(bench), arguments), arguments.repeats)
            paced = measure(selected(latency_cases(bench), arguments),
                            arguments.repeats) if arguments.latency else {}
    if not runs and not paced:
        raise Failed(f"no case matches --only {arguments.only}")
    throughput = {case: median_of(results) for case, results in runs.items()}
    latency = {case: median_of(results) for case, results in paced.items()}
    report(arguments, machine, throughput, latency)
    if arguments.json:
        arguments.json.write_text(json.dumps({
            "machine": machine, "arguments": {key: str(value).replace(f"{ROOT}/", "")
                                              for key, value in vars(arguments).items()},
            "throughput": throughput, "latency": latency, "runs": {**runs, **paced},
            "commands": bench.commands}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"failed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
