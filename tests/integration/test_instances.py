"""Several instances share the slots: they come and go, die, stand still and are cut off, and nothing is
lost or out of order; what is handed over in an orderly way is sent once.

Which of the living is to have a slot is a matter of chance (rendezvous hashing over names with a
random part), so there are enough slots that nobody gets none."""

import re
import threading
import time

import pytest
from harness import Producer, Verifier, gateway_config, wait_until
from networks import ControlCut
from scale import PATIENCE, is_settled, owners, patience

SLOTS = 24
STREAMS = [f"nemo:{{s{i}}}:events" for i in range(48)]
RATE = 400 if PATIENCE > 1 else 1500
LEASES = "nemogate:{nemogate}:lease:%d"


def shared(redis, broker, **changes):
    changes = {"slots": SLOTS, **changes}
    return gateway_config(redis, broker, **changes)


class Group:
    """Instances gateway-1, gateway-2, ... of one configuration, and who owns what."""

    def __init__(self, things, redis, config):
        self.things, self.config, self.client = things, config, redis.client()
        self.members = []

    def add(self, start=True):
        config = dict(self.config, instance=f"gateway-{len(self.members) + 1}")
        self.members.append(self.things.gateway(config, start=False))
        self.members[-1].launch()
        if start:
            self.members[-1].wait_ready(20 * PATIENCE)
        return self.members[-1]

    def owners(self):
        return owners(self.client, self.config["slots"])

    def wait_shared(self, *gateways, timeout=20):
        """Until all slots are owned by these, each has some, and all of them publish."""
        names = {gateway.config["instance"] for gateway in gateways}

        def is_shared():
            found = self.owners()
            return len(found) == self.config["slots"] and set(found.values()) == names and all(
                self.runs(gateway) for gateway in gateways)
        wait_until(is_shared, timeout * PATIENCE, lambda: f"slots shared by {names}: "
                   f"{self.owners()}; {[self.states(g) for g in gateways]}", interval=0.05)
        return self.owners()

    @staticmethod
    def states(gateway):
        """{slot: state}, as its log says."""
        return {line["slot"]: line["to"] for line in gateway.log_lines(this_run=True)
                if line.get("msg") == "slot state"}

    @staticmethod
    def runs(gateway):
        """The slots that it was to have last all run, and it holds no other."""
        lines = [line for line in gateway.log_lines(this_run=True)
                 if line.get("msg") in ("instances", "ready")]
        states = list(Group.states(gateway).values())
        wanted = [line["own_slots"] for line in lines if line["msg"] == "instances"]
        return bool(lines) and lines[-1]["msg"] == "ready" or (
            bool(wanted) and states.count("held") == int(wanted[-1])
            and len(states) == states.count("held") + states.count("standby"))


class Markers:
    """One entry into each of the streams; when the last of them has come to the broker."""

    def __init__(self, redis, broker):
        self.client, self.broker, self.count = redis.client(), broker, 0

    def send(self, streams):
        self.count += 1
        pipe = self.client.pipeline(transaction=False)
        for stream in streams:
            pipe.xadd(stream, {"topic": f"marker/{self.count}", "payload": "x", "key": "marker"})
        pipe.execute()
        self.begun = time.monotonic()
        self.topics = {f"nemo/{re.search('{(.*)}', s).group(1)}/marker/{self.count}"
                       for s in streams}

    def wait(self, timeout):
        """Seconds from send() until all have come, and how many."""
        found = {}

        def all_there():
            for message in self.broker.messages:
                if message.topic in self.topics and message.topic not in found:
                    found[message.topic] = message.time
            return len(found) == len(self.topics)
        wait_until(all_there, timeout, lambda: f"{len(self.topics)} markers; {len(found)} came")
        return max(found.values()) - self.begun


def verifier(producer, broker):
    return Verifier(producer, broker,
                    ignore=lambda t: t.startswith("nemogate/") or "/marker/" in t)


def finish(producer, broker, redis, seconds=30, **check):
    report = verifier(producer, broker).wait(patience(seconds, producer.total)).check(**check)
    print(report)
    wait_until(lambda: is_settled(redis, producer.streams), 20 * PATIENCE,
               "nothing pending and no lag")
    return report


# ---- coming and going -----------------------------------------------------------------------


