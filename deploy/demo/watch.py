#!/usr/bin/python3
"""Subscribes to the broker as a dashboard would, shows what arrives, and judges it against the
producer's ledger: is anything lost, altered, sent twice or out of order? It asks Redis only for
counts. Exit status 0: nothing lost, altered or out of order, and everything acknowledged."""

import argparse
import hashlib
import json
import os
import shutil
import ssl
import sys
import threading
import time
import unicodedata
from datetime import datetime

import paho.mqtt.client as mqtt
import redis

GIVE_UP_AFTER = 20  # seconds in which nothing moved
SETTLE = 2          # seconds to wait for duplicates


class Subscriber:
    """Records every arrival. The callbacks run on paho's thread; lists only grow."""

    def __init__(self, arguments, password):
        self.arrivals = []
        self.subscribed = threading.Event()
        self.failure = None
        self.client = mqtt.Client("demo-dashboard", protocol=mqtt.MQTTv5)
        self.client.username_pw_set("dashboard", password)
        self.client.tls_set(ca_certs=arguments.ca_file, cert_reqs=ssl.CERT_REQUIRED)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", arguments.mqtt_port, clean_start=True)
        self.client.loop_start()

    def on_connect(self, client, _data, _flags, reason, _properties):
        if reason.value >= 0x80:
            self.failure = f"the broker refused the subscriber: {reason}"
            self.subscribed.set()
            return
        client.subscribe("nemo/#", 1)

    def on_message(self, _client, _data, message):
        properties = dict(getattr(message.properties, "UserProperty", []))
        self.arrivals.append((time.time(), message.topic, message.payload, properties.get("id")))

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


class Tail:
    """Reads a file while it grows, by whole lines."""

    def __init__(self, path):
        self.file = open(path, encoding="utf-8", errors="replace")
        self.rest = ""

    def lines(self):
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        return lines


class BrokerLog:
    """Counts the PUBLISH packets of NEMO topics that the broker has received, by its own log (its
    $SYS counter leaves retained messages out)."""

    def __init__(self, path):
        self.tail = Tail(path)
        self.count = 0

    def read(self):
        self.count += sum("Received PUBLISH from " in line and ", 'nemo/" in line
                          for line in self.tail.lines())
        return self.count


class Ledger:
    """What the producer says it has written, read while it grows."""

    def __init__(self, path):
        self.tail = Tail(path)
        self.written = {}  # id -> its place in the ledger, which is stream order, and the record
        self.sites = set()
        self.ended = False

    def read(self):
        """Takes in what has been added; returns the notes among it."""
        notes = []
        for line in self.tail.lines():
            record = json.loads(line)
            if "note" in record:
                notes.append(record["note"])
            elif "end" in record:
                self.ended = True
            else:
                self.written[record["id"]] = (len(self.written), record)
                self.sites.add(record["site"])
        return notes


class Progress:
    """Unique arrivals, counted as they come, so that the live line costs little."""

    def __init__(self):
        self.position = 0
        self.seen = set()

    def take(self, arrivals):
        """The arrivals since the last call."""
        end = len(arrivals)
        new = arrivals[self.position:end]
        self.position = end
        self.seen.update(arrival[3] for arrival in new)
        return new


