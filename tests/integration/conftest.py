"""Fixtures of the integration tests.

things    makes servers, brokers and gateways, started and ready, in the test's folder, and ends
          them all after the test, also after a failure; then the paths of their logs are shown.
          things.redis(...), .mosquitto(...), .recording_broker(...), .subscriber(port, ...),
          .gateway(config, ...) take the arguments of their classes (start=False: not started);
          things.certs is a folder of certificates (tests/tools/make_certs.sh), things.tmp the folder.

Every test is ended after 120 s; @pytest.mark.limit(300) gives it more.
"""

import os
import signal
import subprocess

import pytest

from harness import Gateway, LineSubscriber, Mosquitto, RecordingBroker, RedisServer, Subscriber

MAKE_CERTS = os.path.join(os.path.dirname(__file__), "..", "tools", "make_certs.sh")


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long the test may take, 120 by default")


class Things:
    def __init__(self, tmp, certs):
        self.tmp = tmp
        self.made = []
        self._certs = certs

    @property
    def certs(self):
        return self._certs()

    def _keep(self, thing, start):
        self.made.append(thing)
        return thing.start() if start else thing

    def redis(self, start=True, **options):
        return self._keep(RedisServer(self.tmp, **options), start)

    def mosquitto(self, start=True, **options):
        return self._keep(Mosquitto(self.tmp, **options), start)

    def recording_broker(self, start=True, **options):
        return self._keep(RecordingBroker(**options), start)

    def subscriber(self, port, start=True, **options):
        return self._keep(Subscriber(self.tmp, port, **options), start)

    def line_subscriber(self, port, start=True, **options):
        return self._keep(LineSubscriber(self.tmp, port, **options), start)

    def gateway(self, config, start=True, **options):
        return self._keep(Gateway(self.tmp, config, **options), start)

    def log_paths(self):
        return [thing.log_path for thing in self.made if hasattr(thing, "log_path")]

    def close(self):
        failures = []
        for thing in reversed(self.made):
            try:
                thing.close()
            except Exception as failure:  # the others are ended all the same
                failures.append(failure)
        if failures:
            raise failures[0]


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """Makes the certificates once, when the first test asks for them."""
    folder = []

    def get():
        if not folder:
            folder.append(str(tmp_path_factory.mktemp("certs")))
            subprocess.run(["sh", MAKE_CERTS, folder[0]], check=True, capture_output=True)
        return folder[0]
    return get


@pytest.fixture
def things(tmp_path, certs):
    made = Things(tmp_path, certs)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _limit(request):
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else 120

    def too_long(_number, _frame):
        raise TimeoutError(f"the test took longer than {seconds} s")
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    things = item.funcargs.get("things") if hasattr(item, "funcargs") else None
    if report.failed and things is not None and things.log_paths():
        report.sections.append(("logs of this test", "\n".join(things.log_paths())))
