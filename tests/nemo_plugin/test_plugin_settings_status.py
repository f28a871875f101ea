"""What the settings page and nemo_streams_check say about the gateway, and the test of a broker."""

import socket
import ssl
import threading
import time

import pytest
from django.core.cache import cache
from django.test import Client

from harness.mosquitto import Mosquitto
from harness.process import free_port
from NEMO_streams import broker_test, conf, gateway_status
from test_plugin_settings import GATEWAY, SETTINGS, TEST, admin, certs, save  # noqa: F401

NOW = 1_800_000_000.0
MS = int(NOW * 1000)
WELL = {"beat": MS, "version": "1.0", "instance": "gw", "state": "connected",
        "since": MS - 60_000, "broker": "mqtts://b:8883", "tls": "TLSv1.3", "pending": 0, "lag": 0,
        "dead_letters": 0, "last_event": MS, "last_error": "", "settings_version": 0,
        "settings_error": ""}


@pytest.fixture
def say(lab):
    """The sentences for a gateway's hash, read from Redis as the page does."""
    lab.redis.xgroup_create(lab.events, "nemogate", "0", mkstream=True)

    def report(**changes):
        lab.redis.delete(GATEWAY)
        if changes.pop("there", True):
            lab.redis.hset(GATEWAY, mapping={**WELL, **changes})
        client = lab.server.client(decode_responses=False)
        found = gateway_status.look(conf.current())(client)
        return gateway_status.read(found, conf.current(), NOW)
    return report


def one(report, words):
    """The level of the only sentence with these words."""
    found = [level for level, sentence in report.lines if words in sentence]
    assert len(found) == 1, report.lines
    return found[0]


STATES = [
    ({}, "connected to mqtts://b:8883 since 2027-01-15 02:59:00 EST", "success"),
    ({"state": "disconnected"}, "disconnected from mqtts://b:8883 since 2027-01-15 02:59",
     "danger"),
    ({"state": "connecting"}, "is connecting to", "warning"),
    ({"state": "draining"}, "is shutting down", "warning"),
    ({"state": "dancing"}, "does not know: dancing", "warning"),
    ({"there": False}, "no gateway has reported for a minute or more", "danger"),
    ({"beat": MS - 180_000}, "no gateway has reported for 3 minutes", "danger"),
    ({"beat": "soon"}, "no gateway has reported for a minute or more", "danger"),
    ({"beat": "9" * 18}, "connected to", "success"),
    ({"since": "9" * 18}, "since an unknown time", "success"),
    ({"last_error": "refused: not authorized", "last_error_at": MS}, "the gateway says (2027-01-15 "
     "03:00:00 EST): refused: not authorized", "warning"),
    ({"lag": 60_000}, "60000 entries wait", "danger"),
]


@pytest.mark.parametrize("changes, words, level", STATES)
def test_states_in_words(say, changes, words, level):
    assert one(say(**changes), words) == level


def test_nothing_wrong_is_no_fault(say):
    assert say().faults() == []


def test_an_old_report_does_not_say_connected(say):
    lines = say(beat=MS - 180_000).lines
    assert not any("connected to" in sentence for _, sentence in lines)


def test_settings_in_words(lab, admin, say):  # noqa: F811
    assert one(say(), "uses its own broker") == "info"
    save(admin, broker_url="mqtt://a:1")
    lab.redis.hset(SETTINGS, "saved_at", MS - 5000)
    assert one(say(there=False), "settings 1 are waiting for a gateway") == "warning"
    assert one(say(), "settings 1 are waiting for the gateway") == "warning"
    assert one(say(settings_version=1), "settings 1 are applied") == "success"
    assert one(say(settings_error="the operator has switched settings from sites off"),
               "settings 1 were refused: the operator has switched settings from sites off. The "
               "gateway keeps its own") == "danger"
    save(admin, broker_url="mqtt://b:1")
    lab.redis.hset(SETTINGS, "saved_at", MS - 5000)
    assert one(say(settings_version=1, settings_error="no file pw"),
               "settings 2 were refused: no file pw. Settings 1 stay in use") == "danger"
    lab.redis.hset(SETTINGS, "saved_at", MS + 5000)  # newer than the report, which is about 1
    assert one(say(settings_version=1, settings_error="no file pw"), "; 1 are in use") == "warning"
    assert one(say(settings_version=5), "has settings 5, Redis only 2") == "warning"
    lab.choose(broker_url="mqtt://c:1")
    assert one(say(settings_version=2), "was not told what is saved here") == "warning"
    assert ("Settings", "2, saved 2027-01-15 03:00:05 EST by captain") in say().facts