@pytest.mark.limit(300)
def test_from_one_to_three_and_back(things):
    """Slots move to those who come and back from those who go; orderly moves send nothing twice."""
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.005
    group = Group(things, redis, shared(redis, broker))
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        first = group.add()
        assert first.wait_log("", msg="ready")["slots"] == str(SLOTS)
        time.sleep(0.5)
        second = group.add()
        two = group.wait_shared(first, second)
        third = group.add()
        three = group.wait_shared(first, second, third)
        print({g.config["instance"]: list(three.values()).count(g.config["instance"])
               for g in group.members})
        # Only what the third is to have has moved.
        moved = [slot for slot in three if three[slot] != two[slot]]
        assert all(three[slot] == "gateway-3" for slot in moved)
        time.sleep(0.5)
        assert second.terminate(20 * PATIENCE) == 0
        after = group.wait_shared(first, third)
        assert all(after[s] == three[s] for s in after if three[s] != "gateway-2")
        assert first.terminate(20 * PATIENCE) == 0
        group.wait_shared(third)
        time.sleep(0.5)
    finish(producer, broker, redis, duplicates=0)
    assert third.terminate() == 0
    assert broker.violations == []
    for gateway in group.members:
        assert gateway.log_count("lease lost") == 0
        assert gateway.log_count("", level="error") == 0


@pytest.mark.limit(300)
def test_a_hand_over_is_bounded_by_the_drain_timeout(things):
    """A broker that acknowledges nothing keeps a slot only for so long; what was in flight is sent
    again by the new owner, in its order."""
    redis, broker = things.redis(), things.recording_broker()
    group = Group(things, redis, shared(redis, broker, delivery={"drain_timeout": "1s"}))
    first = group.add()
    broker.hold_acks()
    producer = Producer(redis, STREAMS, keys=5).send(2000)
    broker.wait_messages(2000, 20 * PATIENCE)
    group.add(start=False)
    first.wait_log("the drain timeout of a hand-over has passed", timeout=20 * PATIENCE)
    group.wait_shared(*group.members)
    broker.release_acks()
    finish(producer, broker, redis)


@pytest.mark.limit(300)
def test_an_instance_that_comes_back_while_slots_are_handed_over(things):
    """One starts and ends over and over: slots change their minds in the middle of their drains."""
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.02
    group = Group(things, redis, shared(redis, broker))
    first = group.add()
    restless = group.add()
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        for wait in (0.1, 0.3, 0.25, 0.5, 0.15, 0.4):
            assert restless.terminate(20 * PATIENCE) == 0
            restless.launch()
            restless.wait_log("instances", timeout=20 * PATIENCE)
            time.sleep(wait)
        restless.wait_ready(20 * PATIENCE)
        group.wait_shared(first, restless)
    finish(producer, broker, redis, duplicates=0)


# ---- dying ----------------------------------------------------------------------------------


@pytest.mark.limit(300)
def test_after_sigkill_its_slots_run_elsewhere(things):
    redis, broker = things.redis(), things.recording_broker()
    ttl = 2
    group = Group(things, redis, shared(redis, broker, delivery={"lease_ttl": f"{ttl}s"}))
    for _ in range(3):
        group.add()
    group.wait_shared(*group.members)
    markers, times = Markers(redis, broker), []
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        time.sleep(0.5)
        for _ in range(3):
            victim = group.members[1]
            victim.kill9()
            markers.send(STREAMS)
            times.append(markers.wait((ttl + 8) * PATIENCE))
            group.wait_shared(group.members[0], group.members[2])
            victim.launch()
            victim.wait_ready(20 * PATIENCE)
            group.wait_shared(*group.members)
    print(f"lease_ttl {ttl} s; all streams run again after "
          + ", ".join(f"{t:.2f}" for t in times) + " s")
    finish(producer, broker, redis)
    assert max(times) < (ttl + 3) * PATIENCE


