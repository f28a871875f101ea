"""Looks at all objects, and at those of which Redis still knows that they were published: the
common part of nemo_streams_snapshot and nemo_streams_tick, and what the settings page starts when
other things are to be published. Exit codes of the commands: 0 all is written, 1 something could
not be, 2 the settings are faulty or name another site."""

import logging
import threading

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from . import conf, redis_stream, settings_publish, states
from .publish import BATCH, publish

logger = logging.getLogger(__name__)

TIMEOUT = 5.0  # seconds for one answer of Redis; nobody's request waits here


def remembered(config):
    """Objects with a mark."""
    def work(client):
        return [key.decode("utf-8", "replace") for key in client.hkeys(config.states_key)]
    return work


def all_objects(writer):
    """Keys of all objects, and of those that are gone but still published."""
    old = writer.call(remembered(writer.config), redis_stream.Budget(2 * TIMEOUT))
    keys = states.all_keys()
    return keys + sorted({key for key in old if states.known(key)} - set(keys))


class Background:
    """One thread of the process, while there is something to do. Of several wishes that come while
    it runs it fulfils the last, from the beginning."""

    def __init__(self):
        self.lock = threading.Lock()
        self.thread = None
        self.wanted = None  # the Config to publish for

    def start(self, config):
        with self.lock:
            self.wanted = config
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.run, name="nemo-streams-sweep",
                                               daemon=True)
                self.thread.start()

    def take(self):
        with self.lock:
            config, self.wanted = self.wanted, None
            if config is None:
                self.thread = None
            return config

    def run(self):
        try:
            while (config := self.take()) is not None:
                self.publish_all(config)
        finally:
            connections.close_all()

    def publish_all(self, config):
        writer = redis_stream.Writer(config, timeout=TIMEOUT)
        try:
            keys = all_objects(writer)
            for start in range(0, len(keys), BATCH):
                outcome = publish(keys[start:start + BATCH], writer, 2 * TIMEOUT)
                if self.wanted is not None or outcome.error:
                    break
        except Exception as error:  # nemo_streams_tick does it within the minute
            logger.warning("not everything could be published at once: %s", states.where(error))
        finally:
            writer.close()


background = Background()


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
            settings_publish.tell(writer, "nemo_streams", 2 * TIMEOUT)
            keys = all_objects(writer)
        except redis_stream.Unavailable as error:
            raise CommandError(f"Redis at {writer.config.address}: {error}") from None
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
