"""From "something about tool 17 has changed" to entries in the stream.

Two requests may change the same object at once, and the one that looked first may write last. So
each takes a turn (a count in Redis) before it looks into the database, and its entries are written
only while nobody has taken a later one: who came later has seen both changes. Together with its
turn it reads the object's mark: digests of what was last published on each topic. What has not
changed is not published again, what is no longer there is cleared, and a mark that is lost or old
is put right by nemo_streams_tick."""

import json
import logging
from dataclasses import dataclass, field

from . import conf, entries, events, options, redis_stream, states

logger = logging.getLogger(__name__)

BATCH = 100  # objects for which one set of queries is made

# KEYS: stream, marks, turns. ARGV: maxlen, object, its turn, its new mark ("": none), then for each
# entry the number of its fields and values, and these. Returns the number of entries written. It
# ends the turn: when the answer is lost and the same is sent again, nothing is written twice.
WRITE = """
if redis.call('HGET', KEYS[3], ARGV[2]) ~= ARGV[3] then return -1 end
local at, written = 5, 0
while at <= #ARGV do
    local count = tonumber(ARGV[at])
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, at + 1, at + count))
    at, written = at + count + 1, written + 1
end
if ARGV[4] == '' then
    redis.call('HDEL', KEYS[2], ARGV[2])
else
    redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
end
redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
return written
"""


@dataclass
class Outcome:
    objects: int = 0
    written: int = 0  # entries
    failed: list = field(default_factory=list)  # objects whose state could not be made
    error: str = ""   # why Redis could not be written


def take_turns(config, keys):
    def work(client):
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.hincrby(config.turns_key, key, 1)
        pipe.hmget(config.states_key, keys)
        *turns, marks = answers(pipe)
        return turns, [read_mark(mark) for mark in marks]
    return work


def read_mark(raw):
    """{"topics": {topic: digest}, "abs": [topics], "facts": {...}}; {} where nothing is known, or
    what is there is not of this plugin."""
    try:
        mark = json.loads(raw) if raw else {}
        return mark if is_mark(mark) else {}
    except (ValueError, RecursionError):
        return {}


def is_mark(found):
    topics, absolute, facts = map(found.get, ("topics", "abs", "facts")) \
        if isinstance(found, dict) else (None, None, None)
    if not (isinstance(topics, dict) and isinstance(absolute, list) and isinstance(facts, dict)):
        return False
    usage = facts.get("usage", 0)
    return type(usage) is int and 0 <= usage < 2 ** 63 and \
        all(isinstance(topic, str) for topic in absolute)


def write(config, changes):
    def work(client):
        pipe = client.pipeline(transaction=False)
        for change in changes:
            pipe.eval(WRITE, 3, config.events_key, config.states_key, config.turns_key,
                      config.maxlen, *change)
        return answers(pipe)
    return work


def answers(pipe):
    """redis-py would put the command into the error's text, with the payload and its names."""
    found = pipe.execute(raise_on_error=False)
    for answer in found:
        if isinstance(answer, Exception):
            raise answer
    return found


def messages_for(key, made, mark, choice, force):
    """(messages, new mark) of one object; no messages where all is as it was."""
    before = mark.get("topics", {})
    now = {message.topic: message for message in made.messages} if made else {}
    found = [message for topic, message in now.items()
             if force or before.get(topic) != message.digest]
    gone = {topic: topic in mark["abs"] for topic in set(before) - set(now)}
    if made is None and not mark:
        gone = states.topics_of(key, choice)
    found += [entries.clear(topic, absolute) for topic, absolute in sorted(gone.items())]
    if made is None or not (now or made.facts):
        return found, {}
    return found, {"topics": {topic: message.digest for topic, message in now.items()},
                   "abs": [topic for topic, message in now.items() if message.absolute],
                   "facts": made.facts}


def change_of(key, turn, made, mark, choice, config, force, assume):
    """Arguments of the script, or None where there is nothing to say."""
    messages, new = messages_for(key, made, mark, choice, force)
    if made and not force:
        messages += events.between(mark.get("facts"), made, choice, config.site, assume)
    if not messages and new == mark:
        return None
    change = [key, turn, json.dumps(new, separators=(",", ":")) if new else ""]
    for message in messages:
        fields = message.fields(key)
        change += [len(fields), *fields]
    return change


def publish(keys, writer=None, patience=None, force=False, assume=False):
    """Looks at the objects and writes what has changed about them; force: all. patience: seconds
    for Redis, by default what the request has left. assume: an object nobody has published before
    counts as idle, so that its first use is an event. Never raises."""
    outcome = Outcome(objects=len(keys))
    config = conf.current()
    if config is None:
        outcome.error = "NEMO_STREAMS in settings.py is faulty"
        return outcome
    writer = writer or redis_stream.writer(config)
    budget = redis_stream.budget(patience)
    for start in range(0, len(keys), BATCH):
        batch = keys[start:start + BATCH]
        try:
            if not writer.ready():
                raise redis_stream.Unavailable("Redis failed a moment ago")
            budget.check()
            publish_batch(batch, writer, budget, force, assume, outcome)
        except redis_stream.Unavailable as error:
            outcome.error = str(error)
            writer.lose(len(keys) - start)
            break
        except Exception as error:  # NEMO goes on, whatever it is; the snapshot repairs
            logger.error("%d objects could not be published: %s", len(batch), states.where(error))
            outcome.failed += batch
    return outcome


def publish_batch(keys, writer, budget, force, assume, outcome):
    config = writer.config
    turns, marks = writer.call(take_turns(config, keys), budget)
    choice = options.read()
    made, failed = states.compute(keys, dict(zip(keys, marks)), choice, config.site)
    changes = []
    for key, turn, mark in zip(keys, turns, marks):
        if key in failed:
            continue
        try:
            change = change_of(key, turn, made.get(key), mark, choice, config, force, assume)
        except Exception as error:
            logger.error("%s could not be published: %s", key, states.where(error))
            failed.add(key)
            continue
        if change is not None:
            changes.append(change)
    outcome.failed += sorted(failed)
    if changes:
        counts = writer.call(write(config, changes), budget)
        outcome.written += sum(max(0, count) for count in counts)
