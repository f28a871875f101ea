"""NEMO_STREAMS of settings.py: where Redis is and which site this is. What is published is chosen
in NEMO itself (options.py). A fault is a sentence for the admin, never an exception, and never
holds a secret."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit, parse_qs

from django.conf import settings
from django.core.signals import setting_changed

SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
PORT = 6379


@dataclass(frozen=True)
class Config:
    site: str
    tls: bool = False
    host: str = ""
    port: int = PORT
    unix_path: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    maxlen: int = 100_000

    @property
    def events_key(self):
        return f"nemo:{{{self.site}}}:events"

    @property
    def states_key(self):
        """Hash: what was last published about each object (publish.py)."""
        return f"nemo:{{{self.site}}}:states"

    @property
    def turns_key(self):
        """Hash: counts, for each object, who has begun to publish it (publish.py)."""
        return f"nemo:{{{self.site}}}:turns"

    @property
    def settings_key(self):
        """Hash: the broker and the names of its secrets, for the gateway (settings_publish.py)."""
        return f"nemo:{{{self.site}}}:gateway:settings"

    @property
    def gateway_key(self):
        """Hash that the gateway writes about itself (gateway_status.py)."""
        return f"nemo:{{{self.site}}}:gateway"

    @property
    def dead_key(self):
        return f"nemo:{{{self.site}}}:dead"

    @property
    def address(self):
        return self.unix_path or f"{self.host}:{self.port}"

    def secret(self):
        """The password; a file is read at each connect, so that a changed one is taken up."""
        if self.password_file:
            return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        return self.password


FIELDS = ("site", "redis_url", "username", "password", "password_file", "ca_file", "cert_file",
          "key_file", "maxlen")
FILES = ("password_file", "ca_file", "cert_file", "key_file")


def read_url(url, values, problems):
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        problems.append("redis_url is not a URL")
        return
    if parts.scheme in ("redis", "rediss"):
        values.update(tls=parts.scheme == "rediss", host=parts.hostname or "", port=port)
        db = parts.path.strip("/") or "0"
        if not parts.hostname:
            problems.append("redis_url names no host")
    elif parts.scheme == "unix":
        values["unix_path"] = unquote(parts.path)
        db = parse_qs(parts.query).get("db", ["0"])[0]
        if not parts.path:
            problems.append("redis_url names no socket: unix:///run/redis/redis.sock")
    else:
        problems.append("redis_url must begin with redis://, rediss:// or unix://")
        return
    if not re.fullmatch("[0-9]{1,9}", db):
        problems.append("the database in redis_url is not a number: redis://HOST:PORT/0")
    else:
        values["db"] = int(db)
    for field in ("username", "password"):
        if getattr(parts, field) and not values.get(field):
            values[field] = unquote(getattr(parts, field))


def read(raw):
    """(Config, []) or (None, sentences)."""
    if not isinstance(raw, dict):
        return None, ["is missing or not a dictionary; at least \"site\" is needed"]
    problems = [f"\"{name}\" is unknown; known are {', '.join(FIELDS)}"
                for name in sorted(map(str, set(raw) - set(FIELDS)))]
    values = {}
    for field in FIELDS:
        value = raw.get(field)
        if field == "maxlen":
            continue
        if value is not None and not isinstance(value, (str, Path)):
            problems.append(f"{field} must be text")
        elif value:
            values[field] = str(value)
    site = values.get("site", "")
    if not SITE.fullmatch(site):
        problems.append("site must be 1 to 32 of a-z, 0-9 and -, and not begin with -")
    read_url(values.pop("redis_url", "redis://127.0.0.1:6379/0"), values, problems)
    for field in FILES:
        if field in values and not Path(values[field]).is_absolute():
            problems.append(f"{field} must be an absolute path")
    if values.get("password") and values.get("password_file"):
        problems.append("password and password_file exclude each other")
    if bool(values.get("cert_file")) != bool(values.get("key_file")):
        problems.append("cert_file and key_file go together")
    if not values.get("tls") and (values.get("ca_file") or values.get("cert_file")):
        problems.append("ca_file and cert_file need a redis_url that begins with rediss://")
    maxlen = raw.get("maxlen", 100_000)
    if isinstance(maxlen, bool) or not isinstance(maxlen, int) or maxlen < 1000:
        problems.append("maxlen must be a number, at least 1000")
    else:
        values["maxlen"] = maxlen
    return (None, problems) if problems else (Config(**values), [])


@lru_cache(maxsize=1)
def load():
    return read(getattr(settings, "NEMO_STREAMS", None))


def current():
    """The Config, or None where settings.py is faulty: then nothing is published."""
    return load()[0]


def forget(setting=None, **_):
    if setting in (None, "NEMO_STREAMS"):
        load.cache_clear()


def forget_on_change():
    setting_changed.connect(forget, dispatch_uid="nemo_streams.conf")
