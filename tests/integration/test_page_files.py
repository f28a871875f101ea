"""The files of the monitor page as the gateway serves them: packed where the client takes that, else as
they are."""

import gzip
import http.client
import os

import pytest
from harness import free_port, gateway_config

PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "core", "page")
MOST_BYTES = 60 * 1024


def names():
    with open(os.path.join(PAGE, "FILES"), encoding="ascii") as lines:
        return [line.split()[0] for line in lines]


def content(name):
    with open(os.path.join(PAGE, name), "rb") as file:
        return file.read()


@pytest.fixture
def port(things):
    """Of a gateway whose Redis and broker are away: the page is there all the same."""
    port = free_port()
    gateway = things.gateway(gateway_config(
        f"redis://127.0.0.1:{free_port()}/0", f"mqtt://127.0.0.1:{free_port()}",
        admin={"listen": f"127.0.0.1:{port}"}), start=False)
    gateway.launch()
    gateway.wait_log("the admin server listens")
    return port


def get(port, name, accept, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, "/" if name == "index.html" else f"/{name}",
                              skip_accept_encoding=True)
        if accept is not None:
            connection.putheader("Accept-Encoding", accept)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200 and answer.getheader("Vary") == "Accept-Encoding"
        assert len(answer.headers.get_all("Content-Length")) == 1
        return answer.getheader("Content-Encoding"), int(answer.getheader("Content-Length")), body
    finally:
        connection.close()


def test_packed_for_who_takes_it(port):
    sent = 0
    for name in names():
        encoding, length, body = get(port, name, "gzip, deflate, br, zstd")
        assert encoding == "gzip" and length == len(body), name
        assert gzip.decompress(body) == content(name), name
        assert body[3:8] == bytes(5), "neither a name nor a time: each build is the same"
        sent += length
    assert sent < MOST_BYTES


@pytest.mark.parametrize("accept", [None, "identity", "br", "gzip;q=0", "deflate, gzip ; q=0.0"])
def test_as_it_is_for_who_does_not(port, accept):
    for name in names():
        encoding, length, body = get(port, name, accept)
        assert encoding is None and length == len(body), name
        assert body == content(name), name


def test_the_head_alone(port):
    packed = get(port, "page.css", "gzip")
    assert get(port, "page.css", "gzip", "HEAD") == (*packed[:2], b"")
    assert get(port, "page.css", None, "HEAD") == (None, len(content("page.css")), b"")