class Screen:
    """Messages scroll; the line of counts stays below them (on a terminal)."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.width = shutil.get_terminal_size((100, 24)).columns
        self.quota = 0
        self.last_message = 0.0
        self.last_counts = 0.0
        self.counts_shown = ""

    def line(self, text):
        print(("\r\033[K" if self.terminal else "") + text, flush=True)
        self.counts_shown = ""

    def note(self, text):
        self.line(f"\n  -- {text}")
        self.quota = 6

    def message(self, arrival):
        """Shows the first few messages after each note, later one in a while."""
        if self.quota == 0 and time.monotonic() - self.last_message < 1.0:
            return
        self.quota = max(0, self.quota - 1)
        self.last_message = time.monotonic()
        self.line(readable(arrival))

    def counts(self, text):
        if self.terminal and text != self.counts_shown:
            print(f"\r\033[K{text[:self.width - 1]}", end="", flush=True)
            self.counts_shown = text
        elif not self.terminal and time.monotonic() - self.last_counts >= 5:
            self.last_counts = time.monotonic()
            print(text, flush=True)


def readable(arrival):
    at, topic, payload, _ = arrival
    clock = datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]
    _, site, rest = topic.split("/", 2)
    try:
        body = json.loads(payload)
    except ValueError:
        body = {}
    what = body.get("tool_name") or body.get("area_name") or body.get("sensor_name") or ""
    news = body.get("state") or body.get("event") or body.get("count", body.get("value", ""))
    user = body.get("user_name") or body.get("user") or ""
    return (f"  {clock}  {pad(site, 11)}  {pad(rest, 21)}  {pad(what, 22)}  {pad(str(news), 13)}"
            f"  {user}").rstrip()


def pad(text, columns):
    """Pads by what a terminal shows: East Asian characters take two columns."""
    shown = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
    return text + " " * max(0, columns - shown)


def acknowledged(connection, group, sites):
    """Entries that the group has been given and has acknowledged, by XINFO GROUPS."""
    total = 0
    for site in sites:
        stream = f"nemo:{{{site}}}:events"
        try:
            for info in connection.xinfo_groups(stream):
                if info["name"] == group.encode():
                    total += (info["entries-read"] or 0) - info["pending"]
        except redis.ResponseError:
            pass  # the stream has not been written yet
    return total


def follow(ledger, subscriber, broker_log, connection, group, screen):
    """Shows messages and counts until everything has arrived, or nothing moves any more."""
    progress = Progress()
    last_counts = None
    moved = time.monotonic()
    complete_since = None
    while True:
        for note in ledger.read():
            screen.note(note)
        for arrival in progress.take(subscriber.arrivals):
            screen.message(arrival)
        counts = (len(ledger.written), len(progress.seen),
                  acknowledged(connection, group, ledger.sites))
        screen.counts(f"  written {counts[0]}   published {broker_log.read()}   "
                      f"acknowledged {counts[2]}   received {counts[1]}")
        if counts != last_counts:
            last_counts, moved = counts, time.monotonic()
        complete = ledger.ended and counts[0] == counts[1] == counts[2]
        if complete and complete_since is None:
            complete_since = time.monotonic()
        if complete and time.monotonic() - complete_since > SETTLE:
            return
        if time.monotonic() - moved > GIVE_UP_AFTER:
            screen.line(f"  nothing has moved for {GIVE_UP_AFTER} s: the summary says what is missing")
            return
        time.sleep(0.1)


def judge(ledger, arrivals):
    """Compares arrivals with the ledger. Order is judged per site and key, by first arrivals."""
    found = {"lost": 0, "duplicates": 0, "out of order": 0, "altered": 0, "unknown": 0}
    seen = set()
    newest = {}
    for _, topic, payload, entry_id in arrivals:
        if entry_id not in ledger.written:
            found["unknown"] += 1
            continue
        if entry_id in seen:
            found["duplicates"] += 1
            continue
        seen.add(entry_id)
        place, record = ledger.written[entry_id]
        digest = hashlib.sha256(payload).hexdigest()[:16]
        if topic != record["topic"] or digest != record["digest"]:
            found["altered"] += 1
        key = (record["site"], record["key"])
        if place < newest.get(key, -1):
            found["out of order"] += 1
        newest[key] = max(place, newest.get(key, -1))
    found["lost"] = len(ledger.written) - len(seen)
    return len(seen), found


def summary(ledger, arrivals, published, acked):
    received, found = judge(ledger, arrivals)
    rows = [("written to Redis by three sites", len(ledger.written)),
            ("published (received by the broker)", published),
            ("acknowledged to Redis (XINFO GROUPS)", acked),
            ("received by the subscriber", received),
            ("lost", found["lost"]), ("duplicates", found["duplicates"]),
            ("out of order", found["out of order"])]
    rows += [(name, found[name]) for name in ("altered", "unknown") if found[name]]
    print("\n\n  summary\n" + "\n".join(f"    {name:<38}{count:>8}" for name, count in rows))
    good = (ledger.written and acked == len(ledger.written)
            and not any(found[name] for name in ("lost", "out of order", "altered", "unknown")))
    if good:
        print("  nothing lost, everything in order", flush=True)
    elif acked != len(ledger.written) and not found["lost"]:
        print("  everything arrived, but Redis does not hold every acknowledgement", flush=True)
    else:
        print("  FAILED: see the counts above", flush=True)
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--mqtt-port", type=int, required=True)
    parser.add_argument("--ca-file", required=True)
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--broker-log", required=True)
    parser.add_argument("--ready-file", required=True, help="made once the subscription stands")
    arguments = parser.parse_args()

    with open(arguments.password_file, encoding="utf-8") as file:
        password = file.read().strip()
    try:
        subscriber = Subscriber(arguments, password)
    except (OSError, ssl.SSLError) as error:
        sys.exit(f"watch: cannot connect to the broker on port {arguments.mqtt_port}: {error}")
    if not subscriber.subscribed.wait(10) or subscriber.failure:
        sys.exit(f"watch: {subscriber.failure or 'the broker did not answer within 10 s'}")
    os.close(os.open(arguments.ready_file, os.O_CREAT | os.O_WRONLY))

    connection = redis.Redis("127.0.0.1", arguments.redis_port, socket_timeout=10)
    ledger = Ledger(arguments.ledger)
    broker_log = BrokerLog(arguments.broker_log)
    try:
        follow(ledger, subscriber, broker_log, connection, arguments.group, Screen())
        acked = acknowledged(connection, arguments.group, ledger.sites)
    except redis.RedisError as error:
        sys.exit(f"watch: Redis on port {arguments.redis_port} failed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    subscriber.stop()
    sys.exit(summary(ledger, list(subscriber.arrivals), broker_log.read(), acked))


if __name__ == "__main__":
    main()
