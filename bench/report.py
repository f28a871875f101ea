"""results.json, report.md (tables) and commands.md (every command line and configuration) of a run."""

import json

from measure import limit_of

FIGURES = {  # beside rate and CPU: name of the figure, what the report calls it
    "drain_seconds": "from the spike's begin until all had arrived, s",
    "burst_sent_seconds": "the spike took, s",
    "published_percent": "of the entries published, %",
    "idle_rss_mib": "RSS before, MiB", "rss_mib": "RSS, MiB", "peak_rss_mib": "peak RSS, MiB",
    "nemogate_cpu_percent": "nemogate, % of a core",
    "nemogate_wake_ups_per_second": "nemogate, wake-ups/s",
    "redis_cpu_percent": "Redis, % of a core",
    "redis_wake_ups_per_second": "Redis, wake-ups/s",
    "broker_cpu_percent": "Mosquitto, % of a core",
    "connections": "connections", "connected_ms": "all connected again after, ms",
    "publishing_ms": "all published again after, ms",
    "handshake_cpu_ms": "nemogate's CPU per reconnect, ms",
    "broker_handshake_cpu_ms": "null broker's CPU per reconnect, ms",
    "fresh_events": "fresh events", "backlog_left_at_end": "backlog left after the last of them",
    "backlog_seconds": "backlog drained after, s",
    "unacknowledged": "unacknowledged at the broker",
}
WITH_FIGURES = ("spike", "backlog", "idle", "storm", "fresh", "memory")
PERCENTILES = (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"),
               ("max_us", "max"))
PROCESSES = ("nemogate", "redis", "broker", "client", "subscriber")


def add_ratios(records):
    """The best of a case's ceilings beside it: of rates the highest, of latencies the lowest p50."""
    medians = {(case["scenario"], case["name"]): case["median"] for case in records
               if case["median"] and case["status"] == "ok"}
    for case in records:
        found = [(name, medians[case["scenario"], name]) for name in case["ceilings"]
                 if (case["scenario"], name) in medians]
        own = case["median"]
        case.update(ceiling_case=None, ceiling_rate=None, ratio=None)
        if not found or not own:
            continue
        if "rate" in own:
            name, best = max(found, key=lambda item: item[1]["rate"])
            case.update(ceiling_case=name, ceiling_rate=best["rate"],
                        ratio=own["rate"] / best["rate"])
        elif "p50_us" in own:
            name, best = min(found, key=lambda item: item[1]["p50_us"])
            case.update(ceiling_case=name, floor_p50_us=best["p50_us"], floor_p99_us=best["p99_us"],
                        ratio=own["p50_us"] / best["p50_us"] if best["p50_us"] else None)


def one_line(record):
    """A case's result for the progress line."""
    if record.status != "ok":
        return f"{record.status.upper() if record.status == 'failed' else record.status}: " \
               f"{(record.reason or '').splitlines()[0] if record.reason else ''}"
    figures = record.runs[-1]
    parts = []
    if "rate" in figures:
        parts.append(f"{figures['rate']:,.0f} msg/s")
    if "nemogate" in figures.get("cpu_us", {}):
        parts.append(f"nemogate {figures['cpu_us']['nemogate']:.2f} us")
    if "p50_us" in figures:
        parts.append(f"p50 {figures['p50_us']:.0f} us, p99 {figures['p99_us']:.0f} us")
    if "rate" not in figures and "p50_us" not in figures:
        parts += [f"{FIGURES[name]} {number(figures[name])}" for name in FIGURES if name in figures]
    if "verify" in figures:
        parts.append(f"lost {figures['verify']['lost']}, out of order "
                     f"{figures['verify']['reordered']}")
    return ", ".join(parts)


def number(value):
    if value is None:
        return ""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in rows), ""]


def verified(case):
    seen = case["median"].get("verify")
    if not seen:
        return ""
    return (("" if seen["ok"] else "FAILED: ") + f"lost {number(seen['lost'])}, order "
            f"{number(seen['reordered'])}, twice {number(seen['duplicates'])}")


def failure(case):
    reason = (case["reason"] or "").splitlines()
    word = "FAILED" if case["status"] == "failed" else case["status"]
    return f"**{word}**: {reason[0]}" if reason else f"**{word}**"


def throughput_table(cases):
    rows = []
    for case in cases:
        s = case["median"]
        cpu = [number(s["cpu_us"].get(name)) for name in PROCESSES]
        rows.append([
            case["name"], f"{s['rate']:,.0f} ({s['lowest']:,.0f} to {s['highest']:,.0f})",
            f"{case['ratio']:.1%}" if case["ratio"] else "", *cpu,
            number(s.get("peak_rss_mib")), limit_of(s), number(s["others"]), verified(case)])
    return table(["case", "msg/s (range)", "of ceiling", "nemogate us", "Redis us", "broker us",
                  "client us", "subscriber us", "peak MiB", "limit", "others", "verified"], rows)


def latency_table(cases):
    rows = []
    for case in cases:
        s = case["median"]
        rows.append([case["name"], *(number(s.get(key)) for key, _ in PERCENTILES),
                     f"{case['ratio']:.2f}" if "floor_p50_us" in case else "",
                     number(s.get("late_p99_us")),
                     number(s.get("cpu_us", {}).get("nemogate")), number(s.get("others")),
                     verified(case)])
    return table(["case", *(f"{name} us" for _, name in PERCENTILES), "p50 over floor",
                  "load late, p99 us", "nemogate us", "others", "verified"], rows)


