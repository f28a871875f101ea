"""What the service manager is told over NOTIFY_SOCKET, and how the log looks to its journal. The test
is the service manager; deploy/nemogate.service under a real one: tests/package/run.sh."""

import ctypes
import os
import socket
import time

import pytest
from harness import gateway_config, produce, wait_until
from harness.process import free_port
from refusals import PATIENCE

STREAM = "nemo:{a}:events"
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Manager:
    """The other end of NOTIFY_SOCKET. told: [(variable, value, time.monotonic())], growing."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.env = {"NOTIFY_SOCKET": address.replace("\0", "@")}
        self._told = []

    @property
    def told(self):
        while True:
            try:
                lines = self.socket.recv(4096).decode()
            except BlockingIOError:
                return self._told
            assert lines.endswith("\n")
            for line in lines.splitlines():
                self._told.append((*line.split("=", 1), time.monotonic()))

    def names(self):
        """The variables, without the sentences and the watchdog's."""
        return [name for name, _, _ in self.told if name not in ("STATUS", "WATCHDOG", "WATCHDOG_USEC")]

    def count(self, name):
        return sum(told[0] == name for told in self.told)

    def value(self, name):
        values = [value for n, value, _ in self.told if n == name]
        return values[-1] if values else None

    def wait_told(self, name, count=1):
        wait_until(lambda: self.count(name) >= count, 15 * PATIENCE, lambda: f"{name} in {self.told}")

    def wait_status(self, text):
        wait_until(lambda: self.value("STATUS") == text, 15 * PATIENCE,
                   lambda: f"{text!r}, not {self.value('STATUS')!r}")


@pytest.fixture
def manager(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def with_watchdog(manager, usec):
    return {**manager.env, "WATCHDOG_USEC": str(usec)}


class FrozenThread:
    """A thread of the gateway that stands still, while the others go on."""

    def __init__(self, tid):
        self.tid = tid

    def call(self, request):
        if libc.ptrace(request, self.tid, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        self.call(PTRACE_SEIZE)
        self.call(PTRACE_INTERRUPT)
        os.waitpid(self.tid, WAIT_ALL)

    def __exit__(self, *_):
        self.call(PTRACE_DETACH)


def shard_threads(gateway):
    """Of two shards; ThreadSanitizer has a thread of its own, older than they are."""
    others = sorted(int(tid) for tid in os.listdir(f"/proc/{gateway.pid}/task") if int(tid) != gateway.pid)
    return others[-2:]


# ---- start -----------------------------------------------------------------------------------------


def test_ready_and_one_sentence(things, manager):
    redis, broker = things.redis(), things.recording_broker()
    produce(redis, STREAM, keys=5, count=10)
    things.gateway(gateway_config(redis, broker), env=manager.env)
    manager.wait_status("2 slots, 1 stream; broker main connected")
    assert manager.names() == ["READY"]
    produce(redis, "nemo:{b}:events", keys=5, count=10)
    manager.wait_status("2 slots, 2 streams; broker main connected")
    assert manager.names() == ["READY"] and manager.count("WATCHDOG") == 0


def test_abstract_socket(things):
    manager = Manager(f"\0nemogate-test-{os.getpid()}")
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(gateway_config(redis, broker), env=manager.env)
    manager.wait_status("2 slots, 0 streams")
    manager.socket.close()


def test_a_start_does_not_wait_for_redis(things, manager):
    redis, broker = things.redis(start=False), things.recording_broker()
    where = f"Redis 127.0.0.1:{redis.port}"
    gateway = things.gateway(gateway_config(redis, broker), env=manager.env, start=False).launch()
    manager.wait_told("READY")
    manager.wait_status(f"waiting for {where}: Connection refused")
    redis.start()
    manager.wait_status("2 slots, 0 streams")
    redis.kill()
    wait_until(lambda: manager.value("STATUS").startswith(f"no connection to {where}: "), 15 * PATIENCE,
               "the loss of Redis")
    assert manager.names() == ["READY"]
    gateway.close()


def test_a_start_does_not_wait_for_a_broker(things, manager):
    redis = things.redis()
    produce(redis, STREAM, keys=5, count=10)
    config = gateway_config(redis, f"mqtt://127.0.0.1:{free_port()}")
    things.gateway(config, env=manager.env, start=False).launch()
    manager.wait_status("1 of 2 slots run, 1 stream; no connection to broker main")
    manager.wait_told("READY")
    assert manager.names() == ["READY"]


def test_a_faulty_configuration_is_not_ready(things, manager):
    gateway = things.gateway("brokers: none\n", env=manager.env, start=False).launch()
    assert gateway.wait() == 2
    assert manager.told == []


def test_another_number_of_slots_is_not_ready(things, manager):
    """What no waiting mends ends the start, and the unit fails."""
    redis, broker = things.redis(), things.recording_broker()
    first = things.gateway(gateway_config(redis, broker))
    first.terminate()
    gateway = things.gateway(gateway_config(redis, broker, slots=3), env=manager.env, start=False)
    assert gateway.launch().wait() == 2
    assert "READY" not in manager.names()


# ---- reload and stop -------------------------------------------------------------------------------


def test_reload(things, manager):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), env=manager.env)
    manager.wait_told("READY")
    pid = gateway.pid
    for turn in range(1, 4):
        before = time.monotonic()
        gateway.config["routes"][0]["topic_prefix"] = f"nemo/turn{turn}/"
        gateway.write_config(gateway.config)
        gateway.reload()
        manager.wait_told("READY", turn + 1)
        assert before <= int(manager.value("MONOTONIC_USEC")) / 1e6 <= time.monotonic()
    assert manager.names() == ["READY"] + 3 * ["RELOADING", "MONOTONIC_USEC", "READY"]
    assert gateway.running and gateway.pid == pid
    manager.wait_status("2 slots, 0 streams")


