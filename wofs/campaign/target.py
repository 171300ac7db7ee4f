"""Other readers, driven over the same damaged copies: what do they say?

A reader is a command that gets the path of a copy of its own, without a shell. Its exit status is
its verdict; the kernel never mounts a damaged image here.
"""

from __future__ import annotations

import os
import re
import resource
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from wofs.campaign.fault import OVER_FUSE, Fault
from wofs.campaign.memory import CLASS
from wofs.campaign.results import Results, Verdict
from wofs.corrupt.apply import scratch
from wofs.corrupt.damage import Damage, Request
from wofs.device import FileDevice, open_device
from wofs.device.overlay import Overlay
from wofs.errors import WofsError
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem

STATUSES = {
    "accepted": "it found nothing wrong (exit status 0)",
    "refused": "it found something wrong (another exit status)",
    "crashed": "it was ended by a signal",
    "hung": "it took too long and was killed",
}
"""What another reader says of a damaged copy."""

ENDED = ("crashed", "hung")
"""Those that no reader should come to."""

PATIENCE_S = 60.0
"""How long a reader may take."""

REPAIR = "kernel-repair"
_REPAIR_IDLE = (
    r"Phase \d|\s+- |No modify flag"
    r"|Cannot get host filesystem|Repair may fail|the image and the host filesystem"
)
_COMMAND = "command:"
_IMAGE = "{image}"
_MOST_BYTES = 1 << 16
"""Bytes of what a reader says that are looked at; the rest is read and dropped."""
_LINE_CHARS = 200

_KNOWN_FALSE = {
    REPAIR: (
        "Known to be said of sound images by xfs_repair -n (6.1): faults in leaf blocks of "
        "directories that their hashes fill, and in images with blocks of 64 KiB.",
        "Known to be silent in it: a stale checksum of an attribute leaf; offset and owner in "
        "the header of a remote value; a remote value of length 0; the magic of an AGFL; odd "
        "sizes of directories; two namespace bits in an attribute's flags.",
    )
}

Tell = Callable[[int, int], object]
"""Told (verdicts so far, in all)."""


class BadReader(WofsError):
    """A reader is none, or cannot be run."""


@dataclass(frozen=True, slots=True)
class Target:
    """Another reader: its `name` in results, its command with {image} in it.

    Lines that match `idle` are not what it has to say.
    """

    name: str
    argv: tuple[str, ...]
    idle: str = ""

    def ask(self, path: str, patience_s: float = PATIENCE_S) -> Verdict:
        """Let it read the image at `path`; BadReader where it cannot be run."""
        argv = [word.replace(_IMAGE, path) for word in self.argv]
        began = time.monotonic()
        try:
            status, said = _run(argv, began + patience_s)
        except OSError as error:
            raise BadReader(f"{argv[0]}: {(error.strerror or str(error)).lower()}") from error
        millis = int(1000 * (time.monotonic() - began))
        return Verdict(self.name, status, self._line(said, path), millis)

    def _line(self, said: bytes, path: str) -> str:
        """Return the first line that says something; the copy's passing name is left out."""
        text = said.decode("utf-8", "surrogateescape").replace(path, _IMAGE)
        for line in text.splitlines():
            if line.strip() and not (self.idle and re.match(self.idle, line)):
                return line.strip()[:_LINE_CHARS]
        return ""


def target_of(text: str) -> Target:
    """Return the reader that `--target` names; BadReader for none, or one that is not there."""
    if text == REPAIR:
        found = Target(text, ("xfs_repair", "-n", "-f", _IMAGE), _REPAIR_IDLE)
    elif text.startswith(_COMMAND):
        try:
            argv = shlex.split(text.removeprefix(_COMMAND))
        except ValueError as error:
            raise BadReader(f"{text}: {str(error).lower()}") from error
        if not any(_IMAGE in word for word in argv[1:]):
            raise BadReader(f"{text}: the command says nowhere {_IMAGE}, the path of the copy")
        found = Target(text, tuple(argv))
    else:
        raise BadReader(f"{text}: a reader is {REPAIR}, or {_COMMAND}'PROGRAM ... {_IMAGE}'")
    if shutil.which(found.argv[0]) is None:
        raise BadReader(f"{found.argv[0]}: no such program")
    return found


def known_false(target: str) -> tuple[str, ...]:
    """Return what a reader is known to say wrongly, or not to say."""
    return _KNOWN_FALSE.get(target, ())


