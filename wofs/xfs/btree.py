"""One walker for all btrees: 32-bit pointers within an AG, 64-bit ones of a fork.

Every walk is bounded: the level falls by one at each step, no block is visited twice, counts
are held against what a block can contain. Source: `xfs_btree.c: xfs_btree_check_block,
xfs_btree_sblock_verify, xfs_btree_lblock_verify`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wofs.errors import BadField, ImageError
from wofs.ondisk import btree as disk
from wofs.ondisk.kind import Kind
from wofs.xfs.buffer import Block, Buffers
from wofs.xfs.geometry import Geometry, fsb_to_daddr, fsblock_at, valid_extent


@dataclass(frozen=True, slots=True)
class Tree:
    """One btree type: kind of its blocks, sizes in bytes of header, key, pointer, record."""

    kind: Kind
    header: int
    key: int
    pointer: int
    record: int

    def maxrecs(self, blocksize: int, level: int) -> int:
        """Return how many records (level 0) or key-pointer pairs a block holds."""
        return (blocksize - self.header) // (self.key + self.pointer if level else self.record)


INOBT = Tree(disk.INOBT, header=56, key=4, pointer=4, record=16)
BMBT = Tree(disk.BMBT, header=72, key=8, pointer=8, record=16)

Leaf = tuple[Block, int]
"""A leaf block and the number of its records."""


def leaves(
    buffers: Buffers,
    geo: Geometry,
    tree: Tree,
    roots: Sequence[int],
    level: int,
    owner: int,
    obj: str,
) -> Iterator[Leaf]:
    """Yield the leaves below `roots` from left to right, each proved and counted.

    `roots` are pointers to blocks of height `level`: agbnos of AG `owner` for a short tree,
    fsblocks of inode `owner`'s fork for a long one. `obj` names the tree in errors. Raises
    BadField and whatever reading and proving a block raises.
    """
    walk = _Walk(buffers, geo, tree, owner, obj)
    pending = [(pointer, level) for pointer in reversed(roots)]
    while pending:
        pointer, height = pending.pop()
        block, numrecs = walk.visit(pointer, height)
        if height == 0:
            yield block, numrecs
        else:
            below = walk.pointers(block, numrecs)
            pending += [(child, height - 1) for child in reversed(below)]


class _Walk:
    """The state of one walk: what was visited, and the last block of each level."""

    def __init__(
        self, buffers: Buffers, geo: Geometry, tree: Tree, owner: int, obj: str
    ) -> None:
        self.buffers = buffers
        self.geo = geo
        self.tree = tree
        self.owner = owner
        self.obj = obj
        self.short = tree.pointer == 4
        self.null = disk.NULL32 if self.short else disk.NULL64
        self.visited: set[int] = set()
        self.last: dict[int, int] = {}

    def visit(self, pointer: int, level: int) -> tuple[Block, int]:
        """Load and check the block `pointer` leads to; return it and its record count."""
        fsblock = fsblock_at(self.geo, self.owner, pointer) if self.short else pointer
        in_ag = not self.short or pointer < self.geo.agblocks
        if not in_ag or not valid_extent(self.geo, fsblock, 1):
            raise self.bad(None, "pointer", "a block of the filesystem", pointer)
        if pointer in self.visited:
            raise self.bad(None, "pointer", "a block not seen before (the tree loops)", pointer)
        self.visited.add(pointer)
        name = f"{self.obj} block {pointer:#x}"
        daddr = fsb_to_daddr(self.geo, fsblock)
        block = self.buffers.load(self.tree.kind, daddr, name, self.owner)
        link = disk.SHORT_LINK if self.short else disk.LONG_LINK
        height, numrecs, left, right = link(block.data, 0)
        if height != level:
            raise self.bad(block, "level", level, height)
        self._check_counts(block, level, numrecs)
        self._check_siblings(block, level, pointer, left, right)
        return block, numrecs

    def _check_counts(self, block: Block, level: int, numrecs: int) -> None:
        most = self.tree.maxrecs(len(block.data), level)
        if numrecs > most:
            raise self.bad(block, "numrecs", f"at most {most}", numrecs)
        alone = len(self.visited) == 1 and level == 0
        if numrecs == 0 and not (alone and self.short):
            raise self.bad(block, "numrecs", "at least 1", 0)

    def _check_siblings(
        self, block: Block, level: int, pointer: int, left: int, right: int
    ) -> None:
        expected = self.last.get(level, self.null)
        if left != expected:
            raise self.bad(block, "leftsib", f"{expected:#x}", f"{left:#x}")
        if right == pointer:
            raise self.bad(block, "rightsib", "another block", f"{right:#x}")
        self.last[level] = pointer

    def pointers(self, block: Block, numrecs: int) -> tuple[int, ...]:
        """Return the pointers of an interior block."""
        tree = self.tree
        at = tree.header + tree.maxrecs(len(block.data), 1) * tree.key
        code = "I" if self.short else "Q"
        return struct.unpack_from(f">{numrecs}{code}", block.data, at)

    def bad(self, block: Block | None, field: str, expected: object, found: object) -> ImageError:
        """Return the error for a field of a block (or of the tree itself)."""
        if block is None:
            return BadField(
                self.buffers.where(self.obj, field=field), "", expected, f"{found:#x}"
            )
        place = self.buffers.where(block.obj, block.daddr, len(block.data), field)
        return BadField(place, "", expected, found)
