"""No allocation per message: memory is taken at start, and what libevent and hiredis take per read or
per command is shared by many messages."""

import os

import pytest
from harness import Verifier, gateway_config, produce, wait_until
from harness.gateway import binary
from scale import SANITIZED, is_settled, patience

STREAMS = [f"nemo:{{site{i}}}:events" for i in range(4)]
SMALL, LARGE = 20_000, 120_000
PER_MESSAGE = 0.05


def allocations(things, broker, count, **options):
    """Calls of malloc and its relatives in a gateway that carries so many messages."""
    redis = things.redis()
    producer = produce(redis, STREAMS, keys=50, count=count, payload_size=200)
    library = os.path.join(os.path.dirname(binary()), "tests", "count_malloc.so")
    assert os.path.exists(library), f"{library} is missing: build the tests"
    result = things.tmp / f"allocations-{count}"
    config = gateway_config(redis, broker, log={"level": "info"}, **options)
    gateway = things.gateway(config, env={"LD_PRELOAD": library, "COUNT_MALLOC_FILE": str(result)})
    Verifier(producer, broker).wait(patience(60, count)).check(duplicates=0)
    wait_until(lambda: is_settled(redis, STREAMS), 10, "nothing pending and no lag")
    assert gateway.terminate() == 0
    return int(result.read_text())


@pytest.mark.skipif(SANITIZED, reason="a sanitizer brings its own malloc")
@pytest.mark.limit(600)
def test_100_000_messages_more_cost_hardly_an_allocation(things):
    small = allocations(things, things.recording_broker(), SMALL)
    large = allocations(things, things.recording_broker(), LARGE)
    assert small > 100, "nothing was counted"
    per_message = (large - small) / (LARGE - SMALL)
    print(f"{small} allocations for {SMALL} messages, {large} for {LARGE}: "
          f"{per_message:.4f} for each more")
    assert per_message < PER_MESSAGE
