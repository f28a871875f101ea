"""Bad configurations: each is refused with exit code 2 and a line that names the file, the line and
the key, without a crash and without the secret in it. The cases come from rules, not from the
program's own table: what the program forgets to check shows here."""

import os
import re
import subprocess

import pytest

SECRET = "s3cret-Pa55"
BROKER = 'brokers:\n  - name: main\n    url: "mqtt://127.0.0.1:1883"\n'
TLS_BROKER = 'brokers:\n  - name: main\n    url: "mqtts://127.0.0.1"\n'

# Where a key is written, and what its messages call it.
PLACES = {
    "": ("{key}: {value}\n" + BROKER, "{key}", 1),
    "redis": ("redis:\n  {key}: {value}\n" + BROKER, "redis.{key}", 2),
    "redis.tls": (
        'redis:\n  url: "rediss://h"\n  tls:\n    {key}: {value}\n' + BROKER,
        "redis.tls.{key}",
        4,
    ),
    "brokers": (
        "brokers:\n  - {{name: main, url: 'mqtt://h'}}\n"
        "  - name: two\n    url: mqtt://i\n    {key}: {value}\n",
        "brokers[1].{key}",
        5,
    ),
    "brokers.tls": (TLS_BROKER + "    tls:\n      {key}: {value}\n", "brokers[0].tls.{key}", 5),
    "routes": (BROKER + 'routes:\n  - streams: "x*"\n    {key}: {value}\n', "routes[0].{key}", 6),
    "routes.batch": (
        BROKER + 'routes:\n  - streams: "x*"\n    encoding: batch\n    batch:\n      {key}: {value}\n',
        "routes[0].batch.{key}", 8),
    "delivery": (BROKER + "delivery:\n  {key}: {value}\n", "delivery.{key}", 5),
    "log": (BROKER + "log:\n  {key}: {value}\n", "log.{key}", 5),
}

NUMBERS = {  # smallest, largest
    ("", "shards"): (0, 256),
    ("", "slots"): (1, 1024),
    ("brokers", "connections"): (1, 64),
    ("brokers", "inflight"): (1, 65535),
    ("brokers", "max_rate"): (0, 10000000),
    ("delivery", "max_deliveries"): (1, 1000000),
    ("routes.batch", "events"): (1, 10000),
}
DURATIONS = {  # below, above
    ("redis", "discovery_interval"): ("99ms", "61m"),
    ("brokers", "keepalive"): ("4s", "19h"),
    ("brokers", "connect_timeout"): ("99ms", "301s"),
    ("brokers", "puback_timeout"): ("999ms", "61m"),
    ("delivery", "lease_ttl"): ("999ms", "601s"),
    ("delivery", "drain_timeout"): ("-1s", "11m"),
    ("routes.batch", "linger"): ("-1ms", "11s"),
}
SIZES = {
    ("delivery", "max_payload"): ("0", "16777217"),
    ("delivery", "inflight_bytes"): ("1023KiB", "65GiB"),
    ("routes.batch", "bytes"): ("1023B", "17MiB"),
}
CHOICES = {
    ("redis", "start"): ["end", "Beginning", "0"],
    ("brokers", "protocol"): ["4", "3.1", "5.0", "mqtt"],
    ("routes", "encoding"): ["sign", "msgpack", "RAW"],
    ("routes", "user_properties"): ["yes", "on", "1", "True"],
    ("routes", "coalesce_retained"): ["yes", "0", "TRUE"],
    ("routes", "strict_order"): ["yes", "0", "TRUE"],
    ("delivery", "trim"): ["all", "true", "Acked"],
    ("log", "level"): ["warn", "trace", "INFO", "3"],
    ("log", "format"): ["text", "JSON"],
}
TEXTS = {  # values that are wrong
    ("", "instance"): ["''", "'a b'", "a/b", "é", "x" * 129],
    ("redis", "group"): ["''", "'a b'", "'a{b'", "'a}b'", "x" * 65],
    ("brokers", "client_id_prefix"): ["''", "a.b", "'a b'", "x" * 33],
    ("brokers", "status_topic"): ["'a/{site}'", "'a/#'", "'a/+/b'", "'{client_id'", "'a}'",
        "'{x}'"],
    ("routes", "topic_prefix"): ["'a/{client_id}'", "'#'", "'+/'", "'{site'", "'}'", "'{}'"],
    ("routes.batch", "topic"): ["''", "'a/#'", "'a/{client_id}'", "'+'"],
    ("routes", "site"): ["Lab", "-lab", "'a b'", "x" * 33, "lab_1"],
    ("routes", "broker"): ["nobody", "Main", "'main '"],
    ("brokers", "username"): ['"a\\nb"', "x" * 1025],
    ("redis", "username"): ['"a\\tb"', "x" * 1025],
    ("redis.tls", "server_name"): ["x" * 254],
    ("brokers.tls", "server_name"): ["x" * 254],
}
REDIS_URLS = [
    "''", "h", "h:6379", "mqtt://h", "http://h", "redis://", "redis://:6379", "redis://h:0",
    "redis://h:x", "redis://h:65536", "redis://h/x", "redis://h/65536", "redis://h/-1",
    "redis://h/1/2", "redis://h?db=1", "redis://[::1", "redis://[::g]", "'redis://a b'",
    "REDIS://h", "unix://run/s", "unix:///",
    "unix:///s?db=", "unix:///s?x=1", "unix:///" + "x" * 108,
]
MQTT_URLS = [
    "''", "h", "h:1883", "redis://h", "ws://h", "tcp://h", "mqtt://", "mqtt://:1883", "mqtt://h:0",
    "mqtt://h:x", "mqtt://h:70000", "mqtt://h/topic", "mqtt://h?x", "'mqtt://h#x'", "mqtts://[::1",
    "mqtts:/h", "MQTT://h",
]
SECRET_URLS = ["{0}://u:" + SECRET + "@h", "{0}://:" + SECRET + "@h:1", "{0}://u:" + SECRET,
    SECRET + "@h"]
