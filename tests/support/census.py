"""Walk what a live mount keeps in Python and tell which mount fields stand there a second time.

`python -m support.census IMAGE [fuse] [plant]` opens the image (and, with `fuse`, makes the
operations that serve it), uses it, and prints JSON: `compared`, the mount fields whose value is
unlike any other's; `twins`, where one of them was found; `records`, decoded mount structures
alive. `plant` keeps a twin and a record on purpose: they must be found.
"""

from __future__ import annotations

import gc
import json
import sys
import types
from collections.abc import Iterator

import wofs
from wofs.ondisk.ag import Agf, Agfl, Agi
from wofs.ondisk.sb import Superblock
from wofs.record import Record
from wofs.xfs.geometry import Geometry
from wofs.xfs.log import LogState
from wofs.xfs.mount import Mount
from wofs.xfs.options import MountOptions

SINGLE = {"sb": Superblock, "geo": Geometry, "log": LogState, "options": MountOptions}
PER_AG = {"agf": Agf, "agi": Agi, "agfl": Agfl}
LEAST_DISTINCT = 1000
"""Smaller numbers, and powers of two and one less, mean many things."""

NO_TWINS = {
    "magicnum": "the same on every image: the declaration says what it must be",
    "newino": "an inode's number, and inodes are cached by number",
}
"""Fields whose value stands elsewhere for another reason."""

_NOT_STATE = (type, types.ModuleType, types.FrameType, types.CodeType, str)

Value = int | bytes


def distinct(value: object) -> bool:
    """Whether finding this value elsewhere would say that it is a copy."""
    if isinstance(value, bytes):
        return len(value) >= 8 and len(set(value)) > 2
    if not isinstance(value, int) or value < LEAST_DISTINCT:
        return False
    return bool(value & (value - 1)) and bool(value & (value + 1))


def fields(mount: Mount) -> Iterator[tuple[str, Value]]:
    """Yield (name, value) of every mount field."""
    for name, record in SINGLE.items():
        for field in record.spec.fields:
            yield f"{name}.{field.name}", getattr(getattr(mount, name), field.name)
    for name, record in PER_AG.items():
        for agno, handle in enumerate(getattr(mount, name)):
            for field in record.spec.fields:
                yield f"{name}[{agno}].{field.name}", getattr(handle, field.name)


def state_of(thing: object) -> Iterator[tuple[str, object]]:
    """Yield (step, object) of what an object keeps."""
    if isinstance(thing, types.FunctionType):
        for cell in thing.__closure__ or ():
            yield "closure", cell.cell_contents
        return
    names = {id(v): k for k, v in getattr(thing, "__dict__", {}).items()}
    for below in gc.get_referents(thing):
        step = names.get(id(below), type(below).__name__)
        if isinstance(thing, dict):
            step = next((repr(k)[:30] for k, v in thing.items() if v is below), "key")
        yield step, below


def reachable(root: object) -> Iterator[tuple[str, object]]:
    """Yield (path, value) of every int and bytes that is kept below `root`."""
    pending: list[tuple[str, object]] = [("", root)]
    seen = {id(root)}
    while pending:
        path, thing = pending.pop()
        if isinstance(thing, int | bytes):
            yield path, thing
            continue
        for step, below in state_of(thing):
            if isinstance(below, _NOT_STATE) or id(below) in seen:
                continue
            if not isinstance(below, int | bytes):
                seen.add(id(below))
            pending.append((f"{path}.{step}", below))


def use(filesystem: wofs.Filesystem) -> None:
    """Do what users do, so that caches and lazily made state are there."""
    filesystem.info()
    list(filesystem.ags())
    for top, folders, files in filesystem.root.walk():
        for name in (*folders, *files):
            path = top / name
            path.lstat()
            dict(path.xattrs(follow_symlinks=False))
            if path.is_file() and not path.is_symlink():
                with path.open() as file:
                    file.read(4096)


def records_alive() -> list[str]:
    """Return the decoded mount structures that are alive anywhere in the process."""
    kinds: tuple[type[Record], ...] = (*SINGLE.values(), *PER_AG.values())
    return sorted(type(thing).__name__ for thing in gc.get_objects() if type(thing) in kinds)


def census(image: str, fuse: bool, plant: bool) -> dict[str, object]:
    """Open, use, and look."""
    filesystem = wofs.open(image)
    root: object = filesystem
    if fuse:
        from wofs.fuse.ops import Operations

        root = (filesystem, Operations(filesystem.mount))
    use(filesystem)
    if plant:
        filesystem.mount.kept = [filesystem.mount.sb.fdblocks]  # type: ignore[attr-defined]
        filesystem.mount.spare = Agi()  # type: ignore[attr-defined]
    gc.collect()
    wanted: dict[Value, str] = {
        value: name
        for name, value in fields(filesystem.mount)
        if distinct(value) and name.rpartition(".")[2] not in NO_TWINS
    }
    twins = [
        f"{wanted[value]} = {value!r} at {path}"
        for path, value in reachable(root)
        if not isinstance(value, bool) and value in wanted
    ]
    found: dict[str, object] = {
        "compared": sorted(wanted.values()),
        "twins": twins,
        "records": records_alive(),
    }
    filesystem.close()
    return found


if __name__ == "__main__":
    print(json.dumps(census(sys.argv[1], "fuse" in sys.argv[2:], "plant" in sys.argv[2:])))
