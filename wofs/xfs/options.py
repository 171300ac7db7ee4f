"""What the one who mounts asked for, as a record of the slab."""

from __future__ import annotations

from wofs.record import NEXT, Record, record, u8, u32


@record("options", derived=True, source="the mount's own options")
class MountOptions(Record):
    """How an image is to be mounted; kept in the slab like everything that steers reads."""

    sb_agno = u32(NEXT, "AG whose superblock is read", unit="agno")
    norecovery = u8(NEXT, "mount although the log is dirty")
