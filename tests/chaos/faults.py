"""The table of faults. Each is a few functions of an arena and of its own parameters:

plan(rng)       draws the parameters: a dict of plain values, from the seed only
apply(a, p)     does the harm; what is found out on the way (who owned what) it notes in p
undo(a, p)      ends the harm
bound(a, p)     how many duplicates are right for it, asked after it is over

A slot's window (connections x inflight) may be published and not yet acknowledged: that much is sent
again when connections to the broker break. A slot's credits bound what it has read and not yet
acknowledged to Redis: that much is sent again when the slot begins anew.
"""

import time
from dataclasses import dataclass
from typing import Callable

import redis as redis_py

from arena import (CREDITS, DRAIN_TIMEOUT, GROUP, LEASE_TTL, PUBACK_TIMEOUT, SLOTS, STRICT,
                   WINDOW)
from load import CANARY

BOTH = ("recording", "mosquitto")
ALL_CREDITS = CREDITS * SLOTS
KEYS = [f"k{i}" for i in range(5)] + [f"r{i}" for i in range(3)]


def nothing(_arena, _p):
    pass


def no_duplicates(_arena, _p):
    return 0


def all_credits(_arena, _p):
    return ALL_CREDITS


def slot_credits(_arena, p):
    return CREDITS * p["slots_hit"]


def slot_windows(_arena, p):
    return WINDOW * p["slots_hit"]


def no_plan(_rng):
    return {}


@dataclass(frozen=True)
class Fault:
    name: str
    about: str
    group: str                      # of a pair each is from another group
    apply: Callable
    undo: Callable = nothing
    bound: Callable = no_duplicates
    hold: tuple = (0.0, 0.0)        # seconds between apply and undo, from and to
    plan: Callable = no_plan
    arenas: tuple = BOTH
    takeover: bool = False          # others take over while it lasts: how long it takes them is told
    needs: str = ""                 # "strict": the route key strict_order; "clock": libfaketime


# ---- instances ------------------------------------------------------------------------------


def pick_instance(rng):
    """Mostly whoever owns a slot drawn by lot, else one by its number."""
    if rng.random() < 0.75:
        return {"slot": rng.randrange(SLOTS), "instance": rng.randint(1, 2)}
    return {"instance": rng.randint(1, 2)}


def _target(arena, p):
    instance = arena.instance_of(p)
    p["hit"] = instance.label
    p["slots_hit"] = arena.slots_of([instance])
    p["_instances"] = [instance]
    return instance


def kill(arena, p):
    _target(arena, p).crash()


def start_again(_arena, p):
    for instance in p["_instances"]:
        instance.begin()


def kill_all(arena, p):
    p["slots_hit"] = SLOTS
    p["_instances"] = list(arena.instances)
    for instance in arena.instances:
        instance.crash()


def stop_process(arena, p):
    instance = _target(arena, p)
    if instance.running:
        instance.pause()


def go_on(_arena, p):
    for instance in p["_instances"]:
        if instance.running:
            instance.resume()


def leave(arena, p):
    instance = _target(arena, p)
    instance.leave()


def leave_others(arena, p):
    """All but one."""
    stays = arena.instances[p["stays"] - 1]
    p["_instances"] = [i for i in arena.instances if i is not stays]
    for instance in p["_instances"]:
        instance.leave()


def come_back(arena, p):
    for instance in p["_instances"]:
        instance.left(DRAIN_TIMEOUT + 10)
        if instance.exits and instance.exits[-1] != 0:
            arena.failures.append(f"{instance.label} ended with {instance.exits[-1]} after SIGTERM "
                                  f"(None: not within {DRAIN_TIMEOUT + 10:.0f} s): "
                                  f"{instance.log_path}")
        instance.begin()


def step_clock(arena, p):
    instance = _target(arena, p)
    instance.step_clock(p["seconds"])


def clock_back(_arena, p):
    for instance in p["_instances"]:
        instance.step_clock(0)


