"""Certificates that end: which of them the status, the metric and `nemogate status` tell of, and when."""

import calendar
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import pytest
from harness import free_port, gateway_config, wait_until

DAY = 86400
METRIC = "nemogate_certificate_expiry_timestamp_seconds"


def config_of(redis, broker, **changes):
    admin = {"listen": f"127.0.0.1:{free_port()}", **changes.pop("admin", {})}
    return gateway_config(redis, broker, admin=admin, **changes)


def status(gateway):
    return json.loads(gateway.admin("/api/v1/status")[1])


def reasons(gateway):
    return [(one["certificate"], one.get("broker"), one["level"])
            for one in status(gateway)["reasons"] if one["code"] == "certificate-expires"]


def end_of(certs, name):
    """In seconds since epoch, as openssl reads it."""
    said = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", f"{certs}/{name}.crt"],
                          check=True, capture_output=True, text=True).stdout
    return calendar.timegm(time.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT"))


def write(redis, site="lab"):
    redis.client().xadd(f"nemo:{{{site}}}:events", {"topic": "a", "payload": "x"})


def carried(gateway, count=1):
    wait_until(lambda: gateway.metric("nemogate_acked_total") >= count, 20, f"{count} carried")


def test_of_the_broker(things):
    redis = things.redis()
    broker = things.mosquitto(tls=things.certs, certificate="soon")
    gateway = things.gateway(config_of(redis, broker))
    assert reasons(gateway) == []  # nothing leads there yet
    write(redis)
    wait_until(lambda: reasons(gateway) == [("broker", "main", "warning")], 20, "it is told")
    end = end_of(things.certs, "soon")
    assert gateway.metrics()[f'{METRIC}{{of="broker",broker="main"}}'] == end
    said = status(gateway)
    assert said["brokers"][0]["certificate_expires"] == end * 1000
    reason = said["reasons"][0]
    assert reason["expires"] == end * 1000 and said["ready"] is True
    assert abs(reason["since"] - (end - 14 * DAY) * 1000) < 1000
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
    done = gateway.command("status")
    assert done.returncode == 0 and "there are warnings" in done.stdout
    assert (f"certificate-expires (broker main), for 9 d: the certificate that the broker shows ends "
            f"{date}") in done.stdout


def test_what_is_stands_before_what_is_to_come(things):
    redis = things.redis()
    gateway = things.gateway(config_of(redis, things.mosquitto(tls=things.certs,
                                                               certificate="soon")))
    write(redis)
    wait_until(lambda: reasons(gateway) != [], 20, "it is told")
    redis.client().xadd("nemo:{lab}:events", {"payload": "without a topic"})
    wait_until(lambda: [one["code"] for one in status(gateway)["reasons"]] == [
        "dead-letters", "certificate-expires"], 20, "both, in this order")


def test_that_is_good_for_long(things):
    redis = things.redis(tls=things.certs)
    broker = things.mosquitto(tls=things.certs)
    gateway = things.gateway(config_of(redis, broker))
    write(redis)
    carried(gateway)
    end = end_of(things.certs, "server")
    wait_until(lambda: f'{METRIC}{{of="broker",broker="main"}}' in gateway.metrics(), 10, "known")
    values = gateway.metrics()
    assert values[f'{METRIC}{{of="broker",broker="main"}}'] == end
    assert values[f'{METRIC}{{of="redis",broker=""}}'] == end
    assert reasons(gateway) == []


def test_none_without_tls(things):
    redis, broker = things.redis(), things.mosquitto()
    gateway = things.gateway(config_of(redis, broker))
    write(redis)
    carried(gateway)
    assert status(gateway)["brokers"][0]["certificate_expires"] is None
    assert not any(name.startswith(METRIC) for name in gateway.metrics())


def test_of_redis(things):
    certs = things.certs
    redis = things.redis(tls=certs, args=["--tls-cert-file", f"{certs}/soon.crt", "--tls-key-file",
                                          f"{certs}/soon.key"])
    gateway = things.gateway(config_of(redis, things.mosquitto()))
    wait_until(lambda: reasons(gateway) == [("redis", None, "warning")], 20, "it is told")
    assert gateway.metrics()[f'{METRIC}{{of="redis",broker=""}}'] == end_of(certs, "soon")


def test_of_redis_that_has_ended(things):
    certs = things.certs
    redis = things.redis(tls=certs, args=["--tls-cert-file", f"{certs}/expired.crt",
                                          "--tls-key-file", f"{certs}/expired.key"])
    gateway = things.gateway(config_of(redis, things.mosquitto()), start=False)
    gateway.launch()
    gateway.wait_log("the server's certificate has expired")
    wait_until(lambda: reasons(gateway) == [("redis", None, "error")], 20, "it is told")
    said = status(gateway)
    assert [one["code"] for one in said["reasons"]][:2] == ["certificate-expires", "redis-down"]
    assert gateway.admin("/readyz")[1].startswith("certificate-expires")


def test_of_our_own_until_the_file_is_renewed(things, tmp_path):
    certs = things.certs
    for kind in ("crt", "key"):
        shutil.copy(f"{certs}/client-soon.{kind}", tmp_path / f"own.{kind}")
    own = {"ca_file": f"{certs}/ca.crt", "cert_file": str(tmp_path / "own.crt"),
           "key_file": str(tmp_path / "own.key")}
    redis = things.redis(tls=certs, args=["--tls-auth-clients", "yes"])
    broker = things.mosquitto(tls=certs, client_certs=True)
    gateway = things.gateway(config_of(redis, broker, broker_changes={"tls": own},
                                       redis_changes={"tls": own}))
    write(redis)
    carried(gateway)
    wait_until(lambda: sorted(reasons(gateway)) == [
        ("broker-client", "main", "warning"), ("redis-client", None, "warning")], 20, "both are told")
    end = end_of(certs, "client-soon")
    assert gateway.metrics()[f'{METRIC}{{of="broker-client",broker="main"}}'] == end
    for kind in ("key", "crt"):
        shutil.copy(f"{certs}/client.{kind}", tmp_path / f"new.{kind}")
        os.replace(tmp_path / f"new.{kind}", tmp_path / f"own.{kind}")

    def renewed():
        try:
            return reasons(gateway) == [] and status(gateway)["ready"]
        except OSError:
            return False  # it begins anew
    wait_until(renewed, 40, "all is well")


def test_of_the_admin_server(things):
    certs = things.certs
    redis = things.redis()
    gateway = things.gateway(config_of(redis, things.mosquitto(), admin={
        "tls": {"cert_file": f"{certs}/soon.crt", "key_file": f"{certs}/soon.key"}}))
    context = ssl.create_default_context(cafile=f"{certs}/ca.crt")
    url = f"https://{gateway.config['admin']['listen']}/api/v1/status"
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        said = json.load(answer)
    assert ("certificate-expires", "admin", "warning") in [
        (one["code"], one.get("certificate"), one["level"]) for one in said["reasons"]]


class Switch:
    """A port whose first connections lead to one server, and all later ones to another."""

    def __init__(self, first, count, then):
        self.ports = [first] * count
        self.then = then
        self.taken = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(
                ("127.0.0.1", self.ports.pop(0) if self.ports else self.then))
            self.taken += 1
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    @staticmethod
    def carry(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.fixture
def switches():
    made = []

    def make(*arguments):
        made.append(Switch(*arguments))
        return made[-1]
    yield make
    for one in made:
        one.close()


def test_renewed_while_connections_last(things, switches):
    """They have seen the former certificate, and stay: another one, made to look, sees the new."""
    certs = things.certs
    former = things.mosquitto(tls=certs, certificate="soon")
    renewed = things.mosquitto(tls=certs)
    switch = switches(former.port, 1, renewed.port)
    redis = things.redis()
    gateway = things.gateway(config_of(redis, f"mqtts://127.0.0.1:{switch.port}", slots=1, shards=1,
                                       broker_changes={"tls": {"ca_file": f"{certs}/ca.crt"}}))
    write(redis)
    carried(gateway)
    wait_until(lambda: status(gateway)["brokers"][0]["certificate_expires"] ==
               end_of(certs, "server") * 1000, 20, "the new one is known")
    assert reasons(gateway) == [] and switch.taken == 2
    assert status(gateway)["brokers"][0]["connected"] == 1
    time.sleep(3)
    assert switch.taken == 2, "it does not look all the time"
