"""The plugin against a stub of NEMO's models and a real redis-server. `lab` gives a clean database
and an empty Redis; reading lab.new() empties what it returns."""

import json
import os
import shutil
import sys
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import django
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE / "stub"), str(ROOT / "deploy" / "nemo"),
                str(ROOT / "tests" / "integration")]
os.environ["DJANGO_SETTINGS_MODULE"] = "stub_settings"
django.setup()

import stub_settings  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test.utils import CaptureQueriesContext, override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from harness.redis_server import RedisServer  # noqa: E402
from NEMO import models  # noqa: E402
from NEMO_streams import redis_stream  # noqa: E402

Entry = namedtuple("Entry", "topic type key payload body qos retain abs exp ts id v")


PATIENCE = redis_stream.PATIENCE


class Lab:
    """What a test does with NEMO, and what the stream got of it."""

    events = "nemo:{lab}:events"
    states = "nemo:{lab}:states"
    turns = "nemo:{lab}:turns"

    def __init__(self, redis):
        self.redis = redis.client()
        self.server = redis
        self.seen = "0"
        self.made = 0

    def new(self, kind=None):
        """Entries since the last call; only those whose type or topic begins with kind."""
        rows = self.redis.xrange(self.events, min=f"({self.seen}" if self.seen != "0" else "-")
        found = []
        for id, fields in rows:
            self.seen = id
            body = json.loads(fields["payload"]) if fields["payload"] else None
            found.append(Entry(body=body, **{name: fields.get(name) for name in Entry._fields
                                             if name != "body"}))
        return [entry for entry in found
                if not kind or entry.type.startswith(kind) or entry.topic.startswith(kind)]

    def states_of(self, entries):
        return {entry.body["tool_id"]: entry.body["state"] for entry in entries
                if entry.type == "tool.state"}

    def words(self, entries):
        return [(entry.body["tool_id"], entry.body["event"]) for entry in entries
                if entry.topic.endswith("/event")]

    def user(self, name="rmueller", first="Ren\u00e9", last="M\u00fcller", **more):
        return models.User.objects.get_or_create(
            username=name, defaults=dict(first_name=first, last_name=last, **more))[0]

    def tool(self, name=None, parent=None, **more):
        self.made += 1
        tool = models.Tool(name=name or f"tool {self.made}", parent_tool=parent, **more)
        if parent is None and "_operational" not in more:
            tool._operational = True
        tool.save()
        return tool

    def use(self, tool, user=None, **more):
        user = user or self.user()
        return models.UsageEvent.objects.create(user=user, operator=user, tool=tool, **more)

    def end(self, usage, minutes=0):
        usage.end = timezone.now() + timedelta(minutes=minutes)
        usage.save()

    def choose(self, **options):
        for name, value in options.items():
            models.Customization.objects.update_or_create(name=f"streams_{name}",
                                                          defaults={"value": value})

    def run(self, command, *args):
        call_command(f"nemo_streams_{command}", *args, verbosity=0)

    def refused(self, command, *args):
        """(exit code, message) of a command that does not succeed."""
        with pytest.raises(CommandError) as refusal:
            self.run(command, *args)
        return refusal.value.returncode, str(refusal.value)

    def tick(self):
        self.run("tick")

    def snapshot(self):
        self.run("snapshot")


@pytest.fixture(scope="session", autouse=True)
def database():
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    shutil.rmtree(stub_settings.FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def lab(redis, database, monkeypatch):
    monkeypatch.setattr(redis_stream, "PATIENCE", 10)  # a busy test machine is no outage
    call_command("flush", interactive=False, verbosity=0)
    redis.client().flushall()
    redis_stream._writers.clear()
    with override_settings(NEMO_STREAMS={"site": "lab", "redis_url": redis.url}):
        found = Lab(redis)
        found.snapshot()  # as after an installation
        found.new()
        yield found
    redis_stream._writers.clear()


@pytest.fixture
def hurry(lab, monkeypatch):
    """A request's real patience, for tests about it."""
    monkeypatch.setattr(redis_stream, "PATIENCE", PATIENCE)


@pytest.fixture
def settings_of():
    return lambda values: override_settings(NEMO_STREAMS=values)


@pytest.fixture
def django_queries():
    def watch():
        return CaptureQueriesContext(connection)
    return watch
