"""The way to Redis. Whatever Redis, its network or the name service does, a caller waits no longer
than it says: the work is done by a thread of the writer, and a caller that has waited enough goes
on without it. A request of NEMO has one patience for all that it saves. After a failure nobody
tries for REST seconds; then one does. A writer belongs to one process: after a fork (gunicorn with
preload_app) the child makes its own at its first use."""

import logging
import os
import queue
import threading
import time
from contextvars import ContextVar

import redis
from django.core.signals import request_finished, request_started
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

PATIENCE = 0.25  # seconds that a request of NEMO may wait for Redis, in total
LEAST = 0.1      # seconds of it that must be left to begin with one more change
REST = 5.0       # seconds without a try after a failure


class Unavailable(Exception):
    """Redis could not be asked. Its text never holds a secret or a user's name."""


class Budget:
    """What is left of a patience that several calls share."""

    def __init__(self, seconds):
        self.left = seconds
        self.told = False

    def spend(self, seconds):
        self.left -= seconds

    def check(self):
        """Raises Unavailable when it is too late to begin with one more change: a wait that is too
        short would look like a failure of Redis."""
        if self.left >= LEAST:
            return
        if not self.told:
            self.told = True
            logger.warning("a request has waited for Redis as long as it may; what else it changes "
                           "is published by nemo_streams_tick")
        raise Unavailable("the request has waited for Redis as long as it may")


_request = ContextVar("nemo_streams_request", default=None)


def request_begins(**_):
    _request.set(Budget(PATIENCE))


def request_ends(**_):
    _request.set(None)


def follow_requests():
    request_started.connect(request_begins, dispatch_uid="nemo_streams.request_begins")
    request_finished.connect(request_ends, dispatch_uid="nemo_streams.request_ends")


def budget(seconds=None):
    """Of so many seconds; without a number that of the present request, or outside of requests a
    request's for each change."""
    if seconds is not None:
        return Budget(seconds)
    return _request.get() or Budget(PATIENCE)


def connect(config, timeout):
    ssl = {}
    if config.tls:
        ssl = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True,
               "ssl_ca_certs": config.ca_file or None, "ssl_certfile": config.cert_file or None,
               "ssl_keyfile": config.key_file or None}
    place = {"unix_socket_path": config.unix_path} if config.unix_path else \
        {"host": config.host, "port": config.port}
    return redis.Redis(**place, **ssl, db=config.db, username=config.username or None,
                       password=config.secret() or None, socket_timeout=timeout,
                       socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0),
                       max_connections=2)


def describe(error):
    text = str(error).split("\n", 1)[0][:200].rstrip(" .")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Job:
    def __init__(self, work):
        self.work = work
        self.done = threading.Event()
        self.result = None
        self.error = None

    def end(self, result=None, error=None):
        self.result, self.error = result, error
        self.done.set()


class Link:
    """A thread with one connection. It does one job after the other until it is abandoned."""

    def __init__(self, config, timeout):
        self.config = config
        self.timeout = timeout
        self.jobs = queue.SimpleQueue()
        self.client = None
        self.abandoned = False
        self.thread = threading.Thread(target=self.run, name="nemo-streams", daemon=True)
        self.thread.start()

    def run(self):
        while True:
            job = self.jobs.get()
            if job is None or self.abandoned:
                break
            try:
                job.end(self.do(job.work))
            except Exception as error:  # whatever it is, it goes to the caller
                job.end(error=error)
        if job is not None:
            job.end(error=Unavailable("the connection was given up"))
        self.close()

    def do(self, work):
        if self.client is None:
            self.client = connect(self.config, self.timeout)
            return work(self.client)
        try:
            return work(self.client)
        except redis.TimeoutError:
            raise
        except redis.ConnectionError:
            # Redis has closed an idle connection, or was restarted: once more, on a new one.
            return work(self.client)

    def close(self):
        """Wakes the thread if it reads. It may close at the same moment, which redis-py's
        connections are not made for: one of the two then fails, and the socket is closed."""
        try:
            if self.client is not None:
                self.client.connection_pool.disconnect()
        except Exception as error:
            logger.debug("closing: %s", describe(error))

    def abandon(self):
        """The thread ends as soon as what it is in lets go of it; nobody waits for that."""
        self.abandoned = True
        while True:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                break
            job.end(error=Unavailable("the connection was given up"))
        self.jobs.put(None)
        self.close()


class Writer:
    def __init__(self, config, timeout=None, rest=REST, clock=time.monotonic):
        self.config = config
        self.timeout = timeout or PATIENCE
        self.rest = rest
        self.clock = clock
        self.lost = 0  # changes that nobody could write since Redis was last well
        self.lock = threading.Lock()
        self.link = None
        self.left_behind = None  # an abandoned link whose thread may still hang
        self.closed_until = None  # None: Redis is well
        self.probing = False

    def ready(self):
        """False while it would be useless to prepare anything."""
        with self.lock:
            return self.closed_until is None or \
                (not self.probing and self.clock() >= self.closed_until)

    def lose(self, count):
        with self.lock:
            if self.closed_until is not None:
                self.lost += count

    def call(self, work, budget):
        """work(client), in the writer's thread. Raises Unavailable when it fails, or as soon as
        the budget is spent."""
        begun = self.clock()
        job = Job(work)
        link = self.admit()
        try:
            link.jobs.put(job)
            if link.abandoned:  # between admit and put: nobody may serve it any more
                job.end(error=Unavailable("the connection was given up"))
            answered = job.done.wait(max(0.0, budget.left))
        except BaseException:  # the caller is interrupted, and may have been the only one to try
            self.fail(link, "a caller was interrupted")
            raise
        budget.spend(self.clock() - begun)
        if not answered:
            raise self.fail(link, "no answer in time")
        if job.error is not None:
            raise self.fail(link, describe(job.error)) from None
        self.succeed(link)
        return job.result

    def admit(self):
        with self.lock:
            if self.closed_until is not None:
                if self.probing or self.clock() < self.closed_until:
                    raise Unavailable("Redis failed a moment ago")
                if self.left_behind is not None and self.left_behind.thread.is_alive():
                    self.closed_until = self.clock() + self.rest
                    raise Unavailable("the last try still hangs")
            if self.link is None:
                self.link = Link(self.config, self.timeout)
            self.probing = self.closed_until is not None
            return self.link

    def fail(self, link, reason):
        with self.lock:
            first = self.link is link and self.closed_until is None
            if self.link is link:
                self.link, self.left_behind, self.probing = None, link, False
                self.closed_until = self.clock() + self.rest
                link.abandon()
        if first:
            logger.error("Redis at %s: %s. What happens now is published later, by "
                         "nemo_streams_tick", self.config.address, reason)
        return Unavailable(reason)

    def succeed(self, link):
        with self.lock:
            if self.link is not link or self.closed_until is None:
                return
            self.closed_until, self.probing, self.left_behind = None, False, None
            lost, self.lost = self.lost, 0
        logger.warning("Redis at %s answers again; %d changes were not written in between",
                       self.config.address, lost)

    def close(self):
        with self.lock:
            if self.link is not None:
                self.link.abandon()
                self.link = None


_writers = {}


def writer(config):
    """The process's writer for a configuration. Keyed by process: a child never touches what its
    parent had open, nor a lock that was held while it was forked."""
    place = (os.getpid(), config)
    return _writers.get(place) or _writers.setdefault(place, Writer(config))
