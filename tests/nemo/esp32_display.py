"""An ESP32 tool display, as its firmware behaves on the wire: MQTT 3.1.1 without TLS, clean session,
QoS 0, and a library that drops, without a word, every packet of more than 256 bytes.

    display = Esp32Display(port, tool=7).power_on()
    wait_until(lambda: display.green, 5)
    display.power_off()

It shows user, time and labels as they come, and is green if and only if event_type is "enabled".
After power on it shows "--" in red until something arrives.
"""

import json
import socket
import struct
import threading

BUFFER = 256
FIELDS = ("event_type", "user_name", "timestamp", "time_label", "user_label", "tool_name")
NOTHING = dict.fromkeys(FIELDS, "--")


def text(words):
    raw = words.encode()
    return struct.pack(">H", len(raw)) + raw


class Esp32Display:
    def __init__(self, port, tool, prefix="nemo/esp32"):
        self.port = port
        self.topics = (f"{prefix}/{tool}/status", f"{prefix}/overall")
        self.tool = tool
        self.socket = None
        self.shown = dict(NOTHING)
        self.history = []    # what was shown, one after the other
        self.dropped = []    # sizes of packets over the limit
        self.largest = 0

    @property
    def green(self):
        return self.shown["event_type"] == "enabled"

    def power_on(self):
        self.shown = dict(NOTHING)
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connect = text("MQTT") + bytes([4, 2]) + struct.pack(">H", 15) + \
            text(f"ESP32_Display_{self.tool}")
        self.socket.sendall(bytes([0x10, len(connect)]) + connect)
        kind, _, body = self.packet()
        assert kind == 0x20 and body[1] == 0, f"CONNACK {body!r}"
        for number, topic in enumerate(self.topics, 1):
            subscribe = struct.pack(">H", number) + text(topic) + b"\0"
            self.socket.sendall(bytes([0x82, len(subscribe)]) + subscribe)
        self.socket.settimeout(10)  # below the 15 s of keep-alive: silence is a PINGREQ
        threading.Thread(target=self.loop, args=(self.socket,), daemon=True).start()
        return self

    def power_off(self):
        """As if unplugged: no DISCONNECT."""
        if self.socket is not None:
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
            self.socket = None
        self.shown = dict(NOTHING)

    close = power_off

    def read(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise OSError("closed")
            data += piece
        return data

    def packet(self):
        """(first byte, bytes on the wire, body)"""
        head = self.read(1)[0]
        length = shift = digits = 0
        while True:
            digit = self.read(1)[0]
            length |= (digit & 0x7F) << shift
            shift, digits = shift + 7, digits + 1
            if digit < 0x80:
                return head, 1 + digits + length, self.read(length)

    def loop(self, mine):
        while self.socket is mine:
            try:
                head, size, body = self.packet()
            except TimeoutError:
                mine.sendall(b"\xc0\x00")
                continue
            except (OSError, AttributeError):
                return
            if head & 0xF0 == 0x30:
                self.publish(size, body)

    def publish(self, size, body):
        if size > BUFFER:
            self.dropped.append(size)
            return
        self.largest = max(self.largest, size)
        length = struct.unpack_from(">H", body)[0]
        topic, payload = body[2:2 + length].decode(), body[2 + length:]
        if topic != self.topics[0]:
            return
        try:
            status = json.loads(payload)
        except ValueError:
            return
        self.shown = {field: status.get(field, self.shown[field]) for field in FIELDS}
        self.history.append(self.shown)
