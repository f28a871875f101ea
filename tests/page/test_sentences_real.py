"""The sentence at the top of the page, on a real gateway, in each trouble of a lab: what it says, what
the interface and `nemogate status` say with it, and that all is well again once it is mended."""

import json
import os
import subprocess
import threading

import redis as redis_py
from real_lab import STREAM, make_certificates, needs_gateway

pytestmark = needs_gateway
PATIENCE = 60


def status(lab):
    code, text = lab.gateway.admin("/api/v1/status")
    assert code == 200, text
    return json.loads(text)


def is_well(page, lab):
    page.wait_text("hero-text", "The site is connected; the last event arrived ", patience=PATIENCE)
    assert page.find("#hero .light.ok")
    said = status(lab)
    assert (said["overall"], said["reasons"], said["ready"]) == ("ok", [], True)
    done = lab.gateway.command("status")
    assert done.returncode == 0 and "all is well" in done.stdout, done


def begin(page, lab):
    page.open(lab)
    lab.event("enabled", 0, "René Müller")
    is_well(page, lab)


def says(page, lab, code, english, german, level="error", ready=False):
    """The page in both languages, the interface, and the command; returns the reason."""
    page.wait_text("hero-text", english, patience=PATIENCE)
    assert page.find(f"#hero .light.{level}")
    assert page.text("hero-advice") != ""
    page.click_text("#controls", "Deutsch")
    page.wait_text("hero-text", german, patience=PATIENCE)
    page.click_text("#controls", "English")
    said = status(lab)
    reason = said["reasons"][0]
    assert (reason["code"], reason["level"]) == (code, level), said["reasons"]
    assert (said["overall"], said["ready"]) == (level, ready)
    done = lab.gateway.command("status")
    assert code in done.stdout and done.returncode == (0 if ready else 1), done
    return reason


def test_redis_down(page, labs):
    lab = labs(redis={"appendonly": True})
    begin(page, lab)
    lab.redis.kill()
    reason = says(page, lab, "redis-down", "Redis has been unreachable for ",
                  "Redis ist seit ")
    assert reason["text"] != ""
    lab.redis.start()
    lab.event("disabled", 0, "René Müller")
    is_well(page, lab)


def test_broker_down(page, labs):
    lab = labs()
    begin(page, lab)
    lab.broker.kill()
    lab.event("disabled", 0, "René Müller")
    lab.event("enabled", 1, "Ada Osei")
    page.wait_text("hero-text", "2 events wait in Redis, none is lost", patience=PATIENCE)
    says(page, lab, "broker-down", "Broker main has been unreachable for ",
         "2 Ereignisse warten in Redis, keines ist verloren")
    lab.broker.start()
    is_well(page, lab)


def test_credentials_refused(page, labs, tmp_path):
    password = tmp_path / "password"
    password.write_text("first\n", encoding="ascii")
    password.chmod(0o600)
    lab = labs(broker={"password": {"gate": "first"}},
               broker_changes={"username": "gate", "password_file": str(password)})
    begin(page, lab)
    subprocess.run(["mosquitto_passwd", "-b", os.path.join(lab.broker.folder, "passwords"), "gate",
                    "second"], check=True, capture_output=True)
    lab.broker.kill()
    lab.broker.start()
    lab.event("disabled", 0, "René Müller")
    says(page, lab, "broker-refused",
         "Broker main refuses nemogate's user name or password; one event waits in Redis and is not "
         "lost", "Broker main lehnt Benutzername oder Passwort von nemogate ab; ein Ereignis wartet in "
         "Redis und ist nicht verloren")
    page.expected += ["ERR_"]  # the gateway begins anew with the new password
    password.write_text("second\n", encoding="ascii")
    is_well(page, lab)


def renew(broker, certificate):
    """The broker gets another certificate, and takes it at its next start."""
    with open(broker.config_path, encoding="ascii") as file:
        text = file.read()
    for kind in ("crt", "key"):
        for former in ("soon", "expired"):
            text = text.replace(f"/{former}.{kind}", f"/{certificate}.{kind}")
    with open(broker.config_path, "w", encoding="ascii") as file:
        file.write(text)


def test_certificate_ends_in_5_days(page, labs, tmp_path):
    certs = make_certificates(tmp_path / "certs")
    lab = labs(broker={"tls": certs, "certificate": "soon"})
    page.open(lab)
    lab.event("enabled", 0, "René Müller")
    reason = says(page, lab, "certificate-expires", "The certificate of broker main expires in 5 days",
                  "Das Zertifikat des Brokers main läuft in 5 Tagen ab", "warning", ready=True)
    assert reason["certificate"] == "broker" and reason["broker"] == "main"
    assert "the certificate that the broker shows ends 20" in reason["text"]
    page.wait_text("picture", "certificate ends")
    renew(lab.broker, "server")
    lab.broker.kill()
    lab.broker.start()
    is_well(page, lab)


