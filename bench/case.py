"""The words of the catalogue: a scenario is a list of cases; a case is one measurement, repeated. How
long everything takes is a Length."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from shape import Shape

REDIS_BYTES = 400 << 20  # a backlog takes no more of Redis' memory than about this
ENTRY_BYTES = 250        # of an entry beside its payload


@dataclass(frozen=True)
class Length:
    repeats: int
    messages: int           # of a plain drain
    verified: int           # with a subscriber, which costs the broker three times as much
    backlog: int            # scenarios 8 and 12
    paced_seconds: float    # latency
    wan_seconds: float
    many_streams: int
    steady_seconds: float   # before the spike
    burst: int
    burst_seconds: float
    idle_seconds: float
    storm_seconds: float
    storm_rate: int

    def with_messages(self, messages):
        """Other lengths that are counted in entries change in the same proportion."""
        def scaled(count):
            return max(500, round(count * messages / self.messages))
        return replace(self, messages=messages, verified=scaled(self.verified),
                       backlog=scaled(self.backlog), burst=scaled(self.burst))

    def fitting(self, payload):
        return max(500, min(self.messages, REDIS_BYTES // (payload + ENTRY_BYTES)))


LENGTHS = {
    "quick": Length(repeats=1, messages=20000, verified=10000, backlog=100000, paced_seconds=0.5,
                    wan_seconds=0.4, many_streams=1000, steady_seconds=1, burst=20000,
                    burst_seconds=0.5, idle_seconds=3, storm_seconds=3, storm_rate=2000),
    "medium": Length(repeats=3, messages=250000, verified=100000, backlog=1000000, paced_seconds=6,
                     wan_seconds=2, many_streams=10000, steady_seconds=10, burst=300000,
                     burst_seconds=3, idle_seconds=30, storm_seconds=10, storm_rate=5000),
    "long": Length(repeats=5, messages=1000000, verified=500000, backlog=1000000, paced_seconds=20,
                   wan_seconds=5, many_streams=10000, steady_seconds=60, burst=300000,
                   burst_seconds=3, idle_seconds=60, storm_seconds=30, storm_rate=5000),
}


@dataclass(frozen=True)
class Case:
    name: str               # unique in its scenario, and the same in every run
    shape: Shape
    measure: Callable       # (arena) -> figures
    seconds: float          # about how long one run takes
    ceiling: bool = False
    ceilings: tuple = ()    # cases of the same scenario; the best of them is this case's ceiling


@dataclass(frozen=True)
class Scenario:
    number: int
    name: str
    title: str
    cases: Callable         # (length) -> list of cases
    most_repeats: int = 100

    def repeats(self, length):
        return min(length.repeats, self.most_repeats)

    def seconds(self, length):
        return self.repeats(length) * sum(case.seconds for case in self.cases(length))
