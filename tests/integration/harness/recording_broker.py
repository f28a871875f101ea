"""A test broker in this process that writes down every message before it acknowledges it.

    broker = RecordingBroker(receive_maximum=50).start()
    config["brokers"][0]["url"] = broker.url
    broker.wait_messages(1000); broker.messages[0].topic, .payload, .user_properties, ...
    assert broker.violations == []                     # what the client did against the specification

It speaks MQTT 5 and 3.1.1: CONNECT, PUBLISH of QoS 0 and 1, PINGREQ, DISCONNECT; last wills and
retained messages are kept (`wills`, `retained`), a second connection of a client id throws the first
one out (0x8E). Nobody can subscribe. What it can be told to do, from the test's thread, at any time:

    hold_acks(after=0), release_acks(count=None)   no PUBACK (after so many more); send what is owed
    stall(), unstall()                 not to read its sockets
    answer = function                  function(message) -> reason code, None (no PUBACK at all), or
                                       RecordingBroker.CLOSE (close the connection); None: accept all
    refuse_connect(code, count=None)   CONNACK with this code (to the next count); code None: accept
    close_after("CONNECT"), ("CONNACK"), (None)
    ack_delay = seconds                a broker that is far away
    answer_pings = False
    disconnect(code=None, client_id=None)   close connections, with a DISCONNECT before it (MQTT 5)
    stop(), start()                    close the port and all connections; open the same port again
    announce(receive_maximum=..., maximum_packet_size=..., maximum_qos=..., retain_available=...,
             server_keep_alive=...)    in CONNACKs from now on (also arguments of the constructor)

`messages` holds everything that came, refused messages too (`code` says so); `accepted()` only what
a subscriber would see. `connections` holds a Connection for each CONNECT that was accepted.
One thread; 30,000 to 60,000 messages per second.
"""

import collections
import selectors
import socket
import struct
import threading
import time

from .message import Message, properties, put_varint, text, varint
from .process import free_port, wait_until

_U16 = struct.Struct(">H")
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

TAKEN_OVER, MALFORMED, PROTOCOL_ERROR = 0x8E, 0x81, 0x82
RECEIVE_MAXIMUM_EXCEEDED, PACKET_TOO_LARGE = 0x93, 0x95
RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED, KEEP_ALIVE_TIMEOUT = 0x9A, 0x9B, 0x8D
_ANNOUNCEMENTS = {"receive_maximum": (0x21, ">H"), "maximum_packet_size": (0x27, ">I"),
                  "maximum_qos": (0x24, ">B"), "retain_available": (0x25, ">B"),
                  "server_keep_alive": (0x13, ">H")}


class Violation(Exception):
    def __init__(self, code, words):
        super().__init__(words)
        self.code = code


class Connection:
    """One connection of a client: what its CONNECT said, and how it ended."""

    def __init__(self, sock):
        self.sock = sock
        self.number = 0               # from 1, 0 before the CONNECT
        self.version = 0              # 5 or 4 (3.1.1)
        self.client_id = ""
        self.assigned = False         # the client left the choice of its client id to the broker
        self.clean_start = False
        self.keep_alive = 0
        self.username = None
        self.password = None          # bytes
        self.properties = []
        self.will = None              # (topic, payload, qos, retain)
        self.announced = {}
        self.received = 0             # PUBLISHes
        self.most_unacknowledged = 0  # the largest number of PUBLISHes of QoS 1 without PUBACK
        self.ended = None             # "disconnect", "lost", "taken over", "violation", "closed", ...
        self.reason_code = None       # of the client's DISCONNECT
        self.heard = time.monotonic()
        self._in = b""
        self._out = bytearray()
        self._owed = collections.deque()  # (packet id, code)
        self._unacknowledged = set()
        self._mask = 0

    @property
    def open(self):
        return self.ended is None

    def __repr__(self):
        return f"<connection {self.number} {self.client_id!r} {self.ended or 'open'}>"