def test_certificate_has_ended(page, labs, tmp_path):
    certs = make_certificates(tmp_path / "certs")
    lab = labs(broker={"tls": certs, "certificate": "soon"})
    page.open(lab)
    lab.event("enabled", 0, "René Müller")
    page.wait_text("hero-text", "expires in 5 days", patience=PATIENCE)
    renew(lab.broker, "expired")
    lab.broker.kill()
    lab.broker.start()
    lab.event("disabled", 0, "René Müller")
    says(page, lab, "certificate-expires", "The certificate of broker main expired ",
         "Das Zertifikat des Brokers main ist vor ")
    page.wait_text("hero-reasons", "Broker main has been unreachable for ")
    page.wait_text("hero-reasons", "one event waits in Redis and is not lost")
    renew(lab.broker, "server")
    lab.broker.kill()
    lab.broker.start()
    is_well(page, lab)


def test_slot_without_owner(page, labs):
    """Another instance lives, and may not take the leases of the slots that are its own."""
    from harness import Gateway

    lab = labs(slots=16)  # of which the hash gives some to either
    begin(page, lab)
    lab.client.execute_command("ACL", "SETUSER", "half", "on", ">secret", "allkeys", "+@all")
    config = dict(lab.gateway.config, instance="gateway-2", admin={"listen": ""})
    password = os.path.join(lab.tmp, "redis-password")
    with open(password, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write("secret\n")
    config["redis"] = dict(config["redis"], username="half", password_file=password)
    other = Gateway(lab.tmp, config)
    lab.made.append(other)
    keys = [f"~nemogate:{{nemogate}}:{key}" for key in ("id", "slots", "instances")]
    lab.client.execute_command("ACL", "SETUSER", "half", "resetkeys", *keys, "~nemo:*")
    other.launch()
    lab.gateway.wait_log("instances", living=2, timeout=30)
    reason = says(page, lab, "slot-without-owner", " of the work has had no gateway for ",
                  " der Arbeit hat seit ", ready=True)
    assert page.text("hero-text").startswith(f"Part {reason['slot']} ")
    other.terminate()
    is_well(page, lab)


def test_dead_letters(page, labs):
    lab = labs()
    begin(page, lab)
    lab.client.xadd(STREAM, {"payload": "it says not where to"})
    says(page, lab, "dead-letters",
         "One event of site lab could not be delivered; it is kept as a dead letter",
         "Ein Ereignis des Standorts lab ließ sich nicht zustellen", "warning", ready=True)
    done = lab.gateway.command("dead-letters", "drop", "--all")
    assert done.returncode == 0, done
    is_well(page, lab)


def test_python_bridge_takes_the_list(page, labs):
    lab = labs(legacy_lists=[{"list": "nemo_mqtt_events", "db": 1, "stream": STREAM}])
    begin(page, lab)
    stop = threading.Event()
    bridge = redis_py.Redis(port=lab.redis.port, db=1)

    def take():
        while not stop.is_set():
            bridge.blpop(["nemo_mqtt_events"], timeout=1)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        reason = says(page, lab, "legacy-bridge-eats",
                      "The old Python bridge of site lab is still running and takes events away from "
                      "nemogate", "Die alte Python-Brücke des Standorts lab läuft noch und nimmt "
                      "nemogate Ereignisse weg", ready=True)
        assert reason["site"] == "lab" and "nemo_mqtt_events in db 1" in reason["text"]
        assert lab.gateway.metric("nemogate_legacy_rivals") == 1
    finally:
        stop.set()
        thread.join(5)
        bridge.connection_pool.disconnect()
    is_well(page, lab)
    assert lab.gateway.metric("nemogate_legacy_rivals") == 0


def test_a_sole_event_that_the_broker_refuses_for_now(page, labs):
    rules = "topic write nemogate/#\n"
    lab = labs(broker={"acl": rules + "topic write nemo/lab/tools/0/#"})
    begin(page, lab)
    lab.event("enabled", 1, "Ada Osei")
    reason = says(page, lab, "entries-refused",
                  "Broker main refuses events of site lab; those of one tool or area wait, and none is "
                  "lost", "Broker main lehnt Ereignisse des Standorts lab ab; die von einem Gerät oder "
                  "Bereich warten, keines ist verloren", "warning", ready=True)
    assert reason["text"] == "the broker's last answer to them: Not authorized"
    assert lab.gateway.metric("nemogate_refused_keys") == 1
    page.wait_text("picture", "refuses events")
    with open(os.path.join(lab.broker.folder, "acl"), "w", encoding="ascii") as file:
        file.write("topic write #\n")
    lab.broker.kill()
    lab.broker.start()
    page.wait_feed("Ada Osei enabled Sputter 2")
    is_well(page, lab)
    assert lab.client.exists("nemo:{lab}:dead") == 0
