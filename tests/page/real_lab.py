"""A lab of real servers for the tests of the monitor page: Redis, a broker, and the gateway with its
page between them."""

import json
import os
import subprocess
from pathlib import Path

import mock_cases
import pytest

STREAM = "nemo:{lab}:events"
MAKE_CERTS = Path(__file__).resolve().parents[1] / "tools" / "make_certs.sh"

needs_gateway = pytest.mark.skipif(not os.environ.get("NEMOGATE_BINARY"),
                                   reason="NEMOGATE_BINARY names no gateway")


def make_certificates(folder):
    subprocess.run([str(MAKE_CERTS), str(folder)], check=True)
    return str(folder)


class Lab:
    """redis, broker: options of the harness' servers; admin: of the gateway's admin section; the
    rest as for gateway_config."""

    def __init__(self, tmp, redis=None, broker=None, admin=None, **config):
        from harness import Gateway, Mosquitto, RedisServer
        from harness.gateway import gateway_config
        from harness.process import free_port

        self.made = []
        self.tmp = tmp
        self.redis = self.keep(RedisServer(tmp, **(redis or {})))
        self.broker = self.keep(Mosquitto(tmp, **(broker or {})))
        self.port = free_port()
        config.setdefault("delivery", {"max_payload": "4KiB"})
        self.gateway = self.keep(Gateway(tmp, gateway_config(
            self.redis, self.broker,
            admin={"listen": f"127.0.0.1:{self.port}", **(admin or {})}, **config)))
        self.client = self.redis.client()

    def keep(self, thing):
        self.made.append(thing)
        return thing.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def write(self, topic, payload, stream=STREAM, **fields):
        body = payload if isinstance(payload, str) else json.dumps(payload)
        return self.client.xadd(stream, {"topic": topic, "payload": body, **fields})

    def tool(self, number, state, user=None, **fields):
        body = mock_cases.tool_state("lab", number, state, user, 0)
        self.write(f"tools/{number}/state", body, key=f"tool/{number}", type="tool.state",
                   retain="1", **fields)

    def event(self, word, number, user):
        _, body, _ = mock_cases.tool_event(word, number, user)
        self.write(f"tools/{number}/event", body, key=f"tool/{number}", type=f"tool.{word}")

    def others(self):
        """Events of other keys, while the block lasts."""
        from harness.events import Producer

        return Producer(self.redis, STREAM, keys=10).background(rate=50)

    def close(self):
        for one in reversed(self.made):
            one.close()
