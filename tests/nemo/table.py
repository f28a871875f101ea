"""Prints the results of the scenarios as a table: table.py RESULTS [SCENARIO=REASON ...]. RESULTS has
a line of JSON per test (conftest.py); of a test that ran twice the last counts. Further arguments
name what could not be run at all. Exits 1 when something failed or nothing ran."""

import json
import shutil
import sys
import textwrap


def rows(path):
    found = {}
    try:
        with open(path) as lines:
            for line in lines:
                row = json.loads(line)
                found[row["test"]] = row
    except FileNotFoundError:
        pass
    return list(found.values())


def main():
    path, *skipped = sys.argv[1:]
    all_rows = rows(path)
    for one in skipped:
        numbers, reason = one.split("=", 1)
        for number in numbers.split(","):
            all_rows.append({"scenario": int(number), "title": "all of it", "result": "skipped",
                             "seen": reason})
    all_rows.sort(key=lambda row: row["scenario"])
    width = max(80, min(160, shutil.get_terminal_size((120, 0)).columns)) - 2
    for row in all_rows:
        head = f"{row['scenario']:>2} | {row['result']:<7} | {row['title']}"
        if row.get("shortened"):
            head += " [shortened; --full waits as long as is written]"
        print(head)
        print(textwrap.fill(row["seen"] or "-", width, initial_indent="   | ",
                            subsequent_indent="   | "))
    counts = {word: sum(row["result"] == word for row in all_rows)
              for word in ("passed", "failed", "skipped")}
    for row in all_rows:
        if row["result"] == "skipped":
            print(f"skipped: scenario {row['scenario']}, {row['title']}: {row['seen']}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


sys.exit(main())
