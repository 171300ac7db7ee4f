"""Walk a process's heap for decoded metadata and bytes of it, which protect=all rules out.

`found()` looks at every object the collector knows and at all those reach: decoded inodes,
extent maps, blocks, tables, entries of a directory, and `bytes` that are an inode or a block.
"""

from __future__ import annotations

import gc
import types

from wofs.ondisk.dir import MAGIC_BLOCK, MAGIC_DATA
from wofs.xfs.bmap import ExtentMap
from wofs.xfs.buffer import Block
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.packed import Entries
from wofs.xfs.inobt import ChunkTable
from wofs.xfs.inode import Inode

DECODED = (Inode, ExtentMap, Block, IndexBlock, Entries, ChunkTable)
_LEAST_BYTES = 256
_MAGICS = (b"IN", MAGIC_BLOCK, MAGIC_DATA, b"XAGF", b"IAB3", b"FIB3", b"BMA3", b"XSLM", b"XARM")
_DA_MAGICS = (b"\x3d\xf1", b"\x3d\xff", b"\x3b\xee", b"\x3e\xbe")
"""At byte 8 of index and attribute blocks."""


def _kind(thing: object) -> str:
    """Return what kind of metadata an object is; "" for none."""
    if isinstance(thing, DECODED):
        return type(thing).__name__
    if isinstance(thing, bytes | bytearray | memoryview) and len(thing) >= _LEAST_BYTES:
        head = bytes(thing[:16])
        if head.startswith(_MAGICS) or head[8:10] in _DA_MAGICS:
            return f"bytes {head[:10]!r}"
    if isinstance(thing, tuple) and [type(item) for item in thing] == [int, int, int, bytes]:
        return f"entry {thing[3]!r}"
    return ""


def found() -> list[str]:
    """Return what there is, sorted; our own frames are not looked at."""
    gc.unfreeze()
    gc.collect()
    out, seen = [], set()
    pending = [thing for thing in gc.get_objects() if not isinstance(thing, types.FrameType)]
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kind = _kind(thing)
        if kind:
            out.append(kind)
        if not isinstance(thing, type | types.ModuleType | str | int | types.CodeType):
            pending.extend(
                below for below in gc.get_referents(thing) if not gc.is_tracked(below)
            )
    return sorted(out)
