"""Attributes of an inode: names, values, leaves' free space, parent pointers.

Parent pointers are held against the entries of all directories by a sum for each inode: every
entry adds a number made of (directory, its generation, name), every parent pointer takes it
away. Source: `scrub/attr.c`, `scrub/parent.c`, `xfs_attr_leaf.c: xfs_attr3_leaf_verify`,
`xfs_parent.c: xfs_parent_hashval`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from wofs.check.state import State
from wofs.errors import ImageError
from wofs.ondisk import attr as disk
from wofs.ondisk.inode import FMT_LOCAL
from wofs.xfs.attr import leaf_entries
from wofs.xfs.dir.hash import da_hashname
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.parse import DOT_NAMES
from wofs.xfs.geometry import valid_ino
from wofs.xfs.inode import Inode

_PARENT = struct.Struct(">QI")


def check_attrs(state: State, inode: Inode) -> None:
    """Check the attributes of an inode whose attribute fork's extents are sound."""
    mount = state.mount
    try:
        for _ in mount.attrs.items(inode):
            pass
        if not mount.attrs.has_any(inode):
            return
        state.note_attributes(inode.ino)
        if inode.aformat == FMT_LOCAL:
            for flags, name, value in mount.attrs.stored(inode):
                _check(state, inode, flags, name, value, None)
            return
        for leaf in mount.attrs.leaves(inode):
            entries = zip(leaf.hashes, leaf_entries(leaf), strict=True)
            for hashval, (flags, name, value) in entries:
                _check(state, inode, flags, name, value, hashval)
            where = leaf.where
            for field, expected, found in space_problems(leaf):
                state.report.add(
                    "attr-freemap", where.object, field, ino=inode.ino, expected=expected,
                    found=found, offset=None if where.daddr is None else where.daddr << 9,
                )  # fmt: skip
    except ImageError as error:
        state.report.error("attr-damaged", error, ino=inode.ino)


def _check(
    state: State, inode: Inode, flags: int, name: bytes, value: object, hashval: int | None
) -> None:
    """Check what is special in an attribute."""
    if flags & disk.INCOMPLETE:
        state.report.add(
            "attr-incomplete", f"inode {inode.ino}", f"attribute {name!r} flags",
            expected="not incomplete", found=f"{flags:#x}", ino=inode.ino,
        )  # fmt: skip
    elif flags & disk.PARENT:
        _check_parent(state, inode, name, value, hashval)


def _check_parent(
    state: State, inode: Inode, name: bytes, value: object, hashval: int | None
) -> None:
    """Check a parent pointer, and take it off the inode's sum."""

    def bad(field: str, expected: object, found: object) -> None:
        state.report.add(
            "parent-damaged", f"inode {inode.ino}", f"parent pointer {name!r} {field}",
            expected=expected, found=found, ino=inode.ino,
        )  # fmt: skip

    if not isinstance(value, bytes) or len(value) != _PARENT.size:
        bad("value", f"{_PARENT.size} bytes", value)
        return
    parent, generation = _PARENT.unpack(value)
    wanted = da_hashname(name) ^ parent >> 32 ^ parent & 0xFFFFFFFF
    if not valid_ino(state.mount.geo, parent) or parent == inode.ino:
        bad("inumber", "another inode of the filesystem", parent)
    elif b"/" in name or name in DOT_NAMES:
        bad("name", "a name of an entry", name)
    elif hashval is not None and hashval != wanted:
        bad("hashval", f"{wanted:#x}", f"{hashval:#x}")
    state.count_parent(inode.ino, parent, generation, name, -1)


def _freemap(leaf: IndexBlock) -> list[tuple[int, int]]:
    words = disk.FREEMAP.unpack_from(leaf.data, disk.FREEMAP_OFFSET)
    return [(words[at], words[at + 1]) for at in (0, 2, 4)]


def space_problems(leaf: IndexBlock) -> Iterator[tuple[str, object, object]]:
    """Yield (field, expected, found) for what a sound leaf says of its space and is not so."""
    problem = freemap_problem(leaf)
    if problem:
        yield "freemap", problem, _freemap(leaf)
    count, _, firstused = disk.LEAF_HEADER(leaf.data, 0)
    entries = disk.AttrEntry.iter(leaf.data, disk.LEAF_HEADER_BYTES, count)
    lowest = min((nameidx for _, nameidx, _, _ in entries), default=len(leaf.data))
    firstused = firstused or 1 << 16
    if firstused > lowest or (firstused < lowest and not leaf.data[disk.HOLES_OFFSET]):
        yield "firstused", f"{lowest}, where the first name lies", firstused


def freemap_problem(leaf: IndexBlock) -> str:
    """Say what the pieces of a leaf's free space must be and are not; "" if nothing."""
    count, _, _ = disk.LEAF_HEADER(leaf.data, 0)
    table_end, size = disk.LEAF_HEADER_BYTES + 8 * count, len(leaf.data)
    pieces = sorted((base, length) for base, length in _freemap(leaf) if length)
    taken = sorted(_taken(leaf, count))
    for base, length in pieces:
        if base & 3 or length & 3 or base + length > size:
            return f"pieces at multiples of 4, within {size} bytes"
        if base < table_end:
            return f"pieces beyond the {count} entries, which end at {table_end}"
    end = 0
    for base, length, free in sorted([(b, n, True) for b, n in pieces] + taken):
        if base < end:
            return "pieces that overlap nothing" if free else "pieces free of names and values"
        end = max(end, base + length)
    return ""


def _taken(leaf: IndexBlock, count: int) -> list[tuple[int, int, bool]]:
    """Return (first byte, bytes, False) of the names and values of a sound leaf."""
    out = []
    for (_, nameidx, flags, _), (_, name, value) in zip(
        disk.AttrEntry.iter(leaf.data, disk.LEAF_HEADER_BYTES, count), leaf_entries(leaf),
        strict=True,
    ):  # fmt: skip
        remote = not flags & disk.LOCAL
        length = 9 + len(name) if remote else 3 + len(name) + len(value)
        out.append((nameidx, length + 3 & ~3, False))
    return out
