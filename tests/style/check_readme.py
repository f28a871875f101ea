#!/usr/bin/python3
"""Checks that README.md's tables of configuration keys and of metrics are what nemogate generates:
between <!-- keys --> and <!-- /keys -->, and <!-- metrics --> and <!-- /metrics -->. With --write it
brings the README up to date instead."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLES = {"keys": "config-doc", "metrics": "metrics-doc"}


def split(text, name):
    """What stands before the table, the table, and what follows."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"README.md: must hold {begin.strip()} and {end} once each")
    head, rest = text.split(begin)
    present, tail = rest.split(end)
    return head + begin, present, end + tail


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    binary = arguments[0] if arguments else ROOT / "build/tests/nemogate"
    readme = ROOT / "README.md"
    stale = False
    for name, command in TABLES.items():
        try:
            table = subprocess.run([binary, command], capture_output=True, text=True,
                                   check=True).stdout
            text = readme.read_text(encoding="utf-8")
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"README.md: cannot be checked: {error}")
        head, present, tail = split(text, name)
        if present.strip() == table.strip():
            continue
        if "--write" in sys.argv:
            readme.write_text(f"{head}\n{table.strip()}\n\n{tail}", encoding="utf-8")
            continue
        stale = True
        old, new = present.strip().splitlines(), table.strip().splitlines()
        for line in [line for line in new if line not in old][:3]:
            print(f"README.md: the table of {name} lacks: {line}")
        for line in [line for line in old if line not in new][:3]:
            print(f"README.md: the table of {name} has what nemogate does not know: {line}")
    if stale:
        sys.exit("README.md: out of date: tests/style/check_readme.py --write")


if __name__ == "__main__":
    main()
