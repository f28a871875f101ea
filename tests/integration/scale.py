"""How much the tests carry: NEMOGATE_TEST_COUNT entries where load is the point (20,000 by default, a
tenth of it under a sanitizer)."""

import os

SANITIZED = bool(os.environ.get("NEMOGATE_SAN"))
COUNT = int(os.environ.get("NEMOGATE_TEST_COUNT", "2000" if SANITIZED else "20000"))
PATIENCE = 5 if SANITIZED else 1


def patience(seconds, count=COUNT):
    """Seconds to wait for a load: those given, and one for every 2,000 entries."""
    return (seconds + count / 2000) * PATIENCE


def pending(redis, stream, group="nemogate"):
    """(pending, lag) of the group; lag None where Redis does not know it."""
    for info in redis.client().xinfo_groups(stream):
        if info["name"] == group:
            return info["pending"], info["lag"]
    return None


def owners(client, slots, group="nemogate"):
    """{slot: instance} of the leases that have not run out. client: of redis-py."""
    seconds, micros = client.time()
    now, found = seconds * 1000 + micros // 1000, {}
    for slot in range(slots):
        holder, deadline = client.hmget(f"nemogate:{{{group}}}:lease:{slot}", "holder", "deadline")
        if holder and int(deadline) > now:
            found[slot] = holder.split("/")[0]
    return found


def is_settled(redis, streams):
    return all(pending(redis, stream) == (0, 0) for stream in streams)