def test_a_bad_file_is_no_reload(things, manager):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), env=manager.env)
    gateway.write_config("brokers: none\n")
    gateway.reload()
    gateway.wait_log("the configuration is not reloaded")
    manager.wait_status("2 slots, 0 streams")
    assert manager.names() == ["READY"]


def test_stop_says_how_long_it_may_take(things, manager):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    produce(redis, STREAM, keys=5, count=10)
    gateway = things.gateway(gateway_config(redis, broker, delivery={"drain_timeout": "2500ms"}),
                             env=manager.env)
    wait_until(lambda: len(broker.messages) >= 10, 10 * PATIENCE, "publishes")
    assert gateway.terminate(30) == 0
    assert manager.names() == ["READY", "STOPPING", "EXTEND_TIMEOUT_USEC"]
    assert 2500000 < int(manager.value("EXTEND_TIMEOUT_USEC")) <= 60000000
    manager.wait_status("stopping: what is in flight is waited for, at most 3 s")


# ---- watchdog --------------------------------------------------------------------------------------


@pytest.mark.parametrize("admin", ["", "on"])
def test_watchdog_is_silent_while_a_shard_hangs(things, manager, admin):
    redis, broker = things.redis(), things.recording_broker()
    listen = f"127.0.0.1:{free_port()}" if admin else ""
    gateway = things.gateway(gateway_config(redis, broker, admin={"listen": listen}),
                             env=with_watchdog(manager, 1000000))
    manager.wait_told("WATCHDOG", 4)
    threads = shard_threads(gateway)
    assert len(threads) == 2
    for thread in threads:
        with FrozenThread(thread):
            wait_until(lambda: "does not turn" in manager.value("STATUS"), 10 * PATIENCE, "the sentence")
            silent = manager.count("WATCHDOG")
            time.sleep(2)  # four times as long as between two of them
            assert manager.count("WATCHDOG") == silent
        manager.wait_told("WATCHDOG", silent + 2)
        manager.wait_status("2 slots, 0 streams")
    assert gateway.terminate() == 0


def test_watchdog_without_redis_and_over_reloads(things, manager):
    """Twice in the watchdog's time, whatever else goes on."""
    redis, broker = things.redis(start=False), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker), start=False,
                             env=with_watchdog(manager, 2000000)).launch()
    manager.wait_told("WATCHDOG", 3)
    redis.start()
    gateway.wait_ready()
    for turn in range(3):
        gateway.reload()
        manager.wait_told("RELOADING", turn + 1)
        manager.wait_told("READY", turn + 2)
    manager.wait_told("WATCHDOG", manager.count("WATCHDOG") + 2)
    # The program that begins anew may be busy for long, and says when it is there.
    limits = [int(value) for name, value, _ in manager.told if name == "WATCHDOG_USEC"]
    assert limits == [2000000] + 3 * [92000000, 2000000]


def test_watchdog_of_another_process(things, manager):
    redis, broker = things.redis(), things.recording_broker()
    things.gateway(gateway_config(redis, broker),
                   env={**with_watchdog(manager, 200000), "WATCHDOG_PID": "1"})
    manager.wait_told("READY")
    time.sleep(1)
    assert manager.count("WATCHDOG") == 0


# ---- who else gets the environment -----------------------------------------------------------------


def test_the_command_of_legacy_lists_is_not_the_service(things, manager, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    command = (f"env >{tmp_path}/environment; printf 'broker_host=127.0.0.1\\nbroker_port={broker.port}\\n"
               "keepalive=30\\nusername=\\npassword=\\nuse_hmac=0\\nhmac_secret_key=\\n'")
    config = gateway_config(redis, broker, legacy_config_command=command,
                            legacy_lists=[{"list": "events", "stream": STREAM}])
    things.gateway(config, env={**with_watchdog(manager, 60000000), "OF_THE_USER": "kept"})
    manager.wait_told("READY")
    environment = (tmp_path / "environment").read_text()
    assert "OF_THE_USER=kept" in environment
    assert "NOTIFY_SOCKET" not in environment and "WATCHDOG" not in environment


# ---- journal ---------------------------------------------------------------------------------------


def log_of_a_run(things, journal):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(gateway_config(redis, broker, broker_changes={"protocol": "3.1.1"}),
                             start=False)
    with open(gateway.log_path, "w") as log:
        status = os.fstat(log.fileno())
    inode = status.st_ino + (not journal)
    gateway.env["JOURNAL_STREAM"] = f"{status.st_dev}:{inode}"
    gateway.launch()
    wait_until(lambda: "msg=\"ready\"" in gateway.log_text(), 15 * PATIENCE, "ready")
    redis.kill()
    wait_until(lambda: "level=error" in gateway.log_text(), 15 * PATIENCE, "an error")
    gateway.terminate()
    return gateway.log_text().splitlines()


def test_lines_for_the_journal_begin_with_their_priority(things):
    lines = log_of_a_run(things, journal=True)
    priorities = {"debug": "<7>ts=", "info": "<6>ts=", "warning": "<4>ts=", "error": "<3>ts="}
    seen = set()
    for line in lines:
        level = line.split("level=")[1].split()[0]
        assert line.startswith(priorities[level]), line
        seen.add(level)
    assert {"info", "warning", "error"} <= seen


def test_lines_for_others_do_not(things):
    assert all(line.startswith("ts=") for line in log_of_a_run(things, journal=False))
