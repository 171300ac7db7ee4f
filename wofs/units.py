"""Names for the integers of XFS, so that a type checker tells them apart.

Source of the terms: the kernel's `xfs_types.h` (`xfs_agnumber_t`, `xfs_agblock_t`, ...).
"""

from typing import NewType

Agno = NewType("Agno", int)
"""Index of an allocation group."""

Agbno = NewType("Agbno", int)
"""Filesystem block within its allocation group."""

Fsblock = NewType("Fsblock", int)
"""Packed block number `agno << agblklog | agbno`; not linear."""

Daddr = NewType("Daddr", int)
"""Address on the device in 512-byte sectors."""

Ino = NewType("Ino", int)
"""Inode number, global."""

SECTOR_BYTES = 512
"""Bytes of the sector that a `Daddr` counts, whatever the device's own sector is."""
