"""The same workload with each memory, while stray writes strike the server's metadata.

Each trial serves the image in a process of its own, starts the workload, and has the server
struck at a random moment by a random word at a random place, all from one seed. Then: did the
process end in a report that names the place, or did it go on, and were its answers right?
"""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wofs.demo.workload import WORKLOADS
from wofs.fuse.mountpoint import mounts, resolve, unmount

Progress = Callable[[int, int], object]
Truth = dict[str, str]

_PATIENCE_S = 30.0
_STRUCK_WITHIN = 0.5
"""The strike comes in the first half of the workload, so that answers follow it."""


@dataclass
class Trial:
    """One strike.

    `place` is what was aimed at, `outcome` one of: `named` (a crash whose report names it),
    `misnamed`, `noticed` (the comparison at the end found it), `wrong` (answers were wrong and
    nobody said so), `errors` (only errors where there were answers before), `unnoticed` (no
    answer showed it), `hangs`. `seconds` until the server ended, for a crash.
    """

    backend: str
    seed: int
    place: str
    outcome: str = ""
    answers: int = 0
    wrong: int = 0
    errors: int = 0
    seconds: float | None = None
    examples: list[str] = field(default_factory=list)


@dataclass
class Struck:
    """A server under attack."""

    child: subprocess.Popen[str]
    top: Path

    def told(self) -> dict[str, object]:
        """Return the next line the server says; RuntimeError if it ends instead."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            _, said = self.child.communicate()
            raise RuntimeError(said.strip().rpartition("\n")[2] or "the server said nothing")
        found: dict[str, object] = json.loads(line)
        return found

    def strike(self) -> str:
        """Have the server struck; return the name of the place."""
        assert self.child.stdin is not None
        self.child.stdin.write("strike\n")
        self.child.stdin.flush()
        return str(self.told()["named"])


@contextmanager
def served(image: str, backend: str, seed: int) -> Iterator[Struck]:
    """Serve an image for the time of the block; nothing stays mounted."""
    with tempfile.TemporaryDirectory(prefix="wofs-demo-") as folder:
        top = Path(folder, "mnt")
        top.mkdir()
        argv = [sys.executable, "-m", "wofs.demo.injector", image, str(top), backend, str(seed)]
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            server = Struck(child, top)
            server.told()
            yield server
        finally:
            if any(mounted.mountpoint == resolve(str(top)) for mounted in mounts()):
                unmount(str(top), lazy=True)
            try:
                child.communicate(timeout=_PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()


def truth_of(image: str, workload: str, seed: int) -> Truth:
    """Return the answers of a server that nobody strikes."""
    with served(image, "auto", seed) as server:
        answers = WORKLOADS[workload](server.top, seed)
        return {asked.replace(str(server.top), ""): said for asked, said in answers}


def trial(image: str, workload: str, backend: str, seed: int, truth: Truth) -> Trial:
    """Serve, work, strike, and judge."""
    moment = random.Random(seed).randrange(max(1, int(len(truth) * _STRUCK_WITHIN)))
    with served(image, backend, seed) as server:
        found, struck_at = Trial(backend, seed, ""), 0.0
        answers = WORKLOADS[workload](server.top, seed)
        watchdog = threading.Timer(_PATIENCE_S, server.child.kill)
        watchdog.start()
        for number in itertools.count():
            if number == moment:
                found.place, struck_at = server.strike(), time.monotonic()
            answer = next(answers, None)
            if answer is None or server.child.poll() is not None:
                break
            _judge(found, answer[0].replace(str(server.top), ""), answer[1], truth)
        watchdog.cancel()
        _end(found, server, struck_at)
    return found


def _judge(found: Trial, asked: str, said: str, truth: Truth) -> None:
    """Hold one answer against the truth."""
    found.answers += 1
    right = truth.get(asked)
    if said == right:
        return
    if said.startswith("error "):
        found.errors += 1
    else:
        found.wrong += 1
    if len(found.examples) < 3:
        found.examples.append(f"{asked}: {said}, right is {right}")


def _end(found: Trial, server: Struck, struck_at: float) -> None:
    """Unmount, wait for the server, and say what became of the strike."""
    try:
        server.child.wait(0.2)
        found.seconds = time.monotonic() - struck_at
    except subprocess.TimeoutExpired:
        unmount(str(server.top), lazy=True)
    try:
        _, report = server.child.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        found.outcome = "hangs"
        return
    if server.child.returncode == -signal.SIGKILL:
        found.outcome = "hangs"
    elif found.seconds is not None and server.child.returncode == -signal.SIGSEGV:
        hit = re.search(r"hit +(?:mount_struct )?(.*)\n", report)
        name = hit[1] if hit else ""
        found.outcome = "named" if _same_place(name, found.place) else "misnamed"
        if found.outcome == "misnamed":
            found.examples.append(f"aimed at {found.place}, the report says {name!r}")
    elif found.wrong:
        found.outcome = "wrong"
    elif "not what was published" in report:
        found.outcome = "noticed"
    else:
        found.outcome = "errors" if found.errors else "unnoticed"


def _same_place(reported: str, aimed: str) -> bool:
    """Whether a report's words and those of `Site` mean the same place."""
    if reported == aimed:
        return True
    what, _, name = aimed.rstrip(")").partition(" (")
    return bool(name) and reported.startswith(f"{name} (") and what in reported


@dataclass
class Tally:
    """All trials of one backend."""

    backend: str
    strikes: int
    outcomes: dict[str, int]
    answers: int
    wrong: int
    errors: int
    median_seconds: float | None
    trials: list[Trial]

    @classmethod
    def of(cls, backend: str, trials: list[Trial]) -> Tally:
        """Add up."""
        outcomes: dict[str, int] = {}
        for one in trials:
            outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
        times = sorted(one.seconds for one in trials if one.seconds is not None)
        return cls(
            backend,
            len(trials),
            outcomes,
            sum(one.answers for one in trials),
            sum(one.wrong for one in trials),
            sum(one.errors for one in trials),
            times[len(times) // 2] if times else None,
            trials,
        )


def campaign(
    image: str, workload: str, backend: str, writes: int, seed: int, told: Progress
) -> Tally:
    """Make `writes` trials of one backend; RuntimeError where it cannot be served."""
    truth = truth_of(image, workload, seed)
    trials = []
    for number in range(writes):
        trials.append(trial(image, workload, backend, seed + number, truth))
        told(number + 1, writes)
    return Tally.of(backend, trials)
