"""What the tests of sites' own settings share: a site whose settings page is saved, by the plugin's
own script, and the settings that the gateway has applied."""

import ast
import os
import time
import uuid

from harness import gateway_config, wait_until

PLUGIN = os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "nemo", "NEMO_streams",
                      "settings_publish.py")
FIELDS = ("broker_url", "broker_ca", "broker_username", "broker_password_ref", "sign_key_ref")
NOT_ALLOWED = ("the operator of the gateway has not allowed settings from this site "
               "(routes[].settings is own)")
APPLIED = "settings that a site has saved are applied"
REFUSED = "settings that a site has saved are refused; those before them stay in use"
USED = "settings that a site has saved are used"


def plugin_script():
    """The text of WRITE in the plugin."""
    with open(PLUGIN) as f:
        tree = ast.parse(f.read())
    return next(node.value.value for node in tree.body if isinstance(node, ast.Assign)
                and node.targets[0].id == "WRITE")


class Site:
    """A lab, by its name, on a Redis of the tests."""

    script = plugin_script()

    def __init__(self, redis, name="a"):
        self.client = redis.client()
        self.name = name
        self.stream = f"nemo:{{{name}}}:events"
        self.key = f"nemo:{{{name}}}:gateway"

    def save(self, **values):
        """As a save on the settings page; the version."""
        turn = self.client.hincrby(f"nemo:{{{self.name}}}:turns", "gateway/settings", 1)
        pairs = [part for field in FIELDS for part in (field, values.get(field, ""))]
        version, written = self.client.eval(
            self.script, 4, f"{self.key}:settings", self.stream, f"nemo:{{{self.name}}}:turns",
            self.key, 1_000_000, "gateway/settings", turn, int(time.time() * 1000), "admin",
            str(uuid.uuid4()), 1, *pairs)
        assert written == 1, "nothing has changed"
        return version

    @property
    def applied(self):
        return self.client.hgetall(f"{self.key}:applied")

    @property
    def version(self):
        return int(self.applied.get("version") or 0)

    @property
    def error(self):
        return self.applied.get("error", "")

    def told(self, field):
        """What the settings page shows of the gateway."""
        return self.client.hget(self.key, field) or ""

    def wait_version(self, version, timeout=30):
        wait_until(lambda: self.version == version, timeout,
                   lambda: f"version {version}; it is {self.applied}")

    def wait_error(self, version, timeout=30):
        """Why that version was refused."""
        wait_until(lambda: self.applied.get("error_version") == str(version) and self.error,
                   timeout, lambda: f"an error of version {version}; it is {self.applied}")
        return self.error

    def pending(self):
        """Entries that have not settled. (Redis does not always know the lag of a trimmed stream.)"""
        groups = self.client.xinfo_groups(self.stream)
        if not groups:
            return self.client.xlen(self.stream)
        group, = groups
        new = self.client.xrange(self.stream, "(" + group["last-delivered-id"])
        return group["pending"] + len(new)

    def wait_done(self, timeout=30):
        """All of its entries have settled."""
        wait_until(lambda: self.pending() == 0, timeout,
                   lambda: f"an empty stream; {self.client.xinfo_groups(self.stream)}, "
                           f"{self.applied}")


def config_from_site(redis, broker, secrets=None, route_changes=None, **changes):
    route = {"settings": "from-site", **(route_changes or {})}
    if secrets is not None:
        route["settings_secrets"] = str(secrets)
    return gateway_config(redis, broker, route_changes=route, **changes)


def secret(folder, name, text):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text + "\n")
    return name
