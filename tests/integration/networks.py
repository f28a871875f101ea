"""Networks between a gateway and Redis that fail in a way of their own."""

import socket
import threading


class ControlCut:
    """Stands before Redis; while cut, links that call themselves ":control" are closed, those that
    there are and those that come."""

    def __init__(self, port):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"
        self._to, self._lock, self._controls, self.is_cut = port, threading.Lock(), [], False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        with self._lock:
            self.is_cut = True
            for end in self._controls:
                self._close(end)

    def heal(self):
        self.is_cut = False

    @staticmethod
    def _close(end):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while True:
            client, _ = self._server.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, sink):
        try:
            while data := source.recv(65536):
                if b":control" in data:
                    with self._lock:
                        self._controls.append(source)
                        if self.is_cut:
                            break
                sink.sendall(data)
        except OSError:
            pass
        self._close(source)
        self._close(sink)
