"""Btree blocks: headers for 32-bit (within an AG) and 64-bit pointers, and their records.

Source: `xfs_format.h: struct xfs_btree_block, xfs_inobt_rec, xfs_bmbt_rec`.
"""

from wofs.ondisk.kind import Kind
from wofs.record import HEX, UUID, Record, bits, crc32c, raw, record, u8, u16, u32, u64

NULL32 = 0xFFFFFFFF
NULL64 = 0xFFFFFFFFFFFFFFFF


@record("btree short block", size=56, source="xfs_format.h: struct xfs_btree_block_shdr")
class ShortHeader(Record):
    """Header of a btree block whose pointers are blocks of one AG."""

    magicnum = u32(0, "identifies the block", show=HEX)
    level = u16(4, "height above the leaves")
    numrecs = u16(6, "records in use")
    leftsib = u32(8, "block to the left", unit="agbno", show=HEX)
    rightsib = u32(12, "block to the right", unit="agbno", show=HEX)
    blkno = u64(16, "own address", unit="daddr")
    lsn = u64(24, "log sequence number of the last write", show=HEX)
    uuid = raw(32, 16, "identity of the filesystem's metadata", show=UUID)
    owner = u32(48, "AG it belongs to", unit="agno")
    crc = crc32c(52)


@record("btree long block", size=72, source="xfs_format.h: struct xfs_btree_block_lhdr")
class LongHeader(Record):
    """Header of a btree block whose pointers are blocks of the filesystem."""

    magicnum = u32(0, "identifies the block", show=HEX)
    level = u16(4, "height above the leaves")
    numrecs = u16(6, "records in use")
    leftsib = u64(8, "block to the left", unit="fsblock", show=HEX)
    rightsib = u64(16, "block to the right", unit="fsblock", show=HEX)
    blkno = u64(24, "own address", unit="daddr")
    lsn = u64(32, "log sequence number of the last write", show=HEX)
    uuid = raw(40, 16, "identity of the filesystem's metadata", show=UUID)
    owner = u64(56, "inode it belongs to", unit="ino")
    crc = crc32c(64)


@record("inobt record", size=16, source="xfs_format.h: struct xfs_inobt_rec (sparse form)")
class InobtRecord(Record):
    """A chunk of 64 inodes: which exist (holemask, 4 inodes a bit) and which are free."""

    startino = u32(0, "first inode of the chunk", unit="agino")
    holemask = u16(4, "bit i set: inodes 4i to 4i+3 do not exist", show=HEX)
    count = u8(6, "inodes that exist")
    freecount = u8(7, "free inodes among them")
    free = u64(8, "bit i set: inode i is free (or does not exist)", show=HEX)


@record("inobt record", size=16, source="xfs_format.h: struct xfs_inobt_rec (full form)")
class InobtFullRecord(Record):
    """A chunk of 64 inodes on a filesystem without sparse chunks."""

    startino = u32(0, "first inode of the chunk", unit="agino")
    freecount = u32(4, "free inodes of the chunk")
    free = u64(8, "bit i set: inode i is free", show=HEX)


@record("bmbt record", size=16, source="xfs_format.h: struct xfs_bmbt_rec")
class BmbtRecord(Record):
    """One extent of a fork, bit-packed."""

    unwritten = bits(127, 127, "reads as zeros")
    startoff = bits(126, 73, "first block in the file", unit="fileoff")
    startblock = bits(72, 21, "first block on the device", unit="fsblock")
    blockcount = bits(20, 0, "length", unit="fsblocks")


@record("free space record", size=8, source="xfs_format.h: struct xfs_alloc_rec")
class SpaceRecord(Record):
    """A free extent."""

    startblock = u32(0, "first block", unit="agbno")
    blockcount = u32(4, "length", unit="fsblocks")


@record("rmapbt record", size=24, source="xfs_format.h: struct xfs_rmap_rec")
class RmapRecord(Record):
    """An extent and its owner."""

    startblock = u32(0, "first block", unit="agbno")
    blockcount = u32(4, "length", unit="fsblocks")
    owner = u64(8, "inode, or what else owns it", unit="ino", show=HEX)
    offset = u64(16, "first block in the file, and flags", unit="fileoff", show=HEX)


@record("refcountbt record", size=12, source="xfs_format.h: struct xfs_refcount_rec")
class RefcountRecord(Record):
    """An extent that several files share."""

    startblock = u32(0, "first block; the top bit marks a copy-on-write reserve", unit="agbno")
    blockcount = u32(4, "length", unit="fsblocks")
    refcount = u32(8, "how many share it")


SHORT_LINK = ShortHeader.pick("level", "numrecs", "leftsib", "rightsib")
LONG_LINK = LongHeader.pick("level", "numrecs", "leftsib", "rightsib")


def _short(name: str, *magics: bytes) -> Kind:
    return Kind(name, magics, magic=0, crc=52, uuid=32, blkno=16, owner=48, owner_size=4, lsn=24)


INOBT = _short("inobt block", b"IAB3")
FINOBT = _short("finobt block", b"FIB3")
BNOBT = _short("bnobt block", b"AB3B")
CNTBT = _short("cntbt block", b"AB3C")
RMAPBT = _short("rmapbt block", b"RMB3")
REFCOUNTBT = _short("refcountbt block", b"R3FC")
BMBT = Kind("bmbt block", (b"BMA3",), magic=0, crc=64, uuid=40, blkno=24, owner=56, lsn=32)
