"""A fault meets the reader in a child process, which may crash, hang or swell at no cost.

The parent holds the truth of the sound image; the child inherits it by fork, opens the damaged
one, asks for everything, checks it, and tells what differs.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wofs.campaign.subject import IMAGE, Answers, Failure, ask
from wofs.campaign.unit import Limits
from wofs.check.findings import Finding
from wofs.check.run import check
from wofs.corrupt.parts import Part
from wofs.device import FileDevice, open_device
from wofs.device.base import Device
from wofs.device.overlay import Overlay
from wofs.errors import ImageError
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem
from wofs.fs.stat import Stat

MOST_TOLD = 40
"""Answers of each sort that a child tells in words."""

_OWN_ANSWER = {"inode": "lstat", "dirdata": "readdir", "target": "target", "attr": "xattrs"}
"""Which answer about the owner cannot be given without a structure of that kind."""


@dataclass(slots=True)
class Struck:
    """A structure that a fault changed; `stale` when its checksum is wrong by that."""

    kind: str
    owner: int
    start: int
    size: int
    agno: int
    stale: bool


@dataclass(slots=True)
class Met:
    """What a child saw of a damaged image.

    `refused` is the line with which it was not opened. `failed` are (path, attribute, class,
    object, line) of answers that are errors, `wrong` (path, attribute, was, is) of those that
    differ, both only the first ones; `failures` and `attributes` tell of all, `inos` and
    `objects` which inodes they are about and what the errors name. `served` are
    answers that were drawn from a structure whose checksum is wrong. `findings` are the
    check's, less what it found in the sound image: (code, object, offset, ino, agno);
    `unchecked` is the line with which the check gave up.
    """

    refused: str = ""
    failed: list[list[str]] = field(default_factory=list)
    failures: int = 0
    wrong: list[list[str]] = field(default_factory=list)
    attributes: dict[str, int] = field(default_factory=dict)
    inos: list[int] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    findings: list[list[Any]] = field(default_factory=list)
    unchecked: str = ""
    trace: str = ""
    memory: bool = False


@dataclass(slots=True)
class Death:
    """How a child ended: a signal (0: by itself), or out of time; and what it said on stderr."""

    signal: int = 0
    timed_out: bool = False
    stderr: str = ""
    millis: int = 0
    peak_kib: int = 0


Reader = Callable[[Device, bool], Answers]
"""Opens a device (with or without norecovery) and asks it for everything: `subject.ask`."""


class Truth:
    """The sound image: open, with all its answers and what the check says of it."""

    def __init__(self, path: str, norecovery: bool = False, reader: Reader = ask) -> None:
        """Open and read `path`; raises as `wofs.open` does for one that is not sound."""
        device = open_device(path)
        assert isinstance(device, FileDevice)  # what open_device opens
        self.device = device
        self.norecovery = norecovery
        self.reader = reader
        self.filesystem: Filesystem = open_filesystem(Overlay(device), norecovery=True)
        self.answers = reader(Overlay(device), norecovery)
        self.findings = {_fact(finding) for finding in check(Overlay(device)).findings}
        self.paths: dict[int, list[bytes]] = {}
        for (name, what), answer in self.answers.items():
            if what == "lstat" and isinstance(answer, Stat):
                self.paths.setdefault(answer.st_ino, []).append(name)

    def close(self) -> None:
        """Give the image back."""
        self.filesystem.close()
        self.device.close()


def _fact(finding: Finding) -> tuple[object, ...]:
    return finding.problem.code, finding.object, finding.field, finding.found


# ---- in the child
def meet(truth: Truth, image: Overlay, struck: list[Struck]) -> Met:
    """Do everything with a damaged image and compare it with the truth."""
    met = Met()
    try:
        answers = truth.reader(image, truth.norecovery)
    except ImageError as error:
        met.refused = str(error)
    else:
        _compare(truth, answers, met)
        met.served = list(_served(truth, answers, struck))
    try:
        report = check(image)
    except ImageError as error:
        met.unchecked = str(error)
    else:
        met.findings = [
            [f.problem.code, f.object, f.offset, f.ino, f.agno]
            for f in report.findings
            if _fact(f) not in truth.findings
        ]
        del met.findings[200:]
    return met


def _compare(truth: Truth, answers: Answers, met: Met) -> None:
    """Note every answer that is not the truth's."""
    inos: set[int] = set()
    objects: set[str] = set()

    def wrong(path: bytes, what: str, was: object, now: object) -> None:
        name = what if path != IMAGE else f"image {what}"
        met.attributes[name] = met.attributes.get(name, 0) + 1
        inos.update(i for i in (_ino(truth.answers, path), _ino(answers, path)) if i)
        if len(met.wrong) < MOST_TOLD:
            met.wrong.append([os.fsdecode(path), what, _short(was), _short(now)])

    for (path, what), now in answers.items():
        was = truth.answers.get((path, what))
        if was == now:
            continue
        if isinstance(now, Stat) and isinstance(was, Stat):
            for name, one, two in zip(Stat._fields, was, now, strict=True):
                if one != two:
                    wrong(path, name, one, two)
        elif isinstance(now, Failure):
            met.failures += 1
            objects.add(now.object)
            inos.update(i for i in (_ino(truth.answers, path),) if i)
            if len(met.failed) < MOST_TOLD:
                line = [os.fsdecode(path), what, now.kind, now.object, now.line]
                met.failed.append(line)
        else:
            wrong(path, what, was, now)
    for path, what in truth.answers.keys() - answers.keys():
        if not _excused(answers, path, what):
            wrong(path, what, truth.answers[path, what], "missing")
    met.inos, met.objects = sorted(inos), sorted(objects)


