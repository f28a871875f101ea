"""A real NEMO under gunicorn, with a plugin, in the test's folder; and two ways to act in it.

    site = NemoSite(tmp_path, redis.url, site="lab").start()
    ids = site.populate(["E-Beam", "Sputter"])
    site.browser("captain").enable(tool, user, project)       # HTTP, as a person's browser
    site.shell("result = disable(7)")                         # an admin's shell beside it
    site.manage("nemo_streams_snapshot")

The Python of $NEMOGATE_NEMO_VENV runs it (run.sh makes that environment).
"""

import http.cookiejar
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from harness import free_port
from harness.process import Process

HERE = os.path.dirname(os.path.abspath(__file__))
STREAMS = "NEMO_streams"
BRIDGE = "NEMO_mqtt_bridge"

_empty = {}  # plugins -> a database without rows


def venv(*parts):
    return os.path.join(os.environ["NEMOGATE_NEMO_VENV"], *parts)


class Browser:
    """A logged-in person."""

    def __init__(self, site, user):
        self.site = site
        self.user = user
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies))
        self.seconds = 0.0  # that the last request took

    def request(self, path, data=None, timeout=100):
        headers = {"X-Test-User": self.user}
        if data is not None:
            headers["X-CSRFToken"] = self.token()
            data = urllib.parse.urlencode(data).encode()
        request = urllib.request.Request(self.site.url + path, data, headers)
        begun = time.monotonic()
        try:
            with self.opener.open(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        finally:
            self.seconds = time.monotonic() - begun

    def token(self):
        for _ in range(2):
            for cookie in self.cookies:
                if cookie.name == "csrftoken":
                    return cookie.value
            self.request("/tool_control/")
        raise RuntimeError("NEMO gave no CSRF cookie")

    def get(self, path, **options):
        status, text = self.request(path, **options)
        assert status == 200, f"GET {path}: {status}\n{text[:2000]}"
        return text

    def post(self, path, data, **options):
        self.token()
        status, text = self.request(path, data, **options)
        assert status == 200, f"POST {path}: {status}\n{text[:2000]}"
        return text

    def enable(self, tool, user, project):
        return self.post(f"/enable_tool/{tool}/user/{user}/project/{project}/staff_charge/false/", {})

    def disable(self, tool, downtime=0):
        return self.post(f"/disable_tool/{tool}/", {"downtime": downtime} if downtime else {})

    def tool_status(self):
        """What NEMO itself says about its tools: {id: {...}}."""
        self.token()
        return {row["id"]: row for row in json.loads(self.get("/api/tool_status/"))}


class Shell:
    def __init__(self, site):
        self.log = open(os.path.join(site.folder, "shell.log"), "ab")
        self.process = subprocess.Popen(
            [venv("bin", "python"), "-B", os.path.join(HERE, "site", "shell.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=site.env,
            cwd=site.folder, text=True)

    def __call__(self, code):
        self.process.stdin.write(json.dumps({"code": code}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"NEMO's shell has ended: {self.log.name}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


class NemoSite(Process):
    name = "nemo"

    def __init__(self, tmp, redis_url="redis://127.0.0.1:6379/0", site="lab", plugins=(STREAMS,),
                 env=None):
        super().__init__(tmp, env)
        self.port = free_port()
        self.plugins = tuple(plugins)
        path = [os.path.join(HERE, "site")]
        if BRIDGE in plugins:
            path.append(venv("old-plugin"))
        for name in ("PYTHONHOME", "PYTHONSTARTUP"):
            self.env.pop(name, None)
        self.env.update(PYTHONPATH=os.pathsep.join(path), PYTHONDONTWRITEBYTECODE="1",
                        DJANGO_SETTINGS_MODULE="settings", NEMO_TEST_FOLDER=self.folder,
                        NEMO_TEST_PLUGINS=",".join(plugins), NEMO_TEST_SITE=site,
                        NEMO_TEST_REDIS=redis_url)
        self._shell = None
        self.make_database()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def argv(self):
        return [venv("bin", "gunicorn"), "-c", os.path.join(HERE, "site", "gunicorn_config.py"),
                "--bind", f"127.0.0.1:{self.port}", "--chdir", self.folder, "wsgi:application"]

    def wait_ready(self, timeout=40.0):
        self.wait_listening(self.port, timeout)

    def start(self, timeout=40.0):
        return super().start(timeout)

    def make_database(self):
        if self.plugins not in _empty:
            _empty[self.plugins] = tempfile.mkdtemp(prefix="nemo-empty-") + "/nemo.db"
            self.manage("migrate", "--run-syncdb", "-v", "0")
            shutil.move(os.path.join(self.folder, "nemo.db"), _empty[self.plugins])
        shutil.copy(_empty[self.plugins], os.path.join(self.folder, "nemo.db"))

    def manage(self, *arguments, check=True, timeout=120):
        """manage.py ARGUMENTS in NEMO's environment; a CompletedProcess with texts."""
        done = subprocess.run([venv("bin", "python"), "-B", "-m", "django", *arguments], env=self.env,
                              cwd=self.folder, text=True, capture_output=True, timeout=timeout)
        assert not check or done.returncode == 0, \
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def shell(self, code):
        if self._shell is None:
            self._shell = Shell(self)
        return self._shell(code)

    def populate(self, tools):
        return self.shell(f"result = populate({tools!r})")

    def customize(self, **values):
        """NEMO's Customization table, as a saved settings page leaves it."""
        for name, value in values.items():
            self.shell(f"models.Customization.objects.update_or_create(name={name!r}, "
                       f"defaults={{'value': {value!r}}})")

    def browser(self, user="captain"):
        return Browser(self, user)

    def close(self):
        if self._shell is not None:
            self._shell.close()
            self._shell = None
        super().close()


def forget_databases():
    for path in _empty.values():
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)
    _empty.clear()