def plan_clock(rng):
    return {**pick_instance(rng), "seconds": rng.choice([-86400, -30, 30, 3600, 86400 * 400])}


# ---- Redis ----------------------------------------------------------------------------------


def redis_kill(arena, _p):
    arena.redis.kill()


def redis_start(arena, _p):
    if not arena.redis.running:
        arena.redis.start(120)  # after an hour its log takes long to load


def redis_pause(arena, _p):
    if arena.redis.running:
        arena.redis.pause()


def redis_resume(arena, _p):
    arena.redis.resume()


def redis_term(arena, _p):
    if arena.redis.running:
        arena.redis.terminate(30)


def _ask_redis(arena, function):
    """Redis may be away for the other fault of a pair; then this one waits for it."""
    end = time.monotonic() + 20
    while True:
        try:
            return function(arena.control)
        except (redis_py.exceptions.ConnectionError, redis_py.exceptions.TimeoutError,
                redis_py.exceptions.BusyLoadingError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def script_flush(arena, _p):
    _ask_redis(arena, lambda r: r.script_flush())


def client_kill(arena, p):
    """The links of one instance, or of all, read or write or both, as their names say."""
    def kill_links(client):
        names = ["nemogate:gw-"] if p["all"] else [f"nemogate:{_target(arena, p).label}:"]
        count = 0
        for link in client.client_list():
            if any(link["name"].startswith(n) for n in names) and p["role"] in link["name"]:
                count += client.client_kill_filter(_id=link["id"])
        return count
    p["killed"] = _ask_redis(arena, kill_links)


def plan_client_kill(rng):
    return {**pick_instance(rng), "all": rng.random() < 0.5,
            "role": rng.choice([":read", ":write", ""])}


def destroy_group(arena, p):
    """Everything that lies in the stream is delivered again, from its beginning."""
    streams = arena.load.streams if p["all"] else [arena.load.streams[p["stream"]]]

    def destroy(client):
        p["entries"] = 0
        for stream in streams:
            p["entries"] += client.xlen(stream)
            client.xgroup_destroy(stream, GROUP)
    _ask_redis(arena, destroy)
    arena.destroyed_groups += 1


def destroyed_bound(_arena, p):
    return p["entries"] + ALL_CREDITS


def plan_destroy(rng):
    return {"all": rng.random() < 0.2, "stream": rng.randrange(8)}


# ---- paths ----------------------------------------------------------------------------------


def pick_path(rng):
    """One instance's path, mostly an owner's, or those of all."""
    return {**pick_instance(rng), "all": rng.random() < 0.3}


def _paths(arena, p, kind):
    if p["all"]:
        p["hit"], p["slots_hit"] = "all", SLOTS
        p["_paths"] = arena.paths(kind)
    else:
        instance = _target(arena, p)
        p["_paths"] = arena.paths(kind, [instance.number])
    return p["_paths"]


def path_fault(kind, harm):
    def apply(arena, p):
        harm(arena.proxy, _paths(arena, p, kind), p)
    return apply


def heal_paths(arena, p):
    arena.proxy.heal(p["_paths"])


def arrive_late(arena, p):
    """What the instance has sent meanwhile, reads among it, reaches Redis now that others own its
    slots; and for a while it hears nothing that would make it give up."""
    arena.proxy.stall(p["_paths"], ["down"])
    arena.proxy.unstall(p["_paths"], ["up"])
    time.sleep(0.8)
    arena.proxy.heal(p["_paths"])


def stall_up(arena, p):
    p["all"] = False
    arena.proxy.stall(_paths(arena, p, "redis"), ["up"])


def plan_sides(rng):
    return {**pick_path(rng), "sides": rng.choice([["up", "down"], ["up"], ["down"]])}


def plan_half_open(rng):
    return {**pick_path(rng), "keep": rng.choice(["client", "server"])}


def plan_delay(rng):
    return {**pick_path(rng), "seconds": rng.choice([0.02, 0.1, 0.25])}


def plan_throttle(rng):
    return {**pick_path(rng), "rate": rng.choice([4000, 20000, 60000])}


def _stall(proxy, names, p):
    proxy.stall(names, p["sides"])


def _reset(proxy, names, _p):
    proxy.reset(names)


def _reset_often(proxy, names, _p):
    for _ in range(5):
        proxy.reset(names)
        time.sleep(0.3)


def _half_open(proxy, names, p):
    proxy.half_open(names, p["keep"])


def _delay(proxy, names, p):
    proxy.delay(names, p["seconds"])


def _throttle(proxy, names, p):
    proxy.throttle(names, p["rate"])


def _refuse(proxy, names, _p):
    proxy.refuse(names)
    proxy.reset(names)


def again_and_again(_arena, p):
    """Connections that time out without a PUBACK are made again, each time with the window."""
    return int(WINDOW * p["slots_hit"] * (2 + p["hold"] / PUBACK_TIMEOUT))


def cut_from_redis(_arena, p):
    return CREDITS * p["slots_hit"]


# ---- the broker -----------------------------------------------------------------------------


def broker_stop(arena, _p):
    if arena.kind == "recording":
        arena.broker.stall()
    elif arena.broker.running:
        arena.broker.pause()


def broker_go_on(arena, _p):
    if arena.kind == "recording":
        arena.broker.unstall()
    else:
        arena.broker.resume()


def broker_kill(arena, _p):
    arena.broker.stop()


def broker_start(arena, _p):
    if arena.kind == "recording" or not arena.broker.running:
        arena.broker.start()


def broker_term(arena, _p):
    if arena.broker.running:
        arena.broker.terminate(20)


def broker_disconnect(arena, p):
    arena.broker.disconnect(p["code"])


def refuse_connect(arena, p):
    arena.broker.refuse_connect(p["code"])
    arena.broker.disconnect(p["code"])


def accept_connect(arena, _p):
    arena.broker.refuse_connect(None)


def hold_acks(arena, _p):
    arena.broker.hold_acks()


def release_acks(arena, _p):
    arena.broker.release_acks()


def far_broker(arena, p):
    arena.broker.ack_delay = p["seconds"]


def near_broker(arena, _p):
    arena.broker.ack_delay = 0.0


def windows_of_all(_arena, p):
    return int(WINDOW * SLOTS * (2 + p["hold"] / PUBACK_TIMEOUT))


def refuse_for_now(arena, p):
    for stream, key in p["keys"]:
        arena.refusing[stream, key] = p["code"]


def refuse_no_more(arena, p):
    for stream, key in p["keys"]:
        arena.refusing.pop((stream, key), None)


def plan_refuse_for_now(rng):
    keys = rng.sample([[s, k] for s in STRICT for k in [*KEYS, CANARY]], rng.randint(1, 3))
    return {"code": rng.choice([0x80, 0x83, 0x97]), "keys": keys}


def refuse_for_good(arena, p):
    arena.load.mark(p["codes"])


def behind_refused(_arena, p):
    """Entries of its key that were in flight behind a refused one are sent again, accepted or not."""
    return WINDOW * len(p["codes"])


def plan_refuse_for_good(rng):
    return {"codes": [rng.choice([0x87, 0x99, 0x90]) for _ in range(rng.randint(1, 6))]}


LONG = (LEASE_TTL + 1.0, LEASE_TTL + 3.0)
SHORT = (0.2, 0.6)
MIDDLE = (1.0, 5.0)

FAULTS = {f.name: f for f in [
    Fault("gw-kill", "SIGKILL of an instance; it comes back when others have taken over", "gateway",
          kill, start_again, slot_credits, LONG, pick_instance, takeover=True),
    Fault("gw-kill-restart", "SIGKILL of an instance, started again at once", "gateway",
          kill, start_again, slot_credits, (0.0, 0.1), pick_instance),
    Fault("gw-kill-all", "SIGKILL of all instances at the same moment", "gateway",
          kill_all, start_again, all_credits, (0.0, 3.0)),
    Fault("gw-stop", "SIGSTOP of an instance for longer than its lease, then SIGCONT: a zombie",
          "gateway", stop_process, go_on, slot_credits, (LEASE_TTL * 1.6, LEASE_TTL * 3),
          pick_instance, takeover=True),
    Fault("gw-stop-short", "SIGSTOP of an instance within its lease", "gateway",
          stop_process, go_on, slot_credits, SHORT, pick_instance),
    Fault("gw-term", "SIGTERM of an instance; it comes back when others have taken over", "gateway",
          leave, come_back, no_duplicates, LONG, pick_instance, takeover=True),
    Fault("gw-scale", "all instances but one leave (SIGTERM) and come back", "gateway",
          leave_others, come_back, no_duplicates, (1.0, 4.0),
          lambda rng: {"stays": rng.randint(1, 2)}, takeover=True),
    Fault("clock-step", "the clock of an instance is stepped by up to 400 days, and back", "gateway",
          step_clock, clock_back, no_duplicates, (1.0, LEASE_TTL * 2), plan_clock, needs="clock"),

    Fault("redis-kill", "SIGKILL of Redis, started again", "redis",
          redis_kill, redis_start, all_credits, (0.0, 3.0)),
    Fault("redis-stop", "SIGSTOP of Redis", "redis",
          redis_pause, redis_resume, all_credits, (0.5, 6.5)),
    Fault("redis-term", "SIGTERM of Redis, started again", "redis",
          redis_term, redis_start, all_credits, (0.0, 3.0)),
    Fault("script-flush", "SCRIPT FLUSH", "redis", script_flush),
    Fault("client-kill", "CLIENT KILL of the gateways' links: read, write or both", "redis",
          client_kill, nothing, no_duplicates, (0.0, 0.0), plan_client_kill),
    Fault("group-destroy", "XGROUP DESTROY of the group of one stream, or of all", "redis",
          destroy_group, nothing, destroyed_bound, (0.0, 0.0), plan_destroy),

    Fault("redis-reset", "connections to Redis reset, once", "redis-path",
          path_fault("redis", _reset), heal_paths, no_duplicates, (0.0, 0.0), pick_path),
    Fault("redis-reset-often", "connections to Redis reset, five times in 1.5 s", "redis-path",
          path_fault("redis", _reset_often), heal_paths, cut_from_redis, (0.0, 0.0), pick_path),
    Fault("redis-stall", "nothing passes to Redis, from it, or both ways", "redis-path",
          path_fault("redis", _stall), heal_paths, cut_from_redis, (0.5, 6.5), plan_sides,
          takeover=False),
    Fault("redis-late", "what an owner sends to Redis arrives when others have taken over",
          "redis-path", stall_up, arrive_late, slot_credits, (LEASE_TTL + 1.0, LEASE_TTL + 2.5),
          lambda rng: {"slot": rng.randrange(SLOTS), "instance": 1}, takeover=True),
    Fault("redis-half-open", "connections to Redis end on one side, the other hears nothing",
          "redis-path", path_fault("redis", _half_open), heal_paths, cut_from_redis, MIDDLE,
          plan_half_open),
    Fault("redis-refuse", "connections to Redis reset, and new ones refused", "redis-path",
          path_fault("redis", _refuse), heal_paths, cut_from_redis, (0.5, 5.0), pick_path),
    Fault("redis-delay", "20 to 250 ms more to Redis, each way", "redis-path",
          path_fault("redis", _delay), heal_paths, cut_from_redis, MIDDLE, plan_delay),
    Fault("redis-throttle", "4 to 60 kB/s to Redis, each connection and way", "redis-path",
          path_fault("redis", _throttle), heal_paths, cut_from_redis, MIDDLE, plan_throttle),

    Fault("broker-reset", "connections to the broker reset, once", "broker-path",
          path_fault("broker", _reset), heal_paths, slot_windows, (0.0, 0.0), pick_path),
    Fault("broker-reset-often", "connections to the broker reset, five times in 1.5 s",
          "broker-path", path_fault("broker", _reset_often), heal_paths,
          lambda a, p: 5 * slot_windows(a, p), (0.0, 0.0), pick_path),
    Fault("broker-stall", "nothing passes to the broker, from it, or both ways", "broker-path",
          path_fault("broker", _stall), heal_paths, again_and_again, (0.5, 6.5), plan_sides),
    Fault("broker-half-open", "connections to the broker end on one side, the other hears nothing",
          "broker-path", path_fault("broker", _half_open), heal_paths, again_and_again, MIDDLE,
          plan_half_open),
    Fault("broker-refuse", "connections to the broker reset, and new ones refused", "broker-path",
          path_fault("broker", _refuse), heal_paths, again_and_again, (0.5, 5.0), pick_path),
    Fault("broker-delay", "20 to 250 ms more to the broker, each way", "broker-path",
          path_fault("broker", _delay), heal_paths, again_and_again, MIDDLE, plan_delay),
    Fault("broker-throttle", "4 to 60 kB/s to the broker, each connection and way", "broker-path",
          path_fault("broker", _throttle), heal_paths, again_and_again, MIDDLE, plan_throttle),

    Fault("broker-stop", "SIGSTOP of the broker, or a broker that reads nothing", "broker",
          broker_stop, broker_go_on, windows_of_all, (0.5, 6.5)),
    Fault("broker-kill", "the broker dies with all connections, and comes back", "broker",
          broker_kill, broker_start, windows_of_all, (0.0, 4.0), arenas=("recording",)),
    Fault("broker-term", "SIGTERM of the broker, which saves its state; started again", "broker",
          broker_term, broker_start, windows_of_all, (0.0, 4.0), arenas=("mosquitto",)),
    Fault("broker-disconnect", "the broker sends DISCONNECT with a reason to all connections",
          "broker", broker_disconnect, nothing, windows_of_all, (0.0, 0.0),
          lambda rng: {"code": rng.choice([0x8B, 0x89, 0x97, 0x98])}, arenas=("recording",)),
    Fault("broker-unavailable", "the broker refuses CONNECT (0x88, 0x89, 0x97)", "broker",
          refuse_connect, accept_connect, windows_of_all, (0.5, 4.0),
          lambda rng: {"code": rng.choice([0x88, 0x89, 0x97])}, arenas=("recording",)),
    Fault("broker-no-ack", "the broker accepts and acknowledges nothing, beyond puback_timeout",
          "broker", hold_acks, release_acks, windows_of_all,
          (PUBACK_TIMEOUT + 0.5, PUBACK_TIMEOUT * 3), arenas=("recording",)),
    Fault("broker-far", "each PUBACK comes 0.1 to 0.5 s later", "broker",
          far_broker, near_broker, no_duplicates, (1.0, 4.0),
          lambda rng: {"seconds": rng.choice([0.1, 0.5])}, arenas=("recording",)),
    Fault("refuse-for-now", "0x80, 0x83, 0x97 for some keys (strict_order) for some seconds",
          "answers", refuse_for_now, refuse_no_more, no_duplicates, (0.3, 4.0),
          plan_refuse_for_now, arenas=("recording",), needs="strict"),
    Fault("refuse-for-good", "0x87, 0x90, 0x99 for some entries, which become dead letters",
          "answers", refuse_for_good, nothing, behind_refused, (1.0, 1.0), plan_refuse_for_good,
          arenas=("recording",), needs="strict"),
]}


def unavailable(fault, options):
    """Why this fault cannot be applied here; empty: it can."""
    if fault.needs == "strict" and not options.strict:
        return "this nemogate has no route key strict_order"
    return options.no_clock if fault.needs == "clock" else ""