# ---- one process
def _run(argv: Sequence[str], until: float) -> tuple[str, bytes]:
    """Run a command to its end or the time `until`; return its status and what it said first.

    It and all it started, as far as these stay in its session, are gone afterwards.
    """
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
        try:
            ended, said = _listen(child.pid, child.stdout.fileno(), until)
        finally:  # before its number is given back, which another could get
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if not ended:
        return "hung", said
    if child.returncode < 0:
        return "crashed", said or _named(-child.returncode).encode()
    return ("refused" if child.returncode else "accepted"), said


def _named(number: int) -> str:
    """Return the name of a signal; those of real time have none but the first and the last."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _listen(pid: int, fd: int, until: float) -> tuple[bool, bytes]:
    """Read until the process ends; return whether it did in time, and what it said first."""
    said = bytearray()
    os.set_blocking(fd, False)
    watched = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(watched, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            ready = dict(poll.poll(1000 * left))
            if fd in ready and not _take(fd, said):
                poll.unregister(fd)  # it closed its output, and may go on
            elif watched in ready:
                _take(fd, said)  # a pipe holds no more
                return True, bytes(said)
    finally:
        os.close(watched)
    return False, bytes(said)


def _take(fd: int, said: bytearray) -> bool:
    """Read what is there, keep what is of the beginning; False where there is nothing."""
    try:
        piece = os.read(fd, _MOST_BYTES)
    except BlockingIOError:
        return False
    said += piece[: _MOST_BYTES - len(said)]
    return bool(piece)


# ---- all faults of a campaign
def control(
    images: Sequence[str], targets: Sequence[Target], patience_s: float
) -> Iterator[tuple[str, Verdict]]:
    """Yield what readers have against images as they are: (image, verdict).

    What a reader refuses in a sound image it refuses in a damaged one for no reason. Raises as
    `ask_all` does.
    """
    for image in images:
        with _sound(image) as (device, filesystem), Damage(device, Request(), filesystem) as none:
            for target in targets:
                with scratch(none.editor, device) as path:
                    verdict = target.ask(path, patience_s)
                if verdict.status != "accepted":
                    yield image, verdict


def ask_all(
    results: Results,
    targets: Sequence[Target],
    jobs: int,
    patience_s: float,
    tell: Tell,
    images: Collection[str] | None = None,
) -> None:
    """Ask `targets` about every fault on disk that has a result and no verdict of theirs yet.

    With `images` about those of these images alone.

    `jobs` readers run at once. Verdicts are kept as they come. Raises BadReader where one
    cannot be run, `OSError` where a copy cannot be made, and as `wofs.open` does.
    """
    faults: dict[str, list[Fault]] = {}
    for stored in results.results():
        fault = stored.result.fault
        if images is not None and fault.image not in images:
            continue
        if fault.klass != CLASS and not fault.klass.startswith(OVER_FUSE):
            faults.setdefault(fault.image, []).append(fault)
    todo = {
        (image, target): [fault for fault in found if fault.key not in judged]
        for image, found in faults.items()
        for target in targets
        for judged in [results.judged(image, target.name)]
    }
    total, done = sum(map(len, todo.values())), 0
    for (image, target), asked in todo.items():
        with _sound(image) as (device, filesystem), ThreadPoolExecutor(jobs) as pool:

            def judge(
                fault: Fault,
                target: Target = target,
                device: FileDevice = device,
                filesystem: Filesystem = filesystem,
            ) -> tuple[Fault, Verdict]:
                return fault, _judge(target, fault, device, filesystem, patience_s)

            for verdicts in _batches(pool, judge, asked, 4 * jobs):
                results.add_verdicts(verdicts)
                done += len(verdicts)
                tell(done, total)


@contextmanager
def _sound(path: str) -> Iterator[tuple[FileDevice, Filesystem]]:
    """Open the image that the copies are made of."""
    with closing(open_device(path)) as device:
        assert isinstance(device, FileDevice)  # what open_device opens
        with open_filesystem(Overlay(device), norecovery=True) as filesystem:
            yield device, filesystem


def _judge(
    target: Target, fault: Fault, device: FileDevice, filesystem: Filesystem, patience_s: float
) -> Verdict:
    with Damage(device, Request.of(fault.edits), filesystem) as damage:
        damage.do()
        with scratch(damage.editor, device) as path:
            return target.ask(path, patience_s)


Judged = tuple[Fault, Verdict]


def _batches(
    pool: ThreadPoolExecutor,
    judge: Callable[[Fault], Judged],
    faults: Iterable[Fault],
    most: int,
) -> Iterator[list[Judged]]:
    """Yield what comes of the faults as it comes, with at most so many under way."""
    left, running = iter(faults), set[Future[Judged]]()
    try:
        while True:
            for fault in left:
                running.add(pool.submit(judge, fault))
                if len(running) >= most:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield [future.result() for future in done]
    finally:
        for future in running:
            future.cancel()
