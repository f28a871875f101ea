"""Passwords and keys stay where they belong: not in arguments, environments, logs (debug too) or core
dumps, and nobody but root looks into the memory of a process that holds them."""

import glob
import os
import resource
import shutil
import signal
import subprocess

import pytest
from harness import gateway_config, produce, to_yaml, wait_until
from harness.gateway import binary
from harness.process import Process
from scale import PATIENCE, SANITIZED

REDIS_WORD, BROKER_WORD = "Red1s-w0rd-c0rrect-h0rse", "Br0ker-w0rd-battery-staple"
WRONG_WORD = "Wr0ng-w0rd-that-is-refused"


@pytest.fixture
def secretive(things, tmp_path):
    """(redis, broker, configuration) with a password for each, over TLS to the broker."""
    redis = things.redis(password=REDIS_WORD)
    broker = things.mosquitto(password={"gate": BROKER_WORD}, tls=things.certs)
    for name, word in {"redis": REDIS_WORD, "broker": BROKER_WORD, "wrong": WRONG_WORD}.items():
        (tmp_path / name).write_text(word + "\n")
        os.chmod(tmp_path / name, 0o600)
    config = gateway_config(
        redis, broker, redis_changes={"username": "default", "password_file": f"{tmp_path}/redis"},
        broker_changes={"username": "gate", "password_file": f"{tmp_path}/broker"})
    assert config["log"]["level"] == "debug"
    return redis, broker, config


def holds(data, *words):
    return [word for word in words if word.encode() in data]


