"""Says in words what is wrong with settings, Redis, the stream and the gateway. Writes nothing.
Exit codes: 0 all well, 1 something is wrong, 2 the settings are faulty."""

from django.core.management.base import BaseCommand, CommandError

from NEMO_streams import conf, gateway_status, options, redis_stream
from NEMO_streams.sweep import TIMEOUT


def look(config):
    def work(client):
        return {"ping": client.ping(), "marks": client.hlen(config.states_key),
                "script": client.eval("return 1", 0), **gateway_status.look(config)(client)}
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
        yield from gateway_status.read(found, config).faults()
        chosen = options.read()
        if chosen.display and chosen.names == "none":
            yield "displays are on but the names policy is none: they show no user"
