"""A peer that can be switched between a sane server and a hostile one, on one port.

    front = Front(redis.port)                  # what connects to front.port talks to the real server
    front.turn_hostile(behaviour)              # behaviour(talk) is called for each connection
    front.wait_served(30)                      # so many connections have met it
    front.turn_sane()

A switch closes all connections. A behaviour runs in a thread of its own, ends when it returns or the
other side is gone, and its connection is closed then.
"""

import contextlib
import socket
import threading
import time

from harness import free_port, wait_until


class Talk:
    """One connection to a hostile server."""

    def __init__(self, sock, front):
        self.sock, self._front = sock, front
        self._got = b""

    def send(self, data):
        self.sock.sendall(data)

    def receive(self):
        """More bytes; ends the behaviour when there are none to come."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the gateway has closed")
        return data

    def drain(self, seconds=10.0):
        """Takes what comes until the gateway closes, at most so long."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass

    def flood(self, chunk, most):
        """Sends chunk again and again, most bytes in all, as long as somebody listens."""
        sent = 0
        while sent < most and self._front.is_hostile:
            self.sock.sendall(chunk)
            sent += len(chunk)

    def trickle(self, data, seconds):
        """One byte each so many seconds."""
        for i in range(len(data)):
            self.sock.sendall(data[i:i + 1])
            time.sleep(seconds)

    # ---- Redis

    def command(self):
        """The next command, as a list of bytes."""
        while True:
            end = resp_end(self._got, 0)
            if end is not None:
                raw, self._got = self._got[:end], self._got[end:]
                return split_command(raw)
            self._got += self.receive()

    @contextlib.contextmanager
    def upstream(self):
        """A function that has a command answered by the sane server: words -> reply, as it came."""
        with socket.create_connection(("127.0.0.1", self._front.upstream)) as server:
            def ask(words):
                server.sendall(b"*%d\r\n" % len(words) +
                               b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
                got = b""
                while resp_end(got, 0) is None:
                    data = server.recv(262144)
                    if not data:
                        raise ConnectionError("the sane server has closed")
                    got += data
                return got
            yield ask


def resp_end(data, at):
    """Where the RESP value at this offset ends; None: it is not whole."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, number = data[at:at + 1], data[at + 1:line]
    at = line + 2
    if kind == b"$" and int(number) >= 0:
        at += int(number) + 2
        return at if at <= len(data) else None
    if kind == b"*":
        for _ in range(int(number)):
            at = resp_end(data, at)
            if at is None:
                return None
    return at


def split_command(raw):
    words, at = [], raw.index(b"\r\n") + 2
    while at < len(raw):
        line = raw.index(b"\r\n", at)
        length = int(raw[at + 1:line])
        words.append(raw[line + 2:line + 2 + length])
        at = line + 2 + length + 2
    return words


class Front:
    def __init__(self, upstream):
        self.upstream = upstream
        self.port = free_port()
        self.served = 0                    # connections that have met the hostile server
        self.errors = []                   # faults of the behaviours themselves
        self._behaviour = None
        self._sockets = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    # ---- for the test

    @property
    def is_hostile(self):
        return self._behaviour is not None

    def turn_hostile(self, behaviour):
        self._switch(behaviour)

    def turn_sane(self):
        self._switch(None)

    def _switch(self, behaviour):
        with self._lock:
            self._behaviour = behaviour
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def wait_served(self, count, timeout=30.0):
        wait_until(lambda: self.served >= count, timeout,
                   lambda: f"{count} hostile connections ({self.served} were made)")

    def close(self):
        self._closing = True
        self._listener.close()
        self._switch(None)
        if self.errors:
            raise self.errors[0]

    # ---- connections

    def _accept(self):
        while not self._closing:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                behaviour = self._behaviour
                self._sockets.add(sock)
            threading.Thread(target=self._run, args=(sock, behaviour), daemon=True).start()

    def _run(self, sock, behaviour):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if behaviour is None:
                self._carry(sock)
            else:
                sock.settimeout(60)
                behaviour(Talk(sock, self))
        except OSError:
            pass  # the gateway has closed, or a switch did
        except Exception as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._sockets.discard(sock)
                self.served += behaviour is not None
            sock.close()

    def _carry(self, sock):
        with socket.create_connection(("127.0.0.1", self.upstream)) as other:
            other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.add(other)
            back = threading.Thread(target=_pump, args=(other, sock), daemon=True)
            back.start()
            _pump(sock, other)
            back.join()
            with self._lock:
                self._sockets.discard(other)


def _pump(source, target):
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def watch(gateway, seconds):
    """The most memory it has had during the next seconds."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        gateway.check_running()
        most = max(most, gateway.rss_kb())
        time.sleep(0.05)
    return most


def assert_clean_log(gateway):
    """Nothing of what the peer said can be taken for a line, or an order to a terminal."""
    with open(gateway.log_path, "rb") as log:
        text = log.read()
    assert all(byte >= 0x20 or byte == 0x0a for byte in text), "control characters in the log"
    for line in text.decode().splitlines():
        assert line.startswith("ts=") and " msg=" in line, line
