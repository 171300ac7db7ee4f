"""The same workload with each memory, while stray writes strike the server's metadata.

An image is served in a process of its own for each memory, and a real workload runs over it,
again and again, each time with the kernel's caches dropped. At a random moment a random word goes
to a random place of the objects that steer every read, the same for every memory; after the
run another one, whole, shows what the strike did. Where the process ends, or answers are no
longer right, a new one is mounted. What landed unseen stays, as it would.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from wofs.demo.fields import places
from wofs.demo.server import Server, served
from wofs.demo.truth import PIECE, Answer, Truth, Verdict
from wofs.demo.workload import WORKLOADS, Plan, asked, data_of, plan_of
from wofs.device import open_device
from wofs.xfs.mount import mount
from wofs.xfs.options import mount_options

Progress = Callable[[int, int], object]
"""Told (strikes so far, strikes in all)."""

WORD_BYTES = 8
CALM_MOUNTS = 5
"""Fresh mounts of each memory before the first strike; their first runs are timed."""

_STRUCK_WITHIN = 0.5
"""The strike comes in the first half of a run, so that answers follow it."""

_PATIENCE_RUNS = 10

STRAY, CHANGED = "wofs: stray access", "not what was published"

OUTCOMES = {
    "named": "stopped at once, and named right",
    "misnamed": "stopped, but not named right",
    "died": "the server ended without a report",
    "hung": "the server hung, or its answers had no end",
    "wrong": "wrong answers, served as if right",
    "errors": "errors where there were answers",
    "unseen": "landed; no answer depended on it",
}
"""What becomes of a strike."""

NOTICED = ("at once", "at unmount", "never")
"""When the memory itself noticed a strike: a fault, or the comparison at the end."""


@dataclass
class Trial:
    """One strike.

    `place` is what was aimed at, `before` and `word` its bytes and those stored, in hex;
    `outcome` one of OUTCOMES, `noticed` one of NOTICED, `noticed_s` the time from the store to
    the end of the process by the memory's doing. `kinds` are the wrong answers by what is wrong,
    `examples` lines about some, `report` what the process said at its end.
    """

    number: int
    place: str = ""
    before: str = ""
    word: str = ""
    outcome: str = ""
    answers: int = 0
    wrong: int = 0
    errors: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    noticed: str = "never"
    noticed_s: float | None = None
    report: str = ""


@dataclass
class Tally:
    """All strikes of one memory.

    `landed` is how many stores went through; `wrong` the wrong answers, by `kinds`; `noticed`
    the strikes by when; `noticed_s` the median time until then; `answers_per_s` those of the
    undisturbed first runs: least, median, most.
    """

    backend: str
    workload: str
    judge: str
    seed: int
    strikes: int
    mounts: int
    outcomes: dict[str, int]
    landed: int
    answers: int
    wrong: int
    kinds: dict[str, int]
    errors: int
    noticed: dict[str, int]
    noticed_s: float | None
    answers_per_s: tuple[float, float, float]
    trials: list[Trial]


@dataclass(frozen=True)
class Blow:
    """What is stored: `size` bytes, anywhere or `at` an object or field, random or `word` (hex)."""

    size: int = WORD_BYTES
    at: str = ""
    word: str = ""


def blow_at(image: str, target: str, size: int = WORD_BYTES) -> Blow:
    """Return the blow at OBJECT, OBJECT.FIELD or OBJECT.FIELD=VALUE; RuntimeError for no such."""
    name, has_value, value = target.partition("=")
    mounted = mount(open_device(image), mount_options(norecovery=True), slab="none")
    found = {place.name: place.size for place in places(mounted, mounted.geo.agcount)}
    mounted.close()
    if any(field.startswith(f"{target}.") for field in found):
        return Blow(size, target)
    if name not in found:
        raise RuntimeError(f"{name}: no such object or field; one is {next(iter(found))}")
    size = min(size, found[name])
    if not has_value:
        return Blow(size, name)
    size = found[name]
    try:
        return Blow(size, name, int(value, 0).to_bytes(size, sys.byteorder).hex())
    except (ValueError, OverflowError) as error:
        raise RuntimeError(f"{target}: no number from 0 that fits {size} bytes") from error


@dataclass(frozen=True)
class Task:
    """What is done with each memory: the workload, where it goes, what is right, the blows.

    A run that takes `patience_s` and ten times longer than usual hangs.
    """

    image: str
    workload: str
    seed: int
    plan: Plan
    truth: Truth
    blow: Blow = Blow()
    patience_s: float = 10.0

    def answers(self, server: Server) -> list[Answer]:
        """Run the workload; of answers without end only as many as show it."""
        most = 4 * len(self.truth.right) + 1000  # a loop of directories has no end
        return list(islice(WORKLOADS[self.workload](server.top, self.plan, self.seed), most))


def prepare(
    image: str, workload: str, seed: int, manifest: str | None = None, blow: Blow | None = None
) -> Task:
    """Run the workload undisturbed, to know what is right; RuntimeError where it cannot run.

    `manifest` is the kernel's, which that run must agree with.
    """
    with served(image, "auto") as server:
        plan = plan_of(server.top)
        server.forget(plan.top_names)
        answers = list(WORKLOADS[workload](server.top, plan, seed))
        if manifest is not None:
            # Of a piece the manifest says nothing: the whole of its file is held against it.
            root = os.fsencode(server.top) + b"/"
            pieces = {answer.path for answer in answers if PIECE in answer.facts}
            answers += [asked("read", path, partial(data_of, root + path)) for path in pieces]
    return Task(image, workload, seed, plan, Truth(answers, manifest), blow or Blow())


class Series:
    """The strikes of one memory, over as many mounts as they take."""

    def __init__(self, task: Task, backend: str) -> None:
        self.backend = backend
        self.trials: list[Trial] = []
        self._task = task
        self._stack = ExitStack()
        self._server: Server | None = None
        self._unnoticed: list[Trial] = []
        self._landed = self._mounts = 0
        self._calm_s: list[float] = []
        self._calm_answers = 0

    def open(self) -> Server:
        """Mount anew and run undisturbed, timed; RuntimeError if that is not right."""
        self.close()
        server = self._stack.enter_context(
            served(self._task.image, self.backend, self._task.blow.at)
        )
        self._server = server
        self._mounts += 1
        begun = time.monotonic()
        answers = self._task.answers(server)
        self._calm_s.append(time.monotonic() - begun)
        calm = self._task.truth.verdict(answers, cut=False)
        self._calm_answers = calm.answers
        if calm.wrong or calm.errors:
            raise RuntimeError(f"{self.backend}: without strikes: {calm.examples[0]}")
        return server

    def close(self) -> None:
        """Unmount, and see whether what landed is noticed then."""
        server, self._server = self._server, None
        self._stack.close()
        if server is None:
            return
        said = server.text
        for trial in self._unnoticed:
            if CHANGED in said:
                trial.noticed, trial.noticed_s = NOTICED[1], server.seconds_since(trial.number)
        self._unnoticed = []

    def _run(self, server: Server, striker: threading.Timer | None = None) -> Verdict:
        """Run the workload once more, with the kernel's caches dropped, and judge it.

        `striker` strikes meanwhile, afterwards if the run is short. A server that takes too
        long is killed.
        """
        limit_s = self._task.patience_s + _PATIENCE_RUNS * statistics.median(self._calm_s)
        try:
            with server.within(limit_s):
                server.forget(self._task.plan.top_names)
                if striker is not None:
                    striker.start()
                answers = self._task.answers(server)
                if striker is not None:
                    striker.join()
                    server.settle()
        finally:
            if striker is not None and striker.is_alive():  # we were interrupted
                striker.cancel()
                striker.join()
        return self._task.truth.verdict(answers, cut=server.ended or server.killed)

    def strike(self, number: int) -> None:
        """Strike once, and see what becomes of it."""
        server, blow = self._server or self.open(), self._task.blow
        rng = random.Random(f"{self._task.seed} {number}")
        moment_s = rng.random() * _STRUCK_WITHIN * statistics.median(self._calm_s)
        what = number, rng.getrandbits(64), blow.size, blow.word
        found = self._run(server, threading.Timer(moment_s, server.strike, what))
        if not (found.wrong or found.errors or server.ended or server.killed):
            found.add(self._run(server))
        trial = Trial(number, server.place, server.before, server.word)
        trial.answers, trial.wrong, trial.errors = found.answers, found.wrong, found.errors
        trial.kinds, trial.examples = found.kinds, found.examples
        self._landed += server.landed
        self.trials.append(trial)
        self._unnoticed.append(trial)
        self._judge(trial, server)

    def _judge(self, trial: Trial, server: Server) -> None:
        """Say what became of a strike; end a server that is not as it was."""
        ended, hung = server.ended, server.killed
        if ended or hung or trial.wrong or trial.errors:
            self.close()
        if hung:
            trial.outcome = "hung"
        elif ended and STRAY in server.text and server.child.returncode == -signal.SIGSEGV:
            trial.report = server.text.strip()
            trial.noticed, trial.noticed_s = NOTICED[0], server.seconds_since(trial.number)
            hit = re.search(r"hit +(?:mount_struct )?(.*)\n", server.text)
            named = same_place(hit[1] if hit else "", trial.place)
            trial.outcome = "named" if named else "misnamed"
        elif ended:
            trial.outcome = "died"
            trial.report = server.text.strip()
        elif trial.wrong:
            trial.outcome = "wrong"
        else:
            trial.outcome = "errors" if trial.errors else "unseen"

    def tally(self) -> Tally:
        """Add up."""
        trials, task = self.trials, self._task
        times = [one.noticed_s for one in trials if one.noticed_s is not None]
        whole = Verdict()
        for one in trials:
            whole.add(Verdict(one.answers, one.errors, one.wrong, one.kinds))
        speeds = sorted(self._calm_answers / max(seconds, 1e-9) for seconds in self._calm_s)
        spread = speeds[0], statistics.median(speeds), speeds[-1]
        return Tally(
            self.backend,
            task.workload,
            task.truth.judge,
            task.seed,
            len(trials),
            self._mounts,
            _counts(OUTCOMES, [one.outcome for one in trials]),
            self._landed,
            whole.answers,
            whole.wrong,
            dict(sorted(whole.kinds.items(), key=lambda item: -item[1])),
            whole.errors,
            _counts(NOTICED, [one.noticed for one in trials]),
            statistics.median(times) if times else None,
            (round(spread[0], 1), round(spread[1], 1), round(spread[2], 1)),
            trials,
        )


def _counts(names: Iterable[str], found: list[str]) -> dict[str, int]:
    return {name: found.count(name) for name in names if name in found}


def same_place(reported: str, aimed: str) -> bool:
    """Whether a report's words and those of `Site` mean the same place."""
    if reported == aimed:
        return True
    what, _, name = aimed.rstrip(")").partition(" (")
    return bool(name) and reported.startswith(f"{name} (") and what in reported


def campaign(
    task: Task, backends: Sequence[str], writes: int, told: Progress = lambda *_: None
) -> list[Tally]:
    """Strike each memory `writes` times, in turns; RuntimeError where one cannot be served."""
    everything = [Series(task, backend) for backend in backends]
    with ExitStack() as stack:
        for series in everything:
            stack.callback(series.close)
        for _ in range(CALM_MOUNTS):
            for series in everything:
                series.open()
        for number in range(writes):
            for turn, series in enumerate(everything):
                series.strike(number)
                told(number * len(everything) + turn + 1, writes * len(everything))
    return [series.tally() for series in everything]
