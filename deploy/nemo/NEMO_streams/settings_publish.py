"""Hands the broker's settings to the gateway: the hash nemo:{site}:gateway:settings and, in the
same script, the entry at which the gateway applies them. Secrets never pass here: every program on
the lab's Redis could read them, dumps would keep them and MONITOR would show them.

As in publish.py, who is about to write takes a turn, then reads the database, and its values count
only while nobody has taken a later turn. So of two admins who save at once the last saved wins in
Redis too. The script writes only what differs from Redis, so that nemo_streams_tick puts right what
a save could not tell; an admin's save also writes what the gateway has refused, which may be good
now that a file is there. The version only rises, also above what a gateway has applied before Redis
lost its data."""

import time
import uuid

from . import broker, redis_stream

TURN = "gateway/settings"
FIELDS = tuple(option.field for option in broker.OPTIONS)

# KEYS: settings, stream, turns, gateway. ARGV: maxlen, turn's name, turn, saved_at, saved_by, id,
# 1 to write also what was refused, then for each setting its name and value. Returns {version, 1 if
# written}; {-1, 0}: somebody has taken a later turn.
WRITE = """
if redis.call('HGET', KEYS[3], ARGV[2]) ~= ARGV[3] then return {-1, 0} end
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '') or 0
local applied = tonumber(redis.call('HGET', KEYS[4], 'settings_version') or '') or 0
local refused = version > 0 and (redis.call('HGET', KEYS[4], 'settings_error') or '') ~= ''
local differs, fields = applied > version or (refused and ARGV[7] == '1'), {}
for at = 8, #ARGV, 2 do
    if (redis.call('HGET', KEYS[1], ARGV[at]) or '') ~= ARGV[at + 1] then differs = true end
    fields[#fields + 1] = ARGV[at]
    fields[#fields + 1] = ARGV[at + 1]
end
if not differs then return {version, 0} end
version = string.format('%.0f', math.max(version, applied) + 1)
redis.call('HSET', KEYS[1], 'version', version, 'saved_at', ARGV[4], 'saved_by', ARGV[5],
           unpack(fields))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'v', '1', 'id', ARGV[6],
           'type', 'gateway.settings', 'topic', 'gateway/settings', 'key', 'gateway',
           'payload', '{"version":' .. version .. '}', 'qos', '1', 'retain', '0', 'ts', ARGV[4])
return {tonumber(version), 1}
"""


def take_turn(config):
    return lambda client: client.hincrby(config.turns_key, TURN, 1)


def write(config, turn, values, saved_by, again=False):
    pairs = [part for field in FIELDS for part in (field, values[field])]

    def work(client):
        return client.eval(WRITE, 4, config.settings_key, config.events_key, config.turns_key,
                           config.gateway_key, config.maxlen, TURN, turn, int(time.time() * 1000),
                           saved_by, str(uuid.uuid4()), int(again), *pairs)
    return work


def tell(writer, saved_by, patience=None, again=False):
    """(version, whether it was written). again: also where nothing differs from what was refused. A
    version of -1: somebody later tells it. Raises Unavailable as writer.call() does, after patience
    seconds at most: by default what the request has left."""
    budget = redis_stream.budget(patience)
    turn = writer.call(take_turn(writer.config), budget)
    version, written = writer.call(write(writer.config, turn, broker.read(), saved_by, again),
                                   budget)
    return version, bool(written)