@pytest.mark.limit(300)
def test_after_sigterm_its_slots_run_elsewhere(things):
    redis, broker = things.redis(), things.recording_broker()
    group = Group(things, redis, shared(redis, broker, delivery={"lease_ttl": "10s"}))
    for _ in range(2):
        group.add()
    group.wait_shared(*group.members)
    markers, times = Markers(redis, broker), []
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        for _ in range(3):
            leaver = group.members[1]
            leaver.signal(15)
            markers.send(STREAMS)
            times.append(markers.wait(10 * PATIENCE))
            assert leaver.wait(20) == 0
            group.wait_shared(group.members[0])
            leaver.launch()
            leaver.wait_ready(20 * PATIENCE)
            group.wait_shared(*group.members)
    print("SIGTERM; all streams run again after " + ", ".join(f"{t:.2f}" for t in times) + " s")
    finish(producer, broker, redis, duplicates=0)
    assert max(times) < 4 * PATIENCE


# ---- standing still and being cut off -------------------------------------------------------


def links_of(client, gateway):
    name = f"nemogate:{gateway.config['instance']}:slot-"
    return {link["id"] for link in client.client_list() if link["name"].startswith(name)}


@pytest.mark.limit(300)
def test_one_that_stood_still_harms_nothing(things):
    """SIGSTOP for longer than the lease. Before it goes on all its ways out have been closed: its
    Redis links by the fence, its MQTT connections by the client identifiers."""
    redis, broker = things.redis(), things.recording_broker()
    group = Group(things, redis, shared(redis, broker, delivery={"lease_ttl": "1s"}))
    first, second = group.add(), group.add()
    group.wait_shared(first, second)
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        for paused, other in ((first, second), (second, first)):
            time.sleep(0.5)
            links = links_of(group.client, paused)
            slots = [s for s, owner in group.owners().items()
                     if owner == paused.config["instance"]]
            connections = [c for c in broker.open_connections()
                           if int(c.client_id.split("-")[2]) in slots]
            assert links and connections
            paused.pause()
            group.wait_shared(other)
            live = {link["id"] for link in group.client.client_list()}
            assert not links & live
            assert [c for c in connections if c.open] == []
            received = sum(c.received for c in connections)
            paused.resume()
            paused.wait_log("lease lost", timeout=20 * PATIENCE)
            group.wait_shared(first, second)
            assert received == sum(c.received for c in connections)
    finish(producer, broker, redis)


@pytest.mark.limit(300)
def test_redis_killed_and_restarted_under_three(things):
    redis = things.redis(appendonly=True, args=("--appendfsync", "always"))
    broker = things.recording_broker()
    group = Group(things, redis, shared(redis, broker))
    for _ in range(3):
        group.add()
    group.wait_shared(*group.members)
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        for away in (0.3, 3.5):  # shorter and longer than the lease
            time.sleep(0.5)
            redis.kill()
            time.sleep(away)
            redis.start()
            time.sleep(1)
            group.wait_shared(*group.members, timeout=45)
    finish(producer, broker, redis)
    for gateway in group.members:
        assert gateway.terminate() == 0


@pytest.mark.limit(300)
def test_one_without_its_control_link_keeps_what_it_holds(things):
    """The others take it for dead, but its leases hold; nothing moves."""
    redis, broker = things.redis(), things.recording_broker()
    network = ControlCut(redis.port)
    group = Group(things, redis, shared(redis, broker))
    first = group.add()
    group.config["redis"]["url"] = network.url
    second = group.add()
    before = group.wait_shared(first, second)
    producer = Producer(redis, STREAMS, keys=20)
    with producer.background(rate=RATE):
        network.cut()
        second.wait_log("no connection to Redis", link="control")
        wait_until(lambda: [line for line in first.log_lines() if line.get("msg") == "instances"
                            ][-1]["living"] == "1", 20 * PATIENCE, "the first alone")
        first.wait_log("waiting for the lease", timeout=20 * PATIENCE)
        for _ in range(30):
            assert group.owners() == before
            time.sleep(0.1)
        network.heal()
        wait_until(lambda: [line for line in first.log_lines() if line.get("msg") == "instances"
                            ][-1]["living"] == "2", 40 * PATIENCE, "both")
        time.sleep(0.5)
        assert group.owners() == before
    finish(producer, broker, redis, duplicates=0)
    assert first.log_count("lease lost") == second.log_count("lease lost") == 0


# ---- names ----------------------------------------------------------------------------------


