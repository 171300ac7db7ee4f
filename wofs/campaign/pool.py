"""Processes that do units of work side by side, and outlive nothing: not a crash, not an interrupt.

Each worker is a fresh interpreter, so that its children are forked of a process without threads.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection, get_context
from typing import Self

from wofs.campaign.laws import Result
from wofs.campaign.unit import Unit
from wofs.errors import WofsError

Work = Callable[[Unit], list[Result]]
"""What a worker does; a function of a module."""

_SPAWN = get_context("spawn")


class WorkerFailed(WofsError):
    """A worker could not do a unit: the message says why."""


class _Worker:
    """A process beside this one, and the unit it is at."""

    def __init__(self, work: Work) -> None:
        self.line, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.unit: Unit | None = None

    def give(self, unit: Unit) -> None:
        """Let it do a unit."""
        self.unit = unit
        with suppress(BrokenPipeError):  # it died: `wait` tells
            self.line.send(unit)

    def end(self) -> None:
        """End the process; what it was at is lost."""
        self.line.close()
        self.process.terminate()
        self.process.join()


def _serve(line: connection.Connection[tuple[str, object], Unit], work: Work) -> None:
    """Do units until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    logging.disable(logging.CRITICAL)  # damage is what it is all about
    while True:
        try:
            unit = line.recv()
        except EOFError:
            return
        try:
            answer: tuple[str, object] = ("done", work(unit))
        except (WofsError, OSError) as error:
            answer = ("failed", f"{unit.path}: {error}")
        with suppress(BrokenPipeError):  # the parent was killed; the next `recv` ends this too
            line.send(answer)


class Pool:
    """Workers, a context manager; leaving it ends them."""

    def __init__(self, jobs: int, work: Work) -> None:
        self._work = work
        self._workers = [_Worker(work) for _ in range(jobs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def run(self, units: Iterable[Unit]) -> Iterator[list[Result]]:
        """Yield the results of each unit as they come; raises WorkerFailed.

        A unit with which a worker dies is done again fault by fault; a fault with which one
        dies twice is the result then.
        """
        source, again = iter(units), deque[Unit]()
        while True:
            for at, worker in enumerate(self._workers):
                if worker.unit is None:
                    unit = again.popleft() if again else next(source, None)
                    if unit is not None:
                        self._workers[at].give(unit)
            busy = {worker.line: at for at, worker in enumerate(self._workers) if worker.unit}
            if not busy:
                return
            for line in connection.wait(list(busy)):
                yield from self._take(busy[line], again)  # type: ignore[index]

    def _take(self, at: int, again: deque[Unit]) -> Iterator[list[Result]]:
        """Take what a worker has to say; put another in the place of a dead one."""
        worker = self._workers[at]
        unit, worker.unit = worker.unit, None
        assert unit is not None
        try:
            kind, told = worker.line.recv()
        except (EOFError, ConnectionResetError):
            worker.end()
            code = worker.process.exitcode or 0
            self._workers[at] = _Worker(self._work)
            if len(unit.faults) > 1 or not unit.again:
                again.extend(unit.single())
                return
            yield [_lost(unit, code)]
            return
        if kind == "failed":
            raise WorkerFailed(str(told))
        yield told


def _lost(unit: Unit, code: int) -> Result:
    name = signal.Signals(-code).name if code < 0 else f"status {code}"
    line = f"the process that ran it ended with {name}"
    return Result(unit.faults[0], "broken", ("crash: the worker",), line, signal=max(0, -code))


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
