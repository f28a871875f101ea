"""What a figure was measured on: the machine, the versions of everything involved, the commit."""

import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def output_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""


def found(pattern, text):
    match = re.search(pattern, text)
    return match.group(1).strip() if match else "unknown"


def limit_of_container():
    """The CPU quota of the control group in cores, or None; inside a container it is less than what
    /proc/cpuinfo shows."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def machine():
    memory = int(found(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())) // 1024
    return {"cpu": found(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()),
            "cores": os.cpu_count(), "cores_allowed": limit_of_container(),
            "memory_mib": memory, "kernel": platform.release(), "load_before": os.getloadavg()[0]}


def library_version(module, package):
    """By pkg-config where the development files are; by dpkg where only the library is."""
    return (output_of(["pkg-config", "--modversion", module])
            or output_of(["dpkg-query", "-W", "-f", "${Version}", package]) or "unknown")


def mosquitto_version():
    # `mosquitto -h` ends with status 3 in some versions, so its output is asked without the status
    try:
        done = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, timeout=30,
                              check=False)
    except OSError:
        return "unknown"
    return found(r"version (\S+)", done.stdout + done.stderr)


def versions(nemogate):
    return {"nemogate": output_of([str(nemogate), "--version"]) or "unknown",
            "redis": found(r"v=(\S+)", output_of(["redis-server", "--version"])),
            "mosquitto": mosquitto_version(),
            "wolfssl": library_version("wolfssl", "libwolfssl35"),
            "hiredis": library_version("hiredis", "libhiredis0.14"),
            "libevent": library_version("libevent", "libevent-2.1-7")}


def commit():
    """Identifier and whether the tree was changed; in a container the image tells the identifier."""
    identifier = output_of(["git", "rev-parse", "--short=12", "HEAD"])
    if not identifier:
        return {"id": os.environ.get("NEMOGATE_BENCH_COMMIT") or "unknown", "dirty": None}
    changed = output_of(["git", "status", "--porcelain", "--untracked-files=no"])
    return {"id": identifier, "dirty": bool(changed)}
