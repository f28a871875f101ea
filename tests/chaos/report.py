"""The tables of a chaos run, as Markdown, and the same as JSON."""

import statistics
from dataclasses import asdict


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def _seconds(values):
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} / {max(values):.2f}"


def _fault_rows(runners):
    rows = {}
    for runner in runners:
        for done in runner.done:
            name = "two at a time" if done.step.paired else done.step.name
            rows.setdefault(name, []).append(done)
    for name in sorted(rows, key=lambda n: (n == "two at a time", n)):
        dones = rows[name]
        yield (name, len(dones), max(d.duplicates for d in dones), sum(d.duplicates for d in dones),
               max(d.bound for d in dones),
               _seconds([d.takeover for d in dones if d.takeover is not None]),
               _seconds([d.recovery for d in dones]))


def markdown(runners):
    lines = _table(["fault", "times", "duplicates, most", "in all", "allowed each",
                    "taken over, s (median / most)", "recovered, s (median / most)"],
                   _fault_rows(runners))
    lines.append("")
    columns = []
    for runner in runners:
        arena, judge = runner.arena, runner.arena.judge
        columns.append({
            "steps": len(runner.done),
            "faults": sum(len(d.step.planned) for d in runner.done),
            "events written": arena.load.total,
            "messages received": judge.received,
            "lost": len(judge.lost()),
            "out of order": judge.problem_counts["out of order"],
            "resends that skip": judge.problem_counts["skipped"],
            "duplicates": judge.duplicates,
            "repeated by the broker": judge.broker_resends,
            "publishes refused": judge.refused,
            "dead letters": len(arena.load.marked),
            "outcome of a write unknown": arena.load.reconciled,
            "trimmed by the writer": arena.load.trimmed,
        })
    names = [runner.arena.kind for runner in runners]
    lines += _table(["judge", *names],
                    [(key, *(c[key] for c in columns)) for key in (columns[0] if columns else ())])
    lines.append("")
    lines += _table(["memory (most RSS, kB)", "first third", "last third"],
                    [(f"{runner.arena.kind} {name}", first, last)
                     for runner in runners for name, first, last in runner.memory()])
    return "\n".join(lines)


def as_json(seed, runners):
    arenas = []
    for runner in runners:
        judge = runner.arena.judge
        arenas.append({
            "arena": runner.arena.kind,
            "written": runner.arena.load.total, "received": judge.received,
            "lost": len(judge.lost()), "duplicates": judge.duplicates,
            **{kind.replace(" ", "_"): n for kind, n in judge.problem_counts.items()},
            "steps": [{
                "number": d.step.number, "began": round(d.began, 3), "times": d.times,
                "planned": [asdict(p) for p in d.step.planned], "takeover": d.takeover,
                "recovery": d.recovery, "recovered": d.recovered, "duplicates": d.duplicates,
                "bound": d.bound} for d in runner.done],
            "memory": runner.memory(),
            "checks": [{"name": name, "failure": failure} for name, failure in runner.checks],
        })
    return {"seed": seed, "arenas": arenas}
