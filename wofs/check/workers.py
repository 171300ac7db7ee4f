"""The units of a pass shared out to processes made by fork.

Each worker has the state as it was when the pass began, asks for one unit after the other, and
sends what it found. It reads the image by its own `pread`s through the descriptor it inherits.
No worker outlives the pass: they are ended and waited for whatever happens, and end by
themselves where their parent is gone.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import NoReturn, TypeVar

from wofs.check.state import State
from wofs.check.work import Pass
from wofs.errors import MountError, WofsError

U = TypeVar("U")

_STEP, _FOUND, _REST, _FAILED, _BROKEN = "step", "found", "rest", "failed", "broken"

Message = tuple[str, object]


class _Worker:
    """A process beside this one: its number, the way to it, the unit it is at."""

    def __init__(self, pid: int, line: Connection[int | None, Message]) -> None:
        self.pid = pid
        self.line = line
        self.unit = -1

    def died(self) -> MountError:
        """Return the error for a worker that ended before its work did."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        ending = signal.Signals(-code).name if code < 0 else f"status {code}"
        return MountError(f"a worker process ended with {ending}: the image was not checked")


def share_out(one_pass: Pass[U], state: State, jobs: int) -> None:
    """Do a pass with `jobs` processes. Raises what a worker met, MountError if one dies."""
    workers: list[_Worker] = []
    try:
        with _undisturbed():
            for _ in range(jobs):
                workers.append(_start(one_pass, state, [w.line for w in workers]))
        _Sharing(one_pass, state, workers).run()
    finally:
        for worker in workers:
            worker.line.close()
            if worker.pid:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)


class _Sharing:
    """Hands out units and adds what comes back, in their order."""

    def __init__(self, one_pass: Pass[U], state: State, workers: list[_Worker]) -> None:
        self.one_pass = one_pass
        self.state = state
        self.workers = workers
        self.count = len(one_pass.units)
        self.given = self.added = 0
        self.waiting: dict[int, object] = {}

    def run(self) -> None:
        """Go on until every worker has sent what it gathered."""
        busy = {worker.line: worker for worker in self.workers}
        for worker in self.workers:
            self._give(worker)
        while busy:
            for line in wait(list(busy)):
                worker = busy[line]  # type: ignore[index]
                try:
                    kind, content = worker.line.recv()
                except (EOFError, ConnectionResetError):
                    raise worker.died() from None
                if kind == _REST:
                    self.one_pass.add_rest(content)
                    del busy[worker.line]
                else:
                    self._take(worker, kind, content)

    def _give(self, worker: _Worker) -> None:
        """Give a worker the next unit, or the word that there is none."""
        worker.unit = self.given
        more = self.given < self.count
        with suppress(BrokenPipeError):  # it died: its line says so next
            worker.line.send(self.given if more else None)
        self.given += more

    def _take(self, worker: _Worker, kind: str, content: object) -> None:
        if kind == _STEP:
            assert isinstance(content, int)
            self.state.step(content)
        elif kind == _FOUND:
            self.waiting[worker.unit] = content
            self._give(worker)
            while self.added in self.waiting:
                unit = self.one_pass.units[self.added]
                self.one_pass.add(unit, self.waiting.pop(self.added))
                self.added += 1
        elif kind == _FAILED and isinstance(content, OSError):
            raise content
        elif kind == _FAILED:
            raise WofsError(str(content))
        else:
            raise RuntimeError(f"a worker process failed:\n{content}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep signals away until every worker is noted, and those it shall not hear are masked."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(
    one_pass: Pass[U], state: State, others: list[Connection[int | None, Message]]
) -> _Worker:
    """Fork a worker; `others` are the ends of ours that it shall not hold."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid:
        theirs.close()
        return _Worker(pid, ours)
    for line in (*others, ours):
        line.close()
    _be_worker(one_pass, state, theirs)


def _be_worker(one_pass: Pass[U], state: State, line: Connection[Message, int | None]) -> NoReturn:
    """Do units until told to end; the process ends here and runs no one else's clean-up."""
    code = 1
    try:
        _settle(state, line)
        one_pass.begin()
        for number in iter(line.recv, None):
            unit = one_pass.units[number]
            one_pass.work(unit)
            line.send((_FOUND, one_pass.take(unit)))
        line.send((_REST, one_pass.take_rest()))
        code = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone: nobody wants to know
    except (WofsError, OSError) as error:
        line.send((_FAILED, error if isinstance(error, OSError) else str(error)))
    except BaseException:
        line.send((_BROKEN, traceback.format_exc()))
    finally:
        os._exit(code)


def _settle(state: State, line: Connection[Message, int | None]) -> None:
    """Be ended by the parent, not by the terminal; tell it of progress."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    gc.freeze()
    told = state.done

    def tell(done: int, total: int) -> None:
        nonlocal told
        line.send((_STEP, done - told))
        told = done

    state.tell = tell
