"""What the tests of refusals share: who is refused, and what a subscriber is left with.

    refuser = Refuser(broker)
    refuser.refuse(0x97, keys={"k0"})        # or whom=function(message) -> bool
    refuser.refuse(0x97, seconds=3)          # from the first refusal on
    refuser.accept()
    check_final(broker, producer)            # everything came, and each key's last order is its own
"""

import time

from harness import gateway_config, wait_until
from scale import PATIENCE, pending

STREAM, DEAD = "nemo:{a}:events", "nemo:{a}:dead"


def config_for(redis, broker, **changes):
    """One slot, so that all streams share an outlet."""
    delivery = {"lease_ttl": "2s", **changes.pop("delivery", {})}
    return gateway_config(redis, broker, slots=1, shards=1, delivery=delivery, **changes)


def key_of(message):
    """Of a Producer's topic: nemo/a/tools/KEY/state."""
    return message.topic.split("/")[3] if message.topic.startswith("nemo/") else None


class Refuser:
    """The broker's `answer`. Topics of the gateway's own are always accepted."""

    def __init__(self, broker):
        self._rule = None
        self._until = None
        self.refused = 0
        broker.answer = self._answer

    def _answer(self, message):
        rule = self._rule
        if rule is None or message.topic.startswith("nemogate/"):
            return 0
        code, whom, seconds = rule
        if not whom(message) or (self._until is not None and time.monotonic() > self._until):
            return 0
        if seconds is not None and self._until is None:
            self._until = time.monotonic() + seconds
        self.refused += 1
        return code

    def refuse(self, code, keys=None, whom=None, seconds=None):
        chosen = whom or (lambda m: keys is None or key_of(m) in keys)
        self._until = None
        self._rule = (code, chosen, seconds)

    def accept(self):
        self._rule = None


def expected_of(*producers):
    return {where: n for producer in producers for where, n in producer.sent.items()}


def last_order(broker):
    """{key: [n, ...]} of what was accepted, each n only where it came for the last time."""
    last = {}
    for place, message in enumerate(broker.accepted()):
        if message.topic.startswith("nemo/"):
            event = message.json
            last.setdefault((event["stream"], event["key"]), {})[event["n"]] = place
    return {key: sorted(places, key=places.get) for key, places in last.items()}


def check_final(broker, *producers):
    """Nothing is lost, and whoever looks at the end sees each key in its order."""
    orders = last_order(broker)
    for where, count in expected_of(*producers).items():
        order = orders.get(where, [])
        wrong = [pair for pair in zip(order, order[1:]) if pair[0] > pair[1]]
        assert set(order) == set(range(1, count + 1)), (where, count, len(order))
        assert not wrong, (where, wrong[:5])


def wait_settled(client, stream=STREAM, seconds=30):
    def settled():
        groups = client.xinfo_groups(stream)
        return groups and all(group["pending"] == 0 and group["lag"] == 0 for group in groups)
    wait_until(settled, seconds * PATIENCE, lambda: f"settled: {client.xinfo_groups(stream)}")


def letters(client, dead=DEAD):
    return [fields for _, fields in client.xrange(dead)]


__all__ = ["DEAD", "PATIENCE", "STREAM", "Refuser", "check_final", "config_for", "expected_of",
           "key_of", "last_order", "letters", "pending", "wait_settled"]
