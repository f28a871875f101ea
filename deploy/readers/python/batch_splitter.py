#!/usr/bin/python3
"""Takes batches from one broker and publishes each event of them, to its own topic, at another (or
the same): for the far side of a slow link, where displays expect single messages. They carry what
nemogate's encoding `raw` gives them: retain, message expiry, the user properties id and stream-id.
Runs with Debian 12's python3-msgpack and python3-paho-mqtt (1.6), MQTT 5, QoS 1.

    batch_splitter.py --from mqtt://hub.example.org --to mqtt://127.0.0.1 --topic nemo/lab/batch

A batch is acknowledged to its broker only after all of its events were acknowledged by the other:
paho sends the PUBACK of a message when on_message returns, and on_message waits here. Where this
program ends before, the broker sends the batch again to the next one, as the session outlives the
connection: so events may come twice, and none is lost.

Its limits: paho 1.6 does not show the reason code of a PUBACK, so an event that the other broker
refuses is taken for published. A payload that is no batch is reported and acknowledged.
"""

import argparse
import math
import sys
import threading
import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from nemogate_batch import Duplicates, read_batch, unexpired
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 60           # seconds that a batch may take until its last event is acknowledged
SESSION_EXPIRY = 86400  # seconds that the source broker keeps batches for us while we are away


class Failure(Exception):
    """Ends the program; what is not acknowledged by then comes again."""


class Target:
    """The broker that events go to. paho's own thread runs its connection, makes it again when it is
    lost, and then sends again what was not acknowledged."""

    def __init__(self, client):
        self._client = client
        self._unacknowledged = 0
        self._changed = threading.Condition()
        client.on_publish = self._acknowledged

    def _acknowledged(self, _client, _data, _packet_id):
        with self._changed:
            self._unacknowledged -= 1
            self._changed.notify()

    def publish(self, event):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("id", event.id or event.sid), ("stream-id", event.sid)]
        if event.exp is not None:
            left = math.ceil(event.exp / 1000 - time.time())
            properties.MessageExpiryInterval = min(max(left, 1), 2 ** 32 - 1)
        with self._changed:
            self._unacknowledged += 1
        sent = self._client.publish(event.topic, event.payload, 1, event.retain, properties)
        if sent.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            raise Failure("more events without a PUBACK than MQTT has packet identifiers")

    def wait(self):
        with self._changed:
            if not self._changed.wait_for(lambda: self._unacknowledged == 0, PATIENCE):
                raise Failure(f"{self._unacknowledged} events without a PUBACK after {PATIENCE} s")


class Splitter:
    """on_message of the source's client."""

    def __init__(self, target):
        self._target = target
        self._duplicates = Duplicates()

    def __call__(self, _client, _data, message):
        try:
            batch = read_batch(message.payload)
        except ValueError as error:
            print(f"batch_splitter: {message.topic}: {error}", file=sys.stderr, flush=True)
            return
        for event in unexpired(self._duplicates.drop(batch)):
            self._target.publish(event)
        self._target.wait()


# ---- connections ---------------------------------------------------------------------------------

def make_client(url, password_file, client_id, ca_file):
    """A client for mqtt://[USER@]HOST[:PORT] or mqtts://, and the host and port it connects to."""
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise Failure(f"{url}: not a URL as mqtt://HOST:PORT or mqtts://HOST:PORT")
    client = mqtt.Client(client_id, protocol=mqtt.MQTTv5)
    if parts.username:
        password = None
        if password_file:
            with open(password_file, encoding="utf-8") as file:
                password = file.read().rstrip("\n")
        client.username_pw_set(parts.username, password)
    if parts.scheme == "mqtts":
        client.tls_set(ca_file)
    return client, parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883)


def check(reason, what):
    if reason.value >= 0x80:
        raise Failure(f"{what}: {reason}")


def connect_target(arguments):
    client, host, port = make_client(arguments.target, arguments.to_password_file,
                                     arguments.client_id + "-to", arguments.ca_file)
    answered = threading.Event()
    client.on_connect = lambda *_: answered.set()
    client.connect(host, port)
    client.loop_start()
    if not answered.wait(10) or not client.is_connected():
        raise Failure(f"{arguments.target}: no connection; are user and password right?")
    return Target(client)


def run(arguments):
    target = connect_target(arguments)
    source, host, port = make_client(arguments.source, arguments.from_password_file,
                                     arguments.client_id, arguments.ca_file)

    def on_connect(_client, _data, _flags, reason, _properties):
        check(reason, arguments.source)
        source.subscribe(arguments.topic, qos=1)

    def on_subscribe(_client, _data, _packet_id, reasons, _properties):
        check(reasons[0], arguments.topic)
        print(f"batch_splitter: subscribed to {arguments.topic}", file=sys.stderr, flush=True)

    source.on_connect = on_connect
    source.on_subscribe = on_subscribe
    source.on_message = Splitter(target)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = SESSION_EXPIRY
    source.connect(host, port, clean_start=False, properties=properties)
    source.loop_forever()


def main():
    parser = argparse.ArgumentParser(description="Publishes the events of batches one by one.")
    parser.add_argument("--from", dest="source", required=True, metavar="URL",
                        help="broker of the batches: mqtt://[USER@]HOST[:PORT], mqtts://...")
    parser.add_argument("--to", dest="target", required=True, metavar="URL",
                        help="broker of the events")
    parser.add_argument("--topic", required=True, help="where the batches come, e.g. nemo/+/batch")
    parser.add_argument("--client-id", default="batch-splitter",
                        help="names the session at the broker: one for each splitter")
    parser.add_argument("--from-password-file", metavar="FILE")
    parser.add_argument("--to-password-file", metavar="FILE")
    parser.add_argument("--ca-file", help="for mqtts://; the system's certificates without it")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (Failure, OSError) as error:
        print(f"batch_splitter: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
