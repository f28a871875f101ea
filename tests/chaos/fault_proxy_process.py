"""The program of FaultProxy: it carries bytes between listeners and targets, and is told what to do
with them over a unix socket, one JSON object per line; each is answered by one line.

    fault_proxy_process.py CONTROL '[["redis-1", 7001, 6379], ...]'     (name, own port, target)

One thread, one selector, no copy of more than one chunk per turn. It alters no byte and no order:
all it can do to a connection is to hold it, slow it, or end it.
"""

import collections
import json
import os
import selectors
import socket
import struct
import sys
import time

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
CHUNK = 65536
QUEUE_MAX = 1 << 20  # bytes that one direction keeps back; then its source is not read
RST = struct.pack("ii", 1, 0)


class Mode:
    """What a path does to the bytes of one direction."""

    def __init__(self, stall=False, delay=0.0, rate=0):
        self.stall = stall
        self.delay = delay  # seconds
        self.rate = rate    # bytes per second; 0: as they come


class Direction:
    """The bytes from one socket to the other."""

    def __init__(self, connection, source, sink, side):
        self.connection, self.source, self.sink, self.side = connection, source, sink, side
        self.queue = collections.deque()  # [due, bytes]
        self.queued = 0
        self.ended = False    # the source has sent its FIN
        self.shut = False     # and the sink has been told
        self.blocked = False  # the sink takes no more at the moment
        self.next_send = 0.0  # of a throttled path

    @property
    def mode(self):
        return self.connection.path.modes[self.side]

    def wants_read(self):
        return not (self.ended or self.mode.stall or self.queued >= QUEUE_MAX)


class Connection:
    def __init__(self, proxy, path, client, server):
        self.proxy, self.path = proxy, path
        self.client, self.server = client, server
        self.up = Direction(self, client, server, "up")
        self.down = Direction(self, server, client, "down")
        self.masks = {client: 0, server: 0}
        self.half_open = None  # the socket that was left open

    def directions(self):
        return (self.up, self.down)


class Path:
    def __init__(self, name, port, target):
        self.name, self.port, self.target = name, port, target
        self.modes = {"up": Mode(), "down": Mode()}
        self.base = 0.0  # seconds that bytes of each direction take always
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.setblocking(False)
        self.listening = False
        self.connections = set()
        self.accepted = 0