FILES = {("redis.tls", "ca_file"), ("redis.tls", "cert_file"), ("redis.tls", "key_file"),
         ("brokers.tls", "ca_file"), ("brokers.tls", "cert_file"), ("brokers.tls", "key_file"),
         ("redis", "password_file"), ("brokers", "password_file"), ("routes", "sign_key_file")}
UNKNOWN = {  # slips of the pen, keys of other programs, keys that have no effect
    "": ["instances", "shard", "slot", "Slots", "broker", "route", "admins", "legacy_lists",
        "inflight", "<<"],
    "redis": ["URL", "uri", "host", "port", "db", "password", "stream", "groups", "max_rate"],
    "redis.tls": ["ca", "cafile", "cert", "key", "insecure", "verify"],
    "brokers": ["host", "port", "password", "keep_alive", "clientid", "rate", "qos",
        "inflights"],
    "brokers.tls": ["ca", "certfile", "keyfile", "alpn"],
    "routes": ["stream", "topic", "prefix", "sign_key", "batches", "coalesce", "strict"],
    "routes.batch": ["count", "size", "max", "linger_ms"],
    "delivery": ["trimming", "strict_order", "payload_max", "lease", "drain"],
    "log": ["file", "levels", "color"],
}


class Case:
    """A bad text, and what one of its lines must say: its line in the file and the key's path."""

    def __init__(self, name, text, line, path, secret=None):
        self.name, self.text, self.line, self.path, self.secret = name, text, line, path, secret


def at(place, key, value, name):
    template, path, line = PLACES[place]
    secret = SECRET if SECRET in value else None
    return Case(f"{place}.{key}-{name}", template.format(key=key, value=value), line,
        path.format(key=key), secret)


def value_cases():
    """Each key with values of the wrong type, out of range, or with a slip."""
    for (place, key), (smallest, largest) in NUMBERS.items():
        for value in [smallest - 1, largest + 1, "x", "1.5", "0x10", "1_0", "'1 '", "'+1'", "01",
            "true", "~", "10**9"]:
            yield at(place, key, str(value), str(value))
    for (place, key), (below, above) in DURATIONS.items():
        for value in [below, above, "5", "x", "5 s", "5S", "1.5s", "5sec", "''",
            "99999999999999999999s"]:
            yield at(place, key, value, value)
    for (place, key), (below, above) in SIZES.items():
        for value in [below, above, "64KB", "64kib", "x", "-1", "1.5MiB", "''",
            "99999999999999999999GiB"]:
            yield at(place, key, value, value)
    for table in (CHOICES, TEXTS):
        for (place, key), values in table.items():
            for value in values:
                yield at(place, key, value, value[:20])
    yield at("brokers", "keepalive", "5500ms", "no whole seconds")


