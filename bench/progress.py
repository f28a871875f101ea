"""Tells on stderr how far a run is: a line for each finished case, and on a terminal one more line
that is renewed every second while a case runs."""

import sys
import threading
import time


class Progress:
    def __init__(self, total, seconds):
        self.total, self.seconds = total, seconds
        self.done = 0
        self.start = time.monotonic()
        self.case, self.case_start = None, self.start
        self.live = sys.stderr.isatty()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        if self.live:
            threading.Thread(target=self.renew, daemon=True).start()

    def renew(self):
        while not self.ended.wait(1):
            with self.lock:
                if self.case is not None:
                    now = time.monotonic()
                    sys.stderr.write(f"\r\x1b[K[{self.done + 1}/{self.total}] {self.case} ... "
                                     f"{now - self.case_start:.0f} s ({clock(now - self.start)} of "
                                     f"about {clock(self.seconds)})")
                    sys.stderr.flush()

    def begin(self, case):
        with self.lock:
            self.case, self.case_start = case, time.monotonic()

    def end(self, figure):
        with self.lock:
            self.done += 1
            self.put(f"[{self.done}/{self.total}, {clock(time.monotonic() - self.start)}] "
                     f"{self.case}: {figure}")
            self.case = None

    def pass_by(self):
        """A case that has nothing more to run."""
        with self.lock:
            self.done += 1

    def say(self, text):
        with self.lock:
            self.put(text)

    def put(self, text):
        print(("\r\x1b[K" if self.live else "") + text, file=sys.stderr, flush=True)

    def close(self):
        self.ended.set()


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
