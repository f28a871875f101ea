"""The program of Subscriber: a paho client that writes what it receives to standard output.

Runs on its own (python3 subscriber_process.py OPTIONS), so that it takes no time from the test's
process. RECORD says what a record looks like; topic, payload and properties follow it.
"""

import json
import os
import struct
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

RECORD = struct.Struct(">HIIBHd")  # lengths of topic, payload, properties; flags; packet id; time
FLAG_RETAIN, FLAG_DUP = 4, 8       # the lowest two bits are the QoS


def say(words):
    print(words, file=sys.stderr, flush=True)


def main():
    options = json.loads(sys.argv[1])
    is_five = options["version"] == 5
    arguments = {} if is_five else {"clean_session": not options["persistent"]}
    client = mqtt.Client(client_id=options["client_id"],
                         protocol=mqtt.MQTTv5 if is_five else mqtt.MQTTv311, **arguments)
    if options["tls"]:
        client.tls_set(ca_certs=options["tls"] + "/ca.crt")
    if options["username"]:
        client.username_pw_set(options["username"], options["password"])
    client.reconnect_delay_set(0.1, 1)

    def on_connect(_client, _userdata, _flags, code, _properties=None):
        say(f"connected: {code}")
        if is_five:
            client.subscribe([(topic, SubscribeOptions(qos=options["qos"], retainAsPublished=True))
                              for topic in options["topics"]])
        else:
            client.subscribe([(topic, options["qos"]) for topic in options["topics"]])

    def on_subscribe(*_):
        say("subscribed")

    def on_disconnect(_client, _userdata, code, _properties=None):
        say(f"disconnected: {code}")

    def on_message(_client, _userdata, m):
        topic, raw = m.topic.encode(), b""
        if is_five and m.properties is not None:
            packed = m.properties.pack()  # with its length before it
            raw = packed[1:] if packed[0] < 0x80 else packed[2:]
        flags = m.qos | (FLAG_RETAIN if m.retain else 0) | (FLAG_DUP if m.dup else 0)
        head = RECORD.pack(len(topic), len(m.payload), len(raw), flags, m.mid, time.monotonic())
        os.write(1, head + topic + m.payload + raw)

    client.on_connect, client.on_subscribe = on_connect, on_subscribe
    client.on_disconnect, client.on_message = on_disconnect, on_message
    start = {}
    if is_five:
        start = {"clean_start": not options["persistent"]}
        if options["persistent"]:
            start["properties"] = Properties(PacketTypes.CONNECT)
            start["properties"].SessionExpiryInterval = 0xFFFFFFFF
    client.connect("127.0.0.1", options["port"], keepalive=30, **start)
    client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    main()