def kind_cases():
    """A list or section where a value belongs, and the other way round; null; no such variable."""
    keys = set(NUMBERS) | set(DURATIONS) | set(SIZES) | set(CHOICES) | set(TEXTS) | FILES
    for place, key in sorted(keys):
        for value in ["[a]", "{a: b}", "null", "${NEMOGATE_NOT_SET}", "'${'", "!tag x",
            "&anchor x"]:
            case = at(place, key, value, value)
            if value[0] in "!&":
                case.path = "YAML"
            yield case
    for place in ("redis", "delivery", "log"):
        yield Case(f"{place}-text", f"{place}: x\n{BROKER}", 1, place)
        yield Case(f"{place}-list", f"{place}: [x]\n{BROKER}", 1, place)
    yield Case("tls-text", f"redis:\n  tls: x\n{BROKER}", 2, "redis.tls")
    yield Case("brokers-section", "brokers: {name: a}\n", 1, "brokers")
    yield Case("brokers-text", "brokers: a\n", 1, "brokers")
    yield Case("brokers-items", "brokers:\n  - a\n", 2, "brokers[0]")
    yield Case("brokers-empty", "brokers: []\n", 1, "brokers")
    yield Case("brokers-nothing", "slots: 1\nbrokers:\n", 2, "brokers")
    yield Case("brokers-missing", "slots: 1\n", 1, "brokers")
    yield Case("routes-section", f"{BROKER}routes: {{streams: a}}\n", 4, "routes")
    yield Case("streams-text", f"redis:\n  streams: a\n{BROKER}", 2, "redis.streams")
    yield Case("streams-empty", f"redis:\n  streams: []\n{BROKER}", 2, "redis.streams")
    yield Case("streams-nested", f"redis:\n  streams: [[a]]\n{BROKER}", 2, "redis.streams[0]")


def unknown_cases():
    for place, keys in UNKNOWN.items():
        for key in keys:
            case = at(place, key, "1", "unknown")
            if key == "<<":
                case.path = "(not shown)"
            yield case


def url_cases():
    for url in REDIS_URLS:
        yield at("redis", "url", url, url[:30])
    for i, url in enumerate(MQTT_URLS):
        yield Case(f"mqtt-url-{i}", f"brokers:\n  - name: a\n    url: {url}\n", 3, "brokers[0].url")
    for i, url in enumerate(SECRET_URLS):
        yield at("redis", "url", f'"{url.format("redis")}"', f"secret-{i}")
        text = f'brokers:\n  - name: a\n    url: "{url.format("mqtts")}"\n'
        yield Case(f"mqtt-url-secret-{i}", text, 3, "brokers[0].url", SECRET)


def secret_cases():
    """A secret in the place of a file's name, under a key of its own, and in the environment."""
    for place in ("redis", "brokers"):
        yield at(place, "password_file", SECRET, "secret")
        yield at(place, "password", SECRET, "secret")
        yield at(place, "password_file", f"[{SECRET}]", "secret in a list")
    for place in ("redis.tls", "brokers.tls"):
        yield at(place, "key_file", SECRET, "secret")
    yield Case("slots-environment", "slots: ${NEMOGATE_TEST_SECRET}\n" + BROKER, 1, "slots", SECRET)
    yield Case("url-environment", f"redis:\n  url: ${{NEMOGATE_TEST_SECRET}}\n{BROKER}", 2,
        "redis.url", SECRET)


