"""The harness of the integration tests: real servers, a test broker, the gateway, and a verifier.

A test takes the fixture `things` (conftest.py), makes what it needs, and cleans up nothing:

    def test_backlog(things):
        redis, broker = things.redis(), things.recording_broker()
        producer = produce(redis, "nemo:{a}:events", keys=20, count=5000)
        gateway = things.gateway(gateway_config(redis, broker))
        Verifier(producer, broker).wait().check(duplicates=0)
        assert gateway.terminate() == 0
        assert broker.violations == []

Each part describes itself at the head of its file:
process (what all programs can), redis_server, mosquitto, recording_broker, message, subscriber,
gateway, events (produce and Verifier).
"""

from .events import Producer, Report, Verifier, produce
from .gateway import READY_TEXT, Gateway, gateway_config, parse_logfmt, to_yaml
from .line_subscriber import LineSubscriber
from .message import Message
from .mosquitto import Mosquitto
from .process import free_port, wait_until
from .recording_broker import RecordingBroker
from .redis_server import RedisServer
from .subscriber import Subscriber

__all__ = ["Gateway", "LineSubscriber", "Message", "Mosquitto", "Producer", "READY_TEXT",
           "RecordingBroker", "RedisServer", "Report", "Subscriber", "Verifier", "free_port",
           "gateway_config", "parse_logfmt", "produce", "to_yaml", "wait_until"]
