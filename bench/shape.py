"""What is varied from case to case, and nemogate's configuration for it. The base case is a Shape
without arguments."""

from dataclasses import asdict, dataclass

GROUP = "bench"
NAMED_STREAMS = 256  # above, the configuration names a pattern


@dataclass(frozen=True)
class Shape:
    payload: int = 220
    mix: str = "fixed"          # fixed: `payload` bytes each; nemo: the sizes of a NEMO site
    keys: int = 500             # per stream
    streams: int = 4
    qos: int = 1
    protocol: str = "5"
    tls: bool = False
    nodelay: bool = False       # Mosquitto's set_tcp_nodelay
    encoding: str = "raw"
    batch_events: int = 100
    entry_fields: int = 9       # 9: what the NEMO plugin writes; 5: the least
    retain_percent: int = 0
    coalesce: bool = False
    slots: int = 1
    shards: int = 0             # 0: one per core, at most slots
    connections: int = 1        # per slot
    inflight: int = 1000        # window per connection
    site_topics: bool = False   # topics begin with nemo/{site}/ instead of nemo/

    def as_json(self):
        return asdict(self)

    def stream_names(self):
        return [f"nemo:{{bench{n + 1}}}:events" for n in range(self.streams)]

    def batch_line(self):
        return (f"    batch: {{events: {self.batch_events}, bytes: 64KiB, linger: 20ms, "
                f'topic: "nemo/{{site}}/batch"}}\n')

    def route(self, sign_key):
        lines = (f'routes:\n  - streams: "nemo:*:events"\n    broker: main\n'
                 f"    topic_prefix: {'nemo/{site}/' if self.site_topics else 'nemo/'}\n"
                 f"    coalesce_retained: {'true' if self.coalesce else 'false'}\n")
        if self.encoding != "raw":
            lines += f"    encoding: {self.encoding}\n"
        if self.encoding == "signed":
            lines += f"    sign_key_file: {sign_key}\n"
        if self.encoding == "batch":
            lines += self.batch_line()
        return lines

    def config(self, redis_port, broker_port, ca_file, sign_key, instance="bench"):
        """A configuration file. The lease outlives the time that the process is stopped (SIGSTOP)
        while a backlog is written."""
        names = self.stream_names() if self.streams <= NAMED_STREAMS else ["nemo:*:events"]
        quoted = ", ".join(f'"{name}"' for name in names)
        scheme, trust = "mqtt", ""
        if self.tls:
            scheme, trust = "mqtts", f"    tls: {{ca_file: {ca_file}}}\n"
        return (f"instance: {instance}\nshards: {self.shards}\nslots: {self.slots}\n"
                f"redis:\n  url: redis://127.0.0.1:{redis_port}/0\n  group: {GROUP}\n"
                f"  streams: [{quoted}]\n"
                f"brokers:\n  - name: main\n    url: {scheme}://127.0.0.1:{broker_port}\n{trust}"
                f"    protocol: {self.protocol}\n    connections: {self.connections}\n"
                f"    inflight: {self.inflight}\n    keepalive: 300s\n    puback_timeout: 10m\n"
                f'    status_topic: ""\n'
                f"{self.route(sign_key)}"
                f"delivery:\n  lease_ttl: 10m\n"
                f'admin: {{listen: ""}}\n'
                f"log: {{level: info, format: logfmt}}\n")
