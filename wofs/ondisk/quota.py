"""Records of quota files: who may use how much, and uses how much.

Source: `xfs_format.h: struct xfs_disk_dquot, struct xfs_dqblk`.
"""

from wofs.record import HEX, UUID, Record, crc32c, raw, record, u8, u16, u32, u64

DQUOT_MAGIC = 0x4451
DQUOT_VERSION = 1
DQUOT_BYTES = 136
CRC_OFFSET = 108

USER, PROJECT, GROUP = 1, 2, 4
KINDS = USER | PROJECT | GROUP
BIGTIME = 0x80


@record("dquot", size=DQUOT_BYTES, source="xfs_format.h: struct xfs_dqblk")
class Dquot(Record):
    """What one user, group or project may use and uses; a block is an array of them."""

    magicnum = u16(0, "identifies the record", show=HEX)
    version = u8(2, "version of the record")
    type = u8(3, "whom it is of: 1 user, 2 project, 4 group; 0x80 wide timers", show=HEX)
    id = u32(4, "user, group or project")
    blk_hardlimit = u64(8, "most blocks", unit="fsblocks")
    blk_softlimit = u64(16, "blocks for a while only", unit="fsblocks")
    ino_hardlimit = u64(24, "most inodes")
    ino_softlimit = u64(32, "inodes for a while only")
    bcount = u64(40, "blocks in use", unit="fsblocks")
    icount = u64(48, "inodes in use")
    itimer = u32(56, "when the while of inodes ends; 0: it did not begin")
    btimer = u32(60, "when the while of blocks ends; 0: it did not begin")
    iwarns = u16(64, "warnings for inodes")
    bwarns = u16(66, "warnings for blocks")
    rtb_hardlimit = u64(72, "most realtime blocks", unit="fsblocks")
    rtb_softlimit = u64(80, "realtime blocks for a while only", unit="fsblocks")
    rtbcount = u64(88, "realtime blocks in use", unit="fsblocks")
    rtbtimer = u32(96, "when the while of realtime blocks ends; 0: it did not begin")
    rtbwarns = u16(100, "warnings for realtime blocks")
    crc = crc32c(CRC_OFFSET)
    lsn = u64(112, "log sequence number of the last write", show=HEX)
    uuid = raw(120, 16, "identity of the filesystem", show=UUID)
