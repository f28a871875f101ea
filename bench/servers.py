"""Starts and stops what a benchmark run needs (Redis, Mosquitto, the null broker, nemogate, and the
programs of bench/ that run beside them), each on a free port of 127.0.0.1 with its files in one
temporary folder."""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

from measure import cpu_seconds

START_SECONDS = 20
STOP_SECONDS = 30


class Failed(Exception):
    """A step of the run went wrong; the text says which and why."""


class Skipped(Exception):
    """A case cannot be measured with these programs; the text says why."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def uninterrupted():
    """Puts off Ctrl-C and SIGTERM, so that no process is started and then forgotten."""
    came = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class Server:
    """A child process with its output in files. It has a session of its own, so that Ctrl-C ends it
    through this program, in order."""

    count = 0
    living = []  # all that were started and not stopped

    def __init__(self, name, command, folder, port=None):
        Server.count += 1
        self.name, self.port = name, port
        self.command = [str(word) for word in command]
        self.out = folder / f"{Server.count}-{name}.out"
        self.log = folder / f"{Server.count}-{name}.log"
        with self.out.open("w") as out, self.log.open("w") as log, uninterrupted():
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=log, start_new_session=True)
            Server.living.append(self)
        if port is not None:
            self.await_port()

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        return cpu_seconds(self.pid)

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def ended(self):
        """Whether it has ended; it is not reaped, so that its CPU time can still be read."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def check(self):
        if self.ended():
            raise self.failure(f"has ended with status {self.process.wait()}")

    def failure(self, what):
        """What went wrong and the last line that the process wrote, then all that may help."""
        tail = self.tail()
        last = tail.splitlines()[-1] if tail else "it has written nothing"
        return Failed(f"{self.name} {what}: {last}\n{shlex.join(self.command)}\n{tail}")

    def await_port(self):
        self.await_that(self.answers, f"does not listen on port {self.port}")

    def await_line(self, line):
        self.await_that(lambda: line in self.log.read_text(errors="replace"),
                        f"does not say '{line}'")

    def await_that(self, condition, otherwise):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self.check()
            if condition():
                return
            time.sleep(0.01)
        self.stop()
        raise self.failure(otherwise)

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        """SIGTERM, and SIGKILL when that does not help in time. Returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self in Server.living:
            Server.living.remove(self)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()


def stop_all():
    """Whatever still lives, also what was interrupted while it was started."""
    for server in reversed(list(Server.living)):
        Server.stop(server)


class Redis(Server):
    def __init__(self, folder):
        port = free_port()
        super().__init__("redis", ["redis-server", "--port", port, "--bind", "127.0.0.1",
                                   "--save", "", "--appendonly", "no", "--dir", folder,
                                   "--loglevel", "warning"], folder, port)
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.file = self.socket.makefile("rb")

    def stop(self):
        self.file.close()
        self.socket.close()
        return super().stop()

    def read(self):
        line = self.file.readline()
        kind, text = line[:1], line[1:-2].decode()
        if kind == b"-":
            return Failed(f"Redis: {text}")
        if kind == b":":
            return int(text)
        if kind == b"$":
            return None if text == "-1" else self.file.read(int(text) + 2)[:-2].decode()
        if kind == b"*":
            return None if text == "-1" else [self.read() for _ in range(int(text))]
        if kind != b"+":
            raise Failed("Redis has closed the connection")
        return text

    def pipeline(self, commands):
        """The replies; an error reply is a Failed object among them."""
        self.socket.sendall(b"".join(
            b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode())
                                               for w in words) for words in commands))
        return [self.read() for _ in commands]

    def unsettled(self, streams, group):
        """Entries not yet read, and read but not acknowledged, over all streams; None while a
        stream has no such group or Redis cannot tell the lag."""
        lag = pending = 0
        for begin in range(0, len(streams), 500):
            part = streams[begin:begin + 500]
            for reply in self.pipeline([["XINFO", "GROUPS", stream] for stream in part]):
                groups = [] if isinstance(reply, Failed) else [
                    dict(zip(row[::2], row[1::2])) for row in reply]
                found = [row for row in groups if row["name"] == group]
                if not found or found[0]["lag"] is None:
                    return None
                lag += found[0]["lag"]
                pending += found[0]["pending"]
        return lag, pending


class Mosquitto(Server):
    """No persistence, no limit on what is in flight; set_tcp_nodelay as given. With certificates the
    port speaks TLS 1.3."""

    def __init__(self, folder, nodelay, certificates=None):
        port = free_port()
        lines = ["user root"] if os.geteuid() == 0 else []
        lines += [f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence false",
                  "max_inflight_messages 0", "max_queued_messages 0",
                  f"set_tcp_nodelay {'true' if nodelay else 'false'}", "log_dest stderr",
                  "log_type error", "log_type warning"]
        if certificates:
            lines += [f"certfile {certificates}/server.crt", f"keyfile {certificates}/server.key",
                      "tls_version tlsv1.3"]
        self.config = "\n".join(lines) + "\n"
        file = folder / "mosquitto.conf"
        file.write_text(self.config)
        super().__init__("mosquitto", ["mosquitto", "-c", file], folder, port)


class Program(Server):
    """One of the programs of bench/, running beside the others; it ends by itself or is stopped, and
    the last line of its output is its result."""

    def await_end(self, seconds):
        """Whether it ended by itself in that time."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def lines(self):
        """What it has printed, without a line that is still being written."""
        return [json.loads(line) for line in self.out.read_text().split("\n")[:-1] if line]

    def result(self, failing=False):
        """Its result once it has ended; a failed status is only taken where it is `failing`."""
        status = self.stop()
        lines = self.lines()
        if not lines or (status != 0 and not failing):
            raise self.failure(f"ended with status {status}")
        return lines[-1]


class Gateway(Server):
    def __init__(self, folder, program, config):
        file = folder / f"nemogate-{Server.count}.yaml"
        file.write_text(config)
        super().__init__("nemogate", [program, "run", "--config", file], folder)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def finish(self):
        """A clean stop; anything but status 0 fails the case."""
        status = self.stop()
        if status != 0:
            raise self.failure(f"ended with status {status} on SIGTERM")


def make_certificates(folder):
    """A throw-away CA and a server certificate for localhost; returns their folder."""
    folder.mkdir()
    extension = folder / "server.ext"
    extension.write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
            ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj",
             "/CN=nemogate bench"],
            ["req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
            ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
             "-CAcreateserial", "-days", "2", "-extfile", extension.name, "-out", "server.crt"]):
        done = subprocess.run(["openssl", *command], cwd=folder, capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise Failed(f"openssl: {done.stderr}")
    return folder
