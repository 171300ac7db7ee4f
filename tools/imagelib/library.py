"""An image read through the library: every path, and what could not be read of it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

from imagelib.manifest import (
    Entry,
    attributes,
    data_hash,
    escape,
    segment_map,
    timestamp,
    xattr_value,
)
from wofs.errors import ImageError, PathError, WofsError
from wofs.fs import File, Filesystem, Path

Fault = dict[str, object]
"""One error: "part" of the path that was asked for, "class", "object", "field", "text"."""

Walked = tuple[str, Entry, list[Fault]]
"""(escaped path, what a manifest says of it, what could not be read)."""


def fault(part: str, error: WofsError | OSError) -> Fault:
    """Return the facts of an error."""
    where = error.where if isinstance(error, ImageError) else None
    return {
        "part": part,
        "class": type(error).__name__,
        "object": where.object if where else "",
        "field": (where.field if where else None) or "",
        "text": str(error),
    }


def walk_library(filesystem: Filesystem, lookups: bool = False) -> Iterator[Walked]:
    """Yield all that an image holds, a directory after the files in it, damage with its path.

    With `lookups` every name of a listing is also looked up by itself and must lead to the
    same inode.
    """
    todo = [(b".", filesystem.root)]
    while todo:
        name, path = todo.pop()
        found, faults = describe(path)
        if found.get("t", "d") == "d":
            prefix = b"" if name == b"." else name + b"/"
            for below, directory in _children(path, faults, lookups):
                full = prefix + below.name_bytes
                if directory:
                    todo.append((full, below))
                else:
                    yield (escape(full), *describe(below))
        yield escape(name), found, faults


def _children(path: Path, faults: list[Fault], lookups: bool) -> Iterator[tuple[Path, bool]]:
    """Yield (path, whether it is a directory) of what a directory holds."""

    def tell(error: ImageError) -> None:
        faults.append(fault("readdir", error))

    try:
        for batch in path.batches(tell):
            for index, inode in enumerate(batch.inodes()):
                below = path.at(batch, index)
                if isinstance(inode, ImageError):
                    yield below, False
                    continue
                if lookups:
                    faults += _lookup(path, below.name_bytes, inode.ino)
                yield below, stat.S_ISDIR(inode.mode)
    except (ImageError, PathError, OSError) as error:
        faults.append(fault("readdir", error))


def _lookup(directory: Path, name: bytes, ino: int) -> list[Fault]:
    """Look up a listed name whose inode is sound; return what went wrong."""
    part = "lookup " + escape(name)
    try:
        found = directory.image.tree.child(directory.inode(), name).ino
    except (ImageError, PathError) as error:
        return [fault(part, error)]
    if found == ino:
        return []
    text = f"leads to inode {found}, the listing to {ino}"
    return [{"part": part, "class": "", "object": "", "field": "", "text": text}]


def describe(path: Path) -> tuple[Entry, list[Fault]]:
    """Return what a manifest says of one path, and what could not be read of it."""
    faults: list[Fault] = []

    def guarded(part: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (ImageError, PathError, OSError) as error:
            faults.append(fault(part, error))

    entry: Entry = {}
    guarded("lstat", lambda: entry.update(_attributes(path)))
    if not entry:
        return entry, faults
    if entry["t"] == "l":
        guarded("readlink", lambda: entry.update(l=escape(path.readlink_bytes())))
    if entry["t"] == "f":
        guarded("data", lambda: _describe_data(entry, path))
    guarded("xattr", lambda: _describe_xattrs(entry, faults, path))
    return entry, faults


def _attributes(path: Path) -> Entry:
    st = path.lstat()
    return attributes(st, timestamp(st.st_birthtime_ns))


def _describe_data(entry: Entry, path: Path) -> None:
    with path.open("rb") as file:
        segments = list(file.segments())
        entry["s"] = segment_map(segments)
        entry["h"] = data_hash(lambda at, n: _pread(file, at, n), path.lstat().st_size, segments)


def _describe_xattrs(entry: Entry, faults: list[Fault], path: Path) -> None:
    """Add the attributes that can be read to `entry`; each of the others gives a fault."""
    xattrs = path.xattrs(follow_symlinks=False)
    found = {}
    for name in sorted(xattrs):
        try:
            found[escape(name)] = xattr_value(xattrs[name])
        except (ImageError, PathError, OSError) as error:
            faults.append(fault("xattr " + escape(name), error))
    if found:
        entry["x"] = found


def _pread(file: File, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
