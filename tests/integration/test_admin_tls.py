"""The admin server over TLS: who gets in, what is said to those who do not, and a renewed certificate."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from harness import free_port, gateway_config, wait_until
from harness.gateway import binary
from sockets import closed_among

TOKEN = "a-token-of-some-length"
RELOADED = "configuration reloaded"


def tls_files(things, name="server", **more):
    return {"cert_file": f"{things.certs}/{name}.crt", "key_file": f"{things.certs}/{name}.key", **more}


def config_of(things, tls=None, **admin):
    return gateway_config(things.redis(), things.recording_broker(), admin={
        "listen": f"127.0.0.1:{free_port()}", "tls": tls or tls_files(things), **admin})


def port_of(gateway):
    return int(gateway.config["admin"]["listen"].rsplit(":", 1)[1])


def context_of(things, version=None, ca="ca", client=None):
    context = ssl.create_default_context(cafile=f"{things.certs}/{ca}.crt")
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if client is not None:
        context.load_cert_chain(f"{things.certs}/{client}.crt", f"{things.certs}/{client}.key")
    return context


def ask(gateway, context, path="/readyz", host="localhost", headers=""):
    """(first line, body, TLS version, certificate's serial number) of one request."""
    with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=host) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n".encode())
            got = b""
            while part := s.recv(65536):
                got += part
            head, _, body = got.decode().partition("\r\n\r\n")
            return head.split("\r\n")[0], body, s.version(), s.getpeercert()["serialNumber"]


def answers(things, gateway):
    try:
        return ask(gateway, context_of(things))[1] == "ok\n"
    except OSError:  # its connections are all taken
        return False


def curl(gateway, path, *options):
    return subprocess.run(["curl", "--silent", "--show-error", "--max-time", "10", *options,
                           f"https://localhost:{port_of(gateway)}{path}"],
                          capture_output=True, text=True, timeout=20)


def token_file(things):
    path = os.path.join(str(things.tmp), "token")
    with open(path, "w") as file:
        file.write(TOKEN + "\n")
    os.chmod(path, 0o600)
    return path


# ---- who gets in ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions(things, version):
    gateway = things.gateway(config_of(things))
    for host in ("localhost", "127.0.0.1"):
        line, body, spoken, _ = ask(gateway, context_of(things, version), host=host)
        assert (line, body) == ("HTTP/1.1 200 OK", "ok\n")
        assert spoken == version.name.replace("_", ".")
    assert gateway.log_count("the admin server listens", protocol="https") == 1
    assert gateway.terminate() == 0


def test_large_answers_and_many_of_them(things):
    """Answers of many records, on one connection and on many at a time."""
    gateway = things.gateway(config_of(things))
    client = things.made[0].client()
    for n in range(400):
        client.xadd("nemo:{lab}:events", {"topic": f"many/{n}", "payload": "x" * 900, "retain": "1"})
    ca = ("--cacert", f"{things.certs}/ca.crt")
    def topics():
        answer = curl(gateway, "/api/v1/sites/lab/state", *ca)
        assert answer.returncode == 0, answer.stderr
        return len(json.loads(answer.stdout)["topics"])
    wait_until(lambda: topics() > 300, 30, "some hundred records' worth of state")
    count = topics()
    wrong = []
    def many():
        for _ in range(10):
            if topics() != count:
                wrong.append("another count")
            wrong.append("whole")
    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == ["whole"] * 40


def test_curl_and_the_page(things):
    gateway = things.gateway(config_of(things))
    ca = ("--cacert", f"{things.certs}/ca.crt")
    done = curl(gateway, "/", "--include", *ca)
    assert done.returncode == 0 and "<html" in done.stdout, done.stderr
    assert "default-src 'none'" in done.stdout
    assert curl(gateway, "/metrics", *ca).stdout.count("nemogate_ready 1\n") == 1
    assert curl(gateway, "/", "--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0", *ca).returncode == 35
    assert curl(gateway, "/", *ca, "--ciphers", "AES256-SHA", "--tls-max", "1.2").returncode == 35
    wrong = curl(gateway, "/", "--cacert", f"{things.certs}/other-ca.crt")
    assert wrong.returncode == 60
    line = gateway.wait_log("no TLS with a client of the admin server")
    assert line["level"] == "warning" and line["reason"].startswith("TLS handshake with 127.0.0.1:")
    assert curl(gateway, "/", "--cacert", f"{things.certs}/other-ca.crt").returncode == 60
    assert gateway.log_count("no TLS with a client") == 1  # the rest is counted


def test_the_token(things):
    gateway = things.gateway(config_of(things, token_file=token_file(things)))
    context = context_of(things)
    assert ask(gateway, context, "/metrics")[0].split()[1] == "401"
    assert ask(gateway, context, "/metrics", headers=f"Authorization: Bearer {TOKEN}\r\n")[0].split()[1] == "200"
    assert ask(gateway, context)[1] == "ok\n"
    done = gateway.command("status")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in gateway.log_text()