def proc(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def log_of(gateway):
    with open(gateway.log_path, "rb") as log:
        return log.read()


def carry_some(things, redis, gateway):
    produce(redis, "nemo:{a}:events", count=20)
    wait_until(lambda: (redis.client().xinfo_groups("nemo:{a}:events") or [{}])[0].get("lag") == 0,
               20 * PATIENCE, "carried")


def test_not_in_arguments_environment_or_log(things, secretive):
    redis, _, config = secretive
    gateway = things.gateway(config)
    carry_some(things, redis, gateway)
    pid = gateway.pid
    for name in ("cmdline", "environ"):
        assert not holds(proc(pid, name), REDIS_WORD, BROKER_WORD), name
    for task in glob.glob(f"/proc/{pid}/task/*"):
        with open(f"{task}/children") as children:
            assert children.read().split() == [], "the gateway starts other programs"
        with open(f"{task}/comm") as comm:
            assert not holds(comm.read().encode(), REDIS_WORD, BROKER_WORD)
    assert gateway.terminate() == 0
    assert not holds(log_of(gateway), REDIS_WORD, BROKER_WORD)
    assert not holds(log_of(gateway), *(word[:10] for word in (REDIS_WORD, BROKER_WORD)))


def test_not_in_what_is_said_of_refusals(things, secretive, tmp_path):
    """Both servers refuse the password: the log and `check --connect` say so without it."""
    _, _, config = secretive
    config["redis"]["password_file"] = f"{tmp_path}/wrong"
    gateway = things.gateway(config, start=False).launch()
    gateway.wait_log("no connection to Redis", timeout=20 * PATIENCE)
    gateway.terminate()
    config["redis"]["password_file"] = f"{tmp_path}/redis"
    config["brokers"][0]["password_file"] = f"{tmp_path}/wrong"
    gateway.write_config(config)
    things.made[0].client().xadd("nemo:{a}:events", {"topic": "t", "payload": "x"})
    gateway.launch()
    gateway.wait_log("cannot connect to the broker", timeout=20 * PATIENCE)
    checked = gateway.command("check", "--connect", timeout=60)
    assert checked.returncode == 1
    gateway.terminate()
    said = log_of(gateway) + checked.stdout.encode() + checked.stderr.encode()
    assert not holds(said, REDIS_WORD, BROKER_WORD, WRONG_WORD)


def test_not_in_what_is_said_of_a_configuration(things, secretive):
    """The password where the file's name belongs, and in a URL: refused without showing it."""
    _, _, config = secretive
    gateway = things.gateway(config, start=False)
    for section, key, value in (("redis", "password_file", REDIS_WORD),
                                ("redis", "url", f"redis://default:{REDIS_WORD}@127.0.0.1:1/0"),
                                ("redis", "url", f"redis://127.0.0.1:1/0?password={REDIS_WORD}"),
                                ("redis", "password", REDIS_WORD)):
        changed = {**config, section: {**config[section], key: value}}
        gateway.write_config(changed)
        refused = gateway.command("check")
        assert refused.returncode == 2, (key, refused.stdout)
        assert not holds((refused.stdout + refused.stderr).encode(), REDIS_WORD), refused.stderr


class Unprivileged(Process):
    """A gateway as a user without rights, which may write cores wherever its folder is."""

    name = "unprivileged"

    def __init__(self, tmp, argv):
        super().__init__(tmp)
        self._argv = argv
        os.chmod(self.folder, 0o777)

    def argv(self):
        return self._argv

    def launch(self):
        resource.prlimit(os.getpid(), resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
        try:
            return super().launch()
        finally:
            resource.prlimit(os.getpid(), resource.RLIMIT_CORE,
                             (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def is_protected(pid):
    """The files of /proc belong to root where a process is not dumpable."""
    return os.stat(f"/proc/{pid}/mem").st_uid == 0


def nobody(command):
    """The command as user nobody, who has no rights of root."""
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", *command]


needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"),
                                reason="needs root, to become a user without rights")


def readable_copy(tmp_path, config, certs):
    """The gateway's arguments, as a user without rights: program, configuration and certificates where
    that user may read them."""
    for path in [tmp_path, *tmp_path.parents][:4]:
        if not os.stat(path).st_mode & 0o001:  # pytest's own folders, up to /tmp
            os.chmod(path, 0o755)
    folder = tmp_path / "readable"
    folder.mkdir()
    shutil.copy(binary(), folder / "nemogate")
    if certs:
        shutil.copy(f"{certs}/ca.crt", folder)
        config["brokers"][0]["tls"] = {"ca_file": f"{folder}/ca.crt"}
    (folder / "nemogate.yaml").write_text(to_yaml(config) + "\n")
    for path in (folder, folder / "nemogate", *folder.glob("*.*")):
        os.chmod(path, 0o755)
    return nobody([f"{folder}/nemogate", "run", "--config", f"{folder}/nemogate.yaml"])


def start_unprivileged(things, argv):
    gateway = Unprivileged(things.tmp, argv)
    things.made.append(gateway)
    gateway.launch()
    wait_until(lambda: gateway.check_running() or 'msg="ready"' in gateway.log_text(), 20 * PATIENCE,
               lambda: gateway.log_text())
    return gateway


@needs_root
@pytest.mark.skipif(SANITIZED, reason="a sanitizer handles the signal itself")
def test_no_core_and_no_look_into_memory(things, secretive, tmp_path):
    """It runs without any privilege, and SIGABRT, SIGSEGV and SIGQUIT leave no core; its own user can
    neither read its memory nor its environment."""
    redis, _, config = secretive
    for name in ("redis", "broker"):
        os.chown(tmp_path / name, 65534, 65534)
    argv = readable_copy(tmp_path, config, things.certs)
    for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT):
        gateway = start_unprivileged(things, argv)
        carry_some(things, redis, gateway)
        with open(f"/proc/{gateway.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status if ":" in line)
        assert fields["CapEff"].strip() == fields["CapPrm"].strip() == "0000000000000000"
        assert is_protected(gateway.pid)
        for name in ("mem", "environ", "maps"):
            look = subprocess.run(nobody(["head", "-c1", f"/proc/{gateway.pid}/{name}"]),
                                  capture_output=True)
            assert b"Permission denied" in look.stderr, (name, look)
        gateway.signal(number)
        assert gateway.wait(10) == -number
        assert not glob.glob(f"{gateway.folder}/core*"), "a core dump"


@needs_root
def test_without_secrets_it_can_be_looked_into(things, tmp_path):
    """Nothing is hidden from whoever seeks a fault, where there is nothing to hide."""
    redis, broker = things.redis(), things.recording_broker()
    argv = readable_copy(tmp_path, gateway_config(redis, broker), None)
    assert not is_protected(start_unprivileged(things, argv).pid)


@needs_root
@pytest.mark.skipif(SANITIZED, reason="a sanitizer handles the signal itself")
def test_the_core_of_another_program_would_be_there(tmp_path):
    """The test above can fail: where cores are files, a program that does not hold secrets leaves one,
    and a word in its memory is found in it."""
    with open("/proc/sys/kernel/core_pattern") as pattern:
        where = pattern.read().strip()
    if where.startswith(("|", "/")):
        pytest.skip(f"cores go elsewhere on this system: {where}")
    process = Unprivileged(tmp_path, ["sh", "-c", f"word={REDIS_WORD}; sleep 20 & kill -ABRT $$"])
    process.launch()
    process.wait(10)
    cores = glob.glob(f"{process.folder}/core*")
    assert cores and holds(open(cores[0], "rb").read(), REDIS_WORD)
