"""A redis-server of the test's own.

    redis = RedisServer(tmp_path).start()
    redis.client().xadd("nemo:{a}:events", {...})     # redis-py, over a unix socket, never TLS
    config["redis"]["url"] = redis.url                # redis:// or rediss://, over TCP
    redis.kill(); redis.start()                       # the same port and folder
    redis.pause(); redis.resume()                     # SIGSTOP, SIGCONT

appendonly=True survives kill() (every write is synced); otherwise a killed Redis comes back empty.
tls: a folder made by tests/tools/make_certs.sh; TCP is then TLS only, and `args` may add e.g.
"--tls-auth-clients", "yes". password sets the default user's.

$REDIS_SERVER is the program, by default redis-server: another version is tested by it.
"""

import os

import redis

from .process import Process, free_port, wait_until


class RedisServer(Process):
    name = "redis"

    def __init__(self, tmp, appendonly=False, tls=None, password=None, args=(), port=None):
        super().__init__(tmp)
        self.port = port or free_port()
        self.appendonly = appendonly
        self.tls = tls
        self.password = password
        self.args = list(args)
        self.socket = os.path.join(self.folder, "redis.sock")
        self._clients = []

    @property
    def url(self):
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self):
        return f"unix://{self.socket}"

    def argv(self):
        argv = [os.environ.get("REDIS_SERVER", "redis-server"), "--bind", "127.0.0.1",
                "--dir", self.folder, "--save", "", "--unixsocket", self.socket,
                "--appendonly", "yes" if self.appendonly else "no", "--appendfsync", "always"]
        if self.tls:
            tls = str(self.tls)
            argv += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no",
                     "--tls-cert-file", f"{tls}/server.crt", "--tls-key-file", f"{tls}/server.key",
                     "--tls-ca-cert-file", f"{tls}/ca.crt"]
        else:
            argv += ["--port", str(self.port)]
        if self.password:
            argv += ["--requirepass", self.password]
        return argv + self.args

    def client(self, db=0, decode_responses=True):
        """A redis-py client of its own; it reconnects after kill() and start()."""
        client = redis.Redis(unix_socket_path=self.socket, db=db, password=self.password,
                             decode_responses=decode_responses)
        self._clients.append(client)
        return client

    def wait_ready(self, timeout=10.0):
        client = self.client()

        def answers():
            self.check_running()
            try:
                return client.ping()
            except redis.exceptions.RedisError:
                return False  # not listening yet, or loading its dataset
        wait_until(answers, timeout, f"PING to Redis ({self.log_path})")

    def close(self):
        for client in self._clients:
            client.close()
            client.connection_pool.disconnect()
        self._clients = []
        super().close()
