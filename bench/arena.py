"""The place where a case is measured: makes the servers and programs with the options of a Shape, in
a folder of its own, and keeps every command line and configuration for the report."""

import shlex
import subprocess
import time
from pathlib import Path

from machine import ROOT
from servers import (Failed, Gateway, Mosquitto, Program, Redis, Skipped, free_port,
                     make_certificates)
from shape import GROUP, Shape

WARM_UP = 20000
WARM_UP_RUN = 1  # number of the run that the warm-up's payloads carry; the measured ones have 0
POLL_SECONDS = 0.02


class Arena:
    def __init__(self, folder, build, timeout, extra_expected):
        self.folder, self.build, self.timeout = Path(folder), build, timeout
        self.extra_expected = extra_expected
        self.nemogate = build / "nemogate"
        self.programs = build / "bench"
        self.notes = []
        self.reasons = {}
        self.certificates = None
        self.sign_key = self.folder / "sign.key"
        self.sign_key.write_text("a key for the benchmark, 32 bytes")

    # ---- what the report tells

    def begin(self):
        """A new case: what it runs is noted from here on."""
        self.notes = []

    def note(self, label, text):
        text = text if isinstance(text, str) else shlex.join(str(word) for word in text)
        text = text.replace(f"{ROOT}/", "").replace(f"{self.folder}/", "$FOLDER/")
        if {"label": label, "text": text} not in self.notes:
            self.notes.append({"label": label, "text": text})

    # ---- what is there

    def certificate_folder(self):
        if self.certificates is None:
            self.certificates = make_certificates(self.folder / "tls")
        return self.certificates

    def ca(self, shape):
        return self.certificate_folder() / "ca.crt" if shape.tls else None

    def require(self, shape):
        """Skips the case where this nemogate does not know the encoding (`nemogate check` tells), or
        load cannot write such entries (its help tells)."""
        if shape.qos != 1 and not self.offers("load", "--qos"):
            raise Skipped("this load writes entries of QoS 1 only")
        if shape.encoding not in self.reasons:
            file = self.folder / f"check-{shape.encoding}.yaml"
            file.write_text(Shape(encoding=shape.encoding).config(6379, 1883, None, self.sign_key))
            done = subprocess.run([self.nemogate, "check", "--config", file], capture_output=True,
                                  text=True, timeout=30, check=False)
            said = (done.stdout + done.stderr).strip().replace(f"{file}:", "")
            self.reasons[shape.encoding] = None if done.returncode == 0 else said
        said = self.reasons[shape.encoding]
        if said is not None and shape.encoding == "raw":
            raise Failed(f"nemogate check refuses the base case: {said}")
        if said is not None:
            raise Skipped(f"this nemogate has no encoding {shape.encoding}")

    def offers(self, program, option):
        """Whether a program of bench/ has the option."""
        done = subprocess.run([self.programs / program, "--help"], capture_output=True, text=True,
                              timeout=30, check=False)
        return f"{option} " in done.stdout + done.stderr

    # ---- servers

    def redis(self):
        server = Redis(self.folder)
        self.note("Redis", server.command)
        return server

    def mosquitto(self, shape):
        server = Mosquitto(self.folder, shape.nodelay,
                           self.certificate_folder() if shape.tls else None)
        self.note("mosquitto.conf", server.config)
        return server

    def null_broker(self, shape=Shape(), **options):
        if shape.tls:
            folder = self.certificate_folder()
            options.update(cert=folder / "server.crt", key=folder / "server.key")
        port = free_port()
        command = self.command("null_broker", port=port, seconds=self.timeout * 4, **options)
        self.note("null broker", command)
        server = Program("null_broker", command, self.folder)
        server.port = port
        server.await_line("listening")
        return server

    def gateway(self, shape, redis, broker):
        self.require(shape)
        config = shape.config(redis.port, broker.port, self.ca(shape), self.sign_key)
        self.note("nemogate.yaml", config)
        return Gateway(self.folder, self.nemogate, config)

    # ---- programs

    def command(self, name, **options):
        """The command line of a program; an option that is False or None is left out."""
        words = [str(self.programs / name)]
        for option, value in options.items():
            flag = "--" + option.replace("_", "-")
            if value is True:
                words.append(flag)
            elif value is not False and value is not None:
                words += [flag, str(value)]
        return words

    def run(self, name, **options):
        """Runs a program to its end and returns its result."""
        command = self.command(name, **options)
        self.note(name, command)
        with Program(name, command, self.folder) as program:
            if not program.await_end(self.timeout):
                raise program.failure(f"is not done after {self.timeout} s")
            return program.result()

    def start(self, name, **options):
        command = self.command(name, **options)
        self.note(name, command)
        return Program(name, command, self.folder)

    def load_options(self, shape, **options):
        return {"streams": shape.streams, "keys": shape.keys, "mix": shape.mix,
                "payload": shape.payload, "entry_fields": shape.entry_fields,
                "retain_percent": shape.retain_percent or None,
                "qos": None if shape.qos == 1 else shape.qos, "progress_ms": 0, **options}

    def load(self, shape, redis, messages, **options):
        return self.run("load", port=redis.port,
                        **self.load_options(shape, messages=messages, **options))

    def direct_options(self, shape, broker, **options):
        """load that publishes straight to the broker: the floor of a latency, and the ceiling of a
        broker with a subscriber."""
        return self.load_options(shape, port=broker.port, direct=True, ca=self.ca(shape),
                                 v3=shape.protocol != "5", **options)

    def verify(self, shape, broker, expected, **options):
        """A verifying subscriber, subscribed; it ends when so many distinct messages are there."""
        program = self.start(
            "verify", port=broker.port, ca=self.ca(shape), v3=shape.protocol != "5",
            encoding=shape.encoding, streams=shape.streams, keys=shape.keys,
            expect=expected + self.extra_expected, seconds=self.timeout * 2, **options)
        program.await_line("subscribed")
        return program

    # ---- waiting

    def await_settled(self, lines, streams, seconds, backlog=None):
        """Waits until nothing is unread or unacknowledged in any of the (redis, gateway) lines; asks
        gently, closer towards the end. What was left at which time goes into `backlog`."""
        start = time.monotonic()
        states = []
        while time.monotonic() - start < seconds:
            asked = time.monotonic()
            states = [redis.unsettled(streams, GROUP) for redis, _ in lines]
            now = time.monotonic()
            known = [state for state in states if state is not None]
            if backlog is not None and len(known) == len(lines):
                backlog.append((round(now - start, 4), sum(sum(state) for state in known)))
            if all(state == (0, 0) for state in states):
                return
            for _, gateway in lines:
                gateway.check()
            near = len(known) == len(lines) and sum(state[0] for state in known) == 0
            # asking about many streams takes Redis some time, so it is asked less often
            time.sleep(max(POLL_SECONDS / 10 if near else POLL_SECONDS, 9 * (now - asked)))
        raise lines[0][1].failure(f"has not settled all after {seconds} s (lag and pending: {states})")

    def warm_up(self, shape, lines, messages):
        """A first few entries on every stream, so that nemogate is connected and its memory is
        touched."""
        count = max(messages, shape.streams)
        for redis, _ in lines:
            self.load(shape, redis, count, run=WARM_UP_RUN)
        self.await_settled(lines, shape.stream_names(), max(60, self.timeout))


def verdict(program, patience):
    """The result of a verifying subscriber that should end by itself within that time."""
    program.await_end(patience)
    result = program.result(failing=True)
    return {key: result[key] for key in
            ("ok", "received", "distinct", "duplicates", "lost", "reordered", "skipped", "malformed",
             "expected", "newest_total", "publishes", "rate", "cpu_us", "p50_us", "p90_us", "p99_us",
             "p999_us", "max_us", "mean_us")}
