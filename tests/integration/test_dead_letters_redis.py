"""`nemogate dead-letters` and Redis: rights, TLS, what goes wrong, and ends halfway."""

import os
import re
import signal
import subprocess
import time

import pytest
from harness import free_port, wait_until
from letters import DEAD, STREAM, Command, bury, head, on_terminal, summary
from scale import PATIENCE

README = os.path.join(os.path.dirname(__file__), "..", "..", "README.md")


def rights_of_the_readme():
    """The rules of the Redis user that the section on dead letters tells people to make."""
    with open(README, encoding="utf-8") as text:
        found = re.search(r"ACL SETUSER admin on >PASSWORD ((?:.+\n)+)", text.read())
    return " ".join(found.group(1).split())


def password_file(things, word):
    path = things.tmp / "password"
    path.write_text(word + "\n")
    path.chmod(0o600)
    return str(path)


def test_over_tls_with_a_password(things):
    redis = things.redis(tls=things.certs, password="secret")
    bury(redis.client(), {"topic": "t", "payload": "x"})
    redis.client().xadd(STREAM, {"topic": "t"})
    path = password_file(things, "secret")
    command = Command(things, redis, redis_changes={"password_file": path})
    assert len(command.objects("list")) == 1
    assert command.ok("replay", "--all") == summary(1)
    password_file(things, "wrong")
    code, out, errors = command("list")
    assert (code, out) == (1, "")
    assert f"Redis 127.0.0.1:{redis.port}: Redis refused AUTH" in errors and "wrong" not in errors


def as_user(things, redis, rules):
    client = redis.client()
    client.execute_command("ACL", "DELUSER", "clerk")
    client.execute_command("ACL", "SETUSER", "clerk", "on", ">word", *rules.split())
    return {"username": "clerk", "password_file": password_file(things, "word")}


def fill(client):
    client.flushall()
    client.xadd(STREAM, {"topic": "t"})
    for retain in "01":
        bury(client, {"topic": "t", "payload": "x", "retain": retain, "exp": "1000"},
             dead_id=f"{int(time.time() * 1000)}-0")


def test_the_rights_of_the_readme_are_enough_and_needed(things):
    redis = things.redis()
    client = redis.client()
    rights = rights_of_the_readme()
    fill(client)
    command = Command(things, redis, redis_changes=as_user(things, redis, rights))
    assert command.ok("list").endswith("2 dead letters: 2 bad-topic\n")
    assert command.ok("replay", "--all") == summary(2)
    fill(client)
    assert command.ok("drop", "--all").startswith("dropped 2 ")
    needed_by = {"+scan": "list", "+xrevrange": "list", "+xrange": "replay", "+xinfo|stream": "replay",
                 "+time": "replay", "+eval": "replay", "+xadd": "replay", "+xdel": "drop",
                 "~nemo:*:dead": "list", "~nemo:*:events": "replay"}
    for right, action in needed_by.items():
        fill(client)
        as_user(things, redis, " ".join(r for r in rights.split() if r != right))
        code, _out, errors = command(action, *(["--all"] if action != "list" else []))
        name = {"~nemo:*:dead": "~nemo:{a}:dead", "~nemo:*:events": f"~{STREAM}"}.get(right, right)
        if right == "~nemo:*:events":
            name = "~nemo:{a}:"
        assert code == 1 and name in errors and "'clerk'" in errors, (right, errors)
        assert client.xlen(DEAD) == 2 and client.xlen(STREAM) == 1, right


def test_a_key_that_is_no_stream(things):
    redis = things.redis()
    redis.client().set(DEAD, "text")
    command = Command(things, redis)
    assert command.ok("list") == "no dead letters\n"  # SCAN finds streams
    for arguments in (["list"], ["replay", "--all"], ["drop", "--all"], ["show", "--id", "1-1"]):
        code, _out, errors = command(*arguments, "--site", "a")
        assert code == 1 and f"{DEAD} is not a stream" in errors


