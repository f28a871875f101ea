"""Another configuration for a running gateway: by signal, by a changed file, by a swapped link. Nothing is
lost, the others see no change, and a bad file changes nothing."""

import http.client
import os
import pathlib
import signal
import socket
import ssl
import threading
import time

import pytest
from harness import Verifier, free_port, gateway_config, produce, wait_until
from harness.events import Producer
from harness.gateway import to_yaml
from refusals import PATIENCE, STREAM, config_for, wait_settled
from test_signed import opened, signed

RELOADED = "configuration reloaded"
REFUSED = "the configuration is not reloaded: the present one stays in use"


def change(gateway, **broker_or_route):
    """Writes the gateway's file anew with changes of its first route."""
    gateway.config["routes"][0].update(broker_or_route)
    gateway.write_config(gateway.config)


def reload_done(gateway, count=1):
    wait_until(lambda: gateway.log_count(RELOADED) >= count, 30 * PATIENCE, "reloaded")
    wait_until(lambda: gateway.log_count("ready") > count, 30 * PATIENCE, "ready again")


def event_topics(broker):
    return {m.topic.split("/tools/")[0] for m in broker.messages if "/tools/" in m.topic}


@pytest.mark.limit(150)
def test_reload_under_load_loses_nothing(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.01
    producer = produce(redis, STREAM, keys=20, count=20)
    gateway = things.gateway(config_for(redis, broker))
    pid = gateway.process.pid
    with producer.background(rate=3000):
        for turn in range(1, 5):
            time.sleep(0.5)
            change(gateway, topic_prefix=f"nemo/turn{turn}/")
            gateway.reload()
            reload_done(gateway, turn)
    wait_settled(redis.client(), seconds=60)
    Verifier(producer, broker).report().check(duplicates=0)
    assert event_topics(broker) == {"nemo/a"} | {f"nemo/turn{turn}" for turn in range(1, 5)}
    assert gateway.process.pid == pid and gateway.log_count("lease lost") == 0


def test_a_changed_file_is_enough(things, tmp_path):
    """The configuration, and a password that it names."""
    redis = things.redis(password="first")
    broker = things.recording_broker()
    (tmp_path / "word").write_text("first\n")
    gateway = things.gateway(config_for(redis, broker, redis_changes={"password_file":
                                                                      str(tmp_path / "word")}))
    change(gateway, topic_prefix="nemo/other/")
    reload_done(gateway, 1)
    redis.client().config_set("requirepass", "second")
    (tmp_path / "new").write_text("second\n")
    os.replace(tmp_path / "new", tmp_path / "word")
    reload_done(gateway, 2)


def test_a_link_swapped_as_kubernetes_does(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    config = config_for(redis, broker)
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        config["routes"][0]["topic_prefix"] = f"nemo/{version}/"
        (tmp_path / version / "nemogate.yaml").write_text(to_yaml(config))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "nemogate.yaml").symlink_to("..data/nemogate.yaml")
    gateway = things.gateway(config, start=False)
    gateway.config_path = str(tmp_path / "nemogate.yaml")
    gateway.start()
    (tmp_path / "..data_tmp").symlink_to("v2")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
    reload_done(gateway)
    producer = produce(redis, STREAM, keys=3, count=10)
    Verifier(producer, broker).wait(10 * PATIENCE).check(duplicates=0)
    assert event_topics(broker) == {"nemo/v2"}


@pytest.mark.parametrize("text, words", [
    ("routes: [{streams: x, brokr: y}]\n", "brokr: this key is not known"),
    ("}", "1:1"),
    (None, "cannot be read"),
])
def test_a_bad_file_keeps_what_is_in_use(things, text, words):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_for(redis, broker))
    path = pathlib.Path(gateway.config_path)
    good = path.read_text()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    gateway.reload()
    gateway.wait_log(REFUSED, 10 * PATIENCE)
    assert words in str(gateway.log_lines()), gateway.log_text()[-600:]
    producer = produce(redis, STREAM, keys=3, count=100)
    Verifier(producer, broker).wait(10 * PATIENCE).check(duplicates=0)
    assert gateway.log_count(RELOADED) == 0
    path.write_text(good.replace("topic", "topic") + "\n# mended\n")
    reload_done(gateway)


@pytest.mark.parametrize("what", ["slots", "connections", "certificate"])
def test_what_cannot_be_applied_is_refused(things, tmp_path, what):
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_for(redis, broker))
    if what == "slots":
        gateway.config["slots"] = 3
    elif what == "connections":
        gateway.config["brokers"][0]["connections"] = 2
    else:
        (tmp_path / "ca").write_text("no certificate\n")
        gateway.config["brokers"][0].update(url="mqtts://127.0.0.1:1", tls={"ca_file":
                                                                            str(tmp_path / "ca")})
    gateway.write_config(gateway.config)
    gateway.reload()
    gateway.wait_log(REFUSED, 10 * PATIENCE)
    time.sleep(0.5)
    assert gateway.log_count(RELOADED) == 0
    gateway.check_running()


