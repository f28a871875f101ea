#!/usr/bin/python3
"""The benchmark: runs scenarios (scenarios.py), the cases of each in turns with the ceilings that they
are compared with, and writes report.md, results.json and plots. bench/run.sh builds what it needs.
Exit status: 0, 1 when a case failed (a lost or reordered message fails its case), 2 wrong usage,
130 when interrupted; what was measured is written in each case."""

import argparse
import datetime
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

import machine
import measure
import plots
import report
from arena import Arena
from case import LENGTHS
from progress import Progress, clock
from scenarios import SCENARIOS
from servers import Failed, Skipped, stop_all
from targets import judged_targets

ROOT = machine.ROOT
PREFIX = "NEMOGATE_BENCH_"


def setting(name, otherwise=None):
    """What the environment says instead of an option (in a container); empty counts as not set."""
    return os.environ.get(PREFIX + name) or otherwise


def read_arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run.sh", description="nemogate's benchmark", epilog=f"Instead of an option, the "
        f"environment may hold {PREFIX}OUT, {PREFIX}SCENARIO, {PREFIX}LENGTH (quick, medium, long), "
        f"{PREFIX}REPEATS, {PREFIX}MESSAGES, {PREFIX}BUILD.")
    parser.add_argument("--list", action="store_true", help="the scenarios, and how long they take")
    parser.add_argument("--scenario", metavar="NAME[,NAME]", default=setting("SCENARIO"),
                        help="only these, by name or number")
    parser.add_argument("--out", type=Path, default=setting("OUT"),
                        help="folder for the results (build/bench-results/TIME)")
    length = parser.add_mutually_exclusive_group()
    for name, text in (("quick", "everything small: does it work?"),
                       ("medium", "the default"), ("long", "for figures to publish")):
        length.add_argument(f"--{name}", dest="length", action="store_const", const=name, help=text)
    parser.add_argument("--repeats", type=int, default=setting("REPEATS"),
                        help="runs of each case; the median counts")
    parser.add_argument("--messages", type=int, default=setting("MESSAGES"),
                        help="entries of a plain drain; backlogs change in proportion")
    parser.add_argument("--timeout", type=int, default=180, help="seconds that one drain may take")
    parser.add_argument("--build", type=Path, default=setting("BUILD", ROOT / "build/release"),
                        help="folder of a finished build")
    parser.add_argument("--expect-more", type=int, default=0, metavar="N",
                        help="let the verifying subscribers expect N messages too many: shows that "
                             "a loss is reported")
    arguments = parser.parse_args()
    arguments.length = arguments.length or setting("LENGTH", "medium")
    if arguments.length not in LENGTHS:
        parser.error(f"{PREFIX}LENGTH must be one of {', '.join(LENGTHS)}")
    for name in ("repeats", "messages"):
        value = getattr(arguments, name)
        if value is not None and int(value) < 1:
            parser.error(f"--{name} must be at least 1")
    known = {text: scenario for scenario in SCENARIOS
             for text in (scenario.name, str(scenario.number))}
    wanted = arguments.scenario.split(",") if arguments.scenario else []
    for name in wanted:
        if name not in known:
            parser.error(f"no scenario '{name}'; --list shows them")
    arguments.scenarios = [scenario for scenario in SCENARIOS
                           if not wanted or scenario in [known[name] for name in wanted]]
    arguments.length_values = length_of(arguments)
    return arguments


def length_of(arguments):
    length = LENGTHS[arguments.length]
    return length.with_messages(int(arguments.messages)) if arguments.messages else length


def repeats_of(scenario, arguments):
    return int(arguments.repeats) if arguments.repeats else scenario.repeats(arguments.length_values)


def seconds_of(scenario, arguments):
    return repeats_of(scenario, arguments) * sum(
        case.seconds for case in scenario.cases(arguments.length_values))


def show_list(arguments):
    print(f"length {arguments.length}; the times are estimates")
    for scenario in arguments.scenarios:
        print(f"{scenario.number:3} {scenario.name:12} {clock(seconds_of(scenario, arguments)):>6}  "
              f"{len(scenario.cases(arguments.length_values)):2} cases  {scenario.title}")
    total = sum(seconds_of(scenario, arguments) for scenario in arguments.scenarios)
    print(f"all: about {clock(total)} min")


