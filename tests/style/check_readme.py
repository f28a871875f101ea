#!/usr/bin/python3
"""Checks that README.md's table of configuration keys is what nemogate generates: between
<!-- keys --> and <!-- /keys -->. With --write it brings the README up to date instead."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- keys -->\n", "<!-- /keys -->"


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    binary = arguments[0] if arguments else ROOT / "build/tests/nemogate"
    readme = ROOT / "README.md"
    try:
        table = subprocess.run([binary, "config-doc"], capture_output=True, text=True,
                               check=True).stdout
        text = readme.read_text(encoding="utf-8")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"README.md: cannot be checked: {error}")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"README.md: must hold {BEGIN.strip()} and {END} once each")
    head, rest = text.split(BEGIN)
    present, tail = rest.split(END)
    if present.strip() == table.strip():
        return
    if "--write" in sys.argv:
        readme.write_text(f"{head}{BEGIN}\n{table.strip()}\n\n{END}{tail}", encoding="utf-8")
        return
    old, new = present.strip().splitlines(), table.strip().splitlines()
    missing = [line for line in new if line not in old][:3]
    stale = [line for line in old if line not in new][:3]
    for line in missing:
        print(f"README.md: the key table lacks: {line}")
    for line in stale:
        print(f"README.md: the key table has what nemogate does not know: {line}")
    sys.exit("README.md: out of date: tests/style/check_readme.py --write")


if __name__ == "__main__":
    main()
