"""The program that today stands between NEMO's old topics and the displays, as far as it matters to
nemogate: it subscribes with a clean session, checks signatures when it has a key, and publishes a
retained status per tool.

    server = VmServer(port, key="secret").start()
    server.accepted, server.refused          # [(topic, event as a dict)], [(topic, reason)]
"""

import hashlib
import hmac
import json
import threading
import time
from datetime import datetime, timedelta, timezone

import paho.mqtt.client as mqtt

WORDS = ("enabled", "disabled", "start", "end", "idle")
LABELS = {"enabled": "Enabled Since", "disabled": "Disabled Since"}


class VmServer:
    def __init__(self, port, key=None, pace=0.0, name_length=13):
        self.port = port
        self.key = key.strip() if key else None
        self.pace = pace  # seconds of work per message
        self.name_length = name_length
        self.accepted, self.refused = [], []
        self.last_user = {}
        self.client = None

    def start(self):
        ready = threading.Event()
        self.last_user = {}
        # paho 2 wants to be told which callbacks are meant; paho 1 knows only these.
        version = getattr(mqtt, "CallbackAPIVersion", None)
        first = [version.VERSION1] if version else []
        self.client = mqtt.Client(*first, client_id=f"nemo_receiver_{time.time_ns()}",
                                  protocol=mqtt.MQTTv311)
        self.client.will_set("nemo/server/status", "offline", 1, True)
        self.client.reconnect_delay_set(1, 5)

        def on_connect(client, *_):
            client.subscribe([("nemo/tools/+/+", 1), ("nemo/tools/overall", 1)])
            client.publish("nemo/server/status", "online", 1, True)

        self.client.on_connect = on_connect
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", self.port, 60)
        self.client.loop_start()
        assert ready.wait(10), "no SUBACK"
        return self

    def close(self):
        if self.client is not None:
            self.client.disconnect()
            self.client.loop_stop()
            self.client = None

    stop = close

    def opened(self, raw):
        """The event's text; ValueError where it is not to be believed."""
        text = raw.decode()
        if self.key is None:
            return text
        envelope = json.loads(text)
        if not isinstance(envelope, dict) or not {"payload", "hmac", "algo"} <= set(envelope):
            raise ValueError("unsigned")
        expected = hmac.new(self.key.encode(), envelope["payload"].encode(),
                            getattr(hashlib, envelope["algo"])).hexdigest()
        if not hmac.compare_digest(expected, envelope["hmac"].lower()):
            raise ValueError("wrong signature")
        return envelope["payload"]

    def on_message(self, _client, _userdata, message):
        if self.pace:
            time.sleep(self.pace)
        try:
            event = json.loads(self.opened(message.payload))
        except (ValueError, AttributeError) as error:
            self.refused.append((message.topic, str(error)))
            return
        self.accepted.append((message.topic, event))
        word = message.topic.rsplit("/", 1)[1]
        if word in WORDS:
            self.show(message.topic.split("/")[2], word, event)

    def show(self, tool, word, event):
        name = self.shortened(event.get("user_name") or self.last_user.get(tool, "Unknown"))
        self.last_user[tool] = name
        when = event.get("timestamp")
        local = timezone(timedelta(hours=-7))
        when = datetime.fromisoformat(when) if isinstance(when, str) else datetime.now(local)
        status = {"event_type": word, "in_use": False,
                  "timestamp": when.astimezone(local).strftime("%b %d, %I:%M %p"),
                  "time_label": LABELS.get(word, ""), "user_label": "Last User", "user_name": name,
                  "tool_name": event.get("tool_name")}
        self.client.publish(f"nemo/esp32/{event.get('tool_id', tool)}/status", json.dumps(status), 1,
                            True)

    def shortened(self, name):
        name = name.split("(")[0].strip()
        return name if len(name) <= self.name_length else name.split()[0][:self.name_length]
