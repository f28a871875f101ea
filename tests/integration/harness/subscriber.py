"""A paho subscriber in a process of its own.

    subscriber = Subscriber(tmp_path, mosquitto.port).start()   # waits for the SUBACK
    ...
    subscriber.wait_messages(1000); subscriber.messages[0].topic, .payload, .user_properties

It connects again by itself when the broker comes back. persistent=True keeps its session (clean
start off), so that the broker keeps what comes while it is away. About 10,000 messages per second.
"""

import json
import os
import sys

from .message import Message
from .process import Process, wait_until
from .subscriber_process import FLAG_DUP, FLAG_RETAIN, RECORD


class Subscriber(Process):
    name = "subscriber"

    def __init__(self, tmp, port, topics=("#",), tls=None, version=5, qos=1, client_id=None,
                 persistent=False, username=None, password=None):
        super().__init__(tmp)
        self.records_path = os.path.join(self.folder, "records")
        self.options = {
            "port": port, "topics": [topics] if isinstance(topics, str) else list(topics),
            "tls": str(tls) if tls else None, "version": version, "qos": qos,
            "client_id": client_id or f"test-{os.path.basename(self.folder)}-{os.getpid()}",
            "persistent": persistent, "username": username, "password": password,
        }
        self._messages = []
        self._rest = b""
        self._read_to = 0

    def argv(self):
        # The shell appends standard output to the records, over all starts, and is gone at once.
        program = os.path.join(os.path.dirname(__file__), "subscriber_process.py")
        return ["/bin/sh", "-c", 'exec "$@" >>"$0"', self.records_path, sys.executable, "-B", program,
                json.dumps(self.options)]

    def launch(self):
        self._subscribed_before = self.log_text().count("subscribed")
        return super().launch()

    def wait_ready(self, timeout=10.0):
        def subscribed():
            self.check_running()
            return self.log_text().count("subscribed") > self._subscribed_before
        wait_until(subscribed, timeout, f"the subscriber's SUBACK ({self.log_path})")

    @property
    def messages(self):
        """Everything received so far; the same list, growing."""
        try:
            with open(self.records_path, "rb") as records:
                records.seek(self._read_to)
                new = records.read()
        except FileNotFoundError:
            return self._messages
        self._read_to += len(new)
        data, at = self._rest + new, 0
        while len(data) - at >= RECORD.size:
            topic, payload, raw, flags, packet_id, when = RECORD.unpack_from(data, at)
            start = at + RECORD.size
            end = start + topic + payload + raw
            if end > len(data):
                break
            self._messages.append(Message(
                data[start:start + topic].decode(), data[start + topic:end - raw], flags & 3,
                bool(flags & FLAG_RETAIN), bool(flags & FLAG_DUP), packet_id, 0, 0, "",
                data[end - raw:end], when))
            at = end
        self._rest = data[at:]
        return self._messages

    def wait_messages(self, count, timeout=10.0):
        wait_until(lambda: len(self.messages) >= count, timeout,
                   lambda: f"{count} messages ({len(self.messages)} came)")
        return self.messages
