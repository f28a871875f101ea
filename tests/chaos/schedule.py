"""What is done when: a pure function of the seed, the arena and the faults to choose from.

A step is one fault, or two from different groups that overlap or follow each other without a pause.
All faults are drawn before any of them is drawn again. Steps have no fixed times: each waits until
the one before it is over and everything has recovered; what is fixed is their order, their
parameters, and the times within a step.
"""

import random
from dataclasses import dataclass

from faults import FAULTS

PAIRS = 0.2  # of all steps


@dataclass
class Planned:
    fault: str
    parameters: dict
    hold: float
    offset: float = 0.0  # from the beginning of the step to its apply


@dataclass
class Step:
    number: int
    planned: list
    weather: dict        # what everything happens in: {"redis": ms each way, "broker": ms, "burst": n}
    pause: float         # after everything has recovered

    @property
    def name(self):
        return " + ".join(p.fault for p in self.planned)

    @property
    def paired(self):
        return len(self.planned) > 1

    def __str__(self):
        parts = []
        for p in self.planned:
            words = ", ".join(f"{k}={v}" for k, v in p.parameters.items())
            parts.append(f"{p.fault}({words}) at +{p.offset:.2f} s for {p.hold:.2f} s")
        if any(self.weather.values()):
            parts.append("in " + ", ".join(f"{k}={v}" for k, v in self.weather.items()))
        return f"step {self.number}: " + "; ".join(parts)


def _plan(rng, name):
    fault = FAULTS[name]
    return Planned(name, fault.plan(rng), round(rng.uniform(*fault.hold), 3))


def _weather(rng):
    """Peers that are near leave nothing in flight, and then there is nothing to lose."""
    if rng.random() < 0.4:
        return {"redis": 0, "broker": 0, "burst": 0}
    return {"redis": rng.choice([0, 0, 1, 5, 30]), "broker": rng.choice([0, 5, 20, 50]),
            "burst": rng.choice([0, 300, 1000])}


def steps(seed, kind, names, pairs=PAIRS):
    """Yields Steps without end. names: the faults to choose from, in this order."""
    rng = random.Random(f"{seed}/{kind}")
    deck, number = [], 0

    def draw():
        if not deck:
            deck.extend(names)
            rng.shuffle(deck)
        return deck.pop()
    while True:
        number += 1
        first = _plan(rng, draw())
        planned = [first]
        if rng.random() < pairs:
            others = [n for n in names if FAULTS[n].group != FAULTS[first.fault].group]
            if others:
                second = _plan(rng, rng.choice(others))
                second.offset = round(rng.uniform(0, first.hold + 0.5), 3)
                planned.append(second)
        yield Step(number, planned, _weather(rng), round(rng.uniform(0.4, 1.2), 3))
