"""A program of tests/tools that answers each line of its input with one line."""

import os
import subprocess

from . import gateway


class Tool:
    def __init__(self, name):
        path = os.path.join(os.path.dirname(gateway.binary()), "tests", name)
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)

    def ask_line(self, line):
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline()
        assert answer.endswith("\n"), f"the tool ended at: {line[:300]}"
        return answer.rstrip("\n")

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=10) == 0
