"""Batches of a RecordingBroker or Subscriber as the messages they carry.

    Verifier(producer, Unbatched(broker)).wait(30).check()

Read with msgpack itself, not with the reference reader: that one has tests of its own.
"""

import msgpack

from .message import Message

CONTENT_TYPE = "application/x-msgpack"


def read_batch(payload):
    batch = msgpack.unpackb(payload, raw=False)
    assert batch["v"] == 1, batch
    return batch


def is_batch(message):
    return message.topic.endswith("/batch")


def messages_of(message):
    """[Message] of a batch, with the batch's own fate; any other message as it is."""
    if not is_batch(message):
        return [message]
    return [message._replace(topic=event["topic"], payload=event["payload"],
                             retain=event.get("retain", False))
            for event in read_batch(message.payload)["events"]]


class Unbatched:
    """`messages` and `accepted()` of a source, batches taken apart."""

    def __init__(self, source):
        self._source = source
        self._taken = 0
        self._messages: list[Message] = []

    @property
    def messages(self):
        all_of_it = self._source.messages
        end = len(all_of_it)
        for i in range(self._taken, end):
            self._messages += messages_of(all_of_it[i])
        self._taken = end
        return self._messages

    def accepted(self):
        return [m for m in self.messages if m.code is not None and m.code < 0x80]