def check_cases():
    """Keys that do not go together."""
    two = 'brokers:\n  - {name: a, url: "mqtt://h"}\n  - {name: %s, url: "mqtt://%s"}\n'
    yield Case("broker-names", two % ("a", "i"), 3, "brokers[1].name")
    yield Case("broker-places", two % ("b", "h"), 3, "brokers[1].url")
    yield Case("broker-of-route", two % ("b", "i") + 'routes:\n  - streams: "*"\n', 5,
        "routes[0].broker")
    yield Case("broker-name-missing", "brokers:\n  - url: mqtt://h\n", 2, "brokers[0].name")
    yield Case("broker-url-missing", "brokers:\n  - name: a\n", 2, "brokers[0].url")
    yield Case("route-streams-missing", BROKER + "routes:\n  - site: a\n", 5, "routes[0].streams")
    for first, second in [("a*", "a*"), ("*", "b"), ("n:*", "n:{x}:*")]:
        text = f'{BROKER}routes:\n  - streams: "{first}"\n  - streams: "{second}"\n'
        yield Case(f"route-order-{first}-{second}", text, 6, "routes[1].streams")
    for pattern in ["''", "'[a'", "'a\\'", "x" * 513]:
        yield Case(f"route-{pattern[:9]}", f"{BROKER}routes:\n  - streams: {pattern}\n", 5,
            "routes[0].streams")
        yield Case(f"stream-{pattern[:9]}", f"redis:\n  streams: [{pattern}]\n{BROKER}", 2,
            "redis.streams[0]")
    yield Case("stream-site", f"redis:\n  streams: [events]\n{BROKER}", 2, "redis.streams[0]")
    yield Case("stream-route", f"redis:\n  streams: ['x:{{a}}']\n{BROKER}", 2, "redis.streams[0]")
    yield Case("stream-twice", f"redis:\n  streams: ['a*', 'a*']\n{BROKER}", 2, "redis.streams[1]")
    yield Case("redis-user-alone", f"redis:\n  username: u\n{BROKER}", 2, "redis.username")
    yield Case("redis-plain-tls", f"redis:\n  tls:\n    server_name: h\n{BROKER}", 3, "redis.tls")
    yield Case("broker-plain-tls", BROKER + "    tls:\n      server_name: h\n", 5, "brokers[0].tls")
    yield Case("budget", f"slots: 1024\n{BROKER}", 1, "delivery.inflight_bytes")
    yield Case("budget-payload", BROKER + "delivery:\n  max_payload: 16MiB\n", 5,
        "delivery.inflight_bytes")


def yaml_cases():
    for name, text, line, path in [
        ("twice", f"slots: 1\nslots: 1\n{BROKER}", 2, "'slots'"),
        ("section twice", f"{BROKER}log: {{level: info}}\nlog: {{level: info}}\n", 5, "'log'"),
        ("key twice", "brokers:\n  - name: a\n    name: b\n    url: mqtt://h\n", 3, "'name'"),
        ("alias", f"slots: *x\n{BROKER}", 1, "YAML"),
        ("anchor of a section", "brokers: &x\n  - {name: a, url: mqtt://h}\n", 1, "YAML"),
        ("two documents", f"{BROKER}---\n{BROKER}", 4, "YAML"),
        ("unclosed list", f"{BROKER}redis:\n  streams: [a\n", None, "YAML"),
        ("unclosed quote", f'{BROKER}instance: "a\n', None, "YAML"),
        ("tab", f"{BROKER}redis:\n\turl: x\n", 5, "YAML"),
        ("bad indent", f"{BROKER}redis:\n  url: redis://h\n group: a\n", 6, "YAML"),
        ("two colons", f"{BROKER}instance: a: b\n", 4, "YAML"),
        ("list as root", "- a\n", 1, "key"),
        ("text as root", "hello\n", 1, "key"),
        ("deep", "a: " + "[" * 40 + "]" * 40 + "\n", 1, "nested"),
        ("list as key", f"? [a, b]\n: c\n{BROKER}", 1, "key"),
        ("NUL", f"{BROKER}# \0\n", 4, "NUL"),
        ("escaped NUL", f'instance: "a\\0"\n{BROKER}', 1, "NUL"),
        ("control", f"{BROKER}# \x01\n", 4, "control"),
        ("Latin-1", f"{BROKER}# caf\udce9\n", 4, "UTF-8"),
        ("UTF-16", "\udcff\udcfeb\0", 1, "UTF-8"),
        ("many keys", f"{BROKER}redis:\n" + "".join(f"  k{i}: 1\n" for i in range(1000)), 517,
            "512"),
    ]:
        yield Case(name, text, line, path)


CASES = [
    *value_cases(), *kind_cases(), *unknown_cases(), *url_cases(), *secret_cases(), *check_cases(),
        *yaml_cases(),
]


def check(path):
    environment = {"NEMOGATE_TEST_SECRET": SECRET, "HOSTNAME": "host"}
    for name in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH"):
        if name in os.environ:
            environment[name] = os.environ[name]
    command = [os.environ["NEMOGATE_BINARY"], "check", "--config", str(path)]
    return subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)


def refused(path):
    done = check(path)
    errors = done.stderr.decode("utf-8", "surrogateescape")
    assert done.returncode == 2, f"exit code {done.returncode}\n{errors}"
    assert errors.endswith("\n") and "Sanitizer" not in errors
    lines = errors.splitlines()
    assert all(line.startswith(f"{path}:") for line in lines), errors
    return lines


