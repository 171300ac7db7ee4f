"""The inode core of version 3 and the constants of its fields.

Source: `xfs_format.h: struct xfs_dinode`.
"""

from wofs.record import HEX, UUID, Record, crc32c, raw, record, u8, u16, u32, u64

INODE_MAGIC = 0x494E
CORE_BYTES = 176
CRC_OFFSET = 100

FMT_DEV, FMT_LOCAL, FMT_EXTENTS, FMT_BTREE, FMT_UUID = range(5)
FORMAT_NAMES = ("dev", "local", "extents", "btree", "uuid")

DIFLAG_REALTIME = 0x0001
DIFLAG_EXTSIZE = 0x0800
DIFLAG_EXTSZINHERIT = 0x1000
DIFLAG_ANY = 0x7FFF
DIFLAG2_DAX = 1
DIFLAG2_REFLINK = 2
DIFLAG2_COWEXTSIZE = 4
DIFLAG2_BIGTIME = 8
DIFLAG2_NREXT64 = 16
DIFLAG2_METADATA = 32
DIFLAG2_ANY = 63

BIGTIME_EPOCH_OFFSET = 1 << 31
"""Seconds by which the big time format counts from before 1970."""

MAX_EXTENTS_32 = (1 << 31) - 1
MAX_AEXTENTS_16 = (1 << 15) - 1
MAX_EXTENTS_64 = (1 << 48) - 1
MAX_AEXTENTS_32 = (1 << 32) - 1


@record("inode", size=CORE_BYTES, magic=b"IN", source="xfs_format.h: struct xfs_dinode")
class InodeCore(Record):
    """Everything an inode says before its forks."""

    magicnum = u16(0, "identifies the inode", show=HEX)
    mode = u16(2, "type and permissions; 0: free", show=HEX)
    version = u8(4, "version of the core")
    format = u8(5, "form of the data fork")
    metatype = u16(6, "type of a metadata file")
    uid = u32(8, "owner")
    gid = u32(12, "group")
    nlink = u32(16, "names of the inode")
    projid_lo = u16(20, "project, low half")
    projid_hi = u16(22, "project, high half")
    big_nextents = u64(24, "extents of the data fork, with nrext64")
    atime = u64(32, "last access", show=HEX)
    mtime = u64(40, "last change of the data", show=HEX)
    ctime = u64(48, "last change of the inode", show=HEX)
    di_size = u64(56, "size", unit="bytes")
    nblocks = u64(64, "blocks of both forks", unit="fsblocks")
    extsize = u32(72, "extent size hint", unit="fsblocks")
    nextents = u32(76, "extents of the data fork; with nrext64 of the attribute fork")
    anextents = u16(80, "extents of the attribute fork; with nrext64 zero")
    forkoff = u8(82, "start of the attribute fork in the literal area", unit="8 bytes")
    aformat = u8(83, "form of the attribute fork")
    dmevmask = u32(84, "unused", show=HEX)
    dmstate = u16(88, "unused", show=HEX)
    flags = u16(90, "flags", show=HEX)
    gen = u32(92, "generation")
    next_unlinked = u32(96, "next inode of the unlinked list", unit="agino", show=HEX)
    crc = crc32c(CRC_OFFSET)
    changecount = u64(104, "number of changes")
    lsn = u64(112, "log sequence number of the last write", show=HEX)
    flags2 = u64(120, "more flags", show=HEX)
    cowextsize = u32(128, "copy-on-write extent size hint", unit="fsblocks")
    crtime = u64(144, "creation", show=HEX)
    ino = u64(152, "own inode number")
    uuid = raw(160, 16, "identity of the filesystem's metadata", show=UUID)


CORE = InodeCore.pick(
    "magicnum", "mode", "version", "format", "uid", "gid", "nlink", "projid_lo", "projid_hi",
    "big_nextents", "atime", "mtime", "ctime", "di_size", "nblocks", "nextents", "anextents",
    "forkoff", "aformat", "flags", "gen", "flags2", "crtime", "ino", "uuid",
)
"""The fields that serving needs, in one unpack."""
