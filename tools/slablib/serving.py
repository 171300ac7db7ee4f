"""Stray writes by the million into a server that answers real programs meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

from wofs.demo.server import Server, served
from wofs.demo.straywrite import Task, prepare
from wofs.demo.truth import Verdict

VOLLEY = 100
"""Stores at once; between volleys the server answers."""


_PATIENCE_S = 30.0
"""How long a run may take before the server is taken to hang."""


@dataclass
class Served:
    """What became of the stores, and of the answers: `examples` has a line for some bad ones."""

    backend: str
    protect: str
    image: str
    seed: int
    judge: str
    struck: int = 0
    landed: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    answers: int = 0
    wrong: int = 0
    errors: int = 0
    hung: bool = False
    ended: bool = False
    said: str = ""
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def untouched(self) -> bool:
        """Whether no store landed and every answer was right."""
        return not (
            self.landed or self.wrong or self.errors or self.hung or self.ended or self.said
        )


def strike_served(
    image: str, manifest: str | None, backend: str, protect: str, count: int, seed: int
) -> Served:
    """Strike `count` times while find, tar and random readers run in turn, each run judged."""
    tasks = {name: prepare(image, name, seed, manifest) for name in ("find", "tar", "random")}
    judge = tasks["find"].truth.judge
    tally, begun = Served(backend, protect, image, seed, judge), time.monotonic()
    with served(image, backend, protect=protect) as server:
        striker = threading.Thread(target=_strike, args=(server, tally, count))
        striker.start()
        for name, task in itertools.cycle(tasks.items()):
            verdict = _run(server, task)
            tally.runs[name] = tally.runs.get(name, 0) + 1
            tally.answers += verdict.answers
            tally.wrong += verdict.wrong
            tally.errors += verdict.errors
            tally.examples = (tally.examples + verdict.examples)[:10]
            if (
                server.ended
                or server.killed
                or (not striker.is_alive() and len(tally.runs) == len(tasks))
            ):
                break
        striker.join()
        tally.ended, tally.hung = server.ended, server.killed
    tally.said = server.text.strip()
    tally.seconds = round(time.monotonic() - begun, 1)
    return tally


def _strike(server: Server, tally: Served, count: int) -> None:
    for number in itertools.count():
        now = min(VOLLEY, count - tally.struck)
        landed = server.volley(tally.seed + number, now) if now else None
        if landed is None:
            return
        tally.struck += now
        tally.landed += landed


def _run(server: Server, task: Task) -> Verdict:
    """Run a workload once and judge it; a server that takes too long is killed."""
    with server.within(_PATIENCE_S):
        server.forget(task.plan.top_names)
        answers = task.answers(server)
    return task.truth.verdict(answers, cut=server.ended or server.killed)
