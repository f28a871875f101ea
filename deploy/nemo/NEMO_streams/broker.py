"""Where the gateway publishes: values of NEMO's Customization table that the settings page saves
and settings_publish.py hands on. No secret is among them, only names of secret files on the
gateway's side. Empty means: what the gateway itself has configured."""

import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from .options import PREFIX, Option

PORTS = {"mqtt": 1883, "mqtts": 8883}
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?")
REFERENCE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
CA_LIMIT = 64 * 1024
BLOCKS = 100


@dataclass(frozen=True)
class Address:
    tls: bool
    host: str
    port: int

    @property
    def place(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"mqtt{'s' if self.tls else ''}://{self.place}"


def address(text):
    """Address; ValueError says what would be right."""
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError("must not hold blanks or control characters")
    if "@" in text:
        raise ValueError("must not hold a user or a password: they have fields of their own")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise ValueError("must be like mqtts://broker.example.org:8883, with a port from 1 to "
                         "65535") from None
    if parts.scheme not in PORTS or not text.lower().startswith(f"{parts.scheme}://"):
        raise ValueError("must begin with mqtts:// (TLS) or mqtt://")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("must end after the port: mqtts://broker.example.org:8883")
    if port == 0:
        raise ValueError("must have a port from 1 to 65535")
    if not (is_ipv6(host) if "[" in parts.netloc else HOST.fullmatch(host)):
        raise ValueError("must name a host, such as broker.example.org or 192.0.2.7")
    return Address(parts.scheme == "mqtts", host, port or PORTS[parts.scheme])


def is_ipv6(text):
    return ":" in text and re.fullmatch(r"[0-9a-f:.]{2,45}", text) is not None


def url(value):
    return address(value).url if value else ""


def username(value):
    if len(value.encode("utf-8", "replace")) > 1024 or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]",
                                                                 value):
        raise ValueError("must be at most 1024 bytes, without control characters")
    return value


def reference(value):
    if value and not REFERENCE.fullmatch(value):
        raise ValueError("must be the name of a secret file at the gateway, not the secret: 1 to "
                         "64 of a-z, A-Z, 0-9, dot, _ and -, not beginning with a dot")
    return value


def certificates(value):
    """PEM text with only certificates, each of which OpenSSL can read."""
    if not value:
        return ""
    if len(value) > CA_LIMIT:
        raise ValueError(f"must be at most {CA_LIMIT // 1024} KiB")
    if value.count("-----BEGIN ") > BLOCKS:  # also keeps the search below from taking seconds
        raise ValueError(f"holds more than {BLOCKS} certificates")
    blocks = list(BLOCK.finditer(value))
    if any("PRIVATE KEY" in block[1] for block in blocks) or "PRIVATE KEY-----" in value:
        raise ValueError("holds a private key, which nobody but its owner may have; paste only the "
                         "certificate of the authority. Nothing was saved")
    if not blocks:
        raise ValueError("holds no certificate; it must begin with -----BEGIN CERTIFICATE----- and "
                         "end with -----END CERTIFICATE-----")
    for count, block in enumerate(blocks, 1):
        if block[1] != "CERTIFICATE":
            raise ValueError(f"holds a {block[1].lower()}; only certificates belong here")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=block[0] + "\n")
        except (ssl.SSLError, ValueError):
            raise ValueError(f"holds no readable certificate at block {count}: was it copied "
                             "completely?") from None
    if value.count("-----BEGIN ") != len(blocks):
        raise ValueError("holds a certificate that was not copied completely")
    return "\n".join(block[0].replace("\r", "") for block in blocks) + "\n"


OPTIONS = (
    Option(PREFIX + "broker_url", "text", "", "mqtts://HOST:PORT (TLS) or mqtt://HOST:PORT. Empty: "
           "the broker that the gateway itself has configured", url),
    Option(PREFIX + "broker_ca", "pem", "", "Certificate, in PEM, of the authority that has signed "
           "the broker's. Empty: those that the gateway trusts anyway", certificates),
    Option(PREFIX + "broker_username", "text", "", "User name at the broker", username),
    Option(PREFIX + "broker_password_ref", "text", "", "Name of the file, in the gateway's folder "
           "of secrets, that holds the broker's password", reference),
    Option(PREFIX + "sign_key_ref", "text", "", "Name of the file, in the same folder, that holds "
           "the key with which messages are signed. Empty: messages are not signed", reference),
)


def faults_between(values):
    """{name: sentence}: values that are well each, but not together."""
    place, ca = values[PREFIX + "broker_url"], values[PREFIX + "broker_ca"]
    if ca and place.startswith("mqtt://"):
        return {PREFIX + "broker_ca": "is of no use without TLS: the address must begin with "
                                      "mqtts://, or this must be empty"}
    return {}


def read():
    """{field: value} as the gateway gets them, straight from the database: NEMO's cache may be half
    a minute old. What does not pass its check counts as empty."""
    from NEMO.models import Customization

    stored = dict(Customization.objects.filter(name__in=[option.name for option in OPTIONS])
                  .values_list("name", "value"))
    found = {}
    for option in OPTIONS:
        try:
            found[option.field] = option.check(stored.get(option.name, option.default))
        except ValueError:
            found[option.field] = ""
    return found
