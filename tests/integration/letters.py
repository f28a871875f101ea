"""What the tests of `nemogate dead-letters` share: the command, and letters for it."""

import fcntl
import json
import os
import struct
import subprocess
import termios
import threading

from harness import gateway_config
from harness.gateway import binary
from scale import PATIENCE

STREAM, DEAD = "nemo:{a}:events", "nemo:{a}:dead"

# The stream keeps what was acknowledged, for a test to look at.
KEPT = {"trim": "none"}


class Command:
    """`dead-letters` with the configuration of a gateway that need not run."""

    def __init__(self, things, redis, broker="mqtt://127.0.0.1:1", **config):
        self.gateway = things.gateway(gateway_config(redis, broker, **config), start=False)

    def __call__(self, *arguments, timeout=60):
        done = self.gateway.command("dead-letters", *arguments, timeout=timeout * PATIENCE)
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments):
        code, out, errors = self(*arguments)
        assert (code, errors) == (0, ""), (code, out, errors)
        return out

    def objects(self, *arguments):
        return [json.loads(line) for line in self(*arguments, "--json")[1].splitlines()]

    def start(self, *arguments, **popen):
        argv = [binary(), "dead-letters", *arguments, "--config", self.gateway.config_path]
        return subprocess.Popen(argv, env=self.gateway.env, **popen)


def head(stream=STREAM, dead_id="1700000000000-0", reason="bad-topic"):
    return {"dead_reason": reason, "dead_detail": f"what {reason} means", "dead_stream": stream,
            "dead_id": dead_id, "dead_deliveries": "1"}


def bury(client, fields, stream=STREAM, dead=DEAD, **of_head):
    """A dead letter as a gateway writes it; its id."""
    return client.xadd(dead, {**head(stream, **of_head), **fields})


def entry_and_letter(client, fields, **of_head):
    """An entry of the stream, and its dead letter: (the entry's id, the letter's)."""
    entry = client.xadd(STREAM, fields)
    return entry, bury(client, fields, dead_id=entry, **of_head)


def on_terminal(command, *arguments, columns=80, errors=False):
    """What the command writes to a terminal, on which its output (or errors) goes."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = command.start(*arguments, stdin=subprocess.DEVNULL,
                            **({"stderr": slave, "stdout": subprocess.DEVNULL} if errors
                               else {"stdout": slave, "stderr": subprocess.DEVNULL}))
    os.close(slave)
    text = bytearray()

    def read():
        try:
            while data := os.read(master, 65536):
                text.extend(data)
        except OSError:
            pass  # EIO: the other side is closed
    reader = threading.Thread(target=read)
    reader.start()
    return process, reader, master, text


def summary(replayed, refused=0, why=None):
    words = f" ({why}; --force replays {'it' if refused == 1 else 'them'})" if why else ""
    return f"replayed {replayed}, refused {refused}{words}, failed 0\n"
