#!/usr/bin/python3
"""A gateway made of paper: the admin server's HTTP interface with data that a test or a person sets,
to look at the monitor page and to test it without Redis and brokers.

    mock_gateway.py [--port 9464] [--case fine]     serves core/page; cases: see mock_cases.py
"""

import argparse
import json
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import mock_cases

PAGE = Path(__file__).resolve().parents[2] / "core" / "page"
CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
       "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
STATUS_EVERY = 2.0


def page_files():
    """{path: (file, content type)} as core/page/FILES lists them."""
    files = {}
    for line in (PAGE / "FILES").read_text(encoding="utf-8").splitlines():
        name, kind = line.split(maxsplit=1)
        files["/" if name == "index.html" else f"/{name}"] = (PAGE / name, kind)
    return files


class State:
    """What the mock answers. Tests change the members; tell() sends an event to every listener."""

    def __init__(self, case):
        self.status = case["status"]
        self.history = case["history"]
        self.topics = case["topics"]
        self.letters = case["letters"]
        self.token = None
        self.listeners = []
        self.most_listeners = 16
        self.posts = []
        self.refuse = {}  # id of a dead letter: why it is not replayed without force
        self.lock = threading.Lock()

    def status_now(self, history=False):
        status = dict(self.status, now=mock_cases.now())
        return dict(status, history=self.history) if history else status

    def tell(self, name, data):
        with self.lock:
            for listener in self.listeners:
                listener.put((name, data))

    def listen(self):
        with self.lock:
            if len(self.listeners) >= self.most_listeners:
                return None
            listener = queue.Queue()
            self.listeners.append(listener)
            return listener

    def leave(self, listener):
        with self.lock:
            self.listeners.remove(listener)

    def act(self, action, body):
        self.posts.append((action, body))
        failed = [{"id": id, "why": self.refuse[id]} for id in body["ids"]
                  if id in self.refuse and not body.get("force")]
        gone = set(body["ids"]) - {one["id"] for one in failed}
        before = len(self.letters)
        self.letters = [one for one in self.letters
                        if one["site"] != body["site"] or one["id"] not in gone]
        return {"done": before - len(self.letters), "failed": failed}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A browser may leave in the middle of an answer; all else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def state(self):
        if self.server.ending:  # a connection that is still open after stop()
            raise ConnectionAbortedError
        return self.server.state

    def answer(self, code, kind, body):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def json(self, value, code=200):
        self.answer(code, "application/json", json.dumps(value).encode())

    def error(self, code, word, text):
        self.json({"error": {"code": word, "text": text}}, code)

    def denied(self):
        token = self.state.token
        if token is None or self.headers.get("Authorization") == f"Bearer {token}":
            return False
        self.error(401, "unauthorized", "a token is needed")
        return True

    def do_GET(self):
        url = urlsplit(self.path)
        files = page_files() if self.state else {}
        if url.path in files:
            file, kind = files[url.path]
            return self.answer(200, kind, file.read_bytes())
        if self.denied():
            return None
        parts = url.path.split("/")
        if url.path == "/api/v1/status":
            return self.json(self.state.status_now(history=True))
        if url.path == "/api/v1/feed":
            return self.feed()
        if url.path == "/api/v1/dead-letters":
            limit = int(parse_qs(url.query).get("limit", ["100"])[0])
            letters = self.state.letters
            return self.json({"letters": letters[:limit], "more": len(letters) > limit})
        if url.path.startswith("/api/v1/sites/") and parts[-1] == "state":
            site = unquote(parts[4])
            return self.json({"site": site, "topics": self.state.topics.get(site, []),
                              "cut": False})
        return self.error(404, "not-found", "no such page")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        action = self.path.rsplit("/", 1)[-1]
        if self.denied():
            return None
        if (self.path not in ("/api/v1/dead-letters/replay", "/api/v1/dead-letters/drop")
                or self.headers.get("X-Nemogate") != "1"
                or self.headers.get("Content-Type") != "application/json"):
            return self.error(400, "bad-request", "not understood")
        if not self.state.status["write"]:
            return self.error(403, "read-only", "admin.write is off")
        return self.json(self.state.act(action, json.loads(body)))

    def feed(self):
        listener = self.state.listen()
        if listener is None:
            return self.error(503, "too-many-listeners", "too many listeners")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.send_events(listener)
        except OSError:
            pass
        finally:
            self.server.state.leave(listener)
            self.close_connection = True

    def send_event(self, name, data):
        self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def send_events(self, listener):
        self.send_event("status", self.state.status_now())
        self.send_event("history", self.state.history)
        due = time.monotonic() + STATUS_EVERY
        while not self.server.ending:
            try:
                name, data = listener.get(timeout=max(0.01, min(0.2, due - time.monotonic())))
                self.send_event(name, data)
            except queue.Empty:
                pass
            if time.monotonic() >= due:
                self.send_event("status", self.state.status_now())
                due += STATUS_EVERY


class MockGateway:
    def __init__(self, case="fine", port=0):
        self.state = State(mock_cases.CASES[case]())
        self.port = port
        self.server = None

    def start(self):
        server = Server(("127.0.0.1", self.port), Handler)
        server.state, server.ending = self.state, False
        self.server, self.port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        """As a gateway that ends: its listeners' streams end, and nobody answers on the port."""
        if self.server is None:
            return
        self.server.ending = True
        self.server.shutdown()
        self.server.server_close()
        self.server = None
        for _ in range(100):
            if not self.state.listeners:
                return
            time.sleep(0.05)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def set_case(self, case):
        """Changes the data under the page's feet, and says so at once."""
        fresh = State(mock_cases.CASES[case]())
        for name in ("status", "history", "topics", "letters"):
            setattr(self.state, name, getattr(fresh, name))
        self.publish()

    def publish(self):
        self.state.tell("status", self.state.status_now())
        self.state.tell("history", self.state.history)

    def message(self, topic, payload, **more):
        self.state.tell("message", mock_cases.message(topic, payload, **more))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=9464)
    parser.add_argument("--case", choices=sorted(mock_cases.CASES), default="fine")
    arguments = parser.parse_args()
    gateway = MockGateway(arguments.case, arguments.port).start()
    print(f"{gateway.url} ({arguments.case}); Ctrl-C ends it")
    try:
        for topic, payload, more in mock_cases.endless_day():
            time.sleep(2)
            gateway.message(topic, payload, **more)
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
