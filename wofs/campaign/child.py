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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wofs.campaign.subject import IMAGE, Answers, Failure, ask
from wofs.campaign.unit import Limits
from wofs.check.findings import Finding
from wofs.check.run import check
from wofs.device import FileDevice, open_device
from wofs.device.base import Device
from wofs.device.overlay import Overlay
from wofs.errors import ImageError
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem
from wofs.fs.stat import Stat

MOST_TOLD = 40
"""Answers of each sort that a child tells in words."""

_ESTIMATES = ("f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
"""Numbers that leave out what a damaged AG header would add, as the kernel's do: where one is
told to be unknown, they are known to be estimates."""

_OWN_ANSWER = {"inode": "lstat", "dirdata": "readdir", "target": "target", "attr": "xattrs"}
"""Which answer about the owner cannot be given without a structure of that kind."""

_SOME_ANSWER = ("bmbt", "value")
"""Structures without which some answer about the owner cannot be given."""


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
        self.failures = {one for one in self.answers.values() if isinstance(one, Failure)}
        """Errors that the sound image gives already: under another name they tell of no fault."""
        report = check(Overlay(device))
        self.findings = {_fact(finding) for finding in report.findings}
        self.codes = frozenset(report.counts)
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

    unknown = any(isinstance(now, Failure) for (path, _), now in answers.items() if path == IMAGE)

    def wrong(path: bytes, what: str, was: object, now: object) -> None:
        if path == IMAGE and what in _ESTIMATES and unknown:
            met.failures += 1
            return
        name = what if path != IMAGE else f"image {what}"
        met.attributes[name] = met.attributes.get(name, 0) + 1
        inos.update(i for i in (_ino(truth.answers, path), _ino(answers, path)) if i)
        if len(met.wrong) < MOST_TOLD:
            met.wrong.append([os.fsdecode(path), what, _short(was), _short(now)])

    for (path, what), now in answers.items():
        was = truth.answers.get((path, what))
        if was is None and what == "lookup":  # of many names only some are sought
            was = _ino(truth.answers, path) or None
        if was == now:
            continue
        if isinstance(now, Stat) and isinstance(was, Stat):
            for name, one, two in zip(Stat._fields, was, now, strict=True):
                if one != two:
                    wrong(path, name, one, two)
        elif isinstance(now, Failure) and now not in truth.failures:
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
        what = _OWN_ANSWER.get(one.kind, "")
        if not one.stale or not (what or one.kind in _SOME_ANSWER):
            continue
        for path in truth.paths.get(one.owner, ()):
            if not what:
                told = (answer for (there, _), answer in answers.items() if there == path)
                if not any(isinstance(answer, Failure) for answer in told):
                    yield f"{os.fsdecode(path)}: something of a {one.kind}"
            elif (path, what) in answers and not isinstance(answers[path, what], Failure):
                yield f"{os.fsdecode(path)} {what}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


# ---- the parent's side
Work = Callable[[], Met]
Outcome = tuple[Met | None, Death]
"""What a child met (None: it did not live to tell), and how it ended."""


def run(works: Sequence[Work], limits: Limits) -> list[Outcome]:
    """Do each work in a child under limits; return what came of each.

    A child goes on to the next work as long as all is well: what ends it, or raises, is done
    again by a fresh one, and only what happens then counts.
    """
    out: list[Outcome] = []
    while len(out) < len(works):
        found = _run(works[len(out) :], limits)
        met = found[-1][0]
        if len(found) > 1 and (met is None or met.trace):
            found.pop()
        out += found
    return out


def _run(works: Sequence[Work], limits: Limits) -> list[Outcome]:
    """Let one child do works until one goes wrong, which is the last that is returned then."""
    reading, writing = os.pipe()
    errors = os.memfd_create("stderr")
    pid = os.fork()
    if not pid:
        os.close(reading)
        _be_child(works, limits, writing, errors)
    os.close(writing)
    out: list[Outcome] = []
    began, timed_out = time.monotonic(), False
    try:
        for line in _lines(reading, limits.seconds):
            told = json.loads(line)
            now = time.monotonic()
            death = Death(millis=int((now - began) * 1000), peak_kib=told.pop("peak_kib"))
            out.append((Met(**told), death))
            began = now
    except TimeoutError:
        timed_out = True
        os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)  # a mount's server goes, and unmounts
    finally:
        os.close(reading)
        _, status, usage = os.wait4(pid, 0)
    if timed_out or (len(out) < len(works) and not (out and out[-1][0].trace)):  # type: ignore[union-attr]
        death = Death(
            os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, timed_out, _said(errors),
            int((time.monotonic() - began) * 1000), usage.ru_maxrss,
        )  # fmt: skip
        out.append((None, death))
    os.close(errors)
    return out


def _said(fd: int) -> str:
    """Return what a child wrote to its stderr."""
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, 1 << 16).decode(errors="backslashreplace")


def _lines(fd: int, seconds: float) -> Iterator[bytes]:
    """Yield lines until the other end is closed; TimeoutError where one takes too long."""
    buffer, until = b"", time.monotonic() + seconds
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    while True:
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        piece = os.read(fd, 1 << 20)
        if not piece:
            return
        *lines, buffer = (buffer + piece).split(b"\n")
        for line in lines:
            yield line
            until = time.monotonic() + seconds


def _be_child(works: Sequence[Work], limits: Limits, writing: int, errors: int) -> None:
    """Work, tell, and end: nothing of the parent's is left to be done twice."""
    try:
        os.setpgid(0, 0)
        os.dup2(errors, 2)
        faulthandler.enable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _address_space() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        logging.disable(logging.CRITICAL)
        for work in works:
            met = _protected(work)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            told = memoryview(json.dumps({**asdict(met), "peak_kib": peak}).encode() + b"\n")
            while told:
                told = told[os.write(writing, told) :]
            if met.trace:
                break
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
