"""The sound image held against the kernel's manifest of it, before it is struck.

The laws ask that an answer is that of the sound image. That this one is right is not for the
reader under test to say: a manifest, made of the kernel's own mount, tells (`demo/truth.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing

from wofs.demo.truth import (
    KINDS,
    NAMES,
    Facts,
    attribute_value,
    escape,
    timestamp,
    whole_manifest,
)
from wofs.demo.truth import attributes as attributes_of
from wofs.device import open_device
from wofs.errors import ImageError, WofsError
from wofs.fs import Filesystem
from wofs.fs import open as open_filesystem
from wofs.fs.path import Path
from wofs.fs.stat import DIR, LNK, REG

_BIG_BYTES = 64 << 20
"""Of longer files a manifest has another digest, which is not made here."""

_MOST_SEGMENTS = 64
"""More segments of data than that are told by a digest."""

_PIECE = 1 << 20

_KINDS = KINDS | {"bt": "time", "s": "holes"}


class BadManifest(WofsError):
    """A file is no manifest."""


def contradictions(image: str, manifest: str, norecovery: bool) -> Iterator[str]:
    """Yield a line for each path of which `image` is not read as `manifest` has it.

    Raises BadManifest, and as `wofs.open` does for an image that is not sound.
    """
    try:
        told = whole_manifest(manifest)
    except (RuntimeError, OSError) as error:
        raise BadManifest(str(error)) from error
    with (
        closing(open_device(image)) as device,
        open_filesystem(device, norecovery=norecovery) as filesystem,
    ):
        seen = set()
        for path in _paths(filesystem):
            name = bytes(path).lstrip(b"/") or b"."
            seen.add(name)
            line = _contradiction(filesystem, path, told.get(name))
            if line:
                yield f"/{escape(name)}: {line}"
        for name in sorted(told.keys() - seen):
            yield f"/{escape(name)}: is not found"


def _paths(filesystem: Filesystem) -> Iterator[Path]:
    """Yield every path; what is below a damaged directory is left out."""
    todo = [filesystem.root]
    while todo:
        path = todo.pop()
        yield path
        try:
            if path.lstat().type == DIR:
                todo += path.iterdir()
        except ImageError:
            continue  # its own line tells


def _contradiction(filesystem: Filesystem, path: Path, entry: Facts | None) -> str:
    """Say what of a path is not as its entry has it; "" if nothing is."""
    if entry is None:
        return "is not in the manifest"
    try:
        facts = _facts(filesystem, path)
    except ImageError as error:
        return "" if "e" in entry else str(error)
    for key, value in facts.items():
        if key in entry or value not in (None, []):
            wanted = entry.get(key)
            if value != wanted:
                return f"{_KINDS[key]} is {_short(value)}, by the manifest {_short(wanted)}"
    return ""


def _facts(filesystem: Filesystem, path: Path) -> Facts:
    """Return all that a manifest tells of a path."""
    stat = path.lstat()
    facts = attributes_of(stat) | {"bt": timestamp(stat.st_birthtime_ns)}
    xattrs = path.xattrs(follow_symlinks=False)
    shown = {escape(name): attribute_value(value) for name, value in xattrs.items()}
    facts["x"] = dict(sorted(shown.items())) or None
    if stat.type == LNK:
        facts["l"] = escape(path.readlink_bytes())
    elif stat.type == DIR:
        facts[NAMES] = sorted(escape(bytes(below).rpartition(b"/")[2]) for below in path.iterdir())
    elif stat.type == REG:
        facts |= _data(filesystem, path)
    return facts


def _data(filesystem: Filesystem, path: Path) -> Facts:
    """Return where a file has data, and its digest."""
    data, inode = filesystem.mount.data, path.inode(follow_symlinks=False)
    segments: object = [list(pair) for pair in data.segments(inode)]
    assert isinstance(segments, list)
    if len(segments) > _MOST_SEGMENTS:
        text = json.dumps(segments).encode()
        segments = f"{len(segments)}:{hashlib.sha256(text).hexdigest()}"
    if inode.size > _BIG_BYTES:
        return {"s": segments}
    running = hashlib.sha256()
    for at in range(0, inode.size, _PIECE):
        running.update(data.read(inode, at, min(_PIECE, inode.size - at)))
    return {"s": segments, "h": running.hexdigest()}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
