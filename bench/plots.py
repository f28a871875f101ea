"""Draws a run's plots with gnuplot: writes a script with its data for each into plots/ and runs it for
SVG and PNG. Without gnuplot the scripts are there and the report says why no picture is."""

import shutil
import subprocess

BARS = ("saturation", "streams", "matrix", "encodings", "shards")
PROCESSES = (("nemogate", "nemogate"), ("redis", "Redis"), ("broker", "broker"),
             ("subscriber", "subscriber"))
PERCENTILES = (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"),
               ("max_us", "max"))
HEAD = "set grid ytics lc rgb '#cccccc'\nset key outside top center horizontal\nset border 3\n" \
       "set xtics nomirror\nset ytics nomirror\n"
BAR_STYLE = "set style data histogram\nset style fill solid 0.9\nset boxwidth 0.9\n" \
            "set xtics rotate by -35 scale 0\nset yrange [0:*]\nset bmargin 10\nset rmargin 18\n"
TERMINALS = (("svg", "svg size 900,560 dynamic font 'sans,12' background rgb 'white'"),
                  ("png", "pngcairo size 1100,680 font 'sans,11'"))


def quoted(text):
    return '"' + text.replace("\\", "/").replace('"', "'") + '"'


def short(name):
    return name.replace("nemogate -> ", "").replace("set_tcp_nodelay", "nodelay").replace(
        "load --direct -> ", "").replace("Mosquitto -> subscriber", "subscriber")


def block(name, rows):
    return f"${name} << EOD\n" + "\n".join(
        " ".join(str(word) for word in row) for row in rows) + "\nEOD\n"


def measured(results, scenario=None):
    return [case for case in results["cases"]
            if case["median"] and (scenario is None or case["scenario"] == scenario)]


def throughput(results, scenario):
    rows = [(quoted(short(case["name"])), round(case["median"]["rate"]),
             round(case["ceiling_rate"]))
            for case in measured(results, scenario) if case["ceiling_rate"]]
    if not rows:
        return None
    return (HEAD + BAR_STYLE + "set style histogram clustered gap 1\n"
            f"set title 'Messages per second: {scenario}'\nset format y '%.0s%c'\n"
            + block("data", rows)
            + "plot $data using 2:xtic(1) title 'nemogate' lc rgb '#2060a0', "
              "'' using 3 title 'ceiling of the same run' lc rgb '#b0b0b0'\n")


def cpu(results, scenario):
    cases = [case for case in measured(results, scenario)
             if "nemogate" in case["median"].get("cpu_us", {})]
    if not cases:
        return None
    rows = [(quoted(short(case["name"])), *(f"{case['median']['cpu_us'].get(name, 0):.3f}"
                                            for name, _ in PROCESSES)) for case in cases]
    colours = ("#2060a0", "#c03030", "#b0b0b0", "#60a060")
    columns = ", ".join(
        f"{'$data' if i == 0 else repr('')} using {i + 2}{':xtic(1)' if i == 0 else ''} "
        f"title '{text}' lc rgb '{colours[i]}'" for i, (_, text) in enumerate(PROCESSES))
    return (HEAD + BAR_STYLE + "set style histogram rowstacked\n"
            f"set title 'CPU microseconds per message: {scenario}'\n" + block("data", rows)
            + f"plot {columns}\n")


def latency(results):
    cases = [case for name in ("latency", "fresh") for case in measured(results, name)
             if "p50_us" in case["median"]]
    if not cases:
        return None
    text = HEAD + "set title 'Latency to the subscriber'\nset ylabel 'microseconds'\n" \
        "set logscale y\nset xrange [-0.2:4.2]\nset key outside right top vertical\nset xtics (" \
        + ", ".join(f"'{name}' {i}" for i, (_, name) in enumerate(PERCENTILES)) + ")\n"
    lines = []
    for number, case in enumerate(cases):
        text += block(f"d{number}", [(i, max(0.1, case["median"][key]))
                                     for i, (key, _) in enumerate(PERCENTILES)])
        lines.append(f"$d{number} with linespoints dt {2 if case['ceiling'] else 1} "
                     f"title {quoted(short(case['name']))} noenhanced")
    return text + "plot " + ", ".join(lines) + "\n"