def figures_table(cases):
    rows = []
    for case in cases:
        s = case["median"]
        if case["ceiling"] and "fresh_events" not in s:
            continue
        told = [f"{text} {number(s[name])}" for name, text in FIGURES.items() if name in s]
        if told:
            rows.append([case["name"], "; ".join(told)])
    return table(["case", "figures"], rows) if rows else []


def wan_table(cases):
    """Round trip and connections, raw and batch side by side."""
    rates = {case["name"]: case["median"]["rate"] for case in cases}
    rows = []
    for name, rate in rates.items():
        if not name.startswith("nemogate raw"):
            continue
        where = name.split(", ", 1)[1]
        where = name.partition("broker, ")[2] or where
        batch = rates.get(f"nemogate batch -> null broker, {where}")
        rows.append([where, number(rates.get(f"blaster -> null broker, {where}")), number(rate),
                     number(batch), f"{batch / rate:.1f}" if batch else "not measured"])
    head = ["round trip", "blaster msg/s", "raw msg/s", "batch msg/s", "batch over raw"]
    return table(head, rows) if rows else []


def scenario_text(scenario, cases):
    text = [f"## {scenario['number']}. {scenario['name']}: {scenario['title']}", ""]
    good = [case for case in cases if case["median"]]
    rates = [case for case in good if "rate" in case["median"]]
    paced = [case for case in good if "p50_us" in case["median"]]
    if rates:
        text += throughput_table(rates)
    if paced:
        text += latency_table(paced)
    if scenario["name"] in WITH_FIGURES:
        text += figures_table(good)
    if scenario["name"] == "wan":
        text += wan_table(rates)
    bad = [case for case in cases if case["status"] != "ok"]
    text += [f"- {case['name']}: {failure(case)}" for case in bad]
    return text + ([""] if bad else [])


def targets_table(targets):
    rows = []
    for target in targets:
        bound = (f"at most {number(target['at_most'])}" if target["at_most"] is not None else
                 f"at least {number(target['at_least'])}" if target["at_least"] is not None else "")
        rows.append([target["target"], f"{bound} {target['unit']}".strip(),
                     number(target["measured"]), number(target["ceiling_rate"]),
                     f"{target['ratio']:.2f}" if target["ratio"] else "", target["verdict"]])
    return ["## Targets", "", "For two cores, 220-byte payloads and QoS 1. The ceiling is the rate of "
            "the case in the third column's scenario that it is compared with; of a latency the "
            "ratio is to the direct publish.", "",
            *table(["target", "bound", "measured", "ceiling msg/s", "ratio", ""], rows)]


def head(results):
    m, v, c = results["machine"], results["versions"], results["commit"]
    changed = {True: " with changes", False: "", None: " (told by the image)"}[c["dirty"]]
    allowed = f", {m['cores_allowed']:g} allowed" if m["cores_allowed"] else ""
    lines = [
        "# nemogate's benchmark", "",
        f"- machine: {m['cpu']}, {m['cores']} cores{allowed}, {m['memory_mib']:,} MiB, Linux "
        f"{m['kernel']}; load average before: {m['load_before']:.2f}",
        f"- versions: {v['nemogate']}, Redis {v['redis']}, Mosquitto {v['mosquitto']}, wolfSSL "
        f"{v['wolfssl']}, hiredis {v['hiredis']}, libevent {v['libevent']}",
        f"- commit: {c['id']}{changed}",
        f"- started {results['started']}, ended {results['ended']}, length {results['length']}, "
        f"`{results['command']}`",
        "- every command line and configuration: [commands.md](commands.md); all figures: "
        "[results.json](results.json)", ""]
    if results["interrupted"]:
        lines += ["**The run was interrupted: this is what it had measured.**", ""]
    return lines + [
        "Base case: 220-byte payload, 500 keys, 4 streams, QoS 1, MQTT 5, window 1000, 1 slot, 1 "
        "connection, encoding raw, entries of 9 fields, `max_inflight_messages 0`, no subscriber "
        "unless named, set_tcp_nodelay false unless named. The median of a case's runs counts. us: "
        "user and system time per message. `of ceiling`: of the best ceiling in the same scenario. "
        "`others`: cores that processes outside the measurement took meanwhile (above 0.1 a figure "
        "is doubtful). `verified`: what the subscriber found; a lost or reordered message fails.", ""]


def write(results, out):
    text = head(results)
    failed = [case for case in results["cases"] if case["status"] == "failed"]
    if failed:
        names = sorted({case["scenario"] for case in failed})
        text += [f"**FAILED: {len(failed)} cases** in {', '.join(names)}", ""]
    for scenario in results["scenarios"]:
        text += scenario_text(scenario, [case for case in results["cases"]
                                         if case["scenario"] == scenario["name"]])
    drawn = results["plots"]
    text += ["## Plots", ""] + [f"![{name}]({name})" for name in drawn["files"]
                                if name.endswith(".svg")]
    text += [drawn["reason"]] if drawn["reason"] else []
    text += ["", *targets_table(results["targets"])]
    (out / "report.md").write_text("\n".join(text), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "commands.md").write_text("\n".join(commands(results["cases"])), encoding="utf-8")


def commands(cases):
    text = ["# Commands and configurations", "",
            "$FOLDER is the temporary folder of the run; ports were free ones.", ""]
    for case in cases:
        text += [f"## {case['scenario']}: {case['name']}", ""]
        for note in case["commands"]:
            text += [f"{note['label']}:", "", *(f"    {line}" for line in
                                               note["text"].rstrip().split("\n")), ""]
    return text
