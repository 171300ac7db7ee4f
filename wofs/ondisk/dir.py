"""Directory and attribute-tree blocks of version 5: kinds, headers, magic numbers.

Source: `xfs_da_format.h: struct xfs_dir3_data_hdr, xfs_da3_intnode, xfs_dir3_leaf`.
"""

from wofs.ondisk.kind import Kind
from wofs.record import Record, record, u16, u32

DATA_HEADER_BYTES = 64
LEAF_HEADER_BYTES = 64
FREE_HEADER_BYTES = 64
BLOCK_TAIL_BYTES = 8
FREE_TAG = 0xFFFF
MAX_NAME_BYTES = 255

MAGIC_BLOCK = b"XDB3"
MAGIC_DATA = b"XDD3"
MAGIC_LEAF1 = b"\x3d\xf1"
MAGIC_LEAFN = b"\x3d\xff"
MAGIC_NODE = b"\x3e\xbe"
MAGIC_ATTR_LEAF = b"\x3b\xee"

DIR_DATA = Kind(
    "directory block", (MAGIC_BLOCK, MAGIC_DATA), magic=0, crc=4, uuid=24, blkno=8, owner=40, lsn=16
)
DIR_INDEX = Kind(
    "directory index block",
    (MAGIC_LEAF1, MAGIC_LEAFN, MAGIC_NODE),
    magic=8,
    crc=12,
    uuid=32,
    blkno=16,
    owner=48,
    lsn=24,
)
DIR_FREE = Kind(
    "directory free block", (b"XDF3",), magic=0, crc=4, uuid=24, blkno=8, owner=40, lsn=16
)
ATTR_INDEX = Kind(
    "attribute block",
    (MAGIC_ATTR_LEAF, MAGIC_NODE),
    magic=8,
    crc=12,
    uuid=32,
    blkno=16,
    owner=48,
    lsn=24,
)

FT_UNKNOWN, FT_REG, FT_DIR, FT_CHR, FT_BLK, FT_FIFO, FT_SOCK, FT_LNK, FT_WHT = range(9)
MODE_OF_FTYPE = {1: 8, 2: 4, 3: 2, 4: 6, 5: 1, 6: 12, 7: 10, 8: 2}
"""The top four bits of the mode that each file type of an entry stands for."""


@record("da block", size=64, source="xfs_da_format.h: struct xfs_da3_blkinfo, xfs_da3_node_hdr")
class DaHeader(Record):
    """What index blocks share: siblings, count, and a node's level (a leaf's stale count)."""

    forw = u32(0, "next block at this level", unit="dablk")
    back = u32(4, "previous block at this level", unit="dablk")
    magicnum = u16(8, "identifies the block")
    count = u16(56, "entries")
    level = u16(58, "height of a node; stale entries of a leaf")


DA_HEADER = DaHeader.pick("forw", "back", "count", "level")