def _ino(answers: Answers, path: bytes) -> int:
    found = answers.get((path, "lstat"))
    return found.st_ino if isinstance(found, Stat) else 0


def _excused(answers: Answers, path: bytes, what: str) -> bool:
    """Whether an error was told instead of an answer: the inode's, or a directory's above it."""
    if isinstance(answers.get((path, "lstat")), Failure):
        return True
    if what.startswith("xattr ") and isinstance(answers.get((path, "xattrs")), Failure):
        return True
    while path not in (IMAGE, b"/"):
        path = path.rpartition(b"/")[0] or b"/"
        for part in ("lstat", "readdir"):
            if isinstance(answers.get((path, part)), Failure):
                return True
    return False


def _served(truth: Truth, answers: Answers, struck: list[Struck]) -> Iterator[str]:
    """Yield what was answered from structures whose checksum is wrong."""
    for one in struck:
        what = _OWN_ANSWER.get(one.kind)
        if not one.stale or what is None:
            continue
        for path in truth.paths.get(one.owner, ()):
            if (path, what) in answers and not isinstance(answers[path, what], Failure):
                yield f"{os.fsdecode(path)} {what}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


# ---- the parent's side
def run(
    work: Callable[[], Met], limits: Limits, also: Callable[[], None] = lambda: None
) -> tuple[Met | None, Death]:
    """Do `work` in a child under limits; return what it met (None: it did not live to tell).

    `also` is called in the child first.
    """
    reading, writing = os.pipe()
    errors = os.memfd_create("stderr")
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _be_child(work, limits, writing, errors, also)
    os.close(writing)
    try:
        told, timed_out = _listen(reading, began + limits.seconds)
        if timed_out:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(reading)
        _, status, usage = os.wait4(pid, 0)
    death = Death(
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        timed_out=timed_out,
        millis=int((time.monotonic() - began) * 1000),
        peak_kib=usage.ru_maxrss,
    )
    os.lseek(errors, 0, os.SEEK_SET)
    death.stderr = os.read(errors, 1 << 16).decode(errors="backslashreplace")
    os.close(errors)
    try:
        return Met(**json.loads(told)), death
    except ValueError:
        return None, death


def _listen(fd: int, until: float) -> tuple[bytes, bool]:
    """Read until the other end is closed; return what came, and whether time was over first."""
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    while True:
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return b"", True
        piece = os.read(fd, 1 << 20)
        if not piece:
            return b"".join(parts), False
        parts.append(piece)


def _be_child(
    work: Callable[[], Met], limits: Limits, writing: int, errors: int, also: Callable[[], None]
) -> None:
    """Work, tell, and end: nothing of the parent's is left to be done twice."""
    try:
        os.dup2(errors, 2)
        faulthandler.enable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _address_space() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        logging.disable(logging.CRITICAL)
        also()
        met = _protected(work)
        told = memoryview(json.dumps(asdict(met)).encode())
        while told:
            told = told[os.write(writing, told) :]
    finally:
        os._exit(0)


def _protected(work: Callable[[], Met]) -> Met:
    """Do the work; an exception that nobody expects is told as what was met."""
    try:
        return work()
    except MemoryError:
        gc.collect()
        return Met(memory=True, trace="MemoryError")
    except BaseException as error:  # whatever it is, the campaign must hear of it
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return Met(trace=line, memory=isinstance(error.__cause__, MemoryError))


def _address_space() -> int:
    """Return the bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def struck_by(part: Part, agno: int, stale: bool) -> Struck:
    """Return what of a part the judges need."""
    return Struck(part.kind, part.owner, part.start, part.size, agno, stale)