def over_time(cases, title, label, find):
    """One line for each series that `find` gives for a case: (name, points)."""
    text = HEAD + f"set title '{title}'\nset xlabel 'seconds'\nset ylabel '{label}'\n" \
        "set yrange [0:*]\nset key outside right top vertical\n"
    lines = []
    for case in cases:
        for name, points in find(case["runs"][-1].get("series", {})):
            if len(points) > 1:
                text += block(f"d{len(lines)}", points)
                who = f"{case['scenario']}: {short(case['name'])} {name}".strip()
                lines.append(f"$d{len(lines)} with lines lw 2 title {quoted(who)} noenhanced")
    return text + "plot " + ", ".join(lines) + "\n" if lines else None


def rss(results):
    cases = [case for name in ("spike", "backlog", "storm", "idle", "memory")
             for case in measured(results, name)]
    return over_time(cases or measured(results), "Resident memory of nemogate", "MiB",
                     lambda series: [("", points) for name, points
                                     in series.get("rss_mib", {}).items() if name == "nemogate"])


def drain(results):
    cases = [case for name in ("spike", "backlog") for case in measured(results, name)]
    return over_time(cases or measured(results, "saturation"), "Entries left while a backlog drains",
                     "entries", lambda series: [("", series.get("left", []))])


def wan(results):
    rates = {}
    for case in measured(results, "wan"):
        if case["name"].startswith("nemogate"):
            where = case["name"].partition("broker, ")[2].split(" ms, connections ")
            rates[case["name"].split()[1], int(where[1]), float(where[0])] = case["median"]["rate"]
    if not rates:
        return None
    text = HEAD + "set title 'WAN: Receive Maximum 20'\nset xlabel 'round trip, ms'\n" \
        "set ylabel 'messages per second'\nset logscale xy\nset format y '%.0s%c'\n" \
        "set xrange [0.1:100]\nset key outside right top vertical\n"
    lines = []
    for encoding, connections in sorted({key[:2] for key in rates}):
        text += block(f"d{len(lines)}", sorted(
            (key[2], rate) for key, rate in rates.items() if key[:2] == (encoding, connections)))
        lines.append(f"$d{len(lines)} with linespoints dt {1 if encoding == 'batch' else 2} "
                     f"title '{encoding}, connections {connections}'")
    return text + "plot " + ", ".join(lines) + "\n"


def all_scripts(results):
    scripts = {}
    for scenario in BARS:
        scripts[f"throughput-{scenario}"] = throughput(results, scenario)
        scripts[f"cpu-{scenario}"] = cpu(results, scenario)
    scripts.update(latency=latency(results), rss=rss(results), backlog=drain(results),
                   wan=wan(results))
    return {name: text for name, text in scripts.items() if text}


def draw(results, out):
    """The files that were drawn, and why some were not."""
    folder = out / "plots"
    folder.mkdir(exist_ok=True)
    gnuplot = shutil.which("gnuplot")
    files, reasons = [], []
    for name, text in all_scripts(results).items():
        script = folder / f"{name}.gp"
        script.write_text(text, encoding="utf-8")
        if not gnuplot:
            continue
        for kind, terminal in TERMINALS:
            done = subprocess.run(
                [gnuplot, "-e", f"set terminal {terminal}; set output 'plots/{name}.{kind}'",
                 script], cwd=out, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode == 0:
                files.append(f"plots/{name}.{kind}")
            else:
                reasons.append(f"{name}.{kind}: {done.stderr.strip()}")
    if not gnuplot:
        reasons.append("No plots: gnuplot is not installed (deploy/install-deps.sh bench); "
                       "its scripts are in plots/.")
    return {"files": files, "reason": "; ".join(reasons) or None}
