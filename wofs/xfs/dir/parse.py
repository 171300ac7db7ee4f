"""Entries of shortform directories and of data blocks, verified as they are parsed.

Source: `xfs_dir2_data.c: __xfs_dir3_data_check`, `xfs_dir2_sf.c: xfs_dir2_sf_verify`; beyond
the kernel's: names hold neither '/' nor NUL, and '.' and '..' stand only at the start.
"""

from __future__ import annotations

import struct

from wofs.errors import BadField, ImageError, Where
from wofs.ondisk.dir import (
    BLOCK_TAIL_BYTES,
    DATA_HEADER_BYTES,
    FREE_TAG,
    FT_WHT,
    MAGIC_BLOCK,
)
from wofs.xfs.buffer import Block
from wofs.xfs.geometry import Geometry, valid_ino
from wofs.xfs.inode import Inode

Entry = tuple[int, int, int, bytes]
"""(cookie, ino, ftype, name); the cookie is the entry's place in the directory's data / 8 + 1."""

_HEAD = struct.Struct(">QB").unpack_from
_U16 = struct.Struct(">H").unpack_from
_U32 = struct.Struct(">I").unpack_from
_LEAF_ENTRY_BYTES = 8


def bad(where: Where, field: str, found: object, expected: object) -> ImageError:
    """Return the error for a field of the block or inode at `where`."""
    place = Where(where.image, where.object, where.daddr, where.length, field)
    return BadField(place, "", expected, found)


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
    agcount, shift, mask = geo.agcount, geo.agino_log, geo.agino_mask
    last_ag, inopblog, first = agcount - 1, geo.inopblog, geo.ag_header_blocks
    full, short = geo.agblocks, geo.last_ag_blocks
    tail = 3 if geo.has_ftype else 2
    out: list[Entry] = []
    at = DATA_HEADER_BYTES
    while at < end:
        if end - at < 16 and data[at : at + 2] != b"\xff\xff":
            raise bad(where, f"entry at {at}", "cut off by the end", "a whole entry")
        ino, namelen = _HEAD(data, at) if end - at >= 16 else (FREE_TAG << 48, 0)
        if ino >> 48 == FREE_TAG:
            at += _free_length(data, at, end, where)
            continue
        name_end = at + 9 + namelen
        size = 9 + namelen + tail + 7 & ~7
        if not namelen or at + size > end:
            raise bad(where, f"entry at {at} namelen", namelen, f"1 to {end - at - 9 - tail}")
        name = data[at + 9 : name_end]
        ftype = data[name_end] if tail == 3 else 0
        agno, agbno = ino >> shift, (ino & mask) >> inopblog
        if agno > last_ag or not first <= agbno < (full if agno < last_ag else short):
            raise bad(where, f"entry at {at} inumber", ino, "an inode of the filesystem")
        if _U16(data, at + size - 2)[0] != at:
            raise bad(where, f"entry at {at} tag", _U16(data, at + size - 2)[0], at)
        if ftype > FT_WHT:
            raise bad(where, f"entry at {at} ftype", ftype, f"at most {FT_WHT}")
        if b"/" in name or b"\0" in name:
            raise bad(where, f"entry at {at} name", repr(name), "no '/' and no NUL")
        out.append(((base + at >> 3) + 1, ino, ftype, name))
        at += size
    _refuse_dots(out, base, where)
    return out


def _free_length(data: bytes, at: int, end: int, where: Where) -> int:
    """Return the length of the free entry at `at`."""
    length: int = _U16(data, at + 2)[0]
    if length < 8 or length & 7 or at + length > end:
        raise bad(where, f"free entry at {at} length", length, f"a multiple of 8 to {end - at}")
    (tag,) = _U16(data, at + length - 2)
    if tag != at:
        raise bad(where, f"free entry at {at} tag", tag, at)
    return length


def _refuse_dots(entries: list[Entry], base: int, where: Where) -> None:
    """Hold '.' and '..' to the first two places of the first block, and names to be unique."""
    names = [entry[3] for entry in entries]
    special = names[:2] if base == 0 else []
    if base == 0 and special != [b".", b".."]:
        raise bad(where, "first entries", special, "'.' and '..'")
    rest = names[2:] if base == 0 else names
    if b"." in rest or b".." in rest:
        raise bad(where, "name", "'.' or '..'", "a name")
    if len(set(rest)) != len(rest):
        twice = next(name for i, name in enumerate(rest) if name in rest[:i])
        raise bad(where, "name", f"{twice!r} twice", "unique names")


def shortform(geo: Geometry, inode: Inode, where: Where) -> tuple[int, list[Entry]]:
    """Return (parent, entries) of a directory that lies in its inode. Raises BadField."""
    fork = inode.dfork[: inode.size]
    if len(fork) < 6:
        raise bad(where, "size", inode.size, "at least 6 for a shortform directory")
    count, i8count = fork[0], fork[1]
    width = 8 if i8count else 4
    at = 2 + width
    parent = int.from_bytes(fork[2:at], "big")
    if not valid_ino(geo, parent):
        raise bad(where, "parent", parent, "an inode of the filesystem")
    extra = width + (1 if geo.has_ftype else 0)
    out: list[Entry] = []
    last = DATA_HEADER_BYTES + 32 - 1
    for index in range(count):
        namelen = fork[at] if at < len(fork) else 0
        name_end = at + 3 + namelen
        if not namelen or name_end + extra > len(fork):
            raise bad(where, f"entry {index} namelen", namelen, "1 to what the fork holds")
        (offset,) = _U16(fork, at + 1)
        name = fork[at + 3 : name_end]
        ftype = fork[name_end] if geo.has_ftype else 0
        ino = int.from_bytes(fork[name_end + extra - width : name_end + extra], "big")
        problem = _sf_problem(geo, name, ino, ftype, offset, last)
        if problem:
            raise bad(where, f"entry {index} {problem[0]}", problem[1], problem[2])
        out.append(((offset >> 3) + 1, ino, ftype, name))
        last = offset
        at = name_end + extra
    if at != len(fork):
        raise bad(where, "size", inode.size, f"{at}, where the {count} entries end")
    names = {entry[3] for entry in out}
    if len(names) != len(out):
        raise bad(where, "name", "one twice", "unique names")
    return parent, out


def _sf_problem(
    geo: Geometry, name: bytes, ino: int, ftype: int, offset: int, last: int
) -> tuple[str, object, object] | None:
    """Return (field, found, expected) of the first rule a shortform entry breaks."""
    if b"/" in name or b"\0" in name or name in (b".", b".."):
        return "name", repr(name), "a name without '/' and NUL"
    if not valid_ino(geo, ino):
        return "inumber", ino, "an inode of the filesystem"
    if ftype > FT_WHT:
        return "ftype", ftype, f"at most {FT_WHT}"
    if offset <= last or offset & 7:
        return "offset", offset, f"a multiple of 8 above {last}"
    return None