def test_a_new_signing_key_without_one_unsigned_message(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.005
    producer = Producer(redis, STREAM, keys=20)
    gateway = things.gateway(config_for(redis, broker, route_changes=signed(tmp_path, "first")))
    with producer.background(rate=2000):
        time.sleep(0.7)
        signed(tmp_path, "second")
        reload_done(gateway)
        time.sleep(0.5)
    wait_settled(redis.client(), seconds=60)
    verifier, keys = Verifier(producer), []
    for message in broker.messages:
        if message.topic.startswith("nemo/"):
            try:
                verifier.add(opened(message, "first"))
                keys.append("first")
            except AssertionError:
                verifier.add(opened(message, "second"))
                keys.append("second")
    verifier.report().check(duplicates=0)
    assert set(keys) == {"first", "second"} and keys == sorted(keys)


def test_signals_between_the_former_program_and_the_next(things):
    """None ends the process at a moment when it has no handler, and none is lost."""
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_for(redis, broker))
    for _ in range(500):
        gateway.check_running()
        gateway.reload()
        time.sleep(0.004)
    assert gateway.log_count(RELOADED) > 10
    assert gateway.terminate(15 * PATIENCE) == 0


@pytest.mark.limit(150)
def test_other_instances_see_no_change(things):
    redis, broker = things.redis(), things.recording_broker()
    config = gateway_config(redis, broker, slots=4, delivery={"lease_ttl": "5s"})
    first = things.gateway({**config, "instance": "one"})
    second = things.gateway({**config, "instance": "two"})
    wait_until(lambda: second.log_count("instances", living="2") and
               first.log_count("instances", living="2"), 20 * PATIENCE)
    time.sleep(1)
    handed = first.log_count("slot handed over") + second.log_count("slot handed over")
    living = second.log_count("instances")
    producer = Producer(redis, [f"nemo:{{{site}}}:events" for site in "abcdef"], keys=5)
    with producer.background(rate=1000):
        first.reload()
        reload_done(first)
        time.sleep(1)
    Verifier(producer, broker).wait(30 * PATIENCE).check(duplicates=0)
    assert second.log_count("instances") == living
    assert first.log_count("slot handed over") + second.log_count("slot handed over") == handed


def test_the_end_overtakes_a_reload(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    gateway = things.gateway(config_for(redis, broker, delivery={"drain_timeout": "3s"}))
    produce(redis, STREAM, keys=3, count=10)
    wait_until(lambda: broker.owed_acks() >= 10, 10 * PATIENCE)
    gateway.reload()
    gateway.wait_log("draining", 10 * PATIENCE)
    assert gateway.terminate(15 * PATIENCE) == 0
    assert gateway.log_count(RELOADED) == 0


class Poll(threading.Thread):
    """Asks for a path again and again, each time on a connection of its own."""

    def __init__(self, gateway, path="/readyz", context=None):
        super().__init__(daemon=True)
        self.address = gateway.config["admin"]["listen"].split(":")
        self.context = context
        self.path, self.answers, self.stop = path, [], False
        self.start()

    def _connection(self):
        if self.context is None:
            return http.client.HTTPConnection(*self.address, timeout=10)
        return http.client.HTTPSConnection(*self.address, timeout=10, context=self.context)

    def run(self):
        while not self.stop:
            connection = self._connection()
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                self.answers.append((answer.status, answer.read().decode()))
            except (OSError, http.client.HTTPException) as failure:
                self.answers.append((0, repr(failure)))
            connection.close()
            time.sleep(0.003)

    def end(self):
        self.stop = True
        self.join()
        return self.answers


@pytest.mark.limit(200)
@pytest.mark.parametrize("protocol", ["http", "https"])
def test_readyz_stays_and_the_port_is_never_closed(things, protocol):
    redis, broker = things.redis(), things.recording_broker()
    broker.ack_delay = 0.02
    admin, context = {"listen": f"127.0.0.1:{free_port()}"}, None
    if protocol == "https":
        admin["tls"] = {"cert_file": f"{things.certs}/server.crt", "key_file": f"{things.certs}/server.key"}
        context = ssl.create_default_context(cafile=f"{things.certs}/ca.crt")
    gateway = things.gateway(config_for(redis, broker, admin=admin))
    polls = [Poll(gateway, path, context) for path in ("/readyz", "/readyz", "/livez")]
    producer = Producer(redis, [STREAM, "nemo:{b}:events"], keys=20)
    with producer.background(rate=500):
        for turn in range(1, 6):
            time.sleep(0.3)
            gateway.reload()
            reload_done(gateway, turn)
    for poll in polls:
        answers = poll.end()
        assert len(answers) > 30 and set(answers) == {(200, "ok\n")}, set(answers)
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)


