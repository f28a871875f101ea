#!/usr/bin/python3
"""Plays a busy half minute of three NEMO sites into Redis Streams and keeps a ledger of what it
writes (one JSON line per entry, in stream order), by which watch.py judges what arrives. It knows
nothing of MQTT."""

import argparse
import hashlib
import json
import random
import sys
import time

import redis

from nemo_site import Site

PIPELINE = 200


class Writer:
    def __init__(self, connection, ledger):
        self.connection = connection
        self.ledger = ledger

    def write(self, site, entries):
        for start in range(0, len(entries), PIPELINE):
            part = entries[start:start + PIPELINE]
            # First the ledger: nothing can arrive that is not in it yet.
            self.ledger.write("".join(record(site, entry) for entry in part))
            self.ledger.flush()
            pipeline = self.connection.pipeline(transaction=False)
            for entry in part:
                pipeline.xadd(site.stream(), entry)
            pipeline.execute()

    def note(self, text):
        self.ledger.write(json.dumps({"note": text}) + "\n")
        self.ledger.flush()

    def end(self):
        self.ledger.write(json.dumps({"end": True}) + "\n")
        self.ledger.flush()


def record(site, entry):
    digest = hashlib.sha256(entry["payload"].encode()).hexdigest()[:16]
    return json.dumps({"id": entry["id"], "site": site.name, "key": entry["key"],
                       "topic": f"nemo/{site.name}/{entry['topic']}", "digest": digest}) + "\n"


def ordinary(writer, sites, dice, seconds, per_second):
    """An ordinary stretch of the day: the sites take turns at random, at a steady pace."""
    start = time.monotonic()
    written = 0
    while time.monotonic() - start < seconds:
        due = int((time.monotonic() - start) * per_second)
        while written < due:
            site = dice.choice(sites)
            entries = site.something()
            writer.write(site, entries)
            written += len(entries)
        time.sleep(0.01)


def play(writer, sites, dice, envelopes):
    large = sites[0]
    writer.note("every site writes the state of all its tools and areas (a snapshot, retained)")
    for site in sites:
        writer.write(site, site.snapshot())
    time.sleep(2)
    writer.note("events as the older NEMO plugin pushed them, from a recording")
    for site in sites:
        writer.write(site, site.legacy(envelopes))
    time.sleep(2)
    writer.note("a busy morning: tools enabled and disabled, reservations, areas, sensors")
    ordinary(writer, sites, dice, 8, 120)
    outage = large.power_outage()
    writer.note(f"power outage at {large.name}: {len(outage)} events in one burst")
    writer.write(large, outage)
    ordinary(writer, sites[1:], dice, 4, 80)
    writer.note(f"power is back at {large.name}")
    writer.write(large, large.power_back())
    ordinary(writer, sites, dice, 4, 120)
    writer.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--envelopes", required=True)
    parser.add_argument("--trickle", action="store_true",
                        help="a few events per second until stopped, instead of the half minute")
    arguments = parser.parse_args()

    with open(arguments.envelopes, encoding="utf-8") as lines:
        envelopes = [json.loads(line) for line in lines]
    dice = random.Random() if arguments.trickle else random.Random(2026)
    sites = [Site("nanofab", 120, 6, dice), Site("optics-lab", 24, 2, dice),
             Site("cleanroom-2", 40, 3, dice)]
    connection = redis.Redis("127.0.0.1", arguments.redis_port, socket_timeout=10)
    with open(arguments.ledger, "a", encoding="utf-8") as ledger:
        writer = Writer(connection, ledger)
        try:
            if arguments.trickle:
                ordinary(writer, sites, dice, float("inf"), 4)
            play(writer, sites, dice, envelopes)
        except redis.RedisError as error:
            sys.exit(f"producer: Redis on port {arguments.redis_port} failed: {error}")


if __name__ == "__main__":
    main()
