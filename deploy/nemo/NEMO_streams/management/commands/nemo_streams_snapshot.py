"""Publishes the state of all objects, changed or not, and clears what is no longer there. At
install, after a loss of Redis or the broker's retained messages, and every 10 minutes."""

from NEMO_streams.sweep import SweepCommand


class Command(SweepCommand):
    help = "Publish the present state of all tools, areas and so on"
    force = True
