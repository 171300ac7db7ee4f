"""Entries of shortform directories and of data blocks, verified as they are parsed.

Source: `xfs_dir2_data.c: __xfs_dir3_data_check`, `xfs_dir2_sf.c: xfs_dir2_sf_verify`; beyond
the kernel's: names hold neither '/' nor NUL, and '.' and '..' stand only at the start.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

from wofs.errors import BadField, ImageError, Where
from wofs.ondisk.dir import (
    BLOCK_TAIL_BYTES,
    DATA_HEADER_BYTES,
    FREE_TAG,
    FT_DIR,
    FT_WHT,
    MAGIC_BLOCK,
)
from wofs.xfs import _decode
from wofs.xfs.buffer import Block
from wofs.xfs.geometry import Geometry, ino_bounds, valid_ino
from wofs.xfs.inode import Inode

Entry = tuple[int, int, int, bytes]
"""(cookie, ino, ftype, name); the cookie is the entry's place in the directory's data / 8 + 1."""

Problem = tuple[str, object, object]
"""(field, found, expected) of a broken rule."""

DOT_COOKIE = (DATA_HEADER_BYTES >> 3) + 1
DOTDOT_COOKIE = DOT_COOKIE + 2
"""Where '.' and '..' lie in a directory's first block, and no other entry in any form."""

DOT_NAMES = (b".", b"..")
"""Names of entries that stand at the start only."""

_HEAD = struct.Struct(">QB").unpack_from
_U16 = struct.Struct(">H").unpack_from
_U32 = struct.Struct(">I").unpack_from
_TAIL = struct.Struct(">II").unpack_from
_LEAF_ENTRY_BYTES = 8


def bad(where: Where, field: str, found: object, expected: object) -> ImageError:
    """Return the error for a field of the block or inode at `where`."""
    place = Where(where.image, where.object, where.daddr, where.length, field)
    return BadField(place, "", expected, found)


def entry_bytes(namelen: int, has_ftype: bool) -> int:
    """Return the bytes an entry of a data block takes (`xfs_dir2_data_entsize`)."""
    return 9 + namelen + (3 if has_ftype else 2) + 7 & ~7


def data_end(block: Block, where: Where) -> int:
    """Return where the entries of a data block end: before the leaf array of block form."""
    size = len(block.data)
    if block.magic != MAGIC_BLOCK:
        return size
    count: int = _U32(block.data, size - BLOCK_TAIL_BYTES)[0]
    most = (size - DATA_HEADER_BYTES - BLOCK_TAIL_BYTES) // _LEAF_ENTRY_BYTES
    if count > most:
        raise bad(where, "tail count", count, f"at most {most}")
    return size - BLOCK_TAIL_BYTES - count * _LEAF_ENTRY_BYTES


def data_entries(geo: Geometry, block: Block, base: int, where: Where) -> list[Entry]:
    """Return all entries of a data block, '.' and '..' too.

    `base` is the block's offset in bytes in the directory's data space. Raises BadField.
    """
    data, end = block.data, data_end(block, where)
    out = _decode.data_entries(data, end, base, ino_bounds(geo), bool(geo.has_ftype))
    if out is None:
        out = _data_entries(geo, data, end, base, where)
    if block.magic == MAGIC_BLOCK:
        _check_tail(data, len(out), where)
    problem = _names_problem([entry[3] for entry in out], base == 0)
    if problem:
        raise bad(where, *problem)
    return out


def _data_entries(geo: Geometry, data: bytes, end: int, base: int, where: Where) -> list[Entry]:
    """Return the entries before `end`, or raise for the rule that one of them breaks."""
    tail = 3 if geo.has_ftype else 2
    out: list[Entry] = []
    at = DATA_HEADER_BYTES
    while at < end:
        ino, namelen = _HEAD(data, at) if end - at >= 16 else _short_rest(data, at, end, where)
        if ino >> 48 == FREE_TAG:
            at += _free_length(data, at, end, where)
            continue
        name_end = at + 9 + namelen
        stop = at + entry_bytes(namelen, tail == 3)
        if not namelen or stop > end:
            raise bad(where, f"entry at {at} namelen", namelen, f"1 to {end - at - 9 - tail}")
        ftype = data[name_end] if tail == 3 else 0
        tag = _U16(data, stop - 2)[0]
        problem = _entry_problem(geo, at, ino, ftype, tag)
        if problem:
            raise bad(where, f"entry at {at} {problem[0]}", problem[1], problem[2])
        out.append(((base + at >> 3) + 1, ino, ftype, data[at + 9 : name_end]))
        at = stop
    return out


def _check_tail(data: bytes, entries: int, where: Where) -> None:
    """Hold the counts at the end of a block form against the number of entries."""
    count, stale = _TAIL(data, len(data) - BLOCK_TAIL_BYTES)
    if count - stale != entries:
        raise bad(where, "tail count", f"{count} with {stale} stale", f"{entries} in use")


