"""A Mosquitto of the test's own.

    broker = Mosquitto(tmp_path, max_inflight=20).start()
    config["brokers"][0]["url"] = broker.url          # mqtt:// or mqtts://
    broker.kill(); broker.start(); broker.pause(); broker.resume()

tls            folder made by tests/tools/make_certs.sh; the listener is then TLS only
client_certs   with tls: clients must show a certificate signed by ca.crt
max_inflight   max_inflight_messages, which is the Receive Maximum it announces; 0: no limit
max_packet     max_packet_size, announced as Maximum Packet Size
acl            text of an ACL file, e.g. "topic readwrite allowed/#"
password       {user: password}; anonymous clients are then refused
nodelay        set_tcp_nodelay: one segment per PUBACK at once
extra          further lines of the configuration
Queues are unlimited unless `extra` says otherwise, so that a slow subscriber loses nothing.
"""

import os
import socket
import subprocess

from .process import Process, free_port


class Mosquitto(Process):
    name = "mosquitto"

    def __init__(self, tmp, tls=None, client_certs=False, max_inflight=None, receive_maximum=None,
                 max_packet=None, acl=None, password=None, nodelay=False, persistence=False,
                 extra=(), port=None,
                 certificate="server"):
        super().__init__(tmp)
        self.port = port or free_port()
        self.tls = tls
        self.config_path = os.path.join(self.folder, "mosquitto.conf")
        window = max_inflight if max_inflight is not None else receive_maximum
        lines = ["log_dest stderr", "log_type error", "log_type warning", "log_type notice",
                 "log_timestamp_format %H:%M:%S", "max_queued_messages 0", "max_queued_bytes 0",
                 f"set_tcp_nodelay {str(bool(nodelay)).lower()}"]
        if os.getuid() == 0:
            lines.append("user root")  # or it could not read the test's folder
        if window is not None:
            lines.append(f"max_inflight_messages {window}")
        if max_packet is not None:
            lines.append(f"max_packet_size {max_packet}")
        if persistence:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
        lines += self._access(acl, password)
        lines.append(f"listener {self.port} 127.0.0.1")
        if tls:
            lines += [f"cafile {tls}/ca.crt", f"certfile {tls}/{certificate}.crt",
                      f"keyfile {tls}/{certificate}.key",
                      f"require_certificate {str(bool(client_certs)).lower()}"]
        with open(self.config_path, "w") as f:
            f.write("\n".join([*lines, *extra]) + "\n")

    def _access(self, acl, password):
        lines = [f"allow_anonymous {'false' if password else 'true'}"]
        if acl is not None:
            with open(os.path.join(self.folder, "acl"), "w") as f:
                f.write(acl.rstrip() + "\n")
            lines.append(f"acl_file {self.folder}/acl")
        if password:
            path = os.path.join(self.folder, "passwords")
            open(path, "w").close()
            for user, word in password.items():
                subprocess.run(["mosquitto_passwd", "-b", path, user, word], check=True,
                               capture_output=True)
            lines.append(f"password_file {path}")
        return lines

    @property
    def url(self):
        return f"mqtt{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def argv(self):
        return ["mosquitto", "-c", self.config_path]

    def launch(self):
        # Or somebody else's broker would seem to be this one: it ends only after a while.
        with socket.socket() as s:
            taken = s.connect_ex(("127.0.0.1", self.port)) == 0
        assert not taken, f"something listens on port {self.port} already"
        return super().launch()

    def wait_ready(self, timeout=10.0):
        self.wait_listening(self.port, timeout)
