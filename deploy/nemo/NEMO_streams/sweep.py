"""Looks at all objects, and at those of which Redis still knows that they were published: the
common part of nemo_streams_snapshot and nemo_streams_tick. Exit codes: 0 all is written, 1 something
could not be, 2 the settings are faulty or name another site."""

from django.core.management.base import BaseCommand, CommandError

from . import conf, redis_stream, states
from .publish import BATCH, publish

TIMEOUT = 5.0  # seconds for one answer of Redis; nobody's request waits here


def remembered(config):
    """Objects with a mark."""
    def work(client):
        return [key.decode() for key in client.hkeys(config.states_key)]
    return work


class SweepCommand(BaseCommand):
    force = False

    def add_arguments(self, parser):
        parser.add_argument("--site", help="refuse to run unless settings.py has this site")

    def handle(self, *args, **options):
        config, problems = conf.load()
        if config is None:
            raise CommandError("NEMO_STREAMS in settings.py: " + "; ".join(problems), returncode=2)
        if options["site"] not in (None, config.site):
            raise CommandError(f"settings.py has site {config.site}, not {options['site']}",
                               returncode=2)
        writer = redis_stream.Writer(config, timeout=TIMEOUT)
        try:
            self.sweep(writer, options["verbosity"])
        finally:
            writer.close()

    def sweep(self, writer, verbosity):
        try:
            old = writer.call(remembered(writer.config), redis_stream.Budget(2 * TIMEOUT))
        except redis_stream.Unavailable as error:
            raise CommandError(f"Redis at {writer.config.address}: {error}") from None
        keys = states.all_keys()
        keys += sorted({key for key in old if states.known(key)} - set(keys))
        written, failed = 0, []
        for start in range(0, len(keys), BATCH):
            outcome = publish(keys[start:start + BATCH], writer, 2 * TIMEOUT, force=self.force)
            if outcome.error:
                raise CommandError(f"Redis at {writer.config.address}: {outcome.error}")
            written += outcome.written
            failed += outcome.failed
            if verbosity > 1:
                self.stdout.write(f"{min(start + BATCH, len(keys))} of {len(keys)} objects")
        if verbosity:
            self.stdout.write(f"site {writer.config.site}: {len(keys)} objects, {written} entries "
                              "written")
        if failed:
            raise CommandError(f"{len(failed)} objects could not be published: "
                               f"{', '.join(failed[:20])}; the log says why")
