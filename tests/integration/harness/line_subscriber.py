"""mosquitto_sub as a subscriber, for loads that a subscriber in Python cannot follow.

    subscriber = LineSubscriber(tmp_path, mosquitto.port, tls=certs, topics=("nemo/#",)).start()

QoS 1, MQTT 5; payloads must be single lines of text. It gives topic and payload only.
"""

import os
import types

from .process import Process, wait_until

class LineSubscriber(Process):
    name = "line-subscriber"

    def __init__(self, tmp, port, topics=("#",), tls=None):
        super().__init__(tmp)
        self.records_path = os.path.join(self.folder, "records")
        self.port, self.topics, self.tls = port, topics, tls
        self._messages = []
        self._rest = b""
        self._read_to = 0

    def argv(self):
        argv = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-V", "5", "-q", "1",
                "-F", "%t %p", "-d"]
        for topic in self.topics:
            argv += ["-t", topic]
        if self.tls:
            argv += ["--cafile", f"{self.tls}/ca.crt"]
        # Its debug lines begin with "Client", which is no topic of these tests.
        return ["/bin/sh", "-c", 'exec stdbuf -oL "$@" >>"$0"', self.records_path, *argv]

    def wait_ready(self, timeout=10.0):
        def subscribed():
            with open(self.records_path, "rb") as records:
                return b"received SUBACK" in records.read(65536)
        wait_until(lambda: os.path.exists(self.records_path) and subscribed(), timeout, "a SUBACK")

    @property
    def messages(self):
        """Everything received so far; the same list, growing."""
        with open(self.records_path, "rb") as records:
            records.seek(self._read_to)
            new = records.read(16 << 20)
        self._read_to += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            topic, _, payload = line.partition(b" ")
            if topic.startswith((b"nemo/", b"nemogate/")):
                self._messages.append(types.SimpleNamespace(topic=topic.decode(), payload=payload))
        return self._messages
