"""What the gateway refuses to speak: TLS below 1.2, suites without forward secrecy, without encryption,
or with a MAC of SHA-1. The servers are openssl s_server with its own limits taken off; on both sides
the connection must fail, and the log must say what was wrong."""

import subprocess

import pytest
from harness import free_port, gateway_config
from harness.process import Process
from scale import PATIENCE

OLD = "@SECLEVEL=0"

# name: (arguments of s_server, kind of key)
REFUSED = {
    "TLS 1.0": (["-tls1", "-cipher", f"ALL:{OLD}"], "rsa"),
    "TLS 1.1": (["-tls1_1", "-cipher", f"ALL:{OLD}"], "rsa"),
    "no encryption": (["-tls1_2", "-cipher", f"NULL-SHA256:ECDHE-RSA-NULL-SHA:{OLD}"], "rsa"),
    "no forward secrecy, CBC, SHA-1": (["-tls1_2", "-cipher", f"AES128-SHA:AES256-SHA:{OLD}"], "rsa"),
    "no forward secrecy": (["-tls1_2", "-cipher", f"AES128-GCM-SHA256:{OLD}"], "rsa"),
    "CBC and SHA-1": (["-tls1_2", "-cipher", f"ECDHE-RSA-AES128-SHA:{OLD}"], "rsa"),
    "CBC and SHA-256": (["-tls1_2", "-cipher", f"ECDHE-ECDSA-AES128-SHA256:{OLD}"], "ec"),
    "nobody vouches for the server": (["-tls1_2", "-cipher", f"AECDH-AES128-SHA:ADH-AES128-SHA:{OLD}"],
                                      "rsa"),
}
TAKEN = {
    "TLS 1.2": (["-tls1_2"], "rsa"),
    "TLS 1.2 and an EC key": (["-tls1_2"], "ec"),
    "TLS 1.3": (["-tls1_3"], "rsa"),
}


class OpensslServer(Process):
    name = "s_server"

    def __init__(self, tmp, folder, kind, options):
        super().__init__(tmp)
        self.port = free_port()
        self._argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-quiet",
                      "-cert", f"{folder}/{kind}.crt", "-key", f"{folder}/{kind}.key", *options]

    def argv(self):
        return self._argv

    def wait_ready(self, timeout=10.0):
        self.wait_listening(self.port, timeout)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """rsa and ec: self-signed for 127.0.0.1, and so their own authority."""
    folder = tmp_path_factory.mktemp("keys")
    for kind, options in {"rsa": ["rsa:2048"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]}.items():
        subprocess.run(["openssl", "req", "-x509", "-newkey", *options, "-nodes", "-days", "30",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", f"{folder}/{kind}.key", "-out", f"{folder}/{kind}.crt"],
                       check=True, capture_output=True)
    return folder


def reason_of(things, side, keys, server, kind):
    """What the gateway's log says of a connection to this server."""
    if side == "broker":
        config = gateway_config(things.redis(), f"mqtts://127.0.0.1:{server.port}", broker_changes={
            "tls": {"ca_file": f"{keys}/{kind}.crt"}, "connect_timeout": "1s"})
        things.made[-1].client().xadd("nemo:{a}:events", {"topic": "t", "payload": "x"})
        gateway = things.gateway(config, start=False).launch()
        return gateway.wait_log("cannot connect to the broker", timeout=20 * PATIENCE)["reason"]
    config = gateway_config(f"rediss://127.0.0.1:{server.port}/0", "mqtt://127.0.0.1:1", redis_changes={
        "tls": {"ca_file": f"{keys}/{kind}.crt"}})
    gateway = things.gateway(config, start=False).launch()
    return gateway.wait_log("no connection to Redis", timeout=20 * PATIENCE)["reason"]


@pytest.mark.parametrize("side", ["broker", "redis"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(things, keys, case, side):
    options, kind = REFUSED[case]
    server = OpensslServer(things.tmp, keys, kind, options)
    things.made.append(server)
    try:
        server.start()
    except RuntimeError as failure:
        pytest.skip(f"this openssl cannot offer it: {failure}")
    reason = reason_of(things, side, keys, server, kind)
    print(reason)
    assert reason.startswith("TLS handshake with 127.0.0.1"), reason
    said = reason.split(": ", 1)[1]
    assert len(said) > 20 and "peer closed" not in said and "connection lost" not in said, reason


@pytest.mark.parametrize("side", ["broker", "redis"])
@pytest.mark.parametrize("case", TAKEN)
def test_taken(things, keys, case, side):
    """The same servers within the limits: TLS comes about, and what is complained of comes after it."""
    options, kind = TAKEN[case]
    server = OpensslServer(things.tmp, keys, kind, options)
    things.made.append(server)
    server.start()
    reason = reason_of(things, side, keys, server, kind)
    assert "TLS" not in reason, reason
