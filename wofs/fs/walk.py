"""Going through trees without stopping at damage, and without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from wofs.errors import ImageError, PathError
from wofs.fs.image import Image
from wofs.fs.stat import DIR, Stat, stat_of
from wofs.fs.tree import Batch, OnError


class Listable(Protocol):
    """What a walk needs of a path."""

    image: Image

    @property
    def name(self) -> str:
        """The last name as text."""
        ...

    @property
    def name_bytes(self) -> bytes:
        """The last name as it is stored."""
        ...

    def batches(self, on_error: OnError | None = None) -> Iterator[Batch]:
        """Yield the directory's entries block by block."""
        ...

    def at(self: P, batch: Batch, index: int) -> P:
        """Return the path of one entry of a batch."""
        ...

    def joinpath(self: P, *segments: bytes) -> P:
        """Return the path with `segments` added."""
        ...

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether the path leads to anything."""
        ...


P = TypeVar("P", bound=Listable)

Damage = ImageError | OSError
"""What a walk tells and survives."""

Tell = Callable[[P, Damage], object]
"""Told of each thing that could not be read, and where."""


def children(directory: P, tell: Tell[P]) -> Iterator[tuple[P, Stat | None]]:
    """Yield (path, attributes) of what a directory holds, inodes read in bulk.

    Damage is told, and it goes on; a damaged inode has None for its attributes.

    A directory that has its place elsewhere (a loop) is told too, and yields nothing.
    """

    def of_directory(error: ImageError) -> None:
        tell(directory, error)

    batches = directory.batches(of_directory)
    geo = directory.image.mount.geo
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
    top: P, tell: Tell[P], max_depth: int | None = None
) -> Iterator[tuple[P, Stat | None, int]]:
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


def walk(top: P, tell: Tell[P], top_down: bool) -> Iterator[tuple[P, list[str], list[str]]]:
    """Yield (directory, names of subdirectories, other names), one way or the other."""
    stack: list[P | tuple[P, list[str], list[str]]] = [top]
    while stack:
        directory = stack.pop()
        if isinstance(directory, tuple):  # all below it was yielded
            yield directory
            continue
        below: dict[str, P] = {}
        others: list[str] = []
        for path, stat in children(directory, tell):
            if stat is not None and stat.type == DIR:
                below[path.name] = path
            else:
                others.append(path.name)
        names = list(below)
        if top_down:
            yield directory, names, others
        else:
            stack.append((directory, names, others))
        stack.extend(below[name] for name in reversed(names) if name in below)


def glob(top: P, parts: list[bytes]) -> Iterator[P]:
    """Yield the paths below `top` whose names match `parts`, one pattern a level; each once."""
    paths: Iterator[P] = iter((top,))
    for number, part in enumerate(parts):
        if part != b"**" or parts[number - 1 : number] != [b"**"]:
            paths = _expand(paths, part)
    return _once(paths) if parts.count(b"**") > 1 else paths


def _once(paths: Iterator[P]) -> Iterator[P]:
    """Yield each path the first time: between two `**` a name may be found twice."""
    seen: set[P] = set()
    for path in paths:
        if path not in seen:
            seen.add(path)
            yield path


def _expand(paths: Iterator[P], part: bytes) -> Iterator[P]:
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


def _report(path: Listable, error: Damage) -> None:
    """Log damage; what is no directory, or a link to nowhere, merely holds no match."""
    if isinstance(error, ImageError):
        path.image.mount.report(error)
    elif not isinstance(error, PathError):
        raise error
