"""The settings page's test button: does a broker answer at this address, over TLS with a
certificate that the given authority has signed? Nothing is sent to it and nobody logs in, since the
password is at the gateway; and the gateway may stand elsewhere than NEMO. Bounded to PATIENCE in
total, one test at a time in a process and one in REST seconds."""

import logging
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

from cryptography import x509
from django.core.cache import cache

logger = logging.getLogger(__name__)

PATIENCE = 3.0
REST = 2  # seconds between two tests
busy = threading.Lock()


@dataclass
class Result:
    ok: bool
    sentence: str
    certificate: list = field(default_factory=list)  # (name, value)

    def as_json(self):
        return {"ok": self.ok, "text": self.sentence,
                "certificate": [{"name": name, "value": value}
                                for name, value in self.certificate]}


class Attempt:
    """Done by a thread of its own, since neither a name service nor a TLS handshake that trickles
    keeps to a time-out. Whoever has waited enough shuts the sockets, which ends the thread."""

    def __init__(self, address, ca):
        self.address = address
        self.ca = ca
        self.deadline = time.monotonic() + PATIENCE
        self.sockets = []
        self.given_up = False
        self.lock = threading.Lock()
        self.result = None
        self.done = threading.Event()

    def run(self):
        try:
            self.result = self.plain() if not self.address.tls else self.secure()
        except Exception as error:  # the page says what it was
            self.result = Result(False, explain(error, self.address))
        finally:
            for one in self.sockets:
                one.close()
            self.done.set()
            busy.release()

    def left(self):
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise socket.timeout
        return seconds

    def connect(self):
        opened = socket.create_connection((self.address.host, self.address.port), self.left())
        with self.lock:
            self.sockets.append(opened)
            if self.given_up:
                raise socket.timeout
        return opened

    def plain(self):
        self.connect()
        return Result(True, f"Something listens at {self.address.place}. Without TLS nothing more "
                            "can be told, and whatever is sent there can be read on the way")

    def secure(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # as strict as the gateway, not more
        if self.ca:
            context.load_verify_locations(cadata=self.ca)
        else:
            context.load_default_certs()
        try:
            secured = self.handshake(context)
        except ssl.SSLCertVerificationError as error:
            return Result(False, explain(error, self.address), self.presented())
        return Result(True, f"{self.address.place} answers with {secured.version()} and a "
                            "certificate that fits",
                      describe(secured.getpeercert(binary_form=True)))

    def presented(self):
        """The certificate that was refused, so that the admin sees which. Nothing is sent over
        this connection either."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            return describe(self.handshake(context).getpeercert(binary_form=True))
        except Exception:  # what is wrong with it is known already
            return []

    def handshake(self, context):
        opened = self.connect()
        opened.settimeout(self.left())
        secured = context.wrap_socket(opened, server_hostname=self.address.host,
                                      do_handshake_on_connect=False)
        with self.lock:
            self.sockets.append(secured)
        secured.do_handshake()
        return secured

    def give_up(self):
        with self.lock:
            self.given_up = True
            for one in self.sockets:
                try:
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
                except OSError:
                    continue


def describe(der):
    certificate = x509.load_der_x509_certificate(der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = ", ".join(str(name.value) for name in names)
    except (x509.ExtensionNotFound, ValueError):
        names = "none"
    moments = [moment.strftime("%Y-%m-%d %H:%M UTC") for moment in validity(certificate)]
    found = (("Subject", certificate.subject.rfc4514_string()), ("Names", names),
             ("Issuer", certificate.issuer.rfc4514_string()), ("Valid from", moments[0]),
             ("Valid until", moments[1]))
    return [(name, value[:300]) for name, value in found]


def validity(certificate):
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except AttributeError:  # cryptography before 42
        return certificate.not_valid_before, certificate.not_valid_after


# X509_V_ERR_* of OpenSSL, x509_vfy.h
UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
NOT_YET, EXPIRED, HOST, IP = 9, 10, 62, 64


def explain(error, address):
    if isinstance(error, ssl.SSLCertVerificationError):
        return explain_certificate(error, address)
    if isinstance(error, socket.gaierror):
        return f"The name {address.host} is not known to NEMO's host"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return f"{address.place} did not answer within {PATIENCE:.0f} seconds"
    if isinstance(error, ConnectionRefusedError):
        return f"{address.place} refused the connection: nothing listens there, or a firewall " \
               "forbids it"
    if isinstance(error, (ssl.SSLError, ConnectionResetError, BrokenPipeError)) and address.tls:
        return f"{address.place} does not speak TLS, or not a version that is safe: is it the " \
               "port for mqtt:// ?"
    if isinstance(error, OSError):
        return f"{address.place} cannot be reached: {error.strerror or type(error).__name__}"
    logger.error("the test of a broker failed: %s", type(error).__name__)
    return "The test itself failed; NEMO's log says why"


def explain_certificate(error, address):
    code = error.verify_code
    if code == EXPIRED:
        return "The certificate has expired"
    if code == NOT_YET:
        return "The certificate is not valid yet: is the clock of NEMO's host right?"
    if code in (HOST, IP):
        return f"The certificate is made for another name than {address.host}"
    if code in UNKNOWN_AUTHORITY:
        return "The certificate was signed by an authority that is not trusted here: paste that " \
               "authority's certificate below, or check the one that is there"
    return f"The certificate was refused: {error.verify_message}"


def run(address, ca, who):
    """Result, within PATIENCE. A test that hangs for longer keeps others from beginning."""
    if not busy.acquire(blocking=False):
        return Result(False, "Another test is still running; try again in a moment")
    attempt = Attempt(address, ca)
    try:
        if not cache.add("nemo_streams_broker_test", 1, REST):
            busy.release()
            return Result(False, f"One test every {REST} seconds is enough; try again in a moment")
        logger.info("user %s tests the broker at %s", who, address.place)
        threading.Thread(target=attempt.run, name="nemo-streams-test", daemon=True).start()
    except Exception:  # NEMO's cache is out of order, or there is no thread to be had
        busy.release()
        raise
    if attempt.done.wait(PATIENCE):
        return attempt.result
    attempt.give_up()
    return Result(False, explain(socket.timeout(), address))
