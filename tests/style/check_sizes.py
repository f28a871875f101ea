#!/usr/bin/python3
"""Checks sizes: a .c file has at most 600 lines, a function at most 80; functions over 60 lines are
named as warnings. Functions are found by universal-ctags."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("codec", "transport", "core", "bench", "tests")
FILE_LINES = 600
FUNCTION_LINES = 80
FUNCTION_WARNING = 60


def functions(files):
    """(file, name, first line, lines) of every function."""
    result = subprocess.run(
        ["ctags", "--output-format=json", "--languages=C", "--map-C=+.h", "--kinds-C=f",
         "--fields=+ne", "-L", "-", "-f", "-"],
        input="\n".join(files), capture_output=True, text=True, check=True, cwd=ROOT)
    for line in result.stdout.splitlines():
        tag = json.loads(line)
        if tag.get("_type") == "tag" and "end" in tag:
            yield tag["path"], tag["name"], tag["line"], tag["end"] - tag["line"] + 1


def main():
    files = sorted(file.relative_to(ROOT).as_posix() for folder in FOLDERS
                   for file in (ROOT / folder).rglob("*.[ch]"))
    faults = 0
    for file in files:
        lines = (ROOT / file).read_text(encoding="utf-8").count("\n")
        if file.endswith(".c") and lines > FILE_LINES:
            print(f"{file}:{lines}: the file has {lines} lines, at most {FILE_LINES} are allowed")
            faults += 1
    found = list(functions(files))
    if not found:
        print("ctags found no function: is universal-ctags installed?")
        faults += 1
    for file, name, line, length in found:
        if length > FUNCTION_LINES:
            print(f"{file}:{line}: {name}() has {length} lines, at most {FUNCTION_LINES} are "
                  "allowed")
            faults += 1
        elif length > FUNCTION_WARNING:
            print(f"warning: {file}:{line}: {name}() has {length} lines, "
                  f"{FUNCTION_WARNING} are enough for most")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
