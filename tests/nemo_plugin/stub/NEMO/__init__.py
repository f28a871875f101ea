"""A stand-in for NEMO 8 with what the plugin touches: names, fields and behaviour as there."""
