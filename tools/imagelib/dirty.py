"""Leave an image whose log holds changes that are not in place yet."""

from __future__ import annotations

import os
import random
from pathlib import Path

from imagelib.kernel import run
from imagelib.populate import pattern, put

_STEPS = 250


def work_and_crash(top: Path, seed: str) -> None:
    """Change the tree at random, force the log now and then, shut the filesystem down.

    The log is flushed before the shutdown, the metadata is not: what was done since the mount is
    found in the log only.
    """
    chance = random.Random(seed)
    folder = os.path.join(os.fsencode(top), b"work")
    os.mkdir(folder)
    paths = [entry.path for entry in os.scandir(os.path.join(os.fsencode(top), b"files"))]
    for step in range(_STEPS):
        _step(chance, folder, step, paths)
        if step % 10 == 0:
            _force_log(folder)
    run("xfs_io", "-x", "-c", "shutdown -f", top)


def _step(chance: random.Random, folder: bytes, step: int, paths: list[bytes]) -> None:
    """Make, write, cut, link, rename, remove or decorate one file."""
    kind = chance.randrange(8)
    path = chance.choice(paths)
    new = os.path.join(folder, b"n%04d" % step + b"x" * chance.choice((0, 30, 200)))
    if kind <= 1:
        put(new, pattern(f"d{step}", chance.choice((0, 10, 3000, 20000))))
    elif kind == 2:
        with open(path, "r+b") as f:
            f.seek(chance.randrange(400) * 2048)
            f.write(pattern(f"w{step}", 100))
    elif kind == 3:
        os.truncate(path, chance.choice((0, 100, 5000, 100000)))
    elif kind == 4:
        os.link(path, new)
    elif kind == 5:
        os.rename(path, new)
        paths.remove(path)
    elif kind == 6:
        os.setxattr(path, b"user.a%d" % chance.randrange(9), pattern("v", chance.choice((9, 3000))))
        return
    else:
        os.unlink(path)
        paths.remove(path)
        os.symlink(b"t" * chance.choice((5, 400, 900)), new)
        return
    if kind != 2 and kind != 3:
        paths.append(new)


def _force_log(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
