"""A TCP proxy in a process of its own that can hurt the connections which go through it.

    proxy = FaultProxy(tmp, {"redis-1": redis.port, "broker-1": broker.port}).start()
    config["redis"]["url"] = f"redis://127.0.0.1:{proxy.ports['redis-1']}/0"
    proxy.stall(["redis-1"])                  # nothing goes through, also on new connections
    proxy.stall(["redis-1"], sides=["down"])  # "up": towards the server, "down": from it
    proxy.delay(names, 0.2); proxy.throttle(names, 2000)        # seconds; bytes per second
    proxy.reset(names)                        # RST to both sides of each connection
    proxy.half_open(names, keep="client")     # the server sees an end, the client hears nothing
    proxy.refuse(names)                       # the port is closed
    proxy.heal(names)                         # all that is over; what was held back goes on its way
    proxy.distance(names, 0.03)               # seconds each way, from now on; heal leaves it

No byte is changed, and none is lost but with its connection.
"""

import json
import os
import random
import socket
import sys

from harness import wait_until
from harness.process import Process


def lasting_port():
    """A free loopback port that the kernel gives to no outgoing connection: whoever listens on it may
    go away and come back."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        lowest = int(f.read().split()[0])
    while True:
        port = random.SystemRandom().randrange(min(10000, lowest // 2), lowest)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class FaultProxy(Process):
    name = "proxy"

    def __init__(self, tmp, targets):
        super().__init__(tmp)
        self.targets = dict(targets)
        self.ports = {name: lasting_port() for name in self.targets}
        self.control_path = os.path.join(self.folder, "control")
        self._control = None

    def argv(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fault_proxy_process.py")
        paths = [[name, self.ports[name], port] for name, port in self.targets.items()]
        return [sys.executable, "-B", program, self.control_path, json.dumps(paths)]

    def wait_ready(self, timeout=10.0):
        def connected():
            self.check_running()
            self._control = socket.socket(socket.AF_UNIX)
            try:
                self._control.connect(self.control_path)
                return True
            except OSError:
                self._control.close()
                return False
        wait_until(connected, timeout, f"the proxy's control socket ({self.log_path})")
        self._control.settimeout(10)
        self._answers = self._control.makefile("r")

    def close(self):
        if self._control is not None:
            self._control.close()
        super().close()

    def order(self, do, names, **arguments):
        line = json.dumps({"do": do, "paths": list(names), **arguments})
        self._control.sendall(line.encode() + b"\n")
        answer = self._answers.readline()
        if not answer:
            self.check_running()
            raise RuntimeError(f"the proxy does not answer: {self.log_path}")
        return json.loads(answer)

    def stall(self, names, sides=("up", "down")):
        self.order("set", names, sides=list(sides), mode={"stall": True})

    def unstall(self, names, sides):
        self.order("set", names, sides=list(sides), mode={})

    def delay(self, names, seconds):
        self.order("set", names, mode={"delay": seconds})

    def throttle(self, names, rate):
        self.order("set", names, mode={"rate": rate})

    def reset(self, names):
        return self.order("reset", names)

    def half_open(self, names, keep):
        self.order("half_open", names, keep=keep)

    def refuse(self, names):
        self.order("refuse", names, on=True)

    def heal(self, names):
        self.order("heal", names)

    def distance(self, names, seconds):
        self.order("base", names, seconds=seconds)

    def count(self, names):
        return self.order("count", names)