def test_there_are_many_and_no_two_are_the_same():
    assert len({case.text for case in CASES}) == len(CASES)
    assert len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case, tmp_path):
    path = tmp_path / "bad.yml"
    path.write_bytes(case.text.encode("utf-8", "surrogateescape"))
    lines = refused(path)
    place = r"\d+" if case.line is None else str(case.line)
    key = rf"(?<![\w.]){re.escape(case.path)}(?![\w\[])"
    wanted = re.compile(rf"{re.escape(str(path))}:{place}:\d+: .*{key}")
    assert any(wanted.match(line) for line in lines), "\n".join([f"line {place}, {case.path}:",
        *lines])
    if case.secret is not None:
        assert case.secret not in "\n".join(lines)


@pytest.mark.parametrize("place, key", sorted(FILES))
@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "fifo"])
def test_files_that_cannot_be_used(place, key, kind, tmp_path):
    file = tmp_path / "file"
    if kind == "directory":
        file.mkdir()
    elif kind == "empty":
        file.touch()
    elif kind == "fifo":
        os.mkfifo(file)
    case = at(place, key, f'"{file}"', kind)
    path = tmp_path / "bad.yml"
    path.write_text(case.text)
    lines = refused(path)
    assert any(f":{case.line}:" in line and f" {case.path}: " in line for line in lines), lines


@pytest.mark.parametrize("key", ["password_file", "key_file"])
def test_secret_files_that_everyone_may_write(key, tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o666)
    path = tmp_path / "bad.yml"
    path.write_text(at("redis" if key == "password_file" else "redis.tls", key, f'"{file}"',
        key).text)
    lines = refused(path)
    assert any(f".{key}: " in line and "written by everyone" in line for line in lines), lines


@pytest.mark.parametrize("given, missing", [("cert_file", "key_file"), ("key_file", "cert_file")])
@pytest.mark.parametrize("place", ["redis.tls", "brokers.tls"])
def test_certificates_and_keys_go_together(place, given, missing, tmp_path):
    file = tmp_path / "file.pem"
    file.write_text("x")
    file.chmod(0o600)
    case = at(place, given, f'"{file}"', "alone")
    path = tmp_path / "bad.yml"
    path.write_text(case.text)
    lines = refused(path)
    assert any(f" {case.path}: " in line and missing in line for line in lines), lines


@pytest.mark.parametrize("content, text", [(None, "No such file"), (b"", "empty"),
    (b"#" * (1 << 20) + b"#", "1 MiB")], ids=["missing", "empty", "large"])
def test_configurations_that_cannot_be_read(content, text, tmp_path):
    path = tmp_path / "bad.yml"
    if content is not None:
        path.write_bytes(content)
    assert any(text in line for line in refused(path))
    assert any("directory" in line for line in refused(tmp_path))


def test_all_faults_come_in_one_go(tmp_path):
    """A file with one fault per section: each gets its line, in the order of the file."""
    path = tmp_path / "bad.yml"
    path.write_text(
        "slots: 0\nredis:\n  start: x\nbrokers:\n  - name: main\n    url: http://h\n"
        "routes:\n  - streams: a*\n    encoding: x\ndelivery:\n  lease_ttl: 1\nlog:\n  level: x\n"
    )
    places = [int(line[len(str(path)) + 1 :].split(":")[0]) for line in refused(path)]
    assert places == [1, 3, 6, 9, 11, 13]


def test_good_configurations_are_accepted(tmp_path):
    """What the cases above vary is good by itself: they fail for their own reason."""
    sample = subprocess.run([os.environ["NEMOGATE_BINARY"], "config-sample"], capture_output=True,
        timeout=60, check=True)
    path = tmp_path / "good.yml"
    for text in [sample.stdout, BROKER.encode(), TLS_BROKER.encode()]:
        path.write_bytes(text)
        done = check(path)
        assert done.returncode == 0, done.stderr
    for place, key, value in [
        ("", "slots", "1"), ("redis", "group", "a"), ("redis.tls", "server_name", "a"),
            ("log", "level", "info"),
        ("brokers.tls", "server_name", "a"), ("routes", "site", "a"),
            ("delivery", "max_payload", "1KiB"),
    ]:
        path.write_text(at(place, key, value, "good").text)
        done = check(path)
        assert done.returncode == 0, done.stderr
