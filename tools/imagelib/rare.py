"""Fill a mounted XFS with forms that need many entries, or features side by side."""

from __future__ import annotations

import fcntl
import os

from imagelib.populate import (
    FICLONE,
    KEEP_SIZE,
    PUNCH,
    Site,
    fallocate,
    hard_links,
    opened,
    pattern,
    put,
    wide,
)

_SCATTERED_BLOCKS = 2040
_TALL_ATTRIBUTES = 4_500


def scattered_directory(site: Site) -> None:
    """With directory blocks of 4 KiB: a node index, a free index of two blocks, holes between.

    A block of the free index tells of 2,016 data blocks, and 15 entries of 250 bytes fill one.
    Most are removed again.
    """
    folder = site.folder("scattered")
    entries = wide("s", 15 * _SCATTERED_BLOCKS, 250)
    hard_links(folder, entries)
    for i, entry in enumerate(entries):
        if i % 40:
            os.unlink(os.path.join(folder, entry))
    site.trim()


def tall_attributes(site: Site) -> None:
    """With 1 KiB blocks: an attribute index of two levels (a leaf holds at most 47 of these)."""
    path = site.path("tall_attributes")
    put(path, b"many attributes")
    for i in range(_TALL_ATTRIBUTES):
        os.setxattr(path, b"user.%05d" % i, b"%d" % (i % 10))


def node_directory(site: Site) -> None:
    """One more entry than a leaf holds: the index becomes a node, however large the blocks."""
    count = (site.geo.dir_block - 64) // 8
    hard_links(site.folder("node"), wide("n", count + 40, 8))


def mixed_extents(site: Site) -> None:
    """One file of written, unwritten, shared, own and missing blocks in turn; a copy beside it."""
    bs = site.geo.block
    site.folder("mixed")
    with opened(site.path("mixed/original")) as one, opened(site.path("mixed/copy")) as other:
        os.pwrite(one, b"".join(pattern(f"m{i}", bs) for i in range(40)), 0)
        os.fsync(one)
        for i in range(0, 40, 5):
            fallocate(one, PUNCH | KEEP_SIZE, i * bs, bs)
        for i in range(0, 40, 10):
            fallocate(one, 0, i * bs, bs)
        fallocate(one, KEEP_SIZE, 40 * bs, 8 * bs)
        fcntl.ioctl(other, FICLONE, one)
        for i in range(2, 40, 5):
            os.pwrite(other, pattern(f"own{i}", bs // 2), i * bs)
        for i in range(3, 40, 10):
            fallocate(other, PUNCH | KEEP_SIZE, i * bs, bs)
        os.ftruncate(other, 39 * bs + 7)