def test_a_redis_that_is_not_there_or_says_nothing(things):
    command = Command(things, f"redis://127.0.0.1:{free_port()}/0")
    code, out, errors = command("list")
    assert (code, out) == (1, "") and "Connection refused" in errors
    assert errors.count("\n") == 1 and errors.startswith("nemogate: Redis 127.0.0.1:")
    redis = things.redis()
    command = Command(things, redis)
    redis.pause()
    code, out, errors = command("list", timeout=30)
    assert (code, out) == (1, "") and "no answer from Redis" in errors


def test_a_full_redis_keeps_the_letters(things):
    redis = things.redis()
    client = redis.client()
    fill(client)
    client.config_set("maxmemory", "1mb")
    code, out, errors = Command(things, redis)("replay", "--all", "--force")
    client.config_set("maxmemory", "0")
    assert code == 1 and "OOM" in errors and out.startswith("replayed 0, refused 0, failed 2 (Redis")
    assert (client.xlen(STREAM), client.xlen(DEAD)) == (1, 2)


def many_letters(redis, count):
    client = redis.client()
    client.xadd(STREAM, {"topic": "first"})
    for begin in range(0, count, 2000):
        with client.pipeline(transaction=False) as pipe:
            for n in range(begin, begin + 2000):
                pipe.xadd(DEAD, {**head(dead_id=f"1700000000000-{n}"), "topic": "t",
                                 "payload": str(n)})
            pipe.execute()
    return client


def replayed(client):
    return [fields["replayed_from"] for _, fields in client.xrange(STREAM)[1:]]


@pytest.mark.limit(300)
def test_a_redis_that_is_killed_meanwhile(things):
    """Each letter is moved in one step: whatever was cut off, a second run completes it."""
    redis = things.redis(appendonly=True)
    count = 20_000
    client = many_letters(redis, count)
    command = Command(things, redis)
    process = command.start("replay", "--all", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)
    wait_until(lambda: client.xlen(STREAM) > 500, 30 * PATIENCE, "some letters", interval=0.001)
    redis.kill()
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and ", not tried " in out, (out, errors)
    assert f"nemogate: Redis 127.0.0.1:{redis.port}: " in errors
    redis.start()
    before = replayed(client)
    assert client.xlen(DEAD) == count - len(before) > 0
    assert command("replay", "--all", timeout=120)[:2] == (0, summary(f"{count - len(before):,}"))
    assert replayed(client) == [f"1700000000000-{n}" for n in range(count)]


def test_ended_by_a_signal(things):
    redis = things.redis(appendonly=True)
    count = 20_000
    client = many_letters(redis, count)
    command = Command(things, redis)
    process = command.start("replay", "--all", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)
    wait_until(lambda: client.xlen(STREAM) > 500, 30 * PATIENCE, "some letters", interval=0.001)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    done = len(replayed(client))
    assert (process.returncode, errors) == (1, "")
    assert out == (f"replayed {done:,}, refused 0, failed 0, not tried {count - done:,}; "
                   "stopped by a signal\n")
    assert client.xlen(DEAD) == count - done


def test_progress_on_a_terminal(things):
    redis = things.redis(appendonly=True)
    client = many_letters(redis, 20_000)
    process, reader, master, text = on_terminal(Command(things, redis), "replay", "--all",
                                                errors=True)
    wait_until(lambda: client.xlen(STREAM) > 500, 30 * PATIENCE, "some letters", interval=0.001)
    redis.pause()
    wait_until(lambda: b"letters read so far: refused 0" in text, 10, "a line of progress")
    redis.resume()
    assert process.wait(60 * PATIENCE) == 0
    reader.join(10)
    os.close(master)
    assert re.search(rb"\r\x1b\[K[\d,]+ of 20,000 letters read so far", text)
    assert b"\n" not in text and text.endswith(b"\r\x1b[K")  # in place, and wiped


def test_two_at_a_time(things):
    """Two admins replay the same letters: each letter goes back once."""
    redis = things.redis()
    count = 4000
    client = many_letters(redis, count)
    command = Command(things, redis)
    both = [command.start("replay", "--all", stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted(replayed(client), key=lambda i: int(i.split("-")[1])) == [
        f"1700000000000-{n}" for n in range(count)]
    assert client.xlen(DEAD) == 0
