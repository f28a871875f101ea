"""What came out, against what went in. The judge sees every message that a broker has accepted, or
that a subscriber has received, in their order, and remembers little of each: a run of an hour must
not grow.

    judge = Judge(load); judge.take(message) ...; judge.lost(), judge.problems, judge.duplicates

Per stream and key:
- lost: a number that never came, though it was not one that the broker refused for good;
- out of order: a number that comes for the first time after a higher one;
- skipped: the number that follows another is higher by more than one, though those between were
  accepted earlier. What is sent again must be a whole suffix: without this a topic could end with
  an older value than a subscriber had already seen;
- strange: a payload, an id or a topic that was never written like that, or a refused entry that
  was accepted.
"""

import json
import threading
import time

from load import CANARY, id_of, payload_of


class Track:
    """What has been seen of one stream and key."""

    __slots__ = ("upto", "beyond", "last", "highest")

    def __init__(self):
        self.upto = 0        # 1..upto have all been seen, or are marked
        self.beyond = set()  # seen, and above upto
        self.last = 0        # the newest message's number
        self.highest = 0


class Judge:
    """load: has sent, marked and topic(); resends: messages with DUP are the broker's own repetition
    towards its subscriber, and counted apart."""

    def __init__(self, load, resends=False):
        self._load = load
        self._resends = resends
        self.tracks = {}
        self.received = 0
        self.duplicates = 0
        self.broker_resends = 0
        self.refused = 0
        self.problem_counts = {"out of order": 0, "skipped": 0, "strange": 0}
        self.problems = []     # texts, the first 1,000 of each kind
        self._canaries = {}    # (stream, n) -> time of its arrival
        self._sources = []
        self._stop = threading.Event()
        self._thread = None
        self.error = None

    # ---- taking in

    def take(self, message):
        code = message.code
        if message.topic.startswith("nemogate/") or code is None:
            return
        if code >= 0x80:
            self.refused += 1
            return
        try:
            event = json.loads(message.payload)
            stream, key, n, q = event["stream"], event["key"], event["n"], event["q"]
            code = event.get("refuse", 0)
        except (ValueError, KeyError, TypeError):
            self._problem("strange", message, f"payload {message.payload[:80]!r}")
            return
        self.received += 1
        self._check_shape(message, stream, key, n, q, code)
        self._place(message, stream, key, n)

    def _check_shape(self, message, stream, key, n, q, code):
        if message.payload != payload_of(stream, key, n, q, code):
            self._problem("strange", message, f"altered payload {message.payload!r}")
        elif message.topic != self._load.topic(stream, key):
            self._problem("strange", message, f"topic {message.topic!r} for {message.payload!r}")
        elif message.user_properties.get("id") != id_of(stream, key, n):
            self._problem("strange", message, f"user properties {message.user_properties}")
        elif code:
            self._problem("strange", message, f"refused for good, and accepted: {message.payload!r}")

    def _is_marked(self, stream, key, n):
        return (stream, key, n) in self._load.marked

    def _place(self, message, stream, key, n):
        track = self.tracks.get((stream, key))
        if track is None:
            track = self.tracks[stream, key] = Track()
        if n <= track.upto or n in track.beyond:
            if self._resends and message.dup:
                self.broker_resends += 1
            else:
                self.duplicates += 1
        else:
            if n < track.highest:
                self._problem("out of order", message,
                              f"{stream} {key}: {n} for the first time after {track.highest}")
            track.beyond.add(n)
            track.highest = max(track.highest, n)
            if key == CANARY:
                self._canaries[stream, n] = message.time
        self._advance(track, stream, key)
        between = range(track.last + 1, n)
        if any(i <= track.upto or i in track.beyond for i in between
               if not self._is_marked(stream, key, i)):
            self._problem("skipped", message, f"{stream} {key}: {n} follows {track.last}, "
                          f"what is between was left out of what was sent again")
        track.last = n

    def _advance(self, track, stream, key):
        while True:
            if track.upto + 1 in track.beyond:
                track.beyond.discard(track.upto + 1)
            elif not self._is_marked(stream, key, track.upto + 1):
                return
            track.upto += 1

    def _problem(self, kind, message, text):
        self.problem_counts[kind] += 1
        if self.problem_counts[kind] <= 1000:
            self.problems.append(f"{message.time:.3f} {kind}: {text} (connection "
                                 f"{message.connection} {message.client_id})")

    # ---- asking

    def arrived(self, canaries):
        """When the last of these canaries arrived; None: not all have."""
        if canaries.numbers is None:
            return None
        times = [self._canaries.get((s, n)) for s, n in canaries.numbers.items()]
        return None if None in times else max(times)

    def forget_canaries_before(self, canaries):
        numbers = canaries.numbers or {}
        self._canaries = {(s, n): t for (s, n), t in list(self._canaries.items())
                          if n + 3 >= numbers.get(s, 0)}

    def lost(self):
        """[(stream, key, n)] of what has not come."""
        missing = []
        for (stream, key), last in self._load.sent.items():
            track = self.tracks.get((stream, key)) or Track()
            missing += [(stream, key, n) for n in range(track.upto + 1, last + 1)
                        if n not in track.beyond and not self._is_marked(stream, key, n)]
        return missing

    def never_written(self):
        return [(stream, key, track.highest) for (stream, key), track in self.tracks.items()
                if track.highest > self._load.sent.get((stream, key), 0)]

    def unique(self):
        return self.received - self.duplicates - self.broker_resends

    # ---- a thread that takes from a source

    def follow(self, source):
        """source.messages is a growing list; what has been taken is removed from it."""
        self._sources.append(source)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
            self._thread.start()

    def _run(self):
        try:
            while not self._stop.wait(0.02):
                for source in self._sources:
                    self._drain(source)
        except Exception as error:
            self.error = error

    def _drain(self, source):
        messages = source.messages
        count = len(messages)
        for i in range(count):
            self.take(messages[i])
        del messages[:count]

    def stop(self):
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
        if self.error:
            raise self.error

    def wait(self, canaries, timeout):
        """The time of their arrival, or None after timeout seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            when = self.arrived(canaries)
            if when is not None:
                return when
            if self.error:
                raise self.error
            time.sleep(0.02)
        return None
