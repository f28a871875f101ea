"""Says in words what is wrong with settings, Redis, the stream and the gateway. Writes nothing.
Exit codes: 0 all well, 1 something is wrong, 2 the settings are faulty."""

import redis
from django.core.management.base import BaseCommand, CommandError

from NEMO_streams import conf, options, redis_stream
from NEMO_streams.sweep import TIMEOUT


def look(config):
    def work(client):
        found = {"ping": client.ping(), "length": client.xlen(config.events_key),
                 "marks": client.hlen(config.states_key), "script": client.eval("return 1", 0)}
        prefix = config.events_key[:-len("events")]
        for name, ask in (("groups", lambda: client.xinfo_groups(config.events_key)),
                          ("dead", lambda: client.xlen(prefix + "dead")),
                          ("gateway", lambda: client.hgetall(prefix + "gateway"))):
            try:
                found[name] = ask()
            except redis.ResponseError:  # no such key, or a user without this right
                found[name] = None
        return found
    return work


class Command(BaseCommand):
    help = "Say what is wrong with Redis, the stream and the gateway"

    def handle(self, *args, **options_):
        config, problems = conf.load()
        if config is None:
            raise CommandError("NEMO_STREAMS in settings.py: " + "; ".join(problems), returncode=2)
        writer = redis_stream.Writer(config, timeout=TIMEOUT)
        try:
            found = writer.call(look(config), redis_stream.Budget(2 * TIMEOUT))
        except redis_stream.Unavailable as error:
            raise CommandError(f"Redis at {config.address}: {error}") from None
        finally:
            writer.close()
        faults = list(self.faults(found, config))
        self.stdout.write(f"site {config.site}, Redis at {config.address}: {found['length']} "
                          f"entries in {config.events_key}, {found['marks']} objects published")
        if faults:
            raise CommandError("\n".join(faults))

    def faults(self, found, config):
        if not found["marks"]:
            yield "nothing was published yet: run manage.py nemo_streams_snapshot"
        if not found["groups"]:
            yield "no gateway has read this stream yet: is nemogate running, on this Redis?"
        for group in found["groups"] or ():
            waiting = group.get("lag")
            if waiting and waiting > config.maxlen // 2:
                yield (f"{waiting} entries wait for the gateway (group {group['name'].decode()}); "
                       f"from {config.maxlen} on the oldest are lost")
        if found["dead"]:
            yield (f"{found['dead']} dead letters: nemogate dead-letters list --site "
                   f"{config.site} shows them")
        error = (found["gateway"] or {}).get(b"last_error")
        if error:
            yield f"the gateway says: {error.decode(errors='replace')}"
        chosen = options.read()
        if chosen.display and chosen.names == "none":
            yield "displays are on but the names policy is none: they show no user"
