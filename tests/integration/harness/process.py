"""A program under test or beside it: started with its own log file, ended by its process id.

Base of RedisServer, Mosquitto and Gateway. Each writes stdout and stderr to `log_path` in the
test's folder. `close()` ends it whatever state it is in; conftest.py's `things` calls that for
everything it has made, also when the test fails.
"""

import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


# Below the ports that the kernel gives to outgoing connections, so that a server can be stopped and
# started again on its port; each process of a test run begins somewhere else.
_ports = itertools.count(random.SystemRandom().randrange(10000, 30000))


def free_port():
    """A loopback port that nobody listens on at the moment, and that this process has not given yet."""
    for _ in range(1000):
        port = 10000 + (next(_ports) - 10000) % 20000
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free loopback port between 10000 and 30000")


def wait_until(predicate, timeout=10.0, what="the condition", interval=0.01):
    """Returns the first true value of predicate(); raises TimeoutError with `what` (a text, or a
    function that makes one) after timeout seconds."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise TimeoutError(f"{text}: not within {timeout} s")
        time.sleep(interval)


def numbered(tmp, name):
    """tmp/name-1, tmp/name-2, ...: the first that does not exist; made."""
    n = 1
    while True:
        path = os.path.join(str(tmp), f"{name}-{n}")
        try:
            os.mkdir(path)
            return path
        except FileExistsError:
            n += 1


class Process:
    """One program. Subclasses set name, argv() and wait_ready()."""

    name = "process"

    def __init__(self, tmp, env=None):
        self.folder = numbered(tmp, self.name)
        self.log_path = os.path.join(self.folder, "log")
        self.env = {**os.environ, **(env or {})}
        self.process = None
        self.paused = False

    def argv(self):
        raise NotImplementedError

    def wait_ready(self, timeout=10.0):
        raise NotImplementedError

    # ---- life

    def launch(self):
        """Starts it without waiting until it is ready."""
        assert not self.running, f"{self.name} runs already"
        # The kernel ends the child with the thread that made it, so only the main thread asks for it.
        die_with_us = threading.current_thread() is threading.main_thread()

        def before_exec():
            # A shell's background command, as a build server may start this, ignores these two.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
            if die_with_us:
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, env=self.env, preexec_fn=before_exec)
        self.paused = False
        return self

    def start(self, timeout=10.0):
        """Starts it (again, with the same ports and files) and waits until it is ready."""
        self.launch()
        self.wait_ready(timeout)
        return self

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        os.kill(self.process.pid, number)

    def terminate(self, timeout=10.0):
        """SIGTERM; returns the exit code. TimeoutError (and SIGKILL) when it does not end."""
        if self.running:
            self.resume()
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=10.0):
        """Waits for its end; returns the exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self.name} (pid {self.pid}) did not end within {timeout} s: "
                               f"{self.log_path}") from None

    def stop(self, timeout=10.0):
        """Ends it in an orderly way."""
        return self.terminate(timeout)

    def kill(self):
        """SIGKILL, and waits for the end."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def pause(self):
        """SIGSTOP: its sockets stay open and nobody answers."""
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused:
            self.signal(signal.SIGCONT)
            self.paused = False

    def close(self):
        """Ends it in whatever state it is. For the end of a test."""
        if not self.running:
            return
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- what it uses

    def _status(self, field):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise KeyError(field)

    def rss_kb(self):
        return self._status("VmRSS")

    def peak_rss_kb(self):
        return self._status("VmHWM")

    def threads(self):
        return self._status("Threads")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        """User and system time so far, of all threads."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    # ---- what it says

    def log_text(self):
        try:
            with open(self.log_path, errors="backslashreplace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=20):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def wait_listening(self, port, timeout):
        """Until something accepts on the loopback port; fails at once when the program has ended."""
        def accepts():
            self.check_running()
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_until(accepts, timeout, f"{self.name} listening on {port} ({self.log_path})")

    def check_running(self):
        if not self.running:
            raise RuntimeError(f"{self.name} has ended with {self.process.returncode}; "
                               f"{self.log_path}:\n{self.log_tail()}")