class Proxy:
    def __init__(self, control, paths):
        self.selector = selectors.DefaultSelector()
        self.paths = {name: Path(name, port, target) for name, port, target in paths}
        self.timed = set()  # directions that wait for a time
        self.quit = False
        for path in self.paths.values():
            self.listen(path)
        server = socket.socket(socket.AF_UNIX)
        server.bind(control)
        server.listen(1)
        self.selector.register(server, READ, lambda _mask: self.on_control(server))

    # ---- control

    def on_control(self, server):
        sock, _ = server.accept()
        rest = bytearray()

        def on_readable(_mask):
            data = sock.recv(CHUNK)
            if not data:
                self.quit = True
                return
            rest.extend(data)
            while b"\n" in rest:
                line, _, tail = bytes(rest).partition(b"\n")
                rest[:] = tail
                sock.sendall(json.dumps(self.obey(json.loads(line))).encode() + b"\n")
        self.selector.register(sock, READ, on_readable)

    def obey(self, order):
        names = order.get("paths") or list(self.paths)
        results = [getattr(self, "do_" + order["do"])(self.paths[name], order) for name in names]
        return dict(zip(names, results))

    def do_set(self, path, order):
        for side in order.get("sides") or ("up", "down"):
            path.modes[side] = Mode(**order["mode"])
        self.look_again(path)

    def do_base(self, path, order):
        path.base = order["seconds"]

    def do_reset(self, path, _order):
        count = len(path.connections)
        for connection in list(path.connections):
            self.end(connection, reset=True)
        return count

    def do_half_open(self, path, order):
        """Ends one side of each connection; the other hears nothing of it until heal."""
        for connection in list(path.connections):
            if connection.half_open is not None:
                continue
            kept = connection.client if order["keep"] == "client" else connection.server
            dropped = connection.server if kept is connection.client else connection.client
            connection.half_open = kept
            for direction in connection.directions():
                self.timed.discard(direction)
            for sock in (kept, dropped):
                self.watch(connection, sock, 0)
            close(dropped, reset=False)

    def do_refuse(self, path, order):
        if order["on"]:
            self.stop_listening(path)
        else:
            self.listen(path)

    def do_heal(self, path, _order):
        for connection in list(path.connections):
            if connection.half_open is not None:
                self.end(connection, reset=True)
        path.modes = {"up": Mode(), "down": Mode()}
        self.listen(path)
        self.look_again(path)

    def do_count(self, path, _order):
        return {"open": len(path.connections), "accepted": path.accepted}

    def look_again(self, path):
        for connection in list(path.connections):
            if connection.half_open is not None:
                continue
            for direction in connection.directions():
                self.forward(direction)
            if connection in path.connections:
                self.update(connection)

    # ---- connections

    def listen(self, path):
        if path.listening:
            return
        path.listening = True
        path.listener.listen(128)
        self.selector.register(path.listener, READ, lambda _mask: self.on_accept(path))

    def stop_listening(self, path):
        """The socket stays bound, so that nobody else gets the port meanwhile."""
        if path.listening:
            path.listening = False
            self.selector.unregister(path.listener)
            path.listener.shutdown(socket.SHUT_RDWR)

    def on_accept(self, path):
        try:
            client, _ = path.listener.accept()
        except OSError:
            return
        path.accepted += 1
        server = socket.socket()
        server.settimeout(0.5)
        try:
            server.connect(("127.0.0.1", path.target))
        except OSError:
            close(server, reset=False)
            close(client, reset=True)
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, path, client, server)
        path.connections.add(connection)
        self.update(connection)

    def end(self, connection, reset):
        path = connection.path
        if connection not in path.connections:
            return
        path.connections.discard(connection)
        for direction in connection.directions():
            self.timed.discard(direction)
        for sock in (connection.client, connection.server):
            self.watch(connection, sock, 0)
            close(sock, reset)

    def update(self, connection):
        """Asks the selector for what both directions want now."""
        up, down = connection.up, connection.down
        for sock, reads, writes in ((connection.client, up, down), (connection.server, down, up)):
            self.watch(connection, sock, (READ if reads.wants_read() else 0)
                       | (WRITE if writes.blocked else 0))

    def watch(self, connection, sock, mask):
        before = connection.masks[sock]
        if mask == before:
            return
        connection.masks[sock] = mask
        if before and mask:
            self.selector.modify(sock, mask, lambda m: self.on_socket(connection, sock, m))
        elif mask:
            self.selector.register(sock, mask, lambda m: self.on_socket(connection, sock, m))
        else:
            self.selector.unregister(sock)

    def on_socket(self, connection, sock, mask):
        is_client = sock is connection.client
        reads = connection.up if is_client else connection.down
        writes = connection.down if is_client else connection.up
        if connection.half_open is not None or connection not in connection.path.connections:
            return
        if mask & WRITE:
            writes.blocked = False
            self.forward(writes)
        if mask & READ and reads.wants_read() and connection in connection.path.connections:
            self.take(reads)
        if connection in connection.path.connections:
            self.update(connection)

    def take(self, direction):
        try:
            data = direction.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.end(direction.connection, reset=True)
            return
        if data:
            delay = direction.connection.path.base + direction.mode.delay
            direction.queue.append([time.monotonic() + delay, data])
            direction.queued += len(data)
        else:
            direction.ended = True
        self.forward(direction)

    def forward(self, direction):
        """Sends what is due; whatever is not due puts the direction among the timed ones."""
        self.timed.discard(direction)
        mode = direction.mode
        while direction.queue and not direction.blocked and not mode.stall:
            now = time.monotonic()
            wait_for = max(direction.queue[0][0], direction.next_send if mode.rate else 0.0)
            if wait_for > now:
                self.timed.add(direction)
                return
            data = direction.queue[0][1]
            size = len(data) if not mode.rate else max(32, mode.rate // 50)
            try:
                sent = direction.sink.send(data[:size])
            except BlockingIOError:
                direction.blocked = True
                return
            except OSError:
                self.end(direction.connection, reset=True)
                return
            direction.queued -= sent
            if mode.rate:
                direction.next_send = now + sent / mode.rate
            if sent == len(data):
                direction.queue.popleft()
            else:
                direction.queue[0][1] = data[sent:]
        if direction.ended and not direction.queue and not mode.stall:
            self.shut(direction)

    def shut(self, direction):
        connection = direction.connection
        if not direction.shut:
            direction.shut = True
            try:
                direction.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        if connection.up.shut and connection.down.shut:
            self.end(connection, reset=False)

    # ---- the loop

    def timeout(self):
        if not self.timed:
            return None
        due = min(max(d.queue[0][0], d.next_send if d.mode.rate else 0.0) for d in self.timed)
        return max(0.0, due - time.monotonic())

    def run(self):
        while not self.quit:
            for key, mask in self.selector.select(self.timeout()):
                key.data(mask)
            for direction in list(self.timed):
                connection = direction.connection
                if direction in self.timed:
                    self.forward(direction)
                if connection in connection.path.connections:
                    self.update(connection)


def close(sock, reset):
    try:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        sock.close()
    except OSError:
        pass


if __name__ == "__main__":
    Proxy(sys.argv[1], json.loads(sys.argv[2])).run()
    os._exit(0)