def _short_rest(data: bytes, at: int, end: int, where: Where) -> tuple[int, int]:
    """Return the head of what lies before `end`, too close for anything but a free entry."""
    if data[at : at + 2] != b"\xff\xff":
        raise bad(where, f"entry at {at}", "cut off by the end", "a whole entry")
    return FREE_TAG << 48, 0


def _entry_problem(geo: Geometry, at: int, ino: int, ftype: int, tag: int) -> Problem | None:
    """Return the first rule an entry at `at` of a data block breaks."""
    if not valid_ino(geo, ino):
        return "inumber", ino, "an inode of the filesystem"
    if tag != at:
        return "tag", tag, at
    if ftype > FT_WHT:
        return "ftype", ftype, f"at most {FT_WHT}"
    return None


def _free_length(data: bytes, at: int, end: int, where: Where) -> int:
    """Return the length of the free entry at `at`."""
    length: int = _U16(data, at + 2)[0]
    if length < 8 or length & 7 or at + length > end:
        raise bad(where, f"free entry at {at} length", length, f"a multiple of 8 to {end - at}")
    (tag,) = _U16(data, at + length - 2)
    if tag != at:
        raise bad(where, f"free entry at {at} tag", tag, at)
    return length


def _names_problem(names: list[bytes], with_dots: bool) -> Problem | None:
    """Say what is wrong with the names of a block: unique, without '/' and NUL they must be.

    '.' and '..' are the first two `with_dots`, and else not there.
    """
    if with_dots and names[:2] != [b".", b".."]:
        return "first entries", names[:2], "'.' and '..'"
    unique = set(names)
    if len(unique) != len(names):
        return "name", f"{Counter(names).most_common(1)[0][0]!r} twice", "unique names"
    if not with_dots and (b"." in unique or b".." in unique):
        return "name", "'.' or '..'", "a name"
    together = b"".join(names)
    if b"/" in together or b"\0" in together:
        wrong = next(name for name in names if b"/" in name or b"\0" in name)
        return "name", repr(wrong), "no '/' and no NUL"
    return None


def shortform(geo: Geometry, inode: Inode, where: Callable[[], Where]) -> list[Entry]:
    """Return the entries of a directory that lies in its inode, '.' and '..' first.

    `where` makes the place for an error. Raises BadField.
    """
    fork = inode.dfork[: inode.size]
    size = len(fork)
    if size < 6:
        raise bad(where(), "size", inode.size, "at least 6 for a shortform directory")
    parent = int.from_bytes(fork[2 : 10 if fork[1] else 6], "big")
    if not valid_ino(geo, parent):
        raise bad(where(), "parent", parent, "an inode of the filesystem")
    entries = _decode.sf_entries(fork, ino_bounds(geo), bool(geo.has_ftype))
    if entries is None:
        entries = _sf_entries(geo, inode, fork, where)
    out: list[Entry] = [
        (DOT_COOKIE, inode.ino, FT_DIR, b"."),
        (DOTDOT_COOKIE, parent, FT_DIR, b".."),
        *entries,
    ]
    problem = _names_problem([entry[3] for entry in out], True)
    if problem:
        raise bad(where(), *problem)
    return out


def _sf_entries(
    geo: Geometry, inode: Inode, fork: bytes, where: Callable[[], Where]
) -> list[Entry]:
    """Return the entries behind the head, or raise for the rule that one of them breaks."""
    size, count, width = len(fork), fork[0], 8 if fork[1] else 4
    has_ftype = geo.has_ftype
    extra = width + (1 if has_ftype else 0)
    out: list[Entry] = []
    at, last = 2 + width, DATA_HEADER_BYTES + 32 - 1
    for index in range(count):
        namelen = fork[at] if at < size else 0
        name_end = at + 3 + namelen
        stop = name_end + extra
        if not namelen or stop > size:
            raise bad(where(), f"entry {index} namelen", namelen, "1 to what the fork holds")
        offset = fork[at + 1] << 8 | fork[at + 2]
        ftype = fork[name_end] if has_ftype else 0
        ino = int.from_bytes(fork[stop - width : stop], "big")
        problem = _sf_problem(geo, ino, ftype, offset, last)
        if problem:
            raise bad(where(), f"entry {index} {problem[0]}", problem[1], problem[2])
        out.append(((offset >> 3) + 1, ino, ftype, fork[at + 3 : name_end]))
        last = offset
        at = stop
    if at != size:
        raise bad(where(), "size", inode.size, f"{at}, where the {count} entries end")
    return out


def _sf_problem(geo: Geometry, ino: int, ftype: int, offset: int, last: int) -> Problem | None:
    """Return the first rule a shortform entry breaks."""
    if not valid_ino(geo, ino):
        return "inumber", ino, "an inode of the filesystem"
    if ftype > FT_WHT:
        return "ftype", ftype, f"at most {FT_WHT}"
    if offset <= last or offset & 7:
        return "offset", offset, f"a multiple of 8 above {last}"
    return None
