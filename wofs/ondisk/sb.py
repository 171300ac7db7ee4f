"""The superblock: sector 0 of every allocation group.

Source of fields: `xfs_format.h: struct xfs_dsb`; of rules: `xfs_sb.c:
xfs_validate_sb_common` and `xfs_validate_sb_read`.
"""

from wofs.record import (
    HEX,
    TEXT,
    UUID,
    Between,
    Eq,
    Ge,
    Le,
    Log2Of,
    PowerOfTwo,
    Record,
    crc32c,
    raw,
    record,
    u8,
    u16,
    u32,
    u64,
)

SB_MAGIC = b"XFSB"
NULL_FSINO = (1 << 64) - 1


@record("superblock", size=304, magic=SB_MAGIC, source="xfs_format.h: struct xfs_dsb")
class Superblock(Record):
    """Geometry, features and counters of the whole filesystem."""

    magicnum = u32(0, "identifies the block", show=HEX, rules=[Eq(0x58465342)])
    blocksize = u32(
        4,
        "filesystem block size",
        unit="bytes",
        rules=[
            PowerOfTwo(),
            Between(512, 65536),
        ],
    )
    dblocks = u64(8, "blocks of the data device", unit="fsblocks", rules=[Ge(1)])
    rblocks = u64(16, "blocks of the realtime device", unit="fsblocks")
    rextents = u64(24, "extents of the realtime device")
    uuid = raw(32, 16, "user-visible identity of the filesystem", show=UUID)
    logstart = u64(48, "first block of the log; 0 if it is external", unit="fsblock")
    rootino = u64(56, "root directory", unit="ino")
    rbmino = u64(64, "realtime bitmap", unit="ino")
    rsumino = u64(72, "realtime summary", unit="ino")
    rextsize = u32(80, "realtime extent size", unit="fsblocks")
    agblocks = u32(84, "blocks of an allocation group", unit="fsblocks", rules=[Ge(64)])
    agcount = u32(88, "number of allocation groups", rules=[Ge(1)])
    rbmblocks = u32(92, "blocks of the realtime bitmap", unit="fsblocks")
    logblocks = u32(96, "blocks of the log", unit="fsblocks")
    versionnum = u16(100, "version in the low four bits, features above", show=HEX)
    sectsize = u16(
        102,
        "sector size",
        unit="bytes",
        rules=[
            PowerOfTwo(),
            Between(512, 32768),
            Le("blocksize"),
        ],
    )
    inodesize = u16(104, "inode size", unit="bytes", rules=[PowerOfTwo(), Between(256, 2048)])
    inopblock = u16(106, "inodes in a block")
    fname = raw(108, 12, "label", show=TEXT)
    blocklog = u8(120, "log2 of blocksize", rules=[Log2Of("blocksize")])
    sectlog = u8(121, "log2 of sectsize", rules=[Log2Of("sectsize")])
    inodelog = u8(122, "log2 of inodesize", rules=[Log2Of("inodesize")])
    inopblog = u8(123, "log2 of inopblock", rules=[Log2Of("inopblock")])
    agblklog = u8(124, "log2 of agblocks, rounded up")
    rextslog = u8(125, "log2 of rextents")
    inprogress = u8(126, "mkfs is not finished", rules=[Eq(0)])
    imax_pct = u8(127, "most space for inodes", unit="percent", rules=[Le(100)])
    icount = u64(128, "allocated inodes (lazy)")
    ifree = u64(136, "free inodes among them (lazy)")
    fdblocks = u64(144, "free data blocks (lazy)", unit="fsblocks")
    frextents = u64(152, "free realtime extents")
    uquotino = u64(160, "user quota", unit="ino")
    gquotino = u64(168, "group quota", unit="ino")
    qflags = u16(176, "quota flags", show=HEX)
    flags = u8(178, "flags", show=HEX)
    shared_vn = u8(179, "shared version", rules=[Eq(0)])
    inoalignmt = u32(180, "inode chunk alignment", unit="fsblocks")
    unit = u32(184, "stripe unit", unit="fsblocks")
    width = u32(188, "stripe width", unit="fsblocks")
    dirblklog = u8(192, "log2 of directory block size over block size")
    logsectlog = u8(193, "log2 of the log's sector size")
    logsectsize = u16(194, "the log's sector size", unit="bytes")
    logsunit = u32(196, "the log's stripe unit", unit="bytes")
    features2 = u32(200, "more feature bits", show=HEX)
    bad_features2 = u32(204, "a misplaced copy of features2", show=HEX)
    features_compat = u32(208, "compatible features", show=HEX)
    features_ro_compat = u32(212, "features a reader may ignore", show=HEX)
    features_incompat = u32(216, "features a reader must know", show=HEX)
    features_log_incompat = u32(220, "features of a dirty log", show=HEX)
    crc = crc32c(224)
    spino_align = u32(228, "sparse chunk alignment", unit="fsblocks")
    pquotino = u64(232, "project quota", unit="ino")
    lsn = u64(240, "log sequence number of the last write", show=HEX)
    meta_uuid = raw(248, 16, "uuid in metadata blocks, with feature metauuid", show=UUID)
    metadirino = u64(264, "metadata directory", unit="ino")
    rgcount = u32(272, "number of realtime groups")
    rgextents = u32(276, "extents of a realtime group")
    rgblklog = u8(280, "log2 of a realtime group's blocks")
    rtstart = u64(288, "start of the internal realtime section", unit="fsblocks")
    rtreserved = u64(296, "blocks reserved for zone GC", unit="fsblocks")
