"""Whether any inode of an image has extended attributes: no structure counts them.

The search goes over all inodes in use and reads raw bytes only, many inodes at a glance
(5 µs a chunk of 64). Its answer is sound although it verifies no inode: one whose bytes lie
is refused as damaged when it is used, so that no attribute of it is ever shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from wofs.ondisk import features as feat
from wofs.ondisk import inode as disk
from wofs.xfs.geometry import INODES_PER_CHUNK, ag_length, ino_to_byte, make_ino
from wofs.xfs.inobt import Inobt, spread
from wofs.xfs.volume import Volume

CHUNKS_A_STEP = 32
_ALL = (1 << INODES_PER_CHUNK) - 1

_FORMAT, _COUNT, _WIDE_COUNT = (
    disk.InodeCore.spec.field(name).offset for name in ("aformat", "anextents", "nextents")
)


def steps(vol: Volume, inobt: Inobt) -> Iterator[bool]:
    """Search all inodes in use, some chunks (or an AG without any) at a step.

    Yield after each step whether there may be attributes; the end comes when all was searched.
    A damaged inode btree hides inodes: then there may be. A device's `OSError` passes.
    """
    for agno in range(vol.geo.agcount):
        table = inobt.table(agno)
        if table is None:
            yield True
            return
        for number, (start, hole, free) in enumerate(table, 1):
            unused = free | spread(hole)
            if _may_have(vol, make_ino(vol.geo, agno, start), unused):
                yield True
                return
            if not number % CHUNKS_A_STEP:
                yield False
        yield False


def _may_have(vol: Volume, first: int, unused: int) -> bool:
    """Whether an inode of the chunk that starts at inode `first` may have attributes."""
    geo = vol.geo
    isize = geo.inodesize
    agbno = (first & geo.agino_mask) >> geo.inopblog
    blocks = min(geo.chunk_blocks, ag_length(geo, first >> geo.agino_log) - agbno)
    data = vol.device.pread(ino_to_byte(geo, first), min(blocks << geo.blocklog, 64 * isize))
    wide = bool(geo.incompat & feat.INCOMPAT_NREXT64)
    counts = range(_WIDE_COUNT if wide else _COUNT, _COUNT + 2)
    if not data[_FORMAT::isize].strip(b"\0\2") and not any(
        data[at::isize].strip(b"\0") for at in counts
    ):
        return bool((~unused & _ALL) >> len(data) // isize)  # used, but the image ends first
    used = (bit for bit in range(INODES_PER_CHUNK) if not unused >> bit & 1)
    return any(_has_fork(data, bit * isize) for bit in used)


def _has_fork(data: bytes, at: int) -> bool:
    """Whether the raw inode at `at` has an attribute fork that is not empty, or ends early."""
    if at + disk.CORE_BYTES > len(data):
        return True
    core = disk.InodeCore.decode(data, at)
    wide = core.flags2 & disk.DIFLAG2_NREXT64
    count = core.nextents if wide else core.anextents
    return bool(core.forkoff) and (core.aformat != disk.FMT_EXTENTS or bool(count))
