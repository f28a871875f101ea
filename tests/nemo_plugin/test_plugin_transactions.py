"""After the commit, once, and in the right order; and what fails stays small."""

import threading

import pytest
from django.core import serializers
from django.db import connection, transaction

from NEMO import models
from NEMO_streams import conf, options, publish, signals, state_tools, states


class Undo(Exception):
    pass


def test_rollback_sends_nothing(lab):
    tool = lab.tool()
    lab.new()
    with pytest.raises(Undo), transaction.atomic():
        tool.operational = False
        tool.save()
        lab.use(tool)
        raise Undo
    assert lab.new() == []
    assert models.Tool.objects.get(pk=tool.pk).operational


def test_nothing_before_the_commit(lab):
    tool = lab.tool()
    lab.new()
    with transaction.atomic():
        lab.use(tool)
        assert lab.new() == []
    assert lab.states_of(lab.new()) == {tool.pk: "in_use"}


def test_many_saves_are_one_look(lab, monkeypatch):
    tool = lab.tool()
    lab.new()
    looks = []
    monkeypatch.setattr(signals, "publish", lambda keys, **more: looks.append(keys)
                        or publish.publish(keys, **more))
    with transaction.atomic():
        for _ in range(20):
            tool.operational = not tool.operational
            tool.save()
        usage = lab.use(tool)
        lab.end(usage)
        lab.use(tool)
    assert looks == [[f"tool/{tool.pk}"]]
    entries = lab.new()
    assert lab.states_of(entries) == {tool.pk: "in_use"}
    assert len([entry for entry in entries if entry.topic.endswith("/state")]) == 1


def test_rolled_back_savepoint_does_not_take_the_rest_with_it(lab):
    one, two = lab.tool(), lab.tool()
    lab.new()
    with transaction.atomic():
        with pytest.raises(Undo), transaction.atomic():
            lab.use(two)
            raise Undo
        lab.use(one)
    assert lab.states_of(lab.new()) == {one.pk: "in_use"}


def test_savepoint_within(lab):
    one, two = lab.tool(), lab.tool()
    lab.new()
    with transaction.atomic():
        lab.use(one)
        with transaction.atomic():
            lab.use(two)
    assert lab.states_of(lab.new()) == {one.pk: "in_use", two.pk: "in_use"}


def test_fixtures_are_not_news(lab):
    tool = lab.tool()
    text = serializers.serialize("json", [lab.use(tool)])
    models.UsageEvent.objects.all().delete()
    lab.new()
    for row in serializers.deserialize("json", text):
        row.save()  # saves raw
    assert lab.new() == []
    assert models.UsageEvent.objects.count() == 1


def test_month_end_validation_writes_nothing(lab):
    tools = [lab.tool() for _ in range(3)]
    for tool in tools * 5:
        lab.end(lab.use(tool))
    lab.new()
    for usage in models.UsageEvent.objects.all():
        usage.validated = True
        usage.save()
    assert lab.new() == []


def test_who_looked_first_may_not_write_last(lab, monkeypatch):
    """A second change is made and published while the first is between its look and its write."""
    tool = lab.tool()
    lab.new()
    plain, inner = states.compute, []

    def slow(*arguments):
        found = plain(*arguments)
        if not inner:
            inner.append(True)
            lab.end(models.UsageEvent.objects.get(tool=tool))
        return found

    monkeypatch.setattr(publish.states, "compute", slow)
    lab.use(tool)
    entries = lab.new()
    assert [entry.body["state"] for entry in entries if entry.topic.endswith("/state")][-1:] != [
        "in_use"]
    lab.tick()
    assert lab.new() == []


def test_threads_at_once_end_with_the_truth(lab):
    tool = lab.tool()
    lab.new()

    def work(number):
        try:
            row = models.Tool.objects.get(pk=tool.pk)
            for turn in range(10):
                row.name = f"name {number} {turn}"
                row.save()
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    names = [entry.body["tool_name"] for entry in lab.new("tool.state")]
    assert names[-1] == models.Tool.objects.get(pk=tool.pk).name
    lab.tick()
    assert lab.new() == []


def test_one_faulty_object_does_not_stop_the_others(lab, monkeypatch, caplog):
    one, two = lab.tool(), lab.tool()
    lab.new()
    plain = state_tools.ToolState.state_body

    def faulty(self, context):
        if self.id == one.pk:
            raise ValueError("secret text")
        return plain(self, context)

    monkeypatch.setattr(state_tools.ToolState, "state_body", faulty)
    with transaction.atomic():
        lab.use(one)
        lab.use(two)
    assert lab.states_of(lab.new()) == {two.pk: "in_use"}
    assert f"tool/{one.pk}" in caplog.text and "secret text" not in caplog.text
    code, message = lab.refused("tick")
    assert code == 1 and f"tool/{one.pk}" in message


def test_a_faulty_kind_does_not_stop_the_others(lab, monkeypatch):
    monkeypatch.setitem(states.KINDS, "area", lambda ids, context: 1 / 0)
    models.Area.objects.create(name="Bay")
    assert lab.refused("snapshot")[0] == 1
    assert any(entry.topic == "facility/alerts" for entry in lab.new())


@pytest.mark.parametrize("place", ["reach", "options", "publish"])
def test_no_fault_of_ours_reaches_nemo(lab, monkeypatch, caplog, place):
    def fault(*_, **__):
        raise RuntimeError("secret")

    if place == "reach":
        monkeypatch.setattr(signals.reach, "keys_of", fault)
    elif place == "options":
        monkeypatch.setattr(options, "read", fault)
    else:
        monkeypatch.setattr(signals, "after_commit", fault)
    tool = lab.tool()
    assert models.Tool.objects.filter(pk=tool.pk).exists()
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


def test_oversized_payload_stays_at_home(lab, monkeypatch, caplog):
    monkeypatch.setattr("NEMO_streams.entries.PAYLOAD_LIMIT", 200)
    tool = lab.tool()
    assert lab.new(f"tools/{tool.pk}") == []
    assert "TooLarge" in caplog.text


def test_faulty_settings_publish_nothing_and_break_nothing(lab, settings_of):
    with settings_of({"site": "No Good"}):
        assert conf.current() is None
        lab.tool()
    assert lab.new() == []


def test_stream_is_trimmed_about(lab, settings_of):
    pipe = lab.redis.pipeline()
    for _ in range(3000):
        pipe.xadd(lab.events, {"a": "b"})
    pipe.execute()
    with settings_of({"site": "lab", "redis_url": lab.server.url, "maxlen": 1000}):
        lab.tool()
    assert 1000 <= lab.redis.xlen(lab.events) < 1500