def test_a_stop_is_told(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    gateway = things.gateway(config_for(redis, broker, admin={"listen": f"127.0.0.1:{free_port()}"}))
    produce(redis, STREAM, keys=3, count=10)
    wait_until(lambda: broker.owed_acks() >= 10, 10 * PATIENCE)
    assert gateway.admin("/readyz")[0] == 200
    gateway.reload()
    gateway.wait_log("draining", 10 * PATIENCE)
    assert gateway.admin("/readyz")[0] == 200 and gateway.admin("/livez") == (200, "ok\n")
    gateway.signal(signal.SIGTERM)  # the end overtakes it
    wait_until(lambda: gateway.admin("/readyz")[0] == 503, 5 * PATIENCE, "a stop is told")
    assert gateway.admin("/readyz")[1].startswith("draining") and gateway.admin("/livez") == (200, "ok\n")
    broker.release_acks()


def test_a_reload_to_what_does_not_work_is_told_in_time(things):
    """/readyz stays for a moment, not for ever."""
    redis, broker = things.redis(), things.recording_broker()
    gateway = things.gateway(config_for(redis, broker, admin={"listen": f"127.0.0.1:{free_port()}"}))
    produce(redis, STREAM, keys=3, count=10)
    wait_until(lambda: len(event_payloads(broker)) >= 10, 10 * PATIENCE)
    wait_until(lambda: gateway.admin("/readyz")[0] == 200, 10 * PATIENCE)
    gateway.config["brokers"][0]["url"] = f"mqtt://127.0.0.1:{free_port()}"
    gateway.write_config(gateway.config)
    gateway.reload()
    wait_until(lambda: gateway.log_count(RELOADED) == 1, 30 * PATIENCE, "reloaded")
    assert gateway.admin("/readyz")[0] == 200
    wait_until(lambda: gateway.admin("/readyz")[0] == 503, 30 * PATIENCE, "it is told")


def test_a_reload_moves_the_admin_server(things):
    redis, broker = things.redis(), things.recording_broker()
    first, second = (f"127.0.0.1:{free_port()}" for _ in range(2))
    gateway = things.gateway(config_for(redis, broker, admin={"listen": first}))
    for turn, listen in enumerate((second, "", first), 1):
        gateway.config["admin"]["listen"] = listen
        gateway.write_config(gateway.config)
        gateway.reload()
        reload_done(gateway, turn)
        for address in (first, second):
            taken = socket.socket().connect_ex(("127.0.0.1", int(address.split(":")[1]))) == 0
            assert taken == (address == listen), (turn, address)
    assert gateway.admin("/readyz")[0] == 200


def test_a_socket_of_somebody_else_is_not_taken(things):
    """The variable that names it is in the environment, where anybody may put one."""
    redis, broker = things.redis(), things.recording_broker()
    with socket.create_server(("127.0.0.1", 0)) as other:
        os.set_inheritable(other.fileno(), True)
        for left in (f"{other.fileno()} ready", "0 ready", "9999 ready", "-1 ready", "x", ""):
            config = config_for(redis, broker, admin={"listen": f"127.0.0.1:{free_port()}"})
            gateway = things.gateway(config, env={"NEMOGATE_ADMIN_SOCKET": left})
            assert gateway.admin("/readyz")[0] == 200
            assert gateway.terminate() == 0


def test_a_file_that_turns_bad_while_the_process_drains(things):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    gateway = things.gateway(config_for(redis, broker))
    path = pathlib.Path(gateway.config_path)
    producer = produce(redis, STREAM, keys=3, count=10)
    wait_until(lambda: len(event_payloads(broker)) >= 10, 10 * PATIENCE)
    good = path.read_text()
    gateway.reload()
    gateway.wait_log("draining", 10 * PATIENCE)
    path.write_text("}")
    broker.release_acks()
    gateway.wait_log("the configuration is not reloaded, for its file has become faulty meanwhile: "
                     "the present one stays in use", 15 * PATIENCE)
    producer.send(20)
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    assert gateway.log_count(RELOADED) == 0
    path.write_text(good + "\n# mended\n")
    wait_until(lambda: gateway.log_count(RELOADED) == 1, 30 * PATIENCE, "reloaded")


@pytest.mark.parametrize("end", [True, False])
def test_a_file_that_turns_bad_between_the_former_program_and_the_next(things, end):
    """The next program sees by its environment that it is one."""
    redis, broker = things.redis(), things.recording_broker()
    config = config_for(redis, broker)
    gateway = things.gateway(config, start=False, env={"NEMOGATE_HOLDER": "gateway-1/0123456789abcdef"})
    gateway.write_config("}")
    gateway.launch()
    gateway.wait_log("nothing is carried until it is sound again", 15 * PATIENCE)
    if end:
        assert gateway.terminate(15 * PATIENCE) == 0
        return
    gateway.reload()
    time.sleep(2)
    gateway.check_running()
    gateway.write_config(config)
    wait_until(lambda: gateway.log_count(RELOADED) == 2, 30 * PATIENCE, "the signal has waited")
    producer = produce(redis, STREAM, keys=3, count=10)
    Verifier(producer, broker).wait(10 * PATIENCE).check(duplicates=0)


@pytest.mark.parametrize("what", ["slots", "authority"])
def test_what_cannot_be_applied_is_seen_while_the_process_drains(things, tmp_path, what):
    redis, broker = things.redis(), things.recording_broker()
    broker.hold_acks()
    gateway = things.gateway(config_for(redis, broker, admin={"listen": f"127.0.0.1:{free_port()}"}))
    producer = produce(redis, STREAM, keys=3, count=10)
    wait_until(lambda: len(event_payloads(broker)) >= 10, 10 * PATIENCE)
    good, pid = gateway.config, gateway.pid
    gateway.reload()
    gateway.wait_log("draining", 10 * PATIENCE)
    (tmp_path / "ca").write_text("no certificate\n")
    gateway.write_config({**good, "slots": 5} if what == "slots" else
                         {**good, "brokers": [*good["brokers"], {"name": "other", "url": "mqtts://127.0.0.1:1",
                                                                 "tls": {"ca_file": str(tmp_path / "ca")}}]})
    broker.release_acks()
    gateway.wait_log("become faulty meanwhile", 15 * PATIENCE)
    producer.send(20)
    Verifier(producer, broker).wait(20 * PATIENCE).check(duplicates=0)
    assert gateway.pid == pid and gateway.log_count(RELOADED) == 0
    assert gateway.metrics()["nemogate_reload_failed"] == 1
    assert "reload-failed" in gateway.admin("/api/v1/status")[1]
    gateway.write_config(good)
    wait_until(lambda: gateway.log_count(RELOADED) == 1, 30 * PATIENCE, "reloaded")
    wait_until(lambda: gateway.metrics()["nemogate_reload_failed"] == 0, 20 * PATIENCE)


def values_of_page(broker):
    return (f"printf 'broker_host=127.0.0.1\\nbroker_port={broker.port}\\nkeepalive=30\\nusername=\\n"
            "password=\\nuse_hmac=0\\nhmac_secret_key=\\n'")


@pytest.mark.parametrize("how", ["file", "signal"])
def test_what_comes_while_the_process_begins_is_not_missed(things, tmp_path, how):
    """The file was read before legacy_config_command is run, and is watched after it; a signal that
    nobody handles yet would end the process."""
    redis, broker = things.redis(), things.recording_broker()
    command = f"touch {tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; {values_of_page(broker)}"
    gateway = things.gateway(config_for(redis, broker, legacy_config_command=command,
                                        legacy_lists=[{"list": "events", "stream": STREAM}]), start=False)
    gateway.launch()
    wait_until(lambda: (tmp_path / "runs").exists(), 10 * PATIENCE)
    change(gateway, topic_prefix="nemo/other/")
    if how == "signal":
        gateway.reload()
    (tmp_path / "go").touch()
    wait_until(lambda: gateway.log_count(RELOADED) == 1, 30 * PATIENCE, "reloaded")
    producer = produce(redis, STREAM, keys=3, count=10)
    Verifier(producer, broker).wait(10 * PATIENCE).check(duplicates=0)
    assert event_topics(broker) == {"nemo/other"}


def test_the_command_gets_nothing_that_is_for_the_next_program(things, tmp_path):
    redis, broker = things.redis(), things.recording_broker()
    command = (f"env >>{tmp_path}/environment; ls -l /proc/self/fd >>{tmp_path}/files; {values_of_page(broker)}")
    gateway = things.gateway(config_for(redis, broker, legacy_config_command=command,
                                        admin={"listen": f"127.0.0.1:{free_port()}"},
                                        legacy_lists=[{"list": "events", "stream": STREAM}]))
    gateway.reload()
    reload_done(gateway)
    environment, files = (tmp_path / "environment").read_text(), (tmp_path / "files").read_text()
    assert environment.count("\nPATH=") + environment.startswith("PATH=") == 2
    assert "NEMOGATE_HOLDER" not in environment and "NEMOGATE_ADMIN_SOCKET" not in environment
    assert "socket:" not in files and files.count("/dev/null") >= 2


def event_payloads(broker):
    return [m.payload for m in broker.messages if "/tools/" in m.topic]
