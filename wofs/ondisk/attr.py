"""Attribute leaves and remote values of version 5.

Source: `xfs_da_format.h: struct xfs_attr3_leaf_hdr, xfs_attr_leaf_entry, xfs_attr3_rmt_hdr`.
"""

import struct

from wofs.ondisk.kind import Kind
from wofs.record import Record, record, u8, u16, u32

LEAF_HEADER_BYTES = 80
REMOTE_HEADER_BYTES = 56
MAX_VALUE_BYTES = 65536

LOCAL = 0x01
ROOT = 0x02
SECURE = 0x04
PARENT = 0x08
INCOMPLETE = 0x80
NAMESPACES = ROOT | SECURE | PARENT

REMOTE = Kind("attribute value block", (b"XARM",), magic=0, crc=12, uuid=16, blkno=40, owner=32)


@record("attribute leaf", size=LEAF_HEADER_BYTES, source="xfs_da_format.h: xfs_attr3_leaf_hdr")
class AttrLeafHeader(Record):
    """Header of a leaf of the attribute tree, after what all index blocks share."""

    count = u16(56, "entries")
    usedbytes = u16(58, "bytes of names and values")
    firstused = u16(60, "first byte of names and values; 0 means 65536")
    holes = u8(62, "free space is not in one piece")


FREEMAP = struct.Struct(">HHHHHH")
FREEMAP_OFFSET = 64
"""Three pairs (first byte, bytes) of a leaf's free space, at most; 0 bytes: none."""


@record("attribute entry", size=8, source="xfs_da_format.h: struct xfs_attr_leaf_entry")
class AttrEntry(Record):
    """One entry of a leaf: hash, where the name lies, flags."""

    hashval = u32(0, "hash of the name")
    nameidx = u16(4, "offset of the name in the block", unit="bytes")
    flags = u8(6, "namespace, local or remote, incomplete")
    pad = u8(7, "unused")


LEAF_HEADER = AttrLeafHeader.pick("count", "usedbytes", "firstused")
HOLES_OFFSET = AttrLeafHeader.spec.field("holes").offset


@record("remote value", size=REMOTE_HEADER_BYTES, source="xfs_da_format.h: xfs_attr3_rmt_hdr")
class RemoteHeader(Record):
    """Header of each filesystem block of a remote value."""

    magicnum = u32(0, "identifies the block")
    offset = u32(4, "first byte of the value held here", unit="bytes")
    bytes = u32(8, "bytes of the value held here", unit="bytes")


PART = RemoteHeader.pick("offset", "bytes")
