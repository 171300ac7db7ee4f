"""The same without atheris: random changes of declared fields, not guided by coverage.

Uninstrumented, a parser takes ten times as many inputs a second, and they are well aimed.
"""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from pathlib import Path

from fuzzlib.corpus import CORPUS, failure, files, shrunk, write
from fuzzlib.session import HANG_S, Finding, Told
from fuzzlib.target import Broken
from fuzzlib.targets import TARGETS

_MOST_CHANGES = 5


def blind(name: str, folder: Path, seconds: float, seed: int) -> Told:
    """Feed a parser changed seeds and corpora until time is up or the law is broken."""
    target, chance = TARGETS[name], random.Random(seed)
    pool = list(target.seeds())
    pool += [path.read_bytes() for path in files(CORPUS / name) + files(folder / "corpus")]
    told, start, cpu = Told(name, inputs=len(pool)), time.monotonic(), time.process_time()
    signal.signal(signal.SIGPROF, _hangs)
    while time.monotonic() - start < seconds and not told.findings:
        data = chance.choice(pool)
        for _ in range(chance.randrange(1, _MOST_CHANGES)):
            data = target.mutate(data, chance)[: target.max_len]
        told.executions += 1
        said = _failure(name, data)
        if said:
            small = shrunk(data, partial(_fails, name, said))
            write(folder / "findings", [small])
            path = max(files(folder / "findings"), key=lambda path: path.stat().st_mtime_ns)
            told.findings.append(Finding(path, f"{said}: {small[:100]!r}"))
    told.seconds, told.cpu = time.monotonic() - start, time.process_time() - cpu
    return told


def _failure(name: str, data: bytes) -> str:
    """Return what an input breaks, if that takes no more than its seconds of the processor."""
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        return failure(TARGETS[name], data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _fails(name: str, said: str, data: bytes) -> bool:
    return _failure(name, data) == said


def _hangs(_signal: int, _frame: object) -> None:
    raise Broken(f"no end after {HANG_S} s of the processor")
