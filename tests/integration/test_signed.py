"""encoding: signed. The envelope of NEMO's MQTT plugins, byte for byte, and never an unsigned message."""

import hashlib
import hmac
import json
import os
import pathlib

import pytest
from harness import Verifier, gateway_config, produce, wait_until
from refusals import PATIENCE, STREAM, config_for, letters, wait_settled

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "data/hmac_vectors.json").read_text())
KEY = "clé-secrète-ключ"


def signed(tmp_path, key=KEY, line_end="\n"):
    path = os.path.join(tmp_path, "sign.key")
    with open(path, "wb") as file:
        file.write((key if isinstance(key, bytes) else key.encode()) + line_end.encode())
    return {"encoding": "signed", "sign_key_file": path}


def opened(message, key=KEY):
    """The payload of an envelope whose signature is right."""
    envelope = json.loads(message.payload)
    payload = envelope["payload"].encode()
    assert envelope["hmac"] == hmac.new(key.encode(), payload, hashlib.sha256).hexdigest()
    assert message.payload == json.dumps(envelope).encode()  # as Python writes it
    return message._replace(payload=payload)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_vectors(things, tmp_path, vector):
    redis, broker = things.redis(), things.recording_broker()
    redis.client().xadd(STREAM, {"topic": "t", "payload": bytes.fromhex(vector["payload_utf8_hex"])})
    route = signed(tmp_path, bytes.fromhex(vector["key_utf8_hex"]))
    things.gateway(config_for(redis, broker, route_changes=route))
    wait_until(lambda: broker.payloads("nemo/a/t"), 10 * PATIENCE)
    assert broker.payloads("nemo/a/t") == [vector["envelope_ascii"].encode()]


def test_every_message_is_signed(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    producer = produce(redis, STREAM, keys=20, count=3000, payload_size=220)
    things.gateway(config_for(redis, broker, route_changes=signed(tmp_path, line_end="\r\n")))
    verifier = Verifier(producer)
    wait_settled(redis.client())
    for message in broker.messages:
        if message.topic.startswith("nemo/"):
            verifier.add(opened(message))
    verifier.report().check(duplicates=0)


def test_what_cannot_be_signed_is_a_dead_letter(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    client = redis.client()
    bad = {"lone-surrogate": b'{"name": "\xed\xa0\x80"}', "not-utf8": b"\xff\xfe"}
    for payload in bad.values():
        client.xadd(STREAM, {"topic": "t", "key": "k", "payload": payload})
        client.xadd(STREAM, {"topic": "t", "key": "k", "payload": "good"})
    things.gateway(config_for(redis, broker, route_changes=signed(tmp_path)))
    wait_settled(client)
    assert [letter["dead_reason"] for letter in redis_letters(redis)] == list(bad)
    assert [opened(m).payload for m in broker.messages if m.topic == "nemo/a/t"] == [b"good"] * 2


def redis_letters(redis):
    raw = letters(redis.client(decode_responses=False))
    return [{"dead_reason": fields[b"dead_reason"].decode()} for fields in raw]


@pytest.mark.parametrize("key, words", [(b" k", "blank"), (b"k ", "blank"), (b"\xff", "UTF-8"),
                                        (b"", "nothing"), (b"k\n", "blank")])
def test_a_key_that_one_verifier_reads_otherwise_is_refused(things, tmp_path, key, words):
    redis, broker = things.redis(start=False), things.recording_broker(start=False)
    config = gateway_config(redis, broker, route_changes=signed(tmp_path, key))
    gateway = things.gateway(config, start=False)
    result = gateway.command("check")
    assert result.returncode == 2
    assert words in result.stderr and "sign_key_file" in result.stderr
    assert str(key) not in result.stderr


def test_the_key_is_never_shown(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    word = "s3cret-signing-word"
    gateway = things.gateway(config_for(redis, broker, route_changes=signed(tmp_path, word)))
    redis.client().xadd(STREAM, {"topic": "t", "payload": "x"})
    wait_settled(redis.client())
    gateway.terminate(10 * PATIENCE)
    assert word not in pathlib.Path(gateway.log_path).read_text()


@pytest.mark.parametrize("route, words", [
    ({"encoding": "signed"}, "'signed' needs a key"),
    ({"encoding": "raw", "sign_key_file": "/dev/null"}, "only a route with 'encoding: signed'"),
    ({"batch": {"events": 5}}, "only a route with 'encoding: batch'"),
    ({"encoding": "batch", "coalesce_retained": True}, "does not go with 'encoding: batch'"),
])
def test_keys_that_would_have_no_effect_are_refused(things, route, words):
    redis, broker = things.redis(start=False), things.recording_broker(start=False)
    gateway = things.gateway(gateway_config(redis, broker, route_changes=route), start=False)
    result = gateway.command("check")
    assert result.returncode == 2 and words in result.stderr, result.stderr
