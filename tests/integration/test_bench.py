"""The benchmark's runner with the smallest lengths: what it writes, that every rate has its ceiling,
that a loss makes it fail, and that an interrupted run leaves results and no process. What it measures
means nothing here."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from harness import wait_until
from harness.gateway import binary
from scale import SANITIZED

BENCH = os.path.join(os.path.dirname(__file__), "..", "..", "bench")
SMALL = ["--quick", "--repeats", "1", "--messages", "1000", "--timeout", "60"]

pytestmark = pytest.mark.skipif(SANITIZED, reason="the benchmark is not built with sanitizers")


def command(out, *arguments):
    build = os.path.dirname(binary())
    assert os.path.exists(os.path.join(build, "bench", "verify")), "build with -DBUILD_BENCH=ON"
    return [os.path.join(BENCH, "run.sh"), "--build", build, "--out", str(out), *SMALL, *arguments]


def run(tmp_path, *arguments):
    """Exit status and results of a run."""
    out = tmp_path / "out"
    done = subprocess.run(command(out, *arguments), capture_output=True, text=True, check=False,
                          timeout=110)
    print(done.stdout + done.stderr)
    return done.returncode, json.loads((out / "results.json").read_text()), out


def test_results_have_their_shape_and_every_rate_its_ceiling(tmp_path):
    status, results, out = run(tmp_path, "--scenario", "8,shards")
    assert status == 0
    assert results["format"] == 1 and not results["interrupted"] and results["length"] == "quick"
    assert {"cpu", "cores", "memory_mib", "kernel"} <= set(results["machine"])
    assert {"nemogate", "redis", "mosquitto", "wolfssl", "hiredis", "libevent"} <= set(
        results["versions"])
    assert "unknown" not in results["versions"].values()
    assert [scenario["name"] for scenario in results["scenarios"]] == ["backlog", "shards"]
    cases = {(case["scenario"], case["name"]): case for case in results["cases"]}
    assert len(cases) == 12
    for (scenario, name), case in cases.items():
        assert case["status"] == "ok", (name, case["reason"])
        assert case["median"]["rate"] > 0 and case["median"]["others"] >= 0
        assert case["commands"], name
        if case["ceiling"]:
            continue
        assert case["ceiling_case"] in case["ceilings"], name
        assert cases[scenario, case["ceiling_case"]]["ceiling"]
        assert case["ratio"] == pytest.approx(case["median"]["rate"] / case["ceiling_rate"])
        assert {"nemogate", "redis", "broker"} <= set(case["median"]["cpu_us"])
        assert any(note["label"] == "nemogate.yaml" for note in case["commands"])
    seen = cases["backlog", "nemogate -> Mosquitto -> subscriber, each entry"]["median"]["verify"]
    assert seen["ok"] and seen["lost"] == seen["reordered"] == 0
    assert seen["distinct"] == seen["newest_total"] == 5000
    report = (out / "report.md").read_text()
    assert "## 8. backlog" in report and "## 9. shards" in report and "## Targets" in report
    assert {target["verdict"] for target in results["targets"]} <= {
        "met", "not met", "reported", "not measured"}
    assert "nemogate.yaml" in (out / "commands.md").read_text()


def test_a_message_too_few_fails_the_run(tmp_path):
    status, results, out = run(tmp_path, "--scenario", "backlog", "--expect-more", "1")
    assert status == 1
    failed = [case["name"] for case in results["cases"] if case["status"] == "failed"]
    assert "nemogate -> Mosquitto -> subscriber, each entry" in failed
    assert "nemogate -> Mosquitto -> subscriber, coalesced" in failed
    assert "FAILED" in (out / "report.md").read_text()


def test_plots_are_drawn(tmp_path):
    if not shutil.which("gnuplot"):
        pytest.skip("gnuplot is not installed: deploy/install-deps.sh bench")
    status, results, out = run(tmp_path, "--scenario", "shards")
    assert status == 0 and results["plots"]["reason"] is None
    for name in ("throughput-shards", "cpu-shards", "rss"):
        assert (out / "plots" / f"{name}.svg").read_text().rstrip().endswith("</svg>")
        assert (out / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def processes_naming(text):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if text.encode() in file.read():
                    found.append(pid)
        except OSError:
            pass  # it has ended meanwhile
    return found


def test_an_interrupted_run_writes_what_it_has_and_leaves_no_process(tmp_path):
    folder = tmp_path / "servers"
    folder.mkdir()
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command(tmp_path / "out", "--scenario", "latency"), stderr=file,
                                   stdout=file, env={**os.environ, "TMPDIR": str(folder)})
    try:
        wait_until(lambda: "[1/12" in log.read_text(), 60, "a first case")
        wait_until(lambda: processes_naming(str(folder)), 30, "servers of the second case")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["interrupted"]
    assert results["cases"][0]["status"] == "ok"
    assert results["cases"][-1]["status"] == "not run"
    assert "interrupted" in (tmp_path / "out" / "report.md").read_text()
    time.sleep(0.2)
    assert not processes_naming(str(folder))
    assert not os.listdir(folder)


def test_the_list_names_every_scenario_of_the_catalogue():
    done = subprocess.run([os.path.join(BENCH, "run.sh"), "--list"], capture_output=True, text=True,
                          check=True, timeout=60)
    lines = done.stdout.splitlines()[1:-1]
    assert [int(line.split()[0]) for line in lines] == list(range(1, 14))
    assert "about" in done.stdout.splitlines()[-1]


def test_a_scenario_that_does_not_exist_is_refused(tmp_path):
    done = subprocess.run(command(tmp_path, "--scenario", "nonsense"), capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 2 and "no scenario 'nonsense'" in done.stderr
