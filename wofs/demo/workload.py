"""Workloads over a mounted image: what a user asks, each answer told as it comes.

An answer is (path, what the mount said): attributes and a checksum of the data, or the name of
the error. The same workload over the undisturbed image gives the truth.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from wofs.fuse.errmap import name_of

Answer = tuple[str, str]
Ask = Callable[[str], str]
Workload = Callable[[Path, int], Iterator[Answer]]
"""Given the mount point and a seed, yields answers."""

_CHUNK = 1 << 20
_MOST_CHUNKS = 32
"""A sparse file may be larger than anybody could read: its start and its end stand for it."""

_RANDOM_READS = 400
_RANDOM_BYTES = 4096


def asked(word: str, path: str, ask: Ask) -> Answer:
    """Return the answer, or the error in its place."""
    try:
        return f"{word} {path}", ask(path)
    except OSError as error:
        return f"{word} {path}", f"error {name_of(error)}"


def attributes(path: str) -> str:
    """Return what lstat(2) and readlink(2) say; a directory's names too."""
    st = os.lstat(path)
    said = (
        f"{st.st_mode:o} {st.st_ino} {st.st_nlink} {st.st_uid} {st.st_gid} {st.st_size} "
        f"{st.st_blocks} {st.st_mtime_ns} {st.st_ctime_ns}"
    )
    if os.path.islink(path):
        said += f" -> {os.readlink(path)!r}"
    elif os.path.isdir(path):
        said += f" {hashlib.sha256(repr(sorted(os.listdir(path))).encode()).hexdigest()[:16]}"
    return said


def checksum(path: str) -> str:
    """Return a checksum of a file's data."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for _ in range(_MOST_CHUNKS):
            digest.update(file.read(_CHUNK))
        size = file.seek(0, os.SEEK_END)
        digest.update(os.pread(file.fileno(), _CHUNK, max(0, size - _CHUNK)))
    return digest.hexdigest()[:16]


def paths(top: Path) -> Iterator[str]:
    """Yield every path below a mount point, in one order, whatever fails on the way."""
    for folder, folders, files in os.walk(top):
        folders.sort()
        yield folder
        for name in sorted(files):
            yield os.path.join(folder, name)


def tree(top: Path, _: int) -> Iterator[Answer]:
    """Ask for the attributes and the data of everything."""
    for path in paths(top):
        yield asked("stat", path, attributes)
        if os.path.isfile(path) and not os.path.islink(path):
            yield asked("data", path, checksum)


def find(top: Path, _: int) -> Iterator[Answer]:
    """Ask for the attributes of everything."""
    for path in paths(top):
        yield asked("stat", path, attributes)


def random_reads(top: Path, seed: int) -> Iterator[Answer]:
    """Read at random places of random files."""
    rng = random.Random(seed)
    files = [p for p in paths(top) if os.path.isfile(p) and not os.path.islink(p)]
    for number in range(_RANDOM_READS):
        path = rng.choice(files)
        size = os.lstat(path).st_size
        offset = rng.randrange(max(1, size))

        def ask(path: str, offset: int = offset) -> str:
            with open(path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), _RANDOM_BYTES, offset)
            return hashlib.sha256(data).hexdigest()[:16]

        yield asked(f"read {number} at {offset} of", path, ask)


WORKLOADS: dict[str, Workload] = {"tree": tree, "find": find, "random": random_reads}
