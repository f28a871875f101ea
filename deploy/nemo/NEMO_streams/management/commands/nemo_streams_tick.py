"""Publishes what has changed without a save: a cooldown that ends, an outage that begins, an alert
that expires, the next reservation, rows changed by update(), and what could not be written while
Redis was down. To be run every minute."""

from NEMO_streams.sweep import SweepCommand


class Command(SweepCommand):
    help = "Publish what has changed since it was last published"