def test_client_certificates(things):
    gateway = things.gateway(config_of(things, tls_files(things, ca_file=f"{things.certs}/ca.crt")))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert ask(gateway, context_of(things, version, client="client"))[1] == "ok\n"
        for nobody in (None, "stranger", "server"):  # the last is not for clients
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask(gateway, context_of(things, version, client=nobody))
    line = gateway.wait_log("no TLS with a client of the admin server")
    assert line["reason"].endswith("the client shows no certificate")
    refused = gateway.command("status")
    assert refused.returncode == 1 and "asks for a client certificate" in refused.stderr
    done = gateway.command("status", "--admin-cert", f"{things.certs}/client.crt",
                           "--admin-key", f"{things.certs}/client.key")
    assert done.returncode == 0, done.stderr


# ---- who does not -----------------------------------------------------------------------------


def test_plain_http_is_cut(things):
    gateway = things.gateway(config_of(things))
    with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as plain:
        plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        try:
            while part := plain.recv(1000):
                got += part
        except ConnectionResetError:
            pass
    assert b"HTTP" not in got
    line = gateway.wait_log("no TLS with a client of the admin server")
    assert "does not speak TLS" in line["reason"] and "HTTPS" in line["msg"]
    assert ask(gateway, context_of(things))[1] == "ok\n"


def test_slow_handshakes_are_cut_and_do_not_keep_others_out(things):
    gateway = things.gateway(config_of(things))
    silent = [socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=30) for _ in range(30)]
    partial = socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=30)
    partial.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    begun = time.monotonic()
    assert ask(gateway, context_of(things))[1] == "ok\n"
    for s in (*silent, partial):
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass
        s.close()
    assert 3 < time.monotonic() - begun < 25  # 5 s, and generous patience


def test_connections_are_bounded(things):
    gateway = things.gateway(config_of(things))
    sockets = [socket.create_connection(("127.0.0.1", port_of(gateway))) for _ in range(100)]
    time.sleep(0.5)
    assert closed_among(sockets) == 36
    for s in sockets:
        s.close()
    wait_until(lambda: answers(things, gateway), 10, "it answers again")


def test_garbage(things):
    """Beginnings of a handshake, cut and changed: the server goes on."""
    gateway = things.gateway(config_of(things))
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context_of(things).wrap_bio(server, client, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = client.read()
    for n in range(0, len(hello), 7):
        with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=10) as s:
            s.sendall(hello[:n] + bytes([hello[n] ^ 0x41]) + hello[n + 1:])
    wait_until(lambda: answers(things, gateway), 10, "it has seen that they are gone")
    assert gateway.terminate() == 0


# ---- nemogate status --------------------------------------------------------------------------


def test_status_command(things):
    gateway = things.gateway(config_of(things))
    url = f"https://localhost:{port_of(gateway)}"
    ca = ("--admin-ca", f"{things.certs}/ca.crt")
    def status(*options):
        return subprocess.run([binary(), "status", *options], capture_output=True, text=True, timeout=20)
    assert gateway.command("status").returncode == 0  # by the configuration's certificate
    assert json.loads(gateway.command("status", "--json").stdout)["ready"] is True
    done = status("--admin", url, *ca)
    assert done.returncode == 0 and "gateway-1" in done.stdout, done.stderr
    done = status("--admin", url)
    assert done.returncode == 1 and "unknown authority" in done.stderr
    done = status("--admin", url, "--admin-ca", f"{things.certs}/other-ca.crt")
    assert done.returncode == 1 and "unknown authority" in done.stderr
    done = status("--admin", url.replace("https", "http"))
    assert done.returncode == 1
    done = status("--admin", url.replace("localhost", "127.0.0.2"), *ca)
    assert done.returncode == 1  # nobody listens there
    done = status("--admin", url, "--admin-ca", "/nowhere")
    assert done.returncode == 2 and "CA file /nowhere: No such file or directory" in done.stderr


def test_a_chain_of_certificates(things, tmp_path):
    with open(tmp_path / "chain", "w") as chain:
        for name in ("server", "ca"):
            with open(f"{things.certs}/{name}.crt") as one:
                chain.write(one.read())
    config = config_of(things, tls_files(things) | {"cert_file": str(tmp_path / "chain")})
    gateway = things.gateway(config)
    assert ask(gateway, context_of(things))[1] == "ok\n"
    assert gateway.command("status").returncode == 0


def forge(things, tmp_path):
    """server.crt with the key of client.crt in the place of its own, all else left, the signature too."""
    def key_point(name):
        return subprocess.run(["openssl", "pkey", "-in", f"{things.certs}/{name}.key", "-pubout", "-outform",
                               "DER"], check=True, capture_output=True).stdout[-65:]
    with open(f"{things.certs}/server.crt") as file:
        certificate = ssl.PEM_cert_to_DER_cert(file.read())
    assert certificate.count(key_point("server")) == 1
    forged = certificate.replace(key_point("server"), key_point("client"))
    (tmp_path / "forged.crt").write_text(ssl.DER_cert_to_PEM_cert(forged))
    return str(tmp_path / "forged.crt"), f"{things.certs}/client.key"