def test_dead_letters(lab, say):
    for at in range(7):
        lab.redis.xadd("nemo:{lab}:dead", {"dead_reason": f"why {at}", "topic": f"t/{at}",
                                           "dead_detail": "x" * 5000, b"\xff": b"\xff"})
    report = say()
    assert one(report, "7 dead letters") == "warning" and len(report.letters) == 5
    assert report.letters[0]["topic"] == "t/6"
    assert report.letters[0]["reason"].startswith("why 6: xxx")
    assert len(report.letters[0]["reason"]) < 450


def test_nothing_reaches_the_terminal_but_letters(say):
    """nemo_streams_check writes to it what others have written into Redis."""
    report = say(last_error="a\x1b]52;c;eA==\x07b\x9bc\u202ed\n\te", broker="\x1b[2Jx")
    text = str(report.as_json())
    assert all(letter.isprintable() for _, line in report.lines for letter in line)
    assert "\\x1b" not in text and one(report, "a ]52;c;eA== b c d  e") == "warning"


def test_rights_that_are_missing_are_said(lab, say):
    client = lab.server.client(decode_responses=False)
    client.execute_command("ACL", "SETUSER", "default", "-hgetall", "-xrevrange", "-xlen")
    try:
        report = gateway_status.read(gateway_status.look(conf.current())(client), conf.current())
        assert one(report, "grant its user +hgetall") == "warning"
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+@all")


def test_check_uses_the_same_words(lab, say):
    say(beat=int(time.time() * 1000), state="disconnected", last_error="no route")
    code, message = lab.refused("check")
    assert code == 1 and "disconnected from mqtts://b:8883" in message
    assert "the gateway says: no route" in message


# The test button

@pytest.fixture
def press(admin):  # noqa: F811
    """As often as a test likes; how often one may is a test of its own."""
    def press(url, ca=""):
        cache.clear()
        assert broker_test.busy.acquire(timeout=10)  # the last one has really ended
        broker_test.busy.release()
        begun = time.monotonic()
        answer = admin.post(TEST, {"broker_url": url, "broker_ca": ca}).json()
        assert time.monotonic() - begun < 8
        return answer
    return press


@pytest.fixture
def tls(tmp_path, certs):  # noqa: F811
    started = []

    def start(certificate="server", **more):
        started.append(Mosquitto(tmp_path, tls=certs, certificate=certificate, **more).start())
        return f"mqtts://localhost:{started[-1].port}"
    yield start
    for one_ in started:
        one_.kill()


def test_a_broker_that_is_well(press, tls, certs):  # noqa: F811
    answer = press(tls(), (certs / "ca.crt").read_text())
    assert answer["ok"] and "answers with TLSv1.3" in answer["text"]
    shown = {pair["name"]: pair["value"] for pair in answer["certificate"]}
    assert shown["Subject"] == "CN=localhost" and "127.0.0.1" in shown["Names"]
    assert shown["Issuer"] == "CN=nemogate test ca" and shown["Valid until"].endswith("UTC")
    # over an address instead of a name
    assert press(tls().replace("localhost", "127.0.0.1"), (certs / "ca.crt").read_text())["ok"]


@pytest.mark.parametrize("certificate, ca, words", [
    ("server", "other-ca", "authority that is not trusted"),
    ("server", None, "authority that is not trusted"),
    ("expired", "ca", "has expired"), ("not-yet", "ca", "not valid yet"),
    ("other-name", "ca", "another name than localhost")])
