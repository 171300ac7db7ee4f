"""The fields that depend on what a sound structure holds: records, entries, names, forks.

Their names are those of the record declarations where there is one: `rec[3].startblock`,
`entry[0].ino`, `leaf[2].hashval`, `bests[7]`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wofs.corrupt.parts import AG_TREES, Part
from wofs.ondisk import attr, btree, dir, inode
from wofs.ondisk.ag import AGFL_HEADER_BYTES
from wofs.record import Record
from wofs.xfs.btree import BMBT, Tree
from wofs.xfs.dir.parse import entry_bytes
from wofs.xfs.geometry import Geometry

_PAIR = struct.Struct(">HH").unpack_from
_DIR, _LNK = 4, 10


@dataclass(frozen=True, slots=True)
class Spot:
    """A field: `size` bytes at `offset` of a part.

    `bits` is (high, low) within these bytes; `little` marks little-endian ones; `plain` bytes
    that are no number; `items` counts those of an array. `size` 0 stands for the whole part,
    which has no field.
    """

    part: Part
    name: str = ""
    offset: int = 0
    size: int = 0
    bits: tuple[int, int] | None = None
    little: bool = False
    plain: bool = False
    items: int = 0


Row = tuple[str, int, int]
"""(name, offset, size) of a field that is a number; a size below 0 is that of plain bytes."""


def inside(part: Part, raw: bytes, geo: Geometry) -> Iterator[Spot]:
    """Yield the fields of what a sound structure holds; `raw` are its bytes."""
    if part.kind in AG_TREES:
        yield from _tree(part, raw, AG_TREES[part.kind][0], _record_of(part.kind, geo))
    elif part.kind == "bmbt":
        yield from _tree(part, raw, BMBT, btree.BmbtRecord)
    elif part.kind == "inode":
        yield from _inode(part, raw, geo)
    elif part.kind in _ROWS:
        for name, offset, size in _ROWS[part.kind](raw, geo):
            yield Spot(part, name, offset, abs(size), plain=size < 0)


def _record_of(kind: str, geo: Geometry) -> type[Record]:
    if kind in ("inobt", "finobt"):
        return btree.InobtRecord if geo.has_sparse else btree.InobtFullRecord
    if kind == "rmapbt":
        return btree.RmapRecord
    return btree.RefcountRecord if kind == "refcountbt" else btree.SpaceRecord


def _of_record(part: Part, name: str, at: int, record: type[Record]) -> Iterator[Spot]:
    for f in record.spec.fields:
        if f.bits:
            yield Spot(part, f"{name}.{f.name}", at, record.spec.size, f.bits)
        else:
            yield Spot(part, f"{name}.{f.name}", at + f.offset, f.size, None, f.little)


def _tree(part: Part, raw: bytes, tree: Tree, record: type[Record]) -> Iterator[Spot]:
    """Yield a leaf's records, or a node's keys (their first word) and pointers."""
    level, count = _PAIR(raw, 4)
    most = tree.maxrecs(part.size, level)
    for number in range(min(count, most)):
        if not level:
            at = tree.header + tree.record * number
            yield from _of_record(part, f"rec[{number}]", at, record)
            continue
        at = tree.header + tree.key * number
        yield Spot(part, f"key[{number}]", at, 8 if tree.key == 8 else 4)
        at = tree.header + tree.key * most + tree.pointer * number
        yield Spot(part, f"ptr[{number}]", at, tree.pointer)


# ---- directories and attributes
def _agfl(_: bytes, geo: Geometry) -> Iterator[Row]:
    for number in range(geo.agfl_size):
        yield f"bno[{number}]", AGFL_HEADER_BYTES + 4 * number, 4


def _data(raw: bytes, geo: Geometry) -> Iterator[Row]:
    """Yield the table of free pieces, the entries, and the index at the end of a single block."""
    for number in range(3):
        yield f"bestfree[{number}].offset", 48 + 4 * number, 2
        yield f"bestfree[{number}].length", 50 + 4 * number, 2
    end, leaves = len(raw), 0
    if raw[:4] == dir.MAGIC_BLOCK:
        leaves = int.from_bytes(raw[end - 8 : end - 4], "big")
        yield from (("tail.count", end - 8, 4), ("tail.stale", end - 4, 4))
        end -= 8 + 8 * leaves
    entries = pieces = 0
    at = dir.DATA_HEADER_BYTES
    while at < end:
        if raw[at : at + 2] == b"\xff\xff":
            name, length = f"free[{pieces}]", _PAIR(raw, at)[1]
            yield from ((f"{name}.freetag", at, 2), (f"{name}.length", at + 2, 2))
            yield f"{name}.tag", at + length - 2, 2
            at, pieces = at + max(8, length), pieces + 1
            continue
        yield from _entry(f"entry[{entries}]", at, raw[at + 8], bool(geo.has_ftype))
        at, entries = at + entry_bytes(raw[at + 8], bool(geo.has_ftype)), entries + 1
    yield from _pairs("leaf", end, leaves, "address")


def _entry(name: str, at: int, length: int, ftype: bool) -> Iterator[Row]:
    end = at + 9 + length
    yield f"{name}.ino", at, 8
    yield f"{name}.namelen", at + 8, 1
    yield f"{name}.name", at + 9, -length
    if ftype:
        yield f"{name}.ftype", end, 1
    yield f"{name}.tag", at + entry_bytes(length, ftype) - 2, 2


def _pairs(name: str, at: int, count: int, second: str) -> Iterator[Row]:
    for number in range(count):
        yield f"{name}[{number}].hashval", at + 8 * number, 4
        yield f"{name}[{number}].{second}", at + 8 * number + 4, 4


def _index(raw: bytes, _: Geometry) -> Iterator[Row]:
    """Yield the entries of a directory's node or leaf, and an only leaf's table."""
    count, size = _PAIR(raw, 56)[0], len(raw)
    node = raw[8:10] == dir.MAGIC_NODE
    yield from _pairs("node" if node else "leaf", 64, count, "before" if node else "address")
    if raw[8:10] == dir.MAGIC_LEAF1:
        bests = int.from_bytes(raw[size - 4 :], "big")
        yield "bestcount", size - 4, 4
        yield from ((f"bests[{n}]", size - 4 - 2 * (bests - n), 2) for n in range(bests))


def _free(raw: bytes, _: Geometry) -> Iterator[Row]:
    yield from (("firstdb", 48, 4), ("nvalid", 52, 4), ("nused", 56, 4))
    valid = int.from_bytes(raw[52:56], "big")
    yield from ((f"bests[{n}]", dir.FREE_HEADER_BYTES + 2 * n, 2) for n in range(valid))


def _attr(raw: bytes, _: Geometry) -> Iterator[Row]:
    """Yield the entries of an attribute node, or of a leaf with what they lead to."""
    count = _PAIR(raw, 56)[0]
    if raw[8:10] == dir.MAGIC_NODE:
        yield from _pairs("node", 64, count, "before")
        return
    for number in range(3):
        yield f"freemap[{number}].base", 64 + 4 * number, 2
        yield f"freemap[{number}].size", 66 + 4 * number, 2
    for number in range(count):
        at = attr.LEAF_HEADER_BYTES + 8 * number
        for f in attr.AttrEntry.spec.fields:
            yield f"entry[{number}].{f.name}", at + f.offset, f.size
        place, flags = _PAIR(raw, at + 4)[0], raw[at + 6]
        yield from _attr_name(f"name[{number}]", raw, place, bool(flags & attr.LOCAL))


def _attr_name(name: str, raw: bytes, at: int, local: bool) -> Iterator[Row]:
    if local:
        length, namelen = _PAIR(raw, at)[0], raw[at + 2]
        yield f"{name}.valuelen", at, 2
        yield f"{name}.namelen", at + 2, 1
        yield f"{name}.name", at + 3, -namelen
        if length:
            yield f"{name}.value", at + 3 + namelen, -length
        return
    yield from ((f"{name}.valueblk", at, 4), (f"{name}.valuelen", at + 4, 4))
    yield from ((f"{name}.namelen", at + 8, 1), (f"{name}.name", at + 9, -raw[at + 8]))


_ROWS: dict[str, Callable[[bytes, Geometry], Iterator[Row]]] = {
    "agfl": _agfl,
    "dirdata": _data,
    "dirindex": _index,
    "dirfree": _free,
    "attr": _attr,
}


# ---- forks in the inode
def _inode(part: Part, raw: bytes, geo: Geometry) -> Iterator[Spot]:
    core = inode.InodeCore.decode(raw)
    start, end = inode.CORE_BYTES, part.size
    middle = start + 8 * core.forkoff if core.forkoff else end
    counts = core.nextents, core.anextents
    if core.flags2 & inode.DIFLAG2_NREXT64:
        counts = core.big_nextents, core.nextents
    kind = core.mode >> 12
    if not kind:
        return  # a free one keeps its old body, which is nobody's
    if core.format == inode.FMT_LOCAL and kind == _DIR:
        rows = _short_directory(raw, start, bool(geo.has_ftype))
    elif core.format == inode.FMT_LOCAL and kind == _LNK:
        rows = iter([("link", start, -core.di_size)])
    elif core.format == inode.FMT_DEV:
        rows = iter([("rdev", start, 4)])
    else:
        rows = iter(())
    if core.forkoff and core.aformat == inode.FMT_LOCAL:
        rows = (*rows, *_short_attributes(raw, middle))  # type: ignore[assignment]
    for name, offset, size in rows:
        yield Spot(part, name, offset, abs(size), plain=size < 0)
    yield from _fork(part, raw[start:middle], start, core.format, counts[0], "")
    if core.forkoff:
        yield from _fork(part, raw[middle:end], middle, core.aformat, counts[1], "attr")


def _fork(
    part: Part, raw: bytes, start: int, form: int, count: int, prefix: str
) -> Iterator[Spot]:
    """Yield the extents of a fork, or the root of their btree."""
    if form == inode.FMT_EXTENTS:
        for number in range(count):
            name, at = f"{prefix}extent[{number}]", start + 16 * number
            yield from _of_record(part, name, at, btree.BmbtRecord)
    if form == inode.FMT_BTREE:
        yield Spot(part, f"{prefix}root.level", start, 2)
        yield Spot(part, f"{prefix}root.numrecs", start + 2, 2)
        most = (len(raw) - 4) // 16
        for number in range(min(most, _PAIR(raw, 0)[1])):
            yield Spot(part, f"{prefix}root.key[{number}]", start + 4 + 8 * number, 8)
            at = start + 4 + 8 * most + 8 * number
            yield Spot(part, f"{prefix}root.ptr[{number}]", at, 8)


def _short_directory(raw: bytes, at: int, ftype: bool) -> Iterator[Row]:
    """Yield the fields of a shortform directory (`xfs_dir2_sf_hdr`, `xfs_dir2_sf_entry`)."""
    wide = 8 if raw[at + 1] else 4
    count = raw[at] if wide == 4 else raw[at + 1]
    yield from (("sf.count", at, 1), ("sf.i8count", at + 1, 1), ("sf.parent", at + 2, wide))
    at += 2 + wide
    for number in range(count):
        name, length = f"sf[{number}]", raw[at]
        yield from ((f"{name}.namelen", at, 1), (f"{name}.tag", at + 1, 2))
        yield f"{name}.name", at + 3, -length
        at += 3 + length
        if ftype:
            yield f"{name}.ftype", at, 1
        yield f"{name}.ino", at + ftype, wide
        at += ftype + wide


def _short_attributes(raw: bytes, at: int) -> Iterator[Row]:
    """Yield the fields of shortform attributes (`xfs_attr_sf_hdr`, `xfs_attr_sf_entry`)."""
    count = raw[at + 2]
    yield from (("sfattr.totsize", at, 2), ("sfattr.count", at + 2, 1))
    at += 4
    for number in range(count):
        name, namelen, valuelen = f"sfattr[{number}]", raw[at], raw[at + 1]
        yield from ((f"{name}.namelen", at, 1), (f"{name}.valuelen", at + 1, 1))
        yield from ((f"{name}.flags", at + 2, 1), (f"{name}.name", at + 3, -namelen))
        if valuelen:
            yield f"{name}.value", at + 3 + namelen, -valuelen
        at += 3 + namelen + valuelen
