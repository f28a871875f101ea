"""NEMO_streams: publishes what happens in NEMO into a Redis stream, from where nemogate carries it
to an MQTT broker. See README.md of the package for the admin's side."""

__version__ = "1.0.0"