@pytest.mark.parametrize("how", ["other", "forged"])
def test_status_command_does_not_take_another_certificate(things, tmp_path, how):
    """Whoever has taken the port must not get the token."""
    config = config_of(things, token_file=token_file(things))
    gateway = things.gateway(config, start=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(forge(things, tmp_path) if how == "forged" else
                              (f"{things.certs}/other-name.crt", f"{things.certs}/other-name.key")))
    got = []
    def serve(listener):
        try:
            with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as s:
                got.append(s.recv(4096))
        except OSError as failure:
            got.append(failure)
    with socket.create_server(("127.0.0.1", port_of(gateway))) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        done = gateway.command("status")
        thread.join(10)
    assert done.returncode == 1 and "certificate" in done.stderr and done.stdout == ""
    assert len(got) == 1 and TOKEN not in str(got)


# ---- configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("tls, words", [
    ({"cert_file": "{certs}/server.crt"}, "admin.tls.cert_file: a certificate needs its key"),
    ({"key_file": "{certs}/server.key"}, "admin.tls.key_file: a key needs its certificate"),
    ({"ca_file": "{certs}/ca.crt"}, "admin.tls.ca_file: clients show certificates"),
    ({"cert_file": "{certs}/server.crt", "key_file": "{certs}/client.key"},
     "client.key does not belong to certificate file"),
    ({"cert_file": "{certs}/server.key", "key_file": "{certs}/server.key"}, "holds no certificate in PEM"),
    ({"cert_file": "{certs}/server.crt", "key_file": "{certs}/server.key", "ca_file": "{certs}/ca.key"},
     "ca.key: holds no certificate in PEM"),
    ({"cert_file": "/nowhere.crt", "key_file": "{certs}/server.key"}, "cannot be read"),
    ({"cert_file": "{certs}/server.crt", "key_file": "{certs}/open.key"}, "may be written by everyone"),
])
def test_bad_files(things, tls, words):
    shutil.copy(f"{things.certs}/server.key", f"{things.certs}/open.key")
    os.chmod(f"{things.certs}/open.key", 0o666)
    tls = {name: value.format(certs=things.certs) for name, value in tls.items()}
    gateway = things.gateway(config_of(things, tls), start=False)
    done = gateway.command("check")
    assert done.returncode == 2 and words in done.stderr, done.stderr
    path, line, column, _ = done.stderr.split(":", 3)
    assert path.endswith(".yaml") and int(line) > 1 and int(column) > 1


def test_other_addresses_without_tls_are_warned_of(things):
    admin = {"listen": f"0.0.0.0:{free_port()}", "token_file": token_file(things)}
    gateway = things.gateway(gateway_config(things.redis(), things.recording_broker(), admin=admin))
    done = gateway.command("check")
    assert done.returncode == 0 and "warning  admin.listen: without admin.tls" in done.stdout
    assert gateway.log_count("the admin server has no TLS", level="warning") == 1
    gateway.terminate()
    gateway.write_config({**gateway.config, "admin": {**admin, "tls": tls_files(things)}})
    gateway.start()
    assert "warning" not in gateway.command("check").stdout
    assert gateway.log_count("the admin server has no TLS") == 1
    assert gateway.command("status").returncode == 0  # asked on 127.0.0.1


# ---- renewal ----------------------------------------------------------------------------------


@pytest.mark.limit(150)
def test_a_renewed_certificate_is_taken_up(things, tmp_path):
    for name in ("cert", "key"):
        shutil.copy(f"{things.certs}/server.{'crt' if name == 'cert' else 'key'}", tmp_path / name)
    config = config_of(things, {"cert_file": str(tmp_path / "cert"), "key_file": str(tmp_path / "key")})
    gateway = things.gateway(config)
    before = ask(gateway, context_of(things))[3]
    # A key without its certificate, in the middle of a renewal: nothing happens.
    shutil.copy(f"{things.certs}/soon.key", tmp_path / "key")
    gateway.wait_log("the configuration is not reloaded", timeout=20)
    assert ask(gateway, context_of(things))[3] == before
    shutil.copy(f"{things.certs}/soon.crt", tmp_path / "cert")
    wait_until(lambda: gateway.log_count(RELOADED) == 1, 30, "reloaded")
    def renewed():
        return ask(gateway, context_of(things))[3] != before
    wait_until(renewed, 20, "the new certificate")
    assert gateway.terminate() == 0


def test_from_plain_to_tls_and_back(things):
    config = config_of(things)
    gateway = things.gateway(config)
    plain = {**config, "admin": {"listen": config["admin"]["listen"]}}
    gateway.write_config(plain)
    gateway.reload()
    wait_until(lambda: gateway.log_count(RELOADED) == 1, 30, "reloaded")
    wait_until(lambda: gateway.admin("/readyz")[0] == 200, 20, "plain")
    gateway.write_config(config)
    gateway.reload()
    wait_until(lambda: gateway.log_count(RELOADED) == 2, 30, "reloaded")
    wait_until(lambda: ask(gateway, context_of(things))[1] == "ok\n", 20, "TLS again")
