#!/usr/bin/python3
"""Adds up what ctest (with Criterion inside) and pytest have written into a folder of results, and
the reports of sanitizers. Prints each failure on a line and closes with "N passed, N failed". A
suite that left no results counts as one failure, so that a crash never looks like success."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SYNTHESIS = re.compile(r"Tested: \S*?(\d+)\S* \| Passing: \S*?(\d+)\S* \| "
                       r"Failing: \S*?(\d+)\S* \| Crashing: \S*?(\d+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Sum:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def fail(self, text, count=1):
        self.failed += count
        print(f"failed: {text}")


def unit(total, file):
    """One ctest case is one Criterion program with many cases, or a test without Criterion."""
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        name = case.get("name")
        failed = case.get("status") != "run"
        output = COLOUR.sub("", case.findtext("system-out") or "")
        found = SYNTHESIS.search(output)
        if not found:
            if failed:
                total.fail(f"unit {name}: the program ended without a result")
            else:
                total.passed += 1
            continue
        _, passed, failing, crashing = map(int, found.groups())
        total.passed += passed
        if failing:
            total.fail(f"unit {name}: {failing} failing, {crashing} of them crashed", failing)
        elif failed:
            total.fail(f"unit {name}: all cases passed, but the program failed")
        elif passed == 0:
            total.fail(f"unit {name}: holds no test")


def by_pytest(total, file):
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            total.fail(name)
        elif case.find("skipped") is not None:
            total.skipped += 1
        else:
            total.passed += 1


def suite(total, wanted, name, read, file):
    if not wanted:
        return
    before = total.passed + total.failed + total.skipped
    try:
        read(total, file)
    except (OSError, ElementTree.ParseError) as error:
        total.fail(f"{name} tests left no results: {error}")
        return
    if total.passed + total.failed + total.skipped == before:
        total.fail(f"{name} tests: none was run")


def main():
    folder = Path(sys.argv[1])
    with_unit, with_integration, with_page = sys.argv[2:5]
    total = Sum()
    suite(total, with_unit == "yes", "unit", unit, folder / "unit.xml")
    suite(total, with_integration == "yes", "integration", by_pytest,
          folder / "integration.xml")
    suite(total, with_page == "yes", "page", by_pytest, folder / "page.xml")
    for report in sorted((folder / "sanitizer").iterdir()):
        text = report.read_text(errors="replace")
        first = next((line for line in text.splitlines() if "ERROR" in line or "WARNING" in line
                      or "runtime error" in line), report.name)
        total.fail(f"sanitizer report {report}: {first.strip()}")
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}")
    sys.exit(1 if total.failed or not total.passed else 0)


if __name__ == "__main__":
    main()
