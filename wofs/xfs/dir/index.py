"""Lookup by hash through the leaf and node blocks of a directory or attribute fork.

Source: `xfs_da_btree.c: xfs_da3_node_lookup_int, xfs_da3_node_verify`, `xfs_dir2_leaf.c:
xfs_dir3_leaf_check_int`. Beyond the kernel's: blocks are held against their parents and
siblings, so that no damaged index makes a name silently disappear. Every descent is bounded by
the level, every walk along siblings by a visited set.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wofs.errors import ImageError, Where
from wofs.ondisk.dir import DA_HEADER, LEAF_HEADER_BYTES, MAGIC_NODE
from wofs.xfs.buffer import Block
from wofs.xfs.dir.parse import bad

MAX_DEPTH = 5
"""`XFS_DA_NODE_MAXDEPTH`."""


@dataclass(frozen=True, slots=True)
class IndexBlock:
    """A parsed block of the index: a node (`level` 1 to 5) or a leaf (0).

    `hashes` are in ascending order. `words` goes with them: children of a node, addresses of
    a directory's leaf, nothing for an attribute leaf. Siblings are dablks, 0 for none.
    """

    data: bytes
    where: Where
    level: int
    forw: int
    back: int
    hashes: Sequence[int]
    words: Sequence[int]

    def bad(self, field: str, found: object, expected: object) -> ImageError:
        """Return the error for a field of this block."""
        return bad(self.where, field, found, expected)


Loader = Callable[[int], IndexBlock]
"""Gives the proved and parsed block at a dablk; raises where none is mapped."""


def parse(block: Block, where: Where) -> IndexBlock:
    """Parse a block whose entries are pairs of words: a node, or a directory's leaf."""
    forw, back, count, level = DA_HEADER(block.data, 0)
    most = (len(block.data) - LEAF_HEADER_BYTES) // 8
    if count > most:
        raise bad(where, "count", count, f"at most {most}")
    words = array("I", block.data[LEAF_HEADER_BYTES : LEAF_HEADER_BYTES + 8 * count])
    if sys.byteorder == "little":
        words.byteswap()
    hashes, second = words[::2], words[1::2]
    check_order(hashes, where)
    if block.magic != MAGIC_NODE:
        stale = second.count(0)
        if stale != level:
            raise bad(where, "stale", level, f"{stale}, the entries without an address")
        return IndexBlock(block.data, where, 0, forw, back, hashes, second)
    if not 1 <= level <= MAX_DEPTH:
        raise bad(where, "level", level, f"1 to {MAX_DEPTH}")
    if not count:
        raise bad(where, "count", 0, "at least 1")
    return IndexBlock(block.data, where, level, forw, back, hashes, second)


def check_order(hashes: Sequence[int], where: Where) -> None:
    """Raise BadField unless hashes ascend."""
    if list(hashes) != sorted(hashes):
        raise bad(where, "hashval", "out of order", "hashes in ascending order")


def leaves_for(load: Loader, root: int, hashval: int) -> Iterator[IndexBlock]:
    """Yield the leaves that may hold entries with that hash, from left to right."""
    at, leaf, beyond = _descend(load, root, hashval)
    if beyond:
        if leaf.hashes and leaf.hashes[-1] >= hashval:
            raise leaf.bad("hashval", f"{leaf.hashes[-1]:#x}", "at most the last of its node")
        if leaf.forw:
            raise leaf.bad("forw", leaf.forw, f"0: no key above is {hashval:#x} or more")
        return
    _check_left(load, at, leaf, hashval)
    seen = {at}
    while True:
        yield leaf
        if not leaf.forw or (leaf.hashes and leaf.hashes[-1] > hashval):
            return
        if leaf.forw in seen:
            raise leaf.bad("forw", leaf.forw, "a block not seen before (the chain loops)")
        following = load(leaf.forw)
        _check_follows(at, leaf, following)
        at, leaf = leaf.forw, following
        seen.add(at)


def _descend(load: Loader, root: int, hashval: int) -> tuple[int, IndexBlock, bool]:
    """Return (dablk, leaf, whether `hashval` is above all keys of a node on the way)."""
    at, here, beyond = root, load(root), False
    _check_root(here)
    while here.level:
        index = bisect_left(here.hashes, hashval)
        if index == len(here.hashes):
            index, beyond = index - 1, True
        key, at = here.hashes[index], here.words[index]
        below = load(at)
        _check_child(here, key, below)
        here = below
    return at, here, beyond


def _check_root(root: IndexBlock) -> None:
    """Hold a root to have no siblings (`scrub/dabtree.c`)."""
    if root.forw or root.back:
        field = "forw" if root.forw else "back"
        raise root.bad(field, root.forw or root.back, "0: a root has no sibling")


def _check_child(node: IndexBlock, key: int, child: IndexBlock) -> None:
    """Hold a child's height and hashes against what its node says."""
    if child.level != node.level - 1:
        raise child.bad("level", child.level, node.level - 1)
    if child.hashes and child.hashes[-1] > key:
        raise child.bad("hashval", f"{child.hashes[-1]:#x}", f"at most {key:#x}, its node's")


def _check_left(load: Loader, at: int, leaf: IndexBlock, hashval: int) -> None:
    """Hold that no leaf to the left may have `hashval`, where it would be this one's first."""
    if not leaf.back or (leaf.hashes and leaf.hashes[0] < hashval):
        return
    left = load(leaf.back)
    if left.level or left.forw != at:
        raise leaf.bad("back", leaf.back, "the leaf that leads here")
    if left.hashes and left.hashes[-1] >= hashval:
        raise left.bad("hashval", f"{left.hashes[-1]:#x}", "at most its node's")


def _check_follows(at: int, left: IndexBlock, right: IndexBlock) -> None:
    """Hold a leaf against the one before it, at dablk `at`."""
    if right.level:
        raise right.bad("level", right.level, "0: the sibling of a leaf")
    if right.back != at:
        raise right.bad("back", right.back, at)
    if left.hashes and right.hashes and right.hashes[0] < left.hashes[-1]:
        expected = f"at least {left.hashes[-1]:#x}, the last before"
        raise right.bad("hashval", f"{right.hashes[0]:#x}", expected)


def all_leaves(load: Loader, root: int) -> Iterator[IndexBlock]:
    """Yield every leaf from left to right, all nodes and siblings held against each other."""
    top = load(root)
    _check_root(top)
    if not top.level:
        yield top
        return
    seen = {root}
    last: dict[int, tuple[int, IndexBlock]] = {}
    pending = _children(top)
    while pending:
        node, key, at = pending.pop()
        if at in seen:
            raise node.bad("before", f"{at:#x}", "a block not seen before (the tree loops)")
        seen.add(at)
        here = load(at)
        _check_child(node, key, here)
        before = last.get(here.level)
        if here.back != (before[0] if before else 0):
            raise here.bad("back", here.back, before[0] if before else 0)
        if before:
            if before[1].forw != at:
                raise before[1].bad("forw", before[1].forw, at)
            if not here.level:
                _check_follows(before[0], before[1], here)
        last[here.level] = at, here
        if here.level:
            pending += _children(here)
        else:
            yield here
    for _, rightmost in last.values():
        if rightmost.forw:
            raise rightmost.bad("forw", rightmost.forw, "0: the last at its level")


def _children(node: IndexBlock) -> list[tuple[IndexBlock, int, int]]:
    """Return (node, key, dablk) of a node's children, the leftmost last."""
    pairs = zip(reversed(node.hashes), reversed(node.words), strict=True)
    return [(node, key, at) for key, at in pairs]
