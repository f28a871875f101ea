#!/usr/bin/python3
"""Seeded faults against several instances of nemogate, Redis and a broker, and a judge.

    tests/chaos/run.py --minutes 3 --seed 7 --binary build/release/nemogate

Half of the time the broker is one of the test's own that writes everything down, half of the time it
is Mosquitto with a subscriber. Numbered events go in at a steady rate and in bursts, faults come one
after the other and in pairs (schedule.py, faults.py), and at the end nothing may be missing, out of
order, or left over (judge.py, runner.py). Closes with "N passed, N failed" (checks); on failure the
folder with all logs stays, and the same seed gives the same schedule.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "integration")]
os.environ["PATH"] += ":/usr/sbin"  # mosquitto lies there, and a user's PATH leaves it out

from arena import Arena, why_no_clock  # noqa: E402
from faults import FAULTS, unavailable  # noqa: E402
from report import as_json, markdown  # noqa: E402
from runner import Runner  # noqa: E402
from schedule import steps  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description="faults against nemogate, and a judge")
    parser.add_argument("--seed", type=int, help="of the schedule; drawn and printed if missing")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--faults", default="all", help="names with commas; -name leaves one out")
    parser.add_argument("--list", action="store_true", help="prints the faults")
    parser.add_argument("--instances", type=int, choices=(2, 3), default=3)
    parser.add_argument("--broker", choices=("mosquitto", "recording", "both"), default="both")
    parser.add_argument("--binary", default=os.environ.get("NEMOGATE_BINARY"))
    parser.add_argument("--rate", type=int, default=400, help="events per second")
    parser.add_argument("--keep", action="store_true", help="keeps the folder also on success")
    parser.add_argument("--json", metavar="FILE", help="writes all figures there")
    return parser, parser.parse_args()


def choose(parser, text):
    words = [w for w in text.split(",") if w]
    for word in words:
        if word != "all" and word.lstrip("-") not in FAULTS:
            parser.error(f"no fault is called {word!r}; --list prints them")
    left_out = {w[1:] for w in words if w.startswith("-")}
    named = [w for w in words if not w.startswith("-")]
    if not named or "all" in named:
        named = list(FAULTS)
    return [n for n in named if n not in left_out]


def examine(options):
    """What this binary can: strict_order, a clock to step, and whether a sanitizer is built in."""
    doc = subprocess.run([options.binary, "config-doc"], text=True, capture_output=True, check=True)
    options.strict = "routes[].strict_order" in doc.stdout
    with open(options.binary, "rb") as f:
        image = f.read()
    options.sanitized = b"__asan_init" in image or b"__tsan_init" in image
    options.no_clock = ("libfaketime and a sanitizer do not go together" if options.sanitized
                        else why_no_clock(options.binary))


def names_for(kind, chosen, options):
    """The faults of an arena; says which were asked for and are left out, and why."""
    names, left_out = [], {}
    for name in chosen:
        reason = "" if kind in FAULTS[name].arenas else "not for this broker"
        reason = reason or unavailable(FAULTS[name], options)
        if reason:
            left_out.setdefault(reason, []).append(name)
        else:
            names.append(name)
    for reason, without in left_out.items():
        print(f"{kind}: without {', '.join(without)}: {reason}")
    return names


def go(kind, folder, names, seconds, options):
    """A Runner that has finished; what stopped it early is one of its failed checks."""
    options.clock = any(FAULTS[n].needs == "clock" for n in names)
    with Arena(kind, os.path.join(folder, kind), options) as arena:
        runner = Runner(arena, lambda line: print(line, flush=True))
        try:
            runner.run(steps(options.seed, kind, names), seconds)
            runner.finish()
        except Exception:
            traceback.print_exc()
            runner.checks.append((f"{kind}: the run came to its end", traceback.format_exc(limit=-1)))
        runner.write_schedule()
    return runner


def main():
    parser, options = arguments()
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name:20} {fault.about}" + ("" if len(fault.arenas) == 2 else
                                                      f" ({fault.arenas[0]} broker only)"))
        return 0
    if not options.binary:
        parser.error("--binary PATH, or NEMOGATE_BINARY, says which nemogate to test")
    options.binary = os.path.abspath(options.binary)
    os.environ["NEMOGATE_BINARY"] = options.binary
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    chosen = choose(parser, options.faults)
    examine(options)
    folder = tempfile.mkdtemp(prefix="nemogate-chaos-")
    print(f"seed {options.seed}, {options.minutes} minutes, {options.instances} instances, "
          f"{options.binary}, logs in {folder}", flush=True)
    kinds = ["recording", "mosquitto"] if options.broker == "both" else [options.broker]
    plans = [(kind, names_for(kind, chosen, options)) for kind in kinds]
    plans = [(kind, names) for kind, names in plans if names]
    if not plans:
        parser.error("none of these faults can be applied here")
    runners = [go(kind, folder, names, options.minutes * 60 / len(plans), options)
               for kind, names in plans]
    print("\n" + markdown(runners) + "\n")
    if options.json:
        with open(options.json, "w") as out:
            json.dump(as_json(options.seed, runners), out, indent=1)
    return conclude(runners, folder, options)


def conclude(runners, folder, options):
    checks = [check for runner in runners for check in runner.checks]
    failed = [check for check in checks if check[1]]
    for name, failure in checks:
        print(f"failed: {name}: {failure}" if failure else f"passed: {name}")
    if failed:
        print(f"\nthe schedule of seed {options.seed}:")
        for runner in runners:
            with open(os.path.join(runner.arena.folder, "schedule")) as schedule:
                print(schedule.read(), end="")
        print(f"all logs, and every finding: {folder}")
    elif options.keep:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    print(f"{len(checks) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
