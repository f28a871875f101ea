"""Fixtures of the tests on a real NEMO; the servers come from the harness of tests/integration.

lab      makes what a scenario needs, started and ready (lab.py); all ends with the test
seen     seen("300 of 300, 12 twice"): what the table of run.sh shows for this test
waits    waits(600, 95): the seconds that the scenario names with --full, else the second number; the
         table says that the test was shortened

A test belongs to a scenario: @pytest.mark.scenario(3, "broker stalls, dies, returns"). Results go to
the file $NEMOGATE_NEMO_RESULTS, a line of JSON each; table.py prints them.
"""

import importlib.util
import json
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
INTEGRATION = os.path.join(os.path.dirname(HERE), "integration")
sys.path[:0] = [HERE, INTEGRATION]

_spec = importlib.util.spec_from_file_location("integration_conftest",
                                               os.path.join(INTEGRATION, "conftest.py"))
_integration = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_integration)
certs, things, _limit = _integration.certs, _integration.things, _integration._limit

import nemo_site  # noqa: E402
from lab import Lab  # noqa: E402


def pytest_configure(config):
    _integration.pytest_configure(config)
    config.addinivalue_line("markers", "scenario(number, title): row of the table")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true",
                     help="outages and waits as long as the scenarios name them: an hour")


@pytest.fixture
def seen(request):
    texts = []
    request.node.seen = texts
    return texts.append


@pytest.fixture
def waits(request):
    full = request.config.getoption("--full")

    def choose(named, shortened):
        request.node.shortened = not full
        return named if full else shortened
    return choose


@pytest.fixture
def lab(things):
    def make(**options):
        return Lab(things, **options)
    return make


@pytest.fixture(scope="session", autouse=True)
def _databases():
    yield
    nemo_site.forget_databases()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    made = item.funcargs.get("things") if hasattr(item, "funcargs") else None
    if report.failed and made is not None:
        report.sections.append(("logs of this test", "\n".join(made.log_paths())))
    marker = item.get_closest_marker("scenario")
    if marker is None or (report.when != "call" and report.passed):
        return
    result = "skipped" if report.skipped else report.outcome
    text = "; ".join(getattr(item, "seen", []))
    if report.skipped:
        text = str(call.excinfo.value).removeprefix("Skipped: ")
    elif report.failed:
        text = "; ".join(filter(None, [text, first_line(call)]))
    row = {"scenario": marker.args[0], "title": marker.args[1], "result": result, "seen": text,
           "test": item.nodeid, "seconds": round(call.duration, 1),
           "shortened": getattr(item, "shortened", False)}
    path = os.environ.get("NEMOGATE_NEMO_RESULTS")
    if path:
        with open(path, "a") as results:
            results.write(json.dumps(row) + "\n")


def first_line(call):
    text = str(call.excinfo.value).strip()
    return f"{call.excinfo.typename}: {text.splitlines()[0] if text else ''}"
