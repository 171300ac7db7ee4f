"""How a metadata block proves what it is: the offsets of its identifying fields.

Each `Kind` says where a block of one type keeps its magic, checksum, uuid, own address and
owner, so that one function (`wofs.xfs.buffer`) can verify them all. Declarations only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """The self-describing header of one type of V5 block.

    `magics` are the accepted values of the `magic_size` bytes at `magic`; `crc`, `uuid`,
    `blkno` and `owner` are byte offsets (None: the block has no such field); `owner_size`
    is 4 (an AG number) or 8 (an inode number). `blkno` holds the block's own daddr, `lsn` the
    place in the log of its last write (None where the kernel does not look at it).
    """

    name: str
    magics: tuple[bytes, ...]
    magic: int
    crc: int
    uuid: int
    blkno: int | None
    owner: int | None
    owner_size: int = 8
    blkno_size: int = 8
    lsn: int | None = None
