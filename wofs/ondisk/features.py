"""Feature bits of the superblock, by name, and which of them wofs can read.

Source: the kernel's `xfs_format.h` (XFS_SB_FEAT_*, XFS_SB_VERSION_*).
"""

from __future__ import annotations

INCOMPAT = {
    0: "ftype",
    1: "spinodes",
    2: "metauuid",
    3: "bigtime",
    4: "needsrepair",
    5: "nrext64",
    6: "exchrange",
    7: "parent",
    8: "metadir",
    9: "zoned",
    10: "zone_gaps",
}
RO_COMPAT = {0: "finobt", 1: "rmapbt", 2: "reflink", 3: "inobtcount"}
LOG_INCOMPAT = {0: "logxattrs"}

INCOMPAT_FTYPE = 1 << 0
INCOMPAT_SPINODES = 1 << 1
INCOMPAT_META_UUID = 1 << 2
INCOMPAT_BIGTIME = 1 << 3
INCOMPAT_NEEDSREPAIR = 1 << 4
INCOMPAT_NREXT64 = 1 << 5
INCOMPAT_EXCHRANGE = 1 << 6
INCOMPAT_PARENT = 1 << 7

RO_COMPAT_FINOBT = 1 << 0
RO_COMPAT_RMAPBT = 1 << 1
RO_COMPAT_REFLINK = 1 << 2
RO_COMPAT_INOBTCOUNT = 1 << 3

INCOMPAT_READ = (
    INCOMPAT_FTYPE
    | INCOMPAT_SPINODES
    | INCOMPAT_META_UUID
    | INCOMPAT_BIGTIME
    | INCOMPAT_NREXT64
    | INCOMPAT_EXCHRANGE
    | INCOMPAT_PARENT
)
"""Incompatible features that wofs reads: a set bit outside this mask is refused."""

VERSION_NUMBITS = 0x000F
VERSION_ATTR = 0x0010
"""Some inode has had an attribute: set in the primary superblock alone, never cleared."""

VERSION_QUOTA = 0x0040
VERSION_DALIGN = 0x0100
"""Allocations are aligned to a stripe: `unit` and `width` say to which."""

VERSION_SHARED = 0x0200
VERSION_SECTOR = 0x0800
"""The log has sectors of a size of its own."""

VERSION_BORG = 0x4000
"""Case-insensitive names (`mkfs.xfs -n version=ci`)."""

VERSION2_LAZYSB = 0x0002
VERSION2_ATTR2 = 0x0008
VERSION2_PROJID32 = 0x0080
VERSION2_FTYPE = 0x0200

V5_VERSION = 0xB4A0
"""Bits of versionnum that version 5 requires: nlink, align, logv2, extflg, dirv2, morebits."""

V5_VERSION2 = 0x018A
"""Bits of features2 that version 5 requires: lazysbcount, attr2, projid32, crc."""

V5_KNOWN2 = V5_VERSION2 | VERSION2_FTYPE
"""All bits of features2 that the kernel allows in version 5."""


def names(word: int, table: dict[int, str]) -> list[str]:
    """Return the names of the bits set in `word`; "bit N" for one without a name."""
    return [table.get(bit, f"bit {bit}") for bit in range(word.bit_length()) if word >> bit & 1]