def verdict_of(figures):
    """Why a run that was measured does not count, or None."""
    seen = figures.get("verify")
    if figures.get("steady_ok") is False:
        return "the verifying subscriber is not content with the steady part"
    if seen and not seen["ok"]:
        return (f"the verifying subscriber: lost {seen['lost']}, out of order {seen['reordered']}, "
                f"malformed {seen['malformed']}, {seen['distinct']} of {seen['expected']} arrived")
    return None


class Record:
    """What is kept of a case."""

    def __init__(self, scenario, case):
        self.scenario, self.case = scenario, case
        self.runs, self.status, self.reason, self.notes = [], "not run", None, []

    def end(self, status, reason):
        self.status, self.reason = status, reason

    def as_json(self):
        case = self.case
        return {"scenario": self.scenario.name, "name": case.name, "ceiling": case.ceiling,
                "ceilings": list(case.ceilings), "status": self.status, "reason": self.reason,
                "shape": case.shape.as_json(), "runs": self.runs,
                "median": measure.summary_of(self.runs) if self.runs else None,
                "commands": self.notes}


def run_case(arena, record, progress):
    """One run of a case; a case that failed or was skipped is not run again."""
    progress.begin(f"{record.scenario.name}: {record.case.name}")
    arena.begin()
    try:
        figures = record.case.measure(arena)
        record.runs.append(figures)
        reason = verdict_of(figures)
        record.end("failed" if reason else "ok", reason)
    except Skipped as skipped:
        record.end("skipped", str(skipped))
    except (Failed, OSError, KeyError, ValueError) as failure:
        kind = "" if isinstance(failure, Failed) else f"{type(failure).__name__}: "
        record.end("failed", f"{kind}{failure}")
    except KeyboardInterrupt:
        record.end("interrupted" if not record.runs else record.status, record.reason)
        raise
    finally:
        record.notes = record.notes or arena.notes
    progress.end(report.one_line(record))


def run_scenario(arena, records, repeats, progress):
    for _ in range(repeats):
        for record in records:
            if record.status in ("not run", "ok"):
                run_case(arena, record, progress)
            else:
                progress.pass_by()


def run_all(arguments, everything, progress):
    with tempfile.TemporaryDirectory(prefix="nemogate-bench-") as folder:
        arena = Arena(folder, arguments.build.resolve(), arguments.timeout, arguments.expect_more)
        try:
            for scenario, records in everything:
                run_scenario(arena, records, repeats_of(scenario, arguments), progress)
        finally:
            stop_all()


def interrupt_once(_number, _frame):
    """The second Ctrl-C does not disturb the cleaning up after the first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def results_of(arguments, everything, begun, interrupted):
    records = [record.as_json() for _, group in everything for record in group]
    report.add_ratios(records)
    return {"format": 1, **begun, "ended": now(), "interrupted": interrupted,
            "command": "bench/run.sh " + shlex.join(sys.argv[1:]), "length": arguments.length,
            "messages": arguments.length_values.messages,
            "scenarios": [{"number": scenario.number, "name": scenario.name,
                           "title": scenario.title, "repeats": repeats_of(scenario, arguments)}
                          for scenario, _ in everything],
            "cases": records, "targets": judged_targets(records)}


def main():
    arguments = read_arguments()
    if arguments.list:
        show_list(arguments)
        return 0
    if not (arguments.build / "nemogate").exists():
        sys.exit(f"{arguments.build}/nemogate does not exist (bench/run.sh builds it)")
    out = arguments.out or ROOT / "build/bench-results" / datetime.datetime.now().strftime(
        "%Y%m%d-%H%M%S")
    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt_once)
    begun = {"started": now(), "machine": machine.machine(),
             "versions": machine.versions(arguments.build / "nemogate"),
             "commit": machine.commit()}
    everything = [(scenario, [Record(scenario, case)
                              for case in scenario.cases(arguments.length_values)])
                  for scenario in arguments.scenarios]
    progress = Progress(
        sum(repeats_of(scenario, arguments) * len(group) for scenario, group in everything),
        sum(seconds_of(scenario, arguments) for scenario, _ in everything))
    interrupted = False
    try:
        run_all(arguments, everything, progress)
    except KeyboardInterrupt:
        interrupted = True
        progress.say("interrupted; writing what there is")
    progress.close()
    results = results_of(arguments, everything, begun, interrupted)
    results["plots"] = plots.draw(results, out)
    report.write(results, out)
    failed = [case for case in results["cases"] if case["status"] == "failed"]
    progress.say(f"{out}/report.md, results.json and {len(results['plots']['files'])} plots"
                 + (f"; {len(failed)} cases FAILED" if failed else ""))
    return 130 if interrupted else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
