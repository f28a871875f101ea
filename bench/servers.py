"""Starts and stops what a benchmark run needs (Redis, Mosquitto, the null broker, nemogate), each on
a free port of 127.0.0.1 with its files in one temporary folder, and reads what they cost."""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 10
STOP_SECONDS = 30
TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A step of the run went wrong; the text says which and why."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    """User and system time of a process and all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_memory_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine_cpu_seconds():
    """What all processes of the machine have used so far."""
    user, nice, system, _, _, irq, softirq = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


class Server:
    """A child process with its output in a file."""

    def __init__(self, name, command, folder, port=None):
        self.name, self.command, self.port = name, command, port
        self.out = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        with self.out.open("w") as out, self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=log)
        if port is not None:
            self.await_port()

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        return cpu_seconds(self.pid)

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} has ended with status {self.process.returncode}:\n"
                         f"{shlex.join(self.command)}\n{self.tail()}")

    def await_port(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failed(f"{self.name} does not listen on port {self.port}:\n{self.tail()}")

    def stop(self):
        """SIGTERM, and SIGKILL when that does not help in time. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()


class Redis(Server):
    def __init__(self, folder):
        port = free_port()
        super().__init__("redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1",
                                   "--save", "", "--appendonly", "no", "--dir", str(folder),
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

    def flush(self):
        for reply in self.pipeline([["FLUSHALL", "SYNC"]]):
            if isinstance(reply, Failed):
                raise reply

    def unsettled(self, streams, group):
        """Entries not yet read, and read but not acknowledged, over all streams; None while a
        stream has no such group or Redis cannot tell the lag."""
        lag = pending = 0
        for reply in self.pipeline([["XINFO", "GROUPS", stream] for stream in streams]):
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
        super().__init__("mosquitto", ["mosquitto", "-c", str(file)], folder, port)


class NullBroker(Server):
    def __init__(self, folder, programs, seconds):
        port = free_port()
        super().__init__("null_broker", [str(programs / "null_broker"), "--port", str(port),
                                         "--seconds", str(seconds)], folder, port)

    def counts(self):
        self.stop()
        self.check_output()
        return json.loads(self.out.read_text())

    def check_output(self):
        if self.process.returncode != 0:
            raise Failed(f"the null broker failed:\n{self.tail()}")


class Gateway(Server):
    def __init__(self, folder, program, config):
        file = folder / "nemogate.yaml"
        file.write_text(config)
        super().__init__("nemogate", [str(program), "run", "--config", str(file)], folder)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


def run_program(command, seconds=300):
    """Runs one of the programs of bench/ and returns the JSON it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shlex.join(command)}: not done after {seconds} s") from error
    if done.returncode != 0:
        raise Failed(f"{shlex.join(command)}: status {done.returncode}\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout)


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
        done = subprocess.run(["openssl", *command], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"openssl: {done.stderr}")
    return folder
