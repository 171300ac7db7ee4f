"""The headers of an allocation group: sectors 1 (AGF), 2 (AGI) and 3 (AGFL).

Source of fields: `xfs_format.h: struct xfs_agf, xfs_agi, xfs_agfl`; of rules:
`xfs_alloc.c: xfs_agf_verify, xfs_agfl_verify`, `xfs_ialloc.c: xfs_agi_verify`.
"""

from wofs.ondisk.kind import Kind
from wofs.record import (
    HEX,
    UUID,
    Between,
    Eq,
    Le,
    Lt,
    Record,
    array_u32,
    crc32c,
    ctx,
    raw,
    record,
    u32,
    u64,
)

NULLAGBLOCK = 0xFFFFFFFF
NULLAGINO = 0xFFFFFFFF
AGI_UNLINKED_BUCKETS = 64
AGFL_HEADER_BYTES = 36


@record("agf", size=224, magic=b"XAGF", source="xfs_format.h: struct xfs_agf")
class Agf(Record):
    """Free-space header of one AG; its second sector."""

    magicnum = u32(0, "identifies the block", show=HEX, rules=[Eq(0x58414746)])
    versionnum = u32(4, "version of the header", rules=[Eq(1)])
    seqno = u32(8, "index of this AG", unit="agno", rules=[Eq(ctx.agno)])
    length = u32(12, "blocks of this AG", unit="fsblocks", rules=[Eq(ctx.ag_length)])
    bno_root = u32(16, "root of the free-space tree by start", unit="agbno")
    cnt_root = u32(20, "root of the free-space tree by size", unit="agbno")
    rmap_root = u32(24, "root of the owner tree", unit="agbno")
    bno_level = u32(28, "height of the tree by start", rules=[Between(1, ctx.max_level)])
    cnt_level = u32(32, "height of the tree by size", rules=[Between(1, ctx.max_level)])
    rmap_level = u32(36, "height of the owner tree", rules=[Le(ctx.max_level)])
    flfirst = u32(40, "first entry in use in the AGFL", rules=[Lt(ctx.agfl_size)])
    fllast = u32(44, "last entry in use in the AGFL", rules=[Lt(ctx.agfl_size)])
    flcount = u32(48, "entries in use in the AGFL", rules=[Le(ctx.agfl_size)])
    freeblks = u32(52, "free blocks", unit="fsblocks", rules=[Le("length")])
    longest = u32(56, "longest free extent", unit="fsblocks", rules=[Le("freeblks")])
    btreeblks = u32(60, "blocks of the free-space trees", unit="fsblocks")
    uuid = raw(
        64,
        16,
        "identity of the filesystem's metadata",
        show=UUID,
        rules=[
            Eq(ctx.meta_uuid),
        ],
    )
    rmap_blocks = u32(80, "blocks of the owner tree", unit="fsblocks")
    refcount_blocks = u32(84, "blocks of the share tree", unit="fsblocks")
    refcount_root = u32(88, "root of the share tree", unit="agbno")
    refcount_level = u32(92, "height of the share tree", rules=[Le(ctx.max_level)])
    lsn = u64(208, "log sequence number of the last write", show=HEX)
    crc = crc32c(216)


@record("agi", size=344, magic=b"XAGI", source="xfs_format.h: struct xfs_agi")
class Agi(Record):
    """Inode header of one AG; its third sector."""

    magicnum = u32(0, "identifies the block", show=HEX, rules=[Eq(0x58414749)])
    versionnum = u32(4, "version of the header", rules=[Eq(1)])
    seqno = u32(8, "index of this AG", unit="agno", rules=[Eq(ctx.agno)])
    length = u32(12, "blocks of this AG", unit="fsblocks", rules=[Eq(ctx.ag_length)])
    count = u32(16, "allocated inodes")
    root = u32(
        20,
        "root of the inode tree",
        unit="agbno",
        rules=[
            Between(ctx.first_block, ctx.last_block),
        ],
    )
    level = u32(24, "height of the inode tree", rules=[Between(1, ctx.max_level)])
    freecount = u32(28, "free inodes among them", rules=[Le("count")])
    newino = u32(32, "last allocated chunk", unit="agino")
    dirino = u32(36, "unused", show=HEX)
    unlinked = array_u32(40, AGI_UNLINKED_BUCKETS, "heads of the unlinked lists", show=HEX)
    uuid = raw(
        296,
        16,
        "identity of the filesystem's metadata",
        show=UUID,
        rules=[
            Eq(ctx.meta_uuid),
        ],
    )
    crc = crc32c(312)
    lsn = u64(320, "log sequence number of the last write", show=HEX)
    free_root = u32(328, "root of the free inode tree", unit="agbno")
    free_level = u32(332, "height of the free inode tree", rules=[Le(ctx.max_level)])
    iblocks = u32(336, "blocks of the inode tree", unit="fsblocks")
    fblocks = u32(340, "blocks of the free inode tree", unit="fsblocks")


@record("agfl", size=AGFL_HEADER_BYTES, magic=b"XAFL", source="xfs_format.h: struct xfs_agfl")
class Agfl(Record):
    """Header of the AG's reserve of free blocks; its fourth sector."""

    magicnum = u32(0, "identifies the block", show=HEX, rules=[Eq(0x5841464C)])
    seqno = u32(4, "index of this AG", unit="agno", rules=[Eq(ctx.agno)])
    uuid = raw(
        8,
        16,
        "identity of the filesystem's metadata",
        show=UUID,
        rules=[
            Eq(ctx.meta_uuid),
        ],
    )
    lsn = u64(24, "log sequence number of the last write", show=HEX)
    crc = crc32c(32)


AGF_KIND = Kind("agf", (b"XAGF",), magic=0, crc=216, uuid=64, blkno=None, owner=None, lsn=208)
AGI_KIND = Kind("agi", (b"XAGI",), magic=0, crc=312, uuid=296, blkno=None, owner=None, lsn=320)
AGFL_KIND = Kind("agfl", (b"XAFL",), magic=0, crc=32, uuid=8, blkno=None, owner=None, lsn=24)
