"""Going through trees without stopping at damage, and without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from wofs.errors import ImageError, NotDir
from wofs.fs.stat import DIR, Stat, stat_of

if TYPE_CHECKING:
    from wofs.fs.path import Path

Tell = Callable[["Path", "ImageError | OSError"], object]
"""Told of each thing that could not be read, and where."""

Child = tuple["Path", Stat | None]
"""A path and its attributes; None where the inode is damaged (and was told)."""


def children(directory: Path, tell: Tell) -> Iterator[Child]:
    """Yield what a directory holds, inodes read in bulk; damage is told, and it goes on.

    A directory that has its place elsewhere (a loop) is told too, and yields nothing.
    """

    def of_directory(error: ImageError) -> None:
        tell(directory, error)

    batches = directory.batches(of_directory)
    geo = directory.filesystem.mount.geo
    while True:
        try:
            batch = next(batches, None)
            inodes = batch.inodes() if batch is not None else []
        except (ImageError, OSError) as error:
            tell(directory, error)
            return
        if batch is None:
            return
        for index, inode in enumerate(inodes):
            path = directory.at(batch, index)
            if isinstance(inode, ImageError):
                tell(path, inode)
                yield path, None
            else:
                yield path, stat_of(geo, inode)


def descend(
    top: Path, tell: Tell, max_depth: int | None = None
) -> Iterator[tuple[Path, Stat | None, int]]:
    """Yield (path, attributes, depth) of everything below `top`, parents before children.

    `top` itself is not among them; its children have depth 1, the deepest `max_depth`.
    """
    stack = [children(top, tell)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, stat = found
        yield path, stat, len(stack)
        if stat is not None and stat.type == DIR and (max_depth is None or len(stack) < max_depth):
            stack.append(children(path, tell))


def walk(top: Path, tell: Tell) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield (directory, names of subdirectories, other names), top down (`Path.walk`)."""
    stack = [top]
    while stack:
        directory = stack.pop()
        below: dict[str, Path] = {}
        others: list[str] = []
        for path, stat in children(directory, tell):
            if stat is not None and stat.type == DIR:
                below[path.name] = path
            else:
                others.append(path.name)
        names = list(below)
        yield directory, names, others
        stack.extend(below[name] for name in reversed(names) if name in below)


def glob(top: Path, parts: list[bytes]) -> Iterator[Path]:
    """Yield the paths below `top` whose names match `parts`, one pattern a level."""
    paths: Iterator[Path] = iter((top,))
    for part in parts:
        paths = _expand(paths, part)
    return paths


def _expand(paths: Iterator[Path], part: bytes) -> Iterator[Path]:
    """Yield what one pattern matches in each of `paths`."""
    for path in paths:
        if part == b"**":
            yield path
            for below, stat, _ in descend(path, _report):
                if stat is not None and stat.type == DIR:
                    yield below
        elif any(mark in part for mark in (b"*", b"?", b"[")):
            for below, _ in children(path, _report):
                if fnmatchcase(below.name_bytes, part):
                    yield below
        else:
            found = path.joinpath(part)
            if found.exists(follow_symlinks=False):
                yield found


def _report(path: Path, error: ImageError | OSError) -> None:
    """Log damage; what is no directory merely holds no match."""
    if isinstance(error, ImageError):
        path.filesystem.mount.report(error)
    elif not isinstance(error, NotDir):
        raise error