def test_certificates_that_are_wrong(press, tls, certs, certificate, ca, words):  # noqa: F811
    answer = press(tls(certificate), (certs / f"{ca}.crt").read_text() if ca else "")
    assert not answer["ok"] and words in answer["text"]
    assert {"Subject", "Names", "Issuer", "Valid until"} <= {
        pair["name"] for pair in answer["certificate"]}  # of the refused one


def test_a_wrong_address(press, tmp_path, tls, certs):  # noqa: F811
    assert "refused the connection" in press(f"mqtts://localhost:{free_port()}")["text"]
    plain = Mosquitto(tmp_path).start()
    try:
        assert "does not speak TLS" in press(f"mqtts://localhost:{plain.port}")["text"]
        answer = press(plain.url)
        assert answer["ok"] and "Something listens" in answer["text"]
    finally:
        plain.kill()


@pytest.mark.parametrize("url, ca, words", [
    ("", "", "Type an address first"), ("http://localhost:1", "", "must begin with mqtts://"),
    ("mqtts://a b", "", "blanks"), ("mqtts://localhost:1", "hello", "holds no certificate"),
    ("file:///etc/passwd", "", "must begin")])
def test_what_is_typed_is_checked_first(press, monkeypatch, url, ca, words):
    monkeypatch.setattr(broker_test, "run", None)  # nothing is tried
    answer = press(url, ca)
    assert not answer["ok"] and words in answer["text"]


def test_an_unknown_name(press, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "no")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "is not known to NEMO" in press("mqtts://broker.example.org")["text"]


@pytest.mark.parametrize("way", ["silent", "trickle", "resolver"])
def test_a_broker_that_hangs(press, monkeypatch, way):
    monkeypatch.setattr(broker_test, "PATIENCE", 0.5)
    ended, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            try:
                while not ended.wait(0.05):
                    if way == "trickle":  # a record's head, byte by byte: no read times out
                        connection.sendall(b"\x16")
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    real = socket.getaddrinfo
    if way == "resolver":
        monkeypatch.setattr(socket, "getaddrinfo",
                            lambda *a, **k: ended.wait(20) and real(*a, **k))
    try:
        answer = press(f"mqtts://localhost:{listener.getsockname()[1]}")
        assert not answer["ok"]
        if way != "trickle":  # its bytes are soon no TLS
            assert "did not answer" in answer["text"]
        if way == "resolver":  # a second test does not pile up behind it
            cache.clear()
            second = Client(REMOTE_USER="captain").post(TEST, {"broker_url": "mqtt://a:1"}).json()
            assert "still running" in second["text"]
    finally:
        ended.set()
        listener.close()
    assert broker_test.busy.acquire(timeout=10)
    broker_test.busy.release()


def test_not_more_often_than_every_two_seconds(admin, press, monkeypatch):  # noqa: F811
    url = f"mqtt://localhost:{free_port()}"
    assert "refused" in press(url)["text"]
    tried = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: tried.append(a))
    for _ in range(3):
        answer = admin.post(TEST, {"broker_url": url}).json()
        assert not answer["ok"] and "every 2 seconds" in answer["text"]
    assert not tried and not broker_test.busy.locked()


@pytest.mark.parametrize("owner, name", [(threading.Thread, "start"), (cache, "add")],
                         ids=["no thread", "no cache"])
def test_a_test_that_cannot_begin_is_not_the_last(press, monkeypatch, owner, name):  # noqa: F811
    def fail(*_, **__):
        raise RuntimeError("not today")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(owner, name, fail)
        press("mqtt://localhost:1")
    assert "refused" in press("mqtt://localhost:1")["text"]


def test_nothing_is_sent_before_the_certificate_is_right(press, certs):  # noqa: F811
    """And nothing after it: what the server gets over TLS is empty."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.crt", certs / "server.key")
    listener, got = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        connection, _ = listener.accept()
        connection.settimeout(10)
        with context.wrap_socket(connection, server_side=True) as secured:
            try:
                got.append(secured.recv(100))
            except OSError:
                got.append(b"")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    answer = press(f"mqtts://localhost:{listener.getsockname()[1]}", (certs / "ca.crt").read_text())
    thread.join(10)
    listener.close()
    assert answer["ok"] and got == [b""]