@pytest.mark.limit(300)
def test_two_with_one_name_share_and_are_warned_of_once(things):
    redis, broker = things.redis(), things.recording_broker()
    group = Group(things, redis, shared(redis, broker))
    first = group.add()
    twin = things.gateway(first.config)
    for gateway in (first, twin):
        gateway.wait_log("another running process has the same instance name")
    time.sleep(1)
    assert first.log_count("the same instance name") == twin.log_count("the same instance name") == 1
    group.wait_shared(first, twin)
    producer = Producer(redis, STREAMS, keys=5).send(500)
    finish(producer, broker, redis, duplicates=0)


def test_one_that_was_killed_is_no_twin_of_its_successor(things):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(shared(redis, broker))
    for _ in range(3):
        gateway.kill9()
        gateway.start()
        gateway.wait_log("", timeout=20 * PATIENCE, msg="ready", slots=SLOTS)
    assert gateway.log_count("the same instance name") == 0


# ---- a Redis user who may not close links ---------------------------------------------------


def without_kill(things, redis):
    redis.client().execute_command("ACL", "SETUSER", "gate", "on", ">word", "~*", "+@all",
                                   "-client|kill")
    secret = things.tmp / "secret"
    secret.write_text("word\n")
    return {"username": "gate", "password_file": str(secret)}


@pytest.mark.limit(300)
def test_without_client_kill_a_killed_owner_is_replaced(things):
    redis, broker = things.redis(), things.recording_broker()
    config = shared(redis, broker, slots=2, redis_changes=without_kill(things, redis),
                    delivery={"lease_ttl": "1s"})
    gateway = things.gateway(config)
    producer = Producer(redis, STREAMS[:4], keys=20)
    with producer.background(rate=RATE):
        for _ in range(4):
            time.sleep(0.7)
            gateway.kill9()
            gateway.launch()
            gateway.wait_log("lease taken", timeout=10 * PATIENCE)
    finish(producer, broker, redis)
    line = gateway.wait_log("does not let this user close a former owner's links")
    assert (line["level"], line["grant"]) == ("warning", "+client|kill")
    assert gateway.log_count("CLIENT KILL") == 0
    assert gateway.terminate() == 0


@pytest.mark.limit(300)
def test_without_client_kill_a_paused_owner_swallows_nothing(things):
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{a}:events"
    config = shared(redis, broker, slots=1, shards=1, redis_changes=without_kill(things, redis),
                    delivery={"lease_ttl": "1s"})
    first = things.gateway(config)
    producer = Producer(redis, stream, keys=5).send(20)
    wait_until(lambda: is_settled(redis, [stream]), 10 * PATIENCE, "settled")
    second = things.gateway(dict(config, instance="gateway-2"), start=False)
    first.pause()
    second.launch()
    second.wait_log("lease taken", timeout=10 * PATIENCE)
    for _ in range(30):
        producer.send(2)
        time.sleep(0.1)
    verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    first.resume()
    producer.send(50)
    finish(producer, broker, redis)


@pytest.mark.limit(60)
def test_without_client_kill_what_a_parked_read_takes_comes_before_newer_entries(things):
    """A former owner's read is parked when the slot begins, and takes an entry that comes after the
    history has been read: it is found in the history that is read once more."""
    redis, broker = things.redis(), things.recording_broker()
    stream = "nemo:{a}:events"
    client, zombie = redis.client(), redis.client()
    producer = Producer(redis, stream, keys=1).send(1)
    client.xgroup_create(stream, "nemogate", id="$")
    with zombie.client() as link:
        client.hset(LEASES % 0, f"link:{client.info('server')['run_id']}:{link.client_id()}", "read")
        gateway = things.gateway(shared(redis, broker, slots=1, shards=1,
                                        redis_changes=without_kill(things, redis)), start=False)
        parked = threading.Thread(target=lambda: link.xreadgroup(
            "nemogate", "slot-0", {stream: ">"}, block=1500))
        gateway.launch()
        gateway.wait_log("lease taken", timeout=10 * PATIENCE)
        parked.start()
        time.sleep(0.2)
        producer.send(3)
        parked.join()
    report = Verifier({(stream, "k0"): 4}, broker).wait(2)
    assert report.lost == [(stream, "k0", 1)], report  # before the group's beginning
    assert not report.out_of_order
    wait_until(lambda: is_settled(redis, [stream]), 20 * PATIENCE, "nothing pending and no lag")
