"""What is done with a mount, timed; each tells what it saw, so that sides can be compared."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchlib.sides import drop_caches

RANDOM_READS = 4000
PIECE_BYTES = 1 << 20
WARM_BYTES = 2 << 30

Seen = tuple[int | str, ...]
"""What a workload saw; the same on every side, or nothing was measured."""

Work = Callable[[Path], tuple[float, Seen]]
"""Does its work below a mount's top; returns seconds and what it saw."""


def lines_of(command: str, again: bool = False) -> Work:
    """Return a workload: a command whose lines, sorted, are what it saw.

    With `again` its second run is timed.
    """

    def work(top: Path) -> tuple[float, Seen]:
        with tempfile.TemporaryFile() as out:
            if again:
                subprocess.run(command, shell=True, cwd=top, check=True, stdout=subprocess.DEVNULL)
            start = time.monotonic()
            subprocess.run(command, shell=True, cwd=top, check=True, stdout=out)
            elapsed = time.monotonic() - start
            out.seek(0)
            lines = sorted(out.read().splitlines())
        return elapsed, (len(lines), hashlib.sha256(b"\n".join(lines)).hexdigest())

    return work


def bytes_of(command: str) -> Work:
    """Return a workload: a command that prints how many bytes it saw."""

    def work(top: Path) -> tuple[float, Seen]:
        start = time.monotonic()
        done = subprocess.run(command, shell=True, cwd=top, check=True, capture_output=True)
        return time.monotonic() - start, (int(done.stdout),)

    return work


def largest_file(top: Path) -> Path:
    """Return the largest regular file below `top`."""
    argv = ["find", str(top), "-xdev", "-type", "f", "-printf", "%s %p\\n"]
    listing = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    largest = max(listing.splitlines(), key=lambda line: int(line.split(" ", 1)[0]))
    return Path(largest.split(" ", 1)[1])


def read_through(path: Path) -> tuple[float, str]:
    """Read a file from start to end; return the seconds and a digest made aside."""
    digest, buffer = hashlib.blake2b(), bytearray(PIECE_BYTES)
    elapsed = 0.0
    with path.open("rb", buffering=0) as file:
        while True:
            start = time.monotonic()
            got = file.readinto(buffer)
            elapsed += time.monotonic() - start
            if not got:
                return elapsed, digest.hexdigest()
            digest.update(memoryview(buffer)[:got])


def sequential_cold(top: Path) -> tuple[float, Seen]:
    """Read the largest file."""
    path = largest_file(top)
    drop_caches()
    elapsed, digest = read_through(path)
    return elapsed, (path.name, digest)


def sequential_warm(top: Path) -> tuple[float, Seen]:
    """Read the largest file over and over once it is cached; the time is for WARM_BYTES."""
    path = largest_file(top)
    _, digest = read_through(path)
    buffer, size = bytearray(PIECE_BYTES), path.stat().st_size
    times = max(1, WARM_BYTES // size)
    start = time.monotonic()
    for _ in range(times):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    elapsed = time.monotonic() - start
    return elapsed * WARM_BYTES / (times * size), (path.name, digest)


def random_reads(top: Path) -> tuple[float, Seen]:
    """Read 4 KiB at seeded random places of the largest file, cold, without read-ahead."""
    path = largest_file(top)
    size = path.stat().st_size
    rng = random.Random(1)
    places = [rng.randrange(max(1, size - 4096)) & ~4095 for _ in range(RANDOM_READS)]
    drop_caches()
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    start = time.monotonic()
    parts = [os.pread(fd, 4096, place) for place in places]
    elapsed = time.monotonic() - start
    os.close(fd)
    return elapsed, (hashlib.sha256(b"".join(parts)).hexdigest(),)


@dataclass(frozen=True)
class Workload:
    """One row of the table: which image, what is done, what it is called."""

    image: str
    title: str
    work: Work


WORKLOADS = {
    "find": Workload("usr", "find -ls, cold", lines_of("find . -ls")),
    "find-warm": Workload("usr", "find -ls, again", lines_of("find . -ls", again=True)),
    "ls": Workload("dir200k", "ls -l of 200,000 entries, cold", lines_of("ls -l d")),
    "tar": Workload("usr", "tar of everything, cold", bytes_of("tar cf - . | wc -c")),
    "seq-cold": Workload("usr", "sequential read, cold", sequential_cold),
    "seq-warm": Workload("usr", "sequential read of 2 GiB, warm", sequential_warm),
    "random": Workload("usr", "4,000 random 4 KiB reads, cold", random_reads),
}