class RecordingBroker:
    CLOSE = "close"

    def __init__(self, port=None, **announce):
        self.port = port or free_port()
        self.messages = []
        self.connections = []
        self.violations = []          # texts
        self.retained = {}            # topic -> payload
        self.wills = []               # (client id, topic, payload)
        self.refused_connects = 0
        self.answer = None
        self.ack_delay = 0.0
        self.answer_pings = True
        self._announce = {}
        self.announce(**announce)
        self._budget = None           # PUBACKs that may still be sent; None: any number
        self._stalled = False
        self._refusal = (None, None)  # code, how many times (None: until told otherwise)
        self._close_after = None
        self._live = set()
        self._delayed = collections.deque()  # (due, connection, bytes)
        self._listener = None
        self._next_number = 1
        self._calls = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_in, _READ, self._on_wake)
        self._closing = False
        self.error = None             # of the broker itself; close() raises it
        self._thread = threading.Thread(target=self._run, name="recording-broker", daemon=True)
        self._thread.start()

    # ---- for the test's thread

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self):
        """Opens the port. Records and what it was told stay over stop() and start()."""
        self._do(self._open_port)
        return self

    def stop(self):
        """As if it had been killed: no DISCONNECT, no last will; connecting is refused."""
        self._do(self._close_port)

    def close(self):
        if not self._thread.is_alive():
            return
        self.stop()
        self._closing = True
        self._wake_out.send(b"x")
        self._thread.join(10)
        self._selector.close()
        self._wake_out.close()
        self._wake_in.close()
        if self.error:
            raise self.error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def announce(self, **limits):
        for name in limits:
            if name not in _ANNOUNCEMENTS:
                raise TypeError(f"a broker cannot announce {name!r}")
        self._announce = {**self._announce, **limits}

    def hold_acks(self, after=0):
        self._do(lambda: setattr(self, "_budget", after))

    def release_acks(self, count=None):
        """Sends the owed PUBACKs and goes on; with count only so many, and then holds again."""
        def release():
            self._budget = None if count is None else (self._budget or 0) + count
            for connection in list(self._live):
                self._send_acks(connection)
        self._do(release)

    def owed_acks(self):
        return sum(len(c._owed) for c in list(self._live))

    def stall(self):
        self._set_stalled(True)

    def unstall(self):
        self._set_stalled(False)

    def refuse_connect(self, code, count=None):
        self._do(lambda: setattr(self, "_refusal", (code, count)))

    def close_after(self, packet):
        self._do(lambda: setattr(self, "_close_after", packet))

    def disconnect(self, code=None, client_id=None):
        def end():
            for connection in list(self._live):
                if client_id in (None, connection.client_id):
                    self._end(connection, "closed", code)
        self._do(end)

    def accepted(self):
        return [m for m in list(self.messages) if m.code is not None and m.code < 0x80]

    def payloads(self, topic):
        return [m.payload for m in self.accepted() if m.topic == topic]

    def open_connections(self):
        return [c for c in list(self.connections) if c.open]

    def wait_messages(self, count, timeout=10.0):
        wait_until(lambda: len(self.messages) >= count, timeout,
                   lambda: f"{count} messages ({len(self.messages)} came)")
        return self.messages

    def wait_connections(self, count, timeout=10.0):
        """Until exactly so many connections are open."""
        wait_until(lambda: len(self.open_connections()) == count, timeout,
                   lambda: f"{count} open connections of {self.connections}")
        return self.open_connections()

    def _set_stalled(self, stalled):
        def change():
            self._stalled = stalled
            for connection in self._live:
                connection.heard = time.monotonic()
                self._watch(connection)
        self._do(change)

    def _do(self, function):
        """Runs function on the broker's thread and waits for its end."""
        done = threading.Event()
        failure = []

        def call():
            try:
                function()
            except Exception as error:
                failure.append(error)
            done.set()
        self._calls.append(call)
        self._wake_out.send(b"x")
        if not done.wait(10):
            raise self.error or TimeoutError("the recording broker does not answer")
        if failure:
            raise failure[0]

    # ---- the broker's thread

    def _run(self):
        try:
            while not self._closing:
                for key, mask in self._selector.select(self._timeout()):
                    key.data(mask)
                self._send_delayed()
                self._check_keep_alive()
        except Exception as error:
            self.error = error

    def _timeout(self):
        if self._delayed:
            return max(0.0, min(1.0, self._delayed[0][0] - time.monotonic()))
        return 1.0

    def _on_wake(self, _mask):
        self._wake_in.recv(4096)
        while self._calls:
            self._calls.popleft()()

    def _open_port(self):
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        listener.setblocking(False)
        self._selector.register(listener, _READ, self._on_accept)
        self._listener = listener

    def _close_port(self):
        if self._listener is None:
            return
        self._selector.unregister(self._listener)
        self._listener.close()
        self._listener = None
        for connection in list(self._live):
            self._end(connection, "broker stopped")

    def _on_accept(self, _mask):
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock)
        self._live.add(connection)
        self._watch(connection)

    def _watch(self, connection):
        mask = (0 if self._stalled else _READ) | (_WRITE if connection._out else 0)
        if mask == connection._mask:
            return
        if connection._mask and mask:
            self._selector.modify(connection.sock, mask, lambda m: self._on_socket(connection, m))
        elif mask:
            self._selector.register(connection.sock, mask, lambda m: self._on_socket(connection, m))
        else:
            self._selector.unregister(connection.sock)
        connection._mask = mask

    def _on_socket(self, connection, mask):
        if mask & _WRITE and connection.open:
            self._send(connection, b"")
        if mask & _READ and connection.open and not self._stalled:
            self._on_readable(connection)

    def _on_readable(self, connection):
        try:
            data = connection.sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(connection, "lost")
            return
        connection.heard = time.monotonic()
        try:
            self._take(connection, connection._in + data if connection._in else data)
        except Violation as violation:
            self._violate(connection, violation.code, str(violation))
        except (ValueError, IndexError, struct.error) as error:
            self._violate(connection, MALFORMED, f"malformed packet: {error}")
        if connection.open:
            self._send_acks(connection)

    def _take(self, connection, data):
        at, end = 0, len(data)
        while end - at >= 2 and connection.open:
            try:
                length, body = varint(data, at + 1)
            except IndexError:
                break  # the length is not whole yet
            limit = connection.announced.get("maximum_packet_size")
            if limit and body - at + length > limit:
                raise Violation(PACKET_TOO_LARGE, f"a packet of {body - at + length} bytes, "
                                f"Maximum Packet Size is {limit}")
            stop = body + length
            if stop > end:
                break
            if data[at] >> 4 == 3 and connection.number:
                self._publish(connection, data[at], data, body, stop)
            else:
                self._packet(connection, data[at], data[body:stop])
            at = stop
        connection._in = data[at:]

    def _packet(self, connection, first, body):
        if connection.number == 0:
            if first != 0x10:
                raise Violation(PROTOCOL_ERROR, f"first packet 0x{first:02x} is no CONNECT")
            self._connect(connection, body)
        elif first == 0xC0 and not body:
            if self.answer_pings:
                self._send(connection, b"\xd0\x00")
        elif first == 0xE0:
            connection.reason_code = body[0] if body else 0
            if connection.reason_code == 0:
                connection.will = None
            self._end(connection, "disconnect")
        else:
            raise Violation(PROTOCOL_ERROR, f"packet 0x{first:02x} is not for this broker")

    # ---- CONNECT

    def _connect(self, connection, body):
        protocol, at = text(body, 0)
        connection.version, flags = body[at], body[at + 1]
        if protocol != b"MQTT" or connection.version not in (4, 5) or flags & 1:
            raise Violation(MALFORMED, f"CONNECT of {protocol!r} {body[at]}, flags {flags:#x}")
        connection.keep_alive = _U16.unpack_from(body, at + 2)[0]
        at += 4
        if connection.version == 5:
            connection.properties, at = self._properties(body, at)
        client_id, at = text(body, at)
        connection.client_id = client_id.decode()
        connection.clean_start = bool(flags & 2)
        if flags & 4:
            if connection.version == 5:
                _, at = self._properties(body, at)
            topic, at = text(body, at)
            payload, at = text(body, at)
            connection.will = (topic.decode(), payload, flags >> 3 & 3, bool(flags & 0x20))
        if flags & 0x80:
            username, at = text(body, at)
            connection.username = username.decode()
        if flags & 0x40:
            connection.password, at = text(body, at)
        if at != len(body):
            raise Violation(MALFORMED, "CONNECT is longer than its fields")
        self._answer_connect(connection)

    @staticmethod
    def _properties(body, at):
        length, at = varint(body, at)
        return properties(body[at:at + length]), at + length

    def _answer_connect(self, connection):
        if self._close_after == "CONNECT":
            connection.will = None
            self._end(connection, "closed")
            return
        code, times = self._refusal
        if code is not None:
            if times is not None:
                self._refusal = (code, times - 1) if times > 1 else (None, None)
            self.refused_connects += 1
            connection.will = None
            self._send(connection, self._connack(connection, code))
            self._end(connection, "refused")
            return
        if not connection.client_id:
            connection.client_id = f"assigned-{self._next_number}"
            connection.assigned = True
        for other in list(self._live):
            if other.number and other.client_id == connection.client_id:
                self._end(other, "taken over", TAKEN_OVER)
        connection.number = self._next_number
        self._next_number += 1
        if connection.version == 5:
            connection.announced = {k: v for k, v in self._announce.items() if v is not None}
        keep_alive = connection.announced.get("server_keep_alive")
        connection.keep_alive = connection.keep_alive if keep_alive is None else keep_alive
        self.connections.append(connection)
        self._send(connection, self._connack(connection, 0))
        if self._close_after == "CONNACK":
            self._end(connection, "closed")

    @staticmethod
    def _connack(connection, code):
        if connection.version != 5:
            return bytes((0x20, 2, 0, code))
        limits = b"".join(bytes((_ANNOUNCEMENTS[name][0],)) + struct.pack(_ANNOUNCEMENTS[name][1], v)
                          for name, v in connection.announced.items())
        if connection.assigned:
            name = connection.client_id.encode()
            limits += b"\x12" + _U16.pack(len(name)) + name
        body = bytes((0, code)) + put_varint(len(limits)) + limits
        return b"\x20" + put_varint(len(body)) + body

    # ---- PUBLISH

    def _publish(self, connection, first, data, at, stop):
        qos = first >> 1 & 3
        announced = connection.announced
        if qos > announced.get("maximum_qos", 1):
            raise Violation(QOS_NOT_SUPPORTED, f"PUBLISH of QoS {qos}")
        retain = bool(first & 1)
        if retain and not announced.get("retain_available", 1):
            raise Violation(RETAIN_NOT_SUPPORTED, "retained PUBLISH, Retain Available is 0")
        topic_end = at + 2 + (data[at] << 8 | data[at + 1])
        if topic_end + (2 if qos else 0) > stop:
            raise Violation(MALFORMED, "malformed packet: PUBLISH ends in its topic")
        topic = data[at + 2:topic_end].decode()
        if not topic or "+" in topic or "#" in topic or "\0" in topic:
            raise Violation(MALFORMED, f"PUBLISH to topic {topic!r}")
        at = topic_end
        packet_id = 0
        if qos:
            packet_id = data[at] << 8 | data[at + 1]
            at += 2
            self._count_unacknowledged(connection, packet_id)
        raw = b""
        if connection.version == 5:
            length, at = varint(data, at)
            raw = data[at:at + length]
            at += length
        if at > stop:
            raise Violation(MALFORMED, "malformed packet: PUBLISH goes beyond its end")
        connection.received += 1
        message = Message(topic, data[at:stop], qos, retain, bool(first & 8), packet_id, 0,
                          connection.number, connection.client_id, raw, connection.heard)
        if self.answer is not None:
            self._judge(connection, message)
            return
        self.messages.append(message)
        if retain:
            self._retain(message.topic, message.payload)
        if qos:
            connection._owed.append((packet_id, 0))

    @staticmethod
    def _count_unacknowledged(connection, packet_id):
        waiting = connection._unacknowledged
        if packet_id == 0 or packet_id in waiting:
            raise Violation(PROTOCOL_ERROR, f"packet identifier {packet_id} is 0 or in use")
        waiting.add(packet_id)
        if len(waiting) > connection.most_unacknowledged:
            connection.most_unacknowledged = len(waiting)
            limit = connection.announced.get("receive_maximum", 65535)
            if len(waiting) > limit:
                raise Violation(RECEIVE_MAXIMUM_EXCEEDED, f"{len(waiting)} PUBLISHes without PUBACK, "
                                f"Receive Maximum is {limit}")

    def _judge(self, connection, message):
        code = self.answer(message)
        closes = code == self.CLOSE
        message = message._replace(code=None if closes else code)
        self.messages.append(message)
        if closes:
            self._end(connection, "closed")
            return
        if code is None:
            return
        if message.retain and code < 0x80:
            self._retain(message.topic, message.payload)
        if message.qos:
            connection._owed.append((message.packet_id, code))

    def _retain(self, topic, payload):
        if payload:
            self.retained[topic] = payload
        else:
            self.retained.pop(topic, None)

    def _send_acks(self, connection):
        owed = connection._owed
        count = len(owed) if self._budget is None else min(len(owed), self._budget)
        if count == 0:
            return
        if self._budget is not None:
            self._budget -= count
        out = bytearray()
        for _ in range(count):
            packet_id, code = owed.popleft()
            connection._unacknowledged.discard(packet_id)
            # 3.1.1 has no reason codes: what is refused is acknowledged all the same.
            if code and connection.version == 5:
                out += b"\x40\x03" + _U16.pack(packet_id) + bytes((code,))
            else:
                out += b"\x40\x02" + _U16.pack(packet_id)
        if self.ack_delay or self._delayed:
            self._delayed.append((time.monotonic() + self.ack_delay, connection, bytes(out)))
        else:
            self._send(connection, out)

    def _send_delayed(self):
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            _, connection, out = self._delayed.popleft()
            if connection.open:
                self._send(connection, out)

    # ---- sending and ending

    def _send(self, connection, data):
        connection._out += data
        try:
            sent = connection.sock.send(connection._out) if connection._out else 0
            del connection._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._end(connection, "lost")
            return
        self._watch(connection)

    def _violate(self, connection, code, words):
        self.violations.append(f"connection {connection.number} {connection.client_id!r}: {words}")
        self._end(connection, "violation", code)

    def _end(self, connection, how, code=None):
        """Closes; with a code MQTT 5 clients get a DISCONNECT before."""
        if not connection.open:
            return
        connection.ended = how
        if code is not None and connection.version == 5 and connection.number:
            try:
                connection.sock.send(bytes((0xE0, 2, code, 0)))
            except OSError:
                pass
        self._live.discard(connection)
        if connection._mask:
            self._selector.unregister(connection.sock)
            connection._mask = 0
        connection.sock.close()
        if connection.number and connection.will and how != "broker stopped":
            topic, payload, _, retain = connection.will
            self.wills.append((connection.client_id, topic, payload))
            if retain:
                self._retain(topic, payload)

    def _check_keep_alive(self):
        if self._stalled:
            return
        now = time.monotonic()
        for connection in list(self._live):
            if connection.keep_alive and now - connection.heard > 1.5 * connection.keep_alive:
                self._end(connection, "keep alive", KEEP_ALIVE_TIMEOUT)
