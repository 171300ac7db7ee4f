"""Lookup by hash through the leaf or node blocks of a directory or attribute fork.

Source: `xfs_da_btree.c: xfs_da3_node_lookup_int`, `xfs_dir2_leaf.c`, `xfs_dir2_node.c`. Every
descent is bounded by the level, every walk along siblings by a visited set.
"""

from __future__ import annotations

import itertools
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator

from wofs.errors import Where
from wofs.ondisk.dir import DA_HEADER, LEAF_HEADER_BYTES, MAGIC_NODE
from wofs.xfs.buffer import Block
from wofs.xfs.dir.parse import bad

MAX_DEPTH = 5
"""`XFS_DA_NODE_MAXDEPTH`."""

Loader = Callable[[int], Block]
"""Gives the proved index block at a dablk; raises where none is mapped."""


def pairs(block: Block, where: Where) -> tuple[array[int], array[int]]:
    """Return the (hashes, second words) of an index block's 8-byte entries, in order."""
    _, _, count, _ = DA_HEADER(block.data, 0)
    most = (len(block.data) - LEAF_HEADER_BYTES) // 8
    if count > most:
        raise bad(where, "count", count, f"at most {most}")
    words = array("I", block.data[LEAF_HEADER_BYTES : LEAF_HEADER_BYTES + 8 * count])
    if sys.byteorder == "little":
        words.byteswap()
    hashes = words[::2]
    if any(a > b for a, b in itertools.pairwise(hashes)):
        raise bad(where, "hashval", "out of order", "hashes in ascending order")
    return hashes, words[1::2]


def descend(load: Loader, root: int, hashval: int, where: Callable[[Block], Where]) -> int | None:
    """Return the dablk of the first leaf that may hold `hashval`; None if beyond the last."""
    at, level = root, -1
    for _ in range(MAX_DEPTH + 1):
        block = load(at)
        if block.magic != MAGIC_NODE:
            if level > 1:
                raise bad(where(block), "magic", block.magic.hex(), "a node above the leaves")
            return at
        height = DA_HEADER(block.data, 0)[3]
        if level == 1:
            raise bad(where(block), "magic", block.magic.hex(), "a leaf below level 1")
        if not 1 <= height <= MAX_DEPTH or level not in (-1, height + 1):
            raise bad(where(block), "level", height, level - 1 if level > 0 else "1 to 5")
        hashes, children = pairs(block, where(block))
        if not len(hashes):
            raise bad(where(block), "count", 0, "at least 1")
        index = bisect_left(hashes, hashval)
        if index == len(hashes):
            return None
        at, level = children[index], height
    raise bad(where(block), "level", "deeper", f"at most {MAX_DEPTH} levels")


def leaf_chain(
    load: Loader, first: int, where: Callable[[Block], Where]
) -> Iterator[Block]:
    """Yield the leaf at `first` and those after it, each once."""
    seen: set[int] = set()
    at = first
    while True:
        block = load(at)
        if block.magic == MAGIC_NODE:
            raise bad(where(block), "magic", block.magic.hex(), "a leaf")
        seen.add(at)
        yield block
        (forw,) = struct.unpack_from(">I", block.data, 0)
        if not forw:
            return
        if forw in seen:
            raise bad(where(block), "forw", forw, "a block not seen before (the chain loops)")
        at = forw


def first_leaf(load: Loader, root: int, where: Callable[[Block], Where]) -> int:
    """Return the dablk of the leftmost leaf."""
    found = descend(load, root, 0, where)
    assert found is not None
    return found
